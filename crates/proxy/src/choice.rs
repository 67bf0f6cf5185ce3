//! Which endpoints of a service port are used from this node, and with which share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::model::{ClusterChoice, Endpoint, Node};

/// The shares of a service port's endpoints add up to no more than this.
const TOTAL: u64 = 65_535;

/// The endpoints that are used, each with its share of the connections.
pub(crate) type Choices = BTreeMap<SocketAddr, u32>;

/// The endpoints for policy `Cluster`.
///
/// The ready ones; while there are none, those that still serve although they are going away. Of these those that are
/// not in silent networks, if there are such; the first in the order of `clusters`; and of the ready ones those that
/// hints give to this node or its zone.
pub(crate) fn anywhere(endpoints: &[&Endpoint], node: &Node, clusters: Option<&ClusterChoice>) -> Choices {
    let ready = those(endpoints, |endpoint| endpoint.ready);
    if !ready.is_empty() {
        return shares(&hinted(&first_tier(answering(ready, node), node, clusters), node), clusters, node);
    }
    let last_resort = answering(those(endpoints, is_last_resort), node);
    shares(&first_tier(last_resort, node, clusters), clusters, node)
}

/// The endpoints for policy `Local`, of those on this node.
pub(crate) fn here(endpoints: &[&Endpoint]) -> Choices {
    let ready = those(endpoints, |endpoint| endpoint.ready);
    let used = if ready.is_empty() { those(endpoints, is_last_resort) } else { ready };
    used.iter().map(|endpoint| (endpoint.socket(), 1)).collect()
}

/// Whether all have the same share.
pub(crate) fn is_even(choices: &Choices) -> bool {
    choices.values().all(|share| *share == 1)
}

fn those<'a>(endpoints: &[&'a Endpoint], choice: impl Fn(&Endpoint) -> bool) -> Vec<&'a Endpoint> {
    endpoints.iter().copied().filter(|endpoint| choice(endpoint)).collect()
}

fn is_last_resort(endpoint: &Endpoint) -> bool {
    endpoint.serving && endpoint.terminating
}

/// Those outside silent networks; all where all are silent, since whoever asked may be wrong.
pub(crate) fn answering<'a>(endpoints: Vec<&'a Endpoint>, node: &Node) -> Vec<&'a Endpoint> {
    let is_silent = |endpoint: &Endpoint| node.silent_networks.iter().any(|net| net.contains(&endpoint.address));
    let answering = those(&endpoints, |endpoint| !is_silent(endpoint));
    if answering.is_empty() { endpoints } else { answering }
}

/// Local endpoints before others where that is asked for, clusters of weight 0 last.
fn first_tier<'a>(endpoints: Vec<&'a Endpoint>, node: &Node, clusters: Option<&ClusterChoice>) -> Vec<&'a Endpoint> {
    let Some(clusters) = clusters else { return endpoints };
    let tier = |endpoint: &Endpoint| {
        let is_last = clusters.weight(endpoint.cluster_of(node)) == 0;
        let is_second = clusters.prefers_local && endpoint.is_elsewhere(node);
        (is_last, is_second)
    };
    let first = endpoints.iter().map(|endpoint| tier(endpoint)).min();
    those(&endpoints, |endpoint| Some(tier(endpoint)) == first)
}

/// Those that hints give to this node, else to its zone; all where a hint is missing or none is for here, since hints
/// that are half-written would put all load on a few.
fn hinted<'a>(ready: &[&'a Endpoint], node: &Node) -> Vec<&'a Endpoint> {
    // A node of another cluster may have the name of this one.
    let for_here = |endpoint: &Endpoint| !endpoint.is_elsewhere(node) && endpoint.for_nodes.contains(&node.name);
    let all_have_nodes = ready.iter().all(|e| !e.for_nodes.is_empty() && !e.is_elsewhere(node));
    if all_have_nodes && ready.iter().any(|endpoint| for_here(endpoint)) {
        return those(ready, for_here);
    }
    if let Some(zone) = &node.zone
        && ready.iter().all(|endpoint| !endpoint.for_zones.is_empty())
        && ready.iter().any(|endpoint| endpoint.for_zones.contains(zone))
    {
        return those(ready, |endpoint| endpoint.for_zones.contains(zone));
    }
    ready.to_vec()
}

/// Each cluster's weight is shared by its endpoints.
fn shares(endpoints: &[&Endpoint], clusters: Option<&ClusterChoice>, node: &Node) -> Choices {
    let Some(clusters) = clusters.filter(|clusters| !clusters.weights.is_empty()) else {
        return endpoints.iter().map(|endpoint| (endpoint.socket(), 1)).collect();
    };
    // Where two clusters have the same address, it is this one's, else the first's by id.
    let mut cluster_of: BTreeMap<SocketAddr, Option<&str>> = BTreeMap::new();
    for endpoint in endpoints {
        let cluster = endpoint.cluster_of(node);
        let known = cluster_of.entry(endpoint.socket()).or_insert(cluster);
        let rank = |cluster: Option<&str>| (cluster != own_id(node), cluster.map(ToOwned::to_owned));
        if rank(cluster) < rank(*known) {
            *known = cluster;
        }
    }
    let mut members: BTreeMap<Option<&str>, u64> = BTreeMap::new();
    cluster_of.values().for_each(|cluster| *members.entry(*cluster).or_default() += 1);
    let weights: BTreeMap<Option<&str>, u64> =
        members.keys().map(|cluster| (*cluster, u64::from(clusters.weight(*cluster).max(1)))).collect();
    let distinct: BTreeSet<u64> = members.values().copied().collect();
    let common = distinct.into_iter().try_fold(1, |a, b| lcm(a, b).filter(|lcm| *lcm <= TOTAL));
    let total: u64 = weights.values().sum();
    let exact = common.filter(|common| common.saturating_mul(total) <= TOTAL);
    let share = |cluster: Option<&str>| {
        let (weight, count) = (weights[&cluster], members[&cluster]);
        match exact {
            Some(common) => weight * (common / count),
            None => (weight * TOTAL / total / count).max(1),
        }
    };
    let choices: Choices =
        cluster_of.iter().map(|(socket, cluster)| (*socket, u32::try_from(share(*cluster)).unwrap_or(1))).collect();
    reduced(choices)
}

/// Equal shares are 1 each.
fn reduced(choices: Choices) -> Choices {
    let divisor = choices.values().fold(0, |a, b| gcd(a, u64::from(*b)));
    let divisor = u32::try_from(divisor).unwrap_or(1).max(1);
    choices.into_iter().map(|(socket, share)| (socket, share / divisor)).collect()
}

fn lcm(a: u64, b: u64) -> Option<u64> {
    (a / gcd(a, b)).checked_mul(b)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn own_id(node: &Node) -> Option<&str> {
    node.cluster.as_deref()
}

impl ClusterChoice {
    /// This cluster, as long as it has no id, has the weight of those that are not named.
    fn weight(&self, cluster: Option<&str>) -> u32 {
        cluster.and_then(|cluster| self.weights.get(cluster)).copied().unwrap_or(1)
    }
}

impl Endpoint {
    /// Address and port.
    pub(crate) fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// The id of its cluster; none is this one without an id.
    fn cluster_of<'a>(&'a self, node: &'a Node) -> Option<&'a str> {
        self.cluster.as_deref().or(own_id(node))
    }

    /// Whether it is in another cluster.
    pub(crate) fn is_elsewhere(&self, node: &Node) -> bool {
        self.cluster.is_some() && self.cluster != node.cluster
    }
}
