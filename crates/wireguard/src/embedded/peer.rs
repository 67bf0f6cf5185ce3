//! A peer as the threads that carry its traffic see it, and the tables by which they find it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use tombolo_net::wireguard::Key;
use tombolo_noise::{Activity, Session};
use tombolo_offload::VirtioHeader;

use super::pipeline::lock;
use super::sys::udp::Endpoint;

/// How many packets wait for a session, as in the kernel.
const MAX_WAITING: usize = 128;

/// How often, in milliseconds, the traffic of a peer asks for a handshake: the engine has its own limit above that.
const ASK_EVERY: u64 = 100;

/// A peer. What is behind locks changes with handshakes and roaming, not with packets.
pub(super) struct Peer {
    pub(super) key: Key,
    pub(super) activity: Arc<Activity>,
    endpoint: RwLock<Option<Endpoint>>,
    sending: RwLock<Option<Arc<Session>>>,
    waiting: Mutex<VecDeque<Waiting>>,
    /// Bytes of messages sent and received, as `wg` shows them.
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    asked: AtomicU64,
}

/// A packet that was read before there was a session to send it with.
pub(super) struct Waiting {
    pub(super) header: VirtioHeader,
    pub(super) packet: Vec<u8>,
}

impl Peer {
    pub(super) fn new(key: Key, activity: Arc<Activity>) -> Self {
        Self {
            key,
            activity,
            endpoint: RwLock::default(),
            sending: RwLock::default(),
            waiting: Mutex::default(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            asked: AtomicU64::new(0),
        }
    }

    pub(super) fn endpoint(&self) -> Option<Endpoint> {
        *read(&self.endpoint)
    }

    /// Where it is from now on.
    pub(super) fn roam(&self, endpoint: Endpoint) {
        if self.endpoint() != Some(endpoint) {
            *write(&self.endpoint) = Some(endpoint);
        }
    }

    /// The session to send with, if there is one that is good.
    pub(super) fn session(&self, now: Instant) -> Option<Arc<Session>> {
        read(&self.sending).as_ref().filter(|session| session.may_send(now)).cloned()
    }

    /// Packets are sent with this session from now on; those that wait go first, by `send`.
    pub(super) fn start(&self, session: &Arc<Session>, send: impl FnOnce(&mut VecDeque<Waiting>)) {
        let mut waiting = lock(&self.waiting);
        send(&mut waiting);
        waiting.clear();
        *write(&self.sending) = Some(Arc::clone(session));
    }

    /// This session is not good any more.
    pub(super) fn end(&self, local_index: u32) {
        let mut sending = write(&self.sending);
        if sending.as_ref().is_some_and(|session| session.local_index() == local_index) {
            *sending = None;
        }
    }

    /// Keeps a packet until there is a session; gives the session if there has come one just now. The oldest goes where
    /// there are too many.
    pub(super) fn wait(&self, header: VirtioHeader, packet: &[u8], now: Instant) -> Option<Arc<Session>> {
        let mut waiting = lock(&self.waiting);
        // Under the lock: `start` sends what waits before anybody sees its session.
        if let Some(session) = self.session(now) {
            return Some(session);
        }
        if waiting.len() >= MAX_WAITING {
            waiting.pop_front();
        }
        waiting.push_back(Waiting { header, packet: packet.to_vec() });
        None
    }

    /// Nothing waits any more.
    pub(super) fn give_up(&self) {
        lock(&self.waiting).clear();
    }

    /// Whether it is time to ask for a handshake (again); `millis` since the device was made.
    pub(super) fn may_ask(&self, millis: u64) -> bool {
        let asked = self.asked.load(Ordering::Relaxed);
        let is_time = asked == 0 || millis.saturating_sub(asked) >= ASK_EVERY;
        is_time && self.asked.compare_exchange(asked, millis.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// A session that is received with.
#[derive(Clone)]
pub(super) struct Receiving {
    pub(super) session: Arc<Session>,
    pub(super) peer: Arc<Peer>,
}

/// How peers are found: by key, by session, by address.
#[derive(Default)]
pub(super) struct Table {
    pub(super) peers: BTreeMap<Key, Arc<Peer>>,
    pub(super) sessions: HashMap<u32, Receiving>,
    v4: PrefixMap<Ipv4Net, Arc<Peer>>,
    v6: PrefixMap<Ipv6Net, Arc<Peer>>,
}

impl Table {
    /// The peer of the longest allowed IP around the address.
    pub(super) fn route(&self, ip: IpAddr) -> Option<&Arc<Peer>> {
        match ip {
            IpAddr::V4(ip) => self.v4.get_lpm(&Ipv4Net::from(ip)).map(|(_, peer)| peer),
            IpAddr::V6(ip) => self.v6.get_lpm(&Ipv6Net::from(ip)).map(|(_, peer)| peer),
        }
    }

    /// Replaces all allowed IPs.
    pub(super) fn set_routes<'a>(&mut self, routes: impl Iterator<Item = (&'a IpNet, &'a Key)>) {
        (self.v4, self.v6) = Default::default();
        for (net, key) in routes {
            let Some(peer) = self.peers.get(key).cloned() else { continue };
            match net {
                IpNet::V4(net) => self.v4.insert(*net, peer),
                IpNet::V6(net) => self.v6.insert(*net, peer),
            };
        }
    }
}

/// Read access; see [`lock`] for why a panic elsewhere does not matter.
pub(super) fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

/// Write access.
pub(super) fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tombolo_noise::Engine;

    use super::*;

    fn peer(byte: u8) -> Arc<Peer> {
        let (key, now) = (Key([byte; 32]), super::super::shared::now());
        Arc::new(Peer::new(key, Engine::new(now).add_peer(key, None, None, now)))
    }

    #[test]
    fn the_longest_allowed_ip_has_the_packet() {
        let peers = [1, 2].map(|byte| (Key([byte; 32]), peer(byte))).into();
        let mut table = Table { peers, ..Table::default() };
        let nets: Vec<(IpNet, Key)> = [("0.0.0.0/0", 1), ("10.0.0.0/8", 2), ("fd00::/8", 1), ("fd00::7/128", 2)]
            .map(|(net, byte)| (net.parse().unwrap(), Key([byte; 32])))
            .into();
        table.set_routes(nets.iter().map(|(net, key)| (net, key)));
        let owner = |ip: &str| table.route(ip.parse().unwrap()).map(|peer| peer.key.0[0]);
        let owners = ["192.0.2.1", "10.1.1.1", "fd00::1", "fd00::7", "2001:db8::1"].map(owner);
        assert_eq!(owners, [Some(1), Some(2), Some(1), Some(2), None]);
    }

    #[test]
    fn the_oldest_packet_goes_where_too_many_wait() {
        let (peer, now) = (peer(1), Instant::now());
        for number in 0..=MAX_WAITING {
            assert!(peer.wait(VirtioHeader::NONE, &[number as u8], now).is_none());
        }
        let waiting = lock(&peer.waiting);
        assert_eq!((waiting.len(), &waiting[0].packet[..]), (MAX_WAITING, &[1][..]));
    }

    #[test]
    fn a_handshake_is_asked_for_now_and_then() {
        let peer = peer(1);
        let asked = [0, 1, 50, ASK_EVERY, ASK_EVERY + 1, 3 * ASK_EVERY].map(|millis| peer.may_ask(millis));
        assert_eq!(asked, [true, false, false, false, true, true]);
    }
}
