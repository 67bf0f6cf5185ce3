//! The TUN interface, and the news of its end.

use std::io;
use std::path::Path;

use gotatun::tun::tun as device;
use gotatun::tun::tun_async_device::TunDevice;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use nix::errno::Errno;
use nix::net::if_::{if_indextoname, if_nametoindex};

use crate::device::DeviceError;
use crate::kernel::netlink::{attributes, messages};
use crate::kernel::{IFINFO, RTM_DELLINK};

/// The device file of the driver.
const DEV_NET_TUN: &str = "/dev/net/tun";

/// `RTMGRP_LINK`: links that come, change and go.
const LINKS: u32 = 1;
const IFLA_NEW_NETNSID: u16 = 45;
const IFLA_NEW_IFINDEX: u16 = 49;

/// Makes the interface, down and without addresses. It goes with the process.
pub(super) fn open(iface: &str, mtu: u16) -> Result<TunDevice, DeviceError> {
    let start = |reason: String| DeviceError::Start { iface: iface.to_owned(), reason };
    let mut config = device::Configuration::default();
    config.tun_name(iface).mtu(mtu);
    let tun = device::create_as_async(&config).map_err(|error| start(explain(iface, &error)))?;
    TunDevice::from_tun_device(tun).map_err(|error| start(error.to_string()))
}

fn explain(iface: &str, error: &device::Error) -> String {
    let device::Error::Io(error) = error else { return error.to_string() };
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) if !Path::new(DEV_NET_TUN).exists() => format!(
            "{DEV_NET_TUN} is missing: load the module (`modprobe tun`); in a container, mount the host's {DEV_NET_TUN} \
             or make it (`mkdir -p /dev/net; mknod {DEV_NET_TUN} c 10 200`)"
        ),
        Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => {
            format!("{DEV_NET_TUN} has no driver behind it: load the module (`modprobe tun`)")
        }
        Some(Errno::EPERM | Errno::EACCES) => format!(
            "no permission for {DEV_NET_TUN}: run as root, or with CAP_NET_ADMIN in this network namespace \
             (in Kubernetes: `securityContext.privileged`, or the capability and the device)"
        ),
        Some(Errno::EBUSY) => format!(
            "the interface {iface} exists and another program has it: end that program, or `ip link del {iface}`"
        ),
        Some(Errno::EINVAL) => format!(
            "the interface {iface} exists and is no TUN interface: `ip link del {iface}`, or choose another name"
        ),
        _ => format!("{DEV_NET_TUN}: {error}"),
    }
}

/// Waits for the end of an interface, over netlink: a device without a key does not read from its TUN.
pub(super) struct Watch {
    socket: TokioSocket,
    index: u32,
}

impl Watch {
    /// Watches `iface` of this network namespace.
    pub(super) fn new(iface: &str) -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        socket.socket_mut().bind(&SocketAddr::new(0, LINKS))?;
        // After `bind`, so that no deletion is missed.
        let index = if_nametoindex(iface)?;
        Ok(Self { socket, index })
    }

    /// Resolves when the interface is deleted; not when it moves to another network namespace.
    pub(super) async fn deleted(&self) {
        loop {
            match self.socket.recv_from_full().await {
                Ok((datagram, _)) if is_deleted(&datagram, self.index) => return,
                Ok(_) => {}
                // News were lost: look.
                Err(_) if if_indextoname(self.index).is_err() => return,
                Err(_) => {}
            }
        }
    }
}

fn is_deleted(datagram: &[u8], index: u32) -> bool {
    messages(datagram).any(|(kind, body)| {
        let family = body.first().copied();
        let of = body.get(4..8).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes);
        let mut rest = attributes(body.get(IFINFO..).unwrap_or_default());
        kind == RTM_DELLINK
            && family == Some(0)
            && of == Some(index)
            && !rest.any(|(kind, _)| kind == IFLA_NEW_NETNSID || kind == IFLA_NEW_IFINDEX)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::kernel::netlink::Message;

    #[test]
    fn only_the_interface_s_own_end_is_its_end() {
        let event = |kind: u16, family: u8, index: u32, moved: bool| {
            let mut header = [0; IFINFO];
            header[0] = family;
            header[4..8].copy_from_slice(&index.to_ne_bytes());
            let mut message = Message::new(kind, 0, &header);
            message.put_str(3, "wg0");
            if moved {
                message.put(IFLA_NEW_NETNSID, &1_u32.to_ne_bytes());
            }
            message.finish()
        };
        assert!(is_deleted(&event(RTM_DELLINK, 0, 7, false), 7));
        assert!(is_deleted(&[event(16, 0, 7, false), event(RTM_DELLINK, 0, 7, false)].concat(), 7));
        for other in [
            event(16, 0, 7, false),
            event(RTM_DELLINK, 0, 8, false),
            event(RTM_DELLINK, 7, 7, false),
            event(RTM_DELLINK, 0, 7, true),
            Vec::new(),
        ] {
            assert!(!is_deleted(&other, 7));
        }
    }

    #[test]
    fn reasons_say_what_to_do() {
        for (errno, word) in [
            (Errno::EPERM, "CAP_NET_ADMIN"),
            (Errno::EBUSY, "another program"),
            (Errno::EINVAL, "no TUN interface"),
            (Errno::ENODEV, "modprobe tun"),
        ] {
            let error = device::Error::Io(io::Error::from_raw_os_error(errno as i32));
            assert!(explain("wg0", &error).contains(word), "{errno}");
        }
    }
}
