//! What one node shall be: its WireGuard device, its network and its firewall, out of the cluster's Nodes and Peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use tombolo_api::kilo;
use tombolo_net::network::Network;
use tombolo_net::wireguard::{self, Endpoint, Host, Key};

use crate::claims::{self, Claims, Liveness, OwnNetworks};
use crate::firewall::{Firewall, Overlay};
use crate::routes::{self, World};
use crate::{Granularity, Node, Peer, Refusal, Segment, Topology, TopologyError, TopologyInput};

/// Which packets between nodes of a location are encapsulated; Kilo's `--encapsulate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encapsulate {
    /// None: the underlay carries pods' packets as they are.
    Never,
    /// Those to nodes outside the node's own subnet.
    CrossSubnet,
    /// All.
    Always,
}

impl FromStr for Encapsulate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            "crosssubnet" => Ok(Self::CrossSubnet),
            "always" => Ok(Self::Always),
            other => Err(format!("{other:?} is none of never, crosssubnet, always")),
        }
    }
}

/// Another CNI whose overlay carries packets inside a location; Kilo's `--compatibility`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compatibility {
    /// flannel's VXLAN.
    Flannel,
    /// Cilium's.
    Cilium,
}

impl FromStr for Compatibility {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "flannel" => Ok(Self::Flannel),
            "cilium" => Ok(Self::Cilium),
            other => Err(format!("{other:?} is none of flannel, cilium")),
        }
    }
}

/// What the agent on this node was told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node.
    pub hostname: String,
    /// Which nodes have a tunnel of their own.
    pub granularity: Granularity,
    /// Where WireGuard addresses are taken from.
    pub subnets: Vec<IpNet>,
    /// The cluster's service CIDRs.
    pub service_cidrs: Vec<IpNet>,
    /// The WireGuard interface.
    pub interface: String,
    /// The nftables table.
    pub firewall_table: String,
    /// Which packets inside the location are encapsulated.
    pub encapsulate: Encapsulate,
    /// Whose overlay does that, if not ours.
    pub compatibility: Option<Compatibility>,
    /// Whether to manage routes inside the location.
    pub local: bool,
    /// Whether the node's pods are ours to masquerade.
    pub cni: bool,
}

/// The network under the mesh, as this node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Underlay {
    /// The link with the node's first internal address.
    pub link: Option<String>,
    /// Its MTU in bytes.
    pub mtu: u32,
}

/// What the plan is made from.
#[derive(Debug)]
pub struct Inputs<'a> {
    /// The agent's settings.
    pub settings: &'a Settings,
    /// This node's private key.
    pub private_key: Key,
    /// All nodes by name, ready or not.
    pub nodes: &'a BTreeMap<String, Node>,
    /// All Peers by name.
    pub peers: &'a BTreeMap<String, Peer>,
    /// What the names in endpoints resolve to.
    pub resolved: &'a BTreeMap<String, IpAddr>,
    /// Which Peers answer. Those not named: nobody asked.
    pub liveness: &'a BTreeMap<String, Liveness>,
    /// [`Plan::carriers`] of the plan before.
    pub carriers: &'a BTreeMap<IpNet, String>,
    /// The network under the mesh.
    pub underlay: &'a Underlay,
    /// Unix time in seconds.
    pub now: i64,
}

/// Somebody to be asked again and again whether they live.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Probe {
    /// A Peer that has a network behind it, or shares an address with others: at one of its own addresses, through the
    /// tunnel.
    Peer(String, IpAddr),
    /// A node of the location that leads or might lead it, at its internal address.
    Node(String, IpAddr),
}

/// What the node shall be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The topology it follows from.
    pub topology: Topology,
    /// The node that leads this one's location (or is alone in it).
    pub leader: String,
    /// The WireGuard device; only a leader has one.
    pub device: Option<wireguard::Device>,
    /// Addresses, routes, rules, links.
    pub network: Network,
    /// nftables.
    pub firewall: Firewall,
    /// Who carries the addresses that several Peers claim.
    pub carriers: BTreeMap<IpNet, String>,
    /// The networks of Peers that do not answer the leader.
    pub silent_networks: BTreeSet<IpNet>,
    /// Who is to be asked.
    pub probes: BTreeSet<Probe>,
    /// How many nodes and Peers take part.
    pub members: (usize, usize),
    /// What was refused.
    pub refusals: Vec<Refusal>,
}

impl Plan {
    /// Whether this node leads its location.
    pub fn leads(&self) -> bool {
        self.device.is_some()
    }
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The node itself is not part of the mesh yet.
    #[error("node {0} is not ready: it needs {1}")]
    NotReady(String, &'static str),
    /// The topology cannot be made.
    #[error(transparent)]
    Topology(#[from] TopologyError),
}

/// Plans the node.
///
/// # Errors
/// The node itself lacks a key, an endpoint or a pod CIDR, or there are no WireGuard addresses left.
pub fn plan(inputs: &Inputs<'_>) -> Result<Plan, PlanError> {
    let settings = inputs.settings;
    let known = resolved_nodes(inputs);
    let Claims { peers, carriers, contenders, mut refusals } = settled_claims(inputs, &known);
    let nodes = ready_nodes(inputs, known)?;
    let this = &nodes[&settings.hostname];
    let topology = Topology::new(&TopologyInput {
        nodes: &nodes,
        peers: &peers,
        granularity: settings.granularity,
        hostname: &settings.hostname,
        port: this.endpoint.as_ref().map_or(0, |e| e.port),
        subnets: &settings.subnets,
        service_cidrs: &settings.service_cidrs,
        persistent_keepalive: this.persistent_keepalive,
    })?;
    refusals.extend(topology.refusals.iter().cloned());
    refusals.extend(unresolved(nodes.values()));
    refusals.extend(shared_keys(&topology));
    let members = |segment: &Segment| segment.members.iter().map(|m| &nodes[&m.name]).collect::<Vec<_>>();
    let own = topology.own_segment();
    let leader = own.map_or(this, |s| &nodes[&s.leader().name]);
    let peer_list: Vec<Peer> = peers.values().filter(|p| p.ready()).cloned().collect();
    let world = World {
        settings,
        topology: &topology,
        underlay: inputs.underlay,
        node: this,
        neighbours: own.map(members).unwrap_or_default(),
        leader,
        others: topology.segments.iter().filter(|s| s.location != topology.location).map(|s| (s, members(s))).collect(),
        peers: &peer_list,
    };
    refusals.extend(routes::refusals(&world));
    let network = routes::network(&world, &topology.wireguard_ips);
    let device = topology.leader.then(|| device(inputs, &topology));
    let silent_networks =
        if topology.leader { silent_networks(inputs, &peer_list) } else { leader.silent_networks.clone() };
    Ok(Plan {
        leader: leader.name.clone(),
        firewall: firewall(&world, &network),
        network,
        probes: probes(&world, &contenders),
        members: (nodes.len(), peer_list.len()),
        device,
        carriers,
        silent_networks,
        refusals,
        topology,
    })
}

/// All nodes, with the names in their endpoints resolved as far as that is known.
fn resolved_nodes(inputs: &Inputs<'_>) -> BTreeMap<String, Node> {
    let mut nodes = inputs.nodes.clone();
    for endpoint in nodes.values_mut().filter_map(|n| n.endpoint.as_mut()) {
        resolve(endpoint, inputs.resolved);
    }
    nodes
}

/// The nodes that take part, this one always: it knows best that it lives.
fn ready_nodes(inputs: &Inputs<'_>, mut nodes: BTreeMap<String, Node>) -> Result<BTreeMap<String, Node>, PlanError> {
    let name = &inputs.settings.hostname;
    let lack = |what| PlanError::NotReady(name.clone(), what);
    let this = nodes.get_mut(name).ok_or_else(|| lack("a Node object of this name (--hostname)"))?;
    this.last_seen = inputs.now;
    if this.subnets.is_empty() {
        return Err(lack("spec.podCIDR, which kube-controller-manager sets with --allocate-node-cidrs"));
    }
    if this.endpoint.is_none() {
        return Err(lack("an endpoint: no address was found on its links; set kilo.squat.ai/force-endpoint"));
    }
    if this.key.is_none() {
        return Err(lack("a WireGuard key"));
    }
    nodes.retain(|_, node| node.ready(inputs.now));
    Ok(nodes)
}

fn unresolved<'a>(nodes: impl Iterator<Item = &'a Node>) -> impl Iterator<Item = Refusal> {
    let reason = "the name does not resolve; it is tried again, and until then the node must speak first";
    nodes.filter_map(move |node| match &node.endpoint.as_ref()?.host {
        Host::Dns(name) => Some(Refusal::node(&node.name, kilo::FORCE_ENDPOINT, name, reason)),
        Host::Ip(_) => None,
    })
}

/// A device knows one peer of a key: of two leaders with the same, as when a machine was copied with its disk, only the
/// first is sent to.
fn shared_keys(topology: &Topology) -> Vec<Refusal> {
    let mut first: BTreeMap<Key, &str> = BTreeMap::new();
    let mut refusals = Vec::new();
    for segment in &topology.segments {
        let name = segment.leader().name.as_str();
        let other = *first.entry(segment.key).or_insert(name);
        if other != name {
            let reason = format!(
                "node {other} has the same key, and nothing is sent to this one; remove its file of the private key \
                 and restart its agent"
            );
            refusals.push(Refusal::node(name, kilo::KEY, segment.key.to_string(), reason));
        }
    }
    refusals
}

fn settled_claims(inputs: &Inputs<'_>, nodes: &BTreeMap<String, Node>) -> Claims {
    let settings = inputs.settings;
    let own = OwnNetworks::new(nodes.values(), &settings.service_cidrs, &settings.subnets);
    let liveness = |name: &str| inputs.liveness.get(name).copied().unwrap_or_default();
    let mut claims = claims::settle(inputs.peers, &own, liveness, inputs.carriers);
    for peer in claims.peers.values_mut() {
        let Some(endpoint) = &mut peer.endpoint else { continue };
        resolve(endpoint, inputs.resolved);
        if let Host::Dns(name) = &endpoint.host {
            let reason = "the name does not resolve; it is tried again, and until then the peer must speak first";
            claims.refusals.push(Refusal::peer(&peer.name, "spec.endpoint.dnsOrIP.dns", name.clone(), reason));
            peer.endpoint = None;
        }
    }
    claims
}

fn resolve(endpoint: &mut Endpoint, resolved: &BTreeMap<String, IpAddr>) {
    if let Host::Dns(name) = &endpoint.host
        && let Some(ip) = resolved.get(name)
    {
        endpoint.host = Host::Ip(*ip);
    }
}

/// The device as kgctl shows it, with the keys and the endpoints that are known by now. A Peer that carries nothing
/// (another has its addresses) is a peer of the device all the same: it may have to take over, and it may speak to us.
fn device(inputs: &Inputs<'_>, topology: &Topology) -> wireguard::Device {
    let peers = topology.conf().peers.into_iter().map(|peer| wireguard::Peer {
        public_key: peer.public_key,
        preshared_key: peer.preshared_key,
        endpoint: peer.endpoint.as_ref().and_then(Endpoint::socket_addr),
        persistent_keepalive: peer.persistent_keepalive,
        allowed_ips: peer.allowed_ips.iter().map(IpNet::trunc).collect(),
    });
    wireguard::Device {
        private_key: Some(inputs.private_key),
        listen_port: Some(topology.port),
        fwmark: Some(routes::MARK),
        peers: peers.collect(),
    }
}

fn firewall(world: &World<'_>, network: &Network) -> Firewall {
    let settings = world.settings;
    let segments = || world.topology.segments.iter();
    let of_peers = || world.peers.iter().flat_map(|p| p.allowed_ips.iter().copied());
    let own_pods = world.node.subnets.iter().map(IpNet::trunc).filter(|_| settings.cni);
    let own_segment = segments().filter(|s| s.location == world.topology.location);
    Firewall {
        table: settings.firewall_table.clone(),
        interface: settings.interface.clone(),
        port: world.topology.port,
        mark: routes::MARK,
        masqueraded: own_pods.chain(of_peers()).collect(),
        known: segments()
            .flat_map(|s| s.allowed_ips.iter().copied())
            .chain(of_peers())
            .chain(settings.service_cidrs.iter().copied())
            .collect(),
        foreign: own_segment.flat_map(|s| s.allowed_location_ips.iter().copied()).collect(),
        overlay: network.vxlans.first().map(|vxlan| Overlay {
            port: vxlan.port,
            members: vxlan.remotes.iter().map(|remote| IpNet::from(remote.remote)).collect(),
        }),
    }
}

/// What the silent Peers carry. What another has taken over from them is not silent.
fn silent_networks(inputs: &Inputs<'_>, peers: &[Peer]) -> BTreeSet<IpNet> {
    let silent = peers.iter().filter(|peer| inputs.liveness.get(&peer.name) == Some(&Liveness::Dead));
    silent.flat_map(|peer| &peer.allowed_ips).copied().collect()
}

fn probes(world: &World<'_>, contenders: &BTreeSet<String>) -> BTreeSet<Probe> {
    let mut probes = BTreeSet::new();
    let leads = world.leader.name == world.node.name;
    // Not those that are a host alone: they are people's machines, which sleep, and nothing hangs on them.
    let has_network = |peer: &Peer| peer.allowed_ips.iter().any(|net| net.prefix_len() < net.max_prefix_len());
    let asked = world.peers.iter().filter(|p| leads && (has_network(p) || contenders.contains(&p.name)));
    for peer in asked {
        probes.extend(claims::hosts(peer).into_iter().map(|ip| Probe::Peer(peer.name.clone(), ip)));
    }
    let suspects = |node: &&&Node| node.name == world.leader.name || world.node.unreachable.contains(&node.name);
    for node in world.neighbours.iter().filter(|n| n.name != world.node.name).filter(suspects) {
        probes.extend(node.internal_addrs().first().map(|ip| Probe::Node(node.name.clone(), *ip)));
    }
    probes
}

/// Every endpoint name that has to be resolved.
pub fn names<'a>(nodes: &'a BTreeMap<String, Node>, peers: &'a BTreeMap<String, Peer>) -> BTreeSet<&'a str> {
    let endpoints = nodes.values().filter_map(|n| n.endpoint.as_ref());
    endpoints
        .chain(peers.values().filter_map(|p| p.endpoint.as_ref()))
        .filter_map(|endpoint| match &endpoint.host {
            Host::Dns(name) => Some(name.as_str()),
            Host::Ip(_) => None,
        })
        .collect()
}

/// Where peers behind NAT were last heard from, for `kilo.squat.ai/discovered-endpoints`: those of nodes and Peers
/// that say they send keepalives, once there was a handshake.
pub fn discovered_endpoints(
    nodes: &BTreeMap<String, Node>,
    peers: &BTreeMap<String, Peer>,
    status: &wireguard::DeviceStatus,
) -> BTreeMap<Key, SocketAddr> {
    let behind_nat = nodes.values().filter(|n| n.persistent_keepalive > 0).filter_map(|n| n.key);
    let behind_nat: BTreeSet<Key> =
        behind_nat.chain(peers.values().filter(|p| p.persistent_keepalive > Some(0)).map(|p| p.public_key)).collect();
    let heard = status.peers.iter().filter(|p| p.last_handshake.is_some());
    heard
        .filter(|p| behind_nat.contains(&p.peer.public_key))
        .filter_map(|p| Some((p.peer.public_key, p.peer.endpoint?)))
        .collect()
}
