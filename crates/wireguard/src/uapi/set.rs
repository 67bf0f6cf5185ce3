//! The lines of a `set=1` request.

use std::fmt;
use std::net::SocketAddr;

use ipnet::IpNet;
use tombolo_net::wireguard::{Change, Key, PeerChange};

use super::{Hex, UapiError, flag, key, number, pairs};

/// What a device shall become; what is `None` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Set {
    /// Zero removes the key.
    pub private_key: Option<Key>,
    /// 0 lets the device choose.
    pub listen_port: Option<u16>,
    /// 0 removes the mark.
    pub fwmark: Option<u32>,
    /// Whether the peers that are not named go.
    pub replace_peers: bool,
    /// In order; a key may come twice.
    pub peers: Vec<SetPeer>,
}

/// What one peer shall become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetPeer {
    /// Which.
    pub public_key: Key,
    /// Whether it goes.
    pub remove: bool,
    /// Whether to leave it out if it isn't there.
    pub update_only: bool,
    /// Zero removes the pre-shared key.
    pub preshared_key: Option<Key>,
    /// Where to send to.
    pub endpoint: Option<SocketAddr>,
    /// Seconds, 0 for none.
    pub persistent_keepalive: Option<u16>,
    /// Whether the allowed IPs that are not named go.
    pub replace_allowed_ips: bool,
    /// In order.
    pub allowed_ips: Vec<AllowedIp>,
}

/// One allowed IP of a [`SetPeer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllowedIp {
    /// The peer gets it; who had it loses it.
    Add(IpNet),
    /// The peer loses it (`-` before the address, since wireguard-tools 1.0.20250521).
    Remove(IpNet),
}

impl Set {
    /// The steps as one request, in their order.
    pub fn from_changes(changes: &[Change]) -> Self {
        let mut set = Self::default();
        for change in changes {
            match change {
                Change::PrivateKey(key) => set.private_key = Some(*key),
                Change::ListenPort(port) => set.listen_port = Some(*port),
                Change::Fwmark(mark) => set.fwmark = Some(*mark),
                Change::RemovePeer(key) => set.peers.push(SetPeer { remove: true, ..SetPeer::new(*key) }),
                Change::SetPeer(change) => set.peers.push(SetPeer::from(change)),
            }
        }
        set
    }

    pub(super) fn parse(text: &str) -> Result<Self, UapiError> {
        let mut set = Self::default();
        for pair in pairs(text) {
            let (line, name, value) = pair?;
            if name == "public_key" {
                set.peers.push(SetPeer::new(key(line, value)?));
                continue;
            }
            match set.peers.last_mut() {
                Some(peer) => peer.line(line, name, value)?,
                None => set.line(line, name, value)?,
            }
        }
        Ok(set)
    }

    fn line(&mut self, line: &str, name: &str, value: &str) -> Result<(), UapiError> {
        match name {
            "private_key" => self.private_key = Some(key(line, value)?),
            "listen_port" => self.listen_port = Some(number(line, value)?),
            "fwmark" => self.fwmark = Some(number(line, value)?),
            "replace_peers" => {
                flag(line, value)?;
                self.replace_peers = true;
            }
            "remove"
            | "update_only"
            | "preshared_key"
            | "endpoint"
            | "persistent_keepalive_interval"
            | "replace_allowed_ips"
            | "allowed_ip"
            | "protocol_version" => return Err(UapiError::new(line, "a peer's line before the first public_key")),
            _ => return Err(UapiError::new(line, "unknown key of a device")),
        }
        Ok(())
    }
}

impl SetPeer {
    /// A peer of which nothing is said.
    pub fn new(public_key: Key) -> Self {
        Self {
            public_key,
            remove: false,
            update_only: false,
            preshared_key: None,
            endpoint: None,
            persistent_keepalive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
        }
    }

    fn line(&mut self, line: &str, name: &str, value: &str) -> Result<(), UapiError> {
        match name {
            "remove" => {
                flag(line, value)?;
                self.remove = true;
            }
            "update_only" => {
                flag(line, value)?;
                self.update_only = true;
            }
            "preshared_key" => self.preshared_key = Some(key(line, value)?),
            "endpoint" => {
                let endpoint: SocketAddr =
                    value.parse().map_err(|_| UapiError::new(line, "an endpoint is ADDRESS:PORT or [IPV6]:PORT"))?;
                self.endpoint = Some(canonical(endpoint));
            }
            "persistent_keepalive_interval" => self.persistent_keepalive = Some(number(line, value)?),
            "replace_allowed_ips" => {
                flag(line, value)?;
                self.replace_allowed_ips = true;
            }
            "allowed_ip" => self.allowed_ips.push(allowed_ip(line, value)?),
            "protocol_version" if value == "1" => {}
            "protocol_version" => return Err(UapiError::new(line, "only version 1 of the protocol is there")),
            _ => return Err(UapiError::new(line, "unknown key of a peer")),
        }
        Ok(())
    }
}

impl From<&PeerChange> for SetPeer {
    fn from(change: &PeerChange) -> Self {
        Self {
            public_key: change.public_key,
            remove: false,
            update_only: change.update_only,
            preshared_key: change.preshared_key,
            endpoint: change.endpoint,
            persistent_keepalive: change.persistent_keepalive,
            replace_allowed_ips: change.allowed_ips.is_some(),
            allowed_ips: change.allowed_ips.iter().flatten().copied().map(AllowedIp::Add).collect(),
        }
    }
}

/// An IPv4 address written as IPv6 is the IPv4 one.
pub(super) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip if ip.is_ipv4() => SocketAddr::new(ip, addr.port()),
        _ => addr,
    }
}

fn allowed_ip(line: &str, value: &str) -> Result<AllowedIp, UapiError> {
    let (text, remove) = value.strip_prefix('-').map_or((value, false), |rest| (rest, true));
    let net: IpNet = text.parse().map_err(|_| UapiError::new(line, "an allowed IP is ADDRESS/LENGTH"))?;
    Ok(if remove { AllowedIp::Remove(net.trunc()) } else { AllowedIp::Add(net.trunc()) })
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.private_key {
            writeln!(f, "private_key={}", Hex(key))?;
        }
        if let Some(port) = self.listen_port {
            writeln!(f, "listen_port={port}")?;
        }
        if let Some(mark) = self.fwmark {
            writeln!(f, "fwmark={mark}")?;
        }
        if self.replace_peers {
            writeln!(f, "replace_peers=true")?;
        }
        self.peers.iter().try_for_each(|peer| peer.fmt(f))
    }
}

impl fmt::Display for SetPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "public_key={}", Hex(&self.public_key))?;
        if self.remove {
            writeln!(f, "remove=true")?;
        }
        if self.update_only {
            writeln!(f, "update_only=true")?;
        }
        if let Some(key) = &self.preshared_key {
            writeln!(f, "preshared_key={}", Hex(key))?;
        }
        if let Some(endpoint) = self.endpoint {
            writeln!(f, "endpoint={endpoint}")?;
        }
        if let Some(seconds) = self.persistent_keepalive {
            writeln!(f, "persistent_keepalive_interval={seconds}")?;
        }
        if self.replace_allowed_ips {
            writeln!(f, "replace_allowed_ips=true")?;
        }
        self.allowed_ips.iter().try_for_each(|ip| match ip {
            AllowedIp::Add(net) => writeln!(f, "allowed_ip={net}"),
            AllowedIp::Remove(net) => writeln!(f, "allowed_ip=-{net}"),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::uapi::Request;

    fn net() -> impl Strategy<Value = IpNet> {
        (any::<IpAddr>(), 0..=128u8)
            .prop_map(|(ip, bits)| IpNet::new(ip, if ip.is_ipv4() { bits / 4 } else { bits }).unwrap().trunc())
    }

    fn endpoint() -> impl Strategy<Value = SocketAddr> {
        (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port))
    }

    prop_compose! {
        fn peer()(
            public_key in any::<[u8; 32]>().prop_map(Key),
            (remove, update_only, replace_allowed_ips) in any::<(bool, bool, bool)>(),
            preshared_key in prop::option::of(any::<[u8; 32]>().prop_map(Key)),
            endpoint in prop::option::of(endpoint()),
            persistent_keepalive in any::<Option<u16>>(),
            allowed_ips in prop::collection::vec(
                prop_oneof![net().prop_map(AllowedIp::Add), net().prop_map(AllowedIp::Remove)], 0..4),
        ) -> SetPeer {
            SetPeer {
                public_key, remove, update_only, preshared_key, endpoint, persistent_keepalive, replace_allowed_ips,
                allowed_ips,
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            private_key in prop::option::of(any::<[u8; 32]>().prop_map(Key)),
            listen_port in any::<Option<u16>>(),
            fwmark in any::<Option<u32>>(),
            replace_peers in any::<bool>(),
            peers in prop::collection::vec(peer(), 0..4),
        ) {
            let request = Request::Set(Set { private_key, listen_port, fwmark, replace_peers, peers });
            prop_assert_eq!(Request::parse(&request.to_string()), Ok(request));
        }

        #[test]
        fn no_text_panics(text in "(set=1\n)?[ -~\n]{0,200}") {
            let _ = Request::parse(&text);
        }
    }

    #[test]
    fn changes_become_lines() {
        let key = Key([1; 32]);
        let changes = [
            Change::ListenPort(51820),
            Change::RemovePeer(Key([2; 32])),
            Change::SetPeer(PeerChange {
                public_key: key,
                update_only: true,
                preshared_key: None,
                endpoint: Some("[2001:db8::1]:7".parse().unwrap()),
                persistent_keepalive: Some(0),
                allowed_ips: Some(vec!["10.0.0.0/8".parse().unwrap()]),
            }),
        ];
        let expected = format!(
            "set=1\nlisten_port=51820\npublic_key={}\nremove=true\npublic_key={}\nupdate_only=true\n\
             endpoint=[2001:db8::1]:7\npersistent_keepalive_interval=0\nreplace_allowed_ips=true\n\
             allowed_ip=10.0.0.0/8\n\n",
            "02".repeat(32),
            "01".repeat(32)
        );
        assert_eq!(Request::Set(Set::from_changes(&changes)).to_string(), expected);
    }
}
