//! One session: the state machine of RFC 5880, section 6, without a socket or a clock.
//!
//! It is handed packets and the time, and hands back what to send and what has changed. The names of its variables are
//! those of section 6.8.1.

use std::time::{Duration, Instant};

use crate::packet::{Diagnostic, Packet, Refusal, State};

/// While a session is not up, packets are sent no more often than this (RFC 5880, section 6.8.3).
pub const SLOW: Duration = Duration::from_secs(1);

/// The shortest interval that can be configured.
pub const SHORTEST: Duration = Duration::from_millis(1);

/// How fast a session is. Intervals are from [`SHORTEST`] to 4294 s; others are taken as the nearest of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Timers {
    /// How often to send, at most (Desired Min TX Interval).
    pub tx: Duration,
    /// How often to be sent to, at most (Required Min RX Interval).
    pub rx: Duration,
    /// After how many missing packets the other side takes the path for down; zero is taken as one.
    pub multiplier: u8,
}

/// What a session begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The own number of the session: not zero, and of no other session of this system.
    pub local_discriminator: u32,
    /// How fast it is.
    pub timers: Timers,
    /// Send nothing before something is received (RFC 5880, section 6.1).
    pub passive: bool,
    /// Any number, random outside of tests: the jitter follows from it.
    pub seed: u64,
}

/// What the owner of a session is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send the packet now.
    Transmit(Packet),
    /// Tell whoever is interested: the session has another state.
    Changed {
        /// The new state.
        state: State,
        /// Why; [`Diagnostic::NONE`] on the way up.
        diagnostic: Diagnostic,
    },
}

/// A poll sequence (RFC 5880, section 6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Poll {
    None,
    /// The next packet asks.
    Wanted,
    /// Asked, and what was asked is what is wanted.
    Sent,
    /// Asked, but the wish has changed since: the answer to come may be to the former one.
    Stale,
}

/// A session.
#[derive(Debug, Clone)]
pub struct Session {
    local_discriminator: u32,
    timers: Timers,
    passive: bool,
    random: u64,

    state: State,
    diagnostic: Diagnostic,
    poll: Poll,
    /// The intervals in use until the poll sequence for the configured ones has ended.
    tx_in_use: Duration,
    rx_in_use: Duration,

    remote: Remote,

    last_sent: Option<Instant>,
    /// What part of the interval passes between `last_sent` and the next packet, in thousandths.
    jitter: u32,
    last_received: Option<Instant>,
    created: Instant,
}

/// The other system, as its last packet has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Remote {
    state: State,
    discriminator: u32,
    diagnostic: Diagnostic,
    desired_min_tx: Duration,
    required_min_rx: Duration,
    multiplier: u8,
    demand: bool,
}

impl Remote {
    /// Before anything is heard of it (section 6.8.1).
    const UNHEARD: Self = Self {
        state: State::Down,
        discriminator: 0,
        diagnostic: Diagnostic::NONE,
        desired_min_tx: SLOW,
        required_min_rx: Duration::from_micros(1),
        multiplier: 1,
        demand: false,
    };
}

impl Session {
    /// A session that is down. Its first packet is due at once.
    pub fn new(config: Config, now: Instant) -> Self {
        let timers = config.timers.clamped();
        let mut session = Self {
            local_discriminator: config.local_discriminator,
            timers,
            passive: config.passive,
            random: config.seed,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            poll: Poll::None,
            tx_in_use: timers.tx.max(SLOW),
            rx_in_use: timers.rx,
            remote: Remote::UNHEARD,
            last_sent: None,
            jitter: 0,
            last_received: None,
            created: now,
        };
        session.draw();
        session
    }

    /// A packet of this session has come (section 6.8.6).
    ///
    /// # Errors
    /// The packet names another session; nothing has changed.
    pub fn received(&mut self, now: Instant, packet: &Packet, out: &mut Vec<Action>) -> Result<(), Refusal> {
        if packet.your_discriminator != 0 && packet.your_discriminator != self.local_discriminator {
            return Err(Refusal::YourDiscriminator(packet.your_discriminator));
        }
        if packet.your_discriminator == 0 && packet.state > State::Down {
            return Err(Refusal::Unanswered(packet.state));
        }
        self.remote = Remote {
            state: packet.state,
            discriminator: packet.my_discriminator,
            diagnostic: packet.diagnostic,
            desired_min_tx: Duration::from_micros(packet.desired_min_tx.into()),
            required_min_rx: Duration::from_micros(packet.required_min_rx.into()),
            multiplier: packet.multiplier,
            demand: packet.demand,
        };
        self.last_received = Some(now);
        if packet.final_ {
            self.answered();
        }
        if self.state == State::AdminDown {
            return Ok(());
        }
        let before = self.state;
        match (self.state, packet.state) {
            (State::Down, State::AdminDown) => {}
            (_, State::AdminDown) | (State::Up, State::Down) => self.enter(State::Down, Diagnostic::NEIGHBOR_DOWN, out),
            (State::Down, State::Down) => self.enter(State::Init, self.diagnostic, out),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                self.enter(State::Up, Diagnostic::NONE, out);
            }
            _ => {}
        }
        if packet.poll {
            // Not before its time, so that polls by the other side do not put off the own packets.
            out.push(Action::Transmit(self.packet(true)));
        }
        if self.state != before {
            self.transmit(now, out);
        }
        Ok(())
    }

    /// Does what is due. To be called at [`Session::deadline`] or any time later.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        let before = self.state;
        if self.detection_deadline().is_some_and(|deadline| deadline <= now) {
            self.remote = Remote::UNHEARD;
            self.last_received = None;
            if matches!(self.state, State::Init | State::Up) {
                self.enter(State::Down, Diagnostic::TIME_EXPIRED, out);
            }
        }
        let due = self.transmit_deadline().is_some_and(|deadline| deadline <= now);
        if due || self.state != before {
            self.transmit(now, out);
        }
    }

    /// When [`Session::tick`] has something to do, if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        [self.detection_deadline(), self.transmit_deadline()].into_iter().flatten().min()
    }

    /// Changes how fast the session is; one that is up stays up, and asks the other side with a poll sequence
    /// (section 6.8.3).
    pub fn set(&mut self, timers: Timers) {
        let timers = timers.clamped();
        let polled = (timers.tx, timers.rx) != (self.timers.tx, self.timers.rx);
        self.timers = timers;
        if self.state == State::Up && polled {
            self.ask();
        } else {
            self.adopt();
        }
    }

    /// Takes the session down by somebody's wish (section 6.8.16). The other side is told now, and by further packets
    /// as long as the session is kept.
    pub fn stop(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.state != State::AdminDown {
            self.enter(State::AdminDown, Diagnostic::ADMINISTRATIVELY_DOWN, out);
            self.transmit(now, out);
        }
    }

    /// Takes back [`Session::stop`].
    pub fn start(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.state == State::AdminDown {
            self.enter(State::Down, Diagnostic::NONE, out);
            self.transmit(now, out);
        }
    }

    /// The own state.
    pub fn state(&self) -> State {
        self.state
    }

    /// The own number of the session.
    pub fn local_discriminator(&self) -> u32 {
        self.local_discriminator
    }

    /// The other side's state, as last heard; down when nothing is.
    pub fn remote_state(&self) -> State {
        self.remote.state
    }

    /// The other side's reason, as last heard.
    pub fn remote_diagnostic(&self) -> Diagnostic {
        self.remote.diagnostic
    }

    /// How fast it is configured to be.
    pub fn timers(&self) -> Timers {
        self.timers
    }

    /// How often packets are sent, before jitter; `None` when the other side wants none.
    pub fn transmit_interval(&self) -> Option<Duration> {
        let wanted = !self.remote.required_min_rx.is_zero();
        wanted.then(|| self.tx_in_use.max(self.remote.required_min_rx))
    }

    /// After how much silence the other side is taken for lost; `None` when it is not heard (section 6.8.4).
    pub fn detection_time(&self) -> Option<Duration> {
        let interval = self.rx_in_use.max(self.remote.desired_min_tx);
        (self.remote.discriminator != 0).then(|| interval * u32::from(self.remote.multiplier))
    }

    fn detection_deadline(&self) -> Option<Instant> {
        self.last_received?.checked_add(self.detection_time()?)
    }

    fn transmit_deadline(&self) -> Option<Instant> {
        let polls = self.poll != Poll::None;
        let both_up = (self.state, self.remote.state) == (State::Up, State::Up);
        if self.silent() || (self.remote.demand && both_up && !polls) {
            return None;
        }
        let interval = self.transmit_interval()?;
        let Some(last) = self.last_sent else { return Some(self.created) };
        last.checked_add(interval * self.jitter / 1000)
    }

    /// A passive side does not speak first (section 6.8.7).
    fn silent(&self) -> bool {
        self.passive && self.remote.discriminator == 0
    }

    fn enter(&mut self, state: State, diagnostic: Diagnostic, out: &mut Vec<Action>) {
        self.state = state;
        self.diagnostic = diagnostic;
        if state == State::Up {
            self.ask();
        } else {
            self.adopt();
        }
        let told = if state == State::Init { Diagnostic::NONE } else { diagnostic };
        out.push(Action::Changed { state, diagnostic: told });
    }

    /// Begins a poll sequence. What makes for more packets or a later alarm here is done at once; the rest waits for
    /// the answer, because the other side still counts on the former intervals.
    fn ask(&mut self) {
        self.tx_in_use = self.tx_in_use.min(self.timers.tx);
        self.rx_in_use = self.rx_in_use.max(self.timers.rx);
        self.poll = match self.poll {
            Poll::None | Poll::Wanted => Poll::Wanted,
            Poll::Sent | Poll::Stale => Poll::Stale,
        };
    }

    fn answered(&mut self) {
        match self.poll {
            Poll::None | Poll::Wanted => {}
            Poll::Sent => self.adopt(),
            Poll::Stale => self.poll = Poll::Wanted,
        }
    }

    /// Ends a poll sequence: the intervals are as configured, or slow while the session is not up.
    fn adopt(&mut self) {
        self.tx_in_use = self.desired_min_tx();
        self.rx_in_use = self.timers.rx;
        self.poll = Poll::None;
    }

    fn desired_min_tx(&self) -> Duration {
        if self.state == State::Up { self.timers.tx } else { self.timers.tx.max(SLOW) }
    }

    fn transmit(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.silent() {
            return;
        }
        out.push(Action::Transmit(self.packet(false)));
        if self.poll == Poll::Wanted {
            self.poll = Poll::Sent;
        }
        self.last_sent = Some(now);
        self.draw();
    }

    fn packet(&self, final_: bool) -> Packet {
        Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: !final_ && self.poll != Poll::None,
            final_,
            control_plane_independent: false,
            demand: false,
            multiplier: self.timers.multiplier,
            my_discriminator: self.local_discriminator,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: micros(self.desired_min_tx()),
            required_min_rx: micros(self.timers.rx),
        }
    }

    /// The next jitter: 75 to 100 % of the interval, 75 to 90 % when one missing packet is one too many (section
    /// 6.8.7). The generator is SplitMix64.
    fn draw(&mut self) {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let most = if self.timers.multiplier == 1 { 900 } else { 1000 };
        self.jitter = 750 + (mixed % (most - 750 + 1)) as u32;
    }
}

impl Timers {
    fn clamped(self) -> Self {
        let longest = Duration::from_micros(u32::MAX.into());
        Self {
            tx: self.tx.clamp(SHORTEST, longest),
            rx: self.rx.clamp(SHORTEST, longest),
            multiplier: self.multiplier.max(1),
        }
    }
}

/// Intervals are clamped to what fits.
fn micros(interval: Duration) -> u32 {
    u32::try_from(interval.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
