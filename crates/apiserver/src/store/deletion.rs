//! What stands between a request to delete an object and its end.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::resources::Gvr;
use crate::status::Status;
use crate::{clock, object};

/// The finalizer that holds an object until its dependents are gone.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer that holds an object until its dependents have forgotten it.
pub const ORPHAN: &str = "orphan";

/// What becomes of the objects that name the deleted one as their owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// They are deleted afterwards.
    Background,
    /// They are deleted first.
    Foreground,
    /// They stay.
    Orphan,
}

/// `metav1.DeleteOptions`.
#[derive(Debug, Clone, Default)]
pub struct DeleteOptions {
    /// Seconds that the object is given to end; `None` for the kind's default.
    pub grace_period: Option<i64>,
    /// What becomes of dependents; `None` for what the object's finalizers say.
    pub propagation: Option<Propagation>,
    /// The UID that the object must have.
    pub uid: Option<String>,
    /// The resource version that the object must have.
    pub resource_version: Option<String>,
    /// Only say what would be.
    pub dry_run: bool,
}

/// How far a deletion got.
#[derive(Debug, Clone)]
pub enum Deletion {
    /// The object is gone; this is how it last was.
    Removed(Arc<Value>),
    /// The object is on its way out.
    Marked(Arc<Value>),
}

pub(super) enum Plan {
    Nothing,
    Mark(Value),
    Remove(Value),
}

impl Deletion {
    /// The object, gone or not.
    pub fn object(&self) -> &Arc<Value> {
        match self {
            Deletion::Removed(object) | Deletion::Marked(object) => object,
        }
    }
}

impl DeleteOptions {
    /// Deletion in the background without delay.
    pub fn now() -> Self {
        DeleteOptions { grace_period: Some(0), ..DeleteOptions::default() }
    }

    pub(super) fn check(&self, gvr: &Gvr, object: &Value) -> Result<(), Status> {
        let conflict = |what: &str, wanted: &str, found: &str| {
            let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
            Status::conflict(&gvr.group, &gvr.resource, object::name(object), &why)
        };
        match (&self.uid, &self.resource_version) {
            (Some(uid), _) if uid != object::uid(object) => Err(conflict("UID", uid, object::uid(object))),
            (_, Some(version)) if version != object::resource_version(object) => {
                Err(conflict("ResourceVersion", version, object::resource_version(object)))
            }
            _ => Ok(()),
        }
    }
}

/// Whether an object whose deletion was asked for has nothing left that holds it.
pub(super) fn is_finished(gvr: &Gvr, object: &Value) -> bool {
    object::is_terminating(object) && object::finalizers(object).is_empty() && !is_held(gvr, object)
}

pub(super) fn plan(gvr: &Gvr, current: &Value, options: &DeleteOptions) -> Plan {
    let mut object = current.clone();
    let propagated = propagate(&mut object, options.propagation);
    let grace = grace_period(gvr, current, options);
    if object::is_terminating(current) {
        let shorter = grace < current["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
        if shorter {
            object::set_meta(&mut object, "deletionGracePeriodSeconds", json!(grace));
        }
        return match is_finished(gvr, &object) {
            true => Plan::Remove(object),
            false if shorter || propagated => Plan::Mark(object),
            false => Plan::Nothing,
        };
    }
    let deadline = time::OffsetDateTime::now_utc() + time::Duration::seconds(grace);
    let generation = object["metadata"]["generation"].as_i64();
    object::set_meta(&mut object, "deletionTimestamp", json!(clock::format_seconds(deadline)));
    object::set_meta(&mut object, "deletionGracePeriodSeconds", json!(grace));
    if is_namespace(gvr) {
        object["status"]["phase"] = json!("Terminating");
    }
    if is_finished(gvr, &object) {
        let mut last = current.clone();
        if gvr.is("", "pods") {
            last = object;
        }
        return Plan::Remove(last);
    }
    if let Some(generation) = generation {
        object::set_meta(&mut object, "generation", json!(generation + 1));
    }
    Plan::Mark(object)
}

/// What holds an object besides its finalizers: for a namespace what `spec.finalizers` stand for, for a pod the node
/// that still runs it.
fn is_held(gvr: &Gvr, object: &Value) -> bool {
    if is_namespace(gvr) {
        return object::at(object, &["spec", "finalizers"]).and_then(Value::as_array).is_some_and(|f| !f.is_empty());
    }
    gvr.is("", "pods") && object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0) > 0
}

fn is_namespace(gvr: &Gvr) -> bool {
    gvr.is("", "namespaces")
}

/// Sets the finalizers that stand for a propagation; says whether that changed anything.
fn propagate(object: &mut Value, propagation: Option<Propagation>) -> bool {
    let Some(propagation) = propagation else { return false };
    let before: Vec<String> = object::finalizers(object).into_iter().map(str::to_owned).collect();
    let mut after: Vec<String> = before.iter().filter(|f| *f != FOREGROUND && *f != ORPHAN).cloned().collect();
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => after.push(FOREGROUND.to_owned()),
        Propagation::Orphan => after.push(ORPHAN.to_owned()),
    }
    let changed = before != after;
    object::set_meta(object, "finalizers", if after.is_empty() { Value::Null } else { json!(after) });
    changed
}

fn grace_period(gvr: &Gvr, object: &Value, options: &DeleteOptions) -> i64 {
    if !gvr.is("", "pods") {
        return 0;
    }
    let ended = matches!(object::str_at(object, &["status", "phase"]), "Succeeded" | "Failed");
    if ended || object::str_at(object, &["spec", "nodeName"]).is_empty() {
        return 0;
    }
    let own = object::at(object, &["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64);
    options.grace_period.or(own).unwrap_or(30).max(0)
}
