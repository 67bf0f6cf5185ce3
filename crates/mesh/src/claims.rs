//! Who carries which address: what the Peers ask for, against what this cluster has and what others ask for.
//!
//! A Peer's allowed IPs are a claim. One that overlaps this cluster's own pods, services or nodes is refused, since
//! granting it would cut the cluster off from itself. One that several Peers make (the peering loop gives every node of
//! a cluster its service CIDR) is granted to one of them: the one that has it while that answers, else the first by
//! name that does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use tombolo_net::wireguard::{Endpoint, Key};

use crate::node::Node;
use crate::peer::Peer;
use crate::refusal::Refusal;

/// Whether a Peer answers, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Liveness {
    /// It was not asked for long enough.
    #[default]
    Unknown,
    /// It answers.
    Alive,
    /// It does not.
    Dead,
}

/// What this cluster has, and no Peer may claim.
#[derive(Debug, Clone, Default)]
pub struct OwnNetworks {
    /// Each with what it is, in words: `the pod CIDR of node a`.
    pub networks: Vec<(IpNet, String)>,
    /// The WireGuard keys of this cluster's nodes.
    pub keys: BTreeMap<Key, String>,
}

impl OwnNetworks {
    /// What `nodes` have, with the cluster's service CIDRs and WireGuard subnets.
    pub fn new<'a>(nodes: impl IntoIterator<Item = &'a Node>, services: &[IpNet], wireguard: &[IpNet]) -> Self {
        let mut own = Self::default();
        let mut add = |net: &IpNet, what: String| own.networks.push((net.trunc(), what));
        services.iter().for_each(|net| add(net, "the service CIDR".into()));
        wireguard.iter().for_each(|net| add(net, "the subnet of the WireGuard addresses (--subnet)".into()));
        for node in nodes {
            node.subnets.iter().for_each(|net| add(net, format!("the pod CIDR of node {}", node.name)));
            let addresses =
                node.internal_ips.iter().map(IpNet::addr).chain(node.endpoint.as_ref().and_then(|e| e.ip()));
            let addresses: BTreeSet<IpAddr> = addresses.collect();
            addresses.iter().for_each(|ip| add(&IpNet::from(*ip), format!("an address of node {}", node.name)));
            if let Some(key) = node.key {
                own.keys.insert(key, node.name.clone());
            }
        }
        own
    }

    fn conflict(&self, net: &IpNet) -> Option<&str> {
        let overlaps = |own: &IpNet| own.contains(net) || net.contains(own);
        self.networks.iter().find(|(own, _)| overlaps(own)).map(|(_, what)| what.as_str())
    }
}

/// What was granted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claims {
    /// The Peers, each with the allowed IPs that it carries.
    pub peers: BTreeMap<String, Peer>,
    /// For each address that more than one Peer claims: who carries it.
    pub carriers: BTreeMap<IpNet, String>,
    /// The Peers that claim an address together with others.
    pub contenders: BTreeSet<String>,
    /// What was refused.
    pub refusals: Vec<Refusal>,
}

/// Settles the claims of `peers` (by name). `carriers` is what [`Claims::carriers`] was before.
pub fn settle(
    peers: &BTreeMap<String, Peer>,
    own: &OwnNetworks,
    liveness: impl Fn(&str) -> Liveness,
    carriers: &BTreeMap<IpNet, String>,
) -> Claims {
    let mut claims = Claims::default();
    let admitted = admit(peers, own, &mut claims.refusals);
    let mut claimants: BTreeMap<IpNet, Vec<&str>> = BTreeMap::new();
    for peer in admitted.values() {
        for net in &peer.allowed_ips {
            claimants.entry(*net).or_default().push(&peer.name);
        }
    }
    for (net, names) in claimants.iter().filter(|(_, names)| names.len() > 1) {
        claims.contenders.extend(names.iter().map(|n| (*n).to_owned()));
        claims.carriers.insert(*net, choose(names, carriers.get(net), &liveness).to_owned());
    }
    for (name, peer) in &admitted {
        let carries = |net: &IpNet| claims.carriers.get(net).is_none_or(|carrier| carrier == name);
        let allowed_ips = peer.allowed_ips.iter().filter(|net| carries(net)).copied().collect();
        claims.peers.insert(name.clone(), Peer { allowed_ips, ..peer.clone() });
    }
    claims
}

fn choose<'a>(names: &[&'a str], current: Option<&String>, liveness: impl Fn(&str) -> Liveness) -> &'a str {
    let current = current.and_then(|c| names.iter().copied().find(|n| n == c));
    let first = |wanted: Liveness| names.iter().copied().find(|n| liveness(n) == wanted);
    current
        .filter(|c| liveness(c) != Liveness::Dead)
        .or_else(|| first(Liveness::Alive))
        .or_else(|| first(Liveness::Unknown))
        .or(current)
        .unwrap_or(names[0])
}

/// The Peers that may be peers at all, with the allowed IPs that are not this cluster's, as networks: host bits that
/// somebody wrote do not make two claims of one.
fn admit(peers: &BTreeMap<String, Peer>, own: &OwnNetworks, refusals: &mut Vec<Refusal>) -> BTreeMap<String, Peer> {
    let mut admitted = BTreeMap::new();
    let mut keys: BTreeMap<Key, &str> = BTreeMap::new();
    for (name, peer) in peers {
        let mut refuse = |field: &str, value: String, reason: String| {
            refusals.push(Refusal::peer(name, field, value, reason));
        };
        let key = peer.public_key;
        if let Some(node) = own.keys.get(&key) {
            let reason = format!(
                "it is the key of node {node} of this very cluster; a cluster's nodes are peers of other clusters: \
                 apply this Peer there and delete it here"
            );
            refuse("spec.publicKey", key.to_string(), reason);
            continue;
        }
        if let Some(other) = keys.insert(key, name) {
            keys.insert(key, other);
            let reason = format!("Peer {other} has the same key; delete one of the two");
            refuse("spec.publicKey", key.to_string(), reason);
            continue;
        }
        let mut allowed_ips: Vec<IpNet> = Vec::new();
        for net in &peer.allowed_ips {
            match own.conflict(net) {
                Some(what) => {
                    let reason = format!("it overlaps {what}; give the clusters CIDRs that do not overlap");
                    refuse("spec.allowedIPs", net.to_string(), reason);
                }
                None if allowed_ips.contains(&net.trunc()) => {}
                None => allowed_ips.push(net.trunc()),
            }
        }
        admitted.insert(name.clone(), Peer { allowed_ips, ..peer.clone() });
    }
    admitted
}

/// The addresses at which a Peer can be asked whether it lives: of the single hosts among its allowed IPs the one that it
/// is reached at from outside, else all. The others may be nodes behind it, which learn of us later than it does, and
/// would answer past the tunnel until then.
pub fn hosts(peer: &Peer) -> Vec<IpAddr> {
    let single = peer.allowed_ips.iter().filter(|net| net.prefix_len() == net.max_prefix_len());
    let all: Vec<IpAddr> = single.map(IpNet::addr).collect();
    let own = peer.endpoint.as_ref().and_then(Endpoint::ip).filter(|ip| all.contains(ip));
    own.map_or(all, |ip| vec![ip])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const SERVICES: &str = "10.43.0.0/16";

    fn peer(name: &str, key: u8, nets: &[&str]) -> (String, Peer) {
        let allowed_ips = nets.iter().map(|n| n.parse().unwrap()).collect();
        let peer = Peer {
            name: name.into(),
            public_key: Key([key; 32]),
            preshared_key: None,
            persistent_keepalive: None,
            endpoint: None,
            allowed_ips,
        };
        (name.into(), peer)
    }

    fn pair() -> BTreeMap<String, Peer> {
        [peer("a", 1, &["10.1.0.0/24", SERVICES]), peer("b", 2, &["10.1.1.0/24", SERVICES])].into()
    }

    fn carrier(dead: &[&str], alive: &[&str], current: Option<&str>) -> String {
        let liveness = |name: &str| match name {
            n if dead.contains(&n) => Liveness::Dead,
            n if alive.contains(&n) => Liveness::Alive,
            _ => Liveness::Unknown,
        };
        let current = current.map(|c| (SERVICES.parse().unwrap(), c.to_owned())).into_iter().collect();
        let claims = settle(&pair(), &OwnNetworks::default(), liveness, &current);
        assert_eq!(claims.contenders, ["a".to_owned(), "b".to_owned()].into());
        claims.carriers[&SERVICES.parse().unwrap()].clone()
    }

    #[test]
    fn a_shared_cidr_goes_to_the_first_and_stays_while_that_answers() {
        assert_eq!(carrier(&[], &[], None), "a");
        assert_eq!(carrier(&[], &["b"], None), "b", "one that is known to answer comes first");
        assert_eq!(carrier(&[], &["a", "b"], Some("b")), "b", "it does not return for its own sake");
        assert_eq!(carrier(&["a"], &["b"], Some("a")), "b");
        assert_eq!(carrier(&["a", "b"], &[], Some("b")), "b", "nobody answers: it stays");
        assert_eq!(carrier(&[], &[], Some("gone")), "a");
    }

    #[test]
    fn what_this_cluster_has_is_refused_alone() {
        let own = OwnNetworks {
            networks: vec![("10.1.0.0/16".parse().unwrap(), "the pod CIDR of node n".into())],
            keys: BTreeMap::new(),
        };
        let peers = [peer("a", 1, &["10.1.0.0/24", "10.0.0.0/8", "192.168.0.0/24"])].into();
        let claims = settle(&peers, &own, |_| Liveness::Unknown, &BTreeMap::new());
        assert_eq!(claims.peers["a"].allowed_ips, ["192.168.0.0/24".parse().unwrap()]);
        assert_eq!(claims.refusals.len(), 2);
        assert!(claims.refusals[0].reason.contains("the pod CIDR of node n"));
    }

    #[test]
    fn a_cluster_is_not_a_peer_of_itself() {
        let own = OwnNetworks { networks: Vec::new(), keys: [(Key([1; 32]), "n1".to_owned())].into() };
        let claims = settle(&pair(), &own, |_| Liveness::Unknown, &BTreeMap::new());
        assert_eq!(claims.peers.keys().collect::<Vec<_>>(), ["b"]);
        assert!(claims.refusals[0].reason.contains("of this very cluster"));
    }

    #[test]
    fn of_two_peers_with_one_key_the_second_is_refused() {
        let peers = [peer("a", 1, &[SERVICES]), peer("b", 1, &[SERVICES])].into();
        let claims = settle(&peers, &OwnNetworks::default(), |_| Liveness::Unknown, &BTreeMap::new());
        assert_eq!(claims.peers.keys().collect::<Vec<_>>(), ["a"]);
        assert!(claims.refusals[0].reason.contains("Peer a"));
    }

    proptest! {
        #[test]
        fn every_claim_is_carried_by_exactly_one(
            claims in proptest::collection::vec(proptest::collection::vec(0u8..6, 0..5), 1..6),
            dead in proptest::collection::vec(any::<bool>(), 6),
        ) {
            let peers: BTreeMap<String, Peer> = claims
                .iter()
                .enumerate()
                .map(|(i, nets)| {
                    let nets: Vec<String> = nets.iter().map(|n| format!("10.{n}.0.0/16")).collect();
                    let nets: Vec<&str> = nets.iter().map(String::as_str).collect();
                    peer(&format!("p{i}"), i as u8 + 1, &nets)
                })
                .collect();
            let alive = |name: &str| {
                let index: usize = name[1..].parse().unwrap();
                if dead[index] { Liveness::Dead } else { Liveness::Alive }
            };
            let settled = settle(&peers, &OwnNetworks::default(), alive, &BTreeMap::new());
            let wanted: BTreeSet<IpNet> = peers.values().flat_map(|p| p.allowed_ips.clone()).collect();
            for net in wanted {
                let carriers = settled.peers.values().filter(|p| p.allowed_ips.contains(&net)).count();
                prop_assert_eq!(carriers, 1);
            }
            let again = settle(&peers, &OwnNetworks::default(), alive, &settled.carriers);
            prop_assert_eq!(&again.carriers, &settled.carriers, "settling again changes nothing");
        }
    }
}
