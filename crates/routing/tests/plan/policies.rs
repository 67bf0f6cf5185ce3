//! What is taken from whom, and who is told what.

use tombolo_bgp::config::{Origin, Verdict};
use tombolo_routing::policy::MARTIANS;
use tombolo_routing::tag;

use super::given::{Cluster, judge, neighbor, net};

const ROUTER: &str = "192.0.2.1";
const NODE: &str = "192.168.0.2";

/// Whether routes are taken from a neighbour; where not, with which word in the reason.
fn check(cluster: &Cluster, from: &str, table: &[(&str, Option<&str>)]) {
    let config = cluster.config();
    for (prefix, refused) in table {
        let (taken, why) = judge(&neighbor(&config, from).import, prefix, Origin::Internal, None);
        match refused {
            None => assert!(taken, "{prefix} from {from} is refused: {why}"),
            Some(word) => assert!(!taken && why.contains(word), "{prefix} from {from}: {taken} {why:?}"),
        }
    }
}

#[test]
fn from_outside_comes_what_is_the_others() {
    let cluster = Cluster::new().families(&["v4", "v6"]);
    check(
        &cluster,
        ROUTER,
        &[
            ("10.42.1.0/24", None),
            ("1.0.0.2/32", None),
            ("172.16.0.0/12", None),
            ("2001:db8:1::/48", None),
            ("198.51.100.0/24", None),
            ("64:ff9b::/96", None),
            // Less specific than the own: it takes nothing away.
            ("10.0.0.0/8", None),
            ("192.168.0.0/24", None),
            ("0.0.0.0/0", Some("default route")),
            ("::/0", Some("default route")),
            ("10.41.1.0/24", Some("this node's own pod CIDR")),
            ("10.41.1.7/32", Some("this node's own pod CIDR")),
            ("10.41.2.0/24", Some("a pod CIDR of this cluster")),
            ("10.41.200.0/24", Some("a pod CIDR of this cluster")),
            ("fd41:3::/64", Some("a pod CIDR of this cluster")),
            ("10.96.0.1/32", Some("a service CIDR of this cluster")),
            ("10.96.0.0/12", Some("a service CIDR of this cluster")),
            ("fd96::a/128", Some("a service CIDR of this cluster")),
            ("192.168.0.2/32", Some("the address of a node")),
            ("192.168.0.1/32", Some("the address of a node")),
            ("fd00::3/128", Some("the address of a node")),
        ],
    );
}

#[test]
fn from_nodes_comes_what_is_not_this_node_s() {
    let cluster = Cluster::new().families(&["v4", "v6"]);
    check(
        &cluster,
        NODE,
        &[
            ("10.41.2.0/24", None),
            ("fd41:2::/64", None),
            ("10.96.0.1/32", None),
            ("10.42.1.0/24", None),
            ("0.0.0.0/0", Some("default route")),
            ("::/0", Some("default route")),
            ("10.41.1.0/24", Some("this node's own pod CIDR")),
            ("fd41:1::1/128", Some("this node's own pod CIDR")),
            ("192.168.0.1/32", Some("this node's own address")),
            ("127.0.0.0/8", Some("loopback")),
        ],
    );
}

#[test]
fn martians_come_from_nobody() {
    let cluster = Cluster::new();
    for (net, name) in MARTIANS {
        let inside = tombolo_bgp::config::PrefixMatch::within(net);
        let host = ipnet::IpNet::from(net.addr());
        assert!(inside.matches(host));
        for from in [ROUTER, NODE] {
            check(&cluster, from, &[(&net.to_string(), Some(name)), (&host.to_string(), Some(name))]);
        }
    }
    check(&cluster, ROUTER, &[("255.255.255.255/32", Some("broadcast")), ("::1/128", Some("loopback"))]);
}

#[test]
fn what_is_asked_for_comes_all_the_same() {
    let cluster = Cluster::new().flags(|f| {
        f.accept_default_route = true;
        f.accept_cidrs = ["240.0.0.0/8", "10.41.2.0/24", "10.96.7.0/24"].map(net).to_vec();
    });
    check(
        &cluster,
        ROUTER,
        &[
            ("0.0.0.0/0", None),
            ("::/0", None),
            ("240.1.0.0/16", None),
            ("241.0.0.0/8", Some("reserved")),
            ("10.41.2.128/25", None),
            ("10.41.3.0/24", Some("a pod CIDR")),
            ("10.96.7.7/32", None),
            ("10.96.0.0/12", Some("a service CIDR")),
        ],
    );
    // What the node itself refuses goes before.
    let refused = cluster.annotate(1, "node.bgp.customimportreject", "240.0.0.0/4,0.0.0.0/0");
    check(&refused, ROUTER, &[("240.1.0.0/16", Some("customimportreject")), ("0.0.0.0/0", Some("customimportreject"))]);
}

#[test]
fn routers_get_pods_and_services_of_this_node_and_nothing_else() {
    for advertise_pods in [true, false] {
        let config = Cluster::new().flags(|f| f.advertise_pod_cidr = advertise_pods).config();
        let export = &neighbor(&config, ROUTER).export;
        let gets = |prefix, origin, tag| judge(export, prefix, origin, tag).0;
        assert_eq!(gets("10.41.1.0/24", Origin::Local, Some(tag::POD)), advertise_pods);
        for kind in [tag::CLUSTER_IP, tag::EXTERNAL_IP, tag::LOAD_BALANCER_IP] {
            assert!(gets("10.96.0.1/32", Origin::Local, Some(kind)));
        }
        for origin in [Origin::Internal, Origin::External] {
            assert!(!gets("10.41.2.0/24", origin, None));
            assert!(!gets("10.96.0.1/32", origin, None));
        }
    }
}

#[test]
fn nodes_get_pods_always_and_services_unless_told_otherwise() {
    for services in [true, false] {
        let config = Cluster::new()
            .flags(|f| (f.advertise_services_to_nodes, f.advertise_pod_cidr) = (services, false))
            .config();
        let export = &neighbor(&config, NODE).export;
        assert!(judge(export, "10.41.1.0/24", Origin::Local, Some(tag::POD)).0);
        assert_eq!(judge(export, "10.96.0.1/32", Origin::Local, Some(tag::CLUSTER_IP)).0, services);
        assert!(!judge(export, "10.42.0.0/24", Origin::External, None).0);
        assert!(!judge(export, "10.42.0.0/24", Origin::Internal, None).0);
    }
}

#[test]
fn a_reflector_tells_its_nodes_all_and_routers_what_is_the_cluster_s() {
    let cluster = Cluster::new().annotate(1, "rr.server", "1").flags(|f| {
        f.loadbalancer_ip_range = vec![net("203.0.113.0/24")];
    });
    let config = cluster.config();
    let inside = &neighbor(&config, NODE).export;
    assert!(inside.statements.is_empty() && inside.default == Verdict::Accept);
    let outside = &neighbor(&config, ROUTER).export;
    for (prefix, told) in [
        ("10.41.2.0/24", true),
        ("10.41.2.0/25", false),
        ("10.96.0.7/32", true),
        ("10.96.0.0/24", false),
        ("203.0.113.7/32", true),
        ("10.42.1.0/24", false),
        ("0.0.0.0/0", false),
    ] {
        assert_eq!(judge(outside, prefix, Origin::Internal, None).0, told, "{prefix}");
        assert!(!judge(outside, prefix, Origin::External, None).0, "{prefix}");
    }
}

#[test]
fn every_statement_says_why_and_names_what_it_means() {
    let cluster = Cluster::new()
        .annotate(1, "rr.server", "1")
        .annotate(1, "node.bgp.customimportreject", "172.20.0.0/16")
        .flags(|f| f.accept_cidrs = vec![net("240.0.0.0/8")]);
    let config = cluster.config();
    for policy in config.neighbors.values().flat_map(|n| [&n.import, &n.export]) {
        for statement in &policy.statements {
            assert!(!statement.reason.is_empty());
            assert!(statement.prefixes.as_ref().is_none_or(|prefixes| !prefixes.is_empty()), "{statement:?}");
            assert!(statement.prefixes.is_some() || statement.tag.is_some(), "it matches all: {statement:?}");
        }
    }
}
