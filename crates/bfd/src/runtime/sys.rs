//! A socket option that no safe wrapper of ours covers.

use std::io;
use std::mem::size_of_val;
use std::os::fd::AsRawFd;

use socket2::Socket;

/// `SK_MEMINFO_VARS` and `SK_MEMINFO_DROPS` (linux/sock_diag.h).
const VARIABLES: usize = 9;
const DROPS: usize = 8;

/// How many datagrams for the socket the kernel has dropped, for want of room or by its filter (socket(7),
/// `SO_MEMINFO`).
pub(super) fn drops(socket: &Socket) -> io::Result<u64> {
    let mut variables = [0u32; VARIABLES];
    let mut length = size_of_val(&variables) as libc::socklen_t;
    // SAFETY: the pointer and the length are those of a live array, within which the kernel writes; any bytes are
    // valid integers.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            variables.as_mut_ptr().cast(),
            &mut length,
        )
    };
    if result == 0 { Ok(variables[DROPS].into()) } else { Err(io::Error::last_os_error()) }
}
