//! Who answers: an ICMP echo a second to each of some hundred addresses (RFC 792, RFC 4443), to notice within seconds
//! that a peer is gone.
//!
//! What a reply or its absence means is decided in [`machine`], which knows neither socket nor clock; the packets are in
//! [`echo`]; here both are joined to one raw socket a family.

mod echo;
mod machine;

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::sys::socket::{
    self, ControlMessage, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike, SockaddrStorage, sockopt,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::error::HostError;
use crate::sys;
use echo::{Echo, Prober as ProberId};
use machine::Machine;
pub use machine::{Settings, State, Target};

/// A running prober. Dropping it stops the probes.
#[derive(Debug)]
pub struct Prober {
    shared: Arc<Shared>,
    changes: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    machine: Mutex<Machine>,
    targets_changed: Notify,
}

impl Prober {
    /// Opens the sockets, in the namespace of the calling thread, and starts without targets. Needs a tokio runtime.
    ///
    /// # Errors
    /// Without CAP_NET_RAW. A kernel without IPv6 is fine: IPv6 targets then never answer.
    pub fn new(settings: Settings) -> Result<Self, HostError> {
        let failed = || HostError::io("open a raw ICMP socket to probe peers with (needs CAP_NET_RAW)");
        let v4 = Raw::open(false).map_err(failed())?;
        let v6 = match Raw::open(true) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            other => Some(other.map_err(failed())?),
        };
        let shared = Arc::new(Shared { machine: Mutex::new(Machine::new(settings)), targets_changed: Notify::new() });
        let (sender, changes) = watch::channel(0);
        let task = tokio::spawn(run(shared.clone(), v4, v6, sender));
        Ok(Self { shared, changes, task })
    }

    /// Probes these and no others. A target that was probed before in the same way keeps its state; the first echoes of
    /// new ones are spread over an interval.
    pub fn set_targets(&self, targets: Vec<Target>) {
        self.shared.lock().set_targets(Instant::now(), targets);
        self.shared.targets_changed.notify_one();
    }

    /// What is known of the target with this number.
    pub fn state(&self, id: u64) -> Option<State> {
        self.shared.lock().state(id)
    }

    /// A count that grows whenever a target begins or ceases to answer. It says that something changed; [`Self::state`]
    /// says what.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(shared: Arc<Shared>, mut v4: Raw, mut v6: Option<Raw>, changes: watch::Sender<u64>) {
    let prober = ProberId::random();
    let (mut buffer4, mut buffer6) = ([0; 512], [0; 512]);
    loop {
        let due = shared.lock().next();
        let changed = tokio::select! {
            () = until(due) => shared.lock().due(Instant::now(), |target, sequence| {
                let socket = if target.address.is_ipv4() { Some(&mut v4) } else { v6.as_mut() };
                // An echo that cannot be sent is one that is not answered.
                let sent = socket.map(|socket| socket.send(target, prober, sequence));
                if let Some(Err(error)) = sent {
                    tracing::debug!(address = %target.address, %error, "cannot send an echo");
                }
            }),
            () = shared.targets_changed.notified() => false,
            read = v4.receive(&mut buffer4) => heard(&shared, prober, read),
            read = async {
                match &v6 {
                    Some(socket) => socket.receive(&mut buffer6).await,
                    None => std::future::pending().await,
                }
            } => heard(&shared, prober, read),
        };
        if changed {
            changes.send_modify(|count| *count += 1);
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn heard(shared: &Shared, prober: ProberId, packet: Option<(IpAddr, &[u8])>) -> bool {
    let reply = packet.and_then(|(from, bytes)| Some((from, Echo::of_reply(from.is_ipv6(), bytes, prober)?)));
    reply.is_some_and(|(from, echo)| shared.lock().reply(Instant::now(), from, echo.target, echo.sequence))
}

/// A raw ICMP socket that lets through replies to echoes only.
#[derive(Debug)]
struct Raw {
    socket: AsyncFd<OwnedFd>,
    ipv6: bool,
    mark: u32,
}

impl Raw {
    fn open(ipv6: bool) -> io::Result<Self> {
        let (domain, protocol) = match ipv6 {
            false => (socket2::Domain::IPV4, socket2::Protocol::ICMPV4),
            true => (socket2::Domain::IPV6, socket2::Protocol::ICMPV6),
        };
        let socket = socket2::Socket::new(domain, socket2::Type::RAW, Some(protocol))?;
        socket.set_nonblocking(true)?;
        let socket = OwnedFd::from(socket);
        sys::pass_echo_replies_only(&socket, ipv6)?;
        Ok(Self { socket: sys::register(socket)?, ipv6, mark: 0 })
    }

    /// Source and link go with the packet as ancillary data (ip(7) `IP_PKTINFO`, RFC 3542), so that one socket serves
    /// all; the mark is the socket's, set anew when the next target has another.
    fn send(&mut self, target: &Target, prober: ProberId, sequence: u32) -> io::Result<()> {
        let fd = self.socket.get_ref();
        let mark = target.mark.unwrap_or_default();
        if mark != self.mark {
            socket::setsockopt(fd, sockopt::Mark, &mark)?;
            self.mark = mark;
        }
        let link = target.device.as_deref().map(|name| sys::link_index(fd, name)).transpose()?.unwrap_or_default();
        let bytes = Echo { target: target.id, sequence }.request(self.ipv6, prober);
        let payload = [IoSlice::new(&bytes)];
        match target.address {
            IpAddr::V4(address) => {
                let source = match target.source {
                    Some(IpAddr::V4(source)) => u32::from(source).to_be(),
                    _ => 0,
                };
                let info = libc::in_pktinfo {
                    ipi_ifindex: link as i32,
                    ipi_spec_dst: libc::in_addr { s_addr: source },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let to = SockaddrIn::from(std::net::SocketAddrV4::new(address, 0));
                self.send_with(&payload, ControlMessage::Ipv4PacketInfo(&info), &to)
            }
            IpAddr::V6(address) => {
                let source = match target.source {
                    Some(IpAddr::V6(source)) => source.octets(),
                    _ => [0; 16],
                };
                let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: source }, ipi6_ifindex: link };
                let scope = if address.is_unicast_link_local() { link } else { 0 };
                let to = SockaddrIn6::from(SocketAddrV6::new(address, 0, 0, scope));
                self.send_with(&payload, ControlMessage::Ipv6PacketInfo(&info), &to)
            }
        }
    }

    fn send_with<A: SockaddrLike>(&self, payload: &[IoSlice], info: ControlMessage, to: &A) -> io::Result<()> {
        let fd = self.socket.get_ref().as_raw_fd();
        socket::sendmsg(fd, payload, &[info], MsgFlags::MSG_DONTWAIT, Some(to))?;
        Ok(())
    }

    /// The next packet, or nothing for one that could not be read.
    async fn receive<'a>(&self, buffer: &'a mut [u8]) -> Option<(IpAddr, &'a [u8])> {
        let read = self.socket.async_io(tokio::io::Interest::READABLE, |fd| {
            Ok(socket::recvfrom::<SockaddrStorage>(fd.as_raw_fd(), buffer)?)
        });
        let (length, from) = read.await.ok()?;
        let from = from?;
        let v4 = from.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        let address = v4.or_else(|| from.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))?;
        Some((address, buffer.get(..length)?))
    }
}
