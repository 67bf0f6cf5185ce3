//! Node objects to [`Node`]s.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::Deserialize;
use tombolo_api::{kilo, tombolo};
use tombolo_net::wireguard::{Endpoint, Key};

use super::Node;
use crate::{Refusal, parse};

/// Reads what the annotations and the spec of a Node object say; the location is that of the annotation, else the
/// value of the label `topology_label`.
///
/// What does not parse counts as not given, and is returned as a refusal. Empty annotations are not given: an agent
/// empties what it no longer knows.
pub fn from_kubernetes(object: &k8s_openapi::api::core::v1::Node, topology_label: &str) -> (Node, Vec<Refusal>) {
    let empty = BTreeMap::new();
    let mut reader = Reader {
        name: object.metadata.name.clone().unwrap_or_default(),
        annotations: object.metadata.annotations.as_ref().unwrap_or(&empty),
        refusals: Vec::new(),
    };
    let labels = object.metadata.labels.as_ref().unwrap_or(&empty);
    let location = reader.annotations.get(kilo::LOCATION).or_else(|| labels.get(topology_label));
    let no_internal_ip =
        reader.annotations.get(kilo::FORCE_INTERNAL_IP).is_some_and(|text| matches!(text.trim(), "" | "-"));
    let node = Node {
        name: reader.name.clone(),
        endpoint: reader.endpoint(kilo::FORCE_ENDPOINT).or_else(|| reader.endpoint(kilo::ENDPOINT)),
        key: reader.one(kilo::KEY, parse::key),
        no_internal_ip,
        internal_ips: if no_internal_ip { Vec::new() } else { reader.internal_ips() },
        last_seen: reader.one(kilo::LAST_SEEN, unix_time).unwrap_or(0),
        leader: reader.annotations.contains_key(kilo::LEADER),
        location: location.cloned().unwrap_or_default(),
        persistent_keepalive: reader.one(kilo::PERSISTENT_KEEPALIVE, seconds).unwrap_or(0),
        subnets: reader.subnets(object),
        wireguard_ips: reader.wireguard_ips(),
        discovered_endpoints: reader.discovered_endpoints(),
        allowed_location_ips: reader.many(kilo::ALLOWED_LOCATION_IPS, parse::cidr_or_address),
        granularity: reader.one(kilo::GRANULARITY, |text| text.parse().map_err(|e| format!("{e}"))),
        unreachable: reader
            .text(tombolo::UNREACHABLE)
            .map(|t| parse::list(t).map(str::to_owned).collect())
            .unwrap_or_default(),
        silent_networks: reader.many(tombolo::SILENT_NETWORKS, parse::cidr).into_iter().collect(),
        cni_compatibility_ip: reader.one(kilo::CNI_COMPATIBILITY_IP, parse::cidr),
    };
    (node, reader.refusals)
}

struct Reader<'a> {
    name: String,
    annotations: &'a BTreeMap<String, String>,
    refusals: Vec<Refusal>,
}

impl<'a> Reader<'a> {
    fn text(&self, annotation: &str) -> Option<&'a str> {
        self.annotations.get(annotation).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    fn one<T>(&mut self, annotation: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(annotation)?;
        self.accept(annotation, text, parse(text))
    }

    fn many<T>(&mut self, annotation: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some(text) = self.text(annotation) else { return Vec::new() };
        parse::list(text).filter_map(|part| self.accept(annotation, part, parse(part))).collect()
    }

    fn accept<T>(&mut self, field: &str, value: &str, parsed: Result<T, String>) -> Option<T> {
        match parsed {
            Ok(parsed) => Some(parsed),
            Err(reason) => {
                self.refusals.push(Refusal::node(&self.name, field, value, reason));
                None
            }
        }
    }

    fn endpoint(&mut self, annotation: &str) -> Option<Endpoint> {
        self.one(annotation, |text| text.parse::<Endpoint>().map_err(|e| e.to_string()))
    }

    /// Kilo's one address, then those of our own list that it does not override.
    fn internal_ips(&mut self) -> Vec<IpNet> {
        let forced = self.one(kilo::FORCE_INTERNAL_IP, parse::cidr);
        let own = self.one(kilo::INTERNAL_IP, parse::cidr);
        let others = self.many(tombolo::INTERNAL_IPS, parse::cidr);
        let mut ips: Vec<IpNet> = forced.or(own).into_iter().collect();
        for ip in others {
            let overridden = forced.is_some_and(|f| f.addr().is_ipv4() == ip.addr().is_ipv4());
            if !overridden && !ips.iter().any(|i| i.addr() == ip.addr()) {
                ips.push(ip);
            }
        }
        ips
    }

    fn wireguard_ips(&mut self) -> Vec<IpNet> {
        let mut ips: Vec<IpNet> = self.one(kilo::WIREGUARD_IP, parse::cidr).into_iter().collect();
        for ip in self.many(tombolo::WIREGUARD_IPS, parse::cidr) {
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        ips
    }

    fn subnets(&mut self, object: &k8s_openapi::api::core::v1::Node) -> Vec<IpNet> {
        let Some(spec) = &object.spec else { return Vec::new() };
        let all = spec.pod_cidrs.as_deref().unwrap_or_default();
        let named: Vec<(String, &String)> = match (all, &spec.pod_cidr) {
            ([], Some(one)) => vec![("spec.podCIDR".to_owned(), one)],
            (all, _) => all.iter().enumerate().map(|(i, cidr)| (format!("spec.podCIDRs[{i}]"), cidr)).collect(),
        };
        let mut subnets: Vec<IpNet> = Vec::new();
        for (field, text) in named {
            if text.is_empty() {
                continue;
            }
            if let Some(cidr) = self.accept(&field, text, parse::cidr(text).map(|cidr| cidr.trunc()))
                && !subnets.contains(&cidr)
            {
                subnets.push(cidr);
            }
        }
        subnets
    }

    fn discovered_endpoints(&mut self) -> BTreeMap<Key, SocketAddr> {
        let read =
            |text: &str| serde_json::from_str::<BTreeMap<String, serde_json::Value>>(text).map_err(|e| e.to_string());
        let Some(entries) = self.one(kilo::DISCOVERED_ENDPOINTS, read) else { return BTreeMap::new() };
        let mut endpoints = BTreeMap::new();
        for (key_text, value) in entries {
            let Some(key) = self.accept(kilo::DISCOVERED_ENDPOINTS, &key_text, parse::key(&key_text)) else { continue };
            let text = value.to_string();
            if let Some(endpoint) = self.accept(kilo::DISCOVERED_ENDPOINTS, &text, udp_addr(value)) {
                endpoints.insert(key, endpoint);
            }
        }
        endpoints
    }
}

/// The JSON of Go's `net.UDPAddr`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct UdpAddr {
    #[serde(rename = "IP")]
    ip: String,
    port: u16,
}

fn udp_addr(value: serde_json::Value) -> Result<SocketAddr, String> {
    let addr: UdpAddr = serde_json::from_value(value).map_err(|e| format!("it is no UDP address: {e}"))?;
    let ip: IpAddr = addr.ip.parse().map_err(|_| format!("{:?} is no address", addr.ip))?;
    if addr.port == 0 {
        return Err("the port is 0".to_owned());
    }
    Ok(SocketAddr::new(ip.to_canonical(), addr.port))
}

fn unix_time(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| "it is no Unix time in seconds".to_owned())
}

fn seconds(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "it is no number of seconds from 0 to 65535".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use k8s_openapi::api::core::v1 as core;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::Granularity;

    const KEY: &str = "9V/xb2b0M2Ama5Xbb4/sAddgMQVDBq5KSzgFmPbP0RQ=";

    fn object(annotations: &[(&str, &str)]) -> core::Node {
        let annotations: BTreeMap<&str, &str> = annotations.iter().copied().collect();
        serde_json::from_value(json!({
            "metadata": {"name": "n", "annotations": annotations, "labels": {kilo::REGION_LABEL: "gcp"}},
            "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd01::/64"]},
        }))
        .unwrap()
    }

    fn read(annotations: &[(&str, &str)]) -> Node {
        let (node, refusals) = from_kubernetes(&object(annotations), kilo::REGION_LABEL);
        assert_eq!(refusals, []);
        node
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn all_annotations_are_read() {
        let discovered = format!(r#"{{"{KEY}":{{"IP":"198.51.100.7","Port":9999,"Zone":""}}}}"#);
        let node = read(&[
            (kilo::ENDPOINT, "203.0.113.1:51820"),
            (kilo::INTERNAL_IP, "172.16.0.1/24"),
            (kilo::KEY, KEY),
            (kilo::LAST_SEEN, "1780000000"),
            (kilo::LEADER, ""),
            (kilo::PERSISTENT_KEEPALIVE, "25"),
            (kilo::WIREGUARD_IP, "10.4.0.1/16"),
            (kilo::DISCOVERED_ENDPOINTS, &discovered),
            (kilo::ALLOWED_LOCATION_IPS, "192.168.9.0/24, 192.168.8.7"),
            (kilo::GRANULARITY, "full"),
            (kilo::CNI_COMPATIBILITY_IP, "10.1.0.1/24"),
            (tombolo::UNREACHABLE, "a, b,,"),
            (tombolo::SILENT_NETWORKS, "10.9.0.0/24,fd09::/64"),
            (tombolo::WIREGUARD_IPS, "10.4.0.1/16,fd04::1/64"),
        ]);
        let expected = Node {
            name: "n".to_owned(),
            endpoint: Some("203.0.113.1:51820".parse().unwrap()),
            key: Some(KEY.parse().unwrap()),
            no_internal_ip: false,
            internal_ips: nets(&["172.16.0.1/24"]),
            last_seen: 1_780_000_000,
            leader: true,
            location: "gcp".to_owned(),
            persistent_keepalive: 25,
            subnets: nets(&["10.1.0.0/24", "fd01::/64"]),
            wireguard_ips: nets(&["10.4.0.1/16", "fd04::1/64"]),
            discovered_endpoints: [(KEY.parse().unwrap(), "198.51.100.7:9999".parse().unwrap())].into(),
            allowed_location_ips: nets(&["192.168.9.0/24", "192.168.8.7/32"]),
            granularity: Some(Granularity::Full),
            unreachable: ["a".to_owned(), "b".to_owned()].into(),
            silent_networks: nets(&["10.9.0.0/24", "fd09::/64"]).into_iter().collect(),
            cni_compatibility_ip: Some("10.1.0.1/24".parse().unwrap()),
        };
        assert_eq!(node, expected);
    }

    #[test]
    fn ready_is_seen_within_a_minute_with_all_that_a_tunnel_needs() {
        let annotations = [(kilo::ENDPOINT, "203.0.113.1:51820"), (kilo::KEY, KEY), (kilo::LAST_SEEN, "1000")];
        let node = read(&annotations);
        for (now, ready) in [(1000, true), (1059, true), (1060, false), (940, true), (i64::MAX, false)] {
            assert_eq!(node.ready(now), ready, "{now}");
        }
        for without in 0..annotations.len() {
            let rest: Vec<_> = annotations.iter().enumerate().filter(|(i, _)| *i != without).map(|(_, a)| *a).collect();
            assert!(!read(&rest).ready(1000), "without {}", annotations[without].0);
        }
        assert!(!Node { subnets: Vec::new(), ..node }.ready(1000));
    }

    #[test]
    fn internal_addresses_can_be_forced_and_forbidden() {
        for (forced, own, all, expected) in [
            (None, Some("10.0.0.1/24"), None, &["10.0.0.1/24"][..]),
            (None, Some("10.0.0.1/24"), Some("10.0.0.1/24,fd00::1/64"), &["10.0.0.1/24", "fd00::1/64"]),
            (None, Some(""), Some("fd00::1/64"), &["fd00::1/64"]),
            (Some("10.9.0.1/24"), Some("10.0.0.1/24"), Some("10.0.0.1/24,fd00::1/64"), &["10.9.0.1/24", "fd00::1/64"]),
            (Some("-"), Some("10.0.0.1/24"), Some("fd00::1/64"), &[]),
            (Some(""), Some("10.0.0.1/24"), None, &[]),
        ] {
            let given = [(kilo::FORCE_INTERNAL_IP, forced), (kilo::INTERNAL_IP, own), (tombolo::INTERNAL_IPS, all)];
            let annotations: Vec<_> = given.iter().filter_map(|(name, text)| Some((*name, (*text)?))).collect();
            let node = read(&annotations);
            assert_eq!(node.internal_ips, nets(expected), "{given:?}");
            assert_eq!(node.no_internal_ip, matches!(forced, Some("" | "-")), "{given:?}");
        }
    }

    #[test]
    fn a_forced_endpoint_and_an_annotated_location_go_first() {
        let node = read(&[
            (kilo::FORCE_ENDPOINT, "vpn.example.com:1"),
            (kilo::ENDPOINT, "203.0.113.1:51820"),
            (kilo::LOCATION, ""),
        ]);
        assert_eq!(node.endpoint.unwrap().to_string(), "vpn.example.com:1");
        assert_eq!(node.location, "");
    }

    #[test]
    fn what_does_not_parse_is_refused_for_itself_and_said() {
        for (annotation, text) in [
            (kilo::FORCE_ENDPOINT, "203.0.113.1"),
            (kilo::ENDPOINT, "2001:db8::1:51820"),
            (kilo::FORCE_INTERNAL_IP, "10.0.0.1"),
            (kilo::INTERNAL_IP, "none"),
            (kilo::KEY, "AAAA"),
            (kilo::LAST_SEEN, "yesterday"),
            (kilo::PERSISTENT_KEEPALIVE, "-1"),
            (kilo::PERSISTENT_KEEPALIVE, "70000"),
            (kilo::WIREGUARD_IP, "10.4.0.1/99"),
            (kilo::DISCOVERED_ENDPOINTS, "[]"),
            (kilo::GRANULARITY, "cross"),
            (kilo::CNI_COMPATIBILITY_IP, "x"),
            (tombolo::INTERNAL_IPS, "x"),
            (tombolo::WIREGUARD_IPS, "x"),
        ] {
            let (node, refusals) = from_kubernetes(&object(&[(annotation, text)]), kilo::REGION_LABEL);
            assert_eq!(node, read(&[]), "{annotation}");
            let said: Vec<_> =
                refusals.iter().map(|r| (r.object.as_str(), r.field.as_str(), r.value.as_str())).collect();
            assert_eq!(said, [("Node/n", annotation, text)]);
        }
    }

    #[test]
    fn one_wrong_part_of_a_list_leaves_the_others() {
        let discovered = format!(
            r#"{{"{KEY}":{{"IP":"198.51.100.7","Port":9999}},"x":{{"IP":"1.2.3.4","Port":1}},
               "i1zE337sfTKngU7KSvBHrjOy1SNCZncVaC4ZwlsLn6o=":null}}"#
        );
        let annotations =
            [(kilo::ALLOWED_LOCATION_IPS, "192.168.9.0/24,oops"), (kilo::DISCOVERED_ENDPOINTS, &discovered)];
        let (node, refusals) = from_kubernetes(&object(&annotations), kilo::REGION_LABEL);
        assert_eq!(node.allowed_location_ips.len(), 1);
        assert_eq!(node.discovered_endpoints.len(), 1);
        assert_eq!(refusals.len(), 3, "{refusals:?}");
    }

    fn annotation() -> impl Strategy<Value = (String, String)> {
        let names = prop::sample::select(vec![
            kilo::FORCE_ENDPOINT,
            kilo::ENDPOINT,
            kilo::FORCE_INTERNAL_IP,
            kilo::INTERNAL_IP,
            kilo::KEY,
            kilo::LAST_SEEN,
            kilo::PERSISTENT_KEEPALIVE,
            kilo::WIREGUARD_IP,
            kilo::DISCOVERED_ENDPOINTS,
            kilo::ALLOWED_LOCATION_IPS,
            kilo::GRANULARITY,
            kilo::CNI_COMPATIBILITY_IP,
            tombolo::INTERNAL_IPS,
            tombolo::WIREGUARD_IPS,
            tombolo::UNREACHABLE,
            tombolo::SILENT_NETWORKS,
        ]);
        let texts = r#".{0,60}|[0-9a-f:./,\[\]-]{0,40}|[A-Za-z0-9+/=]{0,48}|[{}\[\]":,0-9IPort]{0,60}"#;
        (names.prop_map(str::to_owned), texts)
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(
            annotations in prop::collection::btree_map(annotation(), Just(()), 0..15),
            cidrs in prop::collection::vec(".{0,30}|[0-9a-f:./]{0,20}", 0..3),
        ) {
            let mut node = object(&[]);
            node.metadata.annotations = Some(annotations.into_keys().collect());
            node.spec.get_or_insert_default().pod_cidrs = Some(cidrs);
            let (read, _) = from_kubernetes(&node, kilo::REGION_LABEL);
            let _ = read.ready(0);
        }
    }
}
