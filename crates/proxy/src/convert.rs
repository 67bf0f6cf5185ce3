//! From the Kubernetes objects to the proxy's own vocabulary.
//!
//! A value that can't be used is refused for itself: the rest of the object goes on.

use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;

use crate::model::{Endpoint, Protocol, Refused, Service, ServiceKey, ServicePort, TrafficPolicy};

/// The label by which a Service is left to another proxy.
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// The label of Services, and of their slices, that no proxy serves.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// The label that names a slice's Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_TIMEOUT: u32 = 10_800;

/// A converted object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted<T> {
    /// The object; none where it is not for the proxy: headless, ExternalName, or left to another.
    pub value: Option<T>,
    /// The parts that were left out.
    pub refused: Vec<Refused>,
}

/// The endpoints of one EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The Service that they belong to.
    pub service: ServiceKey,
    /// Each port of each endpoint.
    pub endpoints: Vec<Endpoint>,
}

/// The key of a Service, from its name and namespace.
pub fn service_key(service: &core::Service) -> ServiceKey {
    let meta = &service.metadata;
    ServiceKey::new(meta.namespace.as_deref().unwrap_or("default"), meta.name.as_deref().unwrap_or_default())
}

/// What the proxy needs of a Service.
pub fn service(object: &core::Service) -> Converted<Service> {
    let mut refusals = Refusals::new(format!("Service {}", service_key(object)));
    Converted { value: proxied_service(object, &mut refusals), refused: refusals.refused }
}

/// What the proxy needs of an EndpointSlice.
pub fn endpoint_slice(object: &discovery::EndpointSlice) -> Converted<Slice> {
    let meta = &object.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or("default");
    let name = meta.name.as_deref().unwrap_or_default();
    let mut refusals = Refusals::new(format!("EndpointSlice {namespace}/{name}"));
    Converted { value: proxied_slice(object, namespace, &mut refusals), refused: refusals.refused }
}

struct Refusals {
    object: String,
    refused: Vec<Refused>,
}

impl Refusals {
    fn new(object: String) -> Self {
        Self { object, refused: Vec::new() }
    }

    fn add(&mut self, field: &str, reason: impl Into<String>) {
        self.refused.push(Refused { object: self.object.clone(), field: field.to_owned(), reason: reason.into() });
    }

    /// The value, or none and a refusal.
    fn take<T>(&mut self, field: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|reason| self.add(field, reason)).ok()
    }
}

fn proxied_service(object: &core::Service, refusals: &mut Refusals) -> Option<Service> {
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
        session_affinity: session_affinity(spec, refusals),
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

fn session_affinity(spec: &core::ServiceSpec, refusals: &mut Refusals) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let seconds = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref())
        .and_then(|client_ip| client_ip.timeout_seconds);
    let Some(seconds) = seconds else {
        return Some(AFFINITY_TIMEOUT);
    };
    match u32::try_from(seconds) {
        Ok(seconds @ 1..=86_400) => Some(seconds),
        _ => {
            refusals.add(
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                format!("{seconds} is not between 1 and 86400; {AFFINITY_TIMEOUT} is used"),
            );
            Some(AFFINITY_TIMEOUT)
        }
    }
}

fn policy(field: &str, policy: Option<&str>, refusals: &mut Refusals) -> TrafficPolicy {
    match policy {
        None | Some("Cluster") => TrafficPolicy::Cluster,
        Some("Local") => TrafficPolicy::Local,
        Some(other) => {
            refusals.add(field, format!("{other:?} is neither Cluster nor Local; Cluster is used"));
            TrafficPolicy::Cluster
        }
    }
}

fn proxied_slice(object: &discovery::EndpointSlice, namespace: &str, refusals: &mut Refusals) -> Option<Slice> {
    let labels = object.metadata.labels.as_ref()?;
    if labels.contains_key(PROXY_NAME_LABEL) || labels.contains_key(HEADLESS_LABEL) {
        return None;
    }
    let service = ServiceKey::new(namespace, labels.get(SERVICE_NAME_LABEL)?);
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
        endpoints.extend(ports.iter().map(|(name, protocol, port)| Endpoint {
            address,
            port_name: name.clone(),
            protocol: *protocol,
            port: *port,
            ready,
            serving: conditions.serving.unwrap_or(ready),
            terminating: conditions.terminating.unwrap_or(false),
            node_name: endpoint.node_name.clone(),
        }));
    }
    Some(Slice { service, endpoints })
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

fn addresses(field: &str, texts: &[String], refusals: &mut Refusals) -> Vec<IpAddr> {
    texts.iter().filter_map(|text| refusals.take(field, address(text))).collect()
}

/// An address that packets can be sent on to: what a Service or an endpoint may not have, such as
/// this machine's loopback, would turn a Service into a way around the node's own firewall.
fn address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an IP address"))?;
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_link_local {
        return Err(format!("{address} is not an address of one host elsewhere"));
    }
    Ok(address)
}

fn of_type(address: IpAddr, address_type: &str) -> Result<IpAddr, String> {
    if address.is_ipv4() == (address_type == "IPv4") {
        return Ok(address);
    }
    Err(format!("{address} is not of type {address_type}"))
}

fn port_number(number: i32) -> Result<u16, String> {
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or_else(|| format!("{number} is not between 1 and 65535"))
}

fn protocol(protocol: Option<&str>) -> Result<Protocol, String> {
    match protocol {
        None | Some("TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        Some(other) => Err(format!("{other:?} is none of TCP, UDP, SCTP")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
        serde_json::from_value(json).unwrap()
    }

    fn reasons(refused: &[Refused]) -> Vec<String> {
        refused.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_service_is_read_and_what_is_bad_in_it_is_refused_for_itself() {
        let converted = service(&read(serde_json::json!({
            "metadata": {"namespace": "shop", "name": "web"},
            "spec": {
                "clusterIP": "10.96.0.1",
                "clusterIPs": ["10.96.0.1", "fd00:96::1"],
                "externalIPs": ["198.51.100.1", "127.0.0.1", "nonsense"],
                "sessionAffinity": "ClientIP",
                "externalTrafficPolicy": "Local",
                "ports": [
                    {"name": "http", "port": 80, "nodePort": 30080},
                    {"name": "dns", "port": 53, "protocol": "UDP"},
                    {"name": "bad", "port": 70000},
                    {"name": "odd", "port": 1, "protocol": "DCCP"},
                ],
            },
            "status": {"loadBalancer": {"ingress": [
                {"ip": "203.0.113.1"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}, {"hostname": "lb"},
            ]}},
        })));
        let expected = Service {
            cluster_ips: ["10.96.0.1", "fd00:96::1"].map(|ip| ip.parse().unwrap()).into(),
            external_ips: vec!["198.51.100.1".parse().unwrap()],
            load_balancer_ips: vec!["203.0.113.1".parse().unwrap()],
            ports: vec![
                ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: Some(30080) },
                ServicePort { name: "dns".into(), protocol: Protocol::Udp, port: 53, node_port: None },
            ],
            session_affinity: Some(AFFINITY_TIMEOUT),
            internal_traffic_policy: TrafficPolicy::Cluster,
            external_traffic_policy: TrafficPolicy::Local,
        };
        assert_eq!(converted.value, Some(expected));
        assert_eq!(
            reasons(&converted.refused),
            [
                "Service shop/web: spec.externalIPs: 127.0.0.1 is not an address of one host elsewhere",
                "Service shop/web: spec.externalIPs: \"nonsense\" is not an IP address",
                "Service shop/web: spec.ports.port: 70000 is not between 1 and 65535",
                "Service shop/web: spec.ports.protocol: \"DCCP\" is none of TCP, UDP, SCTP",
            ]
        );
    }

    #[test]
    fn services_that_are_not_for_a_proxy_are_left_alone() {
        for (labels, spec) in [
            (serde_json::json!({}), serde_json::json!({"clusterIP": "None"})),
            (serde_json::json!({}), serde_json::json!({"type": "ExternalName", "externalName": "a.b"})),
            (serde_json::json!({}), serde_json::json!({})),
            (serde_json::json!({PROXY_NAME_LABEL: "other"}), serde_json::json!({"clusterIP": "10.96.0.1"})),
        ] {
            let object = serde_json::json!({"metadata": {"name": "web", "labels": labels}, "spec": spec});
            let converted = service(&read(object.clone()));
            assert_eq!((converted.value, converted.refused), (None, vec![]), "{object}");
        }
    }

    #[test]
    fn a_slice_gives_an_endpoint_for_each_address_and_port() {
        let converted = endpoint_slice(&read(serde_json::json!({
            "metadata": {"namespace": "shop", "name": "web-1", "labels": {SERVICE_NAME_LABEL: "web"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}, {"name": "all"}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "nodeName": "n1"},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}},
                {"addresses": ["10.0.0.3"], "conditions": {"ready": false}},
                {"addresses": ["fd00::1"]},
                {"addresses": ["169.254.0.1"]},
                {"addresses": []},
            ],
        })));
        let slice = converted.value.unwrap();
        assert_eq!(slice.service, ServiceKey::new("shop", "web"));
        let seen: Vec<_> = slice
            .endpoints
            .iter()
            .map(|e| (e.address.to_string(), e.port, e.ready, e.serving, e.terminating))
            .collect();
        assert_eq!(
            seen,
            [
                ("10.0.0.1".to_owned(), 8080, true, true, false),
                ("10.0.0.2".to_owned(), 8080, false, true, true),
                ("10.0.0.3".to_owned(), 8080, false, false, false),
            ]
        );
        assert_eq!(
            reasons(&converted.refused),
            [
                "EndpointSlice shop/web-1: endpoints.addresses: fd00::1 is not of type IPv4",
                "EndpointSlice shop/web-1: endpoints.addresses: 169.254.0.1 is not an address of one host elsewhere",
            ]
        );
    }

    #[test]
    fn a_slice_of_names_is_refused() {
        let converted = endpoint_slice(&read(serde_json::json!({
            "metadata": {"name": "web-1", "labels": {SERVICE_NAME_LABEL: "web"}},
            "addressType": "FQDN",
            "endpoints": [{"addresses": ["example.org"]}],
        })));
        assert_eq!(converted.value, None);
        assert_eq!(converted.refused.len(), 1);
    }
}
