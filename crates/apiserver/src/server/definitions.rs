//! CustomResourceDefinitions: what they define is served as soon as they are there, and no longer when they are gone.

use serde_json::{Value, json};

use super::Shared;
use crate::object;
use crate::resources::Gvr;
use crate::store::{DeleteOptions, Event, EventKind};
use crate::strategy::CLEANUP;

impl Shared {
    /// Serves what a definition defines.
    pub(crate) fn define(&self, crd: &Value) {
        if let Err(errors) = self.schema_mut().add_crd(crd) {
            // It was checked before it was stored; a store that is written to directly has itself to blame.
            let errors: Vec<String> = errors.iter().map(|e| format!("{}: {}", e.path, e.message)).collect();
            tracing::warn!(crd = object::name(crd), errors = errors.join("; "), "not served: its schema is broken");
            return;
        }
        self.resources.add_crd(crd);
    }

    fn undefine(&self, crd: &Value) {
        self.resources.remove_crd(object::name(crd));
        self.schema_mut().remove_crd(crd);
    }
}

/// Serves the definitions that the store holds.
pub(super) fn load(shared: &Shared) {
    for crd in shared.store.list(&definitions(), None).items {
        shared.define(&crd);
    }
}

/// Goes on with the deletions that a stop interrupted.
pub(super) fn resume(shared: &Shared) {
    for crd in shared.store.list(&definitions(), None).items {
        clean_up(shared, &crd);
    }
}

/// Follows one event: a definition's, or the last one of an object whose definition waits for it.
pub(super) fn handle(shared: &Shared, event: &Event) {
    if event.gvr.is("apiextensions.k8s.io", "customresourcedefinitions") {
        return follow(shared, event);
    }
    if event.kind == EventKind::Deleted && event.gvr.group.contains('.') {
        let name = format!("{}.{}", event.gvr.resource, event.gvr.group);
        if let Some(crd) = shared.store.get(&definitions(), "", &name) {
            clean_up(shared, &crd);
        }
    }
}

/// The present state counts, not the event's: the definition may have gone on since.
fn follow(shared: &Shared, event: &Event) {
    match shared.store.get(&event.gvr, "", object::name(&event.object)) {
        None => shared.undefine(&event.object),
        Some(crd) if object::is_terminating(&crd) => clean_up(shared, &crd),
        Some(_) if unchanged(event) => {}
        Some(crd) => shared.define(&crd),
    }
}

/// Whether an event says nothing new about what is defined.
fn unchanged(event: &Event) -> bool {
    event.previous.as_ref().is_some_and(|previous| previous["spec"] == event.object["spec"])
}

/// Deletes the objects of a definition that is on its way out, and lets it go when there are none left.
fn clean_up(shared: &Shared, crd: &Value) {
    if !object::is_terminating(crd) || !object::finalizers(crd).contains(&CLEANUP) {
        return;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let gvr = Gvr::new(&text(&crd["spec"]["group"]), "", &text(&crd["spec"]["names"]["plural"]));
    for item in shared.store.list(&gvr, None).items.iter().filter(|item| !object::is_terminating(item)) {
        // What is gone already is as it should be.
        let _ = shared.store.delete(&gvr, object::namespace(item), object::name(item), &DeleteOptions::now());
    }
    if shared.store.count(&gvr) > 0 {
        return;
    }
    let _ = shared.store.modify(&definitions(), "", object::name(crd), |crd| {
        let left: Vec<String> =
            object::finalizers(crd).into_iter().filter(|f| *f != CLEANUP).map(str::to_owned).collect();
        object::set_meta(crd, "finalizers", if left.is_empty() { Value::Null } else { json!(left) });
        Ok(true)
    });
}

fn definitions() -> Gvr {
    Gvr::new("apiextensions.k8s.io", "v1", "customresourcedefinitions")
}
