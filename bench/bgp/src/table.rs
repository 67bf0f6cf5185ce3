//! What one client holds of the others' prefixes, and whether that is right.

use std::ops::Range;

use anyhow::{bail, ensure};

use crate::message::{Update, networks};
use crate::work::{Work, index};

/// The prefixes that the reflector has told a client of and not withdrawn.
#[derive(Debug)]
pub struct Table {
    client: u32,
    bits: Vec<u64>,
    held: u32,
    /// Announcements of what was held already.
    pub repeated: u64,
    /// Withdrawals of what was not held.
    pub needless: u64,
    /// The client's own prefixes, which RFC 4456 (section 8) lets a reflector send back: its client knows them by
    /// their ORIGINATOR_ID.
    pub returned: u64,
}

impl Table {
    /// A client's table, empty.
    pub fn new(work: &Work, client: u32) -> Table {
        let words = work.total().div_ceil(64) as usize;
        Table { client, bits: vec![0; words], held: 0, repeated: 0, needless: 0, returned: 0 }
    }

    /// How many prefixes it holds.
    pub fn held(&self) -> u32 {
        self.held
    }

    /// Takes an UPDATE in.
    ///
    /// # Errors
    /// It has a prefix that nobody sent, or another path's.
    pub fn apply(&mut self, work: &Work, update: &Update) -> anyhow::Result<()> {
        let own = work.owned(self.client);
        for withdrawn in update.withdrawn {
            networks(withdrawn, |network| {
                let Some(index) = index(network).filter(|&index| index < work.total()) else {
                    bail!("the withdrawal of a prefix that nobody sent");
                };
                let (word, bit) = (&mut self.bits[index as usize / 64], 1 << (index % 64));
                if own.contains(&index) {
                    self.returned += 1;
                } else if *word & bit == 0 {
                    self.needless += 1;
                } else {
                    *word &= !bit;
                    self.held -= 1;
                }
                Ok(())
            })?;
        }
        if update.announced.iter().all(|networks| networks.is_empty()) {
            return Ok(());
        }
        let path = self.path(work, update)?;
        for announced in update.announced {
            networks(announced, |network| {
                let Some(index) = index(network).filter(|index| path.contains(index)) else {
                    bail!("prefix {:?} is not of the path that it came with", std::net::Ipv4Addr::from(network));
                };
                let (word, bit) = (&mut self.bits[index as usize / 64], 1 << (index % 64));
                if own.contains(&index) {
                    self.returned += 1;
                } else if *word & bit == 0 {
                    *word |= bit;
                    self.held += 1;
                } else {
                    self.repeated += 1;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The prefixes of the path that an UPDATE's attributes are of.
    fn path(&self, work: &Work, update: &Update) -> anyhow::Result<Range<u32>> {
        let sender = update.next_hop.and_then(|address| work.sender(address));
        let Some(sender) = sender else { bail!("a path whose next hop is no sender's") };
        ensure!(update.originator == update.next_hop, "a path whose ORIGINATOR_ID is not its sender's");
        ensure!(update.cluster_list, "a reflected path without CLUSTER_LIST");
        let Some(med) = update.med else { bail!("a path without its MED") };
        Ok(work.path(sender, med))
    }

    /// Whether it holds the prefixes of these senders, but for the client's own, and no others.
    pub fn is_exactly(&self, work: &Work, mut senders: impl FnMut(u32) -> bool) -> bool {
        let wanted = |sender: u32, senders: &mut dyn FnMut(u32) -> bool| sender != self.client && senders(sender);
        (0..work.senders).all(|sender| {
            let want = wanted(sender, &mut senders);
            work.owned(sender).all(|index| (self.bits[index as usize / 64] >> (index % 64) & 1 == 1) == want)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const WORK: Work = Work { sessions: 3, senders: 2, prefixes: 100, per_path: 10 };

    fn of<'a>(sender: u32, med: u32, announced: &'a [u8]) -> Update<'a> {
        let address = Some(WORK.address(sender).into());
        Update {
            announced: [announced, &[]],
            next_hop: address,
            originator: address,
            med: Some(med),
            cluster_list: true,
            ..Update::default()
        }
    }

    #[test]
    fn what_is_announced_is_held_until_it_is_withdrawn() {
        let mut table = Table::new(&WORK, 0);
        table.apply(&WORK, &of(1, 0, &[24, 1, 0, 100, 24, 1, 0, 101])).unwrap();
        table.apply(&WORK, &of(1, 0, &[24, 1, 0, 101])).unwrap();
        assert_eq!((table.held(), table.repeated), (2, 1));
        let withdrawal = Update { withdrawn: [&[24, 1, 0, 101, 24, 1, 0, 150], &[]], ..Update::default() };
        table.apply(&WORK, &withdrawal).unwrap();
        assert_eq!((table.held(), table.needless), (1, 1));
    }

    #[test]
    fn all_of_some_and_nothing_of_others_is_exact() {
        let mut table = Table::new(&WORK, 2);
        for path in 0..10 {
            let networks: Vec<u8> = WORK.path(1, path).flat_map(|index| [24, 1, 0, index as u8]).collect();
            assert!(!table.is_exactly(&WORK, |sender| sender == 1));
            table.apply(&WORK, &of(1, path, &networks)).unwrap();
        }
        assert!(table.is_exactly(&WORK, |sender| sender == 1));
        assert!(!table.is_exactly(&WORK, |_| true));
        assert!(!table.is_exactly(&WORK, |_| false));
    }

    #[test]
    fn what_is_its_own_is_not_held() {
        let mut table = Table::new(&WORK, 0);
        table.apply(&WORK, &of(0, 0, &[24, 1, 0, 0])).unwrap();
        assert_eq!((table.held(), table.returned), (0, 1));
        assert!(table.is_exactly(&WORK, |sender| sender == 0));
    }

    #[test]
    fn wrong_paths_are_found() {
        let mut table = Table::new(&WORK, 0);
        let network = [24, 1, 0, 100];
        for (wrong, why) in [
            (of(1, 1, &network), "not of the path"),
            (Update { originator: None, ..of(1, 0, &network) }, "ORIGINATOR_ID"),
            (Update { cluster_list: false, ..of(1, 0, &network) }, "CLUSTER_LIST"),
            (Update { next_hop: Some(1), ..of(1, 0, &network) }, "no sender's"),
            (Update { med: None, ..of(1, 0, &network) }, "MED"),
            (Update { withdrawn: [&[24, 9, 0, 0], &[]], ..Update::default() }, "nobody sent"),
        ] {
            let error = table.apply(&WORK, &wrong).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(table.held(), 0);
    }
}
