//! Peers: what they are given, what they are refused, and who takes over.

use std::collections::BTreeMap;

use tombolo_mesh::claims::Liveness;
use tombolo_mesh::plan::{self, Probe};
use tombolo_mesh::{Node, Peer};

use super::given::{Cluster, Family, asked, device, device_peer, key, net, peer, refusals, routes, routes_in, rules};

/// The service CIDR of the other cluster, which both of its nodes claim.
const SERVICES: &str = "10.143.0.0/16";

/// The Peers that the peering loop makes of the two nodes of another cluster.
fn other_cluster() -> [Peer; 2] {
    [("p1", "10.141.1.0/24", "192.168.7.1/32"), ("p2", "10.141.2.0/24", "192.168.7.2/32")].map(
        |(name, pods, address)| {
            let host = address.trim_end_matches("/32");
            let endpoint = Some(format!("{host}:51820").parse().unwrap());
            Peer { endpoint, ..peer(name, &[pods, address, SERVICES]) }
        },
    )
}

fn joined() -> Cluster {
    other_cluster().into_iter().fold(Cluster::two_locations(Family::V4), Cluster::peer)
}

/// Whose tunnel the other cluster's services are in.
fn carrier(cluster: &Cluster, hostname: &str) -> String {
    let plan = cluster.plan(hostname);
    let services = net(SERVICES);
    let having = |name: &&str| device_peer(&plan, name).allowed_ips.contains(&services);
    let carriers: Vec<&str> = ["p1", "p2"].into_iter().filter(having).collect();
    assert_eq!(carriers.len(), 1, "{carriers:?}");
    assert_eq!(plan.carriers[&services], carriers[0]);
    carriers[0].to_owned()
}

#[test]
fn every_location_has_its_own_tunnel_to_a_peer() {
    let cluster = joined();
    let (a, b) = (cluster.plan("a1"), cluster.plan("b1"));
    for plan in [&a, &b] {
        assert_eq!(device(plan)[1], "p1 192.168.7.1:51820: 10.141.1.0/24 192.168.7.1/32 10.143.0.0/16");
        assert_eq!(device(plan)[2], "p2 192.168.7.2:51820: 10.141.2.0/24 192.168.7.2/32");
    }
    assert!(routes_in(&cluster.plan("a2"), "main").contains(&"10.143.0.0/16 via 192.168.1.1 dev eth0".to_owned()));
}

#[test]
fn a_peers_endpoint_is_routed_into_its_tunnel_which_encrypted_packets_do_not_see() {
    let plan = joined().plan("a1");
    assert!(routes_in(&plan, "tunnel").contains(&"192.168.7.1/32 dev kilo0".to_owned()));
    assert!(!routes_in(&plan, "main").iter().any(|r| r.contains("kilo0")));
    let for_the_tunnel: Vec<String> = rules(&plan).into_iter().filter(|r| r.ends_with("tunnel")).collect();
    assert_eq!(for_the_tunnel.len(), 2);
    assert!(for_the_tunnel.iter().all(|r| r.contains("not") && r.contains("fwmark 0x1170/0xffffffff")));
}

#[test]
fn one_of_several_carries_what_they_share_until_it_dies() {
    let mut cluster = joined();
    assert_eq!(carrier(&cluster, "a1"), "p1");
    assert_eq!(carrier(&cluster, "b1"), "p1", "nodes that know nothing choose alike");
    cluster.carriers = cluster.plan("a1").carriers;
    cluster.liveness = [("p1".to_owned(), Liveness::Dead), ("p2".to_owned(), Liveness::Alive)].into();
    assert_eq!(carrier(&cluster, "a1"), "p2");
    cluster.carriers = cluster.plan("a1").carriers;
    cluster.liveness.insert("p1".to_owned(), Liveness::Alive);
    assert_eq!(carrier(&cluster, "a1"), "p2", "it stays where it is");
    assert_eq!(device_peer(&cluster.plan("a1"), "p1").allowed_ips, [net("10.141.1.0/24"), net("192.168.7.1/32")]);
}

#[test]
fn those_who_have_networks_are_asked_whether_they_live_by_who_has_the_tunnel() {
    let one = peer("alone", &["10.9.0.0/24", "10.9.1.1/32"]);
    let cluster = joined().peer(one).peer(peer("laptop", &["10.9.2.1/32"])).with(|c| {
        // A node behind the first.
        c.peers.get_mut("p1").unwrap().allowed_ips.push(net("192.168.7.9/32"));
    });
    let asked = |name: &str| -> Vec<Probe> {
        cluster.plan(name).probes.into_iter().filter(|p| matches!(p, Probe::Peer(..))).collect()
    };
    let at = |name: &str, ip: &str| Probe::Peer(name.to_owned(), ip.parse().unwrap());
    let expected = [at("alone", "10.9.1.1"), at("p1", "192.168.7.1"), at("p2", "192.168.7.2")];
    assert_eq!(asked("a1"), expected);
    assert_eq!(asked("b1"), expected);
    assert_eq!(asked("a2"), []);
}

#[test]
fn a_shared_cidr_is_one_however_its_host_bits_are_written() {
    let cluster = joined().with(|c| c.peers.get_mut("p2").unwrap().allowed_ips[2] = net("10.143.7.7/16"));
    assert_eq!(carrier(&cluster, "a1"), "p1");
    let shared: Vec<String> = routes(&cluster.plan("a1")).into_iter().filter(|r| r.contains("10.143.")).collect();
    assert_eq!(shared, ["tunnel 10.143.0.0/16 dev kilo0"]);
    let dead = cluster.with(|c| c.liveness = [("p1".to_owned(), Liveness::Dead)].into());
    assert_eq!(carrier(&dead, "a1"), "p2");
}

#[test]
fn what_the_cluster_has_itself_is_refused_and_the_rest_given() {
    for (claim, what) in [
        ("10.41.12.0/24", "the pod CIDR of node a2"),
        ("10.41.0.0/16", "the pod CIDR of node a1"),
        ("10.41.21.128/25", "the pod CIDR of node b1"),
        ("10.43.7.0/24", "the service CIDR"),
        ("10.4.0.1/32", "WireGuard"),
        ("192.168.2.2/32", "an address of node b2"),
        ("192.168.0.0/16", "an address of node a1"),
        ("0.0.0.0/0", "the service CIDR"),
        ("203.0.113.9/32", "an address of node b1"),
    ] {
        let cluster = Cluster::two_locations(Family::V4)
            .with(|c| c.node("b1").endpoint = Some("203.0.113.9:51820".parse().unwrap()))
            .peer(peer("office", &[claim, "172.20.0.0/24"]));
        let plan = cluster.plan("a1");
        assert_eq!(refusals(&plan), [format!("Peer/office spec.allowedIPs {claim}")]);
        assert!(plan.refusals[0].reason.contains(what), "{claim}: {}", plan.refusals[0].reason);
        assert_eq!(device_peer(&plan, "office").allowed_ips, [net("172.20.0.0/24")]);
        assert!(!routes(&plan).iter().any(|r| r.contains(&format!(" {claim} dev kilo0")) && r.contains("office")));
    }
}

#[test]
fn ipv6_claims_are_refused_likewise() {
    let claims = ["fd41:12::/64", "fd43::7/128", "fd02::/16", "2001:db8::/32"];
    let plan = Cluster::two_locations(Family::Dual).peer(peer("office", &claims)).plan("a1");
    assert_eq!(
        refusals(&plan),
        claims[..3].iter().map(|c| format!("Peer/office spec.allowedIPs {c}")).collect::<Vec<_>>()
    );
    assert_eq!(device_peer(&plan, "office").allowed_ips, [net("2001:db8::/32")]);
}

#[test]
fn the_address_that_a_nodes_name_stands_for_is_the_clusters_too() {
    let cluster = Cluster::two_locations(Family::V4)
        .with(|c| {
            c.node("b1").endpoint = Some("b1.example.com:51820".parse().unwrap());
            c.resolved = [("b1.example.com".to_owned(), "203.0.113.9".parse().unwrap())].into();
        })
        .peer(peer("office", &["203.0.113.0/24"]));
    assert_eq!(refusals(&cluster.plan("a1")), ["Peer/office spec.allowedIPs 203.0.113.0/24"]);
}

#[test]
fn a_peer_with_a_nodes_key_is_refused_whole() {
    let cluster = joined().peer(Peer { public_key: key("b2"), ..peer("self", &["172.20.0.0/24"]) });
    let plan = cluster.plan("a1");
    assert!(plan.refusals[0].reason.contains("node b2 of this very cluster"));
    assert!(plan.refusals[0].object == "Peer/self" && plan.refusals[0].field == "spec.publicKey");
    assert!(!routes(&plan).iter().any(|r| r.contains("172.20.")));
    assert_eq!(plan.members.1, 2);
}

#[test]
fn of_two_peers_with_one_key_the_first_by_name_is_taken() {
    let cluster = joined().peer(Peer { public_key: key("p1"), ..peer("p9", &["172.20.0.0/24"]) });
    let plan = cluster.plan("a1");
    assert_eq!(refusals(&plan), [format!("Peer/p9 spec.publicKey {}", key("p1"))]);
    let without = joined().plan("a1");
    assert_eq!((device(&plan), plan.network), (device(&without), without.network));
}

#[test]
fn an_endpoint_that_does_not_resolve_is_said_and_the_peer_may_still_speak_first() {
    let named = |resolved: BTreeMap<String, std::net::IpAddr>| {
        let endpoint = Some("vpn.example.com:4500".parse().unwrap());
        let cluster = Cluster::two_locations(Family::V4).peer(Peer { endpoint, ..peer("office", &["172.20.0.0/24"]) });
        assert_eq!(plan::names(&cluster.nodes, &cluster.peers), ["vpn.example.com"].into());
        cluster.with(|c| c.resolved = resolved).plan("a1")
    };
    let unresolved = named(BTreeMap::new());
    assert_eq!(refusals(&unresolved), ["Peer/office spec.endpoint.dnsOrIP.dns vpn.example.com"]);
    assert_eq!(device(&unresolved)[1], "office -: 172.20.0.0/24");
    assert!(routes_in(&unresolved, "tunnel").contains(&"172.20.0.0/24 dev kilo0".to_owned()));
    let resolved = named([("vpn.example.com".to_owned(), "2001:db8::7".parse().unwrap())].into());
    assert!(resolved.refusals.is_empty());
    assert_eq!(device(&resolved)[1], "office [2001:db8::7]:4500: 172.20.0.0/24");
}

#[test]
fn a_peer_and_a_location_that_want_one_network_leave_it_to_the_peer() {
    let cluster =
        joined().with(|c| c.node("b2").allowed_location_ips = vec![net("10.141.1.128/25"), net("172.16.0.0/24")]);
    let plan = cluster.plan("a1");
    assert_eq!(refusals(&plan), ["Node/b2 kilo.squat.ai/allowed-location-ips 10.141.1.128/25"]);
    assert!(device(&plan)[0].ends_with("10.4.0.2/32 172.16.0.0/24"), "{}", device(&plan)[0]);
}

#[test]
fn what_the_peer_asks_for_is_given_to_the_device() {
    let cluster = Cluster::two_locations(Family::V4)
        .with(|c| c.node("a1").persistent_keepalive = 25)
        .peer(Peer { preshared_key: Some(key("secret")), ..peer("office", &["172.20.0.0/24"]) });
    let plan = cluster.plan("a1");
    let office = device_peer(&plan, "office");
    assert_eq!((office.preshared_key, office.persistent_keepalive), (Some(key("secret")), Some(25)));
}

#[test]
fn a_peer_that_is_gone_leaves_nothing() {
    let without = Cluster::two_locations(Family::V4);
    let mut gone = joined();
    gone.carriers = gone.plan("a1").carriers;
    gone.liveness = [("p1".to_owned(), Liveness::Dead)].into();
    gone.peers.clear();
    for name in ["a1", "a2"] {
        assert_eq!(asked(&gone.plan(name)), asked(&without.plan(name)));
    }
}

#[test]
fn when_the_carrier_is_deleted_another_has_its_networks_at_once() {
    let mut cluster = joined();
    cluster.carriers = cluster.plan("a1").carriers;
    cluster.peers.remove("p1");
    let plan = cluster.plan("a1");
    assert_eq!(device_peer(&plan, "p2").allowed_ips.len(), 3);
    assert!(plan.carriers.is_empty(), "nobody shares any more");
}

#[test]
fn what_only_a_silent_peer_has_is_silent_to_the_whole_location() {
    let mut cluster = joined();
    cluster.liveness = [("p1".to_owned(), Liveness::Dead), ("p2".to_owned(), Liveness::Alive)].into();
    let plan = cluster.plan("a1");
    assert_eq!(plan.silent_networks, [net("10.141.1.0/24"), net("192.168.7.1/32")].into(), "p2 has the services");
    assert_eq!(cluster.plan("a2").silent_networks, [].into(), "it does not ask itself");
    cluster.nodes.get_mut("a1").unwrap().silent_networks = plan.silent_networks.clone();
    assert_eq!(cluster.plan("a2").silent_networks, plan.silent_networks);
    assert_eq!(cluster.plan("b2").silent_networks, [].into(), "another location has another way");
    cluster.liveness.clear();
    assert_eq!(cluster.plan("a1").silent_networks, [].into());
}

#[test]
fn peers_behind_nat_are_sent_to_where_they_were_heard() {
    let heard: Node = Node {
        discovered_endpoints: [(key("p1"), "198.51.100.7:4500".parse().unwrap())].into(),
        ..joined().node("b2").clone()
    };
    let by_others = |keepalive| {
        let cluster = joined().with(|c| {
            c.nodes.insert("b2".to_owned(), heard.clone());
            c.peers.get_mut("p1").unwrap().persistent_keepalive = keepalive;
        });
        device_peer(&cluster.plan("a1"), "p1").endpoint.unwrap().to_string()
    };
    assert_eq!(by_others(Some(10)), "198.51.100.7:4500");
    assert_eq!(by_others(None), "192.168.7.1:51820", "who sends no keepalives is where it says");
}
