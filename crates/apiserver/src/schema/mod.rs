//! What objects look like: the schemas of the built-in kinds and of custom resources, and what follows from them:
//! validation, defaults, pruning, how patches merge, and OpenAPI.

mod builtin;
mod cel;
mod compiled;
mod crd;
mod decode;
mod defaults;
mod definitions;
mod error;
mod formats;
mod fuzz;
mod kinds;
mod merge;
mod node;
mod openapi;
mod prune;
mod registry;
mod required;
mod rules;
mod validate;

pub use error::FieldError;
pub use fuzz::fuzz;
pub use kinds::ServedKind;
pub use merge::{FieldType, ListKey, ListKind, MapKind, MergeSchema, PatchRule, Schemaless, TypeId};
pub use registry::Registry;

/// The definition of `metadata`.
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

#[cfg(test)]
mod tests;
