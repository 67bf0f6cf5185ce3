//! Values seen through their schema: which fields they have, what of them to remove, and how two of them merge.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{FieldSet, PathElement};
use crate::schema::{FieldType, ListKey, ListKind, MapKind, MergeSchema, TypeId};

/// The type of a field, and whether the schema names the field.
pub(super) fn field_type(schema: &dyn MergeSchema, of: TypeId, name: &str) -> (TypeId, bool) {
    match schema.field(of, name) {
        FieldType::Declared(ty) => (ty, true),
        FieldType::Entry(ty) => (ty, false),
        FieldType::Undeclared => (TypeId::UNKNOWN, false),
    }
}

/// The step to an item of a list that merges by item; none for an item that lacks its keys.
pub(super) fn element(kind: ListKind<'_>, item: &Value) -> Option<PathElement> {
    match kind {
        ListKind::Atomic => None,
        ListKind::Set => Some(PathElement::value(item)),
        ListKind::Map(keys) => key_element(keys, item),
    }
}

fn key_element(keys: &[ListKey], item: &Value) -> Option<PathElement> {
    let item = item.as_object()?;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        // A key that is neither there nor defaulted is left out, as structured-merge-diff does.
        if let Some(value) = item.get(&key.name).filter(|v| !v.is_null()).or(key.default.as_ref()) {
            found.push((key.name.clone(), value.clone()));
        }
    }
    (!found.is_empty()).then(|| PathElement::key(found))
}

/// The fields that a value sets.
pub(super) fn field_set(schema: &dyn MergeSchema, ty: TypeId, value: &Value) -> FieldSet {
    let mut set = FieldSet::new();
    match value {
        Value::Object(map) => {
            if schema.map(ty) == MapKind::Atomic {
                set.insert_here();
                return set;
            }
            for (name, below) in map {
                let (below_ty, declared) = field_type(schema, ty, name);
                let mut fields = field_set(schema, below_ty, below);
                let nothing = below.is_null() || below.as_object().is_some_and(Map::is_empty);
                if nothing || !declared {
                    fields.insert_here();
                }
                set.put(PathElement::Field(name.clone()), fields);
            }
        }
        Value::Array(list) => {
            let kind = schema.list(ty);
            if kind == ListKind::Atomic {
                set.insert_here();
                return set;
            }
            for item in list {
                let Some(element) = element(kind, item) else { continue };
                let mut fields = field_set(schema, schema.item(ty), item);
                fields.insert_here();
                set.put(element, fields);
            }
        }
        _ => set.insert_here(),
    }
    set
}

/// `value` without the members of `remove`; none where nothing is left.
pub(super) fn remove(schema: &dyn MergeSchema, ty: TypeId, value: &Value, remove: &FieldSet) -> Option<Value> {
    match value {
        Value::Object(map) => {
            if map.is_empty() || schema.map(ty) == MapKind::Atomic {
                return None;
            }
            let mut kept = Map::new();
            for (name, below) in map {
                let element = PathElement::Field(name.clone());
                if let Some(left) = self_or_less(schema, field_type(schema, ty, name).0, below, remove.below(&element))
                {
                    kept.insert(name.clone(), left);
                }
            }
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        Value::Array(list) => {
            let kind = schema.list(ty);
            if list.is_empty() || kind == ListKind::Atomic {
                return None;
            }
            let item_ty = schema.item(ty);
            let kept: Vec<Value> = list
                .iter()
                .filter_map(|item| {
                    let below = element(kind, item).and_then(|element| remove.below(&element));
                    self_or_less(schema, item_ty, item, below)
                })
                .collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        scalar => Some(scalar.clone()),
    }
}

fn self_or_less(schema: &dyn MergeSchema, ty: TypeId, value: &Value, set: Option<&FieldSet>) -> Option<Value> {
    match set {
        None => Some(value.clone()),
        Some(set) if set.is_member() => None,
        Some(set) if set.is_empty() => Some(value.clone()),
        Some(set) => remove(schema, ty, value, set),
    }
}

/// `live` with everything that `applied` sets.
pub(super) fn merge(schema: &dyn MergeSchema, ty: TypeId, live: Option<&Value>, applied: &Value) -> Value {
    match (live, applied) {
        (Some(Value::Object(live)), Value::Object(applied)) if schema.map(ty) == MapKind::Granular => {
            let mut merged = live.clone();
            for (name, value) in applied {
                let below = field_type(schema, ty, name).0;
                let value = merge(schema, below, live.get(name), value);
                merged.insert(name.clone(), value);
            }
            Value::Object(merged)
        }
        (Some(Value::Array(live)), Value::Array(applied)) if schema.list(ty) != ListKind::Atomic => {
            Value::Array(merge_items(schema, ty, live, applied))
        }
        (Some(live @ (Value::Object(_) | Value::Array(_))), Value::Null) if is_granular(schema, ty, live) => {
            live.clone()
        }
        (None, Value::Object(applied)) if schema.map(ty) == MapKind::Granular => {
            let items = applied
                .iter()
                .map(|(name, value)| (name.clone(), merge(schema, field_type(schema, ty, name).0, None, value)));
            Value::Object(items.collect())
        }
        (_, applied) => applied.clone(),
    }
}

fn is_granular(schema: &dyn MergeSchema, ty: TypeId, value: &Value) -> bool {
    match value {
        Value::Object(_) => schema.map(ty) == MapKind::Granular,
        _ => schema.list(ty) != ListKind::Atomic,
    }
}

/// The items of both lists. The items of the applied list stand in its order; the others keep their places between
/// the items that both have.
fn merge_items(schema: &dyn MergeSchema, ty: TypeId, live: &[Value], applied: &[Value]) -> Vec<Value> {
    let kind = schema.list(ty);
    let item_ty = schema.item(ty);
    let live_elements: Vec<Option<PathElement>> = live.iter().map(|item| element(kind, item)).collect();
    let applied_elements: Vec<Option<PathElement>> = applied.iter().map(|item| element(kind, item)).collect();
    let mut live_at: BTreeMap<&PathElement, usize> = BTreeMap::new();
    for (index, element) in live_elements.iter().enumerate() {
        if let Some(element) = element {
            live_at.entry(element).or_insert(index);
        }
    }
    let in_applied: std::collections::BTreeSet<&PathElement> = applied_elements.iter().flatten().collect();
    let only_live = |index: usize| live_elements[index].as_ref().is_none_or(|element| !in_applied.contains(element));

    let mut merged = Vec::with_capacity(live.len() + applied.len());
    let mut next_live = 0;
    for (item, element) in applied.iter().zip(&applied_elements) {
        let at = element.as_ref().and_then(|element| live_at.get(element)).copied();
        if let Some(at) = at {
            while next_live < at {
                if only_live(next_live) {
                    merged.push(live[next_live].clone());
                }
                next_live += 1;
            }
            next_live = next_live.max(at + 1);
        }
        merged.push(merge(schema, item_ty, at.map(|at| &live[at]), item));
    }
    let rest = (next_live..live.len()).filter(|&index| only_live(index)).map(|index| live[index].clone());
    merged.extend(rest);
    merged
}

/// The first thing in `value` that its schema cannot hold, in structured-merge-diff's words: a field that is not
/// declared, or items that cannot be told apart.
pub(super) fn misfit(schema: &dyn MergeSchema, ty: TypeId, value: &Value) -> Option<String> {
    misfit_at(schema, ty, value, &mut String::new())
}

fn misfit_at(schema: &dyn MergeSchema, ty: TypeId, value: &Value, path: &mut String) -> Option<String> {
    let length = path.len();
    match value {
        Value::Object(map) => {
            if schema.map(ty) == MapKind::Atomic {
                return None;
            }
            for (name, below) in map {
                path.push('.');
                path.push_str(name);
                let found = match schema.field(ty, name) {
                    FieldType::Declared(below_ty) | FieldType::Entry(below_ty) => {
                        misfit_at(schema, below_ty, below, path)
                    }
                    FieldType::Undeclared => Some(format!("{path}: field not declared in schema")),
                };
                if found.is_some() {
                    return found;
                }
                path.truncate(length);
            }
            None
        }
        Value::Array(list) => {
            let kind = schema.list(ty);
            if kind == ListKind::Atomic {
                return None;
            }
            let mut seen = std::collections::BTreeSet::new();
            for (index, item) in list.iter().enumerate() {
                let Some(element) = element(kind, item) else {
                    return Some(format!(
                        "{path}: element {index}: associative list with keys has an element that omits all key fields"
                    ));
                };
                if !seen.insert(element.clone()) {
                    let mut one = FieldSet::new();
                    let mut here = FieldSet::new();
                    here.insert_here();
                    one.put(element, here);
                    return Some(format!("{path}: duplicate entries for key {}", one.paths().concat()));
                }
                path.push_str(&format!("[{index}]"));
                let found = misfit_at(schema, schema.item(ty), item, path);
                if found.is_some() {
                    return found;
                }
                path.truncate(length);
            }
            None
        }
        _ => None,
    }
}
