//! A device as the rest of Tombolo sees it: what it is, and a way to change it. [`open`] finds or makes one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use nix::errno::Errno;
use tombolo_net::wireguard::{Change, DeviceStatus};

use crate::embedded;
use crate::kernel::{self, KernelDevice};
use crate::uapi::UapiError;
use crate::userspace::{self, UserspaceDevice};

/// Where `wg` looks for the control sockets of userspace devices.
pub const DEFAULT_SOCKET_DIR: &str = "/run/wireguard";

/// How long a device of ours may take to come or to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who does the work of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The Linux kernel.
    Kernel,
    /// A process with a TUN interface.
    Userspace,
}

/// Which kind of device to make where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefer {
    /// The kernel's if it has WireGuard, else the embedded one.
    #[default]
    Auto,
    /// The kernel's or none.
    Kernel,
    /// The embedded one or none.
    Userspace,
}

/// How [`open`] makes a device.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Folder of the control sockets; [`DEFAULT_SOCKET_DIR`] unless many share a file system.
    pub socket_dir: PathBuf,
    /// The program whose `wireguard IFACE` runs an embedded device; usually the running one.
    pub exe: PathBuf,
    /// File that an embedded device's output is appended to; `None` discards it.
    pub log: Option<PathBuf>,
    /// MTU of the interface in bytes; `None` leaves the choice to the device (kernel 1420, embedded 1420).
    pub mtu: Option<u16>,
    /// Which kind to make.
    pub prefer: Prefer,
}

/// Why a device can't be found, made, read or changed.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The name can't be an interface's.
    #[error("{name:?} can't name an interface: {reason}; choose a name of 1 to 15 letters, digits, `-`, `_` or `.`")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The name is in use by something that is no WireGuard device.
    #[error(
        "the interface {iface} exists and is {what}, not a WireGuard device that answers; \
         remove it (`ip link del {iface}`) or choose another name"
    )]
    Foreign {
        /// The interface.
        iface: String,
        /// What it is.
        what: String,
    },
    /// The kernel was asked for and has no WireGuard.
    #[error("the kernel's WireGuard can't be used: {0}")]
    NoKernel(String),
    /// The control socket.
    #[error("control socket {}: {reason}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What happened and what to do.
        reason: String,
    },
    /// What came through the control socket is not the protocol's.
    #[error("control socket {}: the answer is not understood: {error}", path.display())]
    Answer {
        /// The socket.
        path: PathBuf,
        /// Where and why.
        error: UapiError,
    },
    /// The device refused.
    #[error("the device {iface} refused {what}: {} ({errno})", errno.desc())]
    Refused {
        /// The interface.
        iface: String,
        /// What it was asked.
        what: String,
        /// Its answer.
        errno: Errno,
    },
    /// An embedded device did not start.
    #[error("the embedded WireGuard for {iface} did not start: {reason}")]
    Start {
        /// The interface.
        iface: String,
        /// What happened and what to do.
        reason: String,
    },
    /// A running embedded device can't go on.
    #[error("the embedded WireGuard {iface} stopped: {reason}")]
    Failed {
        /// The interface.
        iface: String,
        /// What happened and what to do.
        reason: String,
    },
    /// A device did not go.
    #[error("the device {0} is still there {1} s after its interface was removed; end its process")]
    StillThere(String, u64),
}

/// A WireGuard device.
#[async_trait]
pub trait Device: Send + Sync {
    /// What it is now. Counters and handshake times are of this moment.
    async fn status(&self) -> Result<DeviceStatus, DeviceError>;

    /// Makes the changes, in their order, all or (if the device refuses) some of them. No changes: no request.
    async fn apply(&self, changes: &[Change]) -> Result<(), DeviceError>;

    /// Who does the work.
    fn kind(&self) -> Kind;
}

/// Takes the device `iface` of this network namespace, or makes it.
///
/// What is there is reused, whoever made it: a kernel device, or the process behind a live control socket.
pub async fn open(iface: &str, options: &OpenOptions) -> Result<Box<dyn Device>, DeviceError> {
    check_name(iface)?;
    let link = kernel::link_kind(iface)?;
    let socket = userspace::socket_path(&options.socket_dir, iface);
    match link {
        Some(kernel::LinkKind::Wireguard) => return Ok(Box::new(KernelDevice::new(iface)?)),
        Some(kernel::LinkKind::Other(what)) => {
            if let Some(device) = embedded::find(iface, &options.socket_dir).await {
                return Ok(Box::new(device));
            }
            return Err(DeviceError::Foreign { iface: iface.to_owned(), what });
        }
        None => {}
    }
    let kernel = match options.prefer {
        Prefer::Userspace => false,
        Prefer::Kernel => {
            kernel::available().map_err(DeviceError::NoKernel)?;
            true
        }
        Prefer::Auto => kernel::available().is_ok(),
    };
    if kernel {
        kernel::create_link(iface, options.mtu)?;
        return Ok(Box::new(KernelDevice::new(iface)?));
    }
    if userspace::is_live(&socket).await {
        let reason = format!(
            "a device named {iface} answers there, but this network namespace has no such interface: \
             give each namespace a socket folder of its own"
        );
        return Err(DeviceError::Socket { path: socket, reason });
    }
    embedded::spawn(iface, options, PATIENCE).await?;
    Ok(Box::new(UserspaceDevice::new(iface, &options.socket_dir)))
}

/// Removes the interface `iface` of this network namespace, and with it the device; nothing where there is none.
pub async fn remove(iface: &str, socket_dir: &Path) -> Result<(), DeviceError> {
    check_name(iface)?;
    let socket = userspace::socket_path(socket_dir, iface);
    let userspace = match kernel::link_kind(iface)? {
        None => return Ok(()),
        Some(kernel::LinkKind::Wireguard) => false,
        Some(kernel::LinkKind::Other(_)) if userspace::is_live(&socket).await => true,
        Some(kernel::LinkKind::Other(what)) => return Err(DeviceError::Foreign { iface: iface.to_owned(), what }),
    };
    kernel::delete_link(iface)?;
    if !userspace {
        return Ok(());
    }
    let gone = async {
        while userspace::is_live(&socket).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let late = || DeviceError::StillThere(iface.to_owned(), PATIENCE.as_secs());
    tokio::time::timeout(PATIENCE, gone).await.map_err(|_| late())
}

/// Whether a text can name an interface (Linux: 15 bytes, no `/`, no white space, not `.` or `..`).
pub fn check_name(name: &str) -> Result<(), DeviceError> {
    let reason = match name {
        "" => "it is empty",
        "." | ".." => "it is a folder's name",
        _ if name.len() > 15 => "it is longer than 15 bytes",
        _ if !name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)) => {
            "it has a character that is none of these"
        }
        _ => return Ok(()),
    };
    Err(DeviceError::Name { name: name.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_are_those_of_interfaces() {
        for name in ["wg0", "kilo0", "a-b_c.d", "abcdefghijklmno"] {
            check_name(name).unwrap();
        }
        for (name, reason) in [
            ("", "empty"),
            (".", "folder"),
            ("..", "folder"),
            ("abcdefghijklmnop", "longer than 15"),
            ("a/b", "character"),
            ("a b", "character"),
            ("wg%d", "character"),
        ] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(error.contains(reason), "{name}: {error}");
        }
    }
}
