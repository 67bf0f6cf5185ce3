//! The speaker without its sockets: sessions, tables and what goes between them.
//!
//! A [`Router`] is handed connections, bytes and time, and keeps bytes to be sent ([`Router::queue`]) and things to be
//! done ([`Router::take_actions`]). What neighbours announce goes into the tables at once; what has changed there goes
//! out at the next [`Router::flush`], so that whoever runs the router decides how much is told at a time.

pub mod dump;
mod export;
mod import;
mod neighbors;
mod originate;
mod peer;
mod restart;
pub mod show;
pub mod tap;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::config::{Config, Neighbor, Origin, Password, Ttl};
use crate::export::{Group, Queue};
use crate::prefix::{Prefix, V4, V6};
use crate::rib::{LOCAL, Slot, Source, SourceId, Store, Table};
use crate::session::{Action as SessionAction, ConnId, Direction, Local, Reason, Session};
use crate::update::attributes::Reader;
use crate::wire::{self, Kind, Notification};
use peer::Peer;

/// Something to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Connect to a neighbour, and tell how it went ([`Router::connected`], [`Router::connect_failed`]).
    Connect(Connect),
    /// Close a connection once its queue was sent.
    Close(ConnId),
    /// A session is established.
    Up {
        /// With whom.
        peer: IpAddr,
        /// Its AS.
        asn: u32,
        /// Its BGP identifier.
        router_id: std::net::Ipv4Addr,
    },
    /// A session is no longer.
    Down {
        /// With whom.
        peer: IpAddr,
        /// Why, in words.
        why: String,
    },
}

/// How to connect to a neighbour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Which.
    pub peer: SourceId,
    /// Where to.
    pub remote: SocketAddr,
    /// From which address.
    pub local: Option<IpAddr>,
    /// How far it may be.
    pub ttl: Ttl,
    /// Whether it is in another AS, as far as is known.
    pub external: bool,
    /// Its TCP MD5 key.
    pub password: Option<Password>,
}

/// A change of the routes that packets are to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteChange {
    /// To where.
    pub net: IpNet,
    /// Over which next hops; none: the route is gone.
    pub next_hops: Vec<IpAddr>,
}

/// The tables of a family, and who is told of it.
#[derive(Debug)]
struct Rib<P: Prefix> {
    table: Table<P>,
    groups: Vec<Option<Group<P>>>,
    /// Slots without paths that somebody may still have to be told of.
    leaving: std::collections::VecDeque<(u64, Slot)>,
}

impl<P: Prefix> Default for Rib<P> {
    fn default() -> Self {
        Self { table: Table::default(), groups: Vec::new(), leaving: std::collections::VecDeque::new() }
    }
}

#[derive(Debug)]
struct Connection {
    peer: SourceId,
    local: IpAddr,
    queue: Queue,
    closing: bool,
    ready: bool,
}

/// While this speaker restarts, nothing is told: what it would tell is not all that it knew (RFC 4724, section 4.1).
#[derive(Debug)]
struct Deferral {
    /// Until when at most.
    until: Instant,
    /// Until when neighbours are waited for with whom there is no session.
    patience: Instant,
    /// Whose End-of-RIB is waited for.
    waiting: BTreeSet<IpAddr>,
}

/// A BGP speaker without I/O.
#[derive(Debug)]
pub struct Router {
    config: Config,
    /// Whether routes are handed out ([`Router::take_routes`]).
    installs: bool,
    store: Store,
    sources: Vec<Source>,
    peers: Vec<Option<Peer>>,
    by_address: BTreeMap<IpAddr, SourceId>,
    unused_ids: Vec<SourceId>,
    connections: Vec<Option<Connection>>,
    unused_connections: Vec<u32>,
    ready: Vec<ConnId>,
    v4: Rib<V4>,
    v6: Rib<V6>,
    reader: Reader,
    epoch: u64,
    deferral: Option<Deferral>,
    actions: Vec<Action>,
    routes: Vec<RouteChange>,
    seed: u64,
    /// What is noted for those who watch.
    tap: Option<Box<tap::Tap>>,
}

/// Runs `$body` with the tables of a family.
macro_rules! of_family {
    ($router:expr, $family:expr, $rib:ident => $body:expr) => {
        match $family {
            $crate::Family::Ipv4 => {
                let $rib = &mut $router.v4;
                $body
            }
            $crate::Family::Ipv6 => {
                let $rib = &mut $router.v6;
                $body
            }
        }
    };
}
use of_family;

impl Router {
    /// Begins. With `installs` it hands out the routes that packets are to take; a mere reflector does not. `seed` makes
    /// the jitter of timers.
    pub fn new(config: Config, installs: bool, seed: u64, now: Instant) -> Self {
        let own = Source {
            origin: Origin::Local,
            client: false,
            router_id: config.router_id,
            address: IpAddr::V4(config.router_id),
        };
        let restarting = config.graceful_restart.as_ref().filter(|g| g.restarting);
        let deferral = restarting.map(|graceful| Deferral {
            until: now + graceful.deferral_time,
            patience: now + PATIENCE,
            waiting: config.neighbors.keys().chain(&graceful.returning).copied().collect(),
        });
        let empty =
            Config { neighbors: BTreeMap::new(), routes: BTreeMap::new(), ranges: Vec::new(), ..config.clone() };
        let mut router = Self {
            config: empty,
            installs,
            store: Store::default(),
            sources: vec![own],
            peers: vec![None],
            by_address: BTreeMap::new(),
            unused_ids: Vec::new(),
            connections: Vec::new(),
            unused_connections: Vec::new(),
            ready: Vec::new(),
            v4: Rib::default(),
            v6: Rib::default(),
            reader: Reader::default(),
            epoch: 1,
            deferral,
            actions: Vec::new(),
            routes: Vec::new(),
            seed,
            tap: None,
        };
        router.configure(now, config);
        router
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Makes `config` the configuration. Sessions that it does not concern stay up.
    pub fn configure(&mut self, now: Instant, config: Config) {
        let before = std::mem::replace(&mut self.config, config);
        self.sources[LOCAL as usize].router_id = self.config.router_id;
        let gone: Vec<SourceId> =
            self.peers().filter(|p| self.neighbor_of(p.address).is_none()).map(|p| p.id).collect();
        for id in gone {
            self.remove_peer(now, id, Notification::cease(wire::notification::cease::DECONFIGURED));
        }
        let whole = before.asn != self.config.asn
            || before.router_id != self.config.router_id
            || before.graceful_restart.as_ref().map(not_restarting)
                != self.config.graceful_restart.as_ref().map(not_restarting);
        let neighbors = self.config.neighbors.clone();
        for (address, neighbor) in &neighbors {
            match self.by_address.get(address) {
                None => self.add_peer(now, *address, neighbor.clone(), false),
                Some(&id) => self.change_peer(now, id, neighbor, whole),
            }
        }
        let dynamic: Vec<(SourceId, IpAddr)> = self.peers().filter(|p| p.dynamic).map(|p| (p.id, p.address)).collect();
        for (id, address) in dynamic {
            if let Some(neighbor) = self.range_of(address).map(|r| r.neighbor.clone()) {
                self.change_peer(now, id, &neighbor, whole);
            }
        }
        self.originate(&before.routes);
        if before.multipath != self.config.multipath {
            self.touch_all();
        }
        if before.cluster_id != self.config.cluster_id || before.addresses != self.config.addresses {
            let up: Vec<SourceId> = self.peers().filter(|p| p.up.is_some()).map(|p| p.id).collect();
            up.into_iter().for_each(|id| self.regroup(id, before.cluster_id != self.config.cluster_id));
        }
    }

    /// Somebody connects. Whoever is no neighbour is told so by nothing but the connection's end.
    ///
    /// # Errors
    /// Why it is not taken, in words.
    pub fn accept(&mut self, now: Instant, remote: SocketAddr, local: IpAddr) -> Result<ConnId, String> {
        let address = remote.ip();
        if !self.by_address.contains_key(&address) {
            let Some(range) = self.range_of(address) else {
                return Err(format!("{address} is no neighbour; add it to the neighbours, or a range that has it"));
            };
            let (limit, prefix) = (range.limit, range.prefix);
            let there = self.peers().filter(|p| p.dynamic && prefix.contains(&p.address)).count();
            if there >= limit {
                return Err(format!("{prefix} has its {limit} neighbours; {address} is one too many"));
            }
            let neighbor = Neighbor { passive: true, ..range.neighbor.clone() };
            self.add_peer(now, address, neighbor, true);
        }
        let id = self.by_address[&address];
        if self.peer(id).and_then(|p| p.held_down).is_some() {
            return Err(format!("{address} announced too many prefixes and has to wait"));
        }
        let conn = self.add_connection(id, local);
        self.drive(now, id, |session, out| session.connected(now, conn, Direction::Incoming, out));
        Ok(conn)
    }

    /// A [`Connect`] to `remote` succeeded. Nothing if that is no longer the neighbour.
    pub fn connected(&mut self, now: Instant, id: SourceId, remote: IpAddr, local: IpAddr) -> Option<ConnId> {
        self.peer(id).filter(|peer| peer.address == remote)?;
        let conn = self.add_connection(id, local);
        self.drive(now, id, |session, out| session.connected(now, conn, Direction::Outgoing, out));
        Some(conn)
    }

    /// A [`Connect`] failed.
    pub fn connect_failed(&mut self, now: Instant, id: SourceId, why: String) {
        self.drive(now, id, |session, out| session.connect_failed(now, why, out));
    }

    /// A connection ended.
    pub fn closed(&mut self, now: Instant, conn: ConnId, why: String) {
        let Some(connection) = self.connections.get_mut(conn.0 as usize).and_then(Option::take) else { return };
        self.unused_connections.push(conn.0);
        if let Some(tap) = &mut self.tap {
            tap.closed(conn);
        }
        if !connection.closing {
            self.drive(now, connection.peer, |session, out| session.closed(now, conn, why, out));
        }
        self.drop_if_idle(now, connection.peer);
    }

    /// Bytes came. Returns how many of them were whole messages; the rest is to be handed over again, with what follows.
    pub fn receive(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) -> usize {
        let mut used = 0;
        loop {
            let Some(connection) = self.connections.get(conn.0 as usize).and_then(Option::as_ref) else {
                return bytes.len();
            };
            if connection.closing {
                return bytes.len();
            }
            let id = connection.peer;
            let Some(peer) = self.peers[id as usize].as_mut() else { return bytes.len() };
            let extended = peer.up.as_ref().is_some_and(|up| up.conn == conn && up.negotiated.extended_receive);
            match wire::next(&bytes[used..], extended) {
                Ok(None) => return used,
                Ok(Some(message)) => {
                    used += message.len;
                    if message.kind == Kind::Update {
                        if let Some(tap) = &mut self.tap {
                            tap.update(id, conn, message.body);
                        }
                        self.update(now, id, conn, message.body);
                    } else {
                        if let Some(tap) = &mut self.tap {
                            tap.message(conn, message.kind, message.body);
                        }
                        self.drive(now, id, |session, out| session.message(now, conn, message.kind, message.body, out));
                    }
                }
                Err(notification) => {
                    self.drive(now, id, |session, out| session.fail(now, conn, notification, out));
                    return bytes.len();
                }
            }
        }
    }

    /// Time passed.
    pub fn tick(&mut self, now: Instant) {
        let ids: Vec<SourceId> = self.peers().map(|p| p.id).collect();
        for id in ids {
            self.drive(now, id, |session, out| session.tick(now, out));
            self.tick_restart(now, id);
            self.tick_held_down(now, id);
        }
        self.tick_deferral(now);
        self.tidy();
    }

    /// When [`Router::tick`] is due.
    pub fn deadline(&self) -> Option<Instant> {
        let of_peers = self.peers().flat_map(|p| {
            [p.session.deadline(), p.restart.as_ref().map(|r| r.until), p.held_down.flatten()].into_iter().flatten()
        });
        of_peers.chain(self.deferral.as_ref().map(|d| d.until.min(d.patience))).min()
    }

    /// The path to a neighbour is down, says BFD.
    pub fn path_down(&mut self, now: Instant, address: IpAddr) {
        let Some(&id) = self.by_address.get(&address) else { return };
        let Some(conn) = self.peer(id).and_then(|p| p.up.as_ref()).map(|up| up.conn) else { return };
        let notification = Notification::cease(wire::notification::cease::BFD_DOWN);
        self.drive(now, id, |session, out| session.fail(now, conn, notification, out));
    }

    /// A person wants the session to begin anew.
    ///
    /// # Errors
    /// There is no such neighbour.
    pub fn reset(&mut self, now: Instant, address: IpAddr) -> Result<(), String> {
        let id = *self.by_address.get(&address).ok_or_else(|| format!("there is no neighbour {address}"))?;
        if let Some(peer) = self.peers[id as usize].as_mut() {
            peer.held_down = None;
        }
        self.drive(now, id, |session, out| session.stop(now, Some("reset by hand".to_owned()), out));
        self.drive(now, id, |session, out| session.start(now, out));
        Ok(())
    }

    /// Ends all sessions, with words. With graceful restart the neighbours keep the routes if `keeps`: the connections
    /// are just closed then (RFC 4724, section 4).
    pub fn shut_down(&mut self, now: Instant, words: &str, keeps: bool) {
        if keeps && self.config.graceful_restart.is_some() {
            for connection in self.connections.iter_mut().flatten() {
                connection.queue.clear();
                // Nothing is to be said of it any more, neither to the neighbour nor here.
                connection.closing = true;
            }
            let all = (0..).zip(&self.connections).filter(|(_, c)| c.is_some()).map(|(i, _)| Action::Close(ConnId(i)));
            self.actions.extend(all.collect::<Vec<_>>());
            return;
        }
        let ids: Vec<SourceId> = self.peers().map(|p| p.id).collect();
        for id in ids {
            self.drive(now, id, |session, out| session.stop(now, Some(words.to_owned()), out));
        }
    }

    /// What is to be done.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// What has changed of the routes that packets are to take.
    pub fn take_routes(&mut self) -> Vec<RouteChange> {
        std::mem::take(&mut self.routes)
    }

    /// Connections that have something to send.
    pub fn take_ready(&mut self) -> Vec<ConnId> {
        let ready = std::mem::take(&mut self.ready);
        for conn in &ready {
            if let Some(connection) = self.connections.get_mut(conn.0 as usize).and_then(Option::as_mut) {
                connection.ready = false;
            }
        }
        ready
    }

    /// What is to be sent on a connection.
    pub fn queue(&mut self, conn: ConnId) -> Option<&mut Queue> {
        self.connections.get_mut(conn.0 as usize)?.as_mut().map(|c| &mut c.queue)
    }

    /// How far away a neighbour may be, and whether it is in another AS, as far as is known.
    pub fn distance(&self, address: IpAddr) -> Option<(Ttl, bool)> {
        let peer = self.peer(*self.by_address.get(&address)?)?;
        Some((peer.neighbor.ttl, self.is_external(&peer.neighbor)))
    }

    fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.iter().flatten()
    }

    fn peer(&self, id: SourceId) -> Option<&Peer> {
        self.peers.get(id as usize)?.as_ref()
    }

    fn local(&self) -> Local {
        Local::new(&self.config)
    }

    fn add_connection(&mut self, peer: SourceId, local: IpAddr) -> ConnId {
        let connection = Connection { peer, local, queue: Queue::default(), closing: false, ready: false };
        let at = self.unused_connections.pop().unwrap_or_else(|| {
            self.connections.push(None);
            u32::try_from(self.connections.len() - 1).unwrap_or(u32::MAX)
        });
        self.connections[at as usize] = Some(connection);
        ConnId(at)
    }

    /// Tells a session something, and does what it says.
    fn drive(&mut self, now: Instant, id: SourceId, event: impl FnOnce(&mut Session, &mut Vec<SessionAction>)) {
        let Some(peer) = self.peers.get_mut(id as usize).and_then(Option::as_mut) else { return };
        let mut actions = Vec::new();
        event(&mut peer.session, &mut actions);
        self.tap_state(id);
        for action in actions {
            self.act(now, id, action);
        }
    }

    fn act(&mut self, now: Instant, id: SourceId, action: SessionAction) {
        self.tap_state(id);
        match action {
            SessionAction::Connect => self.connect(id),
            SessionAction::Send(conn, bytes) => self.send(conn, bytes),
            SessionAction::Close(conn) => self.close(conn),
            SessionAction::Up(conn, negotiated) => {
                self.session_up(now, id, conn, negotiated);
                self.tap_up(id);
            }
            SessionAction::Down(down) => {
                self.tap_down(id, &down);
                self.session_down(now, id, &down);
            }
            SessionAction::Failed(reason) => self.say_failure(id, &reason),
            SessionAction::Refresh(refresh) => self.refresh(id, refresh),
        }
    }

    /// Says why a session does not come up: once, and again when it is for another reason.
    fn say_failure(&mut self, id: SourceId, reason: &Reason) {
        let Some(peer) = self.peers[id as usize].as_mut() else { return };
        let words = reason.to_string();
        if peer.last_failure.as_ref() != Some(&words) {
            tracing::warn!(peer = %peer.address, "no BGP session: {words}");
            peer.last_failure = Some(words);
        }
    }

    fn connect(&mut self, id: SourceId) {
        let Some(peer) = self.peer(id) else { return };
        self.actions.push(Action::Connect(Connect {
            peer: id,
            remote: SocketAddr::new(peer.address, peer.neighbor.port),
            local: peer.neighbor.local_address,
            ttl: peer.neighbor.ttl,
            external: self.is_external(&peer.neighbor),
            password: peer.neighbor.password.clone(),
        }));
    }

    fn send(&mut self, conn: ConnId, bytes: Vec<u8>) {
        if let Some(tap) = &mut self.tap {
            tap.sends(conn, &bytes);
        }
        let epoch = self.epoch;
        if let Some(connection) = self.connections.get_mut(conn.0 as usize).and_then(Option::as_mut) {
            connection.queue.push_own(bytes, epoch);
            mark(&mut self.ready, conn, connection);
        }
    }

    fn close(&mut self, conn: ConnId) {
        if let Some(connection) = self.connections.get_mut(conn.0 as usize).and_then(Option::as_mut) {
            connection.closing = true;
            self.actions.push(Action::Close(conn));
        }
    }

    fn touch_all(&mut self) {
        for slot in 0..self.v4.table.slots() {
            self.v4.table.touch(Slot::try_from(slot).unwrap_or(Slot::MAX));
        }
        for slot in 0..self.v6.table.slots() {
            self.v6.table.touch(Slot::try_from(slot).unwrap_or(Slot::MAX));
        }
    }
}

fn mark(ready: &mut Vec<ConnId>, conn: ConnId, connection: &mut Connection) {
    if !std::mem::replace(&mut connection.ready, true) {
        ready.push(conn);
    }
}

/// The start that a graceful restart is, is over soon: it makes no difference to sessions.
fn not_restarting(graceful: &crate::config::GracefulRestart) -> crate::config::GracefulRestart {
    crate::config::GracefulRestart { restarting: false, returning: BTreeSet::new(), ..graceful.clone() }
}

/// How long a restarting speaker waits for neighbours with whom there is no session: whoever is not back by then has no
/// routes to tell.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a warning about a neighbour's messages is not said again.
const QUIET: Duration = Duration::from_secs(60);
