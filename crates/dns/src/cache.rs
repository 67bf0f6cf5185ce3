//! Answers of others, kept for a while.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::foreign::Foreign;
use crate::message::Query;

/// How long an answer is kept at most, whatever its time to live.
const MAX_AGE: Duration = Duration::from_secs(30);
/// Longer answers are rare, and would let a few names fill the memory.
const MAX_RESPONSE: usize = 8192;
/// What an entry takes beside its bytes, about.
const OVERHEAD: usize = 256;

/// What makes two questions the same: the name in lower case, type, class, and what the client
/// said of DNSSEC.
pub(crate) type Key = Arc<[u8]>;

/// Answers by question, within so many bytes.
#[derive(Debug)]
pub(crate) struct Cache {
    entries: HashMap<Key, Entry>,
    /// All keys; the next to be looked at when there is no room is the first.
    order: VecDeque<Key>,
    size: usize,
    max_size: usize,
}

#[derive(Debug)]
struct Entry {
    response: Arc<Foreign>,
    stored: Instant,
    expires: Instant,
    /// Asked for since it was last looked at.
    is_used: bool,
}

impl Cache {
    pub(crate) fn new(max_size: usize) -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new(), size: 0, max_size }
    }

    /// The response to a question, if it is known, and its age in seconds.
    pub(crate) fn get(&mut self, key: &[u8], now: Instant) -> Option<(Arc<Foreign>, u32)> {
        let entry = self.entries.get_mut(key)?;
        if entry.expires <= now {
            return None;
        }
        entry.is_used = true;
        let age = now.saturating_duration_since(entry.stored).as_secs() as u32;
        Some((Arc::clone(&entry.response), age))
    }

    /// Keeps a response as long as its records allow.
    pub(crate) fn put(&mut self, key: Key, response: Arc<Foreign>, now: Instant) {
        let Some(lifetime) = response.lifetime().filter(|lifetime| *lifetime > 0) else {
            return;
        };
        let size = cost(&key, &response);
        if response.len() > MAX_RESPONSE || size > self.max_size {
            return;
        }
        let expires = now + Duration::from_secs(lifetime.into()).min(MAX_AGE);
        let entry = Entry { response, stored: now, expires, is_used: false };
        match self.entries.insert(Arc::clone(&key), entry) {
            Some(old) => self.size -= cost(&key, &old.response),
            None => self.order.push_back(key),
        }
        self.size += size;
        self.make_room(now);
    }

    /// Who was asked for since the last time gets a second chance.
    fn make_room(&mut self, now: Instant) {
        while self.size > self.max_size {
            let Some(key) = self.order.pop_front() else {
                return;
            };
            let Some(entry) = self.entries.get_mut(&key) else {
                continue;
            };
            if entry.expires > now && std::mem::take(&mut entry.is_used) {
                self.order.push_back(key);
                continue;
            }
            self.size -= cost(&key, &entry.response);
            self.entries.remove(&key);
        }
    }

    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.size)
    }
}

/// Writes the key of a query.
pub(crate) fn key(query: &Query<'_>, key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(query.name());
    key.extend_from_slice(&query.record_type.0.to_be_bytes());
    key.extend_from_slice(&query.class.to_be_bytes());
    key.extend_from_slice(&query.dnssec_flags().to_be_bytes());
}

fn cost(key: &[u8], response: &Foreign) -> usize {
    2 * key.len() + response.len() + OVERHEAD
}
