//! The table of messages, `messages.txt`: which field has which number, name and type.

use std::collections::HashMap;
use std::sync::LazyLock;

const TEXT: &str = include_str!("messages.txt");

/// A message's fields by their numbers.
pub(super) type Fields = HashMap<u64, Field>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Field {
    /// The name in JSON; empty for a message whose fields stand beside those of the one that it is in.
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) kind: Kind,
    /// Whether JSON leaves the field out when it is zero.
    pub(super) omit_zero: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    List,
    /// From strings.
    Map,
}

/// The type of a value, of a list's items, or of a map's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Bool,
    Int32,
    Int64,
    Double,
    /// Base64 in JSON.
    Bytes,
    /// A message of the table.
    Message(&'static str),
    /// `metav1.Time`.
    Time,
    /// `metav1.MicroTime`.
    MicroTime,
    /// `resource.Quantity`.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `metav1.FieldsV1`.
    FieldsV1,
    /// `ExtraValue`: a list of strings in a message of its own.
    Strings,
    /// `apiextensions.JSON`.
    Json,
    /// `apiextensions.JSONSchemaPropsOrArray`.
    SchemaOrArray,
    /// `apiextensions.JSONSchemaPropsOrBool`.
    SchemaOrBool,
    /// `apiextensions.JSONSchemaPropsOrStringArray`.
    SchemaOrStrings,
}

/// The fields of a message, such as `core.Pod`.
pub(super) fn message(name: &str) -> Option<&'static Fields> {
    MESSAGES.get(name)
}

/// The names of all messages.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    lines().filter_map(|line| line.split(' ').next())
}

static MESSAGES: LazyLock<HashMap<&'static str, Fields>> = LazyLock::new(|| {
    let message = |line: &'static str| {
        let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
        (name, fields.split(' ').filter_map(field).collect())
    };
    lines().map(message).collect()
});

fn lines() -> impl Iterator<Item = &'static str> {
    TEXT.lines().filter(|line| !line.starts_with('#'))
}

/// `NAME:NUMBER:TYPE`.
fn field(text: &'static str) -> Option<(u64, Field)> {
    let mut parts = text.splitn(3, ':');
    let (name, number, ty) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    let (shape, omit_zero, kind) = match ty.split_at_checked(1)? {
        ("[", kind) => (Shape::List, false, kind),
        ("{", kind) => (Shape::Map, false, kind),
        ("?", kind) => (Shape::One, true, kind),
        _ => (Shape::One, false, ty),
    };
    Some((number, Field { name, shape, kind: self::kind(kind)?, omit_zero }))
}

fn kind(name: &'static str) -> Option<Kind> {
    Some(match name {
        "s" => Kind::String,
        "b" => Kind::Bool,
        "i" => Kind::Int32,
        "l" => Kind::Int64,
        "d" => Kind::Double,
        "y" => Kind::Bytes,
        "Time" => Kind::Time,
        "MicroTime" => Kind::MicroTime,
        "Quantity" => Kind::Quantity,
        "IntOrString" => Kind::IntOrString,
        "FieldsV1" => Kind::FieldsV1,
        "Strings" => Kind::Strings,
        "Json" => Kind::Json,
        "SchemaOrArray" => Kind::SchemaOrArray,
        "SchemaOrBool" => Kind::SchemaOrBool,
        "SchemaOrStrings" => Kind::SchemaOrStrings,
        message if message.contains('.') => Kind::Message(message),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_line_is_understood_and_every_message_is_there() {
        for line in lines() {
            let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
            let words = fields.split(' ').filter(|word| !word.is_empty());
            assert_eq!(message(name).unwrap().len(), words.count(), "{line}");
            for field in message(name).unwrap().values() {
                let Kind::Message(kind) = field.kind else { continue };
                assert!(message(kind).is_some(), "{name} has a {kind}, which is not in the table");
            }
        }
        assert_eq!(names().count(), MESSAGES.len(), "a message is in the table twice");
    }
}
