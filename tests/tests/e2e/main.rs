//! End to end, over the lab: what issue 2 promises, with the commands that people use.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod bgp_failures;
mod cleanup;
mod failover;
mod restart;
mod scenario;
