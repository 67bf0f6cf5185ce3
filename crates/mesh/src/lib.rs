//! Nodes and Peers to topology to the desired network of one node.
//!
//! Everything here is pure: values in, values out. The current time is an argument, and what cannot be used is
//! returned as a [`Refusal`] beside what can.

#![forbid(unsafe_code)]

pub mod claims;
pub mod discovery;
pub mod firewall;
pub mod granularity;
mod graph;
pub mod kgctl;
pub mod kiloconf;
pub mod node;
mod parse;
pub mod peer;
pub mod peer_manifest;
pub mod plan;
pub mod refusal;
pub mod routes;
pub mod topology;

pub use granularity::Granularity;
pub use node::Node;
pub use peer::Peer;
pub use refusal::Refusal;
pub use topology::{Segment, Topology, TopologyError, TopologyInput};
