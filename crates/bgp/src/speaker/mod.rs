//! Runs a [`Router`](crate::Router) on sockets, in a thread of its own.
//!
//! One thread reads, decides and writes, so that nothing is locked or handed over on the way of a route. It reads as
//! long as there is something to read, but no longer than the last round of telling took (and a millisecond at least):
//! so a burst is told in few large steps, and a single change at once.

pub mod control;
pub(crate) mod monitor;
mod run;
mod socket;

pub use monitor::Monitoring;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use crate::router::show::{NeighborStatus, Route};
use crate::{Config, RouteChange};

/// What a speaker tells whoever runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A session is established.
    Up {
        /// With whom.
        peer: IpAddr,
        /// Its AS.
        asn: u32,
        /// Its BGP identifier.
        router_id: Ipv4Addr,
    },
    /// A session is no longer.
    Down {
        /// With whom.
        peer: IpAddr,
        /// Why, in words.
        why: String,
    },
    /// The routes that packets are to take have changed.
    Routes(Vec<RouteChange>),
    /// After a graceful restart all neighbours have told their routes again: what is not among them is gone.
    RestartOver,
}

/// How a speaker is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Whether it hands out routes to be installed; a mere reflector does not.
    pub installs: bool,
}

/// Why a speaker does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot listen.
    #[error("cannot listen on {address} for BGP: {source}{}", hint(source))]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel gives it no means to wait for sockets, or no thread.
    #[error("cannot start the BGP speaker: {0}")]
    Start(#[from] std::io::Error),
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; another BGP speaker (bird, bgpd, gobgpd, kube-router) may be running, see `ss -ltnp`"
        }
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 take root or CAP_NET_BIND_SERVICE",
        std::io::ErrorKind::AddrNotAvailable => "; this address is not on this machine, see `ip address`",
        _ => "",
    }
}

pub(crate) type Reply<T> = Box<dyn FnOnce(T) + Send>;

/// What can be asked of a running speaker.
pub(crate) enum Command {
    Configure(Box<Config>, Reply<Result<(), Error>>),
    Neighbors(Reply<Vec<NeighborStatus>>),
    Routes(Reply<Vec<Route>>),
    Received(IpAddr, Reply<Result<Vec<Route>, String>>),
    Advertised(IpAddr, Reply<Result<Vec<Route>, String>>),
    Reset(IpAddr, Reply<Result<(), String>>),
    PathDown(IpAddr),
    ShutDown { words: String, keeps: bool },
}

/// A running speaker. It ends with [`Speaker::shut_down`], or when the last handle is dropped.
#[derive(Clone)]
pub struct Speaker {
    commands: mpsc::Sender<Command>,
    waker: Arc<mio::Waker>,
    thread: Arc<std::sync::Mutex<Option<JoinHandle<()>>>>,
}

impl fmt::Debug for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Speaker").finish_non_exhaustive()
    }
}

impl Speaker {
    /// Starts a speaker. `events` is called in its thread, and must not wait for anything.
    ///
    /// # Errors
    /// It cannot listen where it shall, or the kernel refuses a thread or an epoll instance.
    pub fn start(config: Config, options: Options, events: impl FnMut(Event) + Send + 'static) -> Result<Self, Error> {
        Self::start_monitored(config, options, Monitoring::default(), events)
    }

    /// Starts a speaker that is watched: it writes files ([`mrt`](crate::mrt)) and tells stations ([`bmp`](crate::bmp)).
    /// Neither has to work for it to start, and neither holds it up.
    ///
    /// # Errors
    /// As [`Speaker::start`].
    pub fn start_monitored(
        config: Config,
        options: Options,
        monitoring: Monitoring,
        events: impl FnMut(Event) + Send + 'static,
    ) -> Result<Self, Error> {
        let (commands, received) = mpsc::channel();
        let runner = run::Runner::new(config, options, monitoring, Box::new(events), received)?;
        let waker = runner.waker();
        let thread = std::thread::Builder::new().name("bgp".to_owned()).spawn(move || runner.run())?;
        Ok(Self { commands, waker, thread: Arc::new(std::sync::Mutex::new(Some(thread))) })
    }

    /// Makes `config` the configuration. `done` gets what cannot be done of it (a new address to listen on).
    pub fn configure(&self, config: Config, done: impl FnOnce(Result<(), Error>) + Send + 'static) {
        self.tell(Command::Configure(Box::new(config), Box::new(done)));
    }

    /// The path to a neighbour is down, says BFD.
    pub fn path_down(&self, neighbor: IpAddr) {
        self.tell(Command::PathDown(neighbor));
    }

    /// All neighbours.
    pub fn neighbors(&self, reply: impl FnOnce(Vec<NeighborStatus>) + Send + 'static) {
        self.tell(Command::Neighbors(Box::new(reply)));
    }

    /// All routes.
    pub fn routes(&self, reply: impl FnOnce(Vec<Route>) + Send + 'static) {
        self.tell(Command::Routes(Box::new(reply)));
    }

    /// What a neighbour announced.
    pub fn received(&self, neighbor: IpAddr, reply: impl FnOnce(Result<Vec<Route>, String>) + Send + 'static) {
        self.tell(Command::Received(neighbor, Box::new(reply)));
    }

    /// What a neighbour was told.
    pub fn advertised(&self, neighbor: IpAddr, reply: impl FnOnce(Result<Vec<Route>, String>) + Send + 'static) {
        self.tell(Command::Advertised(neighbor, Box::new(reply)));
    }

    /// Ends a session, so that it begins anew.
    pub fn reset(&self, neighbor: IpAddr, reply: impl FnOnce(Result<(), String>) + Send + 'static) {
        self.tell(Command::Reset(neighbor, Box::new(reply)));
    }

    /// Ends all sessions, with words for the neighbours, and the speaker. With `keeps` and graceful restart they keep
    /// the routes. Returns when it has ended.
    pub fn shut_down(&self, words: &str, keeps: bool) {
        self.tell(Command::ShutDown { words: words.to_owned(), keeps });
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        if let Some(thread) = thread {
            // A panic there has been said by the panic itself.
            let _ = thread.join();
        }
    }

    fn tell(&self, command: Command) {
        // A speaker that has ended answers nothing, and drops what waits for an answer.
        if self.commands.send(command).is_ok() {
            let _ = self.waker.wake();
        }
    }
}
