//! Given these Nodes, Services, endpoints and flags, this configuration: what `plan` makes of whole clusters.
#![allow(clippy::unwrap_used)]

mod annotations;
mod cluster;
mod flags;
mod given;
mod policies;
mod properties;
mod services;
