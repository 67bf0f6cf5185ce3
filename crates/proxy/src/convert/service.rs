//! Services.

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;

use super::{
    Converted, HEADLESS_LABEL, PROXY_NAME_LABEL, Refusals, addresses, cluster_choice, policy, port_number, protocol,
    session_affinity,
};
use crate::model::{Service, ServiceKey, ServicePort};

/// The key of a Service, from its name and namespace.
pub fn service_key(service: &core::Service) -> ServiceKey {
    let meta = &service.metadata;
    ServiceKey::new(meta.namespace.as_deref().unwrap_or("default"), meta.name.as_deref().unwrap_or_default())
}

/// What the proxy needs of a Service.
pub fn service(object: &core::Service) -> Converted<Service> {
    let mut refusals = Refusals::new(format!("Service {}", service_key(object)));
    Converted { value: proxied(object, &mut refusals), refused: refusals.refused }
}

fn proxied(object: &core::Service, refusals: &mut Refusals) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    let labels = object.metadata.labels.as_ref();
    let is_foreign =
        labels.is_some_and(|labels| labels.contains_key(PROXY_NAME_LABEL) || labels.contains_key(HEADLESS_LABEL));
    if is_foreign || spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let mut cluster_ips = spec.cluster_ips.clone().unwrap_or_default();
    if cluster_ips.is_empty() {
        cluster_ips.extend(spec.cluster_ip.clone());
    }
    cluster_ips.retain(|ip| !ip.is_empty() && ip != "None");
    let cluster_ips = addresses("spec.clusterIPs", &cluster_ips, refusals);
    if cluster_ips.is_empty() {
        return None;
    }
    let external = spec.external_ips.clone().unwrap_or_default();
    let load_balancer = load_balancer_ips(object);
    Some(Service {
        cluster_ips,
        external_ips: addresses("spec.externalIPs", &external, refusals),
        load_balancer_ips: addresses("status.loadBalancer.ingress", &load_balancer, refusals),
        ports: service_ports(spec, refusals),
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
        external_traffic_policy: policy(
            "spec.externalTrafficPolicy",
            spec.external_traffic_policy.as_deref(),
            refusals,
        ),
        source_ranges: source_ranges(spec, refusals),
        health_check_node_port: health_check_node_port(spec, refusals),
        clusters: cluster_choice(object.metadata.annotations.as_ref(), refusals),
    })
}

/// The addresses for which the proxy stands in; those with `ipMode: Proxy` want to be reached
/// through the load balancer.
fn load_balancer_ips(object: &core::Service) -> Vec<String> {
    object
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_ref())
        .into_iter()
        .flatten()
        .filter(|ingress| ingress.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|ingress| ingress.ip.clone())
        .collect()
}

fn service_ports(spec: &core::ServiceSpec, refusals: &mut Refusals) -> Vec<ServicePort> {
    let ports = spec.ports.iter().flatten();
    ports
        .filter_map(|port| {
            let node_port = match port.node_port {
                None | Some(0) => None,
                Some(number) => refusals.take("spec.ports.nodePort", port_number(number)),
            };
            Some(ServicePort {
                name: port.name.clone().unwrap_or_default(),
                protocol: refusals.take("spec.ports.protocol", protocol(port.protocol.as_deref()))?,
                port: refusals.take("spec.ports.port", port_number(port.port))?,
                node_port,
            })
        })
        .collect()
}

/// A range that can't be read lets nobody pass, rather than everybody.
fn source_ranges(spec: &core::ServiceSpec, refusals: &mut Refusals) -> Option<Vec<IpNet>> {
    let texts = spec.load_balancer_source_ranges.as_ref().filter(|texts| !texts.is_empty())?;
    let range = |text: &String| {
        text.trim().parse::<IpNet>().map_err(|_| format!("{text:?} is no CIDR; nobody is let in for it"))
    };
    Some(texts.iter().filter_map(|text| refusals.take("spec.loadBalancerSourceRanges", range(text))).collect())
}

/// Only load balancers ask, and only where nodes differ.
fn health_check_node_port(spec: &core::ServiceSpec, refusals: &mut Refusals) -> Option<u16> {
    let is_asked =
        spec.type_.as_deref() == Some("LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local");
    let number = spec.health_check_node_port.filter(|number| is_asked && *number != 0)?;
    refusals.take("spec.healthCheckNodePort", port_number(number))
}
