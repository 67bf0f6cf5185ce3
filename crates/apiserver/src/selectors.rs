//! Label and field selectors: the two filters of list, watch and delete-collection.
//!
//! The grammar, what matches and the words of the errors are those of kube-apiserver
//! (<https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors>,
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/>): clients show them to people as
//! they are, with status 400 and reason `BadRequest`.

mod fields;
mod labels;
mod lexer;

pub use fields::FieldSelector;
pub use labels::{LabelSelector, Operator, Requirement};

/// A selector that cannot be used, in kube-apiserver's words. Answered as 400 `BadRequest`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);
