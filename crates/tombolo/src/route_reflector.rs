//! `tombolo route-reflector`: a BGP route reflector that takes whole clusters as clients.

mod paths;
mod returning;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tombolo_bgp::Family;
use tombolo_bgp::config::{AddPath, Config, GracefulRestart, MaxPrefixes, Neighbor, Origination, Password, Range};
use tombolo_bgp::speaker::{Event, Options, Speaker, control};

use paths::Paths;
use returning::Returning;

/// Arguments of `tombolo route-reflector`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; may be given several times
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',', default_value = "0.0.0.0:179,[::]:179")]
    listen: Vec<SocketAddr>,

    /// Autonomous system of the reflector and its clients
    #[arg(long, value_name = "ASN", default_value_t = 64512, value_parser = clap::value_parser!(u32).range(1..))]
    asn: u32,

    /// BGP identifier: an IPv4 address that no other speaker has as its identifier
    #[arg(long, value_name = "ID")]
    router_id: Ipv4Addr,

    /// Cluster identifier (RFC 4456) [default: the router ID]
    #[arg(long, value_name = "ID")]
    cluster_id: Option<Ipv4Addr>,

    /// Who may become a client by connecting; may be given several times
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    client_range: Vec<IpNet>,

    /// How many clients may come out of each range
    #[arg(long, value_name = "COUNT", default_value_t = 5000)]
    client_limit: usize,

    /// A client to connect to; may be given several times
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    client: Vec<IpAddr>,

    /// A network to announce; may be given several times
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    network: Vec<IpNet>,

    /// A file with the TCP MD5 password of all clients (RFC 2385)
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,

    /// Hold time in seconds to propose: 0, or 3 at least
    #[arg(long, value_name = "SECONDS", default_value_t = 90)]
    hold_time: u16,

    /// How many prefixes a client may announce [default: any number]
    #[arg(long, value_name = "COUNT")]
    max_prefixes: Option<u32>,

    /// Up to how many paths to a prefix clients are told that can take several (RFC 7911)
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    add_path: u16,

    /// How long clients keep the routes while the reflector restarts, in seconds; 0 is no graceful restart (RFC 4724)
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u16).range(..4096))]
    restart_time: u16,

    /// How long a lost client's routes are kept as a last resort, in seconds (RFC 9494) [default: not at all]
    #[arg(long, value_name = "SECONDS")]
    long_lived_time: Option<u32>,

    /// Watch the paths to clients by BFD (RFC 5880)
    #[arg(long)]
    bfd: bool,

    /// How often BFD sends, and is sent to, at most, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..))]
    bfd_interval: u32,

    /// After how many missing packets a path is down
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    bfd_multiplier: u8,

    #[command(flatten)]
    monitoring: crate::monitoring_flags::MonitoringArgs,

    /// How much to say: error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: String,

    /// Log in JSON
    #[arg(long)]
    log_json: bool,

    /// Where to answer /metrics and /healthz by HTTP
    #[arg(long, value_name = "ADDR:PORT")]
    metrics_listen: Option<SocketAddr>,

    /// Where `tombolo bgp` asks
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH, env = "TOMBOLO_BGP_SOCKET")]
    socket: PathBuf,
}

/// Runs until it is told to end.
///
/// # Errors
/// Arguments that make no sense together, addresses that cannot be listened on.
pub(crate) async fn run(args: Args) -> Result<()> {
    crate::log::start(&args.log_level, args.log_json)?;
    let returning = Returning::load(&args.socket, Duration::from_secs(args.restart_time.into()));
    let config = config(&args, &returning)?;
    let networks = config.routes.len();
    let told = Arc::new(OnceLock::new());
    let (said, clients) = mpsc::unbounded_channel();
    let mut paths = Paths::new(&args, told.clone())?;
    let monitoring = args.monitoring.monitoring(&args.router_id.to_string());
    let speaker = Speaker::start_monitored(config, Options::default(), monitoring, move |event| match event {
        Event::Up { peer, asn, router_id } => {
            tracing::info!(Key = %peer, State = "BGP_FSM_ESTABLISHED", asn, %router_id, "Peer Up");
            paths.watch(peer);
            let _ = said.send((peer, true));
        }
        Event::Down { peer, why } => {
            tracing::warn!(Key = %peer, "Peer Down: {why}");
            paths.forget(peer);
            let _ = said.send((peer, false));
        }
        Event::Routes(_) | Event::RestartOver => {}
    })?;
    let _ = told.set(speaker.clone());
    // Without the socket routes are reflected all the same: it is only said.
    if let Err(error) = control::serve(speaker.clone(), &args.socket) {
        tracing::warn!(socket = %args.socket.display(), %error, "`tombolo bgp` cannot ask this reflector; another place is given with --socket");
    }
    if let Some(listen) = args.metrics_listen {
        tombolo_agent::bgp_metrics::serve(listen, speaker.clone()).await?;
    }
    tracing::info!(asn = args.asn, router_id = %args.router_id, listen = ?args.listen, networks, "the route reflector runs");
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    tokio::select! {
        () = returning.keep(clients) => {}
        _ = terminate.recv() => {}
        done = tokio::signal::ctrl_c() => done.context("cannot listen for SIGINT")?,
    }
    // Clients that know graceful restart keep the routes for the next start.
    tokio::task::spawn_blocking(move || speaker.shut_down("the route reflector is shut down", true)).await?;
    let _ = std::fs::remove_file(&args.socket);
    Ok(())
}

fn config(args: &Args, returning: &Returning) -> Result<Config> {
    ensure!(
        !args.client_range.is_empty() || !args.client.is_empty(),
        "nobody may be a client: give --client-range CIDR (who may connect) or --client ADDR (whom to connect to)"
    );
    ensure!(!args.router_id.is_unspecified(), "--router-id 0.0.0.0 is no BGP identifier (RFC 6286); any other is");
    ensure!(
        args.hold_time == 0 || args.hold_time >= 3,
        "--hold-time {} is not 0 nor 3 at least (RFC 4271)",
        args.hold_time
    );
    let password = match &args.password_file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read --password-file {}", path.display()))?;
            let password = text.trim_end_matches(['\r', '\n']);
            ensure!(
                (1..=80).contains(&password.len()),
                "the password in {} has {} bytes; TCP MD5 takes 1 to 80",
                path.display(),
                password.len()
            );
            Some(Password(password.to_owned()))
        }
    };
    let neighbor = Neighbor {
        description: "client".to_owned(),
        remote_asn: Some(args.asn),
        password,
        hold_time: Duration::from_secs(args.hold_time.into()),
        families: Family::ALL.to_vec(),
        route_reflector_client: true,
        add_path: AddPath { receive: true, send: args.add_path },
        max_prefixes: args
            .max_prefixes
            .map(|limit| MaxPrefixes { limit, restart_after: Some(Duration::from_secs(300)) }),
        ..Neighbor::default()
    };
    let graceful_restart = (args.restart_time > 0).then(|| GracefulRestart {
        restart_time: Duration::from_secs(args.restart_time.into()),
        deferral_time: Duration::from_secs(args.restart_time.into()),
        // It forwards nothing, so that nothing of it stops when it does.
        preserves_forwarding: true,
        restarting: !returning.clients().is_empty(),
        returning: returning.clients().clone(),
        long_lived: args.long_lived_time.map(|seconds| Duration::from_secs(seconds.into())),
    });
    let routes: BTreeMap<IpNet, Origination> =
        args.network.iter().map(|net| (net.trunc(), Origination::default())).collect();
    Ok(Config {
        asn: args.asn,
        router_id: args.router_id,
        cluster_id: args.cluster_id,
        addresses: args.listen.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).collect(),
        listen: args.listen.clone(),
        neighbors: args.client.iter().map(|address| (*address, neighbor.clone())).collect(),
        ranges: args
            .client_range
            .iter()
            .map(|prefix| Range { prefix: *prefix, limit: args.client_limit, neighbor: neighbor.clone() })
            .collect(),
        routes,
        multipath: 1,
        graceful_restart,
    })
}
