//! What a request changes on a device: pure.
//!
//! The rules are the kernel's: an allowed IP belongs to one peer, the one that claimed it last; a peer with the
//! device's own public key is no peer; `replace_peers` and `replace_allowed_ips` first take everything away. But a
//! peer that is there before and after a request is changed, not made anew, so that its session goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ipnet::IpNet;
use tombolo_net::wireguard::Key;

use crate::keys;
use crate::uapi::{AllowedIp, Set};

/// The configuration of a device. Endpoints are not in it: peers roam.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Model {
    pub(super) private_key: Option<Key>,
    pub(super) peers: BTreeMap<Key, PeerModel>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PeerModel {
    pub(super) preshared_key: Option<Key>,
    pub(super) persistent_keepalive: Option<u16>,
    pub(super) allowed_ips: BTreeSet<IpNet>,
}

/// One step on a device's peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Remove(Key),
    Add(Key, PeerModel, Option<SocketAddr>),
    Modify(Key, Patch),
}

/// What of a peer differs; `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Patch {
    pub(super) preshared_key: Option<Option<Key>>,
    pub(super) persistent_keepalive: Option<Option<u16>>,
    pub(super) endpoint: Option<SocketAddr>,
    pub(super) allowed_ips: Option<BTreeSet<IpNet>>,
}

impl Model {
    /// The device after the request, and the steps on its peers that lead there.
    pub(super) fn plan(&self, set: &Set) -> (Self, Vec<Step>) {
        let mut after = self.clone();
        let mut endpoints = BTreeMap::new();
        let mut removed = BTreeSet::new();
        if let Some(key) = set.private_key {
            after.private_key = (!key.is_zero()).then_some(key);
        }
        let own = after.private_key.as_ref().map(keys::public);
        if set.replace_peers {
            after.peers.clear();
        }
        for change in &set.peers {
            let key = change.public_key;
            if change.remove {
                after.peers.remove(&key);
                endpoints.remove(&key);
                removed.insert(key);
                continue;
            }
            if Some(key) == own || (change.update_only && !after.peers.contains_key(&key)) {
                continue;
            }
            if change.replace_allowed_ips {
                after.peers.entry(key).or_default().allowed_ips.clear();
            }
            for ip in &change.allowed_ips {
                after.take(ip, key);
            }
            let peer = after.peers.entry(key).or_default();
            if let Some(preshared) = change.preshared_key {
                peer.preshared_key = (!preshared.is_zero()).then_some(preshared);
            }
            if let Some(seconds) = change.persistent_keepalive {
                peer.persistent_keepalive = (seconds != 0).then_some(seconds);
            }
            if let Some(endpoint) = change.endpoint {
                endpoints.insert(key, endpoint);
            }
        }
        if let Some(own) = own {
            after.peers.remove(&own);
        }
        let steps = self.steps(&after, &endpoints, &removed);
        (after, steps)
    }

    fn take(&mut self, ip: &AllowedIp, key: Key) {
        match ip {
            AllowedIp::Add(net) => {
                for peer in self.peers.values_mut() {
                    peer.allowed_ips.remove(net);
                }
                self.peers.entry(key).or_default().allowed_ips.insert(*net);
            }
            AllowedIp::Remove(net) => {
                self.peers.entry(key).or_default().allowed_ips.remove(net);
            }
        }
    }

    fn steps(&self, after: &Self, endpoints: &BTreeMap<Key, SocketAddr>, removed: &BTreeSet<Key>) -> Vec<Step> {
        let stays = |key: &Key| after.peers.contains_key(key) && !removed.contains(key);
        let mut steps: Vec<Step> = self.peers.keys().filter(|key| !stays(key)).copied().map(Step::Remove).collect();
        for (key, new) in &after.peers {
            let endpoint = endpoints.get(key).copied();
            match self.peers.get(key).filter(|_| stays(key)) {
                None => steps.push(Step::Add(*key, new.clone(), endpoint)),
                Some(old) => {
                    let patch = Patch {
                        preshared_key: (old.preshared_key != new.preshared_key).then_some(new.preshared_key),
                        persistent_keepalive: (old.persistent_keepalive != new.persistent_keepalive)
                            .then_some(new.persistent_keepalive),
                        endpoint,
                        allowed_ips: (old.allowed_ips != new.allowed_ips).then(|| new.allowed_ips.clone()),
                    };
                    if patch != Patch::default() {
                        steps.push(Step::Modify(*key, patch));
                    }
                }
            }
        }
        steps
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
