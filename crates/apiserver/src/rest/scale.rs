//! The scale subresource: how many replicas, and nothing else.

use axum::body::Body;
use axum::response::Response;
use http::{Method, Request};
use serde_json::{Value, json};

use super::call::Call;
use super::update::replace;
use crate::convert::to_served;
use crate::http::{PatchKind, decode, patch_kind, read};
use crate::selectors::LabelSelector;
use crate::status::{Cause, Status};
use crate::{clock, object, patch};

/// How often a write that names no version is tried when others write in between.
const ATTEMPTS: usize = 64;

/// Where a resource keeps its replicas.
struct Paths {
    wanted: Vec<String>,
    actual: Vec<String>,
    selector: Vec<String>,
}

pub(super) fn get(call: &Call) -> Result<Response, Status> {
    let object = to_served(&call.resource, &call.stored()?);
    Ok(call.write(200, &scale_of(&object, &paths(call))))
}

pub(super) async fn write(call: &Call, request: Request<Body>) -> Result<Response, Status> {
    let method = request.method().clone();
    let bytes = read(request.into_body()).await?;
    let dry_run = call.query.dry_run()?;
    let paths = paths(call);
    let schema = call.server.merge_schema(("autoscaling", "v1", "Scale"));
    let manager = call.manager();
    let own_schema = call.server.merge_schema(call.gvk());
    for _ in 0..ATTEMPTS {
        let current = to_served(&call.resource, &call.stored()?);
        let before = scale_of(&current, &paths);
        let after = if method == Method::PATCH {
            match patch_kind(&call.headers, &bytes)? {
                (PatchKind::Json, patch) => patch::json(&before, &patch)?,
                (PatchKind::Merge | PatchKind::Apply, patch) => patch::merge(&before, &patch)?,
                (PatchKind::Strategic, patch) => patch::strategic(&before, &patch, &*schema)?,
            }
        } else {
            decode(&call.headers, &bytes)?
        };
        let replicas = after["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            let detail = "must be greater than or equal to 0";
            let cause = Cause::invalid("spec.replicas", &json!(replicas), detail);
            return Err(Status::invalid("autoscaling", "Scale", call.name(), vec![cause]));
        }
        let version = object::resource_version(&after);
        let mut object = Value::clone(&current);
        set(&mut object, &paths.wanted, json!(replicas));
        if !version.is_empty() {
            object::set_meta(&mut object, "resourceVersion", version.into());
        }
        // The replicas are written to the object itself: the path's subresource only says how.
        let mut whole = call.clone();
        whole.path.subresource = None;
        let version_of = call.resource.gvr.api_version();
        let written = replace(&whole, &current, object, dry_run, |live, object| {
            patch::track_update(Some(live), object, &manager, Some("scale"), &*own_schema, &clock::now(), &version_of);
        });
        match written {
            Err(status) if status.reason == "Conflict" && (version.is_empty() || method == Method::PATCH) => continue,
            result => return Ok(call.write(200, &scale_of(&to_served(&call.resource, &result?), &paths))),
        }
    }
    Err(Status::modified(call.group(), &call.resource.gvr.resource, call.name()))
}

fn paths(call: &Call) -> Paths {
    let custom = call.resource.custom.as_ref().and_then(|c| c.scale.as_ref());
    let path = |field: &str, default: &str| {
        let text = custom.and_then(|s| s[field].as_str()).unwrap_or(if custom.is_some() { "" } else { default });
        text.split('.').filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    Paths {
        wanted: path("specReplicasPath", ".spec.replicas"),
        actual: path("statusReplicasPath", ".status.replicas"),
        selector: path("labelSelectorPath", ".spec.selector"),
    }
}

fn scale_of(object: &Value, paths: &Paths) -> Value {
    let number = |path: &[String]| at(object, path).and_then(Value::as_i64).unwrap_or(0);
    let selector = match at(object, &paths.selector) {
        Some(Value::String(text)) => text.clone(),
        Some(selector) => LabelSelector::from_object(selector).map(|s| s.to_string()).unwrap_or_default(),
        None => String::new(),
    };
    let metadata = &object["metadata"];
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": number(&paths.wanted)},
        "status": {"replicas": number(&paths.actual), "selector": selector},
    })
}

fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    if path.is_empty() {
        return None;
    }
    path.iter().try_fold(object, |value, field| value.get(field))
}

fn set(object: &mut Value, path: &[String], value: Value) {
    let mut place = object;
    for field in path {
        let Some(map) = place.as_object_mut() else { return };
        place = map.entry(field.clone()).or_insert_with(|| json!({}));
    }
    *place = value;
}
