//! The TUN interface: made, read and written (linux/if_tun.h, tuntap.rst of the kernel's documentation).

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use libc::{c_char, c_int, c_short, c_uint, c_ulong, c_void, ifreq, iovec};
use tombolo_offload::VirtioHeader;

/// The device file of the driver.
pub(in super::super) const DEV_NET_TUN: &std::ffi::CStr = c"/dev/net/tun";

const TUNSETIFF: c_ulong = 0x4004_54ca;
const TUNSETOFFLOAD: c_ulong = 0x4004_54d0;
const F_CSUM: c_uint = 0x01;
const F_TSO4: c_uint = 0x02;
const F_TSO6: c_uint = 0x04;
const F_TSO_ECN: c_uint = 0x08;
/// UDP segmentation, since Linux 6.2.
const F_USO: c_uint = 0x20 | 0x40;

/// Which packets the kernel gives and takes joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in super::super) struct Offloads {
    /// TCP segments, with partial checksums.
    pub(in super::super) tcp: bool,
    /// Datagrams of UDP.
    pub(in super::super) udp: bool,
}

/// An interface; it goes when this is dropped. Reading and writing never wait.
pub(in super::super) struct Tun {
    fd: OwnedFd,
    has_header: bool,
    offloads: Offloads,
}

/// The pieces of one write; kept, so that a write allocates nothing.
#[derive(Default)]
pub(in super::super) struct Vectors(Vec<iovec>);

// SAFETY: between calls of `Tun::write` it is empty: no pointer goes from thread to thread.
unsafe impl Send for Vectors {}

impl Tun {
    /// Makes the interface, down and without addresses; `with_offloads` as far as this kernel has them.
    pub(in super::super) fn open(iface: &str, with_offloads: bool) -> io::Result<Self> {
        // SAFETY: a path that ends with a zero; the descriptor that comes back is ours alone.
        let fd = unsafe {
            let fd = libc::open(DEV_NET_TUN.as_ptr(), libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let mut request = named(iface)?;
        let header = if with_offloads { libc::IFF_VNET_HDR } else { 0 };
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI | header) as c_short;
        // SAFETY: TUNSETIFF reads and writes one ifreq.
        check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETIFF as _, &raw mut request) })?;
        let mut tun = Self { fd, has_header: with_offloads, offloads: Offloads::default() };
        if with_offloads {
            tun.offloads = tun.enable();
        }
        Ok(tun)
    }

    /// What the kernel gives and takes.
    pub(in super::super) fn offloads(&self) -> Offloads {
        self.offloads
    }

    /// Reads one packet into the buffer: the header (without offloads a neutral one), and the length of the packet
    /// after it. `WouldBlock` where there is none.
    pub(in super::super) fn read(&self, buffer: &mut [u8]) -> io::Result<(VirtioHeader, usize)> {
        let mut header = [0_u8; VirtioHeader::LEN];
        let vectors = [
            iovec { iov_base: header.as_mut_ptr().cast(), iov_len: header.len() },
            iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() },
        ];
        let skipped = usize::from(!self.has_header);
        let vectors = &vectors[skipped..];
        // SAFETY: the vectors lead to the two buffers above, which are borrowed until the call is over.
        let read = unsafe { libc::readv(self.fd.as_raw_fd(), vectors.as_ptr(), vectors.len() as c_int) };
        let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
        if !self.has_header {
            return Ok((VirtioHeader::NONE, read));
        }
        let header = VirtioHeader::read(&header).unwrap_or(VirtioHeader::NONE);
        Ok((header, read.saturating_sub(VirtioHeader::LEN)))
    }

    /// Writes the pieces of `arena` as one packet.
    pub(in super::super) fn write(
        &self,
        header: VirtioHeader,
        arena: &[u8],
        pieces: &[Range<u32>],
        vectors: &mut Vectors,
    ) -> io::Result<()> {
        let mut bytes = [0_u8; VirtioHeader::LEN];
        header.write(&mut bytes);
        let vectors = &mut vectors.0;
        if self.has_header {
            vectors.push(iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() });
        }
        vectors.extend(pieces.iter().filter_map(|piece| {
            let piece = arena.get(piece.start as usize..piece.end as usize)?;
            Some(iovec { iov_base: piece.as_ptr().cast_mut().cast::<c_void>(), iov_len: piece.len() })
        }));
        // SAFETY: the vectors lead to `bytes` and into `arena`, which are only read and stay until the call is over.
        let written = unsafe { libc::writev(self.fd.as_raw_fd(), vectors.as_ptr(), vectors.len() as c_int) };
        vectors.clear();
        check(written as c_int)
    }

    fn enable(&self) -> Offloads {
        let tcp = F_CSUM | F_TSO4 | F_TSO6 | F_TSO_ECN;
        let with = |flags: c_uint| {
            // SAFETY: TUNSETOFFLOAD takes its argument by value.
            check(unsafe { libc::ioctl(self.fd.as_raw_fd(), TUNSETOFFLOAD as _, c_ulong::from(flags)) })
        };
        if with(tcp | F_USO).is_ok() {
            return Offloads { tcp: true, udp: true };
        }
        Offloads { tcp: with(tcp).is_ok(), udp: false }
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn named(iface: &str) -> io::Result<ifreq> {
    // SAFETY: an ifreq of zeros is an empty one.
    let mut request: ifreq = unsafe { std::mem::zeroed() };
    if iface.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(iface.bytes()) {
        *to = from as c_char;
    }
    Ok(request)
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
