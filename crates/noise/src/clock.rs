//! Time, which is handed in.

use std::time::{Duration, Instant, SystemTime};

/// The time on two clocks: one that only goes forward, for the timers, and the wall's, for what peers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For what is due when.
    pub instant: Instant,
    /// For the timestamps in initiations, and for when a handshake was.
    pub wall: SystemTime,
}

impl Now {
    /// What the system's clocks say.
    pub fn system() -> Self {
        Self { instant: Instant::now(), wall: SystemTime::now() }
    }
}

/// A TAI64N label: seconds from 2^62, then nanoseconds, both big-endian, so that later ones compare as greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Tai64n(pub(crate) [u8; 12]);

impl Tai64n {
    /// The label of a wall clock's time, or the one after `last` where the clock stands or went back.
    ///
    /// It is cut to some 17 ms, as a peer takes no more than 50 initiations a second and the rest only tells how our
    /// clock ticks.
    pub(crate) fn after(last: Self, wall: SystemTime) -> Self {
        const EPOCH: u64 = (1 << 62) + 10;
        const GRAIN: u32 = 1 << 24;
        let since = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let mut label = [0; 12];
        label[..8].copy_from_slice(&EPOCH.wrapping_add(since.as_secs()).to_be_bytes());
        label[8..].copy_from_slice(&(since.subsec_nanos() & !(GRAIN - 1)).to_be_bytes());
        Self(label).max(last.next())
    }

    fn next(self) -> Self {
        let mut label = self.0;
        for byte in label.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        Self(label)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_the_one_that_bernstein_gives() {
        // TAI64 counts the ten leap seconds that there were before 1972.
        let label = Tai64n::after(Tai64n::default(), SystemTime::UNIX_EPOCH + Duration::new(1, 1 << 24));
        assert_eq!(label.0, [0x40, 0, 0, 0, 0, 0, 0, 0x0b, 1, 0, 0, 0]);
    }

    #[test]
    fn labels_grow_although_the_clock_goes_back() {
        let mut last = Tai64n::default();
        for seconds in [1_000_000, 1_000_000, 10, 0, 1_000_001] {
            let label = Tai64n::after(last, SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            assert!(label > last);
            last = label;
        }
        assert_eq!(Tai64n([0xff; 12]).next(), Tai64n([0; 12]));
    }
}
