//! Links of the namespace (`RTM_*LINK`): what there is, and the few things that are done to any of them.

use std::collections::BTreeMap;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo as Info, LinkMessage};
use tombolo_net::network::Mac;

use crate::error::HostError;
use crate::netlink::Netlink;

/// A link as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkInfo {
    /// Its number in the namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is set up.
    pub up: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// What made it, in the words of `ip -d link`: `vxlan`, `veth`, `wireguard`; nothing for hardware and loopback.
    pub kind: Option<String>,
    /// Its hardware address, where that is an Ethernet one.
    pub mac: Option<Mac>,
}

/// All links of the namespace at one moment.
#[derive(Debug, Default)]
pub(crate) struct Links {
    by_index: BTreeMap<u32, LinkInfo>,
    indices: BTreeMap<String, u32>,
}

impl Links {
    pub(crate) async fn list(netlink: &Netlink) -> Result<Self, HostError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let listed = netlink.list(request).await.map_err(HostError::kernel("list the links"))?;
        let mut links = Self::default();
        for info in listed.iter().filter_map(|answer| Some(read(message(answer)?))) {
            links.indices.insert(info.name.clone(), info.index);
            links.by_index.insert(info.index, info);
        }
        Ok(links)
    }

    pub(crate) fn at(&self, index: u32) -> Option<&LinkInfo> {
        self.by_index.get(&index)
    }

    pub(crate) fn name(&self, index: u32) -> Option<&str> {
        self.at(index).map(|info| info.name.as_str())
    }

    pub(crate) fn index(&self, name: &str) -> Result<u32, HostError> {
        self.indices.get(name).copied().ok_or_else(|| HostError::NoLink { link: name.to_owned() })
    }
}

/// The link with this name as the kernel describes it.
pub(crate) async fn get(netlink: &Netlink, name: &str) -> Result<Option<LinkMessage>, HostError> {
    let mut request = LinkMessage::default();
    request.attributes.push(LinkAttribute::IfName(name.to_owned()));
    match netlink.get(RouteNetlinkMessage::GetLink(request)).await {
        Err(refusal) if refusal.is(libc::ENODEV) => Ok(None),
        Err(refusal) => Err(HostError::Kernel { what: format!("look up the link {name}"), refusal }),
        Ok(answer) => Ok(answer.as_ref().and_then(message).cloned()),
    }
}

/// Sets the link up, with this MTU if one is given.
pub(crate) async fn set_up(netlink: &Netlink, name: &str, mtu: Option<u32>) -> Result<(), HostError> {
    let Some(link) = get(netlink, name).await? else { return Err(HostError::NoLink { link: name.to_owned() }) };
    let mut request = LinkMessage::default();
    request.header.index = link.header.index;
    request.header.flags = LinkFlags::Up;
    request.header.change_mask = LinkFlags::Up;
    request.attributes.extend(mtu.map(LinkAttribute::Mtu));
    let what = mtu.map_or(format!("set the link {name} up"), |mtu| format!("set the link {name} up with MTU {mtu}"));
    netlink.ask(RouteNetlinkMessage::SetLink(request), 0).await.map_err(HostError::kernel(what))
}

/// Removes the link; one that is not there is removed already.
pub(crate) async fn delete(netlink: &Netlink, name: &str) -> Result<(), HostError> {
    let Some(link) = get(netlink, name).await? else { return Ok(()) };
    let mut request = LinkMessage::default();
    request.header.index = link.header.index;
    match netlink.ask(RouteNetlinkMessage::DelLink(request), 0).await {
        Err(refusal) if refusal.is(libc::ENODEV) => Ok(()),
        other => other.map_err(HostError::kernel(format!("remove the link {name}"))),
    }
}

pub(crate) fn read(message: &LinkMessage) -> LinkInfo {
    let mut info = LinkInfo {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        kind: kind(message).map(ToString::to_string),
        mac: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => info.name = name.clone(),
            LinkAttribute::Mtu(mtu) => info.mtu = *mtu,
            LinkAttribute::Address(bytes) => info.mac = bytes.as_slice().try_into().ok().map(Mac),
            _ => {}
        }
    }
    info
}

pub(crate) fn kind(message: &LinkMessage) -> Option<&InfoKind> {
    link_info(message).iter().find_map(|info| match info {
        Info::Kind(kind) => Some(kind),
        _ => None,
    })
}

/// The attributes that depend on the link's kind.
pub(crate) fn link_info(message: &LinkMessage) -> &[Info] {
    let nested = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(info) => Some(info.as_slice()),
        _ => None,
    });
    nested.unwrap_or_default()
}

fn message(answer: &RouteNetlinkMessage) -> Option<&LinkMessage> {
    match answer {
        RouteNetlinkMessage::NewLink(message) => Some(message),
        _ => None,
    }
}
