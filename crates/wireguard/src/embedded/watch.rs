//! News of the interface: a new MTU, its end.

use std::collections::VecDeque;
use std::io;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use nix::net::if_::{if_indextoname, if_nametoindex};

use crate::kernel::netlink::{attributes, messages};
use crate::kernel::{IFINFO, RTM_DELLINK};

/// `linux/rtnetlink.h`, `linux/if_link.h`.
const RTM_NEWLINK: u16 = 16;
const IFLA_MTU: u16 = 4;

/// `RTMGRP_LINK`: links that come, change and go.
const LINKS: u32 = 1;
const IFLA_NEW_NETNSID: u16 = 45;
const IFLA_NEW_IFINDEX: u16 = 49;

/// What happened to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// It has this MTU, in bytes.
    Mtu(u32),
    /// It is gone.
    Deleted,
}

/// Waits for what happens to an interface, over netlink.
pub(super) struct Watch {
    socket: TokioSocket,
    index: u32,
    pending: VecDeque<News>,
}

impl Watch {
    /// Watches `iface` of this network namespace.
    pub(super) fn new(iface: &str) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, LINKS))?;
        // After `bind`, so that no deletion is missed.
        let index = if_nametoindex(iface)?;
        Ok(Self { socket, index, pending: VecDeque::new() })
    }

    /// The number of the interface.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// The next news. That the interface moves to another network namespace is none.
    pub(super) async fn next(&mut self) -> News {
        loop {
            if let Some(news) = self.pending.pop_front() {
                return news;
            }
            match self.socket.recv_from_full().await {
                Ok((datagram, _)) => self.pending.extend(news(&datagram, self.index)),
                // News were lost: look.
                Err(_) if if_indextoname(self.index).is_err() => return News::Deleted,
                Err(_) => {}
            }
        }
    }
}

fn news(datagram: &[u8], index: u32) -> impl Iterator<Item = News> {
    messages(datagram).filter_map(move |(kind, body)| {
        let family = body.first().copied();
        let of = body.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
        if family != Some(0) || of != Some(index) {
            return None;
        }
        let find = |wanted: u16| {
            attributes(body.get(IFINFO..).unwrap_or_default()).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
        };
        match kind {
            RTM_DELLINK if find(IFLA_NEW_NETNSID).is_none() && find(IFLA_NEW_IFINDEX).is_none() => Some(News::Deleted),
            RTM_NEWLINK => find(IFLA_MTU)?.try_into().ok().map(|bytes| News::Mtu(u32::from_ne_bytes(bytes))),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::kernel::netlink::Message;

    #[test]
    fn only_the_interface_s_own_end_is_its_end_and_its_mtu_its_mtu() {
        let event = |kind: u16, family: u8, index: u32, moved: bool| {
            let mut header = [0; IFINFO];
            header[0] = family;
            header[4..8].copy_from_slice(&index.to_ne_bytes());
            let mut message = Message::new(kind, 0, &header);
            message.put_str(3, "wg0");
            if kind == RTM_NEWLINK {
                message.put(IFLA_MTU, &1380_u32.to_ne_bytes());
            }
            if moved {
                message.put(IFLA_NEW_NETNSID, &1_u32.to_ne_bytes());
            }
            message.finish()
        };
        let news = |datagram: &[u8]| super::news(datagram, 7).collect::<Vec<_>>();
        assert_eq!(news(&event(RTM_DELLINK, 0, 7, false)), [News::Deleted]);
        let both = [event(RTM_NEWLINK, 0, 7, false), event(RTM_DELLINK, 0, 7, false)].concat();
        assert_eq!(news(&both), [News::Mtu(1380), News::Deleted]);
        for other in [
            event(RTM_NEWLINK, 0, 8, false),
            event(RTM_DELLINK, 0, 8, false),
            event(RTM_DELLINK, 7, 7, false),
            event(RTM_DELLINK, 0, 7, true),
            Vec::new(),
        ] {
            assert_eq!(news(&other), []);
        }
    }
}
