//! Services and EndpointSlices to an nftables ruleset: pure.
//!
//! ```text
//! k8s Service, ServiceImport, EndpointSlice ──convert──► Service, Import, Slice ──Compiler──► Update ──► the kernel
//! ```
//!
//! A [`Compiler`] is told what changed and gives an [`Update`]: one transaction that touches only what changed, or makes
//! the table from nothing, and the UDP flows whose connection-tracking entries point at an endpoint that is gone.
//!
//! # The ruleset
//!
//! As in kube-proxy's nftables mode (KEP-3866) a packet's protocol, destination and port are looked up once in a verdict
//! map (`service-ips4`, `service-ips6`), however many services there are. The verdict leads to a chain that all services
//! with as many endpoints share (`pick4/3`): it draws a number and looks up the endpoint of that frontend and number in
//! a second map (`endpoints4`), to which it translates the destination. A service, an endpoint, is elements of maps and
//! nothing else: a table of 10,000 services is made in a second, and a change is a few bytes to the kernel.
//!
//! Chains of its own have a service with session affinity, and one that has shares by cluster. All that happens in the
//! prerouting hook (pods of this node, and whatever comes in from outside or out of a tunnel) and in the output hook
//! (the node itself).
//!
//! A connection is masqueraded only where its replies would otherwise not come back through this
//! node:
//!
//! - a pod that reaches itself through its own service (hairpin);
//! - traffic to a ClusterIP from outside this cluster's pods, when the chosen endpoint is not on
//!   this node: so a ClusterIP that another cluster reaches through any node answers;
//! - the same for node ports, external IPs and load balancer IPs, from anything but this node's
//!   pods.
//!
//! Everywhere else the client's address is kept. No packet or connection mark is used: what is to
//! be masqueraded follows from the connection's original destination.
//!
//! Services without a usable endpoint are refused at once (TCP reset, ICMP port unreachable), and
//! so are ports that a ClusterIP does not have. A ping of a ClusterIP is answered by one of the
//! service's endpoints, which kube-proxy leaves without an answer.
//!
//! Bridged pods of one node reach each other's services only where bridged frames pass through
//! netfilter (`net.bridge.bridge-nf-call-iptables=1`), as with kube-proxy.
#![forbid(unsafe_code)]

mod choice;
mod compiler;
pub mod convert;
mod fragment;
mod journal;
mod model;
mod ruleset;
mod script;
mod table;
#[cfg(test)]
mod tests;
mod udp;

pub use compiler::Compiler;
pub use fragment::HealthCheck;
pub use journal::Update;
pub use model::{
    ClusterChoice, Endpoint, Family, Import, Node, Owner, Protocol, Refused, Service, ServiceKey, ServicePort, Slice,
    TrafficPolicy,
};
pub use script::{Command, Script};
pub use table::{Chain, Element, Key, Set, Tables, Value};
pub use udp::{StaleFlows, UdpFrontend};

/// The name of the table when nothing else is asked for.
pub const DEFAULT_TABLE: &str = "tombolo-proxy";
