//! The OpenAPI definitions of the built-in kinds: those of `k8s-openapi`, put into the form that a kube-apiserver
//! publishes, with the facts on merging that `k8s-openapi` doesn't carry.

use std::sync::OnceLock;

use k8s_openapi::api::{apps, authentication, authorization, coordination, core, discovery, events, rbac};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::kinds;

/// The facts on merging; the file says what its lines mean.
const MERGE_FACTS: &str = include_str!("merge_facts.txt");

pub(super) const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";
pub(super) const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// Definitions whose JSON has no one type: OpenAPI leaves it out.
const UNTYPED: [&str; 4] = ["JSON", "JSONSchemaPropsOrArray", "JSONSchemaPropsOrBool", "JSONSchemaPropsOrStringArray"];

/// All definitions by name, in OpenAPI v2's form (`$ref` to `#/definitions/…`).
pub(super) fn builtin() -> &'static Map<String, Value> {
    static DEFINITIONS: OnceLock<Map<String, Value>> = OnceLock::new();
    DEFINITIONS.get_or_init(build)
}

/// The definition of the list of a kind.
pub(super) fn list_of(kind: &str, definition: &str, group: &str, version: &str) -> Value {
    json!({
        "description": format!("{kind}List is a list of {kind}"),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": builtin_property("apiVersion"),
            "items": {
                "description": format!("List of {kind}."),
                "type": "array",
                "items": {"$ref": format!("#/definitions/{definition}")},
            },
            "kind": builtin_property("kind"),
            "metadata": {
                "description": "Standard list metadata.",
                "$ref": format!("#/definitions/{LIST_META}"),
            },
        },
        "x-kubernetes-group-version-kind": [{"group": group, "kind": format!("{kind}List"), "version": version}],
    })
}

/// `apiVersion` or `kind` as every object declares it.
pub(super) fn builtin_property(name: &str) -> Value {
    let description = match name {
        "apiVersion" => "The version of this representation of the object, such as apps/v1.",
        _ => "The kind of the object, in CamelCase. It cannot be changed.",
    };
    json!({"description": description, "type": "string"})
}

fn build() -> Map<String, Value> {
    let mut definitions = generate();
    for schema in definitions.values_mut() {
        normalize(schema);
    }
    definitions.insert(
        INT_OR_STRING.to_owned(),
        json!({
            "description": "A number, or a text.",
            "type": "string",
            "format": "int-or-string",
        }),
    );
    if let Some(quantity) = definitions.get_mut(QUANTITY).and_then(Value::as_object_mut) {
        quantity.insert("type".to_owned(), json!("string"));
    }
    for (name, schema) in &mut definitions {
        let short = name.rsplit('.').next().unwrap_or(name);
        if let Value::Object(schema) = schema
            && UNTYPED.contains(&short)
        {
            schema.retain(|key, _| key == "description");
        }
    }
    add_merge_facts(&mut definitions);
    for kind in kinds::builtin() {
        if let Some(schema) = definitions.get_mut(&kind.definition) {
            schema["x-kubernetes-group-version-kind"] =
                json!([{"group": kind.group, "kind": kind.kind, "version": kind.version}]);
        }
        if kind.stored {
            let list = list_of(&kind.kind, &kind.definition, &kind.group, &kind.version);
            definitions.insert(kind.list_definition(), list);
        }
    }
    definitions.sort_keys();
    definitions
}

fn generate() -> Map<String, Value> {
    let mut generator =
        SchemaSettings::draft2020_12().with(|s| s.definitions_path = "/definitions".into()).into_generator();
    macro_rules! add {
        ($($ty:ty),* $(,)?) => { $( generator.subschema_for::<$ty>(); )* };
    }
    add!(
        core::v1::Namespace,
        core::v1::Node,
        core::v1::Pod,
        core::v1::Service,
        core::v1::Endpoints,
        core::v1::ConfigMap,
        core::v1::Secret,
        core::v1::ServiceAccount,
        core::v1::Event,
        discovery::v1::EndpointSlice,
        coordination::v1::Lease,
        events::v1::Event,
        apps::v1::Deployment,
        apps::v1::DaemonSet,
        apps::v1::ReplicaSet,
        rbac::v1::Role,
        rbac::v1::RoleBinding,
        rbac::v1::ClusterRole,
        rbac::v1::ClusterRoleBinding,
        apiextensions::v1::CustomResourceDefinition,
        authentication::v1::TokenReview,
        authentication::v1::SelfSubjectReview,
        authorization::v1::SubjectAccessReview,
        authorization::v1::SelfSubjectAccessReview,
        authorization::v1::SelfSubjectRulesReview,
        authorization::v1::LocalSubjectAccessReview,
        meta::v1::DeleteOptions,
        meta::v1::ListMeta,
        meta::v1::Status,
    );
    generator.take_definitions(false)
}

/// Undoes what `k8s-openapi` adds for Rust: `metadata` is not required in Kubernetes.
fn normalize(schema: &mut Value) {
    let is_kind = ["apiVersion", "kind", "metadata"].iter().all(|name| schema["properties"].get(name).is_some());
    if is_kind && let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name != "metadata");
        if required.is_empty()
            && let Some(schema) = schema.as_object_mut()
        {
            schema.shift_remove("required");
        }
    }
}

fn add_merge_facts(definitions: &mut Map<String, Value>) {
    for line in MERGE_FACTS.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ');
        let (Some(name), Some(field)) = (words.next(), words.next()) else { continue };
        let Some(definition) = definitions.get_mut(name) else { continue };
        let schema = match field {
            "-" => Some(definition),
            field => definition.get_mut("properties").and_then(|properties| properties.get_mut(field)),
        };
        let Some(Value::Object(schema)) = schema else { continue };
        for (fact, value) in words.filter_map(|word| word.split_once('=')) {
            let (extension, value) = match fact {
                "patch" => ("x-kubernetes-patch-strategy", json!(value)),
                "merge-key" => ("x-kubernetes-patch-merge-key", json!(value)),
                "list" => ("x-kubernetes-list-type", json!(value)),
                "keys" => ("x-kubernetes-list-map-keys", json!(value.split(',').collect::<Vec<_>>())),
                "map" => ("x-kubernetes-map-type", json!(value)),
                "default" => ("default", json!(value)),
                _ => continue,
            };
            schema.insert(extension.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_merge_fact_is_about_a_field_that_exists() {
        let definitions = builtin();
        for line in MERGE_FACTS.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split(' ');
            let (name, field) = (words.next().unwrap(), words.next().unwrap());
            let definition = definitions.get(name).unwrap_or_else(|| panic!("no definition for {line}"));
            assert!(field == "-" || definition["properties"].get(field).is_some(), "no field for {line}");
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(value: &Value) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(reference)) = map.get("$ref") {
                        let name = reference.strip_prefix("#/definitions/").unwrap();
                        assert!(builtin().contains_key(name), "{reference}");
                    }
                    map.values().for_each(check);
                }
                Value::Array(list) => list.iter().for_each(check),
                _ => {}
            }
        }
        builtin().values().for_each(check);
    }

    #[test]
    fn objects_need_no_metadata() {
        assert_eq!(builtin()["io.k8s.api.core.v1.Pod"].get("required"), None);
        assert_eq!(builtin()["io.k8s.api.core.v1.PodSpec"]["required"], json!(["containers"]));
    }
}
