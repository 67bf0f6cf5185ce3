//! How many connections there may be.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// All connections together.
const ALL: usize = 2048;
/// Those that have shown no certificate of ours, or not yet.
const STRANGERS: usize = 512;
/// Those of them that come from one address. It may be that of a node that hides many clusters behind its own.
const OF_ONE: usize = 128;

/// Counts connections. Strangers can't take the place of those who are admitted.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    strangers: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    limits: Limits,
    /// Where it comes from, as long as it is a stranger's.
    stranger: Option<IpAddr>,
}

impl Limits {
    /// A place for a connection from an address; `None` when there is none left.
    pub(super) fn enter(&self, from: IpAddr) -> Option<Place> {
        let from = from.to_canonical();
        let mut counts = self.lock();
        let of_one = counts.by_address.get(&from).copied().unwrap_or(0);
        if counts.all >= ALL || counts.strangers >= STRANGERS || of_one >= OF_ONE {
            return None;
        }
        counts.all += 1;
        counts.strangers += 1;
        counts.by_address.insert(from, of_one + 1);
        Some(Place { limits: self.clone(), stranger: Some(from) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// It showed a certificate of ours.
    pub(super) fn is_known(&mut self) {
        if let Some(from) = self.stranger.take() {
            self.limits.lock().leave(from);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.limits.lock();
        counts.all -= 1;
        if let Some(from) = self.stranger {
            counts.leave(from);
        }
    }
}

impl Counts {
    fn leave(&mut self, from: IpAddr) {
        self.strangers -= 1;
        if let Some(count) = self.by_address.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_address_cannot_take_all_places_and_the_known_take_none_of_strangers() {
        let limits = Limits::default();
        let address = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mut places: Vec<Place> = std::iter::from_fn(|| limits.enter(address(1))).collect();
        assert_eq!(places.len(), OF_ONE);
        assert!(limits.enter("::ffff:192.0.2.1".parse().unwrap()).is_none());
        assert!(limits.enter(address(2)).is_some());
        places.iter_mut().for_each(Place::is_known);
        let more: Vec<Place> = (2..=255)
            .flat_map(|n| (0..OF_ONE).map_while(move |_| Some(n)))
            .map_while(|n| limits.enter(address(n)))
            .collect();
        assert_eq!(more.len(), STRANGERS);
        drop((places, more));
        let counts = limits.lock();
        assert_eq!((counts.all, counts.strangers, counts.by_address.len()), (0, 0, 0));
    }
}
