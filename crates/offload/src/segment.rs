//! Cuts what a TUN gives into packets of the path's size.

use std::ops::Range;

use crate::checksum;
use crate::ip::{V6, protocol, put_u16, u16_at, u32_at, v4_header_len, version};
use crate::virtio::{F_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, VirtioHeader};

/// TCP's flags, the byte at 13 (RFC 9293, section 3.1; RFC 3168, section 6.1).
pub(crate) mod tcp {
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const URG: u8 = 0x20;
    pub const CWR: u8 = 0x80;
    /// Bytes of a header without options.
    pub const HEADER: usize = 20;
    /// Where the checksum lies in it.
    pub const CHECKSUM: usize = 16;
}

/// UDP's header (RFC 768).
pub(crate) mod udp {
    /// Bytes of it.
    pub const HEADER: usize = 8;
    /// Where the checksum lies in it.
    pub const CHECKSUM: usize = 6;
}

/// Why a packet can't be taken as its virtio header says. It is dropped: who wrote it would have to mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The type of segmentation is none that was offered.
    #[error("segmentation type {0:#04x} is unknown or was not offered")]
    Type(u8),
    /// A packet that is to be cut has segments of no payload.
    #[error("a packet to be cut has a segment size of 0")]
    Size,
    /// The IP header is not of the version that the type says, is cut short, or that of a fragment.
    #[error("the packet's IP header does not fit its segmentation type")]
    Ip,
    /// The transport header is not where the virtio header says, is of another protocol, or cut short.
    #[error("the packet's transport header does not fit its segmentation type")]
    Transport,
    /// The checksum would lie outside the packet or in its IP header.
    #[error("the checksum is not inside the packet")]
    Checksum,
    /// A segment would be longer than an IP packet can be.
    #[error("a segment would be longer than 65535 bytes")]
    Long,
}

/// What becomes of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// As it is.
    Whole,
    /// Whole, and the sum from the first index on completes the checksum at the second.
    Partial(usize, usize),
    Tcp,
    Udp,
}

/// One packet as read from a TUN, to be written out as one or more.
///
/// Segments get their own lengths, IPv4 identifications (counting up), sequence numbers and checksums. FIN and PSH are
/// on the last only, CWR on the first only; options and extension headers are in each. The header's `hdr_len` is not
/// used: where the payload begins is what the packet itself says.
#[derive(Clone, Debug)]
pub struct Segmenter<'a> {
    packet: &'a [u8],
    kind: Kind,
    v4: bool,
    /// Where the transport header begins.
    transport: usize,
    /// Where the payload begins.
    payload: usize,
    /// Bytes of payload in a segment.
    size: usize,
    count: usize,
    /// The sum of the IPv4 header but for length, identification and checksum.
    ip_sum: u64,
    /// The sum of what all segments have in common of pseudo-header and transport header: all but lengths, sequence
    /// number, flags and checksum. Nothing where no checksum is wanted (UDP over IPv4).
    ///
    /// What differs is added as numbers. To read it back right after it was written in small parts would stall.
    transport_sum: Option<u64>,
}

impl<'a> Segmenter<'a> {
    /// Looks at a packet and at the header before it.
    ///
    /// # Errors
    /// [`Malformed`] where the two don't fit together. A packet that is not to be cut may be anything.
    pub fn new(header: VirtioHeader, packet: &'a [u8]) -> Result<Self, Malformed> {
        if header.gso_type == GSO_NONE {
            let kind = if header.flags & F_NEEDS_CSUM == 0 { Kind::Whole } else { partial(header, packet)? };
            return Ok(Self {
                packet,
                kind,
                v4: false,
                transport: 0,
                payload: 0,
                size: packet.len(),
                count: 1,
                ip_sum: 0,
                transport_sum: None,
            });
        }
        let size = usize::from(header.gso_size);
        if size == 0 {
            return Err(Malformed::Size);
        }
        let version = version(packet).ok_or(Malformed::Ip)?;
        let kind = match (header.gso_type & !GSO_ECN, version) {
            (GSO_TCPV4, 4) | (GSO_TCPV6, 6) => Kind::Tcp,
            (GSO_TCPV4 | GSO_TCPV6, _) => return Err(Malformed::Ip),
            (GSO_UDP_L4, _) if header.gso_type & GSO_ECN == 0 => Kind::Udp,
            _ => return Err(Malformed::Type(header.gso_type)),
        };
        let transport = transport(header, packet, kind, version)?;
        let (fixed, field) = match kind {
            Kind::Tcp => (tcp::HEADER, tcp::CHECKSUM),
            _ => (udp::HEADER, udp::CHECKSUM),
        };
        let segment = packet.get(transport..).filter(|s| s.len() >= fixed).ok_or(Malformed::Transport)?;
        let header_len = if kind == Kind::Tcp { usize::from(segment[12] >> 4) * 4 } else { fixed };
        if !(fixed..=segment.len()).contains(&header_len) {
            return Err(Malformed::Transport);
        }
        let payload = transport + header_len;
        // IPv4 counts its header in its length, IPv6 does not.
        let counted = payload - if version == 4 { 0 } else { V6 };
        if counted + size.min(packet.len() - payload) > usize::from(u16::MAX) {
            return Err(Malformed::Long);
        }
        let given = [segment[field], segment[field + 1]];
        let pseudo = if header.flags & F_NEEDS_CSUM != 0 {
            if usize::from(header.csum_offset) != field {
                return Err(Malformed::Checksum);
            }
            // The field has the sum of the pseudo-header, as its maker knows it: with a routing header (RFC 8200,
            // section 8.1) that is not of this packet's addresses. Its length is taken out.
            Some(u64::from(u16::from_ne_bytes(given)) + checksum::word(!(segment.len() as u16)))
        } else if kind == Kind::Udp && given == [0, 0] {
            None
        } else {
            let addresses = if version == 4 { &packet[12..20] } else { &packet[8..40] };
            let protocol = if kind == Kind::Tcp { protocol::TCP } else { protocol::UDP };
            Some(checksum::pseudo_header(addresses, protocol, 0))
        };
        let count = (packet.len() - payload).div_ceil(size).max(1);
        let v4 = version == 4;
        let ip_sum = if v4 { sum_without(&packet[..transport], &[2..6, 10..12]) } else { 0 };
        // Sequence number, flags and checksum; length and checksum.
        let varying: &[_] = if kind == Kind::Tcp { &[4..8, 12..14, 16..18] } else { &[4..6, 6..8] };
        let common = sum_without(&segment[..header_len], varying);
        let transport_sum = pseudo.map(|pseudo| pseudo + common);
        Ok(Self { packet, kind, v4, transport, payload, size, count, ip_sum, transport_sum })
    }

    /// How many packets it becomes: one or more.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Bytes of the IP packet number `index`, which is less than [`count`](Self::count).
    pub fn segment_len(&self, index: usize) -> usize {
        self.payload + self.payload_of(index).len()
    }

    /// Writes the IP packet number `index`.
    ///
    /// # Panics
    /// Where there is no such packet or `out` is not just as long as [`segment_len`](Self::segment_len) says.
    pub fn write(&self, index: usize, out: &mut [u8]) {
        let payload = self.payload_of(index);
        assert!(index < self.count && out.len() == self.payload + payload.len(), "a buffer of the segment's length");
        match self.kind {
            Kind::Whole => out.copy_from_slice(self.packet),
            Kind::Partial(start, field) => {
                out.copy_from_slice(self.packet);
                let sum = checksum::complement(checksum::sum(&self.packet[start..]));
                out[field..field + 2].copy_from_slice(&if field - start == udp::CHECKSUM { present(sum) } else { sum });
            }
            Kind::Tcp | Kind::Udp => {
                out[..self.payload].copy_from_slice(&self.packet[..self.payload]);
                self.amend(index, out, checksum::sum(payload));
                out[self.payload..].copy_from_slice(payload);
            }
        }
    }

    fn payload_of(&self, index: usize) -> &'a [u8] {
        let all = &self.packet[self.payload..];
        let start = index.saturating_mul(self.size).min(all.len());
        &all[start..start.saturating_add(self.size).min(all.len())]
    }

    /// Makes the super packet's headers in `out` those of segment `index`, whose payload has the sum `payload`.
    #[inline]
    fn amend(&self, index: usize, out: &mut [u8], payload: u64) {
        if self.v4 {
            let len = out.len() as u16;
            let id = u16_at(self.packet, 4).wrapping_add(index as u16);
            put_u16(out, 2, len);
            put_u16(out, 4, id);
            let sum = self.ip_sum + checksum::word(len) + checksum::word(id);
            out[10..12].copy_from_slice(&checksum::complement(sum));
        } else {
            put_u16(out, 4, (out.len() - V6) as u16);
        }
        let len = (out.len() - self.transport) as u16;
        let segment = &mut out[self.transport..self.payload];
        let tcp = self.kind == Kind::Tcp;
        let (field, varying) = if tcp {
            let given = &self.packet[self.transport..self.payload];
            let sequence = u32_at(given, 4).wrapping_add((index * self.size) as u32);
            let first_only = if index > 0 { tcp::CWR } else { 0 };
            let last_only = if index + 1 < self.count { tcp::FIN | tcp::PSH } else { 0 };
            let flags = u16_at(given, 12) & !u16::from(first_only | last_only);
            segment[4..8].copy_from_slice(&sequence.to_be_bytes());
            put_u16(segment, 12, flags);
            let sequence = checksum::word((sequence >> 16) as u16) + checksum::word(sequence as u16);
            (tcp::CHECKSUM, sequence + checksum::word(flags))
        } else {
            put_u16(segment, 4, len);
            (udp::CHECKSUM, checksum::word(len))
        };
        let Some(common) = self.transport_sum else { return };
        let sum = checksum::complement(common + varying + payload + checksum::word(len));
        segment[field..field + 2].copy_from_slice(&if tcp { sum } else { present(sum) });
    }
}

/// The sum of a header, which is at most 60 bytes, but for some of its fields.
fn sum_without(header: &[u8], fields: &[Range<usize>]) -> u64 {
    let mut copy = [0; 60];
    let copy = &mut copy[..header.len()];
    copy.copy_from_slice(header);
    for field in fields {
        copy[field.clone()].fill(0);
    }
    checksum::sum(copy)
}

/// A UDP checksum that comes out as zero is sent as its other form: zero says that there is none (RFC 768).
#[inline(always)]
pub(crate) fn present(sum: [u8; 2]) -> [u8; 2] {
    if sum == [0, 0] { [0xff, 0xff] } else { sum }
}

fn partial(header: VirtioHeader, packet: &[u8]) -> Result<Kind, Malformed> {
    let (start, field) = (usize::from(header.csum_start), usize::from(header.csum_offset));
    let ip = match version(packet) {
        Some(4) => v4_header_len(packet),
        Some(_) => Some(V6),
        None => None,
    };
    let fits = start >= ip.ok_or(Malformed::Ip)? && start + field + 2 <= packet.len();
    fits.then_some(Kind::Partial(start, start + field)).ok_or(Malformed::Checksum)
}

/// Where the transport header begins.
fn transport(header: VirtioHeader, packet: &[u8], kind: Kind, version: u8) -> Result<usize, Malformed> {
    let start = usize::from(header.csum_start);
    let given = header.flags & F_NEEDS_CSUM != 0;
    let protocol = if kind == Kind::Tcp { protocol::TCP } else { protocol::UDP };
    if version == 4 {
        let end = v4_header_len(packet).ok_or(Malformed::Ip)?;
        if u16_at(packet, 6) & 0x3fff != 0 {
            return Err(Malformed::Ip);
        }
        let fits = packet[9] == protocol && (!given || start == end);
        return fits.then_some(end).ok_or(Malformed::Transport);
    }
    // Which header comes last is not looked for: the kernel says where it begins.
    match (given, packet[6] == protocol) {
        (_, true) if !given || start == V6 => Ok(V6),
        (true, false) if start > V6 => Ok(start),
        _ => Err(Malformed::Transport),
    }
}
