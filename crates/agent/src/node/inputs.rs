//! What the plan is made from, out of what the host says.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use tombolo_host::{Facts, Host};
use tombolo_mesh::discovery::{self, LocalAddress};
use tombolo_mesh::plan::{Compatibility, Plan, Settings, Underlay};
use tombolo_mesh::{Node, routes};
use tombolo_net::wireguard::Key;

use crate::selfnode::{self, Known};
use crate::world::World;
use crate::{Options, cni};

/// What WireGuard puts before a packet at most: IPv6 (40), UDP (8), WireGuard (32).
const WIREGUARD_OVERHEAD: u32 = 80;
/// The MTU of an Ethernet, where nothing is known.
const ETHERNET_MTU: u32 = 1500;
/// The nftables table of the mesh.
pub(super) const FIREWALL_TABLE: &str = "tombolo";

pub(super) fn settings(options: &Options) -> Settings {
    Settings {
        hostname: options.hostname.clone(),
        granularity: options.granularity,
        subnets: options.subnets.clone(),
        service_cidrs: options.service_cidrs.clone(),
        interface: options.interface.clone(),
        firewall_table: FIREWALL_TABLE.to_owned(),
        encapsulate: options.encapsulate,
        compatibility: options.compatibility,
        local: options.local,
        cni: options.cni,
    }
}

/// This node, as it knows itself.
pub(super) fn own_node(
    options: &Options,
    facts: &Facts,
    private_key: Key,
    world: &World,
    unreachable: &BTreeSet<String>,
) -> Result<Node> {
    let stored = world.nodes.get(&options.hostname).with_context(|| {
        format!("the cluster has no Node named {}; pass the name of this node with --hostname", options.hostname)
    })?;
    let default_links = [&facts.default_link_v4, &facts.default_link_v6];
    let known = discovery::Facts {
        addresses: facts.addresses.iter().map(|a| LocalAddress { link: a.link.clone(), net: a.net }).collect(),
        hostname_ips: world.kubelet_addresses.clone(),
        default_links: default_links.into_iter().flatten().map(|link| link.name.clone()).collect(),
        ignored_links: vec![options.interface.clone(), cni::BRIDGE.to_owned(), routes::VXLAN_LINK.to_owned()],
        internal_cidrs: options.internal_cidrs.clone(),
    };
    let cilium = (options.compatibility == Some(Compatibility::Cilium)).then(|| facts.of_link("cilium_host").next());
    let known = Known {
        public_key: tombolo_wireguard::keys::public(&private_key),
        chosen: &discovery::choose(&known, options.prioritise_private_addresses),
        port: options.port,
        granularity: options.granularity,
        unreachable,
        cni_compatibility_ip: cilium.flatten(),
    };
    Ok(selfnode::own(stored, &world.own_annotations, &known))
}

/// The networks on the node's own links, where next hops are. Pods and tunnels are no place for one.
pub(super) fn on_link(options: &Options, facts: &Facts) -> Vec<(String, IpNet)> {
    let ignored = [options.interface.as_str(), cni::BRIDGE, routes::VXLAN_LINK, "lo"];
    let links = facts.addresses.iter().filter(|a| !ignored.contains(&a.link.as_str()));
    links.map(|a| (a.link.clone(), a.net)).collect()
}

/// The link with the node's internal address.
pub(super) async fn underlay(facts: &Facts, own: &Node, host: &Host) -> Result<Underlay> {
    let Some(internal) = own.internal_ips.first() else { return Ok(Underlay { link: None, mtu: ETHERNET_MTU }) };
    let Some(found) = facts.addresses.iter().find(|a| a.net.addr() == internal.addr()) else {
        return Ok(Underlay { link: None, mtu: ETHERNET_MTU });
    };
    let mtu = host.link(&found.link).await?.map_or(ETHERNET_MTU, |link| link.mtu);
    Ok(Underlay { link: Some(found.link.clone()), mtu })
}

/// `--mtu auto`: what the default route's link (else the underlay's) leaves after WireGuard's overhead.
pub(super) fn tunnel_mtu(facts: &Facts, underlay: &Underlay) -> u32 {
    let default = facts.default_link_v4.as_ref().or(facts.default_link_v6.as_ref()).map(|link| link.mtu);
    default.unwrap_or(underlay.mtu).saturating_sub(WIREGUARD_OVERHEAD)
}

/// This node, as the service proxy sees it.
pub(super) fn proxy_node(options: &Options, own: &Node, world: &World, plan: &Plan) -> tombolo_proxy::Node {
    let subnets = |node: &Node| node.subnets.iter().map(IpNet::trunc).collect::<Vec<_>>();
    tombolo_proxy::Node {
        name: own.name.clone(),
        pod_cidrs: subnets(own),
        cluster_pod_cidrs: world.nodes.values().flat_map(subnets).collect(),
        service_cidrs: options.service_cidrs.clone(),
        silent_networks: plan.silent_networks.clone(),
        node_port_addresses: own.internal_addrs(),
        zone: world.zone.clone(),
        // The proxy looks for it itself.
        cluster: None,
        table: tombolo_proxy::DEFAULT_TABLE.to_owned(),
    }
}

/// Seconds since 1970.
pub(super) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs().try_into().unwrap_or(i64::MAX)
}
