//! The embedded WireGuard on a TUN interface of this network namespace, with the control socket
//! that `wg` knows, as a process of its own ([`run`]).
//!
//! [`spawn`] starts such a process so that it outlives the one that asked; [`find`] finds it again. It ends by itself
//! when its interface is deleted or on `SIGTERM`, and takes interface and socket with it. After a `kill -9` the
//! kernel takes the interface away and the next start replaces the socket.
//!
//! The protocol is `tombolo_noise`, splitting and joining packets `tombolo_offload`; what is here carries packets between
//! the two ends in batches:
//!
//! ```text
//!  TUN ──▶ outbound: read, split, seal ──▶ UDP        by as many threads as it takes (workers),
//!  TUN ◀── inbound: open, check, join  ◀── UDP        handed on in order (pipeline)
//!                 │ handshakes, rare events ▼
//!              control: the engine of handshakes and timers
//! ```
//!
//! [`shared`] is what the threads share, [`peer`] a peer as traffic finds it, [`tunnel`] the device as the control socket
//! changes it by the rules of [`model`], [`sys`] the system calls.

mod control;
mod inbound;
mod interface;
mod model;
mod outbound;
mod outbox;
mod peer;
mod pipeline;
mod process;
mod server;
mod shared;
mod sockets;
mod sys;
mod tunnel;
mod watch;
mod workers;

use std::path::PathBuf;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;

use self::tunnel::Tunnel;
use self::watch::{News, Watch};
use crate::device::{DeviceError, check_name};

pub use process::{find, spawn};

/// MTU of the interface unless another is given: Ethernet's 1500 less IPv6, UDP and WireGuard.
const DEFAULT_MTU: u16 = 1420;

/// How an embedded device runs.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the TUN interface, made in this network namespace.
    pub iface: String,
    /// Folder of the control socket.
    pub socket_dir: PathBuf,
    /// Mark on the encrypted packets from the start; `wg set IFACE fwmark N` changes it.
    pub fwmark: Option<u32>,
    /// MTU of the interface in bytes; `None` is 1420.
    pub mtu: Option<u16>,
    /// Whether the interface gives and takes joined packets where the kernel can (segmentation offloads).
    pub offloads: bool,
    /// Threads that carry traffic; `None` is half as many as there are cores.
    pub threads: Option<usize>,
    /// Leave the session of the process that started this one, and its folder.
    pub own_session: bool,
}

/// Runs a device until its interface is deleted or the process is asked to end (`SIGTERM`, `SIGINT`).
///
/// # Errors
/// Where the interface or the socket can't be made; and when the device fails while it runs.
pub async fn run(options: Options) -> Result<(), DeviceError> {
    let Options { iface, socket_dir, fwmark, mtu, offloads, threads, own_session } = options;
    check_name(&iface)?;
    if own_session {
        process::leave_session();
    }
    let start = |reason: String| DeviceError::Start { iface: iface.clone(), reason };
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| start(format!("signals: {e}")))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| start(format!("signals: {e}")))?;

    let mtu = mtu.unwrap_or(DEFAULT_MTU);
    let tun = interface::open(&iface, mtu, offloads)?;
    let offloads = tun.offloads();
    let mut watch = Watch::new(&iface).map_err(|e| start(format!("watching the interface: {e}")))?;
    let tunnel = Mutex::new(Tunnel::new(tun, mtu, fwmark, threads).map_err(|e| start(e.to_string()))?);
    let server = server::Server::bind(&socket_dir, &iface)?;
    tracing::info!(
        iface,
        socket = %server.path().display(),
        tcp_offload = offloads.tcp,
        udp_offload = offloads.udp,
        udp_buffer = sockets::BUFFER,
        "WireGuard device is up"
    );

    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = server.accept() => match accepted {
                Ok(stream) => connections.push(server::serve(stream, &tunnel)),
                Err(error) => tracing::warn!(iface, %error, "control socket does not accept"),
            },
            Some(()) = connections.next() => {}
            news = watch.next() => match news {
                News::Mtu(mtu) => tunnel.lock().await.set_mtu(watch.index(), mtu),
                News::Deleted => {
                    tracing::info!(iface, "the interface was deleted");
                    break;
                }
            },
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    drop(server);
    drop(connections);
    tunnel.into_inner().stop();
    tracing::info!(iface, "WireGuard device is down");
    Ok(())
}
