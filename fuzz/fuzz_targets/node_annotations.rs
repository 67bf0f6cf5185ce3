//! Node objects with their annotations, and the mesh that one of them makes of them all.
//!
//! A line `name value` is an annotation (`podcidr` and `name` are the object's own), a line `---` begins another node.

#![no_main]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use tombolo_mesh::plan::{self, Encapsulate, Inputs, Settings, Underlay};
use tombolo_mesh::{Granularity, node};

const NOW: i64 = 1_780_000_000;

fuzz_target!(|text: &str| {
    let nodes: BTreeMap<String, tombolo_mesh::Node> = text.split("---\n").take(5).map(read).collect();
    for granularity in [Granularity::Location, Granularity::Full] {
        for hostname in nodes.keys() {
            check_plan(hostname, granularity, &nodes);
        }
    }
});

fn read(text: &str) -> (String, tombolo_mesh::Node) {
    let mut annotations = BTreeMap::from([("kilo.squat.ai/last-seen".to_owned(), NOW.to_string())]);
    let (mut name, mut cidrs) = ("n", Vec::new());
    for (key, value) in text.lines().filter_map(|line| line.split_once(' ')) {
        match key {
            "name" => name = value,
            "podcidr" => cidrs.push(value),
            "internal-ips" | "wireguard-ips" | "unreachable" => {
                annotations.insert(format!("tombolo.io/{key}"), value.to_owned());
            }
            _ => {
                annotations.insert(format!("kilo.squat.ai/{key}"), value.to_owned());
            }
        }
    }
    let object = json!({"metadata": {"name": name, "annotations": annotations}, "spec": {"podCIDRs": cidrs}});
    let object: Node = serde_json::from_value(object).expect("the object is of a Node's form");
    let (node, refusals) = node::from_kubernetes(&object, "topology.kubernetes.io/region");
    assert!(refusals.iter().all(|r| r.object.starts_with("Node/") && !r.reason.is_empty()), "{refusals:?}");
    assert!(node.key.is_none_or(|key| !key.is_zero()), "a key of zeros is none");
    (node.name.clone(), node)
}

fn check_plan(hostname: &str, granularity: Granularity, nodes: &BTreeMap<String, tombolo_mesh::Node>) {
    let settings = Settings {
        hostname: hostname.to_owned(),
        granularity,
        subnets: ["10.4.0.0/16", "fd04::/64"].map(|net| net.parse().expect("a CIDR")).to_vec(),
        service_cidrs: Vec::new(),
        interface: "kilo0".to_owned(),
        firewall_table: "tombolo".to_owned(),
        encapsulate: Encapsulate::CrossSubnet,
        compatibility: None,
        local: true,
        cni: true,
    };
    let inputs = Inputs {
        settings: &settings,
        private_key: Default::default(),
        nodes,
        peers: &BTreeMap::new(),
        resolved: &BTreeMap::new(),
        liveness: &BTreeMap::new(),
        carriers: &BTreeMap::new(),
        underlay: &Underlay { link: Some("eth0".to_owned()), mtu: 1500 },
        now: NOW,
    };
    let Ok(plan) = plan::plan(&inputs) else { return };
    let _ = plan.firewall.script();
    let Some(device) = plan.device else { return };
    let mut allowed: Vec<_> = device.peers.iter().flat_map(|p| p.allowed_ips.iter().map(|ip| ip.trunc())).collect();
    let granted = allowed.len();
    allowed.sort();
    allowed.dedup();
    assert_eq!(allowed.len(), granted, "an address is one peer's");
}
