//! `tombolo wireguard IFACE`: the embedded WireGuard as a program of its own, configured by `wg`.

use std::path::PathBuf;

use tombolo_wireguard::device::DEFAULT_SOCKET_DIR;
use tombolo_wireguard::embedded::{self, Options};

/// Run a WireGuard device in this network namespace without the kernel's help; `wg` configures and shows it.
///
/// It runs until its interface is deleted (`ip link del IFACE`) or it is ended by SIGTERM or Ctrl-C; interface and
/// control socket go with it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the interface to make, up to 15 characters
    iface: String,

    /// Folder of the control socket IFACE.sock; `wg` looks for it in the default one
    #[arg(long, value_name = "DIR", default_value = DEFAULT_SOCKET_DIR)]
    socket_dir: PathBuf,

    /// Mark of the encrypted packets (decimal, or hexadecimal after 0x), to be routed by
    #[arg(long, value_name = "N", value_parser = number)]
    fwmark: Option<u32>,

    /// MTU of the interface in bytes [default: 1420]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(576..))]
    mtu: Option<u16>,

    /// Take packets one by one from the kernel, without segmentation offloads: slower; for a kernel that gets them wrong
    #[arg(long)]
    no_offloads: bool,

    /// Threads that carry traffic, 1 to 8 [default: half as many as there are cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    threads: Option<u8>,

    /// Stay in the foreground; that is what it does anyway (wireguard-go's flag, for scripts that pass it)
    #[arg(long, short)]
    foreground: bool,

    /// Leave the session and the folder of the process that starts it
    #[arg(long, hide = true)]
    own_session: bool,
}

/// Runs the device until it ends.
///
/// # Errors
/// Where the interface or the control socket can't be made, or the device fails while it runs.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let Args { iface, socket_dir, fwmark, mtu, no_offloads, threads, foreground: _, own_session } = args;
    embedded::run(Options {
        iface,
        socket_dir,
        fwmark,
        mtu,
        offloads: !no_offloads,
        threads: threads.map(usize::from),
        own_session,
    })
    .await?;
    Ok(())
}

fn number(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "a mark is a number of 32 bits, decimal or hexadecimal after 0x".to_owned())
}
