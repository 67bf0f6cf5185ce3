//! Devices for real, in network namespaces: ours with ours and with Debian's `wireguard-go`, configured by Debian's
//! `wg`. Needs root, wireguard-tools, wireguard-go, iproute2 and iputils-ping.

#![allow(clippy::unwrap_used)]

mod basics;
mod checksums;
mod crowd;
mod ecn;
mod headers;
mod impaired;
mod life;
mod order;
mod paths;
mod relay;
mod support;
mod traffic;
mod unreachable;
