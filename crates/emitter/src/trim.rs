//! What of an object leaves the cluster: pure.
//!
//! Another cluster needs to know how a service is reached, not how it is made. Who owns an object and who wrote it,
//! selectors, node names and ports, pods and the addresses of load balancers stay here.

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointSubset, Endpoints, Namespace, Service, ServicePort, ServiceSpec,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tombolo_api::about::ClusterProperty;
use tombolo_api::mcs::v1beta1::ServiceExport;

/// `kubectl apply` keeps a whole copy of the object in it, with all that is left out here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Name, namespace, UID, age, labels and annotations.
pub fn metadata(full: ObjectMeta) -> ObjectMeta {
    let mut annotations = full.annotations;
    annotations.get_or_insert_default().remove(LAST_APPLIED);
    ObjectMeta {
        name: full.name,
        namespace: full.namespace,
        uid: full.uid,
        creation_timestamp: full.creation_timestamp,
        labels: full.labels,
        annotations: annotations.filter(|annotations| !annotations.is_empty()),
        ..ObjectMeta::default()
    }
}

/// How it is reached. Its selector, node ports, external addresses and status stay.
pub fn service(full: Service) -> Service {
    let spec = full.spec.map(|spec| ServiceSpec {
        cluster_ip: spec.cluster_ip,
        cluster_ips: spec.cluster_ips,
        external_name: spec.external_name,
        internal_traffic_policy: spec.internal_traffic_policy,
        ip_families: spec.ip_families,
        ip_family_policy: spec.ip_family_policy,
        ports: spec.ports.map(|ports| ports.into_iter().map(|p| ServicePort { node_port: None, ..p }).collect()),
        publish_not_ready_addresses: spec.publish_not_ready_addresses,
        session_affinity: spec.session_affinity,
        session_affinity_config: spec.session_affinity_config,
        traffic_distribution: spec.traffic_distribution,
        type_: spec.type_,
        ..ServiceSpec::default()
    });
    Service { metadata: metadata(full.metadata), spec, status: None }
}

/// Addresses, ports, conditions, hostnames and zones. Nodes, pods and hints stay.
pub fn endpoint_slice(full: EndpointSlice) -> EndpointSlice {
    let endpoint = |full: Endpoint| Endpoint {
        addresses: full.addresses,
        conditions: full.conditions,
        hostname: full.hostname,
        zone: full.zone,
        ..Endpoint::default()
    };
    EndpointSlice {
        metadata: metadata(full.metadata),
        address_type: full.address_type,
        endpoints: full.endpoints.map(|endpoints| endpoints.into_iter().map(endpoint).collect()),
        ports: full.ports,
    }
}

/// Addresses, ports and hostnames. Nodes and pods stay.
pub fn endpoints(full: Endpoints) -> Endpoints {
    let address = |full: EndpointAddress| EndpointAddress { node_name: None, target_ref: None, ..full };
    let addresses = |list: Option<Vec<EndpointAddress>>| list.map(|list| list.into_iter().map(address).collect());
    let subset = |full: EndpointSubset| EndpointSubset {
        addresses: addresses(full.addresses),
        not_ready_addresses: addresses(full.not_ready_addresses),
        ports: full.ports,
    };
    let subsets = full.subsets.map(|subsets| subsets.into_iter().map(subset).collect());
    Endpoints { metadata: metadata(full.metadata), subsets }
}

/// What is exported. The conditions, which are this cluster's view of it, stay.
pub fn service_export(full: ServiceExport) -> ServiceExport {
    ServiceExport { metadata: metadata(full.metadata), spec: full.spec, status: None }
}

/// The property.
pub fn cluster_property(full: ClusterProperty) -> ClusterProperty {
    ClusterProperty { metadata: metadata(full.metadata), spec: full.spec, status: None }
}

/// That it is there.
pub fn namespace(full: Namespace) -> Namespace {
    Namespace { metadata: metadata(full.metadata), spec: None, status: None }
}

#[cfg(test)]
mod tests;
