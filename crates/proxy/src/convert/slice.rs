//! EndpointSlices.

use k8s_openapi::api::discovery::v1 as discovery;
use tombolo_api::mcs::{LABEL_SERVICE_NAME, LABEL_SOURCE_CLUSTER};

use super::{
    Converted, HEADLESS_LABEL, PROXY_NAME_LABEL, Refusals, SERVICE_NAME_LABEL, address, of_type, port_number, protocol,
};
use crate::model::{Endpoint, Owner, Protocol, ServiceKey, Slice};

/// What the proxy needs of an EndpointSlice: of a Service, of a ServiceImport, or of both where a derived Service stands
/// for the import.
pub fn endpoint_slice(object: &discovery::EndpointSlice) -> Converted<Slice> {
    let meta = &object.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or("default");
    let name = meta.name.as_deref().unwrap_or_default();
    let mut refusals = Refusals::new(format!("EndpointSlice {namespace}/{name}"));
    Converted { value: proxied(object, namespace, &mut refusals), refused: refusals.refused }
}

fn proxied(object: &discovery::EndpointSlice, namespace: &str, refusals: &mut Refusals) -> Option<Slice> {
    let labels = object.metadata.labels.as_ref()?;
    if labels.contains_key(PROXY_NAME_LABEL) || labels.contains_key(HEADLESS_LABEL) {
        return None;
    }
    let key = |label: &str| labels.get(label).map(|name| ServiceKey::new(namespace, name));
    let owners = [key(SERVICE_NAME_LABEL).map(Owner::Service), key(LABEL_SERVICE_NAME).map(Owner::Import)];
    let owners: Vec<Owner> = owners.into_iter().flatten().collect();
    if owners.is_empty() {
        return None;
    }
    let cluster = labels.get(LABEL_SOURCE_CLUSTER);
    if !matches!(object.address_type.as_str(), "IPv4" | "IPv6") {
        refusals.add("addressType", format!("{:?} can't be proxied to, only IPv4 and IPv6", object.address_type));
        return None;
    }
    let ports = slice_ports(object, refusals);
    let mut endpoints = Vec::new();
    for endpoint in object.endpoints.iter().flatten() {
        // Kubernetes gives meaning to the first address only.
        let Some(text) = endpoint.addresses.first() else {
            continue;
        };
        let checked = address(text).and_then(|address| of_type(address, &object.address_type));
        let Some(address) = refusals.take("endpoints.addresses", checked) else {
            continue;
        };
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let ready = conditions.ready.unwrap_or(true);
        let hints = endpoint.hints.as_ref();
        let zones =
            hints.and_then(|hints| hints.for_zones.as_ref()).into_iter().flatten().map(|zone| zone.name.clone());
        let nodes =
            hints.and_then(|hints| hints.for_nodes.as_ref()).into_iter().flatten().map(|node| node.name.clone());
        let (zones, nodes): (Vec<String>, Vec<String>) = (zones.collect(), nodes.collect());
        endpoints.extend(ports.iter().map(|(name, protocol, port)| Endpoint {
            address,
            port_name: name.clone(),
            protocol: *protocol,
            port: *port,
            ready,
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or(false),
            node_name: endpoint.node_name.clone(),
            cluster: cluster.cloned(),
            for_zones: zones.clone(),
            for_nodes: nodes.clone(),
        }));
    }
    Some(Slice { owners, endpoints })
}

fn slice_ports(object: &discovery::EndpointSlice, refusals: &mut Refusals) -> Vec<(String, Protocol, u16)> {
    let ports = object.ports.iter().flatten();
    ports
        .filter_map(|port| {
            // Without a number the port stands for all of them, which only a headless service can mean.
            let number = port_number(port.port?);
            Some((
                port.name.clone().unwrap_or_default(),
                refusals.take("ports.protocol", protocol(port.protocol.as_deref()))?,
                refusals.take("ports.port", number)?,
            ))
        })
        .collect()
}
