//! Node objects with kube-router's annotations, and the BGP configuration that one of them makes of them all.
//!
//! A line `name value` is an annotation (`kube-router.io/name`; `\n` in the value is a line break), `address` and
//! `podcidr` are the object's own, a line `---` begins another node. The first node plans.

#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::api::core::v1::Node;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tombolo_proxy::ServiceKey;
use tombolo_routing::{Enable, Flags, Inputs, Service, Settings, Slice, node, plan, slice};

static SETTINGS: LazyLock<[Settings; 2]> = LazyLock::new(|| {
    [true, false].map(|nodes_full_mesh| {
        let flags = Flags { enable: Enable::On, nodes_full_mesh, advertise_external_ip: true, ..Flags::default() };
        Settings::new(flags).expect("the flags are right")
    })
});

fuzz_target!(|text: &str| {
    let nodes: Vec<tombolo_routing::Node> = text.split("---\n").take(4).enumerate().map(read).collect();
    let nodes: BTreeMap<String, tombolo_routing::Node> = nodes.into_iter().map(|n| (n.name.clone(), n)).collect();
    for settings in SETTINGS.iter() {
        check(settings, &nodes);
    }
});

fn read((i, text): (usize, &str)) -> tombolo_routing::Node {
    let (mut annotations, mut addresses, mut cidrs) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        match key {
            "address" => addresses.push(json!({"type": "InternalIP", "address": value})),
            "podcidr" => cidrs.push(value),
            _ => {
                annotations.insert(format!("kube-router.io/{key}"), value.replace("\\n", "\n"));
            }
        }
    }
    let object = json!({
        "metadata": {"name": format!("n{i}"), "annotations": annotations},
        "spec": {"podCIDRs": cidrs},
        "status": {"addresses": addresses},
    });
    let object: Node = serde_json::from_value(object).expect("the object is of a Node's form");
    let (node, refusals) = node::from_kubernetes(&object);
    assert!(refusals.iter().all(|r| r.object.starts_with("Node/") && !r.reason.is_empty()), "{refusals:?}");
    node
}

fn check(settings: &Settings, nodes: &BTreeMap<String, tombolo_routing::Node>) {
    let key = ServiceKey::new("default", "web");
    let service = Service {
        external_ips: ["198.51.100.7", "fd00::7"].map(|ip| ip.parse().expect("an address")).to_vec(),
        ..Service::default()
    };
    let ready = Slice { service: key.clone(), ready: vec![slice::Place::Node("n0".to_owned())] };
    let plan = plan(&Inputs {
        hostname: "n0",
        settings,
        nodes,
        services: &BTreeMap::from([(key, service)]),
        slices: &BTreeMap::from([("web-1".to_owned(), ready)]),
        pod_cidrs: &[],
        service_cidrs: &[],
        restarting: false,
    });
    let Some(config) = plan.config else {
        assert!(!plan.refusals.is_empty(), "no plan without a word");
        return;
    };
    assert!(config.asn != 0 && !config.router_id.is_unspecified());
    for (address, neighbor) in &config.neighbors {
        assert!(!config.addresses.contains(address), "a neighbour of itself");
        let local = neighbor.local_address.expect("a session has an own address");
        assert_eq!(local.is_ipv4(), address.is_ipv4());
    }
    for (net, route) in &config.routes {
        let next_hop = route.next_hop.expect("an own route has a next hop");
        assert_eq!((*net, next_hop.is_ipv4()), (net.trunc(), net.addr().is_ipv4()));
    }
}
