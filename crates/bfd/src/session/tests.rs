#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn timers(tx: u64, rx: u64, multiplier: u8) -> Timers {
    Timers { tx: ms(tx), rx: ms(rx), multiplier }
}

/// Two sessions, a hand-turned clock and a wire between them that loses what it is told to.
struct Pair {
    now: Instant,
    sessions: [Session; 2],
    /// Everything that was sent: when, by whom, what.
    sent: Vec<(Instant, usize, Packet)>,
    changes: Vec<(Instant, usize, State, Diagnostic)>,
}

impl Pair {
    fn new(timers: [Timers; 2]) -> Self {
        let now = Instant::now();
        let session = |n: u32| {
            let config =
                Config { local_discriminator: n + 1, timers: timers[n as usize], passive: false, seed: n.into() };
            Session::new(config, now)
        };
        Self { now, sessions: [session(0), session(1)], sent: Vec::new(), changes: Vec::new() }
    }

    fn up(timers: [Timers; 2]) -> Self {
        let mut pair = Self::new(timers);
        pair.run(ms(10_000), |_, _| true);
        assert_eq!(pair.states(), [State::Up; 2]);
        pair.sent.clear();
        pair.changes.clear();
        pair
    }

    fn states(&self) -> [State; 2] {
        [self.sessions[0].state(), self.sessions[1].state()]
    }

    /// Does what one side wants, and what the other says to it, until all is said.
    fn act(&mut self, side: usize, actions: Vec<Action>, passes: &mut dyn FnMut(usize, &Packet) -> bool) {
        for action in actions {
            match action {
                Action::Changed { state, diagnostic } => self.changes.push((self.now, side, state, diagnostic)),
                Action::Transmit(packet) => {
                    self.sent.push((self.now, side, packet));
                    if passes(side, &packet) {
                        let mut out = Vec::new();
                        self.sessions[1 - side].received(self.now, &packet, &mut out).unwrap();
                        self.act(1 - side, out, passes);
                    }
                }
            }
        }
    }

    fn run(&mut self, time: Duration, mut passes: impl FnMut(usize, &Packet) -> bool) {
        let end = self.now + time;
        loop {
            let next = (0..2).filter_map(|side| Some((self.sessions[side].deadline()?, side))).min();
            let Some((deadline, side)) = next.filter(|(deadline, _)| *deadline <= end) else { break };
            self.now = self.now.max(deadline);
            let mut out = Vec::new();
            self.sessions[side].tick(self.now, &mut out);
            self.act(side, out, &mut passes);
        }
        self.now = end;
    }

    fn gaps(&self, side: usize) -> Vec<Duration> {
        let at: Vec<_> = self.sent.iter().filter(|s| s.1 == side && !s.2.final_).map(|s| s.0).collect();
        at.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

#[test]
fn a_session_is_up_on_both_sides_with_the_third_packet() {
    let mut pair = Pair::new([timers(50, 50, 3); 2]);
    let mut third = None;
    let mut count = 0;
    pair.run(ms(0), |_, _| {
        count += 1;
        true
    });
    for (n, (_, _, packet)) in pair.sent.iter().enumerate().filter(|(_, sent)| !sent.2.final_) {
        if packet.state == State::Up {
            third = third.or(Some(n + 1));
        }
    }
    assert!(count >= 3);
    assert_eq!(third, Some(3), "{:?}", pair.sent);
    let states: Vec<_> = pair.changes.iter().map(|c| (c.1, c.2, c.3)).collect();
    let none = Diagnostic::NONE;
    assert_eq!(states, [(1, State::Init, none), (0, State::Up, none), (1, State::Up, none)]);
}

#[test]
fn nobody_there_costs_a_packet_a_second_and_up_is_as_fast_as_agreed() {
    let mut pair = Pair::new([timers(10, 100, 3), timers(50, 20, 3)]);
    pair.run(ms(20_000), |_, _| false);
    for gap in pair.gaps(0) {
        assert!((ms(750)..=ms(1000)).contains(&gap), "{gap:?}");
    }
    pair.run(ms(5_000), |_, _| true);
    pair.sent.clear();
    pair.run(ms(5_000), |_, _| true);
    for (side, interval) in [(0, 20), (1, 100)] {
        let gaps = pair.gaps(side);
        assert!(gaps.iter().all(|gap| (ms(interval * 3 / 4)..=ms(interval)).contains(gap)), "{gaps:?}");
        assert!(gaps.iter().min() < gaps.iter().max(), "packets of many sessions must not go in step");
        assert_eq!(pair.sessions[side].transmit_interval(), Some(ms(interval)));
    }
    assert_eq!(pair.sessions[0].detection_time(), Some(ms(300)));
    assert_eq!(pair.sessions[1].detection_time(), Some(ms(60)));
}

#[test]
fn with_a_multiplier_of_one_packets_come_a_tenth_early_at_least() {
    let mut pair = Pair::up([timers(100, 100, 1); 2]);
    pair.run(ms(10_000), |_, _| true);
    assert!(pair.gaps(0).iter().all(|gap| (ms(75)..=ms(90)).contains(gap)));
    assert!(pair.changes.is_empty());
}

#[test]
fn silence_is_noticed_after_the_multiplier_times_the_interval() {
    let mut pair = Pair::up([timers(50, 50, 3), timers(80, 50, 4)]);
    let last = pair.sessions.clone().map(|session| session.last_received.unwrap());
    pair.run(ms(1_000), |_, _| false);
    for (side, after) in [(0, 320), (1, 150)] {
        let (at, _, state, diagnostic) = *pair.changes.iter().find(|c| c.1 == side).unwrap();
        assert_eq!((at - last[side], state, diagnostic), (ms(after), State::Down, Diagnostic::TIME_EXPIRED));
    }
}

#[test]
fn a_path_that_is_broken_one_way_is_down_on_both_sides() {
    let mut pair = Pair::up([timers(50, 50, 3); 2]);
    pair.run(ms(500), |side, _| side != 0);
    let reasons: Vec<_> = pair.changes.iter().take(2).map(|c| (c.1, c.2, c.3)).collect();
    assert_eq!(reasons, [(1, State::Down, Diagnostic::TIME_EXPIRED), (0, State::Down, Diagnostic::NEIGHBOR_DOWN)]);
    pair.run(ms(5_000), |_, _| true);
    assert_eq!(pair.states(), [State::Up; 2]);
}

#[test]
fn parameters_change_by_a_poll_sequence_without_a_flap() {
    let mut pair = Pair::up([timers(50, 50, 3); 2]);
    pair.sessions[0].set(timers(200, 300, 5));
    assert_eq!(pair.sessions[0].transmit_interval(), Some(ms(50)), "until the other side knows");
    // The first answers are lost: the question is asked again.
    let mut lost = 0;
    pair.run(ms(190), |side, packet| {
        let loses = side == 1 && packet.final_ && lost < 2;
        lost += i32::from(loses);
        !loses
    });
    let polls = pair.sent.iter().filter(|s| s.1 == 0 && s.2.poll).count();
    assert_eq!((polls, lost), (3, 2));
    assert!(pair.sent.iter().all(|s| !(s.2.poll && s.2.final_)));
    assert_eq!(pair.sessions[0].transmit_interval(), Some(ms(200)));
    assert_eq!(pair.sessions[1].detection_time(), Some(ms(1000)));
    assert_eq!(pair.sessions[1].transmit_interval(), Some(ms(300)));
    pair.run(ms(10_000), |_, _| true);

    // Faster: sending so at once; counting on the other's doing so only once it has answered.
    pair.sessions[0].set(timers(20, 20, 3));
    assert_eq!(pair.sessions[0].transmit_interval(), Some(ms(50)), "the other side's limit");
    assert_eq!(pair.sessions[0].detection_time(), Some(ms(900)));
    pair.run(ms(1_000), |_, _| true);
    assert_eq!(pair.sessions[0].detection_time(), Some(ms(150)));
    assert_eq!(pair.changes, []);
}

#[test]
fn an_answer_to_the_former_question_is_not_taken_for_one_to_the_next() {
    let mut pair = Pair::up([timers(50, 50, 3); 2]);
    let mut out = Vec::new();
    pair.sessions[0].set(timers(100, 50, 3));
    pair.now = pair.sessions[0].transmit_deadline().unwrap();
    pair.sessions[0].tick(pair.now, &mut out);
    let [Action::Transmit(question)] = out[..] else { panic!("{out:?}") };
    assert!(question.poll);
    pair.sessions[0].set(timers(400, 50, 3));
    pair.act(0, out, &mut |_, _| true);
    assert_eq!(pair.sessions[0].transmit_interval(), Some(ms(50)), "400 ms is not known to the other side yet");
    pair.run(ms(1_000), |_, _| true);
    assert_eq!(pair.sessions[0].transmit_interval(), Some(ms(400)));
    assert_eq!(pair.changes, []);
}

#[test]
fn a_stop_is_told_and_is_no_failure_of_the_path() {
    let mut pair = Pair::up([timers(50, 50, 3); 2]);
    let mut out = Vec::new();
    pair.sessions[0].stop(pair.now, &mut out);
    pair.act(0, out, &mut |_, _| true);
    let admin = Diagnostic::ADMINISTRATIVELY_DOWN;
    assert_eq!(pair.states(), [State::AdminDown, State::Down]);
    assert_eq!(pair.changes.last().unwrap().3, Diagnostic::NEIGHBOR_DOWN);
    assert_eq!((pair.sessions[1].remote_state(), pair.sessions[1].remote_diagnostic()), (State::AdminDown, admin));
    pair.run(ms(10_000), |_, _| true);
    assert_eq!(pair.states(), [State::AdminDown, State::Down], "it stays down");
    let mut out = Vec::new();
    pair.sessions[0].start(pair.now, &mut out);
    pair.act(0, out, &mut |_, _| true);
    pair.run(ms(3_000), |_, _| true);
    assert_eq!(pair.states(), [State::Up; 2]);
}

#[test]
fn a_passive_side_answers_only() {
    let now = Instant::now();
    let config = Config { local_discriminator: 7, timers: timers(50, 50, 3), passive: true, seed: 0 };
    let mut session = Session::new(config, now);
    assert_eq!(session.deadline(), None);
    let mut pair = Pair::new([timers(50, 50, 3); 2]);
    pair.sessions[1] = Session::new(Config { local_discriminator: 2, ..config }, pair.now);
    pair.run(ms(3_000), |_, _| true);
    assert_eq!(pair.states(), [State::Up; 2]);
    let mut out = Vec::new();
    session.tick(now, &mut out);
    assert_eq!(out, []);
}

#[test]
fn packets_of_other_sessions_change_nothing() {
    let mut pair = Pair::up([timers(50, 50, 3); 2]);
    let (session, mut out) = (&mut pair.sessions[0], Vec::new());
    let packet = Packet { my_discriminator: 9, your_discriminator: 99, ..session.packet(false) };
    assert_eq!(session.received(pair.now, &packet, &mut out), Err(Refusal::YourDiscriminator(99)));
    let packet = Packet { your_discriminator: 0, ..packet };
    assert_eq!(session.received(pair.now, &packet, &mut out), Err(Refusal::Unanswered(State::Up)));
    assert_eq!((out.len(), session.state()), (0, State::Up));
}

#[test]
fn demand_mode_of_the_other_side_and_its_wish_for_silence_are_respected() {
    for (demand, required_min_rx) in [(true, 50_000), (false, 0)] {
        let now = Instant::now();
        let config = Config { local_discriminator: 1, timers: timers(50, 50, 3), passive: false, seed: 3 };
        let (mut session, mut out) = (Session::new(config, now), Vec::new());
        let mut packet = Packet { my_discriminator: 5, state: State::Init, ..session.packet(false) };
        (packet.your_discriminator, packet.required_min_rx) = (1, required_min_rx);
        session.received(now, &packet, &mut out).unwrap();
        assert_eq!(session.state(), State::Up);
        let mut answer = Packet { state: State::Up, final_: true, demand, desired_min_tx: 50_000, ..packet };
        session.received(now, &answer, &mut out).unwrap();
        assert_eq!(session.deadline(), Some(now + ms(150)), "nothing but the detection is left to do");
        (answer.poll, answer.final_) = (true, false);
        out.clear();
        session.received(now + ms(100), &answer, &mut out).unwrap();
        assert!(matches!(out[..], [Action::Transmit(Packet { final_: true, poll: false, .. })]), "{out:?}");
        // An own change asks on the usual beat, where that is allowed.
        session.set(timers(60, 50, 3));
        assert_eq!(session.transmit_deadline().is_some(), demand);
    }
}

#[test]
fn a_peer_that_restarts_is_seen_to() {
    let mut pair = Pair::up([timers(50, 50, 3); 2]);
    let config = Config { local_discriminator: 77, timers: timers(50, 50, 3), passive: false, seed: 9 };
    pair.sessions[1] = Session::new(config, pair.now);
    // What is still said to the number of before is not taken.
    pair.run(ms(5_000), |side, packet| side == 1 || [0, 77].contains(&packet.your_discriminator));
    assert_eq!(pair.changes[0].2, State::Down);
    assert_eq!(pair.states(), [State::Up; 2]);
}

proptest! {
    #[test]
    fn whatever_is_lost_the_sides_agree_in_the_end(
        losses in proptest::collection::vec((0usize..2, 1u64..400, any::<bool>()), 0..30),
        random in any::<u64>(), tx in 10u64..500, rx in 10u64..500, multiplier in 1u8..5,
    ) {
        let own = [timers(tx, rx, multiplier), timers(rx, 50, 3)];
        let mut pair = Pair::new(own);
        let mut random = random;
        for (side, time, change) in losses {
            if change {
                pair.sessions[side].set(timers(time + 10, time, multiplier));
            }
            pair.run(ms(time), |_, _| {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                random >> 62 != 0
            });
        }
        // One way only: nobody may stay up longer than the slowest detection and a slow packet take.
        let mut one_way = pair.sessions.clone();
        pair.run(ms(30_000), |side, _| side == 0);
        prop_assert!(!pair.states().contains(&State::Up), "{:?}", pair.states());
        std::mem::swap(&mut one_way, &mut pair.sessions);
        let end = pair.now;
        pair.run(ms(30_000), |_, _| true);
        prop_assert_eq!(pair.states(), [State::Up; 2]);
        let late = pair.changes.iter().filter(|c| c.0 > end + ms(15_000)).count();
        prop_assert_eq!(late, 0, "it stays up");
    }

    #[test]
    fn any_packets_in_any_order_leave_a_session_that_works(
        packets in proptest::collection::vec(
            (any::<[u8; 20]>(), 0u64..2_000, any::<bool>(), any::<bool>()), 0..60),
    ) {
        let mut pair = Pair::new([timers(50, 50, 3); 2]);
        let mut out = Vec::new();
        for (bytes, time, ours, admin) in packets {
            let mut raw = [0; 24];
            raw[..20].copy_from_slice(&bytes);
            (raw[0], raw[1], raw[2], raw[3]) = (0x20 | bytes[0] & 0x1f, bytes[1] & 0xfa, bytes[2].max(1), 24);
            raw[8..12].copy_from_slice(&u32::from(ours).to_be_bytes());
            pair.now += ms(time);
            let session = &mut pair.sessions[0];
            if let Ok(packet) = Packet::parse(&raw) {
                let _ = session.received(pair.now, &packet, &mut out);
            }
            match admin {
                true => session.stop(pair.now, &mut out),
                false => session.start(pair.now, &mut out),
            }
            session.tick(pair.now, &mut out);
            prop_assert!(session.deadline().is_none_or(|deadline| deadline > pair.now), "it would spin");
        }
    }
}
