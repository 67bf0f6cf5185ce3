//! What is learned by BGP as routes of the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use tombolo_net::network::{Route, Target};

/// The metric of routes learned by BGP, which tells them from the mesh's. It is greater than the kernel's default for
/// IPv6, 1024, so that the mesh's own route to the same network is preferred.
pub const BGP_METRIC: u32 = 2000;

/// The routes to `learned` networks over next hops that are on the node's own links, and why other next hops are not
/// used.
pub fn kernel_routes(
    learned: &BTreeMap<IpNet, Vec<IpAddr>>,
    on_link: &[(String, IpNet)],
) -> (BTreeSet<Route>, BTreeMap<IpAddr, String>) {
    let (mut routes, mut refused) = (BTreeSet::new(), BTreeMap::new());
    for (net, next_hops) in learned {
        for next_hop in next_hops {
            let Some((link, _)) = on_link.iter().find(|(_, net)| net.contains(next_hop)) else {
                refused.insert(*next_hop, format!("next hop {next_hop} is on no link of this node"));
                continue;
            };
            let target = Target::Link { link: link.clone(), gateway: Some(*next_hop) };
            routes.insert(Route { table: 254, destination: *net, target, source: None, metric: BGP_METRIC });
            break;
        }
    }
    (routes, refused)
}
