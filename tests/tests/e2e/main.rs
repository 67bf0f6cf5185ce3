//! End to end, over the lab: what issues 2, 3 and 4 promise, with the commands that people use.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod bgp;
mod bgp_failures;
mod cleanup;
mod failover;
mod restart;
mod scenario;
mod services_emitter;
mod services_failover;
mod services_import;
mod services_mirror;
