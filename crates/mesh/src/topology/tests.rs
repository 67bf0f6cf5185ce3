//! Tables and properties of topologies.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use proptest::prelude::*;
use tombolo_net::wireguard::Key;

use super::{Topology, TopologyError, TopologyInput};
use crate::{Granularity, Node, Peer};

/// A ready node: its number is in its key, its pod CIDR and its internal address.
fn node(n: u8, location: &str) -> Node {
    Node {
        name: format!("n{n}"),
        endpoint: Some(format!("10.0.0.{n}:51820").parse().unwrap()),
        key: Some(Key([n; 32])),
        internal_ips: vec![net(&format!("10.0.0.{n}/24"))],
        location: location.to_owned(),
        subnets: vec![net(&format!("10.244.{n}.0/24"))],
        ..Node::default()
    }
}

fn peer(n: u8, ips: &[&str]) -> Peer {
    Peer {
        name: format!("p{n}"),
        public_key: Key([100 + n; 32]),
        preshared_key: None,
        persistent_keepalive: None,
        endpoint: None,
        allowed_ips: ips.iter().map(|ip| net(ip)).collect(),
    }
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn try_topology(
    nodes: &[Node],
    peers: &[Peer],
    granularity: Granularity,
    subnets: &[IpNet],
) -> Result<Topology, TopologyError> {
    Topology::new(&TopologyInput {
        nodes: &nodes.iter().map(|n| (n.name.clone(), n.clone())).collect(),
        peers: &peers.iter().map(|p| (p.name.clone(), p.clone())).collect(),
        granularity,
        hostname: &nodes[0].name,
        port: 51820,
        subnets,
        service_cidrs: &[],
        persistent_keepalive: 0,
    })
}

fn topology(nodes: &[Node], peers: &[Peer]) -> Topology {
    try_topology(nodes, peers, Granularity::Location, &[net("10.4.0.0/16")]).unwrap()
}

fn leaders(nodes: &[Node]) -> Vec<String> {
    topology(nodes, &[]).segments.iter().map(|s| s.leader().name.clone()).collect()
}

#[test]
fn the_leader_is_a_volunteer_or_public_or_the_first() {
    // Which of three nodes volunteer, which have public endpoints, and which of them leads.
    for (volunteers, public, leader) in [
        ("", "", "n1"),
        ("", "3", "n3"),
        ("", "23", "n2"),
        ("2", "", "n2"),
        ("2", "3", "n2"),
        ("23", "3", "n3"),
        ("123", "", "n1"),
        ("12", "3", "n1"),
    ] {
        let mut nodes: Vec<Node> = (1..4).map(|n| node(n, "a")).collect();
        for (n, node) in nodes.iter_mut().enumerate() {
            let digit = char::from(b'1' + u8::try_from(n).unwrap());
            node.leader = volunteers.contains(digit);
            if public.contains(digit) {
                node.endpoint = Some(format!("203.0.113.{digit}:51820").parse().unwrap());
            }
        }
        assert_eq!(leaders(&nodes), [leader], "volunteers {volunteers:?}, public {public:?}");
    }
}

#[test]
fn what_is_public_is_what_kilo_takes_for_public() {
    for (endpoint, public) in [
        ("10.9.9.9:1", false),
        ("172.15.0.1:1", true),
        ("172.31.0.1:1", false),
        ("192.168.0.1:1", false),
        ("100.64.0.1:1", true),
        ("[fd00::1]:1", false),
        ("[fd01::1]:1", true),
        ("[2001:db8::1]:1", true),
        ("vpn.example.com:1", false),
    ] {
        let mut nodes = [node(1, "a"), node(2, "a")];
        nodes[1].endpoint = Some(endpoint.parse().unwrap());
        assert_eq!(leaders(&nodes), [if public { "n2" } else { "n1" }], "{endpoint}");
    }
}

#[test]
fn a_node_that_all_others_have_lost_does_not_lead() {
    // For each of the nodes 1, 2, …: which nodes it cannot reach; and which of them leads.
    for (unreachable, leader) in [
        (vec!["", "1"], "n2"),
        (vec!["2", "1"], "n1"),
        (vec!["", "1", ""], "n1"),
        (vec!["", "1", "1"], "n2"),
        (vec!["23", "1", "1"], "n2"),
        (vec!["2", "1", "12"], "n3"),
        (vec!["23", "13", "12"], "n1"),
        (vec![""], "n1"),
        (vec!["1"], "n1"),
    ] {
        let nodes: Vec<Node> = (1..)
            .zip(&unreachable)
            .map(|(n, lost)| Node { unreachable: lost.chars().map(|c| format!("n{c}")).collect(), ..node(n, "a") })
            .collect();
        assert_eq!(leaders(&nodes), [leader], "{unreachable:?}");
    }
}

#[test]
fn a_lost_volunteer_does_not_lead_and_stays_a_member() {
    let lost = BTreeSet::from(["n1".to_owned()]);
    let nodes = [
        Node { leader: true, ..node(1, "a") },
        Node { unreachable: lost.clone(), ..node(2, "a") },
        Node { unreachable: lost, ..node(3, "a") },
    ];
    let segments = topology(&nodes, &[]).segments;
    assert_eq!(segments[0].leader().name, "n2");
    assert!(segments[0].allowed_ips.contains(&net("10.244.1.0/24")));
    assert_eq!(segments[0].members.len(), 3);
}

#[test]
fn what_the_other_locations_cannot_reach_does_not_count() {
    let nodes = [node(1, "a"), node(2, "a"), Node { unreachable: BTreeSet::from(["n1".to_owned()]), ..node(3, "b") }];
    assert_eq!(leaders(&nodes), ["n1", "n3"]);
}

#[test]
fn a_node_without_an_internal_address_is_a_segment_of_its_own() {
    let nodes = [node(1, "a"), Node { internal_ips: Vec::new(), ..node(2, "a") }, node(3, "")];
    let segments = topology(&nodes, &[]).segments;
    let names: Vec<&str> = segments.iter().map(|s| s.location.as_str()).collect();
    assert_eq!(names, ["location:", "location:a", "node:n2"]);
    assert_eq!(segments[2].allowed_ips, [net("10.244.2.0/24"), net("10.4.0.3/32")]);
}

#[test]
fn wireguard_addresses_follow_the_order_of_the_segments() {
    let subnets = [net("fd04::/64"), net("10.4.0.0/16")];
    let nodes = [node(1, "b"), node(2, "a"), node(3, "b")];
    let topology = try_topology(&nodes, &[], Granularity::Location, &subnets).unwrap();
    let ips: Vec<String> = topology.segments.iter().map(|s| format!("{:?}", s.wireguard_ips)).collect();
    assert_eq!(ips, ["[10.4.0.1, fd04::1]", "[10.4.0.2, fd04::2]"]);
    assert_eq!(topology.wireguard_ips, [net("10.4.0.2/16"), net("fd04::2/64")]);
    assert_eq!(topology.wireguard_subnets, [net("10.4.0.0/16"), net("fd04::/64")]);
}

#[test]
fn a_follower_has_no_wireguard_address() {
    let nodes = [node(2, "a"), node(1, "a")];
    let topology = topology(&nodes, &[]);
    assert!(!topology.leader);
    assert_eq!(topology.wireguard_ips, []);
}

#[test]
fn a_subnet_that_is_too_small_is_said() {
    let nodes: Vec<Node> = (1..9).map(|n| node(n, "a")).collect();
    let small = net("10.4.0.0/29");
    assert_eq!(
        try_topology(&nodes, &[], Granularity::Full, &[small]),
        Err(TopologyError::AddressesExhausted { subnet: small, segments: 8 })
    );
    assert!(try_topology(&nodes[1..], &[], Granularity::Full, &[small]).is_ok());
    let last = net("255.255.255.255/32");
    assert!(try_topology(&nodes, &[], Granularity::Full, &[last]).is_err());
}

#[test]
fn allowed_location_ips_that_overlap_are_dropped_and_said() {
    // What n1 in location a and n2 in location b are annotated with, and what is left of each.
    for (a, b, left_a, left_b) in [
        ("192.168.9.0/24", "", "192.168.9.0/24", ""),
        ("192.168.9.0/24", "192.168.9.7/32", "", "192.168.9.7/32"),
        ("192.168.9.0/24", "192.168.8.0/24", "192.168.9.0/24", "192.168.8.0/24"),
        ("10.244.2.128/25", "", "", ""),
        ("10.244.1.0/24", "", "", ""),
        ("10.244.0.0/16", "", "10.244.0.0/16", ""),
        ("10.4.0.1/32", "", "", ""),
        ("10.0.0.2/32", "", "", ""),
        ("10.9.0.0/16", "", "", ""),
        ("fd99::/64", "192.168.9.0/24", "fd99::/64", "192.168.9.0/24"),
    ] {
        let ips = |text: &str| -> Vec<IpNet> { text.split(',').filter(|t| !t.is_empty()).map(net).collect() };
        let nodes = [
            Node { allowed_location_ips: ips(a), ..node(1, "a") },
            Node { allowed_location_ips: ips(b), ..node(2, "b") },
        ];
        let topology = topology(&nodes, &[peer(1, &["10.9.1.0/24"])]);
        assert_eq!(topology.segments[0].allowed_location_ips, ips(left_a), "{a} {b}");
        assert_eq!(topology.segments[1].allowed_location_ips, ips(left_b), "{a} {b}");
        let dropped = ips(a).len() + ips(b).len() - ips(left_a).len() - ips(left_b).len();
        assert_eq!(topology.refusals.len(), dropped, "{:?}", topology.refusals);
    }
}

#[test]
fn a_peer_behind_nat_is_sent_to_where_it_was_heard() {
    let heard: BTreeMap<_, _> = [(Key([101; 32]), "198.51.100.7:9999".parse().unwrap())].into();
    let nodes = [node(1, "a"), Node { discovered_endpoints: heard, ..node(2, "b") }];
    for (keepalive, endpoint) in [(Some(25), Some("198.51.100.7:9999")), (Some(0), None), (None, None)] {
        let conf = topology(&nodes, &[Peer { persistent_keepalive: keepalive, ..peer(1, &["10.9.0.0/24"]) }]).conf();
        assert_eq!(conf.peers[1].endpoint.as_ref().map(ToString::to_string).as_deref(), endpoint);
    }
}

#[test]
fn a_cidr_of_two_peers_is_left_to_the_first_and_one_of_the_cluster_to_the_cluster() {
    let peers = [peer(2, &["10.9.0.0/24", "10.8.0.0/24"]), peer(1, &["10.9.0.0/24", "10.244.2.0/24"])];
    let conf = topology(&[node(1, "a"), node(2, "b")], &peers).conf();
    let ips: Vec<&[IpNet]> = conf.peers.iter().map(|p| p.allowed_ips.as_slice()).collect();
    assert_eq!(ips[1..], [&[net("10.9.0.0/24")][..], &[net("10.8.0.0/24")]]);
}

#[test]
fn dual_stack_is_printed_ipv4_first() {
    let dual = |n: u8, location: &str| Node {
        internal_ips: vec![net(&format!("fd00::{n}/64")), net(&format!("10.0.0.{n}/24"))],
        subnets: vec![net(&format!("fd10:0:0:{n}::/64")), net(&format!("10.244.{n}.0/24"))],
        ..node(n, location)
    };
    let subnets = [net("fd04::/64"), net("10.4.0.0/16")];
    let topology = try_topology(&[dual(1, "a"), dual(2, "b")], &[], Granularity::Location, &subnets).unwrap();
    let expected = "[Interface]\nListenPort = 51820\n\n[Peer]\nAllowedIPs = 10.244.2.0/24, fd10:0:0:2::/64, 10.0.0.2/32, \
                    fd00::2/128, 10.4.0.2/32, fd04::2/128\nEndpoint = 10.0.0.2:51820\nPersistentKeepalive = 0\n\
                    PublicKey = AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=\n";
    assert_eq!(topology.conf().to_string(), expected);
}

prop_compose! {
    fn any_node(n: u8)(
        location in prop::sample::select(vec!["", "a", "b"]),
        leader: bool,
        internal in prop::sample::select(vec![0_u8, 1, 2]),
        dual: bool,
        public: bool,
        lost in prop::collection::btree_set(1_u8..8, 0..4),
        extra in prop::collection::vec((0_u8..4, 24_u8..=32), 0..3),
        keepalive in 0_u16..3,
    ) -> Node {
        let mut node = node(n, location);
        match internal {
            0 => node.internal_ips.clear(),
            1 => {}
            // The same address in several locations is no rarity.
            _ => node.internal_ips = vec![net("192.168.0.10/24")],
        }
        if dual {
            node.subnets.push(net(&format!("fd10:0:0:{n}::/64")));
        }
        if public {
            node.endpoint = Some(format!("203.0.113.{n}:51820").parse().unwrap());
        }
        node.unreachable = lost.into_iter().map(|n| format!("n{n}")).collect();
        node.allowed_location_ips = extra.into_iter().map(|(x, len)| net(&format!("192.168.{x}.0/{len}"))).collect();
        node.leader = leader;
        node.persistent_keepalive = keepalive;
        node
    }
}

prop_compose! {
    fn any_peer(n: u8)(ips in prop::collection::vec((0_u8..6, 22_u8..=32), 0..4), key in 0_u8..4) -> Peer {
        let ips = ips.into_iter().map(|(x, len)| net(&format!("10.244.{x}.0/{len}")));
        Peer { public_key: Key([100 + key; 32]), allowed_ips: ips.collect(), ..peer(n, &[]) }
    }
}

fn any_cluster() -> impl Strategy<Value = (Vec<Node>, Vec<Peer>, Granularity)> {
    let nodes = (1_usize..8).prop_flat_map(|n| (1..=u8::try_from(n).unwrap()).map(any_node).collect::<Vec<_>>());
    let peers = (0_usize..5).prop_flat_map(|n| (0..u8::try_from(n).unwrap()).map(any_peer).collect::<Vec<_>>());
    (nodes, peers, prop::sample::select(vec![Granularity::Location, Granularity::Full]))
}

proptest! {
    #[test]
    fn every_pod_cidr_is_in_exactly_one_segment((nodes, peers, granularity) in any_cluster()) {
        let topology = try_topology(&nodes, &peers, granularity, &[net("10.4.0.0/16")]).unwrap();
        for cidr in nodes.iter().flat_map(|n| &n.subnets) {
            prop_assert_eq!(topology.segments.iter().filter(|s| s.allowed_ips.contains(cidr)).count(), 1);
        }
        let members: usize = topology.segments.iter().map(|s| s.members.len()).sum();
        prop_assert_eq!(members, nodes.len());
    }

    #[test]
    fn a_configuration_has_no_key_and_no_cidr_twice((nodes, peers, granularity) in any_cluster()) {
        let topology = try_topology(&nodes, &peers, granularity, &[net("10.4.0.0/16")]).unwrap();
        for conf in [topology.conf(), topology.peer_conf("p1"), topology.peer_conf("")] {
            let mut keys = BTreeSet::new();
            let mut ips = BTreeSet::new();
            for peer in &conf.peers {
                prop_assert!(keys.insert(peer.public_key));
                for ip in &peer.allowed_ips {
                    prop_assert!(ips.insert(ip.trunc()), "{} twice", ip);
                }
            }
        }
    }

    #[test]
    fn all_nodes_come_to_the_same_segments((nodes, peers, granularity) in any_cluster()) {
        let first = try_topology(&nodes, &peers, granularity, &[net("10.4.0.0/16")]).unwrap();
        for i in 1..nodes.len() {
            let mut rotated = nodes.clone();
            rotated.rotate_left(i);
            let other = try_topology(&rotated, &peers, granularity, &[net("10.4.0.0/16")]).unwrap();
            prop_assert_eq!(&first.segments, &other.segments);
            prop_assert_eq!(first.graph(), other.graph());
        }
    }
}
