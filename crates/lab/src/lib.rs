//! Whole clusters in network namespaces on one machine.
//!
//! A lab is a supervisor process and some namespaces. The supervisor holds the API servers, plays the kubelet of every
//! node, and keeps the nodes' agents running; the agents are the real ones, and so are the CNI plugins that attach pods.
//!
//! ```text
//! tl-NAME-router      a bridge for each cluster, routing between them, the API servers' addresses
//! tl-NAME-cK-router   with NAT: the cluster's router; tl-NAME-router is the internet then
//! tl-NAME-reflector   with BGP between the clusters: a route reflector on their network
//! tl-NAME-cK-nI       a node: eth0 into its cluster's bridge, the agent
//! tl-NAME-cK-p-ID     a pod, attached to its node by the CNI plugins as the agent configured them
//! /run/tombolo-lab/NAME   kubeconfigs, logs, sockets, the plan
//! ```
//!
//! Everything that a lab makes is in its namespaces or in its folder, so that [`teardown::down`] finds and removes it
//! without knowing how far it had got, also when the supervisor was killed. [`plan`] says which addresses are used.
//!
//! What a container is here: `command` and `args` run on this machine's file system, in the pod's network, with its own
//! host name, `/etc/resolv.conf` and `/etc/hosts`. There are no images (but `tombolo/web` and `tombolo/pause`), volumes,
//! init containers, liveness probes or resource limits.

pub mod agent;
pub mod clock;
pub mod cluster;
pub mod cni;
pub mod control;
pub mod controller;
pub mod daemon;
pub mod dns;
pub mod kubelet;
pub mod netns;
pub mod plan;
pub mod pod;
pub mod reflector;
pub mod report;
pub mod requirements;
mod run;
mod shared;
pub mod spawn;
pub mod state;
pub mod supervisor;
pub mod teardown;
pub mod underlay;
mod up;
pub mod web;

pub use plan::{Family, Interconnect, Plan, Reflector, Underlay};
pub use up::up;
