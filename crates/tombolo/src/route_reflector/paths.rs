//! BFD with clients.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tombolo_bfd::{Bfd, Peer, State, Timers};
use tombolo_bgp::speaker::Speaker;

use super::Args;

/// The paths to clients, watched by BFD as long as their sessions are established.
pub(super) struct Paths {
    bfd: Option<Bfd>,
    timers: Timers,
    peers: BTreeMap<Peer, Timers>,
}

impl Paths {
    pub(super) fn new(args: &Args, speaker: Arc<OnceLock<Speaker>>) -> Result<Self> {
        let interval = Duration::from_millis(args.bfd_interval.into());
        let timers = Timers { tx: interval, rx: interval, multiplier: args.bfd_multiplier };
        let start = || {
            Bfd::start(tombolo_bfd::Options::default(), move |event| {
                tracing::info!(peer = %event.peer.remote, state = ?event.state, why = %event.diagnostic, "BFD");
                // Somebody's wish is no broken path (RFC 5882, section 3.2).
                if event.state == State::Down
                    && event.remote_state != State::AdminDown
                    && let Some(speaker) = speaker.get()
                {
                    speaker.path_down(event.peer.remote);
                }
            })
        };
        let bfd = args.bfd.then(start).transpose().context("cannot start BFD")?;
        Ok(Self { bfd, timers, peers: BTreeMap::new() })
    }

    pub(super) fn watch(&mut self, remote: IpAddr) {
        self.peers.insert(Peer { remote, local: None, multihop: false }, self.timers);
        self.set();
    }

    pub(super) fn forget(&mut self, remote: IpAddr) {
        self.peers.remove(&Peer { remote, local: None, multihop: false });
        self.set();
    }

    fn set(&self) {
        if let Some(bfd) = &self.bfd {
            bfd.set(self.peers.clone());
        }
    }
}
