//! A WireGuard device outside the cluster, as its Peer resource describes it.

mod from_kubernetes;

use ipnet::IpNet;
use tombolo_net::wireguard::{Endpoint, Key};

pub use from_kubernetes::{from_json, from_kubernetes};

/// What is wanted of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Name of the Peer object.
    pub name: String,
    /// Who it is; never all zeros.
    pub public_key: Key,
    /// Symmetric key mixed into the handshake.
    pub preshared_key: Option<Key>,
    /// Seconds between keepalives; `None` and 0 mean none.
    pub persistent_keepalive: Option<u16>,
    /// Where to send to; `None` waits for the peer to speak first.
    pub endpoint: Option<Endpoint>,
    /// What is reached through it, in the order given and with the host bits given.
    pub allowed_ips: Vec<IpNet>,
}

impl Peer {
    /// Whether the peer takes part in the mesh: something is reached through it.
    pub fn ready(&self) -> bool {
        !self.allowed_ips.is_empty()
    }
}
