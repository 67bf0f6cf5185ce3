//! The ways to change an object: JSON patch, merge patch, strategic merge patch and server-side apply, with the record
//! of who set which field.
//!
//! All of it is pure: an object and a patch in, an object or a [`Status`] out.

mod apply;
mod conflict;
mod diff;
mod fields;
mod fuzz;
mod json;
mod managers;
mod strategic;
mod typed;

use serde_json::{Map, Value};

pub use apply::{ApplyOptions, server_side_apply, track_update};
pub use fields::{FieldSet, PathElement};
pub use fuzz::fuzz;
pub use json::json;
pub use strategic::strategic;

use crate::status::Status;

/// The deepest that objects and patches may nest. What arrives over the wire nests at most 128 deep (serde_json's own
/// limit); this leaves room for what patches add.
const MAX_DEPTH: usize = 512;

/// Applies a merge patch (RFC 7386): objects merge, `null` removes, anything else replaces.
///
/// Fails when the patch is not an object, as a Kubernetes object cannot become anything else.
pub fn merge(doc: &Value, patch: &Value) -> Result<Value, Status> {
    if !patch.is_object() {
        return Err(Status::bad_request("error decoding patch: a merge patch is a JSON object"));
    }
    let mut doc = doc.clone();
    merge_into(&mut doc, patch);
    Ok(doc)
}

fn merge_into(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            target.shift_remove(key);
        } else {
            merge_into(target.entry(key.as_str()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests;
