//! The plain vocabulary of a node's network.
//!
//! What the pure crates (mesh, bgp) want and what the ends (host, wireguard) observe and apply are the same values:
//! links, addresses, routes, rules and WireGuard configuration, without a socket behind them. [`wireguard::changes`]
//! and [`network::changes`] say what lies between two of them.

#![forbid(unsafe_code)]

pub mod network;
pub mod nft;
pub mod wireguard;
