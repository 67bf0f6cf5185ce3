//! Why a value doesn't decode into one of Kubernetes' own types, in the words of Go's JSON decoder.

use serde_json::Value;

use super::compiled::KindSchema;
use super::formats;
use super::merge::TypeId;
use super::node::{Additional, Kind, Node};
use super::validate::push_field;

/// The first thing that doesn't decode. Of a custom resource only the metadata is decoded into a type of Kubernetes'.
pub(crate) fn error(schema: &KindSchema, object: &Value) -> Option<String> {
    let mut walk = Walk { schema, path: String::new() };
    if schema.builtin {
        return walk.value(schema.root, object, "");
    }
    let metadata = schema.node(schema.root)?.fields.get("metadata")?;
    walk.path.push_str("metadata");
    walk.value(metadata.ty, object.get("metadata")?, "")
}

struct Walk<'a> {
    schema: &'a KindSchema,
    path: String,
}

impl Walk<'_> {
    /// `inside` is the struct that the value is in.
    fn value(&mut self, ty: TypeId, value: &Value, inside: &str) -> Option<String> {
        let node = self.schema.node(ty)?;
        if value.is_null() {
            return None;
        }
        if let Some(error) = self.mismatch(node, value, inside) {
            return Some(error);
        }
        match value {
            Value::Object(map) => {
                let inside = node.definition.as_deref().map_or(inside, short);
                for (name, value) in map {
                    let field = match (node.fields.get(name), node.additional) {
                        (Some(field), _) => field.ty,
                        (None, Additional::Schema(ty)) => ty,
                        (None, Additional::None) => continue,
                    };
                    let length = self.path.len();
                    push_field(&mut self.path, name);
                    let error = self.value(field, value, inside);
                    self.path.truncate(length);
                    if error.is_some() {
                        return error;
                    }
                }
                None
            }
            Value::Array(items) => items.iter().find_map(|item| self.value(node.items, item, inside)),
            _ => None,
        }
    }

    fn mismatch(&self, node: &Node, value: &Value, inside: &str) -> Option<String> {
        if node.format.as_deref() == Some("quantity") {
            return quantity_error(value);
        }
        if node.int_or_string {
            return match value {
                Value::String(_) => None,
                value if value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => None,
                value => Some(self.unmarshal(value, inside, "int32")),
            };
        }
        match (node.kind, value) {
            (Kind::Any, _)
            | (Kind::Object, Value::Object(_))
            | (Kind::Array, Value::Array(_))
            | (Kind::Boolean, Value::Bool(_))
            | (Kind::Number, Value::Number(_)) => None,
            (Kind::Integer, Value::Number(_)) => {
                let format = node.format.as_deref().unwrap_or("int64");
                let fits = value.as_i64().is_some_and(|n| formats::integer_fits(format, i128::from(n)));
                (!fits).then(|| self.unmarshal(value, inside, format))
            }
            (Kind::String, Value::String(text)) => text_error(node.format.as_deref(), text),
            (_, value) => Some(self.unmarshal(value, inside, &self.go_type(node))),
        }
    }

    fn unmarshal(&self, value: &Value, inside: &str, go_type: &str) -> String {
        let found = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if go_type.starts_with("int") => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        if inside.is_empty() {
            return format!("json: cannot unmarshal {found} into Go value of type {go_type}");
        }
        format!("json: cannot unmarshal {found} into Go struct field {inside}.{} of type {go_type}", self.path)
    }

    fn go_type(&self, node: &Node) -> String {
        let of = |ty: TypeId| self.schema.node(ty).map_or("interface {}".to_owned(), |node| self.go_type(node));
        match node.kind {
            Kind::Any => "interface {}".to_owned(),
            Kind::String if matches!(node.format.as_deref(), Some("byte")) => "[]uint8".to_owned(),
            Kind::String => "string".to_owned(),
            Kind::Boolean => "bool".to_owned(),
            Kind::Number => "float64".to_owned(),
            Kind::Integer => node.format.as_deref().unwrap_or("int64").to_owned(),
            Kind::Array => format!("[]{}", of(node.items)),
            Kind::Object => match (&node.definition, node.additional) {
                (Some(definition), _) => format!("v1.{}", short(definition)),
                (None, Additional::Schema(ty)) => format!("map[string]{}", of(ty)),
                (None, Additional::None) => "map[string]interface {}".to_owned(),
            },
        }
    }
}

fn quantity_error(value: &Value) -> Option<String> {
    let pattern = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$";
    let fits = match value {
        Value::Number(_) => true,
        Value::String(text) => formats::is_quantity(text),
        _ => false,
    };
    (!fits).then(|| format!("quantities must match the regular expression '{pattern}'"))
}

fn text_error(format: Option<&str>, text: &str) -> Option<String> {
    let format = format?;
    if formats::text_fits(format, text) {
        return None;
    }
    Some(match format {
        "byte" => "illegal base64 data at input byte 0".to_owned(),
        "date-time" => {
            format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\"")
        }
        _ => return None,
    })
}

fn short(definition: &str) -> &str {
    definition.rsplit('.').next().unwrap_or(definition)
}
