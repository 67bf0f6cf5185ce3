//! The nodes of a cluster as segments, between whose leaders packets are encrypted.

mod allocate;
mod allowed_location_ips;
mod conf;
mod leader;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use tombolo_net::wireguard::{Endpoint, Key};

use crate::{Granularity, Node, Peer, Refusal};

/// What a [`Topology`] is made of.
#[derive(Debug, Clone)]
pub struct TopologyInput<'a> {
    /// The ready nodes by name. Those without a key, an endpoint or a pod CIDR are left out.
    pub nodes: &'a BTreeMap<String, Node>,
    /// The ready peers by name.
    pub peers: &'a BTreeMap<String, Peer>,
    /// How finely the cluster is divided.
    pub granularity: Granularity,
    /// Name of the node whose view of the topology is wanted.
    pub hostname: &'a str,
    /// UDP port on which that node's WireGuard listens.
    pub port: u16,
    /// The subnets of the leaders' WireGuard addresses, one a family.
    pub subnets: &'a [IpNet],
    /// The service CIDRs of the cluster, where known.
    pub service_cidrs: &'a [IpNet],
    /// Seconds between the keepalives that the node sends, 0 for none.
    pub persistent_keepalive: u16,
}

/// The mesh, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    /// Name of that node.
    pub hostname: String,
    /// Name of the segment that it is in.
    pub location: String,
    /// Whether it leads its segment.
    pub leader: bool,
    /// UDP port on which its WireGuard listens.
    pub port: u16,
    /// Seconds between the keepalives that it sends, 0 for none.
    pub persistent_keepalive: u16,
    /// Its internal addresses.
    pub internal_ips: Vec<IpNet>,
    /// Its pod CIDRs.
    pub subnets: Vec<IpNet>,
    /// Its WireGuard addresses, with the prefix length of their subnets, IPv4 first; none where it leads nothing.
    pub wireguard_ips: Vec<IpNet>,
    /// The subnets of all WireGuard addresses, IPv4 first.
    pub wireguard_subnets: Vec<IpNet>,
    /// The service CIDRs of the cluster.
    pub service_cidrs: Vec<IpNet>,
    /// All segments, sorted by [`Segment::location`].
    pub segments: Vec<Segment>,
    /// The peers, sorted by name. A CIDR that several give is left to the first (Kilo's rule for what kgctl prints).
    pub peers: Vec<Peer>,
    /// Where peers behind NAT were heard: by this node, else by others in the order of segments and names.
    pub discovered_endpoints: BTreeMap<Key, SocketAddr>,
    /// The allowed-location-ips that were dropped because they overlap with others' addresses.
    pub refusals: Vec<Refusal>,
}

/// The nodes that have one leader in common, through which the others reach them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// `location:NAME`, or `node:NAME` for a node by itself.
    pub location: String,
    /// The nodes, sorted by name; never empty.
    pub members: Vec<Member>,
    /// Index of the leader in `members`.
    pub leader: usize,
    /// The leader's endpoint.
    pub endpoint: Endpoint,
    /// The leader's public key.
    pub key: Key,
    /// The leader's keepalive in seconds, 0 for none.
    pub persistent_keepalive: u16,
    /// The leader's WireGuard addresses, IPv4 first.
    pub wireguard_ips: Vec<IpAddr>,
    /// What belongs to the segment: of each member its pod CIDRs and internal addresses, then `wireguard_ips`.
    pub allowed_ips: Vec<IpNet>,
    /// What its nodes reach outside the cluster, as annotated, less what overlaps; sorted by their text.
    pub allowed_location_ips: Vec<IpNet>,
}

/// A node of a [`Segment`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Name of the node.
    pub name: String,
    /// Its pod CIDRs, IPv4 first.
    pub subnets: Vec<IpNet>,
    /// Its internal addresses, IPv4 first.
    pub internal_ips: Vec<IpAddr>,
    /// The address of the other CNI's interface, in compatibility mode.
    pub cni_compatibility_ip: Option<IpNet>,
}

/// Why there is no topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// The node whose view is wanted is not among the ready ones.
    #[error(
        "node {0:?} is not among the ready nodes of the mesh: it needs a key, an endpoint, a pod CIDR and a last-seen \
         annotation of the last minute; see whether the agent runs on it"
    )]
    UnknownHost(String),
    /// There are more segments than WireGuard addresses.
    #[error("the WireGuard subnet {subnet} has not enough addresses for {segments} segments; choose a larger --subnet")]
    AddressesExhausted {
        /// The subnet.
        subnet: IpNet,
        /// How many addresses are needed.
        segments: usize,
    },
}

impl Segment {
    /// The node that leads it.
    pub fn leader(&self) -> &Member {
        &self.members[self.leader]
    }
}

impl Topology {
    /// Divides the nodes into segments, finds the leaders and gives them WireGuard addresses.
    ///
    /// The result depends on the values alone, not on their order, so that all nodes come to the same one.
    ///
    /// # Errors
    /// See [`TopologyError`].
    pub fn new(input: &TopologyInput<'_>) -> Result<Self, TopologyError> {
        let usable: BTreeMap<&str, Usable<'_>> =
            input.nodes.iter().filter_map(|(name, node)| Some((name.as_str(), Usable::new(node)?))).collect();
        let Some(host) = usable.get(input.hostname) else {
            return Err(TopologyError::UnknownHost(input.hostname.to_owned()));
        };
        let mut by_location: BTreeMap<String, Vec<Usable<'_>>> = BTreeMap::new();
        for node in usable.values() {
            by_location.entry(segment_name(node.node, input.granularity)).or_default().push(*node);
        }
        let mut segments: Vec<Segment> = by_location.iter().map(|(name, nodes)| segment(name, nodes)).collect();
        let mut wireguard_subnets: Vec<IpNet> = input.subnets.iter().map(IpNet::trunc).collect();
        sort_by_family(&mut wireguard_subnets);
        let location = segment_name(host.node, input.granularity);
        let leader = segments.iter().any(|s| s.location == location && s.leader().name == input.hostname);
        let peers = claimed_once(input.peers.values());
        let addresses = allocate::addresses(&wireguard_subnets, segments.len())?;
        let refusals = allowed_location_ips::assign(&mut segments, &by_location, &peers, &addresses);
        let mut topology = Self {
            hostname: input.hostname.to_owned(),
            leader,
            port: input.port,
            persistent_keepalive: input.persistent_keepalive,
            internal_ips: host.node.internal_ips.clone(),
            subnets: host.node.subnets.clone(),
            wireguard_ips: Vec::new(),
            wireguard_subnets,
            service_cidrs: input.service_cidrs.to_vec(),
            peers,
            discovered_endpoints: discovered_endpoints(host.node, by_location.values().flatten().map(|n| n.node)),
            refusals,
            segments,
            location,
        };
        if leader {
            let own = topology.own_segment().map(|s| s.wireguard_ips.clone()).unwrap_or_default();
            let nets = own.iter().zip(&topology.wireguard_subnets);
            topology.wireguard_ips = nets.filter_map(|(ip, s)| IpNet::new(*ip, s.prefix_len()).ok()).collect();
        }
        Ok(topology)
    }

    /// The segment that the node is in.
    pub fn own_segment(&self) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.location == self.location)
    }

    /// Where a segment's or a peer's packets are sent to: for one behind NAT (it sends keepalives) where it was heard,
    /// else as configured.
    pub fn endpoint(&self, configured: Option<&Endpoint>, key: &Key, persistent_keepalive: u16) -> Option<Endpoint> {
        let heard = self.discovered_endpoints.get(key).filter(|_| persistent_keepalive > 0);
        heard.map(|addr| Endpoint::from(*addr)).or_else(|| configured.cloned())
    }
}

/// A node with what a segment cannot do without.
#[derive(Clone, Copy)]
struct Usable<'a> {
    node: &'a Node,
    endpoint: &'a Endpoint,
    key: Key,
}

impl<'a> Usable<'a> {
    fn new(node: &'a Node) -> Option<Self> {
        let endpoint = node.endpoint.as_ref()?;
        let key = node.key?;
        (!node.subnets.is_empty()).then_some(Self { node, endpoint, key })
    }
}

/// A node without an internal address cannot be reached by the others of its location, and stands by itself.
fn segment_name(node: &Node, granularity: Granularity) -> String {
    match granularity {
        Granularity::Location if !node.internal_ips.is_empty() => format!("location:{}", node.location),
        Granularity::Location | Granularity::Full => format!("node:{}", node.name),
    }
}

fn segment(location: &str, nodes: &[Usable<'_>]) -> Segment {
    let members: Vec<Member> = nodes.iter().map(|n| member(n.node)).collect();
    let leader = leader::find(&nodes.iter().map(|n| n.node).collect::<Vec<_>>());
    let mut allowed_ips = Vec::new();
    for member in &members {
        allowed_ips.extend_from_slice(&member.subnets);
        allowed_ips.extend(member.internal_ips.iter().map(|ip| IpNet::from(*ip)));
    }
    Segment {
        location: location.to_owned(),
        members,
        leader,
        endpoint: nodes[leader].endpoint.clone(),
        key: nodes[leader].key,
        persistent_keepalive: nodes[leader].node.persistent_keepalive,
        wireguard_ips: Vec::new(),
        allowed_ips,
        allowed_location_ips: Vec::new(),
    }
}

fn member(node: &Node) -> Member {
    let mut subnets = node.subnets.clone();
    sort_by_family(&mut subnets);
    Member {
        name: node.name.clone(),
        subnets,
        internal_ips: node.internal_addrs(),
        cni_compatibility_ip: node.cni_compatibility_ip,
    }
}

/// IPv4 before IPv6, else as it was.
fn sort_by_family(nets: &mut [IpNet]) {
    nets.sort_by_key(|net| net.addr().is_ipv6());
}

/// The peers by name, each CIDR left to the first that gives it.
fn claimed_once<'a>(peers: impl Iterator<Item = &'a Peer>) -> Vec<Peer> {
    let mut claimed = BTreeSet::new();
    let mut peers: Vec<Peer> = peers.cloned().collect();
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    for peer in &mut peers {
        peer.allowed_ips.retain(|ip| claimed.insert(*ip));
    }
    peers
}

fn discovered_endpoints<'a>(host: &Node, others: impl Iterator<Item = &'a Node>) -> BTreeMap<Key, SocketAddr> {
    let mut endpoints = host.discovered_endpoints.clone();
    for (key, endpoint) in others.flat_map(|node| &node.discovered_endpoints) {
        endpoints.entry(*key).or_insert(*endpoint);
    }
    endpoints
}
