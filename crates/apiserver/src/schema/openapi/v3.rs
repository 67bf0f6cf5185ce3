//! OpenAPI 3.0: a document for every group and version, with the schemas that it refers to.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::paths::{self, Operation, Path};
use crate::schema::ServedKind;
use crate::schema::definitions::{INT_OR_STRING, QUANTITY};

const PRODUCES: [&str; 2] = ["application/json", "application/yaml"];

/// The documents by path, such as `apis/apps/v1`.
pub(super) fn documents(kinds: &[ServedKind], definitions: &Map<String, Value>) -> BTreeMap<String, Value> {
    let mut upgraded: Map<String, Value> = definitions.clone();
    upgraded.insert(paths::PATCH.to_owned(), json!({"description": "Patch is a patch of any kind.", "type": "object"}));
    for (name, schema) in &mut upgraded {
        upgrade(schema);
        let other = match name.as_str() {
            QUANTITY => "number",
            INT_OR_STRING => "integer",
            _ => continue,
        };
        if let Some(schema) = schema.as_object_mut() {
            schema.shift_remove("type");
            schema.shift_remove("x-kubernetes-int-or-string");
            schema.insert("oneOf".to_owned(), json!([{"type": "string"}, {"type": other}]));
        }
    }

    let mut groups: BTreeMap<String, Vec<&ServedKind>> = BTreeMap::new();
    for kind in kinds {
        groups.entry(kind.group_path()).or_default().push(kind);
    }
    let document = |(path, kinds): (String, Vec<&ServedKind>)| (path, document(&kinds, &upgraded));
    groups.into_iter().map(document).collect()
}

fn document(kinds: &[&ServedKind], definitions: &Map<String, Value>) -> Value {
    let mut all = Map::new();
    for kind in kinds {
        for path in paths::of(kind) {
            all.insert(path.path.clone(), path_item(kind, &path));
        }
    }
    all.sort_keys();

    let mut needed = BTreeSet::new();
    for item in all.values() {
        collect_references(item, definitions, &mut needed);
    }
    let schemas: Map<String, Value> =
        needed.into_iter().filter_map(|name| Some((name.clone(), definitions.get(&name)?.clone()))).collect();
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": env!("CARGO_PKG_VERSION")},
        "paths": all,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "BearerToken": {
                    "description": "Bearer Token authentication",
                    "type": "apiKey",
                    "name": "authorization",
                    "in": "header",
                },
            },
        },
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
            let schema = json!({"type": "string", "uniqueItems": true});
            json!({"description": description, "in": "path", "name": name, "required": true, "schema": schema})
        });
        item.insert("parameters".to_owned(), parameters.collect());
    }
    Value::Object(item)
}

fn operation(kind: &ServedKind, operation: &Operation) -> Value {
    let content = |types: &[&str], definition: &str| -> Value {
        let reference = json!({"schema": {"$ref": format!("#/components/schemas/{definition}")}});
        Value::Object(types.iter().map(|media| ((*media).to_owned(), reference.clone())).collect())
    };
    let parameters: Vec<Value> = operation
        .parameters
        .iter()
        .map(|parameter| {
            let schema = json!({"type": parameter.kind, "uniqueItems": true});
            json!({"description": parameter.description, "in": "query", "name": parameter.name, "schema": schema})
        })
        .collect();
    let answer = content(&PRODUCES, &operation.answer);
    let mut responses =
        json!({"200": {"description": "OK", "content": answer}, "401": {"description": "Unauthorized"}});
    if operation.method == "post" {
        responses["201"] = json!({"description": "Created", "content": answer});
    }
    let mut described = json!({
        "operationId": operation.id,
        "parameters": parameters,
        "responses": responses,
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": {"group": kind.group, "kind": kind.kind, "version": kind.version},
    });
    if let Some(body) = &operation.body {
        described["requestBody"] = json!({"content": content(operation.consumes, body)});
    }
    described
}

/// From Swagger 2.0's form: references elsewhere, and with a description only inside `allOf`.
fn upgrade(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let reference = json!({"$ref": reference.replace("#/definitions/", "#/components/schemas/")});
                map.shift_remove("$ref");
                if map.is_empty() {
                    *schema = reference;
                } else {
                    map.insert("allOf".to_owned(), json!([reference]));
                }
                return;
            }
            map.values_mut().for_each(upgrade);
        }
        Value::Array(list) => list.iter_mut().for_each(upgrade),
        _ => {}
    }
}

fn collect_references(value: &Value, definitions: &Map<String, Value>, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get("$ref") {
                let name = reference.rsplit('/').next().unwrap_or(reference);
                if found.insert(name.to_owned())
                    && let Some(schema) = definitions.get(name)
                {
                    collect_references(schema, definitions, found);
                }
            }
            map.values().for_each(|value| collect_references(value, definitions, found));
        }
        Value::Array(list) => list.iter().for_each(|value| collect_references(value, definitions, found)),
        _ => {}
    }
}
