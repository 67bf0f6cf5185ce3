//! Services and EndpointSlices to an nftables ruleset: pure.
//!
//! ```text
//! k8s Service, EndpointSlice ──convert──► Service, Endpoint ──tables──► Tables ──plan──► Script ──► nft -f -
//! ```
//!
//! [`tables`] says what the table should hold, [`plan`] which `nft` commands lead there from what
//! was applied before, in one transaction that touches only what changed; without an earlier state
//! it makes the table from nothing. [`stale_udp`] names the UDP flows whose connection-tracking
//! entries still point at an endpoint that is gone.
//!
//! # The ruleset
//!
//! The shape is that of kube-proxy's nftables mode (KEP-3866): a packet's protocol, destination and
//! port are looked up once in a verdict map (`service-ips4`, `service-ips6`), however many services
//! there are; the verdict leads to the chain of that service port, which picks an endpoint at
//! random and translates the destination. That happens in the prerouting hook (pods of this node,
//! and whatever comes in from outside or out of a tunnel) and in the output hook (the node itself).
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

mod compile;
pub mod convert;
mod model;
mod plan;
mod ruleset;
mod table;
#[cfg(test)]
mod tests;
mod udp;

pub use compile::{Compiled, tables};
pub use model::{Endpoint, Family, Node, Protocol, Refused, Service, ServiceKey, ServicePort, TrafficPolicy};
pub use plan::{Command, Script, plan};
pub use table::{Chain, Set, Tables};
pub use udp::{UdpFlow, stale_udp};

/// The name of the table when nothing else is asked for.
pub const DEFAULT_TABLE: &str = "tombolo-proxy";
