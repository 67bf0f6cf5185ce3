//! JSON patch (RFC 6902).

use json_patch::PatchOperation;
use serde_json::Value;

use super::MAX_DEPTH;
use crate::status::{Details, Status};

/// The operations that one patch may have, as in kube-apiserver.
const MAX_OPERATIONS: usize = 10_000;
/// What the copies of one patch may add up to, in bytes, as in kube-apiserver: copies of copies double.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Applies a JSON patch.
///
/// 400 for what is no JSON patch, 413 for too many operations or copies, 422 for a patch that does not fit the object.
pub fn json(doc: &Value, patch: &Value) -> Result<Value, Status> {
    let operations: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|error| Status::bad_request(format!("error decoding patch: {error}")))?;
    if operations.0.len() > MAX_OPERATIONS {
        let count = operations.0.len();
        return Err(too_large(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
        )));
    }

    let mut doc = doc.clone();
    let mut copied = 0;
    for operation in &operations.0 {
        let (path, value) = match operation {
            PatchOperation::Add(add) => (&add.path, Some(&add.value)),
            PatchOperation::Replace(replace) => (&replace.path, Some(&replace.value)),
            PatchOperation::Move(r#move) => (&r#move.path, doc.pointer(r#move.from.as_str())),
            PatchOperation::Copy(copy) => {
                let value = doc.pointer(copy.from.as_str());
                copied += value.map_or(0, |value| value.to_string().len());
                (&copy.path, value)
            }
            PatchOperation::Remove(remove) => (&remove.path, None),
            PatchOperation::Test(test) => (&test.path, None),
        };
        if copied > MAX_COPIED {
            return Err(too_large(format!(
                "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
            )));
        }
        let above = path.as_str().matches('/').count();
        if above > MAX_DEPTH || value.is_some_and(|value| depth_exceeds(value, MAX_DEPTH - above)) {
            return Err(unfit());
        }
        json_patch::patch(&mut doc, std::slice::from_ref(operation)).map_err(|_| unfit())?;
    }
    if doc.is_object() { Ok(doc) } else { Err(unfit()) }
}

fn unfit() -> Status {
    Status::new(422, "Invalid", "the server rejected our request due to an error in our request")
        .with_details(Details::default())
}

fn too_large(why: String) -> Status {
    Status::new(413, "RequestEntityTooLarge", format!("Request entity too large: {why}"))
}

fn depth_exceeds(value: &Value, left: usize) -> bool {
    match value {
        Value::Object(map) => left == 0 || map.values().any(|v| depth_exceeds(v, left - 1)),
        Value::Array(list) => left == 0 || list.iter().any(|v| depth_exceeds(v, left - 1)),
        _ => false,
    }
}
