//! Which group is the last of a flow: a small hash table, emptied for each batch.

/// Places in the table.
const SLOTS: usize = 256;
/// Places that are looked at for one flow. A flow that finds no place has none for the whole batch: its packets are
/// written each alone, in their order.
const PROBES: usize = 8;

/// Nothing is taken out within a batch, so the first free place ends a search.
#[derive(Debug)]
pub struct Flows {
    /// The flow's hash and the number of its group and one, or 0.
    slots: Box<[(u32, u32); SLOTS]>,
    used: bool,
}

impl Default for Flows {
    fn default() -> Self {
        Self { slots: Box::new([(0, 0); SLOTS]), used: false }
    }
}

/// The place of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    index: usize,
    hash: u32,
}

impl Flows {
    /// Forgets all.
    pub fn clear(&mut self) {
        if self.used {
            self.slots.fill((0, 0));
            self.used = false;
        }
    }

    /// The place of the flow with this hash, if there is one, and its group, if it has one; `same` tells whether a
    /// group is of the flow.
    #[inline]
    pub fn find(&self, hash: u32, same: impl Fn(usize) -> bool) -> (Option<Slot>, Option<usize>) {
        for probe in 0..PROBES {
            let index = (hash as usize + probe) % SLOTS;
            let (its_hash, group) = self.slots[index];
            if group == 0 {
                return (Some(Slot { index, hash }), None);
            }
            let group = group as usize - 1;
            if its_hash == hash && same(group) {
                return (Some(Slot { index, hash }), Some(group));
            }
        }
        (None, None)
    }

    /// Says which is now the group of the flow.
    #[inline]
    pub fn set(&mut self, slot: Slot, group: usize) {
        self.used = true;
        self.slots[slot.index] = (slot.hash, group as u32 + 1);
    }
}
