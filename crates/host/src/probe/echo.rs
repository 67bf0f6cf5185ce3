//! Echo request and reply on the wire (RFC 792, RFC 4443 section 4).
//!
//! ```text
//! | type 1 | code 1 | checksum 2 | identifier 2 | sequence 2 | prober 8 | target 8 | sequence 4 |
//! ```
//!
//! All that is needed to place a reply travels in it: the prober's random number (the identifier alone is 16 bits, and
//! `ping` uses it too), the target's number and the echo's.

use std::hash::{BuildHasher, Hasher, RandomState};

const LENGTH: usize = 28;
const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// The random number by which a prober knows its own echoes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Prober(u64);

impl Prober {
    pub(super) fn random() -> Self {
        Self(RandomState::new().build_hasher().finish())
    }
}

/// One echo to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Echo {
    pub(super) target: u64,
    pub(super) sequence: u32,
}

impl Echo {
    /// The request from the ICMP header on. For IPv6 the kernel fills in the checksum, as it holds addresses.
    pub(super) fn request(self, ipv6: bool, prober: Prober) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0] = if ipv6 { ECHO_REQUEST_V6 } else { ECHO_REQUEST };
        bytes[4..6].copy_from_slice(&(prober.0 as u16).to_be_bytes());
        bytes[6..8].copy_from_slice(&(self.sequence as u16).to_be_bytes());
        bytes[8..16].copy_from_slice(&prober.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.target.to_be_bytes());
        bytes[24..28].copy_from_slice(&self.sequence.to_be_bytes());
        if !ipv6 {
            let sum = checksum(&bytes);
            bytes[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    /// The echo that a received packet replies to, if it is one of this prober's. IPv4 packets come with their IP header.
    pub(super) fn of_reply(ipv6: bool, packet: &[u8], prober: Prober) -> Option<Self> {
        let start = if ipv6 { 0 } else { usize::from(packet.first()? & 0x0f) * 4 };
        let icmp: &[u8; LENGTH] = packet.get(start..)?.first_chunk()?;
        let reply = if ipv6 { ECHO_REPLY_V6 } else { ECHO_REPLY };
        if icmp[0] != reply || icmp[8..16] != prober.0.to_be_bytes() {
            return None;
        }
        let target = u64::from_be_bytes(icmp[16..24].try_into().ok()?);
        let sequence = u32::from_be_bytes(icmp[24..28].try_into().ok()?);
        Some(Self { target, sequence })
    }
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answered(ipv6: bool, mut request: [u8; LENGTH]) -> Vec<u8> {
        request[0] = if ipv6 { ECHO_REPLY_V6 } else { ECHO_REPLY };
        let header: &[u8] = if ipv6 { &[] } else { &[0x45; 20] };
        [header, &request].concat()
    }

    proptest! {
        #[test]
        fn a_reply_tells_its_echo(target: u64, sequence: u32, number: u64, ipv6: bool) {
            let (echo, prober) = (Echo { target, sequence }, Prober(number));
            let packet = answered(ipv6, echo.request(ipv6, prober));
            prop_assert_eq!(Echo::of_reply(ipv6, &packet, prober), Some(echo));
            prop_assert_eq!(Echo::of_reply(ipv6, &packet, Prober(!number)), None);
        }

        #[test]
        fn a_request_sums_up_to_nothing(target: u64, sequence: u32, number: u64) {
            prop_assert_eq!(checksum(&Echo { target, sequence }.request(false, Prober(number))), 0);
        }

        #[test]
        fn no_bytes_break_the_reader(packet in proptest::collection::vec(any::<u8>(), 0..80), ipv6: bool) {
            let _ = Echo::of_reply(ipv6, &packet, Prober(0));
        }
    }
}
