//! Forgetting tracked flows (ctnetlink, linux/netfilter/nfnetlink_conntrack.h).
//!
//! The kernel keeps sending a UDP flow where its first packet was translated to, even when that endpoint is gone, as
//! long as the client goes on sending; and so it does with each further attempt of a TCP connection that nobody
//! answers. Whoever takes an endpoint away makes the kernel forget the flow.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use rtnetlink::sys::{
    AsyncSocket, AsyncSocketExt, SocketAddr as NetlinkAddr, TokioSocket, protocols::NETLINK_NETFILTER,
};

use crate::error::HostError;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_NEW: u16 = 0;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;
const IPS_SEEN_REPLY: u32 = 1 << 1;
/// The bits of an attribute's kind that are flags (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const KIND_FLAGS: u16 = 0xc000;
/// Length of `struct nlmsghdr`, and of it with `struct nfgenmsg`.
const HEADER: usize = 16;
const NETFILTER_HEADER: usize = 20;

/// A tracked flow of a protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The protocol, by its number.
    pub protocol: u8,
    /// Where its first packet was sent to.
    pub destination: SocketAddr,
    /// Who answers.
    pub replier: IpAddr,
    /// Whether an answer was seen.
    pub is_answered: bool,
}

/// Makes the kernel forget the UDP flows that `is_stale`: told where a flow's first packet was sent to, and who answers.
/// Gives how many.
///
/// # Errors
/// As [`forget`].
pub async fn forget_udp(is_stale: impl Fn(SocketAddr, IpAddr) -> bool) -> Result<usize, HostError> {
    forget(|flow| flow.protocol == libc::IPPROTO_UDP as u8 && is_stale(flow.destination, flow.replier)).await
}

/// Makes the kernel forget the flows that `is_stale`. Gives how many.
///
/// # Errors
/// When the kernel has no connection tracking over netlink (module `nf_conntrack_netlink`) or refuses.
pub async fn forget(is_stale: impl Fn(&Flow) -> bool) -> Result<usize, HostError> {
    let failed = || HostError::io("make the kernel forget flows (needs CAP_NET_ADMIN and nf_conntrack_netlink)");
    let mut forgotten = 0;
    for family in [libc::AF_INET, libc::AF_INET6] {
        forgotten += forget_family(&is_stale, family as u8).await.map_err(failed())?;
    }
    Ok(forgotten)
}

async fn forget_family(is_stale: &impl Fn(&Flow) -> bool, family: u8) -> io::Result<usize> {
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    socket.socket_mut().bind_auto()?;
    let kernel = NetlinkAddr::new(0, 0);
    socket.send_to(&message(IPCTNL_MSG_CT_GET, NLM_F_REQUEST | NLM_F_DUMP, family, &[]), &kernel).await?;
    let mut flows = Vec::new();
    receive(&socket, |body| flows.extend(identity(body, is_stale))).await?;
    for flow in &flows {
        socket.send_to(&message(IPCTNL_MSG_CT_DELETE, NLM_F_REQUEST | NLM_F_ACK, family, flow), &kernel).await?;
        match receive(&socket, |_| {}).await {
            // It ended by itself in the meantime.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            other => other?,
        }
    }
    Ok(flows.len())
}

/// Hands over the attributes of each flow until the end of the list, an acknowledgement or an error.
async fn receive(socket: &TokioSocket, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    loop {
        let (datagram, _) = socket.recv_from_full().await?;
        let mut rest = datagram.as_slice();
        while rest.len() >= HEADER {
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let kind = u16::from_ne_bytes([rest[4], rest[5]]);
            let Some(one) = rest.get(..length).filter(|one| one.len() >= HEADER) else { break };
            match (kind, one.get(HEADER..HEADER + 4)) {
                (NLMSG_DONE, _) => return Ok(()),
                (NLMSG_ERROR, Some(&[a, b, c, d])) => match i32::from_ne_bytes([a, b, c, d]) {
                    0 => return Ok(()),
                    code => return Err(io::Error::from_raw_os_error(-code)),
                },
                (kind, _) if kind == NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_NEW => {
                    each(one.get(NETFILTER_HEADER..).unwrap_or_default());
                }
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn message(kind: u16, flags: u16, family: u8, attributes: &[u8]) -> Vec<u8> {
    let length = (NETFILTER_HEADER + attributes.len()) as u32;
    let mut bytes = Vec::with_capacity(length as usize);
    bytes.extend(length.to_ne_bytes());
    bytes.extend((NFNL_SUBSYS_CTNETLINK << 8 | kind).to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// The attributes by which the kernel finds the flow again, if it is stale.
fn identity(flow: &[u8], is_stale: impl Fn(&Flow) -> bool) -> Option<Vec<u8>> {
    let one = |kind| attributes(flow).find(|a| a.kind == kind).map(|a| a.value);
    let (protocol, destination) = destination(one(CTA_TUPLE_ORIG)?)?;
    let replier = address(one(CTA_TUPLE_REPLY)?, CTA_IP_V4_SRC, CTA_IP_V6_SRC)?;
    let status = u32::from_be_bytes(one(CTA_STATUS)?.try_into().ok()?);
    let is_answered = status & IPS_SEEN_REPLY != 0;
    if !is_stale(&Flow { protocol, destination, replier, is_answered }) {
        return None;
    }
    let kept = attributes(flow).filter(|a| [CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE].contains(&a.kind));
    let mut bytes = Vec::new();
    for attribute in kept {
        bytes.extend(attribute.whole);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    Some(bytes)
}

/// The protocol's number, address and port.
fn destination(tuple: &[u8]) -> Option<(u8, SocketAddr)> {
    let address = address(tuple, CTA_IP_V4_DST, CTA_IP_V6_DST)?;
    let protocol = attributes(tuple).find(|a| a.kind == CTA_TUPLE_PROTO)?;
    let one = |kind| attributes(protocol.value).find(|a| a.kind == kind).map(|a| a.value);
    let port = u16::from_be_bytes(one(CTA_PROTO_DST_PORT)?.try_into().ok()?);
    Some((*one(CTA_PROTO_NUM)?.first()?, SocketAddr::new(address, port)))
}

/// The address of one kind in a tuple.
fn address(tuple: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    let ip = attributes(tuple).find(|a| a.kind == CTA_TUPLE_IP)?;
    attributes(ip.value).find_map(|a| match a.kind {
        kind if kind == v4 => <[u8; 4]>::try_from(a.value).ok().map(|b| IpAddr::from(Ipv4Addr::from(b))),
        kind if kind == v6 => <[u8; 16]>::try_from(a.value).ok().map(|b| IpAddr::from(Ipv6Addr::from(b))),
        _ => None,
    })
}

/// A netlink attribute: length and kind (two bytes each), value, padded to four bytes.
struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
    whole: &'a [u8],
}

fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1, ..] = *bytes else { return None };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let whole = bytes.get(..length).filter(|whole| whole.len() >= 4)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind: u16::from_ne_bytes([k0, k1]) & !KIND_FLAGS, value: &whole[4..], whole })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn flow(protocol: u8, port: u16, status: u32) -> Vec<u8> {
        let tuple = |address: u16, ip: [u8; 4]| {
            let ip = attribute(CTA_TUPLE_IP | 0x8000, &attribute(address, &ip));
            let ports = [attribute(CTA_PROTO_NUM, &[protocol]), attribute(CTA_PROTO_DST_PORT, &port.to_be_bytes())];
            [ip, attribute(CTA_TUPLE_PROTO | 0x8000, &ports.concat())].concat()
        };
        [
            attribute(CTA_TUPLE_ORIG | 0x8000, &tuple(CTA_IP_V4_DST, [10, 0, 0, 1])),
            attribute(CTA_TUPLE_REPLY | 0x8000, &tuple(CTA_IP_V4_SRC, [10, 0, 0, 9])),
            attribute(CTA_STATUS, &status.to_be_bytes()),
            attribute(CTA_ID, &[1, 2, 3, 4]),
        ]
        .concat()
    }

    #[test]
    fn a_flow_is_its_protocol_destination_and_replier_and_whether_an_answer_was_seen() {
        for (protocol, port, status, is_answered) in [(17, 53, 0, false), (6, 80, 0x18a, true), (132, 9, 0x188, false)]
        {
            let destination = SocketAddr::new("10.0.0.1".parse().unwrap(), port);
            let expected = Flow { protocol, destination, replier: "10.0.0.9".parse().unwrap(), is_answered };
            assert!(identity(&flow(protocol, port, status), |flow| *flow == expected).is_some(), "{expected:?}");
        }
        assert!(identity(&flow(17, 53, 0), |_| false).is_none());
    }

    #[test]
    fn a_flow_is_named_by_its_tuple_and_its_number() {
        let bytes = identity(&flow(17, 53, 0), |_| true).unwrap();
        assert_eq!(attributes(&bytes).map(|a| a.kind).collect::<Vec<_>>(), [CTA_TUPLE_ORIG, CTA_ID]);
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = identity(&bytes, |_| true);
        }
    }
}
