//! The sockets.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::answer::{Reply, Transport, answer, refuse};
use crate::forward::Forwarder;
use crate::message::{Query, Rcode};
use crate::name::Name;
use crate::zone::Zones;

/// TCP connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Connections beyond these wait.
const MAX_CONNECTIONS: usize = 256;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// How often a port is looked for that is free for both UDP and TCP.
const PORT_ATTEMPTS: usize = 16;

/// What all sockets answer from.
#[derive(Debug)]
pub struct Shared {
    zones: RwLock<Zones>,
    forwarder: Option<Forwarder>,
}

/// A server whose sockets are bound.
#[derive(Debug)]
pub struct Server {
    sockets: Vec<(Arc<UdpSocket>, TcpListener)>,
    shared: Arc<Shared>,
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
        Arc::new(Self { zones: RwLock::new(zones), forwarder })
    }

    /// Looks at the zones.
    pub fn read<T>(&self, look: impl FnOnce(&Zones) -> T) -> T {
        look(&self.zones.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the zones. Answers wait meanwhile.
    pub fn write<T>(&self, change: impl FnOnce(&mut Zones) -> T) -> T {
        change(&mut self.zones.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes the response to `packet`, or what is to be written if nobody else knows better.
    fn answer(&self, packet: &[u8], transport: Transport, out: &mut Vec<u8>) -> Reply {
        let can_ask = self.forwarder.is_some();
        let reply = self.read(|zones| answer(packet, zones, transport, can_ask, out));
        match reply {
            Reply::Forward | Reply::Follow(_) if !can_ask => Reply::Send,
            other => other,
        }
    }

    /// Asks others what [`Shared::answer`] could not answer.
    async fn ask(&self, packet: &[u8], transport: Transport, reply: Reply, out: &mut Vec<u8>) {
        let (Some(forwarder), Ok(query)) = (&self.forwarder, Query::parse(packet)) else {
            return;
        };
        let is_answered = match reply {
            Reply::Send | Reply::Silence => true,
            // Whom the client does not allow to be asked is not asked.
            _ if !query.recursion_desired() => true,
            Reply::Forward => match forwarder.resolve(packet, transport).await {
                Some(response) => {
                    *out = response;
                    true
                }
                None => false,
            },
            Reply::Follow(target) => follow(forwarder, &query, &target, transport, out).await,
        };
        if !is_answered {
            refuse(&query, true, Rcode::ServFail, out);
        }
    }
}

impl Server {
    /// Binds a UDP and a TCP socket to each of the addresses. Port 0 is a free one.
    ///
    /// # Errors
    /// An address that can't be bound: all of them are needed.
    pub async fn bind(listen: &[SocketAddr], shared: Arc<Shared>) -> Result<Self, BindError> {
        let mut sockets = Vec::new();
        for &address in listen {
            let pair = bind(address).map_err(|source| BindError { address, source })?;
            sockets.push(pair);
        }
        Ok(Self { sockets, shared })
    }

    /// The addresses that the sockets have.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let bound = self.sockets.iter();
        bound.filter_map(|(udp, _)| udp.local_addr().ok()).collect()
    }

    /// Serves until it is dropped.
    pub async fn run(self) {
        let mut tasks = JoinSet::new();
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        for (udp, tcp) in self.sockets {
            tasks.spawn(serve_udp(udp, Arc::clone(&self.shared)));
            let connections = Arc::clone(&connections);
            tasks.spawn(serve_tcp(tcp, Arc::clone(&self.shared), connections));
        }
        while tasks.join_next().await.is_some() {}
    }
}

fn bind(address: SocketAddr) -> io::Result<(Arc<UdpSocket>, TcpListener)> {
    let mut attempts = 0;
    loop {
        let tcp = TcpListener::from_std(socket(address, Type::STREAM)?.into())?;
        match socket(tcp.local_addr()?, Type::DGRAM).and_then(|udp| UdpSocket::from_std(udp.into())) {
            Ok(udp) => return Ok((Arc::new(udp), tcp)),
            Err(error) if address.port() != 0 || attempts == PORT_ATTEMPTS => return Err(error),
            Err(_) => attempts += 1,
        }
    }
}

/// An IPv6 socket takes no IPv4, so that `0.0.0.0` and `::` can both be bound to the same port.
fn socket(address: SocketAddr, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    if kind == Type::STREAM {
        socket.listen(BACKLOG)?;
    }
    Ok(socket)
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>) {
    let mut asking = JoinSet::new();
    let mut packet = vec![0; usize::from(u16::MAX)];
    let mut out = Vec::with_capacity(2048);
    loop {
        let (len, client) = match socket.recv_from(&mut packet).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "a datagram could not be received");
                continue;
            }
        };
        while asking.try_join_next().is_some() {}
        match shared.answer(&packet[..len], Transport::Udp, &mut out) {
            Reply::Silence => {}
            Reply::Send => send(&socket, &out, client).await,
            reply => {
                let (socket, shared) = (Arc::clone(&socket), Arc::clone(&shared));
                let (packet, mut out) = (packet[..len].to_vec(), out.clone());
                asking.spawn(async move {
                    shared.ask(&packet, Transport::Udp, reply, &mut out).await;
                    send(&socket, &out, client).await;
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, out: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(out, client).await {
        tracing::debug!(%client, %error, "a response could not be sent");
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>, connections: Arc<Semaphore>) {
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let Ok(slot) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of files, most likely: others have to end first.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let shared = Arc::clone(&shared);
        tasks.spawn(async move {
            if let Err(error) = serve_connection(stream, &shared).await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(slot);
        });
    }
}

/// One query after the other, each behind its length (RFC 7766).
async fn serve_connection(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut out = Vec::new();
    loop {
        let Ok(packet) = tokio::time::timeout(IDLE, read_packet(&mut stream)).await else {
            return Ok(());
        };
        let Some(packet) = packet? else {
            return Ok(());
        };
        match shared.answer(&packet, Transport::Tcp, &mut out) {
            Reply::Silence => return Ok(()),
            Reply::Send => {}
            reply => shared.ask(&packet, Transport::Tcp, reply, &mut out).await,
        }
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

async fn follow(
    forwarder: &Forwarder,
    query: &Query<'_>,
    target: &Name,
    transport: Transport,
    out: &mut Vec<u8>,
) -> bool {
    let limit = match transport {
        Transport::Udp => query.udp_limit(),
        Transport::Tcp => usize::from(u16::MAX),
    };
    forwarder.follow(out, target, query.record_type, limit).await
}
