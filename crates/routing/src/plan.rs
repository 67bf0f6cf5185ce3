//! From everything that is known to the configuration of one node's speaker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use tombolo_bgp::config::{Config, GracefulRestart};
use tombolo_proxy::ServiceKey;

use crate::flags::RouterId;
use crate::neighbors::{self, asn};
use crate::node::Reflection;
use crate::policy::Scope;
use crate::routes::originate;
use crate::{Enable, Node, Refusal, Service, Settings, Slice};

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The name of this node.
    pub hostname: &'a str,
    /// The flags.
    pub settings: &'a Settings,
    /// All nodes of the cluster, by name.
    pub nodes: &'a BTreeMap<String, Node>,
    /// All Services with addresses.
    pub services: &'a BTreeMap<ServiceKey, Service>,
    /// All EndpointSlices, by whatever tells them apart.
    pub slices: &'a BTreeMap<String, Slice>,
    /// The cluster's pod CIDRs, where they are known; the nodes' own need not be among them.
    pub pod_cidrs: &'a [IpNet],
    /// The cluster's service CIDRs, where they are known.
    pub service_cidrs: &'a [IpNet],
    /// Whether the routes of an earlier run are still in the kernel ([`GracefulRestart::restarting`]).
    pub restarting: bool,
}

/// What a node's speaker shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The configuration; `None` where nothing of BGP is asked for ([`Enable`]), or where nothing can be done, which
    /// is said among the refusals.
    pub config: Option<Config>,
    /// What of this node and the Services can't be used in this cluster, each once and in order. What can't be used
    /// at all was returned when the objects were read.
    pub refusals: Vec<Refusal>,
}

/// The plan for one node. The same inputs give the same plan.
pub fn plan(inputs: &Inputs) -> Plan {
    let mut refusals = Vec::new();
    let config = inputs.nodes.get(inputs.hostname).filter(|_| enabled(inputs)).and_then(|me| {
        if me.addresses.is_empty() {
            let reason = "the node has no address that a session could have; the kubelet gives one (--node-ip)";
            refusals.push(Refusal::node(&me.name, "status.addresses", "", reason));
            return None;
        }
        Some(configure(inputs, me, &mut refusals))
    });
    refusals.sort();
    refusals.dedup();
    Plan { config, refusals }
}

fn enabled(inputs: &Inputs) -> bool {
    match inputs.settings.flags().enable {
        Enable::On => true,
        Enable::Off => false,
        Enable::Auto => !inputs.settings.peers.is_empty() || inputs.nodes.values().any(|node| node.asks_for_bgp),
    }
}

fn configure(inputs: &Inputs, me: &Node, refusals: &mut Vec<Refusal>) -> Config {
    let flags = inputs.settings.flags();
    let (reached_pods, unreached_pods) = neighbors::split_pods(inputs, me);
    let cluster_id = match me.reflection {
        Reflection::Server(id) => Some(id),
        Reflection::Client(_) | Reflection::None => None,
    };
    let scope = Scope {
        settings: inputs.settings,
        me,
        reflects: cluster_id.is_some(),
        reached_pods,
        unreached_pods,
        pod_cidrs: inputs.pod_cidrs,
        service_cidrs: inputs.service_cidrs,
        node_addresses: inputs.nodes.values().flat_map(|node| node.addresses.iter().copied()).collect(),
    };
    let addresses: Vec<IpAddr> = me.families().into_iter().filter_map(|family| me.address(family)).collect();
    let listen = if me.listen.is_empty() { &addresses } else { &me.listen };
    Config {
        asn: asn(me, inputs.settings),
        router_id: router_id(inputs.settings.router_id, &me.addresses),
        cluster_id,
        listen: listen.iter().map(|address| SocketAddr::new(*address, flags.bgp_port)).collect(),
        neighbors: neighbors::neighbors(inputs, me, &scope, refusals),
        ranges: Vec::new(),
        routes: originate(inputs, me, refusals),
        multipath: flags.multipath,
        graceful_restart: flags.bgp_graceful_restart.then_some(GracefulRestart {
            restart_time: flags.bgp_graceful_restart_time,
            deferral_time: flags.bgp_graceful_restart_deferral_time,
            preserves_forwarding: true,
            restarting: inputs.restarting,
            returning: BTreeSet::new(),
            long_lived: flags.bgp_long_lived_graceful_restart_time,
        }),
        addresses,
    }
}

fn router_id(from: RouterId, addresses: &[IpAddr]) -> Ipv4Addr {
    let first = addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let of_node = || addresses.iter().find_map(|address| if let IpAddr::V4(v4) = address { Some(*v4) } else { None });
    match from {
        RouterId::Fixed(id) => id,
        RouterId::Generate => generated(first),
        RouterId::Node => of_node().unwrap_or_else(|| generated(first)),
    }
}

/// The FNV-1a hash (RFC 9923) of an address as 16 octets, as kube-router makes it: a node keeps its identifier.
fn generated(address: IpAddr) -> Ipv4Addr {
    let octets = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let hash = octets.iter().fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193));
    // 0 is no identifier (RFC 6286).
    Ipv4Addr::from(hash.max(1))
}
