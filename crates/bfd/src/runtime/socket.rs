//! The sockets: one for each address and kind to receive at, one for each session to send from.

use std::collections::BTreeSet;
use std::io::{self, IoSliceMut, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};

use super::{filter, sys};

/// The hop limit that packets leave with, and over one hop arrive with (RFC 5881, section 5).
pub(super) const HOPS: u8 = 255;

/// Network control (RFC 4594, section 3.1), so that a full link drops other packets first.
const TRAFFIC_CLASS: u32 = 0xc0;

/// Source ports (RFC 5881, section 4).
pub(super) const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;

/// A datagram's surroundings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) hops: u8,
    pub(super) length: usize,
}

/// A socket at which packets come.
pub(super) struct Listener {
    socket: Socket,
    pub(super) address: IpAddr,
    pub(super) multihop: bool,
}

impl Listener {
    /// Opens the socket to packets of `sources`.
    ///
    /// # Errors
    /// The address is not there, the port is taken, or the kernel's other reason.
    pub(super) fn open(address: IpAddr, port: u16, multihop: bool, sources: &BTreeSet<IpAddr>) -> io::Result<Self> {
        let socket = udp(address)?;
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        let listener = Self { socket, address, multihop };
        listener.filter(sources);
        listener.socket.bind(&SocketAddr::new(address, port).into())?;
        Ok(listener)
    }

    /// Has the kernel drop what is not from one of `sources`. What it lets through all the same, for instance because
    /// there are more than a filter can hold, is sorted out by the caller.
    pub(super) fn filter(&self, sources: &BTreeSet<IpAddr>) {
        let attached = filter::program(sources).map(|program| self.socket.attach_filter(&program));
        if !matches!(attached, Some(Ok(()))) {
            // An error is that there was none.
            let _ = self.socket.detach_filter();
        }
    }

    /// How many datagrams the kernel has dropped that were for this socket.
    pub(super) fn dropped(&self) -> u64 {
        sys::drops(&self.socket).unwrap_or(0)
    }

    /// The next datagram; `None` when there is none. One that does not say where it came from and how far is skipped:
    /// the kernel always says it.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> Option<Arrival> {
        let mut control = cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo, libc::c_int);
        loop {
            let mut parts = [IoSliceMut::new(buffer)];
            let message = recvmsg::<SockaddrStorage>(
                self.socket.as_raw_fd(),
                &mut parts,
                Some(&mut control),
                MsgFlags::MSG_DONTWAIT,
            );
            let message = match message {
                Ok(message) => message,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return None,
            };
            let (mut destination, mut hops) = (None, None);
            for part in message.cmsgs().into_iter().flatten() {
                match part {
                    ControlMessageOwned::Ipv4PacketInfo(info) => {
                        destination = Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
                    }
                    ControlMessageOwned::Ipv6PacketInfo(info) => {
                        destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
                    }
                    ControlMessageOwned::Ipv4Ttl(value) | ControlMessageOwned::Ipv6HopLimit(value) => {
                        hops = u8::try_from(value).ok();
                    }
                    _ => {}
                }
            }
            let source = message.address.as_ref().and_then(ip);
            if let (Some(source), Some(destination), Some(hops)) = (source, destination, hops) {
                return Some(Arrival { source, destination, hops, length: message.bytes });
            }
        }
    }
}

/// Opens a socket to send a session's packets from, at a port that no other session has.
///
/// # Errors
/// The own address is not there, or the kernel's other reason.
pub(super) fn sender(local: Option<IpAddr>, remote: IpAddr) -> io::Result<Socket> {
    let any = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let local = local.unwrap_or(any);
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..64 {
        let socket = udp(remote)?;
        if remote.is_ipv4() {
            socket.set_ttl_v4(HOPS.into())?;
            socket.set_tos_v4(TRAFFIC_CLASS)?;
        } else {
            socket.set_unicast_hops_v6(HOPS.into())?;
            socket.set_tclass_v6(TRAFFIC_CLASS)?;
        }
        // Nothing is read from it: what strangers send there shall not take up memory.
        socket.set_recv_buffer_size(0)?;
        let port = rand::random_range(SOURCE_PORTS);
        match socket.bind(&SocketAddr::new(local, port).into()) {
            Ok(()) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Sleeps until a datagram or a wake comes, or the time does. Whether it was a wake.
pub(super) fn wait<'a>(
    waker: &UnixStream,
    listeners: impl Iterator<Item = &'a Listener>,
    deadline: Option<Instant>,
) -> bool {
    let mut polled = vec![PollFd::new(waker.as_fd(), PollFlags::POLLIN)];
    polled.extend(listeners.map(|listener| PollFd::new(listener.socket.as_fd(), PollFlags::POLLIN)));
    let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    // Interrupted or not: what is due is done, and what is not is waited for again.
    let _ = ppoll(&mut polled, timeout.map(|left: Duration| TimeSpec::from_duration(left)), None);
    let woken = polled.first().and_then(PollFd::any).unwrap_or(false);
    if woken {
        let mut waker = waker;
        while matches!(waker.read(&mut [0; 64]), Ok(64)) {}
    }
    woken
}

fn udp(family: IpAddr) -> io::Result<Socket> {
    let domain = if family.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if family.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}
