//! Messages of BMP (RFC 7854, section 4).
//!
//! ```text
//!  Version (1), 3   Message Length (4)   Message Type (1)
//! ```
//!
//! and, in messages that are about a neighbour:
//!
//! ```text
//!  Peer Type (1)   Peer Flags (1)   Peer Distinguisher (8)   Peer Address (16)   Peer AS (4)   Peer BGP ID (4)
//!  Timestamp: seconds (4), microseconds (4)
//! ```

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Family;
use crate::router::tap::{Ending, Heard, Seen, What};
use crate::wire::{self, Kind};

/// Message types.
mod message {
    pub(super) const ROUTE_MONITORING: u8 = 0;
    pub(super) const STATISTICS_REPORT: u8 = 1;
    pub(super) const PEER_DOWN: u8 = 2;
    pub(super) const PEER_UP: u8 = 3;
    pub(super) const INITIATION: u8 = 4;
    pub(super) const TERMINATION: u8 = 5;
}

/// Peer flags (section 4.2). Never the L flag: all is from before policy.
mod flag {
    /// The address is one of IPv6.
    pub(super) const V: u8 = 0x80;
    /// `AS_PATH` has two octets a number.
    pub(super) const A: u8 = 0x20;
}

/// Types of statistics (section 4.8; RFC 8671, section 6.2).
mod statistic {
    pub(super) const ADJ_RIB_IN: u16 = 7;
    pub(super) const ADJ_RIB_IN_OF_FAMILY: u16 = 9;
    pub(super) const ADJ_RIB_OUT_POST_POLICY: u16 = 15;
    pub(super) const ADJ_RIB_OUT_POST_POLICY_OF_FAMILY: u16 = 17;
}

/// Appends an Initiation (section 4.3).
pub fn initiation(out: &mut Vec<u8>, name: &str, description: &str) {
    write(out, message::INITIATION, |out| {
        information(out, 1, description.as_bytes());
        information(out, 2, name.as_bytes());
    });
}

/// Appends a Termination (section 4.5): the session was closed by those who run the speaker.
pub fn termination(out: &mut Vec<u8>) {
    write(out, message::TERMINATION, |out| information(out, 1, &[0, 0]));
}

/// Appends what was heard. A change of state is nothing that a station is told. `bytes` are those of its batch.
pub fn heard(out: &mut Vec<u8>, heard: &Heard, bytes: &[u8]) {
    let Heard { at, peer, what } = heard;
    match what {
        What::Up => peer_up(out, peer),
        What::Down(ending) => peer_down(out, *at, peer, ending),
        What::Update(place) => route_monitoring(out, *at, peer, peer.four_octet, &bytes[place.clone()]),
        What::Routes { received, sent } => statistics(out, *at, peer, *received, *sent),
        What::State { .. } => {}
    }
}

/// Appends a Route Monitoring (section 4.6): an UPDATE, of which the body is given.
pub fn route_monitoring(out: &mut Vec<u8>, at: SystemTime, peer: &Seen, four_octet: bool, body: &[u8]) {
    write(out, message::ROUTE_MONITORING, |out| {
        per_peer(out, at, peer, four_octet);
        wire::write(out, Kind::Update, |out| out.extend_from_slice(body));
    });
}

/// Appends a Peer Up (section 4.10).
///
/// ```text
///  Local Address (16)   Local Port (2)   Remote Port (2)   Sent OPEN   Received OPEN
/// ```
pub fn peer_up(out: &mut Vec<u8>, peer: &Seen) {
    write(out, message::PEER_UP, |out| {
        per_peer(out, peer.at, peer, peer.four_octet);
        push_address(out, peer.local_address);
        let (local, remote) = peer.ports.get().copied().unwrap_or_default();
        out.extend_from_slice(&local.to_be_bytes());
        out.extend_from_slice(&remote.to_be_bytes());
        out.extend_from_slice(&peer.sent_open);
        out.extend_from_slice(&peer.received_open);
    });
}

/// Appends a Peer Down (section 4.9).
pub fn peer_down(out: &mut Vec<u8>, at: SystemTime, peer: &Seen, ending: &Ending) {
    write(out, message::PEER_DOWN, |out| {
        per_peer(out, at, peer, peer.four_octet);
        match ending {
            Ending::Sent(notification) => {
                out.push(1);
                out.extend_from_slice(notification);
            }
            Ending::Silent(event) => {
                out.push(2);
                out.extend_from_slice(&event.to_be_bytes());
            }
            Ending::Received(notification) => {
                out.push(3);
                out.extend_from_slice(notification);
            }
            Ending::Closed => out.push(4),
        }
    });
}

/// Appends a Statistics Report (section 4.8): routes that the neighbour announced and was told, a family each.
pub fn statistics(out: &mut Vec<u8>, at: SystemTime, peer: &Seen, received: [u64; 2], sent: [u64; 2]) {
    let of = |counts: [u64; 2]| {
        let all = Family::ALL.into_iter().zip(counts);
        all.filter(|(family, _)| peer.families.contains(family)).collect::<Vec<_>>()
    };
    let kinds = [
        (statistic::ADJ_RIB_IN, statistic::ADJ_RIB_IN_OF_FAMILY, received),
        (statistic::ADJ_RIB_OUT_POST_POLICY, statistic::ADJ_RIB_OUT_POST_POLICY_OF_FAMILY, sent),
    ];
    write(out, message::STATISTICS_REPORT, |out| {
        per_peer(out, at, peer, peer.four_octet);
        let count = kinds.len() * (1 + peer.families.len());
        out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        for (of_all, of_family, counts) in kinds {
            information(out, of_all, &of(counts).iter().map(|(_, n)| n).sum::<u64>().to_be_bytes());
            for (family, n) in of(counts) {
                let [high, low] = family.afi().to_be_bytes();
                information(out, of_family, &[&[high, low, 1], &n.to_be_bytes()[..]].concat());
            }
        }
    });
}

fn per_peer(out: &mut Vec<u8>, at: SystemTime, peer: &Seen, four_octet: bool) {
    let v = if peer.address.is_ipv6() { flag::V } else { 0 };
    let a = if four_octet { 0 } else { flag::A };
    // A Global Instance Peer, without a distinguisher.
    out.extend_from_slice(&[0, v | a]);
    out.extend_from_slice(&[0; 8]);
    push_address(out, peer.address);
    out.extend_from_slice(&peer.asn.to_be_bytes());
    out.extend_from_slice(&peer.router_id.octets());
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    out.extend_from_slice(&u32::try_from(since.as_secs()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&since.subsec_micros().to_be_bytes());
}

/// An IPv4 address is in the last four of the 16 bytes.
fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            out.extend_from_slice(&[0; 12]);
            out.extend_from_slice(&address.octets());
        }
        IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
    }
}

/// A type, a length and a value.
fn information(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(value);
}

fn write(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[3, 0, 0, 0, 0, kind]);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
}
