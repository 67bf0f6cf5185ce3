//! Whether BGP is spoken, and how the nodes of a cluster peer.

use serde_json::json;
use tombolo_bgp::Family;
use tombolo_bgp::config::Origin;
use tombolo_routing::Enable;

use super::given::{Cluster, ip, judge, neighbor, neighbors, node_object};

#[test]
fn nothing_is_spoken_until_something_asks_for_it() {
    assert_eq!(Cluster::quiet().plan().plan.config, None);
    assert!(Cluster::new().plan().plan.config.is_some());
    for name in
        ["peers", "peer.ips", "peer.asns", "peer.ports", "peer.passwords", "peer.localips", "rr.server", "rr.client"]
    {
        // On any node, right or wrong: all come to the same answer.
        let cluster = Cluster::quiet().annotate(2, name, "?");
        for node in ["n1", "n2", "n3"] {
            assert!(cluster.plan_of(node).plan.config.is_some(), "{name} {node}");
        }
        assert_eq!(Cluster::quiet().annotate(2, name, " ").plan().plan.config, None, "{name}");
    }
    let others = Cluster::quiet().annotate(1, "node.asn", "65000").annotate(1, "node.bgp.communities", "1:1");
    assert_eq!(others.plan().plan.config, None);
}

#[test]
fn on_and_off_are_the_last_word() {
    let on = Cluster::quiet().flags(|flags| flags.enable = Enable::On).config();
    assert_eq!(neighbors(&on), ["192.168.0.2 AS64512", "192.168.0.3 AS64512"]);
    let off = Cluster::new().annotate(1, "rr.server", "1").flags(|flags| flags.enable = Enable::Off);
    assert_eq!(off.plan().plan.config, None);
}

#[test]
fn a_node_that_is_not_known_yet_has_no_plan() {
    let outcome = Cluster::new().plan_of("n9");
    assert_eq!((outcome.plan.config, outcome.refused), (None, vec![]));
}

#[test]
fn nodes_peer_by_their_first_addresses() {
    let config = Cluster::new().config();
    let node = neighbor(&config, "192.168.0.2");
    assert_eq!(node.description, "node n2");
    assert_eq!(node.local_address, Some(ip("192.168.0.1")));
    assert_eq!(node.families, [Family::Ipv4]);
    assert_eq!(neighbor(&config, "192.0.2.1").description, "peer router 192.0.2.1");
}

#[test]
fn one_session_serves_both_families() {
    for (families, first) in [(["v4", "v6"], "192.168.0.2"), (["v6", "v4"], "fd00::2")] {
        let cluster = Cluster::new().families(&families);
        let config = cluster.config();
        assert_eq!(config.neighbors.len(), 3);
        assert_eq!(neighbor(&config, first).families, [Family::Ipv4, Family::Ipv6]);
        assert_eq!(neighbor(&config, "192.0.2.1").families, [Family::Ipv4, Family::Ipv6]);
        assert_eq!(config.addresses, [ip("192.168.0.1"), ip("fd00::1")]);
    }
}

#[test]
fn nodes_of_different_families_peer_where_they_can() {
    let mut cluster = Cluster::quiet().flags(|flags| flags.enable = Enable::On);
    cluster.nodes = vec![node_object(1, &["v4", "v6"]), node_object(2, &["v6", "v4"]), node_object(3, &["v6"])];
    let config = cluster.config();
    assert_eq!(neighbors(&config), ["192.168.0.2 AS64512", "fd00::3 AS64512"]);
    assert_eq!(neighbor(&config, "fd00::3").local_address, Some(ip("fd00::1")));
    assert_eq!(neighbor(&config, "fd00::3").families, [Family::Ipv6]);
    assert_eq!(neighbors(cluster.plan_of("n2").config()), ["192.168.0.1 AS64512", "fd00::3 AS64512"]);
    cluster.nodes = vec![node_object(1, &["v4"]), node_object(3, &["v6"])];
    assert!(cluster.config().neighbors.is_empty());
}

#[test]
fn an_ipv6_node_speaks_by_itself() {
    let mut cluster = Cluster::quiet().families(&["v6"]).flags(|flags| flags.enable = Enable::On);
    let config = cluster.config();
    assert_eq!(neighbors(&config), ["fd00::2 AS64512", "fd00::3 AS64512"]);
    assert!(!config.router_id.is_unspecified());
    cluster.nodes[0]["spec"]["podCIDRs"] = json!(["10.41.1.0/24", "fd41:1::/64"]);
    let outcome = cluster.plan();
    outcome.refuses(&["spec.podCIDRs \"10.41.1.0/24\"", "no IPv4 address"]);
    assert_eq!(outcome.config().routes.len(), 1);
}

#[test]
fn an_object_left_behind_with_this_node_s_address_is_no_neighbour() {
    let mut cluster = Cluster::new();
    let mut old = node_object(1, &["v4"]);
    old["metadata"]["name"] = json!("n0");
    cluster.nodes.push(old);
    assert_eq!(neighbors(&cluster.config()), neighbors(&Cluster::new().config()));
}

#[test]
fn internal_addresses_go_before_external_ones() {
    let mut cluster = Cluster::new();
    cluster.nodes[1]["status"]["addresses"] = json!([
        {"type": "Hostname", "address": "n2"},
        {"type": "ExternalIP", "address": "198.51.100.2"},
        {"type": "InternalIP", "address": "192.168.0.2"},
    ]);
    assert!(cluster.config().neighbors.contains_key(&ip("192.168.0.2")));
    cluster.nodes[1]["status"]["addresses"][2]["address"] = json!("nonsense");
    let outcome = cluster.plan();
    assert!(outcome.refuses(&["status.addresses \"nonsense\""]).config().neighbors.contains_key(&ip("198.51.100.2")));
}

/// The pods of nodes that no session in the cluster reaches come from outside; all else of the cluster does not.
#[test]
fn pods_of_the_cluster_come_from_outside_only_where_nothing_else_leads_to_them() {
    let takes = |cluster: &Cluster, prefix: &str| {
        let config = cluster.config();
        judge(&neighbor(&config, "192.0.2.1").import, prefix, Origin::Internal, None).0
    };
    let meshed = Cluster::new();
    assert!(!takes(&meshed, "10.41.2.0/24"));
    let apart = Cluster::new().flags(|flags| flags.enable_ibgp = false);
    assert!(takes(&apart, "10.41.2.0/24"));
    assert!(!takes(&apart, "10.41.2.128/25"));
    assert!(!takes(&apart, "10.41.1.0/24"));
    let racks = Cluster::new().flags(|flags| flags.nodes_full_mesh = false);
    let racks =
        racks.annotate(1, "node.asn", "65001").annotate(2, "node.asn", "65001").annotate(3, "node.asn", "65003");
    assert!(!takes(&racks, "10.41.2.0/24"));
    assert!(takes(&racks, "10.41.3.0/24"));
    // A client's reflector brings the other client's pods.
    let reflected =
        Cluster::new().annotate(1, "rr.client", "1").annotate(2, "rr.client", "1").annotate(3, "rr.server", "1");
    assert!(!takes(&reflected, "10.41.2.0/24"));
    // Through two reflectors, too.
    let mut far = reflected.annotate(2, "rr.client", "2");
    far.nodes.push(node_object(4, &["v4"]));
    let far = far.annotate(4, "rr.server", "2");
    assert!(!takes(&far, "10.41.2.0/24"));
}
