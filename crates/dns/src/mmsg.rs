//! Many datagrams in one system call: recvmmsg(2) and sendmmsg(2).
//!
//! With sockets that are bound to no address in particular, each datagram comes with the address
//! that it was sent to (IP_PKTINFO of ip(7), IPV6_PKTINFO of ipv6(7)), from which the response has
//! to come.
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::AsRawFd;

use libc::{
    c_int, c_uint, c_void, iovec, mmsghdr, msghdr, sa_family_t, sockaddr_in, sockaddr_in6, sockaddr_storage, socklen_t,
};

/// How many datagrams are taken at once.
pub(crate) const BATCH: usize = 32;

/// Longer queries are cut off. There are none: a name, and some options.
const MAX_QUERY: usize = 2048;

/// Room for one `in6_pktinfo`, the larger of the two, behind its header, in words: 16 + 20 bytes.
const CONTROL_WORDS: usize = 5;
const CONTROL_HEADER: usize = 16;

/// Who sent a datagram, and to which of our addresses.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    name: sockaddr_storage,
    name_len: socklen_t,
    control: [u64; CONTROL_WORDS],
    control_len: usize,
}

/// Datagrams that came together.
pub(crate) struct Received {
    buffers: Vec<u8>,
    lens: [usize; BATCH],
    peers: Vec<Peer>,
}

impl Peer {
    const NOBODY: Self = Self {
        // SAFETY: a sockaddr_storage of zeros is one of the family AF_UNSPEC.
        name: unsafe { std::mem::zeroed() },
        name_len: 0,
        control: [0; CONTROL_WORDS],
        control_len: 0,
    };

    /// The sender's address and port; none where it has no address.
    pub(crate) fn address(&self) -> Option<(IpAddr, u16)> {
        match c_int::from(self.name.ss_family) {
            libc::AF_INET if self.name_len as usize >= size_of::<sockaddr_in>() => {
                // SAFETY: the kernel wrote a sockaddr_in here: family and length say so. The
                // storage is large enough for any address and aligned for it.
                let name = unsafe { &*(&raw const self.name).cast::<sockaddr_in>() };
                Some((Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr)).into(), u16::from_be(name.sin_port)))
            }
            libc::AF_INET6 if self.name_len as usize >= size_of::<sockaddr_in6>() => {
                // SAFETY: as above, a sockaddr_in6.
                let name = unsafe { &*(&raw const self.name).cast::<sockaddr_in6>() };
                Some((Ipv6Addr::from(name.sin6_addr.s6_addr).into(), u16::from_be(name.sin6_port)))
            }
            _ => None,
        }
    }

    /// Lets routing choose the interface: the response need not go the way on which the query came.
    fn forget_interface(&mut self) {
        if self.control_len < CONTROL_HEADER + size_of::<libc::in_pktinfo>() {
            self.control_len = 0;
            return;
        }
        // SAFETY: any bytes are a u8, and the array is longer than that.
        let bytes: &mut [u8; CONTROL_WORDS * 8] = unsafe { &mut *(&raw mut self.control).cast() };
        match c_int::from(self.name.ss_family) {
            // in_pktinfo: interface, local address, destination.
            libc::AF_INET => bytes[CONTROL_HEADER..CONTROL_HEADER + 4].fill(0),
            // in6_pktinfo: local address, interface. A link-local address means nothing without it.
            libc::AF_INET6 if bytes[CONTROL_HEADER] != 0xfe => bytes[CONTROL_HEADER + 16..CONTROL_HEADER + 20].fill(0),
            _ => {}
        }
    }

    /// The message of `packet` to this peer. Both have to outlive its use.
    fn message(&self, packet: &mut iovec) -> msghdr {
        // SAFETY: a msghdr of zeros is an empty one.
        let mut message: msghdr = unsafe { std::mem::zeroed() };
        message.msg_name = (&raw const self.name).cast_mut().cast::<c_void>();
        message.msg_namelen = self.name_len;
        message.msg_iov = packet;
        message.msg_iovlen = 1;
        if self.control_len > 0 {
            message.msg_control = (&raw const self.control).cast_mut().cast::<c_void>();
            message.msg_controllen = self.control_len;
        }
        message
    }
}

impl Received {
    pub(crate) fn new() -> Self {
        Self { buffers: vec![0; BATCH * MAX_QUERY], lens: [0; BATCH], peers: vec![Peer::NOBODY; BATCH] }
    }

    /// Waits for a datagram, and takes as many as there are. How many there were.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        // SAFETY: iovecs and mmsghdrs of zeros are empty ones.
        let (mut vectors, mut messages): ([iovec; BATCH], [mmsghdr; BATCH]) = unsafe { std::mem::zeroed() };
        let buffers = self.buffers.chunks_exact_mut(MAX_QUERY);
        for (((message, vector), peer), buffer) in
            messages.iter_mut().zip(&mut vectors).zip(&mut self.peers).zip(buffers)
        {
            *vector = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            let header = &mut message.msg_hdr;
            header.msg_name = (&raw mut peer.name).cast();
            header.msg_namelen = size_of::<sockaddr_storage>() as socklen_t;
            header.msg_iov = vector;
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut peer.control).cast();
            header.msg_controllen = size_of_val(&peer.control);
        }
        // SAFETY: there are BATCH messages, whose pointers lead to memory of ours of the lengths
        // beside them, each to its own; it stays where it is during the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                messages.as_mut_ptr(),
                BATCH as c_uint,
                libc::MSG_WAITFORONE as _,
                std::ptr::null_mut(),
            )
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (at, message) in messages.iter().enumerate().take(count) {
            self.lens[at] = (message.msg_len as usize).min(MAX_QUERY);
            let peer = &mut self.peers[at];
            peer.name_len = message.msg_hdr.msg_namelen;
            if peer.name_len == 0 {
                peer.name.ss_family = libc::AF_UNSPEC as sa_family_t;
            }
            let is_cut = message.msg_hdr.msg_flags & libc::MSG_CTRUNC != 0;
            peer.control_len = if is_cut { 0 } else { message.msg_hdr.msg_controllen };
            peer.forget_interface();
        }
        Ok(count)
    }

    /// A datagram of those last received, and who sent it.
    pub(crate) fn get(&self, at: usize) -> (&[u8], &Peer) {
        let start = at * MAX_QUERY;
        (&self.buffers[start..start + self.lens[at]], &self.peers[at])
    }

    /// Sends responses to the senders of those last received: `to[i]` is whom `packets[i]` is for.
    /// One that can't be sent is left out.
    pub(crate) fn respond(&self, socket: &UdpSocket, packets: &[Vec<u8>], to: &[usize]) {
        // SAFETY: iovecs and mmsghdrs of zeros are empty ones.
        let (mut vectors, mut messages): ([iovec; BATCH], [mmsghdr; BATCH]) = unsafe { std::mem::zeroed() };
        let count = packets.len().min(to.len()).min(BATCH);
        for at in 0..count {
            vectors[at] = vector(&packets[at]);
            messages[at].msg_hdr = self.peers[to[at]].message(&mut vectors[at]);
        }
        let mut sent = 0;
        while sent < count {
            // SAFETY: the messages from `sent` on lead to memory of ours of the lengths beside the
            // pointers, which is only read and stays where it is during the call.
            let more = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), messages[sent..].as_mut_ptr(), (count - sent) as c_uint, 0)
            };
            match usize::try_from(more) {
                Ok(more) => sent += more,
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() == io::ErrorKind::Interrupted {
                        continue;
                    }
                    tracing::debug!(%error, "a response could not be sent");
                    sent += 1;
                }
            }
        }
    }
}

/// Sends one response, without waiting.
pub(crate) fn send(socket: &UdpSocket, packet: &[u8], peer: &Peer) -> io::Result<()> {
    let mut vector = vector(packet);
    let message = peer.message(&mut vector);
    // SAFETY: the message leads to memory of ours of the lengths beside the pointers, which is only
    // read and stays where it is during the call.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lets the kernel tell which of our addresses a datagram was sent to.
pub(crate) fn tell_destination(socket: &UdpSocket, is_ipv6: bool) -> io::Result<()> {
    let (level, option) = match is_ipv6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO),
    };
    let on: c_int = 1;
    // SAFETY: the option is an int, and the length is that of an int.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), size_of::<c_int>() as socklen_t)
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn vector(packet: &[u8]) -> iovec {
    iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() }
}
