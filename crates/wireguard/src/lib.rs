//! WireGuard keys, configuration files and devices: the kernel's and the embedded one.
//!
//! The plain values ([`tombolo_net::wireguard`]) come in, a device is made to match them. There are two kinds of
//! device behind one trait, [`device::Device`]:
//!
//! - the kernel's, spoken to over generic netlink ([`kernel`]);
//! - a process of its own with a TUN interface and a control socket, spoken to over the cross-platform userspace
//!   protocol ([`uapi`], [`userspace`]). It is ours ([`embedded`]) or anybody's:
//!   `wireguard-go` answers the same.
//!
//! [`device::open`] takes what is there and makes what is missing. A userspace device is a process of its own so that
//! it goes on carrying traffic while the agent is restarted.
//!
//! [`config`] reads and writes the files of wg(8), [`keys`] makes keys.

#![deny(unsafe_code)]

pub mod config;
pub mod device;
pub mod embedded;
pub mod kernel;
pub mod keys;
pub mod uapi;
pub mod userspace;
