//! Endpoints of Services, as far as it matters where they are.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1 as discovery;
use tombolo_proxy::ServiceKey;
use tombolo_proxy::convert::SERVICE_NAME_LABEL;

/// The ready endpoints of one EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The Service that they belong to.
    pub service: ServiceKey,
    /// Where each of them is.
    pub ready: Vec<Place>,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// On the node of this name.
    Node(String),
    /// At these addresses; the slice does not say which node has them. It may be none of the cluster.
    Addresses(Vec<IpAddr>),
}

/// Reads an EndpointSlice; `None` where it belongs to no Service. An address that can't be read is left out: the proxy
/// says so (`tombolo_proxy::convert`).
pub fn from_kubernetes(object: &discovery::EndpointSlice) -> Option<Slice> {
    let meta = &object.metadata;
    let name = meta.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    let ready = object.endpoints.iter().flatten().filter(|endpoint| {
        // Not given means ready (the API's own words).
        endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
    });
    let places = ready.map(|endpoint| match &endpoint.node_name {
        Some(node) => Place::Node(node.clone()),
        None => Place::Addresses(endpoint.addresses.iter().filter_map(|text| text.parse().ok()).collect()),
    });
    Some(Slice {
        service: ServiceKey::new(meta.namespace.as_deref().unwrap_or("default"), name),
        ready: places.collect(),
    })
}
