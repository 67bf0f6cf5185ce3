//! Explicit congestion notification (RFC 3168) through a tunnel (RFC 6040).

use crate::ip::{put_u16, u16_at, version};

/// Not ECN-capable.
const NOT_ECT: u8 = 0b00;
/// ECN-capable; since RFC 8311 also: of a low-latency flow.
const ECT_1: u8 = 0b01;
/// Congestion experienced.
const CE: u8 = 0b11;

/// The two ECN bits of a packet (RFC 3168, section 5): 0 not ECN-capable, 1 ECT(1), 2 ECT(0), 3 congestion
/// experienced. What is no IP packet is not ECN-capable.
///
/// For the encapsulated packet they are copied (RFC 6040, section 4.1).
pub fn ecn(packet: &[u8]) -> u8 {
    match version(packet) {
        Some(4) => packet[1] & 0b11,
        Some(_) => packet[1] >> 4 & 0b11,
        None => NOT_ECT,
    }
}

/// Marks a packet with congestion experienced, the IPv4 header checksum with it. Says whether it is marked now: one
/// that is not ECN-capable is left as it is.
pub fn set_ce(packet: &mut [u8]) -> bool {
    ecn(packet) != NOT_ECT && set(packet, CE)
}

/// What a tunnel's end does with the ECN bits `outer` of the packet that carried `packet` (RFC 6040, section 4.2).
///
/// ```text
///                 outer: Not-ECT   ECT(0)    ECT(1)    CE
///     inner Not-ECT      Not-ECT   Not-ECT   Not-ECT   drop
///     inner ECT(0)       ECT(0)    ECT(0)    ECT(1)    CE
///     inner ECT(1)       ECT(1)    ECT(1)    ECT(1)    CE
///     inner CE           CE        CE        CE        CE
/// ```
///
/// `false` says that the packet is to be dropped: the path signals congestion to somebody who would not see it.
/// (Linux's WireGuard lets it pass.)
#[must_use]
pub fn decapsulate_ecn(outer: u8, packet: &mut [u8]) -> bool {
    // Most packets come from a path that marks nothing: they are not even looked at.
    match outer & 0b11 {
        CE => {
            let inner = ecn(packet);
            inner == CE || inner != NOT_ECT && set(packet, CE)
        }
        ECT_1 if !matches!(ecn(packet), NOT_ECT | CE) => set(packet, ECT_1),
        _ => true,
    }
}

/// Sets the ECN bits of an IP packet, with the change in the IPv4 header checksum (RFC 1624, equation 3).
fn set(packet: &mut [u8], ecn: u8) -> bool {
    match version(packet) {
        Some(4) => {
            let old = u16_at(packet, 0);
            let new = old & !0b11 | u16::from(ecn);
            let sum = u32::from(!u16_at(packet, 10)) + u32::from(!old) + u32::from(new);
            let sum = (sum & 0xffff) + (sum >> 16);
            let sum = (sum & 0xffff) + (sum >> 16);
            put_u16(packet, 0, new);
            put_u16(packet, 10, !(sum as u16));
            true
        }
        Some(_) => {
            packet[1] = packet[1] & !0x30 | ecn << 4;
            true
        }
        None => false,
    }
}
