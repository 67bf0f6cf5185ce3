//! Namespaces.

use serde_json::{Value, json};

use super::{NameRule, Strategy, keep};
use crate::object;

pub(super) struct Namespaces;

/// The label by which selectors find a namespace by its name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Strategy for Namespaces {
    fn has_status(&self) -> bool {
        true
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label
    }

    fn prepare_create(&self, object: &mut Value) {
        object["status"] = json!({"phase": "Active"});
        object["spec"] = json!({"finalizers": ["kubernetes"]});
        label(object);
    }

    fn prepare_update(&self, old: &Value, object: &mut Value, subresource: Option<&str>) {
        // What holds a namespace is changed through its `finalize` subresource only.
        keep(old, object, "spec");
        if subresource != Some("status") {
            keep(old, object, "status");
        }
        label(object);
    }
}

fn label(object: &mut Value) {
    let name = object::name(object).to_owned();
    let Some(metadata) = object::metadata_mut(object) else { return };
    let labels = metadata.entry("labels").or_insert_with(|| json!({}));
    if labels.is_null() {
        *labels = json!({});
    }
    if let Some(labels) = labels.as_object_mut() {
        labels.insert(NAME_LABEL.to_owned(), name.into());
    }
}
