//! New objects.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::Request;
use rand::Rng;
use serde_json::{Value, json};

use super::call::Call;
use super::update::with_warnings;
use crate::convert::to_stored;
use crate::status::{Cause, Status};
use crate::strategy;
use crate::{clock, object, patch};

/// The characters of a generated name: no vowels, so that no words come out.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// How often a generated name is tried.
const ATTEMPTS: usize = 8;

pub(super) async fn create(call: &Call, request: Request<Body>) -> Result<Response, Status> {
    let mut object = call.object(request).await?;
    let dry_run = call.query.dry_run()?;
    call.check_manager()?;
    let warnings = call.accept(&mut object)?;
    let manager = call.manager();
    let created = insert(call, object, dry_run, |object| {
        let schema = call.server.merge_schema(call.gvk());
        let version = call.resource.gvr.api_version();
        patch::track_update(None, object, &manager, None, &*schema, &clock::now(), &version);
    })?;
    Ok(with_warnings(call.present(201, &created)?, &warnings))
}

/// Makes a new object of one that was accepted: checks and completes it, and stores it. `record` notes down who set
/// what.
pub(super) fn insert(
    call: &Call,
    mut object: Value,
    dry_run: bool,
    record: impl Fn(&mut Value),
) -> Result<Arc<Value>, Status> {
    if !object::resource_version(&object).is_empty() {
        return Err(Status::new(500, "", "resourceVersion should not be set on objects to be created"));
    }
    let prefix = object::meta_str(&object, "generateName").to_owned();
    let generated = object::name(&object).is_empty() && !prefix.is_empty();
    for attempt in 1.. {
        if generated {
            object::set_meta(&mut object, "name", generate(&prefix).into());
        }
        match insert_named(call, object.clone(), dry_run, &record) {
            Err(status) if generated && status.reason == "AlreadyExists" && attempt < ATTEMPTS => continue,
            result => return result,
        }
    }
    Err(Status::internal("no name could be generated"))
}

fn insert_named(
    call: &Call,
    mut object: Value,
    dry_run: bool,
    record: &impl Fn(&mut Value),
) -> Result<Arc<Value>, Status> {
    let strategy = strategy::of(&call.resource);
    for field in
        ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"]
    {
        object::set_meta(&mut object, field, Value::Null);
    }
    if strategy.counts_generations() {
        object::set_meta(&mut object, "generation", json!(1));
    }
    strategy.prepare_create(&mut object);
    check_namespace(call, &object)?;
    let mut causes = strategy::validate_metadata(&call.resource, &object);
    causes.extend(call.schema_causes(&object));
    strategy.validate(&object, &mut causes);
    if !causes.is_empty() {
        return Err(call.invalid(object::name(&object), causes));
    }
    if call.resource.gvr.is("", "services") {
        let name = object::name(&object).to_owned();
        let claim = call.server.services.claim(None, &mut object).map_err(|causes| call.invalid(&name, causes))?;
        record(&mut object);
        let stored = call.server.store.create_with(&call.resource.storage, object, dry_run)?;
        if !dry_run {
            claim.keep();
        }
        return Ok(stored);
    }
    record(&mut object);
    let object = to_stored(&call.resource, object);
    let stored = call.server.store.create_with(&call.resource.storage, object, dry_run)?;
    if !dry_run {
        call.server.written(&call.resource, &stored);
    }
    Ok(stored)
}

/// 404 for a namespace that isn't there, 403 for one on its way out.
fn check_namespace(call: &Call, new: &Value) -> Result<(), Status> {
    if !call.resource.namespaced {
        return Ok(());
    }
    let name = call.namespace();
    let namespaces = crate::Gvr::new("", "v1", "namespaces");
    let Some(namespace) = call.server.store.get(&namespaces, "", name) else {
        return Err(Status::not_found("", "namespaces", name));
    };
    if !object::is_terminating(&namespace) {
        return Ok(());
    }
    let why = format!("unable to create new content in namespace {name} because it is being terminated");
    let mut status = Status::forbidden(call.group(), &call.resource.gvr.resource, object::name(new), &why);
    if let Some(details) = &mut status.details {
        let message = format!("namespace {name} is being terminated");
        details.causes.push(Cause::new("NamespaceTerminating", "metadata.namespace", message));
    }
    Err(status)
}

fn generate(prefix: &str) -> String {
    let mut rng = rand::rng();
    let mut name: String = prefix.chars().take(58).collect();
    name.extend((0..5).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])));
    name
}
