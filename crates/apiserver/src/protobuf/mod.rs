//! Request bodies in Kubernetes' protobuf, read as JSON.
//!
//! client-go's typed clients (and with them `kubectl create configmap` and its like since 1.32) send protobuf without a
//! way back, so built-in kinds are read in it; answers are always JSON, which those clients take. The envelope is
//! `k8s\0` and a `runtime.Unknown`
//! (<https://kubernetes.io/docs/reference/using-api/api-concepts/#protobuf-encoding>).

mod message;
mod wire;

use serde_json::Value;

use crate::resources::Gvk;
use wire::{Field, fields};

const MAGIC: &[u8] = b"k8s\0";

/// Reads a body; `None` for what isn't in this format or is of a kind that isn't known in it.
pub(crate) fn decode(body: &[u8]) -> Option<Value> {
    let mut unknown = (None, None);
    for field in fields(body.strip_prefix(MAGIC)?) {
        match field? {
            (1, Field::Bytes(meta)) => unknown.0 = Some(meta),
            (2, Field::Bytes(raw)) => unknown.1 = Some(raw),
            _ => {}
        }
    }
    let (mut api_version, mut kind) = ("", "");
    for field in fields(unknown.0?) {
        match field? {
            (1, Field::Bytes(text)) => api_version = std::str::from_utf8(text).ok()?,
            (2, Field::Bytes(text)) => kind = std::str::from_utf8(text).ok()?,
            _ => {}
        }
    }
    let gvk = Gvk::parse(api_version, kind);
    let package = match (&*gvk.group, kind) {
        (_, "DeleteOptions") => "meta",
        ("", _) => "core",
        (group, _) => group.split('.').next()?,
    };
    let mut object = message::decode(&format!("{package}.{kind}"), unknown.1.unwrap_or_default())?;
    let map = object.as_object_mut()?;
    map.shift_insert(0, "kind".to_owned(), kind.into());
    map.shift_insert(1, "apiVersion".to_owned(), api_version.into());
    Some(object)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A length-delimited field.
    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let mut field = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        field.extend_from_slice(content);
        field
    }

    fn body(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &meta), bytes(2, object)].concat()
    }

    #[test]
    fn a_config_map_is_read_without_the_fields_that_are_not_set() {
        let metadata = [bytes(1, b"a"), bytes(2, b""), bytes(3, b"default"), bytes(8, b"")].concat();
        let entry = [bytes(1, b"x"), bytes(2, b"y")].concat();
        let object = [bytes(1, &metadata), bytes(2, &entry)].concat();
        assert_eq!(
            decode(&body("v1", "ConfigMap", &object)).unwrap(),
            json!({
                "kind": "ConfigMap", "apiVersion": "v1",
                "metadata": {"name": "a", "namespace": "default", "creationTimestamp": null},
                "data": {"x": "y"},
            })
        );
    }

    #[test]
    fn a_pointer_to_zero_is_kept() {
        let spec = [vec![1 << 3, 0], vec![5 << 3, 0]].concat();
        let object = decode(&body("apps/v1", "Deployment", &bytes(2, &spec))).unwrap();
        assert_eq!(object["spec"]["replicas"], 0);
        assert_eq!(object["spec"].get("minReadySeconds"), None);
    }

    #[test]
    fn other_kinds_and_formats_are_not_read() {
        assert_eq!(decode(&body("v1", "Nothing", b"")), None);
        assert_eq!(decode(b"{}"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for kind in ["Pod", "Service", "Event"] {
                let _ = message::decode(&format!("core.{kind}"), &bytes);
            }
            let _ = decode(&[MAGIC, &bytes].concat());
        }
    }
}
