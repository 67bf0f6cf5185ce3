//! What can be done with an object besides reading and writing it.

use axum::body::Body;
use axum::response::Response;
use http::Request;
use serde_json::{Value, json};

use super::call::Call;
use super::present::json_response;
use crate::http::{decode, read};
use crate::status::{Cause, Status};
use crate::store::{DeleteOptions, Deletion};
use crate::{Gvr, clock, exec, object};

/// `namespaces/NAME/finalize`: what holds a namespace that is being deleted.
pub(super) async fn finalize(call: &Call, request: Request<Body>) -> Result<Response, Status> {
    let new = call.object(request).await?;
    let finalizers = new["spec"]["finalizers"].clone();
    let written = call.server.store.modify(&call.resource.storage, "", call.name(), |object| {
        let version = object::resource_version(&new);
        if !version.is_empty() && version != object::resource_version(object) {
            return Err(Status::modified("", "namespaces", call.name()));
        }
        match object::field_mut(object, "spec") {
            Some(spec) if finalizers.as_array().is_none_or(Vec::is_empty) => {
                spec.shift_remove("finalizers");
            }
            Some(spec) => {
                spec.insert("finalizers".into(), finalizers.clone());
            }
            None => {}
        }
        Ok(true)
    })?;
    call.present(200, &written)
}

/// `pods/NAME/binding`: puts a pod on a node.
pub(super) async fn bind(call: &Call, request: Request<Body>) -> Result<Response, Status> {
    let bytes = read(request.into_body()).await?;
    let binding = decode(&call.headers, &bytes)?;
    bind_to(call, call.name(), &binding)
}

/// The same by posting to `bindings`.
pub(super) fn bind_posted(call: &Call, binding: &Value) -> Result<Response, Status> {
    bind_to(call, object::name(binding), binding)
}

/// `pods/NAME/eviction`: a deletion that asks first. There are no PodDisruptionBudgets here, so the answer is yes.
pub(super) async fn evict(call: &Call, request: Request<Body>) -> Result<Response, Status> {
    let bytes = read(request.into_body()).await?;
    let eviction = decode(&call.headers, &bytes)?;
    let options = DeleteOptions {
        grace_period: eviction["deleteOptions"]["gracePeriodSeconds"].as_i64(),
        dry_run: call.query.dry_run()?,
        ..DeleteOptions::default()
    };
    let deletion = call.server.store.delete(&call.resource.storage, call.namespace(), call.name(), &options)?;
    if let (Deletion::Removed(object), false) = (&deletion, options.dry_run) {
        call.server.removed(&call.resource, object);
    }
    Ok(json_response(201, &success(201)))
}

fn bind_to(call: &Call, pod: &str, binding: &Value) -> Result<Response, Status> {
    let node = object::str_at(binding, &["target", "name"]).to_owned();
    if node.is_empty() {
        let cause = Cause::required("target.name", "");
        return Err(Status::invalid("", "Binding", pod, vec![cause]));
    }
    let pods = Gvr::new("", "v1", "pods");
    if call.query.dry_run()? {
        return Ok(json_response(201, &success(201)));
    }
    call.server.store.modify(&pods, call.namespace(), pod, |object| {
        let present = object::str_at(object, &["spec", "nodeName"]);
        if !present.is_empty() {
            let why = format!("pod {pod} is already assigned to node {present:?}");
            return Err(Status::conflict("", "pods/binding", pod, &why));
        }
        object["spec"]["nodeName"] = node.as_str().into();
        let scheduled = json!({
            "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": clock::now(),
        });
        match object["status"]["conditions"].as_array_mut() {
            Some(conditions) => {
                conditions.retain(|c| c["type"] != "PodScheduled");
                conditions.push(scheduled);
            }
            None => object["status"]["conditions"] = json!([scheduled]),
        }
        Ok(true)
    })?;
    Ok(json_response(201, &success(201)))
}

fn success(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code})
}

/// `exec`, `attach` and `log`: what the pod runtime answers.
pub(super) async fn stream(call: &Call, request: Request<Body>) -> Result<Response, Status> {
    let pod = call.stored()?;
    let Some(runtime) = call.server.runtime.clone() else {
        let message = "this API server has no pod runtime: nothing here runs the containers of pods";
        return Err(Status::new(503, "ServiceUnavailable", message));
    };
    Ok(match call.path.subresource.as_deref() {
        Some("exec") => exec::handle(request, pod, runtime).await,
        Some("attach") => exec::attach(request, pod, runtime).await,
        _ => exec::logs(request.uri().query().unwrap_or_default(), pod, runtime).await,
    })
}
