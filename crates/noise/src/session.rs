//! Data messages: sealed, opened and counted (whitepaper, section 5.4.6).

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tombolo_aead::{Key as CipherKey, Refused};
use tombolo_net::wireguard::Key;

use crate::message::{self, HEADER, OVERHEAD, TAG, write_data_header};
use crate::replay::{ReplayGuard, Window};

/// How many messages until a new session is wanted.
pub(crate) const REKEY_AFTER_MESSAGES: u64 = 1 << 60;
/// How many messages a session can have.
pub(crate) const REJECT_AFTER_MESSAGES: u64 = u64::MAX - (1 << 13);
/// The age at which the initiator wants a new session.
pub(crate) const REKEY_AFTER_TIME: Duration = Duration::from_secs(120);
/// The age at which a session is good for nothing any more.
pub(crate) const REJECT_AFTER_TIME: Duration = Duration::from_secs(180);
/// The age at which the initiator wants a new session although it only receives: late enough that whoever sends had
/// its chance, early enough for a keepalive and one lost initiation.
pub(crate) const REKEY_AFTER_RECEIVING: Duration = Duration::from_secs(165);

/// A pair of transport keys, one for each way. Threads share it: nothing needs `&mut`.
///
/// A message is sealed and opened where it lies, and nothing is allocated.
pub struct Session {
    peer: Key,
    local_index: u32,
    remote_index: u32,
    created: Instant,
    initiator: bool,
    sealing: CipherKey,
    opening: CipherKey,
    counter: AtomicU64,
    window: Mutex<Window>,
    confirmed: AtomicBool,
    ended: AtomicBool,
}

/// A data message that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its counter, for the [window](Session::window).
    pub counter: u64,
    /// Where in the message the plaintext is: a packet and its padding, or nothing for a keepalive.
    pub plaintext: Range<usize>,
}

/// Why a data message was not opened. The message's bytes are then worth nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No data message, or one for another session.
    #[error("it is not a data message of this session")]
    NotOurs,
    /// The counter is one that no sender may use.
    #[error("its counter is beyond what a session may have")]
    Counter,
    /// Forged, or damaged on the way.
    #[error("it is not authentic")]
    Forged,
}

/// What a handshake agreed on.
pub(crate) struct Agreed {
    pub(crate) peer: Key,
    pub(crate) local_index: u32,
    pub(crate) remote_index: u32,
    pub(crate) initiator: bool,
    pub(crate) sealing: [u8; 32],
    pub(crate) opening: [u8; 32],
}

impl Session {
    pub(crate) fn new(agreed: Agreed, now: Instant) -> Self {
        Self {
            peer: agreed.peer,
            local_index: agreed.local_index,
            remote_index: agreed.remote_index,
            created: now,
            initiator: agreed.initiator,
            sealing: CipherKey::new(&agreed.sealing),
            opening: CipherKey::new(&agreed.opening),
            counter: AtomicU64::new(0),
            window: Mutex::new(Window::new()),
            confirmed: AtomicBool::new(agreed.initiator),
            ended: AtomicBool::new(false),
        }
    }

    /// The index in messages to us.
    pub fn local_index(&self) -> u32 {
        self.local_index
    }

    /// Who is at the other end.
    pub fn peer(&self) -> Key {
        self.peer
    }

    /// When the handshake was.
    pub fn created(&self) -> Instant {
        self.created
    }

    /// Whether we began the handshake: then it is ours to begin the next.
    pub fn is_initiator(&self) -> bool {
        self.initiator
    }

    /// Counters for `n` messages, which nobody else gets; `None` when the session has not so many left.
    pub fn reserve(&self, n: u64) -> Option<Range<u64>> {
        let end = |start: u64| start.checked_add(n).filter(|end| *end <= REJECT_AFTER_MESSAGES);
        let start = self.counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, end).ok()?;
        Some(start..start + n)
    }

    /// Makes a data message of a buffer that has the padded packet in its middle, [`HEADER`] bytes before it and
    /// [`TAG`] bytes behind it: writes header and tag, and encrypts.
    ///
    /// A counter may be used once only: take it from [`Self::reserve`].
    ///
    /// # Panics
    /// When the buffer is shorter than [`OVERHEAD`].
    pub fn seal(&self, counter: u64, buffer: &mut [u8]) {
        let (packet, tag) = self.parts(counter, buffer);
        match self.sealing.seal(counter, packet) {
            Ok(computed) => *tag = computed,
            // Only a packet of 2^38 bytes is too long. What leaves us is never readable.
            Err(Refused) => buffer.fill(0),
        }
    }

    /// [`Self::seal`] for two messages, which takes less time than one after the other.
    ///
    /// # Panics
    /// When a buffer is shorter than [`OVERHEAD`].
    pub fn seal_two(&self, counters: [u64; 2], [one, other]: [&mut [u8]; 2]) {
        let (one_packet, one_tag) = self.parts(counters[0], one);
        let (other_packet, other_tag) = self.parts(counters[1], other);
        match self.sealing.seal_two(counters, [one_packet, other_packet]) {
            Ok(computed) => [*one_tag, *other_tag] = computed,
            Err(Refused) => [one, other].into_iter().for_each(|buffer| buffer.fill(0)),
        }
    }

    /// Writes the header of a message; gives the packet and the room for its tag.
    fn parts<'a>(&self, counter: u64, buffer: &'a mut [u8]) -> (&'a mut [u8], &'a mut [u8; TAG]) {
        let rest = buffer.split_first_chunk_mut::<HEADER>().and_then(|(header, rest)| {
            write_data_header(header, self.remote_index, counter);
            rest.split_last_chunk_mut::<TAG>()
        });
        rest.unwrap_or_else(|| panic!("a data message has room for header and tag: {OVERHEAD} bytes"))
    }

    /// Opens a whole data message where it lies. The window is not touched.
    pub fn open(&self, message: &mut [u8]) -> Result<Opened, OpenError> {
        let counter = self.counter_of(message)?;
        opened(counter, self.opening.open(counter, &mut message[HEADER..]))
    }

    /// [`Self::open`] for two messages, each for itself, which takes less time than one after the other.
    pub fn open_two(&self, [one, other]: [&mut [u8]; 2]) -> [Result<Opened, OpenError>; 2] {
        let (Ok(one_counter), Ok(other_counter)) = (self.counter_of(one), self.counter_of(other)) else {
            return [self.open(one), self.open(other)];
        };
        let counters = [one_counter, other_counter];
        let [one, other] = self.opening.open_two(counters, [&mut one[HEADER..], &mut other[HEADER..]]);
        [opened(one_counter, one), opened(other_counter, other)]
    }

    /// The counter of a message of this session, if a sender may have used it.
    fn counter_of(&self, message: &[u8]) -> Result<u64, OpenError> {
        if message::receiver_index(message) != Some(self.local_index) {
            return Err(OpenError::NotOurs);
        }
        let counter = message::counter(message);
        if counter < REJECT_AFTER_MESSAGES { Ok(counter) } else { Err(OpenError::Counter) }
    }

    /// Locks the window, into which the counter of each authentic message is taken, once for a batch of them.
    pub fn window(&self) -> ReplayGuard<'_> {
        ReplayGuard(self.window.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it may be sent with: a responder's only after the first authentic message, which [`Engine::confirm`]
    /// has to be told of.
    ///
    /// [`Engine::confirm`]: crate::Engine::confirm
    pub fn is_confirmed(&self) -> bool {
        self.confirmed.load(Ordering::Acquire)
    }

    /// Whether it can be sent with at this time: confirmed, neither too old nor used up, and not ended.
    pub fn may_send(&self, now: Instant) -> bool {
        self.is_confirmed() && self.may_receive(now) && self.counter.load(Ordering::Relaxed) < REJECT_AFTER_MESSAGES
    }

    /// Whether it can be received with at this time.
    pub fn may_receive(&self, now: Instant) -> bool {
        self.age(now) < REJECT_AFTER_TIME && !self.ended.load(Ordering::Acquire)
    }

    /// Whether, something having been sent with it, it is to be replaced.
    pub fn wants_rekey_after_send(&self, now: Instant) -> bool {
        let old = self.initiator && self.age(now) >= REKEY_AFTER_TIME;
        old || self.counter.load(Ordering::Relaxed) > REKEY_AFTER_MESSAGES
    }

    /// Whether, something having been received with it, it is to be replaced.
    pub fn wants_rekey_after_receive(&self, now: Instant) -> bool {
        self.initiator && self.age(now) >= REKEY_AFTER_RECEIVING
    }

    /// The first authentic message came.
    pub(crate) fn confirm(&self) {
        self.confirmed.store(true, Ordering::Release);
    }

    /// It is good for nothing any more, whoever still holds it.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// When it is too old for anything.
    pub(crate) fn expires(&self) -> Instant {
        self.created + REJECT_AFTER_TIME
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.created)
    }

    #[cfg(test)]
    pub(crate) fn skip_to(&self, counter: u64) {
        self.counter.store(counter, Ordering::Relaxed);
    }
}

/// Keys are not for logs.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer)
            .field("local_index", &self.local_index)
            .field("initiator", &self.initiator)
            .finish_non_exhaustive()
    }
}

fn opened(counter: u64, length: Result<usize, Refused>) -> Result<Opened, OpenError> {
    match length {
        Ok(length) => Ok(Opened { counter, plaintext: HEADER..HEADER + length }),
        Err(Refused) => Err(OpenError::Forged),
    }
}
