//! A Service with a selector, and its pods: the Endpoints object, as the endpoints controller makes it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::write::{Write, int, list};
use super::{pods, service_slices};
use crate::object::{self, str_at};
use crate::resources::Gvr;

/// The label of an Endpoints object that is made by this controller.
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";

/// The write that makes a Service's Endpoints right, if it isn't. `pods` are those that its selector selects.
pub(super) fn reconcile(service: &Value, pods: &[Arc<Value>], existing: Option<&Value>) -> Option<Write> {
    let mut wanted = existing.cloned().unwrap_or_else(|| {
        json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": object::name(service), "namespace": object::namespace(service)},
        })
    });
    let mut labels = service_slices::labels(service);
    labels.insert(MANAGED_BY.into(), "endpoint-controller".into());
    object::set_meta(&mut wanted, "labels", labels.into());
    let subsets = subsets(service, pods);
    match (subsets.is_empty(), wanted.as_object_mut()) {
        (true, Some(map)) => drop(map.shift_remove("subsets")),
        _ => wanted["subsets"] = subsets.into(),
    }
    let gvr = Gvr::new("", "v1", "endpoints");
    match existing {
        None => Some(Write::Create(gvr, wanted)),
        Some(existing) if *existing != wanted => Some(Write::Update(gvr, wanted)),
        Some(_) => None,
    }
}

/// Whether the Endpoints object was made by this controller.
pub(super) fn is_ours(endpoints: &Value) -> bool {
    !str_at(endpoints, &["metadata", "labels", MANAGED_BY]).is_empty()
}

/// A Service's ports as they are on one pod, in the form of an EndpointSlice. A port whose name the pod does not know
/// is left out.
pub(super) fn ports(service: &Value, pod: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    for port in list(service, &["spec", "ports"]) {
        let protocol = match str_at(port, &["protocol"]) {
            "" => "TCP",
            protocol => protocol,
        };
        let number = match port.get("targetPort") {
            Some(Value::String(name)) => named_port(pod, name, protocol),
            Some(number) if number.as_i64().is_some_and(|number| number != 0) => number.as_i64(),
            _ => int(port, &["port"]),
        };
        let Some(number) = number else { continue };
        let mut entry = json!({"name": str_at(port, &["name"]), "port": number, "protocol": protocol});
        if let Some(protocol) = port.get("appProtocol").filter(|protocol| protocol.is_string()) {
            entry["appProtocol"] = protocol.clone();
        }
        found.push(entry);
    }
    found
}

/// Whether a Service sends to pods that are not ready.
pub(super) fn publishes_not_ready(service: &Value) -> bool {
    object::at(service, &["spec", "publishNotReadyAddresses"]) == Some(&Value::Bool(true))
}

/// The name by which a pod of a headless Service is found on its own.
pub(super) fn hostname<'a>(service: &Value, pod: &'a Value) -> Option<&'a str> {
    let hostname = str_at(pod, &["spec", "hostname"]);
    let below_service = str_at(pod, &["spec", "subdomain"]) == object::name(service);
    (below_service && !hostname.is_empty()).then_some(hostname)
}

pub(super) fn target_reference(pod: &Value) -> Value {
    json!({
        "kind": "Pod",
        "namespace": object::namespace(pod),
        "name": object::name(pod),
        "uid": object::uid(pod),
    })
}

/// A subset for each combination of ports that the pods have.
fn subsets(service: &Value, pods: &[Arc<Value>]) -> Vec<Value> {
    let all = publishes_not_ready(service);
    let wants_ipv6 = match list(service, &["spec", "ipFamilies"]).first().and_then(Value::as_str) {
        Some(family) => family == "IPv6",
        None => str_at(service, &["spec", "clusterIP"]).parse().is_ok_and(|ip: IpAddr| ip.is_ipv6()),
    };
    // By the ports as text, for an order.
    let mut subsets: BTreeMap<String, Subset> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| !pods::has_ended(pod) && (all || !object::is_terminating(pod))) {
        let Some(ip) = pods::addresses(pod).into_iter().find(|ip| ip.is_ipv6() == wants_ipv6) else { continue };
        let ports = ports(service, pod);
        if ports.is_empty() && !list(service, &["spec", "ports"]).is_empty() {
            continue;
        }
        let mut address = json!({"ip": ip.to_string()});
        if let Some(hostname) = hostname(service, pod) {
            address["hostname"] = hostname.into();
        }
        let node = str_at(pod, &["spec", "nodeName"]);
        if !node.is_empty() {
            address["nodeName"] = node.into();
        }
        address["targetRef"] = target_reference(pod);
        let key = Value::from(ports.clone()).to_string();
        let subset = subsets.entry(key).or_insert_with(|| Subset { ports, ..Subset::default() });
        let addresses = if all || pods::is_ready(pod) { &mut subset.ready } else { &mut subset.not_ready };
        addresses.insert(ip, address);
    }
    subsets.into_values().map(Subset::into_value).collect()
}

/// Pods that have the same ports.
#[derive(Default)]
struct Subset {
    ports: Vec<Value>,
    ready: BTreeMap<IpAddr, Value>,
    not_ready: BTreeMap<IpAddr, Value>,
}

impl Subset {
    fn into_value(self) -> Value {
        let mut subset = json!({});
        for (field, addresses) in [("addresses", self.ready), ("notReadyAddresses", self.not_ready)] {
            if !addresses.is_empty() {
                subset[field] = addresses.into_values().collect();
            }
        }
        let ports: Vec<Value> = self.ports.into_iter().map(without_empty_name).collect();
        if !ports.is_empty() {
            subset["ports"] = ports.into();
        }
        subset
    }
}

/// Endpoints leave an empty name of a port out, EndpointSlices do not.
fn without_empty_name(mut port: Value) -> Value {
    if let Some(map) = port.as_object_mut()
        && map.get("name").is_some_and(|name| name == "")
    {
        map.shift_remove("name");
    }
    port
}

fn named_port(pod: &Value, name: &str, protocol: &str) -> Option<i64> {
    let sidecars = list(pod, &["spec", "initContainers"]).iter();
    let sidecars = sidecars.filter(|container| str_at(container, &["restartPolicy"]) == "Always");
    let containers = list(pod, &["spec", "containers"]).iter().chain(sidecars);
    let mut ports = containers.flat_map(|container| list(container, &["ports"]));
    let is_it = |port: &&Value| {
        let spoken = str_at(port, &["protocol"]);
        str_at(port, &["name"]) == name && (if spoken.is_empty() { "TCP" } else { spoken }) == protocol
    };
    ports.find(is_it).and_then(|port| int(port, &["containerPort"]))
}
