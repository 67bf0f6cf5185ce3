//! ServiceImports.

use tombolo_api::mcs::{DERIVED_SERVICE, ServiceImportType, v1alpha1};

use super::{Converted, Refusals, addresses, cluster_choice, policy, port_number, protocol, session_affinity};
use crate::model::{Import, Service, ServiceKey, ServicePort, TrafficPolicy};

/// The key of a ServiceImport, from its name and namespace.
pub fn import_key(import: &v1alpha1::ServiceImport) -> ServiceKey {
    let meta = &import.metadata;
    ServiceKey::new(meta.namespace.as_deref().unwrap_or("default"), meta.name.as_deref().unwrap_or_default())
}

/// What the proxy needs of a ServiceImport.
pub fn service_import(object: &v1alpha1::ServiceImport) -> Converted<Import> {
    let mut refusals = Refusals::new(format!("ServiceImport {}", import_key(object)));
    Converted { value: proxied(object, &mut refusals), refused: refusals.refused }
}

fn proxied(object: &v1alpha1::ServiceImport, refusals: &mut Refusals) -> Option<Import> {
    let spec = &object.spec;
    if spec.type_ == ServiceImportType::Headless {
        return None;
    }
    let annotations = object.metadata.annotations.as_ref();
    let clusters = cluster_choice(annotations, refusals);
    let derived = annotations.and_then(|annotations| annotations.get(DERIVED_SERVICE)).cloned();
    let cluster_ips = addresses("spec.ips", &spec.ips, refusals);
    // Without an address the derived Service may still need to know which clusters to choose.
    if cluster_ips.is_empty() && derived.is_none() {
        return None;
    }
    let ports = spec.ports.iter().filter_map(|port| {
        Some(ServicePort {
            name: port.name.clone(),
            protocol: refusals.take("spec.ports.protocol", protocol(port.protocol.as_deref()))?,
            port: refusals.take("spec.ports.port", port_number(port.port))?,
            node_port: None,
        })
    });
    let ports = ports.collect();
    let service = Service {
        cluster_ips,
        ports,
        session_affinity: session_affinity(
            spec.session_affinity.as_deref(),
            spec.session_affinity_config.as_ref(),
            refusals,
        ),
        internal_traffic_policy: policy(
            "spec.internalTrafficPolicy",
            spec.internal_traffic_policy.as_deref(),
            refusals,
        ),
        external_traffic_policy: TrafficPolicy::Cluster,
        clusters,
        ..Service::default()
    };
    Some(Import { service, derived })
}
