//! Objects that take another's place.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, Request};
use serde_json::{Value, json};

use super::call::{Call, FieldValidation};
use super::create;
use crate::convert::{to_served, to_stored};
use crate::status::{Cause, Status};
use crate::strategy;
use crate::{clock, object, patch};

/// How often a write that names no version is tried when others write in between.
const ATTEMPTS: usize = 64;

pub(super) async fn update(call: &Call, request: Request<Body>) -> Result<Response, Status> {
    let mut object = call.object(request).await?;
    let dry_run = call.query.dry_run()?;
    call.check_manager()?;
    if object::name(&object).is_empty() {
        object::set_meta(&mut object, "name", call.name().into());
    }
    if object::name(&object) != call.name() {
        let (given, wanted) = (object::name(&object), call.name());
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({wanted})"
        )));
    }
    let warnings = call.accept(&mut object)?;
    let manager = call.manager();
    let record = |live: Option<&Value>, object: &mut Value| {
        let schema = call.server.merge_schema(call.gvk());
        let version = call.resource.gvr.api_version();
        let subresource = call.path.subresource.as_deref();
        patch::track_update(live, object, &manager, subresource, &*schema, &clock::now(), &version);
    };
    for _ in 0..ATTEMPTS {
        let current = match call.stored() {
            Ok(current) => to_served(&call.resource, &current),
            Err(_) if strategy::of(&call.resource).creates_on_update() && call.path.subresource.is_none() => {
                if !object::resource_version(&object).is_empty() {
                    return Err(call.not_found());
                }
                let created = create::insert(call, object, dry_run, |object| record(None, object))?;
                return Ok(with_warnings(call.present(201, &created)?, &warnings));
            }
            Err(status) => return Err(status),
        };
        let unconditional = object::resource_version(&object).is_empty();
        if unconditional && !strategy::of(&call.resource).updates_unconditionally() {
            let cause = Cause::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
            return Err(call.invalid(call.name(), vec![cause]));
        }
        let written = replace(call, &current, object.clone(), dry_run, |live, object| record(Some(live), object));
        match written {
            Err(status) if unconditional && status.reason == "Conflict" => continue,
            result => return Ok(with_warnings(call.present(200, &result?)?, &warnings)),
        }
    }
    Err(Status::modified(call.group(), &call.resource.gvr.resource, call.name()))
}

/// Puts an accepted object in the place of `current` (both as they are served): checks and completes it, and stores it.
/// 409 when `current` is no longer what is stored. `record` notes down who changed what.
pub(super) fn replace(
    call: &Call,
    current: &Value,
    mut object: Value,
    dry_run: bool,
    record: impl Fn(&Value, &mut Value),
) -> Result<Arc<Value>, Status> {
    let strategy = strategy::of(&call.resource);
    let (group, resource, name) = (call.group(), &*call.resource.gvr.resource, call.name());
    let version = object::resource_version(&object);
    if !version.is_empty() && version != object::resource_version(current) {
        return Err(Status::modified(group, resource, name));
    }
    let uid = object::uid(&object);
    if !uid.is_empty() && uid != object::uid(current) {
        let found = object::uid(current);
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}");
        return Err(Status::conflict(group, resource, name, &why));
    }
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "selfLink",
        "resourceVersion",
    ] {
        object::set_meta(&mut object, field, current["metadata"].get(field).cloned().unwrap_or(Value::Null));
    }
    if object["metadata"].get("generateName").is_none()
        && let Some(prefix) = current["metadata"].get("generateName")
    {
        object::set_meta(&mut object, "generateName", prefix.clone());
    }
    strategy.prepare_update(current, &mut object, call.path.subresource.as_deref());
    if strategy.counts_generations() && strategy.content_changed(current, &object) {
        let generation = current["metadata"]["generation"].as_i64().unwrap_or(0);
        object::set_meta(&mut object, "generation", json!(generation + 1));
    }
    let mut causes = strategy::validate_metadata(&call.resource, &object);
    causes.extend(strategy::validate_metadata_update(current, &object));
    causes.extend(call.schema_causes(&object));
    strategy.validate(&object, &mut causes);
    strategy.validate_update(current, &object, call.path.subresource.as_deref(), &mut causes);
    if !causes.is_empty() {
        return Err(call.invalid(name, causes));
    }
    if call.resource.gvr.is("", "services") {
        let claim =
            call.server.services.claim(Some(current), &mut object).map_err(|causes| call.invalid(name, causes))?;
        record(current, &mut object);
        let stored = call.server.store.update_with(&call.resource.storage, object, dry_run)?;
        if !dry_run {
            claim.keep();
        }
        return Ok(stored);
    }
    record(current, &mut object);
    let stored = call.server.store.update_with(&call.resource.storage, to_stored(&call.resource, object), dry_run)?;
    if !dry_run {
        call.server.written(&call.resource, &stored);
    }
    Ok(stored)
}

/// Adds `Warning` headers, as `kubectl` prints them.
pub(super) fn with_warnings(mut response: Response, warnings: &[String]) -> Response {
    for warning in warnings {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"").replace(['\n', '\r'], " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            response.headers_mut().append("Warning", value);
        }
    }
    response
}

impl Call {
    /// Brings an object that a client sent into the shape of its kind: types checked, defaults set, unknown fields
    /// taken out. Gives the warnings about them.
    pub(super) fn accept(&self, object: &mut Value) -> Result<Vec<String>, Status> {
        let registry = self.server.schema();
        if let Some(error) = registry.decode_error(self.gvk(), object) {
            return Err(Status::bad_request(error));
        }
        let unknown = registry.default_and_prune(self.gvk(), object);
        drop(registry);
        match self.field_validation()? {
            FieldValidation::Ignore => Ok(Vec::new()),
            FieldValidation::Warn => Ok(unknown),
            FieldValidation::Strict if unknown.is_empty() => Ok(unknown),
            FieldValidation::Strict => {
                Err(Status::bad_request(format!("strict decoding error: {}", unknown.join(", "))))
            }
        }
    }

    /// What the schema of the kind has against an object.
    pub(super) fn schema_causes(&self, object: &Value) -> Vec<Cause> {
        let errors = self.server.schema().validate(self.gvk(), object);
        errors.into_iter().map(Cause::from).collect()
    }

    /// The rules for `fieldManager`.
    pub(super) fn check_manager(&self) -> Result<(), Status> {
        let manager = self.query.get("fieldManager");
        if manager.chars().count() <= 128 && manager.chars().all(|c| !c.is_control()) {
            return Ok(());
        }
        let cause = Cause::invalid(
            "fieldManager",
            &manager.into(),
            "may not be more than 128 bytes, and should only contain printable characters",
        );
        Err(Status::invalid("meta.k8s.io", "CreateOptions", "", vec![cause]))
    }
}
