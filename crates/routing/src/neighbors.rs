//! The neighbours of a node: other nodes, and external peers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use tombolo_api::kube_router;
use tombolo_bgp::Family;
use tombolo_bgp::config::{AddPath, MaxPrefixes, Neighbor, NextHop, Ttl};

use crate::node::Reflection;
use crate::peer::PeerBfd;
use crate::policy::Scope;
use crate::{Inputs, Node, Peer, Refusal, Settings};

/// The autonomous system of a node.
pub(crate) fn asn(node: &Node, settings: &Settings) -> u32 {
    let flags = settings.flags();
    node.asn.filter(|_| !flags.nodes_full_mesh).unwrap_or(flags.cluster_asn)
}

/// Whether two nodes peer, seen from either side alike.
pub(crate) fn pair(a: &Node, b: &Node, settings: &Settings) -> bool {
    let reflected = match (a.reflection, b.reflection) {
        (Reflection::Client(client), Reflection::Server(server))
        | (Reflection::Server(server), Reflection::Client(client)) => client == server,
        (Reflection::Client(_), _) | (_, Reflection::Client(_)) => false,
        _ => true,
    };
    settings.flags().enable_ibgp
        && a.name != b.name
        && reflected
        && asn(a, settings) == asn(b, settings)
        && transport(a, b).is_some()
}

/// The addresses of the session between two nodes: their first ones, or where those are of different families, the
/// first ones of a family that both have, IPv4 before IPv6.
fn transport(a: &Node, b: &Node) -> Option<(IpAddr, IpAddr)> {
    let (first, other) = (*a.addresses.first()?, *b.addresses.first()?);
    if first.is_ipv4() == other.is_ipv4() {
        return Some((first, other));
    }
    Family::ALL.into_iter().find_map(|family| Some((a.address(family)?, b.address(family)?)))
}

/// The pods of the nodes whose routes come to this one by sessions in the cluster, and those of the others.
pub(crate) fn split_pods(inputs: &Inputs, me: &Node) -> (Vec<IpNet>, Vec<IpNet>) {
    let settings = inputs.settings;
    let servers: Vec<&Node> =
        inputs.nodes.values().filter(|node| matches!(node.reflection, Reflection::Server(_))).collect();
    // Reflectors of one autonomous system peer with each other, so that one is as good as another.
    let served = |node: &Node| servers.iter().any(|server| server.name == node.name || pair(node, server, settings));
    let me_served = served(me);
    let (mut reached, mut unreached) = (Vec::new(), Vec::new());
    for node in inputs.nodes.values().filter(|node| node.name != me.name) {
        let same = asn(node, settings) == asn(me, settings);
        let pods =
            if pair(me, node, settings) || (same && me_served && served(node)) { &mut reached } else { &mut unreached };
        pods.extend(&node.pod_cidrs);
    }
    (reached, unreached)
}

/// All neighbours, by address.
pub(crate) fn neighbors(
    inputs: &Inputs,
    me: &Node,
    scope: &Scope,
    refusals: &mut Vec<Refusal>,
) -> BTreeMap<IpAddr, Neighbor> {
    let mut neighbors = nodes(inputs, me, scope);
    refuse_lonely(inputs, me, &neighbors, refusals);
    let (import, export) = (scope.import_outside(), scope.export_outside());
    let (peers, field) = match &me.peers {
        Some(peers) => (peers, "kube-router.io/peer*"),
        None => (&inputs.settings.peers, "--peer-router-ips"),
    };
    for peer in peers {
        let refused = |reason: String| Refusal::node(&me.name, field, peer.address.to_string(), reason);
        if me.addresses.contains(&peer.address) {
            refusals.push(refused("it is this node's own address; write the peer's".to_owned()));
        } else if let Some(node) = neighbors.get(&peer.address) {
            let reason = format!("it is a neighbour by itself ({}); leave it out", node.description);
            refusals.push(refused(reason));
        } else if let Some(neighbor) = external(inputs.settings, me, peer) {
            let neighbor = Neighbor { import: import.clone(), export: export.clone(), ..neighbor };
            neighbors.insert(peer.address, neighbor);
        } else {
            let family = if peer.address.is_ipv4() { "IPv4" } else { "IPv6" };
            let reason = format!(
                "the node has no {family} address to come from; give it one, or write the peer's address of another \
                 family"
            );
            refusals.push(refused(reason));
        }
    }
    neighbors
}

/// The neighbours in the cluster.
fn nodes(inputs: &Inputs, me: &Node, scope: &Scope) -> BTreeMap<IpAddr, Neighbor> {
    let settings = inputs.settings;
    let (import, export) = (scope.import_inside(), scope.export_inside());
    let mut neighbors = BTreeMap::new();
    for node in inputs.nodes.values().filter(|node| pair(me, node, settings)) {
        let Some((here, there)) = transport(me, node) else { continue };
        // An object that a node left behind under another name may still have its address.
        if me.addresses.contains(&there) {
            continue;
        }
        let families = me.families().into_iter().filter(|family| node.address(*family).is_some());
        let neighbor = Neighbor {
            description: format!("node {}", node.name),
            remote_asn: Some(asn(me, settings)),
            port: settings.flags().bgp_port,
            local_address: Some(here),
            families: families.collect(),
            route_reflector_client: scope.reflects && matches!(node.reflection, Reflection::Client(_)),
            import: import.clone(),
            export: export.clone(),
            bfd: settings.bfd.filter(|_| settings.flags().enable_bfd_nodes),
            ..common(settings)
        };
        neighbors.insert(there, neighbor);
    }
    neighbors
}

/// A session with a peer outside, without its policy; `None` where the node has no address to come from.
fn external(settings: &Settings, me: &Node, peer: &Peer) -> Option<Neighbor> {
    let flags = settings.flags();
    let local_address = peer.local_address.or_else(|| me.address(Family::of(peer.address)))?;
    let foreign = peer.asn != asn(me, settings);
    Some(Neighbor {
        description: format!("peer router {}", peer.address),
        remote_asn: Some(peer.asn),
        port: peer.port,
        local_address: Some(local_address),
        password: peer.password.clone(),
        ttl: match settings.ttl {
            // Internal neighbours may be anywhere as it is.
            Ttl::Multihop(_) if !foreign => Ttl::Default,
            ttl => ttl,
        },
        families: me.families(),
        next_hop: if flags.override_nexthop { NextHop::OwnAddress } else { NextHop::Standard },
        max_prefixes: flags.max_prefixes.map(|limit| MaxPrefixes { limit, restart_after: flags.max_prefixes_restart }),
        bfd: match peer.bfd {
            PeerBfd::AsFlags => settings.bfd.filter(|_| flags.enable_bfd),
            PeerBfd::Off => None,
            PeerBfd::On(timers) => Some(timers),
        },
        ..common(settings)
    })
}

fn common(settings: &Settings) -> Neighbor {
    let flags = settings.flags();
    Neighbor {
        hold_time: flags.bgp_holdtime,
        add_path: AddPath { receive: flags.add_path_receive, send: flags.add_path_send },
        ..Neighbor::default()
    }
}

/// Annotations of this node that come to nothing.
fn refuse_lonely(inputs: &Inputs, me: &Node, nodes: &BTreeMap<IpAddr, Neighbor>, refusals: &mut Vec<Refusal>) {
    let flags = inputs.settings.flags();
    if let Some(asn) = me.asn.filter(|asn| flags.nodes_full_mesh && *asn != flags.cluster_asn) {
        let reason = format!(
            "all nodes are in AS {} in a full mesh; say --nodes-full-mesh=false, or remove the annotation",
            flags.cluster_asn
        );
        refusals.push(Refusal::node(&me.name, kube_router::NODE_ASN, asn.to_string(), reason));
    }
    let (name, id) = match me.reflection {
        Reflection::None => return,
        Reflection::Server(id) => (kube_router::RR_SERVER, id),
        Reflection::Client(id) => (kube_router::RR_CLIENT, id),
    };
    if !flags.enable_ibgp {
        let reason = "the nodes do not peer with each other; say --enable-ibgp=true, or remove the annotation";
        refusals.push(Refusal::node(&me.name, name, id.to_string(), reason));
    } else if name == kube_router::RR_CLIENT && nodes.is_empty() {
        let reason = format!(
            "no reachable node of AS {} has {} with this cluster ID; annotate one, or mend the ID",
            asn(me, inputs.settings),
            kube_router::RR_SERVER
        );
        refusals.push(Refusal::node(&me.name, name, id.to_string(), reason));
    }
}
