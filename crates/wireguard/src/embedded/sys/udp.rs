//! UDP in batches: sendmmsg(2) and recvmmsg(2), with segmentation on the way out and coalescing on the way in
//! (`UDP_SEGMENT`, `UDP_GRO` of udp(7)), and the addresses and ECN bits of each (ip(7), ipv6(7)).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use libc::{c_int, c_uint, c_void, cmsghdr, in_pktinfo, in6_pktinfo, iovec, mmsghdr, sockaddr_storage};

/// The longest that one message to the kernel may be: an IPv6 packet of 65535 bytes less the UDP header, which is also
/// within IPv4's limit.
pub(in super::super) const MAX_MESSAGE: usize = 65_535 - 20 - 8;

/// The most datagrams in one message to the kernel (`UDP_MAX_SEGMENTS` of the kernels before 6.9).
pub(in super::super) const MAX_SEGMENTS: usize = 64;

/// How many messages are received, or sent, by one call.
pub(in super::super) const BATCH: usize = 8;

/// Room for one message that the kernel has joined.
const ROOM: usize = 65_536;

/// Room for the control data: addresses (40 bytes), ECN (24) and segment size (24).
const CONTROL_WORDS: usize = 12;
const CONTROL_HEADER: usize = size_of::<cmsghdr>();

/// `linux/udp.h`.
const UDP_SEGMENT: c_int = 103;
const UDP_GRO: c_int = 104;

/// Where a peer is, and from which of our addresses it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Endpoint {
    pub(in super::super) to: SocketAddr,
    /// The address that its packets came to, and the interface (0: any).
    pub(in super::super) from: Option<(IpAddr, u32)>,
}

/// Datagrams of one size (the last may be shorter) to one endpoint, one after the other in an arena.
#[derive(Debug, Clone)]
pub(in super::super) struct Transmit {
    pub(in super::super) endpoint: Endpoint,
    pub(in super::super) bytes: Range<usize>,
    pub(in super::super) segment: usize,
    /// Traffic class: DSCP and ECN.
    pub(in super::super) tos: u8,
}

/// Datagrams that came together: each `segment` bytes long, the last may be shorter.
#[derive(Debug, Clone)]
pub(in super::super) struct Received {
    pub(in super::super) endpoint: Endpoint,
    pub(in super::super) bytes: Range<usize>,
    pub(in super::super) segment: usize,
    pub(in super::super) ecn: u8,
}

/// A socket for one family.
pub(in super::super) struct Socket {
    fd: OwnedFd,
    is_v6: bool,
}

/// What one call of recvmmsg(2) fills.
pub(in super::super) struct Inbox {
    arena: Vec<u8>,
    names: [sockaddr_storage; BATCH],
    controls: [Control; BATCH],
    received: Vec<Received>,
}

#[derive(Clone, Copy, Default)]
#[repr(C, align(8))]
struct Control([u64; CONTROL_WORDS]);

impl Socket {
    /// Listens on the port of all addresses (0: any that is free).
    pub(in super::super) fn bind(is_v6: bool, port: u16, fwmark: u32, buffer: usize) -> io::Result<Self> {
        let family = if is_v6 { libc::AF_INET6 } else { libc::AF_INET };
        // SAFETY: no pointers; the descriptor that comes back is ours alone.
        let fd = unsafe {
            let fd = libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
            check(fd)?;
            OwnedFd::from_raw_fd(fd)
        };
        let socket = Self { fd, is_v6 };
        socket.set_fwmark(fwmark)?;
        // Without CAP_NET_ADMIN in the first user namespace only up to the system's limit.
        for (forced, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
            let size = c_int::try_from(buffer).unwrap_or(c_int::MAX);
            socket.set(libc::SOL_SOCKET, forced, size).or_else(|_| socket.set(libc::SOL_SOCKET, plain, size))?;
        }
        if is_v6 {
            socket.set(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
            socket.set(libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
            socket.set(libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
            socket.set(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)?;
        } else {
            socket.set(libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
            socket.set(libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
            // Encrypted packets that are too long for the path are fragmented, as the kernel's WireGuard has it.
            socket.set(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
        }
        // Linux before 5.0 has none; datagrams then come one by one.
        let _ = socket.set(libc::IPPROTO_UDP, UDP_GRO, 1);
        let any = if is_v6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
        let (name, length) = sockaddr(SocketAddr::new(any, port));
        // SAFETY: the address lives until the call is over and is as long as is said.
        check(unsafe { libc::bind(socket.fd.as_raw_fd(), (&raw const name).cast(), length) })?;
        Ok(socket)
    }

    pub(in super::super) fn port(&self) -> io::Result<u16> {
        // SAFETY: a sockaddr_storage of zeros is one of the family AF_UNSPEC.
        let mut name: sockaddr_storage = unsafe { std::mem::zeroed() };
        let mut length = size_of::<sockaddr_storage>() as libc::socklen_t;
        // SAFETY: both pointers lead to locals, and the length is that of the storage.
        check(unsafe { libc::getsockname(self.fd.as_raw_fd(), (&raw mut name).cast(), &raw mut length) })?;
        address(&name).map(|address| address.port()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    pub(in super::super) fn set_fwmark(&self, mark: u32) -> io::Result<()> {
        if mark == 0 && self.get(libc::SOL_SOCKET, libc::SO_MARK)? == 0 {
            return Ok(());
        }
        self.set(libc::SOL_SOCKET, libc::SO_MARK, mark as c_int)
    }

    /// The receive buffer that the kernel gave, in bytes (it counts its own overhead in, hence the half).
    pub(in super::super) fn buffer(&self) -> io::Result<usize> {
        Ok(self.get(libc::SOL_SOCKET, libc::SO_RCVBUF)? as usize / 2)
    }

    /// Sends what lies in `arena`. What can't be sent is left out, with the first reason as the error: the rest is sent.
    pub(in super::super) fn send(&self, arena: &[u8], transmits: &[Transmit]) -> io::Result<()> {
        let mut result = Ok(());
        for batch in transmits.chunks(BATCH) {
            let mut rest = batch;
            while !rest.is_empty() {
                match self.send_batch(arena, rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        // The first one of the batch is to blame.
                        let again = self.send_with_less(arena, &rest[0], error);
                        result = result.and(again);
                        rest = &rest[1..];
                    }
                }
            }
        }
        result
    }

    /// Sends again what was refused, without what could have been the reason: an own address that is gone, or datagrams
    /// joined in one message (longer than the path's MTU, or a device that can't).
    fn send_with_less(&self, arena: &[u8], transmit: &Transmit, error: io::Error) -> io::Result<()> {
        let mut transmit = transmit.clone();
        transmit.endpoint.from = None;
        let (all, segment) = (transmit.bytes.clone(), transmit.segment.max(1));
        let mut result = Err(error);
        for start in all.clone().step_by(segment) {
            transmit.bytes = start..all.end.min(start + segment);
            result = self.send_batch(arena, std::slice::from_ref(&transmit)).map(drop);
        }
        result
    }

    fn send_batch(&self, arena: &[u8], transmits: &[Transmit]) -> io::Result<usize> {
        // SAFETY: mmsghdrs, iovecs and addresses of zeros are empty ones.
        let (mut messages, mut vectors, mut names): ([mmsghdr; BATCH], [iovec; BATCH], [sockaddr_storage; BATCH]) =
            unsafe { std::mem::zeroed() };
        let mut controls = [Control::default(); BATCH];
        for (at, transmit) in transmits.iter().enumerate() {
            let bytes = arena.get(transmit.bytes.clone()).unwrap_or_default();
            vectors[at] = iovec { iov_base: bytes.as_ptr().cast_mut().cast::<c_void>(), iov_len: bytes.len() };
            let (name, length) = sockaddr(transmit.endpoint.to);
            names[at] = name;
            let header = &mut messages[at].msg_hdr;
            header.msg_name = (&raw mut names[at]).cast();
            header.msg_namelen = length;
            header.msg_iov = &raw mut vectors[at];
            header.msg_iovlen = 1;
            let used = controls[at].describe(transmit, self.is_v6);
            if used > 0 {
                header.msg_control = (&raw mut controls[at]).cast();
                header.msg_controllen = used;
            }
        }
        // SAFETY: as many messages as transmits, whose pointers lead into the arrays above and into `arena`, which
        // stay where they are until the call is over; the kernel only reads them.
        let sent = unsafe {
            libc::sendmmsg(self.fd.as_raw_fd(), messages.as_mut_ptr(), transmits.len() as c_uint, libc::MSG_NOSIGNAL)
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }

    fn set(&self, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
        let length = size_of::<c_int>() as libc::socklen_t;
        // SAFETY: the value is an int, as these options are, and lives until the call is over.
        check(unsafe { libc::setsockopt(self.fd.as_raw_fd(), level, name, (&raw const value).cast(), length) })
    }

    fn get(&self, level: c_int, name: c_int) -> io::Result<c_int> {
        let mut value: c_int = 0;
        let mut length = size_of::<c_int>() as libc::socklen_t;
        let to = (&raw mut value).cast();
        // SAFETY: the value is an int, as these options are, and the length says so.
        check(unsafe { libc::getsockopt(self.fd.as_raw_fd(), level, name, to, &raw mut length) })?;
        Ok(value)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Inbox {
    pub(in super::super) fn new() -> Self {
        Self {
            arena: vec![0; BATCH * ROOM],
            // SAFETY: a sockaddr_storage of zeros is one of the family AF_UNSPEC.
            names: unsafe { std::mem::zeroed() },
            controls: [Control::default(); BATCH],
            received: Vec::with_capacity(BATCH),
        }
    }

    /// Takes the datagrams that are there; `WouldBlock` where there are none.
    pub(in super::super) fn receive(&mut self, socket: &Socket) -> io::Result<()> {
        self.received.clear();
        // SAFETY: mmsghdrs and iovecs of zeros are empty ones.
        let (mut messages, mut vectors): ([mmsghdr; BATCH], [iovec; BATCH]) = unsafe { std::mem::zeroed() };
        for (at, room) in self.arena.chunks_exact_mut(ROOM).enumerate() {
            vectors[at] = iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
            let header = &mut messages[at].msg_hdr;
            header.msg_name = (&raw mut self.names[at]).cast();
            header.msg_namelen = size_of::<sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut vectors[at];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[at]).cast();
            header.msg_controllen = size_of::<Control>();
        }
        // SAFETY: BATCH messages, whose pointers lead to memory of ours of the lengths beside them, each to its own;
        // it stays where it is until the call is over.
        let count = unsafe {
            libc::recvmmsg(
                socket.fd.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as c_uint,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (at, message) in messages.iter().enumerate().take(count) {
            let length = (message.msg_len as usize).min(ROOM);
            let Some(to) = address(&self.names[at]).filter(|_| message.msg_hdr.msg_namelen > 0) else { continue };
            let control = self.controls[at].read(message.msg_hdr.msg_controllen);
            self.received.push(Received {
                endpoint: Endpoint { to, from: control.local },
                bytes: at * ROOM..at * ROOM + length,
                segment: control.segment.unwrap_or(length).max(1),
                ecn: control.tos & 3,
            });
        }
        Ok(())
    }

    /// What the last call received, and where it lies.
    pub(in super::super) fn parts(&mut self) -> (&mut [u8], &[Received]) {
        (&mut self.arena, &self.received)
    }
}

/// What the control data of a received message says.
#[derive(Default)]
struct Said {
    local: Option<(IpAddr, u32)>,
    segment: Option<usize>,
    tos: u8,
}

impl Control {
    /// Says how to send; gives the length.
    fn describe(&mut self, transmit: &Transmit, is_v6: bool) -> usize {
        let mut used = 0;
        let level = if is_v6 { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
        match transmit.endpoint.from {
            Some((IpAddr::V4(ip), index)) if !is_v6 => {
                let mut data = [0_u8; size_of::<in_pktinfo>()];
                data[..4].copy_from_slice(&index.to_ne_bytes());
                data[4..8].copy_from_slice(&ip.octets());
                used = self.push(used, level, libc::IP_PKTINFO, &data);
            }
            Some((IpAddr::V6(ip), index)) if is_v6 => {
                let mut data = [0_u8; size_of::<in6_pktinfo>()];
                data[..16].copy_from_slice(&ip.octets());
                data[16..].copy_from_slice(&index.to_ne_bytes());
                used = self.push(used, level, libc::IPV6_PKTINFO, &data);
            }
            _ => {}
        }
        if transmit.tos != 0 {
            let kind = if is_v6 { libc::IPV6_TCLASS } else { libc::IP_TOS };
            used = self.push(used, level, kind, &c_int::from(transmit.tos).to_ne_bytes());
        }
        if transmit.bytes.len() > transmit.segment {
            let segment = transmit.segment as u16;
            used = self.push(used, libc::IPPROTO_UDP, UDP_SEGMENT, &segment.to_ne_bytes());
        }
        used
    }

    fn push(&mut self, at: usize, level: c_int, kind: c_int, data: &[u8]) -> usize {
        let length = CONTROL_HEADER + data.len();
        let bytes = self.bytes();
        bytes[at..at + 8].copy_from_slice(&length.to_ne_bytes());
        bytes[at + 8..at + 12].copy_from_slice(&level.to_ne_bytes());
        bytes[at + 12..at + 16].copy_from_slice(&kind.to_ne_bytes());
        bytes[at + CONTROL_HEADER..at + length].copy_from_slice(data);
        at + length.next_multiple_of(8)
    }

    fn read(&mut self, length: usize) -> Said {
        let mut said = Said::default();
        let mut rest: &[u8] = &self.bytes()[..length.min(CONTROL_WORDS * 8)];
        let int =
            |bytes: &[u8], at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(c_int::from_ne_bytes);
        while let Some(length) = rest.get(..8).and_then(|b| b.try_into().ok()).map(usize::from_ne_bytes) {
            let (Some(level), Some(kind)) = (int(rest, 8), int(rest, 12)) else { break };
            let Some(data) = rest.get(CONTROL_HEADER..length) else { break };
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) if data.len() >= 8 => {
                    let ip = Ipv4Addr::new(data[4], data[5], data[6], data[7]);
                    said.local = Some((ip.into(), 0));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if data.len() >= 20 => {
                    let ip = <[u8; 16]>::try_from(&data[..16]).map(Ipv6Addr::from).unwrap_or(Ipv6Addr::UNSPECIFIED);
                    // Routing chooses the way back; only a link-local address means nothing without its interface.
                    let index = if ip.is_unicast_link_local() { int(data, 16).unwrap_or(0) as u32 } else { 0 };
                    said.local = Some((ip.into(), index));
                }
                (libc::IPPROTO_IP, libc::IP_TOS) => said.tos = data.first().copied().unwrap_or(0),
                (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => said.tos = int(data, 0).unwrap_or(0) as u8,
                (libc::IPPROTO_UDP, UDP_GRO) => {
                    said.segment = int(data, 0).and_then(|size| usize::try_from(size).ok()).filter(|size| *size > 0);
                }
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(8)..).unwrap_or_default();
        }
        said
    }

    fn bytes(&mut self) -> &mut [u8; CONTROL_WORDS * 8] {
        // SAFETY: any bytes are a u8, and the array is as long.
        unsafe { &mut *(&raw mut self.0).cast() }
    }
}

fn sockaddr(address: SocketAddr) -> (sockaddr_storage, libc::socklen_t) {
    // SAFETY: a sockaddr_storage of zeros is one of the family AF_UNSPEC.
    let mut storage: sockaddr_storage = unsafe { std::mem::zeroed() };
    match address {
        SocketAddr::V4(address) => {
            // SAFETY: the storage is large enough for any address and aligned for it.
            let name = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in>() };
            name.sin_family = libc::AF_INET as _;
            name.sin_port = address.port().to_be();
            name.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
            (storage, size_of::<libc::sockaddr_in>() as _)
        }
        SocketAddr::V6(address) => {
            // SAFETY: as above.
            let name = unsafe { &mut *(&raw mut storage).cast::<libc::sockaddr_in6>() };
            name.sin6_family = libc::AF_INET6 as _;
            name.sin6_port = address.port().to_be();
            name.sin6_addr.s6_addr = address.ip().octets();
            name.sin6_scope_id = address.scope_id();
            (storage, size_of::<libc::sockaddr_in6>() as _)
        }
    }
}

fn address(storage: &sockaddr_storage) -> Option<SocketAddr> {
    match c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is one; the storage is large enough and aligned.
            let name = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let name = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(name.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(name.sin6_port), 0, name.sin6_scope_id).into())
        }
        _ => None,
    }
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
