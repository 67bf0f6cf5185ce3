//! The allowed-location-ips of the segments, less what overlaps.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use tombolo_api::kilo::ALLOWED_LOCATION_IPS;

use super::{Segment, Usable};
use crate::{Peer, Refusal};

/// Gives each segment, in their order, its WireGuard addresses and its allowed-location-ips, and says which of those
/// were dropped.
///
/// One is dropped where it overlaps with one of another segment, where its address lies in what belongs to a segment,
/// and where it overlaps with a peer's. One that contains what belongs to a segment stays: the longer prefix goes
/// before it. The order is Kilo's, since it decides which of two that overlap stays.
pub(super) fn assign(
    segments: &mut [Segment],
    nodes: &BTreeMap<String, Vec<Usable<'_>>>,
    peers: &[Peer],
    addresses: &[Vec<IpAddr>],
) -> Vec<Refusal> {
    let mut owners: Vec<Vec<(IpNet, &str)>> = Vec::new();
    for segment in segments.iter_mut() {
        let given = annotated(nodes.get(&segment.location).map(Vec::as_slice).unwrap_or_default());
        segment.allowed_location_ips = given.iter().map(|(ip, _)| *ip).collect();
        owners.push(given);
    }
    let mut refusals = Vec::new();
    for (i, given) in owners.into_iter().enumerate() {
        segments[i].wireguard_ips.clone_from(&addresses[i]);
        segments[i].allowed_ips.extend(addresses[i].iter().map(|ip| IpNet::from(*ip)));
        let mut kept = Vec::new();
        for (ip, node) in given {
            match overlap(&ip, i, segments, peers) {
                None => kept.push(ip),
                Some(reason) => refusals.push(Refusal::node(node, ALLOWED_LOCATION_IPS, ip.to_string(), reason)),
            }
        }
        segments[i].allowed_location_ips = kept;
    }
    refusals
}

/// What the nodes of a segment are annotated with, each once with the first node that has it, sorted by text.
fn annotated<'a>(nodes: &[Usable<'a>]) -> Vec<(IpNet, &'a str)> {
    let mut by_text = BTreeMap::new();
    for usable in nodes {
        for ip in &usable.node.allowed_location_ips {
            by_text.entry(ip.to_string()).or_insert((*ip, usable.node.name.as_str()));
        }
    }
    by_text.into_values().collect()
}

fn overlap(ip: &IpNet, own: usize, segments: &[Segment], peers: &[Peer]) -> Option<String> {
    for (i, segment) in segments.iter().enumerate() {
        if i != own
            && let Some(other) = segment.allowed_location_ips.iter().find(|other| intersect(ip, other))
        {
            return Some(format!("it overlaps with {other} of {}; annotate one of them only", segment.location));
        }
        if let Some(other) = segment.allowed_ips.iter().find(|other| other.contains(&ip.addr())) {
            return Some(format!("it lies in {other}, which belongs to {}", segment.location));
        }
    }
    let claims = peers.iter().flat_map(|peer| peer.allowed_ips.iter().map(move |other| (peer, other)));
    let (peer, other) = { claims }.find(|(_, other)| intersect(ip, other))?;
    Some(format!("it overlaps with {other} of Peer {}; leave it to one of them", peer.name))
}

fn intersect(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.addr()) || b.contains(&a.addr())
}
