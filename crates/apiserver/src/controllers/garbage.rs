//! Objects whose owners are gone go too (<https://kubernetes.io/docs/concepts/architecture/garbage-collection/>).

use std::sync::Arc;

use serde_json::{Value, json};

use super::write::{Write, owner_references};
use crate::object::{self, str_at};
use crate::resources::Gvr;
use crate::store::{DeleteOptions, Propagation};

/// The finalizer that holds an object until its dependents are gone.
const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer that holds an object until its dependents have forgotten it.
const ORPHAN: &str = "orphan";

/// How things stand with one owner of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    Present,
    /// It is being deleted and waits until its dependents are gone.
    Waiting,
    Gone,
}

impl Owner {
    pub(super) fn of(owner: Option<&Value>) -> Self {
        match owner {
            None => Owner::Gone,
            Some(owner) if waits_for_dependents(owner) => Owner::Waiting,
            Some(_) => Owner::Present,
        }
    }
}

/// The writes for an object, with how its owners are and which objects name it as theirs.
pub(super) fn reconcile(
    gvr: &Gvr,
    object: &Value,
    owner: impl Fn(&Value) -> Owner,
    dependents: &[(Gvr, Arc<Value>)],
) -> Vec<Write> {
    if object::is_terminating(object) {
        let finalizers = object::finalizers(object);
        if finalizers.contains(&ORPHAN) {
            let uid = object::uid(object);
            let forget = |reference: &Value| str_at(reference, &["uid"]) != uid;
            let forgotten = dependents.iter().map(|(gvr, dependent)| keep_owners(gvr, dependent, forget));
            return forgotten.chain([without_finalizer(gvr, object, ORPHAN)]).collect();
        }
        if finalizers.contains(&FOREGROUND) && !dependents.iter().any(|(_, dependent)| blocks(dependent, object)) {
            return vec![without_finalizer(gvr, object, FOREGROUND)];
        }
        return Vec::new();
    }
    let references = owner_references(object);
    let count = |state| references.iter().filter(|reference| owner(reference) == state).count();
    let (present, waiting) = (count(Owner::Present), count(Owner::Waiting));
    if references.is_empty() || present == references.len() {
        return Vec::new();
    }
    if present > 0 {
        return vec![keep_owners(gvr, object, |reference| owner(reference) == Owner::Present)];
    }
    let propagation = (waiting > 0 && !dependents.is_empty()).then_some(Propagation::Foreground);
    vec![Write::Delete(gvr.clone(), object.clone(), DeleteOptions { propagation, ..DeleteOptions::default() })]
}

/// Whether the object is being deleted and waits until its dependents are gone.
pub(super) fn waits_for_dependents(object: &Value) -> bool {
    object::is_terminating(object) && object::finalizers(object).contains(&FOREGROUND)
}

/// Whether the dependent holds up its owner's deletion.
fn blocks(dependent: &Value, owner: &Value) -> bool {
    owner_references(dependent).iter().any(|reference| {
        str_at(reference, &["uid"]) == object::uid(owner)
            && reference.get("blockOwnerDeletion") == Some(&Value::Bool(true))
    })
}

fn keep_owners(gvr: &Gvr, object: &Value, keep: impl Fn(&Value) -> bool) -> Write {
    let mut object = object.clone();
    let kept: Vec<Value> = owner_references(&object).iter().filter(|reference| keep(reference)).cloned().collect();
    object::set_meta(&mut object, "ownerReferences", if kept.is_empty() { Value::Null } else { kept.into() });
    Write::Update(gvr.clone(), object)
}

fn without_finalizer(gvr: &Gvr, object: &Value, finalizer: &str) -> Write {
    let mut object = object.clone();
    let left: Vec<Value> =
        object::finalizers(&object).into_iter().filter(|name| *name != finalizer).map(|name| json!(name)).collect();
    object::set_meta(&mut object, "finalizers", if left.is_empty() { Value::Null } else { left.into() });
    Write::Update(gvr.clone(), object)
}
