//! A hand-made Endpoints object of a Service without a selector: EndpointSlices that say the same, as the endpointslice
//! mirroring controller makes them.

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::service_slices::type_of;
use super::slices::{self, Group, Shape};
use super::write::{Write, controller_reference, list};
use crate::object::{self, str_at};

/// Who manages the slices that mirror Endpoints.
pub(super) const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";

/// The most endpoints in a slice, and the most that are mirrored of one subset.
const CAPACITY: usize = 1000;

const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// The writes that make the mirror of a name's Endpoints right. `existing` are the slices that carry the name and our
/// label.
pub(super) fn reconcile(service: Option<&Value>, endpoints: Option<&Value>, existing: &[Arc<Value>]) -> Vec<Write> {
    let mirrored = match (service, endpoints) {
        (Some(service), Some(endpoints)) if is_by_hand(service) && wants_mirror(endpoints) => endpoints,
        _ => {
            let gvr = crate::Gvr::new("discovery.k8s.io", "v1", "endpointslices");
            return existing.iter().map(|slice| Write::delete(gvr.clone(), slice)).collect();
        }
    };
    let mut labels = object::labels(mirrored).cloned().unwrap_or_default();
    labels.shift_remove(super::service_slices::HEADLESS);
    let mut annotations = object::annotations(mirrored).cloned().unwrap_or_default();
    annotations.retain(|key, _| key != LAST_APPLIED && key != TRIGGER_TIME);
    let shape = Shape {
        namespace: object::namespace(mirrored).to_owned(),
        service: object::name(mirrored).to_owned(),
        manager: MANAGER,
        labels,
        annotations,
        owner: controller_reference("v1", "Endpoints", mirrored),
        capacity: CAPACITY,
    };
    slices::reconcile(&shape, groups(mirrored), existing)
}

/// Whether the Service leaves its endpoints to others.
fn is_by_hand(service: &Value) -> bool {
    let selector = object::at(service, &["spec", "selector"]).and_then(Value::as_object);
    selector.is_none_or(|selector| selector.is_empty()) && !object::is_terminating(service)
}

fn wants_mirror(endpoints: &Value) -> bool {
    let skip = str_at(endpoints, &["metadata", "labels", SKIP]) == "true";
    let election = object::annotations(endpoints).is_some_and(|annotations| annotations.contains_key(LEADER));
    !skip && !election && !object::is_terminating(endpoints)
}

fn groups(endpoints: &Value) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for subset in list(endpoints, &["subsets"]) {
        let ports: Value = list(subset, &["ports"]).iter().map(port).collect();
        let ready = list(subset, &["addresses"]).iter().map(|address| (address, true));
        let not_ready = list(subset, &["notReadyAddresses"]).iter().map(|address| (address, false));
        for (address, ready) in ready.chain(not_ready).take(CAPACITY) {
            let Ok(ip) = str_at(address, &["ip"]).parse::<IpAddr>() else { continue };
            let (address_type, endpoint) = (type_of(ip), endpoint(address, ip, ready));
            match groups.iter_mut().find(|group| group.address_type == address_type && group.ports == ports) {
                Some(group) => group.endpoints.push(endpoint),
                None => groups.push(Group { address_type, ports: ports.clone(), endpoints: vec![endpoint] }),
            }
        }
    }
    groups
}

fn port(port: &Value) -> Value {
    let mut mirrored = json!({"name": str_at(port, &["name"]), "port": port["port"]});
    mirrored["protocol"] = port.get("protocol").cloned().unwrap_or_else(|| "TCP".into());
    if let Some(protocol) = port.get("appProtocol") {
        mirrored["appProtocol"] = protocol.clone();
    }
    mirrored
}

fn endpoint(address: &Value, ip: IpAddr, ready: bool) -> Value {
    let mut endpoint = json!({"addresses": [ip.to_string()], "conditions": {"ready": ready}});
    for field in ["hostname", "targetRef", "nodeName"] {
        if let Some(value) = address.get(field).filter(|value| !value.is_null() && *value != "") {
            endpoint[field] = value.clone();
        }
    }
    endpoint
}
