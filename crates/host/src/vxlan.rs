//! VXLAN links with known ends: the link, and for each end a permanent neighbour and a forwarding entry (bridge(8)).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo as Info, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::RouteType;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use tombolo_net::network::{Mac, Vxlan, VxlanRemote};

use crate::error::{HostError, Refusal};
use crate::links;
use crate::netlink::Netlink;
use crate::routes::family;

/// The MTU of a link that is not as we make them (down, learning, or set by metadata): nothing wants this one, so the
/// difference to any wish is a new link, and to none is its removal.
const UNFIT: u32 = 0;

/// The VXLAN link with this name, if there is one. An end of which only a half is there (a neighbour without a
/// forwarding entry, or the other way round) has the unspecified address in the place of the missing one.
pub(crate) async fn observe(netlink: &Netlink, name: &str) -> Result<Option<Vxlan>, HostError> {
    let Some(message) = links::get(netlink, name).await? else { return Ok(None) };
    let Some(mut vxlan) = read(&message) else { return Ok(None) };
    vxlan.remotes = remotes(netlink, message.header.index).await?;
    Ok(Some(vxlan))
}

/// Makes the link with its ends and sets it up. A VXLAN of that name with other parameters gives way.
pub(crate) async fn add(netlink: &Netlink, vxlan: &Vxlan) -> Result<(), HostError> {
    let bare = |v: &Vxlan| Vxlan { remotes: BTreeSet::new(), ..v.clone() };
    if let Some(present) = links::get(netlink, &vxlan.name).await? {
        let Some(present) = read(&present) else {
            let kind = links::read(&present).kind.unwrap_or_else(|| "a hardware link".into());
            return Err(HostError::ForeignLink { link: vxlan.name.clone(), kind });
        };
        if bare(&present) != bare(vxlan) {
            links::delete(netlink, &vxlan.name).await?;
        }
    }
    let request = RouteNetlinkMessage::NewLink(write(vxlan));
    let what = format!(
        "make the VXLAN link {} (VNI {}, port {}; two links of a namespace cannot share both)",
        vxlan.name, vxlan.vni, vxlan.port
    );
    match netlink.ask(request, NLM_F_CREATE | NLM_F_EXCL).await {
        Err(refusal) if refusal.is(libc::EEXIST) && links::get(netlink, &vxlan.name).await?.is_some() => {}
        other => other.map_err(HostError::kernel(what))?,
    }
    for remote in &vxlan.remotes {
        add_remote(netlink, &vxlan.name, remote).await?;
    }
    Ok(())
}

/// Removes the link if it is a VXLAN.
pub(crate) async fn remove(netlink: &Netlink, name: &str) -> Result<(), HostError> {
    match links::get(netlink, name).await? {
        Some(message) if links::kind(&message) == Some(&InfoKind::Vxlan) => links::delete(netlink, name).await,
        _ => Ok(()),
    }
}

/// Adds the end, or what is missing of it.
pub(crate) async fn add_remote(netlink: &Netlink, name: &str, remote: &VxlanRemote) -> Result<(), HostError> {
    let Some(link) = links::get(netlink, name).await? else { return Err(HostError::NoLink { link: name.to_owned() }) };
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    let index = link.header.index;
    let failed = |what: &str| HostError::kernel(format!("{what} {} of {name}", remote.gateway));
    let entry = RouteNetlinkMessage::NewNeighbour(forwarding(index, remote.mac, Some(remote.remote)));
    netlink.ask(entry, flags).await.map_err(failed("add the forwarding entry for the end"))?;
    let entry = RouteNetlinkMessage::NewNeighbour(neighbour(index, remote.gateway, Some(remote.mac)));
    netlink.ask(entry, flags).await.map_err(failed("add the neighbour"))
}

/// Removes the end. Its forwarding entry stays while another gateway has the same hardware address (dual stack).
pub(crate) async fn remove_remote(netlink: &Netlink, name: &str, remote: &VxlanRemote) -> Result<(), HostError> {
    let Some(link) = links::get(netlink, name).await? else { return Ok(()) };
    let index = link.header.index;
    let failed = |what: &str| HostError::kernel(format!("{what} {} of {name}", remote.gateway));
    if !remote.gateway.is_unspecified() {
        let entry = RouteNetlinkMessage::DelNeighbour(neighbour(index, remote.gateway, None));
        gone(netlink.ask(entry, 0).await).map_err(failed("remove the neighbour"))?;
    }
    if neighbours(netlink, index).await?.iter().any(|(_, mac)| *mac == remote.mac) {
        return Ok(());
    }
    let entry = RouteNetlinkMessage::DelNeighbour(forwarding(index, remote.mac, None));
    gone(netlink.ask(entry, 0).await).map_err(failed("remove the forwarding entry for the end"))
}

/// What is not there is removed already.
fn gone(result: Result<(), Refusal>) -> Result<(), Refusal> {
    result.or_else(|r| if r.is(libc::ENOENT) || r.is(libc::ENODEV) { Ok(()) } else { Err(r) })
}

async fn remotes(netlink: &Netlink, index: u32) -> Result<BTreeSet<VxlanRemote>, HostError> {
    let neighbours = neighbours(netlink, index).await?;
    let forwarding = forwarding_entries(netlink, index).await?;
    let missing = |like: Option<&IpAddr>| match like {
        Some(IpAddr::V6(_)) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    let mut remotes = BTreeSet::new();
    for (gateway, mac) in &neighbours {
        let mut ends = forwarding.iter().filter(|(m, _)| m == mac).map(|(_, end)| *end).peekable();
        if ends.peek().is_none() {
            remotes.insert(VxlanRemote { gateway: *gateway, mac: *mac, remote: missing(Some(gateway)) });
        }
        remotes.extend(ends.map(|remote| VxlanRemote { gateway: *gateway, mac: *mac, remote }));
    }
    for (mac, remote) in forwarding.iter().filter(|(mac, _)| !neighbours.iter().any(|(_, m)| m == mac)) {
        remotes.insert(VxlanRemote { gateway: missing(Some(remote)), mac: *mac, remote: *remote });
    }
    Ok(remotes)
}

/// Permanent neighbours of both families.
async fn neighbours(netlink: &Netlink, index: u32) -> Result<Vec<(IpAddr, Mac)>, HostError> {
    let mut found = Vec::new();
    for ipv6 in [false, true] {
        found.extend(entries(netlink, family(ipv6), index).await?.iter().filter_map(entry));
    }
    Ok(found)
}

async fn forwarding_entries(netlink: &Netlink, index: u32) -> Result<Vec<(Mac, IpAddr)>, HostError> {
    let listed = entries(netlink, AddressFamily::Bridge, index).await?;
    Ok(listed.iter().filter_map(entry).map(|(remote, mac)| (mac, remote)).collect())
}

async fn entries(netlink: &Netlink, family: AddressFamily, index: u32) -> Result<Vec<NeighbourMessage>, HostError> {
    let mut request = NeighbourMessage::default();
    request.header.family = family;
    // The forwarding database is filtered by the header, the neighbour table by an attribute.
    if family == AddressFamily::Bridge {
        request.header.ifindex = index;
    } else {
        request.attributes.push(NeighbourAttribute::IfIndex(index));
    }
    let listed = netlink.list(RouteNetlinkMessage::GetNeighbour(request)).await;
    let listed = listed.map_err(HostError::kernel("list the neighbours"))?;
    let entries = listed.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewNeighbour(message) => Some(message),
        _ => None,
    });
    let ours = |m: &NeighbourMessage| {
        (m.header.family, m.header.ifindex, m.header.state) == (family, index, NeighbourState::Permanent)
    };
    Ok(entries.filter(ours).collect())
}

fn entry(message: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => address = Some(IpAddr::from(*a)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => address = Some(IpAddr::from(*a)),
            NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => address = bytes_to_ip(bytes),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    Some((address?, mac?))
}

fn bytes_to_ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from))
}

fn neighbour(index: u32, gateway: IpAddr, mac: Option<Mac>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(gateway.is_ipv6());
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(NeighbourAttribute::Destination(gateway.into()));
    message.attributes.extend(mac.map(|mac| NeighbourAttribute::LinkLayerAddress(mac.0.to_vec())));
    message
}

fn forwarding(index: u32, mac: Mac, remote: Option<IpAddr>) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    message.attributes.extend(remote.map(|remote| NeighbourAttribute::Destination(remote.into())));
    message
}

fn write(vxlan: &Vxlan) -> LinkMessage {
    let local = match vxlan.local {
        IpAddr::V4(address) => InfoVxlan::Local(address),
        IpAddr::V6(address) => InfoVxlan::Local6(address),
    };
    let data = vec![InfoVxlan::Id(vxlan.vni), InfoVxlan::Port(vxlan.port), local, InfoVxlan::Learning(false)];
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.extend([
        LinkAttribute::IfName(vxlan.name.clone()),
        LinkAttribute::Mtu(vxlan.mtu),
        LinkAttribute::Address(vxlan.mac.0.to_vec()),
        LinkAttribute::LinkInfo(vec![Info::Kind(InfoKind::Vxlan), Info::Data(InfoData::Vxlan(data))]),
    ]);
    message
}

/// The link without its ends; nothing for a link of another kind.
fn read(message: &LinkMessage) -> Option<Vxlan> {
    if links::kind(message) != Some(&InfoKind::Vxlan) {
        return None;
    }
    let info = links::read(message);
    let mut fit = info.up;
    let mut vxlan = Vxlan {
        name: info.name,
        vni: 0,
        port: 0,
        local: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        mac: info.mac.unwrap_or(Mac([0; 6])),
        mtu: info.mtu,
        remotes: BTreeSet::new(),
    };
    let data = links::link_info(message).iter().find_map(|nested| match nested {
        Info::Data(InfoData::Vxlan(data)) => Some(data.as_slice()),
        _ => None,
    });
    for attribute in data.unwrap_or_default() {
        match attribute {
            InfoVxlan::Id(vni) => vxlan.vni = *vni,
            InfoVxlan::Port(port) => vxlan.port = *port,
            InfoVxlan::Local(address) => vxlan.local = (*address).into(),
            InfoVxlan::Local6(address) => vxlan.local = (*address).into(),
            InfoVxlan::Learning(true) | InfoVxlan::CollectMetadata(true) => fit = false,
            _ => {}
        }
    }
    if !fit {
        vxlan.mtu = UNFIT;
    }
    Some(vxlan)
}
