//! The internet checksum (RFC 1071).
//!
//! A one's complement sum does not depend on the byte order of its words: what is summed here are native words, and a
//! folded sum stored in native order is right on the wire. A number enters a sum as [`word`] of it.

pub use crate::simd::{sum, sum_portable};

/// How a number of 16 bits that the wire has in network order counts in a [`sum`].
#[inline(always)]
pub const fn word(number: u16) -> u64 {
    number.to_be() as u64
}

/// A sum brought down to 16 bits. Sums can be added before; what stays under 2⁶⁴ is right.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The two bytes that a checksum field gets for `sum`, which counted that field as zero or as a partial checksum.
#[inline(always)]
pub const fn complement(sum: u64) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

/// Whether a sum over data and its checksum `field` is right, and the field is the one that [`complement`] gives.
///
/// Zero has two forms in one's complement. A `field` of 0xffff verifies where 0 belongs (RFC 1624, section 3), yet it
/// isn't what a new computation gives. With UDP, `udp`, it is the other way round: 0 says that there is none.
#[inline(always)]
pub const fn verifies(sum: u64, field: [u8; 2], udp: bool) -> bool {
    let other_zero = if udp { 0 } else { 0xffff };
    fold(sum) == 0xffff && u16::from_ne_bytes(field) != other_zero
}

/// The sum of the pseudo-header (RFC 9293, section 3.1; RFC 8200, section 8.1): `addresses` are source and destination
/// as they lie in the IP header, `len` the bytes of transport header and payload.
#[inline(always)]
pub fn pseudo_header(addresses: &[u8], protocol: u8, len: u16) -> u64 {
    // Eight bytes or 32: too few for what `sum` does to be worth it.
    let (words, _) = addresses.as_chunks::<4>();
    let sum: u64 = words.iter().map(|w| u64::from(u32::from_ne_bytes(*w))).sum();
    sum + word(u16::from(protocol)) + word(len)
}

/// [`sum`] over an IPv4 header without options.
#[inline(always)]
pub fn sum_header(header: &[u8; 20]) -> u64 {
    let (words, _) = header.as_chunks::<4>();
    words.iter().map(|w| u64::from(u32::from_ne_bytes(*w))).sum()
}
