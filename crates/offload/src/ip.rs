//! What an IP header says: length, addresses, where the transport header begins.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Protocol numbers (the registry of assigned internet protocol numbers).
pub(crate) mod protocol {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ICMP: u8 = 1;
    pub const TCP: u8 = 6;
    pub const UDP: u8 = 17;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const AUTHENTICATION: u8 = 51;
    pub const ICMPV6: u8 = 58;
    pub const DESTINATION_OPTIONS: u8 = 60;
}

/// Bytes of an IPv4 header without options.
pub(crate) const V4: usize = 20;
/// Bytes of an IPv6 header.
pub(crate) const V6: usize = 40;

/// The number of 16 bits at `at`, in network order. It has to be there.
#[inline(always)]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The number of 32 bits at `at`, in network order. It has to be there.
#[inline(always)]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes a number of 16 bits in network order.
#[inline(always)]
pub(crate) fn put_u16(bytes: &mut [u8], at: usize, number: u16) {
    bytes[at..at + 2].copy_from_slice(&number.to_be_bytes());
}

/// 4 or 6, if `packet` has at least the fixed header of that version.
#[inline(always)]
pub(crate) fn version(packet: &[u8]) -> Option<u8> {
    match packet.first()? >> 4 {
        4 if packet.len() >= V4 => Some(4),
        6 if packet.len() >= V6 => Some(6),
        _ => None,
    }
}

/// Bytes of the IPv4 header of `packet`, which has at least 20, if they are all there.
#[inline(always)]
pub(crate) fn v4_header_len(packet: &[u8]) -> Option<usize> {
    let len = usize::from(packet[0] & 0xf) * 4;
    (V4..=packet.len()).contains(&len).then_some(len)
}

/// Length of the IP packet at the start of `bytes`, if it is whole: the IPv4 total length, or 40 and the IPv6 payload
/// length. More bytes may follow, such as WireGuard's padding. A jumbogram (RFC 2675) has no length here.
pub fn ip_len(bytes: &[u8]) -> Option<usize> {
    let len = match version(bytes)? {
        4 => {
            let len = usize::from(u16_at(bytes, 2));
            if len < v4_header_len(bytes)? {
                return None;
            }
            len
        }
        _ => match u16_at(bytes, 4) {
            0 if bytes[6] == protocol::HOP_BY_HOP => return None,
            payload => V6 + usize::from(payload),
        },
    };
    (len <= bytes.len()).then_some(len)
}

/// Who sent the packet; nothing where it has no whole IP header.
pub fn source(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 12, 8)
}

/// To whom the packet goes; nothing where it has no whole IP header.
pub fn destination(packet: &[u8]) -> Option<IpAddr> {
    address(packet, 16, 24)
}

#[inline(always)]
fn address(packet: &[u8], v4: usize, v6: usize) -> Option<IpAddr> {
    Some(match version(packet)? {
        4 => Ipv4Addr::from(*packet[v4..].first_chunk::<4>()?).into(),
        _ => Ipv6Addr::from(*packet[v6..].first_chunk::<16>()?).into(),
    })
}
