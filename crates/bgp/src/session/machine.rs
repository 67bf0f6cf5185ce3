//! The state machine.

mod connection;
mod messages;

use std::net::IpAddr;
use std::time::Instant;

use connection::{Connection, Phase};

use super::negotiate::{negotiate, own_open};
use super::timers::{self, Jitter, earliest};
use super::{Action, ConnId, Counters, Direction, Down, Local, Negotiated, Reason, State};
use crate::config::Neighbor;
use crate::wire::notification::{cease, message};
use crate::wire::{Capability, Kind, Notification, Open, keepalive};

/// The session with one neighbour. See the [module](super).
#[derive(Debug)]
pub struct Session {
    local: Local,
    neighbor: Neighbor,
    remote: IpAddr,
    enabled: bool,
    /// The words of the last administrative stop.
    words: Option<String>,
    /// No connection is made or taken until then, or, without a time, until a person starts it.
    barred: Option<Option<Instant>>,
    /// An attempt to connect is under way, and is given up then.
    connecting: Option<Instant>,
    /// When to connect.
    retry: Option<Instant>,
    /// Failures in a row.
    failures: u32,
    /// One, or two while both sides connect at once.
    connections: Vec<Connection>,
    jitter: Jitter,
    state: State,
    since: Instant,
    last_error: Option<(Instant, Reason)>,
    received: Counters,
    sent: Counters,
}

impl Session {
    /// One that does nothing until [`Session::start`]. With `seed` the jitter of its timers begins (RFC 4271,
    /// section 10): another number for each session.
    pub fn new(local: Local, neighbor: &Neighbor, remote: IpAddr, seed: u64, now: Instant) -> Self {
        Self {
            jitter: Jitter(seed),
            local,
            neighbor: neighbor.clone(),
            remote,
            enabled: false,
            words: neighbor.shutdown.clone(),
            barred: None,
            connecting: None,
            retry: None,
            failures: 0,
            connections: Vec::new(),
            state: State::Idle,
            since: now,
            last_error: None,
            received: Counters::default(),
            sent: Counters::default(),
        }
    }

    /// Starts it, also one that was barred. Not while [`Neighbor::shutdown`] is set.
    pub fn start(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.neighbor.shutdown.is_some() || (self.enabled && self.barred.is_none()) {
            return;
        }
        self.enabled = true;
        self.barred = None;
        self.failures = 0;
        self.connect(now, out);
        self.note(now);
    }

    /// Stops it, with words for the people at the other end (RFC 9003), until [`Session::start`].
    pub fn stop(&mut self, now: Instant, words: Option<String>, out: &mut Vec<Action>) {
        self.enabled = false;
        let notification = Notification::shutdown(words.as_deref());
        while let Some(connection) = self.connections.first() {
            let id = connection.id;
            self.tell(id, notification.clone(), out);
            self.end(now, id, Reason::Shutdown(words.clone()), out);
        }
        (self.words, self.connecting, self.retry) = (words, None, None);
        self.note(now);
    }

    /// A connection is there: the one asked for by [`Action::Connect`], or one of the neighbour.
    pub fn connected(&mut self, now: Instant, id: ConnId, direction: Direction, out: &mut Vec<Action>) {
        if direction == Direction::Outgoing {
            self.connecting = None;
        }
        if !self.enabled {
            let notification = Notification::shutdown(self.words.as_deref());
            self.turn_away(id, &notification, out);
        } else if self.barred.is_some() {
            self.turn_away(id, &Notification::cease(cease::REJECTED), out);
        } else {
            self.take(now, id, direction, out);
        }
        self.note(now);
    }

    fn take(&mut self, now: Instant, id: ConnId, direction: Direction, out: &mut Vec<Action>) {
        let collision = Notification::cease(cease::COLLISION);
        if let Some(session) = self.connections.iter().find(|c| c.phase == Phase::Established) {
            let restartable = session.negotiated.as_ref().is_some_and(|n| n.graceful.is_some());
            if direction == Direction::Outgoing || !restartable {
                return self.turn_away(id, &collision, out);
            }
        }
        // Who connects again has lost the connection before.
        let before = self.connections.iter().find(|c| c.direction == direction && c.phase != Phase::Established);
        if let Some(before) = before.map(|c| c.id) {
            self.tell(before, collision, out);
            self.remove(before);
            out.push(Action::Close(before));
        }
        self.retry = None;
        // An OPEN on a second connection would make the neighbour choose between the two, perhaps the other than the one
        // that this side is about to have a session on.
        let settling = self.connections.iter().any(|c| c.phase >= Phase::OpenConfirm);
        self.connections.push(Connection::new(id, direction, now));
        if !settling {
            self.release(now, id, out);
        }
    }

    /// The attempt that [`Action::Connect`] asked for failed.
    pub fn connect_failed(&mut self, now: Instant, why: String, out: &mut Vec<Action>) {
        if self.connecting.take().is_none() {
            return;
        }
        let reason = Reason::NoConnection(why);
        self.last_error = Some((now, reason.clone()));
        out.push(Action::Failed(reason));
        self.schedule(now, false);
        self.note(now);
    }

    /// A connection ended by itself: reset, or closed by the neighbour.
    pub fn closed(&mut self, now: Instant, id: ConnId, why: String, out: &mut Vec<Action>) {
        if self.find(id).is_some() {
            self.end(now, id, Reason::Closed(why), out);
        }
        self.note(now);
    }

    /// The owner found an error: in a header or an update, too many prefixes, BFD. The neighbour is told, and the
    /// connection ends. What ends for good is made a Hard Reset where that was agreed on (RFC 8538, section 5).
    pub fn fail(&mut self, now: Instant, id: ConnId, notification: Notification, out: &mut Vec<Action>) {
        if self.find(id).is_none() {
            return;
        }
        let too_many = (notification.code, notification.subcode) == (message::CEASE, cease::MAX_PREFIXES);
        if let Some(maximum) = self.neighbor.max_prefixes.filter(|_| too_many) {
            self.barred = Some(maximum.restart_after.map(|after| now + after));
        }
        let told = self.tell(id, notification, out);
        self.end(now, id, Reason::Sent(told), out);
        self.note(now);
    }

    /// Takes other settings. The session ends, with Cease, Other Configuration Change, only if what both sides agreed on
    /// would be another, or the way to the neighbour is.
    pub fn reconfigure(&mut self, now: Instant, local: Local, neighbor: &Neighbor, out: &mut Vec<Action>) {
        let before = (open_to_compare(&self.local, &self.neighbor), transport(&self.neighbor));
        let was_shut = self.neighbor.shutdown.take();
        let (was_passive, was_limit) = (self.neighbor.passive, self.neighbor.max_prefixes);
        self.local = local;
        self.neighbor = neighbor.clone();
        if self.neighbor.shutdown.is_some() {
            if self.enabled || was_shut != self.neighbor.shutdown {
                self.stop(now, self.neighbor.shutdown.clone(), out);
            }
            return;
        }
        if was_shut.is_some() || (self.barred.is_some() && was_limit != self.neighbor.max_prefixes) {
            return self.start(now, out);
        }
        if !self.enabled {
            return;
        }
        let after = (open_to_compare(&self.local, &self.neighbor), transport(&self.neighbor));
        let refused = self
            .connections
            .iter()
            .any(|c| c.open.as_ref().is_some_and(|o| negotiate(&self.local, &self.neighbor, c.direction, o).is_err()));
        if before != after || refused {
            self.restart(now, out);
        } else if self.neighbor.passive {
            (self.retry, self.connecting) = (None, None);
        } else if was_passive && self.connections.is_empty() && self.barred.is_none() {
            self.connect(now, out);
        }
        self.note(now);
    }

    fn restart(&mut self, now: Instant, out: &mut Vec<Action>) {
        while let Some(id) = self.connections.first().map(|c| c.id) {
            let told = self.tell(id, Notification::cease(cease::CONFIGURATION), out);
            self.end(now, id, Reason::Sent(told), out);
        }
        self.failures = 0;
        if self.barred.is_none() {
            self.connect(now, out);
        }
    }

    /// When [`Session::tick`] is to be called at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        let own = [self.connecting, self.retry, self.barred.flatten()];
        earliest(own.into_iter().chain(self.connections.iter().flat_map(|c| [c.deadline(), c.keepalive])))
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant, out: &mut Vec<Action>) {
        let due = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        if due(self.barred.flatten()) {
            self.barred = None;
            self.connect(now, out);
        }
        if due(self.connecting) {
            self.connect_failed(now, "the neighbour did not answer in time".to_owned(), out);
        }
        if due(self.retry) {
            self.retry = None;
            if self.connections.is_empty() {
                self.connect(now, out);
            }
        }
        let expired: Vec<ConnId> = self.connections.iter().filter(|c| due(c.deadline())).map(|c| c.id).collect();
        expired.into_iter().for_each(|id| self.expire(now, id, out));
        for connection in self.connections.iter_mut().filter(|c| due(c.keepalive)) {
            connection.set_keepalive(now, &mut self.jitter);
            self.sent.add(Kind::Keepalive, 1);
            out.push(Action::Send(connection.id, keepalive().to_vec()));
        }
        self.note(now);
    }

    fn expire(&mut self, now: Instant, id: ConnId, out: &mut Vec<Action>) {
        let Some(connection) = self.find(id) else { return };
        if connection.phase != Phase::Held {
            return self.fail(now, id, Notification::hold_timer(), out);
        }
        if self.connections.iter().any(|c| c.phase == Phase::Established) {
            self.collide(id, out);
        } else {
            self.release(now, id, out);
        }
    }

    /// Something was sent on the established connection: the next KEEPALIVE has time again.
    #[inline]
    pub fn sent(&mut self, now: Instant) {
        if let Some(connection) = self.connections.iter_mut().find(|c| c.phase == Phase::Established) {
            connection.set_keepalive(now, &mut self.jitter);
        }
    }

    /// Counts UPDATEs that the owner sent.
    pub fn count_updates_sent(&mut self, count: u64) {
        self.sent.add(Kind::Update, count);
    }

    /// Its state.
    pub fn state(&self) -> State {
        let phase = self.connections.iter().map(|c| c.phase).max();
        match phase {
            Some(Phase::Established) => State::Established,
            Some(Phase::OpenConfirm) => State::OpenConfirm,
            Some(Phase::OpenSent | Phase::Held) => State::OpenSent,
            None if !self.enabled || self.barred.is_some() => State::Idle,
            None if self.connecting.is_some() => State::Connect,
            None => State::Active,
        }
    }

    /// Since when it is in that state.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// The neighbour's address.
    pub fn remote(&self) -> IpAddr {
        self.remote
    }

    /// What was agreed on, while it is established.
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.established().and_then(|c| c.negotiated.as_deref())
    }

    /// The established connection.
    pub fn connection(&self) -> Option<ConnId> {
        self.established().map(|c| c.id)
    }

    /// Why the last session or attempt ended.
    pub fn last_error(&self) -> Option<&Reason> {
        self.last_error.as_ref().map(|(_, why)| why)
    }

    /// When it did.
    pub fn last_error_at(&self) -> Option<Instant> {
        self.last_error.as_ref().map(|(when, _)| *when)
    }

    /// How many messages came, over all connections.
    pub fn messages_received(&self) -> Counters {
        self.received
    }

    /// How many were sent.
    pub fn messages_sent(&self) -> Counters {
        self.sent
    }

    /// The capabilities that this side offers.
    pub fn local_capabilities(&self) -> Vec<Capability> {
        own_open(&self.local, &self.neighbor).capabilities
    }

    /// The capabilities in the neighbour's OPEN, while it is established.
    pub fn remote_capabilities(&self) -> &[Capability] {
        self.established().and_then(|c| c.open.as_ref()).map_or(&[], |open| &open.capabilities)
    }

    fn established(&self) -> Option<&Connection> {
        self.connections.iter().find(|c| c.phase == Phase::Established)
    }

    fn find(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|c| c.id == id)
    }

    fn remove(&mut self, id: ConnId) -> Option<Connection> {
        let at = self.connections.iter().position(|c| c.id == id)?;
        Some(self.connections.remove(at))
    }

    fn note(&mut self, now: Instant) {
        let state = self.state();
        if state != self.state {
            (self.state, self.since) = (state, now);
        }
    }

    fn connect(&mut self, now: Instant, out: &mut Vec<Action>) {
        self.retry = None;
        if self.enabled && !self.neighbor.passive {
            self.connecting = Some(now + timers::attempt(self.neighbor.connect_retry));
            out.push(Action::Connect);
        }
    }

    /// Connects again after a while. A neighbour that cannot be reached is not made to wait longer each time: it may
    /// be back at any moment.
    fn schedule(&mut self, now: Instant, longer: bool) {
        if longer {
            self.failures = self.failures.saturating_add(1);
        }
        if self.enabled && !self.neighbor.passive && self.barred.is_none() && self.connections.is_empty() {
            let wait = timers::backoff(self.neighbor.connect_retry, self.failures);
            self.retry = Some(now + self.jitter.of(wait));
        }
    }

    /// Sends a NOTIFICATION, and says what was sent.
    fn tell(&mut self, id: ConnId, notification: Notification, out: &mut Vec<Action>) -> Notification {
        let agreed = self.find(id).filter(|c| c.phase == Phase::Established).and_then(|c| c.negotiated.as_ref());
        let graceful = agreed.and_then(|n| n.graceful.as_ref()).is_some_and(|g| g.notification);
        let for_good = notification.code == message::CEASE
            && matches!(
                notification.subcode,
                cease::MAX_PREFIXES | cease::SHUTDOWN | cease::DECONFIGURED | cease::BFD_DOWN
            );
        let notification = if graceful && for_good { notification.hard() } else { notification };
        self.send_notification(id, &notification, out);
        notification
    }

    fn send_notification(&mut self, id: ConnId, notification: &Notification, out: &mut Vec<Action>) {
        let mut bytes = Vec::new();
        notification.encode(&mut bytes);
        self.sent.add(Kind::Notification, 1);
        out.push(Action::Send(id, bytes));
    }

    /// Of a connection that is none of the session's.
    fn turn_away(&mut self, id: ConnId, notification: &Notification, out: &mut Vec<Action>) {
        self.send_notification(id, notification, out);
        out.push(Action::Close(id));
    }

    /// A connection that is not the one of the session; no failure.
    fn collide(&mut self, id: ConnId, out: &mut Vec<Action>) {
        self.remove(id);
        self.turn_away(id, &Notification::cease(cease::COLLISION), out);
    }

    /// A connection ends, and with it the session if it is established on it.
    fn end(&mut self, now: Instant, id: ConnId, why: Reason, out: &mut Vec<Action>) {
        let Some(connection) = self.remove(id) else { return };
        if !matches!(why, Reason::Closed(_)) {
            out.push(Action::Close(id));
        }
        let collided = matches!(&why, Reason::Received(n) if (n.code, n.subcode) == (message::CEASE, cease::COLLISION));
        let established = connection.phase == Phase::Established;
        if !collided || established {
            self.last_error = Some((now, why.clone()));
        }
        match connection.negotiated.filter(|_| established) {
            Some(negotiated) => {
                if now.saturating_duration_since(connection.since) >= timers::GOOD {
                    self.failures = 0;
                }
                let keeps_routes = why.keeps_routes(&negotiated);
                out.push(Action::Down(Down { why, keeps_routes, negotiated }));
            }
            None if collided => {}
            None => out.push(Action::Failed(why)),
        }
        if let Some(held) = self.connections.iter().find(|c| c.phase == Phase::Held).map(|c| c.id) {
            if self.barred.is_some() {
                self.remove(held);
                self.turn_away(held, &Notification::cease(cease::REJECTED), out);
            } else {
                self.release(now, held, out);
            }
        } else if self.connections.is_empty() && self.connecting.is_none() {
            self.schedule(now, !collided);
        }
    }
}

/// The own OPEN without the R bit, which may change under a session.
fn open_to_compare(local: &Local, neighbor: &Neighbor) -> Open {
    let mut open = own_open(local, neighbor);
    for capability in &mut open.capabilities {
        if let Capability::GracefulRestart { restarting, .. } = capability {
            *restarting = false;
        }
    }
    open
}

/// What a connection is made with.
fn transport(neighbor: &Neighbor) -> impl PartialEq + use<> {
    (neighbor.port, neighbor.local_address, neighbor.password.clone(), neighbor.ttl)
}
