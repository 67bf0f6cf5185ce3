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
