//! Reading what a client sends.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use crate::protobuf;
use crate::status::Status;

/// The largest body that is read, in bytes: kube-apiserver's limit.
pub(crate) const LIMIT: usize = 3 << 20;

/// The media types of an object of any kind.
const TEXTS: [&str; 2] = ["application/json", "application/yaml"];

/// The kinds of patch, by content type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PatchKind {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// Reads a body to its end.
///
/// # Errors
/// 413 when it is longer than [`LIMIT`], 400 when the connection breaks.
pub(crate) async fn read(body: Body) -> Result<Bytes, Status> {
    match Limited::new(body, LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Status::request_too_large(LIMIT)),
        Err(error) => Err(Status::bad_request(format!("the request's body could not be read: {error}"))),
    }
}

/// Decodes an object, as the content type says (JSON when it says nothing).
///
/// # Errors
/// 415 for other types than JSON, YAML and the protobuf of a built-in kind, 400 for what is broken or no object.
pub(crate) fn decode(headers: &HeaderMap, bytes: &[u8]) -> Result<Value, Status> {
    let value = match content_type(headers) {
        "" | "application/json" | "text/json" => json(bytes)?,
        "application/yaml" | "text/yaml" | "application/x-yaml" => yaml(bytes)?,
        protobuf::MEDIA_TYPE => protobuf::decode(bytes).map_err(|error| match error {
            protobuf::Error::NotBuiltin { .. } => Status::unsupported_media_type(&TEXTS),
            error => Status::bad_request(error.to_string()),
        })?,
        _ => return Err(Status::unsupported_media_type(&[TEXTS[0], TEXTS[1], protobuf::MEDIA_TYPE])),
    };
    match value {
        Value::Object(_) => Ok(value),
        _ => Err(Status::bad_request("the body of the request is not an object")),
    }
}

/// Which patch a request carries, and the patch.
///
/// # Errors
/// 415 for other content types, 400 for what can't be read.
pub(crate) fn patch_kind(headers: &HeaderMap, bytes: &[u8]) -> Result<(PatchKind, Value), Status> {
    match content_type(headers) {
        "application/json-patch+json" => Ok((PatchKind::Json, json(bytes)?)),
        "application/merge-patch+json" => Ok((PatchKind::Merge, json(bytes)?)),
        "application/strategic-merge-patch+json" => Ok((PatchKind::Strategic, json(bytes)?)),
        "application/apply-patch+yaml" => Ok((PatchKind::Apply, yaml(bytes)?)),
        _ => Err(Status::unsupported_media_type(&[
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
            "application/apply-patch+yaml",
        ])),
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    let text = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    text.split(';').next().unwrap_or("").trim()
}

fn json(bytes: &[u8]) -> Result<Value, Status> {
    serde_json::from_slice(bytes).map_err(|error| Status::bad_request(format!("error decoding from json: {error}")))
}

/// YAML is a superset of JSON, and the JSON parser is the faster one of the two.
fn yaml(bytes: &[u8]) -> Result<Value, Status> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    serde_yaml_ng::from_slice(bytes)
        .map_err(|error| Status::bad_request(format!("error converting YAML to JSON: yaml: {error}")))
}
