//! Between the version that is stored and the versions that are served.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::Resource;
use crate::object;

/// The fields of an Event that have other names in `events.k8s.io/v1` than in `v1`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// A stored object as the resource serves it.
pub(crate) fn to_served(resource: &Resource, stored: &Arc<Value>) -> Arc<Value> {
    if is_event(resource) {
        return Arc::new(renamed(stored, resource, |name| rename(name, |(core, new)| (core, new))));
    }
    if resource.gvr == resource.storage || object::api_version(stored) == resource.gvr.api_version() {
        return stored.clone();
    }
    let mut served = Value::clone(stored);
    served["apiVersion"] = resource.gvr.api_version().into();
    Arc::new(served)
}

/// An object as the resource serves it, as it is stored.
pub(crate) fn to_stored(resource: &Resource, mut served: Value) -> Value {
    if is_event(resource) {
        let mut stored = renamed(&served, resource, |name| rename(name, |(core, new)| (new, core)));
        stored["apiVersion"] = resource.storage.api_version().into();
        return stored;
    }
    if resource.gvr != resource.storage {
        served["apiVersion"] = resource.storage.api_version().into();
    }
    served
}

fn is_event(resource: &Resource) -> bool {
    resource.gvr.is("events.k8s.io", "events")
}

fn rename(name: &str, order: fn((&'static str, &'static str)) -> (&'static str, &'static str)) -> Option<&'static str> {
    EVENT_FIELDS.into_iter().map(order).find(|(from, _)| *from == name).map(|(_, to)| to)
}

fn renamed(object: &Value, resource: &Resource, rename: impl Fn(&str) -> Option<&'static str>) -> Value {
    let mut result = Map::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        let name = rename(name).map_or_else(|| name.clone(), str::to_owned);
        result.insert(name, value.clone());
    }
    result.insert("apiVersion".to_owned(), resource.gvr.api_version().into());
    Value::Object(result)
}
