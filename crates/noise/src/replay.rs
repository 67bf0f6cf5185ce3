//! The window of counters (RFC 6479): which of a session's messages were seen.

use std::sync::MutexGuard;

use crate::session::REJECT_AFTER_MESSAGES;

const WORDS: usize = 128;
/// How far behind the greatest counter one may be. One word of the 128 is kept free, as the window moves by words.
pub(crate) const WINDOW: u64 = (WORDS as u64 - 1) * 64;

/// A ring of bits, one a counter.
pub(crate) struct Window {
    seen: [u64; WORDS],
    /// One more than the greatest counter that was taken.
    next: u64,
}

/// The window of one session, locked: for a batch of messages.
pub struct ReplayGuard<'a>(pub(crate) MutexGuard<'a, Window>);

impl ReplayGuard<'_> {
    /// Takes a counter: false for one that was taken before, or is too old to know.
    ///
    /// Only an authenticated message's counter may be taken, as a great one makes others old.
    pub fn accept(&mut self, counter: u64) -> bool {
        self.0.accept(counter)
    }
}

impl Window {
    pub(crate) fn new() -> Self {
        Self { seen: [0; WORDS], next: 0 }
    }

    pub(crate) fn accept(&mut self, counter: u64) -> bool {
        if counter >= REJECT_AFTER_MESSAGES || self.next.saturating_sub(counter) > WINDOW {
            return false;
        }
        if counter >= self.next {
            let last = self.next.saturating_sub(1) / 64;
            for word in (last + 1..=counter / 64).take(WORDS) {
                self.seen[slot(word)] = 0;
            }
            self.next = counter + 1;
        }
        let (word, bit) = (&mut self.seen[slot(counter / 64)], 1 << (counter % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

fn slot(word: u64) -> usize {
    (word % WORDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// The same, as one would explain it.
    #[derive(Default)]
    struct Model {
        seen: HashSet<u64>,
        greatest: Option<u64>,
    }

    impl Model {
        fn accept(&mut self, counter: u64) -> bool {
            let old = self.greatest.is_some_and(|greatest| u128::from(counter) + u128::from(WINDOW) <= greatest.into());
            if counter >= REJECT_AFTER_MESSAGES || old || !self.seen.insert(counter) {
                return false;
            }
            self.greatest = self.greatest.max(Some(counter));
            true
        }
    }

    /// Steps from the greatest counter so far: mostly near it, some about the window's length, some far.
    fn steps() -> impl Strategy<Value = Vec<i64>> {
        let window = WINDOW as i64;
        let step = prop_oneof![
            6 => -70i64..70,
            3 => -window - 70..-window + 70,
            2 => window - 70..window + 200,
            1 => -3 * window..3 * window,
            1 => 0..i64::MAX / 64,
        ];
        proptest::collection::vec(step, 1..300)
    }

    proptest! {
        #[test]
        fn the_window_does_as_a_set_would(
            start in prop_oneof![Just(0), 0..20_000u64, REJECT_AFTER_MESSAGES - 20_000..=u64::MAX, any::<u64>()],
            steps in steps(),
        ) {
            let (mut window, mut model) = (Window::new(), Model::default());
            let mut at = start;
            for step in steps {
                prop_assert_eq!(window.accept(at), model.accept(at), "counter {}", at);
                prop_assert!(!window.accept(at), "counter {} a second time", at);
                at = model.greatest.unwrap_or(start).saturating_add_signed(step);
            }
        }
    }

    #[test]
    fn each_counter_is_taken_once() {
        let mut window = Window::new();
        for counter in 0..3 * WINDOW {
            assert!(window.accept(counter));
        }
        for counter in 0..3 * WINDOW {
            assert!(!window.accept(counter));
        }
    }

    #[test]
    fn the_window_is_as_long_as_it_says() {
        let mut window = Window::new();
        assert!(window.accept(WINDOW));
        assert!(!window.accept(0), "one too old");
        assert!(window.accept(1), "the oldest");
    }

    #[test]
    fn the_last_counter_is_the_one_before_the_limit() {
        let mut window = Window::new();
        assert!(window.accept(REJECT_AFTER_MESSAGES - 1));
        assert!(!window.accept(REJECT_AFTER_MESSAGES));
        assert!(!window.accept(u64::MAX));
    }
}
