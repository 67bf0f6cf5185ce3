//! The vocabulary: services, endpoints and the node that they are seen from.

use std::collections::{BTreeMap, BTreeSet};
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
    /// The number of the protocol (IANA).
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

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

    /// Its place in a pair of names.
    pub(crate) fn index(self) -> usize {
        match self {
            Self::V4 => 0,
            Self::V6 => 1,
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
    /// Who may reach the load balancer IPs (`loadBalancerSourceRanges`); none is everybody. Where ranges were given
    /// of which none can be used, the list is empty and nobody may.
    pub source_ranges: Option<Vec<IpNet>>,
    /// Where a load balancer asks whether this node has endpoints (`healthCheckNodePort`).
    pub health_check_node_port: Option<u16>,
    /// How to choose among the clusters that its endpoints are in.
    pub clusters: Option<ClusterChoice>,
}

/// A service of several clusters (a ServiceImport of type ClusterSetIP), as far as the proxy is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Import {
    /// What it is as a service: its ClusterSet IPs are the ClusterIPs.
    pub service: Service,
    /// The name of the Service that stands for it in the same namespace. What that one serves is not served twice.
    pub derived: Option<String>,
}

/// Whose part of the table something is. A Service comes before any ServiceImport.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A Service.
    Service(ServiceKey),
    /// A ServiceImport.
    Import(ServiceKey),
}

impl Owner {
    /// Namespace and name.
    pub fn key(&self) -> &ServiceKey {
        match self {
            Self::Service(key) | Self::Import(key) => key,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(key) => write!(f, "Service {key}"),
            Self::Import(key) => write!(f, "ServiceImport {key}"),
        }
    }
}

/// A choice among the clusters of a service ([`CLUSTER_PREFERENCE`](tombolo_api::tombolo::CLUSTER_PREFERENCE),
/// [`CLUSTER_WEIGHTS`](tombolo_api::tombolo::CLUSTER_WEIGHTS)).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterChoice {
    /// Whether this cluster's own endpoints come first.
    pub prefers_local: bool,
    /// Shares of the connections by cluster id; a cluster that is not named has 1. Empty: all endpoints are equal.
    pub weights: BTreeMap<String, u32>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
    /// The cluster that it is in, by its id; none is this one.
    pub cluster: Option<String>,
    /// The zones whose clients shall use it (`hints.forZones`).
    pub for_zones: Vec<String>,
    /// The nodes whose clients shall use it (`hints.forNodes`).
    pub for_nodes: Vec<String>,
}

/// One EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slice {
    /// The Service and the ServiceImport that it belongs to, or one of them.
    pub owners: Vec<Owner>,
    /// Each port of each endpoint.
    pub endpoints: Vec<Endpoint>,
}

/// The node that the ruleset is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
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
    /// Networks that do not answer: endpoints in them are used only where a service has no others.
    pub silent_networks: BTreeSet<IpNet>,
    /// The node's addresses at which node ports are served.
    pub node_port_addresses: Vec<IpAddr>,
    /// The zone that it is in (label `topology.kubernetes.io/zone`).
    pub zone: Option<String>,
    /// The id of its cluster in the ClusterSet, where it has one.
    pub cluster: Option<String>,
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
