//! A Service with a selector, and its pods: EndpointSlices, as the endpointslice controller makes them
//! (<https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/>).

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::slices::{self, Group, Shape};
use super::write::{Write, controller_reference, list};
use super::{endpoints, pods};
use crate::object::{self, str_at};

/// Who manages the slices of Services with a selector.
pub(super) const MANAGER: &str = "endpointslice-controller.k8s.io";

/// The most endpoints in a slice, as kube-controller-manager has it by default.
const CAPACITY: usize = 100;

/// The writes that make a Service's slices right. `pods` are those that its selector selects, `existing` the slices
/// that carry its name and our label; `zone_of` gives a node's zone.
pub(super) fn reconcile(
    service: &Value,
    pods: &[Arc<Value>],
    existing: &[Arc<Value>],
    zone_of: impl Fn(&str) -> Option<String>,
) -> Vec<Write> {
    let mut groups: Vec<Group> = Vec::new();
    for address_type in address_types(service) {
        let before = groups.len();
        for pod in pods.iter().filter(|pod| !pods::has_ended(pod)) {
            let address = pods::addresses(pod).into_iter().find(|address| type_of(*address) == address_type);
            let Some(address) = address else { continue };
            let ports: Value = endpoints::ports(service, pod).into();
            let endpoint = endpoint(service, pod, address, &zone_of);
            match groups[before..].iter_mut().find(|group| group.ports == ports) {
                Some(group) => group.endpoints.push(endpoint),
                None => groups.push(Group { address_type, ports, endpoints: vec![endpoint] }),
            }
        }
        if groups.len() == before {
            groups.push(Group { address_type, ports: json!([]), endpoints: Vec::new() });
        }
    }
    let shape = Shape {
        namespace: object::namespace(service).to_owned(),
        service: object::name(service).to_owned(),
        manager: MANAGER,
        labels: labels(service),
        annotations: Map::new(),
        owner: controller_reference("v1", "Service", service),
        capacity: CAPACITY,
    };
    slices::reconcile(&shape, groups, existing)
}

/// The label of what belongs to a Service without a cluster IP.
pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";

/// The Service's labels, and one that says if it has no cluster IP.
pub(super) fn labels(service: &Value) -> Map<String, Value> {
    let mut labels = object::labels(service).cloned().unwrap_or_default();
    for reserved in [HEADLESS, slices::MANAGED_BY, super::index::SERVICE_NAME] {
        labels.shift_remove(reserved);
    }
    if str_at(service, &["spec", "clusterIP"]) == "None" {
        labels.insert(HEADLESS.into(), "".into());
    }
    labels
}

/// The EndpointSlice's word for an address's family.
pub(super) fn type_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// The families that a Service is to be reached by; IPv4 if nothing says.
fn address_types(service: &Value) -> Vec<&'static str> {
    let mut types: Vec<&str> = Vec::new();
    for family in list(service, &["spec", "ipFamilies"]) {
        match family.as_str() {
            Some("IPv4") => types.push("IPv4"),
            Some("IPv6") => types.push("IPv6"),
            _ => {}
        }
    }
    if types.is_empty() {
        let cluster_ip = str_at(service, &["spec", "clusterIP"]).parse();
        types.push(cluster_ip.map_or("IPv4", type_of));
    }
    types
}

fn endpoint(service: &Value, pod: &Value, address: IpAddr, zone_of: impl Fn(&str) -> Option<String>) -> Value {
    let serving = pods::is_ready(pod);
    let terminating = object::is_terminating(pod);
    let ready = endpoints::publishes_not_ready(service) || (serving && !terminating);
    let mut endpoint = json!({
        "addresses": [address.to_string()],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
    });
    if let Some(hostname) = endpoints::hostname(service, pod) {
        endpoint["hostname"] = hostname.into();
    }
    endpoint["targetRef"] = endpoints::target_reference(pod);
    let node = str_at(pod, &["spec", "nodeName"]);
    if !node.is_empty() {
        endpoint["nodeName"] = node.into();
    }
    if let Some(zone) = zone_of(node) {
        endpoint["zone"] = zone.into();
    }
    endpoint
}
