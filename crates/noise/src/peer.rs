//! One peer: its handshake, its three sessions and its timers.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rand::rngs::StdRng;
use rand::{Rng, RngCore};
use tombolo_net::wireguard::Key;

use crate::activity::Activity;
use crate::clock::{Now, Tai64n};
use crate::cookie::{Checker, Generator};
use crate::engine::{Event, Refused};
use crate::handshake::{Initiator, Keys, Responder};
use crate::message::Response;
use crate::session::{Agreed, Session};
use crate::timers::{ATTEMPTS, Due, JITTER, REKEY_TIMEOUT, is_due};

/// How often a peer's initiations are taken, at most: 50 a second.
const INITIATION_INTERVAL: Duration = Duration::from_millis(20);

/// What the peers of a device share.
pub(crate) struct Shared {
    pub(crate) identity: Option<Identity>,
    pub(crate) rng: StdRng,
    /// Which peer an index of ours is for.
    pub(crate) indices: HashMap<u32, Key>,
    pub(crate) events: VecDeque<Event>,
}

/// Who the device is.
pub(crate) struct Identity {
    pub(crate) private: Key,
    pub(crate) public: Key,
    pub(crate) checker: Checker,
}

pub(crate) struct Peer {
    key: Key,
    /// Zero for none, as the handshake takes it.
    preshared: Key,
    persistent: Option<Duration>,
    activity: Arc<Activity>,
    pending: Option<Pending>,
    /// When the next initiation is to be sent; none when no handshake is wanted.
    retry: Option<Instant>,
    attempts: u32,
    /// When the last initiation or response was sent.
    handshake_sent: Option<Instant>,
    silence_jitter: Duration,
    cookie: Generator,
    /// The greatest timestamp of the peer's initiations, and when it came.
    heard: Tai64n,
    heard_at: Option<Instant>,
    /// The greatest timestamp of ours.
    told: Tai64n,
    previous: Option<Arc<Session>>,
    current: Option<Arc<Session>>,
    next: Option<Arc<Session>>,
    next_is: NextIs,
    last_handshake: Option<SystemTime>,
}

/// An initiation that waits for its response.
struct Pending {
    handshake: Initiator,
    local_index: u32,
    /// Whether the peer's own initiation came meanwhile.
    crossed: bool,
}

/// How the next session compares to the current one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NextIs {
    /// It came up later, and is to be used once it is confirmed.
    Newer,
    /// The current one came up while it waited, and is to stay.
    Older,
    /// They came up at once, one begun by either end. Both ends have to choose the same one.
    Rival,
}

impl Shared {
    fn new_index(&mut self, peer: Key) -> u32 {
        loop {
            let index = self.rng.next_u32();
            if let std::collections::hash_map::Entry::Vacant(free) = self.indices.entry(index) {
                free.insert(peer);
                return index;
            }
        }
    }

    fn jitter(&mut self) -> Duration {
        Duration::from_millis(self.rng.random_range(0..=JITTER))
    }
}

impl Peer {
    pub(crate) fn new(key: Key, epoch: Instant, shared: &mut Shared) -> Self {
        Self {
            key,
            preshared: Key::default(),
            persistent: None,
            activity: Arc::new(Activity::new(epoch)),
            pending: None,
            retry: None,
            attempts: 0,
            handshake_sent: None,
            silence_jitter: shared.jitter(),
            cookie: Generator::new(&key),
            heard: Tai64n::default(),
            heard_at: None,
            told: Tai64n::default(),
            previous: None,
            current: None,
            next: None,
            next_is: NextIs::Newer,
            last_handshake: None,
        }
    }

    pub(crate) fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    pub(crate) fn last_handshake(&self) -> Option<SystemTime> {
        self.last_handshake
    }

    pub(crate) fn set_preshared_key(&mut self, preshared: Option<Key>) {
        self.preshared = preshared.unwrap_or_default();
    }

    pub(crate) fn set_persistent_keepalive(&mut self, seconds: Option<u16>, shared: &mut Shared, now: Now) {
        let interval = seconds.filter(|seconds| *seconds > 0).map(|seconds| Duration::from_secs(seconds.into()));
        let begins = self.persistent.is_none() && interval.is_some();
        self.persistent = interval;
        if begins {
            self.keepalive(shared, now);
        }
    }

    /// Says that we are there, to a peer that is to be kept in touch with.
    pub(crate) fn keep_in_touch(&mut self, shared: &mut Shared, now: Now) {
        if self.persistent.is_some() {
            self.keepalive(shared, now);
        }
    }

    /// A handshake is wanted: begins one, unless one is under way.
    pub(crate) fn initiate(&mut self, shared: &mut Shared, now: Now) {
        self.attempts = 0;
        if self.retry.is_some() {
            return;
        }
        match self.handshake_sent.map(|sent| sent + REKEY_TIMEOUT).filter(|free| *free > now.instant) {
            // We have just answered an initiation. If nothing comes of it, it is our turn.
            Some(free) => self.retry = Some(free + shared.jitter()),
            None => self.send_initiation(shared, now),
        }
    }

    /// Answers an initiation, whose sender is known to be this peer.
    pub(crate) fn respond(
        &mut self,
        initiation: Responder,
        remote_index: u32,
        from: SocketAddr,
        shared: &mut Shared,
        now: Now,
    ) -> Result<(), Refused> {
        if initiation.timestamp <= self.heard {
            return Err(Refused::Replayed);
        }
        if self.heard_at.is_some_and(|at| now.instant < at + INITIATION_INTERVAL) {
            return Err(Refused::TooOften);
        }
        let timestamp = initiation.timestamp;
        let local_index = shared.new_index(self.key);
        let answer = initiation.respond(local_index, remote_index, &self.preshared);
        let Ok((keys, mut message)) = answer else {
            shared.indices.remove(&local_index);
            return Err(Refused::Handshake);
        };
        let Keys { initiator: opening, responder: sealing } = keys;
        let agreed = Agreed { peer: self.key, local_index, remote_index, initiator: false, sealing, opening };
        let session = Arc::new(Session::new(agreed, now.instant));
        self.heard = timestamp;
        self.heard_at = Some(now.instant);
        self.cookie.write_codes(&mut message, now.instant);
        self.handshake_sent = Some(now.instant);
        self.activity.received_any(now.instant);
        self.activity.sent_any(now.instant);
        self.next_is = NextIs::Newer;
        if let Some(pending) = &mut self.pending {
            pending.crossed = true;
        }
        // The peer may send with the one that it has not confirmed yet, should this answer not reach it.
        let unconfirmed = self.next.replace(Arc::clone(&session));
        self.retire(unconfirmed, shared);
        shared.events.push_back(Event::Roamed { peer: self.key, to: from });
        shared.events.push_back(Event::Established { peer: self.key, session });
        shared.events.push_back(Event::Reply { to: from, message: message.to_vec() });
        Ok(())
    }

    /// Takes the response to the initiation that waits for one.
    pub(crate) fn finish(
        &mut self,
        response: Response<'_>,
        from: SocketAddr,
        shared: &mut Shared,
        now: Now,
    ) -> Result<(), Refused> {
        let pending = self.pending.as_mut().filter(|pending| pending.local_index == response.receiver());
        let Some(Pending { handshake, local_index, crossed }) = pending else { return Err(Refused::UnknownIndex) };
        let (local_index, crossed) = (*local_index, *crossed);
        let keys = handshake.finish(response, &self.preshared).map_err(|_| Refused::Handshake)?;
        let Keys { initiator: sealing, responder: opening } = keys;
        let remote_index = response.sender();
        let agreed = Agreed { peer: self.key, local_index, remote_index, initiator: true, sealing, opening };
        let session = Session::new(agreed, now.instant);
        let session = Arc::new(session);
        // The index is the session's from now on.
        self.pending = None;
        self.next_is = if crossed { NextIs::Rival } else { NextIs::Older };
        self.handshake_is_done(now);
        self.activity.received_any(now.instant);
        let replaced = self.current.replace(Arc::clone(&session));
        self.retire(replaced, shared);
        shared.events.push_back(Event::Roamed { peer: self.key, to: from });
        shared.events.push_back(Event::Established { peer: self.key, session: Arc::clone(&session) });
        shared.events.push_back(Event::Sending { peer: self.key, session });
        Ok(())
    }

    /// The first authentic message came over a session.
    pub(crate) fn confirm(&mut self, session: &Session, shared: &mut Shared, now: Now) {
        session.confirm();
        let same = |other: &mut Arc<Session>| other.local_index() == session.local_index();
        let Some(next) = self.next.take_if(same) else {
            // It is one that another took the place of, and all that there is.
            if let Some(late) = self.previous.take_if(|other| self.current.is_none() && same(other)) {
                self.use_session(late, shared, now);
            }
            return;
        };
        let better = match self.next_is {
            NextIs::Newer => true,
            NextIs::Older => self.current.is_none(),
            // The one that the greater key has begun.
            NextIs::Rival => {
                self.current.is_none() || shared.identity.as_ref().is_some_and(|own| own.public < self.key)
            }
        };
        if better { self.use_session(next, shared, now) } else { self.retire(Some(next), shared) }
    }

    pub(crate) fn take_cookie(&mut self, reply: crate::message::CookieReply<'_>, now: Now) -> Result<(), Refused> {
        if self.cookie.take(reply, now.instant) { Ok(()) } else { Err(Refused::Cookie) }
    }

    pub(crate) fn handle_timeout(&mut self, shared: &mut Shared, now: Now) {
        let old = |session: &mut Arc<Session>| session.expires() <= now.instant;
        for slot in [&mut self.previous, &mut self.current, &mut self.next] {
            if let Some(session) = slot.take_if(old) {
                end(&session, shared);
            }
        }
        if is_due(self.retry, now.instant) {
            self.retry_or_give_up(shared, now);
        }
        let due = self.due();
        if is_due(due.handshake, now.instant) {
            self.activity.unanswered_is_dealt_with();
            self.silence_jitter = shared.jitter();
            self.initiate(shared, now);
        }
        if is_due(due.keepalive, now.instant) || is_due(due.persistent, now.instant) {
            self.keepalive(shared, now);
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let sessions = [&self.previous, &self.current, &self.next].into_iter().flatten();
        sessions.map(|session| session.expires()).chain(self.retry).chain(self.due().first()).min()
    }

    /// Ends everything that was agreed upon.
    pub(crate) fn forget(&mut self, shared: &mut Shared) {
        self.drop_pending(shared);
        self.retry = None;
        self.handshake_sent = None;
        for session in [self.previous.take(), self.current.take(), self.next.take()].into_iter().flatten() {
            end(&session, shared);
        }
    }

    fn due(&self) -> Due {
        Due::new(self.activity.seen(), self.persistent, self.silence_jitter)
    }

    /// Has a keepalive sent, or a handshake begun where there is no session to send it with.
    fn keepalive(&mut self, shared: &mut Shared, now: Now) {
        if self.current.as_ref().is_some_and(|session| session.may_send(now.instant)) {
            shared.events.push_back(Event::Keepalive { peer: self.key });
        } else {
            self.initiate(shared, now);
        }
        self.activity.sent_any(now.instant);
    }

    fn retry_or_give_up(&mut self, shared: &mut Shared, now: Now) {
        if self.attempts < ATTEMPTS {
            return self.send_initiation(shared, now);
        }
        self.give_up(shared);
    }

    fn give_up(&mut self, shared: &mut Shared) {
        self.drop_pending(shared);
        self.retry = None;
        self.activity.nothing_is_owed();
        shared.events.push_back(Event::GaveUp { peer: self.key });
    }

    fn send_initiation(&mut self, shared: &mut Shared, now: Now) {
        self.drop_pending(shared);
        self.retry = None;
        // A device without a key waits for one, as does what it has to send.
        let Some(private) = shared.identity.as_ref().map(|identity| identity.private) else { return };
        let index = shared.new_index(self.key);
        self.told = Tai64n::after(self.told, now.wall);
        let made = Initiator::new(&private, &self.key, index, self.told, &mut shared.rng);
        let Ok((handshake, mut message)) = made else {
            // With such a public key nobody can agree on anything.
            shared.indices.remove(&index);
            return self.give_up(shared);
        };
        self.cookie.write_codes(&mut message, now.instant);
        self.pending = Some(Pending { handshake, local_index: index, crossed: false });
        self.attempts += 1;
        self.handshake_sent = Some(now.instant);
        self.retry = Some(now.instant + REKEY_TIMEOUT + shared.jitter());
        self.activity.sent_any(now.instant);
        shared.events.push_back(Event::Send { peer: self.key, message: message.to_vec() });
    }

    /// Sends with a session from now on, of which we are the responder.
    fn use_session(&mut self, session: Arc<Session>, shared: &mut Shared, now: Now) {
        self.drop_pending(shared);
        self.handshake_is_done(now);
        let replaced = self.current.replace(Arc::clone(&session));
        self.retire(replaced, shared);
        shared.events.push_back(Event::Sending { peer: self.key, session });
    }

    fn drop_pending(&mut self, shared: &mut Shared) {
        if let Some(pending) = self.pending.take() {
            shared.indices.remove(&pending.local_index);
        }
    }

    fn handshake_is_done(&mut self, now: Now) {
        self.retry = None;
        self.attempts = 0;
        self.last_handshake = Some(now.wall);
    }

    /// Makes a session the previous one, and ends the one that was.
    fn retire(&mut self, session: Option<Arc<Session>>, shared: &mut Shared) {
        let Some(session) = session else { return };
        if let Some(old) = self.previous.replace(session) {
            end(&old, shared);
        }
    }
}

fn end(session: &Session, shared: &mut Shared) {
    session.end();
    shared.indices.remove(&session.local_index());
    shared.events.push_back(Event::Expired { peer: session.peer(), local_index: session.local_index() });
}
