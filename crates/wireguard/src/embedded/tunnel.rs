//! The device as the control socket sees it: made to be what the [`Model`] says.

use std::io::{self, PipeWriter, Write as _};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tombolo_net::wireguard::{DeviceStatus, Peer as PeerConfig, PeerStatus};
use tombolo_noise::{Engine, Now};

use super::model::{Model, Step};
use super::outbox::Outbox;
use super::peer::{Peer, Table, read, write};
use super::pipeline::lock;
use super::shared::{Order, Shared};
use super::sockets::Sockets;
use super::sys::tun::Tun;
use super::sys::udp::Endpoint;
use super::workers::{Team, Worker};
use super::{control, interface};
use crate::uapi::Set;

/// How long the threads may take to let go of sockets: a batch's time.
const LET_GO: Duration = Duration::from_millis(100);

/// The most threads that carry traffic. The other half of the cores is for those whose traffic it is.
const MAX_WORKERS: usize = 8;

/// A device and its threads. Without a private key it has its peers, and neither a UDP socket nor traffic.
pub(super) struct Tunnel {
    shared: Arc<Shared>,
    model: Model,
    listen_port: u16,
    fwmark: u32,
    outbox: Outbox,
    threads: Vec<JoinHandle<()>>,
    /// A byte tells the threads that something has changed.
    notices: PipeWriter,
}

impl Tunnel {
    /// A device without key and peers on the interface.
    pub(super) fn new(tun: Tun, mtu: u16, fwmark: Option<u32>, threads: Option<usize>) -> io::Result<Self> {
        let (orders, ordered) = mpsc::channel();
        let shared = Arc::new(Shared::new(tun, usize::from(mtu), orders));
        let (notices, notify) = io::pipe()?;
        let half = || std::thread::available_parallelism().map_or(1, usize::from).div_ceil(2);
        let workers = threads.unwrap_or_else(half).clamp(1, MAX_WORKERS);
        let mut threads = vec![spawn("wg-control", {
            let shared = Arc::clone(&shared);
            move || control::run(&shared, &ordered)
        })?];
        let team = Arc::new(Team::new(notices, workers));
        for _ in 0..workers {
            let worker = Worker::new(Arc::clone(&shared), Arc::clone(&team));
            threads.push(spawn("wg-traffic", move || worker.run())?);
        }
        Ok(Self {
            shared,
            model: Model::default(),
            listen_port: 0,
            fwmark: fwmark.unwrap_or(0),
            outbox: Outbox::new(),
            threads,
            notices: notify,
        })
    }

    /// What the device is.
    pub(super) fn status(&self) -> DeviceStatus {
        let engine = lock(&self.shared.engine);
        let table = read(&self.shared.table);
        let peers = self.model.peers.iter().filter_map(|(key, model)| {
            let peer = table.peers.get(key)?;
            Some(PeerStatus {
                peer: PeerConfig {
                    public_key: *key,
                    preshared_key: model.preshared_key,
                    endpoint: peer.endpoint().map(|endpoint| endpoint.to),
                    persistent_keepalive: model.persistent_keepalive,
                    allowed_ips: model.allowed_ips.iter().copied().collect(),
                },
                last_handshake: engine.last_handshake(key),
                rx_bytes: peer.received.load(Ordering::Relaxed),
                tx_bytes: peer.sent.load(Ordering::Relaxed),
            })
        });
        DeviceStatus {
            private_key: self.model.private_key,
            listen_port: self.listen_port,
            fwmark: self.fwmark,
            peers: peers.collect(),
        }
    }

    /// Does what the request says.
    ///
    /// # Errors
    /// The number that the client gets. If the new port can't be had (`EADDRINUSE`), nothing has changed.
    pub(super) fn set(&mut self, set: &Set) -> Result<(), Errno> {
        let (after, steps) = self.model.plan(set);
        let fwmark = set.fwmark.unwrap_or(self.fwmark);
        self.listen(after.private_key.is_some(), set.listen_port, fwmark).map_err(|error| {
            tracing::warn!(%error, "a change failed: nothing has changed");
            error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
        })?;
        let before = std::mem::replace(&mut self.model, after);
        let (shared, model) = (Arc::clone(&self.shared), &self.model);
        shared.drive(&mut self.outbox, None, |engine, now| {
            if before.private_key != model.private_key {
                engine.set_private_key(model.private_key, now);
            }
            let mut table = write(&shared.table);
            for step in steps {
                make(engine, &mut table, step, now);
            }
            let routes = model.peers.iter();
            table.set_routes(routes.flat_map(|(key, peer)| peer.allowed_ips.iter().map(move |net| (net, key))));
        });
        // The thread for handshakes may have slept without an end.
        shared.order(Order::Look);
        Ok(())
    }

    /// The interface's MTU has changed.
    pub(super) fn set_mtu(&self, index: u32, mtu: u32) {
        if self.shared.mtu.swap(mtu as usize, Ordering::Relaxed) != mtu as usize {
            interface::fit_joined(index, mtu as usize);
        }
    }

    /// Ends the device; the interface goes with it.
    pub(super) fn stop(mut self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        self.use_sockets(None);
        self.shared.order(Order::Look);
        for thread in self.threads {
            let _ = thread.join();
        }
    }

    /// Has sockets, with the port and the mark, or none. What can fail is done first.
    fn listen(&mut self, wanted: bool, port: Option<u16>, fwmark: u32) -> io::Result<()> {
        let present = self.shared.sockets();
        let is_as_wanted = |sockets: &Sockets| port.is_none_or(|port| port == sockets.port());
        match present.filter(|sockets| is_as_wanted(sockets)) {
            Some(sockets) if wanted => sockets.set_fwmark(fwmark)?,
            _ if wanted => self.open(port.unwrap_or(self.listen_port), fwmark)?,
            _ => {
                self.use_sockets(None);
                self.listen_port = port.unwrap_or(self.listen_port);
            }
        }
        self.fwmark = fwmark;
        Ok(())
    }

    fn open(&mut self, port: u16, fwmark: u32) -> io::Result<()> {
        let sockets = Sockets::open(port, fwmark)?;
        self.listen_port = sockets.port();
        self.use_sockets(Some(Arc::new(sockets)));
        Ok(())
    }

    /// Has these sockets from now on. The port of those before is free when this returns, or soon.
    fn use_sockets(&mut self, sockets: Option<Arc<Sockets>>) {
        let before = self.shared.sockets();
        self.shared.set_sockets(sockets);
        self.notify();
        let deadline = Instant::now() + LET_GO;
        while before.as_ref().is_some_and(|before| Arc::strong_count(before) > 1) && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }

    /// The threads look at the sockets anew, and whether to stop.
    fn notify(&mut self) {
        if let Err(error) = self.notices.write_all(&[0]) {
            tracing::error!(%error, "the device's threads can't be told of a change");
        }
    }
}

fn make(engine: &mut Engine, table: &mut Table, step: Step, now: Now) {
    let at = |to| Endpoint { to, from: None };
    match step {
        Step::Remove(key) => {
            engine.remove_peer(&key);
            table.peers.remove(&key);
            table.sessions.retain(|_, receiving| receiving.peer.key != key);
        }
        Step::Add(key, model, endpoint) => {
            let activity = engine.add_peer(key, model.preshared_key, model.persistent_keepalive, now);
            let peer = Peer::new(key, activity);
            if let Some(to) = endpoint {
                peer.roam(at(to));
            }
            table.peers.insert(key, Arc::new(peer));
        }
        Step::Modify(key, patch) => {
            if let (Some(to), Some(peer)) = (patch.endpoint, table.peers.get(&key)) {
                peer.roam(at(to));
            }
            if let Some(preshared_key) = patch.preshared_key {
                engine.set_preshared_key(&key, preshared_key);
            }
            if let Some(seconds) = patch.persistent_keepalive {
                engine.set_persistent_keepalive(&key, seconds, now);
            }
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}
