//! The thread: sockets in, sockets out.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use super::monitor::{Monitoring, Monitors};
use super::{Command, Error, Event, Options, socket};
use crate::config::{Config, Password};
use crate::rib::SourceId;
use crate::router::{Action, Connect, Router};
use crate::session::ConnId;

const WAKER: Token = Token(usize::MAX);
/// Listeners have the tokens from here on.
const LISTENERS: usize = usize::MAX / 2;
/// The most that is read from one connection before the others have their turn.
const TURN: usize = 1 << 20;
/// The buffer that all connections are read into: more than the greatest message.
const BUFFER: usize = 256 << 10;
/// Parts that are written with one call.
const PARTS: usize = 64;
/// Connections that are taken before those that are there have their turn.
const ACCEPTS: usize = 64;
/// How long a connection may take to come about.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the other side may take to read the last words.
const LINGER: Duration = Duration::from_secs(2);
/// How long changes are gathered at least, while there is more to read.
const GATHER: Duration = Duration::from_millis(1);
/// How often strangers are spoken of in the log.
const STRANGERS: Duration = Duration::from_secs(10);

pub(super) struct Runner {
    router: Router,
    poll: Poll,
    waker: Arc<Waker>,
    commands: mpsc::Receiver<Command>,
    events: Box<dyn FnMut(Event) + Send>,
    listeners: Vec<(SocketAddr, TcpListener)>,
    signed: BTreeMap<IpNet, Password>,
    sockets: Vec<Option<Socket>>,
    unused: Vec<usize>,
    by_conn: HashMap<ConnId, usize>,
    /// Sockets that may have more to read.
    readable: Vec<usize>,
    buffer: Vec<u8>,
    strangers: Strangers,
    ending: Option<Instant>,
    deferring: bool,
    monitors: Option<Monitors>,
}

struct Socket {
    stream: TcpStream,
    remote: IpAddr,
    state: State,
    /// What came of a message that is not whole.
    rest: Vec<u8>,
    readable: bool,
}

enum State {
    Connecting {
        peer: SourceId,
        until: Instant,
        signed: bool,
        badly_signed: u64,
    },
    Open(ConnId),
    /// Nothing comes and goes but the last words.
    Closing {
        until: Instant,
    },
}

#[derive(Default)]
struct Strangers {
    said: Option<Instant>,
    since: u64,
}

impl Runner {
    pub(super) fn new(
        config: Config,
        options: Options,
        monitoring: Monitoring,
        events: Box<dyn FnMut(Event) + Send>,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Self, Error> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let seed = u64::from(std::process::id()) ^ since_boot();
        let listen = config.listen.clone();
        let mut router = Router::new(config, options.installs, seed, Instant::now());
        let watched = monitoring != Monitoring::default();
        if watched {
            router.watch();
        }
        let mut runner = Self {
            deferring: router.is_deferring(),
            router,
            poll,
            waker,
            commands,
            events,
            listeners: Vec::new(),
            signed: BTreeMap::new(),
            sockets: Vec::new(),
            unused: Vec::new(),
            by_conn: HashMap::new(),
            readable: Vec::new(),
            buffer: vec![0; BUFFER],
            strangers: Strangers::default(),
            ending: None,
            monitors: None,
        };
        runner.listen(&listen)?;
        if watched {
            runner.monitors = Some(Monitors::start(monitoring, &runner.waker)?);
        }
        Ok(runner)
    }

    pub(super) fn waker(&self) -> Arc<Waker> {
        self.waker.clone()
    }

    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let (mut gathering, mut last_round): (Option<Instant>, Duration) = (None, Duration::ZERO);
        loop {
            self.act();
            let now = Instant::now();
            let busy = self.monitors.as_ref().is_some_and(Monitors::is_busy);
            let timeout = if self.readable.is_empty() && !self.router.has_changes() && !busy {
                self.deadline().map(|at| at.saturating_duration_since(now))
            } else {
                Some(Duration::ZERO)
            };
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the BGP speaker cannot wait for its sockets and ends; restart the agent");
                return;
            }
            let mut read = self.take(&events);
            read |= self.read();
            if !self.obey() {
                return;
            }
            let now = Instant::now();
            if self.router.deadline().is_some_and(|at| at <= now) {
                self.router.tick(now);
            }
            self.expire(now);
            if self.router.has_changes() {
                let since = *gathering.get_or_insert(now);
                if !read || now.duration_since(since) >= last_round.max(GATHER) {
                    self.router.flush();
                    self.write();
                    last_round = now.elapsed();
                    gathering = None;
                }
            }
            self.write();
            self.hand_out();
            self.monitor(now);
            if self.ending.is_some_and(|at| at <= now || self.by_conn.is_empty()) {
                return;
            }
        }
    }

    /// Takes in what the kernel says. Returns whether there is something to read.
    fn take(&mut self, events: &Events) -> bool {
        for event in events {
            match event.token() {
                WAKER => {}
                Token(at) if at >= LISTENERS => self.accept(at - LISTENERS),
                Token(at) => {
                    if event.is_writable() {
                        self.writable(at);
                    }
                    if (event.is_readable() || event.is_error() || event.is_read_closed())
                        && let Some(socket) = self.sockets.get_mut(at).and_then(Option::as_mut)
                        && !std::mem::replace(&mut socket.readable, true)
                    {
                        self.readable.push(at);
                    }
                }
            }
        }
        !self.readable.is_empty()
    }

    fn accept(&mut self, listener: usize) {
        for _ in 0..ACCEPTS {
            let Some((_, listener)) = self.listeners.get(listener) else { return };
            match listener.accept() {
                Ok((stream, remote)) => self.welcome(stream, remote),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "a BGP connection cannot be taken");
                    return;
                }
            }
        }
        // The kernel says only once that somebody waits: let it say so again.
        if let Some((_, waiting)) = self.listeners.get_mut(listener) {
            let _ = self.poll.registry().reregister(waiting, Token(LISTENERS + listener), Interest::READABLE);
        }
    }

    fn welcome(&mut self, stream: TcpStream, remote: SocketAddr) {
        let now = Instant::now();
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        let Ok(local) = stream.local_addr().map(|a| a.ip().to_canonical()) else { return };
        let conn = match self.router.accept(now, remote, local) {
            Ok(conn) => conn,
            Err(why) => return self.strangers.came(now, &why),
        };
        let (ttl, external) = self.router.distance(remote.ip()).unwrap_or_default();
        let ready = socket::taken(&stream, remote.ip(), ttl, external);
        let registered = ready.and_then(|()| self.register(stream, remote.ip(), State::Open(conn)));
        match registered {
            Ok(at) => {
                self.by_conn.insert(conn, at);
            }
            Err(error) => self.router.closed(now, conn, format!("the socket cannot be set up: {error}")),
        }
    }

    fn register(&mut self, mut stream: TcpStream, remote: IpAddr, state: State) -> io::Result<usize> {
        let at = self.unused.pop().unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() - 1
        });
        let both = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.poll.registry().register(&mut stream, Token(at), both) {
            self.unused.push(at);
            return Err(error);
        }
        self.sockets[at] = Some(Socket { stream, remote, state, rest: Vec::new(), readable: false });
        Ok(at)
    }

    fn writable(&mut self, at: usize) {
        let now = Instant::now();
        let Some(socket) = self.sockets[at].as_mut() else { return };
        match socket.state {
            State::Connecting { peer, .. } => {
                let failed = match socket.stream.take_error() {
                    Ok(None) => None,
                    Ok(Some(error)) | Err(error) => Some(error),
                };
                match (failed, socket.stream.peer_addr(), socket.stream.local_addr()) {
                    (None, Ok(_), Ok(local)) => {
                        match self.router.connected(now, peer, socket.remote, local.ip().to_canonical()) {
                            Some(conn) => {
                                socket.state = State::Open(conn);
                                self.by_conn.insert(conn, at);
                            }
                            None => self.drop_socket(at),
                        }
                    }
                    (None, Err(error), _) if error.kind() == io::ErrorKind::NotConnected => {}
                    (Some(error), ..) | (None, Err(error), _) | (None, _, Err(error)) => {
                        self.drop_socket(at);
                        self.router.connect_failed(now, peer, error.to_string());
                    }
                }
            }
            State::Open(conn) => self.write_to(conn),
            State::Closing { .. } => {}
        }
    }

    /// Reads what there is to read. Returns whether anything came.
    fn read(&mut self) -> bool {
        let mut any = false;
        for at in std::mem::take(&mut self.readable) {
            let Some(socket) = self.sockets[at].as_mut() else { continue };
            socket.readable = false;
            any |= match socket.state {
                State::Open(conn) => self.read_from(at, conn),
                State::Closing { .. } => self.listen_to_the_end(at),
                State::Connecting { .. } => false,
            };
        }
        any
    }

    fn read_from(&mut self, at: usize, conn: ConnId) -> bool {
        let mut turn = 0;
        loop {
            let Some(socket) = self.sockets[at].as_mut() else { return turn > 0 };
            if !matches!(socket.state, State::Open(_)) {
                return turn > 0;
            }
            if turn >= TURN {
                socket.readable = true;
                self.readable.push(at);
                return true;
            }
            let before = socket.rest.len();
            self.buffer[..before].copy_from_slice(&socket.rest);
            let now = Instant::now();
            match socket.stream.read(&mut self.buffer[before..]) {
                Ok(0) => {
                    self.lose(at, conn, "closed by the neighbour");
                    return true;
                }
                Ok(count) => {
                    turn += count;
                    let end = before + count;
                    let used = self.router.receive(now, conn, &self.buffer[..end]);
                    let Some(socket) = self.sockets[at].as_mut() else { return true };
                    socket.rest.clear();
                    socket.rest.extend_from_slice(&self.buffer[used..end]);
                    // What a message does is done before the next is read: the connection may have ended with it.
                    self.act();
                    if end < self.buffer.len() {
                        // The kernel had no more: it says so when it has.
                        return true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return turn > 0,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.lose(at, conn, &error.to_string());
                    return true;
                }
            }
        }
    }

    /// Reads on until the other side has ended, so that our last words are not lost to a reset.
    fn listen_to_the_end(&mut self, at: usize) -> bool {
        for _ in 0..16 {
            let Some(socket) = self.sockets[at].as_mut() else { return false };
            match socket.stream.read(&mut self.buffer) {
                Ok(count) if count > 0 => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                    return false;
                }
                _ => self.drop_socket(at),
            }
        }
        self.drop_socket(at);
        false
    }

    fn write(&mut self) {
        loop {
            let ready = self.router.take_ready();
            if ready.is_empty() {
                return;
            }
            for conn in ready {
                self.write_to(conn);
            }
        }
    }

    fn write_to(&mut self, conn: ConnId) {
        loop {
            self.router.refill(conn);
            let Some(socket) = self.by_conn.get(&conn).and_then(|at| self.sockets[*at].as_mut()) else { return };
            let Some(queue) = self.router.queue(conn) else { return };
            if queue.is_empty() {
                return;
            }
            let (slices, count) = queue.slices::<PARTS>();
            match socket.stream.write_vectored(&slices[..count]) {
                Ok(sent) => queue.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It says when it can be written to; if it is broken, reading says so.
                Err(_) => return,
            }
        }
    }

    /// Does what the router asks for.
    fn act(&mut self) {
        loop {
            let actions = self.router.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Connect(to) => self.connect(&to),
                    Action::Close(conn) => self.close(conn),
                    Action::Up { peer, asn, router_id } => (self.events)(Event::Up { peer, asn, router_id }),
                    Action::Down { peer, why } => (self.events)(Event::Down { peer, why }),
                }
            }
        }
    }

    fn connect(&mut self, to: &Connect) {
        let now = Instant::now();
        if self.ending.is_some() {
            return;
        }
        let state = State::Connecting {
            peer: to.peer,
            until: now + PATIENCE,
            signed: to.password.is_some(),
            badly_signed: socket::badly_signed(),
        };
        let started = socket::connect(to).and_then(|stream| self.register(stream, to.remote.ip(), state));
        if let Err(error) = started {
            self.router.connect_failed(now, to.peer, error.to_string());
        }
    }

    /// Sends what is to be sent, ends our side and waits a little for the other's end.
    fn close(&mut self, conn: ConnId) {
        self.write_to(conn);
        let now = Instant::now();
        self.router.closed(now, conn, String::new());
        let Some(at) = self.by_conn.remove(&conn) else { return };
        let Some(socket) = self.sockets[at].as_mut() else { return };
        if socket.stream.shutdown(Shutdown::Write).is_err() {
            return self.drop_socket(at);
        }
        socket.state = State::Closing { until: now + LINGER };
        if !std::mem::replace(&mut socket.readable, true) {
            self.readable.push(at);
        }
    }

    fn lose(&mut self, at: usize, conn: ConnId, why: &str) {
        self.by_conn.remove(&conn);
        self.drop_socket(at);
        self.router.closed(Instant::now(), conn, why.to_owned());
    }

    fn drop_socket(&mut self, at: usize) {
        if let Some(mut socket) = self.sockets[at].take() {
            let _ = self.poll.registry().deregister(&mut socket.stream);
            self.unused.push(at);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let sockets = self.sockets.iter().flatten().filter_map(|socket| match socket.state {
            State::Connecting { until, .. } | State::Closing { until } => Some(until),
            State::Open(_) => None,
        });
        let monitors = self.monitors.as_ref().and_then(Monitors::deadline);
        sockets.chain(self.router.deadline()).chain(self.ending).chain(monitors).min()
    }

    fn expire(&mut self, now: Instant) {
        for at in 0..self.sockets.len() {
            let Some(socket) = self.sockets[at].as_ref() else { continue };
            match socket.state {
                State::Connecting { peer, until, signed, badly_signed } if until <= now => {
                    let remote = socket.remote;
                    self.drop_socket(at);
                    self.router.connect_failed(now, peer, silence(remote, signed, badly_signed));
                }
                State::Closing { until } if until <= now => self.drop_socket(at),
                _ => {}
            }
        }
    }

    /// Hands out what has changed of the routes.
    fn hand_out(&mut self) {
        let routes = self.router.take_routes();
        if !routes.is_empty() {
            (self.events)(Event::Routes(routes));
        }
        if self.deferring && !self.router.is_deferring() && !self.router.has_changes() {
            self.deferring = false;
            (self.events)(Event::RestartOver);
        }
    }

    /// Tells those who watch.
    fn monitor(&mut self, now: Instant) {
        let Some(monitors) = &mut self.monitors else { return };
        let (by_conn, sockets) = (&self.by_conn, &self.sockets);
        monitors.turn(&mut self.router, now, |conn| {
            let stream = &sockets[*by_conn.get(&conn)?].as_ref()?.stream;
            Some((stream.local_addr().ok()?.port(), stream.peer_addr().ok()?.port()))
        });
    }

    /// Does what it is told. Returns whether to go on.
    fn obey(&mut self) -> bool {
        let now = Instant::now();
        loop {
            let command = match self.commands.try_recv() {
                Ok(command) => command,
                Err(mpsc::TryRecvError::Empty) => return true,
                Err(mpsc::TryRecvError::Disconnected) => return false,
            };
            match command {
                Command::Configure(config, done) => {
                    let listening = self.listen(&config.listen.clone());
                    self.router.configure(now, *config);
                    done(listening.and_then(|()| self.sign()));
                }
                Command::Neighbors(reply) => reply(self.router.neighbors(now)),
                Command::Routes(reply) => reply(self.router.all_routes()),
                Command::Received(neighbor, reply) => reply(self.router.received(neighbor)),
                Command::Advertised(neighbor, reply) => reply(self.router.advertised(neighbor)),
                Command::Reset(neighbor, reply) => reply(self.router.reset(now, neighbor)),
                Command::PathDown(neighbor) => self.router.path_down(now, neighbor),
                Command::ShutDown { words, keeps } => {
                    self.listeners.clear();
                    self.router.shut_down(now, &words, keeps);
                    self.act();
                    self.ending = Some(now + LINGER);
                }
            }
        }
    }

    /// Listens where it shall, and nowhere else.
    fn listen(&mut self, wanted: &[SocketAddr]) -> Result<(), Error> {
        self.listeners.retain(|(address, _)| wanted.contains(address));
        let mut done = Ok(());
        for &address in wanted {
            if self.listeners.iter().any(|(there, _)| *there == address) {
                continue;
            }
            match socket::listen(address) {
                Ok(listener) => self.listeners.push((address, listener)),
                Err(source) => done = Err(Error::Listen { address, source }),
            }
        }
        for (at, (_, listener)) in self.listeners.iter_mut().enumerate() {
            let _ = self.poll.registry().deregister(listener);
            self.poll.registry().register(listener, Token(LISTENERS + at), Interest::READABLE)?;
        }
        self.signed.clear();
        self.sign()?;
        done
    }

    /// Tells the listening sockets the passwords of those who may connect.
    fn sign(&mut self) -> Result<(), Error> {
        let config = self.router.config();
        let of_neighbors = config.neighbors.iter().map(|(a, n)| (IpNet::from(*a), n.password.clone()));
        let of_ranges = config.ranges.iter().map(|range| (range.prefix, range.neighbor.password.clone()));
        let wanted: BTreeMap<IpNet, Password> =
            of_neighbors.chain(of_ranges).filter_map(|(net, password)| Some((net, password?))).collect();
        if wanted == self.signed {
            return Ok(());
        }
        for (address, listener) in &self.listeners {
            let fits = |net: &&IpNet| net.addr().is_ipv4() == address.is_ipv4();
            for net in self.signed.keys().filter(fits).filter(|net| !wanted.contains_key(net)) {
                socket::sign(listener, *net, None)?;
            }
            for (net, password) in wanted.iter().filter(|(net, _)| fits(net)) {
                socket::sign(listener, *net, Some(&password.0))?;
            }
        }
        self.signed = wanted;
        Ok(())
    }
}

impl Strangers {
    fn came(&mut self, now: Instant, why: &str) {
        self.since += 1;
        if self.said.is_none_or(|said| now.duration_since(said) >= STRANGERS) {
            tracing::warn!(connections = self.since, "a BGP connection is not taken: {why}");
            self.said = Some(now);
            self.since = 0;
        }
    }
}

/// Why nobody may have answered.
fn silence(remote: IpAddr, signed: bool, before: u64) -> String {
    let dropped = socket::badly_signed().saturating_sub(before);
    match (signed, dropped) {
        (_, 1..) => format!(
            "{remote} does not answer, and meanwhile the kernel dropped {dropped} segments for their TCP MD5 signature: \
             the passwords of the two sides differ, or only one side has one (peer-router-passwords)"
        ),
        (true, 0) => format!(
            "{remote} does not answer; if it answers without a password, the passwords of the two sides differ \
             (peer-router-passwords): the other side drops then what it gets"
        ),
        (false, 0) => format!("{remote} does not answer; a firewall, or the address, may be wrong"),
    }
}

/// Nanoseconds, to begin random numbers with.
fn since_boot() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_secs().wrapping_mul(1_000_000_007) ^ u64::from(since.subsec_nanos())
}
