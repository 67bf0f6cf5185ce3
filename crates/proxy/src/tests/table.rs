//! One world, one table.

use super::*;
use crate::{Command, TrafficPolicy};

fn none() -> Vec<String> {
    vec![]
}

#[test]
fn endpoints_that_are_ready_are_chosen_and_others_only_for_want_of_them() {
    let cases = [
        (vec![("10.1.0.2", "rs")], vec!["10.1.0.2"]),
        (vec![("10.1.0.2", "rs"), ("10.1.0.3", "rs"), ("10.1.0.4", "")], vec!["10.1.0.2", "10.1.0.3"]),
        (vec![("10.1.0.2", "rs"), ("10.1.0.3", "st")], vec!["10.1.0.2"]),
        (vec![("10.1.0.2", "t"), ("10.1.0.3", "st")], vec!["10.1.0.3"]),
        // The same endpoint in two slices.
        (vec![("10.1.0.2", "rs"), ("10.1.0.2", "rs")], vec!["10.1.0.2"]),
        // A ClusterIP of another cluster.
        (vec![("10.196.0.7", "rs")], vec!["10.196.0.7"]),
    ];
    for (endpoints, chosen) in cases {
        let endpoints = endpoints.into_iter().map(|(a, c)| endpoint(a, c, None)).collect();
        let compiler = compile(service(), endpoints);
        let chooser = format!("pick4/{}", chosen.len());
        assert_eq!(elements(&compiler, "service-ips4"), [format!("tcp . 10.96.0.1 . 80 : goto {chooser}")]);
        let numbered = chosen.iter().enumerate().map(|(i, ip)| format!("tcp . 10.96.0.1 . 80 . {i} : {ip} . 8080"));
        assert_eq!(elements(&compiler, "endpoints4"), numbered.collect::<Vec<_>>());
        assert_eq!(elements(&compiler, "pings4"), [format!("10.96.0.1 : {}", chosen[0])]);
        assert_eq!(elements(&compiler, "refused-ips4"), none());
        assert!(compiler.tables().chains.contains_key(&chooser));
    }
}

#[test]
fn without_an_endpoint_the_port_is_refused_and_under_policy_local_dropped() {
    let local = Service { internal_traffic_policy: TrafficPolicy::Local, ..service() };
    let cases = [
        (service(), vec![], "goto refuse"),
        (service(), vec![endpoint("10.1.0.2", "", None)], "goto refuse"),
        (service(), vec![endpoint("10.1.0.2", "t", None)], "goto refuse"),
        // The wrong family.
        (service(), vec![endpoint("fd00:1::2", "rs", None)], "goto refuse"),
        (local.clone(), vec![], "goto refuse"),
        (local, vec![endpoint("10.2.0.2", "rs", Some("n2"))], "drop"),
    ];
    for (service, endpoints, verdict) in cases {
        let compiler = compile(service, endpoints);
        for set in ["service-ips4", "endpoints4", "pings4"] {
            assert_eq!(elements(&compiler, set), none());
        }
        assert_eq!(elements(&compiler, "refused-ips4"), [format!("tcp . 10.96.0.1 . 80 : {verdict}")]);
        assert_eq!(elements(&compiler, "cluster-ips4"), ["10.96.0.1"]);
    }
}

#[test]
fn policy_local_of_external_traffic_keeps_it_here_and_lets_the_inside_go_anywhere() {
    let service = Service {
        external_ips: vec!["198.51.100.7".parse().unwrap()],
        ports: vec![ServicePort { port: 80, node_port: Some(30080), ..ServicePort::default() }],
        external_traffic_policy: TrafficPolicy::Local,
        ..service()
    };
    let endpoints = [("10.1.0.2", "n1"), ("10.2.0.2", "n2")].map(|(ip, node)| endpoint(ip, "rs", Some(node)));
    let compiler = compile(service.clone(), endpoints.clone().into());
    assert_eq!(
        elements(&compiler, "service-ips4"),
        ["tcp . 10.96.0.1 . 80 : goto pick4/2", "tcp . 198.51.100.7 . 80 : goto local4/2/1"]
    );
    assert_eq!(elements(&compiler, "node-ports4"), ["tcp . 30080 : goto local4/2/1"]);
    assert_eq!(
        elements(&compiler, "node-port-endpoints4"),
        [
            "tcp . 30080 . 0 : 10.1.0.2 . 8080",
            "tcp . 30080 . 1 : 10.2.0.2 . 8080",
            "tcp . 30080 . 65536 : 10.1.0.2 . 8080",
        ]
    );
    let chain = &compiler.tables().chains["local4/2/1"].rules;
    assert_eq!(*chain, ["ip saddr @pod-cidrs4 goto pick4/2", "fib saddr type local goto pick4/2", "goto here4/1"]);
    assert!(compiler.tables().chains["here4/1"].rules[0].ends_with("mod 1 offset 65536 map @endpoints4"));

    let compiler = compile(service, endpoints[1..].to_vec());
    assert_eq!(elements(&compiler, "node-ports4"), ["tcp . 30080 : goto local4/1/0"]);
    assert_eq!(elements(&compiler, "refused-node-ports4"), ["tcp . 30080 : drop"]);
    assert_eq!(compiler.tables().chains["local4/1/0"].rules.len(), 2);
}

#[test]
fn an_endpoint_is_here_by_its_node_or_else_by_its_address() {
    let cases = [
        ("10.1.0.2", None, None, true),
        ("10.2.0.2", None, None, false),
        ("192.0.2.1", Some("n1"), None, true),
        ("10.1.0.2", Some("n2"), None, false),
        // A node of another cluster with this one's name.
        ("10.9.0.2", Some("n1"), Some("west"), false),
        ("10.1.0.2", Some("n1"), Some("east"), true),
    ];
    for (address, node, cluster, is_here) in cases {
        let endpoint = Endpoint { cluster: cluster.map(Into::into), ..endpoint(address, "rs", node) };
        let compiler = compile(service(), vec![endpoint]);
        let expected: &[&str] = if is_here { &[address] } else { &[] };
        assert_eq!(elements(&compiler, "local-endpoints4"), expected, "{address} {node:?} {cluster:?}");
    }
}

#[test]
fn hints_are_followed_when_all_ready_endpoints_have_them_and_one_is_for_here() {
    let hinted = |ip, zones: &[&str], nodes: &[&str]| Endpoint {
        for_zones: zones.iter().map(ToString::to_string).collect(),
        for_nodes: nodes.iter().map(ToString::to_string).collect(),
        ..endpoint(ip, "rs", Some("n2"))
    };
    let terminating = endpoint("10.1.0.9", "st", None);
    let (a, b) = ("10.1.0.2", "10.1.0.3");
    let cases = [
        (vec![hinted(a, &["z1"], &[]), hinted(b, &["z2"], &[])], vec![a]),
        (vec![hinted(a, &["z2"], &[]), hinted(b, &["z2", "z1"], &[])], vec![b]),
        // Not for this zone, or not everywhere: all.
        (vec![hinted(a, &["z2"], &[]), hinted(b, &["z3"], &[])], vec![a, b]),
        (vec![hinted(a, &["z1"], &[]), hinted(b, &[], &[])], vec![a, b]),
        // What is not ready needs no hint.
        (vec![hinted(a, &["z1"], &[]), hinted(b, &["z2"], &[]), terminating], vec![a]),
        // The node comes before the zone.
        (vec![hinted(a, &["z1"], &["n2"]), hinted(b, &["z1"], &["n1"])], vec![b]),
        (vec![hinted(a, &["z1"], &["n2"]), hinted(b, &["z2"], &["n3"])], vec![a]),
    ];
    for (endpoints, chosen) in cases {
        let compiler = compile(service(), endpoints.clone());
        let numbered = chosen.iter().enumerate().map(|(i, ip)| format!("tcp . 10.96.0.1 . 80 . {i} : {ip} . 8080"));
        assert_eq!(elements(&compiler, "endpoints4"), numbered.collect::<Vec<_>>(), "{endpoints:?}");
    }
}

#[test]
fn a_node_without_a_zone_follows_no_zone() {
    let mut compiler = Compiler::new(Node { zone: None, ..node() });
    compiler.set_service(&web(), Some(service()));
    let hinted = |ip, zone: &str| Endpoint { for_zones: vec![zone.into()], ..endpoint(ip, "rs", None) };
    let endpoints = vec![hinted("10.1.0.2", "z1"), hinted("10.1.0.3", "z2")];
    compiler.set_slice("default/web-1", slice(Owner::Service(web()), endpoints));
    compiler.flush();
    assert_eq!(elements(&compiler, "endpoints4").len(), 2);
    // It gets one: what was chosen is chosen anew.
    compiler.set_node(node());
    compiler.flush();
    assert_eq!(elements(&compiler, "endpoints4"), ["tcp . 10.96.0.1 . 80 . 0 : 10.1.0.2 . 8080"]);
}

#[test]
fn source_ranges_stand_before_load_balancer_ips_only() {
    let of = |ranges: Option<&[&str]>| {
        let compiler = compile(
            Service {
                load_balancer_ips: vec!["203.0.113.1".parse().unwrap(), "2001:db8::7".parse().unwrap()],
                external_ips: vec!["203.0.113.1".parse().unwrap(), "203.0.113.2".parse().unwrap()],
                source_ranges: ranges.map(|ranges| ranges.iter().map(|range| range.parse().unwrap()).collect()),
                ..service()
            },
            vec![endpoint("10.1.0.2", "rs", None), endpoint("fd00:1::2", "rs", None)],
        );
        let both = [elements(&compiler, "firewall4"), elements(&compiler, "firewall6")].concat();
        let rules =
            |name: &str| compiler.tables().chains.get(name).map(|chain| chain.rules.clone()).unwrap_or_default();
        (both, [rules("fw4/default/web"), rules("fw6/default/web")].concat())
    };
    let (v4, v6) = ("tcp . 203.0.113.1 . 80 : goto fw4/default/web", "tcp . 2001:db8::7 . 80 : goto fw6/default/web");
    assert_eq!(of(None), (none(), none()));
    assert_eq!(
        of(Some(&["10.0.0.0/9", "10.128.0.0/9"])),
        (vec![v4.into()], vec!["ip saddr { 10.0.0.0/8 } return".into(), "drop".into()])
    );
    // All of them could not be read: nobody passes.
    assert_eq!(of(Some(&[])), (vec![v4.into(), v6.into()], vec!["drop".into(), "drop".into()]));
}

#[test]
fn load_balancers_are_told_of_ready_endpoints_on_this_node() {
    let asked = |number| Service { health_check_node_port: number, ..service() };
    let endpoints = vec![
        endpoint("10.1.0.2", "rs", Some("n1")),
        Endpoint { port_name: "other".into(), ..endpoint("10.1.0.2", "rs", Some("n1")) },
        endpoint("10.1.0.3", "st", Some("n1")),
        endpoint("10.2.0.2", "rs", Some("n2")),
    ];
    let compiler = compile(asked(Some(32_000)), endpoints.clone());
    let check = compiler.health_checks()[&web()];
    assert_eq!((check.port, check.local_endpoints), (32_000, 1));
    assert!(compile(asked(None), endpoints).health_checks().is_empty());
}

#[test]
fn a_service_with_very_many_endpoints_has_a_chain_of_its_own() {
    let many =
        |count: u8| compile(service(), (1..=count).map(|i| endpoint(&format!("10.1.0.{i}"), "rs", None)).collect());
    assert_eq!(elements(&many(32), "service-ips4"), ["tcp . 10.96.0.1 . 80 : goto pick4/32"]);
    let compiler = many(33);
    assert_eq!(elements(&compiler, "service-ips4"), ["tcp . 10.96.0.1 . 80 : goto svc4/default/web/tcp/80"]);
    assert_eq!(elements(&compiler, "endpoints4"), none());
    let rule = &compiler.tables().chains["svc4/default/web/tcp/80"].rules[0];
    assert!(rule.contains("numgen random mod 33 map { 0 : 10.1.0.1 . 8080, 1 : 10.1.0.2 . 8080,"), "{rule}");
}

#[test]
fn prefixes_that_overlap_are_joined() {
    let compiler = compile(service(), vec![]);
    assert_eq!(elements(&compiler, "pod-cidrs4"), ["10.0.0.0/14"]);
    assert_eq!(elements(&compiler, "pod-cidrs6"), ["fd00:1::/64"]);
}

#[test]
fn of_two_services_at_one_address_the_first_has_it_until_it_goes() {
    let mut compiler = Compiler::new(node());
    let keys = ["two", "one"].map(|name| ServiceKey::new("a", name));
    for (i, key) in keys.iter().enumerate() {
        compiler.set_service(key, Some(service()));
        let owner = Owner::Service(key.clone());
        compiler.set_slice(&key.to_string(), slice(owner, vec![endpoint(&format!("10.1.0.{i}"), "rs", None)]));
        compiler.flush();
    }
    assert_eq!(elements(&compiler, "endpoints4"), ["tcp . 10.96.0.1 . 80 . 0 : 10.1.0.1 . 8080"]);
    let words = "Service a/two: spec.clusterIPs: tcp . 10.96.0.1 . 80 is already served for Service a/one";
    assert_eq!(refused(&compiler), [words]);
    compiler.set_service(&keys[1], None);
    compiler.flush();
    assert_eq!(elements(&compiler, "endpoints4"), ["tcp . 10.96.0.1 . 80 . 0 : 10.1.0.0 . 8080"]);
    assert_eq!(refused(&compiler), none());
}

#[test]
fn a_name_that_could_say_something_to_nft_is_refused() {
    for name in ["", "a b", "a;flush ruleset", "a}", "a\nb", "A", "ä", "a\"b"] {
        let key = ServiceKey::new("default", name);
        let mut compiler = Compiler::new(node());
        compiler.set_service(&key, Some(service()));
        compiler.flush();
        assert_eq!(compiler.refused().len(), 1, "{name:?}");
        let mut empty = Compiler::new(node());
        empty.flush();
        assert_eq!(compiler.tables(), empty.tables());
    }
}

#[test]
fn one_changed_endpoint_replaces_one_element_and_nothing_else() {
    let mut compiler = Compiler::new(node());
    let change = |compiler: &mut Compiler, i: u32, last: &str| {
        let key = ServiceKey::new("default", format!("web{i}"));
        let endpoints = vec![endpoint("10.2.0.2", "rs", None), endpoint(last, "rs", None)];
        compiler.set_slice(&format!("{key}-1"), slice(Owner::Service(key), endpoints));
    };
    for i in 0..200 {
        let cluster_ips = vec![format!("10.96.1.{i}").parse().unwrap()];
        let key = ServiceKey::new("default", format!("web{i}"));
        compiler.set_service(&key, Some(Service { cluster_ips, ..service() }));
        change(&mut compiler, i, "10.2.0.3");
    }
    assert!(matches!(compiler.flush().script.commands[1], Command::DeleteTable));
    assert!(compiler.flush().script.is_empty());
    change(&mut compiler, 7, "10.2.0.4");
    let script = compiler.flush().script;
    assert_eq!(
        script.to_string(),
        "delete element inet t endpoints4 { tcp . 10.96.1.7 . 80 . 1 }\n\
         add element inet t endpoints4 { tcp . 10.96.1.7 . 80 . 1 : 10.2.0.4 . 8080 }\n"
    );
    let changes = script.element_changes().unwrap();
    let mut key = [[6, 0, 0, 0], [10, 96, 1, 7], [0, 80, 0, 0]].concat();
    key.extend(1u32.to_ne_bytes());
    assert_eq!(changes[1].key, key);
    let value = [[10, 2, 0, 4], [0x1f, 0x90, 0, 0]].concat();
    assert_eq!(changes[1].data, Some(tombolo_net::nft::Data::Value(value)));
}

#[test]
fn another_table_name_makes_the_table_anew() {
    let mut compiler = compile(service(), vec![]);
    compiler.set_node(Node { table: "u".to_owned(), ..node() });
    let script = compiler.flush().script.to_string();
    assert!(script.starts_with("add table inet u\ndelete table inet u\nadd table inet u\n"));
}
