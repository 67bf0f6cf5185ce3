//! Sockets with what BGP asks of them: TTLs (RFC 5082) and TCP MD5 signatures (RFC 2385).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};

use crate::config::Ttl;
use crate::router::Connect;

/// The greatest TTL: whatever has it comes from the own link.
const MOST: u32 = 255;

/// Buffers of a session's socket: enough that a reader that is a little behind does not stop us.
const BUFFER: usize = 1 << 20;

/// Listens for connections.
pub(super) fn listen(address: SocketAddr) -> io::Result<mio::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_recv_buffer_size(BUFFER)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(mio::net::TcpListener::from_std(socket.into()))
}

/// Begins to connect.
pub(super) fn connect(to: &Connect) -> io::Result<mio::net::TcpStream> {
    let socket = Socket::new(Domain::for_address(to.remote), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(local) = to.local {
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    if let Some(password) = &to.password {
        sign(&socket, IpNet::from(to.remote.ip()), Some(&password.0))?;
    }
    limit(&socket, to.remote.ip(), to.ttl, to.external)?;
    tune(&socket)?;
    match socket.connect(&to.remote.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(mio::net::TcpStream::from_std(socket.into()))
}

/// Readies a connection that was taken.
pub(super) fn taken(stream: &mio::net::TcpStream, remote: IpAddr, ttl: Ttl, external: bool) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    limit(&socket, remote, ttl, external)?;
    tune(&socket)
}

fn tune(socket: &Socket) -> io::Result<()> {
    // Whole batches are written at once: what is written shall go.
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(BUFFER)?;
    // Internetwork control (RFC 4271, appendix E): let routes through when the line is full.
    let _ = socket.set_tos_v4(0xc0);
    Ok(())
}

fn limit(socket: &Socket, remote: IpAddr, ttl: Ttl, external: bool) -> io::Result<()> {
    let (sent, least) = match ttl {
        Ttl::Default if external && !remote.is_loopback() => (Some(1), None),
        Ttl::Default => (None, None),
        Ttl::Multihop(hops) => (Some(u32::from(hops)), None),
        Ttl::Security { hops } => (Some(MOST), Some(MOST + 1 - u32::from(hops.max(1)))),
    };
    if let Some(sent) = sent {
        if remote.is_ipv4() { socket.set_ttl_v4(sent)? } else { socket.set_unicast_hops_v6(sent)? }
    }
    let Some(least) = least else { return Ok(()) };
    let (level, option) = match remote {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_MINTTL),
        // Not in the libc crate: include/uapi/linux/in6.h.
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, 73),
    };
    set(socket, level, option, &least)
}

/// `struct tcp_md5sig` of include/uapi/linux/tcp.h.
#[repr(C)]
struct Signature {
    address: [u8; 128],
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    interface: i32,
    key: [u8; 80],
}

/// `TCP_MD5SIG_EXT`: the key is for a whole prefix.
const EXTENDED: i32 = 32;
/// `TCP_MD5SIG_FLAG_PREFIX`.
const PREFIX: u8 = 1;

/// Has all segments to and from a network signed with a key, or no longer.
pub(super) fn sign(socket: &impl AsRawFd, net: IpNet, key: Option<&str>) -> io::Result<()> {
    let mut signature = Signature {
        address: sockaddr(net.addr()),
        flags: PREFIX,
        prefix_length: net.prefix_len(),
        key_length: 0,
        interface: 0,
        key: [0; 80],
    };
    if let Some(key) = key {
        let bytes = key.as_bytes();
        if bytes.is_empty() || bytes.len() > signature.key.len() {
            let why = "a TCP MD5 password has 1 to 80 bytes";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        signature.key[..bytes.len()].copy_from_slice(bytes);
        signature.key_length = u16::try_from(bytes.len()).unwrap_or_default();
    }
    match set(socket, libc::IPPROTO_TCP, EXTENDED, &signature) {
        // There was no key to be removed.
        Err(error) if key.is_none() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        done => done,
    }
}

/// `struct sockaddr_in` or `sockaddr_in6` in a `sockaddr_storage`, with port 0.
fn sockaddr(address: IpAddr) -> [u8; 128] {
    let mut bytes = [0; 128];
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    bytes[..2].copy_from_slice(&libc::sa_family_t::try_from(family).unwrap_or_default().to_ne_bytes());
    match address {
        IpAddr::V4(address) => bytes[4..8].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes[8..24].copy_from_slice(&address.octets()),
    }
    bytes
}

/// Segments that the kernel dropped because they had no signature, an unexpected one, or a wrong one.
pub(super) fn badly_signed() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap_or_default();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let counters = names.split_whitespace().zip(values.split_whitespace());
    let wanted = counters.filter(|(name, _)| matches!(*name, "TCPMD5NotFound" | "TCPMD5Unexpected" | "TCPMD5Failure"));
    wanted.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
}

fn set<T>(socket: &impl AsRawFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default();
    // SAFETY: the pointer is to a value of that length, which lives until the call returns.
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
