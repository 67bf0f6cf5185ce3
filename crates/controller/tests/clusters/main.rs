//! The controller over whole clusters, as far as their API servers go: several in one process, with real clients.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod conformance;
mod harness;
mod leaders;
mod mirrors;
mod objects;
mod rbac;
mod sources;
