//! What the data path tells about a peer.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// When a peer was sent to and heard of: all that the timers go by.
///
/// Many threads write it, each once a batch; the [`Engine`](crate::Engine) reads it. The times are of the device's one
/// clock, and two that are written at once may win in either order: a timer is then early or late by a batch.
///
/// The engine itself notes its handshake messages, and the keepalives that it asks for.
pub struct Activity {
    epoch: Instant,
    /// When the first data was sent since anything was heard of the peer.
    unanswered: Moment,
    /// When the first data was received since anything was sent to the peer.
    owed: Moment,
    /// When the last authenticated message went either way.
    last: Moment,
}

/// Milliseconds since the epoch and one more; 0 is never.
#[derive(Default)]
struct Moment(AtomicU64);

/// What an [`Activity`] said at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    pub(crate) unanswered: Option<Instant>,
    pub(crate) owed: Option<Instant>,
    pub(crate) last: Option<Instant>,
}

impl Activity {
    pub(crate) fn new(epoch: Instant) -> Self {
        Self { epoch, unanswered: Moment::default(), owed: Moment::default(), last: Moment::default() }
    }

    /// Data messages were sent, other than keepalives. It is also something sent: see [`Self::sent_any`].
    pub fn sent_data(&self, now: Instant) {
        self.unanswered.arm(self.millis(now));
        self.sent_any(now);
    }

    /// An authenticated message was sent: a keepalive or data.
    pub fn sent_any(&self, now: Instant) {
        self.owed.clear();
        self.last.set(self.millis(now));
    }

    /// Data was received that was not empty, and authentic. It is also something received: see [`Self::received_any`].
    pub fn received_data(&self, now: Instant) {
        self.owed.arm(self.millis(now));
        self.received_any(now);
    }

    /// An authenticated message was received: a keepalive or data.
    pub fn received_any(&self, now: Instant) {
        self.unanswered.clear();
        self.last.set(self.millis(now));
    }

    pub(crate) fn seen(&self) -> Seen {
        let instant = |moment: &Moment| {
            let millis = moment.0.load(Relaxed).checked_sub(1)?;
            self.epoch.checked_add(Duration::from_millis(millis))
        };
        Seen { unanswered: instant(&self.unanswered), owed: instant(&self.owed), last: instant(&self.last) }
    }

    /// The timer for data without an answer fired; more data arms it again.
    pub(crate) fn unanswered_is_dealt_with(&self) {
        self.unanswered.clear();
    }

    /// There is nobody to whom a keepalive could be owed.
    pub(crate) fn nothing_is_owed(&self) {
        self.owed.clear();
    }

    fn millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.epoch).as_millis() as u64 + 1
    }
}

/// A line of memory that several threads read is not written without need.
impl Moment {
    fn arm(&self, millis: u64) {
        if self.0.load(Relaxed) == 0 {
            // Whoever was first has the earlier time.
            let _ = self.0.compare_exchange(0, millis, Relaxed, Relaxed);
        }
    }

    fn set(&self, millis: u64) {
        if self.0.load(Relaxed) < millis {
            self.0.store(millis, Relaxed);
        }
    }

    fn clear(&self) {
        if self.0.load(Relaxed) != 0 {
            self.0.store(0, Relaxed);
        }
    }
}
