//! What names depend on, out of the Kubernetes objects.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use tombolo_api::mcs::v1alpha1::ServiceImport;
use tombolo_api::mcs::{LABEL_SERVICE_NAME, LABEL_SOURCE_CLUSTER, ServiceImportType};

use super::ObjectKey;

/// On an EndpointSlice: the name of the Service that it belongs to.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Before there was `publishNotReadyAddresses`.
const TOLERATE_UNREADY: &str = "service.alpha.kubernetes.io/tolerate-unready-endpoints";

/// A Service of this cluster.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// At addresses of its own.
    Addressed { addresses: Vec<IpAddr>, ports: Vec<Port> },
    /// Its endpoints are its addresses; also those that are not ready, where it says so.
    Headless { publish_not_ready: bool },
    /// Another name for something elsewhere.
    External(Box<str>),
}

/// A service of the cluster set.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Import {
    /// At addresses of its own, some of which may be no addresses.
    Addressed { addresses: Vec<IpAddr>, ports: Vec<Port>, faults: Vec<String> },
    /// The endpoints of all clusters are its addresses.
    Headless,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slice {
    /// The name of the Service that it belongs to.
    pub(super) service: Option<Box<str>>,
    /// The name of the ServiceImport that it belongs to.
    pub(super) import: Option<Box<str>>,
    /// The cluster that its endpoints are in.
    pub(super) cluster: Option<Box<str>>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) ports: Vec<Port>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) hostname: Option<Box<str>>,
    pub(super) is_ready: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: Box<str>,
    pub(super) protocol: &'static str,
    pub(super) number: u16,
}

/// None where the Service has no address yet.
pub(super) fn read_service(object: &core::Service) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        let target = spec.external_name.as_deref()?;
        return Some(Service::External(target.into()));
    }
    let mut texts: Vec<&str> = spec.cluster_ips.iter().flatten().map(String::as_str).collect();
    if texts.is_empty() {
        texts.extend(spec.cluster_ip.as_deref());
    }
    texts.retain(|text| !text.is_empty());
    if texts.first() == Some(&"None") {
        let annotations = object.metadata.annotations.as_ref();
        let tolerated = annotations.and_then(|annotations| annotations.get(TOLERATE_UNREADY));
        let publish_not_ready =
            spec.publish_not_ready_addresses.unwrap_or(false) || tolerated.is_some_and(|value| value == "true");
        return Some(Service::Headless { publish_not_ready });
    }
    let addresses: Vec<IpAddr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    if addresses.is_empty() {
        return None;
    }
    let ports = spec.ports.iter().flatten();
    let ports = ports.filter_map(|port| read_port(port.name.as_deref(), port.protocol.as_deref(), port.port));
    Some(Service::Addressed { addresses, ports: ports.collect() })
}

pub(super) fn read_import(object: &ServiceImport) -> Import {
    if object.spec.type_ == ServiceImportType::Headless {
        return Import::Headless;
    }
    let (mut addresses, mut faults) = (Vec::new(), Vec::new());
    for text in &object.spec.ips {
        match text.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => faults.push(format!("spec.ips has {text:?}, which is not an IP address")),
        }
    }
    let ports = object.spec.ports.iter();
    let ports = ports.filter_map(|port| read_port(Some(&port.name), port.protocol.as_deref(), port.port));
    Import::Addressed { addresses, ports: ports.collect(), faults }
}

/// None where the slice belongs to nothing that has a name.
pub(super) fn read_slice(object: &discovery::EndpointSlice) -> Option<Slice> {
    let labels = object.metadata.labels.as_ref()?;
    let label = |key: &str| labels.get(key).filter(|value| !value.is_empty()).map(|value| value.as_str().into());
    let (service, import) = (label(SERVICE_NAME_LABEL), label(LABEL_SERVICE_NAME));
    if service.is_none() && import.is_none() {
        return None;
    }
    let endpoints = object.endpoints.iter().flatten().filter_map(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        Some(Endpoint {
            address: endpoint.addresses.first()?.parse().ok()?,
            hostname: endpoint.hostname.as_deref().filter(|name| !name.is_empty()).map(Into::into),
            is_ready: conditions.and_then(|c| c.ready).unwrap_or(true),
        })
    });
    let ports = object.ports.iter().flatten();
    let ports = ports.filter_map(|port| read_port(port.name.as_deref(), port.protocol.as_deref(), port.port?));
    Some(Slice {
        service,
        import,
        cluster: label(LABEL_SOURCE_CLUSTER),
        endpoints: endpoints.collect(),
        ports: ports.collect(),
    })
}

/// The addresses of a Pod that runs or will run in a network of its own; none once it has ended.
pub(super) fn read_pod(object: &core::Pod) -> Vec<IpAddr> {
    let Some(status) = &object.status else {
        return Vec::new();
    };
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return Vec::new();
    }
    let mut texts: Vec<&str> = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str()).collect();
    if texts.is_empty() {
        texts.extend(status.pod_ip.as_deref());
    }
    let mut addresses: Vec<IpAddr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// The name of an object that an EndpointSlice belongs to.
pub(super) fn beside(slice: &ObjectKey, name: &str) -> ObjectKey {
    ObjectKey { namespace: slice.namespace.clone(), name: name.into() }
}

fn read_port(name: Option<&str>, protocol: Option<&str>, number: i32) -> Option<Port> {
    Some(Port {
        name: name.unwrap_or_default().into(),
        protocol: match protocol {
            None | Some("TCP" | "") => "_tcp",
            Some("UDP") => "_udp",
            Some("SCTP") => "_sctp",
            Some(_) => return None,
        },
        number: number.try_into().ok()?,
    })
}
