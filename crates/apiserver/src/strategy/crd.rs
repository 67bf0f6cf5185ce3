//! CustomResourceDefinitions.

use serde_json::{Value, json};

use super::{Strategy, keep, names};
use crate::status::Cause;
use crate::{clock, object};

pub(super) struct Definitions;

/// The finalizer that holds a definition until its objects are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";

impl Strategy for Definitions {
    fn counts_generations(&self) -> bool {
        true
    }

    fn has_status(&self) -> bool {
        true
    }

    fn updates_unconditionally(&self) -> bool {
        false
    }

    fn prepare_create(&self, object: &mut Value) {
        super::remove(object, "status");
        complete(object);
        object::set_meta(object, "finalizers", json!([CLEANUP]));
    }

    fn prepare_update(&self, old: &Value, object: &mut Value, subresource: Option<&str>) {
        if subresource == Some("status") {
            keep(old, object, "spec");
            return;
        }
        keep(old, object, "status");
        complete(object);
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let spec = &object["spec"];
        let (group, plural) = (spec["group"].as_str().unwrap_or(""), spec["names"]["plural"].as_str().unwrap_or(""));
        let wanted = format!("{plural}.{group}");
        if object::name(object) != wanted {
            let detail = "must be spec.names.plural+\".\"+spec.group";
            causes.push(Cause::invalid("metadata.name", &object["metadata"]["name"], detail));
        }
        for detail in names::subdomain(group) {
            causes.push(Cause::invalid("spec.group", &group.into(), detail));
        }
        if !group.contains('.') {
            let detail = "should be a domain with at least one dot";
            causes.push(Cause::invalid("spec.group", &group.into(), detail));
        }
        if !matches!(spec["scope"].as_str(), Some("Cluster" | "Namespaced")) {
            causes.push(Cause::not_supported("spec.scope", &spec["scope"], &["Cluster", "Namespaced"]));
        }
        let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
        if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
            let detail = "must have exactly one version marked as storage version";
            causes.push(Cause::invalid("spec.versions", &spec["versions"], detail));
        }
        for (i, version) in versions.iter().enumerate() {
            let name = version["name"].as_str().unwrap_or("");
            for detail in names::label_1035(name) {
                causes.push(Cause::invalid(format!("spec.versions[{i}].name"), &name.into(), detail));
            }
            if !version["schema"]["openAPIV3Schema"].is_object() {
                let detail = "schemas are required";
                causes.push(Cause::required(format!("spec.versions[{i}].schema.openAPIV3Schema"), detail));
            }
        }
        for field in ["plural", "kind"] {
            if spec["names"][field].as_str().unwrap_or("").is_empty() {
                causes.push(Cause::required(format!("spec.names.{field}"), ""));
            }
        }
    }

    fn validate_update(&self, old: &Value, object: &Value, _subresource: Option<&str>, causes: &mut Vec<Cause>) {
        for field in ["group", "scope"] {
            if old["spec"][field] != object["spec"][field] {
                causes.push(Cause::invalid(format!("spec.{field}"), &object["spec"][field], "field is immutable"));
            }
        }
        for field in ["plural", "kind"] {
            if old["spec"]["names"][field] != object["spec"]["names"][field] {
                let value = &object["spec"]["names"][field];
                causes.push(Cause::invalid(format!("spec.names.{field}"), value, "field is immutable"));
            }
        }
    }
}

/// Names that follow from others, and the status that says that it is served.
fn complete(object: &mut Value) {
    let kind = object["spec"]["names"]["kind"].as_str().unwrap_or("").to_owned();
    let names = &mut object["spec"]["names"];
    if names.is_object() {
        if names["singular"].as_str().unwrap_or("").is_empty() {
            names["singular"] = kind.to_lowercase().into();
        }
        if names["listKind"].as_str().unwrap_or("").is_empty() {
            names["listKind"] = format!("{kind}List").into();
        }
    }
    if object["spec"].is_object() && object["spec"]["conversion"].is_null() {
        object["spec"]["conversion"] = json!({"strategy": "None"});
    }
    let names = object["spec"]["names"].clone();
    let storage = object["spec"]["versions"].as_array().and_then(|v| v.iter().find(|v| v["storage"] == true));
    let storage = storage.map(|v| v["name"].clone()).unwrap_or_default();
    let mut stored = object["status"]["storedVersions"].as_array().cloned().unwrap_or_default();
    if !stored.contains(&storage) {
        stored.push(storage);
    }
    let condition = |kind: &str, reason: &str, message: &str, old: &Value| {
        let known = old["conditions"].as_array().and_then(|c| c.iter().find(|c| c["type"] == kind)).cloned();
        known.unwrap_or_else(|| {
            json!({
                "type": kind, "status": "True", "lastTransitionTime": clock::now(), "reason": reason, "message": message,
            })
        })
    };
    let old = object["status"].clone();
    object["status"] = json!({
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found", &old),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted", &old),
        ],
        "acceptedNames": names,
        "storedVersions": stored,
    });
}
