//! The messages that are something else in JSON than an object of their fields.

use serde_json::Value;
use time::{Duration, OffsetDateTime};

use super::error::Flaw;
use super::wire::{Content, fields};
use crate::clock;

/// `metav1.Time`: seconds since 1970 and nanoseconds, of which Kubernetes keeps the seconds. A message without either
/// is no time.
pub(super) fn time(bytes: &[u8]) -> Result<Value, Flaw> {
    moment(bytes, |_| 0, clock::format_seconds)
}

/// `metav1.MicroTime`: the same, to the microsecond.
pub(super) fn micro_time(bytes: &[u8]) -> Result<Value, Flaw> {
    moment(bytes, |nanos| nanos, clock::format_micros)
}

/// `resource.Quantity`: its text, in field 1.
pub(super) fn quantity(bytes: &[u8]) -> Result<Value, Flaw> {
    Ok(first(bytes)?.map_or(Ok("0"), text)?.into())
}

/// `intstr.IntOrString`: which of both (0 or 1), the number, the text.
pub(super) fn int_or_string(bytes: &[u8]) -> Result<Value, Flaw> {
    let (mut which, mut number, mut string) = (0, 0, "");
    for field in fields(bytes) {
        match field? {
            (1, Content::Varint(value)) => which = value,
            (2, Content::Varint(value)) => number = int32(value),
            (3, Content::Bytes(bytes)) => string = text(bytes)?,
            (1..=3, _) => return Err(Flaw::WireType),
            _ => {}
        }
    }
    match which {
        0 => Ok(number.into()),
        1 => Ok(string.into()),
        _ => Err(Flaw::IntOrString),
    }
}

/// `metav1.FieldsV1` and `apiextensions.JSON`: JSON as bytes, in field 1.
pub(super) fn json(bytes: &[u8]) -> Result<Value, Flaw> {
    match first(bytes)? {
        None | Some([]) => Ok(Value::Null),
        Some(json) => serde_json::from_slice(json).map_err(|error| Flaw::Json(error.to_string())),
    }
}

/// `ExtraValue`: strings, in field 1.
pub(super) fn strings(bytes: &[u8]) -> Result<Value, Flaw> {
    let mut list = Vec::new();
    for field in fields(bytes) {
        match field? {
            (1, Content::Bytes(bytes)) => list.push(text(bytes)?.into()),
            (1, _) => return Err(Flaw::WireType),
            _ => {}
        }
    }
    Ok(Value::Array(list))
}

/// The text of a field.
pub(super) fn text(bytes: &[u8]) -> Result<&str, Flaw> {
    std::str::from_utf8(bytes).map_err(|_| Flaw::Utf8)
}

/// A number of 32 bits: the others are cut off, as every protobuf reader does. (Negative ones come with 64 bits.)
pub(super) fn int32(varint: u64) -> i32 {
    (varint as u32).cast_signed()
}

fn moment(bytes: &[u8], kept: impl Fn(i32) -> i32, format: impl Fn(OffsetDateTime) -> String) -> Result<Value, Flaw> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in fields(bytes) {
        match field? {
            (1, Content::Varint(number)) => seconds = number.cast_signed(),
            (2, Content::Varint(number)) => nanos = kept(int32(number)),
            (1 | 2, _) => return Err(Flaw::WireType),
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let whole = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| Flaw::Time)?;
    let time = whole.checked_add(Duration::nanoseconds(nanos.into())).ok_or(Flaw::Time)?;
    if !(0..=9999).contains(&time.year()) {
        return Err(Flaw::Time);
    }
    Ok(format(time).into())
}

/// The bytes of field 1.
fn first(bytes: &[u8]) -> Result<Option<&[u8]>, Flaw> {
    let mut found = None;
    for field in fields(bytes) {
        match field? {
            (1, Content::Bytes(bytes)) => found = Some(bytes),
            (1, _) => return Err(Flaw::WireType),
            _ => {}
        }
    }
    Ok(found)
}
