//! The verbs on objects: from a request that is understood to what the store does and the answer shows.

mod call;
mod create;
mod delete;
mod get;
mod list;
mod pages;
mod patch;
mod present;
mod reviews;
mod scale;
mod subresources;
mod update;
mod watch;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{Method, Request};

pub(crate) use call::Call;
pub use call::User;
pub(crate) use present::json_response;

use crate::http::{Query, ResourcePath};
use crate::server::Shared;
use crate::status::Status;
use crate::{Gvr, Resource};

/// Answers a request for objects.
pub(crate) async fn handle(
    server: &Arc<Shared>,
    user: User,
    path: ResourcePath,
    query: Query,
    request: Request<Body>,
) -> Result<Response, Status> {
    let resource = server.resources.get(&Gvr::new(&path.group, &path.version, &path.resource));
    let Some(resource) = resource.filter(|r| r.namespaced || path.namespace.is_none()) else {
        return Err(Status::no_such_path());
    };
    if path.subresource.is_some() {
        return subresource(server, user, resource, path, query, request).await;
    }
    let method = request.method().clone();
    let call = Call::new(server, user, resource, path, query, &request)?;
    call.check_verb(&method)?;
    if !call.resource.is_stored() {
        return reviews::review(&call, request).await;
    }
    match (method, call.path.name.is_some()) {
        (Method::GET | Method::HEAD, true) if call.path.watch || call.query.flag("watch") => watch::watch(&call),
        (Method::GET | Method::HEAD, true) => get::get(&call),
        (Method::GET | Method::HEAD, false) => list::list(&call),
        (Method::POST, false) => create::create(&call, request).await,
        (Method::PUT, true) => update::update(&call, request).await,
        (Method::PATCH, true) => patch::patch(&call, request).await,
        (Method::DELETE, true) => delete::delete(&call, request).await,
        (Method::DELETE, false) => delete::delete_collection(&call, request).await,
        _ => Err(Status::method_not_allowed()),
    }
}

async fn subresource(
    server: &Arc<Shared>,
    user: User,
    resource: Arc<Resource>,
    path: ResourcePath,
    query: Query,
    request: Request<Body>,
) -> Result<Response, Status> {
    let name = path.subresource.clone().unwrap_or_default();
    let Some(subresource) = resource.subresource(&name).cloned() else { return Err(Status::no_such_path()) };
    let call = Call::new(server, user, resource, path, query, &request)?;
    if matches!(name.as_str(), "exec" | "attach" | "log") {
        return subresources::stream(&call, request).await;
    }
    let method = request.method().clone();
    let verb = match method {
        Method::GET => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::POST => "create",
        _ => return Err(Status::method_not_allowed()),
    };
    if !subresource.verbs.contains(&verb) {
        return Err(Status::method_not_allowed());
    }
    match (name.as_str(), method) {
        ("scale", Method::GET) => scale::get(&call),
        ("scale", _) => scale::write(&call, request).await,
        ("status", Method::GET) => get::get(&call),
        ("status", Method::PUT) => update::update(&call, request).await,
        ("status", Method::PATCH) => patch::patch(&call, request).await,
        ("finalize", _) => subresources::finalize(&call, request).await,
        ("binding", _) => subresources::bind(&call, request).await,
        ("eviction", _) => subresources::evict(&call, request).await,
        ("token", _) => reviews::token_request(&call, request).await,
        _ => Err(Status::method_not_allowed()),
    }
}
