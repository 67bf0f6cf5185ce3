//! When something is due: a pure function of what a peer's [`Activity`](crate::Activity) saw.

use std::time::{Duration, Instant};

use crate::activity::Seen;

/// How long after an initiation the next is sent.
pub(crate) const REKEY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long until whoever only receives says that it is there.
pub(crate) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many initiations are sent until we give up, which is after 90 s.
pub(crate) const ATTEMPTS: u32 = 18;
/// The most that is added to a timer that both ends could have started at once, in milliseconds.
pub(crate) const JITTER: u64 = 333;

/// What is due when for one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Due {
    /// Data was received, and nothing was sent for a while.
    pub(crate) keepalive: Option<Instant>,
    /// Data was sent, and nothing was heard for a while.
    pub(crate) handshake: Option<Instant>,
    /// Nothing went either way for as long as was configured.
    pub(crate) persistent: Option<Instant>,
}

impl Due {
    /// `jitter` is the handshake's.
    pub(crate) fn new(seen: Seen, persistent: Option<Duration>, jitter: Duration) -> Self {
        Self {
            keepalive: seen.owed.map(|since| since + KEEPALIVE_TIMEOUT),
            handshake: seen.unanswered.map(|since| since + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT + jitter),
            persistent: seen.last.zip(persistent).map(|(last, interval)| last + interval),
        }
    }

    /// The first of them.
    pub(crate) fn first(self) -> Option<Instant> {
        [self.keepalive, self.handshake, self.persistent].into_iter().flatten().min()
    }
}

/// Whether something that is due at `at` is due now.
pub(crate) fn is_due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| at <= now)
}
