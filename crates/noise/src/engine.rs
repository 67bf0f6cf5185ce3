//! All peers' handshakes and timers of one device.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use rand::SeedableRng;
use rand::rngs::StdRng;
use tombolo_net::wireguard::Key;

use crate::activity::Activity;
use crate::clock::Now;
use crate::cookie::Checker;
use crate::handshake::{self, Responder};
use crate::limiter::Limiter;
use crate::message::{CookieReply, Initiation, Message, Response};
use crate::peer::{Identity, Peer, Shared};
use crate::session::Session;

/// Every peer's handshake, cookies and timers. A device keeps it in a mutex; moving packets does not need it.
///
/// Each method may leave [events](Event): poll them until there are none, and then ask for the next timeout.
pub struct Engine {
    epoch: Instant,
    shared: Shared,
    peers: BTreeMap<Key, Peer>,
    limiter: Limiter,
}

/// What the device is to do.
#[derive(Debug, Clone)]
pub enum Event {
    /// Send this to the peer's endpoint.
    Send {
        /// To whom.
        peer: Key,
        /// A handshake message.
        message: Vec<u8>,
    },
    /// Send this to where a message came from.
    Reply {
        /// There.
        to: SocketAddr,
        /// A handshake response or a cookie reply.
        message: Vec<u8>,
    },
    /// The peer's endpoint is there now: an authentic handshake message came from it.
    Roamed {
        /// Whose.
        peer: Key,
        /// Where.
        to: SocketAddr,
    },
    /// From now on messages with the session's local index are to be opened with it.
    Established {
        /// Whose.
        peer: Key,
        /// With which.
        session: Arc<Session>,
    },
    /// From now on packets to the peer are to be sealed with this session. If none wait and we are the initiator, an
    /// empty one is to be sent at once, as the responder does not use the session before it received something.
    Sending {
        /// To whom.
        peer: Key,
        /// With which.
        session: Arc<Session>,
    },
    /// Send an empty data message with the session in use.
    Keepalive {
        /// To whom.
        peer: Key,
    },
    /// The session ended: nothing is to be opened nor, if it was the one in use, sealed with it any more.
    Expired {
        /// Whose.
        peer: Key,
        /// Its local index.
        local_index: u32,
    },
    /// Nobody answered for 90 s: what waits is to be dropped.
    GaveUp {
        /// To whom.
        peer: Key,
    },
}

/// Why a handshake message was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Type or length is wrong, or it is a data message.
    #[error("it is not a handshake message")]
    Malformed,
    /// The device has no private key.
    #[error("the device has no private key yet")]
    NoIdentity,
    /// Written for somebody else.
    #[error("its mac1 is wrong: it was written for another public key")]
    Mac1,
    /// The device is under load; a cookie was sent.
    #[error("the device is under load; its sender was sent a cookie")]
    UnderLoad,
    /// The device is under load and the source asks too much.
    #[error("the device is under load, and its source asks too often")]
    RateLimited,
    /// No handshake of ours waits for it.
    #[error("no handshake that is under way has its receiver's index")]
    UnknownIndex,
    /// The keys do not fit.
    #[error("it can't be opened with our key, the peer's and the pre-shared one")]
    Handshake,
    /// From a public key that is no peer's.
    #[error("its sender's public key is no peer's")]
    UnknownPeer,
    /// An initiation that is no newer than one before.
    #[error("its timestamp is not newer than the last one's: it is a repetition")]
    Replayed,
    /// More than 50 initiations a second.
    #[error("its sender sends more than 50 initiations a second")]
    TooOften,
    /// A cookie that can't be opened, or that nobody asked for.
    #[error("it is not a cookie for our last handshake message")]
    Cookie,
}

impl Engine {
    /// An engine without a key and without peers, with randomness from the operating system.
    pub fn new(now: Now) -> Self {
        Self::with(StdRng::from_os_rng(), now)
    }

    /// An engine whose "random" choices follow from a number: for tests only.
    pub fn seeded(seed: u64, now: Now) -> Self {
        Self::with(StdRng::seed_from_u64(seed), now)
    }

    fn with(rng: StdRng, now: Now) -> Self {
        let shared = Shared { identity: None, rng, indices: HashMap::new(), events: VecDeque::new() };
        Self { epoch: now.instant, shared, peers: BTreeMap::new(), limiter: Limiter::default() }
    }

    /// Makes the device another one. Its sessions end, and peers with a persistent keepalive are greeted anew.
    pub fn set_private_key(&mut self, key: Option<Key>, now: Now) {
        let key = key.filter(|key| !key.is_zero());
        if key == self.shared.identity.as_ref().map(|identity| identity.private) {
            return;
        }
        self.peers.values_mut().for_each(|peer| peer.forget(&mut self.shared));
        self.shared.identity = key.map(|private| {
            let public = handshake::public(&private);
            Identity { private, public, checker: Checker::new(&public) }
        });
        if key.is_some() {
            self.peers.values_mut().for_each(|peer| peer.keep_in_touch(&mut self.shared, now));
        }
    }

    /// Adds a peer, or changes the one that is there. With a persistent keepalive it is greeted at once.
    pub fn add_peer(
        &mut self,
        key: Key,
        preshared: Option<Key>,
        persistent_keepalive: Option<u16>,
        now: Now,
    ) -> Arc<Activity> {
        let peer = self.peers.entry(key).or_insert_with(|| Peer::new(key, self.epoch, &mut self.shared));
        peer.set_preshared_key(preshared);
        peer.set_persistent_keepalive(persistent_keepalive, &mut self.shared, now);
        peer.activity()
    }

    /// Removes a peer; its sessions end. Events that wait already may still name it.
    pub fn remove_peer(&mut self, key: &Key) {
        if let Some(mut peer) = self.peers.remove(key) {
            peer.forget(&mut self.shared);
        }
    }

    /// Sets or removes the key that is mixed into the next handshake; sessions go on.
    pub fn set_preshared_key(&mut self, peer: &Key, preshared: Option<Key>) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.set_preshared_key(preshared);
        }
    }

    /// Sets the seconds of silence after which a keepalive is sent; none and 0 end it. If there was none, one is sent
    /// at once.
    pub fn set_persistent_keepalive(&mut self, peer: &Key, seconds: Option<u16>, now: Now) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.set_persistent_keepalive(seconds, &mut self.shared, now);
        }
    }

    /// Data waits for a session, or a session wants to be replaced: begins a handshake unless one is under way. The
    /// 90 s after which we give up begin anew.
    ///
    /// Within 5 s of our answer to the peer's own initiation, ours waits until it is clear that nothing came of it.
    pub fn initiate(&mut self, peer: &Key, now: Now) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.initiate(&mut self.shared, now);
        }
    }

    /// Takes a message of type 1, 2 or 3 from the network. A device that is `under_load` answers whoever has no
    /// cookie with one. What is refused changes nothing.
    pub fn receive(&mut self, message: &[u8], from: SocketAddr, under_load: bool, now: Now) -> Result<(), Refused> {
        match Message::parse(message).ok_or(Refused::Malformed)? {
            Message::Initiation(initiation) => {
                self.check(message, initiation.sender(), from, under_load, now)?;
                self.receive_initiation(initiation, from, now)
            }
            Message::Response(response) => {
                self.check(message, response.sender(), from, under_load, now)?;
                self.receive_response(response, from, now)
            }
            Message::CookieReply(reply) => self.receive_cookie(reply, now),
        }
    }

    /// The first authentic message came over a session that we are the responder of.
    pub fn confirm(&mut self, session: &Session, now: Now) {
        if let Some(peer) = self.peers.get_mut(&session.peer()) {
            peer.confirm(session, &mut self.shared, now);
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now) {
        self.peers.values_mut().for_each(|peer| peer.handle_timeout(&mut self.shared, now));
    }

    /// When [`Self::handle_timeout`] is to be called next, as far as is known: never before `now`. `None` says that
    /// nothing is due. Messages sent and received can make something due that was not, in 10 s or after the persistent
    /// keepalive's interval: while there is traffic, ask again every second.
    pub fn next_timeout(&self, now: Instant) -> Option<Instant> {
        self.peers.values().filter_map(Peer::next_timeout).min().map(|at| at.max(now))
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Event> {
        self.shared.events.pop_front()
    }

    /// When the last session came up. It stays when the session has gone.
    pub fn last_handshake(&self, peer: &Key) -> Option<SystemTime> {
        self.peers.get(peer)?.last_handshake()
    }

    /// Both codes of an initiation or a response.
    fn check(
        &mut self,
        message: &[u8],
        sender: u32,
        from: SocketAddr,
        under_load: bool,
        now: Now,
    ) -> Result<(), Refused> {
        let Shared { identity, rng, events, .. } = &mut self.shared;
        let checker = &mut identity.as_mut().ok_or(Refused::NoIdentity)?.checker;
        if !checker.mac1_is_right(message) {
            return Err(Refused::Mac1);
        }
        if !under_load {
            return Ok(());
        }
        if !checker.mac2_is_right(message, from, rng, now.instant) {
            if let Some(reply) = checker.reply(message, sender, from, rng, now.instant) {
                events.push_back(Event::Reply { to: from, message: reply.to_vec() });
            }
            return Err(Refused::UnderLoad);
        }
        if !self.limiter.allow(from.ip(), now.instant) {
            return Err(Refused::RateLimited);
        }
        Ok(())
    }

    fn receive_initiation(&mut self, initiation: Initiation<'_>, from: SocketAddr, now: Now) -> Result<(), Refused> {
        let identity = self.shared.identity.as_ref().ok_or(Refused::NoIdentity)?;
        let read = Responder::new(&identity.private, initiation, &mut self.shared.rng);
        let read = read.map_err(|_| Refused::Handshake)?;
        let peer = self.peers.get_mut(&read.peer).ok_or(Refused::UnknownPeer)?;
        peer.respond(read, initiation.sender(), from, &mut self.shared, now)
    }

    fn receive_response(&mut self, response: Response<'_>, from: SocketAddr, now: Now) -> Result<(), Refused> {
        let key = self.shared.indices.get(&response.receiver()).ok_or(Refused::UnknownIndex)?;
        let peer = self.peers.get_mut(key).ok_or(Refused::UnknownIndex)?;
        peer.finish(response, from, &mut self.shared, now)
    }

    fn receive_cookie(&mut self, reply: CookieReply<'_>, now: Now) -> Result<(), Refused> {
        let key = self.shared.indices.get(&reply.receiver()).ok_or(Refused::UnknownIndex)?;
        self.peers.get_mut(key).ok_or(Refused::UnknownIndex)?.take_cookie(reply, now)
    }
}
