//! Why a body is not read.

use super::wire::WireError;

/// Why a body is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The body is something else.
    #[error(
        "provided data does not appear to be a protobuf message: it does not begin with the bytes 6b 38 73 00 (\"k8s\" and a zero); send it in that envelope, or as JSON"
    )]
    Prefix,
    /// The envelope does not say what is in it.
    #[error("Object 'Kind' is missing in the envelope of the protobuf message")]
    NoKind,
    /// The content is not plain protobuf.
    #[error(
        "the envelope of the protobuf message says that its content is of type {content_type:?} and encoding {encoding:?}: only protobuf without an encoding is read"
    )]
    Content {
        /// A media type.
        content_type: String,
        /// Such as `gzip`.
        encoding: String,
    },
    /// The group is built in, the kind is not of it.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// Such as `apps/v1`.
        api_version: String,
        /// Such as `Deployment`.
        kind: String,
    },
    /// Custom resources are not written in protobuf.
    #[error("{kind} of {api_version:?} is not a built-in kind, and only those are written in protobuf")]
    NotBuiltin {
        /// Such as `example.com/v1`.
        api_version: String,
        /// Such as `Thing`.
        kind: String,
    },
    /// A field cannot be read.
    #[error("cannot read the protobuf of a {kind}: {}{why}", place(path))]
    Broken {
        /// Such as `Pod`.
        kind: String,
        /// Such as `spec.containers[0].name`; empty for the object itself.
        path: String,
        /// What is wrong there.
        why: Flaw,
    },
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// The bytes are no protobuf.
    #[error("{0}")]
    Wire(String),
    /// A known field has another type on the wire.
    #[error("it is of another wire type than that field")]
    WireType,
    /// A string is not UTF-8.
    #[error("the text is not UTF-8")]
    Utf8,
    /// Numbers that JSON does not have.
    #[error("the number is infinite or not a number")]
    Number,
    /// JSON in bytes that is none.
    #[error("the JSON in it cannot be read: {0}")]
    Json(String),
    /// A time that RFC 3339 cannot write.
    #[error("the time is outside of the years 0 to 9999")]
    Time,
    /// An `IntOrString` that is neither.
    #[error("it says neither that it is a number nor that it is a text")]
    IntOrString,
    /// More levels than an object may have.
    #[error("it is nested deeper than {0} levels")]
    Depth(usize),
}

impl From<WireError> for Flaw {
    fn from(error: WireError) -> Self {
        Flaw::Wire(error.to_string())
    }
}

fn place(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("{path}: ") }
}
