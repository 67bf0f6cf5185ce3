//! Messages of the table, read as the JSON that Kubernetes has for them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::error::Flaw;
use super::special;
use super::table::{self, Field, Fields, Kind, Shape};
use super::wire::{Content, fields, varints};

/// How deep objects and lists may stand in each other: what is stored is read again by a JSON parser that stops at 128.
pub(super) const MAX_DEPTH: usize = 120;

/// A flaw and where it is.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) path: String,
    pub(super) flaw: Flaw,
}

/// Reads a message of the table.
pub(super) fn decode(message: &Fields, bytes: &[u8]) -> Result<Map<String, Value>, Broken> {
    let mut object = Map::new();
    fill(&mut object, message, bytes, 1)?;
    Ok(object)
}

/// Reads a message into an object that may have some of its fields: protobuf merges what comes twice.
fn fill(object: &mut Map<String, Value>, message: &Fields, bytes: &[u8], depth: usize) -> Result<(), Broken> {
    if depth > MAX_DEPTH {
        return Err(Flaw::Depth(MAX_DEPTH).into());
    }
    for field in fields(bytes) {
        let (number, content) = field.map_err(Flaw::from)?;
        let Some(field) = message.get(&number) else { continue };
        put(object, field, content, depth).map_err(|broken| broken.within(field.name))?;
    }
    Ok(())
}

fn put(object: &mut Map<String, Value>, field: &Field, content: Content<'_>, depth: usize) -> Result<(), Broken> {
    match field.shape {
        Shape::One if field.name.is_empty() => {
            let Some(message) = field.kind.message() else { return Ok(()) };
            fill(object, message, bytes(content)?, depth)
        }
        Shape::One => {
            let before = object.get_mut(field.name).map(Value::take);
            let value = value(before, field.kind, content, depth + 1)?;
            if field.omit_zero && is_zero(&value) {
                object.shift_remove(field.name);
            } else {
                object.insert(field.name.to_owned(), value);
            }
            Ok(())
        }
        Shape::List => {
            let list = object.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = list else { return Ok(()) };
            append(list, field.kind, content, depth + 1)
        }
        Shape::Map => {
            let (key, value) = entry(field.kind, content, depth + 1)?;
            let map = object.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(map) = map {
                map.insert(key, value);
            }
            Ok(())
        }
    }
}

/// One value. `before` is what the field has from earlier in the message.
fn value(before: Option<Value>, kind: Kind, content: Content<'_>, depth: usize) -> Result<Value, Broken> {
    if let Some(message) = kind.message() {
        let mut object = match before {
            Some(Value::Object(object)) => object,
            _ => Map::new(),
        };
        fill(&mut object, message, bytes(content)?, depth)?;
        return Ok(Value::Object(object));
    }
    let value = match (kind, content) {
        (Kind::String, Content::Bytes(bytes)) => special::text(bytes)?.into(),
        (Kind::Bytes, Content::Bytes(bytes)) => STANDARD.encode(bytes).into(),
        (Kind::Bool, Content::Varint(number)) => (number != 0).into(),
        (Kind::Int32, Content::Varint(number)) => special::int32(number).into(),
        (Kind::Int64, Content::Varint(number)) => number.cast_signed().into(),
        (Kind::Double, Content::Fixed64(bytes)) => {
            serde_json::Number::from_f64(f64::from_le_bytes(bytes)).ok_or(Flaw::Number)?.into()
        }
        (Kind::Time, Content::Bytes(bytes)) => special::time(bytes)?,
        (Kind::MicroTime, Content::Bytes(bytes)) => special::micro_time(bytes)?,
        (Kind::Quantity, Content::Bytes(bytes)) => special::quantity(bytes)?,
        (Kind::IntOrString, Content::Bytes(bytes)) => special::int_or_string(bytes)?,
        (Kind::FieldsV1 | Kind::Json, Content::Bytes(bytes)) => special::json(bytes)?,
        (Kind::Strings, Content::Bytes(bytes)) => special::strings(bytes)?,
        (Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings, Content::Bytes(bytes)) => {
            schema_or(kind, bytes, depth)?
        }
        _ => return Err(Flaw::WireType.into()),
    };
    Ok(value)
}

/// The next item of a list, or several numbers.
fn append(list: &mut Vec<Value>, kind: Kind, content: Content<'_>, depth: usize) -> Result<(), Broken> {
    if let (Kind::Int32 | Kind::Int64, Content::Bytes(packed)) = (kind, content) {
        for number in varints(packed).map_err(Flaw::from)? {
            list.push(value(None, kind, Content::Varint(number), depth)?);
        }
        return Ok(());
    }
    let item = value(None, kind, content, depth + 1).map_err(|broken| broken.within(&format!("[{}]", list.len())))?;
    list.push(item);
    Ok(())
}

/// An entry of a map: a message with the key as field 1 and the value as field 2.
fn entry(kind: Kind, content: Content<'_>, depth: usize) -> Result<(String, Value), Broken> {
    let (mut key, mut found) = ("", None);
    for field in fields(bytes(content)?) {
        match field.map_err(Flaw::from)? {
            (1, content) => key = special::text(bytes(content)?)?,
            (2, content) => {
                let value = value(found.take(), kind, content, depth + 1);
                found = Some(value.map_err(|broken| broken.within(&format!("[{key:?}]")))?);
            }
            _ => {}
        }
    }
    let value = match found {
        Some(value) => value,
        // What is not there is zero.
        None => value(None, kind, Content::Bytes(&[]), depth + 1)?,
    };
    Ok((key.to_owned(), value))
}

/// A schema (field 1), or field 2: several schemas, or strings; or a boolean (field 1) and a schema (field 2).
fn schema_or(kind: Kind, content: &[u8], depth: usize) -> Result<Value, Broken> {
    const SCHEMA: Kind = Kind::Message("apiextensions.JSONSchemaProps");
    let (mut schema, mut allowed, mut list) = (None, false, Vec::new());
    for field in fields(content) {
        match (kind, field.map_err(Flaw::from)?) {
            (Kind::SchemaOrBool, (1, Content::Varint(number))) => allowed = number != 0,
            (Kind::SchemaOrBool, (1, _)) => return Err(Flaw::WireType.into()),
            (Kind::SchemaOrBool, (2, content)) | (_, (1, content)) => {
                schema = Some(value(schema.take(), SCHEMA, content, depth)?);
            }
            (Kind::SchemaOrArray, (2, content)) => append(&mut list, SCHEMA, content, depth)?,
            (_, (2, content)) => append(&mut list, Kind::String, content, depth)?,
            _ => {}
        }
    }
    Ok(match (kind, schema) {
        (_, _) if !list.is_empty() => Value::Array(list),
        (_, Some(schema)) => schema,
        (Kind::SchemaOrBool, None) => allowed.into(),
        (_, None) => Value::Null,
    })
}

fn bytes(content: Content<'_>) -> Result<&[u8], Flaw> {
    match content {
        Content::Bytes(bytes) => Ok(bytes),
        _ => Err(Flaw::WireType),
    }
}

/// Whether a value that its type holds directly is what it is when nobody sets it.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(bool) => !bool,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(_) | Value::Object(_) => false,
    }
}

impl Kind {
    fn message(self) -> Option<&'static Fields> {
        match self {
            Kind::Message(name) => table::message(name),
            _ => None,
        }
    }
}

impl Broken {
    /// The same, seen from outside of a field or of an item (`[0]`).
    fn within(mut self, outer: &str) -> Self {
        let dot = if outer.is_empty() || self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{outer}{dot}{}", self.path);
        self
    }
}

impl From<Flaw> for Broken {
    fn from(flaw: Flaw) -> Self {
        Broken { path: String::new(), flaw }
    }
}
