//! End to end, over the lab: what issues 2 and 3 promise, with the commands that people use.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod bgp;
mod bgp_failures;
mod cleanup;
mod failover;
mod restart;
mod scenario;
