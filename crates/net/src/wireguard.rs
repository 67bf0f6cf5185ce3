//! WireGuard's configuration as plain values, after the fields of wg(8).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;

/// A key of 32 bytes: private, public or pre-shared. Its text is Base64 of 44 characters, as wg(8) prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(pub [u8; 32]);

/// Why a text is not a [`Key`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not Base64.
    #[error("a WireGuard key is 44 characters of Base64, as `wg genkey` prints it; {0:?} is not Base64")]
    NotBase64(String),
    /// Base64, but not of 32 bytes.
    #[error("a WireGuard key has 32 bytes (44 characters of Base64); this one has {0}")]
    Length(usize),
}

impl Key {
    /// Whether the key is all zeros, which WireGuard takes for "none".
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 32]
    }
}

impl FromStr for Key {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(text).map_err(|_| KeyError::NotBase64(text.to_owned()))?;
        let length = bytes.len();
        Ok(Self(bytes.try_into().map_err(|_| KeyError::Length(length))?))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

/// The text of a key in logs and panics is cut short: it may be a private one.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}…)", &self.to_string()[..6])
    }
}

/// The host part of an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// A literal address.
    Ip(IpAddr),
    /// A name to be resolved (RFC 1123 subdomain).
    Dns(String),
}

/// Where a peer's encrypted packets are sent: an address or a name, and a UDP port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Address or name.
    pub host: Host,
    /// UDP port, 1 to 65535.
    pub port: u16,
}

/// Why a text is not an [`Endpoint`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an endpoint: {reason}; write ADDRESS:PORT, [IPV6]:PORT or NAME:PORT")]
pub struct EndpointError {
    text: String,
    reason: &'static str,
}

impl Endpoint {
    /// The literal address, unless the host is a name.
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Ip(ip) => Some(*ip),
            Host::Dns(_) => None,
        }
    }

    /// The literal socket address, unless the host is a name.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        self.ip().map(|ip| SocketAddr::new(ip, self.port))
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        Self { host: Host::Ip(addr.ip().to_canonical()), port: addr.port() }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let error = |reason| EndpointError { text: text.to_owned(), reason };
        let (host, port) = text.rsplit_once(':').ok_or_else(|| error("it has no port"))?;
        let port: u16 = port.parse().map_err(|_| error("the port is not a number from 1 to 65535"))?;
        if port == 0 {
            return Err(error("the port is not a number from 1 to 65535"));
        }
        if let Some(literal) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
            let ip: IpAddr = literal.parse().map_err(|_| error("the address in brackets is not IPv6"))?;
            return Ok(Self { host: Host::Ip(ip.to_canonical()), port });
        }
        if host.contains(':') {
            return Err(error("an IPv6 address is written in brackets"));
        }
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(Self { host: Host::Ip(ip), port });
        }
        if !is_dns1123_subdomain(host) {
            return Err(error("the host is neither an address nor a DNS name"));
        }
        Ok(Self { host: Host::Dns(host.to_owned()), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Host::Ip(ip) => write!(f, "{ip}:{}", self.port),
            Host::Dns(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// RFC 1123 subdomain as Kubernetes checks it: lower-case labels of letters, digits and `-`, 253 characters at most.
pub fn is_dns1123_subdomain(name: &str) -> bool {
    let label = |l: &str| {
        let alphanumeric = |c: Option<u8>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        alphanumeric(l.bytes().next())
            && alphanumeric(l.bytes().last())
            && l.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    };
    !name.is_empty() && name.len() <= 253 && name.split('.').all(label)
}

/// One peer of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub public_key: Key,
    /// Symmetric key mixed into the handshake.
    pub preshared_key: Option<Key>,
    /// Where to send to; `None` waits for the peer to speak first.
    pub endpoint: Option<SocketAddr>,
    /// Seconds between keepalives; `None` and 0 mean none.
    pub persistent_keepalive: Option<u16>,
    /// Destinations sent to it, and sources accepted from it.
    pub allowed_ips: Vec<IpNet>,
}

impl Peer {
    /// A peer with a key and nothing else.
    pub fn new(public_key: Key) -> Self {
        Self { public_key, preshared_key: None, endpoint: None, persistent_keepalive: None, allowed_ips: Vec::new() }
    }
}

/// What a device shall be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// `None` and zero mean that the device has no key.
    pub private_key: Option<Key>,
    /// UDP port to listen on; `None` lets the device choose.
    pub listen_port: Option<u16>,
    /// Mark on the encrypted packets (`SO_MARK`); `None` and 0 mean none.
    pub fwmark: Option<u32>,
    /// The peers, whose keys differ.
    pub peers: Vec<Peer>,
}

/// What a device says of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStatus {
    /// Its configuration, with the endpoint that it was last heard from.
    pub peer: Peer,
    /// When the last handshake was completed, if ever.
    pub last_handshake: Option<SystemTime>,
    /// Bytes received from it, encrypted.
    pub rx_bytes: u64,
    /// Bytes sent to it, encrypted.
    pub tx_bytes: u64,
}

/// What a device is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceStatus {
    /// As configured.
    pub private_key: Option<Key>,
    /// The port it listens on.
    pub listen_port: u16,
    /// The mark on its packets, 0 for none.
    pub fwmark: u32,
    /// Its peers.
    pub peers: Vec<PeerStatus>,
}

/// One step from what a device is to what it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Set the private key.
    PrivateKey(Key),
    /// Listen on this port.
    ListenPort(u16),
    /// Mark packets with this (0: not).
    Fwmark(u32),
    /// Remove the peer with this key.
    RemovePeer(Key),
    /// Add or update a peer: the fields that are given are set, `allowed_ips` replaces all of the peer's.
    SetPeer(PeerChange),
}

/// The new fields of one peer; `None` leaves a field as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerChange {
    /// Which peer.
    pub public_key: Key,
    /// Whether the peer is already there (so that one removed meanwhile is not brought back by halves).
    pub update_only: bool,
    /// Zero removes the pre-shared key.
    pub preshared_key: Option<Key>,
    /// New endpoint.
    pub endpoint: Option<SocketAddr>,
    /// Seconds, 0 for none.
    pub persistent_keepalive: Option<u16>,
    /// The whole new list.
    pub allowed_ips: Option<Vec<IpNet>>,
}

/// The steps from `current` to `desired`; none where nothing differs.
///
/// Peers are removed before others are set, so that allowed IPs move and are never lost: a device gives an address
/// to whoever claimed it last. Peers that only lose addresses are set before peers that gain some, likewise.
/// A peer without an endpoint in `desired` keeps the one it roamed to.
pub fn changes(current: &DeviceStatus, desired: &Device) -> Vec<Change> {
    let mut steps = Vec::new();
    if let Some(key) = desired.private_key
        && Some(key) != current.private_key
    {
        steps.push(Change::PrivateKey(key));
    }
    if let Some(port) = desired.listen_port
        && port != current.listen_port
    {
        steps.push(Change::ListenPort(port));
    }
    if let Some(mark) = desired.fwmark
        && mark != current.fwmark
    {
        steps.push(Change::Fwmark(mark));
    }
    let wanted: BTreeMap<Key, &Peer> = desired.peers.iter().map(|p| (p.public_key, p)).collect();
    let present: BTreeMap<Key, &Peer> = current.peers.iter().map(|p| (p.peer.public_key, &p.peer)).collect();
    steps.extend(present.keys().filter(|key| !wanted.contains_key(key)).map(|key| Change::RemovePeer(*key)));
    let (mut losers, mut gainers) = (Vec::new(), Vec::new());
    for (key, peer) in wanted {
        let Some(change) = peer_change(present.get(&key).copied(), peer) else { continue };
        let gains = change
            .allowed_ips
            .as_ref()
            .is_some_and(|ips| present.get(&key).is_none_or(|old| ips.iter().any(|ip| !old.allowed_ips.contains(ip))));
        if gains { gainers.push(change) } else { losers.push(change) }
    }
    steps.extend(losers.into_iter().chain(gainers).map(Change::SetPeer));
    steps
}

fn peer_change(old: Option<&Peer>, new: &Peer) -> Option<PeerChange> {
    let blank = Peer::new(new.public_key);
    let before = old.unwrap_or(&blank);
    let zero = Key::default();
    let keepalive = |p: &Peer| p.persistent_keepalive.unwrap_or(0);
    let sorted = |p: &Peer| {
        let mut ips: Vec<IpNet> = p.allowed_ips.iter().map(IpNet::trunc).collect();
        ips.sort();
        ips.dedup();
        ips
    };
    let preshared = new.preshared_key.unwrap_or(zero);
    let change = PeerChange {
        public_key: new.public_key,
        update_only: old.is_some(),
        preshared_key: (preshared != before.preshared_key.unwrap_or(zero)).then_some(preshared),
        endpoint: new.endpoint.filter(|e| Some(*e) != before.endpoint),
        persistent_keepalive: (keepalive(new) != keepalive(before)).then_some(keepalive(new)),
        allowed_ips: (sorted(new) != sorted(before)).then(|| sorted(new)),
    };
    let same = change.preshared_key.is_none()
        && change.endpoint.is_none()
        && change.persistent_keepalive.is_none()
        && change.allowed_ips.is_none();
    (old.is_none() || !same).then_some(change)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn key(n: u8) -> Key {
        Key([n; 32])
    }

    fn peer(n: u8, ips: &[&str]) -> Peer {
        Peer { allowed_ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(), ..Peer::new(key(n)) }
    }

    fn status(peers: Vec<Peer>) -> DeviceStatus {
        let peers =
            peers.into_iter().map(|peer| PeerStatus { peer, last_handshake: None, rx_bytes: 0, tx_bytes: 0 }).collect();
        DeviceStatus { peers, ..DeviceStatus::default() }
    }

    #[test]
    fn endpoints_print_as_they_parse() {
        for text in ["192.0.2.1:51820", "[2001:db8::1]:1", "vpn.example.com:65535"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn endpoints_that_are_none_say_why() {
        for (text, reason) in [
            ("192.0.2.1", "no port"),
            ("192.0.2.1:0", "1 to 65535"),
            ("192.0.2.1:x", "1 to 65535"),
            ("2001:db8::1:1", "brackets"),
            ("[zz]:1", "not IPv6"),
            ("under_score:1", "neither an address nor a DNS name"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn keys_that_are_none_say_why() {
        assert!(matches!("?".parse::<Key>(), Err(KeyError::NotBase64(_))));
        assert_eq!("AAAA".parse::<Key>(), Err(KeyError::Length(3)));
        assert_eq!(key(7).to_string().parse(), Ok(key(7)));
    }

    #[test]
    fn a_key_is_not_logged_whole() {
        assert_eq!(format!("{:?}", key(0)), "Key(AAAAAA…)");
    }

    #[test]
    fn nothing_changes_where_nothing_differs() {
        let current = status(vec![peer(1, &["10.0.0.0/24", "10.1.0.1/32"])]);
        let desired =
            Device { peers: vec![peer(1, &["10.1.0.1/32", "10.0.0.0/24", "10.0.0.0/24"])], ..Device::default() };
        assert_eq!(changes(&current, &desired), []);
    }

    #[test]
    fn a_roamed_endpoint_stays_where_none_is_wanted() {
        let mut roamed = peer(1, &[]);
        roamed.endpoint = Some("192.0.2.9:1".parse().unwrap());
        let desired = Device { peers: vec![peer(1, &[])], ..Device::default() };
        assert_eq!(changes(&status(vec![roamed]), &desired), []);
    }

    #[test]
    fn an_address_moves_from_loser_to_gainer() {
        let current = status(vec![peer(1, &[]), peer(2, &["10.0.0.0/8"]), peer(3, &["10.3.0.0/16"])]);
        let desired = Device { peers: vec![peer(1, &["10.0.0.0/8"]), peer(2, &[])], ..Device::default() };
        let order: Vec<String> = changes(&current, &desired)
            .iter()
            .map(|c| match c {
                Change::RemovePeer(k) => format!("remove {}", k.0[0]),
                Change::SetPeer(p) => format!("set {}", p.public_key.0[0]),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(order, ["remove 3", "set 2", "set 1"]);
    }
}
