//! What we keep in this cluster, as it stands there.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use tombolo_api::mcs::LABEL_SERVICE_NAME;
use tombolo_api::mcs::v1beta1::{ServiceExport, ServiceImport, ServiceImportType};
use tombolo_api::tombolo::{MANAGED_BY_LABEL, MANAGER, MIRRORED_FROM, SLICE_MANAGED_BY_LABEL};
use tombolo_proxy::{Family, ServiceKey, TrafficPolicy};

use super::{Refusals, address, family, from, port_number, protocol};
use crate::clusters::ClusterId;
use crate::imports::derived_name;
use crate::model::{Condition, Import, LegacyEndpoints, OwnSlice, Service, ServicePort, SlicePort, Status, Subset};

/// A mirrored or derived Service; none where it is neither. Its addresses are left out, as we ask for none.
///
/// The label that says who keeps it is not enough: anybody's chart may put it there.
pub fn service(object: &core::Service) -> Option<Service> {
    (is_mirror(object) || is_derived(object)).then(|| {
        let (labels, annotations) = from::ours(&object.metadata);
        Service { cluster_ips: Vec::new(), labels, annotations, ..from::service(object).0 }
    })
}

/// Whether a Service is a mirror; one that is not is never touched by mirroring.
pub fn is_mirror(object: &core::Service) -> bool {
    let annotations = object.metadata.annotations.as_ref();
    is_managed(&object.metadata, MANAGED_BY_LABEL)
        && annotations.is_some_and(|annotations| annotations.contains_key(MIRRORED_FROM))
}

/// Whether a Service stands for a ServiceImport, by its label and the name that follows from it.
fn is_derived(object: &core::Service) -> bool {
    let label = object.metadata.labels.as_ref().and_then(|labels| labels.get(LABEL_SERVICE_NAME));
    let key = super::key(&object.metadata);
    let is_named = |name: &String| key.name == derived_name(&ServiceKey::new(&key.namespace, name));
    is_managed(&object.metadata, MANAGED_BY_LABEL) && label.is_some_and(is_named)
}

/// An EndpointSlice; none where it is not ours.
pub fn slice(object: &discovery::EndpointSlice) -> Option<OwnSlice> {
    if !is_managed(&object.metadata, SLICE_MANAGED_BY_LABEL) {
        return None;
    }
    let slice = from::content(object, &mut Refusals::new("EndpointSlice", &object.metadata))?;
    let (labels, annotations) = from::ours(&object.metadata);
    Some(OwnSlice { labels, annotations, slice })
}

/// An Endpoints object; none where it is not ours.
pub fn endpoints(object: &core::Endpoints) -> Option<LegacyEndpoints> {
    if !is_managed(&object.metadata, MANAGED_BY_LABEL) {
        return None;
    }
    let addresses = |list: &Option<Vec<core::EndpointAddress>>| {
        let list = list.iter().flatten();
        list.filter_map(|a| Some((address(&a.ip).ok()?, a.hostname.clone()))).collect()
    };
    let port = |port: &core::EndpointPort| {
        Some(SlicePort {
            name: port.name.clone().unwrap_or_default(),
            protocol: protocol(port.protocol.as_deref()).ok()?,
            port: Some(port_number(port.port).ok()?),
            app_protocol: port.app_protocol.clone(),
        })
    };
    let subset = |subset: &core::EndpointSubset| Subset {
        ports: subset.ports.iter().flatten().filter_map(port).collect(),
        ready: addresses(&subset.addresses),
        not_ready: addresses(&subset.not_ready_addresses),
    };
    let (labels, annotations) = from::ours(&object.metadata);
    Some(LegacyEndpoints { labels, annotations, subsets: object.subsets.iter().flatten().map(subset).collect() })
}

/// A ServiceImport. All of them are ours: the API leaves them to one implementation.
pub fn import(object: &ServiceImport) -> Import {
    let (labels, annotations) = from::ours(&object.metadata);
    let spec = &object.spec;
    let status = object.status.clone().unwrap_or_default();
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let timeout = config.and_then(|client_ip| client_ip.timeout_seconds).and_then(|s| u32::try_from(s).ok());
    let port = |port: &tombolo_api::mcs::ServicePort| {
        Some(ServicePort {
            name: port.name.clone(),
            protocol: protocol(port.protocol.as_deref()).ok()?,
            port: port_number(port.port).ok()?,
            app_protocol: port.app_protocol.clone(),
        })
    };
    let ips: Vec<std::net::IpAddr> = spec.ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    let mut families: Vec<Family> = spec.ip_families.iter().filter_map(|text| family(text)).collect();
    if families.is_empty() {
        // Older definitions do not have the field.
        families.extend(ips.iter().map(|ip| Family::of(*ip)));
    }
    Import {
        headless: spec.type_ == ServiceImportType::Headless,
        ports: spec.ports.iter().filter_map(port).collect(),
        ips,
        families,
        session_affinity: timeout.filter(|_| spec.session_affinity.as_deref() == Some("ClientIP")),
        internal_traffic_policy: match spec.internal_traffic_policy.as_deref() {
            Some("Local") => TrafficPolicy::Local,
            _ => TrafficPolicy::Cluster,
        },
        traffic_distribution: spec.traffic_distribution.clone(),
        labels,
        annotations,
        clusters: status.clusters.iter().filter_map(|status| ClusterId::parse(&status.cluster).ok()).collect(),
        conditions: conditions(&status.conditions),
    }
}

/// The conditions of a ServiceExport of this cluster.
pub fn export(object: &ServiceExport) -> Vec<Condition> {
    object.status.as_ref().map_or_else(Vec::new, |status| conditions(&status.conditions))
}

fn conditions(objects: &[meta::Condition]) -> Vec<Condition> {
    let condition = |object: &meta::Condition| Condition {
        kind: object.type_.clone(),
        status: match object.status.as_str() {
            "True" => Status::True,
            "False" => Status::False,
            _ => Status::Unknown,
        },
        reason: object.reason.clone(),
        message: object.message.clone(),
    };
    objects.iter().map(condition).collect()
}

fn is_managed(metadata: &meta::ObjectMeta, label: &str) -> bool {
    metadata.labels.as_ref().and_then(|labels| labels.get(label)).is_some_and(|manager| manager == MANAGER)
}
