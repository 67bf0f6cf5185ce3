//! The vocabulary: services, endpoints and the node that they are seen from.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Names a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ServiceKey {
    /// The namespace, a DNS label (RFC 1123).
    pub namespace: String,
    /// The name, a DNS label (RFC 1123 or RFC 1035).
    pub name: String,
}

impl ServiceKey {
    /// The key of service `name` in `namespace`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The transport protocol of a service port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP, which is also what a port without a protocol means.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The protocol as nftables writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The address family of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The suffix that tells apart this family's sets and chains.
    pub(crate) fn digit(self) -> char {
        match self {
            Self::V4 => '4',
            Self::V6 => '6',
        }
    }

    /// The protocol's name in an nftables expression.
    pub(crate) fn ip(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }

    /// The nftables type of an address.
    pub(crate) fn address_type(self) -> &'static str {
        match self {
            Self::V4 => "ipv4_addr",
            Self::V6 => "ipv6_addr",
        }
    }

    /// The match of an echo request.
    pub(crate) fn echo_request(self) -> &'static str {
        match self {
            Self::V4 => "icmp type echo-request",
            Self::V6 => "icmpv6 type echo-request",
        }
    }
}

/// Which endpoints may be chosen for traffic of one kind
/// (`internalTrafficPolicy`, `externalTrafficPolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TrafficPolicy {
    /// Any endpoint.
    #[default]
    Cluster,
    /// Only endpoints on the node where the packet is; without one it is dropped.
    Local,
}

/// A Service, as far as the proxy is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    /// The addresses of the service, one a family. Without any it is headless, and not proxied.
    pub cluster_ips: Vec<IpAddr>,
    /// Further addresses that the cluster's nodes accept for it (`externalIPs`).
    pub external_ips: Vec<IpAddr>,
    /// The addresses of the load balancer in front of it (`status.loadBalancer.ingress`).
    pub load_balancer_ips: Vec<IpAddr>,
    /// The ports.
    pub ports: Vec<ServicePort>,
    /// `ClientIP` affinity and its timeout in seconds.
    pub session_affinity: Option<u32>,
    /// For the ClusterIPs.
    pub internal_traffic_policy: TrafficPolicy,
    /// For node ports, external and load balancer IPs.
    pub external_traffic_policy: TrafficPolicy,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServicePort {
    /// The name, which ties it to the endpoints' ports; empty for a service's only port.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The port at the service's addresses.
    pub port: u16,
    /// The port at the nodes' addresses.
    pub node_port: Option<u16>,
}

/// One port of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address: of a pod, or of whatever a hand-made Endpoints object names, which may be a
    /// ClusterIP of another cluster.
    pub address: IpAddr,
    /// The name of the service port that it stands behind.
    pub port_name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The port at `address`.
    pub port: u16,
    /// Takes new connections.
    pub ready: bool,
    /// Answers, whether or not it is going away.
    pub serving: bool,
    /// Is going away.
    pub terminating: bool,
    /// The node that it runs on.
    pub node_name: Option<String>,
}

/// The node that the ruleset is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The node's name, to tell which endpoints are its own.
    pub name: String,
    /// The pod CIDRs of this node.
    pub pod_cidrs: Vec<IpNet>,
    /// The pod CIDRs of the whole cluster, or of all its nodes.
    pub cluster_pod_cidrs: Vec<IpNet>,
    /// The cluster's service CIDRs: what is sent to an address in them that no service has is
    /// dropped, rather than left to wander along the default route.
    pub service_cidrs: Vec<IpNet>,
    /// The node's addresses at which node ports are served.
    pub node_port_addresses: Vec<IpAddr>,
    /// The name of the table (family `inet`), see [`crate::DEFAULT_TABLE`].
    pub table: String,
}

/// A value that was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[error("{object}: {field}: {reason}")]
pub struct Refused {
    /// The object, as `Service namespace/name`.
    pub object: String,
    /// The field.
    pub field: String,
    /// Why it can't be used, and what could.
    pub reason: String,
}
