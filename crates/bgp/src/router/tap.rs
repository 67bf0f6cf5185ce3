//! What those who watch a router are told: sessions as they come and go, and messages as they were received.
//!
//! Nothing is noted until [`Router::watch`]; then it is kept until [`Router::take_heard`].

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use super::export::told;
use super::peer::{Peer, index};
use super::{Rib, Router};
use crate::Family;
use crate::prefix::{self, Prefix};
use crate::rib::SourceId;
use crate::session::{ConnId, Down, Reason, State};
use crate::update::attributes::{flag, kind};
use crate::wire::{self, HEADER, Kind, MAX};

/// A session, or a neighbour without one, at a moment.
#[derive(Debug)]
pub struct Seen {
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its AS: the one that it says, else the one that is expected, else 0.
    pub asn: u32,
    /// Its BGP identifier; unspecified without a session.
    pub router_id: Ipv4Addr,
    /// The own address; unspecified while there is no connection.
    pub local_address: IpAddr,
    /// The own AS towards it.
    pub local_asn: u32,
    /// Whether AS numbers in its messages have four octets (RFC 6793).
    pub four_octet: bool,
    /// Where its prefixes have identifiers (RFC 7911).
    pub add_path: Vec<Family>,
    /// What is exchanged.
    pub families: Vec<Family>,
    /// Whether its messages may be longer than 4096 bytes (RFC 8654).
    pub extended: bool,
    /// The connection of the session.
    pub conn: Option<ConnId>,
    /// The own port and the neighbour's, as whoever has the socket knows them.
    pub ports: OnceLock<(u16, u16)>,
    /// When this was seen.
    pub at: SystemTime,
    /// The OPEN that was sent: the whole message.
    pub sent_open: Vec<u8>,
    /// The OPEN that came.
    pub received_open: Vec<u8>,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// This side sent this NOTIFICATION, a whole message.
    Sent(Vec<u8>),
    /// This side just ended it, for an event of RFC 4271, section 8.1.
    Silent(u16),
    /// The neighbour sent this NOTIFICATION.
    Received(Vec<u8>),
    /// The connection ended.
    Closed,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A session is established.
    Up,
    /// It is no more.
    Down(Ending),
    /// The state of a session (RFC 4271, section 8.2.2) is another.
    State {
        /// From which.
        from: State,
        /// To which.
        to: State,
    },
    /// The body of an UPDATE that came: its place in [`Batch::bytes`].
    Update(Range<usize>),
    /// How many routes there are.
    Routes {
        /// That the neighbour announced, a family each.
        received: [u64; 2],
        /// That it was told.
        sent: [u64; 2],
    },
}

/// Something that was heard.
#[derive(Debug, Clone)]
pub struct Heard {
    /// When.
    pub at: SystemTime,
    /// Of whom.
    pub peer: Arc<Seen>,
    /// What.
    pub what: What,
}

/// What was heard, in order.
#[derive(Debug, Default)]
pub struct Batch {
    /// The bytes of messages.
    pub bytes: Vec<u8>,
    /// What there was.
    pub heard: Vec<Heard>,
}

impl Batch {
    /// Bytes of memory that it takes, about.
    pub fn size(&self) -> usize {
        self.bytes.len() + self.heard.len() * size_of::<Heard>()
    }
}

/// The messages of a connection that tell of its begin and its end.
#[derive(Debug, Default)]
struct Words {
    sent_open: Vec<u8>,
    received_open: Vec<u8>,
    last: Vec<u8>,
}

/// What is noted while a router is watched.
#[derive(Debug, Default)]
pub(super) struct Tap {
    /// Whether somebody listens now. Sessions are noted at any rate.
    listening: bool,
    batch: Batch,
    /// Established sessions, by their neighbours.
    seen: Vec<Option<Arc<Seen>>>,
    words: HashMap<ConnId, Words>,
    states: HashMap<SourceId, State>,
}

impl Tap {
    /// The body of an UPDATE came.
    #[inline]
    pub(super) fn update(&mut self, id: SourceId, conn: ConnId, body: &[u8]) {
        if !self.listening {
            return;
        }
        let Some(Some(peer)) = self.seen.get(id as usize) else { return };
        if peer.conn == Some(conn) {
            let start = self.batch.bytes.len();
            self.batch.bytes.extend_from_slice(body);
            let what = What::Update(start..self.batch.bytes.len());
            self.batch.heard.push(Heard { at: SystemTime::now(), peer: peer.clone(), what });
        }
    }

    /// Another message came.
    pub(super) fn message(&mut self, conn: ConnId, kind: Kind, body: &[u8]) {
        if kind == Kind::Open {
            let open = &mut self.words.entry(conn).or_default().received_open;
            open.clear();
            wire::write(open, kind, |out| out.extend_from_slice(body));
        }
    }

    /// A message goes.
    pub(super) fn sends(&mut self, conn: ConnId, message: &[u8]) {
        match message.get(HEADER - 1) {
            Some(kind) if *kind == Kind::Open as u8 => {
                self.words.entry(conn).or_default().sent_open = message.to_vec();
            }
            Some(kind) if *kind == Kind::Notification as u8 => {
                self.words.entry(conn).or_default().last = message.to_vec();
            }
            _ => {}
        }
    }

    /// A connection's number may be used again.
    pub(super) fn closed(&mut self, conn: ConnId) {
        self.words.remove(&conn);
    }

    /// The established session of a neighbour.
    pub(super) fn seen(&self, id: SourceId) -> Option<&Arc<Seen>> {
        self.seen.get(id as usize)?.as_ref()
    }

    fn note(&mut self, peer: Arc<Seen>, what: What) {
        if self.listening {
            self.batch.heard.push(Heard { at: SystemTime::now(), peer, what });
        }
    }
}

impl Router {
    /// Begins to note what is heard. To be called before the first connection.
    pub fn watch(&mut self) {
        self.tap = Some(Box::default());
    }

    /// Whether somebody listens to what is heard; if not, nothing is kept but the sessions.
    pub fn listen(&mut self, listening: bool) {
        if let Some(tap) = &mut self.tap {
            tap.listening = listening;
            if !listening {
                tap.batch = Batch::default();
            }
        }
    }

    /// What was heard since the last time.
    pub fn take_heard(&mut self) -> Batch {
        self.tap.as_mut().map(|tap| std::mem::take(&mut tap.batch)).unwrap_or_default()
    }

    /// The established sessions.
    pub fn established(&self) -> Vec<Arc<Seen>> {
        self.tap.iter().flat_map(|tap| tap.seen.iter().flatten().cloned()).collect()
    }

    /// How many routes each established neighbour announced and was told, as [`What::Routes`].
    pub fn count_routes(&self) -> Batch {
        let at = SystemTime::now();
        let count = |peer: &Peer| {
            let seen = self.tap.as_ref()?.seen(peer.id)?.clone();
            let received = Family::ALL.map(|family| u64::from(peer.families[index(family)].received));
            let sent = Family::ALL.map(|family| told(self, peer.id, family) as u64);
            Some(Heard { at, peer: seen, what: What::Routes { received, sent } })
        };
        Batch { bytes: Vec::new(), heard: self.peers().filter_map(count).collect() }
    }

    /// Asks those neighbours for their routes again whose import policy, or role, changes routes: the tables have what
    /// became of them, and not what came.
    pub fn ask_for_originals(&mut self) {
        let changing = |peer: &&Peer| {
            let able = peer.up.as_ref().is_some_and(|up| up.negotiated.refresh);
            let sets = peer.neighbor.import.statements.iter().any(|statement| !statement.set.is_empty());
            able && (sets || peer.neighbor.role.is_some())
        };
        let ids: Vec<SourceId> = self.peers().filter(changing).map(|peer| peer.id).collect();
        ids.into_iter().for_each(|id| self.ask_again(std::time::Instant::now(), id));
    }

    pub(super) fn tap_state(&mut self, id: SourceId) {
        if self.tap.is_none() {
            return;
        }
        let Some(to) = self.peer(id).map(|peer| peer.session.state()) else { return };
        let Some(tap) = self.tap.as_mut() else { return };
        let from = tap.states.insert(id, to).unwrap_or(State::Idle);
        if from == to || !tap.listening {
            return;
        }
        let seen = match tap.seen(id) {
            Some(seen) => Some(seen.clone()),
            None => self.peer(id).map(|peer| Arc::new(self.see(peer))),
        };
        if let (Some(tap), Some(seen)) = (self.tap.as_mut(), seen) {
            tap.note(seen, What::State { from, to });
        }
    }

    pub(super) fn tap_up(&mut self, id: SourceId) {
        let Some(seen) = self.peer(id).map(|peer| Arc::new(self.see(peer))) else { return };
        let Some(tap) = self.tap.as_mut() else { return };
        let at = id as usize;
        if tap.seen.len() <= at {
            tap.seen.resize(at + 1, None);
        }
        tap.seen[at] = Some(seen.clone());
        tap.note(seen, What::Up);
    }

    pub(super) fn tap_down(&mut self, id: SourceId, down: &Down) {
        let Some(tap) = self.tap.as_mut() else { return };
        let Some(seen) = tap.seen.get_mut(id as usize).and_then(Option::take) else { return };
        let last = seen.conn.and_then(|conn| tap.words.get(&conn)).map(|words| words.last.clone());
        let message = |notification: &wire::Notification| {
            let mut out = Vec::new();
            notification.encode(&mut out);
            out
        };
        let ending = match &down.why {
            Reason::Received(notification) => Ending::Received(message(notification)),
            Reason::Sent(notification) | Reason::Refused { notification, .. } => Ending::Sent(message(notification)),
            // Event 2, ManualStop, where even that could not be said.
            Reason::Shutdown(_) => last.filter(|m| !m.is_empty()).map_or(Ending::Silent(2), Ending::Sent),
            Reason::Closed(_) | Reason::NoConnection(_) => Ending::Closed,
            // Event 17, TcpConnectionConfirmed.
            Reason::Restarted => Ending::Silent(17),
        };
        tap.note(seen, What::Down(ending));
    }

    /// The neighbour has told all again, and what it left out goes without a word from it: those who listen are told as
    /// if it had withdrawn it.
    pub(super) fn tap_stale(&mut self, id: SourceId, family: Family) {
        let Some(tap) = self.tap.as_ref().filter(|tap| tap.listening) else { return };
        let Some(seen) = tap.seen(id).cloned() else { return };
        let add_path = seen.add_path.contains(&family);
        let bodies = match family {
            Family::Ipv4 => stale(&self.v4, id, add_path),
            Family::Ipv6 => stale(&self.v6, id, add_path),
        };
        if let Some(conn) = seen.conn
            && let Some(tap) = self.tap.as_mut()
        {
            bodies.iter().for_each(|body| tap.update(id, conn, body));
        }
    }

    fn see(&self, peer: &Peer) -> Seen {
        let negotiated = peer.session.negotiated();
        let conn = peer.session.connection();
        let local = conn.and_then(|conn| self.connections.get(conn.0 as usize)?.as_ref()).map(|c| c.local);
        let unspecified = match peer.address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let words = conn.zip(self.tap.as_ref()).and_then(|(conn, tap)| tap.words.get(&conn));
        Seen {
            address: peer.address,
            asn: negotiated.map(|n| n.remote_asn).or(peer.neighbor.remote_asn).unwrap_or(0),
            router_id: negotiated.map_or(Ipv4Addr::UNSPECIFIED, |n| n.remote_id),
            local_address: local.or(peer.neighbor.local_address).unwrap_or(unspecified),
            local_asn: peer.neighbor.local_asn.unwrap_or(self.config.asn),
            four_octet: negotiated.is_none_or(|n| n.four_octet),
            add_path: negotiated.map(|n| n.add_path_receive.clone()).unwrap_or_default(),
            families: negotiated.map(|n| n.families.clone()).unwrap_or_default(),
            extended: negotiated.is_some_and(|n| n.extended_receive),
            conn,
            ports: OnceLock::new(),
            at: SystemTime::now(),
            sent_open: words.map(|w| w.sent_open.clone()).unwrap_or_default(),
            received_open: words.map(|w| w.received_open.clone()).unwrap_or_default(),
        }
    }
}

/// The bodies of UPDATEs that withdraw a neighbour's stale paths.
fn stale<P: Prefix>(rib: &Rib<P>, id: SourceId, add_path: bool) -> Vec<Vec<u8>> {
    // With the greatest prefixes there is room for the other fields.
    const ROOM: usize = MAX - HEADER - 32;
    let mut fields = vec![Vec::new()];
    for (_, prefix, paths) in rib.table.iter() {
        for path in paths.iter().filter(|path| path.source == id && path.state.stale()) {
            if fields.last().is_some_and(|field: &Vec<u8>| field.len() > ROOM) {
                fields.push(Vec::new());
            }
            if let Some(field) = fields.last_mut() {
                prefix::write(field, add_path.then_some(path.received_id), prefix);
            }
        }
    }
    fields.iter().filter(|field| !field.is_empty()).map(|field| withdrawal(P::FAMILY, field)).collect()
}

/// The body of an UPDATE that withdraws a field of prefixes.
fn withdrawal(family: Family, field: &[u8]) -> Vec<u8> {
    let length = |n: usize| u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes();
    match family {
        Family::Ipv4 => [&length(field.len()), field, &[0, 0]].concat(),
        Family::Ipv6 => {
            let header = [flag::OPTIONAL | flag::EXTENDED_LENGTH, kind::MP_UNREACH_NLRI];
            let [high, low] = family.afi().to_be_bytes();
            let value = [&[high, low, 1], field].concat();
            [&[0, 0], &length(value.len() + 4)[..], &header, &length(value.len()), &value].concat()
        }
    }
}
