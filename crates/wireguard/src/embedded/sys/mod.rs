//! The system calls of the two ends: a TUN interface with offloads, and UDP sockets that send and receive in batches.
#![allow(unsafe_code)]

pub(super) mod tun;
pub(super) mod udp;
