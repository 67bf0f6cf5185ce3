//! Neighbours that are told the same of a family, and what they were told.

use std::collections::HashMap;

use allocator_api2::vec::Vec as HugeVec;

use super::encode::{Audience, Bucket};
use super::{Burst, Context, View};
use crate::prefix::Prefix;
use crate::rib::huge_pages::HugePages;
use crate::rib::table::Bits;
use crate::rib::{AttributeId, Slot, SourceId, Table, decision};

/// Slots that are compared and put into messages at a time.
const BATCH: usize = 1 << 15;

/// Neighbours that are told the same.
#[derive(Debug)]
pub struct Group<P> {
    /// What they have in common.
    pub view: View,
    /// Who they are.
    pub members: Vec<SourceId>,
    /// What they were told: one path a slot.
    told: HugeVec<Told, HugePages>,
    /// What they were told, where they get several paths a prefix.
    told_many: HashMap<Slot, Vec<(u16, Told)>>,
    /// How many prefixes (with several paths: paths) that is, by the source that they are from.
    count: Vec<usize>,
    total: usize,
    work: Work<P>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    attributes: AttributeId,
    source: SourceId,
}

const NOTHING: Told = Told { attributes: AttributeId::MAX, source: 0 };

#[derive(Debug)]
struct Work<P> {
    announce: Vec<(Bucket, P, u16)>,
    withdraw: Vec<(SourceId, P, u16)>,
    /// What only the new source of a prefix has to forget: it has a better path itself.
    forget: Vec<(SourceId, P, u16)>,
    routes: Vec<(P, Option<u32>)>,
}

impl<P: Prefix> Group<P> {
    /// Without members, and nothing told.
    pub fn new(view: View) -> Self {
        Self {
            view,
            members: Vec::new(),
            told: HugeVec::new_in(HugePages),
            told_many: HashMap::new(),
            count: Vec::new(),
            total: 0,
            work: Work { announce: Vec::new(), withdraw: Vec::new(), forget: Vec::new(), routes: Vec::new() },
        }
    }

    /// How many routes a member was told.
    pub fn told_to(&self, member: SourceId) -> usize {
        self.total - self.count.get(member as usize).copied().unwrap_or_default()
    }

    /// Compares what changed with what was told, and writes the messages that make it good.
    pub fn update(&mut self, table: &Table<P>, changed: &[Slot], context: Context<'_>, burst: &mut Burst) {
        if self.told.len() < table.slots() && self.view.add_path == 0 {
            self.told.resize(table.slots(), NOTHING);
        }
        for batch in changed.chunks(BATCH) {
            if self.view.add_path == 0 {
                batch.iter().for_each(|slot| self.compare(table, *slot, context));
            } else {
                batch.iter().for_each(|slot| self.compare_many(table, *slot, context));
            }
            self.write(context, burst);
        }
    }

    /// Notes all that is to be told, without messages: for members that are told by [`Group::tell`].
    pub fn adopt(&mut self, table: &Table<P>, context: Context<'_>) {
        let slots: Vec<Slot> = table.iter().map(|(slot, ..)| slot).collect();
        let mut unsent = Burst::default();
        for batch in slots.chunks(BATCH) {
            self.update(table, batch, context, &mut unsent);
            unsent = Burst::default();
        }
    }

    /// The slots of which anything was told.
    pub fn all(&self) -> Bits {
        let mut bits = Bits::default();
        let one = (0..).zip(&self.told).filter(|(_, told)| **told != NOTHING).map(|(slot, _)| slot);
        one.chain(self.told_many.keys().copied()).for_each(|slot| {
            bits.set(slot);
        });
        bits
    }

    /// Writes what a member should have been told of some slots, for that member alone.
    pub fn tell(
        &mut self,
        member: SourceId,
        table: &Table<P>,
        slots: &[Slot],
        context: Context<'_>,
        burst: &mut Burst,
    ) {
        for &slot in slots {
            let prefix = table.prefix(slot);
            if self.view.add_path > 0 {
                let told = self.told_many.get(&slot).map_or(&[][..], Vec::as_slice);
                for &(id, told) in told.iter().filter(|(_, told)| told.source != member) {
                    self.work.announce.push((bucket(&self.view, prefix, told, context), prefix, id));
                }
                // Identifiers are given from 1 on: whatever the member may have been told is among these.
                for id in
                    (1..=table.greatest_sent_id()).filter(|id| !told.iter().any(|(i, t)| i == id && t.source != member))
                {
                    self.work.withdraw.push((SourceId::MAX, prefix, id));
                }
                continue;
            }
            match self.told.get(slot as usize).copied().unwrap_or(NOTHING) {
                told if told == NOTHING || told.source == member => {
                    self.work.withdraw.push((SourceId::MAX, prefix, 0));
                }
                told => self.work.announce.push((bucket(&self.view, prefix, told, context), prefix, 0)),
            }
        }
        self.write(context, burst);
    }

    /// What a member was told: prefix, path identifier, attributes and source.
    pub fn told<'a>(
        &'a self,
        member: SourceId,
        table: &'a Table<P>,
    ) -> impl Iterator<Item = (P, u16, AttributeId, SourceId)> + 'a {
        let one = (0..).zip(&self.told).filter(|(_, told)| **told != NOTHING).map(|(slot, told)| (slot, 0, *told));
        let many = self.told_many.iter().flat_map(|(slot, told)| told.iter().map(|(id, told)| (*slot, *id, *told)));
        one.chain(many)
            .filter(move |(_, _, told)| told.source != member)
            .map(|(slot, id, told)| (table.prefix(slot), id, told.attributes, told.source))
    }

    fn compare(&mut self, table: &Table<P>, slot: Slot, context: Context<'_>) {
        let prefix = table.prefix(slot);
        let paths = table.paths(slot);
        let best = decision::best(paths, context.sources, context.store).map(|best| paths[best]);
        let told = &mut self.told[slot as usize];
        let old = *told;
        let new = best.and_then(|path| {
            let new = Told { attributes: path.attributes, source: path.source };
            let source = &context.sources[path.source as usize];
            let statement = self.view.takes(prefix, source, context.store.get(path.attributes))?;
            Some((new, Bucket { attributes: new.attributes, source: new.source, statement }))
        });
        match new {
            None if old == NOTHING => {}
            None => {
                *told = NOTHING;
                self.uncount(old.source);
                self.work.withdraw.push((old.source, prefix, 0));
            }
            Some((new, _)) if new == old => {}
            Some((new, bucket)) => {
                *told = new;
                if old != NOTHING {
                    self.uncount(old.source);
                    if old.source != new.source {
                        self.work.forget.push((new.source, prefix, 0));
                    }
                }
                self.count(new.source);
                self.work.announce.push((bucket, prefix, 0));
            }
        }
    }

    fn compare_many(&mut self, table: &Table<P>, slot: Slot, context: Context<'_>) {
        let prefix = table.prefix(slot);
        let paths = table.paths(slot);
        let mut new: Vec<(u16, Told)> = Vec::new();
        for index in decision::order(paths, context.sources, context.store) {
            if new.len() >= usize::from(self.view.add_path) {
                break;
            }
            let path = &paths[index];
            let (source, attributes) = (&context.sources[path.source as usize], context.store.get(path.attributes));
            if self.view.takes(prefix, source, attributes).is_some() {
                new.push((path.sent_id, Told { attributes: path.attributes, source: path.source }));
            }
        }
        let old = self.told_many.remove(&slot).unwrap_or_default();
        for (id, told) in &old {
            self.uncount(told.source);
            if !new.iter().any(|(i, _)| i == id) {
                self.work.withdraw.push((told.source, prefix, *id));
            }
        }
        for (id, told) in &new {
            self.count(told.source);
            let before = old.iter().find(|(i, _)| i == id).map(|(_, told)| told);
            if before == Some(told) {
                continue;
            }
            if before.is_some_and(|before| before.source != told.source) {
                self.work.forget.push((told.source, prefix, *id));
            }
            self.work.announce.push((bucket(&self.view, prefix, *told, context), prefix, *id));
        }
        if !new.is_empty() {
            self.told_many.insert(slot, new);
        }
    }

    fn count(&mut self, source: SourceId) {
        let source = source as usize;
        if self.count.len() <= source {
            self.count.resize(source + 1, 0);
        }
        self.count[source] += 1;
        self.total += 1;
    }

    fn uncount(&mut self, source: SourceId) {
        self.count[source as usize] -= 1;
        self.total -= 1;
    }

    fn write(&mut self, context: Context<'_>, burst: &mut Burst) {
        let Self { view, work, members, .. } = self;
        let id = |id: u16| (view.add_path > 0).then_some(u32::from(id));
        let routes = &mut work.routes;
        work.withdraw.sort_by_key(|(source, ..)| *source);
        for same in work.withdraw.chunk_by(|a, b| a.0 == b.0) {
            routes.clear();
            routes.extend(same.iter().map(|(_, prefix, path)| (*prefix, id(*path))));
            burst.withdraw(view, routes, Audience::AllBut(same[0].0));
        }
        work.forget.sort_by_key(|(source, ..)| *source);
        for same in work.forget.chunk_by(|a, b| a.0 == b.0).filter(|same| members.contains(&same[0].0)) {
            routes.clear();
            routes.extend(same.iter().map(|(_, prefix, path)| (*prefix, id(*path))));
            burst.withdraw(view, routes, Audience::Only(same[0].0));
        }
        work.announce.sort_by_key(|(bucket, ..)| *bucket);
        for same in work.announce.chunk_by(|a, b| a.0 == b.0) {
            routes.clear();
            routes.extend(same.iter().map(|(_, prefix, path)| (*prefix, id(*path))));
            burst.announce(view, context, same[0].0, routes, Audience::AllBut(same[0].0.source));
        }
        work.withdraw.clear();
        work.forget.clear();
        work.announce.clear();
        if work.announce.capacity() > 2 * BATCH {
            work.announce.shrink_to(BATCH);
        }
    }
}

fn bucket<P: Prefix>(view: &View, prefix: P, told: Told, context: Context<'_>) -> Bucket {
    let (source, attributes) = (&context.sources[told.source as usize], context.store.get(told.attributes));
    // What was told was taken, by the same policy.
    let statement = view.takes(prefix, source, attributes).unwrap_or(super::view::BY_DEFAULT);
    Bucket { attributes: told.attributes, source: told.source, statement }
}
