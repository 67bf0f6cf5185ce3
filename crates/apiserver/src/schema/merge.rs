//! What a patch needs to know of a type: how its lists and maps merge.
//!
//! Server-side apply reads the `x-kubernetes-list-type`, `-list-map-keys` and `-map-type` of a schema
//! (structured-merge-diff), strategic merge its `x-kubernetes-patch-strategy` and `-patch-merge-key`.

use serde_json::Value;

/// A node of a schema. [`TypeId::UNKNOWN`] is the type of what no schema describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub(crate) u32);

impl TypeId {
    /// The type of what no schema describes: objects merge by field, lists are one value.
    pub const UNKNOWN: TypeId = TypeId(u32::MAX);
}

/// What a type says of one field of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// A field that the schema names.
    Declared(TypeId),
    /// An entry of a map, whose keys are the user's.
    Entry(TypeId),
    /// A field that the schema does not have.
    Undeclared,
}

/// How an object merges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapKind {
    /// Field by field.
    Granular,
    /// As one value.
    Atomic,
}

/// How a list merges.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ListKind<'a> {
    /// As one value.
    Atomic,
    /// Scalars, each at most once.
    Set,
    /// Objects, told apart by these fields.
    Map(&'a [ListKey]),
}

/// A field that tells the items of a list apart.
#[derive(Debug, Clone, PartialEq)]
pub struct ListKey {
    /// The field's name.
    pub name: String,
    /// What an item that lacks the field has.
    pub default: Option<Value>,
}

/// How a field merges in a strategic merge patch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PatchRule<'a> {
    /// Lists merge by item instead of being replaced (`merge`).
    pub merge: bool,
    /// Maps are replaced instead of being merged (`replace`).
    pub replace: bool,
    /// The field that tells items apart; none for lists of scalars.
    pub merge_key: Option<&'a str>,
}

/// How a kind's objects merge.
pub trait MergeSchema: Send + Sync {
    /// The type of the whole object.
    fn root(&self) -> TypeId;

    /// The type of a field of an object of type `of`.
    fn field(&self, of: TypeId, name: &str) -> FieldType;

    /// The type of the items of a list of type `of`.
    fn item(&self, of: TypeId) -> TypeId;

    /// How an object of this type merges.
    fn map(&self, of: TypeId) -> MapKind;

    /// How a list of this type merges.
    fn list(&self, of: TypeId) -> ListKind<'_>;

    /// How a field of an object of type `of` merges in a strategic merge patch.
    fn patch(&self, of: TypeId, field: &str) -> PatchRule<'_>;

    /// Whether `status` is written through the status subresource only.
    fn has_status(&self) -> bool;

    /// What an object of this kind has before anything is set: the structs that are always there. Ownership of
    /// those is never recorded.
    fn empty(&self) -> &Value;
}

/// The schema of what has no schema: objects merge by field, lists are one value.
#[derive(Debug, Clone, Copy, Default)]
pub struct Schemaless;

impl MergeSchema for Schemaless {
    fn root(&self) -> TypeId {
        TypeId::UNKNOWN
    }

    fn field(&self, _: TypeId, _: &str) -> FieldType {
        FieldType::Entry(TypeId::UNKNOWN)
    }

    fn item(&self, _: TypeId) -> TypeId {
        TypeId::UNKNOWN
    }

    fn map(&self, _: TypeId) -> MapKind {
        MapKind::Granular
    }

    fn list(&self, _: TypeId) -> ListKind<'_> {
        ListKind::Atomic
    }

    fn patch(&self, _: TypeId, _: &str) -> PatchRule<'_> {
        PatchRule::default()
    }

    fn has_status(&self) -> bool {
        false
    }

    fn empty(&self) -> &Value {
        &Value::Null
    }
}
