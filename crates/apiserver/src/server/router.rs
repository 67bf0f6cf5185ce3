//! From a request to whom it is for.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, Request, header};
use serde_json::json;

use super::{Shared, discovery, documents};
use crate::authorize::Attributes;
use crate::http::{Query, Route, route};
use crate::rest::{self, User, json_response};
use crate::status::Status;

/// The Kubernetes version whose behaviour is followed.
const VERSION: (&str, &str) = ("1", "36");

/// Answers a request; failures are answers too.
pub(super) async fn answer(shared: &Arc<Shared>, request: Request<Body>) -> Response {
    let answer = async {
        let user = shared.auth.user(request.headers())?;
        respond(shared, user, request).await
    };
    answer.await.unwrap_or_else(failure)
}

/// Answers a request of a user who is known already.
pub(super) async fn answer_as(shared: &Arc<Shared>, user: User, request: Request<Body>) -> Response {
    respond(shared, Some(user), request).await.unwrap_or_else(failure)
}

async fn respond(shared: &Arc<Shared>, user: Option<User>, request: Request<Body>) -> Result<Response, Status> {
    let route = route(request.uri().path());
    match route {
        Route::Health => return health(request.method(), request.uri().path(), request.uri().query()),
        // Open to all, as a real one is by default, where nobody says otherwise.
        Route::Version if shared.authorizer.is_none() => return Ok(json_response(200, &version())),
        _ => {}
    }
    let Some(user) = user else { return Err(Status::unauthorized()) };
    let query = Query::parse(request.uri().query().unwrap_or(""))?;
    if let Some(authorizer) = &shared.authorizer {
        let watch = query.flag("watch");
        authorizer.authorize(&Attributes::new(&user, request.method(), request.uri().path(), &route, watch))?;
    }
    match route {
        Route::Resource(path) => rest::handle(shared, user, path, query, request).await,
        _ if !matches!(*request.method(), Method::GET | Method::HEAD) => Err(Status::method_not_allowed()),
        Route::Root => Ok(json_response(200, &discovery::root(shared))),
        Route::CoreVersions => Ok(discovery::core_versions(shared, request.headers())),
        Route::Groups => Ok(discovery::groups(shared, request.headers())),
        Route::Group(group) => discovery::group(shared, &group),
        Route::Resources(group, version) => discovery::resources(shared, &group, &version),
        Route::OpenApiV2 => documents::v2(shared, request.headers()),
        Route::OpenApiV3(path) => documents::v3(shared, &path),
        Route::Version => Ok(json_response(200, &version())),
        Route::Health | Route::Unknown => Err(Status::no_such_path()),
    }
}

fn failure(status: Status) -> Response {
    let unauthorized = status.code == 401;
    let retry = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    let mut response = status.into_response();
    if unauthorized {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if retry > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry));
    }
    response
}

fn health(method: &Method, path: &str, query: Option<&str>) -> Result<Response, Status> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Status::method_not_allowed());
    }
    let name = path.trim_matches('/');
    if !matches!(name, "healthz" | "livez" | "readyz" | "healthz/ping" | "livez/ping" | "readyz/ping") {
        return Err(Status::no_such_path());
    }
    let verbose = query.is_some_and(|q| q.split('&').any(|p| p.split('=').next() == Some("verbose")));
    let text = if verbose { format!("[+]ping ok\n{name} check passed\n") } else { "ok".to_owned() };
    let mut response = Response::new(Body::from(text));
    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

fn version() -> serde_json::Value {
    let (major, minor) = VERSION;
    json!({
        "major": major,
        "minor": minor,
        "gitVersion": format!("v{major}.{minor}.0+tombolo.{}", env!("CARGO_PKG_VERSION")),
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": "linux/amd64",
    })
}
