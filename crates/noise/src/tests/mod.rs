//! The protocol as a whole: engines that talk to each other, and to another implementation.

#![allow(clippy::unwrap_used)]

mod cookies;
mod handshakes;
mod lossy;
mod oracle;
mod refused;
mod sessions;
mod timeouts;
mod world;
