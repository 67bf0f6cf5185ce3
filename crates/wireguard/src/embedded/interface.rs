//! The TUN interface: made, or said why not.

use std::io;
use std::path::Path;

use nix::errno::Errno;

use super::sys::tun::{Tun, set_mtu};
use crate::device::DeviceError;

/// The device file of the driver.
const DEV_NET_TUN: &str = "/dev/net/tun";

/// Makes the interface, down and without addresses. It goes with the process.
pub(super) fn open(iface: &str, mtu: u16, with_offloads: bool) -> Result<Tun, DeviceError> {
    let start = |reason: String| DeviceError::Start { iface: iface.to_owned(), reason };
    let tun = Tun::open(iface, with_offloads).map_err(|error| start(explain(iface, &error)))?;
    set_mtu(iface, mtu).map_err(|error| start(format!("MTU {mtu}: {error}")))?;
    Ok(tun)
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
