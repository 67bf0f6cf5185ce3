//! Tables that say what a world leads to, and properties of the step from one to another.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use crate::plan::{Command, Script, plan};
use crate::table::{Chain, Set, Tables};
use crate::{Compiled, Endpoint, Node, Protocol, Service, ServiceKey, ServicePort, TrafficPolicy, tables};

fn node() -> Node {
    Node {
        name: "n1".to_owned(),
        pod_cidrs: vec!["10.1.0.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()],
        cluster_pod_cidrs: vec!["10.0.0.0/14".parse().unwrap(), "10.1.0.0/24".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        node_port_addresses: vec!["192.0.2.1".parse().unwrap()],
        table: "t".to_owned(),
    }
}

fn endpoint(address: &str, conditions: &str, node: Option<&str>) -> Endpoint {
    Endpoint {
        address: address.parse().unwrap(),
        port_name: String::new(),
        protocol: Protocol::Tcp,
        port: 8080,
        ready: conditions.contains('r'),
        serving: conditions.contains('s'),
        terminating: conditions.contains('t'),
        node_name: node.map(Into::into),
    }
}

fn service() -> Service {
    Service {
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        ports: vec![ServicePort { port: 80, ..ServicePort::default() }],
        ..Service::default()
    }
}

fn compile(service: Service, endpoints: Vec<Endpoint>) -> Compiled {
    let key = ServiceKey::new("default", "web");
    tables(&BTreeMap::from([(key.clone(), service)]), &BTreeMap::from([(key, endpoints)]), &node())
}

fn elements(compiled: &Compiled, set: &str) -> Vec<String> {
    let elements = compiled.tables.sets[set].elements.iter();
    elements
        .map(|(key, value)| match value {
            Some(value) => format!("{key} : {value}"),
            None => key.clone(),
        })
        .collect()
}

const SVC: &str = "svc4/default/web/tcp/80";

#[test]
fn endpoints_that_are_ready_are_chosen_and_others_only_for_want_of_them() {
    let cases = [
        (vec![("10.1.0.2", "rs")], "meta l4proto tcp dnat ip to 10.1.0.2:8080"),
        (
            vec![("10.1.0.2", "rs"), ("10.1.0.3", "rs"), ("10.1.0.4", "")],
            "meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.1.0.2 . 8080, 1 : 10.1.0.3 . 8080 }",
        ),
        (vec![("10.1.0.2", "rs"), ("10.1.0.3", "st")], "meta l4proto tcp dnat ip to 10.1.0.2:8080"),
        (vec![("10.1.0.2", "t"), ("10.1.0.3", "st")], "meta l4proto tcp dnat ip to 10.1.0.3:8080"),
        // The same endpoint in two slices.
        (vec![("10.1.0.2", "rs"), ("10.1.0.2", "rs")], "meta l4proto tcp dnat ip to 10.1.0.2:8080"),
        // A ClusterIP of another cluster.
        (vec![("10.196.0.7", "rs")], "meta l4proto tcp dnat ip to 10.196.0.7:8080"),
    ];
    for (endpoints, rule) in cases {
        let endpoints = endpoints.into_iter().map(|(a, c)| endpoint(a, c, None)).collect();
        let compiled = compile(service(), endpoints);
        assert_eq!(compiled.tables.chains[SVC].rules, [rule]);
        assert_eq!(elements(&compiled, "service-ips4"), [format!("tcp . 10.96.0.1 . 80 : goto {SVC}")]);
        assert_eq!(elements(&compiled, "refused-ips4"), [""; 0]);
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
        let compiled = compile(service, endpoints);
        assert_eq!(elements(&compiled, "service-ips4"), [""; 0]);
        assert_eq!(elements(&compiled, "pings4"), [""; 0]);
        let refused = format!("tcp . 10.96.0.1 . 80 : {verdict}");
        assert_eq!(elements(&compiled, "refused-ips4"), [refused]);
        assert_eq!(elements(&compiled, "cluster-ips4"), ["10.96.0.1"]);
    }
}

#[test]
fn an_endpoint_is_here_by_its_node_or_else_by_its_address() {
    let cases = [
        ("10.1.0.2", None, true),
        ("10.2.0.2", None, false),
        ("192.0.2.1", Some("n1"), true),
        ("10.1.0.2", Some("n2"), false),
    ];
    for (address, node, is_here) in cases {
        let compiled = compile(service(), vec![endpoint(address, "rs", node)]);
        let expected: &[&str] = if is_here { &[address] } else { &[] };
        assert_eq!(elements(&compiled, "local-endpoints4"), expected, "{address} {node:?}");
    }
}

#[test]
fn prefixes_that_overlap_are_joined() {
    let compiled = compile(service(), vec![]);
    assert_eq!(elements(&compiled, "pod-cidrs4"), ["10.0.0.0/14"]);
    assert_eq!(elements(&compiled, "pod-cidrs6"), ["fd00:1::/64"]);
}

#[test]
fn of_two_services_at_one_address_the_first_has_it() {
    let keys = [ServiceKey::new("a", "one"), ServiceKey::new("b", "two")];
    let services = keys.clone().map(|key| (key, service())).into();
    let endpoints = keys.map(|key| (key, vec![endpoint("10.1.0.2", "rs", None)])).into();
    let compiled = tables(&services, &endpoints, &node());
    assert_eq!(elements(&compiled, "service-ips4"), ["tcp . 10.96.0.1 . 80 : goto svc4/a/one/tcp/80"]);
    let refused: Vec<String> = compiled.refused.iter().map(ToString::to_string).collect();
    assert_eq!(refused, ["Service b/two: spec.clusterIPs: tcp . 10.96.0.1 . 80 is already served for another Service"]);
}

#[test]
fn a_name_that_could_say_something_to_nft_is_refused() {
    for name in ["", "a b", "a;flush ruleset", "a}", "a\nb", "A", "ä"] {
        let key = ServiceKey::new("default", name);
        let services = BTreeMap::from([(key.clone(), service())]);
        let compiled = tables(&services, &BTreeMap::new(), &node());
        assert_eq!(compiled.refused.len(), 1, "{name:?}");
        assert_eq!(compiled.tables, tables(&BTreeMap::new(), &BTreeMap::new(), &node()).tables);
    }
}

#[test]
fn one_changed_endpoint_rewrites_two_chains_and_nothing_else() {
    let world = |last: &str| {
        let keys = (0..200).map(|i| ServiceKey::new("default", format!("web{i}")));
        let services = keys.clone().enumerate().map(|(i, key)| {
            let cluster_ips = vec![format!("10.96.1.{i}").parse().unwrap()];
            (key, Service { cluster_ips, ..service() })
        });
        let endpoints = keys.enumerate().map(|(i, key)| {
            let last = if i == 7 { last } else { "10.2.0.9" };
            (key, vec![endpoint("10.2.0.2", "rs", None), endpoint(last, "rs", None)])
        });
        tables(&services.collect(), &endpoints.collect(), &node()).tables
    };
    let script = plan(&world("10.2.0.4"), Some(&world("10.2.0.3")));
    assert_eq!(
        script.to_string(),
        "flush chain inet t ping4/default/web7\n\
         flush chain inet t svc4/default/web7/tcp/80\n\
         add rule inet t ping4/default/web7 dnat ip to numgen random mod 2 map { 0 : 10.2.0.2, 1 : 10.2.0.4 }\n\
         add rule inet t svc4/default/web7/tcp/80 meta l4proto tcp dnat ip to numgen random mod 2 map \
         { 0 : 10.2.0.2 . 8080, 1 : 10.2.0.4 . 8080 }\n"
    );
}

#[test]
fn another_table_name_makes_the_table_anew() {
    let old = compile(service(), vec![]).tables;
    let new = Tables { name: "u".to_owned(), ..old.clone() };
    let script = plan(&new, Some(&old)).to_string();
    assert!(script.starts_with("add table inet u\ndelete table inet u\nadd table inet u\n"));
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let address = prop::sample::select(vec!["10.1.0.2", "10.1.0.3", "10.2.0.2", "fd00:1::2", "fd00:2::2"]);
    let conditions = prop::sample::select(vec!["rs", "rs", "st", ""]);
    let node = prop::sample::select(vec![None, Some("n1"), Some("n2")]);
    let port = prop::sample::select(vec![("http", Protocol::Tcp), ("dns", Protocol::Udp)]);
    (address, conditions, node, port).prop_map(|(address, conditions, node, (name, protocol))| Endpoint {
        port_name: name.to_owned(),
        protocol,
        ..endpoint(address, conditions, node)
    })
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    prop::sample::select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local])
}

fn any_service() -> impl Strategy<Value = Service> {
    let address = |choices: Vec<&'static str>| {
        let parse = |ips: Vec<&str>| ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let len = choices.len();
        prop::sample::subsequence(choices, 0..=len).prop_map(parse)
    };
    (
        address(vec!["10.96.0.1", "10.96.0.2", "fd00:96::1"]),
        address(vec!["198.51.100.1", "2001:db8::7"]),
        prop::option::of(30000..30003u16),
        prop::option::of(prop::sample::select(vec![60u32, 90])),
        policy(),
        policy(),
    )
        .prop_map(|(cluster_ips, external_ips, node_port, session_affinity, internal, external)| Service {
            cluster_ips,
            external_ips,
            load_balancer_ips: vec![],
            ports: vec![
                ServicePort { name: "http".to_owned(), protocol: Protocol::Tcp, port: 80, node_port },
                ServicePort { name: "dns".to_owned(), protocol: Protocol::Udp, port: 53, node_port: None },
            ],
            session_affinity,
            internal_traffic_policy: internal,
            external_traffic_policy: external,
        })
}

fn any_tables() -> impl Strategy<Value = Tables> {
    let key = || prop::sample::select(vec!["a", "b", "c"]).prop_map(|name| ServiceKey::new("default", name));
    let services = prop::collection::btree_map(key(), any_service(), 0..4);
    let endpoints = prop::collection::btree_map(key(), prop::collection::vec(any_endpoint(), 0..6), 0..4);
    (services, endpoints).prop_map(|(services, endpoints)| tables(&services, &endpoints, &node()).tables)
}

proptest! {
    #[test]
    fn a_plan_leads_from_any_table_to_any_other(a in any_tables(), b in any_tables()) {
        let mut kernel = Kernel::default();
        kernel.run(&plan(&a, None));
        prop_assert!(kernel.holds(&a));
        kernel.run(&plan(&b, Some(&a)));
        prop_assert!(kernel.holds(&b));
        prop_assert!(plan(&b, Some(&b)).is_empty());
        // From nothing, over whatever is there.
        kernel.run(&plan(&a, None));
        prop_assert!(kernel.holds(&a));
    }
}

/// What the kernel does with a transaction, and what it does not put up with.
#[derive(Default)]
struct Kernel {
    sets: BTreeMap<String, Set>,
    chains: BTreeMap<String, Chain>,
}

impl Kernel {
    fn holds(&self, tables: &Tables) -> bool {
        self.sets == tables.sets && self.chains == tables.chains
    }

    fn run(&mut self, script: &Script) {
        for command in &script.commands {
            self.step(command);
        }
    }

    fn step(&mut self, command: &Command) {
        match command.clone() {
            Command::AddTable => {}
            Command::DeleteTable => *self = Self::default(),
            Command::AddChain { name, hook } => {
                let chain = Chain { hook, rules: vec![] };
                assert!(self.chains.insert(name, chain).is_none());
            }
            Command::AddSet { name, kind, declaration } => {
                let set = Set { kind, declaration, elements: BTreeMap::new() };
                assert!(self.sets.insert(name, set).is_none());
            }
            Command::DeleteElements { set, keys } => {
                let elements = &mut self.sets.get_mut(&set).unwrap().elements;
                keys.iter().for_each(|key| assert!(elements.remove(key).is_some()));
            }
            Command::FlushChain(name) => self.chains.get_mut(&name).unwrap().rules.clear(),
            Command::AddRule { chain, rule } => {
                self.assert_known(&rule);
                self.chains.get_mut(&chain).unwrap().rules.push(rule);
            }
            Command::AddElements { set, elements } => {
                for (key, value) in elements {
                    self.assert_known(value.as_deref().unwrap_or_default());
                    let elements = &mut self.sets.get_mut(&set).unwrap().elements;
                    assert!(elements.insert(key, value).is_none());
                }
            }
            Command::DeleteChain(name) => {
                assert!(self.chains.remove(&name).unwrap().rules.is_empty());
                assert!(!self.mentioned().contains(&name), "{name} is referred to");
            }
            Command::DeleteSet(name) => {
                self.sets.remove(&name).unwrap();
                assert!(!self.mentioned().contains(&format!("@{name}")), "{name} is referred to");
            }
        }
    }

    fn assert_known(&self, text: &str) {
        for mention in mentions(text) {
            let is_known = match mention.strip_prefix('@') {
                Some(set) => self.sets.contains_key(set),
                None => self.chains.contains_key(&mention),
            };
            assert!(is_known, "{mention} is not there");
        }
    }

    fn mentioned(&self) -> BTreeSet<String> {
        let rules = self.chains.values().flat_map(|chain| &chain.rules);
        let values = self.sets.values().flat_map(|set| set.elements.values().flatten());
        rules.chain(values).flat_map(|text| mentions(text)).collect()
    }
}

/// The chains, and the sets with their `@`, that a rule or verdict refers to.
fn mentions(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split([' ', ',']).collect();
    let chains = words.windows(2).filter(|pair| ["goto", "jump"].contains(&pair[0])).map(|pair| pair[1]);
    let sets = words.iter().copied().filter(|word| word.starts_with('@'));
    chains.chain(sets).map(ToOwned::to_owned).collect()
}
