//! What is learned by BGP as routes of the kernel.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use tombolo_net::network::{Hop, Route, Target};

/// The metric of routes learned by BGP, which tells them from the mesh's. It is greater than the kernel's default for
/// IPv6, 1024, so that the mesh's own route to the same network is preferred.
pub const BGP_METRIC: u32 = 2000;

/// How many learned routes one after the other may lead to a next hop that is on no link.
pub const LEVELS: u8 = 4;

/// How many next hops a route has at most; of more, the first in order are taken. A neighbour decides what leads to a
/// next hop, and shall not decide how much memory of the kernel that takes.
pub const MAX_HOPS: usize = 128;

/// The table `main`.
const MAIN: u32 = 254;

/// The routes to the `learned` networks (without host bits, as BGP has them), and why next hops are not used.
///
/// `on_link` are this node's addresses by link, with the length of the network that is reached there. A next hop is
/// looked for on the link with the longest network that has it (of equal ones the first by name). One that is on no
/// link is replaced by the next hops of the longest learned route that leads to it, again and again, [`LEVELS`] times
/// at most (RFC 4271, section 9.1.2.1); routes that only lead back to it do not lead to it. A link-local next hop does
/// not say its link (RFC 2545 leaves that to the session), so it is used only where one link alone can be meant.
///
/// A next hop is refused for itself alone: the route goes by its others, and is left out when none is left. One that is
/// of the other family than a network is named among the refused, though others' routes may use it.
pub fn kernel_routes(
    learned: &BTreeMap<IpNet, Vec<IpAddr>>,
    on_link: &[(String, IpNet)],
) -> (BTreeSet<Route>, BTreeMap<IpAddr, String>) {
    let mut resolver = Resolver { learned, on_link, known: HashMap::new() };
    let (mut routes, mut refused) = (BTreeSet::new(), BTreeMap::new());
    for (net, next_hops) in learned {
        let mut hops = BTreeSet::new();
        for next_hop in next_hops {
            let found = match same_family(*net, *next_hop) {
                true => resolver.resolve(*next_hop, LEVELS),
                false => Err(format!("next hop {next_hop} is not of the family of {net}, to which it shall lead")),
            };
            match found {
                Ok(found) => hops.extend(found),
                Err(reason) => {
                    refused.insert(*next_hop, reason);
                }
            }
        }
        let target = Target::through(hops.into_iter().take(MAX_HOPS).collect());
        routes.extend(target.map(|target| Route {
            table: MAIN,
            destination: *net,
            target,
            source: None,
            metric: BGP_METRIC,
        }));
    }
    (routes, refused)
}

struct Resolver<'a> {
    learned: &'a BTreeMap<IpNet, Vec<IpAddr>>,
    on_link: &'a [(String, IpNet)],
    /// What was found for a next hop with so many levels left: next hops are few, however many the routes are.
    known: HashMap<(IpAddr, u8), Result<BTreeSet<Hop>, String>>,
}

impl<'a> Resolver<'a> {
    fn resolve(&mut self, next_hop: IpAddr, levels: u8) -> Result<BTreeSet<Hop>, String> {
        if let Some(known) = self.known.get(&(next_hop, levels)) {
            return known.clone();
        }
        let found = self.find(next_hop, levels);
        self.known.insert((next_hop, levels), found.clone());
        found
    }

    fn find(&mut self, next_hop: IpAddr, levels: u8) -> Result<BTreeSet<Hop>, String> {
        if let Some(link) = link(next_hop, self.on_link)? {
            return Ok(BTreeSet::from([Hop { link, gateway: next_hop }]));
        }
        let Some((net, through)) = self.longest(next_hop) else {
            return Err(format!("next hop {next_hop} is on no link of this node and no route leads to it"));
        };
        let mut hops = BTreeSet::new();
        if let Some(levels) = levels.checked_sub(1) {
            for other in through.iter().filter(|other| same_family(net, **other) && **other != next_hop) {
                hops.extend(self.resolve(*other, levels).into_iter().flatten());
            }
        }
        if hops.is_empty() {
            return Err(format!(
                "next hop {next_hop} is on no link of this node and the route to it, {net}, leads to none within \
                 {LEVELS} steps"
            ));
        }
        Ok(hops.into_iter().take(MAX_HOPS).collect())
    }

    fn longest(&self, address: IpAddr) -> Option<(IpNet, &'a [IpAddr])> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        (0..=longest).rev().find_map(|length| {
            let net = IpNet::new(address, length).ok()?.trunc();
            Some((net, self.learned.get(&net)?.as_slice()))
        })
    }
}

/// The link that a next hop is on; nothing where it is on none.
///
/// # Errors
/// When it can be no next hop, in words.
fn link(next_hop: IpAddr, on_link: &[(String, IpNet)]) -> Result<Option<String>, String> {
    if next_hop.is_unspecified() || next_hop.is_multicast() || next_hop.is_loopback() {
        return Err(format!("next hop {next_hop} is no address that a neighbour can have"));
    }
    if let Some((link, _)) = on_link.iter().find(|(_, net)| net.addr() == next_hop) {
        return Err(format!("next hop {next_hop} is this node's own address, on {link}"));
    }
    let having = on_link.iter().filter(|(_, net)| net.contains(&next_hop));
    if matches!(next_hop, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        let links: BTreeSet<&str> = having.map(|(link, _)| link.as_str()).collect();
        return match Vec::from_iter(links).as_slice() {
            [link] => Ok(Some((*link).to_owned())),
            [] => Err(format!("next hop {next_hop} is link-local and no link of this node has such addresses")),
            links => Err(format!(
                "next hop {next_hop} is link-local and may be on any of {}; let the neighbour announce a global one",
                links.join(", ")
            )),
        };
    }
    let Some((link, net)) = having.min_by_key(|(link, net)| (u8::MAX - net.prefix_len(), link.as_str())) else {
        return Ok(None);
    };
    // Of 31 bits both addresses are hosts' (RFC 3021).
    let reserved = next_hop == net.network() || next_hop == net.broadcast();
    if next_hop.is_ipv4() && net.prefix_len() < 31 && reserved {
        let net = net.trunc();
        return Err(format!("next hop {next_hop} is the network or broadcast address of {net} on {link}"));
    }
    Ok(Some(link.clone()))
}

fn same_family(net: IpNet, address: IpAddr) -> bool {
    net.addr().is_ipv4() == address.is_ipv4()
}

#[cfg(test)]
mod tests;
