//! WireGuard configuration as text, in the form in which kgctl prints it.
//!
//! It is what wg(8) reads with `wg setconf`, with Kilo's order of keys.

use std::collections::BTreeSet;
use std::fmt;

use ipnet::IpNet;
use tombolo_net::wireguard::{Endpoint, Key};

use crate::Peer;

/// A configuration, or, without an interface, peers to be added to one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conf {
    /// The device itself.
    pub interface: Option<Interface>,
    /// Its peers.
    pub peers: Vec<PeerSection>,
}

/// The section `[Interface]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Printed where known and not zero.
    pub private_key: Option<Key>,
    /// UDP port.
    pub listen_port: u16,
}

/// A section `[Peer]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerSection {
    /// Who it is.
    pub public_key: Key,
    /// Symmetric key mixed into the handshake.
    pub preshared_key: Option<Key>,
    /// Where to send to; a name is printed as a name.
    pub endpoint: Option<Endpoint>,
    /// Seconds; `None` is printed as 0.
    pub persistent_keepalive: Option<u16>,
    /// Destinations sent to it, in this order.
    pub allowed_ips: Vec<IpNet>,
}

impl PeerSection {
    /// Leaves each of its CIDRs only where it stands first.
    pub fn deduplicate(&mut self) {
        let mut seen = BTreeSet::new();
        self.allowed_ips.retain(|ip| seen.insert(*ip));
    }
}

impl From<&Peer> for PeerSection {
    fn from(peer: &Peer) -> Self {
        Self {
            public_key: peer.public_key,
            preshared_key: peer.preshared_key,
            endpoint: peer.endpoint.clone(),
            persistent_keepalive: peer.persistent_keepalive,
            allowed_ips: peer.allowed_ips.clone(),
        }
    }
}

impl fmt::Display for Conf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(interface) = &self.interface {
            interface.fmt(f)?;
        }
        for (i, peer) in self.peers.iter().enumerate() {
            if i > 0 || self.interface.is_some() {
                writeln!(f)?;
            }
            peer.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[Interface]")?;
        if let Some(key) = self.private_key.filter(|key| !key.is_zero()) {
            writeln!(f, "PrivateKey = {key}")?;
        }
        writeln!(f, "ListenPort = {}", self.listen_port)
    }
}

impl fmt::Display for PeerSection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[Peer]")?;
        if !self.allowed_ips.is_empty() {
            let ips: Vec<String> = self.allowed_ips.iter().map(IpNet::to_string).collect();
            writeln!(f, "AllowedIPs = {}", ips.join(", "))?;
        }
        if let Some(endpoint) = &self.endpoint {
            writeln!(f, "Endpoint = {endpoint}")?;
        }
        writeln!(f, "PersistentKeepalive = {}", self.persistent_keepalive.unwrap_or(0))?;
        if let Some(key) = self.preshared_key.filter(|key| !key.is_zero()) {
            writeln!(f, "PresharedKey = {key}")?;
        }
        writeln!(f, "PublicKey = {}", self.public_key)
    }
}
