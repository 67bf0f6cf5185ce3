//! Tables that say what a world leads to, and properties of the steps from one to another.
#![allow(clippy::unwrap_used)]

mod clusters;
mod kernel;
mod steps;
mod table;

use crate::{Compiler, Endpoint, Node, Owner, Protocol, Service, ServiceKey, ServicePort, Slice};

fn node() -> Node {
    Node {
        name: "n1".to_owned(),
        pod_cidrs: vec!["10.1.0.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()],
        cluster_pod_cidrs: vec!["10.0.0.0/14".parse().unwrap(), "10.1.0.0/24".parse().unwrap()],
        service_cidrs: vec!["10.96.0.0/16".parse().unwrap()],
        node_port_addresses: vec!["192.0.2.1".parse().unwrap()],
        silent_networks: [].into(),
        zone: Some("z1".to_owned()),
        cluster: Some("east".to_owned()),
        table: "t".to_owned(),
    }
}

/// `conditions` has an r for ready, an s for serving, a t for terminating.
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
        cluster: None,
        for_zones: vec![],
        for_nodes: vec![],
    }
}

fn service() -> Service {
    Service {
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        ports: vec![ServicePort { port: 80, ..ServicePort::default() }],
        ..Service::default()
    }
}

fn web() -> ServiceKey {
    ServiceKey::new("default", "web")
}

fn slice(owner: Owner, endpoints: Vec<Endpoint>) -> Option<Slice> {
    Some(Slice { owners: vec![owner], endpoints })
}

/// One service, flushed.
fn compile(service: Service, endpoints: Vec<Endpoint>) -> Compiler {
    let mut compiler = Compiler::new(node());
    compiler.set_service(&web(), Some(service));
    compiler.set_slice("default/web-1", slice(Owner::Service(web()), endpoints));
    compiler.flush();
    compiler
}

fn elements(compiler: &Compiler, set: &str) -> Vec<String> {
    let elements = compiler.tables().sets[set].elements.iter();
    elements
        .map(|(key, element)| match &element.value {
            Some(value) => format!("{key} : {value}"),
            None => key.to_string(),
        })
        .collect()
}

fn refused(compiler: &Compiler) -> Vec<String> {
    compiler.refused().iter().map(ToString::to_string).collect()
}
