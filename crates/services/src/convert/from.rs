//! What clusters have.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use tombolo_api::mcs::v1beta1::ServiceExport;
use tombolo_api::tombolo::MADE_FOR_MIRRORS;
use tombolo_proxy::convert::SERVICE_NAME_LABEL;
use tombolo_proxy::{Family, Refused, ServiceKey, TrafficPolicy};

use super::{Refusals, address, family, key, port_number, protocol, short};
use crate::clusters::is_dns_label;
use crate::mirrors::NamespaceState;
use crate::model::{Endpoint, Export, Kind, Service, ServicePort, Slice, SlicePort, Timestamp};

/// More endpoints than this an API server takes in no EndpointSlice; the rest is left out.
pub const MAX_ENDPOINTS: usize = 1000;

/// `sessionAffinityConfig.clientIP.timeoutSeconds` where it is not said.
const AFFINITY_TIMEOUT: u32 = 10_800;

/// Reads a Service.
pub fn service(object: &core::Service) -> (Service, Vec<Refused>) {
    let mut refusals = Refusals::new("Service", &object.metadata);
    let spec = object.spec.clone().unwrap_or_default();
    let mut cluster_ips = spec.cluster_ips.clone().unwrap_or_default();
    if cluster_ips.is_empty() {
        cluster_ips.extend(spec.cluster_ip.clone());
    }
    let is_headless = cluster_ips.iter().any(|ip| ip == "None");
    let kind = if spec.type_.as_deref() == Some("ExternalName") {
        Kind::ExternalName(spec.external_name.clone().unwrap_or_default())
    } else if is_headless {
        Kind::Headless
    } else {
        Kind::ClusterIp
    };
    cluster_ips.retain(|ip| !ip.is_empty() && ip != "None");
    let cluster_ips: Vec<_> =
        cluster_ips.iter().filter_map(|ip| refusals.take("spec.clusterIPs", address(ip))).collect();
    let mut families: Vec<Family> = spec.ip_families.iter().flatten().filter_map(|text| family(text)).collect();
    if families.is_empty() {
        families.extend(cluster_ips.iter().map(|ip| Family::of(*ip)));
    }
    families.dedup();
    families.truncate(2);
    let ports = spec.ports.iter().flatten().filter_map(|port| service_port(port, &mut refusals)).collect();
    let service = Service {
        session_affinity: (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| affinity_timeout(&spec)),
        internal_traffic_policy: policy(spec.internal_traffic_policy.as_deref()),
        traffic_distribution: spec.traffic_distribution.clone(),
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        labels: object.metadata.labels.clone().unwrap_or_default(),
        annotations: object.metadata.annotations.clone().unwrap_or_default(),
        kind,
        cluster_ips,
        families,
        ports,
    };
    (service, refusals.refused)
}

/// Reads an EndpointSlice, with the Service that it belongs to; none where it belongs to none or holds names.
pub fn slice(object: &discovery::EndpointSlice) -> (Option<(ServiceKey, Slice)>, Vec<Refused>) {
    let mut refusals = Refusals::new("EndpointSlice", &object.metadata);
    let name = object.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL));
    let found = name.and_then(|name| {
        let slice = content(object, &mut refusals)?;
        Some((ServiceKey::new(key(&object.metadata).namespace, name), slice))
    });
    (found, refusals.refused)
}

/// Reads a ServiceExport.
pub fn export(object: &ServiceExport) -> Export {
    Export {
        created: object.metadata.creation_timestamp.as_ref().map_or(Timestamp(0), |time| Timestamp(time.0.as_second())),
        labels: object.spec.exported_labels.clone(),
        annotations: object.spec.exported_annotations.clone(),
    }
}

/// Reads a Namespace; who looks at what is in it says whether it is in use.
pub fn namespace(object: &core::Namespace, in_use: bool) -> NamespaceState {
    let annotations = object.metadata.annotations.as_ref();
    NamespaceState {
        made_for_mirrors: annotations.is_some_and(|annotations| annotations.contains_key(MADE_FOR_MIRRORS)),
        terminating: object.metadata.deletion_timestamp.is_some(),
        in_use,
    }
}

pub(super) fn content(object: &discovery::EndpointSlice, refusals: &mut Refusals) -> Option<Slice> {
    let Some(family) = family(&object.address_type) else {
        refusals.add("addressType", format!("{:?} is neither IPv4 nor IPv6", short(&object.address_type)));
        return None;
    };
    let ports = object.ports.iter().flatten().filter_map(|port| slice_port(port, refusals)).collect();
    let all = object.endpoints.as_deref().unwrap_or_default();
    if all.len() > MAX_ENDPOINTS {
        refusals.add(
            "endpoints",
            format!("there are {}, and those after the first {MAX_ENDPOINTS} are left out", all.len()),
        );
    }
    let endpoints = all.iter().take(MAX_ENDPOINTS).filter_map(|endpoint| self::endpoint(endpoint, family, refusals));
    Some(Slice { family, ports, endpoints: endpoints.collect() })
}

/// The first address is the endpoint's; others are the same endpoint again, which nobody uses (KEP-752).
fn endpoint(object: &discovery::Endpoint, family: Family, refusals: &mut Refusals) -> Option<Endpoint> {
    let text = object.addresses.first()?;
    let checked = address(text).and_then(|address| {
        let is_of = Family::of(address) == family;
        is_of.then_some(address).ok_or_else(|| format!("{address} is not of the slice's family"))
    });
    let address = refusals.take("endpoints.addresses", checked)?;
    let conditions = object.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    let hostname = object.hostname.clone().and_then(|name| {
        let is_good = is_dns_label(&name);
        refusals.take(
            "endpoints.hostname",
            is_good.then(|| name.clone()).ok_or_else(|| {
                format!("{:?} is not a DNS label, and the endpoint has no name of its own", short(&name))
            }),
        )
    });
    let hints = object.hints.iter().flat_map(|hints| hints.for_zones.iter().flatten());
    Some(Endpoint {
        address,
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        hostname,
        node_name: object.node_name.clone(),
        zone: object.zone.clone(),
        for_zones: hints.map(|zone| zone.name.clone()).collect(),
    })
}

fn slice_port(port: &discovery::EndpointPort, refusals: &mut Refusals) -> Option<SlicePort> {
    Some(SlicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: refusals.take("ports.protocol", protocol(port.protocol.as_deref()))?,
        port: match port.port {
            Some(number) => Some(refusals.take("ports.port", port_number(number))?),
            None => None,
        },
        app_protocol: port.app_protocol.clone(),
    })
}

fn service_port(port: &core::ServicePort, refusals: &mut Refusals) -> Option<ServicePort> {
    Some(ServicePort {
        name: port.name.clone().unwrap_or_default(),
        protocol: refusals.take("spec.ports.protocol", protocol(port.protocol.as_deref()))?,
        port: refusals.take("spec.ports.port", port_number(port.port))?,
        app_protocol: port.app_protocol.clone(),
    })
}

fn affinity_timeout(spec: &core::ServiceSpec) -> u32 {
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let seconds = config.and_then(|client_ip| client_ip.timeout_seconds);
    seconds.and_then(|seconds| u32::try_from(seconds).ok()).filter(|s| *s > 0).unwrap_or(AFFINITY_TIMEOUT)
}

fn policy(text: Option<&str>) -> TrafficPolicy {
    if text == Some("Local") { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

/// Labels and annotations that we wrote ourselves, by the `managedFields`; all, where those say nothing of us.
pub(super) fn ours(
    metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let written: Vec<_> = metadata
        .managed_fields
        .iter()
        .flatten()
        .filter(|entry| entry.manager.as_deref() == Some(tombolo_api::tombolo::MANAGER))
        .filter(|entry| entry.subresource.as_deref().unwrap_or_default().is_empty())
        .filter_map(|entry| entry.fields_v1.as_ref())
        .map(|fields| &fields.0["f:metadata"])
        .collect();
    let of = |field: &str, all: &Option<BTreeMap<String, String>>| {
        let mut texts = all.clone().unwrap_or_default();
        if !written.is_empty() {
            texts.retain(|name, _| written.iter().any(|fields| fields[field].get(format!("f:{name}")).is_some()));
        }
        texts
    };
    (of("f:labels", &metadata.labels), of("f:annotations", &metadata.annotations))
}
