//! Addresses of links (`RTM_*ADDR`).

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use tombolo_net::network::Address;

use crate::error::HostError;
use crate::links::Links;
use crate::netlink::Netlink;
use crate::routes::family;

/// How far an address is meant to be known (rtnetlink(7), `ifa_scope`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// On its link.
    Link,
    /// On this host.
    Host,
    /// Any other number.
    Other(u8),
}

/// An address of a link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkAddress {
    /// The link's name.
    pub link: String,
    /// Address and prefix length. Of a point-to-point link it is the own address with length 32 or 128.
    pub net: IpNet,
    /// How far it is meant to be known.
    pub scope: Scope,
}

/// All addresses of the namespace, by link and address.
pub(crate) async fn list(netlink: &Netlink, links: &Links) -> Result<Vec<LinkAddress>, HostError> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let listed = netlink.list(request).await.map_err(HostError::kernel("list the addresses"))?;
    let mut addresses: Vec<_> = listed
        .iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => read(message, links),
            _ => None,
        })
        .collect();
    addresses.sort();
    Ok(addresses)
}

/// Adds the address, usable at once: ours are handed out once only, so nobody need be asked (no duplicate detection).
pub(crate) async fn add(netlink: &Netlink, links: &Links, address: &Address) -> Result<(), HostError> {
    let request = RouteNetlinkMessage::NewAddress(write(links, address)?);
    match netlink.ask(request, NLM_F_CREATE | NLM_F_EXCL).await {
        Err(refusal) if refusal.is(libc::EEXIST) => Ok(()),
        other => other.map_err(HostError::kernel(format!("add the address {} to {}", address.net, address.link))),
    }
}

/// Removes the address and no other: with the first IPv4 address of a subnet the kernel drops the others of it too
/// (unless `promote_secondaries` is set), so these are put back.
pub(crate) async fn remove(netlink: &Netlink, links: &Links, address: &Address) -> Result<(), HostError> {
    let Ok(message) = write(links, address) else { return Ok(()) };
    let before = list(netlink, links).await?;
    match netlink.ask(RouteNetlinkMessage::DelAddress(message), 0).await {
        Err(refusal) if [libc::EADDRNOTAVAIL, libc::ENODEV].iter().any(|e| refusal.is(*e)) => return Ok(()),
        Err(refusal) => {
            let what = format!("remove the address {} from {}", address.net, address.link);
            return Err(HostError::Kernel { what, refusal });
        }
        Ok(()) => {}
    }
    let siblings = |a: &&LinkAddress| a.link == address.link && a.net != address.net && a.net.addr().is_ipv4();
    let after = list(netlink, links).await?;
    for lost in before.iter().filter(siblings).filter(|a| !after.contains(a)) {
        add(netlink, links, &Address { link: lost.link.clone(), net: lost.net }).await?;
    }
    Ok(())
}

fn write(links: &Links, address: &Address) -> Result<AddressMessage, HostError> {
    let mut message = AddressMessage::default();
    let own = address.net.addr();
    message.header.family = family(own.is_ipv6());
    message.header.prefix_len = address.net.prefix_len();
    message.header.scope = AddressScope::Universe;
    message.header.index = links.index(&address.link)?;
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes.extend([
        AddressAttribute::Local(own),
        AddressAttribute::Address(own),
        AddressAttribute::Flags(AddressFlags::Nodad),
    ]);
    Ok(message)
}

fn read(message: &AddressMessage, links: &Links) -> Option<LinkAddress> {
    let attribute = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    let local = attribute(|a| match a {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let prefix = attribute(|a| match a {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let own = local.or(prefix)?;
    let length = match prefix {
        // The prefix is the other end's.
        Some(prefix) if prefix != own => {
            if own.is_ipv4() {
                32
            } else {
                128
            }
        }
        _ => message.header.prefix_len,
    };
    let scope = match message.header.scope {
        AddressScope::Universe => Scope::Global,
        AddressScope::Link => Scope::Link,
        AddressScope::Host => Scope::Host,
        other => Scope::Other(other.into()),
    };
    Some(LinkAddress { link: links.name(message.header.index)?.to_owned(), net: IpNet::new(own, length).ok()?, scope })
}
