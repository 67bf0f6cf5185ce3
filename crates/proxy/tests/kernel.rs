//! The ruleset in the kernel: a node, two servers and a client, each a network namespace.
#![allow(clippy::unwrap_used)]

mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

use lab::Lab;
use tombolo_proxy::{
    Endpoint, Node, Protocol, Service, ServiceKey, ServicePort, Tables, TrafficPolicy, plan, stale_udp, tables,
};

const CLUSTER_IP: &str = "10.96.0.10";
const CLUSTER_IP6: &str = "fd00:96::a";
const TIMEOUT: u32 = 600;

/// What the node knows, to be changed between steps.
struct World {
    services: BTreeMap<ServiceKey, Service>,
    endpoints: BTreeMap<ServiceKey, Vec<Endpoint>>,
    applied: Option<Tables>,
}

fn web() -> ServiceKey {
    ServiceKey::new("default", "web")
}

impl World {
    /// A service with the ports tcp/80 and udp/53, in front of `endpoints`.
    fn with(endpoints: &[(&str, &str)]) -> Self {
        let port = |name: &str, protocol, port, node_port| ServicePort {
            name: name.to_owned(),
            protocol,
            port,
            node_port: Some(node_port),
        };
        let service = Service {
            cluster_ips: [CLUSTER_IP, CLUSTER_IP6].map(|ip| ip.parse().unwrap()).into(),
            ports: vec![port("http", Protocol::Tcp, 80, 30080), port("dns", Protocol::Udp, 53, 30053)],
            ..Service::default()
        };
        let mut world =
            Self { services: BTreeMap::from([(web(), service)]), endpoints: BTreeMap::new(), applied: None };
        world.endpoints(endpoints);
        world
    }

    fn service(&mut self) -> &mut Service {
        self.services.get_mut(&web()).unwrap()
    }

    /// Puts these (address, node) pairs behind the service.
    fn endpoints(&mut self, endpoints: &[(&str, &str)]) {
        let ports = [("http", Protocol::Tcp, 8080), ("dns", Protocol::Udp, 5353)];
        let endpoints = endpoints.iter().flat_map(|(address, node)| {
            ports.map(|(name, protocol, port)| Endpoint {
                address: address.parse().unwrap(),
                port_name: name.to_owned(),
                protocol,
                port,
                ready: true,
                serving: true,
                terminating: false,
                node_name: Some((*node).to_owned()),
            })
        });
        self.endpoints.insert(web(), endpoints.collect());
    }

    fn tables(&self) -> Tables {
        let node = Node {
            name: "n1".to_owned(),
            pod_cidrs: lab::cidrs(&["10.1.0.0/24", "fd00:1::/64"]),
            cluster_pod_cidrs: lab::cidrs(&["10.0.0.0/14", "fd00:1::/64", "fd00:2::/64"]),
            service_cidrs: lab::cidrs(&["10.96.0.0/16", "fd00:96::/112"]),
            node_port_addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            table: tombolo_proxy::DEFAULT_TABLE.to_owned(),
        };
        let compiled = tables(&self.services, &self.endpoints, &node);
        assert_eq!(compiled.refused, []);
        compiled.tables
    }

    /// Applies what changed since the last time, flows and all.
    fn apply(&mut self, lab: &Lab) {
        let desired = self.tables();
        lab.nft(&plan(&desired, self.applied.as_ref()).to_string());
        if let Some(applied) = &self.applied {
            for flow in stale_udp(&desired, applied) {
                lab.conntrack(&flow.conntrack_arguments());
            }
        }
        self.applied = Some(desired);
    }
}

const A: (&str, &str) = ("10.1.0.2", "n1");
const B: (&str, &str) = ("10.2.0.2", "n2");
const A6: (&str, &str) = ("fd00:1::2", "n1");
const B6: (&str, &str) = ("fd00:2::2", "n2");

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

type Step = Box<dyn Fn(&mut World)>;

#[test]
fn changes_step_by_step_and_all_at_once_leave_the_same_table() {
    let lab = Lab::new();
    let mut world = World::with(&[A]);
    let mut steps: Vec<Step> = vec![
        Box::new(|w| w.endpoints(&[A, B, A6])),
        Box::new(|w| w.service().session_affinity = Some(TIMEOUT)),
        Box::new(|w| w.service().session_affinity = Some(TIMEOUT * 2)),
        Box::new(|w| w.service().external_traffic_policy = TrafficPolicy::Local),
        Box::new(|w| w.endpoints(&[B])),
        Box::new(|w| w.service().internal_traffic_policy = TrafficPolicy::Local),
        Box::new(|w| w.endpoints(&[A, B])),
        Box::new(|w| w.service().session_affinity = None),
        Box::new(|w| {
            let other = Service { cluster_ips: vec!["10.96.0.11".parse().unwrap()], ..w.service().clone() };
            let other = Service {
                ports: other.ports[..1].iter().map(|port| ServicePort { node_port: None, ..port.clone() }).collect(),
                ..other
            };
            w.services.insert(ServiceKey::new("default", "other"), other);
        }),
        Box::new(|w| w.service().ports[0].port = 8000),
    ];
    for i in 0..=steps.len() {
        world.apply(&lab);
        let stepwise = lab.listing();
        lab.nft(&plan(&world.tables(), None).to_string());
        assert_eq!(stepwise, lab.listing(), "after {i} steps");
        if let Some(step) = (!steps.is_empty()).then(|| steps.remove(0)) {
            step(&mut world);
        }
    }
    lab.nft(&tombolo_proxy::Script::removal(tombolo_proxy::DEFAULT_TABLE).to_string());
    assert_eq!(lab.run("node", &["nft", "list", "ruleset"]), "");
}
