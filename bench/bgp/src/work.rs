//! What the clients of one run announce: every client its own /24s, and every path of its own MED.

use std::net::Ipv4Addr;
use std::ops::Range;

/// The first prefix, 1.0.0.0/24; the following ones are counted on from it.
const FIRST_PREFIX: u32 = 0x0100_0000;
/// The address of client 0 is the next one.
const CLIENTS: u32 = u32::from_be_bytes([198, 18, 1, 0]);

/// How many clients, how many of them announce, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Clients of the reflector.
    pub sessions: u32,
    /// The first so many of them announce prefixes.
    pub senders: u32,
    /// Prefixes of each sender.
    pub prefixes: u32,
    /// Consecutive prefixes of a sender with the same attributes; 0 is all of them.
    pub per_path: u32,
}

impl Work {
    /// All prefixes of all senders.
    pub fn total(&self) -> u32 {
        self.senders * self.prefixes
    }

    /// The address, router ID and next hop of a client.
    pub fn address(&self, client: u32) -> Ipv4Addr {
        Ipv4Addr::from(CLIENTS + 1 + client)
    }

    /// The sender whose address this is.
    pub fn sender(&self, address: u32) -> Option<u32> {
        address.checked_sub(CLIENTS + 1).filter(|&client| client < self.senders)
    }

    /// The indices of a sender's prefixes.
    pub fn owned(&self, sender: u32) -> Range<u32> {
        if sender >= self.senders { 0..0 } else { sender * self.prefixes..(sender + 1) * self.prefixes }
    }

    /// The indices of the prefixes of one path of a sender. The path's number is its MED.
    pub fn path(&self, sender: u32, path: u32) -> Range<u32> {
        let owned = self.owned(sender);
        if self.per_path == 0 {
            return if path == 0 { owned } else { 0..0 };
        }
        let start = owned.start.saturating_add(path.saturating_mul(self.per_path)).min(owned.end);
        start..start.saturating_add(self.per_path).min(owned.end)
    }

    /// How many paths a sender has.
    pub fn paths(&self) -> u32 {
        if self.per_path == 0 { 1 } else { self.prefixes.div_ceil(self.per_path) }
    }
}

/// The network of the prefix with this index; all are /24.
pub fn network(index: u32) -> u32 {
    FIRST_PREFIX + (index << 8)
}

/// The index of a network of `network`.
pub fn index(network: u32) -> Option<u32> {
    network.checked_sub(FIRST_PREFIX).map(|offset| offset >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work = Work { sessions: 3, senders: 2, prefixes: 25, per_path: 10 };

    #[test]
    fn every_prefix_is_on_one_path() {
        let mut seen = Vec::new();
        for sender in 0..WORK.senders {
            for path in 0..WORK.paths() {
                seen.extend(WORK.path(sender, path));
            }
        }
        assert_eq!(seen, (0..WORK.total()).collect::<Vec<_>>());
        assert!(WORK.path(0, 3).is_empty());
        assert!(WORK.path(1, u32::MAX).is_empty());
        assert!(WORK.path(2, 0).is_empty());
    }

    #[test]
    fn without_a_number_a_path_has_all() {
        let work = Work { per_path: 0, ..WORK };
        assert_eq!((work.paths(), work.path(1, 0)), (1, 25..50));
        assert!(work.path(1, 1).is_empty());
    }

    #[test]
    fn addresses_and_networks_are_found_again() {
        assert_eq!(WORK.address(0).to_string(), "198.18.1.1");
        assert_eq!(WORK.sender(WORK.address(1).into()), Some(1));
        assert_eq!(WORK.sender(WORK.address(2).into()), None);
        assert_eq!(index(network(999_999)), Some(999_999));
        assert_eq!(Ipv4Addr::from(network(1)).to_string(), "1.0.1.0");
        assert_eq!(index(0), None);
    }
}
