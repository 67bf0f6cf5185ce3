//! One connection of a session.

use std::time::{Duration, Instant};

use crate::session::timers::{self, Jitter};
use crate::session::{ConnId, Direction, Negotiated};
use crate::wire::Open;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Waits without having sent an OPEN, while another connection is about to become the session or is it.
    Held,
    OpenSent,
    OpenConfirm,
    Established,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnId,
    pub(super) direction: Direction,
    pub(super) phase: Phase,
    /// When it was made; when it was established.
    pub(super) since: Instant,
    /// Until when it has to go on, before a hold time is agreed on.
    pub(super) limit: Instant,
    /// The neighbour's.
    pub(super) open: Option<Open>,
    pub(super) negotiated: Option<Box<Negotiated>>,
    /// When something came.
    pub(super) heard: Instant,
    /// When to send a KEEPALIVE.
    pub(super) keepalive: Option<Instant>,
}

impl Connection {
    pub(super) fn new(id: ConnId, direction: Direction, now: Instant) -> Self {
        Self {
            id,
            direction,
            phase: Phase::Held,
            since: now,
            limit: now + timers::SETTLE,
            open: None,
            negotiated: None,
            heard: now,
            keepalive: None,
        }
    }

    fn hold_time(&self) -> Duration {
        self.negotiated.as_ref().map_or(Duration::ZERO, |negotiated| negotiated.hold_time)
    }

    /// When the neighbour has been silent for too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Held | Phase::OpenSent => Some(self.limit),
            // Without a hold time a session is for ever, but not the way to it.
            Phase::OpenConfirm if self.hold_time().is_zero() => Some(self.heard + timers::OPEN),
            Phase::OpenConfirm | Phase::Established => {
                Some(self.hold_time()).filter(|time| !time.is_zero()).map(|time| self.heard + time)
            }
        }
    }

    pub(super) fn set_keepalive(&mut self, now: Instant, jitter: &mut Jitter) {
        let hold = self.hold_time();
        self.keepalive = (!hold.is_zero()).then(|| now + jitter.of(hold / 3));
    }
}
