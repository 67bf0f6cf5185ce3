//! Records.
//!
//! ```text
//!  Timestamp (4)   Type (2)   Subtype (2)   Length (4)   Message
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::Family;
use crate::prefix::{self, Prefix};
use crate::router::tap::{Heard, Seen, What};
use crate::session::State;
use crate::update::Update;
use crate::update::attributes::{attribute, kind};
use crate::wire::open::AS_TRANS;
use crate::wire::{self, Kind};

const TABLE_DUMP_V2: u16 = 13;
const BGP4MP: u16 = 16;

/// Subtypes of TABLE_DUMP_V2 (RFC 6396, section 4.3; RFC 8050, section 4).
mod table {
    pub(super) const PEER_INDEX_TABLE: u16 = 1;
    pub(super) const RIB_IPV4_UNICAST: u16 = 2;
    pub(super) const RIB_IPV6_UNICAST: u16 = 4;
    pub(super) const RIB_IPV4_UNICAST_ADDPATH: u16 = 8;
    pub(super) const RIB_IPV6_UNICAST_ADDPATH: u16 = 10;
}

/// Subtypes of BGP4MP (RFC 6396, section 4.4; RFC 8050, section 3).
mod bgp4mp {
    pub(super) const STATE_CHANGE: u16 = 0;
    pub(super) const MESSAGE: u16 = 1;
    pub(super) const MESSAGE_AS4: u16 = 4;
    pub(super) const STATE_CHANGE_AS4: u16 = 5;
    pub(super) const MESSAGE_ADDPATH: u16 = 8;
    pub(super) const MESSAGE_AS4_ADDPATH: u16 = 9;
}

/// A peer of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexPeer {
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Its address.
    pub address: IpAddr,
    /// Its AS.
    pub asn: u32,
}

/// A path of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RibEntry {
    /// The place of its peer in the index.
    pub peer: u16,
    /// When it was announced, in seconds since 1970.
    pub originated: u32,
    /// Its identifier (RFC 7911); only written in records that have them.
    pub path_id: u32,
    /// Its attributes with the next hop, AS numbers in four octets.
    pub attributes: Vec<u8>,
}

/// Seconds since 1970.
pub fn seconds(at: SystemTime) -> u32 {
    u32::try_from(at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()).unwrap_or(u32::MAX)
}

/// Appends a PEER_INDEX_TABLE (RFC 6396, section 4.3.1), which comes before all records of its table.
///
/// ```text
///  Collector BGP ID (4)   View Name Length (2)   View Name   Peer Count (2)
///  each: Peer Type (1)   Peer BGP ID (4)   Peer IP Address (4 or 16)   Peer AS (4)
/// ```
pub fn peer_index_table(out: &mut Vec<u8>, at: u32, collector: Ipv4Addr, peers: &[IndexPeer]) {
    let peers = &peers[..peers.len().min(usize::from(u16::MAX))];
    record(out, at, TABLE_DUMP_V2, table::PEER_INDEX_TABLE, |out| {
        out.extend_from_slice(&collector.octets());
        // The view has no name.
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&count(peers.len()));
        for peer in peers {
            // Bit 0 is an IPv6 address, bit 1 an AS of four octets.
            out.push(2 | u8::from(peer.address.is_ipv6()));
            out.extend_from_slice(&peer.router_id.octets());
            push_address(out, peer.address);
            out.extend_from_slice(&peer.asn.to_be_bytes());
        }
    });
}

/// Appends the paths to a prefix (RFC 6396, section 4.3.2), with path identifiers if `add_path` (RFC 8050, section 4).
///
/// ```text
///  Sequence Number (4)   Prefix Length (1)   Prefix   Entry Count (2)
///  each: Peer Index (2)   Originated Time (4)   [Path Identifier (4)]   Attribute Length (2)   Attributes
/// ```
pub fn rib<P: Prefix>(out: &mut Vec<u8>, at: u32, sequence: u32, prefix: P, add_path: bool, entries: &[RibEntry]) {
    let subtype = match (P::FAMILY, add_path) {
        (Family::Ipv4, false) => table::RIB_IPV4_UNICAST,
        (Family::Ipv4, true) => table::RIB_IPV4_UNICAST_ADDPATH,
        (Family::Ipv6, false) => table::RIB_IPV6_UNICAST,
        (Family::Ipv6, true) => table::RIB_IPV6_UNICAST_ADDPATH,
    };
    let entries = &entries[..entries.len().min(usize::from(u16::MAX))];
    record(out, at, TABLE_DUMP_V2, subtype, |out| {
        out.extend_from_slice(&sequence.to_be_bytes());
        prefix::write(out, None, prefix);
        out.extend_from_slice(&count(entries.len()));
        for entry in entries {
            out.extend_from_slice(&entry.peer.to_be_bytes());
            out.extend_from_slice(&entry.originated.to_be_bytes());
            if add_path {
                out.extend_from_slice(&entry.path_id.to_be_bytes());
            }
            out.extend_from_slice(&count(entry.attributes.len()));
            out.extend_from_slice(&entry.attributes);
        }
    });
}

/// Appends what was heard as a record, if it is an UPDATE or a change of state. `bytes` are those of its batch.
pub fn heard(out: &mut Vec<u8>, heard: &Heard, bytes: &[u8]) {
    let at = seconds(heard.at);
    match &heard.what {
        What::Update(place) => update(out, at, &heard.peer, &bytes[place.clone()]),
        What::State { from, to } => state_change(out, at, &heard.peer, *from, *to),
        What::Up | What::Down(_) | What::Routes { .. } => {}
    }
}

/// Appends a BGP4MP_MESSAGE of an UPDATE that came (RFC 6396, section 4.4.2 and 4.4.3): the header of
/// [`state_change`], and the whole message.
pub fn update(out: &mut Vec<u8>, at: u32, peer: &Seen, body: &[u8]) {
    let add_path = family(body).is_some_and(|family| peer.add_path.contains(&family));
    let subtype = match (peer.four_octet, add_path) {
        (false, false) => bgp4mp::MESSAGE,
        (true, false) => bgp4mp::MESSAGE_AS4,
        (false, true) => bgp4mp::MESSAGE_ADDPATH,
        (true, true) => bgp4mp::MESSAGE_AS4_ADDPATH,
    };
    record(out, at, BGP4MP, subtype, |out| {
        session(out, peer);
        wire::write(out, Kind::Update, |out| out.extend_from_slice(body));
    });
}

/// Appends a BGP4MP_STATE_CHANGE (RFC 6396, section 4.4.1 and 4.4.4).
///
/// ```text
///  Peer AS (2 or 4)   Local AS (2 or 4)   Interface Index (2)   Address Family (2)
///  Peer IP Address (4 or 16)   Local IP Address (4 or 16)   Old State (2)   New State (2)
/// ```
pub fn state_change(out: &mut Vec<u8>, at: u32, peer: &Seen, from: State, to: State) {
    let subtype = if peer.four_octet { bgp4mp::STATE_CHANGE_AS4 } else { bgp4mp::STATE_CHANGE };
    record(out, at, BGP4MP, subtype, |out| {
        session(out, peer);
        // RFC 6396 numbers the states in the order of RFC 4271, from 1 on.
        for state in [from, to] {
            out.extend_from_slice(&(state as u16 + 1).to_be_bytes());
        }
    });
}

fn session(out: &mut Vec<u8>, peer: &Seen) {
    for asn in [peer.asn, peer.local_asn] {
        if peer.four_octet {
            out.extend_from_slice(&asn.to_be_bytes());
        } else {
            out.extend_from_slice(&u16::try_from(asn).unwrap_or(AS_TRANS).to_be_bytes());
        }
    }
    // The interface is not known.
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&Family::of(peer.address).afi().to_be_bytes());
    push_address(out, peer.address);
    push_address(out, peer.local_address);
}

/// The family that an UPDATE is about. One that is about several has its prefixes of IPv4 at its end.
fn family(body: &[u8]) -> Option<Family> {
    let update = Update::split(body).ok()?;
    if !update.withdrawn.is_empty() || !update.nlri.is_empty() {
        return Some(Family::Ipv4);
    }
    let value = [kind::MP_REACH_NLRI, kind::MP_UNREACH_NLRI].into_iter().find_map(|k| attribute(update.attributes, k));
    let [high, low, safi] = value?.first_chunk::<3>()?;
    Family::from_wire(u16::from_be_bytes([*high, *low]), *safi)
}

fn record(out: &mut Vec<u8>, at: u32, kind: u16, subtype: u16, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&at.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&subtype.to_be_bytes());
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn count(n: usize) -> [u8; 2] {
    u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes()
}

fn push_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
    }
}
