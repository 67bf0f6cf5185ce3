//! Nodes that come, go, lead and are given up.

use tombolo_mesh::plan::{self, Probe};
use tombolo_net::wireguard::{DeviceStatus, Peer as DevicePeer, PeerStatus};

use super::given::{
    Cluster, Family, NOW, asked, device, device_peer, key, net, node, peer, refusals, routes, routes_in,
};

#[test]
fn a_node_that_was_not_seen_for_a_minute_takes_no_part() {
    let seen = |seconds: i64| Cluster::two_locations(Family::V4).with(|c| c.node("b1").last_seen = NOW - seconds);
    assert_eq!(asked(&seen(59).plan("a1")), asked(&Cluster::two_locations(Family::V4).plan("a1")));
    let plan = seen(60).plan("a1");
    assert_eq!(device(&plan), ["b2 192.168.2.2:51820: 10.41.22.0/24 192.168.2.2/32 10.4.0.2/32"], "b2 leads now");
    assert_eq!(plan.members.0, 3);
    assert!(!routes(&plan).iter().any(|r| r.contains("10.41.21.")));
}

#[test]
fn a_node_knows_of_itself_that_it_lives() {
    let cluster = Cluster::two_locations(Family::V4).with(|c| c.node("a1").last_seen = 0);
    assert!(cluster.plan("a1").leads());
    assert_eq!(cluster.plan("b1").members.0, 3);
}

#[test]
fn what_a_node_lacks_is_said() {
    type Change = fn(&mut Cluster);
    let cases: [(Change, &str); 4] = [
        (|c| drop(c.nodes.remove("a1")), "--hostname"),
        (|c| c.node("a1").subnets.clear(), "spec.podCIDR"),
        (|c| c.node("a1").endpoint = None, "kilo.squat.ai/force-endpoint"),
        (|c| c.node("a1").key = None, "a WireGuard key"),
    ];
    for (change, what) in cases {
        let cluster = Cluster::two_locations(Family::V4).with(change);
        let error = cluster.error("a1");
        assert!(error.starts_with("node a1 is not ready: it needs ") && error.contains(what), "{error}");
        assert!(!device(&cluster.plan("b1"))[0].contains("10.41.11."), "to the others it is not there");
    }
}

#[test]
fn what_a_not_ready_node_has_is_not_given_to_a_peer_either() {
    let cluster = Cluster::two_locations(Family::V4)
        .with(|c| c.node("b1").last_seen = 0)
        .peer(peer("office", &["10.41.21.0/24"]));
    assert_eq!(refusals(&cluster.plan("a1")), ["Peer/office spec.allowedIPs 10.41.21.0/24"]);
}

#[test]
fn a_removed_node_leaves_nothing() {
    let mut cluster = Cluster::two_locations(Family::V4);
    cluster.nodes.remove("b2");
    for name in ["a1", "a2"] {
        let plan = cluster.plan(name);
        let text = asked(&plan);
        assert!(!text.contains("10.41.22.") && !text.contains("192.168.2.2"), "{text}");
        assert_eq!(text, asked(&Cluster::new(Family::V4, &["a1", "a2", "b1"]).plan(name)));
    }
    cluster.nodes.remove("a2");
    assert!(routes_in(&cluster.plan("a1"), "main").is_empty());
}

#[test]
fn of_two_leaders_with_one_key_the_second_is_told() {
    // As when a virtual machine is copied with its disk.
    let cluster = Cluster::two_locations(Family::V4).with(|c| c.node("b1").key = Some(key("a2")));
    assert!(cluster.plan("a1").refusals.is_empty(), "a2 leads nothing, and needs no key");
    let full = cluster.full();
    for name in ["a1", "b1"] {
        let plan = full.plan(name);
        assert_eq!(refusals(&plan), [format!("Node/b1 kilo.squat.ai/key {}", key("a2"))]);
        assert!(plan.refusals[0].reason.contains("node a2 has the same key"), "{}", plan.refusals[0].reason);
    }
    let peers: Vec<String> = device(&full.plan("a1")).iter().map(|line| line[..2].to_owned()).collect();
    assert_eq!(peers, ["a2", "b2"]);
}

/// The leader of location a, as each of its nodes sees it.
fn leaders(cluster: &Cluster) -> Vec<String> {
    let of_a = cluster.nodes.values().filter(|n| n.location == "a" && n.last_seen == NOW);
    of_a.map(|n| cluster.plan(&n.name).leader).collect()
}

#[test]
fn a_leader_that_all_neighbours_have_lost_hands_over_and_comes_back() {
    let lost = |names: &[&str]| {
        Cluster::new(Family::V4, &["a1", "a2", "a3", "b1"]).with(|c| {
            for name in names {
                c.node(name).unreachable = ["a1".to_owned()].into();
            }
        })
    };
    assert_eq!(leaders(&lost(&[])), ["a1"; 3]);
    assert_eq!(leaders(&lost(&["a2"])), ["a1"; 3], "one that is lost to one only still leads");
    let handed_over = lost(&["a2", "a3"]);
    assert_eq!(leaders(&handed_over), ["a2"; 3], "the lost one, too, knows it when it reads it");
    assert!(handed_over.plan("a1").device.is_none() && handed_over.plan("a2").leads());
    assert!(device(&handed_over.plan("b1"))[0].starts_with("a2 192.168.1.2:51820: 10.41.11.0/24"));
    assert!(routes_in(&handed_over.plan("a3"), "main").contains(&"10.41.21.0/24 via 192.168.1.2 dev eth0".to_owned()));
    assert_eq!(leaders(&lost(&["a3"])), ["a1"; 3], "one neighbour has it back");
}

#[test]
fn a_report_of_a_node_that_is_itself_gone_does_not_count() {
    let cluster = Cluster::new(Family::V4, &["a1", "a2", "a3", "b1"]).with(|c| {
        c.node("a3").last_seen = 0;
        c.node("a2").unreachable = ["a1".to_owned()].into();
    });
    assert_eq!(leaders(&cluster), ["a2"; 2], "a2 is the only neighbour left");
}

#[test]
fn nodes_ask_after_their_leader_and_after_whom_they_lost() {
    let cluster = Cluster::new(Family::V4, &["a1", "a2", "a3", "b1"])
        .with(|c| c.node("a2").unreachable = ["a3".to_owned(), "gone".to_owned()].into());
    let at = |name: &str, ip: &str| Probe::Node(name.to_owned(), ip.parse().unwrap());
    assert_eq!(cluster.plan("a2").probes, [at("a1", "192.168.1.1"), at("a3", "192.168.1.3")].into());
    assert_eq!(cluster.plan("a3").probes, [at("a1", "192.168.1.1")].into());
    assert!(cluster.plan("a1").probes.is_empty() && cluster.plan("b1").probes.is_empty());
}

#[test]
fn a_volunteer_leads() {
    let cluster = Cluster::two_locations(Family::V4).with(|c| c.node("a2").leader = true);
    assert_eq!(leaders(&cluster), ["a2"; 2]);
    assert!(device(&cluster.plan("b1"))[0].starts_with("a2 "));
}

#[test]
fn the_device_listens_where_the_nodes_endpoint_says() {
    let cluster = Cluster::two_locations(Family::V4)
        .with(|c| c.node("a1").endpoint = Some("vpn.example.com:4500".parse().unwrap()));
    let plan = cluster.plan("a1");
    assert_eq!(plan.device.unwrap().listen_port, Some(4500));
    assert_eq!(plan.firewall.port, 4500);
    assert_eq!(cluster.plan("b1").device.unwrap().listen_port, Some(51820));
}

#[test]
fn a_nodes_endpoint_may_be_a_name() {
    let mut cluster = Cluster::two_locations(Family::V4)
        .with(|c| c.node("b1").endpoint = Some("b1.example.com:51820".parse().unwrap()));
    assert_eq!(plan::names(&cluster.nodes, &cluster.peers), ["b1.example.com"].into());
    let plan = cluster.plan("a1");
    assert_eq!(device_peer(&plan, "b1").endpoint, None);
    assert_eq!(refusals(&plan), ["Node/b1 kilo.squat.ai/force-endpoint b1.example.com"]);
    assert_eq!(refusals(&cluster.plan("b1")), refusals(&plan), "the node itself says it on its object");
    cluster.resolved = [("b1.example.com".to_owned(), "192.168.2.1".parse().unwrap())].into();
    assert_eq!(asked(&cluster.plan("a1")), asked(&Cluster::two_locations(Family::V4).plan("a1")));
}

#[test]
fn nodes_behind_nat_are_sent_to_where_they_were_heard() {
    let cluster = Cluster::two_locations(Family::V4).with(|c| {
        c.node("b1").persistent_keepalive = 25;
        c.node("a2").discovered_endpoints = [(key("b1"), "198.51.100.9:61000".parse().unwrap())].into();
    });
    assert_eq!(device_peer(&cluster.plan("a1"), "b1").endpoint, Some("198.51.100.9:61000".parse().unwrap()));
}

#[test]
fn whoever_is_behind_nat_and_was_heard_is_told_to_the_others() {
    let status = |name: &str, heard: bool| PeerStatus {
        peer: DevicePeer { endpoint: Some("198.51.100.9:61000".parse().unwrap()), ..DevicePeer::new(key(name)) },
        last_handshake: heard.then_some(std::time::SystemTime::UNIX_EPOCH),
        rx_bytes: 0,
        tx_bytes: 0,
    };
    let mut office = peer("office", &["172.20.0.0/24"]);
    office.persistent_keepalive = Some(10);
    let cluster = Cluster::two_locations(Family::V4)
        .with(|c| c.node("b1").persistent_keepalive = 25)
        .peer(office)
        .peer(peer("fixed", &["172.21.0.0/24"]));
    let device = |heard| DeviceStatus {
        peers: ["b1", "b2", "office", "fixed", "stranger"].map(|name| status(name, heard)).to_vec(),
        ..DeviceStatus::default()
    };
    let told = plan::discovered_endpoints(&cluster.nodes, &cluster.peers, &device(true));
    assert_eq!(told.keys().copied().collect::<Vec<_>>(), [key("b1"), key("office")]);
    assert!(told.values().all(|e| e.to_string() == "198.51.100.9:61000"));
    assert!(plan::discovered_endpoints(&cluster.nodes, &cluster.peers, &device(false)).is_empty());
}

#[test]
fn a_node_alone_has_no_peers_and_needs_none() {
    let plan = Cluster::new(Family::Dual, &["a1"]).plan("a1");
    assert!(plan.leads() && device(&plan).is_empty() && routes(&plan).is_empty());
    assert_eq!(
        plan.network.addresses.iter().map(|a| a.net).collect::<Vec<_>>(),
        [net("10.4.0.1/16"), net("fd04::1/64")]
    );
    assert_eq!(plan.members, (1, 0));
    assert_eq!(node("a1", Family::Dual).subnets, plan.topology.subnets);
}
