//! The table of a family.

use std::hash::BuildHasher as _;

use allocator_api2::vec::Vec as HugeVec;
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::huge_pages::HugePages;
use super::path::State;
use super::{AttributeId, Path, Paths, SourceId, Store};
use crate::prefix::Prefix;

/// A place in the table. It belongs to its prefix until the prefix has no path and [`Table::free`] was called.
pub type Slot = u32;

/// What [`Table::insert`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// The source had no such path.
    New,
    /// It had, with other attributes or another state.
    Replaced {
        /// Whether the path before was eligible.
        was_eligible: bool,
    },
    /// It had the same.
    Same,
}

#[derive(Debug)]
struct Row<P> {
    prefix: P,
    paths: Paths,
}

/// A table: prefixes, and the paths to each.
#[derive(Debug)]
pub struct Table<P> {
    entries: HugeVec<Row<P>, HugePages>,
    index: HashTable<Slot, HugePages>,
    hasher: DefaultHashBuilder,
    free: Vec<Slot>,
    changed: Vec<Slot>,
    is_changed: Bits,
    paths: usize,
    greatest_sent_id: u16,
}

impl<P: Prefix> Default for Table<P> {
    fn default() -> Self {
        Self {
            entries: HugeVec::new_in(HugePages),
            index: HashTable::new_in(HugePages),
            hasher: DefaultHashBuilder::default(),
            free: Vec::new(),
            changed: Vec::new(),
            is_changed: Bits::default(),
            paths: 0,
            greatest_sent_id: 0,
        }
    }
}

impl<P: Prefix> Table<P> {
    /// How many prefixes there are, those on their way out included.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// How many paths there are.
    pub fn path_count(&self) -> usize {
        self.paths
    }

    /// The greatest identifier that a path was ever given for our messages.
    pub fn greatest_sent_id(&self) -> u16 {
        self.greatest_sent_id
    }

    /// Above the greatest slot.
    pub fn slots(&self) -> usize {
        self.entries.len()
    }

    /// Where a prefix is.
    #[inline]
    pub fn find(&self, prefix: P) -> Option<Slot> {
        let entries = &self.entries;
        self.index.find(self.hasher.hash_one(prefix), |slot| entries[*slot as usize].prefix == prefix).copied()
    }

    /// The prefix of a slot.
    #[inline]
    pub fn prefix(&self, slot: Slot) -> P {
        self.entries[slot as usize].prefix
    }

    /// The paths of a slot.
    #[inline]
    pub fn paths(&self, slot: Slot) -> &[Path] {
        self.entries[slot as usize].paths.as_slice()
    }

    /// All slots with paths.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, P, &[Path])> {
        let slots = (0..).zip(&self.entries);
        slots
            .map(|(slot, entry)| (slot, entry.prefix, entry.paths.as_slice()))
            .filter(|(_, _, paths)| !paths.is_empty())
    }

    /// Takes a path in, in place of the source's path with the same identifier.
    pub fn insert(
        &mut self,
        prefix: P,
        source: SourceId,
        received_id: u32,
        attributes: AttributeId,
        state: State,
        store: &mut Store,
    ) -> Inserted {
        let slot = self.slot(prefix);
        let paths = &mut self.entries[slot as usize].paths;
        let before = paths.as_mut_slice().iter_mut().find(|p| p.source == source && p.received_id == received_id);
        let inserted = match before {
            Some(path) if path.attributes == attributes && path.state == state => return Inserted::Same,
            Some(path) => {
                let was_eligible = path.state.eligible();
                store.acquire(attributes);
                store.release(path.attributes);
                path.attributes = attributes;
                path.state = state;
                Inserted::Replaced { was_eligible }
            }
            None => {
                store.acquire(attributes);
                let sent_id = paths.push(Path { source, attributes, received_id, sent_id: 0, state });
                self.greatest_sent_id = self.greatest_sent_id.max(sent_id);
                self.paths += 1;
                Inserted::New
            }
        };
        self.touch(slot);
        inserted
    }

    /// Takes a source's path out. Returns whether it was eligible, if it was there.
    pub fn withdraw(&mut self, prefix: P, source: SourceId, received_id: u32, store: &mut Store) -> Option<bool> {
        let slot = self.find(prefix)?;
        let mut was_eligible = None;
        self.remove(slot, store, |path| {
            let gone = path.source == source && path.received_id == received_id;
            if gone {
                was_eligible = Some(path.state.eligible());
            }
            gone
        });
        was_eligible
    }

    /// Takes all paths out that `gone` says. Returns how many there were, and how many of them were eligible.
    pub fn purge(&mut self, store: &mut Store, mut gone: impl FnMut(&Path) -> bool) -> (u32, u32) {
        let (mut eligible, mut all) = (0, 0);
        for slot in 0..self.entries.len() {
            if self.entries[slot].paths.as_slice().iter().any(&mut gone) {
                let slot = Slot::try_from(slot).unwrap_or(Slot::MAX);
                self.remove(slot, store, |path| {
                    let gone = gone(path);
                    all += u32::from(gone);
                    eligible += u32::from(gone && path.state.eligible());
                    gone
                });
            }
        }
        (all, eligible)
    }

    /// Marks all paths of a source as stale.
    pub fn make_stale(&mut self, source: SourceId) {
        for entry in &mut self.entries {
            for path in entry.paths.as_mut_slice().iter_mut().filter(|p| p.source == source) {
                path.state.set_stale();
            }
        }
    }

    /// Gives the stale paths of a source other attributes.
    pub fn change_stale(
        &mut self,
        source: SourceId,
        store: &mut Store,
        mut change: impl FnMut(&mut Store, AttributeId) -> AttributeId,
    ) {
        for slot in 0..self.entries.len() {
            let mut touched = false;
            let stale = self.entries[slot].paths.as_mut_slice().iter_mut();
            for path in stale.filter(|p| p.source == source && p.state.stale()) {
                let attributes = change(store, path.attributes);
                if attributes != path.attributes {
                    store.acquire(attributes);
                    store.release(path.attributes);
                    path.attributes = attributes;
                    touched = true;
                }
            }
            if touched {
                self.touch(Slot::try_from(slot).unwrap_or(Slot::MAX));
            }
        }
    }

    /// Notes that all slots with a path of a source are to be looked at again.
    pub fn touch_source(&mut self, source: SourceId) {
        for slot in 0..self.entries.len() {
            if self.entries[slot].paths.as_slice().iter().any(|path| path.source == source) {
                self.touch(Slot::try_from(slot).unwrap_or(Slot::MAX));
            }
        }
    }

    /// Notes that the paths of a slot are to be looked at again.
    #[inline]
    pub fn touch(&mut self, slot: Slot) {
        if self.is_changed.set(slot) {
            self.changed.push(slot);
        }
    }

    /// Whether anything changed since the last [`Table::take_changed`].
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// The slots that changed.
    pub fn take_changed(&mut self) -> Vec<Slot> {
        let changed = std::mem::take(&mut self.changed);
        for slot in &changed {
            self.is_changed.clear(*slot);
        }
        changed
    }

    /// Gives back the memory of a list from [`Table::take_changed`].
    pub fn recycle(&mut self, mut list: Vec<Slot>) {
        if self.changed.is_empty() && list.capacity() <= 1 << 16 {
            list.clear();
            self.changed = list;
        }
    }

    /// Gives up a slot without paths. One that has got paths again stays.
    pub fn free(&mut self, slot: Slot) {
        let Some(entry) = self.entries.get(slot as usize).filter(|entry| matches!(entry.paths, Paths::None)) else {
            return;
        };
        let hash = self.hasher.hash_one(entry.prefix);
        if let Ok(found) = self.index.find_entry(hash, |other| *other == slot) {
            found.remove();
            self.entries[slot as usize].paths = Paths::Free;
            self.free.push(slot);
        }
        if self.index.is_empty() && !self.has_changed() {
            self.entries = HugeVec::new_in(HugePages);
            self.free = Vec::new();
            self.index = HashTable::new_in(HugePages);
            self.is_changed = Bits::default();
        }
    }

    #[inline]
    fn slot(&mut self, prefix: P) -> Slot {
        let hash = self.hasher.hash_one(prefix);
        if self.index.len() == self.index.capacity() {
            self.grow();
        }
        let (entries, hasher) = (&self.entries, &self.hasher);
        let same = |slot: &Slot| entries[*slot as usize].prefix == prefix;
        let vacant = match self.index.entry(hash, same, |slot| hasher.hash_one(entries[*slot as usize].prefix)) {
            Entry::Occupied(found) => return *found.get(),
            Entry::Vacant(vacant) => vacant,
        };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => Slot::try_from(self.entries.len()).unwrap_or(Slot::MAX),
        };
        vacant.insert(slot);
        let entry = Row { prefix, paths: Paths::None };
        match self.entries.get_mut(slot as usize) {
            Some(free) => *free = entry,
            None => self.entries.push(entry),
        }
        slot
    }

    /// Makes the index anew, with room for twice as many. In the order of the slots: that way only the index is written
    /// to all over the memory, and nothing is read so.
    #[cold]
    fn grow(&mut self) {
        let mut index = HashTable::with_capacity_in((self.index.capacity() * 2).max(64), HugePages);
        for (slot, row) in (0..).zip(&self.entries) {
            if !matches!(row.paths, Paths::Free) {
                index.insert_unique(self.hasher.hash_one(row.prefix), slot, |_| 0);
            }
        }
        self.index = index;
    }

    fn remove(&mut self, slot: Slot, store: &mut Store, mut gone: impl FnMut(&Path) -> bool) {
        let mut removed = 0;
        let any = self.entries[slot as usize].paths.remove(|path| {
            let gone = gone(path);
            if gone {
                store.release(path.attributes);
                removed += 1;
            }
            gone
        });
        self.paths -= removed;
        if any {
            self.touch(slot);
        }
    }
}

/// A set of slots, a bit each.
#[derive(Debug, Clone, Default)]
pub struct Bits {
    words: Vec<u64>,
}

impl Bits {
    /// Adds a slot. Returns whether it was not there.
    #[inline]
    pub fn set(&mut self, slot: Slot) -> bool {
        let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        new
    }

    /// Takes a slot out.
    #[inline]
    pub fn clear(&mut self, slot: Slot) {
        if let Some(word) = self.words.get_mut(slot as usize / 64) {
            *word &= !(1 << (slot % 64));
        }
    }

    /// Takes out up to `limit` slots, from the word `from` on; the second value is where to go on, `None` if it came
    /// to the end.
    pub fn take(&mut self, from: usize, limit: usize) -> (Vec<Slot>, Option<usize>) {
        let mut slots = Vec::new();
        for index in from..self.words.len() {
            if slots.len() >= limit {
                return (slots, Some(index));
            }
            let mut word = std::mem::take(&mut self.words[index]);
            while word != 0 {
                slots.push(Slot::try_from(index * 64).unwrap_or(Slot::MAX) + word.trailing_zeros());
                word &= word - 1;
            }
        }
        (slots, None)
    }

    /// Adds all of another set.
    pub fn merge(&mut self, other: &Self) {
        if self.words.len() < other.words.len() {
            self.words.resize(other.words.len(), 0);
        }
        self.words.iter_mut().zip(&other.words).for_each(|(word, more)| *word |= more);
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }
}
