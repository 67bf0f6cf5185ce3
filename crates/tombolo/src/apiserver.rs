//! `tombolo apiserver`: a Kubernetes-style API server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tombolo_apiserver::ApiServer;

/// Serve a Kubernetes API: for labs and tests, without a cluster.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6443")]
    listen: SocketAddr,

    /// The network that Services get their addresses from: one, or one of IPv4 and one of IPv6, the default first.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', default_value = "10.96.0.0/16")]
    service_cidr: Vec<ipnet::IpNet>,

    /// Write a kubeconfig of the administrator here, once connections are accepted.
    #[arg(long, value_name = "FILE")]
    write_kubeconfig: Option<PathBuf>,

    /// Keep objects, certificate authority and token in this folder; without it all is gone with the process.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,

    /// The address that pods reach the API server at, where it isn't the one to listen on.
    #[arg(long, value_name = "ADDR:PORT")]
    advertise: Option<SocketAddr>,
}

/// Serves until SIGINT or SIGTERM.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("can't listen on {}; choose another --listen", args.listen))?;
    let address = reachable(listener.local_addr()?);
    let mut builder = ApiServer::builder()
        .service_cidrs(args.service_cidr)
        .advertise(args.advertise.unwrap_or(address))
        .san(address.ip());
    if let Some(folder) = &args.data_dir {
        builder = builder.data_dir(folder);
    }
    let server = builder.build()?;
    let serving = server.serve(listener);
    let url = format!("https://{address}");
    if let Some(file) = &args.write_kubeconfig {
        write(file, &server.kubeconfig(&url))
            .with_context(|| format!("can't write the kubeconfig {}", file.display()))?;
    }
    tracing::info!(%url, "the API server accepts connections");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = serving => {}
    }
    server.shutdown();
    Ok(())
}

/// The address to connect to for a listener on all addresses.
fn reachable(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

/// Writes a file for its owner alone, in one step: who waits for it finds it whole.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let unfinished = file.with_file_name(name);
    let mut options = std::fs::OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?.write_all(text.as_bytes())?;
    std::fs::rename(&unfinished, file)
}
