//! The TUN interface: made, or said why not.

use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use tombolo_noise::OVERHEAD;

use super::sys::tun::Tun;
use super::sys::udp::{MAX_MESSAGE, MAX_SEGMENTS};
use crate::device::DeviceError;
use crate::kernel::change_link;

/// `linux/if_link.h`.
const IFLA_MTU: u16 = 4;
const IFLA_GSO_MAX_SIZE: u16 = 41;

/// What the kernel's TCP leaves free of the size that it may join packets to (`MAX_TCP_HEADER` of net/tcp.h).
const TCP_RESERVE: usize = 321;

/// Bytes of a TCP packet that are not payload, at least: IPv4 and TCP with timestamps.
const TCP_HEADERS: usize = 52;

/// The largest that the kernel lets packets be joined to without more ado (`GSO_LEGACY_MAX_SIZE`).
const JOINED_DEFAULT: usize = 65_536;

/// The device file of the driver.
const DEV_NET_TUN: &str = "/dev/net/tun";

/// Makes the interface, down and without addresses. It goes with the process.
pub(super) fn open(iface: &str, mtu: u16, with_offloads: bool) -> Result<Tun, DeviceError> {
    let start = |reason: String| DeviceError::Start { iface: iface.to_owned(), reason };
    let tun = Tun::open(iface, with_offloads).map_err(|error| start(explain(iface, &error)))?;
    let index = if_nametoindex(iface).map_err(|error| start(error.to_string()))?;
    change_link(index, &[(IFLA_MTU, u32::from(mtu))]).map_err(|error| start(format!("MTU {mtu}: {error}")))?;
    fit_joined(index, usize::from(mtu));
    Ok(tun)
}

/// Asks the kernel to join TCP to what one message of the socket carries: a little more than that would be a second
/// message every time.
pub(super) fn fit_joined(index: u32, mtu: usize) {
    if let Err(error) = change_link(index, &[(IFLA_GSO_MAX_SIZE, joined(mtu) as u32)]) {
        tracing::debug!(%error, "the interface's packets keep the size that they are joined to");
    }
}

/// What TCP may be joined to, in bytes, at an MTU.
fn joined(mtu: usize) -> usize {
    let packets = (MAX_MESSAGE / (mtu + OVERHEAD)).clamp(1, MAX_SEGMENTS);
    let payload = mtu.saturating_sub(TCP_HEADERS);
    // A part of a packet more, as headers differ in length; never a whole one.
    (TCP_RESERVE + packets * payload + payload / 4).min(JOINED_DEFAULT)
}

fn explain(iface: &str, error: &io::Error) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_is_joined_to_what_one_message_carries() {
        for (mtu, payload, packets) in [(1420, 1368, 45), (1420, 1348, 45), (1380, 1328, 46), (8920, 8868, 7)] {
            assert_eq!((joined(mtu) - TCP_RESERVE) / payload, packets, "{mtu} {payload}");
            assert!((packets + 1) * (mtu + OVERHEAD) > MAX_MESSAGE);
        }
        // Small packets: the number of them is the limit.
        assert_eq!((joined(576) - TCP_RESERVE) / 524, MAX_SEGMENTS);
        assert!([1, 52, 60_000, 65_535].into_iter().all(|mtu| joined(mtu) <= JOINED_DEFAULT));
    }

    #[test]
    fn reasons_say_what_to_do() {
        for (errno, word) in [
            (Errno::EPERM, "CAP_NET_ADMIN"),
            (Errno::EBUSY, "another program"),
            (Errno::EINVAL, "no TUN interface"),
            (Errno::ENODEV, "modprobe tun"),
        ] {
            let error = io::Error::from_raw_os_error(errno as i32);
            assert!(explain("wg0", &error).contains(word), "{errno}");
        }
    }
}
