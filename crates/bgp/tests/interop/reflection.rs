//! Route reflection (RFC 4456) and several paths a prefix (RFC 7911): they are our clients, and we are theirs.

use std::net::Ipv4Addr;

use tombolo_bgp::config::{AddPath, Config, Neighbor};

use super::bird::Bird;
use super::exabgp::Exabgp;
use super::frr::Frr;
use super::gobgp::Gobgp;
use super::harness::*;

const CLUSTER: &str = "10.9.9.9";
/// What several announce.
const SHARED: &str = "203.0.113.0/24";

fn one_cluster(config: Config) -> Config {
    Config { cluster_id: Some(CLUSTER.parse().unwrap()), ..config }
}

/// What a client of our reflector has of another one.
fn reflected(to: &impl Peer, n: u8) {
    for (prefix, hop) in [(prefix4(n), v4(n)), (prefix6(n), v6(n))] {
        let seen = to.until_route(&prefix, |_| true);
        assert_eq!((seen.next_hop, seen.originator), (hop.to_string(), v4(n).to_string()), "{}", seen.text);
        assert_eq!((seen.clusters.join(" "), seen.med), (CLUSTER.to_owned(), Some(u32::from(n))), "{}", seen.text);
        assert_eq!(seen.communities, [format!("64512:{n}")], "{}", seen.text);
        assert_eq!(seen.large, [format!("{BIG_AS}:{n}:{n}")], "{}", seen.text);
        assert!(seen.extended.join(" ").contains(&format!("64512:{n}")), "{}", seen.text);
    }
}

#[test]
fn all_four_are_our_clients() {
    let lab = Lab::new();
    let client = Neighbor { route_reflector_client: true, ..neighbor(AS) };
    let mut config = one_cluster(ours(AS));
    config.neighbors = [2, 3, 4, 5].map(|n| (v4(n), client.clone())).into();
    let us = lab.start(config);
    let mut bird = Bird::start(&lab, &Plan::new(2));
    let frr = Frr::start(&lab, &Plan::new(3));
    let gobgp = Gobgp::start(&lab, &Plan::new(4));
    gobgp.announce();
    let exabgp = Exabgp::start(&lab, &Plan::new(5));
    for n in [2, 3, 4, 5] {
        us.until_up(v4(n));
    }
    for n in [3, 4, 5] {
        reflected(&bird, n);
    }
    for n in [2, 4, 5] {
        reflected(&frr, n);
    }
    for n in [2, 3, 5] {
        reflected(&gobgp, n);
    }
    for n in [2, 3, 4] {
        reflected(&exabgp, n);
    }
    // Nobody is told what it said itself.
    assert!(exabgp.routes().iter().all(|route| !route.prefix.contains(".5.")));
    bird.kill();
    frr.until_gone(&prefix4(2));
    exabgp.until_gone(&prefix6(2));
    gobgp.until_gone(&prefix6(2));
}

/// Two of ours are clients of `them`, who was set up so; what one announces the other has.
fn they_reflect(lab: &Lab, them: std::net::IpAddr, cluster: Ipv4Addr) {
    let left = lab.start(client(7, SHARED, them, neighbor(AS)));
    let right = lab.start(client(8, "203.0.114.0/24", them, neighbor(AS)));
    for (to, prefix, n) in [(&right, SHARED, 7), (&left, "203.0.114.0/24", 8)] {
        to.until_up(them);
        let route = to.until_route(them, prefix, |_| true);
        assert_eq!((route.originator.map(Into::into), route.next_hop), (Some(v4(n)), Some(v4(n))), "{route:?}");
        assert_eq!((&*route.cluster_list, route.refused), (&[cluster][..], None));
        assert_eq!((route.med, route.communities.len(), route.large_communities.len()), (Some(7), 1, 1));
    }
    drop(left);
    right.until_gone(them, SHARED);
}

#[test]
fn bird_reflects() {
    let lab = Lab::new();
    let client =
        |n| format!("protocol bgp from t {{ neighbor {} as {AS}; rr client; rr cluster id {CLUSTER}; }}\n", v4(n));
    let more = [7, 8].map(client).concat();
    let _bird = Bird::start(&lab, &Plan { more: &more, ..Plan::new(2) });
    they_reflect(&lab, v4(2), CLUSTER.parse().unwrap());
}

/// Neighbours of FRR beside the first.
fn frr_clients(numbers: &[u8]) -> (String, String) {
    let (mut session, mut family) = (format!(" bgp cluster-id {CLUSTER}\n"), String::new());
    for n in numbers {
        let address = v4(*n);
        session += &format!(
            " neighbor {address} remote-as {AS}\n neighbor {address} update-source {}\n \
             neighbor {address} timers connect 1\n \
             neighbor {address} advertisement-interval 0\n",
            v4(3)
        );
        family += &format!("  neighbor {address} activate\n  neighbor {address} route-reflector-client\n");
    }
    (session, family)
}

#[test]
fn frr_reflects() {
    let lab = Lab::new();
    let (session, family) = frr_clients(&[7, 8]);
    let _frr = Frr::start(&lab, &Plan { session: &session, family: &family, ..Plan::new(3) });
    they_reflect(&lab, v4(3), CLUSTER.parse().unwrap());
}

/// Neighbours of GoBGP beside the first.
fn gobgp_client(n: u8, family: &str) -> String {
    let mut text = format!(
        "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{}\"\n    peer-as = {AS}\n  \
         [neighbors.transport.config]\n    passive-mode = true\n  \
         [neighbors.route-reflector.config]\n    route-reflector-client = true\n    \
         route-reflector-cluster-id = \"{CLUSTER}\"\n",
        v4(n)
    );
    for name in ["ipv4-unicast", "ipv6-unicast"] {
        let entry = "  [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name =";
        text += &format!("{entry} \"{name}\"\n{family}\n");
    }
    text
}

#[test]
fn gobgp_reflects() {
    let lab = Lab::new();
    let more = [7, 8].map(|n| gobgp_client(n, "")).concat();
    let _gobgp = Gobgp::start(&lab, &Plan { more: &more, ..Plan::new(4) });
    they_reflect(&lab, v4(4), CLUSTER.parse().unwrap());
}

/// Two of ours announce the same to our reflector; it tells `them` both, who tell both to a fourth of ours.
fn several_paths_through(lab: &Lab, n: u8, them: &impl Peer) {
    let client_of_ours = Neighbor { route_reflector_client: true, passive: true, ..neighbor(AS) };
    let to_them = Neighbor { add_path: AddPath { receive: false, send: 8 }, ..neighbor(AS) };
    let config = with(ours(AS), v4(n), to_them);
    let us = lab.start([7, 8].into_iter().fold(config, |config, n| with(config, v4(n), client_of_ours.clone())));
    let two = [7, 8].map(|n| lab.start(client(n, SHARED, v4(1), neighbor(AS))));
    let receiver = Neighbor { add_path: AddPath { receive: true, send: 0 }, ..neighbor(AS) };
    let last = lab.start(client(9, "203.0.115.0/24", v4(n), receiver));
    let status = us.until_up(v4(n));
    assert!(status.capabilities.iter().any(|c| c == "add-path-send(ipv4-unicast+ipv6-unicast)"), "{status:?}");
    for hop in [v4(7), v4(8)] {
        let seen = them.until_route(SHARED, |route| route.next_hop == hop.to_string());
        assert_eq!(seen.originator, hop.to_string());
        let route = last.until_route(v4(n), SHARED, |route| route.next_hop == Some(hop));
        assert!(route.path_id.is_some(), "{route:?}");
    }
    let ids = last.received(v4(n)).into_iter().filter(|r| r.prefix.to_string() == SHARED).filter_map(|r| r.path_id);
    assert_eq!(ids.collect::<std::collections::BTreeSet<_>>().len(), 2);
    let [_one, other] = two;
    drop(other);
    until("one path is left", || {
        let left: Vec<_> = last.received(v4(n)).into_iter().filter(|r| r.prefix.to_string() == SHARED).collect();
        if left.len() == 1 && left[0].next_hop == Some(v4(7)) { Ok(()) } else { Err(format!("{left:#?}")) }
    });
    assert_eq!((us.neighbor(v4(n)).unwrap().flawed_updates, last.ups_and_downs()), (0, (1, 0)));
}

#[test]
fn bird_takes_and_tells_several_paths() {
    let lab = Lab::new();
    let more = format!("protocol bgp from t {{ neighbor {} as {AS}; rr client; }}", v4(9));
    let bird = Bird::start(&lab, &Plan { family: "add paths yes;", more: &more, ..Plan::new(2) });
    several_paths_through(&lab, 2, &bird);
}

#[test]
fn frr_takes_and_tells_several_paths() {
    let lab = Lab::new();
    let (session, mut family) = frr_clients(&[9]);
    family += &format!("  neighbor {} addpath-tx-all-paths\n", v4(9));
    let frr = Frr::start(&lab, &Plan { session: &session, family: &family, ..Plan::new(3) });
    several_paths_through(&lab, 3, &frr);
}

#[test]
fn gobgp_takes_and_tells_several_paths() {
    let lab = Lab::new();
    let paths = "    [neighbors.afi-safis.add-paths.config]\n      receive = true\n      send-max = 8";
    let more = gobgp_client(9, paths);
    let gobgp = Gobgp::start(&lab, &Plan { family: paths, more: &more, ..Plan::new(4) });
    several_paths_through(&lab, 4, &gobgp);
}

#[test]
fn exabgp_takes_and_tells_several_paths() {
    let lab = Lab::new();
    let more = format!(
        "route {SHARED} path-information 1.1.1.1 next-hop {}; route {SHARED} path-information 2.2.2.2 next-hop {};",
        v4(5),
        v4(4)
    );
    let plan = Plan { session: "  capability { add-path send/receive; }", more: &more, ..Plan::new(5) };
    let both = Neighbor { add_path: AddPath { receive: true, send: 8 }, ..neighbor(AS) };
    let client_of_ours = Neighbor { route_reflector_client: true, passive: true, ..neighbor(AS) };
    let config = with(ours(AS), v4(5), both);
    let us = lab.start([7, 8].into_iter().fold(config, |config, n| with(config, v4(n), client_of_ours.clone())));
    let _two = [7, 8].map(|n| lab.start(client(n, "203.0.115.0/24", v4(1), neighbor(AS))));
    let exabgp = Exabgp::start(&lab, &plan);
    us.until_up(v4(5));
    for (id, hop) in [(0x0101_0101, v4(5)), (0x0202_0202, v4(4))] {
        us.until_route(v4(5), SHARED, |route| (route.path_id, route.next_hop) == (Some(id), Some(hop)));
    }
    for hop in [v4(7), v4(8)] {
        exabgp.until_route("203.0.115.0/24", |seen| seen.next_hop == hop.to_string());
    }
    exabgp.say(&format!("withdraw route {SHARED} path-information 1.1.1.1 next-hop {}", v4(5)));
    until("one path is left", || {
        let left: Vec<_> = us.received(v4(5)).into_iter().filter(|r| r.prefix.to_string() == SHARED).collect();
        if left.len() == 1 && left[0].path_id == Some(0x0202_0202) { Ok(()) } else { Err(format!("{left:#?}")) }
    });
}
