//! Many sessions on sockets, on a thread of their own.
//!
//! The thread sleeps until a packet comes or the next session has something to do. Whatever else the process is busy
//! with, its packets leave on time; and packets that have already come are read before a session is given up. A filter
//! in the kernel keeps strangers from waking it and from filling the queue that the peers' packets wait in.

mod engine;
mod filter;
mod socket;
mod sys;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::packet::{Diagnostic, State};
use crate::session::Timers;
use engine::Engine;

/// The UDP port of sessions over one hop (RFC 5881, section 4).
pub const SINGLE_HOP_PORT: u16 = 3784;

/// The UDP port of sessions over several hops (RFC 5883, section 5).
pub const MULTIHOP_PORT: u16 = 4784;

/// Where packets are taken and sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The own addresses at which packets are taken; by default all. Sockets are opened when the first peer needs one.
    pub listen: Vec<IpAddr>,
    /// The port of both sides for one hop.
    pub single_hop_port: u16,
    /// The port of both sides for several hops.
    pub multihop_port: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            single_hop_port: SINGLE_HOP_PORT,
            multihop_port: MULTIHOP_PORT,
        }
    }
}

/// Whom a session is with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer {
    /// Its address.
    pub remote: IpAddr,
    /// The own address of the session; `None` leaves the choice to the kernel and takes packets at any.
    pub local: Option<IpAddr>,
    /// Whether there may be routers between. If not, packets that passed one are dropped (RFC 5881, section 5).
    pub multihop: bool,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.remote)?;
        if let Some(local) = self.local {
            write!(f, " from {local}")?;
        }
        if self.multihop { f.write_str(" (multihop)") } else { Ok(()) }
    }
}

/// A session has another state. Sessions begin in [`State::Down`] without an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Whose session.
    pub peer: Peer,
    /// The state.
    pub state: State,
    /// The other side's, as last heard. [`State::AdminDown`] here makes a `Down` somebody's wish and no failure of the
    /// path: what is routed over it can stay (RFC 5882, section 3.2).
    pub remote_state: State,
    /// Why; [`Diagnostic::NONE`] on the way up.
    pub diagnostic: Diagnostic,
    /// Since when.
    pub at: Instant,
}

/// A session for a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whose session.
    pub peer: Peer,
    /// The state.
    pub state: State,
    /// The other side's, as last heard; down when nothing is.
    pub remote_state: State,
    /// For how long the state has been this.
    pub since: Duration,
    /// How fast the session is configured to be.
    pub timers: Timers,
    /// How often packets are sent, before jitter; `None` when the other side wants none.
    pub transmit_interval: Option<Duration>,
    /// After how much silence the other side is lost; `None` when it is not heard.
    pub detection_time: Option<Duration>,
    /// Packets sent.
    pub sent: u64,
    /// Packets taken.
    pub received: u64,
    /// Why the session was last down, if it ever was after it had been up.
    pub diagnostic: Option<Diagnostic>,
    /// The other side's reason, as last heard.
    pub remote_diagnostic: Diagnostic,
    /// What keeps packets from being sent or taken, in words.
    pub problem: Option<String>,
}

/// Packets that no session took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    /// From an address, or to one, that no session has; most of these never leave the kernel. What the kernel dropped
    /// because too much came at once is counted here, too.
    pub unknown: u64,
    /// Over one hop, but with a TTL or hop limit below 255.
    pub hops: u64,
    /// Refused for a [`crate::Refusal`].
    pub refused: u64,
}

/// What [`Bfd::status`] gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// A status a session, in the order of the peers.
    pub sessions: Vec<Status>,
    /// What was dropped.
    pub dropped: Dropped,
}

enum Command {
    Set(BTreeMap<Peer, Timers>),
    Status(Sender<Report>),
    Stop,
}

/// The running sessions. When the value goes, the other sides are told that it is somebody's wish.
pub struct Bfd {
    commands: Sender<Command>,
    waker: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Bfd {
    /// Starts the thread, without sessions, in the caller's network namespace.
    ///
    /// `events` is called on the thread, in the order in which things happen, and must return at once: for instance
    /// `move |event| { let _ = sender.send(event); }`.
    ///
    /// # Errors
    /// The thread or its waker cannot be made. Sockets are opened later, and what is wrong with them is in the status.
    pub fn start(options: Options, events: impl FnMut(Event) + Send + 'static) -> io::Result<Self> {
        let (commands, inbox) = channel();
        let (waker, wakened) = UnixStream::pair()?;
        for end in [&waker, &wakened] {
            end.set_nonblocking(true)?;
        }
        let work = move || run(Engine::new(options, Box::new(events)), &inbox, &wakened);
        let thread = std::thread::Builder::new().name("bfd".into()).spawn(work)?;
        Ok(Self { commands, waker, thread: Some(thread) })
    }

    /// The sessions that there shall be, all of them. Those with the same timers as before are not touched, others
    /// change theirs without going down; those that are no longer named are taken down, and no event tells of it.
    pub fn set(&self, peers: BTreeMap<Peer, Timers>) {
        self.command(Command::Set(peers));
    }

    /// How the sessions are.
    pub fn status(&self) -> Report {
        let (answer, report) = channel();
        self.command(Command::Status(answer));
        report.recv().unwrap_or_default()
    }

    fn command(&self, command: Command) {
        // The thread ends only with this value; a full waker wakes it as well.
        let _ = self.commands.send(command);
        let _ = (&self.waker).write(&[0]);
    }
}

impl Drop for Bfd {
    fn drop(&mut self) {
        self.command(Command::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(mut engine: Engine, inbox: &Receiver<Command>, waker: &UnixStream) {
    loop {
        let woken = socket::wait(waker, engine.listeners(), engine.deadline());
        engine.receive();
        engine.tick(Instant::now());
        if !woken {
            continue;
        }
        for command in inbox.try_iter() {
            match command {
                Command::Set(peers) => engine.set(Instant::now(), peers),
                Command::Status(answer) => drop(answer.send(engine.report(Instant::now()))),
                Command::Stop => return engine.stop(Instant::now()),
            }
        }
    }
}
