//! From the Kubernetes objects to the proxy's own vocabulary.
//!
//! A value that can't be used is refused for itself: the rest of the object goes on.

mod import;
mod service;
mod slice;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use tombolo_api::tombolo::{CLUSTER_PREFERENCE, CLUSTER_WEIGHTS};

pub use self::import::{import_key, service_import};
pub use self::service::{service, service_key};
pub use self::slice::endpoint_slice;
use crate::model::{ClusterChoice, Protocol, Refused, TrafficPolicy};

/// The label by which a Service is left to another proxy.
pub const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// The label of Services, and of their slices, that no proxy serves.
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// The label that names a slice's Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The default of `sessionAffinityConfig.clientIP.timeoutSeconds`.
const AFFINITY_TIMEOUT: u32 = 10_800;
/// The highest weight of a cluster.
const MAX_WEIGHT: u32 = 1000;

/// A converted object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted<T> {
    /// The object; none where it is not for the proxy: headless, ExternalName, or left to another.
    pub value: Option<T>,
    /// The parts that were left out.
    pub refused: Vec<Refused>,
}

struct Refusals {
    object: String,
    refused: Vec<Refused>,
}

impl Refusals {
    fn new(object: String) -> Self {
        Self { object, refused: Vec::new() }
    }

    fn add(&mut self, field: &str, reason: impl Into<String>) {
        self.refused.push(Refused { object: self.object.clone(), field: field.to_owned(), reason: reason.into() });
    }

    /// The value, or none and a refusal.
    fn take<T>(&mut self, field: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|reason| self.add(field, reason)).ok()
    }
}

fn session_affinity(
    affinity: Option<&str>,
    config: Option<&core::SessionAffinityConfig>,
    refusals: &mut Refusals,
) -> Option<u32> {
    if affinity != Some("ClientIP") {
        return None;
    }
    let seconds = config.and_then(|config| config.client_ip.as_ref()).and_then(|client_ip| client_ip.timeout_seconds);
    let Some(seconds) = seconds else {
        return Some(AFFINITY_TIMEOUT);
    };
    match u32::try_from(seconds) {
        Ok(seconds @ 1..=86_400) => Some(seconds),
        _ => {
            refusals.add(
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
                format!("{seconds} is not between 1 and 86400; {AFFINITY_TIMEOUT} is used"),
            );
            Some(AFFINITY_TIMEOUT)
        }
    }
}

fn policy(field: &str, policy: Option<&str>, refusals: &mut Refusals) -> TrafficPolicy {
    match policy {
        None | Some("Cluster") => TrafficPolicy::Cluster,
        Some("Local") => TrafficPolicy::Local,
        Some(other) => {
            refusals.add(field, format!("{other:?} is neither Cluster nor Local; Cluster is used"));
            TrafficPolicy::Cluster
        }
    }
}

/// The choice among clusters that the annotations ask for; one that can't be read counts as not written.
fn cluster_choice(annotations: Option<&BTreeMap<String, String>>, refusals: &mut Refusals) -> Option<ClusterChoice> {
    let text = |name: &str| annotations.and_then(|annotations| annotations.get(name)).map(|text| text.trim());
    let prefers_local = text(CLUSTER_PREFERENCE).map(|text| match text {
        "any" => Ok(false),
        "local" => Ok(true),
        other => Err(format!("{other:?} is neither any nor local; any is used")),
    });
    let weights = text(CLUSTER_WEIGHTS).map(|text| {
        weights(text)
            .map_err(|reason| format!("{reason}; write CLUSTER=WEIGHT,… as in west=3,east=1; no weights are used"))
    });
    let field = |name: &str| format!("metadata.annotations[{name}]");
    let (preference_field, weights_field) = (field(CLUSTER_PREFERENCE), field(CLUSTER_WEIGHTS));
    let choice = ClusterChoice {
        prefers_local: prefers_local.and_then(|value| refusals.take(&preference_field, value)).unwrap_or_default(),
        weights: weights.and_then(|value| refusals.take(&weights_field, value)).unwrap_or_default(),
    };
    (choice != ClusterChoice::default()).then_some(choice)
}

fn weights(text: &str) -> Result<BTreeMap<String, u32>, String> {
    let mut weights = BTreeMap::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (cluster, weight) = part.split_once('=').ok_or_else(|| format!("{part:?} has no \"=\""))?;
        let (cluster, weight) = (cluster.trim(), weight.trim());
        let is_weight = weight.bytes().all(|b| b.is_ascii_digit());
        let weight: Option<u32> = weight.parse().ok().filter(|weight| is_weight && *weight <= MAX_WEIGHT);
        let weight = weight.ok_or_else(|| format!("the weight in {part:?} is no number from 0 to {MAX_WEIGHT}"))?;
        if cluster.is_empty() || weights.insert(cluster.to_owned(), weight).is_some() {
            return Err(format!("the cluster in {part:?} is missing or stands twice"));
        }
    }
    Ok(weights)
}

fn addresses(field: &str, texts: &[String], refusals: &mut Refusals) -> Vec<IpAddr> {
    texts.iter().filter_map(|text| refusals.take(field, address(text))).collect()
}

/// An address that packets can be sent on to: what a Service or an endpoint may not have, such as
/// this machine's loopback, would turn a Service into a way around the node's own firewall.
fn address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is not an IP address"))?;
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_link_local {
        return Err(format!("{address} is not an address of one host elsewhere"));
    }
    Ok(address)
}

fn of_type(address: IpAddr, address_type: &str) -> Result<IpAddr, String> {
    if address.is_ipv4() == (address_type == "IPv4") {
        return Ok(address);
    }
    Err(format!("{address} is not of type {address_type}"))
}

fn port_number(number: i32) -> Result<u16, String> {
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or_else(|| format!("{number} is not between 1 and 65535"))
}

fn protocol(protocol: Option<&str>) -> Result<Protocol, String> {
    match protocol {
        None | Some("TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        Some(other) => Err(format!("{other:?} is none of TCP, UDP, SCTP")),
    }
}
