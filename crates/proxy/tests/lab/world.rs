//! What a node is told, and what it makes of it.

use std::collections::{BTreeMap, BTreeSet};

use tombolo_proxy::{
    ClusterChoice, Compiler, Endpoint, Import, Node, Owner, Protocol, Service, ServiceKey, ServicePort, Slice,
};

use super::{Lab, NODE_ADDRESSES, cidrs};

pub(crate) const A: (&str, &str) = ("10.1.0.2", "n1");
pub(crate) const B: (&str, &str) = ("10.2.0.2", "n2");
pub(crate) const A6: (&str, &str) = ("fd00:1::2", "n1");
pub(crate) const B6: (&str, &str) = ("fd00:2::2", "n2");

pub(crate) const CLUSTER_IP: &str = "10.96.0.10";
pub(crate) const CLUSTER_IP6: &str = "fd00:96::a";
pub(crate) const TIMEOUT: u32 = 600;

/// What the node knows, to be changed between steps.
pub(crate) struct World {
    pub(crate) services: BTreeMap<ServiceKey, Service>,
    imports: BTreeMap<ServiceKey, Import>,
    slices: BTreeMap<String, Slice>,
    compiler: Compiler,
}

pub(crate) fn web() -> ServiceKey {
    ServiceKey::new("default", "web")
}

pub(crate) fn node() -> Node {
    Node {
        name: "n1".to_owned(),
        pod_cidrs: cidrs(&["10.1.0.0/24", "fd00:1::/64"]),
        cluster_pod_cidrs: cidrs(&["10.0.0.0/14", "fd00:1::/64", "fd00:2::/64"]),
        service_cidrs: cidrs(&["10.96.0.0/16", "fd00:96::/112"]),
        node_port_addresses: NODE_ADDRESSES.map(|ip| ip.parse().unwrap()).into(),
        silent_networks: [].into(),
        zone: Some("z1".to_owned()),
        cluster: Some("east".to_owned()),
        table: tombolo_proxy::DEFAULT_TABLE.to_owned(),
    }
}

/// The service of the tests: the ports tcp/80 and udp/53.
fn two_ports() -> Service {
    let port = |name: &str, protocol, port, node_port| ServicePort {
        name: name.to_owned(),
        protocol,
        port,
        node_port: Some(node_port),
    };
    Service {
        cluster_ips: [CLUSTER_IP, CLUSTER_IP6].map(|ip| ip.parse().unwrap()).into(),
        ports: vec![port("http", Protocol::Tcp, 80, 30080), port("dns", Protocol::Udp, 53, 30053)],
        ..Service::default()
    }
}

/// Both ports of an endpoint.
pub(crate) fn endpoint((address, node): (&str, &str)) -> [Endpoint; 2] {
    [("http", Protocol::Tcp, 8080), ("dns", Protocol::Udp, 5353)].map(|(name, protocol, port)| Endpoint {
        address: address.parse().unwrap(),
        port_name: name.to_owned(),
        protocol,
        port,
        ready: true,
        serving: true,
        terminating: false,
        node_name: Some(node.to_owned()),
        cluster: None,
        for_zones: vec![],
        for_nodes: vec![],
    })
}

impl World {
    /// A service in front of `endpoints`.
    pub(crate) fn with(endpoints: &[(&str, &str)]) -> Self {
        let mut world = Self {
            services: BTreeMap::from([(web(), two_ports())]),
            imports: BTreeMap::new(),
            slices: BTreeMap::new(),
            compiler: Compiler::new(node()),
        };
        world.endpoints(endpoints);
        world
    }

    /// A ServiceImport in front of `a` in this cluster and `b` in the cluster west.
    pub(crate) fn imported(clusters: Option<ClusterChoice>, is_a_ready: bool) -> Self {
        let mut world = Self::with(&[]);
        world.services.clear();
        world.slices.clear();
        world.imports.insert(web(), Import { service: Service { clusters, ..two_ports() }, derived: None });
        let (here, there) = ([A, A6].map(endpoint).concat(), [B, B6].map(endpoint).concat());
        let of = |cluster: &str, ready: bool, endpoints: Vec<Endpoint>| {
            let endpoints =
                endpoints.into_iter().map(|e| Endpoint { cluster: Some(cluster.into()), ready, serving: ready, ..e });
            Slice { owners: vec![Owner::Import(web())], endpoints: endpoints.collect() }
        };
        world.slices.insert("east".into(), of("east", is_a_ready, here));
        world.slices.insert("west".into(), of("west", true, there));
        world
    }

    pub(crate) fn service(&mut self) -> &mut Service {
        self.services.get_mut(&web()).unwrap()
    }

    /// Puts these (address, node) pairs behind the service.
    pub(crate) fn endpoints(&mut self, endpoints: &[(&str, &str)]) {
        self.slice(endpoints.iter().copied().flat_map(endpoint).collect());
    }

    pub(crate) fn slice(&mut self, endpoints: Vec<Endpoint>) {
        self.slices.insert("web-1".into(), Slice { owners: vec![Owner::Service(web())], endpoints });
    }

    pub(crate) fn tell(&self, compiler: &mut Compiler) {
        self.services.iter().for_each(|(key, service)| compiler.set_service(key, Some(service.clone())));
        self.imports.iter().for_each(|(key, import)| compiler.set_import(key, Some(import.clone())));
        self.slices.iter().for_each(|(name, slice)| compiler.set_slice(name, Some(slice.clone())));
    }

    /// Applies what changed since the last time, flows and all. Whether it was about elements alone.
    pub(crate) fn apply(&mut self, lab: &Lab) -> bool {
        let mut compiler = std::mem::replace(&mut self.compiler, Compiler::new(node()));
        self.tell(&mut compiler);
        let was_quick = lab.apply(&compiler.flush());
        assert_eq!(compiler.refused(), BTreeSet::new());
        self.compiler = compiler;
        was_quick
    }
}
