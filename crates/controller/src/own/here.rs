//! The addresses of this cluster, as far as its API server knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use tombolo_proxy::Family;
use tombolo_services::Here;

#[derive(Debug, Default)]
pub(super) struct Ground {
    nodes: BTreeMap<String, NodeNets>,
    service_cidrs: BTreeMap<String, Vec<IpNet>>,
    /// The addresses of the Service `default/kubernetes`: the first family is the cluster's first one.
    kubernetes: Vec<IpAddr>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct NodeNets {
    pods: Vec<IpNet>,
    addresses: Vec<IpAddr>,
}

impl Ground {
    pub(super) fn set_node(&mut self, name: &str, object: Option<&core::Node>) -> bool {
        let Some(object) = object else { return self.nodes.remove(name).is_some() };
        let spec = object.spec.as_ref();
        let cidrs = spec.and_then(|spec| spec.pod_cidrs.clone()).or_else(|| Some(vec![spec?.pod_cidr.clone()?]));
        let pods = cidrs.iter().flatten().filter_map(|text| text.parse().ok()).collect();
        let status = object.status.as_ref();
        let addresses = status.and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        let addresses = addresses.iter().filter_map(|address| address.address.parse().ok()).collect();
        let nets = NodeNets { pods, addresses };
        let is_same = self.nodes.get(name) == Some(&nets);
        self.nodes.insert(name.to_owned(), nets);
        !is_same
    }

    pub(super) fn set_service_cidrs(&mut self, name: &str, object: Option<&networking::ServiceCIDR>) -> bool {
        let Some(object) = object else { return self.service_cidrs.remove(name).is_some() };
        let texts = object.spec.as_ref().and_then(|spec| spec.cidrs.as_deref()).unwrap_or_default();
        let cidrs: Vec<IpNet> = texts.iter().filter_map(|text| text.parse().ok()).collect();
        self.service_cidrs.insert(name.to_owned(), cidrs.clone()) != Some(cidrs)
    }

    pub(super) fn set_kubernetes(&mut self, addresses: Vec<IpAddr>) -> bool {
        std::mem::replace(&mut self.kubernetes, addresses.clone()) != addresses
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &String> {
        self.nodes.keys()
    }

    pub(super) fn service_cidrs(&self) -> impl Iterator<Item = &String> {
        self.service_cidrs.keys()
    }

    pub(super) fn here(&self, more: &[IpNet]) -> Here {
        let services: Vec<IpNet> = self.service_cidrs.values().flatten().copied().collect();
        let pods = || self.nodes.values().flat_map(|node| node.pods.iter().copied());
        // Where the API server does not say which networks its Services are in, those of the pods tell the families.
        let mut families: Vec<Family> = self.kubernetes.iter().map(|address| Family::of(*address)).collect();
        if services.is_empty() {
            families.extend(pods().map(|net| Family::of(net.addr())));
        } else {
            families.extend(services.iter().map(|net| Family::of(net.addr())));
        }
        let mut seen = BTreeSet::new();
        families.retain(|family| seen.insert(*family));
        if families.is_empty() {
            families.push(Family::V4);
        }
        let addresses = self.nodes.values().flat_map(|node| node.addresses.iter().copied().map(IpNet::from));
        let mut cidrs: Vec<IpNet> = more.iter().copied().chain(services).chain(pods()).chain(addresses).collect();
        cidrs.sort();
        cidrs.dedup();
        Here { families, cidrs: IpNet::aggregate(&cidrs) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node(value: serde_json::Value) -> core::Node {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn families_and_addresses_follow_from_what_the_api_server_says() {
        let mut ground = Ground::default();
        assert_eq!(ground.here(&[]).families, [Family::V4]);
        let dual = node(serde_json::json!({
            "metadata": {"name": "n"},
            "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd01::/64"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "n"}]},
        }));
        assert!(ground.set_node("n", Some(&dual)) && !ground.set_node("n", Some(&dual)));
        ground.set_kubernetes(vec!["fd96::1".parse().unwrap()]);
        let here = ground.here(&["10.96.0.0/16".parse().unwrap()]);
        assert_eq!(here.families, [Family::V6, Family::V4]);
        for inside in ["10.1.0.9", "fd01::9", "192.0.2.1", "10.96.1.1"] {
            let address: IpAddr = inside.parse().unwrap();
            assert!(here.cidrs.iter().any(|cidr| cidr.contains(&address)), "{inside} in {here:?}");
        }
        let cidr = serde_json::json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["fd96::/112"]}});
        assert!(ground.set_service_cidrs("kubernetes", Some(&serde_json::from_value(cidr).unwrap())));
        assert_eq!(ground.here(&[]).families, [Family::V6], "Services have no IPv4 here");
        assert!(ground.set_node("n", None));
    }
}
