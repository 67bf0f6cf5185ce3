//! The messages of the generic netlink family `wireguard` (linux/wireguard.h), as values and bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, UNIX_EPOCH};

use ipnet::IpNet;
use tombolo_net::wireguard::{Change, DeviceStatus, Key, Peer, PeerChange, PeerStatus};

use super::netlink::{ACK, DUMP, Message, REQUEST, attributes, u16_of, u32_of, u64_of};

const WG_CMD_GET_DEVICE: u8 = 0;
const WG_CMD_SET_DEVICE: u8 = 1;

const WGDEVICE_A_IFNAME: u16 = 2;
const WGDEVICE_A_PRIVATE_KEY: u16 = 3;
const WGDEVICE_A_LISTEN_PORT: u16 = 6;
const WGDEVICE_A_FWMARK: u16 = 7;
const WGDEVICE_A_PEERS: u16 = 8;

const WGPEER_A_PUBLIC_KEY: u16 = 1;
const WGPEER_A_PRESHARED_KEY: u16 = 2;
const WGPEER_A_FLAGS: u16 = 3;
const WGPEER_A_ENDPOINT: u16 = 4;
const WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL: u16 = 5;
const WGPEER_A_LAST_HANDSHAKE_TIME: u16 = 6;
const WGPEER_A_RX_BYTES: u16 = 7;
const WGPEER_A_TX_BYTES: u16 = 8;
const WGPEER_A_ALLOWEDIPS: u16 = 9;

const WGPEER_F_REMOVE_ME: u32 = 1;
const WGPEER_F_REPLACE_ALLOWEDIPS: u32 = 2;
const WGPEER_F_UPDATE_ONLY: u32 = 4;

const WGALLOWEDIP_A_FAMILY: u16 = 1;
const WGALLOWEDIP_A_IPADDR: u16 = 2;
const WGALLOWEDIP_A_CIDR_MASK: u16 = 3;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// A message is closed when it is longer than this: nested attributes count their length in 16 bits.
const FULL: usize = 16 << 10;

/// Length of the generic netlink header before the attributes.
const GENL_HEADER: usize = 4;

/// The request for everything about a device, answered by [`read_status`]'s messages.
pub(super) fn get_device(family: u16, iface: &str) -> Message {
    let mut message = Message::new(family, REQUEST | ACK | DUMP, &[WG_CMD_GET_DEVICE, 1, 0, 0]);
    message.put_str(WGDEVICE_A_IFNAME, iface);
    message
}

/// Reads the bodies of the answer's messages. A peer with many allowed IPs goes on in the next message, under the
/// same key.
pub(super) fn read_status(bodies: &[Vec<u8>]) -> DeviceStatus {
    let mut status = DeviceStatus::default();
    for body in bodies {
        for (kind, value) in attributes(body.get(GENL_HEADER..).unwrap_or_default()) {
            match kind {
                WGDEVICE_A_PRIVATE_KEY => status.private_key = key(value).filter(|key| !key.is_zero()),
                WGDEVICE_A_LISTEN_PORT => status.listen_port = u16_of(value).unwrap_or(0),
                WGDEVICE_A_FWMARK => status.fwmark = u32_of(value).unwrap_or(0),
                WGDEVICE_A_PEERS => attributes(value).filter_map(|(_, peer)| read_peer(peer)).for_each(|peer| {
                    match status.peers.last_mut() {
                        Some(last) if last.peer.public_key == peer.peer.public_key => {
                            last.peer.allowed_ips.extend(peer.peer.allowed_ips);
                        }
                        _ => status.peers.push(peer),
                    }
                }),
                _ => {}
            }
        }
    }
    status
}

/// The requests that make the changes, in their order, each short enough for the kernel.
pub(super) fn set_device(family: u16, iface: &str, changes: &[Change]) -> Vec<Message> {
    let mut writer = Writer { family, iface, done: Vec::new(), message: start(family, iface), peers: None };
    for change in changes {
        match change {
            Change::PrivateKey(key) => writer.device(WGDEVICE_A_PRIVATE_KEY, &key.0),
            Change::ListenPort(port) => writer.device(WGDEVICE_A_LISTEN_PORT, &port.to_ne_bytes()),
            Change::Fwmark(mark) => writer.device(WGDEVICE_A_FWMARK, &mark.to_ne_bytes()),
            Change::RemovePeer(key) => {
                let peer = writer.begin_peer(key, WGPEER_F_REMOVE_ME | WGPEER_F_UPDATE_ONLY);
                writer.message.end(peer);
            }
            Change::SetPeer(change) => writer.peer(change),
        }
    }
    writer.close();
    writer.done
}

fn start(family: u16, iface: &str) -> Message {
    let mut message = Message::new(family, REQUEST | ACK, &[WG_CMD_SET_DEVICE, 1, 0, 0]);
    message.put_str(WGDEVICE_A_IFNAME, iface);
    message
}

struct Writer<'a> {
    family: u16,
    iface: &'a str,
    done: Vec<Message>,
    message: Message,
    /// Where the list of peers began in the message, if it has.
    peers: Option<usize>,
}

impl Writer<'_> {
    /// The kernel takes the device's attributes before the peers, whatever their order in the message.
    fn device(&mut self, kind: u16, value: &[u8]) {
        if self.peers.is_some() {
            self.close();
        }
        self.message.put(kind, value);
    }

    fn peer(&mut self, change: &PeerChange) {
        let mut flags = 0;
        if change.update_only {
            flags |= WGPEER_F_UPDATE_ONLY;
        }
        if change.allowed_ips.is_some() {
            flags |= WGPEER_F_REPLACE_ALLOWEDIPS;
        }
        let mut peer = self.begin_peer(&change.public_key, flags);
        if let Some(key) = &change.preshared_key {
            self.message.put(WGPEER_A_PRESHARED_KEY, &key.0);
        }
        if let Some(endpoint) = change.endpoint {
            self.message.put(WGPEER_A_ENDPOINT, &sockaddr(endpoint));
        }
        if let Some(seconds) = change.persistent_keepalive {
            self.message.put(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, &seconds.to_ne_bytes());
        }
        let Some(ips) = change.allowed_ips.as_deref().filter(|ips| !ips.is_empty()) else {
            self.message.end(peer);
            return;
        };
        let mut list = self.message.begin(WGPEER_A_ALLOWEDIPS);
        for ip in ips {
            if self.message.len() > FULL {
                self.message.end(list);
                self.message.end(peer);
                self.close();
                // The first part made the peer; if somebody removed it since, it is not brought back by halves.
                peer = self.begin_peer(&change.public_key, WGPEER_F_UPDATE_ONLY);
                list = self.message.begin(WGPEER_A_ALLOWEDIPS);
            }
            let at = self.message.begin(0);
            put_allowed_ip(&mut self.message, ip);
            self.message.end(at);
        }
        self.message.end(list);
        self.message.end(peer);
    }

    fn begin_peer(&mut self, key: &Key, flags: u32) -> usize {
        if self.message.len() > FULL {
            self.close();
        }
        if self.peers.is_none() {
            self.peers = Some(self.message.begin(WGDEVICE_A_PEERS));
        }
        let at = self.message.begin(0);
        self.message.put(WGPEER_A_PUBLIC_KEY, &key.0);
        if flags != 0 {
            self.message.put(WGPEER_A_FLAGS, &flags.to_ne_bytes());
        }
        at
    }

    fn close(&mut self) {
        if let Some(peers) = self.peers.take() {
            self.message.end(peers);
        }
        let empty = start(self.family, self.iface);
        if self.message != empty {
            self.done.push(std::mem::replace(&mut self.message, empty));
        }
    }
}

fn read_peer(bytes: &[u8]) -> Option<PeerStatus> {
    let mut status = PeerStatus { peer: Peer::new(Key::default()), last_handshake: None, rx_bytes: 0, tx_bytes: 0 };
    let mut found = false;
    for (kind, value) in attributes(bytes) {
        match kind {
            WGPEER_A_PUBLIC_KEY => {
                status.peer.public_key = key(value)?;
                found = true;
            }
            WGPEER_A_PRESHARED_KEY => status.peer.preshared_key = key(value).filter(|key| !key.is_zero()),
            WGPEER_A_ENDPOINT => status.peer.endpoint = read_sockaddr(value),
            WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL => {
                status.peer.persistent_keepalive = u16_of(value).filter(|seconds| *seconds != 0);
            }
            WGPEER_A_LAST_HANDSHAKE_TIME => status.last_handshake = read_time(value),
            WGPEER_A_RX_BYTES => status.rx_bytes = u64_of(value).unwrap_or(0),
            WGPEER_A_TX_BYTES => status.tx_bytes = u64_of(value).unwrap_or(0),
            WGPEER_A_ALLOWEDIPS => {
                status.peer.allowed_ips.extend(attributes(value).filter_map(|(_, ip)| read_allowed_ip(ip)));
            }
            _ => {}
        }
    }
    found.then_some(status)
}

fn key(value: &[u8]) -> Option<Key> {
    value.try_into().ok().map(Key)
}

/// `struct __kernel_timespec`: two integers of 64 bits; zero means never.
fn read_time(value: &[u8]) -> Option<std::time::SystemTime> {
    let (seconds, nanos) = (u64_of(value)?, u64_of(value.get(8..)?)?);
    if (seconds, nanos) == (0, 0) {
        return None;
    }
    UNIX_EPOCH.checked_add(Duration::new(seconds, u32::try_from(nanos).ok().filter(|n| *n < 1_000_000_000)?))
}

fn put_allowed_ip(message: &mut Message, ip: &IpNet) {
    match ip {
        IpNet::V4(net) => {
            message.put(WGALLOWEDIP_A_FAMILY, &AF_INET.to_ne_bytes());
            message.put(WGALLOWEDIP_A_IPADDR, &net.addr().octets());
        }
        IpNet::V6(net) => {
            message.put(WGALLOWEDIP_A_FAMILY, &AF_INET6.to_ne_bytes());
            message.put(WGALLOWEDIP_A_IPADDR, &net.addr().octets());
        }
    }
    message.put(WGALLOWEDIP_A_CIDR_MASK, &[ip.prefix_len()]);
}

fn read_allowed_ip(bytes: &[u8]) -> Option<IpNet> {
    let (mut ip, mut length) = (None, None);
    for (kind, value) in attributes(bytes) {
        match kind {
            WGALLOWEDIP_A_IPADDR => {
                ip = <[u8; 4]>::try_from(value)
                    .map(IpAddr::from)
                    .or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from))
                    .ok();
            }
            WGALLOWEDIP_A_CIDR_MASK => length = value.first().copied(),
            _ => {}
        }
    }
    IpNet::new(ip?, length?).ok()
}

/// `struct sockaddr_in` (16 bytes) or `sockaddr_in6` (28): port and address in network byte order.
fn sockaddr(addr: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(28);
    match addr {
        SocketAddr::V4(addr) => {
            bytes.extend(AF_INET.to_ne_bytes());
            bytes.extend(addr.port().to_be_bytes());
            bytes.extend(addr.ip().octets());
            bytes.resize(16, 0);
        }
        SocketAddr::V6(addr) => {
            bytes.extend(AF_INET6.to_ne_bytes());
            bytes.extend(addr.port().to_be_bytes());
            bytes.extend(addr.flowinfo().to_be_bytes());
            bytes.extend(addr.ip().octets());
            bytes.extend(addr.scope_id().to_ne_bytes());
        }
    }
    bytes
}

fn read_sockaddr(bytes: &[u8]) -> Option<SocketAddr> {
    let port = bytes.get(2..4)?.try_into().ok().map(u16::from_be_bytes)?;
    match u16_of(bytes)? {
        AF_INET => {
            let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(SocketAddr::new(Ipv4Addr::from(ip).into(), port))
        }
        AF_INET6 => {
            let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            let scope = u32_of(bytes.get(24..28)?)?;
            Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
#[path = "codec_tests.rs"]
mod tests;
