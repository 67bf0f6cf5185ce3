//! The host's end against the real kernel, in namespaces of its own.
#![allow(clippy::unwrap_used)]

mod common;
mod given;
mod network;
mod routes;
mod system;
