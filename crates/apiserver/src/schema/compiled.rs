//! One kind's schema, ready for use.

use std::sync::Arc;

use serde_json::Value;

use super::merge::{FieldType, ListKind, MapKind, MergeSchema, PatchRule, TypeId};
use super::node::{Additional, Arena, ItemsBy, Kind, Node};

/// The schema of one kind.
#[derive(Debug, Clone)]
pub(crate) struct KindSchema {
    pub(crate) arena: Arc<Arena>,
    pub(crate) root: TypeId,
    pub(crate) has_status: bool,
    pub(crate) empty: Value,
    /// Whether the kind is built in, rather than a custom resource.
    pub(crate) builtin: bool,
}

impl KindSchema {
    /// The node of a type.
    pub(crate) fn node(&self, ty: TypeId) -> Option<&Node> {
        self.arena.get(ty)
    }
}

impl MergeSchema for KindSchema {
    fn root(&self) -> TypeId {
        self.root
    }

    fn field(&self, of: TypeId, name: &str) -> FieldType {
        let Some(node) = self.node(of) else { return FieldType::Entry(TypeId::UNKNOWN) };
        if let Some(field) = node.fields.get(name) {
            return FieldType::Declared(field.ty);
        }
        match node.additional {
            Additional::Schema(ty) => FieldType::Entry(ty),
            Additional::None if node.keeps_unknown() => FieldType::Entry(TypeId::UNKNOWN),
            Additional::None => FieldType::Undeclared,
        }
    }

    fn item(&self, of: TypeId) -> TypeId {
        self.node(of).map_or(TypeId::UNKNOWN, |node| node.items)
    }

    fn map(&self, of: TypeId) -> MapKind {
        match self.node(of) {
            Some(node) if node.atomic_map => MapKind::Atomic,
            _ => MapKind::Granular,
        }
    }

    fn list(&self, of: TypeId) -> ListKind<'_> {
        match self.node(of).filter(|node| node.kind == Kind::Array).map(|node| &node.items_by) {
            Some(ItemsBy::Value) => ListKind::Set,
            Some(ItemsBy::Keys(keys)) => ListKind::Map(keys),
            Some(ItemsBy::Position) | None => ListKind::Atomic,
        }
    }

    fn patch(&self, of: TypeId, field: &str) -> PatchRule<'_> {
        let Some(field) = self.node(of).and_then(|node| node.fields.get(field)) else { return PatchRule::default() };
        PatchRule {
            merge: field.patch_merge,
            replace: field.patch_replace,
            merge_key: field.patch_merge_key.as_deref(),
        }
    }

    fn has_status(&self) -> bool {
        self.has_status
    }

    fn empty(&self) -> &Value {
        &self.empty
    }
}
