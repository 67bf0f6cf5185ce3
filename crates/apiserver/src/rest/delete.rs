//! Deletion, of one object or of all that are selected.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::Request;
use serde_json::{Value, json};

use super::call::Call;
use super::present::{ListMeta, json_response};
use crate::http::{Query, decode, read};
use crate::object;
use crate::status::{Cause, Status};
use crate::store::{DeleteOptions, Deletion, Propagation};

/// The resources whose deletion is answered with the object rather than with a Status.
const ANSWERED_WITH_OBJECT: [&str; 3] = ["pods", "services", "serviceaccounts"];

pub(super) async fn delete(call: &Call, request: Request<Body>) -> Result<Response, Status> {
    let options = options(call, request).await?;
    if call.group().is_empty() && &*call.resource.gvr.resource == "namespaces" {
        protect(call)?;
    }
    let deletion = remove(call, call.namespace(), call.name(), &options)?;
    let with_object = call.group().is_empty() && ANSWERED_WITH_OBJECT.contains(&&*call.resource.gvr.resource);
    match &deletion {
        Deletion::Removed(object) if !with_object => Ok(json_response(200, &success(call, object))),
        deletion => call.present(200, deletion.object()),
    }
}

pub(super) async fn delete_collection(call: &Call, request: Request<Body>) -> Result<Response, Status> {
    let selection = call.list_options()?;
    let options = options(call, request).await?;
    let list = call.server.store.list(&call.resource.storage, call.path.namespace.as_deref());
    let mut deleted = Vec::new();
    for stored in list.items.iter().filter(|o| selection.matches(call, o)) {
        match remove(call, object::namespace(stored), object::name(stored), &options) {
            Ok(deletion) => deleted.push(deletion.object().clone()),
            // Somebody else was faster.
            Err(status) if status.reason == "NotFound" => {}
            Err(status) => return Err(status),
        }
    }
    let meta = ListMeta { revision: call.server.store.revision(), ..ListMeta::default() };
    call.present_list(&deleted, meta)
}

fn remove(call: &Call, namespace: &str, name: &str, options: &DeleteOptions) -> Result<Deletion, Status> {
    let storage = &call.resource.storage;
    let deletion = call.server.store.delete(storage, namespace, name, options).map_err(|mut status| {
        // The names are the storage's: the client's path may be another group's.
        if status.reason == "NotFound" {
            status = Status::not_found(call.group(), &call.resource.gvr.resource, name);
        }
        status
    })?;
    if let (Deletion::Removed(object), false) = (&deletion, options.dry_run) {
        call.server.removed(&call.resource, object);
    }
    Ok(deletion)
}

/// `metav1.DeleteOptions`, of the body, or of the query where there is none.
async fn options(call: &Call, request: Request<Body>) -> Result<DeleteOptions, Status> {
    let bytes = read(request.into_body()).await?;
    let body = if bytes.is_empty() { json!({}) } else { decode(&call.headers, &bytes)? };
    let precondition = |field: &str| body["preconditions"][field].as_str().map(str::to_owned);
    let refuse = |cause| Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", vec![cause]));
    let policy = match (body["propagationPolicy"].as_str(), call.query.get("propagationPolicy")) {
        (Some(policy), _) => policy,
        (None, policy) => policy,
    };
    let orphan = match &body["orphanDependents"] {
        Value::Bool(orphan) => Some(*orphan),
        _ if call.query.get("orphanDependents").is_empty() => None,
        _ => Some(call.query.flag("orphanDependents")),
    };
    let propagation = match (policy, orphan) {
        ("", None) => None,
        ("", Some(true)) => Some(Propagation::Orphan),
        ("", Some(false)) => Some(Propagation::Background),
        (_, Some(_)) => {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            return refuse(Cause::invalid("propagationPolicy", &policy.into(), detail));
        }
        ("Background", None) => Some(Propagation::Background),
        ("Foreground", None) => Some(Propagation::Foreground),
        ("Orphan", None) => Some(Propagation::Orphan),
        (other, None) => {
            let supported = ["Background", "Foreground", "Orphan"];
            return refuse(Cause::not_supported("propagationPolicy", &other.into(), &supported));
        }
    };
    let grace_period = match body["gracePeriodSeconds"].as_i64() {
        Some(seconds) => Some(seconds),
        None => grace_of_query(&call.query)?,
    };
    Ok(DeleteOptions {
        grace_period,
        propagation,
        uid: precondition("uid"),
        resource_version: precondition("resourceVersion"),
        dry_run: call.query.dry_run()? || body["dryRun"].as_array().is_some_and(|d| d.iter().any(|v| v == "All")),
    })
}

fn grace_of_query(query: &Query) -> Result<Option<i64>, Status> {
    Ok(query.number("gracePeriodSeconds")?.and_then(|seconds| i64::try_from(seconds).ok()))
}

/// 403 for the namespaces that a cluster can't be without.
fn protect(call: &Call) -> Result<(), Status> {
    match call.name() {
        "default" | "kube-system" | "kube-public" => {
            Err(Status::forbidden("", "namespaces", call.name(), "this namespace may not be deleted"))
        }
        _ => Ok(()),
    }
}

fn success(call: &Call, object: &Arc<Value>) -> Value {
    let mut details = json!({"name": object::name(object)});
    if !call.group().is_empty() {
        details["group"] = call.group().into();
    }
    details["kind"] = (&*call.resource.gvr.resource).into();
    details["uid"] = object::uid(object).into();
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
