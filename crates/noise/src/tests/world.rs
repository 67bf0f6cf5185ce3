//! Devices in memory, which do with sessions as a real one does, and a network between them that takes time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tombolo_net::wireguard::Key;

use crate::handshake::public;
use crate::{Activity, Engine, Event, HEADER, Now, OVERHEAD, Session, TAG, padded, receiver_index};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
const MTU: usize = 1420;

/// What a device puts on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Datagram {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl Datagram {
    /// The message's type.
    pub(crate) fn kind(&self) -> u8 {
        self.bytes[0]
    }
}

/// A device with one engine: what is around it is as simple as can be.
pub(crate) struct Device {
    pub(crate) engine: Engine,
    pub(crate) key: Key,
    pub(crate) address: SocketAddr,
    pub(crate) endpoints: HashMap<Key, SocketAddr>,
    pub(crate) activities: HashMap<Key, Arc<Activity>>,
    pub(crate) sessions: HashMap<u32, Arc<Session>>,
    pub(crate) sending: HashMap<Key, Arc<Session>>,
    waiting: HashMap<Key, VecDeque<Vec<u8>>>,
    pub(crate) under_load: bool,
    /// What was received, in order.
    pub(crate) received: Vec<Vec<u8>>,
    /// How many keepalives were asked for.
    pub(crate) keepalives: usize,
    pub(crate) gave_up: usize,
    pub(crate) established: usize,
    out: Vec<Datagram>,
}

/// Some key; the same for the same number.
pub(crate) fn private(number: u8) -> Key {
    Key([number; 32])
}

/// A moment so long after the beginning.
pub(crate) fn at(epoch: Instant, since: Duration) -> Now {
    Now { instant: epoch + since, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + since }
}

impl Device {
    pub(crate) fn new(number: u8, now: Now) -> Self {
        let mut engine = Engine::seeded(number.into(), now);
        engine.set_private_key(Some(private(number)), now);
        Self {
            engine,
            key: public(&private(number)),
            address: SocketAddr::from(([192, 0, 2, number], 51820)),
            endpoints: HashMap::new(),
            activities: HashMap::new(),
            sessions: HashMap::new(),
            sending: HashMap::new(),
            waiting: HashMap::new(),
            under_load: false,
            received: Vec::new(),
            keepalives: 0,
            gave_up: 0,
            established: 0,
            out: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, peer: Key, endpoint: Option<SocketAddr>, keepalive: Option<u16>, now: Now) {
        if let Some(endpoint) = endpoint {
            self.endpoints.insert(peer, endpoint);
        }
        let activity = self.engine.add_peer(peer, None, keepalive, now);
        self.activities.insert(peer, activity);
        self.poll(now);
    }

    /// What was sent since the last time.
    pub(crate) fn sent(&mut self) -> Vec<Datagram> {
        std::mem::take(&mut self.out)
    }

    pub(crate) fn initiate(&mut self, peer: &Key, now: Now) {
        self.engine.initiate(peer, now);
        self.poll(now);
    }

    pub(crate) fn timeout(&mut self, now: Now) {
        self.engine.handle_timeout(now);
        self.poll(now);
    }

    /// Sends a packet, or has it wait for a session.
    pub(crate) fn send(&mut self, peer: Key, packet: &[u8], now: Now) {
        match self.sending.get(&peer).filter(|session| session.may_send(now.instant)) {
            Some(session) => {
                let session = Arc::clone(session);
                self.seal(peer, &session, packet, now);
            }
            None => {
                self.waiting.entry(peer).or_default().push_back(packet.to_vec());
                self.initiate(&peer, now);
            }
        }
    }

    fn seal(&mut self, peer: Key, session: &Session, packet: &[u8], now: Now) {
        let mut buffer = vec![0; padded(packet.len(), MTU) + OVERHEAD];
        buffer[HEADER..HEADER + packet.len()].copy_from_slice(packet);
        let counter = session.reserve(1).unwrap().start;
        session.seal(counter, &mut buffer);
        let activity = &self.activities[&peer];
        if packet.is_empty() {
            activity.sent_any(now.instant)
        } else {
            activity.sent_data(now.instant)
        }
        self.emit(peer, buffer);
        if session.wants_rekey_after_send(now.instant) {
            self.initiate(&peer, now);
        }
    }

    fn emit(&mut self, peer: Key, bytes: Vec<u8>) {
        if let Some(to) = self.endpoints.get(&peer) {
            self.out.push(Datagram { from: self.address, to: *to, bytes });
        }
    }

    pub(crate) fn receive(&mut self, datagram: &Datagram, now: Now) {
        match receiver_index(&datagram.bytes) {
            Some(index) => self.open(index, datagram, now),
            None => {
                let _ = self.engine.receive(&datagram.bytes, datagram.from, self.under_load, now);
                self.poll(now);
            }
        }
    }

    fn open(&mut self, index: u32, datagram: &Datagram, now: Now) {
        let Some(session) = self.sessions.get(&index).cloned().filter(|session| session.may_receive(now.instant))
        else {
            return;
        };
        let mut bytes = datagram.bytes.clone();
        let Ok(opened) = session.open(&mut bytes) else { return };
        if !session.window().accept(opened.counter) {
            return;
        }
        let (peer, packet) = (session.peer(), &bytes[opened.plaintext]);
        self.endpoints.insert(peer, datagram.from);
        if packet.is_empty() {
            self.activities[&peer].received_any(now.instant);
        } else {
            self.activities[&peer].received_data(now.instant);
            self.received.push(packet.to_vec());
        }
        if !session.is_confirmed() {
            self.engine.confirm(&session, now);
        }
        if session.wants_rekey_after_receive(now.instant) {
            self.engine.initiate(&peer, now);
        }
        self.poll(now);
    }

    /// Does what the engine says.
    pub(crate) fn poll(&mut self, now: Now) {
        while let Some(event) = self.engine.poll() {
            match event {
                Event::Send { peer, message } => self.emit(peer, message),
                Event::Reply { to, message } => {
                    self.out.push(Datagram { from: self.address, to, bytes: message });
                }
                Event::Roamed { peer, to } => {
                    self.endpoints.insert(peer, to);
                }
                Event::Established { peer, session } => {
                    assert_eq!(session.peer(), peer);
                    self.established += 1;
                    self.sessions.insert(session.local_index(), session);
                }
                Event::Sending { peer, session } => {
                    assert!(session.is_confirmed(), "only what is confirmed is sent with");
                    self.sending.insert(peer, Arc::clone(&session));
                    let waiting = self.waiting.remove(&peer).unwrap_or_default();
                    if waiting.is_empty() && session.is_initiator() {
                        self.seal(peer, &session, &[], now);
                    }
                    for packet in waiting {
                        self.send(peer, &packet, now);
                    }
                }
                Event::Keepalive { peer } => {
                    self.keepalives += 1;
                    let session = Arc::clone(&self.sending[&peer]);
                    self.seal(peer, &session, &[], now);
                }
                Event::Expired { peer, local_index } => {
                    let session = self.sessions.remove(&local_index).expect("an index that was established");
                    assert!(!session.may_send(now.instant) && !session.may_receive(now.instant));
                    if self.sending.get(&peer).is_some_and(|sending| sending.local_index() == local_index) {
                        self.sending.remove(&peer);
                    }
                }
                Event::GaveUp { peer } => {
                    self.gave_up += 1;
                    self.waiting.remove(&peer);
                }
            }
        }
    }
}

/// What happens to a datagram: after how long it arrives, and its copies.
pub(crate) type Fate = Vec<Duration>;

/// Devices, and what is on its way between them.
pub(crate) struct World {
    pub(crate) epoch: Instant,
    /// How long it is since the beginning.
    pub(crate) since: Duration,
    pub(crate) devices: Vec<Device>,
    /// What arrives when; the number keeps the order of what arrives at once.
    wire: BTreeMap<(Duration, u64), Datagram>,
    number: u64,
    pub(crate) fate: Box<dyn FnMut(&Datagram) -> Fate>,
    /// All that was sent, with when.
    pub(crate) log: Vec<(Duration, Datagram)>,
}

impl World {
    /// Two devices, numbers 1 and 2, that are each other's peers, and a network on which everything takes 20 ms.
    pub(crate) fn pair() -> Self {
        Self::pair_with(None)
    }

    /// The same, where the first has a persistent keepalive.
    pub(crate) fn pair_with(keepalive: Option<u16>) -> Self {
        let epoch = Instant::now();
        let now = at(epoch, Duration::ZERO);
        let mut devices = vec![Device::new(1, now), Device::new(2, now)];
        let (one, two) = (devices[0].key, devices[1].key);
        let (one_at, two_at) = (devices[0].address, devices[1].address);
        devices[0].add(two, Some(two_at), keepalive, now);
        devices[1].add(one, Some(one_at), None, now);
        let fate = Box::new(|_: &Datagram| vec![20 * MS]);
        let mut world =
            Self { epoch, since: Duration::ZERO, devices, wire: BTreeMap::new(), number: 0, fate, log: Vec::new() };
        world.collect();
        world
    }

    pub(crate) fn now(&self) -> Now {
        at(self.epoch, self.since)
    }

    /// Nothing arrives any more.
    pub(crate) fn cut(&mut self) {
        self.fate = Box::new(|_| Vec::new());
        self.wire.clear();
    }

    /// Everything arrives, after 20 ms.
    pub(crate) fn heal(&mut self) {
        self.fate = Box::new(|_| vec![20 * MS]);
    }

    /// The devices' keys, the sender's first.
    pub(crate) fn keys(&self, from: usize) -> (Key, Key) {
        (self.devices[from].key, self.devices[1 - from].key)
    }

    /// One device of the pair sends the other a packet.
    pub(crate) fn send(&mut self, from: usize, packet: &[u8]) {
        let (now, (_, to)) = (self.now(), self.keys(from));
        self.devices[from].send(to, packet, now);
        self.collect();
    }

    /// One device of the pair wants a handshake.
    pub(crate) fn initiate(&mut self, from: usize) {
        let (now, (_, to)) = (self.now(), self.keys(from));
        self.devices[from].initiate(&to, now);
        self.collect();
    }

    /// Something is received, wherever it came from.
    pub(crate) fn inject(&mut self, datagram: &Datagram) {
        let now = self.now();
        if let Some(device) = self.devices.iter_mut().find(|device| device.address == datagram.to) {
            device.receive(datagram, now);
        }
        self.collect();
    }

    /// Lets everything happen that happens until so long after the beginning.
    pub(crate) fn run_until(&mut self, until: Duration) {
        while let Some(next) = self.next().filter(|next| *next <= until) {
            assert!(next >= self.since, "time goes forward");
            self.since = next;
            let now = self.now();
            while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= next) {
                let datagram = entry.remove();
                self.inject(&datagram);
            }
            for device in &mut self.devices {
                device.timeout(now);
                let again = device.engine.next_timeout(now.instant);
                assert!(again.is_none_or(|again| again > now.instant), "what was due is done");
            }
            self.collect();
        }
        self.since = until;
    }

    /// Lets some time pass.
    pub(crate) fn run(&mut self, time: Duration) {
        self.run_until(self.since + time);
    }

    /// When something was sent, of one type, by one device.
    pub(crate) fn sent(&self, from: usize, kind: u8) -> Vec<Duration> {
        let address = self.devices[from].address;
        let of = |(_, datagram): &&(Duration, Datagram)| datagram.from == address && datagram.kind() == kind;
        self.log.iter().filter(of).map(|(when, _)| *when).collect()
    }

    /// When something other than an empty packet was sent by one device.
    pub(crate) fn last(&self, from: usize, kind: u8) -> Datagram {
        let address = self.devices[from].address;
        let mut sent = self.log.iter().rev().map(|(_, datagram)| datagram);
        sent.find(|datagram| datagram.from == address && datagram.kind() == kind).cloned().unwrap()
    }

    fn next(&self) -> Option<Duration> {
        let timeouts = self.devices.iter().filter_map(|device| device.engine.next_timeout(self.now().instant));
        let timeouts = timeouts.map(|instant| instant - self.epoch);
        timeouts.chain(self.wire.first_key_value().map(|((when, _), _)| *when)).min()
    }

    fn collect(&mut self) {
        for device in &mut self.devices {
            for datagram in device.sent() {
                for delay in (self.fate)(&datagram) {
                    self.wire.insert((self.since + delay, self.number), datagram.clone());
                    self.number += 1;
                }
                self.log.push((self.since, datagram));
            }
        }
    }
}

/// The length of a keepalive.
pub(crate) const EMPTY: usize = HEADER + TAG;
