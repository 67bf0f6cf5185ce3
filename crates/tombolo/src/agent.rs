//! `tombolo agent`: the flags of Kilo's `kg`, and a few more.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tombolo_agent::{Options, ServiceProxy};
use tombolo_mesh::Granularity;
use tombolo_mesh::plan::{Compatibility, Encapsulate};
use tombolo_services::clusters::ClusterId;
use tombolo_wireguard::device::{DEFAULT_SOCKET_DIR, Prefer};

/// A flag of Go's kind: `--cni` and `--cni=true` are the same.
pub(crate) type Bool = bool;

/// Arguments of `tombolo agent`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the mesh is described
    #[arg(long, default_value = "kubernetes", value_parser = ["kubernetes"])]
    backend: String,

    /// Path of the kubeconfig [default: $KUBECONFIG, else the pod's service account]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Address of the API server, over the one in the kubeconfig
    #[arg(long, value_name = "URL")]
    master: Option<String>,

    /// Name of this node's Node object [default: the host's name]
    #[arg(long, value_name = "NAME", env = "NODE_NAME")]
    hostname: Option<String>,

    /// Between what the mesh is woven: location or full
    #[arg(long, default_value = "location")]
    mesh_granularity: Granularity,

    /// Node label that names a node's location
    #[arg(long, default_value = tombolo_api::kilo::REGION_LABEL, value_name = "LABEL")]
    topology_label: String,

    /// Where the WireGuard addresses are taken from, one a family, separated by commas
    #[arg(long, default_value = "10.4.0.0/16", value_name = "CIDR", value_delimiter = ',')]
    subnet: Vec<IpNet>,

    /// UDP port of WireGuard
    #[arg(long, default_value_t = 51820, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,

    /// MTU of the WireGuard interface: bytes, or auto for the underlay's less WireGuard's overhead
    #[arg(long, default_value = "auto")]
    mtu: String,

    /// Name of the WireGuard interface
    #[arg(long, default_value = "kilo0", value_name = "NAME")]
    interface: String,

    /// Service CIDR of this cluster; may be given several times. Without it, a Peer that claims it is not refused
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    service_cidr: Vec<IpNet>,

    /// Where internal addresses are looked for; may be given several times [default: everywhere]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    internal_cidr: Vec<IpNet>,

    /// Use a private address as the endpoint even where there is a public one
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    prioritise_private_addresses: Bool,

    /// Write the CNI configuration
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    cni: Bool,

    /// Where to write it
    #[arg(long, default_value = "/etc/cni/net.d/10-kilo.conflist", value_name = "FILE")]
    cni_path: PathBuf,

    /// Where host-local keeps its leases, for a CNI configuration that is made anew [default: host-local's own]
    #[arg(long, value_name = "DIR")]
    cni_data_dir: Option<PathBuf>,

    /// Manage routes inside the location
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    local: Bool,

    /// Which packets inside a location are encapsulated: never, crosssubnet or always
    #[arg(long, default_value = "always")]
    encapsulate: Encapsulate,

    /// Another CNI whose overlay carries packets inside a location: flannel or cilium
    #[arg(long)]
    compatibility: Option<Compatibility>,

    /// Make the WireGuard interface where it is missing
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    create_interface: Bool,

    /// Undo on exit what was changed on the node. Not for updates: it cuts the node off until the next start
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    clean_up: Bool,

    /// Undoing removes the WireGuard interface, too
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    clean_up_interface: Bool,

    /// How often everything is compared although nothing was heard of, such as 30s or 5m
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    resync_period: Duration,

    /// Address of /healthz, /readyz, /metrics and /graph
    #[arg(long, default_value = ":1107", value_parser = listen, value_name = "ADDRESS")]
    listen: SocketAddr,

    /// Where the private key is kept; Kilo's is found there
    #[arg(long, default_value = "/var/lib/kilo", value_name = "DIR")]
    state_dir: PathBuf,

    /// Where the control sockets of embedded WireGuard devices are
    #[arg(long, default_value = DEFAULT_SOCKET_DIR, value_name = "DIR")]
    wireguard_socket_dir: PathBuf,

    /// Which WireGuard to use: auto (the kernel's where it has it), kernel or embedded
    #[arg(long, default_value = "auto", value_parser = prefer)]
    wireguard: Prefer,

    /// Carry Services, which is kube-proxy's work: true, false, or auto for where kube-proxy is not seen
    #[arg(long, default_value = "auto", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = service_proxy)]
    service_proxy: ServiceProxy,

    /// This cluster's id in the ClusterSet, to tell its endpoints of imported services from those of other clusters
    /// [default: the ClusterProperty cluster.clusterset.k8s.io]
    #[arg(long, value_name = "ID", value_parser = ClusterId::parse)]
    cluster_id: Option<ClusterId>,

    #[command(flatten)]
    bgp: crate::bgp_flags::BgpArgs,

    #[command(flatten)]
    monitoring: crate::monitoring_flags::MonitoringArgs,

    /// What is logged: all, debug, info, warn, error or none
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    log_level: String,

    /// Log in JSON, a line an object
    #[arg(long)]
    log_json: bool,
}

pub(crate) async fn run(args: Args) -> Result<()> {
    crate::log::start(&args.log_level, args.log_json)?;
    let options = options(args)?;
    let shutdown = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        stop.cancel();
    });
    tracing::info!(version = env!("CARGO_PKG_VERSION"), node = %options.hostname, "agent starts");
    tombolo_agent::run(options, shutdown).await?;
    tracing::info!("agent ends");
    Ok(())
}

fn options(args: Args) -> Result<Options> {
    let families: Vec<bool> = args.subnet.iter().map(|net| net.addr().is_ipv6()).collect();
    if families.len() > 2 || families.first() == families.get(1) {
        bail!("--subnet takes one CIDR a family: IPv4, IPv6 or both, separated by a comma");
    }
    let mtu = match args.mtu.as_str() {
        "auto" => None,
        text => match text.parse() {
            Ok(mtu) if (576..=65_535).contains(&mtu) => Some(mtu),
            _ => bail!("--mtu {text:?} is neither auto nor a number of bytes from 576 to 65535"),
        },
    };
    let (bgp, bgp_socket) = args.bgp.settings()?;
    let hostname = match args.hostname {
        Some(name) => name,
        None => host_name()?,
    };
    Ok(Options {
        kubeconfig: args.kubeconfig,
        master: args.master,
        bgp_monitoring: args.monitoring.monitoring(&hostname),
        hostname,
        granularity: args.mesh_granularity,
        topology_label: args.topology_label,
        subnets: args.subnet.iter().map(IpNet::trunc).collect(),
        port: args.port,
        mtu,
        interface: args.interface,
        service_cidrs: args.service_cidr,
        internal_cidrs: args.internal_cidr,
        prioritise_private_addresses: args.prioritise_private_addresses,
        cni: args.cni,
        cni_path: args.cni_path,
        cni_data_dir: args.cni_data_dir,
        local: args.local,
        encapsulate: args.encapsulate,
        compatibility: args.compatibility,
        create_interface: args.create_interface,
        clean_up: args.clean_up,
        clean_up_interface: args.clean_up_interface,
        resync_period: args.resync_period,
        listen: args.listen,
        state_dir: args.state_dir,
        wireguard_socket_dir: args.wireguard_socket_dir,
        wireguard: args.wireguard,
        program: std::env::current_exe().context("cannot find the running program's own file")?,
        service_proxy: args.service_proxy,
        cluster_id: args.cluster_id.map(|id| id.to_string()),
        bgp,
        bgp_socket,
    })
}

fn host_name() -> Result<String> {
    let name =
        std::fs::read_to_string("/proc/sys/kernel/hostname").context("cannot read the host's name; pass --hostname")?;
    Ok(name.trim().to_owned())
}

/// Go's durations as far as people write them: `30s`, `1m30s`, `500ms`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let error = || format!("{text:?} is no duration; write 30s, 5m or 1h30m");
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
        let amount: u64 = rest[..digits].parse().map_err(|_| error())?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let factor = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(error()),
        };
        total += Duration::from_millis(amount.checked_mul(factor).ok_or_else(error)?);
        rest = &rest[unit_end..];
    }
    if total.is_zero() { Err(error()) } else { Ok(total) }
}

/// `:1107` is all addresses, as Go writes it.
fn listen(text: &str) -> Result<SocketAddr, String> {
    let whole = if text.starts_with(':') { format!("[::]{text}") } else { text.to_owned() };
    whole.parse().map_err(|_| format!("{text:?} is no address; write :PORT, ADDRESS:PORT or [IPV6]:PORT"))
}

fn service_proxy(text: &str) -> Result<ServiceProxy, String> {
    match text {
        "auto" => Ok(ServiceProxy::Auto),
        "true" => Ok(ServiceProxy::On),
        "false" => Ok(ServiceProxy::Off),
        _ => Err("write true, false or auto".to_owned()),
    }
}

fn prefer(text: &str) -> Result<Prefer, String> {
    match text {
        "auto" => Ok(Prefer::Auto),
        "kernel" => Ok(Prefer::Kernel),
        "embedded" => Ok(Prefer::Userspace),
        _ => Err("write auto, kernel or embedded".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Cli::try_parse_from(std::iter::once(&"agent").chain(args)).map(|cli| cli.args)
    }

    #[test]
    fn kilos_flags_are_taken_as_go_takes_them() {
        let args = parse(&["--cni=false", "--local", "--clean-up=true", "--subnet", "10.5.0.0/16,fd05::/64"]).unwrap();
        assert_eq!((args.cni, args.local, args.clean_up), (false, true, true));
        assert_eq!(options(args).unwrap().subnets.len(), 2);
        let args =
            parse(&["--service-cidr", "10.96.0.0/16", "--service-cidr=fd96::/112", "--listen", ":9999"]).unwrap();
        assert_eq!(args.service_cidr.len(), 2);
        assert_eq!(args.listen.port(), 9999);
    }

    #[test]
    fn what_is_wrong_is_refused_with_what_to_write() {
        for (args, words) in [
            (&["--mesh-granularity", "wrong"][..], "location or full"),
            (&["--encapsulate", "ipip"], "never, crosssubnet, always"),
            (&["--resync-period", "30"], "30s"),
            (&["--listen", "here"], ":PORT"),
            (&["--port", "0"], "1..=65535"),
            (&["--cluster-id", "West"], "63 of a-z"),
        ] {
            let error = parse(args).unwrap_err().to_string();
            assert!(error.contains(words), "{args:?}: {error}");
        }
        for (args, words) in
            [(&["--mtu", "12"][..], "576"), (&["--subnet", "10.0.0.0/16,10.1.0.0/16"], "one CIDR a family")]
        {
            let error = options(parse(args).unwrap()).unwrap_err().to_string();
            assert!(error.contains(words), "{args:?}: {error}");
        }
    }

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [("30s", 30_000), ("1m30s", 90_000), ("500ms", 500), ("2h", 7_200_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)));
        }
        for text in ["", "s", "30", "1d", "-1s", "0s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
