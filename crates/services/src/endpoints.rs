//! What a Service of another cluster has as endpoints here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use tombolo_api::tombolo::MIRROR_ENDPOINTS;
use tombolo_proxy::{Family, Refused, ServiceKey};

use crate::model::{Endpoint, Kind, Service, Slice, SlicePort};

/// What stands for the endpoints of a remote Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum EndpointMode {
    /// Its pods, where they are routable from here.
    #[default]
    Pods,
    /// Its ClusterIP, behind which its own cluster chooses a pod. Headless Services have none: their pods stand.
    ClusterIp,
}

impl EndpointMode {
    /// Reads `pods` or `cluster-ip`, as in `--mirror-endpoints` and in the annotation of that name.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "pods" => Some(Self::Pods),
            "cluster-ip" => Some(Self::ClusterIp),
            _ => None,
        }
    }
}

/// This cluster, as far as what comes from others must fit it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Here {
    /// The families that Services can have here, the first one first.
    pub families: Vec<Family>,
    /// The addresses of this cluster's pods, Services and nodes. No other cluster's endpoint is in them: packets to it
    /// would go to whoever has that address here.
    pub cidrs: Vec<IpNet>,
}

/// The endpoints of a Service of another cluster, by the name of the slice that they come from.
pub(crate) fn remote(
    key: &ServiceKey,
    source: &str,
    service: &Service,
    slices: &BTreeMap<String, Slice>,
    mode: EndpointMode,
    here: &Here,
    refused: &mut Vec<Refused>,
) -> BTreeMap<String, Slice> {
    let mut taken = match effective_mode(key, source, service, mode, refused) {
        EndpointMode::Pods => slices.clone(),
        EndpointMode::ClusterIp => cluster_ips(service, slices),
    };
    let mut overlapping: Option<(IpAddr, IpNet)> = None;
    for slice in taken.values_mut() {
        slice.endpoints.retain_mut(|endpoint| {
            let own = here.cidrs.iter().find(|cidr| cidr.contains(&endpoint.address));
            overlapping = overlapping.or(own.map(|cidr| (endpoint.address, *cidr)));
            // A node of the same name here is another one.
            endpoint.node_name = None;
            own.is_none()
        });
    }
    if let Some((address, cidr)) = overlapping {
        let reason = format!(
            "{address} is an address of this cluster too ({cidr}), and such endpoints are left out; give the clusters \
             CIDRs that do not overlap, or mirror the ClusterIP"
        );
        refused.push(refusal(key, source, "endpoints.addresses", reason));
    }
    taken
}

/// The families of a Service; where it does not say, as an API server's always does, those of its endpoints.
pub(crate) fn families(service: &Service, slices: &BTreeMap<String, Slice>) -> Vec<Family> {
    if !service.families.is_empty() {
        return service.families.clone();
    }
    let has = |family: &Family| slices.values().any(|slice| slice.family == *family && !slice.endpoints.is_empty());
    let found: Vec<Family> = Family::ALL.into_iter().filter(has).collect();
    if found.is_empty() { vec![Family::V4] } else { found }
}

/// A refusal of a part of a remote Service.
pub(crate) fn refusal(key: &ServiceKey, source: &str, field: &str, reason: String) -> Refused {
    Refused { object: format!("Service {key} of {source}"), field: field.to_owned(), reason }
}

/// Why a slice is kept here. One Service can be mirrored and imported from the same cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Mirror,
    Import,
}

/// `SERVICE-SOURCE-HASH`, the name of a slice here: the same again and again, and no other's.
pub(crate) fn slice_name(purpose: Purpose, key: &ServiceKey, source: &str, slice: &str) -> String {
    let purpose = match purpose {
        Purpose::Mirror => "mirror",
        Purpose::Import => "import",
    };
    // A name that a person gave to a source may have what no object's name can have; the hash is of it as it is.
    let label: String = source.chars().filter(|c| c.is_ascii_alphanumeric()).take(32).collect();
    let hash = short_hash(&[purpose, &key.namespace, &key.name, source, slice]);
    let label = if label.is_empty() { label } else { format!("{}-", label.to_ascii_lowercase()) };
    format!("{}-{label}{hash}", key.name)
}

/// Ten hexadecimal digits of texts.
pub(crate) fn short_hash(texts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().iter().take(5).fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn effective_mode(
    key: &ServiceKey,
    source: &str,
    service: &Service,
    mode: EndpointMode,
    refused: &mut Vec<Refused>,
) -> EndpointMode {
    let mut mode = mode;
    if let Some(text) = service.annotations.get(MIRROR_ENDPOINTS) {
        match EndpointMode::parse(text.trim()) {
            Some(asked) => mode = asked,
            None => {
                let text: String = text.chars().take(80).collect();
                let reason = format!("{text:?} is neither pods nor cluster-ip, and counts as not given");
                refused.push(refusal(key, source, MIRROR_ENDPOINTS, reason));
            }
        }
    }
    if service.kind == Kind::Headless { EndpointMode::Pods } else { mode }
}

/// One slice a family: ready as long as an endpoint behind it is.
fn cluster_ips(service: &Service, slices: &BTreeMap<String, Slice>) -> BTreeMap<String, Slice> {
    let ports: Vec<SlicePort> = service
        .ports
        .iter()
        .map(|port| SlicePort {
            name: port.name.clone(),
            protocol: port.protocol,
            port: Some(port.port),
            app_protocol: port.app_protocol.clone(),
        })
        .collect();
    let of_family = |address: &IpAddr| {
        let family = Family::of(*address);
        let behind = || slices.values().filter(move |s| s.family == family).flat_map(|s| &s.endpoints);
        let endpoint = Endpoint {
            ready: behind().any(|endpoint| endpoint.ready),
            serving: behind().any(|endpoint| endpoint.serving),
            ..Endpoint::ready(*address)
        };
        (address.to_string(), Slice { family, ports: ports.clone(), endpoints: vec![endpoint] })
    };
    service.cluster_ips.iter().map(of_family).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_slice_is_one_that_an_object_can_have_and_no_other_s() {
        let key = ServiceKey::new("shop", "web");
        let name = slice_name(Purpose::Mirror, &key, "East_1 ä", "web-x");
        assert!(name.starts_with("web-east1-") && name.len() == "web-east1-".len() + 10, "{name}");
        assert!(slice_name(Purpose::Mirror, &key, "ä", "web-x").starts_with("web-"));
        let others = [
            slice_name(Purpose::Import, &key, "East_1 ä", "web-x"),
            slice_name(Purpose::Mirror, &key, "East1", "web-x"),
            slice_name(Purpose::Mirror, &key, "East_1 ä", "web-y"),
            slice_name(Purpose::Mirror, &ServiceKey::new("other", "web"), "East_1 ä", "web-x"),
        ];
        assert!(!others.contains(&name));
        assert_eq!(slice_name(Purpose::Mirror, &key, "East_1 ä", "web-x"), name);
    }
}
