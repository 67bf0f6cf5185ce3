//! Joins packets of a batch into super packets.
//!
//! The rules are those of Linux (`tcp_gro_receive`, `udp_gro_receive`), made strict: [`crate::Segmenter`] gives back
//! the very packets that were joined, byte for byte, with one exception. Packets that may not be fragmented and all
//! have the same IPv4 identification are joined, as Linux does: it sends them from sockets that are not connected,
//! with 0. Cut again, they would count up; for such packets the field has no meaning (RFC 6864, section 4.1).
//!
//! Within a flow nothing overtakes: a packet that can't be joined to its flow's open group closes it. What can't be
//! told to be of no flow (fragments, headers with options, what is no IP) closes all of them.

mod flows;
mod headers;

use std::ops::Range;

use crate::checksum;
use crate::ip::{put_u16, u16_at};
use crate::segment::{tcp, udp};
use crate::virtio::{F_NEEDS_CSUM, GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, VirtioHeader};
use flows::Flows;
use headers::{Class, Headers};

/// Most datagrams in a joined one: as many as Linux joins (`UDP_GRO_CNT_MAX`), and all that older ones cut.
pub const MAX_UDP_SEGMENTS: usize = 64;
/// Most segments in a joined one: a `writev` takes 1024 pieces.
pub const MAX_TCP_SEGMENTS: usize = 512;
/// Most bytes of a joined IP packet.
const MAX_LEN: usize = 65535;

/// What the TUN takes joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// TCP segments, `TUN_F_TSO4` and `TUN_F_TSO6`.
    pub tcp: bool,
    /// UDP datagrams, `TUN_F_USO4` and `TUN_F_USO6` (Linux 6.2).
    pub udp: bool,
}

/// Decides which packets of a batch are written together. The packets stay where they are, in an arena of the caller's.
///
/// [`begin`](Self::begin), a [`push`](Self::push) for each packet in the order in which they came,
/// [`finish`](Self::finish), and then [`writes`](Self::writes). To be reused: it keeps its memory.
#[derive(Debug)]
pub struct Coalescer {
    limits: Limits,
    packets: Vec<Packet>,
    groups: Vec<Group>,
    flows: Flows,
    /// Groups before this one are closed.
    barrier: usize,
    /// What `finish` makes of `packets`: the same by group.
    pieces: Vec<Range<u32>>,
}

/// What is written of a pushed packet, and with which group.
#[derive(Debug)]
struct Packet {
    group: u32,
    start: u32,
    end: u32,
}

/// Packets that are written together; the first gives the headers.
#[derive(Debug)]
struct Group {
    /// Where the first packet begins in the arena.
    start: u32,
    /// Bytes of the IP packet that they make.
    len: u32,
    segments: u32,
    /// The first of its pieces.
    pieces: u32,
    /// The sequence number that continues it.
    sequence: u32,
    headers: Headers,
    ids: Ids,
    /// TCP's flags of the last.
    flags: u8,
    open: bool,
    /// The checksums of the first packet were found right.
    verified: bool,
}

/// How the IPv4 identification goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ids {
    /// There was one packet.
    Unknown,
    /// Each has one more than that before it.
    Counting,
    /// All have the same.
    Same,
}

/// A record for one `writev`: the header, then the pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write<'a> {
    /// What is written before them.
    pub header: VirtioHeader,
    /// Ranges of the arena: the first packet whole, then the payloads of those joined to it. Never empty.
    pub pieces: &'a [Range<u32>],
}

impl Coalescer {
    /// One that joins what `limits` let it.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            packets: Vec::new(),
            groups: Vec::new(),
            flows: Flows::default(),
            barrier: 0,
            pieces: Vec::new(),
        }
    }

    /// Forgets the batch before.
    pub fn begin(&mut self) {
        self.packets.clear();
        self.groups.clear();
        self.pieces.clear();
        self.flows.clear();
        self.barrier = 0;
    }

    /// Takes the next packet: the range of `arena` that is one whole IP packet, trimmed to [`ip_len`](crate::ip_len).
    /// What is no IP packet, or has a tail, is written as it is.
    ///
    /// # Panics
    /// Where the range isn't in the arena, or the arena is longer than 4 GiB.
    pub fn push(&mut self, arena: &[u8], packet: Range<usize>) {
        assert!(packet.end <= u32::MAX as usize, "an arena of at most 4 GiB");
        let start = packet.start as u32;
        let packet = &arena[packet];
        let headers = match headers::classify(packet, self.limits) {
            Class::Flow(headers) => headers,
            Class::Apart => {
                self.group(start, packet, Headers::NONE);
                return;
            }
            Class::Unknown => {
                self.group(start, packet, Headers::NONE);
                self.barrier = self.groups.len();
                return;
            }
        };
        let (slot, found) = self.flows.find(headers.hash(packet), |group| {
            let group: &Group = &self.groups[group];
            group.headers.same_flow(&headers, &arena[group.start as usize..], packet)
        });
        if let Some(index) = found {
            if index >= self.barrier && self.join(arena, index, start, packet, &headers) {
                return;
            }
            self.groups[index].open = false;
        }
        let index = self.group(start, packet, headers);
        self.groups[index].open = headers.first;
        if let Some(slot) = slot
            && headers.first
        {
            self.flows.set(slot, index);
        }
    }

    /// A new group of this packet, not open.
    fn group(&mut self, start: u32, packet: &[u8], headers: Headers) -> usize {
        let index = self.groups.len();
        self.packets.push(Packet { group: index as u32, start, end: start + packet.len() as u32 });
        self.groups.push(Group {
            start,
            len: packet.len() as u32,
            segments: 1,
            pieces: 0,
            sequence: headers.sequence.wrapping_add(u32::from(headers.size)),
            headers,
            ids: Ids::Unknown,
            flags: headers.flags,
            open: false,
            verified: false,
        });
        index
    }

    /// Joins the packet to the group if that gives the same packets when it is cut again.
    fn join(&mut self, arena: &[u8], index: usize, start: u32, packet: &[u8], headers: &Headers) -> bool {
        let group = &mut self.groups[index];
        if !group.open || !headers.later {
            return false;
        }
        let first = &arena[group.start as usize..];
        let (size, payload) = (usize::from(group.headers.size), usize::from(headers.size));
        let most = if headers.tcp { MAX_TCP_SEGMENTS } else { MAX_UDP_SEGMENTS };
        let fits = payload <= size
            && group.len as usize + payload <= MAX_LEN
            && (group.segments as usize) < most
            && (!headers.tcp || headers.sequence == group.sequence)
            && group.headers.alike(headers, first, packet);
        if !fits {
            return false;
        }
        let Some(ids) = group.next_ids(first, packet) else { return false };
        if !group.verified {
            let len = group.headers.len as usize + size;
            group.verified = group.headers.verify(&first[..len]);
        }
        if !group.verified || !headers.verify(packet) {
            return false;
        }
        group.ids = ids;
        group.len += payload as u32;
        group.segments += 1;
        group.sequence = group.sequence.wrapping_add(payload as u32);
        group.flags = headers.flags;
        group.open = payload == size && headers.flags & (tcp::PSH | tcp::FIN) == 0;
        let end = start + packet.len() as u32;
        self.packets.push(Packet { group: index as u32, start: end - payload as u32, end });
        true
    }

    /// Amends the headers of the first packets of joined groups, so that they are those of the super packet: length,
    /// IPv4 header checksum, TCP flags, and the sum of the pseudo-header in place of the checksum.
    pub fn finish(&mut self, arena: &mut [u8]) {
        let mut pieces = 0;
        for group in &mut self.groups {
            group.pieces = pieces;
            pieces += group.segments;
            if group.segments > 1 {
                group.amend(&mut arena[group.start as usize..]);
            }
        }
        if self.groups.len() == self.packets.len() {
            self.pieces.extend(self.packets.iter().map(|p| p.start..p.end));
            return;
        }
        self.pieces.resize(self.packets.len(), 0..0);
        for packet in &self.packets {
            let group = &mut self.groups[packet.group as usize];
            self.pieces[group.pieces as usize] = packet.start..packet.end;
            group.pieces += 1;
        }
        // Each group's mark has come to its end.
        for group in &mut self.groups {
            group.pieces -= group.segments;
        }
    }

    /// What is to be written, in the order of the first packets.
    pub fn writes(&self) -> impl ExactSizeIterator<Item = Write<'_>> {
        self.groups.iter().map(|group| Write {
            header: group.virtio(),
            pieces: &self.pieces[group.pieces as usize..][..group.segments as usize],
        })
    }
}

impl Group {
    /// How the identifications go on with this packet, if they do.
    #[inline]
    fn next_ids(&self, first: &[u8], packet: &[u8]) -> Option<Ids> {
        if !self.headers.v4 {
            return Some(Ids::Unknown);
        }
        let (id, next) = (u16_at(first, 4), u16_at(packet, 4));
        let may_fragment = first[6] & 0x40 == 0;
        if self.ids != Ids::Same && next == id.wrapping_add(self.segments as u16) {
            Some(Ids::Counting)
        } else if self.ids != Ids::Counting && next == id && !may_fragment {
            Some(Ids::Same)
        } else {
            None
        }
    }

    fn amend(&self, first: &mut [u8]) {
        let (headers, len) = (&self.headers, self.len as u16);
        let ip = headers.ip();
        if headers.v4 {
            put_u16(first, 2, len);
            first[10..12].fill(0);
            let sum = first.first_chunk().map_or(0, checksum::sum_header);
            first[10..12].copy_from_slice(&checksum::complement(sum));
        } else {
            put_u16(first, 4, len - ip as u16);
        }
        let transport_len = len - ip as u16;
        let pseudo = checksum::fold(headers.pseudo_header(first, transport_len)).to_ne_bytes();
        let transport = &mut first[ip..];
        if headers.tcp {
            transport[13] |= self.flags & (tcp::PSH | tcp::FIN);
            transport[tcp::CHECKSUM..tcp::CHECKSUM + 2].copy_from_slice(&pseudo);
        } else {
            put_u16(transport, 4, transport_len);
            transport[udp::CHECKSUM..udp::CHECKSUM + 2].copy_from_slice(&pseudo);
        }
    }

    fn virtio(&self) -> VirtioHeader {
        if self.segments == 1 {
            return VirtioHeader::NONE;
        }
        let headers = &self.headers;
        let gso_type = match (headers.tcp, headers.v4) {
            (true, true) => GSO_TCPV4,
            (true, false) => GSO_TCPV6,
            (false, _) => GSO_UDP_L4,
        };
        let ecn = if headers.tcp && headers.flags & tcp::CWR != 0 { GSO_ECN } else { 0 };
        VirtioHeader {
            flags: F_NEEDS_CSUM,
            gso_type: gso_type | ecn,
            hdr_len: headers.len,
            gso_size: headers.size,
            csum_start: headers.ip() as u16,
            csum_offset: if headers.tcp { tcp::CHECKSUM } else { udp::CHECKSUM } as u16,
        }
    }
}
