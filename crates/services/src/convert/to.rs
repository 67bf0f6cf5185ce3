//! Our objects, ready for a server-side apply.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use tombolo_api::mcs::v1beta1::{ServiceImport, ServiceImportSpec, ServiceImportStatus, ServiceImportType};
use tombolo_api::mcs::{self, EndpointSliceObjects};
use tombolo_api::tombolo::{MADE_FOR_MIRRORS, MANAGED_BY_LABEL, MANAGER};
use tombolo_proxy::{Family, ServiceKey, TrafficPolicy};

use super::{family_name, protocol_name};
use crate::model::{
    Condition, Endpoint, Import, Kind, LegacyEndpoints, OwnSlice, Service, ServicePort, SlicePort, Status, Subset,
};

/// A Namespace for mirrors.
pub fn namespace(name: &str) -> core::Namespace {
    let metadata = meta::ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(BTreeMap::from([(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned())])),
        annotations: Some(BTreeMap::from([(MADE_FOR_MIRRORS.to_owned(), "true".to_owned())])),
        ..meta::ObjectMeta::default()
    };
    core::Namespace { metadata, ..core::Namespace::default() }
}

/// A Service without a selector.
pub fn service(key: &ServiceKey, service: &Service) -> core::Service {
    let is_external = matches!(service.kind, Kind::ExternalName(_));
    let spec = core::ServiceSpec {
        type_: Some(if is_external { "ExternalName" } else { "ClusterIP" }.to_owned()),
        cluster_ip: (service.kind == Kind::Headless).then(|| "None".to_owned()),
        external_name: match &service.kind {
            Kind::ExternalName(name) => Some(name.clone()),
            Kind::ClusterIp | Kind::Headless => None,
        },
        ip_families: (!is_external && !service.families.is_empty()).then(|| families(&service.families)),
        ip_family_policy: (!is_external && !service.families.is_empty())
            .then(|| if service.families.len() > 1 { "RequireDualStack" } else { "SingleStack" }.to_owned()),
        ports: (!service.ports.is_empty()).then(|| service.ports.iter().map(service_port).collect()),
        session_affinity: Some(affinity(service.session_affinity).to_owned()),
        session_affinity_config: affinity_config(service.session_affinity),
        internal_traffic_policy: (!is_external).then(|| policy(service.internal_traffic_policy)),
        traffic_distribution: service.traffic_distribution.clone(),
        publish_not_ready_addresses: service.publish_not_ready.then_some(true),
        ..core::ServiceSpec::default()
    };
    let metadata = metadata(key, &service.labels, &service.annotations);
    core::Service { metadata, spec: Some(spec), status: None }
}

/// An EndpointSlice.
pub fn slice(key: &ServiceKey, slice: &OwnSlice) -> discovery::EndpointSlice {
    let ports = slice.slice.ports.iter().map(|port| discovery::EndpointPort {
        name: Some(port.name.clone()),
        protocol: Some(protocol_name(port.protocol).to_owned()),
        port: port.port.map(i32::from),
        app_protocol: port.app_protocol.clone(),
    });
    discovery::EndpointSlice {
        metadata: metadata(key, &slice.labels, &slice.annotations),
        address_type: family_name(slice.slice.family).to_owned(),
        ports: Some(ports.collect()),
        endpoints: Some(slice.slice.endpoints.iter().map(endpoint).collect()),
    }
}

/// An Endpoints object.
pub fn endpoints(key: &ServiceKey, endpoints: &LegacyEndpoints) -> core::Endpoints {
    let addresses = |list: &[(std::net::IpAddr, Option<String>)]| {
        let address = |(ip, hostname): &(std::net::IpAddr, Option<String>)| core::EndpointAddress {
            ip: ip.to_string(),
            hostname: hostname.clone(),
            ..core::EndpointAddress::default()
        };
        (!list.is_empty()).then(|| list.iter().map(address).collect())
    };
    let port = |port: &SlicePort| core::EndpointPort {
        name: (!port.name.is_empty()).then(|| port.name.clone()),
        protocol: Some(protocol_name(port.protocol).to_owned()),
        port: port.port.map_or(0, i32::from),
        app_protocol: port.app_protocol.clone(),
    };
    let subset = |subset: &Subset| core::EndpointSubset {
        addresses: addresses(&subset.ready),
        not_ready_addresses: addresses(&subset.not_ready),
        ports: Some(subset.ports.iter().map(port).collect()),
    };
    core::Endpoints {
        metadata: metadata(key, &endpoints.labels, &endpoints.annotations),
        subsets: Some(endpoints.subsets.iter().map(subset).collect()),
    }
}

/// A ServiceImport, but for its status, which is written by itself.
pub fn import(key: &ServiceKey, import: &Import) -> ServiceImport {
    let port = |port: &ServicePort| mcs::ServicePort {
        name: port.name.clone(),
        protocol: Some(protocol_name(port.protocol).to_owned()),
        app_protocol: port.app_protocol.clone(),
        port: i32::from(port.port),
    };
    let spec = ServiceImportSpec {
        ports: import.ports.iter().map(port).collect(),
        ips: import.ips.iter().map(ToString::to_string).collect(),
        type_: if import.headless { ServiceImportType::Headless } else { ServiceImportType::ClusterSetIP },
        session_affinity: Some(affinity(import.session_affinity).to_owned()),
        session_affinity_config: affinity_config(import.session_affinity),
        ip_families: families(&import.families),
        internal_traffic_policy: Some(policy(import.internal_traffic_policy)),
        traffic_distribution: import.traffic_distribution.clone(),
    };
    ServiceImport { metadata: metadata(key, &import.labels, &import.annotations), spec, status: None }
}

/// The status of a ServiceImport; `current` are its conditions as they are.
///
/// `with_slices` says whether `endpointSliceObjects` is written: the definitions of `mcs-api` v0.5.0 do not have the
/// field, and a server-side apply of it fails there.
pub fn import_status(
    import: &Import,
    current: &[meta::Condition],
    now: &meta::Time,
    with_slices: bool,
) -> ServiceImportStatus {
    let cluster = |id: &crate::clusters::ClusterId| mcs::ClusterStatus { cluster: id.as_str().to_owned() };
    ServiceImportStatus {
        endpoint_slice_objects: with_slices.then_some(EndpointSliceObjects::Present),
        clusters: import.clusters.iter().map(cluster).collect(),
        conditions: conditions(&import.conditions, current, now, None),
    }
}

/// Conditions with their times: `now`, but where the status is as it was in `current`.
pub fn conditions(
    desired: &[Condition],
    current: &[meta::Condition],
    now: &meta::Time,
    generation: Option<i64>,
) -> Vec<meta::Condition> {
    let condition = |condition: &Condition| {
        let status = match condition.status {
            Status::True => "True",
            Status::False => "False",
            Status::Unknown => "Unknown",
        };
        let old = current.iter().find(|old| old.type_ == condition.kind && old.status == status);
        meta::Condition {
            type_: condition.kind.clone(),
            status: status.to_owned(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
            last_transition_time: old.map_or_else(|| now.clone(), |old| old.last_transition_time.clone()),
            observed_generation: generation,
        }
    };
    desired.iter().map(condition).collect()
}

fn metadata(
    key: &ServiceKey,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> meta::ObjectMeta {
    meta::ObjectMeta {
        namespace: Some(key.namespace.clone()),
        name: Some(key.name.clone()),
        labels: (!labels.is_empty()).then(|| labels.clone()),
        annotations: (!annotations.is_empty()).then(|| annotations.clone()),
        ..meta::ObjectMeta::default()
    }
}

fn endpoint(endpoint: &Endpoint) -> discovery::Endpoint {
    let zone = |name: &String| discovery::ForZone { name: name.clone() };
    discovery::Endpoint {
        addresses: vec![endpoint.address.to_string()],
        conditions: Some(discovery::EndpointConditions {
            ready: Some(endpoint.ready),
            serving: Some(endpoint.serving),
            terminating: Some(endpoint.terminating),
        }),
        hostname: endpoint.hostname.clone(),
        node_name: endpoint.node_name.clone(),
        zone: endpoint.zone.clone(),
        hints: (!endpoint.for_zones.is_empty()).then(|| discovery::EndpointHints {
            for_zones: Some(endpoint.for_zones.iter().map(zone).collect()),
            ..discovery::EndpointHints::default()
        }),
        ..discovery::Endpoint::default()
    }
}

fn service_port(port: &ServicePort) -> core::ServicePort {
    core::ServicePort {
        name: (!port.name.is_empty()).then(|| port.name.clone()),
        protocol: Some(protocol_name(port.protocol).to_owned()),
        port: i32::from(port.port),
        app_protocol: port.app_protocol.clone(),
        ..core::ServicePort::default()
    }
}

fn families(families: &[Family]) -> Vec<String> {
    families.iter().map(|family| family_name(*family).to_owned()).collect()
}

fn affinity(seconds: Option<u32>) -> &'static str {
    if seconds.is_some() { "ClientIP" } else { "None" }
}

fn affinity_config(seconds: Option<u32>) -> Option<core::SessionAffinityConfig> {
    let seconds = i32::try_from(seconds?).unwrap_or(i32::MAX);
    let client_ip = core::ClientIPConfig { timeout_seconds: Some(seconds) };
    Some(core::SessionAffinityConfig { client_ip: Some(client_ip) })
}

fn policy(policy: TrafficPolicy) -> String {
    match policy {
        TrafficPolicy::Cluster => "Cluster".to_owned(),
        TrafficPolicy::Local => "Local".to_owned(),
    }
}
