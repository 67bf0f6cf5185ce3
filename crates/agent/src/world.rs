//! What the API server says of the cluster, as values of the mesh.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use tombolo_api::kilo;
use tombolo_mesh::{Node, Peer, Refusal, node, peer};

use crate::events::Subject;

/// The label that names a node's zone.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// An object that came, changed or went.
#[derive(Debug)]
pub enum Change {
    /// A Node is as given.
    Node(Box<core::Node>),
    /// The Node with this name is gone.
    NodeGone(String),
    /// A Peer is as given.
    Peer(Box<kilo::Peer>),
    /// The Peer with this name is gone.
    PeerGone(String),
    /// These are all Nodes: others are gone.
    AllNodes(Vec<core::Node>),
    /// These are all Peers: others are gone.
    AllPeers(Vec<kilo::Peer>),
    /// Something cannot be watched, for this reason.
    Trouble(String),
}

/// The cluster as it is known.
#[derive(Debug, Default)]
pub struct World {
    hostname: String,
    topology_label: String,
    /// The annotations of this node's Node object, as the API server has them.
    pub own_annotations: BTreeMap<String, String>,
    /// By name.
    pub nodes: BTreeMap<String, Node>,
    /// By name.
    pub peers: BTreeMap<String, Peer>,
    /// What could not be read, by object.
    refused: BTreeMap<String, Vec<Refusal>>,
    uids: BTreeMap<String, String>,
    generations: BTreeMap<String, i64>,
    /// Whether all Nodes and all Peers were seen.
    synced: (bool, bool),
    trouble: Option<String>,
    /// The addresses that this node's kubelet gives it (`InternalIP`).
    pub kubelet_addresses: Vec<IpAddr>,
    /// The zone that this node is in (label `topology.kubernetes.io/zone`).
    pub zone: Option<String>,
}

impl World {
    /// Nothing is known yet. `hostname` is this node, `topology_label` tells a node's location.
    pub fn new(hostname: &str, topology_label: &str) -> Self {
        Self { hostname: hostname.to_owned(), topology_label: topology_label.to_owned(), ..Self::default() }
    }

    /// Takes a change in. Returns whether anything is different for it.
    pub fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Trouble(words) => self.trouble.replace(words) != self.trouble,
            Change::Node(object) => self.put_node(&object),
            Change::NodeGone(name) => {
                self.forget(&format!("Node/{name}"));
                self.nodes.remove(&name).is_some()
            }
            Change::Peer(object) => self.put_peer(&object),
            Change::PeerGone(name) => {
                self.forget(&format!("Peer/{name}"));
                self.peers.remove(&name).is_some()
            }
            Change::AllNodes(objects) => {
                let mut different = !std::mem::replace(&mut self.synced.0, true);
                let present: Vec<&str> = objects.iter().filter_map(|o| o.metadata.name.as_deref()).collect();
                let gone: Vec<String> = self.nodes.keys().filter(|n| !present.contains(&n.as_str())).cloned().collect();
                for name in gone {
                    different |= self.apply(Change::NodeGone(name));
                }
                objects.iter().fold(different, |different, object| self.put_node(object) || different)
            }
            Change::AllPeers(objects) => {
                let mut different = !std::mem::replace(&mut self.synced.1, true);
                let present: Vec<&str> = objects.iter().filter_map(|o| o.metadata.name.as_deref()).collect();
                let known = self
                    .refused
                    .keys()
                    .filter_map(|k| k.strip_prefix("Peer/"))
                    .chain(self.peers.keys().map(String::as_str));
                let gone: Vec<String> = known.filter(|n| !present.contains(n)).map(str::to_owned).collect();
                for name in gone {
                    different |= self.apply(Change::PeerGone(name));
                }
                objects.iter().fold(different, |different, object| self.put_peer(object) || different)
            }
        }
    }

    /// Whether all Nodes and all Peers were seen once: before, what is missing must not be taken for gone.
    pub fn synced(&self) -> bool {
        self.synced.0 && self.synced.1
    }

    /// Why something cannot be watched, if that was so.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// What could not be read.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.refused.values().flatten()
    }

    /// The objects, for what is to be said of them.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = Subject> {
        self.uids.iter().map(|(object, uid)| Subject {
            object: object.clone(),
            uid: Some(uid.clone()),
            generation: self.generations.get(object).copied(),
        })
    }

    fn put_node(&mut self, object: &core::Node) -> bool {
        let (node, refusals) = node::from_kubernetes(object, &self.topology_label);
        let mut different = self.note(format!("Node/{}", node.name), &object.metadata, refusals);
        if node.name == self.hostname {
            self.own_annotations = object.metadata.annotations.clone().unwrap_or_default();
            self.kubelet_addresses = kubelet_addresses(object);
            let zone = object.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE_LABEL)).cloned();
            different |= std::mem::replace(&mut self.zone, zone.clone()) != zone;
        }
        let before = self.nodes.insert(node.name.clone(), node.clone());
        different |= before.is_none_or(|before| !only_checked_in(&before, &node));
        different
    }

    fn put_peer(&mut self, object: &kilo::Peer) -> bool {
        let Some(name) = object.metadata.name.clone() else { return false };
        let (peer, refusals) = match peer::from_kubernetes(object) {
            Ok((peer, refusals)) => (Some(peer), refusals),
            Err(refusal) => (None, vec![refusal]),
        };
        let different = self.note(format!("Peer/{name}"), &object.metadata, refusals);
        let before = match peer.clone() {
            Some(peer) => self.peers.insert(name, peer),
            None => self.peers.remove(&name),
        };
        before != peer || different
    }

    fn note(
        &mut self,
        object: String,
        metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
        refusals: Vec<Refusal>,
    ) -> bool {
        if let Some(uid) = &metadata.uid {
            self.uids.insert(object.clone(), uid.clone());
        }
        if let Some(generation) = metadata.generation {
            self.generations.insert(object.clone(), generation);
        }
        if refusals.is_empty() {
            return self.refused.remove(&object).is_some();
        }
        let before = self.refused.insert(object, refusals.clone());
        before.as_ref() != Some(&refusals)
    }

    fn forget(&mut self, object: &str) {
        self.refused.remove(object);
        self.uids.remove(object);
        self.generations.remove(object);
    }
}

fn kubelet_addresses(object: &core::Node) -> Vec<IpAddr> {
    let addresses = object.status.iter().flat_map(|status| status.addresses.iter().flatten());
    addresses.filter(|a| a.type_ == "InternalIP").filter_map(|a| a.address.parse().ok()).collect()
}

/// A check-in alone changes nothing, as long as the node stays as ready as it was.
fn only_checked_in(before: &Node, after: &Node) -> bool {
    let later = after.last_seen.saturating_sub(before.last_seen);
    (0..node::READY_WITHIN).contains(&later) && Node { last_seen: after.last_seen, ..before.clone() } == *after
}
