//! What is wrong with a field.

use std::fmt;

use serde_json::Value;

use crate::status::Cause;

/// One thing that is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Such as `spec.ports[0].port`.
    pub path: String,
    /// Such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// Such as `Required value`, without the path.
    pub message: String,
}

impl FieldError {
    pub(crate) fn required(path: &str, detail: &str) -> Self {
        let message = if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        Self::new(path, "FieldValueRequired", message)
    }

    pub(crate) fn invalid(path: &str, value: &Value, detail: impl fmt::Display) -> Self {
        Self::new(path, "FieldValueInvalid", format!("Invalid value: {value}: {detail}"))
    }

    pub(crate) fn wrong_type(path: &str, wanted: &str, found: &str) -> Self {
        let message = format!("Invalid value: {found:?}: {path} in body must be of type {wanted}: {found:?}");
        Self::new(path, "FieldValueTypeInvalid", message)
    }

    pub(crate) fn not_supported(path: &str, value: &Value, supported: &[Value]) -> Self {
        let list: Vec<String> = supported.iter().map(Value::to_string).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", list.join(", "));
        Self::new(path, "FieldValueNotSupported", message)
    }

    pub(crate) fn duplicate(path: &str, value: &Value) -> Self {
        Self::new(path, "FieldValueDuplicate", format!("Duplicate value: {value}"))
    }

    pub(crate) fn too_long(path: &str, most: u64) -> Self {
        Self::new(path, "FieldValueTooLong", format!("Too long: may not be more than {most} bytes"))
    }

    pub(crate) fn too_many(path: &str, found: usize, most: u64) -> Self {
        Self::new(path, "FieldValueTooMany", format!("Too many: {found}: must have at most {most} items"))
    }

    pub(crate) fn broken_rule(path: &str, reason: &'static str, kind: &str, message: &str) -> Self {
        let message = match reason {
            "FieldValueForbidden" => format!("Forbidden: {message}"),
            "FieldValueRequired" => format!("Required value: {message}"),
            "FieldValueDuplicate" => format!("Duplicate value: {kind:?}"),
            _ => format!("Invalid value: {kind:?}: {message}"),
        };
        Self::new(path, reason, message)
    }

    /// Whether the object is so wrong that rules on it make no sense.
    pub(crate) fn blocks_rules(&self) -> bool {
        matches!(
            self.reason,
            "FieldValueRequired" | "FieldValueTooLong" | "FieldValueTooMany" | "FieldValueTypeInvalid"
        )
    }

    /// Says that rules were not checked, for such an object.
    pub(crate) fn rules_skipped() -> Self {
        let detail = "some validation rules were not checked because the object was invalid; \
                      correct the existing errors to complete validation";
        Self::invalid("<nil>", &Value::from("null"), detail)
    }

    fn new(path: &str, reason: &'static str, message: String) -> Self {
        FieldError { path: path.to_owned(), reason, message }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "{}: {}", self.path, self.message) }
    }
}

impl From<FieldError> for Cause {
    fn from(error: FieldError) -> Self {
        Cause::new(error.reason, error.path, error.message)
    }
}
