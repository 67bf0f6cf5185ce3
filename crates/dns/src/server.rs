//! The sockets.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::answer::{Reply, Transport, answer, refuse};
use crate::forward::Forwarder;
use crate::message::{Query, Rcode};
use crate::metrics::{Metrics, Tally};
use crate::mmsg;
use crate::udp::{Question, Thread, limit};
use crate::zone::Zones;

/// TCP connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Connections beyond these wait.
const MAX_CONNECTIONS: usize = 256;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// How often a port is looked for that is free for both UDP and TCP.
const PORT_ATTEMPTS: usize = 16;
/// Questions for others that wait to be asked.
const MAX_QUESTIONS: usize = 1024;
/// Datagrams may wait in so many bytes, if the system allows.
const RECEIVE_BUFFER: usize = 4 << 20;

/// What all sockets answer from.
#[derive(Debug)]
pub struct Shared {
    zones: RwLock<Zones>,
    forwarder: Option<Forwarder>,
    metrics: Metrics,
}

/// A server whose sockets are bound.
#[derive(Debug)]
pub struct Server {
    sockets: Vec<Sockets>,
    shared: Arc<Shared>,
}

/// Those of one address.
#[derive(Debug)]
struct Sockets {
    address: SocketAddr,
    /// One a thread.
    udp: Vec<Arc<UdpSocket>>,
    tcp: TcpListener,
}

/// Why the server can't serve.
#[derive(Debug, thiserror::Error)]
#[error(
    "can't listen on {address} for DNS: {source}; see what has the port with `ss -lnptu`, or choose another with --listen"
)]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

impl Shared {
    /// Zones to answer from, and whom to ask for everything else.
    pub fn new(zones: Zones, forwarder: Option<Forwarder>) -> Arc<Self> {
        Arc::new(Self { zones: RwLock::new(zones), forwarder, metrics: Metrics::default() })
    }

    /// Looks at the zones.
    pub fn read<T>(&self, look: impl FnOnce(&Zones) -> T) -> T {
        look(&self.zones.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the zones. Answers wait meanwhile.
    pub fn write<T>(&self, change: impl FnOnce(&mut Zones) -> T) -> T {
        change(&mut self.zones.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was counted since the start, in the text format of OpenMetrics.
    pub fn render_metrics(&self) -> String {
        let zones =
            self.read(|zones| zones.sizes().map(|(origin, names)| (origin.to_string(), names)).collect::<Vec<_>>());
        self.metrics.render(&zones)
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether others are asked for a client.
    pub(crate) fn can_ask(&self, client: IpAddr) -> bool {
        self.forwarder.as_ref().is_some_and(|forwarder| forwarder.allows(client))
    }

    /// Writes the response to a query for others that came in a datagram, if it is known.
    pub(crate) fn cached(&self, packet: &[u8], out: &mut Vec<u8>) -> bool {
        let (Some(forwarder), Ok(query)) = (&self.forwarder, Query::parse(packet)) else {
            return false;
        };
        query.recursion_desired() && forwarder.cached(&query, query.udp_limit(), out)
    }

    /// Writes that too much is asked of us.
    pub(crate) fn overloaded(&self, packet: &[u8], out: &mut Vec<u8>) {
        if let Ok(query) = Query::parse(packet) {
            refuse(&query, true, Rcode::ServFail, out);
        }
    }

    /// Asks others for the response to `packet`, of which `out` has what we know ourselves.
    pub(crate) async fn ask(&self, packet: &[u8], transport: Transport, reply: Reply, out: &mut Vec<u8>) {
        let (Some(forwarder), Ok(query)) = (&self.forwarder, Query::parse(packet)) else {
            return;
        };
        let limit = limit(&query, transport);
        let is_answered = match reply {
            Reply::Send | Reply::Silence => true,
            // Whom the client does not allow to be asked is not asked.
            _ if !query.recursion_desired() => true,
            Reply::Forward => forwarder.resolve(&query, limit, out).await,
            Reply::Follow(target) => forwarder.follow(&query, &target, limit, out).await,
        };
        if !is_answered {
            self.metrics.unanswered();
            refuse(&query, true, Rcode::ServFail, out);
        }
    }
}

impl Server {
    /// Binds UDP and TCP sockets to each of the addresses, for `threads` threads each. Port 0 is a
    /// free one.
    ///
    /// # Errors
    /// An address that can't be bound: all of them are needed.
    pub async fn bind(listen: &[SocketAddr], threads: usize, shared: Arc<Shared>) -> Result<Self, BindError> {
        let mut sockets = Vec::new();
        for &address in listen {
            sockets.push(bind(address, threads).map_err(|source| BindError { address, source })?);
        }
        Ok(Self { sockets, shared })
    }

    /// The addresses that the sockets have.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|sockets| sockets.address).collect()
    }

    /// Serves until it is dropped.
    pub async fn run(self) {
        let mut tasks = JoinSet::new();
        let mut threads = Vec::new();
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let (sender, questions) = mpsc::channel(MAX_QUESTIONS);
        tasks.spawn(settle(questions, Arc::clone(&self.shared)));
        for sockets in self.sockets {
            for udp in sockets.udp {
                match Thread::start(udp, Arc::clone(&self.shared), sender.clone()) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => {
                        tracing::error!(%error, "no thread can be started that answers");
                        return;
                    }
                }
            }
            let connections = Arc::clone(&connections);
            tasks.spawn(serve_tcp(sockets.tcp, Arc::clone(&self.shared), connections));
        }
        while tasks.join_next().await.is_some() {}
    }
}

fn bind(address: SocketAddr, threads: usize) -> io::Result<Sockets> {
    let mut attempts = 0;
    loop {
        let tcp = TcpListener::from_std(tcp_socket(address)?.into())?;
        let bound = tcp.local_addr()?;
        let udp: io::Result<Vec<_>> = (0..threads.max(1)).map(|_| udp_socket(bound, threads > 1)).collect();
        match udp {
            Ok(udp) => return Ok(Sockets { address: bound, udp, tcp }),
            Err(error) if address.port() != 0 || attempts == PORT_ATTEMPTS => return Err(error),
            Err(_) => attempts += 1,
        }
    }
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = socket(address, Type::STREAM)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Only several threads share a port: that another program has it is to be noticed.
fn udp_socket(address: SocketAddr, is_shared: bool) -> io::Result<Arc<UdpSocket>> {
    let socket = socket(address, Type::DGRAM)?;
    if is_shared {
        socket.set_reuse_port(true)?;
    }
    // What the system allows is enough.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.bind(&address.into())?;
    let socket: UdpSocket = socket.into();
    if address.ip().is_unspecified() {
        mmsg::tell_destination(&socket, address.is_ipv6())?;
    }
    Ok(Arc::new(socket))
}

/// An IPv6 socket takes no IPv4, so that `0.0.0.0` and `::` can both be bound to the same port.
fn socket(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Asks others what the threads can't answer.
async fn settle(mut questions: mpsc::Receiver<Question>, shared: Arc<Shared>) {
    let mut open = JoinSet::new();
    while let Some(question) = questions.recv().await {
        while open.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        open.spawn(async move { question.settle(&shared).await });
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>, connections: Arc<Semaphore>) {
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of files, most likely: others have to end first.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        tasks.spawn(async move {
            if let Err(error) = serve_connection(stream, client.ip(), &shared).await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(slot);
        });
    }
}

/// One query after the other, each behind its length (RFC 7766).
async fn serve_connection(mut stream: TcpStream, client: IpAddr, shared: &Shared) -> io::Result<()> {
    let can_ask = shared.can_ask(client);
    let mut out = Vec::new();
    let mut tally = Tally::default();
    loop {
        let Ok(packet) = tokio::time::timeout(IDLE, read_packet(&mut stream)).await else {
            return Ok(());
        };
        let Some(packet) = packet? else {
            return Ok(());
        };
        let reply = shared.read(|zones| answer(&packet, zones, Transport::Tcp, can_ask, &mut out));
        match reply {
            Reply::Silence => {
                tally.ignored();
                shared.metrics.add(Transport::Tcp, &mut tally);
                return Ok(());
            }
            Reply::Send => {}
            _ if !can_ask => {}
            reply => {
                tally.forwarded();
                shared.ask(&packet, Transport::Tcp, reply, &mut out).await;
            }
        }
        tally.response(&out);
        shared.metrics.add(Transport::Tcp, &mut tally);
        let len = u16::try_from(out.len()).map_err(io::Error::other)?;
        let mut framed = len.to_be_bytes().to_vec();
        framed.extend_from_slice(&out);
        let written = tokio::time::timeout(IDLE, stream.write_all(&framed));
        written.await.map_err(io::Error::other)??;
    }
}

async fn read_packet(stream: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    let len = match stream.read_u16().await {
        Ok(len) => len,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut packet = vec![0; usize::from(len)];
    stream.read_exact(&mut packet).await?;
    Ok(Some(packet))
}
