//! Which packets get the node's address on their way out.

use std::collections::BTreeSet;

use ipnet::IpNet;
use tombolo_mesh::plan::Plan;

use super::given::{Cluster, Family, net, peer};

fn nets(texts: &[&str]) -> BTreeSet<IpNet> {
    texts.iter().map(|text| net(text)).collect()
}

/// Whether a packet that leaves the node is masqueraded, after the table's two rules.
fn masqueraded(plan: &Plan, from: &str, to: &str) -> bool {
    let within = |nets: &BTreeSet<IpNet>, ip: &str| nets.iter().any(|n| n.contains(&net(ip)));
    let firewall = &plan.firewall;
    within(&firewall.foreign, to) || (within(&firewall.masqueraded, from) && !within(&firewall.known, to))
}

fn cluster() -> Cluster {
    Cluster::two_locations(Family::V4).peer(peer("office", &["172.20.0.0/24"])).with(|c| {
        c.node("a2").allowed_location_ips = vec![net("172.16.1.0/24")];
        c.node("b2").allowed_location_ips = vec![net("172.16.2.0/24")];
    })
}

#[test]
fn packets_are_masqueraded_where_the_way_back_is_not_known() {
    let (own_pod, office) = ("10.41.11.5/32", "172.20.0.9/32");
    for (from, to, expected) in [
        (own_pod, "203.0.113.1/32", true),
        (own_pod, "10.41.12.5/32", false),
        (own_pod, "10.41.21.5/32", false),
        (own_pod, "192.168.2.2/32", false),
        (own_pod, "10.4.0.2/32", false),
        (own_pod, office, false),
        (own_pod, "10.43.0.10/32", false),
        (own_pod, "172.16.1.9/32", true),
        (office, "203.0.113.1/32", true),
        (office, own_pod, false),
        (office, "172.16.1.9/32", true),
        ("192.168.1.2/32", "203.0.113.1/32", false),
        ("10.41.12.5/32", "203.0.113.1/32", false),
        ("10.41.21.5/32", "172.16.1.9/32", true),
    ] {
        assert_eq!(masqueraded(&cluster().plan("a1"), from, to), expected, "{from} to {to}");
    }
}

#[test]
fn pods_of_another_cni_are_that_ones_to_masquerade() {
    let plan = cluster().with(|c| c.settings.cni = false).plan("a1");
    assert_eq!(plan.firewall.masqueraded, nets(&["172.20.0.0/24"]));
    assert!(!masqueraded(&plan, "10.41.11.5/32", "203.0.113.1/32"));
}

#[test]
fn only_the_location_of_an_allowed_location_ip_masquerades_to_it() {
    for (name, foreign) in [("a1", "172.16.1.0/24"), ("a2", "172.16.1.0/24"), ("b1", "172.16.2.0/24")] {
        assert_eq!(cluster().plan(name).firewall.foreign, nets(&[foreign]), "{name}");
    }
}

#[test]
fn the_script_has_both_families_in_their_own_sets() {
    let plan = Cluster::two_locations(Family::Dual).peer(peer("office", &["172.20.0.9/24", "fd20::9/64"])).plan("a1");
    let script = plan.firewall.script();
    for line in [
        "set masqueraded4 { type ipv4_addr; flags interval; auto-merge; elements = { 10.41.11.0/24, 172.20.0.0/24 }; }",
        "set masqueraded6 { type ipv6_addr; flags interval; auto-merge; elements = { fd20::/64, fd41:11::/64 }; }",
        "set foreign4 { type ipv4_addr; flags interval; auto-merge; }",
        "udp dport 51820 fib daddr type local meta mark set 0x1170",
        "oifname \"kilo0\" tcp flags syn tcp option maxseg size set rt mtu",
    ] {
        assert!(script.contains(line), "{line}\n{script}");
    }
}

#[test]
fn nodes_that_lead_and_nodes_that_do_not_masquerade_alike() {
    let (a1, a2) = (cluster().plan("a1").firewall, cluster().plan("a2").firewall);
    assert_eq!((&a1.known, &a1.foreign, &a1.mark), (&a2.known, &a2.foreign, &a2.mark));
}
