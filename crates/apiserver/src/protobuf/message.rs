//! Messages of the built-in kinds, by the table of their fields.
//!
//! `messages.txt` has a line a message: its name and its fields, each `JSON-NAME:NUMBER:TYPE`. A field without a name is
//! part of the message that it stands in. A type is `s`tring, `b`oolean, `i`nteger, b`y`tes or the name of a message,
//! behind `?` for one that JSON leaves out when it is zero, `*` for one that can be absent, `[` for a list, `{` for a
//! map and `W` for a list that is a message of its own.

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::wire::{Field, fields};
use crate::clock;

/// A field by its number.
type Fields = HashMap<u64, (&'static str, &'static str)>;

/// No object of a built-in kind nests deeper, except by malice.
const MAX_DEPTH: usize = 64;

static MESSAGES: LazyLock<HashMap<&'static str, Fields>> = LazyLock::new(|| {
    let message = |line: &'static str| {
        let (name, fields) = line.split_once(' ').unwrap_or((line, ""));
        let field = |text: &'static str| {
            let mut parts = text.splitn(3, ':');
            let (name, number, kind) = (parts.next()?, parts.next()?, parts.next()?);
            Some((number.parse().ok()?, (name, kind)))
        };
        (name, fields.split(' ').filter_map(field).collect())
    };
    include_str!("messages.txt").lines().map(message).collect()
});

/// Reads a message of the table; `None` where it is broken or isn't in the table.
pub(super) fn decode(name: &str, bytes: &[u8]) -> Option<Value> {
    message(name, bytes, 0).map(Value::Object)
}

fn message(name: &str, bytes: &[u8], depth: usize) -> Option<Map<String, Value>> {
    let known = MESSAGES.get(name).filter(|_| depth < MAX_DEPTH)?;
    let mut object = Map::new();
    for field in fields(bytes) {
        let (number, content) = field?;
        let Some((name, kind)) = known.get(&number) else { continue };
        let (omit_zero, kind) = match kind.strip_prefix('?') {
            Some(kind) => (true, kind),
            None => (false, *kind),
        };
        let (pointer, kind) = match kind.strip_prefix('*') {
            Some(kind) => (true, kind),
            None => (false, kind),
        };
        if name.is_empty() {
            let Field::Bytes(bytes) = content else { return None };
            object.append(&mut message(kind, bytes, depth + 1)?);
            continue;
        }
        if let Some(kind) = kind.strip_prefix('[') {
            let item = value(kind.trim_start_matches('*'), content, depth)?;
            let list = object.entry(*name).or_insert_with(|| json!([]));
            list.as_array_mut()?.push(item);
        } else if let Some(kind) = kind.strip_prefix('{') {
            let (key, item) = entry(kind, content, depth)?;
            let map = object.entry(*name).or_insert_with(|| json!({}));
            map.as_object_mut()?.insert(key, item);
        } else {
            let value = value(kind, content, depth)?;
            if !(omit_zero && !pointer && is_zero(&value)) {
                object.insert((*name).to_owned(), value);
            }
        }
    }
    Some(object)
}

fn value(kind: &str, content: Field<'_>, depth: usize) -> Option<Value> {
    match (kind, content) {
        ("s", Field::Bytes(bytes)) => Some(std::str::from_utf8(bytes).ok()?.into()),
        ("y", Field::Bytes(bytes)) => Some(STANDARD.encode(bytes).into()),
        ("b", Field::Number(number)) => Some((number != 0).into()),
        // Negative numbers are sign-extended to 64 bits.
        ("i", Field::Number(number)) => Some(number.cast_signed().into()),
        ("Time", Field::Bytes(bytes)) => time(bytes, clock::format_seconds),
        ("MicroTime", Field::Bytes(bytes)) => time(bytes, clock::format_micros),
        ("Quantity", Field::Bytes(bytes)) => only(bytes, 1).map(|text| text.unwrap_or_default().into()),
        ("FieldsV1" | "RawExtension", Field::Bytes(bytes)) => raw(bytes),
        ("IntOrString", Field::Bytes(bytes)) => int_or_string(bytes),
        (kind, Field::Bytes(bytes)) => match kind.strip_prefix("W[") {
            Some(kind) => items(kind, bytes, depth),
            None => message(kind, bytes, depth + 1).map(Value::Object),
        },
        _ => None,
    }
}

/// A map's entry: the key is field 1, the value field 2.
fn entry(kind: &str, content: Field<'_>, depth: usize) -> Option<(String, Value)> {
    let Field::Bytes(bytes) = content else { return None };
    let (mut key, mut item) = (String::new(), None);
    for field in fields(bytes) {
        match field? {
            (1, Field::Bytes(bytes)) => key = std::str::from_utf8(bytes).ok()?.to_owned(),
            (2, content) => item = Some(value(kind, content, depth + 1)?),
            _ => {}
        }
    }
    let empty = || if matches!(kind, "s" | "y") { json!("") } else { Value::Null };
    Some((key, item.unwrap_or_else(empty)))
}

fn items(kind: &str, bytes: &[u8], depth: usize) -> Option<Value> {
    fields(bytes).map(|field| value(kind, field?.1, depth + 1)).collect::<Option<Vec<Value>>>().map(Value::Array)
}

/// `metav1.Time`: seconds since 1970 and nanoseconds; a message without either is no time.
fn time(bytes: &[u8], format: fn(OffsetDateTime) -> String) -> Option<Value> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in fields(bytes) {
        match field? {
            (1, Field::Number(number)) => seconds = number.cast_signed(),
            (2, Field::Number(number)) => nanos = number.cast_signed(),
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Some(Value::Null);
    }
    let time = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    Some(format(time.checked_add(time::Duration::nanoseconds(nanos))?).into())
}

/// JSON inside protobuf.
fn raw(bytes: &[u8]) -> Option<Value> {
    serde_json::from_str(only(bytes, 1)?.unwrap_or("null")).ok()
}

fn int_or_string(bytes: &[u8]) -> Option<Value> {
    let (mut is_string, mut number, mut text) = (false, 0, "");
    for field in fields(bytes) {
        match field? {
            (1, Field::Number(kind)) => is_string = kind == 1,
            (2, Field::Number(value)) => number = value.cast_signed(),
            (3, Field::Bytes(bytes)) => text = std::str::from_utf8(bytes).ok()?,
            _ => {}
        }
    }
    Some(if is_string { text.into() } else { number.into() })
}

/// The text of one field.
fn only(bytes: &[u8], wanted: u64) -> Option<Option<&str>> {
    let mut found = None;
    for field in fields(bytes) {
        if let (number, Field::Bytes(bytes)) = field?
            && number == wanted
        {
            found = Some(std::str::from_utf8(bytes).ok()?);
        }
    }
    Some(found)
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(bool) => !bool,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}
