//! The WireGuard configurations that follow from a topology.

use std::collections::BTreeSet;

use ipnet::IpNet;
use tombolo_net::wireguard::Key;

use super::{Segment, Topology};
use crate::Peer;
use crate::kiloconf::{Conf, Interface, PeerSection};

impl Topology {
    /// The configuration of the node's own device: all other segments and all peers.
    ///
    /// A CIDR that two of them have is left to the first; segments go before peers, so that no Peer takes an address
    /// of the cluster.
    pub fn conf(&self) -> Conf {
        let others = self.segments.iter().filter(|segment| segment.location != self.location);
        let keepalive = Some(self.persistent_keepalive);
        let segments = others.map(|segment| self.segment_section(segment, keepalive, None));
        let peers = self.peers.iter().map(|peer| self.peer_section(peer, keepalive, peer.preshared_key));
        let interface = Interface { private_key: None, listen_port: self.port };
        Conf { interface: Some(interface), peers: claimed_once(segments.chain(peers)) }
    }

    /// The node's segment as a peer of a device elsewhere.
    pub fn as_peer(&self) -> Option<PeerSection> {
        let segment = self.own_segment()?;
        let mut section = PeerSection {
            public_key: segment.key,
            preshared_key: None,
            endpoint: Some(segment.endpoint.clone()),
            persistent_keepalive: None,
            allowed_ips: segment.allowed_ips.clone(),
        };
        section.deduplicate();
        Some(section)
    }

    /// The configuration of the device of the peer `name`: all segments and all other peers. With a name that no peer
    /// has, that of a device that nothing is known of.
    pub fn peer_conf(&self, name: &str) -> Conf {
        let own = self.peers.iter().find(|peer| peer.name == name);
        let keepalive = own.and_then(|peer| peer.persistent_keepalive);
        let preshared_key = own.and_then(|peer| peer.preshared_key);
        let segments = self.segments.iter().map(|segment| self.segment_section(segment, keepalive, preshared_key));
        let others = self.peers.iter().filter(|peer| peer.name != name);
        let peers = others.map(|peer| self.peer_section(peer, keepalive, None));
        Conf { interface: None, peers: claimed_once(segments.chain(peers)) }
    }

    fn segment_section(&self, segment: &Segment, keepalive: Option<u16>, preshared_key: Option<Key>) -> PeerSection {
        PeerSection {
            public_key: segment.key,
            preshared_key,
            endpoint: self.endpoint(Some(&segment.endpoint), &segment.key, segment.persistent_keepalive),
            persistent_keepalive: keepalive,
            allowed_ips: segment.allowed_ips.iter().chain(&segment.allowed_location_ips).copied().collect(),
        }
    }

    fn peer_section(&self, peer: &Peer, keepalive: Option<u16>, preshared_key: Option<Key>) -> PeerSection {
        let own_keepalive = peer.persistent_keepalive.unwrap_or(0);
        PeerSection {
            public_key: peer.public_key,
            preshared_key,
            endpoint: self.endpoint(peer.endpoint.as_ref(), &peer.public_key, own_keepalive),
            persistent_keepalive: keepalive,
            allowed_ips: peer.allowed_ips.clone(),
        }
    }
}

/// Each key and each CIDR left to the first section that has it: a device knows no two peers of one key, and gives an
/// address to one peer only.
fn claimed_once(sections: impl Iterator<Item = PeerSection>) -> Vec<PeerSection> {
    let mut keys = BTreeSet::new();
    let mut ips: BTreeSet<IpNet> = BTreeSet::new();
    let mut once: Vec<PeerSection> = sections.filter(|section| keys.insert(section.public_key)).collect();
    for section in &mut once {
        section.allowed_ips.retain(|ip| ips.insert(ip.trunc()));
    }
    once
}
