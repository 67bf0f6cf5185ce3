//! Spreads endpoints over EndpointSlices with as few writes as possible.
//!
//! Endpoints that share an address type and ports share slices. An endpoint stays in the slice that it is in; new ones
//! fill slices that are being written anyway, then those with room, then new slices. A slice that has become empty is
//! given to another group before it is deleted, so that a Service's first slice keeps its name.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::index::SERVICE_NAME;
use super::write::{Write, list, random_name};
use crate::object;
use crate::resources::Gvr;

/// The label of an EndpointSlice that names the program that writes it.
pub(super) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// Endpoints that may share a slice.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    /// `IPv4` or `IPv6`.
    pub(super) address_type: &'static str,
    /// `ports` of the slice.
    pub(super) ports: Value,
    /// `endpoints` of the slices.
    pub(super) endpoints: Vec<Value>,
}

/// What all slices of one Service and manager have in common.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) namespace: String,
    pub(super) service: String,
    pub(super) manager: &'static str,
    pub(super) labels: Map<String, Value>,
    pub(super) annotations: Map<String, Value>,
    pub(super) owner: Value,
    /// The most endpoints in a slice.
    pub(super) capacity: usize,
}

/// The writes that turn the slices that there are into those of the groups. A group without endpoints gets one slice.
pub(super) fn reconcile(shape: &Shape, groups: Vec<Group>, existing: &[Arc<Value>]) -> Vec<Write> {
    let mut kept = Vec::new();
    let mut surplus: VecDeque<&Arc<Value>> = VecDeque::new();
    let mut unfilled: Vec<(Group, Vec<Value>)> = Vec::new();
    let mut by_group: HashMap<usize, Vec<&Arc<Value>>> = HashMap::new();
    for slice in existing.iter().filter(|slice| !object::is_terminating(slice)) {
        match groups.iter().position(|group| is_of(slice, group)) {
            Some(index) => by_group.entry(index).or_default().push(slice),
            None => surplus.push_back(slice),
        }
    }
    for (index, group) in groups.into_iter().enumerate() {
        let (filled, left) = fill(&group, by_group.remove(&index).unwrap_or_default(), shape.capacity);
        let nothing_to_hold = group.endpoints.is_empty();
        let mut placeholder = !nothing_to_hold;
        for (slice, endpoints) in filled {
            if endpoints.is_empty() && placeholder {
                surplus.push_back(slice);
            } else {
                placeholder = true;
                kept.push((slice, group.clone(), endpoints));
            }
        }
        let mut rest = left.chunks(shape.capacity).map(<[Value]>::to_vec).collect::<Vec<_>>();
        if nothing_to_hold && !placeholder {
            rest.push(Vec::new());
        }
        unfilled.extend(rest.into_iter().map(|endpoints| (group.clone(), endpoints)));
    }

    let mut writes = Vec::new();
    for (group, endpoints) in unfilled {
        // The address type of a slice cannot be changed.
        let reused = surplus.iter().position(|slice| slice["addressType"] == group.address_type);
        match reused.and_then(|index| surplus.remove(index)) {
            Some(slice) => kept.push((slice, group, endpoints)),
            None => writes.push(Write::Create(gvr(), new_slice(shape, &group, endpoints))),
        }
    }
    for (slice, group, endpoints) in kept {
        let wanted = updated(shape, slice, &group, endpoints);
        if wanted != **slice {
            writes.push(Write::Update(gvr(), wanted));
        }
    }
    writes.extend(surplus.into_iter().map(|slice| Write::delete(gvr(), slice)));
    writes
}

fn gvr() -> Gvr {
    Gvr::new("discovery.k8s.io", "v1", "endpointslices")
}

fn is_of(slice: &Value, group: &Group) -> bool {
    slice["addressType"] == group.address_type && list(slice, &["ports"]) == list(&group.ports, &[])
}

type Filled<'a> = Vec<(&'a Arc<Value>, Vec<Value>)>;

/// Puts a group's endpoints into its slices; what finds no room is left over.
fn fill<'a>(group: &Group, slices: Vec<&'a Arc<Value>>, capacity: usize) -> (Filled<'a>, Vec<Value>) {
    let wanted: HashMap<String, &Value> =
        group.endpoints.iter().map(|endpoint| (identity(endpoint), endpoint)).collect();
    let mut placed: HashMap<String, ()> = HashMap::new();
    let mut filled: Vec<(&Arc<Value>, Vec<Value>, bool)> = Vec::new();
    for slice in slices {
        let present = list(slice, &["endpoints"]);
        let mut endpoints = Vec::new();
        for endpoint in present {
            let id = identity(endpoint);
            if let Some(wanted) = wanted.get(&id)
                && placed.insert(id, ()).is_none()
            {
                endpoints.push((*wanted).clone());
            }
        }
        let changed = endpoints.as_slice() != present;
        filled.push((slice, endpoints, changed));
    }
    let mut left: VecDeque<Value> =
        group.endpoints.iter().filter(|endpoint| !placed.contains_key(&identity(endpoint))).cloned().collect();
    // Slices that are written anyway first.
    filled.sort_by_key(|(_, _, changed)| !changed);
    for (_, endpoints, _) in &mut filled {
        while endpoints.len() < capacity
            && let Some(endpoint) = left.pop_front()
        {
            endpoints.push(endpoint);
        }
    }
    (filled.into_iter().map(|(slice, endpoints, _)| (slice, endpoints)).collect(), left.into())
}

/// What makes an endpoint the same one although its conditions change.
fn identity(endpoint: &Value) -> String {
    let pod = object::str_at(endpoint, &["targetRef", "uid"]);
    format!("{} {pod}", endpoint["addresses"])
}

fn new_slice(shape: &Shape, group: &Group, endpoints: Vec<Value>) -> Value {
    let mut slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": random_name(&format!("{}-", shape.service)),
            "generateName": format!("{}-", shape.service),
            "namespace": shape.namespace,
            "generation": 1,
        },
        "addressType": group.address_type,
    });
    set_metadata(shape, &mut slice);
    slice["endpoints"] = endpoints.into();
    slice["ports"] = group.ports.clone();
    slice
}

fn updated(shape: &Shape, slice: &Value, group: &Group, endpoints: Vec<Value>) -> Value {
    let mut wanted = slice.clone();
    set_metadata(shape, &mut wanted);
    if list(slice, &["endpoints"]) != endpoints || list(slice, &["ports"]) != list(&group.ports, &[]) {
        wanted["endpoints"] = endpoints.into();
        wanted["ports"] = group.ports.clone();
        let generation = slice["metadata"]["generation"].as_i64().unwrap_or(0);
        object::set_meta(&mut wanted, "generation", json!(generation + 1));
    }
    wanted
}

fn set_metadata(shape: &Shape, slice: &mut Value) {
    let mut labels = shape.labels.clone();
    labels.insert(MANAGED_BY.into(), shape.manager.into());
    labels.insert(SERVICE_NAME.into(), shape.service.clone().into());
    object::set_meta(slice, "labels", labels.into());
    let annotations = if shape.annotations.is_empty() { Value::Null } else { shape.annotations.clone().into() };
    object::set_meta(slice, "annotations", annotations);
    object::set_meta(slice, "ownerReferences", json!([shape.owner]));
}
