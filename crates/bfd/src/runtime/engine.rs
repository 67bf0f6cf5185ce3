//! The sessions of the thread: who a packet is for, who is due, what is said to the owner.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use socket2::Socket;

use super::socket::{self, Arrival, HOPS, Listener};
use super::{Dropped, Event, Options, Peer, Report, Status};
use crate::packet::{Diagnostic, Packet, Refusal, State};
use crate::session::{Action, Config, Session, Timers};

/// How many datagrams are read from a socket before timers are seen to: more than its buffer of the usual size holds,
/// so that a session is given up only when nothing of its peer was waiting there, however much others send.
const READ_AT_ONCE: usize = 512;

/// Longer than any packet with the longest authentication section.
const BUFFER: usize = 64;

pub(super) struct Engine {
    options: Options,
    events: Box<dyn FnMut(Event) + Send>,
    listeners: Vec<Listener>,
    peers: BTreeMap<Peer, u32>,
    /// By local discriminator.
    entries: HashMap<u32, Entry>,
    deadlines: BTreeSet<(Instant, u32)>,
    dropped: Dropped,
    actions: Vec<Action>,
}

struct Entry {
    peer: Peer,
    session: Session,
    sender: Option<Socket>,
    /// The time by which it is in `deadlines`.
    scheduled: Option<Instant>,
    since: Instant,
    sent: u64,
    received: u64,
    diagnostic: Option<Diagnostic>,
    problem: Option<String>,
    refusal: Option<Refusal>,
    /// No longer wanted; kept until then, so that the other side learns of it.
    leaves: Option<Instant>,
}

impl Engine {
    pub(super) fn new(options: Options, events: Box<dyn FnMut(Event) + Send>) -> Self {
        Self {
            options,
            events,
            listeners: Vec::new(),
            peers: BTreeMap::new(),
            entries: HashMap::new(),
            deadlines: BTreeSet::new(),
            dropped: Dropped::default(),
            actions: Vec::new(),
        }
    }

    pub(super) fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Makes the sessions those of `wanted`.
    pub(super) fn set(&mut self, now: Instant, wanted: BTreeMap<Peer, Timers>) {
        let gone: Vec<u32> =
            self.peers.iter().filter(|(peer, _)| !wanted.contains_key(peer)).map(|(_, n)| *n).collect();
        for number in gone {
            self.leave(now, number);
        }
        let mut added = Vec::new();
        for (peer, timers) in wanted {
            if let Some(&number) = self.peers.get(&peer) {
                let Some(entry) = self.entries.get_mut(&number) else { continue };
                if entry.leaves.take().is_some() {
                    (entry.diagnostic, entry.refusal) = (None, None);
                    entry.session.start(now, &mut self.actions);
                }
                entry.session.set(timers);
                self.perform(now, number);
            } else {
                added.push(self.add(now, peer, timers));
            }
        }
        // Before the first packets leave, so that no answer to them is filtered out.
        self.filter();
        for number in added {
            let Some(entry) = self.entries.get_mut(&number) else { continue };
            entry.session.tick(now, &mut self.actions);
            self.perform(now, number);
        }
    }

    /// Reads what has come.
    pub(super) fn receive(&mut self) {
        let mut buffer = [0; BUFFER];
        // A packet may have a listener opened, which is then the last one, but none closed.
        for index in 0..self.listeners.len() {
            for _ in 0..READ_AT_ONCE {
                let listener = &self.listeners[index];
                let Some(arrival) = listener.receive(&mut buffer) else { break };
                let bytes = &buffer[..arrival.length.min(BUFFER)];
                self.packet(Instant::now(), listener.multihop, &arrival, bytes);
            }
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        while let Some((_, number)) = self.deadlines.pop_first_if(now) {
            let Some(entry) = self.entries.get_mut(&number) else { continue };
            entry.scheduled = None;
            if entry.leaves.is_some_and(|at| at <= now) {
                self.forget(number);
                continue;
            }
            entry.session.tick(now, &mut self.actions);
            self.perform(now, number);
        }
    }

    pub(super) fn report(&self, now: Instant) -> Report {
        let live = self.peers.values().filter_map(|number| self.entries.get(number)).filter(|e| e.leaves.is_none());
        let filtered: u64 = self.listeners.iter().map(Listener::dropped).sum();
        let dropped = Dropped { unknown: self.dropped.unknown + filtered, ..self.dropped };
        Report { sessions: live.map(|entry| entry.status(now)).collect(), dropped }
    }

    /// Tells all other sides that the sessions end by somebody's wish.
    pub(super) fn stop(&mut self, now: Instant) {
        self.set(now, BTreeMap::new());
    }

    fn add(&mut self, now: Instant, peer: Peer, timers: Timers) -> u32 {
        let number = loop {
            let number = rand::random();
            if number != 0 && !self.entries.contains_key(&number) {
                break number;
            }
        };
        let config = Config { local_discriminator: number, timers, passive: false, seed: rand::random() };
        let entry = Entry {
            peer,
            session: Session::new(config, now),
            sender: None,
            scheduled: None,
            since: now,
            sent: 0,
            received: 0,
            diagnostic: None,
            problem: None,
            refusal: None,
            leaves: None,
        };
        self.peers.insert(peer, number);
        self.entries.insert(number, entry);
        number
    }

    fn leave(&mut self, now: Instant, number: u32) {
        let Some(entry) = self.entries.get_mut(&number).filter(|entry| entry.leaves.is_none()) else { return };
        let Some(time) = entry.session.detection_time() else { return self.forget(number) };
        // As long as the other side may need to miss the word and look again (RFC 5880, section 6.8.16).
        entry.leaves = Some(now + time.max(crate::session::SLOW * 3));
        entry.session.stop(now, &mut self.actions);
        self.perform(now, number);
    }

    fn forget(&mut self, number: u32) {
        let Some(entry) = self.entries.remove(&number) else { return };
        self.peers.remove(&entry.peer);
        if let Some(at) = entry.scheduled {
            self.deadlines.remove(&(at, number));
        }
        let left: BTreeSet<_> = self.peers.keys().map(|peer| (peer.remote.is_ipv4(), peer.multihop)).collect();
        let needed = |listener: &Listener| left.contains(&(listener.address.is_ipv4(), listener.multihop));
        for listener in self.listeners.extract_if(.., |listener| !needed(listener)) {
            self.dropped.unknown += listener.dropped();
        }
    }

    /// Has the kernel drop what no session is for, as far as an address tells.
    fn filter(&self) {
        for listener in &self.listeners {
            listener.filter(&self.sources(listener.address.is_ipv4(), listener.multihop));
        }
    }

    fn sources(&self, ipv4: bool, multihop: bool) -> BTreeSet<IpAddr> {
        let of_kind = |peer: &&Peer| (peer.remote.is_ipv4(), peer.multihop) == (ipv4, multihop);
        self.peers.keys().filter(of_kind).map(|peer| peer.remote).collect()
    }

    fn packet(&mut self, now: Instant, multihop: bool, arrival: &Arrival, bytes: &[u8]) {
        // Who sent it is asked first: strangers cost a look-up.
        let peer = |local| Peer { remote: arrival.source, local, multihop };
        let exact = self.peers.get(&peer(Some(arrival.destination)));
        let Some(&number) = exact.or_else(|| self.peers.get(&peer(None))) else {
            self.dropped.unknown += 1;
            return;
        };
        if !multihop && arrival.hops != HOPS {
            self.dropped.hops += 1;
            return;
        }
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let taken = Packet::parse(bytes).and_then(|packet| entry.session.received(now, &packet, &mut self.actions));
        match taken {
            Ok(()) => {
                entry.received += 1;
                entry.refusal = None;
            }
            Err(refusal) => {
                self.dropped.refused += 1;
                // Of a kind once: a number in it may differ each time.
                let known = entry.refusal.as_ref().map(std::mem::discriminant);
                if known != Some(std::mem::discriminant(&refusal)) && !matches!(refusal, Refusal::YourDiscriminator(_))
                {
                    tracing::warn!(peer = %entry.peer, "BFD packets are refused: {refusal}");
                    entry.refusal = Some(refusal);
                }
            }
        }
        self.perform(now, number);
    }

    /// Does what a session wants, and notes when it wants to be called.
    fn perform(&mut self, now: Instant, number: u32) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            match action {
                Action::Transmit(packet) => self.transmit(number, &packet),
                Action::Changed { state, diagnostic } => self.changed(now, number, state, diagnostic),
            }
        }
        self.actions = actions;
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let next = [entry.session.deadline(), entry.leaves].into_iter().flatten().min();
        if next != entry.scheduled {
            if let Some(at) = entry.scheduled {
                self.deadlines.remove(&(at, number));
            }
            self.deadlines.extend(next.map(|at| (at, number)));
            entry.scheduled = next;
        }
    }

    fn changed(&mut self, now: Instant, number: u32, state: State, diagnostic: Diagnostic) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        entry.since = now;
        if state <= State::Down {
            entry.diagnostic = Some(diagnostic);
        }
        if entry.leaves.is_some() {
            return;
        }
        let (peer, remote_state) = (entry.peer, entry.session.remote_state());
        match state {
            State::Up => tracing::info!(%peer, "BFD session is up"),
            State::Down | State::AdminDown => tracing::warn!(%peer, "BFD session is down: {diagnostic}"),
            State::Init => {}
        }
        (self.events)(Event { peer, state, remote_state, diagnostic, at: now });
    }

    fn transmit(&mut self, number: u32, packet: &Packet) {
        let Some(peer) = self.entries.get(&number).map(|entry| entry.peer) else { return };
        let listening = self.listen(peer);
        let port = if peer.multihop { self.options.multihop_port } else { self.options.single_hop_port };
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let result = listening.and_then(|()| entry.send(port, packet));
        if let Err(problem) = &result
            && entry.problem.is_none()
        {
            tracing::warn!(%peer, "BFD: {problem}; it is tried again with every packet");
        }
        entry.problem = result.err();
    }

    /// Opens what a peer's packets come to, if it is not open.
    fn listen(&mut self, peer: Peer) -> Result<(), String> {
        let port = if peer.multihop { self.options.multihop_port } else { self.options.single_hop_port };
        let family = peer.remote.is_ipv4();
        for &address in self.options.listen.iter().filter(|address| address.is_ipv4() == family) {
            if self.listeners.iter().any(|open| (open.address, open.multihop) == (address, peer.multihop)) {
                continue;
            }
            let at = SocketAddr::new(address, port);
            let sources = self.sources(family, peer.multihop);
            let listener =
                Listener::open(address, port, peer.multihop, &sources).map_err(|error| match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        format!("cannot listen at {at}: another program does (another BFD daemon? stop it)")
                    }
                    _ => format!("cannot listen at {at}: {error}"),
                })?;
            self.listeners.push(listener);
        }
        Ok(())
    }
}

impl Entry {
    fn send(&mut self, port: u16, packet: &Packet) -> Result<(), String> {
        let Peer { remote, local, .. } = self.peer;
        let sender = match self.sender.take() {
            Some(sender) => sender,
            None => socket::sender(local, remote).map_err(|error| {
                let local = local.map_or_else(String::new, |local: IpAddr| format!(" from {local}"));
                format!("cannot send{local} to {remote}: {error}")
            })?,
        };
        let sent = sender.send_to(&packet.to_bytes(), &SocketAddr::new(remote, port).into());
        self.sender = Some(sender);
        match sent {
            Ok(_) => self.sent += 1,
            // A full queue is a lost packet.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(format!("cannot send to {remote}: {error}")),
        }
        Ok(())
    }

    fn status(&self, now: Instant) -> Status {
        Status {
            peer: self.peer,
            state: self.session.state(),
            remote_state: self.session.remote_state(),
            since: now.saturating_duration_since(self.since),
            timers: self.session.timers(),
            transmit_interval: self.session.transmit_interval(),
            detection_time: self.session.detection_time(),
            sent: self.sent,
            received: self.received,
            diagnostic: self.diagnostic,
            remote_diagnostic: self.session.remote_diagnostic(),
            problem: self.problem.clone().or_else(|| Some(format!("packets are refused: {}", self.refusal?))),
        }
    }
}

/// The queue of what is due.
trait Due {
    fn pop_first_if(&mut self, now: Instant) -> Option<(Instant, u32)>;
}

impl Due for BTreeSet<(Instant, u32)> {
    fn pop_first_if(&mut self, now: Instant) -> Option<(Instant, u32)> {
        self.first().filter(|(at, _)| *at <= now)?;
        self.pop_first()
    }
}
