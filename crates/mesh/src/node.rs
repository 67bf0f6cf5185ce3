//! A node of the cluster, as its annotations describe it.

mod from_kubernetes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tombolo_net::wireguard::{Endpoint, Key};

use crate::Granularity;

pub use from_kubernetes::from_kubernetes;

/// Seconds after which a node that has not been heard of is not ready: twice the period in which agents check in.
pub const READY_WITHIN: i64 = 60;

/// What is known of a node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Name of the Node object.
    pub name: String,
    /// Where its encrypted packets are sent to.
    pub endpoint: Option<Endpoint>,
    /// Its WireGuard public key; never all zeros.
    pub key: Option<Key>,
    /// Whether a person said that it has no internal address.
    pub no_internal_ip: bool,
    /// Its internal addresses with the prefix lengths of their networks; the first is the one that Kilo knows.
    pub internal_ips: Vec<IpNet>,
    /// Unix time in seconds at which its agent last said that it lives; 0 where it never did.
    pub last_seen: i64,
    /// Whether it wants to lead its location.
    pub leader: bool,
    /// The location that it is in; the default one is empty.
    pub location: String,
    /// Seconds between the keepalives that it sends, 0 for none.
    pub persistent_keepalive: u16,
    /// Its pod CIDRs, in the order of its `spec.podCIDRs`.
    pub subnets: Vec<IpNet>,
    /// Its WireGuard addresses, with the prefix length of the mesh; none where it leads nothing.
    pub wireguard_ips: Vec<IpNet>,
    /// From where it heard peers behind NAT.
    pub discovered_endpoints: BTreeMap<Key, SocketAddr>,
    /// What its location reaches and the others shall reach through it.
    pub allowed_location_ips: Vec<IpNet>,
    /// The granularity that its agent runs with, where it says so.
    pub granularity: Option<Granularity>,
    /// The nodes of its location that it cannot reach.
    pub unreachable: BTreeSet<String>,
    /// As a leader: the networks of Peers that do not answer it.
    pub silent_networks: BTreeSet<IpNet>,
    /// The address of the other CNI's interface, in compatibility mode.
    pub cni_compatibility_ip: Option<IpNet>,
}

impl Node {
    /// Whether the node takes part in the mesh at Unix time `now` (seconds): it has an endpoint, a key and a pod CIDR,
    /// and was last seen within [`READY_WITHIN`] seconds.
    pub fn ready(&self, now: i64) -> bool {
        self.endpoint.is_some()
            && self.key.is_some()
            && !self.subnets.is_empty()
            && now.saturating_sub(self.last_seen) < READY_WITHIN
    }

    /// Its internal addresses without prefix lengths, IPv4 before IPv6.
    pub fn internal_addrs(&self) -> Vec<IpAddr> {
        let mut addrs: Vec<IpAddr> = self.internal_ips.iter().map(IpNet::addr).collect();
        addrs.sort_by_key(IpAddr::is_ipv6);
        addrs
    }
}
