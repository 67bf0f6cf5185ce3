//! The times of a session.

use std::time::{Duration, Instant};

/// How long an OPEN is waited for. RFC 4271 (section 8.2.2) suggests four minutes; a neighbour that is hung would be
/// tried again as late.
pub(super) const OPEN: Duration = Duration::from_secs(60);
/// How long a second connection waits for the first to become a session or to end, and for how long after its start a
/// session is not taken to be that of a neighbour that has restarted since.
pub(super) const SETTLE: Duration = Duration::from_secs(5);
/// How long the connection that stays after a collision has to go on.
pub(super) const WINNER: Duration = Duration::from_secs(10);
/// How long to wait at most before connecting again.
pub(super) const BACKOFF: Duration = Duration::from_secs(60);
/// A session that lasted this long was a good one.
pub(super) const GOOD: Duration = Duration::from_secs(60);
/// The least time that an attempt to connect has: three SYNs are sent in it.
const ATTEMPT: Duration = Duration::from_secs(8);

pub(super) fn attempt(connect_retry: Duration) -> Duration {
    connect_retry.max(ATTEMPT)
}

/// After so many failures in a row.
pub(super) fn backoff(connect_retry: Duration, failures: u32) -> Duration {
    let most = BACKOFF.max(connect_retry);
    connect_retry.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(most)
}

/// Spreads timers (RFC 4271, section 10).
#[derive(Debug)]
pub(super) struct Jitter(pub(super) u64);

impl Jitter {
    /// Three quarters of it to all of it.
    pub(super) fn of(&mut self, time: Duration) -> Duration {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let part = (z ^ (z >> 31)) >> 40;
        time.mul_f64(0.75 + part as f64 / f64::from(1 << 24) / 4.0)
    }
}

/// The earliest that is set.
pub(super) fn earliest(times: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    times.into_iter().flatten().min()
}
