//! Nodes, Services, their endpoints and kube-router's flags and annotations to the BGP configuration of one node: pure.
//!
//! ```text
//! k8s Node, Service, EndpointSlice ──from_kubernetes──► Node, Service, Slice ─┐
//! flags ──Settings::new──► Settings ──────────────────────────────────────────┴─plan──► tombolo_bgp::Config
//! ```
//!
//! Flags and annotations bear kube-router's names and mean what they mean there; `docs/compatibility.md` says where
//! not. A wrong flag is an error at the start ([`FlagErrors`]). A wrong annotation is refused for itself alone
//! ([`Refusal`]), counts as not given, and everything else goes on. The configuration is made anew at each change of
//! the world, so an annotation takes effect at once.
//!
//! # Whether BGP is spoken at all
//!
//! See [`Enable`]: by default as soon as the flags name a peer, or any node of the cluster carries an annotation
//! `kube-router.io/peer*` or `kube-router.io/rr.*` with a value, be it a wrong one. All nodes see the same flags and
//! annotations, so all come to the same answer.
//!
//! # Who peers with whom
//!
//! - In the cluster (not with `--enable-ibgp=false`) all nodes of one autonomous system, by their first internal
//!   addresses, in one session for both families. With `--nodes-full-mesh`, the default, that is every node, in
//!   `--cluster-asn`; without it each node is in its `node.asn`. A node with `rr.client` peers with the nodes with
//!   `rr.server` of its cluster ID alone, whether or not there is a full mesh of the others.
//! - Outside, with the peers of the node's annotation `peers`, else of its `peer.ips` and `peer.asns`, else of the
//!   flags.
//!
//! # What is announced
//!
//! The node's pod CIDRs ([`tag::POD`]), and as /32 or /128 the addresses of Services that flags or annotations ask for
//! ([`tag::CLUSTER_IP`], [`tag::EXTERNAL_IP`], [`tag::LOAD_BALANCER_IP`]): as long as an endpoint is ready, and where
//! the traffic policy is `Local`, one on this node. Endpoints that still serve while they terminate do not count: the
//! route goes first, what is under way is served to its end. Who assigned a load balancer's address
//! (`loadBalancerClass`) does not matter; headless and ExternalName Services have no address.
//!
//! An address of a node or a pod is never announced for a Service, whatever its `externalIPs` say: that would draw
//! that node's traffic here.
//!
//! # What is taken
//!
//! From outside, all but: what `node.bgp.customimportreject` names; the default route; this cluster's pod CIDRs,
//! service CIDRs and node addresses; and blocks that mean nothing beyond a host or a link
//! ([`policy::MARTIANS`]). [`Flags::accept_cidrs`] and [`Flags::accept_default_route`] ask for some of it all the same.
//! The pod CIDRs of nodes that no session in the cluster reaches (another `node.asn`, or `--enable-ibgp=false`) are
//! taken from outside: there is no other way to them.
//!
//! From nodes of the cluster, all but this node's own pod CIDRs and addresses, the default route, those blocks, and
//! what `node.bgp.customimportreject` names.

#![forbid(unsafe_code)]

mod flags;
mod kernel;
mod neighbors;
pub mod node;
mod parse;
pub mod peer;
mod plan;
pub mod policy;
mod routes;
pub mod service;
pub mod slice;

pub use flags::{Enable, FlagError, FlagErrors, Flags, Settings};
pub use kernel::{BGP_METRIC, LEVELS, MAX_HOPS, kernel_routes};
pub use node::Node;
pub use peer::Peer;
pub use plan::{Inputs, Plan, plan};
pub use routes::tag;
pub use service::Service;
pub use slice::Slice;
pub use tombolo_mesh::Refusal;
