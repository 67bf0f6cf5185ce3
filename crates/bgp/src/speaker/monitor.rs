//! Those who watch a speaker: threads that write files ([`mrt`]) or to stations ([`bmp`]).
//!
//! A thread subscribes, and the speaker sends it what is heard, and the tables in parts. Neither waits for the other:
//! what a thread has before it is counted ([`Flow`]), so that the tables only go on when there is room, and who falls
//! behind with what is heard loses its subscription.

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::Waker;

use crate::router::Router;
use crate::router::dump::{self, Cursor, Index};
use crate::router::tap::{Batch, Heard, Seen, What};
use crate::session::ConnId;
use crate::{bmp, mrt};

/// What is before a thread at most.
const LIMIT: usize = 64 << 20;
/// With less than this before it, it gets more of the tables.
const LOW: usize = 1 << 20;
/// Slots of the tables that are read at a time.
const PART: usize = 2048;
/// How long the threads have for their last words.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who watches a speaker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Monitoring {
    /// Files of tables and messages.
    pub mrt: Option<mrt::Options>,
    /// Stations.
    pub bmp: Vec<bmp::Station>,
}

/// What a subscription is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// What neighbours announced, and then all that is heard.
    Station {
        /// How often to be told how many routes there are.
        statistics: Option<Duration>,
    },
    /// The tables, once, as records of MRT.
    Table,
    /// All that is heard.
    Updates,
}

/// What a subscriber gets.
pub(crate) enum Item {
    Heard(Arc<Batch>),
    /// Whole records or messages.
    Bytes(Vec<u8>),
    /// The table is whole.
    End,
}

impl Item {
    fn size(&self) -> usize {
        match self {
            Self::Heard(batch) => batch.size(),
            Self::Bytes(bytes) => bytes.len(),
            Self::End => 0,
        }
    }
}

/// How much is before a subscriber.
struct Flow {
    queued: AtomicUsize,
    /// Whether the speaker waits for room.
    hungry: AtomicBool,
    too_slow: AtomicBool,
}

/// A subscriber's end.
pub(crate) struct Subscription {
    items: mpsc::Receiver<Item>,
    flow: Arc<Flow>,
    waker: Arc<Waker>,
    held: usize,
}

/// What a subscriber finds.
pub(crate) enum Next {
    Item(Item),
    /// Nothing came in time.
    Nothing,
    /// It has read too slowly, and gets no more.
    TooSlow,
    /// The speaker has ended.
    Ended,
}

impl Subscription {
    /// What is next. What the last call brought counts as dealt with.
    pub(crate) fn next(&mut self, timeout: Duration) -> Next {
        let queued = self.flow.queued.fetch_sub(self.held, Ordering::SeqCst) - self.held;
        self.held = 0;
        if queued < LOW && self.flow.hungry.swap(false, Ordering::SeqCst) {
            let _ = self.waker.wake();
        }
        match self.items.recv_timeout(timeout) {
            Ok(item) => {
                self.held = item.size();
                Next::Item(item)
            }
            Err(mpsc::RecvTimeoutError::Timeout) => Next::Nothing,
            Err(mpsc::RecvTimeoutError::Disconnected) if self.flow.too_slow.load(Ordering::SeqCst) => Next::TooSlow,
            Err(mpsc::RecvTimeoutError::Disconnected) => Next::Ended,
        }
    }
}

type Request = (Kind, mpsc::Sender<Item>, Arc<Flow>);

/// Where a thread subscribes.
pub(crate) struct Desk {
    requests: mpsc::Sender<Request>,
    waker: Arc<Waker>,
    end: mpsc::Receiver<()>,
    _done: mpsc::Sender<()>,
}

impl Desk {
    /// Begins a subscription; `None` if the speaker has ended.
    pub(crate) fn subscribe(&self, kind: Kind) -> Option<Subscription> {
        let (sender, items) = mpsc::channel();
        let (queued, hungry, too_slow) = Default::default();
        let flow = Arc::new(Flow { queued, hungry, too_slow });
        self.requests.send((kind, sender, flow.clone())).ok()?;
        let _ = self.waker.wake();
        Some(Subscription { items, flow, waker: self.waker.clone(), held: 0 })
    }

    /// Waits. Returns whether the speaker is still there.
    pub(crate) fn wait(&self, time: Duration) -> bool {
        matches!(self.end.recv_timeout(time), Err(mpsc::RecvTimeoutError::Timeout))
    }
}

/// What a thread does.
type Run = Box<dyn FnOnce(Desk, Option<Subscription>) + Send>;

/// A subscriber, as the speaker sees it.
struct Subscriber {
    kind: Kind,
    items: mpsc::Sender<Item>,
    flow: Arc<Flow>,
    reading: Option<Reading>,
    /// When it is told next how many routes there are.
    statistics: Option<Instant>,
    gone: bool,
}

/// A subscriber that gets the tables.
struct Reading {
    cursor: Cursor,
    /// Established when it began.
    peers: Vec<Arc<Seen>>,
    index: Index,
    at: u32,
    sequence: u32,
}

impl Subscriber {
    fn is_live(&self) -> bool {
        !matches!(self.kind, Kind::Table)
    }

    fn send(&mut self, item: Item) {
        let size = item.size();
        let queued = self.flow.queued.fetch_add(size, Ordering::SeqCst) + size;
        if queued > LIMIT {
            self.flow.too_slow.store(true, Ordering::SeqCst);
            self.gone = true;
        } else if self.items.send(item).is_err() {
            self.gone = true;
        }
    }

    /// Whether it is to get more of the tables now. If not yet, it wakes the speaker when it is.
    fn has_room(&self) -> bool {
        let room = || self.flow.queued.load(Ordering::SeqCst) < LOW;
        if self.reading.is_none() || self.gone {
            return false;
        }
        room() || {
            self.flow.hungry.store(true, Ordering::SeqCst);
            room()
        }
    }

    fn begin(&mut self, router: &Router, now: Instant) {
        let time = SystemTime::now();
        let mut reading = Reading {
            cursor: Cursor::default(),
            peers: router.established(),
            index: Index::default(),
            at: mrt::encode::seconds(time),
            sequence: 0,
        };
        match self.kind {
            Kind::Updates => return,
            Kind::Station { statistics } => {
                let up = reading.peers.iter().cloned().map(|peer| Heard { at: time, peer, what: What::Up });
                self.send(Item::Heard(Arc::new(Batch { bytes: Vec::new(), heard: up.collect() })));
                self.statistics = statistics.map(|every| now + every);
            }
            Kind::Table => {
                reading.index = router.index(time);
                let mut out = Vec::new();
                let own = router.config().router_id;
                mrt::encode::peer_index_table(&mut out, reading.at, own, &reading.index.peers);
                self.send(Item::Bytes(out));
            }
        }
        self.reading = Some(reading);
    }

    /// Sends the next part of the tables. Returns whether it was the last.
    fn read_on(&mut self, router: &Router) -> bool {
        let Some(mut reading) = self.reading.take() else { return false };
        let mut out = Vec::new();
        let next = match self.kind {
            Kind::Table => {
                let Reading { cursor, index, at, sequence, .. } = &mut reading;
                router.dump(*cursor, PART, index, *at, sequence, &mut out)
            }
            // When a route came is not known: that is a time of zero (RFC 7854, section 4.2). The tables have AS
            // numbers of four octets at any rate.
            _ => router.replay(reading.cursor, PART, |peer, body| {
                bmp::encode::route_monitoring(&mut out, UNIX_EPOCH, peer, true, body);
            }),
        };
        if next.is_none() && self.is_live() {
            end_of_rib(router, &reading.peers, &mut out);
        }
        if !out.is_empty() {
            self.send(Item::Bytes(out));
        }
        match next {
            Some(cursor) => self.reading = Some(Reading { cursor, ..reading }),
            None if self.is_live() => {}
            None => {
                self.send(Item::End);
                self.gone = true;
            }
        }
        next.is_none()
    }
}

/// The markers of those neighbours that were and are established.
fn end_of_rib(router: &Router, peers: &[Arc<Seen>], out: &mut Vec<u8>) {
    let now = router.established();
    for peer in peers.iter().filter(|peer| now.iter().any(|other| Arc::ptr_eq(peer, other))) {
        for family in &peer.families {
            let body = dump::end_of_rib(*family);
            bmp::encode::route_monitoring(out, UNIX_EPOCH, peer, peer.four_octet, &body);
        }
    }
}

/// The speaker's side of all that.
pub(super) struct Monitors {
    subscribers: Vec<Subscriber>,
    requests: Option<mpsc::Receiver<Request>>,
    ends: Vec<mpsc::Sender<()>>,
    done: mpsc::Receiver<()>,
}

impl Monitors {
    /// Starts the threads.
    pub(super) fn start(monitoring: Monitoring, waker: &Arc<Waker>) -> std::io::Result<Self> {
        let (requests, received) = mpsc::channel();
        let (done, finished) = mpsc::channel();
        let mut monitors = Self { subscribers: Vec::new(), requests: Some(received), ends: Vec::new(), done: finished };
        let mut spawn = |name: &str, first: Option<Kind>, run: Run| {
            let (end, ended) = mpsc::channel();
            let desk = Desk { requests: requests.clone(), waker: waker.clone(), end: ended, _done: done.clone() };
            monitors.ends.push(end);
            let first = first.and_then(|kind| desk.subscribe(kind));
            std::thread::Builder::new().name(name.to_owned()).spawn(move || run(desk, first)).map(|_| ())
        };
        if let Some(options) = monitoring.mrt {
            mrt::thread::recover(&options);
            if let Some(every) = options.tables {
                let options = options.clone();
                spawn("bgp-mrt-tables", None, Box::new(move |desk, _| mrt::thread::tables(&options, every, &desk)))?;
            }
            if let Some(every) = options.updates {
                let run = move |desk, first| mrt::thread::updates(&options, every, &desk, first);
                spawn("bgp-mrt-updates", Some(Kind::Updates), Box::new(run))?;
            }
        }
        for station in monitoring.bmp {
            spawn("bgp-bmp", None, Box::new(move |desk, _| bmp::station::run(&station, &desk)))?;
        }
        Ok(monitors)
    }

    /// Hands out what was heard, and parts of the tables. `ports` knows the own port of a connection, and the other.
    pub(super) fn turn(&mut self, router: &mut Router, now: Instant, ports: impl Fn(ConnId) -> Option<(u16, u16)>) {
        let know_ports = |peer: &Seen| {
            if let Some(known) = peer.conn.filter(|_| peer.ports.get().is_none()).and_then(&ports) {
                let _ = peer.ports.set(known);
            }
        };
        let batch = router.take_heard();
        batch.heard.iter().filter(|heard| heard.what == What::Up).for_each(|heard| know_ports(&heard.peer));
        if !batch.heard.is_empty() {
            let batch = Arc::new(batch);
            for subscriber in self.subscribers.iter_mut().filter(|subscriber| subscriber.is_live()) {
                subscriber.send(Item::Heard(batch.clone()));
            }
        }
        let requests = self.requests.iter().flat_map(mpsc::Receiver::try_iter);
        for (kind, items, flow) in requests {
            router.established().iter().for_each(|peer| know_ports(peer));
            let mut subscriber = Subscriber { kind, items, flow, reading: None, statistics: None, gone: false };
            subscriber.begin(router, now);
            self.subscribers.push(subscriber);
        }
        for subscriber in &mut self.subscribers {
            if subscriber.statistics.is_some_and(|at| at <= now)
                && let Kind::Station { statistics } = subscriber.kind
            {
                subscriber.statistics = statistics.map(|every| now + every);
                subscriber.send(Item::Heard(Arc::new(router.count_routes())));
            }
            // What the tables have changed on a route may be seen only after it was told so.
            if subscriber.has_room() && subscriber.read_on(router) && subscriber.is_live() {
                router.ask_for_originals();
            }
        }
        self.subscribers.retain(|subscriber| !subscriber.gone);
        router.listen(self.subscribers.iter().any(Subscriber::is_live));
    }

    /// Whether there is more to be done at once.
    pub(super) fn is_busy(&self) -> bool {
        self.subscribers.iter().any(Subscriber::has_room)
    }

    /// When a [`Monitors::turn`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.subscribers.iter().filter_map(|subscriber| subscriber.statistics).min()
    }
}

impl Drop for Monitors {
    /// The threads see that this is the end, and have a moment to write what is still before them.
    fn drop(&mut self) {
        self.subscribers.clear();
        self.ends.clear();
        self.requests = None;
        let until = Instant::now() + PATIENCE;
        // Nothing is ever sent: the channel ends with the last thread.
        let _ = self.done.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}
