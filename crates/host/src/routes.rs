//! Routes of ours in the kernel's tables (`RTM_*ROUTE`, rtnetlink(7)): how they are read, written and told from others'.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteProtocol, RouteScope, RouteType, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use tombolo_net::network::{Hop, PROTOCOL, Route, Target};

use crate::error::{HostError, Refusal};
use crate::links::Links;
use crate::netlink::Netlink;

/// What the kernel makes of an IPv6 route's metric 0 (`IP6_RT_PRIO_USER` of linux/ipv6_route.h).
const IPV6_DEFAULT_METRIC: u32 = 1024;

/// All our routes of both families in all tables. IPv6 routes with the kernel's default metric are given as metric 0.
pub(crate) async fn observe(netlink: &Netlink, links: &Links) -> Result<Vec<Route>, HostError> {
    let mut routes = Vec::new();
    for ipv6 in [false, true] {
        let listed = list(netlink, ipv6, Some(PROTOCOL), None).await?;
        routes.extend(listed.iter().filter(|m| ours(m)).flat_map(|m| read(m, links)));
    }
    Ok(routes)
}

/// Adds the route, or puts it in the place of ours with the same table, destination and metric, of which one stays.
pub(crate) async fn replace(
    netlink: &Netlink,
    links: &Links,
    places: &mut Places,
    route: &Route,
) -> Result<(), HostError> {
    let message = write(route, links)?;
    let request = || RouteNetlinkMessage::NewRoute(message.clone());
    let failed = |refusal| HostError::Kernel { what: format!("set the route {}", describe(route)), refusal };
    match netlink.ask(request(), NLM_F_CREATE | NLM_F_EXCL).await {
        Err(refusal) if refusal.is(libc::EEXIST) => {}
        other => return other.map_err(failed),
    }
    if let [one] = places.of(netlink, route).await?
        && ours(one)
    {
        let same = read(one, links).as_slice() == std::slice::from_ref(route);
        let put = async || netlink.ask(request(), NLM_F_CREATE | NLM_F_REPLACE).await.map_err(failed);
        return if same { Ok(()) } else { put().await };
    }
    let mut present = same_place(netlink, route).await?;
    if let Some(foreign) = present.iter().find(|m| !ours(m)) {
        return Err(HostError::Occupied {
            what: format!("a route to {} in table {}", route.destination, route.table),
            owner: format!("protocol {}", u8::from(foreign.header.protocol)),
        });
    }
    if !present.iter().any(|m| read(m, links).as_slice() == std::slice::from_ref(route)) {
        netlink.ask(request(), NLM_F_CREATE | NLM_F_REPLACE).await.map_err(failed)?;
        present = same_place(netlink, route).await?;
    }
    // The kernel replaces one route; others of the same place (added by hand) would share the load or wait behind it.
    let (mut kept, mut disturbed) = (false, false);
    for extra in present.iter().filter(|m| ours(m)).flat_map(|m| read(m, links)) {
        if extra == *route && !kept {
            kept = true;
            continue;
        }
        remove(netlink, links, &extra).await?;
        disturbed = true;
    }
    // Removing one of several in a place, the kernel takes the first that is like it, which may have been the kept one.
    if disturbed && !same_place(netlink, route).await?.iter().any(|m| read(m, links).contains(route)) {
        netlink.ask(request(), NLM_F_CREATE | NLM_F_REPLACE).await.map_err(failed)?;
    }
    Ok(())
}

/// Removes exactly this route of ours; one that is not there is removed already.
pub(crate) async fn remove(netlink: &Netlink, links: &Links, route: &Route) -> Result<(), HostError> {
    // A link takes its routes with it.
    let Ok(message) = write(route, links) else { return Ok(()) };
    match take(netlink, message).await {
        Ok(false) if matches!(route.target, Target::Multipath(_)) => {}
        other => return other.map(|_| ()).map_err(HostError::kernel(format!("remove the route {}", describe(route)))),
    }
    // IPv4's next hops are compared in their order, and ours have another when somebody else wrote them or a link was
    // renamed since.
    let present = same_place(netlink, route).await?;
    let same = present.into_iter().filter(|m| ours(m) && read(m, links).contains(route));
    for message in same {
        take(netlink, message).await.map_err(HostError::kernel(format!("remove the route {}", describe(route))))?;
    }
    Ok(())
}

/// Whether the route was there to be removed.
async fn take(netlink: &Netlink, message: RouteMessage) -> Result<bool, Refusal> {
    match netlink.ask(RouteNetlinkMessage::DelRoute(message), 0).await {
        Err(refusal) if [libc::ESRCH, libc::ENODEV, libc::ENOENT].iter().any(|e| refusal.is(*e)) => Ok(false),
        other => other.map(|()| true),
    }
}

/// The link of the main table's default route with the smallest metric, by index.
pub(crate) async fn default_link(netlink: &Netlink, ipv6: bool) -> Result<Option<u32>, HostError> {
    let listed = list(netlink, ipv6, None, Some(u32::from(RouteHeader::RT_TABLE_MAIN))).await?;
    let defaults = listed.iter().filter(|m| m.header.destination_prefix_length == 0);
    let unicast = defaults.filter(|m| m.header.kind == RouteType::Unicast);
    Ok(unicast.filter_map(|m| Some((metric(m), hops(m).first()?.0))).min().map(|(_, link)| link))
}

fn ours(message: &RouteMessage) -> bool {
    u8::from(message.header.protocol) == PROTOCOL
}

/// Whoever's routes with the same table, destination and metric.
async fn same_place(netlink: &Netlink, route: &Route) -> Result<Vec<RouteMessage>, HostError> {
    let mut listed = list(netlink, is_ipv6(&route.destination), None, Some(route.table)).await?;
    listed.retain(|m| {
        (table(m), destination(m), metric(m)) == (route.table, Some(route.destination.trunc()), kernel_metric(route))
    });
    Ok(listed)
}

/// What routes there were in each place when the first of many was to be replaced: with ten thousand of them, the table
/// must not be listed for each.
#[derive(Debug, Default)]
pub(crate) struct Places {
    listed: HashMap<(u32, bool), OfTable>,
}

/// By destination and metric.
type OfTable = HashMap<(IpNet, u32), Vec<RouteMessage>>;

impl Places {
    async fn of(&mut self, netlink: &Netlink, route: &Route) -> Result<&[RouteMessage], HostError> {
        let of_table = match self.listed.entry((route.table, is_ipv6(&route.destination))) {
            Entry::Occupied(listed) => listed.into_mut(),
            Entry::Vacant(new) => {
                let mut listed = OfTable::new();
                for message in list(netlink, is_ipv6(&route.destination), None, Some(route.table)).await? {
                    if let Some(destination) = destination(&message) {
                        listed.entry((destination, metric(&message))).or_default().push(message);
                    }
                }
                new.insert(listed)
            }
        };
        let place = (route.destination.trunc(), kernel_metric(route));
        Ok(of_table.get(&place).map(Vec::as_slice).unwrap_or_default())
    }
}

/// Lists with the kernel's own filter (strict checking), so that a full Internet table does not pass through here.
async fn list(
    netlink: &Netlink,
    ipv6: bool,
    protocol: Option<u8>,
    table: Option<u32>,
) -> Result<Vec<RouteMessage>, HostError> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(ipv6);
    message.header.protocol = protocol.map_or(RouteProtocol::Unspec, RouteProtocol::from);
    message.attributes.extend(table.map(RouteAttribute::Table));
    let listed = match netlink.list(RouteNetlinkMessage::GetRoute(message)).await {
        // No such table yet, or a kernel without that family: no routes.
        Err(refusal) if [libc::ENOENT, libc::EAFNOSUPPORT, libc::EOPNOTSUPP].iter().any(|e| refusal.is(*e)) => vec![],
        other => other.map_err(HostError::kernel("list the routes"))?,
    };
    let routes = listed.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route) => Some(route),
        _ => None,
    });
    Ok(routes.filter(|m| m.header.address_family == family(ipv6)).collect())
}

fn write(route: &Route, links: &Links) -> Result<RouteMessage, HostError> {
    let destination = route.destination.trunc();
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(is_ipv6(&destination));
    header.destination_prefix_length = destination.prefix_len();
    header.protocol = RouteProtocol::from(PROTOCOL);
    header.kind = RouteType::Unicast;
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(route.table));
    if destination.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(destination.addr().into()));
    }
    attributes.push(RouteAttribute::Priority(kernel_metric(route)));
    attributes.extend(route.source.map(|a| RouteAttribute::PrefSource(a.into())));
    match &route.target {
        Target::Unreachable => header.kind = RouteType::Unreachable,
        Target::Multipath(hops) => {
            let hops = hops.iter().map(|hop| next_hop(hop, links)).collect::<Result<_, _>>()?;
            attributes.push(RouteAttribute::MultiPath(hops));
        }
        Target::Link { link, gateway } => {
            attributes.push(RouteAttribute::Oif(links.index(link)?));
            match gateway {
                Some(gateway) => {
                    attributes.push(RouteAttribute::Gateway((*gateway).into()));
                    header.flags = RouteFlags::Onlink;
                }
                None if destination.addr().is_ipv4() => header.scope = RouteScope::Link,
                None => {}
            }
        }
    }
    Ok(message)
}

fn next_hop(hop: &Hop, links: &Links) -> Result<RouteNextHop, HostError> {
    let mut message = RouteNextHop::default();
    message.flags = RouteNextHopFlags::Onlink;
    message.interface_index = links.index(&hop.link)?;
    message.attributes.push(RouteAttribute::Gateway(hop.gateway.into()));
    Ok(message)
}

/// One route, also where it has several next hops. Several that cannot be ours (by hand: with weights, without
/// gateways, one twice) are shown as a route each, so that they are seen to be wrong.
fn read(message: &RouteMessage, links: &Links) -> Vec<Route> {
    let Some(destination) = destination(message) else { return vec![] };
    let ipv6 = is_ipv6(&destination);
    let route = |target| Route {
        table: table(message),
        destination,
        target,
        source: message.attributes.iter().find_map(|a| match a {
            RouteAttribute::PrefSource(address) => ip(address),
            _ => None,
        }),
        metric: Some(metric(message)).filter(|m| !ipv6 || *m != IPV6_DEFAULT_METRIC).unwrap_or_default(),
    };
    match message.header.kind {
        RouteType::Unreachable => vec![route(Target::Unreachable)],
        RouteType::Unicast => match multipath(message, links) {
            Some(target) => vec![route(target)],
            None => {
                let named =
                    hops(message).into_iter().filter_map(|(index, gateway)| Some((links.name(index)?, gateway)));
                named.map(|(link, gateway)| route(Target::Link { link: link.to_owned(), gateway })).collect()
            }
        },
        _ => vec![],
    }
}

/// The next hops as one target, where they are such as we write.
fn multipath(message: &RouteMessage, links: &Links) -> Option<Target> {
    let listed = several(message)?;
    let hop = |hop: &RouteNextHop| {
        // The field is the weight less one (`rtnh_hops`, rtnetlink(7)).
        (hop.hops == 0).then_some(())?;
        Some(Hop { link: links.name(hop.interface_index)?.to_owned(), gateway: gateway(&hop.attributes)? })
    };
    let hops: BTreeSet<Hop> = listed.iter().map(hop).collect::<Option<_>>()?;
    if hops.len() == listed.len() { Target::through(hops) } else { None }
}

fn several(message: &RouteMessage) -> Option<&[RouteNextHop]> {
    message.attributes.iter().find_map(|a| match a {
        RouteAttribute::MultiPath(hops) => Some(hops.as_slice()),
        _ => None,
    })
}

/// Links (by index) and gateways.
fn hops(message: &RouteMessage) -> Vec<(u32, Option<IpAddr>)> {
    if let Some(several) = several(message) {
        return several.iter().map(|hop| (hop.interface_index, gateway(&hop.attributes))).collect();
    }
    let link = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    link.map(|index| (index, gateway(&message.attributes))).into_iter().collect()
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|a| match a {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

fn destination(message: &RouteMessage) -> Option<IpNet> {
    let given = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    IpNet::new(given.unwrap_or(any), message.header.destination_prefix_length).ok()
}

fn table(message: &RouteMessage) -> u32 {
    let given = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    given.unwrap_or(u32::from(message.header.table))
}

fn metric(message: &RouteMessage) -> u32 {
    let given = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    given.unwrap_or_default()
}

/// The metric under which the kernel keeps the route. It is always said, as a removal without one takes any.
fn kernel_metric(route: &Route) -> u32 {
    if route.metric == 0 && is_ipv6(&route.destination) { IPV6_DEFAULT_METRIC } else { route.metric }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn is_ipv6(net: &IpNet) -> bool {
    net.addr().is_ipv6()
}

pub(crate) fn family(ipv6: bool) -> AddressFamily {
    if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

fn describe(route: &Route) -> String {
    let mut text = format!("{} {}", route.destination, route.target);
    if let Some(source) = route.source {
        text += &format!(" src {source}");
    }
    if route.metric != 0 {
        text += &format!(" metric {}", route.metric);
    }
    format!("{text} table {}", route.table)
}
