//! System calls that no safe wrapper of ours covers.

use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd, OwnedFd};

use tokio::io::unix::AsyncFd;

/// Socket option level and name of raw(7)'s `ICMP_FILTER` (linux/icmp.h), and of RFC 3542's `ICMP6_FILTER`.
const SOL_RAW: libc::c_int = 255;
const ICMP_FILTER: libc::c_int = 1;
const SOL_ICMPV6: libc::c_int = 58;
const ICMPV6_FILTER: libc::c_int = 1;

/// Hands the socket to the runtime, to wait for what it receives.
pub(crate) fn register(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and names the same descriptor for as long as it lives, and the result owns it.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

/// Lets the kernel drop everything but replies to echoes on a raw ICMP socket. In both filters a set bit drops a type.
pub(crate) fn pass_echo_replies_only(socket: &OwnedFd, ipv6: bool) -> io::Result<()> {
    let (level, name, mut filter, passed, words) = match ipv6 {
        false => (SOL_RAW, ICMP_FILTER, [u32::MAX; 8], 0, 1),
        true => (SOL_ICMPV6, ICMPV6_FILTER, [u32::MAX; 8], 129, 8),
    };
    filter[passed / 32] &= !(1 << (passed % 32));
    let filter = &filter[..words];
    // SAFETY: the pointer and the length are those of a live slice, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            filter.as_ptr().cast(),
            size_of_val(filter) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The index of a link of the namespace of the socket (netdevice(7) `SIOCGIFINDEX`), which need not be the thread's.
pub(crate) fn link_index(socket: &OwnedFd, name: &str) -> io::Result<u32> {
    // SAFETY: all zeros are a valid `ifreq`: integers and byte arrays.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    // SAFETY: the request is a live `ifreq` with a name that ends in a zero byte; the kernel writes within it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFINDEX as _, &mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: after success the kernel has set the index, and any bytes are a valid integer.
    Ok(unsafe { request.ifr_ifru.ifru_ifindex } as u32)
}
