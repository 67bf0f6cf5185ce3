//! The entry point for fuzzing: bytes in, a schema compiled, an object checked with it.

use serde_json::{Value, json};

use super::Registry;

/// Reads two JSON documents (the schema of a custom resource's `spec` and an object, one after the other) from `bytes`,
/// and does with the object all that a schema is for.
///
/// A cargo-fuzz target is `fuzz_target!(|data: &[u8]| tombolo_apiserver::schema::fuzz(data));`.
pub fn fuzz(bytes: &[u8]) {
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let (Some(Ok(schema)), Some(Ok(mut object))) = (documents.next(), documents.next()) else { return };
    let crd = json!({
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"plural": "things", "kind": "Thing"},
            "versions": [{
                "name": "v1",
                "served": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": schema}}},
            }],
        },
    });
    let mut registry = Registry::builtin();
    let _ = registry.add_crd(&crd);
    for kind in [("example.com", "v1", "Thing"), ("", "v1", "Pod"), ("", "v1", "Service")] {
        let _ = registry.decode_error(kind, &object);
        let old = object.clone();
        registry.default_and_prune(kind, &mut object);
        let _ = registry.validate_update(kind, &object, Some(&old));
    }
}
