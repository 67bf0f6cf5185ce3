//! The rules of a schema (`x-kubernetes-validations`), checked on an object.

use serde_json::Value;

use super::compiled::KindSchema;
use super::error::FieldError;
use super::merge::TypeId;
use super::node::{Additional, ItemsBy, Node};
use super::validate::{join, push_field, type_name};

/// What the rules say against an object. `old` is the object before an update.
pub(crate) fn broken(schema: &KindSchema, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut walk = Walk { schema, errors: Vec::new() };
    walk.value(schema.root, object, old, &mut String::new());
    walk.errors
}

struct Walk<'a> {
    schema: &'a KindSchema,
    errors: Vec<FieldError>,
}

impl Walk<'_> {
    fn value(&mut self, ty: TypeId, value: &Value, old: Option<&Value>, path: &mut String) {
        let Some(node) = self.schema.node(ty) else { return };
        if value.is_null() {
            return;
        }
        for rule in &node.rules {
            if let Some(message) = rule.check(value, old) {
                let at = match &rule.field_path {
                    Some(field) => join(path, field),
                    None if path.is_empty() => "<nil>".to_owned(),
                    None => path.clone(),
                };
                self.errors.push(FieldError::broken_rule(&at, rule.reason, type_name(value), &message));
            }
        }

        let length = path.len();
        match value {
            Value::Object(map) => {
                for (name, value) in map {
                    let ty = match (node.fields.get(name), node.additional) {
                        (Some(field), _) => field.ty,
                        (None, Additional::Schema(ty)) => ty,
                        (None, Additional::None) => continue,
                    };
                    push_field(path, name);
                    self.value(ty, value, old.and_then(|old| old.get(name)), path);
                    path.truncate(length);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push_str(&format!("[{index}]"));
                    self.value(node.items, item, old_item(node, item, old), path);
                    path.truncate(length);
                }
            }
            _ => {}
        }
    }
}

/// The item of the old list that is the same one: only lists that merge by key have such.
fn old_item<'a>(node: &Node, item: &Value, old: Option<&'a Value>) -> Option<&'a Value> {
    let ItemsBy::Keys(keys) = &node.items_by else { return None };
    let id = |item: &Value| -> Vec<Option<Value>> {
        keys.iter().map(|key| item.get(&key.name).or(key.default.as_ref()).cloned()).collect()
    };
    let wanted = id(item);
    old?.as_array()?.iter().find(|other| id(other) == wanted)
}
