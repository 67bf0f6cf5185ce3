//! JSON patch (RFC 6902).

use serde_json::Value;

use super::MAX_DEPTH;
use crate::status::Status;

/// The operations that one patch may have, as in kube-apiserver.
const MAX_OPERATIONS: usize = 10_000;

/// Applies a JSON patch.
///
/// 400 for what is no JSON patch, 413 for too many operations, 422 for a patch that does not fit the object.
pub fn json(doc: &Value, patch: &Value) -> Result<Value, Status> {
    let operations: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    if operations.0.len() > MAX_OPERATIONS {
        let message =
            format!("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}", operations.0.len());
        return Err(Status::new(413, "RequestEntityTooLarge", message));
    }

    let mut doc = doc.clone();
    json_patch::patch(&mut doc, &operations).map_err(|_| unfit())?;
    // "copy" doubles what it is given, so that a short patch could nest an object without bound.
    if depth_exceeds(&doc, MAX_DEPTH) || !doc.is_object() {
        return Err(unfit());
    }
    Ok(doc)
}

fn unfit() -> Status {
    Status::new(422, "Invalid", "the server rejected our request due to an error in our request")
        .with_details(crate::status::Details::default())
}

fn depth_exceeds(value: &Value, left: usize) -> bool {
    match value {
        Value::Object(map) => left == 0 || map.values().any(|v| depth_exceeds(v, left - 1)),
        Value::Array(list) => left == 0 || list.iter().any(|v| depth_exceeds(v, left - 1)),
        _ => false,
    }
}
