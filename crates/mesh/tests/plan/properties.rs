//! What holds for every cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use tombolo_mesh::claims::Liveness;
use tombolo_mesh::plan::{Compatibility, Encapsulate, Plan};
use tombolo_mesh::routes::TUNNEL_TABLE;
use tombolo_mesh::{Granularity, Node, Peer};
use tombolo_net::network::{Route, Target};

use super::given::{Cluster, Family, NOW, asked, key, net, node, peer};

const NAMES: [&str; 7] = ["a1", "a2", "a3", "b1", "b2", "c1", "c2"];

fn nodes(family: Family) -> impl Strategy<Value = Vec<Node>> {
    subsequence(&NAMES[..], 1..=NAMES.len())
        .prop_flat_map(move |names| names.into_iter().map(|name| any_node(name, family)).collect::<Vec<_>>())
}

/// A node in one of two underlays of its location, alive or not, with or without an internal address.
fn any_node(name: &'static str, family: Family) -> impl Strategy<Value = Node> {
    let endpoint =
        select(vec!["", "", "203.0.113.9:51820", "[2001:db8::9]:51820", "n.example.com:4500", "m.example.com:1"]);
    let flags = (prop::bool::weighted(0.2), prop::bool::weighted(0.15), prop::bool::weighted(0.15), any::<bool>());
    let foreign = subsequence(
        vec!["172.16.0.7/24", "172.16.1.0/24", "172.17.0.9/32", "192.168.0.0/16", "fd99::7/64", "::/0"],
        0..=2,
    );
    let lost = subsequence(&NAMES[..], 0..=3);
    (endpoint, flags, foreign, lost).prop_map(move |(endpoint, (leads, gone, outside, far), foreign, lost)| {
        let mut node = node(name, family);
        if let Ok(endpoint) = endpoint.parse() {
            node.endpoint = Some(endpoint);
        }
        if far {
            let (site, n) = (&name[..1], &name[1..]);
            node.internal_ips =
                family.of(net(&format!("192.168.10{n}.{n}/24")), net(&format!("fd0{site}:{n}::{n}/64")));
            if site != "a" {
                node.internal_ips[0] = crate::given::node(name, family).internal_ips[0];
            }
        }
        if outside {
            node.internal_ips.clear();
        }
        Node {
            leader: leads,
            last_seen: if gone { NOW - 60 } else { NOW },
            allowed_location_ips: foreign.into_iter().map(net).collect(),
            unreachable: lost.into_iter().map(str::to_owned).collect(),
            cni_compatibility_ip: Some(node.subnets[0]),
            ..node
        }
    })
}

fn any_peer(name: &'static str) -> impl Strategy<Value = Peer> {
    let nets = vec![
        "10.41.0.0/16",
        "10.43.1.0/24",
        "192.168.1.1/32",
        "10.4.0.0/24",
        "0.0.0.0/0",
        "fd41:21::/64",
        "::/0",
        "10.143.0.0/16",
        "10.143.5.5/16",
        "fd14::/112",
        "172.16.0.128/25",
        "10.99.0.1/32",
        "10.99.0.2/32",
        "fd99:1::1/128",
    ];
    let key_of = prop::option::weighted(0.1, select(vec!["a1", "p1", "q"]));
    (subsequence(nets, 0..=5).prop_shuffle(), key_of).prop_map(move |(nets, key_of)| {
        let peer = peer(name, &nets);
        Peer { public_key: key_of.map_or(peer.public_key, key), ..peer }
    })
}

fn cluster() -> impl Strategy<Value = Cluster> {
    let family = select(vec![Family::V4, Family::V6, Family::Dual]);
    family.prop_flat_map(|family| {
        let peers = ["p1", "p2", "p3"].map(|name| prop::option::of(any_peer(name)));
        let liveness = prop::collection::vec(select(vec![Liveness::Unknown, Liveness::Alive, Liveness::Dead]), 3);
        let settings = (
            select(vec![Granularity::Location, Granularity::Full]),
            select(vec![Encapsulate::Never, Encapsulate::CrossSubnet, Encapsulate::Always]),
            select(vec![None, None, Some(Compatibility::Flannel)]),
            prop::bool::weighted(0.8),
        );
        (nodes(family), peers, liveness, settings).prop_map(move |(nodes, peers, liveness, settings)| {
            let mut cluster = Cluster::new(family, &[]);
            cluster.nodes = nodes.into_iter().map(|n| (n.name.clone(), n)).collect();
            cluster.peers = peers.into_iter().flatten().map(|p| (p.name.clone(), p)).collect();
            cluster.resolved = [("n.example.com".to_owned(), "203.0.113.77".parse().unwrap())].into();
            cluster.liveness = ["p1", "p2", "p3"].map(str::to_owned).into_iter().zip(liveness).collect();
            let (granularity, encapsulate, compatibility, local) = settings;
            cluster.settings.granularity = granularity;
            cluster.settings.encapsulate = encapsulate;
            cluster.settings.compatibility = compatibility;
            cluster.settings.local = local;
            cluster
        })
    })
}

/// The plans of the nodes that live; nodes that do not have nobody to plan for them.
fn plans(cluster: &Cluster) -> BTreeMap<String, Plan> {
    let live = cluster.nodes.values().filter(|n| n.last_seen == NOW);
    live.map(|n| (n.name.clone(), cluster.plan(&n.name))).collect()
}

fn into_tunnel(plan: &Plan) -> Vec<IpNet> {
    let through = |r: &&Route| matches!(&r.target, Target::Link { link, .. } if link == "kilo0");
    plan.network.routes.iter().filter(through).map(|r| r.destination).collect()
}

/// Where the packets of the route arrive: the gateway, or what stands behind it in the overlay.
fn arrives(plan: &Plan, route: &Route) -> Option<IpAddr> {
    let Target::Link { link, gateway: Some(gateway) } = &route.target else { return None };
    if link == "eth0" {
        return Some(*gateway);
    }
    let vxlan = plan.network.vxlans.iter().find(|v| v.name == *link)?;
    vxlan.remotes.iter().find(|r| r.gateway == *gateway).map(|r| r.remote)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_peers_of_a_device_share_an_address_or_a_key(cluster in cluster()) {
        for plan in plans(&cluster).values() {
            let peers = plan.device.iter().flat_map(|d| &d.peers);
            let (mut nets, mut keys) = (BTreeSet::new(), BTreeSet::new());
            for peer in peers {
                prop_assert!(keys.insert(peer.public_key));
                for net in &peer.allowed_ips {
                    prop_assert!(nets.insert(net.trunc()), "{net}");
                }
            }
        }
    }

    #[test]
    fn what_is_routed_into_the_tunnel_is_one_peers_and_the_other_way_round(cluster in cluster()) {
        for (name, plan) in plans(&cluster) {
            let routed = into_tunnel(&plan);
            let Some(device) = &plan.device else {
                prop_assert!(routed.is_empty());
                continue;
            };
            for net in &routed {
                prop_assert_eq!(*net, net.trunc());
                let granted = device.peers.iter().filter(|p| p.allowed_ips.iter().any(|ip| ip.trunc() == *net));
                prop_assert_eq!(granted.count(), 1, "{}: {}", name, net);
            }
            let on_link = |ip: &IpNet| plan.network.addresses.iter().any(|a| a.net.contains(ip));
            for peer in &device.peers {
                let endpoint = peer.endpoint.map(|e| IpNet::from(e.ip()));
                for ip in peer.allowed_ips.iter().map(IpNet::trunc) {
                    let own = plan.topology.own_segment().unwrap();
                    let refused = own.allowed_ips.iter().any(|ours| ip.contains(ours));
                    let has_route = routed.contains(&ip) || on_link(&ip) || Some(ip) == endpoint || refused;
                    prop_assert!(has_route, "{name}: {ip}");
                }
            }
        }
    }

    #[test]
    fn pods_of_the_location_are_routed_to_their_node(cluster in cluster()) {
        let plans = plans(&cluster);
        for (name, plan) in plans.iter().filter(|_| cluster.settings.local) {
            let others = plan.topology.own_segment().unwrap().members.iter().filter(|m| m.name != *name);
            for other in others {
                let theirs = &cluster.nodes[&other.name];
                for subnet in &theirs.subnets {
                    let mut routes = plan.network.routes.iter().filter(|r| r.destination == *subnet);
                    let (route, next) = (routes.next(), routes.next());
                    prop_assert!(route.is_some() && next.is_none(), "{name} to {}", other.name);
                    let Some(arrives) = arrives(plan, route.unwrap()) else { continue };
                    prop_assert!(theirs.internal_addrs().contains(&arrives), "{name} to {}: {arrives}", other.name);
                }
            }
        }
    }

    #[test]
    fn the_overlay_has_two_ends(cluster in cluster()) {
        let plans = plans(&cluster);
        for (name, plan) in &plans {
            for (vxlan, remote) in plan.network.vxlans.iter().flat_map(|v| v.remotes.iter().map(move |r| (v, r))) {
                let mut ends = plans.values().flat_map(|p| &p.network.vxlans).filter(|v| v.local == remote.remote);
                let Some(end) = ends.next() else {
                    return Err(TestCaseError::fail(format!("{name} sends to {}, which has no overlay", remote.remote)));
                };
                prop_assert_eq!(end.mac, remote.mac);
                prop_assert!(end.remotes.iter().any(|r| r.remote == vxlan.local && r.mac == vxlan.mac));
            }
        }
    }

    #[test]
    fn all_nodes_of_a_location_send_to_the_one_that_leads_it(cluster in cluster()) {
        let plans = plans(&cluster);
        for (name, plan) in &plans {
            let leader = &plans[&plan.leader];
            prop_assert!(leader.leads() && leader.leader == plan.leader, "{name}: {}", plan.leader);
            prop_assert_eq!(plan.leads(), plan.leader == *name);
            if plan.leads() {
                continue;
            }
            let addresses = cluster.nodes[&plan.leader].internal_addrs();
            let wanted: BTreeSet<IpNet> = into_tunnel(leader).into_iter().collect();
            for route in plan.network.routes.iter().filter(|r| wanted.contains(&r.destination)) {
                prop_assert_eq!(route.table, 254);
                let Some(arrives) = arrives(plan, route) else { continue };
                prop_assert!(addresses.contains(&arrives), "{name}: {route:?}");
            }
            let sent: BTreeSet<IpNet> = plan.network.routes.iter().map(|r| r.destination).collect();
            let family = |net: &&IpNet| addresses.iter().any(|a| a.is_ipv6() == net.addr().is_ipv6());
            let missing: Vec<_> = wanted.iter().filter(family).filter(|n| !sent.contains(n)).collect();
            prop_assert!(missing.is_empty(), "{name} does not send to its leader: {missing:?}");
        }
    }

    #[test]
    fn what_has_no_mark_finds_the_tunnel_and_what_has_it_does_not(cluster in cluster()) {
        for plan in plans(&cluster).values() {
            let rules = plan.network.rules.iter().filter(|r| r.table == TUNNEL_TABLE);
            let families: Vec<bool> = rules.clone().map(|r| r.ipv6).collect();
            prop_assert_eq!(families, if plan.leads() { vec![false, true] } else { vec![] });
            prop_assert!(rules.clone().all(|r| r.invert && r.fwmark.is_some_and(|(mark, _)| mark == plan.firewall.mark)));
        }
    }

    #[test]
    fn no_node_is_cut_off_from_its_own(cluster in cluster()) {
        for (name, plan) in plans(&cluster) {
            let own = &plan.topology.own_segment().unwrap().members;
            let ours: Vec<IpNet> = own
                .iter()
                .flat_map(|m| m.subnets.iter().copied().chain(m.internal_ips.iter().map(|ip| IpNet::from(*ip))))
                .chain(cluster.settings.service_cidrs.iter().copied())
                .collect();
            for net in into_tunnel(&plan) {
                let taken = ours.iter().find(|o| net.contains(*o) || o.contains(&net));
                prop_assert!(taken.is_none(), "{name}: {net} would take {taken:?} away");
            }
        }
    }

    #[test]
    fn planning_again_changes_nothing(cluster in cluster()) {
        for (name, plan) in plans(&cluster) {
            let again = Cluster { carriers: plan.carriers.clone(), ..cluster.clone() };
            prop_assert_eq!(asked(&again.plan(&name)), asked(&plan));
        }
    }

    #[test]
    fn the_order_in_which_things_are_told_does_not_matter(
        (cluster, shuffled) in cluster().prop_flat_map(|c| (Just(c.clone()), shuffled(c)))
    ) {
        for (name, plan) in plans(&cluster) {
            prop_assert_eq!(asked(&shuffled.plan(&name)), asked(&plan));
        }
    }
}

/// The same cluster with its lists in another order.
fn shuffled(cluster: Cluster) -> impl Strategy<Value = Cluster> {
    let nodes: Vec<Node> = cluster.nodes.values().cloned().collect();
    let peers: Vec<Peer> = cluster.peers.values().cloned().collect();
    (Just(nodes).prop_shuffle(), Just(peers).prop_shuffle()).prop_map(move |(nodes, peers)| {
        let mut cluster = cluster.clone();
        cluster.nodes = nodes.into_iter().map(|n| (n.name.clone(), n)).collect();
        cluster.peers = peers.into_iter().map(|p| (p.name.clone(), p)).collect();
        cluster.nodes.values_mut().for_each(|n| n.allowed_location_ips.reverse());
        cluster.peers.values_mut().for_each(|p| p.allowed_ips.reverse());
        cluster.settings.subnets.reverse();
        cluster
    })
}
