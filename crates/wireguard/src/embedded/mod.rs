//! The embedded WireGuard: `gotatun`'s protocol on a TUN interface of this network namespace, with the control socket
//! that `wg` knows, as a process of its own ([`run`]).
//!
//! [`spawn`] starts such a process so that it outlives the one that asked; [`find`] finds it again. It ends by itself
//! when its interface is deleted or on `SIGTERM`, and takes interface and socket with it. After a `kill -9` the
//! kernel takes the interface away and the next start replaces the socket.
//!
//! `gotatun` has a control protocol of its own; ours is in front of it because there a changed peer loses its session,
//! a peer before the private key ends the process, and an allowed IP that moves stays with both ([`model`] has the
//! rules, [`tunnel`] makes them so).

mod model;
mod process;
mod server;
mod tun;
mod tunnel;

use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;

use crate::device::{DeviceError, check_name};

pub use process::{find, spawn};

/// How often a device looks after itself: well within the 180 s after which `gotatun` forgets a handshake.
const ROUND: Duration = Duration::from_secs(15);

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
    /// Leave the session of the process that started this one, and its folder.
    pub own_session: bool,
}

/// Runs a device until its interface is deleted or the process is asked to end (`SIGTERM`, `SIGINT`).
///
/// # Errors
/// Where the interface or the socket can't be made; and when the device fails while it runs.
pub async fn run(options: Options) -> Result<(), DeviceError> {
    let Options { iface, socket_dir, fwmark, mtu, own_session } = options;
    check_name(&iface)?;
    if own_session {
        process::leave_session();
    }
    let start = |reason: String| DeviceError::Start { iface: iface.clone(), reason };
    let mut terminate = signal(SignalKind::terminate()).map_err(|e| start(format!("signals: {e}")))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|e| start(format!("signals: {e}")))?;

    let tun = tun::open(&iface, mtu.unwrap_or(DEFAULT_MTU))?;
    let watch = tun::Watch::new(&iface).map_err(|e| start(format!("watching the interface: {e}")))?;
    let tunnel = Mutex::new(tunnel::Tunnel::new(tun, fwmark).await.map_err(|e| start(e.to_string()))?);
    let server = server::Server::bind(&socket_dir, &iface)?;
    tracing::info!(iface, socket = %server.path().display(), "WireGuard device is up");

    let mut connections = FuturesUnordered::new();
    let mut rounds = tokio::time::interval(ROUND);
    let result = loop {
        tokio::select! {
            accepted = server.accept() => match accepted {
                Ok(stream) => connections.push(server::serve(stream, &tunnel)),
                Err(error) => tracing::warn!(iface, %error, "control socket does not accept"),
            },
            Some(()) = connections.next() => {}
            _ = rounds.tick() => {
                let mut tunnel = tunnel.lock().await;
                if tunnel.has_failed() {
                    let reason = "its UDP socket or its interface failed (see the log); start it again".to_owned();
                    break Err(DeviceError::Failed { iface: iface.clone(), reason });
                }
                tunnel.look_after().await;
            }
            () = watch.deleted() => {
                tracing::info!(iface, "the interface was deleted");
                break Ok(());
            }
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
        }
    };
    drop(server);
    drop(connections);
    tunnel.into_inner().stop().await;
    tracing::info!(iface, "WireGuard device is down");
    result
}
