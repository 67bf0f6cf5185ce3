//! What the coalescing has to know of a packet's headers.

use super::Limits;
use crate::checksum;
use crate::ip::{V4, V6, ip_len, protocol, u16_at, u32_at, version};
use crate::segment::{tcp, udp};

/// Whether a packet has to do with the groups before it.
#[derive(Clone, Copy, Debug)]
pub enum Class {
    /// TCP or UDP, with ports: it belongs to a flow.
    Flow(Headers),
    /// Of another protocol, or one that isn't joined: it is in no flow that is.
    Apart,
    /// A flow that can't be told: of any.
    Unknown,
}

/// Of a TCP or UDP packet without IPv4 options or IPv6 extension headers.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    pub v4: bool,
    pub tcp: bool,
    /// It can begin a group.
    pub first: bool,
    /// It can be joined to one.
    pub later: bool,
    /// TCP's flags; 0 with UDP.
    pub flags: u8,
    /// Bytes of the IP and the transport header.
    pub len: u16,
    /// Bytes of payload.
    pub size: u16,
    /// TCP's sequence number; 0 with UDP.
    pub sequence: u32,
}

/// Reads the headers of a packet.
#[inline]
pub fn classify(packet: &[u8], limits: Limits) -> Class {
    if ip_len(packet) != Some(packet.len()) {
        return Class::Unknown;
    }
    let v4 = version(packet) == Some(4);
    let (ip, protocol) = if v4 {
        // Without options, and neither a fragment nor with the reserved bit.
        if packet[0] != 0x45 || u16_at(packet, 6) & !0x4000 != 0 {
            return Class::Unknown;
        }
        (V4, packet[9])
    } else {
        (V6, packet[6])
    };
    let segment = &packet[ip..];
    match protocol {
        protocol::TCP if limits.tcp => tcp(packet, segment, v4).map_or(Class::Unknown, Class::Flow),
        protocol::UDP if limits.udp => udp(packet, segment, v4).map_or(Class::Unknown, Class::Flow),
        protocol::TCP | protocol::UDP | protocol::ICMPV6 => Class::Apart,
        _ if v4 => Class::Apart,
        // It may be an extension header, with anything behind it.
        _ => Class::Unknown,
    }
}

#[inline]
fn tcp(packet: &[u8], segment: &[u8], v4: bool) -> Option<Headers> {
    let fixed: &[u8; tcp::HEADER] = segment.first_chunk()?;
    let header = usize::from(fixed[12] >> 4) * 4;
    if !(tcp::HEADER..=segment.len()).contains(&header) {
        return None;
    }
    let size = segment.len() - header;
    let flags = fixed[13];
    let joinable = size > 0 && flags & (tcp::SYN | tcp::RST | tcp::URG) == 0;
    Some(Headers {
        v4,
        tcp: true,
        first: joinable && flags & (tcp::PSH | tcp::FIN) == 0,
        later: joinable && flags & tcp::CWR == 0,
        flags,
        len: (packet.len() - size) as u16,
        size: size as u16,
        sequence: u32_at(fixed, 4),
    })
}

#[inline]
fn udp(packet: &[u8], segment: &[u8], v4: bool) -> Option<Headers> {
    let header: &[u8; udp::HEADER] = segment.first_chunk()?;
    let size = segment.len() - udp::HEADER;
    let whole = usize::from(u16_at(header, 4)) == segment.len();
    let joinable = whole && size > 0 && u16_at(header, udp::CHECKSUM) != 0;
    Some(Headers {
        v4,
        tcp: false,
        first: joinable,
        later: joinable,
        flags: 0,
        len: (packet.len() - size) as u16,
        size: size as u16,
        sequence: 0,
    })
}

impl Headers {
    /// Of a packet that is in no flow.
    pub const NONE: Self =
        Self { v4: false, tcp: false, first: false, later: false, flags: 0, len: 0, size: 0, sequence: 0 };

    /// Bytes of the IP header.
    #[inline(always)]
    pub fn ip(&self) -> usize {
        if self.v4 { V4 } else { V6 }
    }

    /// A number that the packets of a flow have in common.
    #[inline]
    pub fn hash(&self, packet: &[u8]) -> u32 {
        // Odd, with the bits of the golden ratio.
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        // Addresses and ports lie beside each other.
        let key = if self.v4 { &packet[12..24] } else { &packet[8..44] };
        let mut hash = u64::from(self.tcp);
        for word in key.as_chunks::<4>().0 {
            hash = (hash ^ u64::from(u32::from_ne_bytes(*word))).wrapping_mul(MULTIPLIER).rotate_left(29);
        }
        (hash ^ hash >> 32) as u32
    }

    /// Whether both packets are of one flow: protocol, addresses and ports.
    #[inline]
    pub fn same_flow(&self, other: &Self, own: &[u8], others: &[u8]) -> bool {
        self.v4 == other.v4
            && self.tcp == other.tcp
            && if self.v4 { own[12..24] == others[12..24] } else { own[8..44] == others[8..44] }
    }

    /// Whether the headers of two packets of a flow are the same, but for what segments differ in.
    #[inline]
    pub fn alike(&self, other: &Self, own: &[u8], others: &[u8]) -> bool {
        let ip = if self.v4 {
            // Type of service; may not be fragmented; time to live.
            own[1] == others[1] && own[6] == others[6] && own[8] == others[8]
        } else {
            // Traffic class and flow label; hop limit.
            own[..4] == others[..4] && own[7] == others[7]
        };
        ip && (!self.tcp || {
            const LAST_ONLY: u8 = tcp::PSH | tcp::FIN;
            let (at, end) = (self.ip(), usize::from(self.len));
            self.len == other.len
                && (self.flags & !tcp::CWR) == (other.flags & !LAST_ONLY)
                // Acknowledgement and header length; window; urgent pointer and options.
                && own[at + 8..at + 13] == others[at + 8..at + 13]
                && own[at + 14..at + 16] == others[at + 14..at + 16]
                && own[at + 18..end] == others[at + 18..end]
        })
    }

    /// The sum of the pseudo-header; `len` is that of transport header and payload.
    #[inline]
    pub fn pseudo_header(&self, packet: &[u8], len: u16) -> u64 {
        let addresses = if self.v4 { &packet[12..20] } else { &packet[8..40] };
        checksum::pseudo_header(addresses, if self.tcp { protocol::TCP } else { protocol::UDP }, len)
    }

    /// Whether the checksums of this packet are right.
    #[inline]
    pub fn verify(&self, packet: &[u8]) -> bool {
        let ip = self.ip();
        if self.v4 {
            let sum = packet.first_chunk().map_or(0, checksum::sum_header);
            if !checksum::verifies(sum, [packet[10], packet[11]], false) {
                return false;
            }
        }
        let segment = &packet[ip..];
        let field = if self.tcp { tcp::CHECKSUM } else { udp::CHECKSUM };
        let sum = checksum::sum(segment) + self.pseudo_header(packet, segment.len() as u16);
        checksum::verifies(sum, [segment[field], segment[field + 1]], !self.tcp)
    }
}
