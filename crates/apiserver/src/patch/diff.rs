//! What changed between two versions of an object, as sets of fields.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::fields::{FieldSet, PathElement};
use super::typed::{element, field_type};
use crate::schema::{ListKind, MapKind, MergeSchema, TypeId};

/// The fields that differ between two versions of an object.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) removed: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) added: FieldSet,
}

impl Comparison {
    pub(super) fn between(schema: &dyn MergeSchema, ty: TypeId, old: &Value, new: &Value) -> Self {
        compare(schema, ty, Some(old), Some(new))
    }

    /// What was added or modified.
    pub(super) fn changed(&self) -> FieldSet {
        self.modified.union(&self.added)
    }

    /// The comparison with every set passed through `keep`.
    pub(super) fn filter(self, keep: impl Fn(FieldSet) -> FieldSet) -> Self {
        Comparison { removed: keep(self.removed), modified: keep(self.modified), added: keep(self.added) }
    }

    fn put(&mut self, element: PathElement, below: Comparison) {
        self.removed.put(element.clone(), below.removed);
        self.modified.put(element.clone(), below.modified);
        self.added.put(element, below.added);
    }

    fn leaf(old: Option<&Value>, new: Option<&Value>) -> Self {
        let mut comparison = Comparison::default();
        match (old, new) {
            (None, None) => {}
            (None, Some(_)) => comparison.added.insert_here(),
            (Some(_), None) => comparison.removed.insert_here(),
            (Some(old), Some(new)) if old != new => comparison.modified.insert_here(),
            _ => {}
        }
        comparison
    }
}

fn compare(schema: &dyn MergeSchema, ty: TypeId, old: Option<&Value>, new: Option<&Value>) -> Comparison {
    if let (Some(old), Some(new)) = (old, new)
        && old == new
    {
        return Comparison::default();
    }
    let mut comparison = match shape(schema, ty, old, new) {
        Shape::Leaf => return Comparison::leaf(old, new),
        Shape::Map => compare_maps(schema, ty, old.and_then(Value::as_object), new.and_then(Value::as_object)),
        Shape::List(kind) => {
            compare_lists(schema, ty, kind, old.and_then(Value::as_array), new.and_then(Value::as_array))
        }
    };
    if old.is_none() {
        comparison.added.insert_here();
    } else if new.is_none() {
        comparison.removed.insert_here();
    }
    comparison
}

enum Shape<'a> {
    Leaf,
    Map,
    List(ListKind<'a>),
}

fn shape<'a>(schema: &'a dyn MergeSchema, ty: TypeId, old: Option<&Value>, new: Option<&Value>) -> Shape<'a> {
    let empty = |value: Option<&Value>| match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    };
    if empty(old) && empty(new) {
        return Shape::Leaf;
    }
    let is_map = |value: Option<&Value>| matches!(value, None | Some(Value::Null | Value::Object(_)));
    let is_list = |value: Option<&Value>| matches!(value, None | Some(Value::Null | Value::Array(_)));
    if is_map(old) && is_map(new) && schema.map(ty) == MapKind::Granular {
        Shape::Map
    } else if is_list(old) && is_list(new) && schema.list(ty) != ListKind::Atomic {
        Shape::List(schema.list(ty))
    } else {
        Shape::Leaf
    }
}

fn compare_maps(
    schema: &dyn MergeSchema,
    ty: TypeId,
    old: Option<&Map<String, Value>>,
    new: Option<&Map<String, Value>>,
) -> Comparison {
    let mut comparison = Comparison::default();
    let added = new.into_iter().flatten().filter(|(name, _)| !old.is_some_and(|old| old.contains_key(*name)));
    let names = old.into_iter().flatten().chain(added).map(|(name, _)| name);
    for name in names {
        let below = field_type(schema, ty, name).0;
        let below = compare(schema, below, old.and_then(|m| m.get(name)), new.and_then(|m| m.get(name)));
        comparison.put(PathElement::Field(name.clone()), below);
    }
    comparison
}

fn compare_lists(
    schema: &dyn MergeSchema,
    ty: TypeId,
    kind: ListKind<'_>,
    old: Option<&Vec<Value>>,
    new: Option<&Vec<Value>>,
) -> Comparison {
    let mut items: BTreeMap<PathElement, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for item in old.into_iter().flatten() {
        if let Some(element) = element(kind, item) {
            items.entry(element).or_default().0.push(item);
        }
    }
    for item in new.into_iter().flatten() {
        if let Some(element) = element(kind, item) {
            items.entry(element).or_default().1.push(item);
        }
    }

    let item_ty = schema.item(ty);
    let mut comparison = Comparison::default();
    for (element, (old, new)) in items {
        let below = if old.len() > 1 || new.len() > 1 {
            // Items that cannot be told apart are one value.
            let mut below = Comparison::default();
            match (old.is_empty(), new.is_empty()) {
                (true, _) => below.added.insert_here(),
                (_, true) => below.removed.insert_here(),
                _ if old != new => below.modified.insert_here(),
                _ => {}
            }
            below
        } else {
            compare(schema, item_ty, old.first().copied(), new.first().copied())
        };
        comparison.put(element, below);
    }
    comparison
}
