//! What the threads of a device share.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Instant, SystemTime};

use tombolo_net::wireguard::Key;
use tombolo_noise::{Engine, Event, Now, Session};

use super::outbox::Outbox;
use super::peer::{Peer, Receiving, Table, read, write};
use super::pipeline::lock;
use super::sockets::Sockets;
use super::sys::tun::Tun;
use super::sys::udp::Endpoint;

/// More handshake messages than this that wait are load: from then on only those who prove their address get an
/// answer (a cookie costs less than a handshake).
const UNDER_LOAD: usize = 32;

/// The most handshake messages that wait; others are dropped.
const MAX_HANDSHAKES: usize = 1024;

/// DSCP of handshake messages, AF41, as the kernel marks them.
const HANDSHAKE_TOS: u8 = 0x88;

/// ICMP errors of one second.
const MAX_ERRORS: u32 = 100;

/// What the threads that carry traffic leave to the one that does handshakes.
pub(super) enum Order {
    /// A handshake message came.
    Handshake(Vec<u8>, Endpoint),
    /// Packets wait for a session, or the session is old.
    Initiate(Key),
    /// What is due has changed.
    Look,
}

/// A device.
pub(super) struct Shared {
    pub(super) tun: Tun,
    /// MTU of the interface in bytes: padding ends there.
    pub(super) mtu: AtomicUsize,
    pub(super) table: RwLock<Table>,
    pub(super) engine: Mutex<Engine>,
    pub(super) is_stopped: AtomicBool,
    sockets: RwLock<Option<Arc<Sockets>>>,
    orders: Sender<Order>,
    handshakes: AtomicUsize,
    /// Whether the thread for handshakes sleeps until something is due that is known already.
    is_quiet: AtomicBool,
    has_traffic: AtomicBool,
    made: Instant,
    errors: (AtomicU32, AtomicU32),
}

impl Shared {
    pub(super) fn new(tun: Tun, mtu: usize, orders: Sender<Order>) -> Self {
        Self {
            tun,
            mtu: AtomicUsize::new(mtu),
            table: RwLock::default(),
            engine: Mutex::new(Engine::new(now())),
            is_stopped: AtomicBool::new(false),
            sockets: RwLock::default(),
            orders,
            handshakes: AtomicUsize::new(0),
            is_quiet: AtomicBool::new(false),
            has_traffic: AtomicBool::new(false),
            made: Instant::now(),
            errors: Default::default(),
        }
    }

    pub(super) fn sockets(&self) -> Option<Arc<Sockets>> {
        read(&self.sockets).clone()
    }

    /// Those before go when nobody uses them any more.
    pub(super) fn set_sockets(&self, sockets: Option<Arc<Sockets>>) {
        *write(&self.sockets) = sockets;
    }

    pub(super) fn mtu(&self) -> usize {
        self.mtu.load(Ordering::Relaxed)
    }

    /// A handshake message for the thread that does them.
    pub(super) fn queue_handshake(&self, message: &[u8], from: Endpoint) {
        if self.handshakes.fetch_add(1, Ordering::Relaxed) >= MAX_HANDSHAKES {
            self.handshakes.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        self.order(Order::Handshake(message.to_vec(), from));
    }

    /// Packets wait for a session, or theirs is old.
    pub(super) fn ask_for_handshake(&self, peer: &Peer, now: Instant) {
        if peer.may_ask(now.saturating_duration_since(self.made).as_millis() as u64) {
            self.order(Order::Initiate(peer.key));
        }
    }

    pub(super) fn order(&self, order: Order) {
        // The other end is there as long as the device is.
        let _ = self.orders.send(order);
    }

    /// There is traffic: timers of the protocol may have begun to run.
    pub(super) fn wake(&self) {
        if self.has_traffic.load(Ordering::Relaxed) {
            return;
        }
        self.has_traffic.store(true, Ordering::SeqCst);
        if self.is_quiet.swap(false, Ordering::SeqCst) {
            self.order(Order::Look);
        }
    }

    /// Whether something was carried since this was asked last. If not, the next packet is an [`Order::Look`].
    pub(super) fn had_traffic(&self) -> bool {
        if self.has_traffic.swap(false, Ordering::SeqCst) {
            return true;
        }
        self.is_quiet.store(true, Ordering::SeqCst);
        // Something may have come in between, and have found nobody asleep.
        self.has_traffic.load(Ordering::SeqCst)
    }

    /// Takes one from the queue of handshake messages. Whether there are too many.
    pub(super) fn take_handshake(&self) -> bool {
        self.handshakes.fetch_sub(1, Ordering::Relaxed) > UNDER_LOAD
    }

    /// Whether one more ICMP error may be sent in this second.
    pub(super) fn may_complain(&self, now: Instant) -> bool {
        let second = now.saturating_duration_since(self.made).as_secs() as u32 + 1;
        let (at, count) = &self.errors;
        if at.swap(second, Ordering::Relaxed) != second {
            count.store(0, Ordering::Relaxed);
        }
        count.fetch_add(1, Ordering::Relaxed) < MAX_ERRORS
    }

    /// Lets the engine do something, and does what it wants done. `from` is where the message came from that it is
    /// about.
    pub(super) fn drive<T>(
        &self,
        outbox: &mut Outbox,
        from: Option<Endpoint>,
        work: impl FnOnce(&mut Engine, Now) -> T,
    ) -> T {
        let mut engine = lock(&self.engine);
        let result = work(&mut engine, now());
        while let Some(event) = engine.poll() {
            self.perform(event, outbox, from);
        }
        drop(engine);
        outbox.flush(self.sockets().as_deref());
        result
    }

    fn perform(&self, event: Event, outbox: &mut Outbox, from: Option<Endpoint>) {
        let find = |key: &Key| read(&self.table).peers.get(key).cloned();
        match event {
            Event::Send { peer, message } => {
                let Some(peer) = find(&peer) else { return };
                let Some(endpoint) = peer.endpoint() else { return };
                outbox.push(&message, endpoint, HANDSHAKE_TOS);
                peer.sent.fetch_add(message.len() as u64, Ordering::Relaxed);
            }
            Event::Reply { to, message } => {
                let local = from.filter(|from| from.to == to).and_then(|from| from.from);
                outbox.push(&message, Endpoint { to, from: local }, HANDSHAKE_TOS);
            }
            Event::Roamed { peer, to } => {
                if let (Some(peer), Some(from)) = (find(&peer), from.filter(|from| from.to == to)) {
                    peer.roam(from);
                }
            }
            Event::Established { peer, session } => {
                let Some(peer) = find(&peer) else { return };
                write(&self.table).sessions.insert(session.local_index(), Receiving { session, peer });
            }
            Event::Sending { peer, session } => {
                if let Some(peer) = find(&peer) {
                    self.start(&peer, &session, outbox);
                }
            }
            Event::Keepalive { peer } => {
                let at = Instant::now();
                let Some(peer) = find(&peer) else { return };
                match (peer.session(at), peer.endpoint()) {
                    (Some(session), Some(endpoint)) => {
                        outbox.seal_keepalive(&peer, &session, endpoint, at);
                        if session.wants_rekey_after_send(at) {
                            self.ask_for_handshake(&peer, at);
                        }
                    }
                    _ => self.ask_for_handshake(&peer, at),
                }
            }
            Event::Expired { peer, local_index } => {
                write(&self.table).sessions.remove(&local_index);
                if let Some(peer) = find(&peer) {
                    peer.end(local_index);
                }
            }
            Event::GaveUp { peer } => {
                if let Some(peer) = find(&peer) {
                    tracing::debug!(peer = %peer.key, "no answer to handshakes");
                    peer.give_up();
                }
            }
        }
    }

    /// Sends what waits, before anything else is sent with the session. The peer may use it only after the first
    /// message: if nothing waits it is an empty one.
    fn start(&self, peer: &Peer, session: &Arc<Session>, outbox: &mut Outbox) {
        let (at, mtu) = (Instant::now(), self.mtu());
        peer.start(session, |waiting| {
            let Some(endpoint) = peer.endpoint() else { return };
            if waiting.is_empty() && session.is_initiator() {
                outbox.seal_keepalive(peer, session, endpoint, at);
            }
            for packet in waiting.iter() {
                if outbox.seal(packet.header, &packet.packet, (peer, session, endpoint), mtu) {
                    peer.activity.sent_data(at);
                }
            }
            outbox.flush(self.sockets().as_deref());
        });
        self.wake();
    }
}

/// The peer of an address, remembered: most packets of a batch go to, or come from, the same.
#[derive(Default)]
pub(super) struct LastRoute {
    last: Option<(IpAddr, Arc<Peer>)>,
}

impl LastRoute {
    pub(super) fn find(&mut self, table: &Table, ip: IpAddr) -> Option<&Arc<Peer>> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != ip) {
            self.last = table.route(ip).map(|peer| (ip, Arc::clone(peer)));
        }
        self.last.as_ref().map(|(_, peer)| peer)
    }

    /// Routes may have changed.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }
}

pub(super) fn now() -> Now {
    Now { instant: Instant::now(), wall: SystemTime::now() }
}
