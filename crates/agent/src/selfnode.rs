//! This node's own part of the mesh: what it tells the others by annotations on its Node object.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde_json::json;
use tombolo_api::{kilo, tombolo};
use tombolo_mesh::discovery::Chosen;
use tombolo_mesh::{Granularity, Node};
use tombolo_net::wireguard::{Endpoint, Host, Key};

/// The annotations that we write, and remove when we clean up.
pub(crate) const WRITTEN: [&str; 12] = [
    kilo::ENDPOINT,
    kilo::INTERNAL_IP,
    kilo::KEY,
    kilo::LAST_SEEN,
    kilo::WIREGUARD_IP,
    kilo::DISCOVERED_ENDPOINTS,
    kilo::GRANULARITY,
    kilo::CNI_COMPATIBILITY_IP,
    tombolo::INTERNAL_IPS,
    tombolo::WIREGUARD_IPS,
    tombolo::UNREACHABLE,
    tombolo::SILENT_NETWORKS,
];

/// What this node knows of itself.
pub(crate) struct Known<'a> {
    pub public_key: Key,
    pub chosen: &'a Chosen,
    pub port: u16,
    pub granularity: Granularity,
    pub unreachable: &'a BTreeSet<String>,
    pub cni_compatibility_ip: Option<IpNet>,
}

/// The node as the API server has it, with what it knows itself put in place. What a person forced stays.
pub(crate) fn own(stored: &Node, annotations: &BTreeMap<String, String>, known: &Known<'_>) -> Node {
    let mut node = stored.clone();
    node.key = Some(known.public_key);
    node.granularity = Some(known.granularity);
    node.unreachable = known.unreachable.clone();
    node.cni_compatibility_ip = known.cni_compatibility_ip;
    let forced = |name: &str| annotations.get(name).is_some_and(|value| !value.is_empty());
    if !forced(kilo::FORCE_ENDPOINT) || node.endpoint.is_none() {
        node.endpoint = known.chosen.external.map(|ip| Endpoint { host: Host::Ip(ip), port: known.port });
    }
    if !node.no_internal_ip && (!forced(kilo::FORCE_INTERNAL_IP) || node.internal_ips.is_empty()) {
        node.internal_ips = known.chosen.internal.clone();
    }
    node
}

/// The annotations that tell the others.
pub(crate) fn annotations(
    node: &Node,
    wireguard_ips: &[IpNet],
    discovered: &BTreeMap<Key, SocketAddr>,
    silent_networks: &BTreeSet<IpNet>,
    last_seen: i64,
) -> BTreeMap<String, String> {
    let first = |nets: &[IpNet]| nets.first().map(ToString::to_string).unwrap_or_default();
    let mut annotations: BTreeMap<String, String> = [
        (kilo::ENDPOINT, node.endpoint.as_ref().map(ToString::to_string).unwrap_or_default()),
        (kilo::INTERNAL_IP, first(&node.internal_ips)),
        (kilo::KEY, node.key.map(|k| k.to_string()).unwrap_or_default()),
        (kilo::LAST_SEEN, last_seen.to_string()),
        (kilo::WIREGUARD_IP, first(wireguard_ips)),
        (kilo::DISCOVERED_ENDPOINTS, discovered_endpoints(discovered)),
        (kilo::GRANULARITY, node.granularity.map(|g| g.to_string()).unwrap_or_default()),
        (kilo::CNI_COMPATIBILITY_IP, node.cni_compatibility_ip.map(|ip| ip.to_string()).unwrap_or_default()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if node.internal_ips.len() > 1 {
        annotations.insert(tombolo::INTERNAL_IPS.into(), list(&node.internal_ips));
    }
    if wireguard_ips.len() > 1 {
        annotations.insert(tombolo::WIREGUARD_IPS.into(), list(wireguard_ips));
    }
    if !node.unreachable.is_empty() {
        let names: Vec<&str> = node.unreachable.iter().map(String::as_str).collect();
        annotations.insert(tombolo::UNREACHABLE.into(), names.join(","));
    }
    if !silent_networks.is_empty() {
        annotations.insert(tombolo::SILENT_NETWORKS.into(), list(silent_networks));
    }
    annotations
}

pub(crate) fn list<'a>(nets: impl IntoIterator<Item = &'a IpNet>) -> String {
    nets.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// As Kilo writes them: Go's `net.UDPAddr` by key.
fn discovered_endpoints(discovered: &BTreeMap<Key, SocketAddr>) -> String {
    if discovered.is_empty() {
        return String::new();
    }
    let zone = |addr: &SocketAddr| match addr {
        SocketAddr::V6(v6) if v6.scope_id() != 0 => v6.scope_id().to_string(),
        _ => String::new(),
    };
    let object: serde_json::Map<String, serde_json::Value> = discovered
        .iter()
        .map(|(key, addr)| {
            let ip: IpAddr = addr.ip();
            (key.to_string(), json!({ "IP": ip, "Port": addr.port(), "Zone": zone(addr) }))
        })
        .collect();
    serde_json::Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn chosen() -> Chosen {
        Chosen { internal: vec!["10.0.0.5/24".parse().unwrap()], external: Some("203.0.113.5".parse().unwrap()) }
    }

    fn own_node(stored: Node, annotations: &[(&str, &str)]) -> Node {
        let annotations = annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let known = Known {
            public_key: Key([7; 32]),
            chosen: &chosen(),
            port: 51820,
            granularity: Granularity::Full,
            unreachable: &BTreeSet::new(),
            cni_compatibility_ip: None,
        };
        own(&stored, &annotations, &known)
    }

    #[test]
    fn an_address_that_changed_is_followed_and_a_forced_one_kept() {
        let old = Node { endpoint: Some("198.51.100.1:51820".parse().unwrap()), ..Node::default() };
        assert_eq!(own_node(old.clone(), &[]).endpoint.unwrap().to_string(), "203.0.113.5:51820");
        let forced = own_node(old, &[(kilo::FORCE_ENDPOINT, "198.51.100.1:51820")]);
        assert_eq!(forced.endpoint.unwrap().to_string(), "198.51.100.1:51820");
    }

    #[test]
    fn a_node_without_an_internal_address_by_choice_gets_none() {
        let node = own_node(Node { no_internal_ip: true, ..Node::default() }, &[(kilo::FORCE_INTERNAL_IP, "-")]);
        assert!(node.internal_ips.is_empty());
    }

    #[test]
    fn the_others_are_told_in_kilos_words() {
        let node = own_node(Node::default(), &[]);
        let discovered = [(Key([1; 32]), "192.0.2.1:7".parse().unwrap())].into();
        let silent = ["10.9.0.0/24", "10.9.1.0/24"].map(|net| net.parse().unwrap()).into();
        let told = annotations(&node, &["10.4.0.1/16".parse().unwrap()], &discovered, &silent, 12);
        assert_eq!(told[kilo::INTERNAL_IP], "10.0.0.5/24");
        assert_eq!(told[kilo::WIREGUARD_IP], "10.4.0.1/16");
        assert_eq!(told[kilo::LAST_SEEN], "12");
        let key = Key([1; 32]);
        assert_eq!(
            told[kilo::DISCOVERED_ENDPOINTS],
            format!("{{\"{key}\":{{\"IP\":\"192.0.2.1\",\"Port\":7,\"Zone\":\"\"}}}}")
        );
        assert_eq!(told[tombolo::SILENT_NETWORKS], "10.9.0.0/24,10.9.1.0/24");
        assert!(!told.contains_key(tombolo::INTERNAL_IPS));
        assert!(told.keys().all(|name| WRITTEN.contains(&name.as_str())));
    }
}
