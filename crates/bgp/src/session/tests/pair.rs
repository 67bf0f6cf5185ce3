//! Two sessions, wired to each other.

use std::collections::{BTreeSet, VecDeque};

use super::*;

/// Of both ends of a connection: what is under way to each side.
struct Wire {
    id: ConnId,
    /// Who opened it.
    by: usize,
    /// Whether each side knows of it, and has not closed it.
    open: [bool; 2],
    /// To each side; `None` is the end.
    queues: [VecDeque<Option<Vec<u8>>>; 2],
}

pub(super) struct Pair {
    pub(super) sides: [Session; 2],
    pub(super) ids: [Ipv4Addr; 2],
    pub(super) now: Instant,
    pub(super) ups: [usize; 2],
    pub(super) downs: [Vec<Down>; 2],
    /// Nothing arrives.
    pub(super) cut: bool,
    settings: [(Local, Neighbor); 2],
    wires: Vec<Wire>,
    /// Connections of which a side is not told yet.
    arriving: VecDeque<(usize, ConnId, Direction)>,
    next: u32,
}

pub(super) fn local(id: u8) -> Local {
    Local {
        asn: 64512,
        router_id: Ipv4Addr::new(10, 0, 0, id),
        graceful_restart: Some(GracefulRestart {
            restart_time: 90 * SECOND,
            deferral_time: 60 * SECOND,
            preserves_forwarding: true,
            restarting: false,
            returning: BTreeSet::new(),
            long_lived: Some(3600 * SECOND),
        }),
    }
}

pub(super) fn neighbor() -> Neighbor {
    Neighbor { remote_asn: Some(64512), connect_retry: Duration::from_secs(5), ..Neighbor::default() }
}

pub(super) fn options(pair: &Pair, side: usize) -> (Local, Neighbor) {
    pair.settings[side].clone()
}

/// The first NOTIFICATION that is sent.
pub(super) fn notification(actions: &[Action]) -> Option<Notification> {
    actions.iter().find_map(|action| match action {
        Action::Send(_, bytes) if bytes[18] == 3 => Notification::parse(&bytes[HEADER..]).ok(),
        _ => None,
    })
}

impl Pair {
    /// With the last octets of the router IDs; `set` changes the settings of each side.
    pub(super) fn new(ids: [u8; 2], set: impl Fn(usize, &mut Local, &mut Neighbor)) -> Self {
        let now = Instant::now();
        let settings = [0, 1].map(|side| {
            let (mut own, mut settings) = (local(ids[side]), neighbor());
            set(side, &mut own, &mut settings);
            (own, settings)
        });
        let addresses = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        Self {
            sides: [0, 1].map(|side| {
                let (own, settings) = &settings[side];
                Session::new(own.clone(), settings, addresses[1 - side], side as u64, now)
            }),
            ids: ids.map(|id| Ipv4Addr::new(10, 0, 0, id)),
            now,
            ups: [0; 2],
            downs: [Vec::new(), Vec::new()],
            cut: false,
            settings,
            wires: Vec::new(),
            arriving: VecDeque::new(),
            next: 0,
        }
    }

    /// Starts both, and lets everything arrive.
    pub(super) fn start(&mut self) {
        self.start_in_order(0);
    }

    /// The same, with messages and connections arriving in an order that `seed` chooses; on one connection they stay
    /// in theirs.
    pub(super) fn start_in_order(&mut self, mut seed: u64) {
        for side in [0, 1] {
            self.act_only(side, Session::start);
        }
        while self.step(&mut seed) {}
    }

    /// Starts both, and both connections are there for both before any message is.
    pub(super) fn start_at_once(&mut self) {
        for side in [0, 1] {
            self.act_only(side, Session::start);
        }
        while self.arrive(0) {}
        self.settle();
    }

    pub(super) fn act(&mut self, side: usize, act: impl FnOnce(&mut Session, Instant, &mut Vec<Action>)) {
        self.act_only(side, act);
        self.settle();
    }

    /// Lets time pass, with all timers on time.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            let next = timers::earliest(self.sides.iter().map(Session::deadline)).filter(|next| *next <= end);
            let Some(next) = next else { break };
            self.now = self.now.max(next);
            for side in [0, 1] {
                self.act_only(side, Session::tick);
            }
        }
        self.now = end;
    }

    pub(super) fn established(&self) -> bool {
        self.sides.iter().all(|side| side.state() == State::Established)
    }

    pub(super) fn negotiated(&self) -> [Negotiated; 2] {
        self.sides.each_ref().map(|side| side.negotiated().cloned().unwrap())
    }

    pub(super) fn open_connections(&self) -> usize {
        self.wires.iter().filter(|wire| wire.open.contains(&true)).count()
    }

    fn settle(&mut self) {
        while self.step(&mut 0) {}
    }

    fn act_only(&mut self, side: usize, act: impl FnOnce(&mut Session, Instant, &mut Vec<Action>)) {
        let mut out = Vec::new();
        act(&mut self.sides[side], self.now, &mut out);
        for action in out {
            match action {
                Action::Connect if self.cut => {}
                Action::Connect => {
                    let id = ConnId(self.next);
                    self.next += 1;
                    let (open, queues) = ([false; 2], [VecDeque::new(), VecDeque::new()]);
                    self.wires.push(Wire { id, by: side, open, queues });
                    self.arriving.push_back((side, id, Direction::Outgoing));
                    self.arriving.push_back((1 - side, id, Direction::Incoming));
                }
                Action::Send(id, bytes) => self.wire(id).queues[1 - side].push_back(Some(bytes)),
                Action::Close(id) => {
                    let wire = self.wire(id);
                    wire.open[side] = false;
                    wire.queues[1 - side].push_back(None);
                }
                Action::Up(..) => self.ups[side] += 1,
                Action::Down(down) => self.downs[side].push(down),
                Action::Failed(_) | Action::Refresh(..) => {}
            }
        }
    }

    fn wire(&mut self, id: ConnId) -> &mut Wire {
        self.wires.iter_mut().find(|wire| wire.id == id).unwrap()
    }

    fn arrive(&mut self, at: usize) -> bool {
        let Some((side, id, direction)) = self.arriving.remove(at) else { return false };
        let wire = self.wire(id);
        assert_eq!(wire.by == side, direction == Direction::Outgoing);
        wire.open[side] = true;
        self.act_only(side, |session, now, out| session.connected(now, id, direction, out));
        true
    }

    /// One thing arrives: the first that can, or one that `seed` chooses.
    fn step(&mut self, seed: &mut u64) -> bool {
        let mut ready: Vec<(usize, usize)> = Vec::new();
        for (at, wire) in self.wires.iter().enumerate() {
            // Nothing is read before the connection is there, and what comes to a closed end is lost.
            let known = |side: usize| !self.arriving.iter().any(|(s, id, _)| (*s, *id) == (side, wire.id));
            ready.extend([0, 1].into_iter().filter(|s| known(*s) && !wire.queues[*s].is_empty()).map(|s| (at, s)));
        }
        let choices = self.arriving.len() + ready.len();
        if choices == 0 {
            return false;
        }
        let chosen = (*seed % choices as u64) as usize;
        *seed /= choices as u64;
        if chosen < self.arriving.len() {
            return self.arrive(chosen);
        }
        let (at, side) = ready[chosen - self.arriving.len()];
        let wire = &mut self.wires[at];
        let (id, item) = (wire.id, wire.queues[side].pop_front().unwrap());
        if self.cut || !wire.open[side] {
            return true;
        }
        match item {
            Some(bytes) => {
                let message = crate::wire::next(&bytes, true).unwrap().unwrap();
                self.act_only(side, |session, now, out| session.message(now, id, message.kind, message.body, out));
            }
            None => {
                wire.open[side] = false;
                let why = "closed by the neighbour".to_owned();
                self.act_only(side, |session, now, out| session.closed(now, id, why, out));
            }
        }
        true
    }
}
