//! A node of the cluster, as its annotations describe it.

mod from_kubernetes;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use tombolo_bgp::{Community, Family, LargeCommunity};

use crate::Peer;

pub use from_kubernetes::from_kubernetes;

/// What is known of a node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// Name of the Node object.
    pub name: String,
    /// Its addresses, internal ones before external ones, in the order of its status. The first is the one that the
    /// nodes of the cluster peer with.
    pub addresses: Vec<IpAddr>,
    /// Its pod CIDRs.
    pub pod_cidrs: Vec<IpNet>,
    /// Whether an annotation is on it that asks for BGP, rightly written or not ([`crate::Enable::Auto`]).
    pub asks_for_bgp: bool,
    /// `node.asn`.
    pub asn: Option<u32>,
    /// `rr.server` and `rr.client`.
    pub reflection: Reflection,
    /// `peers`, or else `peer.ips` with its companions; `None` where neither names any, so that the flags do.
    pub peers: Option<Vec<Peer>>,
    /// `path-prepend.as` and `path-prepend.repeat-n`.
    pub prepend: Option<(u32, u8)>,
    /// `node.bgp.communities`.
    pub communities: Vec<Community>,
    /// The large ones among `node.bgp.communities`.
    pub large_communities: Vec<LargeCommunity>,
    /// `node.bgp.customimportreject`.
    pub import_reject: Vec<IpNet>,
    /// `bgp-local-addresses`; empty where the node's first addresses are meant.
    pub listen: Vec<IpAddr>,
}

/// A node's part in the reflection of routes (RFC 4456).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reflection {
    /// It neither reflects nor is reflected.
    #[default]
    None,
    /// It reflects, with this cluster ID.
    Server(Ipv4Addr),
    /// It is a client of the reflectors with this cluster ID.
    Client(Ipv4Addr),
}

impl Node {
    /// Its first address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| Family::of(*address) == family)
    }

    /// The families that it has addresses of.
    pub fn families(&self) -> Vec<Family> {
        Family::ALL.into_iter().filter(|family| self.address(*family).is_some()).collect()
    }
}
