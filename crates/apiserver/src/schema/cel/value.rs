//! Values of the language.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Map, Value};

/// A value. Objects of the resource are not copied.
#[derive(Debug, Clone)]
pub(super) enum Val<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Str(Cow<'a, str>),
    Bytes(Vec<u8>),
    List(Vec<Val<'a>>),
    Map(Vec<(Val<'a>, Val<'a>)>),
    Object(&'a Map<String, Value>),
    Ip(IpAddr),
    Cidr(IpNet),
    Url(http::Uri),
    Optional(Option<Box<Val<'a>>>),
}

impl<'a> Val<'a> {
    pub(super) fn from_json(value: &'a Value) -> Self {
        match value {
            Value::Null => Val::Null,
            Value::Bool(b) => Val::Bool(*b),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(number), _) => Val::Int(number),
                (_, Some(number)) => Val::Uint(number),
                _ => Val::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Val::Str(Cow::Borrowed(text)),
            Value::Array(items) => Val::List(items.iter().map(Val::from_json).collect()),
            Value::Object(map) => Val::Object(map),
        }
    }

    /// A field of an object, or an entry of a map.
    pub(super) fn field(&self, name: &str) -> Option<Val<'a>> {
        match self {
            Val::Object(map) => map.get(name).or_else(|| map.get(&unescape(name)?)).map(Val::from_json),
            Val::Map(entries) => {
                let entry = entries.iter().find(|(key, _)| matches!(key, Val::Str(key) if key == name));
                entry.map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }

    /// The name of the type, for errors.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Val::Null => "null_type",
            Val::Bool(_) => "bool",
            Val::Int(_) => "int",
            Val::Uint(_) => "uint",
            Val::Double(_) => "double",
            Val::Str(_) => "string",
            Val::Bytes(_) => "bytes",
            Val::List(_) => "list",
            Val::Map(_) | Val::Object(_) => "map",
            Val::Ip(_) => "net.IP",
            Val::Cidr(_) => "net.CIDR",
            Val::Url(_) => "kubernetes.URL",
            Val::Optional(_) => "optional_type",
        }
    }

    /// The keys of a map or the items of a list: what macros go over.
    pub(super) fn elements(&self) -> Option<Vec<Val<'a>>> {
        match self {
            Val::List(items) => Some(items.clone()),
            Val::Map(entries) => Some(entries.iter().map(|(key, _)| key.clone()).collect()),
            Val::Object(map) => Some(map.iter().map(|(key, _)| Val::Str(Cow::Borrowed(key.as_str()))).collect()),
            _ => None,
        }
    }

    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
            (Val::Str(a), Val::Str(b)) => Some(a.cmp(b)),
            (Val::Bytes(a), Val::Bytes(b)) => Some(a.cmp(b)),
            _ => compare_numbers(self, other),
        }
    }

    fn entries(&self) -> Option<Vec<(Val<'a>, Val<'a>)>> {
        match self {
            Val::Map(entries) => Some(entries.clone()),
            Val::Object(map) => {
                let entries =
                    map.iter().map(|(key, value)| (Val::Str(Cow::Borrowed(key.as_str())), Val::from_json(value)));
                Some(entries.collect())
            }
            _ => None,
        }
    }
}

impl PartialEq for Val<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Val::Null, Val::Null) => true,
            (Val::Bool(a), Val::Bool(b)) => a == b,
            (Val::Str(a), Val::Str(b)) => a == b,
            (Val::Bytes(a), Val::Bytes(b)) => a == b,
            (Val::List(a), Val::List(b)) => a == b,
            (Val::Object(a), Val::Object(b)) => a == b,
            (Val::Ip(a), Val::Ip(b)) => a == b,
            (Val::Cidr(a), Val::Cidr(b)) => a == b,
            (Val::Url(a), Val::Url(b)) => a == b,
            (Val::Optional(a), Val::Optional(b)) => a == b,
            (Val::Map(_) | Val::Object(_), Val::Map(_) | Val::Object(_)) => match (self.entries(), other.entries()) {
                (Some(a), Some(b)) => a.len() == b.len() && a.iter().all(|entry| b.contains(entry)),
                _ => false,
            },
            _ => compare_numbers(self, other) == Some(Ordering::Equal),
        }
    }
}

fn compare_numbers(a: &Val<'_>, b: &Val<'_>) -> Option<Ordering> {
    let whole = |value: &Val<'_>| match value {
        Val::Int(number) => Some(i128::from(*number)),
        Val::Uint(number) => Some(i128::from(*number)),
        _ => None,
    };
    let double = |value: &Val<'_>| match value {
        Val::Double(number) => Some(*number),
        other => whole(other).map(|number| number as f64),
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => Some(a.cmp(&b)),
        _ => double(a)?.partial_cmp(&double(b)?),
    }
}

/// The name of a property that is no name of the language: `a__dash__b` is `a-b`, `__namespace__` is `namespace`.
fn unescape(name: &str) -> Option<String> {
    if !name.contains("__") {
        return None;
    }
    if let Some(keyword) = name.strip_prefix("__").and_then(|name| name.strip_suffix("__"))
        && keyword.chars().all(|c| c.is_ascii_lowercase())
        && !matches!(keyword, "underscores" | "dot" | "dash" | "slash")
    {
        return Some(keyword.to_owned());
    }
    let plain = name.replace("__dot__", ".").replace("__dash__", "-").replace("__slash__", "/");
    Some(plain.replace("__underscores__", "__"))
}
