//! The entry point for fuzzing: bytes in, patches applied, laws checked.

use serde_json::Value;

use super::{ApplyOptions, json, merge, server_side_apply, strategic, track_update};
use crate::schema::{MergeSchema, Schemaless};

/// Reads two JSON documents (an object and a patch, one after the other) from `bytes` and applies the patch in every
/// way, with and without a schema. Panics where a law does not hold; anything else is fine.
///
/// A cargo-fuzz target is `fuzz_target!(|data: &[u8]| tombolo_apiserver::patch::fuzz(data));`.
pub fn fuzz(bytes: &[u8]) {
    let mut documents = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
    let (Some(Ok(doc)), Some(Ok(patch))) = (documents.next(), documents.next()) else { return };
    let _ = json(&doc, &patch);
    if let Ok(once) = merge(&doc, &patch) {
        assert_eq!(merge(&once, &patch).as_ref(), Ok(&once), "a merge patch applied twice is applied once");
    }
    let pod = crate::schema::Registry::builtin_schema(("", "v1", "Pod"));
    for schema in [Some(&Schemaless as &dyn MergeSchema), pod.as_deref()].into_iter().flatten() {
        let _ = strategic(&doc, &patch, schema);
        check_apply(&doc, &patch, schema);
    }
}

fn check_apply(doc: &Value, patch: &Value, schema: &dyn MergeSchema) {
    let opts = ApplyOptions {
        manager: "fuzz".to_owned(),
        force: true,
        subresource: None,
        time: "2024-01-01T00:00:00Z".to_owned(),
        api_version: patch.get("apiVersion").and_then(Value::as_str).unwrap_or("").to_owned(),
    };
    let Ok(once) = server_side_apply(Some(doc), patch, schema, &opts) else { return };
    let later = ApplyOptions { time: "2024-01-02T00:00:00Z".to_owned(), ..opts };
    if let Ok(twice) = server_side_apply(Some(&once), patch, schema, &later) {
        let mut tracked = twice.clone();
        track_update(Some(&once), &mut tracked, "other", None, schema, &later.time, &later.api_version);
    }
}
