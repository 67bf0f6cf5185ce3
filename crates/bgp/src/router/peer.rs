//! What the router knows of a neighbour.

use std::net::IpAddr;
use std::time::Instant;

use crate::Family;
use crate::config::Neighbor;
use crate::rib::SourceId;
use crate::rib::table::Bits;
use crate::session::{ConnId, Negotiated, Session};

/// A neighbour.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: SourceId,
    pub(super) address: IpAddr,
    pub(super) neighbor: Neighbor,
    /// Whether it came by itself out of a range, and goes with its session.
    pub(super) dynamic: bool,
    pub(super) session: Session,
    pub(super) up: Option<Up>,
    pub(super) families: [PerFamily; 2],
    pub(super) restart: Option<Restart>,
    /// Messages whose routes were taken as withdrawn (RFC 7606).
    pub(super) flawed: u64,
    pub(super) last_flaw: Option<(Instant, String)>,
    /// Why the last established session ended.
    pub(super) last_end: Option<String>,
    /// Why the session did not come up, as it was said.
    pub(super) last_failure: Option<String>,
    /// After too many prefixes: until when it stays away, or until a person looked.
    pub(super) held_down: Option<Option<Instant>>,
}

impl Peer {
    pub(super) fn family(&mut self, family: Family) -> &mut PerFamily {
        &mut self.families[index(family)]
    }

    pub(super) fn prefixes(&self) -> u32 {
        self.families.iter().map(|f| f.received).sum()
    }
}

pub(super) fn index(family: Family) -> usize {
    match family {
        Family::Ipv4 => 0,
        Family::Ipv6 => 1,
    }
}

/// An established session.
#[derive(Debug)]
pub(super) struct Up {
    pub(super) conn: ConnId,
    pub(super) negotiated: Box<Negotiated>,
    pub(super) local: IpAddr,
}

/// What is kept of a family.
#[derive(Debug, Default)]
pub(super) struct PerFamily {
    /// Paths that it announced.
    pub(super) received: u32,
    /// Those of them that take part in the choice.
    pub(super) accepted: u32,
    /// What it is told, while the session is up.
    pub(super) feed: Option<Feed>,
    /// Whether all it had to tell was told (End-of-RIB).
    pub(super) complete: bool,
}

/// How a neighbour is told of a family.
#[derive(Debug)]
pub(super) struct Feed {
    /// Its group, by its place.
    pub(super) group: usize,
    /// What it has to be told by itself, before it can be told what the group is.
    pub(super) catch_up: Option<CatchUp>,
}

#[derive(Debug)]
pub(super) struct CatchUp {
    pub(super) slots: Bits,
    pub(super) at: usize,
    pub(super) ending: Ending,
}

/// What follows when all was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Nothing,
    EndOfRib,
    EndOfRefresh,
}

/// A neighbour that is restarting: its paths are kept, as stale.
#[derive(Debug)]
pub(super) struct Restart {
    /// Until when.
    pub(super) until: Instant,
    /// Whether they have become a last resort (RFC 9494).
    pub(super) long_lived: bool,
    /// For how long each family may be that, in seconds of the neighbour's.
    pub(super) long_lived_times: Vec<(Family, std::time::Duration)>,
}
