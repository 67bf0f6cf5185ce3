//! The OpenAPI documents.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};

use super::Shared;
use crate::http::lists;
use crate::rest::json_response;
use crate::status::Status;

/// What clients ask the v2 document in. The first name is no valid media type, which is why there is a second; clients
/// that ask for the first one expect the second.
const PROTOBUF: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
];

/// `/openapi/v2`
pub(super) fn v2(shared: &Shared, headers: &HeaderMap) -> Result<Response, Status> {
    if !PROTOBUF.iter().any(|mime| lists(headers, mime, &[])) {
        let document = shared.schema().openapi_v2();
        return Ok(json_response(200, &document));
    }
    let document = shared.schema().openapi_v2_protobuf();
    let mut response = Response::new(Body::from(document.to_vec()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(PROTOBUF[1]));
    Ok(response)
}

/// `/openapi/v3` and what is below it.
pub(super) fn v3(shared: &Shared, path: &str) -> Result<Response, Status> {
    let schema = shared.schema();
    if path.is_empty() {
        return Ok(json_response(200, &schema.openapi_v3_index()));
    }
    let document = schema.openapi_v3(path).ok_or_else(Status::no_such_path)?;
    Ok(json_response(200, &document))
}
