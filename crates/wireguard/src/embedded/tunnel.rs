//! `gotatun`'s device, made to be what the [`Model`] says.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use gotatun::device::configure::DeviceWrite;
use gotatun::device::{self, DefaultDeviceTransports, DeviceBuilder, Peer as TunnelPeer};
use gotatun::tun::tun_async_device::TunDevice;
use ipnetwork::IpNetwork;
use nix::errno::Errno;
use tombolo_net::wireguard::{DeviceStatus, Key, Peer, PeerStatus};
use x25519_dalek::{PublicKey, StaticSecret};

use super::model::{Model, Patch, PeerModel, Step};
use crate::uapi::Set;

/// How long an attempt at a handshake may hold up the control socket: it only has to be sent.
const SENT: Duration = Duration::from_millis(50);

/// A device. Without a private key it is suspended: it has its peers, and neither a UDP socket nor traffic.
pub(super) struct Tunnel {
    device: device::Device<DefaultDeviceTransports>,
    model: Model,
    /// `gotatun` forgets a handshake together with the session, after 180 s.
    handshakes: BTreeMap<Key, SystemTime>,
}

impl Tunnel {
    /// A device without key and peers on the interface.
    pub(super) async fn new(tun: TunDevice, fwmark: Option<u32>) -> Result<Self, device::Error> {
        // A peer can't be added to a device without a key, so that it has one that nobody knows until it gets its own.
        let mut builder = DeviceBuilder::new()
            .with_default_udp()
            .with_ip(tun)
            .with_private_key(StaticSecret::random())
            .suspended(true);
        if let Some(mark) = fwmark {
            builder = builder.with_fwmark(mark);
        }
        Ok(Self { device: builder.build().await?, model: Model::default(), handshakes: BTreeMap::new() })
    }

    /// What the device is.
    pub(super) async fn status(&mut self) -> DeviceStatus {
        let (listen_port, fwmark, peers) =
            self.device.read(async |device| (device.listen_port(), device.fwmark(), device.peers().await)).await;
        let now = SystemTime::now();
        let mut status = DeviceStatus {
            private_key: self.model.private_key,
            listen_port,
            fwmark: fwmark.unwrap_or(0),
            peers: Vec::with_capacity(peers.len()),
        };
        for tunnel in peers {
            let public_key = Key(tunnel.peer.public_key.to_bytes());
            let Some(model) = self.model.peers.get(&public_key) else { continue };
            if let Some(at) = tunnel.stats.last_handshake.and_then(|ago| now.checked_sub(ago)) {
                self.handshakes.insert(public_key, at);
            }
            status.peers.push(PeerStatus {
                peer: Peer {
                    public_key,
                    preshared_key: model.preshared_key,
                    endpoint: tunnel.peer.endpoint,
                    persistent_keepalive: model.persistent_keepalive,
                    allowed_ips: model.allowed_ips.iter().copied().collect(),
                },
                last_handshake: self.handshakes.get(&public_key).copied(),
                rx_bytes: tunnel.stats.rx_bytes as u64,
                tx_bytes: tunnel.stats.tx_bytes as u64,
            });
        }
        status.peers.sort_by_key(|status| status.peer.public_key);
        status
    }

    /// Does what the request says.
    ///
    /// # Errors
    /// The number that the client gets. If the new port can't be had (`EADDRINUSE`), the old one is kept.
    pub(super) async fn set(&mut self, set: &Set) -> Result<(), Errno> {
        let (after, steps) = self.model.plan(set);
        let before = std::mem::replace(&mut self.model, after);
        for step in &steps {
            if let Step::Remove(key) = step {
                self.handshakes.remove(key);
            }
        }
        let key = self.model.private_key.filter(|key| Some(*key) != before.private_key);
        let old_port = self.device.read(async |device| device.listen_port()).await;
        let mut result = self.write(key, set, steps).await;
        match (before.private_key.is_some(), self.model.private_key.is_some()) {
            (true, false) => self.device.suspend().await,
            (false, true) if result.is_ok() => result = self.resume().await,
            _ => {}
        }
        let Err(error) = result else { return Ok(()) };
        tracing::warn!(%error, "a change failed");
        if before.private_key.is_none() && self.model.private_key.is_some() {
            self.device.suspend().await;
            self.model.private_key = None;
        }
        if let Err(error) = self.device.set_listen_port(old_port).await {
            tracing::error!(%error, port = old_port, "the port before the change can't be had again");
        }
        Err(errno(&error))
    }

    /// Whether the device can't go on.
    pub(super) fn has_failed(&mut self) -> bool {
        self.device.wait().now_or_never().is_some()
    }

    /// Remembers handshakes, and tries again those that `gotatun` has given up (after 90 s) although the peer is to be
    /// kept alive.
    pub(super) async fn look_after(&mut self) {
        if self.model.private_key.is_none() {
            return;
        }
        for status in self.status().await.peers {
            if status.peer.persistent_keepalive.is_some() && status.peer.endpoint.is_some() {
                let key = PublicKey::from(status.peer.public_key.0);
                // Nothing happens where there is a session or a handshake is on its way.
                let _ = tokio::time::timeout(SENT, self.device.force_handshake(&key)).await;
            }
        }
    }

    /// Ends the device; the interface goes with it.
    pub(super) async fn stop(self) {
        self.device.stop().await;
    }

    /// In one piece: no packet sees half of it.
    async fn write(&self, key: Option<Key>, set: &Set, steps: Vec<Step>) -> Result<(), device::Error> {
        self.device
            .write(async |device| {
                if let Some(key) = key {
                    device.set_private_key(StaticSecret::from(key.0)).await;
                }
                if let Some(port) = set.listen_port {
                    device.set_listen_port(port);
                }
                for step in steps {
                    make(device, step).await;
                }
                set.fwmark.map_or(Ok(()), |mark| device.set_fwmark(mark))
            })
            .await?
    }

    async fn resume(&self) -> Result<(), device::Error> {
        self.device.resume().await?;
        if self.model.peers.is_empty() {
            // A device without peers is not connected by `resume`, nor by the first peer; by this it is.
            self.device.clear_peers().await?;
        }
        Ok(())
    }
}

async fn make(device: &mut DeviceWrite<'_, DefaultDeviceTransports>, step: Step) {
    match step {
        Step::Remove(key) => {
            device.remove_peer(&PublicKey::from(key.0)).await;
        }
        Step::Add(key, peer, endpoint) => {
            let PeerModel { preshared_key, persistent_keepalive, allowed_ips } = peer;
            let mut new = TunnelPeer::new(PublicKey::from(key.0)).with_allowed_ips(networks(allowed_ips));
            new.preshared_key = preshared_key.map(|key| key.0);
            new.keepalive = persistent_keepalive;
            new.endpoint = endpoint;
            device.add_peer(new);
        }
        Step::Modify(key, patch) => {
            let Patch { preshared_key, persistent_keepalive, endpoint, allowed_ips } = patch;
            device
                .modify_peer(&PublicKey::from(key.0), |peer| {
                    if let Some(preshared_key) = preshared_key {
                        peer.set_preshared_key(preshared_key.map(|key| key.0));
                    }
                    if let Some(seconds) = persistent_keepalive {
                        peer.set_keepalive(seconds);
                    }
                    if endpoint.is_some() {
                        peer.set_endpoint(endpoint);
                    }
                    if let Some(ips) = allowed_ips {
                        peer.clear_allowed_ips();
                        peer.add_allowed_ips(networks(ips));
                    }
                })
                .await;
        }
    }
}

fn networks(ips: impl IntoIterator<Item = ipnet::IpNet>) -> impl Iterator<Item = IpNetwork> {
    // A length that fits the one type fits the other.
    ips.into_iter().filter_map(|ip| IpNetwork::new(ip.addr(), ip.prefix_len()).ok())
}

fn errno(error: &device::Error) -> Errno {
    match error {
        device::Error::IoError(error) | device::Error::Bind(error, _) => {
            error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
        }
        _ => Errno::EIO,
    }
}
