//! CustomResourceDefinitions: what they serve, and whether their schemas can be used.

use std::sync::Arc;

use serde_json::{Value, json};

use super::compiled::KindSchema;
use super::definitions;
use super::error::FieldError;
use super::kinds::ServedKind;
use super::node::Compiler;

/// One served version of a CustomResourceDefinition.
pub(super) struct CustomKind {
    /// The CustomResourceDefinition's name.
    pub(super) definition_name: String,
    pub(super) served: ServedKind,
    pub(super) schema: Arc<KindSchema>,
    /// The schema as OpenAPI shows it.
    pub(super) openapi: Value,
}

/// The served versions of a CustomResourceDefinition, or what is wrong with it.
pub(super) fn kinds(crd: &Value) -> Result<Vec<CustomKind>, Vec<FieldError>> {
    let text = |path: &[&str]| crate::object::str_at(crd, path).to_owned();
    let (group, plural, kind) =
        (text(&["spec", "group"]), text(&["spec", "names", "plural"]), text(&["spec", "names", "kind"]));
    let mut errors = Vec::new();
    for (path, value) in [("spec.group", &group), ("spec.names.plural", &plural), ("spec.names.kind", &kind)] {
        if value.is_empty() {
            errors.push(FieldError::required(path, ""));
        }
    }
    let wanted = format!("{plural}.{group}");
    if errors.is_empty() && crate::object::name(crd) != wanted {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(FieldError::invalid("metadata.name", &json!(crate::object::name(crd)), detail));
    }
    let versions = crate::object::at(crd, &["spec", "versions"]).and_then(Value::as_array);
    let Some(versions) = versions.filter(|versions| !versions.is_empty()) else {
        errors.push(FieldError::required("spec.versions", "must have at least one version"));
        return Err(errors);
    };

    let mut kinds = Vec::new();
    for (index, version) in versions.iter().enumerate() {
        let path = format!("spec.versions[{index}].schema.openAPIV3Schema");
        let Some(schema) = crate::object::at(version, &["schema", "openAPIV3Schema"]) else {
            errors.push(FieldError::required(&path, "schemas are required"));
            continue;
        };
        check_structure(schema, &path, true, &mut errors);
        let mut compiler = Compiler::new(definitions::builtin());
        let root = compiler.custom_resource(schema, &path);
        let (arena, flaws) = compiler.finish();
        errors.extend(flaws.into_iter().map(|flaw| FieldError {
            path: flaw.path,
            reason: "FieldValueInvalid",
            message: flaw.message,
        }));
        if version.get("served").and_then(Value::as_bool) != Some(true) {
            continue;
        }
        let name = crate::object::str_at(version, &["name"]).to_owned();
        let status = version.get("subresources").is_some_and(|subresources| subresources.get("status").is_some());
        kinds.push(CustomKind {
            definition_name: crate::object::name(crd).to_owned(),
            schema: Arc::new(KindSchema {
                arena: Arc::new(arena),
                root,
                has_status: status,
                empty: json!({"metadata": {}}),
                builtin: false,
            }),
            openapi: openapi(schema, &group, &name, &kind),
            served: ServedKind {
                definition: definition_name(&group, &name, &kind),
                group: group.clone(),
                version: name,
                plural: plural.clone(),
                kind: kind.clone(),
                namespaced: text(&["spec", "scope"]) == "Namespaced",
                status,
                stored: true,
            },
        });
    }
    if errors.is_empty() { Ok(kinds) } else { Err(errors) }
}

/// `kilo.squat.ai`, `v1alpha1`, `Peer` is `ai.squat.kilo.v1alpha1.Peer`.
fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let reversed: Vec<&str> = group.rsplit('.').collect();
    format!("{}.{version}.{kind}", reversed.join("."))
}

fn openapi(schema: &Value, group: &str, version: &str, kind: &str) -> Value {
    let mut openapi = schema.clone();
    let Some(map) = openapi.as_object_mut() else { return openapi };
    let gvk = json!([{"group": group, "kind": kind, "version": version}]);
    map.insert("x-kubernetes-group-version-kind".to_owned(), gvk);
    let properties = map.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        for name in ["apiVersion", "kind"] {
            properties.insert(name.to_owned(), definitions::builtin_property(name));
        }
        let metadata = format!("#/definitions/{}", super::OBJECT_META);
        let description = "Standard object's metadata.";
        properties.insert("metadata".to_owned(), json!({"$ref": metadata, "description": description}));
    }
    openapi
}

/// What a structural schema must have: a type everywhere, and values that can be told apart.
fn check_structure(schema: &Value, path: &str, root: bool, errors: &mut Vec<FieldError>) {
    let Some(map) = schema.as_object() else {
        errors.push(FieldError::invalid(path, schema, "must be an object"));
        return;
    };
    let flag = |name: &str| map.get(name).and_then(Value::as_bool).unwrap_or(false);
    let free = flag("x-kubernetes-int-or-string") || flag("x-kubernetes-preserve-unknown-fields");
    match map.get("type").and_then(Value::as_str) {
        None if !free || root => {
            let detail =
                if root { "must not be empty at the root" } else { "must not be empty for specified object fields" };
            errors.push(FieldError::required(&format!("{path}.type"), detail));
        }
        Some(other) if root && other != "object" => {
            errors.push(FieldError::invalid(&format!("{path}.type"), &json!(other), "must be object at the root"));
        }
        Some("array") if map.get("items").is_none() => {
            errors.push(FieldError::required(&format!("{path}.items"), "must be specified"));
        }
        _ => {}
    }
    if map.contains_key("$ref") {
        errors.push(FieldError {
            path: format!("{path}.$ref"),
            reason: "FieldValueForbidden",
            message: "Forbidden: $ref is not supported".to_owned(),
        });
    }
    if flag("uniqueItems") {
        errors.push(FieldError {
            path: format!("{path}.uniqueItems"),
            reason: "FieldValueForbidden",
            message: "Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
                .to_owned(),
        });
    }
    if map.get("x-kubernetes-list-type").and_then(Value::as_str) == Some("map")
        && map.get("x-kubernetes-list-map-keys").and_then(Value::as_array).is_none_or(Vec::is_empty)
    {
        let detail = "must not be empty if x-kubernetes-list-type is map";
        errors.push(FieldError::required(&format!("{path}.x-kubernetes-list-map-keys"), detail));
    }
    for (name, property) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if root && matches!(name.as_str(), "metadata" | "apiVersion" | "kind") {
            continue;
        }
        check_structure(property, &format!("{path}.properties[{name}]"), false, errors);
    }
    if let Some(items) = map.get("items") {
        check_structure(items, &format!("{path}.items"), false, errors);
    }
    if let Some(entries) = map.get("additionalProperties").filter(|entries| !entries.is_boolean()) {
        check_structure(entries, &format!("{path}.additionalProperties"), false, errors);
    }
}
