//! Removing what a schema doesn't have, and setting what it has a default for.

use serde_json::{Map, Value};

use super::compiled::KindSchema;
use super::merge::TypeId;
use super::node::{Additional, Kind, Node};
use super::validate::push_field;

/// Removes fields that the schema doesn't have and returns their paths.
pub(crate) fn prune(schema: &KindSchema, object: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    prune_at(schema, schema.root, object, &mut String::new(), &mut unknown);
    unknown
}

/// Sets the defaults of the schema.
pub(crate) fn set_defaults(schema: &KindSchema, object: &mut Value) {
    default_at(schema, schema.root, object);
}

/// Removes `null`s as a typed decoder does: everywhere in a built-in kind, in the metadata of a custom resource.
pub(crate) fn drop_nulls(schema: &KindSchema, object: &mut Value) {
    if schema.builtin {
        return drop_nulls_at(schema, schema.root, object);
    }
    let metadata = schema.node(schema.root).and_then(|root| root.fields.get("metadata"));
    if let (Some(metadata), Some(value)) = (metadata, object.get_mut("metadata")) {
        drop_nulls_at(schema, metadata.ty, value);
    }
}

fn prune_at(schema: &KindSchema, ty: TypeId, value: &mut Value, path: &mut String, unknown: &mut Vec<String>) {
    let Some(node) = schema.node(ty) else { return };
    let length = path.len();
    match value {
        Value::Object(map) => {
            if node.kind == Kind::Any && node.fields.is_empty() {
                return;
            }
            map.retain(|name, value| {
                push_field(path, name);
                let known = entry_type(node, name);
                match known {
                    Some(ty) => prune_at(schema, ty, value, path, unknown),
                    None => unknown.push(path.clone()),
                }
                path.truncate(length);
                known.is_some()
            });
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                path.push_str(&format!("[{index}]"));
                prune_at(schema, node.items, item, path, unknown);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// The type of a field, [`TypeId::UNKNOWN`] where anything goes; none for a field that the schema doesn't have.
fn entry_type(node: &Node, name: &str) -> Option<TypeId> {
    if let Some(field) = node.fields.get(name) {
        return Some(field.ty);
    }
    match node.additional {
        Additional::Schema(ty) => Some(ty),
        Additional::None if node.keeps_unknown() => Some(TypeId::UNKNOWN),
        Additional::None => None,
    }
}

fn default_at(schema: &KindSchema, ty: TypeId, value: &mut Value) {
    let Some(node) = schema.node(ty) else { return };
    match value {
        Value::Object(map) => {
            for (name, field) in &node.fields {
                let default = field.default.as_ref();
                let nullable = schema.node(field.ty).is_some_and(|node| node.nullable);
                if let Some(default) = default
                    && map.get(name).is_none_or(|value| value.is_null() && !nullable)
                {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                if let Some(ty) = entry_type(node, name) {
                    default_at(schema, ty, value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| default_at(schema, node.items, item)),
        _ => {}
    }
}

fn drop_nulls_at(schema: &KindSchema, ty: TypeId, value: &mut Value) {
    let Some(node) = schema.node(ty) else { return };
    match value {
        Value::Object(map) => {
            drop_null_fields(node, map);
            for (name, value) in map.iter_mut() {
                let Some(ty) = entry_type(node, name) else { continue };
                if value.is_null() && schema.node(ty).is_some_and(|node| node.kind == Kind::String) {
                    *value = Value::String(String::new());
                } else {
                    drop_nulls_at(schema, ty, value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| drop_nulls_at(schema, node.items, item)),
        _ => {}
    }
}

fn drop_null_fields(node: &Node, map: &mut Map<String, Value>) {
    map.retain(|name, value| !(value.is_null() && node.fields.contains_key(name)));
}
