//! Links, addresses, routes and rules as plain values, and the steps between two states of them.

use std::collections::BTreeSet;
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
    /// Answered with "unreachable", so that what is routed nowhere does not leak elsewhere.
    Unreachable,
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
    let key = |r: &Route| (r.table, r.destination, r.metric);
    let kept: BTreeSet<_> = desired.routes.iter().map(key).collect();
    steps.extend(current.rules.difference(&desired.rules).cloned().map(Change::RemoveRule));
    steps.extend(current.routes.iter().filter(|r| !kept.contains(&key(r))).cloned().map(Change::RemoveRoute));
    steps.extend(current.addresses.difference(&desired.addresses).cloned().map(Change::RemoveAddress));
    link_changes(current, desired, &mut steps);
    steps.extend(desired.addresses.difference(&current.addresses).cloned().map(Change::AddAddress));
    let wrong: BTreeSet<_> = current.routes.difference(&desired.routes).map(key).collect();
    let unset = desired.routes.iter().filter(|r| !current.routes.contains(r) || wrong.contains(&key(r)));
    steps.extend(unset.cloned().map(Change::ReplaceRoute));
    steps.extend(desired.rules.difference(&current.rules).cloned().map(Change::AddRule));
    steps
}

/// What is there without the routes and addresses that go with a link that goes, if only to come back otherwise.
fn lasting(current: &Network, desired: &Network) -> Network {
    let gone: BTreeSet<_> =
        current.vxlans.iter().filter(|v| twin(desired, v).is_none()).map(|v| v.name.as_str()).collect();
    let mut lasting = current.clone();
    lasting.addresses.retain(|a| !gone.contains(a.link.as_str()));
    lasting.routes.retain(|r| !matches!(&r.target, Target::Link { link, .. } if gone.contains(link.as_str())));
    lasting
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
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn route(destination: &str, link: &str) -> Route {
        Route {
            table: 254,
            destination: destination.parse().unwrap(),
            target: Target::Link { link: link.into(), gateway: None },
            source: None,
            metric: 0,
        }
    }

    fn network(routes: &[Route]) -> Network {
        Network { routes: routes.iter().cloned().collect(), ..Network::default() }
    }

    #[test]
    fn a_route_with_a_new_target_is_replaced_and_never_missing() {
        let (old, new) = (route("10.0.0.0/8", "a"), route("10.0.0.0/8", "b"));
        assert_eq!(changes(&network(&[old]), &network(std::slice::from_ref(&new))), [Change::ReplaceRoute(new)]);
    }

    #[test]
    fn a_route_that_shares_its_place_is_set_again() {
        let (old, new) = (route("fd00::/8", "a"), route("fd00::/8", "b"));
        let both = network(&[old, new.clone()]);
        assert_eq!(changes(&both, &network(std::slice::from_ref(&new))), [Change::ReplaceRoute(new)]);
    }

    #[test]
    fn a_link_made_anew_gets_its_addresses_and_routes_back() {
        let vxlan = |mtu| Vxlan {
            name: "vx".into(),
            vni: 7,
            port: 4789,
            local: IpAddr::from([10, 0, 0, 9]),
            mac: Mac([2; 6]),
            mtu,
            remotes: BTreeSet::new(),
        };
        let address = Address { link: "vx".into(), net: "10.9.0.1/24".parse().unwrap() };
        let with = |mtu| Network {
            vxlans: [vxlan(mtu)].into(),
            addresses: [address.clone()].into(),
            ..network(&[route("10.0.0.0/8", "vx")])
        };
        assert_eq!(
            changes(&with(1400), &with(1450)),
            [
                Change::RemoveVxlan("vx".into()),
                Change::AddVxlan(vxlan(1450)),
                Change::AddAddress(address.clone()),
                Change::ReplaceRoute(route("10.0.0.0/8", "vx")),
            ]
        );
    }

    #[test]
    fn a_route_that_is_not_wanted_goes() {
        let old = route("10.0.0.0/8", "a");
        assert_eq!(changes(&network(std::slice::from_ref(&old)), &network(&[])), [Change::RemoveRoute(old)]);
    }

    #[test]
    fn a_vxlan_gains_and_loses_ends_without_being_made_anew() {
        let remote = |n: u8| VxlanRemote {
            gateway: IpAddr::from([10, 0, 0, n]),
            mac: Mac([2, 0, 0, 0, 0, n]),
            remote: IpAddr::from([10, 0, 0, n]),
        };
        let link = |ends: &[u8]| Vxlan {
            name: "vx".into(),
            vni: 7,
            port: 4789,
            local: IpAddr::from([10, 0, 0, 9]),
            mac: Mac([2; 6]),
            mtu: 1450,
            remotes: ends.iter().map(|n| remote(*n)).collect(),
        };
        let with = |ends: &[u8]| Network { vxlans: [link(ends)].into(), ..Network::default() };
        assert_eq!(
            changes(&with(&[1, 2]), &with(&[2, 3])),
            [Change::RemoveRemote("vx".into(), remote(1)), Change::AddRemote("vx".into(), remote(3))]
        );
    }
}
