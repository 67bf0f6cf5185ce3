//! One client's session with the reflector.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, SocketAddrV4};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Socket, Type};

use crate::message::{self, KEEPALIVE, NOTIFICATION, OPEN, UPDATE};
use crate::table::Table;
use crate::work::Work;

/// How long a client waits for the reflector's OPEN.
const STALE: Duration = Duration::from_secs(5);

/// A client: its connection, and what it was told.
pub struct Session {
    client: u32,
    stream: TcpStream,
    /// When it began to connect.
    since: Instant,
    opened: bool,
    /// OPEN and KEEPALIVE have come.
    pub established: bool,
    /// What has come of a message that is not all there.
    partial: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
    /// What it holds.
    pub table: Table,
}

/// What became of a session when it was looked after.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It goes on.
    Alive,
    /// The connection was refused or closed before it was established: the reflector may not be ready yet.
    TooEarly,
}

impl Session {
    /// Starts to connect, from the client's own address.
    pub fn connect(work: &Work, client: u32, target: SocketAddrV4, registry: &Registry) -> anyhow::Result<Session> {
        let source = SocketAddr::from((work.address(client), 0));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.bind(&source.into()).with_context(|| format!("{source} cannot be bound to"))?;
        match socket.connect(&SocketAddr::from(target).into()) {
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32) => {}
            other => other.with_context(|| format!("{target} cannot be connected to"))?,
        }
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, Token(client as usize), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Session {
            client,
            stream,
            since: Instant::now(),
            opened: false,
            established: false,
            partial: Vec::new(),
            out: message::open(work.address(client)),
            sent: 0,
            table: Table::new(work, client),
        })
    }

    /// Whether the reflector has not said anything for so long that the client should try anew: its connection may
    /// have been one too many for the queue of those that wait to be accepted.
    pub fn is_stale(&self, now: Instant) -> bool {
        // Not all at the same moment, or the queue is too short for them again.
        let spread = Duration::from_millis(u64::from(self.client) * 7919 % 1000);
        !self.opened && now.duration_since(self.since) > STALE + spread
    }

    /// Queues messages, and sends what can be sent.
    pub fn send(&mut self, messages: Vec<u8>) -> anyhow::Result<()> {
        if self.out.is_empty() {
            self.out = messages;
        } else {
            self.out.extend(messages);
        }
        self.flush()
    }

    /// Queues a KEEPALIVE.
    pub fn keepalive(&mut self) -> anyhow::Result<()> {
        let mut out = Vec::new();
        message::push(&mut out, KEEPALIVE, &[]);
        self.send(out)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).with_context(|| format!("client {} cannot send", self.client)),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Sends and receives what there is. `buffer` is shared by all sessions.
    ///
    /// # Errors
    /// The session was lost, or what came is wrong.
    pub fn work(&mut self, work: &Work, buffer: &mut [u8]) -> anyhow::Result<Health> {
        match self.exchange(work, buffer) {
            Err(error) if !self.established && error.is::<Closed>() => Ok(Health::TooEarly),
            Err(error) => Err(error).with_context(|| format!("client {}", self.client)),
            Ok(()) => Ok(Health::Alive),
        }
    }

    fn exchange(&mut self, work: &Work, buffer: &mut [u8]) -> anyhow::Result<()> {
        if let Err(error) = self.flush() {
            return Err(if self.established { error } else { Closed.into() });
        }
        loop {
            let kept = self.partial.len();
            buffer[..kept].copy_from_slice(&self.partial);
            let count = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => return Err(Closed.into()),
                Ok(count) => count,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if self.established => return Err(error.into()),
                Err(_) => return Err(Closed.into()),
            };
            let mut bytes = &buffer[..kept + count];
            while let Some((kind, body, length)) = message::first(bytes)? {
                self.take(work, kind, body)?;
                bytes = &bytes[length..];
            }
            self.partial.clear();
            self.partial.extend_from_slice(bytes);
        }
    }

    fn take(&mut self, work: &Work, kind: u8, body: &[u8]) -> anyhow::Result<()> {
        match kind {
            OPEN => {
                self.opened = true;
                self.keepalive()
            }
            KEEPALIVE => {
                self.established |= self.opened;
                Ok(())
            }
            UPDATE => self.table.apply(work, &message::update(body)?),
            NOTIFICATION if self.established => {
                let code = body.first_chunk().copied().unwrap_or([0, 0]);
                bail!("the reflector ended the session with notification {}/{}", code[0], code[1])
            }
            NOTIFICATION => Err(Closed.into()),
            _ => Ok(()),
        }
    }
}

/// The reflector closed the connection.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("the reflector closed the connection")
    }
}

impl std::error::Error for Closed {}
