//! A node's routes, rules and overlay links, out of the topology.
//!
//! Three tables. What goes into the WireGuard interface is in [`TUNNEL_TABLE`], which encrypted packets (they bear
//! [`MARK`]) never look at: so a Peer's own endpoint can be routed into its tunnel. What goes to other nodes of the
//! location is in the main table, beside the node's other routes. Packets from pods to the *addresses* of such nodes,
//! which networks of clouds would drop for their source, go through [`LOCATION_TABLE`] into the overlay.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use tombolo_api::kilo::ALLOWED_LOCATION_IPS;
use tombolo_net::network::{Address, Mac, Network, Route, Rule, Target, Vxlan, VxlanRemote};

use crate::node::Node;
use crate::peer::Peer;
use crate::plan::{Compatibility, Encapsulate, Settings, Underlay};
use crate::refusal::Refusal;
use crate::topology::{Segment, Topology};

/// Routes into the WireGuard interface.
pub const TUNNEL_TABLE: u32 = 1117;
/// Routes to the addresses of nodes of the location, through the overlay.
pub const LOCATION_TABLE: u32 = 1118;
/// The mark on encrypted packets.
pub const MARK: u32 = 0x1170;
/// The main table.
const MAIN_TABLE: u32 = 254;
/// Where the rules stand: after the local table (0), before the main one (32766).
const RULE_PRIORITY: u32 = 1117;
/// The overlay inside a location.
pub const VXLAN_LINK: &str = "tombolo-vxlan";
/// Its UDP port: none that flannel (8472) or Calico (4789) uses.
pub const VXLAN_PORT: u16 = 51807;
/// Its VXLAN network identifier.
const VNI: u32 = 1117;
/// Bytes that VXLAN puts before a packet: IPv4 (20) or IPv6 (40), UDP (8), VXLAN (8) and Ethernet (14).
const VXLAN_OVERHEAD: [u32; 2] = [50, 70];

/// What the node's network is made of.
pub(crate) struct World<'a> {
    pub settings: &'a Settings,
    pub topology: &'a Topology,
    pub underlay: &'a Underlay,
    /// This node.
    pub node: &'a Node,
    /// The nodes of this node's segment, this one among them.
    pub neighbours: Vec<&'a Node>,
    /// The leader of this node's segment.
    pub leader: &'a Node,
    /// The other segments, with their nodes.
    pub others: Vec<(&'a Segment, Vec<&'a Node>)>,
    pub peers: &'a [Peer],
}

impl World<'_> {
    fn leads(&self) -> bool {
        self.leader.name == self.node.name
    }

    /// Whether packets to a node of the location are put into the overlay.
    fn encapsulates(&self, to: &Node) -> bool {
        match self.settings.encapsulate {
            Encapsulate::Never => false,
            Encapsulate::Always => true,
            // Each must take the other for a neighbour: the overlay needs an end on both.
            Encapsulate::CrossSubnet => {
                let near = |a: &Node, b: &Node| {
                    a.internal_ips.iter().any(|net| b.internal_ips.iter().any(|other| net.contains(&other.addr())))
                };
                !(near(self.node, to) && near(to, self.node))
            }
        }
    }

    /// Whether a route to `net` elsewhere would take packets from this location's own pods and nodes. The tunnel's table
    /// is looked up before the main one, so that not even a shorter prefix may be in it.
    fn covers_own(&self, net: &IpNet) -> bool {
        self.topology.own_segment().is_some_and(|own| own.allowed_ips.iter().any(|ip| net.contains(&ip.trunc())))
    }

    /// The nodes of the location that this one exchanges packets with outside WireGuard.
    fn reachable_neighbours(&self) -> impl Iterator<Item = &Node> {
        let without_us = self.neighbours.iter().copied().filter(|n| n.name != self.node.name);
        without_us.filter(|n| !n.internal_ips.is_empty() && !self.node.internal_ips.is_empty())
    }

    /// Where packets of the family of `destination` go on their way to (or through) a node of the location.
    fn hop(&self, destination: &IpNet, node: &Node) -> Option<Target> {
        let overlay = self.encapsulates(node);
        let v6 = destination.addr().is_ipv6();
        let direct = || node.internal_addrs().into_iter().find(|ip| ip.is_ipv6() == v6);
        let (link, gateway) = match &self.settings.compatibility {
            Some(Compatibility::Flannel) if overlay => {
                let subnet = node.subnets.iter().find(|s| s.addr().is_ipv6() == v6)?;
                ("flannel.1".to_owned(), subnet.network())
            }
            Some(Compatibility::Cilium) if overlay => {
                ("cilium_host".to_owned(), node.cni_compatibility_ip.map(|net| net.addr())?)
            }
            _ if overlay => (VXLAN_LINK.to_owned(), overlay_gateway(node, v6)?),
            _ => (self.underlay.link.clone()?, direct()?),
        };
        (gateway.is_ipv6() == v6).then_some(Target::Link { link, gateway: Some(gateway) })
    }

    fn source(&self, destination: &IpNet) -> Option<IpAddr> {
        self.node.internal_addrs().into_iter().find(|ip| ip.is_ipv6() == destination.addr().is_ipv6())
    }

    fn route(&self, table: u32, destination: IpNet, target: Target) -> Route {
        Route { table, destination, target, source: self.source(&destination), metric: 0 }
    }
}

/// The node's network. `addresses` are those of the WireGuard interface.
pub(crate) fn network(world: &World<'_>, addresses: &[IpNet]) -> Network {
    let mut network = Network::default();
    if world.leads() {
        let link = &world.settings.interface;
        network.addresses = addresses.iter().map(|net| Address { link: link.clone(), net: *net }).collect();
        network.routes.extend(tunnel_routes(world));
        network.rules.extend([false, true].map(|ipv6| Rule {
            fwmark: Some((MARK, u32::MAX)),
            invert: true,
            ..rule(ipv6, TUNNEL_TABLE)
        }));
    } else {
        network.routes.extend(leader_routes(world));
    }
    if world.settings.local {
        location(world, &mut network);
    }
    if needs_vxlan(world) {
        network.vxlans.extend(vxlan(world));
    }
    network
}

/// The allowed-location-ips of other locations that are not routed to them from here.
pub(crate) fn refusals(world: &World<'_>) -> Vec<Refusal> {
    let given = world.others.iter().flat_map(|(segment, nodes)| {
        segment
            .allowed_location_ips
            .iter()
            .map(move |ip| (ip, nodes.iter().find(|n| n.allowed_location_ips.contains(ip))))
    });
    let reason = format!(
        "it covers pods or nodes of {}, which would lose each other; annotate networks that leave them out",
        world.topology.location
    );
    given
        .filter(|(ip, _)| world.covers_own(&ip.trunc()))
        .filter_map(|(ip, node)| {
            Some(Refusal::node(&node?.name, ALLOWED_LOCATION_IPS, ip.to_string(), reason.as_str()))
        })
        .collect()
}

/// What goes through the WireGuard interface: on a leader.
fn tunnel_routes(world: &World<'_>) -> BTreeSet<Route> {
    let into_tunnel = Target::Link { link: world.settings.interface.clone(), gateway: None };
    let elsewhere = world.others.iter().flat_map(|(segment, nodes)| segment_destinations(world, segment, nodes));
    let peers = world.peers.iter().flat_map(|peer| peer.allowed_ips.iter().copied());
    elsewhere.chain(peers).map(|net| world.route(TUNNEL_TABLE, net, into_tunnel.clone())).collect()
}

/// What goes to the location's leader: on the other nodes.
fn leader_routes(world: &World<'_>) -> BTreeSet<Route> {
    let own = world.topology.own_segment().into_iter();
    let leader = own.flat_map(|segment| segment.wireguard_ips.iter().copied().map(IpNet::from));
    let elsewhere = world.others.iter().flat_map(|(segment, nodes)| {
        let wireguard = segment.wireguard_ips.iter().copied().map(IpNet::from);
        wireguard.chain(segment_destinations(world, segment, nodes)).collect::<Vec<_>>()
    });
    let peers = world.peers.iter().flat_map(|peer| peer.allowed_ips.iter().copied());
    leader
        .chain(elsewhere)
        .chain(peers)
        .filter_map(|net| Some(world.route(MAIN_TABLE, net, world.hop(&net, world.leader)?)))
        .collect()
}

/// Pod CIDRs, internal addresses and further addresses of another segment.
///
/// A node's address that is also its endpoint is left out, as with Kilo: between nodes of one cluster it is what they
/// and their agents reach the API server at, and a tunnel that needs a new key to work must not be the only way to it.
/// So is one that a node of this location has too: sites number their private networks alike.
fn segment_destinations(world: &World<'_>, segment: &Segment, nodes: &[&Node]) -> Vec<IpNet> {
    let endpoint = segment.endpoint.ip();
    let pods = nodes.iter().flat_map(|n| n.subnets.iter().map(IpNet::trunc));
    let addresses = nodes.iter().flat_map(|n| n.internal_addrs()).filter(|ip| Some(*ip) != endpoint).map(IpNet::from);
    let foreign = segment.allowed_location_ips.iter().map(IpNet::trunc);
    pods.chain(addresses).chain(foreign).filter(|net| !world.covers_own(net)).collect()
}

/// Pods of the other nodes of the location, and these nodes' addresses for packets that come from pods or the tunnel.
fn location(world: &World<'_>, network: &mut Network) {
    for node in world.reachable_neighbours() {
        for net in node.subnets.iter().map(IpNet::trunc) {
            network.routes.extend(world.hop(&net, node).map(|hop| world.route(MAIN_TABLE, net, hop)));
        }
        if !world.encapsulates(node) {
            continue;
        }
        for address in node.internal_addrs().into_iter().map(IpNet::from) {
            let Some(hop) = world.hop(&address, node) else { continue };
            network.routes.insert(world.route(LOCATION_TABLE, address, hop));
            let v6 = address.addr().is_ipv6();
            let sources = world.node.subnets.iter().filter(|s| s.addr().is_ipv6() == v6);
            network.rules.extend(sources.map(|s| Rule {
                from: Some(s.trunc()),
                to: Some(address),
                ..rule(v6, LOCATION_TABLE)
            }));
            if world.leads() {
                let input = Some(world.settings.interface.clone());
                network.rules.insert(Rule { input, to: Some(address), ..rule(v6, LOCATION_TABLE) });
            }
        }
    }
}

fn rule(ipv6: bool, table: u32) -> Rule {
    // The location's table is looked at first: a Peer may claim a network that has the location's in it.
    let priority = if table == LOCATION_TABLE { RULE_PRIORITY - 1 } else { RULE_PRIORITY };
    Rule { ipv6, priority, from: None, to: None, input: None, fwmark: None, invert: false, table }
}

fn needs_vxlan(world: &World<'_>) -> bool {
    world.settings.compatibility.is_none() && world.reachable_neighbours().any(|n| world.encapsulates(n))
}

fn vxlan(world: &World<'_>) -> Option<Vxlan> {
    let local = world.node.internal_ips.first()?.addr();
    let mut remotes = BTreeSet::new();
    for node in world.reachable_neighbours().filter(|n| world.encapsulates(n)) {
        let Some(remote) = node.internal_addrs().into_iter().find(|ip| ip.is_ipv6() == local.is_ipv6()) else {
            continue;
        };
        let Some(mac) = overlay_mac(node) else { continue };
        let gateways = [false, true].into_iter().filter_map(|v6| overlay_gateway(node, v6));
        remotes.extend(gateways.map(|gateway| VxlanRemote { gateway, mac, remote }));
    }
    Some(Vxlan {
        name: VXLAN_LINK.into(),
        vni: VNI,
        port: VXLAN_PORT,
        local,
        mac: overlay_mac(world.node)?,
        mtu: world.underlay.mtu.saturating_sub(VXLAN_OVERHEAD[usize::from(local.is_ipv6())]),
        remotes,
    })
}

/// The hardware address of a node's end of the overlay. It follows from the node's address, so that nobody has to be
/// told it: locally administered, and 32 bits of a hash (FNV-1a) of the address.
fn overlay_mac(node: &Node) -> Option<Mac> {
    let octets = match node.internal_ips.first()?.addr() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let hash = octets.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let [a, b, c, d] = hash.to_be_bytes();
    Some(Mac([0x02, 0x75, a, b, c, d]))
}

/// The next hop of a node in the overlay: its address, or for IPv6 the link-local address of its end, which is there
/// also where the underlay has no IPv6.
fn overlay_gateway(node: &Node, v6: bool) -> Option<IpAddr> {
    if !v6 {
        return node.internal_addrs().into_iter().find(IpAddr::is_ipv4);
    }
    let Mac([a, b, c, d, e, f]) = overlay_mac(node)?;
    let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
    let eui64 = [pair(a ^ 0x02, b), pair(c, 0xff), pair(0xfe, d), pair(e, f)];
    Some(Ipv6Addr::new(0xfe80, 0, 0, 0, eui64[0], eui64[1], eui64[2], eui64[3]).into())
}
