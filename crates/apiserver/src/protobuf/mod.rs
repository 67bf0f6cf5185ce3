//! Request bodies in Kubernetes' protobuf, read as JSON.
//!
//! client-go's typed clients (and with them `kubectl create configmap` and its like since 1.32) send built-in kinds in
//! protobuf and do not try again with JSON, so those are read; answers are always JSON, which these clients accept.
//!
//! The envelope is `k8s\0` and a `runtime.Unknown`
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>):
//!
//! ```text
//! 1 typeMeta { 1 apiVersion, 2 kind }   2 raw: the object   3 contentEncoding   4 contentType
//! ```
//!
//! The object is read by a table of fields. Go's generated code writes every field that is no pointer, list or map, set
//! or not; what Go's JSON leaves out when it is zero is left out here too, so that an object is the same whichever way
//! it came.

mod error;
mod fuzz;
mod message;
mod special;
mod table;
mod wire;

use serde_json::{Map, Value};

pub use error::{Error, Flaw};
pub use fuzz::fuzz;

use crate::resources::Gvk;
use wire::{Content, fields};

/// The media type.
pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

const MAGIC: &[u8] = b"k8s\0";

/// Reads a body: the object with its `kind` and `apiVersion`.
///
/// # Errors
/// Bodies in another format, of a kind that is not built in, or broken ones; with where and why.
pub fn decode(body: &[u8]) -> Result<Value, Error> {
    let envelope = envelope(body.strip_prefix(MAGIC).ok_or(Error::Prefix)?).map_err(|why| broken("Unknown", why))?;
    let text = |bytes| special::text(bytes).map_err(|why| broken("Unknown", why));
    let (api_version, kind) = (text(envelope.api_version)?, text(envelope.kind)?);
    if kind.is_empty() {
        return Err(Error::NoKind);
    }
    let (encoding, content_type) = (text(envelope.encoding)?, text(envelope.content_type)?);
    if !encoding.is_empty() || !matches!(content_type, "" | MEDIA_TYPE) {
        return Err(Error::Content { content_type: content_type.to_owned(), encoding: encoding.to_owned() });
    }
    let message = message_of(api_version, kind)?;
    let fields = message::decode(message, envelope.raw).map_err(|broken| Error::Broken {
        kind: kind.to_owned(),
        path: broken.path,
        why: broken.flaw,
    })?;
    let mut object = Map::new();
    object.insert("kind".to_owned(), kind.into());
    object.insert("apiVersion".to_owned(), api_version.into());
    object.extend(fields);
    let object = Value::Object(object);
    if deeper_than(&object, message::MAX_DEPTH) {
        return Err(broken(kind, Flaw::Depth(message::MAX_DEPTH)));
    }
    Ok(object)
}

/// What a `runtime.Unknown` says.
#[derive(Default)]
struct Envelope<'a> {
    api_version: &'a [u8],
    kind: &'a [u8],
    raw: &'a [u8],
    encoding: &'a [u8],
    content_type: &'a [u8],
}

fn envelope(bytes: &[u8]) -> Result<Envelope<'_>, Flaw> {
    let mut envelope = Envelope::default();
    let mut type_meta: &[u8] = &[];
    read(bytes, &mut [&mut type_meta, &mut envelope.raw, &mut envelope.encoding, &mut envelope.content_type])?;
    read(type_meta, &mut [&mut envelope.api_version, &mut envelope.kind])?;
    Ok(envelope)
}

/// Reads the fields 1, 2, … of a message, all of them bytes.
fn read<'a>(bytes: &'a [u8], wanted: &mut [&mut &'a [u8]]) -> Result<(), Flaw> {
    for field in fields(bytes) {
        let (number, content) = field.map_err(Flaw::from)?;
        let index = usize::try_from(number - 1).unwrap_or(usize::MAX);
        match (wanted.get_mut(index), content) {
            (Some(place), Content::Bytes(bytes)) => **place = bytes,
            (Some(_), _) => return Err(Flaw::WireType),
            (None, _) => {}
        }
    }
    Ok(())
}

/// The message of a kind. `DeleteOptions` are of every group.
fn message_of(api_version: &str, kind: &str) -> Result<&'static table::Fields, Error> {
    let gvk = Gvk::parse(api_version, kind);
    let package = match &*gvk.group {
        _ if kind == "DeleteOptions" => Some("meta"),
        "" => Some("core"),
        "apps" => Some("apps"),
        "autoscaling" => Some("autoscaling"),
        "policy" => Some("policy"),
        group => group.strip_suffix(".k8s.io").map(|group| group.strip_suffix(".authorization").unwrap_or(group)),
    };
    let known = |package: &str| table::names().any(|name| name.split('.').next() == Some(package));
    let Some(package) = package.filter(|package| known(package)) else {
        return Err(Error::NotBuiltin { api_version: api_version.to_owned(), kind: kind.to_owned() });
    };
    let message = table::message(&format!("{package}.{kind}"));
    let served = kind == "DeleteOptions" || &*gvk.version == "v1";
    let unknown = || Error::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() };
    message.filter(|_| served).ok_or_else(unknown)
}

fn broken(kind: &str, why: Flaw) -> Error {
    Error::Broken { kind: kind.to_owned(), path: String::new(), why }
}

fn deeper_than(value: &Value, levels: usize) -> bool {
    match value {
        Value::Object(map) => levels == 0 || map.values().any(|value| deeper_than(value, levels - 1)),
        Value::Array(list) => levels == 0 || list.iter().any(|value| deeper_than(value, levels - 1)),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
