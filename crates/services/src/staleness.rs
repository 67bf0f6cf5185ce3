//! What a source still counts for that cannot be reached, or that has suddenly lost nearly all.
//!
//! ```text
//! in contact ──► Live ──nearly all gone at once──► Held ──confirmed, or mass_delete_after──► Live
//! out of contact ──► Waiting ──grace──► Stale ──stale_after──► Gone
//! ```
//!
//! A source is a cluster, or where mirrors come from. Time is an argument. What must outlive a restart is in the marks
//! on the mirrors, from which [`Tracker::recover`] begins.

use std::time::Duration;

use crate::model::Timestamp;

/// How long, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// A source out of contact for less is not yet marked: watches end and begin anew all the time.
    pub grace: Duration,
    /// What a source has that is out of contact this long is withdrawn.
    pub stale_after: Duration,
    /// What is held back is let go after this.
    pub mass_delete_after: Duration,
    /// Fewer than this many are never held back.
    pub mass_delete_min: usize,
    /// More than this share in percent must have gone for the rest to be held back.
    pub mass_delete_percent: u8,
}

impl Default for Limits {
    /// 30 s, 15 min, 1 h, 10, 90 %.
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
            stale_after: Duration::from_secs(15 * 60),
            mass_delete_after: Duration::from_secs(60 * 60),
            mass_delete_min: 10,
            mass_delete_percent: 90,
        }
    }
}

/// What is seen of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contact {
    /// It has listed all and is watched; it offers this many Services.
    Live {
        /// How many there are to mirror or to import.
        offered: usize,
        /// A person has said that what is gone is meant to be gone.
        confirmed: bool,
    },
    /// It has not listed all yet, or cannot be reached.
    Lost,
}

/// What a source counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Standing {
    /// Not in contact, but for a moment only: nothing changes.
    #[default]
    Waiting,
    /// It is as it says.
    Live,
    /// What it offers is as it says, what it does not offer any more stays as it was.
    Held {
        /// Since when.
        since: Timestamp,
    },
    /// Everything stays as it was, and is marked.
    Stale {
        /// Since when there is no contact.
        since: Timestamp,
    },
    /// It counts for nothing.
    Gone,
}

/// Follows one source.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tracker {
    lost_since: Option<Timestamp>,
    held_since: Option<Timestamp>,
    /// How many it offered when it was whole, and when it was last that many.
    full: usize,
    fell_at: Option<Timestamp>,
}

impl Tracker {
    /// Begins after a restart: with how many mirrors of the source there are that are still
    /// [asked for](crate::mirrors::Choice::chooses), and the earliest of their marks
    /// ([`tombolo_api::tombolo::STALE_SINCE`], [`tombolo_api::tombolo::HELD_SINCE`]).
    pub fn recover(mirrors: usize, stale_since: Option<Timestamp>, held_since: Option<Timestamp>) -> Self {
        Self { lost_since: stale_since, held_since, full: mirrors, fell_at: held_since }
    }

    /// What the source counts for now.
    pub fn observe(&mut self, contact: Contact, now: Timestamp, limits: &Limits) -> Standing {
        match contact {
            Contact::Lost => self.lost(now, limits),
            Contact::Live { offered, confirmed } => {
                self.lost_since = None;
                self.live(offered, confirmed, now, limits)
            }
        }
    }

    /// When to look again, though nothing was heard.
    pub fn deadline(&self, now: Timestamp, limits: &Limits) -> Option<Timestamp> {
        let lost = self.lost_since.into_iter();
        let lost = lost.flat_map(|since| [since.after(limits.grace), since.after(limits.stale_after)]);
        let held = self.held_since.map(|since| since.after(limits.mass_delete_after));
        lost.chain(held).filter(|at| *at > now).min()
    }

    fn lost(&mut self, now: Timestamp, limits: &Limits) -> Standing {
        let since = *self.lost_since.get_or_insert(now);
        let gone_for = now.since(since);
        if gone_for >= limits.stale_after {
            *self = Self { lost_since: Some(since), ..Self::default() };
            return Standing::Gone;
        }
        if gone_for >= limits.grace { Standing::Stale { since } } else { Standing::Waiting }
    }

    fn live(&mut self, offered: usize, confirmed: bool, now: Timestamp, limits: &Limits) -> Standing {
        if offered >= self.full || confirmed {
            return self.whole(offered);
        }
        // Deletions come one by one, so they are counted from when the source was last whole.
        let fell_at = *self.fell_at.get_or_insert(now);
        let missing = self.full - offered;
        let is_mass =
            missing >= limits.mass_delete_min && missing * 100 > self.full * usize::from(limits.mass_delete_percent);
        if is_mass {
            let since = *self.held_since.get_or_insert(now);
            if now.since(since) < limits.mass_delete_after {
                return Standing::Held { since };
            }
            return self.whole(offered);
        }
        self.held_since = None;
        if now.since(fell_at) >= limits.mass_delete_after { self.whole(offered) } else { Standing::Live }
    }

    fn whole(&mut self, offered: usize) -> Standing {
        *self = Self { full: offered, ..Self::default() };
        Standing::Live
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3600;

    fn live(offered: usize) -> Contact {
        Contact::Live { offered, confirmed: false }
    }

    fn run(tracker: &mut Tracker, steps: &[(i64, Contact, Standing)]) {
        for (at, contact, expected) in steps {
            let standing = tracker.observe(*contact, Timestamp(*at), &Limits::default());
            assert_eq!(standing, *expected, "at {at}: {contact:?}");
        }
    }

    #[test]
    fn a_source_out_of_contact_stays_is_marked_and_is_withdrawn() {
        let since = Timestamp(100);
        run(
            &mut Tracker::default(),
            &[
                (0, live(300), Standing::Live),
                (100, Contact::Lost, Standing::Waiting),
                (129, Contact::Lost, Standing::Waiting),
                (130, Contact::Lost, Standing::Stale { since }),
                (999, Contact::Lost, Standing::Stale { since }),
                (1000, Contact::Lost, Standing::Gone),
                (5000, Contact::Lost, Standing::Gone),
                // Nothing of it is left to be lost, so nothing is held back.
                (5001, live(0), Standing::Live),
                (5002, live(300), Standing::Live),
            ],
        );
    }

    #[test]
    fn a_source_that_comes_back_empty_is_held_back_until_the_time_is_over() {
        let since = Timestamp(200);
        run(
            &mut Tracker::default(),
            &[
                (0, live(300), Standing::Live),
                (100, Contact::Lost, Standing::Waiting),
                (200, live(0), Standing::Held { since }),
                (200 + HOUR - 1, live(0), Standing::Held { since }),
                (200 + HOUR, live(0), Standing::Live),
            ],
        );
    }

    #[test]
    fn what_goes_one_by_one_is_held_back_when_nearly_all_has_gone() {
        let mut tracker = Tracker::default();
        tracker.observe(live(300), Timestamp(0), &Limits::default());
        // It was whole for hours, so the fall begins now.
        let standings: Vec<Standing> = (0..300)
            .map(|n| tracker.observe(live(299 - n), Timestamp(10 * HOUR + n as i64), &Limits::default()))
            .collect();
        assert_eq!(standings[269], Standing::Live);
        assert!(standings[270..].iter().all(|s| *s == Standing::Held { since: Timestamp(10 * HOUR + 270) }));
        assert_eq!(tracker.observe(live(100), Timestamp(10 * HOUR + 400), &Limits::default()), Standing::Live);
        assert_eq!(tracker.held_since, None);
    }

    #[test]
    fn what_is_confirmed_or_little_or_slow_is_let_go() {
        let confirmed = Contact::Live { offered: 0, confirmed: true };
        run(&mut Tracker::recover(300, None, None), &[(0, confirmed, Standing::Live), (1, live(0), Standing::Live)]);
        run(&mut Tracker::recover(9, None, None), &[(0, live(0), Standing::Live)]);
        let slow =
            [(0, live(150), Standing::Live), (HOUR, live(140), Standing::Live), (2 * HOUR, live(20), Standing::Live)];
        run(&mut Tracker::recover(300, None, None), &slow);
    }

    #[test]
    fn a_restart_forgets_neither_how_long_nor_how_many() {
        let (stale, held) = (Timestamp(100), Timestamp(50));
        let mut tracker = Tracker::recover(300, Some(stale), None);
        run(
            &mut tracker,
            &[(600, Contact::Lost, Standing::Stale { since: stale }), (1000, Contact::Lost, Standing::Gone)],
        );
        let mut tracker = Tracker::recover(300, None, Some(held));
        run(&mut tracker, &[(600, live(0), Standing::Held { since: held }), (50 + HOUR, live(0), Standing::Live)]);
    }

    #[test]
    fn a_clock_that_is_set_back_withdraws_nothing() {
        run(
            &mut Tracker::default(),
            &[(10_000, Contact::Lost, Standing::Waiting), (0, Contact::Lost, Standing::Waiting)],
        );
    }

    proptest! {
        /// Looking at each deadline is enough: looking more often changes nothing.
        #[test]
        fn between_deadlines_nothing_changes(mirrors in 0_usize..50, offered in 0_usize..50, is_lost: bool, at in 0_i64..9000) {
            let limits = Limits::default();
            let contact = if is_lost { Contact::Lost } else { live(offered) };
            let mut tracker = Tracker::recover(mirrors, None, None);
            let mut standing = tracker.observe(contact, Timestamp(0), &limits);
            let (mut seldom, mut now) = (tracker.clone(), Timestamp(0));
            while let Some(next) = seldom.deadline(now, &limits).filter(|next| next.0 <= at) {
                standing = seldom.observe(contact, next, &limits);
                now = next;
            }
            prop_assert_eq!(tracker.clone().observe(contact, Timestamp(at), &limits), seldom.observe(contact, Timestamp(at), &limits));
            prop_assert_eq!(standing, seldom.observe(contact, Timestamp(at), &limits));
        }
    }
}
