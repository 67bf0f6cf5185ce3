//! The ruleset in the kernel: a node, two servers and a client, each a network namespace.
#![allow(clippy::unwrap_used)]

mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use lab::Lab;
use lab::world::{A, A6, B, B6, CLUSTER_IP, CLUSTER_IP6, TIMEOUT, World, endpoint, node};
use tombolo_proxy::{ClusterChoice, Compiler, Endpoint, Protocol, Service, ServiceKey, ServicePort, TrafficPolicy};

#[test]
fn connections_and_datagrams_are_spread_over_the_endpoints_of_the_moment() {
    let lab = Lab::new();
    let mut world = World::with(&[A, B, A6, B6]);
    world.apply(&lab);
    let both: BTreeSet<String> = ["a", "b"].map(Into::into).into();
    for from in ["client", "a", "node"] {
        for ip in [CLUSTER_IP, CLUSTER_IP6] {
            let servers = lab.tcp_servers(from, ip, 80, 40);
            assert_eq!(servers, both, "TCP from {from} to {ip}");
            let servers = lab.udp_servers(from, ip, 53, 40);
            assert_eq!(servers, both, "UDP from {from} to {ip}");
        }
    }
    world.endpoints(&[B, B6]);
    world.apply(&lab);
    for ip in [CLUSTER_IP, CLUSTER_IP6] {
        let only_b = BTreeSet::from(["b".to_owned()]);
        assert_eq!(lab.tcp_servers("client", ip, 80, 20), only_b, "to {ip}");
    }
}

#[test]
fn what_no_endpoint_serves_is_refused_at_once() {
    let lab = Lab::new();
    let mut world = World::with(&[]);
    world.apply(&lab);
    for from in ["client", "node"] {
        for ip in [CLUSTER_IP, CLUSTER_IP6] {
            for port in [80, 81] {
                let error = lab.tcp(from, ip, port).unwrap_err();
                let refused = ErrorKind::ConnectionRefused;
                assert_eq!(error.kind(), refused, "TCP from {from} to {ip} {port}");
                // On the node itself the kernel fails the sending before the refusal comes back.
                let error = lab.udp(from, ip, port).unwrap_err();
                let kinds = [refused, ErrorKind::PermissionDenied];
                assert!(kinds.contains(&error.kind()), "UDP from {from} to {ip} {port}: {error}");
            }
        }
    }
    // A node port too, where otherwise any server on the node would get the packet.
    let error = lab.tcp("client", "192.0.2.1", 30080).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);

    world.endpoints(&[A]);
    world.apply(&lab);
    assert_eq!(lab.tcp("client", CLUSTER_IP, 80).unwrap().server, "a");
    let error = lab.tcp("client", CLUSTER_IP, 81).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn the_source_is_kept_unless_the_reply_would_miss_this_node() {
    let lab = Lab::new();
    // From, endpoint, address, and whether the server sees the client's own address.
    let cases = [
        ("client", A, CLUSTER_IP, true),
        ("client", B, CLUSTER_IP, false),
        ("client", A6, CLUSTER_IP6, true),
        ("client", B6, CLUSTER_IP6, false),
        ("a", B, CLUSTER_IP, true),
        ("a", B6, CLUSTER_IP6, true),
        // Hairpin: the server must not see its own address.
        ("a", A, CLUSTER_IP, false),
        ("a", A6, CLUSTER_IP6, false),
    ];
    let mut world = World::with(&[]);
    for (from, endpoint, ip, is_kept) in cases {
        world.endpoints(&[endpoint]);
        world.apply(&lab);
        let own = lab.address(from, ip.contains(':'));
        let seen = [lab.tcp(from, ip, 80).unwrap().client, lab.udp(from, ip, 53).unwrap().client];
        for seen in seen {
            assert_eq!(seen == own, is_kept, "{from} to {endpoint:?}: seen as {seen}");
        }
    }
}

#[test]
fn a_ping_of_a_cluster_ip_is_answered() {
    let lab = Lab::new();
    let mut world = World::with(&[A, B, A6, B6]);
    world.apply(&lab);
    for ip in [CLUSTER_IP, CLUSTER_IP6] {
        lab.run("client", &["ping", "-n", "-c", "1", "-W", "5", ip]);
    }
}

#[test]
fn node_ports_and_external_addresses_follow_their_policy() {
    let lab = Lab::new();
    let mut world = World::with(&[A, B, A6, B6]);
    world.service().external_ips = vec!["198.51.100.7".parse().unwrap()];
    world.apply(&lab);
    let both: BTreeSet<String> = ["a", "b"].map(Into::into).into();
    let only_a = BTreeSet::from(["a".to_owned()]);
    let frontends = [("192.0.2.1", 30080), ("2001:db8::1", 30080), ("198.51.100.7", 80)];
    for (ip, port) in frontends {
        assert_eq!(lab.tcp_servers("client", ip, port, 40), both, "{ip}");
    }
    world.service().external_traffic_policy = TrafficPolicy::Local;
    world.apply(&lab);
    for (ip, port) in frontends {
        assert_eq!(lab.tcp_servers("client", ip, port, 20), only_a, "{ip}");
        let seen = lab.tcp("client", ip, port).unwrap().client;
        assert_eq!(seen, lab.address("client", ip.contains(':')));
        // What comes from inside may go anywhere.
        assert_eq!(lab.tcp_servers("a", ip, port, 40), both, "inside to {ip}");
    }
}

#[test]
fn a_client_with_affinity_stays_with_its_endpoint() {
    let lab = Lab::new();
    let mut world = World::with(&[A, B, A6, B6]);
    world.service().session_affinity = Some(TIMEOUT);
    world.apply(&lab);
    for ip in [CLUSTER_IP, CLUSTER_IP6] {
        assert_eq!(lab.tcp_servers("client", ip, 80, 20).len(), 1, "{ip}");
        assert_eq!(lab.udp_servers("client", ip, 53, 20).len(), 1, "{ip}");
    }
    // Its endpoint goes: the other one serves it from then on.
    let stays = lab.tcp("client", CLUSTER_IP, 80).unwrap().server;
    let (left, name) = if stays == "a" { (B, "b") } else { (A, "a") };
    world.endpoints(&[left]);
    world.apply(&lab);
    assert_eq!(lab.tcp("client", CLUSTER_IP, 80).unwrap().server, name);
}

#[test]
fn a_udp_client_moves_on_when_its_endpoint_goes() {
    let lab = Lab::new();
    let mut world = World::with(&[A]);
    world.apply(&lab);
    let socket = lab.udp_socket("client", CLUSTER_IP, 53);
    assert_eq!(lab::ask_udp(&socket).unwrap().server, "a");
    world.endpoints(&[B]);
    world.apply(&lab);
    assert_eq!(lab::ask_udp(&socket).unwrap().server, "b");
    world.endpoints(&[]);
    world.apply(&lab);
    let error = lab::ask_udp(&socket).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    world.endpoints(&[A]);
    world.apply(&lab);
    assert_eq!(lab::ask_udp(&socket).unwrap().server, "a");
}

/// Who answers, and how often.
fn tally(lab: &Lab, ip: &str, count: usize) -> BTreeMap<String, usize> {
    let mut tally = BTreeMap::new();
    for _ in 0..count {
        *tally.entry(lab.tcp("client", ip, 80).unwrap().server).or_default() += 1;
    }
    tally
}

#[test]
fn an_import_is_served_from_all_clusters_local_first_or_by_weights() {
    let lab = Lab::new();
    let choice = |prefers_local, weights: &[(&str, u32)]| {
        let weights = weights.iter().map(|(cluster, weight)| ((*cluster).to_owned(), *weight)).collect();
        Some(ClusterChoice { prefers_local, weights })
    };
    let only = |name: &str| BTreeSet::from([name.to_owned()]);
    let both: BTreeSet<String> = ["a", "b"].map(Into::into).into();
    let cases = [
        (None, true, both),
        (choice(true, &[]), true, only("a")),
        (choice(true, &[]), false, only("b")),
        (choice(false, &[("east", 0)]), true, only("b")),
        (choice(false, &[("west", 0)]), false, only("b")),
    ];
    for (clusters, is_a_ready, expected) in cases {
        let mut world = World::imported(clusters.clone(), is_a_ready);
        world.apply(&lab);
        if is_a_ready {
            // Flows stay with an endpoint that answers when another is preferred; clients here are to be new ones.
            lab.forget_udp();
        }
        for ip in [CLUSTER_IP, CLUSTER_IP6] {
            assert_eq!(lab.tcp_servers("client", ip, 80, 30), expected, "{clusters:?} to {ip}");
            assert_eq!(lab.udp_servers("client", ip, 53, 30), expected, "{clusters:?} to {ip}");
        }
    }
    World::imported(choice(false, &[("east", 4)]), true).apply(&lab);
    for ip in [CLUSTER_IP, CLUSTER_IP6] {
        let tally = tally(&lab, ip, 100);
        // Four in five; further away than this is one in ten thousand million.
        assert!((45..=99).contains(&tally["a"]), "{ip}: {tally:?}");
    }
    // A pod reaches the other cluster's with its own address, an outsider with the node's.
    World::imported(choice(false, &[("east", 0)]), true).apply(&lab);
    assert_eq!(lab.tcp("a", CLUSTER_IP, 80).unwrap().client, lab.address("a", false));
    assert_ne!(lab.tcp("client", CLUSTER_IP, 80).unwrap().client, lab.address("client", false));
}

#[test]
fn hints_keep_a_connection_in_its_zone_and_on_its_node() {
    let lab = Lab::new();
    let mut world = World::with(&[]);
    let hinted = |place, zone: &str, nodes: &[&str]| {
        endpoint(place).map(|endpoint| Endpoint {
            for_zones: vec![zone.to_owned()],
            for_nodes: nodes.iter().map(ToString::to_string).collect(),
            ..endpoint
        })
    };
    for (a, b, expected) in [
        (hinted(A, "z2", &[]), hinted(B, "z1", &[]), "b"),
        (hinted(A, "z1", &[]), hinted(B, "z2", &[]), "a"),
        (hinted(A, "z2", &["n1"]), hinted(B, "z1", &["n2"]), "a"),
    ] {
        world.slice([a, b].concat());
        world.apply(&lab);
        let expected = BTreeSet::from([expected.to_owned()]);
        assert_eq!(lab.tcp_servers("client", CLUSTER_IP, 80, 20), expected);
    }
}

#[test]
fn what_is_going_away_serves_while_nothing_else_does() {
    let lab = Lab::new();
    let mut world = World::with(&[]);
    let going = |place| endpoint(place).map(|e| Endpoint { ready: false, terminating: true, ..e });
    let only = |name: &str| BTreeSet::from([name.to_owned()]);
    world.slice([going(A), endpoint(B)].concat());
    world.apply(&lab);
    assert_eq!(lab.tcp_servers("client", CLUSTER_IP, 80, 20), only("b"));
    world.slice(going(A).into());
    world.apply(&lab);
    assert_eq!(lab.tcp_servers("client", CLUSTER_IP, 80, 20), only("a"));
    // The same at node ports that are to be served on this node: not from elsewhere, although that one is ready.
    world.service().external_traffic_policy = TrafficPolicy::Local;
    world.slice([going(A), endpoint(B)].concat());
    world.apply(&lab);
    assert_eq!(lab.tcp_servers("client", "192.0.2.1", 30080, 20), only("a"));
}

#[test]
fn a_load_balancer_s_address_lets_its_source_ranges_in() {
    let lab = Lab::new();
    let mut world = World::with(&[A]);
    world.service().load_balancer_ips = vec!["203.0.113.7".parse().unwrap()];
    world.service().source_ranges = Some(lab::cidrs(&["192.0.2.0/24"]));
    world.apply(&lab);
    assert_eq!(lab.tcp("client", "203.0.113.7", 80).unwrap().server, "a");
    assert_eq!(lab.tcp("a", "203.0.113.7", 80).unwrap_err().kind(), ErrorKind::TimedOut);
    // The ranges are the load balancer's alone.
    assert_eq!(lab.tcp("a", CLUSTER_IP, 80).unwrap().server, "a");
    world.service().source_ranges = Some(vec![]);
    world.apply(&lab);
    assert_eq!(lab.tcp("client", "203.0.113.7", 80).unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn sctp_is_carried_where_the_kernel_has_it() {
    if !Lab::has_sctp() {
        println!("this kernel has no SCTP");
        return;
    }
    let lab = Lab::new();
    lab.serve_sctp("b");
    let mut world = World::with(&[]);
    world.service().ports =
        vec![ServicePort { name: "http".into(), protocol: Protocol::Sctp, port: 90, node_port: None }];
    let endpoints =
        [B, B6].map(|place| Endpoint { protocol: Protocol::Sctp, port: 9090, ..endpoint(place)[0].clone() });
    world.slice(endpoints.into());
    world.apply(&lab);
    for ip in [CLUSTER_IP, CLUSTER_IP6] {
        assert_eq!(lab.sctp("client", ip, 90).unwrap().server, "b", "{ip}");
    }
}

#[test]
fn a_udp_flow_stays_with_an_endpoint_that_answers_when_another_goes() {
    let lab = Lab::new();
    let mut world = World::with(&[A, B]);
    world.service().load_balancer_ips = vec!["203.0.113.7".parse().unwrap()];
    world.apply(&lab);
    for (ip, port) in [(CLUSTER_IP, 53), ("203.0.113.7", 53), ("192.0.2.1", 30053)] {
        world.endpoints(&[A, B]);
        world.apply(&lab);
        let sockets: Vec<_> = (0..20).map(|_| lab.udp_socket("client", ip, port)).collect();
        let before: Vec<String> = sockets.iter().map(|socket| lab::ask_udp(socket).unwrap().server).collect();
        assert!(before.contains(&"a".to_owned()) && before.contains(&"b".to_owned()), "{before:?}");
        // It only stops being chosen: flows stay.
        let going = endpoint(A).map(|e| Endpoint { ready: false, terminating: true, ..e });
        world.slice([going, endpoint(B)].concat());
        world.apply(&lab);
        let during: Vec<String> = sockets.iter().map(|socket| lab::ask_udp(socket).unwrap().server).collect();
        assert_eq!(during, before, "{ip}");
        world.endpoints(&[B]);
        world.apply(&lab);
        let after: Vec<String> = sockets.iter().map(|socket| lab::ask_udp(socket).unwrap().server).collect();
        assert_eq!(after, vec!["b"; 20], "{ip}");
    }
}

#[test]
fn a_udp_client_that_began_before_there_was_an_endpoint_gets_one() {
    let lab = Lab::new();
    let mut world = World::with(&[]);
    world.service().load_balancer_ips = vec!["203.0.113.7".parse().unwrap()];
    // Before the table is there, a datagram to the address is tracked as it is.
    let frontends = [(CLUSTER_IP, 53), ("203.0.113.7", 53), ("192.0.2.1", 30053)];
    let sockets = frontends.map(|(ip, port)| lab.udp_socket("client", ip, port));
    sockets.iter().for_each(|socket| drop(socket.send(b"who?")));
    world.apply(&lab);
    world.endpoints(&[A]);
    world.apply(&lab);
    for socket in &sockets {
        // What was refused meanwhile is told with the next call.
        let answer = lab::ask_udp(socket).or_else(|_| lab::ask_udp(socket)).unwrap();
        assert_eq!(answer.server, "a");
    }
}

type Step = Box<dyn Fn(&mut World)>;

#[test]
fn changes_step_by_step_and_all_at_once_leave_the_same_table() {
    let lab = Lab::new();
    let mut world = World::with(&[A, B]);
    // Whether the step is about elements alone.
    let mut steps: Vec<(bool, Step)> = vec![
        (true, Box::new(|w| w.endpoints(&[A, ("10.2.0.3", "n2")]))),
        (true, Box::new(|w| w.service().ports[0].node_port = Some(30081))),
        (
            true,
            Box::new(|w| {
                let cluster_ips = vec!["10.96.0.12".parse().unwrap(), "fd00:96::c".parse().unwrap()];
                let third = Service {
                    cluster_ips,
                    ports: vec![ServicePort { port: 7, ..ServicePort::default() }],
                    ..Service::default()
                };
                w.services.insert(ServiceKey::new("default", "third"), third);
            }),
        ),
        (true, Box::new(|w| w.endpoints(&[A, B, A6]))),
        (false, Box::new(|w| w.service().session_affinity = Some(TIMEOUT))),
        (false, Box::new(|w| w.service().session_affinity = Some(TIMEOUT * 2))),
        (false, Box::new(|w| w.service().external_traffic_policy = TrafficPolicy::Local)),
        (false, Box::new(|w| w.endpoints(&[B]))),
        (true, Box::new(|w| w.service().internal_traffic_policy = TrafficPolicy::Local)),
        (false, Box::new(|w| w.endpoints(&[A, B]))),
        (false, Box::new(|w| w.service().session_affinity = None)),
        (
            false,
            Box::new(|w| {
                w.service().load_balancer_ips = vec!["203.0.113.7".parse().unwrap(), "2001:db8:9::7".parse().unwrap()];
                w.service().source_ranges = Some(lab::cidrs(&["10.0.0.0/8", "2001:db8::/32"]));
            }),
        ),
        (false, Box::new(|w| w.service().source_ranges = None)),
        (
            true,
            Box::new(|w| {
                let other = Service { cluster_ips: vec!["10.96.0.11".parse().unwrap()], ..w.service().clone() };
                let other = Service {
                    ports: other.ports[..1]
                        .iter()
                        .map(|port| ServicePort { node_port: None, ..port.clone() })
                        .collect(),
                    load_balancer_ips: vec![],
                    ..other
                };
                w.services.insert(ServiceKey::new("default", "other"), other);
            }),
        ),
        (true, Box::new(|w| w.service().ports[0].port = 8000)),
    ];
    world.apply(&lab);
    for i in 0..=steps.len() {
        let stepwise = lab.listing();
        let mut fresh = Compiler::new(node());
        world.tell(&mut fresh);
        lab.nft(&fresh.flush().script.to_string());
        assert_eq!(stepwise, lab.listing(), "after {i} steps");
        if let Some((is_quick, step)) = (!steps.is_empty()).then(|| steps.remove(0)) {
            step(&mut world);
            assert_eq!(world.apply(&lab), is_quick, "step {}", i + 1);
        }
    }
    lab.nft(&tombolo_proxy::Script::removal(tombolo_proxy::DEFAULT_TABLE).to_string());
    assert_eq!(lab.run("node", &["nft", "list", "ruleset"]), "");
}
