//! When to send the next echo to whom, and what the replies say: pure, with the time given.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How often is asked and how soon a target counts as silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Between two echoes to one target; longer for more targets than would get 1000 a second in all.
    pub interval: Duration,
    /// How many echoes in a row may stay without a reply before the target counts as silent; 1 at least.
    pub threshold: u32,
}

impl Default for Settings {
    /// An echo a second, silent after three: noticed four seconds after the last reply at most.
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), threshold: 3 }
    }
}

/// Whom to ask, and how the echo goes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The caller's number for it.
    pub id: u64,
    /// Where the echo goes to and the reply comes from.
    pub address: IpAddr,
    /// The source address, of the same family; else the kernel chooses.
    pub source: Option<IpAddr>,
    /// The mark that the packet bears (`SO_MARK`), for routing rules.
    pub mark: Option<u32>,
    /// The link that it leaves by; else the routes say.
    pub device: Option<String>,
}

/// What is known of a target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct State {
    /// Echoes sent.
    pub sent: u32,
    /// When the last reply came.
    pub last_reply: Option<Instant>,
    /// Echoes without a reply since the last one that had one.
    pub consecutive_missed: u32,
    /// Whether it answers; unknown until the first reply, or until as many echoes as the threshold says were missed.
    pub answering: Option<bool>,
}

/// So many echoes a second are sent at most, whatever the number of targets.
const MOST_A_SECOND: u32 = 1000;

/// A reply to an echo older than this many is no sign of life.
const WINDOW: u32 = 8;

#[derive(Debug)]
struct Probe {
    target: Target,
    due: Instant,
    /// The last echo that was replied to; they are numbered from 1.
    replied: u32,
    state: State,
}

#[derive(Debug)]
pub(super) struct Machine {
    settings: Settings,
    interval: Duration,
    probes: BTreeMap<u64, Probe>,
    schedule: BTreeSet<(Instant, u64)>,
}

impl Machine {
    pub(super) fn new(settings: Settings) -> Self {
        let settings = Settings { threshold: settings.threshold.max(1), ..settings };
        Self { settings, interval: settings.interval, probes: BTreeMap::new(), schedule: BTreeSet::new() }
    }

    pub(super) fn set_targets(&mut self, now: Instant, targets: Vec<Target>) {
        let mut before = std::mem::take(&mut self.probes);
        let mut fresh = Vec::new();
        for target in targets {
            match before.remove(&target.id) {
                Some(probe) if probe.target == target => _ = self.probes.insert(target.id, probe),
                _ => fresh.push(target),
            }
        }
        let count = self.probes.len() + fresh.len();
        self.interval =
            self.settings.interval.max(Duration::from_secs(1) / MOST_A_SECOND * count.try_into().unwrap_or(u32::MAX));
        let apart = self.interval / u32::try_from(fresh.len().max(1)).unwrap_or(u32::MAX);
        for (target, place) in fresh.into_iter().zip(0..) {
            let due = now + apart * place;
            self.probes.insert(target.id, Probe { target, due, replied: 0, state: State::default() });
        }
        self.schedule = self.probes.iter().map(|(id, probe)| (probe.due, *id)).collect();
    }

    pub(super) fn state(&self, id: u64) -> Option<State> {
        self.probes.get(&id).map(|probe| probe.state)
    }

    /// When the next echo is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.schedule.first().map(|(due, _)| *due)
    }

    /// Hands over the echoes that are due, with their numbers. Says whether a target fell silent: an echo counts as
    /// missed when the next one goes out.
    pub(super) fn due(&mut self, now: Instant, mut send: impl FnMut(&Target, u32)) -> bool {
        let mut changed = false;
        while let Some((due, id)) = self.schedule.first().copied().filter(|(due, _)| *due <= now) {
            self.schedule.pop_first();
            let Some(probe) = self.probes.get_mut(&id) else { continue };
            // A time that was slept through is not made up for.
            let on_time = due + self.interval;
            probe.due = if on_time > now { on_time } else { now + self.interval };
            self.schedule.insert((probe.due, id));
            let state = &mut probe.state;
            if state.sent > probe.replied {
                state.consecutive_missed += 1;
            }
            if state.consecutive_missed >= self.settings.threshold && state.answering != Some(false) {
                state.answering = Some(false);
                changed = true;
            }
            state.sent += 1;
            send(&probe.target, state.sent);
        }
        changed
    }

    /// Takes a reply. Says whether a target began to answer.
    pub(super) fn reply(&mut self, now: Instant, from: IpAddr, id: u64, sequence: u32) -> bool {
        let Some(probe) = self.probes.get_mut(&id).filter(|probe| probe.target.address == from) else { return false };
        let state = &mut probe.state;
        if sequence == 0 || sequence > state.sent || state.sent - sequence >= WINDOW {
            return false;
        }
        probe.replied = probe.replied.max(sequence);
        state.last_reply = Some(now);
        state.consecutive_missed = 0;
        let began = state.answering != Some(true);
        state.answering = Some(true);
        began
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const THRESHOLD: u32 = 3;

    fn target(id: u64) -> Target {
        let address = IpAddr::from([10, 0, (id >> 8) as u8, id as u8]);
        Target { id, address, source: None, mark: None, device: None }
    }

    fn machine(now: Instant, targets: u64) -> Machine {
        let mut machine = Machine::new(Settings { interval: SECOND, threshold: THRESHOLD });
        machine.set_targets(now, (0..targets).map(target).collect());
        machine
    }

    /// Sends what is due and gives the numbers of the echoes.
    fn tick(machine: &mut Machine, now: Instant) -> (Vec<(u64, u32)>, bool) {
        let mut sent = Vec::new();
        let changed = machine.due(now, |target, sequence| sent.push((target.id, sequence)));
        (sent, changed)
    }

    #[test]
    fn a_target_answers_falls_silent_after_the_threshold_and_comes_back() {
        let start = Instant::now();
        let mut machine = machine(start, 1);
        let address = target(0).address;
        assert_eq!(tick(&mut machine, start), (vec![(0, 1)], false));
        assert!(machine.reply(start, address, 0, 1));
        for second in 1..=THRESHOLD {
            assert_eq!(tick(&mut machine, start + SECOND * second), (vec![(0, second + 1)], false));
            assert_eq!(machine.state(0).unwrap().answering, Some(true));
        }
        assert!(tick(&mut machine, start + SECOND * 4).1);
        let state = machine.state(0).unwrap();
        assert_eq!((state.answering, state.consecutive_missed, state.last_reply), (Some(false), 3, Some(start)));
        assert!(!tick(&mut machine, start + SECOND * 5).1, "it is said once");
        assert!(machine.reply(start + SECOND * 5, address, 0, 6));
        assert_eq!(machine.state(0).unwrap().consecutive_missed, 0);
    }

    #[test]
    fn a_target_that_never_answered_is_unknown_then_silent() {
        let start = Instant::now();
        let mut machine = machine(start, 1);
        assert_eq!(machine.state(0).unwrap().answering, None);
        let changes: Vec<_> = (0..6).filter(|s| tick(&mut machine, start + SECOND * *s).1).collect();
        assert_eq!(changes, [THRESHOLD]);
    }

    #[test]
    fn replies_slower_than_the_interval_still_count() {
        let start = Instant::now();
        let mut machine = machine(start, 1);
        for second in 0..10u32 {
            assert!(!tick(&mut machine, start + SECOND * second).1);
            machine.reply(start + SECOND * second, target(0).address, 0, second);
        }
        assert_eq!(machine.state(0).unwrap().answering, Some(true));
    }

    #[test]
    fn replies_from_elsewhere_of_the_future_or_of_old_are_no_sign_of_life() {
        let start = Instant::now();
        let mut machine = machine(start, 2);
        for second in 0..20 {
            tick(&mut machine, start + SECOND * second);
        }
        assert!(!machine.reply(start, target(1).address, 0, 20), "another target's address");
        assert!(!machine.reply(start, target(0).address, 0, 21), "an echo that was not sent");
        assert!(!machine.reply(start, target(0).address, 0, 1), "an echo of long ago");
        assert!(!machine.reply(start, target(0).address, 7, 1), "no such target");
        assert!(machine.reply(start, target(0).address, 0, 20));
    }

    #[test]
    fn a_target_keeps_its_state_until_it_changes() {
        let start = Instant::now();
        let mut machine = machine(start, 2);
        tick(&mut machine, start);
        machine.reply(start, target(0).address, 0, 1);
        machine.set_targets(start, vec![target(0), target(5)]);
        assert_eq!(machine.state(0).unwrap().answering, Some(true));
        assert_eq!(machine.state(1), None);
        machine.set_targets(start, vec![Target { mark: Some(7), ..target(0) }]);
        assert_eq!(machine.state(0).unwrap(), State::default());
    }

    #[test]
    fn a_slept_through_time_brings_one_echo_each() {
        let start = Instant::now();
        let mut machine = machine(start, 1);
        tick(&mut machine, start);
        assert_eq!(tick(&mut machine, start + SECOND * 100).0, [(0, 2)]);
        assert_eq!(machine.next(), Some(start + SECOND * 101));
    }

    #[test]
    fn very_many_targets_get_one_less_often() {
        let start = Instant::now();
        let mut machine = machine(start, 4 * u64::from(MOST_A_SECOND));
        let mut sent = 0;
        while let Some(now) = machine.next().filter(|due| *due < start + SECOND * 8) {
            sent += tick(&mut machine, now).0.len();
        }
        assert_eq!(sent, 8 * MOST_A_SECOND as usize);
    }

    proptest! {
        #[test]
        fn each_target_gets_an_echo_an_interval_and_they_are_spread(count in 1u64..300, seconds in 1u32..5) {
            let start = Instant::now();
            let mut machine = machine(start, count);
            let (mut echoes, mut largest, end) = (BTreeMap::<u64, u32>::new(), 0, start + SECOND * seconds);
            while let Some(now) = machine.next().filter(|due| *due < end) {
                let (sent, _) = tick(&mut machine, now);
                largest = largest.max(sent.len());
                sent.iter().for_each(|(id, _)| *echoes.entry(*id).or_default() += 1);
            }
            prop_assert!(echoes.values().all(|n| *n == seconds) && echoes.len() as u64 == count);
            prop_assert_eq!(largest, 1);
        }
    }
}
