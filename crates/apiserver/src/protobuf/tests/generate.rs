//! Objects by the table, as bytes and as JSON, written as Go's generated code writes them.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value, json};

use super::{field, number, varint};
use crate::protobuf::table::{self, Field, Kind, Shape};

/// An object of a kind: its bytes without the envelope, and its JSON.
pub(super) fn object(api_version: &str, kind: &str, seed: u64) -> (Vec<u8>, Value) {
    let package = api_version.split_once('/').map_or("core", |(group, _)| group.split('.').next().unwrap());
    let package = if kind == "DeleteOptions" { "meta" } else { package };
    let mut generator = Generator { rng: StdRng::seed_from_u64(seed), messages: 30 };
    let (bytes, fields) = generator.message(&format!("{package}.{kind}"));
    let mut object = json!({"kind": kind, "apiVersion": api_version});
    object.as_object_mut().unwrap().extend(fields);
    (bytes, object)
}

struct Generator {
    rng: StdRng,
    /// How many more messages there may be.
    messages: usize,
}

impl Generator {
    fn message(&mut self, name: &str) -> (Vec<u8>, Map<String, Value>) {
        let (mut bytes, mut object) = (Vec::new(), Map::new());
        let fields = table::message(name).unwrap_or_else(|| panic!("no {name} in the table"));
        let mut numbers: Vec<&u64> = fields.keys().collect();
        numbers.sort();
        for number in numbers {
            bytes.extend(self.field(*number, &fields[number], &mut object));
        }
        (bytes, object)
    }

    fn field(&mut self, number: u64, of: &Field, object: &mut Map<String, Value>) -> Vec<u8> {
        let (mut bytes, name) = (Vec::new(), of.name.to_owned());
        match (of.shape, of.kind) {
            (Shape::One, Kind::Message(message)) if name.is_empty() => {
                let (content, mut fields) = self.message(message);
                object.append(&mut fields);
                return field(number, &content);
            }
            (Shape::One, kind) => {
                if !of.omit_zero && !self.affords(kind) {
                    return bytes;
                }
                let (content, value) = self.value(number, kind);
                bytes.extend(content);
                let zero = [json!(null), json!(0), json!(""), json!(false)].contains(&value);
                if !(of.omit_zero && zero) {
                    object.insert(name, value);
                }
            }
            (Shape::List, kind) => {
                let mut list = Vec::new();
                for _ in 0..self.rng.random_range(0..3) {
                    if self.affords(kind) {
                        let (content, value) = self.value(number, kind);
                        bytes.extend(content);
                        list.push(value);
                    }
                }
                if !list.is_empty() {
                    object.insert(name, list.into());
                }
            }
            (Shape::Map, kind) => {
                let mut map = Map::new();
                for key in ["", "example.com/key"] {
                    if self.affords(kind) {
                        let (content, value) = self.value(2, kind);
                        bytes.extend(field(number, &[field(1, key.as_bytes()), content].concat()));
                        map.insert(key.to_owned(), value);
                    }
                }
                if !map.is_empty() {
                    object.insert(name, map.into());
                }
            }
        }
        bytes
    }

    /// Whether there shall be one more of a kind: messages get fewer, so that there is an end.
    fn affords(&mut self, kind: Kind) -> bool {
        let schema = matches!(kind, Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings);
        if !schema && !matches!(kind, Kind::Message(_)) {
            return self.rng.random();
        }
        let affords = self.messages > 0 && self.rng.random_ratio(2, 3);
        self.messages -= usize::from(affords);
        affords
    }

    /// A field with a value.
    fn value(&mut self, at: u64, kind: Kind) -> (Vec<u8>, Value) {
        let rng = &mut self.rng;
        let mut pick = |values: &[Value]| values.choose(rng).unwrap().clone();
        let integers = [0, 1, -1, 30080, i64::from(i32::MAX), i64::from(i32::MIN)].map(Value::from);
        match kind {
            Kind::String => {
                let text = pick(&["", "a", "naïve", "kubernetes.io/hostname"].map(Value::from));
                (field(at, text.as_str().unwrap().as_bytes()), text)
            }
            Kind::Bool => {
                let value: bool = rng.random();
                (number(at, value.into()), value.into())
            }
            Kind::Int32 => {
                let value = pick(&integers);
                (number(at, value.as_i64().unwrap()), value)
            }
            Kind::Int64 => {
                let value = pick(&[&integers[..], &[i64::MAX.into(), i64::MIN.into()]].concat());
                (number(at, value.as_i64().unwrap()), value)
            }
            Kind::Double => {
                let value = pick(&[0.0, 1.5, -2e100].map(Value::from));
                ([varint(at << 3 | 1), value.as_f64().unwrap().to_le_bytes().to_vec()].concat(), value)
            }
            Kind::Bytes => {
                let value = pick(&["", "hunter2"].map(Value::from));
                let encoded = if value == "" { "" } else { "aHVudGVyMg==" };
                (field(at, value.as_str().unwrap().as_bytes()), encoded.into())
            }
            Kind::Message(message) => {
                let (content, fields) = self.message(message);
                (field(at, &content), fields.into())
            }
            Kind::Time => match rng.random() {
                true => (field(at, &[number(1, 951_782_400), number(2, 5)].concat()), json!("2000-02-29T00:00:00Z")),
                false => (field(at, b""), Value::Null),
            },
            Kind::MicroTime => match rng.random() {
                true => {
                    let content = [number(1, 951_782_400), number(2, 7_999)].concat();
                    (field(at, &content), json!("2000-02-29T00:00:00.000007Z"))
                }
                false => (field(at, b""), Value::Null),
            },
            Kind::Quantity => {
                let value = pick(&["0", "250m", "1Gi"].map(Value::from));
                (field(at, &field(1, value.as_str().unwrap().as_bytes())), value)
            }
            Kind::IntOrString => match rng.random() {
                true => (field(at, &[number(1, 0), number(2, 80), field(3, b"")].concat()), json!(80)),
                false => (field(at, &[number(1, 1), number(2, 0), field(3, b"http")].concat()), json!("http")),
            },
            Kind::FieldsV1 | Kind::Json => {
                let value = pick(&[json!({"f:spec": {}}), json!([1, "a"]), json!("red")]);
                (field(at, &field(1, value.to_string().as_bytes())), value)
            }
            Kind::Strings => (field(at, &[field(1, b"a"), field(1, b"")].concat()), json!(["a", ""])),
            Kind::SchemaOrArray | Kind::SchemaOrBool | Kind::SchemaOrStrings => {
                let (content, value) = self.schema_or(kind);
                (field(at, &content), value)
            }
        }
    }

    fn schema_or(&mut self, kind: Kind) -> (Vec<u8>, Value) {
        let (schema, json) = self.message("apiextensions.JSONSchemaProps");
        match (self.rng.random(), kind) {
            (true, Kind::SchemaOrBool) => ([number(1, 1), field(2, &schema)].concat(), json.into()),
            (true, _) => (field(1, &schema), json.into()),
            (false, Kind::SchemaOrArray) => ([field(2, &schema), field(2, b"")].concat(), json!([json, {}])),
            (false, Kind::SchemaOrBool) => (number(1, 1), json!(true)),
            (false, _) => ([field(2, b"a"), field(2, b"b")].concat(), json!(["a", "b"])),
        }
    }
}
