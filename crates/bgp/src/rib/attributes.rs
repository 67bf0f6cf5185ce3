//! Path attributes, each set stored once.

use std::hash::BuildHasher as _;
use std::net::Ipv4Addr;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::update::as_path;
use crate::update::attributes::{NextHop, iter, kind};
use crate::{Community, LargeCommunity};

/// Names a stored set of attributes. It stays the same as long as a path has it, and until the end of the
/// [`Store::collect`] after.
pub type AttributeId = u32;

/// A set of attributes.
#[derive(Debug, Clone)]
pub struct Attributes {
    /// In the form that [`update::attributes`](crate::update::attributes) describes.
    pub bytes: Box<[u8]>,
    /// Where packets go.
    pub next_hop: NextHop,
    /// `LOCAL_PREF`, or 100.
    pub local_pref: u32,
    /// `MULTI_EXIT_DISC`, or 0.
    pub med: u32,
    /// The neighbouring AS, or 0 on an own route.
    pub first_as: u32,
    /// `ORIGINATOR_ID`.
    pub originator: Option<Ipv4Addr>,
    /// [`Origination::tag`](crate::config::Origination::tag) of an own route.
    pub tag: u32,
    /// The length of `AS_PATH`.
    pub path_length: u16,
    /// The length of `CLUSTER_LIST`.
    pub cluster_length: u16,
    /// `ORIGIN`.
    pub origin: u8,
    /// Well-known communities on the route.
    pub well_known: WellKnown,
    references: u32,
}

/// Which well-known communities are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WellKnown(u8);

impl WellKnown {
    const ALL: [Community; 6] = [
        Community::NO_EXPORT,
        Community::NO_ADVERTISE,
        Community::NO_EXPORT_SUBCONFED,
        Community::LLGR_STALE,
        Community::NO_LLGR,
        Community::GRACEFUL_SHUTDOWN,
    ];

    /// Whether `community` is there.
    #[inline]
    pub fn has(self, community: Community) -> bool {
        Self::ALL.iter().position(|c| *c == community).is_some_and(|bit| self.0 & 1 << bit != 0)
    }

    /// Whether any is.
    #[inline]
    pub fn any(self) -> bool {
        self.0 != 0
    }

    fn of(communities: &[u8]) -> Self {
        let present = communities.as_chunks::<4>().0.iter().map(|c| Community(u32::from_be_bytes(*c)));
        Self(present.filter_map(|c| Self::ALL.iter().position(|w| *w == c)).fold(0, |bits, bit| bits | 1 << bit))
    }
}

impl Attributes {
    fn of(bytes: &[u8], next_hop: NextHop, tag: u32) -> Self {
        let mut attributes = Self {
            bytes: bytes.into(),
            next_hop,
            local_pref: 100,
            med: 0,
            first_as: 0,
            originator: None,
            tag,
            path_length: 0,
            cluster_length: 0,
            origin: 0,
            well_known: WellKnown::default(),
            references: 0,
        };
        for (_, kind, value) in iter(bytes) {
            let number = || value.first_chunk().copied().map_or(0, u32::from_be_bytes);
            let length = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
            match kind {
                kind::ORIGIN => attributes.origin = value.first().copied().unwrap_or_default(),
                kind::AS_PATH => {
                    attributes.path_length = length(as_path::length(value));
                    attributes.first_as = as_path::first(value).unwrap_or_default();
                }
                kind::MULTI_EXIT_DISC => attributes.med = number(),
                kind::LOCAL_PREF => attributes.local_pref = number(),
                kind::ORIGINATOR_ID => attributes.originator = Some(Ipv4Addr::from_bits(number())),
                kind::CLUSTER_LIST => attributes.cluster_length = length(value.len() / 4),
                kind::COMMUNITIES => attributes.well_known = WellKnown::of(value),
                _ => {}
            }
        }
        attributes
    }

    /// The value of an attribute.
    pub fn get(&self, kind: u8) -> Option<&[u8]> {
        iter(&self.bytes).find(|(_, k, _)| *k == kind).map(|(_, _, value)| value)
    }

    /// `AS_PATH`, in four octets.
    pub fn as_path(&self) -> &[u8] {
        self.get(kind::AS_PATH).unwrap_or_default()
    }

    /// `CLUSTER_LIST`.
    pub fn cluster_list(&self) -> impl Iterator<Item = Ipv4Addr> {
        let list = self.get(kind::CLUSTER_LIST).unwrap_or_default();
        list.as_chunks::<4>().0.iter().map(|id| Ipv4Addr::from(*id))
    }

    /// `COMMUNITIES`.
    pub fn communities(&self) -> impl Iterator<Item = Community> {
        let list = self.get(kind::COMMUNITIES).unwrap_or_default();
        list.as_chunks::<4>().0.iter().map(|c| Community(u32::from_be_bytes(*c)))
    }

    /// `LARGE_COMMUNITY`.
    pub fn large_communities(&self) -> impl Iterator<Item = LargeCommunity> {
        let list = self.get(kind::LARGE_COMMUNITIES).unwrap_or_default();
        list.as_chunks::<12>().0.iter().map(|c| {
            let number = |at: usize| u32::from_be_bytes([c[at], c[at + 1], c[at + 2], c[at + 3]]);
            LargeCommunity { global: number(0), local: (number(4), number(8)) }
        })
    }

    fn same(&self, bytes: &[u8], next_hop: NextHop, tag: u32) -> bool {
        *self.bytes == *bytes && self.next_hop == next_hop && self.tag == tag
    }
}

/// All sets of attributes.
#[derive(Debug, Default)]
pub struct Store {
    sets: Vec<Attributes>,
    index: HashTable<AttributeId>,
    hasher: DefaultHashBuilder,
    unused: Vec<AttributeId>,
    free: Vec<AttributeId>,
}

impl Store {
    /// The id of a set of attributes, which is stored if it is new. Whoever makes no path with it tells so with
    /// [`Store::unused`].
    pub fn intern(&mut self, bytes: &[u8], next_hop: NextHop, tag: u32) -> AttributeId {
        let hash = self.hasher.hash_one((bytes, next_hop, tag));
        let sets = &self.sets;
        if let Some(id) = self.index.find(hash, |id| sets[*id as usize].same(bytes, next_hop, tag)) {
            return *id;
        }
        let attributes = Attributes::of(bytes, next_hop, tag);
        let id = match self.free.pop() {
            Some(id) => {
                self.sets[id as usize] = attributes;
                id
            }
            None => {
                self.sets.push(attributes);
                u32::try_from(self.sets.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let (sets, hasher) = (&self.sets, &self.hasher);
        self.index.insert_unique(hash, id, |id| {
            let set = &sets[*id as usize];
            hasher.hash_one((&*set.bytes, set.next_hop, set.tag))
        });
        id
    }

    /// The set with this id.
    #[inline]
    pub fn get(&self, id: AttributeId) -> &Attributes {
        &self.sets[id as usize]
    }

    /// A path has the set.
    #[inline]
    pub fn acquire(&mut self, id: AttributeId) {
        self.sets[id as usize].references += 1;
    }

    /// A path has it no longer.
    #[inline]
    pub fn release(&mut self, id: AttributeId) {
        let set = &mut self.sets[id as usize];
        set.references -= 1;
        if set.references == 0 {
            self.unused.push(id);
        }
    }

    /// A set was interned that no path may have.
    pub fn unused(&mut self, id: AttributeId) {
        if self.sets[id as usize].references == 0 {
            self.unused.push(id);
        }
    }

    /// Gives back what no path has. Only then may an id come to mean something else.
    pub fn collect(&mut self) {
        for id in std::mem::take(&mut self.unused) {
            let set = &self.sets[id as usize];
            if set.references > 0 {
                continue;
            }
            let hash = self.hasher.hash_one((&*set.bytes, set.next_hop, set.tag));
            // It may have been told twice.
            if let Ok(entry) = self.index.find_entry(hash, |other| *other == id) {
                entry.remove();
                self.sets[id as usize].bytes = Box::default();
                self.free.push(id);
            }
        }
        if self.index.is_empty() {
            self.sets = Vec::new();
            self.free = Vec::new();
        }
    }

    /// How many sets there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }
}
