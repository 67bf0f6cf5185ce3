//! Runs one embedded device, as `tombolo wireguard IFACE` does; the tests of this crate start it by
//! `tombolo_wireguard::embedded::spawn`.
//!
//! ```sh
//! cargo run -p tombolo-wireguard --example device -- wireguard wg0 --socket-dir /run/wireguard
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use tombolo_wireguard::device::DEFAULT_SOCKET_DIR;
use tombolo_wireguard::embedded::{Options, run};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(options) = options(std::env::args().skip(1)) else {
        eprintln!(
            "usage: device wireguard IFACE [--socket-dir DIR] [--fwmark N] [--mtu N] [--no-offloads] [--threads N] [--own-session]"
        );
        return ExitCode::from(2);
    };
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn options(mut args: impl Iterator<Item = String>) -> Option<Options> {
    let (command, iface) = (args.next()?, args.next()?);
    let mut options = Options {
        iface,
        socket_dir: PathBuf::from(DEFAULT_SOCKET_DIR),
        fwmark: None,
        mtu: None,
        offloads: true,
        threads: None,
        own_session: false,
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--socket-dir" => options.socket_dir = PathBuf::from(args.next()?),
            "--fwmark" => options.fwmark = Some(args.next()?.parse().ok()?),
            "--mtu" => options.mtu = Some(args.next()?.parse().ok()?),
            "--no-offloads" => options.offloads = false,
            "--threads" => options.threads = Some(args.next()?.parse().ok()?),
            "--own-session" => options.own_session = true,
            _ => return None,
        }
    }
    (command == "wireguard").then_some(options)
}
