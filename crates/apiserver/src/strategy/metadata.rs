//! The metadata that all kinds share.

use serde_json::{Map, Value};

use super::names::{self, NameRule};
use crate::status::Cause;
use crate::{Resource, object};

/// The most that the annotations of one object may hold, in bytes.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// What is wrong with an object's metadata.
pub(crate) fn validate_metadata(resource: &Resource, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    validate_name(super::of(resource).name_rule(), object, &mut causes);
    validate_labels("metadata.labels", object::labels(object), &mut causes);
    validate_annotations(object::annotations(object), &mut causes);
    for (i, finalizer) in object::finalizers(object).into_iter().enumerate() {
        for detail in names::qualified(finalizer) {
            causes.push(Cause::invalid(format!("metadata.finalizers[{i}]"), &finalizer.into(), detail));
        }
    }
    validate_owners(&object["metadata"]["ownerReferences"], &mut causes);
    causes
}

/// What is wrong with a change of an object's metadata.
pub(crate) fn validate_metadata_update(old: &Value, object: &Value) -> Vec<Cause> {
    if !object::is_terminating(old) {
        return Vec::new();
    }
    let before = object::finalizers(old);
    let added: Vec<&str> = object::finalizers(object).into_iter().filter(|f| !before.contains(f)).collect();
    if added.is_empty() {
        return Vec::new();
    }
    let detail =
        format!("no new finalizers can be added if the object is being deleted, found new finalizers {added:?}");
    vec![Cause::forbidden("metadata.finalizers", &detail)]
}

/// What is wrong with labels at `path`.
pub(super) fn validate_labels(path: &str, labels: Option<&Map<String, Value>>, causes: &mut Vec<Cause>) {
    for (key, value) in labels.into_iter().flatten() {
        for detail in names::qualified(key) {
            causes.push(Cause::invalid(path, &key.as_str().into(), detail));
        }
        for detail in names::label_value(value.as_str().unwrap_or("")) {
            causes.push(Cause::invalid(path, value, detail));
        }
    }
}

fn validate_name(rule: NameRule, object: &Value, causes: &mut Vec<Cause>) {
    let (name, prefix) = (object::name(object), object::meta_str(object, "generateName"));
    if !prefix.is_empty() {
        for detail in names::name(rule, prefix, true) {
            causes.push(Cause::invalid("metadata.generateName", &prefix.into(), detail));
        }
    }
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
        return;
    }
    for detail in names::name(rule, name, false) {
        causes.push(Cause::invalid("metadata.name", &name.into(), detail));
    }
}

fn validate_annotations(annotations: Option<&Map<String, Value>>, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for (key, value) in annotations.into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        for detail in names::qualified(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &key.as_str().into(), detail));
        }
    }
    if size > MAX_ANNOTATIONS {
        let message = format!("Too long: may not be more than {MAX_ANNOTATIONS} bytes");
        causes.push(Cause::new("FieldValueTooLong", "metadata.annotations", message));
    }
}

fn validate_owners(owners: &Value, causes: &mut Vec<Cause>) {
    let mut controllers = 0;
    for (i, owner) in owners.as_array().into_iter().flatten().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or("").is_empty() {
                let place = format!("metadata.ownerReferences[{i}].{field}");
                let detail = if field == "apiVersion" { "version must not be empty" } else { "must not be empty" };
                causes.push(Cause::invalid(place, &"".into(), detail));
            }
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        let detail = "Only one reference can have Controller set to true. Found \"true\" in references for several";
        causes.push(Cause::invalid("metadata.ownerReferences", owners, detail));
    }
}
