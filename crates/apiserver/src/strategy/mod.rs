//! What each kind asks for beyond its schema: what a client can't set, what can't change, what must hold.

mod crd;
mod metadata;
mod names;
mod namespace;
mod node;
mod pod;
mod service;
mod simple;

use serde_json::Value;

use crate::status::Cause;
use crate::{Gvr, Resource};

pub(crate) use crd::CLEANUP;
pub(crate) use metadata::{validate_metadata, validate_metadata_update};
pub(crate) use names::NameRule;

/// What a kind asks for. The methods see objects as they are served, with their defaults.
pub(crate) trait Strategy: Sync {
    /// Whether `metadata.generation` is kept.
    fn counts_generations(&self) -> bool {
        false
    }

    /// Whether there is a status subresource that the object's own path doesn't write.
    fn has_status(&self) -> bool {
        false
    }

    /// Whether an update of what isn't there makes it.
    fn creates_on_update(&self) -> bool {
        false
    }

    /// Whether an update without a resource version is taken.
    fn updates_unconditionally(&self) -> bool {
        true
    }

    /// What names may look like.
    fn name_rule(&self) -> NameRule {
        NameRule::Subdomain
    }

    /// Completes a new object.
    fn prepare_create(&self, object: &mut Value) {
        if self.has_status() {
            remove(object, "status");
        }
    }

    /// Undoes what a write at this path may not change.
    fn prepare_update(&self, old: &Value, object: &mut Value, subresource: Option<&str>) {
        match subresource {
            Some("status") => {
                keep(old, object, "spec");
            }
            _ if self.has_status() => keep(old, object, "status"),
            _ => {}
        }
    }

    /// Whether the generation goes up: something besides metadata and status is another.
    fn content_changed(&self, old: &Value, object: &Value) -> bool {
        let content = |value: &Value| {
            let mut value = value.clone();
            for field in ["metadata", "status", "apiVersion", "kind"] {
                remove(&mut value, field);
            }
            value
        };
        content(old) != content(object)
    }

    /// What is wrong with an object.
    fn validate(&self, _object: &Value, _causes: &mut Vec<Cause>) {}

    /// What is wrong with the change.
    fn validate_update(&self, _old: &Value, _object: &Value, _subresource: Option<&str>, _causes: &mut Vec<Cause>) {}
}

/// The strategy of a resource.
pub(crate) fn of(resource: &Resource) -> &'static dyn Strategy {
    if let Some(custom) = &resource.custom {
        return if custom.status { &simple::CustomWithStatus } else { &simple::Custom };
    }
    let Gvr { group, resource, .. } = &resource.gvr;
    match (&**group, &**resource) {
        ("", "namespaces") => &namespace::Namespaces,
        ("", "nodes") => &node::Nodes,
        ("", "pods") => &pod::Pods,
        ("", "services") => &service::Services,
        ("", "secrets") => &simple::Secrets,
        ("", "endpoints") => &simple::Endpoints,
        ("", "configmaps") => &simple::ConfigMaps,
        ("", "events") | ("events.k8s.io", "events") => &simple::Events,
        ("apps", "deployments" | "daemonsets" | "replicasets") => &simple::Workloads,
        ("apiextensions.k8s.io", "customresourcedefinitions") => &crd::Definitions,
        ("coordination.k8s.io", "leases") => &simple::Leases,
        ("discovery.k8s.io", "endpointslices") => &simple::EndpointSlices,
        ("rbac.authorization.k8s.io", _) => &simple::Rbac,
        _ => &simple::Plain,
    }
}

fn remove(object: &mut Value, field: &str) {
    if let Some(map) = object.as_object_mut() {
        map.shift_remove(field);
    }
}

/// Takes a field back to what it was.
fn keep(old: &Value, object: &mut Value, field: &str) {
    match (old.get(field), object.as_object_mut()) {
        (Some(value), Some(map)) => {
            map.insert(field.to_owned(), value.clone());
        }
        (None, _) => remove(object, field),
        _ => {}
    }
}
