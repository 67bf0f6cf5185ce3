//! Strategic merge patch: a merge patch that knows which lists merge by item.
//!
//! Directives (`$patch`, `$retainKeys`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…`) are those of
//! apimachinery's `strategicpatch`.

use serde_json::{Map, Value};

use crate::schema::{FieldType, MergeSchema, PatchRule, TypeId};
use crate::status::Status;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";
const ELEMENT_ORDER: &str = "$setElementOrder/";

/// Applies a strategic merge patch.
///
/// 400 for a patch that is not an object or a directive that makes no sense.
pub fn strategic(doc: &Value, patch: &Value, merge_schema: &dyn MergeSchema) -> Result<Value, Status> {
    let Value::Object(patch) = patch else {
        return Err(Status::bad_request("error decoding patch: a strategic merge patch is a JSON object"));
    };
    let original = match doc {
        Value::Object(map) => map.clone(),
        _ => Map::new(),
    };
    let merger = Merger { schema: merge_schema };
    merger.map(original, patch, merge_schema.root()).map(Value::Object)
}

type Object = Map<String, Value>;

struct Merger<'a> {
    schema: &'a dyn MergeSchema,
}

impl Merger<'_> {
    fn map(&self, mut original: Object, patch: &Object, of: TypeId) -> Result<Object, Status> {
        match patch.get(DIRECTIVE) {
            None => {}
            Some(directive) => match directive.as_str() {
                Some("replace") => {
                    let mut replaced = patch.clone();
                    replaced.shift_remove(DIRECTIVE);
                    return Ok(strip_map(replaced));
                }
                Some("delete") => return Ok(Object::new()),
                Some("merge") => {}
                _ => return Err(bad(format!("unknown patch type found: {directive} in map {}", shown(patch)))),
            },
        }
        retain_keys(&mut original, patch)?;

        for (key, value) in patch {
            if key == DIRECTIVE || key == RETAIN_KEYS {
                continue;
            }
            if let Some(field) = key.strip_prefix(DELETE_PRIMITIVES) {
                delete_primitives(&mut original, field, value)?;
            } else if let Some(field) = key.strip_prefix(ELEMENT_ORDER) {
                if !patch.contains_key(field) {
                    self.reorder(&mut original, field, value, of)?;
                }
            } else {
                let order = patch.get(&format!("{ELEMENT_ORDER}{key}"));
                self.field(&mut original, key, value, order, of)?;
            }
        }
        Ok(original)
    }

    fn field(
        &self,
        original: &mut Object,
        key: &str,
        patch: &Value,
        order: Option<&Value>,
        of: TypeId,
    ) -> Result<(), Status> {
        if patch.is_null() {
            original.shift_remove(key);
            return Ok(());
        }
        let rule = self.schema.patch(of, key);
        let ty = match self.schema.field(of, key) {
            FieldType::Declared(ty) | FieldType::Entry(ty) => ty,
            FieldType::Undeclared => TypeId::UNKNOWN,
        };
        let Some(slot) = original.get_mut(key) else {
            original.insert(key.to_owned(), fresh(patch));
            return Ok(());
        };
        *slot = match (slot.take(), patch) {
            (Value::Object(live), Value::Object(patch)) if !rule.replace => Value::Object(self.map(live, patch, ty)?),
            (Value::Array(live), Value::Array(patch)) if rule.merge => {
                let merged = self.list(live.clone(), patch, rule, ty)?;
                let merged = match order {
                    Some(order) => ordered(merged, as_list(order, key)?, &live, rule),
                    None => merged,
                };
                Value::Array(merged)
            }
            (_, patch) => fresh(patch),
        };
        Ok(())
    }

    fn list(&self, live: Vec<Value>, patch: &[Value], rule: PatchRule<'_>, ty: TypeId) -> Result<Vec<Value>, Status> {
        let Some(merge_key) = rule.merge_key else {
            return Ok(merged_scalars(live, patch));
        };
        if live.iter().chain(patch).any(|item| !item.is_object()) {
            return Err(bad(format!("the items of a list that merges by {merge_key} are objects")));
        }

        if patch.iter().any(|item| directive(item) == Some("replace")) {
            let kept = patch.iter().filter(|item| directive(item) != Some("replace"));
            return Ok(kept.map(fresh).collect());
        }
        let mut merged = live;
        for item in patch {
            let key = item.get(merge_key);
            match directive(item) {
                None | Some("merge") => {}
                Some("delete") => {
                    let key = key.ok_or_else(|| missing(merge_key, item))?;
                    merged.retain(|other| other.get(merge_key) != Some(key));
                    continue;
                }
                Some(other) => return Err(bad(format!("unknown patch type found: {other} in {item}"))),
            }
            let key = key.ok_or_else(|| missing(merge_key, item))?;
            let Value::Object(item) = item else { continue };
            match merged.iter_mut().find(|other| other.get(merge_key) == Some(key)) {
                Some(slot) => {
                    let Value::Object(live) = slot.take() else { continue };
                    *slot = Value::Object(self.map(live, item, self.schema.item(ty))?);
                }
                None => merged.push(Value::Object(strip_map(item.clone()))),
            }
        }
        Ok(merged)
    }

    fn reorder(&self, original: &mut Object, field: &str, order: &Value, of: TypeId) -> Result<(), Status> {
        let rule = self.schema.patch(of, field);
        let order = as_list(order, field)?;
        let Some(Value::Array(live)) = original.get_mut(field) else { return Ok(()) };
        let before = std::mem::take(live);
        *live = ordered(before.clone(), order, &before, rule);
        Ok(())
    }
}

/// Removes what `$retainKeys` does not name.
fn retain_keys(original: &mut Object, patch: &Object) -> Result<(), Status> {
    let Some(retain) = patch.get(RETAIN_KEYS) else { return Ok(()) };
    let retain = as_list(retain, RETAIN_KEYS)?;
    let retained = |key: &str| retain.iter().any(|name| name.as_str() == Some(key));
    for (key, value) in patch {
        if !key.starts_with('$') && !value.is_null() && !retained(key) {
            return Err(bad(format!("{RETAIN_KEYS} directive is malformed: it does not contain {key:?}")));
        }
    }
    original.retain(|key, _| retained(key));
    Ok(())
}

fn delete_primitives(original: &mut Object, field: &str, values: &Value) -> Result<(), Status> {
    let values = as_list(values, field)?;
    if let Some(Value::Array(live)) = original.get_mut(field) {
        live.retain(|item| !values.contains(item));
    }
    Ok(())
}

fn merged_scalars(live: Vec<Value>, patch: &[Value]) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::with_capacity(live.len() + patch.len());
    for item in live.into_iter().chain(patch.iter().cloned()) {
        if !merged.contains(&item) {
            merged.push(item);
        }
    }
    merged
}

/// Puts the items that `order` names in its order; the others keep their places among them as far as the order of the
/// live list tells.
fn ordered(items: Vec<Value>, order: &[Value], live: &[Value], rule: PatchRule<'_>) -> Vec<Value> {
    let id = |item: &Value| match rule.merge_key {
        Some(key) => item.get(key).cloned(),
        None => Some(item.clone()),
    };
    let order: Vec<Value> =
        order.iter().filter_map(|entry| if entry.is_object() { id(entry) } else { Some(entry.clone()) }).collect();
    let live: Vec<Option<Value>> = live.iter().map(id).collect();
    let in_order = |item: &Value| id(item).and_then(|key| order.iter().position(|other| *other == key));
    let in_live = |item: &Value| {
        let key = id(item);
        live.iter().position(|other| *other == key)
    };

    let (mut named, mut others): (Vec<Value>, Vec<Value>) =
        items.into_iter().partition(|item| in_order(item).is_some());
    named.sort_by_key(|item| in_order(item));
    others.sort_by_key(|item| in_live(item));

    let mut result = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in named {
        let place = in_live(&item);
        while let Some(other) = others.next_if(|other| matches!((in_live(other), place), (Some(a), Some(b)) if a < b)) {
            result.push(other);
        }
        result.push(item);
    }
    result.extend(others);
    result
}

/// What a patch's value is where there was nothing before: without nulls in its objects and without directives.
fn fresh(patch: &Value) -> Value {
    match patch {
        Value::Object(map) => Value::Object(strip_map(map.clone())),
        Value::Array(list) => {
            let kept = list.iter().filter(|item| !matches!(directive(item), Some("delete" | "replace")));
            Value::Array(kept.map(fresh).collect())
        }
        other => other.clone(),
    }
}

fn strip_map(map: Object) -> Object {
    if map.get(DIRECTIVE).and_then(Value::as_str) == Some("delete") {
        return Object::new();
    }
    let is_directive = |key: &str| {
        key == DIRECTIVE || key == RETAIN_KEYS || key.starts_with(DELETE_PRIMITIVES) || key.starts_with(ELEMENT_ORDER)
    };
    let kept = map.into_iter().filter(|(key, value)| !is_directive(key) && !value.is_null());
    kept.map(|(key, value)| (key, fresh(&value))).collect()
}

fn directive(item: &Value) -> Option<&str> {
    item.get(DIRECTIVE).map(|value| value.as_str().unwrap_or("not a string"))
}

fn as_list<'a>(value: &'a Value, field: &str) -> Result<&'a [Value], Status> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| bad(format!("the directive for {field} is a list")))
}

fn missing(merge_key: &str, item: &Value) -> Status {
    bad(format!("map: {item} does not contain declared merge key: {merge_key}"))
}

fn shown(map: &Object) -> String {
    Value::Object(map.clone()).to_string()
}

fn bad(message: String) -> Status {
    Status::bad_request(message)
}
