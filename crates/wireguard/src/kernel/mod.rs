//! The kernel's WireGuard, over generic netlink; and the few things about links that finding a device needs.

mod codec;
pub(crate) mod netlink;

use std::io;

use async_trait::async_trait;
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use tombolo_net::wireguard::{Change, DeviceStatus};

use crate::device::{Device, DeviceError, Kind};
use netlink::{ACK, CREATE, EXCL, Message, REQUEST, Socket, attributes, text_of, u16_of};

const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
/// Length of `struct ifinfomsg`, the header of a link message.
pub(crate) const IFINFO: usize = 16;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;

const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

/// What an interface is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkKind {
    /// A kernel WireGuard device.
    Wireguard,
    /// Anything else, in words.
    Other(String),
}

/// A device of the kernel's.
#[derive(Debug)]
pub struct KernelDevice {
    iface: String,
    family: u16,
}

impl KernelDevice {
    /// The device `iface` of this network namespace.
    ///
    /// # Errors
    /// [`DeviceError::NoKernel`] where the kernel has no WireGuard.
    pub fn new(iface: &str) -> Result<Self, DeviceError> {
        Ok(Self { iface: iface.to_owned(), family: family().map_err(DeviceError::NoKernel)? })
    }

    fn request(&self, message: Message, what: &str) -> Result<Vec<Vec<u8>>, DeviceError> {
        Socket::open(SockProtocol::NetlinkGeneric)
            .and_then(|socket| socket.request(message))
            .map_err(|error| refused(&self.iface, what, &error))
    }
}

#[async_trait]
impl Device for KernelDevice {
    async fn status(&self) -> Result<DeviceStatus, DeviceError> {
        let bodies = self.request(codec::get_device(self.family, &self.iface), "to say its status")?;
        Ok(codec::read_status(&bodies))
    }

    async fn apply(&self, changes: &[Change]) -> Result<(), DeviceError> {
        for message in codec::set_device(self.family, &self.iface, changes) {
            self.request(message, &format!("{} changes", changes.len()))?;
        }
        Ok(())
    }

    fn kind(&self) -> Kind {
        Kind::Kernel
    }
}

/// Whether the kernel has WireGuard; if not, what is missing and what to do, in words.
pub fn available() -> Result<(), String> {
    family().map(|_| ())
}

/// What the interface `iface` of this network namespace is; `None` where there is none.
pub fn link_kind(iface: &str) -> Result<Option<LinkKind>, DeviceError> {
    let mut message = Message::new(RTM_GETLINK, REQUEST | ACK, &[0; IFINFO]);
    message.put_str(IFLA_IFNAME, iface);
    match route(message) {
        Ok(bodies) => Ok(bodies.first().map(|body| read_kind(body))),
        Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(None),
        Err(error) => Err(refused(iface, "to be looked at", &error)),
    }
}

/// Makes the kernel device `iface` in this network namespace, with an MTU in bytes or the kernel's default (1420).
pub fn create_link(iface: &str, mtu: Option<u16>) -> Result<(), DeviceError> {
    route(new_link(iface, mtu)).map(|_| ()).map_err(|error| refused(iface, "to be made", &error))
}

/// Deletes the interface, whatever its kind; nothing where there is none.
pub fn delete_link(iface: &str) -> Result<(), DeviceError> {
    let mut message = Message::new(RTM_DELLINK, REQUEST | ACK, &[0; IFINFO]);
    message.put_str(IFLA_IFNAME, iface);
    match route(message) {
        Ok(_) => Ok(()),
        Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(()),
        Err(error) => Err(refused(iface, "to be deleted", &error)),
    }
}

fn new_link(iface: &str, mtu: Option<u16>) -> Message {
    let mut message = Message::new(RTM_NEWLINK, REQUEST | ACK | CREATE | EXCL, &[0; IFINFO]);
    message.put_str(IFLA_IFNAME, iface);
    if let Some(mtu) = mtu {
        message.put(IFLA_MTU, &u32::from(mtu).to_ne_bytes());
    }
    let info = message.begin(IFLA_LINKINFO);
    message.put_str(IFLA_INFO_KIND, "wireguard");
    message.end(info);
    message
}

/// Sets numbers of the interface `index` of this network namespace.
pub(crate) fn change_link(index: u32, numbers: &[(u16, u32)]) -> io::Result<()> {
    let mut header = [0; IFINFO];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let mut message = Message::new(RTM_NEWLINK, REQUEST | ACK, &header);
    for (kind, number) in numbers {
        message.put(*kind, &number.to_ne_bytes());
    }
    route(message).map(drop)
}

fn route(message: Message) -> io::Result<Vec<Vec<u8>>> {
    Socket::open(SockProtocol::NetlinkRoute)?.request(message)
}

fn read_kind(body: &[u8]) -> LinkKind {
    let kind = attributes(body.get(IFINFO..).unwrap_or_default())
        .filter(|(kind, _)| *kind == IFLA_LINKINFO)
        .flat_map(|(_, info)| attributes(info))
        .find(|(kind, _)| *kind == IFLA_INFO_KIND)
        .map(|(_, name)| text_of(name));
    match kind.as_deref() {
        Some("wireguard") => LinkKind::Wireguard,
        Some(kind) => LinkKind::Other(format!("a {kind} interface")),
        None => LinkKind::Other("a network card or the loopback".to_owned()),
    }
}

/// The number that the kernel gave the family `wireguard`.
fn family() -> Result<u16, String> {
    let mut message = Message::new(GENL_ID_CTRL, REQUEST | ACK, &[CTRL_CMD_GETFAMILY, 1, 0, 0]);
    message.put_str(CTRL_ATTR_FAMILY_NAME, "wireguard");
    let bodies =
        Socket::open(SockProtocol::NetlinkGeneric).and_then(|socket| socket.request(message)).map_err(|error| {
            match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOENT) => "the module `wireguard` is not loaded or not built for this kernel; try \
                 `modprobe wireguard`, or use the embedded device"
                    .to_owned(),
                Some(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT) => {
                    "the kernel has no generic netlink; use the embedded device".to_owned()
                }
                _ => format!("generic netlink does not answer: {error}"),
            }
        })?;
    bodies
        .iter()
        .flat_map(|body| attributes(body.get(4..).unwrap_or_default()))
        .find(|(kind, _)| *kind == CTRL_ATTR_FAMILY_ID)
        .and_then(|(_, value)| u16_of(value))
        .ok_or_else(|| "generic netlink did not say the number of the family `wireguard`".to_owned())
}

fn refused(iface: &str, what: &str, error: &io::Error) -> DeviceError {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    DeviceError::Refused { iface: iface.to_owned(), what: what.to_owned(), errno }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_link_is_asked_for_with_its_kind() {
        let bytes = new_link("wg0", Some(1400)).finish();
        assert_eq!(read_kind(&bytes[16..]), LinkKind::Wireguard);
    }

    #[test]
    fn the_loopback_is_no_wireguard_and_a_stranger_is_none() {
        assert!(matches!(link_kind("lo").unwrap(), Some(LinkKind::Other(_))));
        assert_eq!(link_kind("no-such-link").unwrap(), None);
        delete_link("no-such-link").unwrap();
    }

    #[test]
    fn what_is_missing_is_said_in_words() {
        if let Err(missing) = available() {
            assert!(missing.contains("embedded"), "{missing}");
        }
    }
}
