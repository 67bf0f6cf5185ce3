//! Between the nodes of one location: direct, through our overlay, or through another CNI's.

use std::collections::BTreeSet;

use tombolo_mesh::plan::{Compatibility, Encapsulate};
use tombolo_net::network::Vxlan;

use super::given::{Cluster, Family, net, routes_in, rules};

/// One location; `a2` is in the leader's subnet, `a3` is not.
fn location(family: Family, encapsulate: Encapsulate) -> Cluster {
    Cluster::new(family, &["a1", "a2", "a3", "b1"]).with(|c| {
        c.settings.encapsulate = encapsulate;
        c.node("a3").internal_ips = family.of(net("192.168.9.3/24"), net("fd09::3/64"));
    })
}

fn vxlan(cluster: &Cluster, name: &str) -> Option<Vxlan> {
    let links = cluster.plan(name).network.vxlans;
    assert!(links.len() <= 1);
    links.into_iter().next()
}

#[test]
fn who_is_reached_how() {
    let direct = |n, gateway| format!("10.41.1{n}.0/24 via {gateway} dev eth0");
    let overlay = |n, gateway| format!("10.41.1{n}.0/24 via {gateway} dev tombolo-vxlan");
    for (encapsulate, near, far, remotes) in [
        (Encapsulate::Never, direct(2, "192.168.1.2"), direct(3, "192.168.9.3"), None),
        (Encapsulate::CrossSubnet, direct(2, "192.168.1.2"), overlay(3, "192.168.9.3"), Some(1)),
        (Encapsulate::Always, overlay(2, "192.168.1.2"), overlay(3, "192.168.9.3"), Some(2)),
    ] {
        let cluster = location(Family::V4, encapsulate);
        assert_eq!(routes_in(&cluster.plan("a1"), "main"), [near, far], "{encapsulate:?}");
        let ends = vxlan(&cluster, "a1").map(|v| v.remotes.iter().map(|r| r.remote).collect::<BTreeSet<_>>().len());
        assert_eq!(ends, remotes, "{encapsulate:?}");
    }
}

#[test]
fn a_node_in_another_subnet_sends_to_its_leader_through_the_overlay() {
    let plan = location(Family::V4, Encapsulate::CrossSubnet).plan("a3");
    let routes = routes_in(&plan, "main");
    assert!(routes.contains(&"10.41.21.0/24 via 192.168.1.1 dev tombolo-vxlan".to_owned()), "{routes:?}");
    assert!(routes.iter().all(|r| r.ends_with("dev tombolo-vxlan")), "{routes:?}");
}

#[test]
fn packets_of_pods_to_addresses_of_nodes_in_another_subnet_are_encapsulated_too() {
    let leader = location(Family::V4, Encapsulate::CrossSubnet).plan("a1");
    assert_eq!(routes_in(&leader, "location"), ["192.168.9.3/32 via 192.168.9.3 dev tombolo-vxlan"]);
    let of_location: Vec<String> = rules(&leader).into_iter().filter(|r| r.starts_with("1116")).collect();
    assert_eq!(
        of_location,
        ["1116: v4 to 192.168.9.3/32 iif kilo0 location", "1116: v4 from 10.41.11.0/24 to 192.168.9.3/32 location"]
    );
    let other = location(Family::V4, Encapsulate::CrossSubnet).plan("a2");
    assert_eq!(rules(&other), ["1116: v4 from 10.41.12.0/24 to 192.168.9.3/32 location"]);
}

#[test]
fn both_ends_of_the_overlay_know_each_other() {
    for family in [Family::V4, Family::V6, Family::Dual] {
        let cluster = location(family, Encapsulate::Always);
        for (one, other) in [("a1", "a2"), ("a2", "a3"), ("a3", "a1")] {
            let (one, other) = (vxlan(&cluster, one).unwrap(), vxlan(&cluster, other).unwrap());
            let remotes: Vec<_> = one.remotes.iter().filter(|r| r.remote == other.local).collect();
            assert!(!remotes.is_empty() && remotes.iter().all(|r| r.mac == other.mac), "{family:?}");
            let back: Vec<_> = other.remotes.iter().filter(|r| r.remote == one.local).collect();
            assert!(!back.is_empty() && back.iter().all(|r| r.mac == one.mac), "{family:?}");
        }
        let macs: BTreeSet<_> = ["a1", "a2", "a3"].map(|n| vxlan(&cluster, n).unwrap().mac).into();
        assert_eq!(macs.len(), 3);
    }
}

#[test]
fn the_overlay_fits_into_the_underlay() {
    for (family, mtu) in [(Family::V4, 1450), (Family::V6, 1430), (Family::Dual, 1450)] {
        assert_eq!(vxlan(&location(family, Encapsulate::Always), "a1").unwrap().mtu, mtu, "{family:?}");
    }
}

#[test]
fn ipv6_goes_through_the_overlay_to_link_local_addresses() {
    for family in [Family::V6, Family::Dual] {
        let cluster = location(family, Encapsulate::Always);
        let routes = routes_in(&cluster.plan("a1"), "main");
        let remotes = vxlan(&cluster, "a1").unwrap().remotes;
        let v6: Vec<&String> = routes.iter().filter(|r| r.starts_with("fd41:")).collect();
        assert_eq!(v6.len(), 2);
        for route in v6 {
            let known = |gateway: String| gateway.starts_with("fe80::") && route.contains(&format!("via {gateway} "));
            assert!(remotes.iter().any(|r| known(r.gateway.to_string())), "{route}: {remotes:?}");
        }
    }
}

#[test]
fn a_node_whose_subnet_is_narrow_is_answered_as_it_speaks() {
    // a2 takes the leader for a stranger (its own network is a single address), the leader would take a2 for a
    // neighbour: both must use the overlay, or only one of them has it.
    let cluster = location(Family::V4, Encapsulate::CrossSubnet)
        .with(|c| c.node("a2").internal_ips = vec![net("192.168.1.2/32")]);
    for (from, to) in [("a1", "10.41.12.0/24 via 192.168.1.2"), ("a2", "10.41.11.0/24 via 192.168.1.1")] {
        let routes = routes_in(&cluster.plan(from), "main");
        assert!(routes.contains(&format!("{to} dev tombolo-vxlan")), "{from}: {routes:?}");
    }
}

#[test]
fn with_flannel_or_cilium_their_links_carry_what_is_encapsulated() {
    for (compatibility, link, gateway) in
        [(Compatibility::Flannel, "flannel.1", "10.41.13.0"), (Compatibility::Cilium, "cilium_host", "10.41.13.77")]
    {
        let cluster = location(Family::V4, Encapsulate::CrossSubnet).with(|c| {
            c.settings.compatibility = Some(compatibility);
            c.node("a3").cni_compatibility_ip = Some(net("10.41.13.77/32"));
        });
        let plan = cluster.plan("a1");
        assert!(plan.network.vxlans.is_empty());
        assert_eq!(
            routes_in(&plan, "main"),
            ["10.41.12.0/24 via 192.168.1.2 dev eth0".to_owned(), format!("10.41.13.0/24 via {gateway} dev {link}")]
        );
        assert_eq!(routes_in(&plan, "location"), [format!("192.168.9.3/32 via {gateway} dev {link}")]);
    }
}

#[test]
fn a_node_of_whose_cilium_nothing_is_known_yet_is_not_routed_to() {
    let cluster = location(Family::V4, Encapsulate::Always).with(|c| {
        c.settings.compatibility = Some(Compatibility::Cilium);
        c.node("a3").cni_compatibility_ip = Some(net("10.41.13.77/32"));
    });
    assert_eq!(routes_in(&cluster.plan("a1"), "main"), ["10.41.13.0/24 via 10.41.13.77 dev cilium_host"]);
}

#[test]
fn without_local_the_routes_inside_the_location_are_another_programs() {
    let cluster = location(Family::V4, Encapsulate::CrossSubnet).with(|c| c.settings.local = false);
    let leader = cluster.plan("a1");
    assert!(routes_in(&leader, "main").is_empty() && routes_in(&leader, "location").is_empty());
    let routes = routes_in(&cluster.plan("a2"), "main");
    assert!(routes.contains(&"10.41.21.0/24 via 192.168.1.1 dev eth0".to_owned()), "the leader still is: {routes:?}");
    assert!(!routes.iter().any(|r| r.starts_with("10.41.1")), "{routes:?}");
}

#[test]
fn a_node_without_an_internal_address_is_a_location_of_its_own() {
    let cluster = location(Family::V4, Encapsulate::CrossSubnet).with(|c| {
        c.node("a3").internal_ips.clear();
        c.node("a3").endpoint = Some("203.0.113.3:51820".parse().unwrap());
    });
    let alone = cluster.plan("a3");
    assert!(alone.leads() && alone.network.vxlans.is_empty());
    let into_tunnel = routes_in(&alone, "tunnel");
    assert_eq!(
        into_tunnel,
        ["10.41.11.0/24", "10.41.12.0/24", "10.41.21.0/24", "192.168.1.2/32"].map(|n| format!("{n} dev kilo0"))
    );
    assert!(alone.network.routes.iter().all(|r| r.source.is_none()), "the kernel takes the interface's address");
    assert!(routes_in(&cluster.plan("a1"), "tunnel").contains(&"10.41.13.0/24 dev kilo0".to_owned()));
    assert_eq!(routes_in(&cluster.plan("a1"), "main"), ["10.41.12.0/24 via 192.168.1.2 dev eth0"]);
}

#[test]
fn where_the_underlay_is_not_known_only_the_overlay_is_used() {
    let cluster = location(Family::V4, Encapsulate::CrossSubnet).with(|c| c.underlay.link = None);
    assert_eq!(routes_in(&cluster.plan("a1"), "main"), ["10.41.13.0/24 via 192.168.9.3 dev tombolo-vxlan"]);
}
