//! Change by change, and all at once.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::kernel::Kernel;
use super::*;
use crate::{ClusterChoice, Import, TrafficPolicy};

#[derive(Debug, Clone)]
enum Step {
    Service(ServiceKey, Option<Service>),
    Import(ServiceKey, Option<Import>),
    Slice(String, Option<Slice>),
    Node(Node),
}

/// All that is told to a compiler.
#[derive(Default)]
struct World {
    services: BTreeMap<ServiceKey, Option<Service>>,
    imports: BTreeMap<ServiceKey, Option<Import>>,
    slices: BTreeMap<String, Option<Slice>>,
    node: Option<Node>,
}

impl World {
    fn apply(&mut self, step: Step) {
        match step {
            Step::Service(key, service) => drop(self.services.insert(key, service)),
            Step::Import(key, import) => drop(self.imports.insert(key, import)),
            Step::Slice(name, slice) => drop(self.slices.insert(name, slice)),
            Step::Node(node) => self.node = Some(node),
        }
    }

    fn made_anew(&self) -> Compiler {
        let mut compiler = Compiler::new(self.node.clone().unwrap_or_else(node));
        self.services.iter().for_each(|(key, service)| compiler.set_service(key, service.clone()));
        self.imports.iter().for_each(|(key, import)| compiler.set_import(key, import.clone()));
        self.slices.iter().for_each(|(name, slice)| compiler.set_slice(name, slice.clone()));
        compiler
    }
}

fn tell(compiler: &mut Compiler, step: Step) {
    match step {
        Step::Service(key, service) => compiler.set_service(&key, service),
        Step::Import(key, import) => compiler.set_import(&key, import),
        Step::Slice(name, slice) => compiler.set_slice(&name, slice),
        Step::Node(node) => compiler.set_node(node),
    }
}

fn any_of<T: Clone + std::fmt::Debug + 'static>(choices: &[T]) -> impl Strategy<Value = T> + use<T> {
    prop::sample::select(choices.to_vec())
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let address = any_of(&["10.1.0.2", "10.1.0.3", "10.2.0.2", "10.9.0.2", "fd00:1::2", "fd00:2::2"]);
    let conditions = any_of(&["rs", "rs", "st", ""]);
    let node = any_of(&[None, Some("n1"), Some("n2")]);
    let cluster = any_of(&[None, Some("east"), Some("west")]);
    let zone = any_of(&[None, Some("z1"), Some("z2")]);
    let port = any_of(&[("http", Protocol::Tcp), ("dns", Protocol::Udp)]);
    (address, conditions, node, cluster, zone, port).prop_map(
        |(address, conditions, node, cluster, zone, (name, protocol))| Endpoint {
            port_name: name.to_owned(),
            protocol,
            cluster: cluster.map(Into::into),
            for_zones: zone.into_iter().map(Into::into).collect(),
            ..endpoint(address, conditions, node)
        },
    )
}

fn addresses(choices: &[&'static str]) -> impl Strategy<Value = Vec<std::net::IpAddr>> + use<> {
    let len = choices.len();
    prop::sample::subsequence(choices.to_vec(), 0..=len)
        .prop_map(|ips| ips.iter().map(|ip| ip.parse().unwrap()).collect())
}

fn any_choice() -> impl Strategy<Value = Option<ClusterChoice>> {
    let weights = prop::collection::btree_map(any_of(&["east", "west"].map(str::to_owned)), 0..4u32, 0..3);
    prop::option::of(
        (any::<bool>(), weights).prop_map(|(prefers_local, weights)| ClusterChoice { prefers_local, weights }),
    )
}

fn any_service() -> impl Strategy<Value = Service> {
    let policy = || any_of(&[TrafficPolicy::Cluster, TrafficPolicy::Local]);
    let ranges = any_of(&[None, Some("10.0.0.0/8"), Some("2001:db8::/32")]);
    (
        addresses(&["10.96.0.1", "10.96.0.2", "fd00:96::1"]),
        addresses(&["198.51.100.1", "2001:db8::7", "10.96.0.2"]),
        addresses(&["198.51.100.1", "203.0.113.1"]),
        prop::option::of(30000..30003u16),
        prop::option::of(any_of(&[60u32, 90])),
        (policy(), policy()),
        (any_choice(), ranges, any_of(&[53u16, 80])),
    )
        .prop_map(|(cluster_ips, external_ips, load_balancer_ips, node_port, affinity, policies, rest)| Service {
            cluster_ips,
            external_ips,
            load_balancer_ips,
            ports: vec![
                ServicePort { name: "http".to_owned(), protocol: Protocol::Tcp, port: rest.2, node_port },
                ServicePort { name: "dns".to_owned(), protocol: Protocol::Udp, port: 53, node_port },
            ],
            session_affinity: affinity,
            internal_traffic_policy: policies.0,
            external_traffic_policy: policies.1,
            source_ranges: rest.1.map(|range| vec![range.parse().unwrap()]),
            health_check_node_port: node_port,
            clusters: rest.0,
        })
}

fn any_step() -> impl Strategy<Value = Step> {
    let key = || any_of(&["a", "b", "c"]).prop_map(|name| ServiceKey::new("default", name));
    let derived = any_of(&[None, Some("a".to_owned()), Some("b".to_owned())]);
    let import = (any_service(), derived).prop_map(|(service, derived)| Import { service, derived });
    let owners = any_of(&[vec![0], vec![1], vec![0, 1], vec![0, 0]]);
    let slice =
        (owners, key(), key(), prop::collection::vec(any_endpoint(), 0..6)).prop_map(|(owners, a, b, endpoints)| {
            let owner = |kind: &u8| if *kind == 0 { Owner::Service(a.clone()) } else { Owner::Import(b.clone()) };
            Slice { owners: owners.iter().map(owner).collect(), endpoints }
        });
    let (id, table) = (any_of(&[None, Some("west")]), any_of(&["t", "t", "u"]));
    let silent = any_of(&[&[][..], &["10.9.0.0/24"], &["10.9.0.0/24", "10.1.0.3/32"], &["fd00:2::/64"]]);
    let node = (any_of(&["n1", "n2"]), any_of(&[None, Some("z1")]), id, table, silent).prop_map(
        |(name, zone, cluster, table, silent)| Node {
            silent_networks: silent.iter().map(|net| net.parse().unwrap()).collect(),
            name: name.into(),
            zone: zone.map(Into::into),
            cluster: cluster.map(Into::into),
            table: table.into(),
            service_cidrs: if name == "n2" { vec!["10.97.0.0/16".parse().unwrap()] } else { node().service_cidrs },
            ..node()
        },
    );
    prop_oneof![
        4 => (key(), prop::option::weighted(0.8, any_service())).prop_map(|(key, service)| Step::Service(key, service)),
        2 => (key(), prop::option::weighted(0.8, import)).prop_map(|(key, import)| Step::Import(key, import)),
        6 => (any_of(&["1", "2", "3", "4"]), prop::option::weighted(0.8, slice))
            .prop_map(|(name, slice)| Step::Slice(name.to_owned(), slice)),
        1 => node.prop_map(Step::Node),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_changes_lead_to_the_table_that_is_made_from_nothing(
        steps in prop::collection::vec((any_step(), any::<bool>()), 1..24),
        is_lost in any::<bool>(),
    ) {
        let mut world = World::default();
        let mut compiler = Compiler::new(node());
        let mut kernel = Kernel::default();
        for (step, flushes) in steps {
            world.apply(step.clone());
            tell(&mut compiler, step);
            if flushes {
                kernel.run(&compiler.flush().script);
                prop_assert!(kernel.holds(compiler.tables()));
                prop_assert!(compiler.flush().script.is_empty());
            }
        }
        if is_lost {
            // From nothing, over whatever is there.
            compiler.forget_applied();
        }
        kernel.run(&compiler.flush().script);
        let mut fresh = world.made_anew();
        let script = fresh.flush().script;
        prop_assert!(kernel.holds(fresh.tables()));
        prop_assert_eq!(compiler.tables(), fresh.tables());
        prop_assert_eq!(compiler.refused(), fresh.refused());
        prop_assert_eq!(compiler.health_checks(), fresh.health_checks());
        let mut other = Kernel::default();
        other.run(&script);
        prop_assert!(other.holds(fresh.tables()));
    }
}
