//! What is wrong, said once: a line in the log, an Event, a number.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kube::Client;

use crate::events::{self, Word};

/// More Events than this in [`WINDOW`] are not written: a thousand Services can have the same fault.
const EVENTS: u32 = 50;
const WINDOW: Duration = Duration::from_secs(10);

/// All that is wrong now, by what it is about.
#[derive(Debug)]
pub(crate) struct Words<K> {
    said: BTreeMap<K, BTreeSet<Word>>,
    window: (Instant, u32),
}

impl<K: Ord> Words<K> {
    pub(crate) fn new() -> Self {
        Self { said: BTreeMap::new(), window: (Instant::now(), 0) }
    }

    /// How many things are wrong.
    pub(crate) fn count(&self) -> usize {
        self.said.values().map(BTreeSet::len).sum()
    }

    /// Everything that is wrong with one thing from now on. What is new is said, Events by who leads.
    pub(crate) fn say(&mut self, about: K, words: BTreeSet<Word>, client: Option<&Client>) {
        let before = self.said.get(&about);
        for word in words.iter().filter(|word| before.is_none_or(|before| !before.contains(*word))) {
            let object = format!("{} {}", word.kind.name(), word.key);
            tracing::warn!(%object, reason = word.reason, "{}", word.message);
            if self.window.0.elapsed() > WINDOW {
                self.window = (Instant::now(), 0);
            }
            self.window.1 += 1;
            if let Some(client) = client.filter(|_| self.window.1 <= EVENTS) {
                events::write(client, word);
            }
        }
        for word in before.into_iter().flatten().filter(|word| !words.contains(*word)) {
            let object = format!("{} {}", word.kind.name(), word.key);
            tracing::info!(%object, reason = word.reason, "no longer so: {}", word.message);
        }
        if words.is_empty() {
            self.said.remove(&about);
        } else {
            self.said.insert(about, words);
        }
    }
}
