//! A BGP speaker and route reflector (RFC 4271 and what it grew), for IPv4 and IPv6 unicast.
//!
//! The middle does no I/O: it is handed bytes, connections and time, and hands back what to send. That is where the
//! protocol is, and whole networks of speakers are tested in one thread with a hand-turned clock. A small runtime runs
//! it on sockets.

pub mod bmp;
pub mod config;
pub mod export;
mod family;
pub mod mrt;
mod policy;
pub mod prefix;
pub mod rib;
pub mod router;
pub mod session;
pub mod speaker;
pub mod update;
pub mod wire;

pub use config::Config;
pub use family::{Community, Family, LargeCommunity, NoCommunity, NoLargeCommunity};
pub use router::{Action, RouteChange, Router};
