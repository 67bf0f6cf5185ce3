//! Segmentation and coalescing of IP packets, as a TUN interface with `IFF_VNET_HDR` has them.
//!
//! A system call costs as much as encrypting a packet. So the kernel hands a tunnel up to 64 KiB of a TCP or UDP flow
//! at once, with a [`VirtioHeader`] before it that says how to cut it, and takes such *super packets* back. What is
//! between is done here, without I/O and without allocating for each packet:
//!
//! ```text
//!     TUN ── super packet ──► Segmenter ──► packets of the path's size ──► encryption
//!     TUN ◄─ super packets ── Coalescer ◄── a batch of packets ◄────────── decryption
//! ```
//!
//! [`Segmenter`] cuts, and completes the checksums that the kernel left to the device. [`Coalescer`] decides which
//! packets of a batch are written together, such that cutting them again gives back the packets that came: a joined
//! packet hides nothing from who receives it. What can't be given back is not joined.
//!
//! The rest is what a tunnel does to a packet on the way: how long it is ([`ip_len`]), from and to whom ([`source`],
//! [`destination`]), its congestion marks ([`decapsulate_ecn`]), and the ICMP answer to one that nobody takes
//! ([`unreachable()`]).
//!
//! Nothing here panics whatever the bytes of a packet are; indices and ranges are the caller's to keep.

#![deny(unsafe_code)]

pub mod checksum;
mod coalesce;
mod ecn;
mod icmp;
mod ip;
mod segment;
mod simd;
mod virtio;

pub use coalesce::{Coalescer, Limits, MAX_TCP_SEGMENTS, MAX_UDP_SEGMENTS, Write};
pub use ecn::{decapsulate_ecn, ecn, set_ce};
pub use icmp::unreachable;
pub use ip::{destination, ip_len, source};
pub use segment::{Malformed, Segmenter};
pub use virtio::{
    F_DATA_VALID, F_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, VirtioHeader,
};
