//! What the end-to-end tests share: a lab of their own, commands, and waiting with a deadline.
//!
//! The tests use what a person uses: `tombolo lab`, `kubectl`, `kgctl`, `wg`, `ip`, `nft`, `tcpdump`. They panic with
//! what a command printed, as tests do.

#![allow(clippy::unwrap_used)]

pub mod clusters;
pub mod command;
pub mod lab;
pub mod services;
pub mod traffic;

use std::time::{Duration, Instant};

/// Looks until `what` is so, and panics with its last words after `patience`. Gives back how long it took.
///
/// # Panics
/// When it is not so in time.
pub fn wait_until(what: &str, patience: Duration, mut look: impl FnMut() -> Result<(), String>) -> Duration {
    let start = Instant::now();
    loop {
        match look() {
            Ok(()) => return start.elapsed(),
            Err(words) if start.elapsed() > patience => panic!("{what}: not within {patience:?}: {words}"),
            Err(_) => std::thread::park_timeout(Duration::from_millis(20)),
        }
    }
}
