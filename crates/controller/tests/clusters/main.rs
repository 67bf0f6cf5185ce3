//! The controller over whole clusters, as far as their API servers go: several in one process, with real clients.

#![allow(clippy::unwrap_used, dead_code)]

mod bad_input;
mod harness;

mod mirrors;
mod objects;
mod rbac;
mod sources;
