//! The tables in parts, for those who write them down while the router goes on.
//!
//! A part is what the tables have at the moment of the call. What changes between two parts is in the later one if it
//! is behind the [`Cursor`]; whoever needs more listens to the changes, too ([`tap`](super::tap)).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::SystemTime;

use super::tap::Seen;
use super::{Rib, Router};
use crate::export::Burst;
use crate::mrt::{IndexPeer, RibEntry, encode};
use crate::prefix::{self, Prefix};
use crate::rib::{AttributeId, Attributes, LOCAL, Slot, SourceId};
use crate::update::attributes::{NextHop, flag, iter, kind, put};
use crate::wire::{HEADER, MAX, MAX_EXTENDED};
use crate::{Family, export};

/// How far a reader of the tables is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    family: Family,
    slot: usize,
}

impl Default for Cursor {
    fn default() -> Self {
        Self { family: Family::Ipv4, slot: 0 }
    }
}

impl Cursor {
    /// Where the next part begins; `None` is the end.
    fn after<P: Prefix>(self, rib: &Rib<P>, slots: usize) -> Option<Self> {
        let slot = self.slot + slots;
        match self.family {
            family if slot < rib.table.slots() => Some(Self { family, slot }),
            Family::Ipv4 => Some(Self { family: Family::Ipv6, slot: 0 }),
            Family::Ipv6 => None,
        }
    }
}

/// Who is at which place of a TABLE_DUMP_V2's peer index.
#[derive(Debug, Default)]
pub struct Index {
    /// The peers, in order.
    pub peers: Vec<IndexPeer>,
    /// The place, the address then (another neighbour may get the number), and when the session came up.
    places: HashMap<SourceId, (u16, IpAddr, u32)>,
}

impl Router {
    /// All who may have paths in the tables. The speaker itself is the first.
    pub fn index(&self, at: SystemTime) -> Index {
        let own = IndexPeer {
            router_id: self.config.router_id,
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            asn: self.config.asn,
        };
        let mut index = Index { peers: vec![own], places: HashMap::new() };
        index.places.insert(LOCAL, (0, self.sources[LOCAL as usize].address, encode::seconds(at)));
        for peer in self.peers() {
            let Ok(place) = u16::try_from(index.peers.len()) else { break };
            let seen = self.tap.as_ref().and_then(|tap| tap.seen(peer.id));
            let since = encode::seconds(seen.map_or(at, |seen| seen.at));
            index.peers.push(IndexPeer {
                router_id: self.sources[peer.id as usize].router_id,
                address: peer.address,
                asn: seen.map(|s| s.asn).or(peer.neighbor.remote_asn).unwrap_or(0),
            });
            index.places.insert(peer.id, (place, peer.address, since));
        }
        index
    }

    /// Appends the next so many slots as RIB records of a TABLE_DUMP_V2 (RFC 6396, RFC 8050) to `out`, numbered from
    /// `sequence` on: the paths that take part in the choice, those of peers that `index` has. Returns where to go on.
    pub fn dump(
        &self,
        cursor: Cursor,
        slots: usize,
        index: &Index,
        at: u32,
        sequence: &mut u32,
        out: &mut Vec<u8>,
    ) -> Option<Cursor> {
        match cursor.family {
            Family::Ipv4 => self.dump_part(&self.v4, cursor, slots, index, at, sequence, out),
            Family::Ipv6 => self.dump_part(&self.v6, cursor, slots, index, at, sequence, out),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn dump_part<P: Prefix>(
        &self,
        rib: &Rib<P>,
        cursor: Cursor,
        slots: usize,
        index: &Index,
        at: u32,
        sequence: &mut u32,
        out: &mut Vec<u8>,
    ) -> Option<Cursor> {
        // With and without path identifiers are two kinds of records.
        let mut entries: [Vec<RibEntry>; 2] = Default::default();
        for slot in part(rib, cursor, slots) {
            entries.iter_mut().for_each(Vec::clear);
            for path in rib.table.paths(slot).iter().filter(|path| path.state.eligible()) {
                let Some((peer, address, originated)) = index.places.get(&path.source).copied() else { continue };
                if self.sources[path.source as usize].address != address {
                    continue;
                }
                let seen = self.tap.as_ref().and_then(|tap| tap.seen(path.source));
                let add_path = path.received_id != 0 || seen.is_some_and(|seen| seen.add_path.contains(&P::FAMILY));
                let mut attributes = Vec::new();
                self.with_hop(self.store.get(path.attributes), P::FAMILY, &mut attributes);
                let path_id = path.received_id;
                entries[usize::from(add_path)].push(RibEntry { peer, originated, path_id, attributes });
            }
            for (add_path, entries) in [false, true].into_iter().zip(&entries).filter(|(_, e)| !e.is_empty()) {
                encode::rib(out, at, *sequence, rib.table.prefix(slot), add_path, entries);
                *sequence = sequence.wrapping_add(1);
            }
        }
        cursor.after(rib, slots)
    }

    /// Hands what established neighbours announced, of the next so many slots, to `take` as bodies of UPDATEs. These
    /// are the paths as they came, but for what an import policy changed on them. Returns where to go on.
    pub fn replay(&self, cursor: Cursor, slots: usize, mut take: impl FnMut(&Arc<Seen>, &[u8])) -> Option<Cursor> {
        match cursor.family {
            Family::Ipv4 => self.replay_part(&self.v4, cursor, slots, &mut take),
            Family::Ipv6 => self.replay_part(&self.v6, cursor, slots, &mut take),
        }
    }

    fn replay_part<P: Prefix>(
        &self,
        rib: &Rib<P>,
        cursor: Cursor,
        slots: usize,
        take: &mut impl FnMut(&Arc<Seen>, &[u8]),
    ) -> Option<Cursor> {
        let tap = self.tap.as_ref()?;
        let mut alike: Vec<(SourceId, AttributeId, u32, P)> = Vec::new();
        for slot in part(rib, cursor, slots) {
            // What is stale was not announced in this session.
            let fresh = rib.table.paths(slot).iter().filter(|path| path.source != LOCAL && !path.state.stale());
            let prefix = rib.table.prefix(slot);
            alike.extend(fresh.map(|path| (path.source, path.attributes, path.received_id, prefix)));
        }
        alike.sort_unstable();
        for same in alike.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (source, attributes, ..) = same[0];
            if let Some(seen) = tap.seen(source) {
                self.replay_same(seen, self.store.get(attributes), same, take);
            }
        }
        cursor.after(rib, slots)
    }

    fn replay_same<P: Prefix>(
        &self,
        seen: &Arc<Seen>,
        attributes: &Attributes,
        routes: &[(SourceId, AttributeId, u32, P)],
        take: &mut impl FnMut(&Arc<Seen>, &[u8]),
    ) {
        let add_path = seen.add_path.contains(&P::FAMILY);
        let longest = if seen.extended { MAX_EXTENDED } else { MAX };
        // The next hop, and the headers of the attribute that has it and the prefixes.
        let room = longest.saturating_sub(HEADER + 4 + attributes.bytes.len() + 4 + 5 + 32);
        let mut rest = routes;
        while !rest.is_empty() {
            let mut size = 0;
            let fitting = rest.iter().take_while(|(.., prefix)| {
                size += prefix::size(*prefix, add_path);
                size <= room
            });
            // A set of attributes that fills a message by itself came with one prefix at least.
            let (now, later) = rest.split_at(fitting.count().max(1));
            let mut nlri = Vec::new();
            for (.., id, prefix) in now {
                prefix::write(&mut nlri, add_path.then_some(*id), *prefix);
            }
            take(seen, &announcement(P::FAMILY, attributes, &nlri));
            rest = later;
        }
    }

    /// Attributes as a TABLE_DUMP_V2 has them: with the next hop, which of IPv6 is an abbreviated `MP_REACH_NLRI`
    /// (RFC 6396, section 4.3.4).
    fn with_hop(&self, attributes: &Attributes, family: Family, out: &mut Vec<u8>) {
        let own = |family| self.config.addresses.iter().copied().find(|address| Family::of(*address) == family);
        let (kind, flags, value) = match (family, attributes.next_hop) {
            (Family::Ipv4, NextHop::V4(hop)) => (kind::NEXT_HOP, flag::TRANSITIVE, hop.octets().to_vec()),
            (Family::Ipv4, _) => {
                let hop = match own(family) {
                    Some(IpAddr::V4(hop)) => hop,
                    _ => Ipv4Addr::UNSPECIFIED,
                };
                (kind::NEXT_HOP, flag::TRANSITIVE, hop.octets().to_vec())
            }
            (Family::Ipv6, hop) => {
                let hop = match (hop, own(family)) {
                    (NextHop::Own, Some(IpAddr::V6(own))) => NextHop::V6(own, None),
                    (hop, _) => hop,
                };
                let mut value = Vec::new();
                export::encode::write_hop(&mut value, hop);
                (kind::MP_REACH_NLRI, flag::OPTIONAL, value)
            }
        };
        insert(&attributes.bytes, flags, kind, &value, out);
    }
}

/// The End-of-RIB marker's body of a family (RFC 4724, section 2).
pub fn end_of_rib(family: Family) -> Vec<u8> {
    Burst::end_of_rib(family).split_off(HEADER)
}

fn part<P: Prefix>(rib: &Rib<P>, cursor: Cursor, slots: usize) -> impl Iterator<Item = Slot> {
    let end = rib.table.slots().min(cursor.slot + slots);
    (cursor.slot..end).map(|slot| Slot::try_from(slot).unwrap_or(Slot::MAX))
}

fn announcement(family: Family, attributes: &Attributes, nlri: &[u8]) -> Vec<u8> {
    let (mut field, mut value) = (Vec::new(), Vec::new());
    let rest = match (family, attributes.next_hop) {
        (Family::Ipv4, NextHop::V4(hop)) => {
            insert(&attributes.bytes, flag::TRANSITIVE, kind::NEXT_HOP, &hop.octets(), &mut field);
            nlri
        }
        (_, hop) => {
            value.extend_from_slice(&family.afi().to_be_bytes());
            value.push(1);
            export::encode::write_hop(&mut value, hop);
            value.push(0);
            value.extend_from_slice(nlri);
            // The first of the attributes: RFC 7606, section 5.1.
            put(&mut field, flag::OPTIONAL, kind::MP_REACH_NLRI, &value);
            field.extend_from_slice(&attributes.bytes);
            &[]
        }
    };
    let length = u16::try_from(field.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[0, 0], &length[..], &field, rest].concat()
}

/// Attributes with one more, at its place.
fn insert(attributes: &[u8], flags: u8, kind: u8, value: &[u8], out: &mut Vec<u8>) {
    let mut due = Some(value);
    for (present_flags, present, bytes) in iter(attributes) {
        if present > kind
            && let Some(value) = due.take()
        {
            put(out, flags, kind, value);
        }
        put(out, present_flags, present, bytes);
    }
    if let Some(value) = due {
        put(out, flags, kind, value);
    }
}
