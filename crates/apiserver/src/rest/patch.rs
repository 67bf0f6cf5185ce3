//! Patches of the four kinds.

use axum::body::Body;
use axum::response::Response;
use http::Request;
use serde_json::Value;

use super::call::Call;
use super::create;
use super::update::{replace, with_warnings};
use crate::convert::to_served;
use crate::http::{PatchKind, patch_kind, read};
use crate::patch::{self, ApplyOptions};
use crate::status::{Cause, Status};
use crate::{clock, object};

/// How often a patch is made anew when others write in between.
const ATTEMPTS: usize = 64;

pub(super) async fn patch(call: &Call, request: Request<Body>) -> Result<Response, Status> {
    let bytes = read(request.into_body()).await?;
    let (kind, patch) = patch_kind(&call.headers, &bytes)?;
    let dry_run = call.query.dry_run()?;
    call.check_manager()?;
    if kind == PatchKind::Apply {
        return apply(call, patch, dry_run);
    }
    if call.query.flag("force") {
        let cause = Cause::forbidden("force", "may not be specified for non-apply patch");
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", vec![cause]));
    }
    let manager = call.manager();
    let schema = call.server.merge_schema(call.gvk());
    let version = call.resource.gvr.api_version();
    for _ in 0..ATTEMPTS {
        let current = to_served(&call.resource, &call.stored()?);
        let mut object = match kind {
            PatchKind::Json => patch::json(&current, &patch)?,
            PatchKind::Merge => patch::merge(&current, &patch)?,
            _ if call.resource.custom.is_some() => {
                return Err(Status::unsupported_media_type(&[
                    "application/json-patch+json",
                    "application/merge-patch+json",
                    "application/apply-patch+yaml",
                ]));
            }
            _ => patch::strategic(&current, &patch, &*schema)?,
        };
        let versioned = object::resource_version(&object) != object::resource_version(&current);
        check_identity(call, &current, &object)?;
        call.settle(&mut object)?;
        let warnings = call.accept(&mut object)?;
        let written = replace(call, &current, object, dry_run, |live, object| {
            let subresource = call.path.subresource.as_deref();
            patch::track_update(Some(live), object, &manager, subresource, &*schema, &clock::now(), &version);
        });
        match written {
            Err(status) if !versioned && status.reason == "Conflict" => continue,
            result => return Ok(with_warnings(call.present(200, &result?)?, &warnings)),
        }
    }
    Err(Status::modified(call.group(), &call.resource.gvr.resource, call.name()))
}

fn apply(call: &Call, mut applied: Value, dry_run: bool) -> Result<Response, Status> {
    if call.query.get("fieldManager").is_empty() {
        let cause = Cause::required("fieldManager", "is required for apply patch");
        return Err(Status::invalid("meta.k8s.io", "PatchOptions", "", vec![cause]));
    }
    if !applied.is_object() {
        return Err(Status::bad_request("error decoding YAML: the applied configuration is no object"));
    }
    if object::api_version(&applied).is_empty() || object::kind(&applied).is_empty() {
        return Err(Status::bad_request("invalid object type: /, Kind="));
    }
    call.settle(&mut applied)?;
    if !object::name(&applied).is_empty() && object::name(&applied) != call.name() {
        let (given, wanted) = (object::name(&applied), call.name());
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({wanted})"
        )));
    }
    object::set_meta(&mut applied, "name", call.name().into());
    let options = ApplyOptions {
        manager: call.query.get("fieldManager").to_owned(),
        force: call.query.flag("force"),
        subresource: call.path.subresource.clone(),
        time: clock::now(),
        api_version: call.resource.gvr.api_version(),
    };
    let schema = call.server.merge_schema(call.gvk());
    for _ in 0..ATTEMPTS {
        let current = match call.stored() {
            Ok(stored) => Some(to_served(&call.resource, &stored)),
            Err(status) if call.path.subresource.is_some() => return Err(status),
            Err(_) => None,
        };
        let mut object = patch::server_side_apply(current.as_deref(), &applied, &*schema, &options)?;
        call.settle(&mut object)?;
        let warnings = call.accept(&mut object)?;
        let result = match &current {
            None => create::insert(call, object, dry_run, |_| ()),
            Some(current) => replace(call, current, object, dry_run, |_, _| ()),
        };
        let code = if current.is_none() { 201 } else { 200 };
        match result {
            Err(status)
                if matches!(status.reason, "Conflict" | "AlreadyExists")
                    && object::resource_version(&applied).is_empty() =>
            {
                continue;
            }
            result => return Ok(with_warnings(call.present(code, &result?)?, &warnings)),
        }
    }
    Err(Status::modified(call.group(), &call.resource.gvr.resource, call.name()))
}

/// A patch changes an object; it makes no other one of it.
fn check_identity(call: &Call, current: &Value, patched: &Value) -> Result<(), Status> {
    let same = |field: &str| object::meta_str(current, field) == object::meta_str(patched, field);
    if !same("name") {
        return Err(Status::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            object::name(patched),
            call.name()
        )));
    }
    if !same("uid") {
        let cause = Cause::invalid("metadata.uid", &object::uid(patched).into(), "field is immutable");
        return Err(call.invalid(call.name(), vec![cause]));
    }
    Ok(())
}
