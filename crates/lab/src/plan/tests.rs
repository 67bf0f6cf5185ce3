#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

pub(crate) fn plan(underlay: Underlay, family: Family) -> Plan {
    Plan {
        name: "lab".into(),
        clusters: 2,
        nodes: 2,
        locations: 1,
        underlay,
        family,
        interconnect: Interconnect::Wireguard,
        mesh_granularity: "location".into(),
        agent_args: Vec::new(),
        dns: true,
        services: true,
        clusterset_cidr: false,
    }
}

#[test]
fn addresses_read_the_same_in_both_families() {
    let plan = plan(Underlay::Routed, Family::Dual);
    let node = plan.cluster(2).node(1);
    let text = |nets: Vec<IpNet>| nets.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(node.name(), "c2-n1");
    assert_eq!(node.namespace(), "tl-lab-c2-n1");
    assert_eq!(text(node.addresses()), ["172.18.2.11/24", "fd12:2::11/64"]);
    assert_eq!(text(node.pod_cidrs()), ["10.42.1.0/24", "fd40:2:0:1::/64"]);
    assert_eq!(text(node.cluster.api_servers()), ["172.18.2.2/24", "fd12:2::2/64"]);
    assert_eq!(text(node.cluster.service_cidrs()), ["10.102.0.0/16", "fd64:2::/112"]);
    assert_eq!(node.cluster.dns_addresses(), ["10.102.0.10", "fd64:2::a"].map(|a| a.parse::<IpAddr>().unwrap()));
}

#[test]
fn nodes_are_spread_over_the_locations() {
    let mut plan = plan(Underlay::Routed, Family::Ipv4);
    assert_eq!(plan.cluster(1).node(2).location(), "cluster1");
    plan.locations = 2;
    let places: Vec<_> = (1..=3).map(|n| plan.cluster(1).node(n).location()).collect();
    assert_eq!(places, ["cluster1-1", "cluster1-2", "cluster1-1"]);
}

#[test]
fn a_name_that_could_be_taken_for_another_labs_is_refused() {
    for name in ["", "a-c1", "Lab", "a/b", "abcdefghijklmnopq"] {
        assert!(validate_name(name).is_err(), "{name}");
    }
    assert!(validate_name("lab2").is_ok());
}

#[test]
fn bgp_takes_one_network() {
    let bgp = Interconnect::Bgp(Reflector::Bird);
    let plan = |underlay| Plan { interconnect: bgp, ..plan(underlay, Family::Dual) };
    assert_eq!(plan(Underlay::Flat).validate(), Ok(()));
    for underlay in [Underlay::Routed, Underlay::Nat] {
        assert_eq!(plan(underlay).validate(), Err(PlanError::Bgp));
    }
}

#[test]
fn the_reflectors_addresses_are_nobody_elses() {
    let plan = plan(Underlay::Flat, Family::Dual);
    let own: Vec<IpAddr> = plan.reflector_addresses().iter().map(|net| net.addr()).collect();
    let mut others = plan.cluster(1).gateways();
    others.extend(plan.all_clusters().flat_map(|c| [c.api_servers(), c.node(1).addresses()].concat()));
    assert!(others.iter().all(|net| !own.contains(&net.addr())));
    assert!(others.iter().all(|net| own.iter().any(|ip| net.contains(ip))), "one network");
}

proptest! {
    #[test]
    fn nothing_of_two_clusters_overlaps(a in 1..=MAX_CLUSTERS, b in 1..=MAX_CLUSTERS, underlay in 0..3) {
        prop_assume!(a != b);
        let underlay = [Underlay::Routed, Underlay::Flat, Underlay::Nat][underlay as usize];
        let plan = plan(underlay, Family::Dual);
        let all = |k| {
            let cluster = plan.cluster(k);
            let mut nets = [cluster.pod_cidrs(), cluster.service_cidrs(), cluster.wireguard_cidrs()].concat();
            let hosts = [cluster.api_servers(), cluster.node(MAX_NODES).addresses()].concat();
            nets.extend(hosts.iter().map(|net| IpNet::from(net.addr())));
            nets
        };
        for x in all(a) {
            for y in all(b) {
                prop_assert!(!x.contains(&y) && !y.contains(&x), "{x} and {y}");
            }
        }
    }

    #[test]
    fn a_nodes_pods_are_within_the_clusters(k in 1..=MAX_CLUSTERS, i in 1..=MAX_NODES) {
        let plan = plan(Underlay::Routed, Family::Dual);
        let cluster = plan.cluster(k);
        for (whole, part) in cluster.pod_cidrs().iter().zip(cluster.node(i).pod_cidrs()) {
            prop_assert!(whole.contains(&part), "{part} in {whole}");
        }
    }
}
