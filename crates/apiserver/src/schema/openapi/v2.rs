//! Swagger 2.0.

use serde_json::{Map, Value, json};

use super::paths::{self, Operation, Path};
use crate::schema::ServedKind;

const PRODUCES: [&str; 3] = ["application/json", "application/yaml", "application/json;stream=watch"];

/// The document.
pub(super) fn document(kinds: &[ServedKind], definitions: &Map<String, Value>) -> Value {
    let mut all = Map::new();
    for kind in kinds {
        for path in paths::of(kind) {
            all.insert(path.path.clone(), path_item(kind, &path));
        }
    }
    all.sort_keys();

    let mut definitions: Map<String, Value> = definitions.clone();
    definitions.insert(
        paths::PATCH.to_owned(),
        json!({"description": "Patch is provided to give a concrete name and type to a Patch.", "type": "object"}),
    );
    for schema in definitions.values_mut() {
        downgrade(schema);
    }
    definitions.sort_keys();
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": env!("CARGO_PKG_VERSION")},
        "paths": all,
        "definitions": definitions,
        "securityDefinitions": {
            "BearerToken": {
                "description": "Bearer Token authentication",
                "type": "apiKey",
                "name": "authorization",
                "in": "header",
            },
        },
        "security": [{"BearerToken": []}],
    })
}

fn path_item(kind: &ServedKind, path: &Path) -> Value {
    let mut item = Map::new();
    for operation in &path.operations {
        item.insert(operation.method.to_owned(), self::operation(kind, operation));
    }
    if !path.parameters.is_empty() {
        let parameters = path.parameters.iter().map(|name| {
            let description = if *name == "name" { "name of the object" } else { "the object's namespace" };
            json!({"description": description, "in": "path", "name": name, "required": true, "type": "string", "uniqueItems": true})
        });
        item.insert("parameters".to_owned(), parameters.collect());
    }
    Value::Object(item)
}

fn operation(kind: &ServedKind, operation: &Operation) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    if let Some(body) = &operation.body {
        let required = operation.action != "delete" && operation.action != "deletecollection";
        let mut parameter = json!({"in": "body", "name": "body", "schema": reference(body)});
        if required {
            parameter["required"] = json!(true);
        }
        parameters.push(parameter);
    }
    parameters.extend(operation.parameters.iter().map(|parameter| {
        json!({
            "description": parameter.description,
            "in": "query",
            "name": parameter.name,
            "type": parameter.kind,
            "uniqueItems": true,
        })
    }));
    let ok = json!({"description": "OK", "schema": reference(&operation.answer)});
    let mut responses = json!({"200": ok, "401": {"description": "Unauthorized"}});
    if operation.method == "post" {
        responses["201"] = json!({"description": "Created", "schema": reference(&operation.answer)});
    }
    json!({
        "consumes": operation.consumes,
        "operationId": operation.id,
        "parameters": parameters,
        "produces": PRODUCES,
        "responses": responses,
        "schemes": ["https"],
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {"group": kind.group, "kind": kind.kind, "version": kind.version},
    })
}

fn reference(definition: &str) -> Value {
    json!({"$ref": format!("#/definitions/{definition}")})
}

/// Removes what Swagger 2.0 does not know: `oneOf`, `anyOf`, `not`, `nullable`. kubectl would refuse `null` for a
/// nullable field otherwise, so that its type goes too, as in kube-apiserver.
fn downgrade(schema: &mut Value) {
    let Value::Object(map) = schema else { return };
    for name in ["oneOf", "anyOf", "allOf", "not"] {
        map.shift_remove(name);
    }
    let flag = |map: &Map<String, Value>, name: &str| map.get(name) == Some(&Value::Bool(true));
    let nullable = flag(map, "nullable");
    let free = flag(map, "x-kubernetes-preserve-unknown-fields");
    map.shift_remove("nullable");
    if nullable || free {
        for name in ["type", "items", "properties", "additionalProperties"] {
            if nullable || name != "properties" {
                map.shift_remove(name);
            }
        }
    }
    for (name, value) in map.iter_mut() {
        match (name.as_str(), value) {
            ("properties", Value::Object(properties)) => properties.values_mut().for_each(downgrade),
            ("items" | "additionalProperties", value) => downgrade(value),
            _ => {}
        }
    }
}
