//! What was given and cannot be used.

use std::fmt;

/// One value that is refused for itself alone; everything around it goes on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// Kind and name of the object: `Node/a1`, `Peer/office`.
    pub object: String,
    /// Which part of it: an annotation's name, or a path like `spec.allowedIPs[2]`.
    pub field: String,
    /// The value as it was given; keys are not repeated whole.
    pub value: String,
    /// What is wrong with it and what to write instead.
    pub reason: String,
}

impl Refusal {
    /// A refusal of a Node's field.
    pub fn node(name: &str, field: &str, value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { object: format!("Node/{name}"), field: field.to_owned(), value: value.into(), reason: reason.into() }
    }

    /// A refusal of a Peer's field.
    pub fn peer(name: &str, field: &str, value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { object: format!("Peer/{name}"), field: field.to_owned(), value: value.into(), reason: reason.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {:?} is refused: {}", self.object, self.field, self.value, self.reason)
    }
}
