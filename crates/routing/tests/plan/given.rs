//! Clusters to plan for, and plans as lines to compare.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};
use tombolo_bgp::Config;
use tombolo_bgp::config::{Neighbor, Origin, Policy, Verdict};
use tombolo_proxy::convert::service_key;
use tombolo_routing::{Flags, Inputs, Node, Plan, Refusal, Service, Settings, Slice, node, plan, service, slice};

pub fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Objects as the API server holds them, seen from node `n1`.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub flags: Flags,
    pub nodes: Vec<Value>,
    pub services: Vec<Value>,
    pub slices: Vec<Value>,
    pub restarting: bool,
}

/// What became of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub plan: Plan,
    /// The refusals of the reading, and then of the plan, as lines.
    pub refused: Vec<String>,
}

impl Cluster {
    /// Nodes `n1` to `n3` with IPv4, and one peer router in the cluster's AS by the flags.
    pub fn new() -> Self {
        let flags = Flags { peer_router_ips: vec![ip("192.0.2.1")], peer_router_asns: vec![64512], ..Flags::default() };
        let nodes = (1..=3).map(|n| node_object(n, &["v4"])).collect();
        Self { flags, nodes, services: Vec::new(), slices: Vec::new(), restarting: false }
    }

    /// The same without flags.
    pub fn quiet() -> Self {
        Self { flags: Flags::default(), ..Self::new() }
    }

    pub fn families(mut self, families: &[&str]) -> Self {
        self.nodes = (1..=3).map(|n| node_object(n, families)).collect();
        self
    }

    /// Annotates node `n`, by the end of the annotation's name.
    pub fn annotate(mut self, n: usize, name: &str, value: &str) -> Self {
        self.nodes[n - 1]["metadata"]["annotations"][format!("kube-router.io/{name}")] = json!(value);
        self
    }

    pub fn flags(mut self, change: impl FnOnce(&mut Flags)) -> Self {
        change(&mut self.flags);
        self
    }

    /// A Service `default/web` with ready endpoints on these nodes.
    pub fn service(self, spec: Value, annotations: Value, on: &[&str]) -> Self {
        self.named("web", spec, annotations, on)
    }

    pub fn named(mut self, name: &str, mut spec: Value, annotations: Value, on: &[&str]) -> Self {
        let status = spec.as_object_mut().unwrap().remove("status").unwrap_or(json!({}));
        let metadata = json!({"namespace": "default", "name": name, "annotations": annotations});
        self.services.push(json!({"metadata": metadata, "spec": spec, "status": status}));
        let endpoints: Vec<Value> = on
            .iter()
            .enumerate()
            .map(|(i, node)| json!({"addresses": [format!("10.41.1.{}", i + 5)], "nodeName": node}))
            .collect();
        self.slices.push(slice_object(name, &format!("{name}-1"), json!(endpoints)));
        self
    }

    pub fn read(&self) -> (BTreeMap<String, Node>, Vec<Refusal>) {
        let mut refusals = Vec::new();
        let nodes = self.nodes.iter().map(|object| {
            let (node, refused) = node::from_kubernetes(&serde_json::from_value(object.clone()).unwrap());
            refusals.extend(refused);
            (node.name.clone(), node)
        });
        (nodes.collect(), refusals)
    }

    pub fn plan(&self) -> Outcome {
        self.plan_of("n1")
    }

    pub fn plan_of(&self, hostname: &str) -> Outcome {
        let settings = Settings::new(self.flags.clone()).unwrap();
        let (nodes, mut refusals) = self.read();
        let mut services: BTreeMap<_, Service> = BTreeMap::new();
        for object in &self.services {
            let object = serde_json::from_value(object.clone()).unwrap();
            let (service, refused) = service::from_kubernetes(&object);
            refusals.extend(refused);
            services.extend(service.map(|service| (service_key(&object), service)));
        }
        let slices: BTreeMap<String, Slice> = self
            .slices
            .iter()
            .filter_map(|object| {
                let slice = slice::from_kubernetes(&serde_json::from_value(object.clone()).unwrap())?;
                Some((object["metadata"]["name"].as_str().unwrap().to_owned(), slice))
            })
            .collect();
        let plan = plan(&Inputs {
            hostname,
            settings: &settings,
            nodes: &nodes,
            services: &services,
            slices: &slices,
            pod_cidrs: &[net("10.41.0.0/16")],
            service_cidrs: &[net("10.96.0.0/12"), net("fd96::/108")],
            restarting: self.restarting,
        });
        refusals.sort();
        let refused = refusals.iter().chain(&plan.refusals).map(Refusal::to_string).collect();
        Outcome { plan, refused }
    }

    /// The configuration, where nothing was refused.
    pub fn config(&self) -> Config {
        let outcome = self.plan();
        assert_eq!(outcome.refused, Vec::<String>::new());
        outcome.plan.config.unwrap()
    }
}

impl Outcome {
    pub fn config(&self) -> &Config {
        self.plan.config.as_ref().unwrap()
    }

    /// That one thing was refused, and with these words.
    pub fn refuses(&self, words: &[&str]) -> &Self {
        assert_eq!(self.refused.len(), 1, "{:#?}", self.refused);
        for word in words {
            assert!(self.refused[0].contains(word), "{:?} without {word:?}", self.refused[0]);
        }
        self
    }
}

/// Node `n` is 192.168.0.n and fd00::n, its pods are 10.41.n.0/24 and fd41:n::/64.
pub fn node_object(n: usize, families: &[&str]) -> Value {
    let mut addresses = Vec::new();
    let mut pods = Vec::new();
    for family in families {
        let (address, pod) = match *family {
            "v4" => (format!("192.168.0.{n}"), format!("10.41.{n}.0/24")),
            _ => (format!("fd00::{n}"), format!("fd41:{n}::/64")),
        };
        addresses.push(json!({"type": "InternalIP", "address": address}));
        pods.push(pod);
    }
    json!({
        "metadata": {"name": format!("n{n}"), "annotations": {}},
        "spec": {"podCIDRs": pods},
        "status": {"addresses": addresses},
    })
}

pub fn slice_object(service: &str, name: &str, endpoints: Value) -> Value {
    json!({
        "metadata": {"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": endpoints,
    })
}

pub fn neighbor<'a>(config: &'a Config, address: &str) -> &'a Neighbor {
    &config.neighbors[&ip(address)]
}

/// The neighbours' addresses and autonomous systems.
pub fn neighbors(config: &Config) -> Vec<String> {
    config.neighbors.iter().map(|(address, n)| format!("{address} AS{}", n.remote_asn.unwrap())).collect()
}

/// The own routes with their tags and next hops.
pub fn routes(config: &Config) -> Vec<String> {
    config.routes.iter().map(|(net, r)| format!("{net} {} via {}", r.tag, r.next_hop.unwrap())).collect()
}

/// Whether a policy takes a route, and with which words it decides.
pub fn judge(policy: &Policy, prefix: &str, origin: Origin, tag: Option<u32>) -> (bool, String) {
    let prefix = net(prefix);
    let statement = policy.statements.iter().find(|statement| {
        statement.prefixes.as_ref().is_none_or(|prefixes| prefixes.iter().any(|p| p.matches(prefix)))
            && statement.origin.is_none_or(|o| o == origin)
            && statement.tag.is_none_or(|t| tag == Some(t))
    });
    match statement {
        Some(statement) => (statement.verdict == Verdict::Accept, statement.reason.clone()),
        None => (policy.default == Verdict::Accept, String::new()),
    }
}
