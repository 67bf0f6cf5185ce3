//! The answer to a packet that nobody takes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::checksum;
use crate::ip::{V4, V6, destination, ip_len, protocol, put_u16, source, u16_at, v4_header_len};

/// Most bytes of an answer over IPv4 (RFC 1812, section 4.3.2.3).
const MAX_V4: usize = 576;
/// Most bytes of an answer over IPv6: the least MTU (RFC 4443, section 2.4 c).
const MAX_V6: usize = 1280;
/// Bytes of the ICMP header.
const HEADER: usize = 8;
/// What the answer's hop limit begins with.
const HOPS: u8 = 64;

/// Writes the ICMP message *host unreachable* (RFC 792) or the ICMPv6 message *address unreachable* (RFC 4443, section
/// 3.1) that answers `packet`, sent from `from`, which has to be of the packet's version. Gives its length.
///
/// Nothing where none may be sent (RFC 1122, section 3.2.2; RFC 4443, section 2.4 e): in answer to an ICMP error or a
/// redirect, to a fragment but the first, to a packet from or to more than one host, to what is no whole IP packet or
/// can't be told from these; nor where `out` is too short (1280 bytes are always enough).
///
/// How many are sent in a second is the caller's to limit.
pub fn unreachable(packet: &[u8], from: IpAddr, out: &mut [u8]) -> Option<usize> {
    let packet = &packet[..ip_len(packet)?];
    match (source(packet)?, destination(packet)?, from) {
        (IpAddr::V4(source), IpAddr::V4(destination), IpAddr::V4(from)) => {
            (one_host_v4(source) && !group_v4(destination) && answerable_v4(packet)?)
                .then(|| write_v4(packet, from, source, out))?
        }
        (IpAddr::V6(source), IpAddr::V6(destination), IpAddr::V6(from)) => {
            let one_host = !source.is_multicast() && !source.is_unspecified() && !source.is_loopback();
            (one_host && !destination.is_multicast() && answerable_v6(packet)?)
                .then(|| write_v6(packet, from, source, out))?
        }
        _ => None,
    }
}

/// Not the zero network, loopback, multicast, reserved (RFC 1122, section 3.2.2).
fn one_host_v4(source: Ipv4Addr) -> bool {
    !matches!(source.octets()[0], 0 | 127 | 224..)
}

fn group_v4(destination: Ipv4Addr) -> bool {
    destination.is_multicast() || destination.is_broadcast()
}

fn answerable_v4(packet: &[u8]) -> Option<bool> {
    let header = v4_header_len(packet)?;
    if u16_at(packet, 6) & 0x1fff != 0 {
        return Some(false);
    }
    if packet[9] != protocol::ICMP {
        return Some(true);
    }
    // Unreachable, source quench, redirect, time exceeded, parameter problem.
    packet.get(header).map(|kind| !matches!(kind, 3 | 4 | 5 | 11 | 12))
}

/// Follows the extension headers to see what they hide.
fn answerable_v6(packet: &[u8]) -> Option<bool> {
    let (mut next, mut at) = (packet[6], V6);
    loop {
        let len = match next {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                usize::from(*packet.get(at + 1)?) * 8 + 8
            }
            protocol::AUTHENTICATION => usize::from(*packet.get(at + 1)?) * 4 + 8,
            protocol::FRAGMENT => {
                if u16_at(packet.get(at + 2..at + 4)?, 0) & !0b111 != 0 {
                    return Some(false);
                }
                8
            }
            // The errors are those below 128. Redirect is none, yet may not be answered either.
            protocol::ICMPV6 => return packet.get(at).map(|kind| *kind >= 128 && *kind != 137),
            _ => return Some(true),
        };
        next = *packet.get(at)?;
        at += len;
        packet.get(at..)?;
    }
}

/// Quotes `packet` after the headers, as much as fits into `most` bytes. Gives the message's bytes.
fn quote<'a>(packet: &[u8], ip: usize, most: usize, kind: [u8; 2], out: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let quoted = packet.len().min(most - ip - HEADER);
    let message = out.get_mut(..ip + HEADER + quoted)?;
    message[..ip + HEADER].fill(0);
    message[ip..ip + 2].copy_from_slice(&kind);
    message[ip + HEADER..].copy_from_slice(&packet[..quoted]);
    Some(message)
}

fn write_v4(packet: &[u8], from: Ipv4Addr, to: Ipv4Addr, out: &mut [u8]) -> Option<usize> {
    let message = quote(packet, V4, MAX_V4, [3, 1], out)?;
    let len = message.len();
    let sum = checksum::complement(checksum::sum(&message[V4..]));
    message[V4 + 2..V4 + 4].copy_from_slice(&sum);
    // Precedence "internetwork control" (RFC 1812, section 4.3.2.5). It is never a fragment, so needs no identification.
    message[..2].copy_from_slice(&[0x45, 0xc0]);
    put_u16(message, 2, len as u16);
    message[6] = 0x40;
    message[8..10].copy_from_slice(&[HOPS, protocol::ICMP]);
    message[12..16].copy_from_slice(&from.octets());
    message[16..20].copy_from_slice(&to.octets());
    let sum = checksum::complement(checksum::sum(&message[..V4]));
    message[10..12].copy_from_slice(&sum);
    Some(len)
}

fn write_v6(packet: &[u8], from: Ipv6Addr, to: Ipv6Addr, out: &mut [u8]) -> Option<usize> {
    let message = quote(packet, V6, MAX_V6, [1, 3], out)?;
    let len = message.len();
    message[0] = 0x60;
    put_u16(message, 4, (len - V6) as u16);
    message[6..8].copy_from_slice(&[protocol::ICMPV6, HOPS]);
    message[8..24].copy_from_slice(&from.octets());
    message[24..40].copy_from_slice(&to.octets());
    let pseudo = checksum::pseudo_header(&message[8..40], protocol::ICMPV6, (len - V6) as u16);
    let sum = checksum::complement(checksum::sum(&message[V6..]) + pseudo);
    message[V6 + 2..V6 + 4].copy_from_slice(&sum);
    Some(len)
}
