//! The session with one neighbour (RFC 4271, section 8), without I/O.
//!
//! A [`Session`] is handed connections, messages and time, and hands back [`Action`]s. It has up to two connections
//! while both sides connect at once (section 6.8), and one when it is established. Its owner reads the bytes, keeps the
//! routes, and calls [`Session::tick`] when [`Session::deadline`] is there.

mod machine;
mod negotiate;
mod reason;
#[cfg(test)]
mod tests;
mod timers;

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

pub use machine::Session;
pub use reason::{Down, Reason};

use crate::config::{Config, GracefulRestart, Role};
use crate::wire::{Kind, RouteRefresh};
use crate::{Family, wire};

/// What all sessions of a speaker share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// The own autonomous system, where a neighbour has no other.
    pub asn: u32,
    /// The BGP identifier.
    pub router_id: Ipv4Addr,
    /// Graceful restart. Its R bit may change at any time without a session's end; it is in the next OPEN.
    pub graceful_restart: Option<GracefulRestart>,
}

impl Local {
    /// Out of a configuration.
    pub fn new(config: &Config) -> Self {
        Self { asn: config.asn, router_id: config.router_id, graceful_restart: config.graceful_restart.clone() }
    }
}

/// A connection, as its owner numbers it; the number of one that is closed may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u32);

/// Who opened a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// This side.
    Outgoing,
    /// The neighbour.
    Incoming,
}

/// What a session wants done, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connect; an attempt that is still under way is given up without a word to the session.
    Connect,
    /// Send a message, behind what is already queued.
    Send(ConnId, Vec<u8>),
    /// Close when all is sent; nothing more of it is told to the session.
    Close(ConnId),
    /// The session is established: routes flow.
    Up(ConnId, Box<Negotiated>),
    /// It is no more.
    Down(Down),
    /// A connection, or an attempt, ended before it was a session.
    Failed(Reason),
    /// The neighbour asks for routes again, or marks their begin and end. Its family is one that was agreed on.
    Refresh(RouteRefresh),
}

/// Whether a neighbour is of the own autonomous system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// It is.
    Internal,
    /// It is not.
    External,
}

/// What both sides agreed on in their OPENs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The neighbour's AS number.
    pub remote_asn: u32,
    /// The own towards it.
    pub local_asn: u32,
    /// The neighbour's BGP identifier.
    pub remote_id: Ipv4Addr,
    /// Whether the two are the same AS.
    pub kind: PeerKind,
    /// Who opened the connection.
    pub direction: Direction,
    /// The lesser of both hold times; zero is none.
    pub hold_time: Duration,
    /// The families of both; never empty.
    pub families: Vec<Family>,
    /// Whether AS numbers in updates have four octets (RFC 6793).
    pub four_octet: bool,
    /// Where the neighbour sends several paths (RFC 7911): its prefixes have identifiers.
    pub add_path_receive: Vec<Family>,
    /// Where it takes several: prefixes to it have identifiers.
    pub add_path_send: Vec<Family>,
    /// Whether messages to it may be longer than 4096 bytes (RFC 8654).
    pub extended: bool,
    /// Whether messages from it may be: this side has offered it.
    pub extended_receive: bool,
    /// Whether it can send its routes again (RFC 2918).
    pub refresh: bool,
    /// Whether refreshes have a begin and an end (RFC 7313).
    pub enhanced_refresh: bool,
    /// Graceful restart (RFC 4724), where both sides have it.
    pub graceful: Option<PeerRestart>,
    /// Long-lived graceful restart (RFC 9494), where both sides have it: whether forwarding went on, and for how long
    /// routes are kept.
    pub long_lived: Vec<(Family, bool, Duration)>,
    /// The neighbour's role (RFC 9234).
    pub remote_role: Option<Role>,
}

/// The neighbour's graceful restart (RFC 4724).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRestart {
    /// For how long it wants its routes kept.
    pub time: Duration,
    /// Whether it has just restarted.
    pub restarting: bool,
    /// Whether routes outlive NOTIFICATIONs but Hard Reset (RFC 8538): both sides said so.
    pub notification: bool,
    /// Of which families, and whether its forwarding went on. Empty: it only helps others.
    pub families: Vec<(Family, bool)>,
}

/// The state of a session (RFC 4271, section 8.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// Shut down, or barred.
    Idle,
    /// Connecting.
    Connect,
    /// Waiting: to be connected to, or to connect again.
    Active,
    /// The own OPEN is sent.
    OpenSent,
    /// The neighbour's OPEN is accepted.
    OpenConfirm,
    /// Routes flow.
    Established,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// How many messages of each kind there were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters([u64; Kind::ALL.len()]);

impl Counters {
    /// Of one kind.
    pub fn of(&self, kind: wire::Kind) -> u64 {
        self.0[kind as usize - 1]
    }

    /// Of all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    fn add(&mut self, kind: wire::Kind, count: u64) {
        self.0[kind as usize - 1] += count;
    }
}
