//! Given these nodes and Peers, this network: what `plan` makes of whole clusters.
#![allow(clippy::unwrap_used)]

mod firewall;
mod given;
mod location;
mod nodes;
mod peers;
mod properties;
mod tunnel;
