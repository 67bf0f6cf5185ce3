//! Which addresses of Services are announced.

use serde_json::{Value, json};
use tombolo_routing::Flags;

use super::given::{Cluster, net, routes, slice_object};

/// What is announced beside the pods.
fn announced(cluster: &Cluster) -> Vec<String> {
    let config = cluster.plan().plan.config.unwrap();
    routes(&config).into_iter().filter(|route| !route.starts_with("10.41.1.0/24")).collect()
}

fn all(flags: &mut Flags) {
    (flags.advertise_cluster_ip, flags.advertise_external_ip, flags.advertise_loadbalancer_ip) = (true, true, true);
}

/// A Service of all kinds, but for what is given otherwise.
fn spec(change: &[(&str, Value)]) -> Value {
    let mut spec = json!({
        "type": "LoadBalancer",
        "clusterIP": "10.96.0.7",
        "clusterIPs": ["10.96.0.7"],
        "externalIPs": ["198.51.100.7"],
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}},
    });
    for (name, value) in change {
        spec[name] = value.clone();
    }
    spec
}

const CLUSTER_IP: &str = "10.96.0.7/32 2 via 192.168.0.1";
const EXTERNAL_IP: &str = "198.51.100.7/32 3 via 192.168.0.1";
const LOAD_BALANCER_IP: &str = "203.0.113.7/32 4 via 192.168.0.1";
const ALL: [&str; 3] = [CLUSTER_IP, EXTERNAL_IP, LOAD_BALANCER_IP];

#[test]
fn each_kind_has_its_flag() {
    for (change, expected) in [
        ((|_| {}) as fn(&mut Flags), &[][..]),
        (|f| f.advertise_cluster_ip = true, &[CLUSTER_IP]),
        (|f| f.advertise_external_ip = true, &[EXTERNAL_IP]),
        (|f| f.advertise_loadbalancer_ip = true, &[LOAD_BALANCER_IP]),
        (all, &ALL),
    ] {
        let cluster = Cluster::new().flags(change).service(spec(&[]), json!({}), &["n2"]);
        assert_eq!(announced(&cluster), expected);
    }
}

#[test]
fn a_service_s_annotations_go_before_the_flags() {
    let annotation = |kind: &str, value: &str| json!({format!("kube-router.io/service.advertise.{kind}"): value});
    for (kind, route) in [("clusterip", CLUSTER_IP), ("externalip", EXTERNAL_IP), ("loadbalancerip", LOAD_BALANCER_IP)]
    {
        for value in ["true", "T", "1", "True"] {
            let cluster = Cluster::new().service(spec(&[]), annotation(kind, value), &["n2"]);
            assert_eq!(announced(&cluster), [route], "{kind} {value}");
        }
        let others: Vec<&str> = ALL.into_iter().filter(|other| *other != route).collect();
        for value in ["false", "0"] {
            let cluster = Cluster::new().flags(all).service(spec(&[]), annotation(kind, value), &["n2"]);
            assert_eq!(announced(&cluster), others, "{kind} {value}");
        }
        // What is neither is said, and not announced.
        let cluster = Cluster::new().flags(all).service(spec(&[]), annotation(kind, "yes"), &["n2"]);
        cluster.plan().refuses(&["Service/default/web", kind, "\"yes\"", "true nor false"]);
        assert_eq!(announced(&cluster), others, "{kind}");
    }
}

#[test]
fn skiplbips_keeps_load_balancer_ips_back() {
    let annotations = json!({
        "kube-router.io/service.skiplbips": "",
        "kube-router.io/service.advertise.loadbalancerip": "true",
    });
    let cluster = Cluster::new().flags(all).service(spec(&[]), annotations, &["n2"]);
    assert_eq!(announced(&cluster), [CLUSTER_IP, EXTERNAL_IP]);
}

#[test]
fn without_a_ready_endpoint_nothing_is_announced() {
    let empty = || Cluster::new().flags(all).service(spec(&[]), json!({}), &[]);
    assert_eq!(announced(&empty()), Vec::<String>::new());
    for (conditions, expected) in [
        (json!({"ready": true}), &ALL[..]),
        (json!({}), &ALL),
        (json!({"ready": false}), &[]),
        (json!({"ready": false, "serving": true, "terminating": true}), &[]),
    ] {
        let mut cluster = empty();
        let endpoint = json!([{"addresses": ["10.41.1.5"], "nodeName": "n1", "conditions": conditions}]);
        cluster.slices.push(slice_object("web", "web-2", endpoint));
        assert_eq!(announced(&cluster), expected, "{conditions}");
    }
    let mut gone = empty();
    gone.slices.clear();
    assert_eq!(announced(&gone), Vec::<String>::new());
    let mut of_another = empty();
    of_another.slices.push(slice_object("other", "other-1", json!([{"addresses": ["10.41.1.5"]}])));
    assert_eq!(announced(&of_another), Vec::<String>::new());
}

#[test]
fn local_policies_want_an_endpoint_on_this_node() {
    let internal = [("internalTrafficPolicy", json!("Local"))];
    let external = [("externalTrafficPolicy", json!("Local"))];
    let deprecated = json!({"kube-router.io/service.local": "true"});
    for (change, annotations, elsewhere) in [
        (&internal[..], json!({}), &[EXTERNAL_IP, LOAD_BALANCER_IP][..]),
        (&external, json!({}), &[CLUSTER_IP]),
        (&[], deprecated, &[CLUSTER_IP]),
        (&[], json!({"kube-router.io/service.local": "1"}), &ALL),
        (&[("externalTrafficPolicy", json!("Cluster"))], json!({}), &ALL),
    ] {
        let cluster = |on: &[&str]| Cluster::new().flags(all).service(spec(change), annotations.clone(), on);
        assert_eq!(announced(&cluster(&["n2", "n3"])), elsewhere, "{change:?}");
        assert_eq!(announced(&cluster(&["n2", "n1"])), ALL, "{change:?}");
    }
}

#[test]
fn an_endpoint_without_a_node_is_where_its_address_is() {
    let cluster = |address: &str| {
        let spec = spec(&[("externalTrafficPolicy", json!("Local"))]);
        let mut cluster = Cluster::new().flags(all).service(spec, json!({}), &[]);
        cluster.slices.push(slice_object("web", "web-2", json!([{"addresses": [address]}])));
        announced(&cluster)
    };
    assert_eq!(cluster("192.168.0.1"), ALL);
    assert_eq!(cluster("192.168.0.2"), [CLUSTER_IP]);
}

#[test]
fn what_has_no_address_of_its_own_is_left_alone() {
    for spec in [
        json!({"clusterIP": "None", "clusterIPs": ["None"], "externalIPs": ["198.51.100.7"]}),
        json!({"type": "ExternalName", "externalName": "a.example", "externalIPs": ["198.51.100.7"]}),
        json!({"externalIPs": ["198.51.100.7"]}),
        json!({"clusterIP": "", "clusterIPs": []}),
    ] {
        let cluster = Cluster::new().flags(all).service(spec.clone(), json!({}), &["n1"]);
        assert_eq!(announced(&cluster), Vec::<String>::new(), "{spec}");
        assert_eq!(cluster.plan().refused, Vec::<String>::new());
    }
}

#[test]
fn load_balancer_ips_are_those_that_packets_come_to_as_they_are() {
    let ingress = json!({"loadBalancer": {"ingress": [
        {"ip": "203.0.113.7"}, {"ip": "203.0.113.8", "ipMode": "Proxy"}, {"ip": "203.0.113.9", "ipMode": "VIP"},
        {"hostname": "lb.example"},
    ]}});
    let of = |change: &[(&str, Value)]| {
        let cluster = Cluster::new().flags(|f| f.advertise_loadbalancer_ip = true);
        announced(&cluster.service(spec(change), json!({}), &["n2"]))
    };
    let expected = [LOAD_BALANCER_IP, "203.0.113.9/32 4 via 192.168.0.1"];
    assert_eq!(of(&[("status", ingress.clone())]), expected);
    assert_eq!(of(&[("status", ingress.clone()), ("loadBalancerClass", json!("example.com/other"))]), expected);
    assert_eq!(of(&[("status", ingress), ("type", json!("NodePort"))]), Vec::<String>::new());
}

#[test]
fn both_families_are_announced_as_hosts() {
    let dual = spec(&[("clusterIPs", json!(["10.96.0.7", "fd96::7"]))]);
    let cluster = || Cluster::new().flags(|f| f.advertise_cluster_ip = true).service(dual.clone(), json!({}), &["n2"]);
    assert_eq!(announced(&cluster()), [CLUSTER_IP]);
    let routes = announced(&cluster().families(&["v4", "v6"]));
    assert_eq!(routes, [CLUSTER_IP, "fd41:1::/64 1 via fd00::1", "fd96::7/128 2 via fd00::1"]);
}

#[test]
fn an_address_of_two_services_is_announced_while_one_of_them_is_ready() {
    let one = spec(&[]);
    let other = spec(&[("clusterIP", json!("10.96.0.8")), ("clusterIPs", json!(["10.96.0.8"]))]);
    let cluster = Cluster::new().flags(|f| f.advertise_external_ip = true);
    let cluster = cluster.named("a", one, json!({}), &[]).named("b", other, json!({}), &["n3"]);
    assert_eq!(announced(&cluster), [EXTERNAL_IP]);
}

#[test]
fn an_address_of_two_kinds_counts_as_the_first() {
    let both = spec(&[("externalIPs", json!(["203.0.113.7"]))]);
    let cluster = Cluster::new().flags(all).service(both, json!({}), &["n2"]);
    assert_eq!(announced(&cluster), [CLUSTER_IP, "203.0.113.7/32 3 via 192.168.0.1"]);
}

#[test]
fn addresses_that_are_others_are_refused_for_themselves() {
    for (address, words) in [
        ("192.168.0.2", ["spec.externalIPs \"192.168.0.2\"", "node n2's own address"]),
        ("192.168.0.1", ["spec.externalIPs \"192.168.0.1\"", "node n1's own address"]),
        ("10.41.2.9", ["spec.externalIPs \"10.41.2.9\"", "a pod CIDR of this cluster"]),
        ("10.41.77.9", ["spec.externalIPs \"10.41.77.9\"", "a pod CIDR of this cluster"]),
        ("10.96.1.1", ["spec.externalIPs \"10.96.1.1\"", "a service CIDR of this cluster"]),
        ("127.0.0.1", ["spec.externalIPs \"127.0.0.1\"", "routable"]),
        ("nonsense", ["spec.externalIPs \"nonsense\"", "no IP address"]),
    ] {
        let service = spec(&[("externalIPs", json!([address, "198.51.100.7"]))]);
        let cluster = Cluster::new().flags(all).service(service, json!({}), &["n2"]);
        cluster.plan().refuses(&words);
        assert_eq!(announced(&cluster), ALL, "{address}");
    }
    // What is not announced is nobody's concern.
    let service = spec(&[("externalIPs", json!(["192.168.0.2"]))]);
    assert_eq!(Cluster::new().service(service, json!({}), &["n2"]).plan().refused, Vec::<String>::new());
}

#[test]
fn ranges_bound_what_is_announced() {
    let of = |change: fn(&mut Flags)| {
        let cluster = Cluster::new().flags(all).flags(change).service(spec(&[]), json!({}), &["n2"]);
        (announced(&cluster), cluster.plan().refused.len())
    };
    let lines = |routes: &[&str]| routes.iter().map(|route| (*route).to_owned()).collect::<Vec<_>>();
    assert_eq!(of(|f| f.service_external_ip_range = vec![net("198.51.100.0/24")]), (lines(&ALL), 0));
    assert_eq!(
        of(|f| f.service_external_ip_range = vec![net("198.51.0.0/24")]),
        (lines(&[CLUSTER_IP, LOAD_BALANCER_IP]), 1)
    );
    assert_eq!(of(|f| f.loadbalancer_ip_range = vec![net("10.0.0.0/8")]), (lines(&[CLUSTER_IP, EXTERNAL_IP]), 1));
    assert_eq!(of(|f| f.strict_external_ip_validation = Some(true)), (lines(&[CLUSTER_IP]), 2));
    let lax = |f: &mut Flags| {
        (f.strict_external_ip_validation, f.loadbalancer_ip_range) = (Some(false), vec![net("10.0.0.0/8")]);
    };
    assert_eq!(of(lax), (lines(&ALL), 0));
}
