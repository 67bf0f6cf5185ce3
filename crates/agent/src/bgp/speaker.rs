//! The running speaker, and BFD beside it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tokio::sync::{mpsc, oneshot};
use tombolo_bfd::{Bfd, Peer, State, Timers};
use tombolo_bgp::RouteChange;
use tombolo_bgp::config::{Config, Neighbor, Ttl};
use tombolo_bgp::router::show::NeighborStatus;
use tombolo_bgp::speaker::{self, Options, Speaker, control};

/// What is said by the speaker or by BFD.
#[derive(Debug)]
pub(super) enum Event {
    /// Routes have changed.
    Routes(Vec<RouteChange>),
    /// All neighbours have told their routes since the restart.
    RestartOver,
    /// There is no way to a neighbour.
    PathDown(IpAddr),
}

pub(super) struct Running {
    speaker: Speaker,
    config: Config,
    socket: PathBuf,
    bfd: Option<Bfd>,
    said: mpsc::UnboundedSender<Event>,
}

impl Running {
    /// Starts a speaker, which `tombolo bgp` can ask.
    ///
    /// # Errors
    /// It cannot listen.
    pub(super) fn start(config: Config, options: &crate::Options, said: mpsc::UnboundedSender<Event>) -> Result<Self> {
        let socket = options.bgp_socket.as_path();
        let monitoring = options.bgp_monitoring.clone();
        let tell = said.clone();
        let speaker = Speaker::start_monitored(config.clone(), Options { installs: true }, monitoring, move |event| {
            match event {
                speaker::Event::Up { peer, asn, router_id } => {
                    // In the words that kube-router's users look for.
                    tracing::info!(Key = %peer, State = "BGP_FSM_OPENCONFIRM", Topic = "Peer", asn, %router_id, "Peer Up");
                }
                speaker::Event::Down { peer, why } => {
                    tracing::warn!(Key = %peer, State = "BGP_FSM_ESTABLISHED", Topic = "Peer", why, "Peer Down");
                }
                // When nobody listens any more, the agent ends.
                speaker::Event::Routes(changes) => drop(tell.send(Event::Routes(changes))),
                speaker::Event::RestartOver => drop(tell.send(Event::RestartOver)),
            }
        })?;
        if let Err(error) = control::serve(speaker.clone(), socket) {
            tracing::warn!(socket = %socket.display(), %error, "`tombolo bgp` cannot ask this agent (--bgp-socket)");
        }
        tracing::info!(asn = config.asn, router_id = %config.router_id, neighbors = config.neighbors.len(), "BGP is spoken");
        let mut running = Self { speaker, socket: socket.to_owned(), bfd: None, said, config };
        running.watch_paths();
        Ok(running)
    }

    /// Makes `config` the configuration.
    ///
    /// # Errors
    /// What of it cannot be done: an address to listen at.
    pub(super) async fn configure(&mut self, config: Config) -> Result<()> {
        if config == self.config {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        self.speaker.configure(config.clone(), move |outcome| drop(done.send(outcome)));
        answer.await.context("the BGP speaker has ended; restart the agent, and please report it")??;
        self.config = config;
        self.watch_paths();
        Ok(())
    }

    pub(super) fn path_down(&self, neighbor: IpAddr) {
        self.speaker.path_down(neighbor);
    }

    pub(super) fn neighbors(&self, reply: impl FnOnce(Vec<NeighborStatus>) + Send + 'static) {
        self.speaker.neighbors(reply);
    }

    /// Ends it. With `keeps` the neighbours that know graceful restart keep the routes.
    pub(super) async fn stop(self, words: &str, keeps: bool) {
        let Self { speaker, socket, bfd, .. } = self;
        let words = words.to_owned();
        let ended = tokio::task::spawn_blocking(move || {
            // First: the end of a session must not look like a broken path, nor the other way round.
            drop(bfd);
            speaker.shut_down(&words, keeps);
        });
        if ended.await.is_err() {
            tracing::error!("the BGP speaker panicked at its end; please report it");
        }
        let _ = std::fs::remove_file(&socket);
    }

    /// Has BFD watch the paths to those neighbours that ask for it.
    fn watch_paths(&mut self) {
        let peers: BTreeMap<Peer, Timers> =
            self.config.neighbors.iter().filter_map(|(address, neighbor)| watched(*address, neighbor)).collect();
        if peers.is_empty() && self.bfd.is_none() {
            return;
        }
        if self.bfd.is_none() {
            let (said, options) = (self.said.clone(), tombolo_bfd::Options::default());
            let started = Bfd::start(options, move |event| {
                tracing::info!(peer = %event.peer.remote, state = ?event.state, why = %event.diagnostic, "BFD");
                // Somebody's wish is no broken path (RFC 5882, section 3.2).
                if event.state == State::Down && event.remote_state != State::AdminDown {
                    drop(said.send(Event::PathDown(event.peer.remote)));
                }
            });
            match started {
                Ok(bfd) => self.bfd = Some(bfd),
                Err(error) => {
                    tracing::error!(%error, "BFD cannot be started: broken paths are noticed after the hold time only");
                    return;
                }
            }
        }
        if let Some(bfd) = &self.bfd {
            bfd.set(peers);
        }
    }
}

fn watched(address: IpAddr, neighbor: &Neighbor) -> Option<(Peer, Timers)> {
    let bfd = neighbor.bfd?;
    let multihop = match neighbor.ttl {
        Ttl::Default => false,
        Ttl::Multihop(hops) => hops > 1,
        Ttl::Security { hops } => hops > 1,
    };
    let peer = Peer { remote: address, local: neighbor.local_address, multihop };
    Some((peer, Timers { tx: bfd.transmit, rx: bfd.receive, multiplier: bfd.multiplier }))
}
