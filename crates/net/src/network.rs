//! Links, addresses, routes and rules as plain values, and the steps between two states of them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// Marks our routes and rules in the kernel's tables (`proto 117` in `ip route`), so that they can be told from others'.
pub const PROTOCOL: u8 = 117;

/// A hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// A VXLAN link (RFC 7348) whose peers are all known: no learning, no multicast.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Vxlan {
    /// Its name, 15 bytes at most.
    pub name: String,
    /// VXLAN network identifier, 24 bits.
    pub vni: u32,
    /// UDP destination port.
    pub port: u16,
    /// The address that the encapsulated packets come from.
    pub local: IpAddr,
    /// Its hardware address.
    pub mac: Mac,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The other ends.
    pub remotes: BTreeSet<VxlanRemote>,
}

/// One other end of a [`Vxlan`]: a permanent neighbour entry `gateway → mac` and a forwarding entry `mac → remote`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VxlanRemote {
    /// The address used as a gateway in routes through the link.
    pub gateway: IpAddr,
    /// The other end's hardware address.
    pub mac: Mac,
    /// Where to send the encapsulated packets.
    pub remote: IpAddr,
}

/// An address on a link that exists.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The link's name.
    pub link: String,
    /// Address and prefix length.
    pub net: IpNet,
}

/// What a route does with a packet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Through a link, to a gateway (taken as reachable on that link: `onlink`) or directly.
    Link {
        /// The link's name.
        link: String,
        /// Next hop, of the same family as the destination.
        gateway: Option<IpAddr>,
    },
    /// Through several gateways that share the load by flow; made by [`Target::through`].
    Multipath(Hops),
    /// Answered with "unreachable", so that what is routed nowhere does not leak elsewhere.
    Unreachable,
}

/// One of the next hops of a route that has several.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// The link's name.
    pub link: String,
    /// The gateway, of the same family as the destination, taken as reachable on that link (`onlink`).
    pub gateway: IpAddr,
}

/// Two or more next hops, each as good as the others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hops(BTreeSet<Hop>);

impl Hops {
    /// The next hops, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Hop> {
        self.0.iter()
    }
}

impl Target {
    /// Through these next hops: [`Target::Link`] for one, [`Target::Multipath`] for more, nothing for none.
    pub fn through(hops: BTreeSet<Hop>) -> Option<Self> {
        if hops.len() > 1 {
            return Some(Self::Multipath(Hops(hops)));
        }
        hops.into_iter().next().map(|hop| Self::Link { link: hop.link, gateway: Some(hop.gateway) })
    }

    /// The names of the links that it needs.
    pub fn links(&self) -> impl Iterator<Item = &str> {
        let (one, several) = match self {
            Self::Link { link, .. } => (Some(link), None),
            Self::Multipath(hops) => (None, Some(hops)),
            Self::Unreachable => (None, None),
        };
        one.into_iter().chain(several.into_iter().flat_map(Hops::iter).map(|hop| &hop.link)).map(String::as_str)
    }
}

/// In the words of ip-route(8).
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable => f.write_str("unreachable"),
            Self::Link { link, gateway: None } => write!(f, "dev {link}"),
            Self::Link { link, gateway: Some(gateway) } => write!(f, "via {gateway} dev {link}"),
            Self::Multipath(hops) => {
                let mut space = "";
                for Hop { link, gateway } in hops.iter() {
                    write!(f, "{space}nexthop via {gateway} dev {link}")?;
                    space = " ";
                }
                Ok(())
            }
        }
    }
}

/// A route of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Routing table: 254 is `main`.
    pub table: u32,
    /// Destination.
    pub destination: IpNet,
    /// Where to.
    pub target: Target,
    /// Preferred source address of packets that the node itself sends.
    pub source: Option<IpAddr>,
    /// Metric; 0 is the kernel's default (1024 for IPv6).
    pub metric: u32,
}

/// A rule of ours of the routing policy (ip-rule(8)): which table is looked up for which packets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Whether for IPv6.
    pub ipv6: bool,
    /// Smaller is looked at earlier.
    pub priority: u32,
    /// Source.
    pub from: Option<IpNet>,
    /// Destination.
    pub to: Option<IpNet>,
    /// The link that the packet came in on.
    pub input: Option<String>,
    /// `(mark, mask)` that the packet bears.
    pub fwmark: Option<(u32, u32)>,
    /// Whether the rule is for packets that do *not* match.
    pub invert: bool,
    /// The table to look up.
    pub table: u32,
}

/// Everything of ours on a node, or everything that shall be. Links that others make (WireGuard's too) are not in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Network {
    /// Links that we make.
    pub vxlans: BTreeSet<Vxlan>,
    /// Addresses on our links.
    pub addresses: BTreeSet<Address>,
    /// Our routes.
    pub routes: BTreeSet<Route>,
    /// Our rules.
    pub rules: BTreeSet<Rule>,
}

/// One step from a network that is to one that shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Make the link.
    AddVxlan(Vxlan),
    /// Remove the link with this name.
    RemoveVxlan(String),
    /// Add the other end to the link with this name.
    AddRemote(String, VxlanRemote),
    /// Remove the other end from the link with this name.
    RemoveRemote(String, VxlanRemote),
    /// Add the address.
    AddAddress(Address),
    /// Remove the address.
    RemoveAddress(Address),
    /// Add the route, or replace the one with the same table, destination and metric.
    ReplaceRoute(Route),
    /// Remove the route.
    RemoveRoute(Route),
    /// Add the rule.
    AddRule(Rule),
    /// Remove the rule.
    RemoveRule(Rule),
}

/// The steps from `current` to `desired`, in an order in which each is possible: links, addresses, routes, rules; what
/// goes, goes in the opposite order. A route that only changes its target is replaced, so that no packet finds none; so is
/// one that shares its place (table, destination and metric) with another, of which replacing leaves none.
pub fn changes(current: &Network, desired: &Network) -> Vec<Change> {
    let current = &lasting(current, desired);
    let mut steps = Vec::new();
    let kept: BTreeSet<_> = desired.routes.iter().map(place).collect();
    steps.extend(current.rules.difference(&desired.rules).cloned().map(Change::RemoveRule));
    steps.extend(current.routes.iter().filter(|r| !kept.contains(&place(r))).cloned().map(Change::RemoveRoute));
    steps.extend(current.addresses.difference(&desired.addresses).cloned().map(Change::RemoveAddress));
    link_changes(current, desired, &mut steps);
    steps.extend(desired.addresses.difference(&current.addresses).cloned().map(Change::AddAddress));
    let wrong: BTreeSet<_> = current.routes.difference(&desired.routes).map(place).collect();
    let unset = desired.routes.iter().filter(|r| !current.routes.contains(r) || wrong.contains(&place(r)));
    steps.extend(unset.cloned().map(Change::ReplaceRoute));
    steps.extend(desired.rules.difference(&current.rules).cloned().map(Change::AddRule));
    steps
}

/// What is there without the routes and addresses that go with a link that goes, if only to come back otherwise.
///
/// Of a route with several next hops the kernel takes the whole (IPv4) or the link's part (IPv6): one that is wanted is
/// set in any case, one that is not is removed while it is whole, unless no part of it can be left.
fn lasting(current: &Network, desired: &Network) -> Network {
    let gone: BTreeSet<_> =
        current.vxlans.iter().filter(|v| twin(desired, v).is_none()).map(|v| v.name.as_str()).collect();
    let mut lasting = current.clone();
    lasting.addresses.retain(|a| !gone.contains(a.link.as_str()));
    let kept: BTreeSet<_> = desired.routes.iter().map(place).collect();
    lasting.routes.retain(|r| {
        let (going, staying): (Vec<_>, Vec<_>) = r.target.links().partition(|link| gone.contains(link));
        going.is_empty() || !staying.is_empty() && !kept.contains(&place(r))
    });
    lasting
}

/// What the kernel tells routes apart by: two in one place are one route that goes both ways, or one that hides another.
fn place(route: &Route) -> (u32, IpNet, u32) {
    (route.table, route.destination, route.metric)
}

fn link_changes(current: &Network, desired: &Network, steps: &mut Vec<Change>) {
    for gone in current.vxlans.iter().filter(|v| twin(desired, v).is_none()) {
        steps.push(Change::RemoveVxlan(gone.name.clone()));
    }
    for link in &desired.vxlans {
        let Some(present) = twin(current, link) else {
            steps.push(Change::AddVxlan(link.clone()));
            continue;
        };
        let name = &link.name;
        steps.extend(present.remotes.difference(&link.remotes).map(|r| Change::RemoveRemote(name.clone(), *r)));
        steps.extend(link.remotes.difference(&present.remotes).map(|r| Change::AddRemote(name.clone(), *r)));
    }
}

/// The link that differs in its other ends at most.
fn twin<'a>(network: &'a Network, link: &Vxlan) -> Option<&'a Vxlan> {
    let bare = |v: &Vxlan| Vxlan { remotes: BTreeSet::new(), ..v.clone() };
    network.vxlans.iter().find(|v| bare(v) == bare(link))
}

#[cfg(test)]
mod tests;
