//! `tombolo dns`: the names of the cluster's Services.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use ipnet::IpNet;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::net::TcpListener;
use tombolo_dns::forward::{Forwarder, nameservers};
use tombolo_dns::server::{Server, Shared};
use tombolo_dns::watch::Domains;
use tombolo_dns::{Catalog, Name, Zones, ready, watch};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Answers for the names of the cluster's Services, and asks others for all other names
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Addresses and ports to answer at, over UDP and TCP
    #[arg(long, value_name = "ADDR:PORT", value_delimiter = ',', default_value = "0.0.0.0:53,[::]:53")]
    listen: Vec<SocketAddr>,

    /// The domain of the cluster's names
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    domain: String,

    /// The domain of names of services that clusters share, out of ServiceImports; empty for none
    #[arg(long, value_name = "DOMAIN", default_value = "clusterset.local")]
    clusterset_domain: String,

    /// How to reach the cluster [default: where this runs, in a pod]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Name servers for all other names, asked in this order; "none" for nobody [default: those
    /// of /etc/resolv.conf]
    #[arg(long, value_name = "ADDR[:PORT]", value_delimiter = ',', value_parser = upstream)]
    forward: Option<Vec<Upstream>>,

    /// Networks whose questions about all other names are passed on; others are refused [default:
    /// loopback, private, shared, link-local and unique local addresses]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    allow_recursion: Option<Vec<IpNet>>,

    /// Memory for answers of other name servers, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 16)]
    cache_size: usize,

    /// Networks of the cluster: an address in them that has no name here has none elsewhere, and
    /// nobody is asked
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    own_cidr: Vec<IpNet>,

    /// Which names 10-0-0-1.NAMESPACE.pod.DOMAIN exist: those of every address, those of Pods of the
    /// namespace, or none
    #[arg(long, value_enum, default_value_t = Pods::Insecure)]
    pods: Pods,

    /// How many threads answer over UDP, at each address
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,

    /// Where to answer /readyz, /healthz and /metrics by HTTP
    #[arg(long, value_name = "ADDR:PORT")]
    ready_listen: Option<SocketAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Pods {
    Insecure,
    Verified,
    Disabled,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Upstream {
    Server(SocketAddr),
    None,
}

/// Runs until it is ended from outside.
///
/// # Errors
/// An address that can't be bound, a kubeconfig that can't be used, a domain that is none.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let (catalog, zones, domains) = names(&args)?;
    let config = kube_config(&args).await?;
    let client = kube::Client::try_from(config)
        .context("the connection to the cluster can't be prepared; see the kubeconfig")?;

    let upstreams = upstreams(&args);
    match upstreams.as_slice() {
        [] => tracing::warn!(
            domain = args.domain,
            "there is no name server to ask: other names are refused; --forward ADDR names one"
        ),
        some => tracing::info!(servers = ?some, "other names are asked for elsewhere"),
    }
    let forwarder = Forwarder::new(upstreams).map(|forwarder| {
        let forwarder = forwarder.with_cache(args.cache_size.saturating_mul(1 << 20));
        match &args.allow_recursion {
            Some(networks) => forwarder.allowing(networks.clone()),
            None => forwarder,
        }
    });
    let shared = Shared::new(zones, forwarder);
    let server = Server::bind(&args.listen, args.threads.into(), Arc::clone(&shared)).await?;
    for address in server.addresses() {
        tracing::info!(%address, domain = args.domain, "DNS is served");
    }
    let probes = probes(args.ready_listen, Arc::clone(&shared)).await?;

    tokio::select! {
        () = server.run() => anyhow::bail!("all DNS sockets are closed"),
        () = watch::follow(client, catalog, domains, shared) => anyhow::bail!("the watch of the cluster ended"),
        () = probes => anyhow::bail!("the socket for probes is closed"),
    }
}

async fn kube_config(args: &Args) -> anyhow::Result<kube::Config> {
    let Some(file) = &args.kubeconfig else {
        return kube::Config::infer().await.context("no cluster is named: give --kubeconfig FILE, or run in a pod");
    };
    let context = || format!("--kubeconfig {}", file.display());
    let kubeconfig = Kubeconfig::read_from(file).with_context(context)?;
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.with_context(context)
}

/// What names are made of, and empty zones for them.
fn names(args: &Args) -> anyhow::Result<(Catalog, Zones, Domains)> {
    let serial = first_serial();
    let domain = || format!("--domain {}", args.domain);
    let mut catalog = Catalog::new(&args.domain).with_context(domain)?;
    let mut zones = Zones::cluster(&args.domain, serial).with_context(domain)?.with_own_networks(args.own_cidr.clone());
    if args.pods != Pods::Insecure {
        zones = zones.without_guessed_pods();
    }
    if args.pods == Pods::Verified {
        catalog = catalog.with_pods(&args.domain).with_context(domain)?;
    }
    let mut domains = Domains { cluster: Name::parse(&args.domain).with_context(domain)?, clusterset: None };
    if !args.clusterset_domain.is_empty() {
        let domain = || format!("--clusterset-domain {}", args.clusterset_domain);
        let origin = Name::parse(&args.clusterset_domain).with_context(domain)?;
        anyhow::ensure!(
            origin != domains.cluster,
            "{} is also the cluster's own domain: names of the one would hide those of the other",
            domain()
        );
        catalog = catalog.with_clusterset(&args.clusterset_domain).with_context(domain)?;
        zones = zones.with_clusterset(&args.clusterset_domain, serial).with_context(domain)?;
        domains.clusterset = Some(origin);
    }
    Ok((catalog, zones, domains))
}

/// Ourselves are not asked: the question would come around again.
fn upstreams(args: &Args) -> Vec<SocketAddr> {
    let named = match &args.forward {
        Some(upstreams) => upstreams
            .iter()
            .filter_map(|upstream| match upstream {
                Upstream::Server(address) => Some(*address),
                Upstream::None => None,
            })
            .collect(),
        None => match std::fs::read_to_string(RESOLV_CONF) {
            Ok(text) => nameservers(&text),
            Err(error) => {
                tracing::warn!(%error, "{RESOLV_CONF} can't be read");
                Vec::new()
            }
        },
    };
    let mut upstreams: Vec<SocketAddr> = named;
    upstreams.retain(|address| !args.listen.contains(address));
    upstreams
}

async fn probes(listen: Option<SocketAddr>, shared: Arc<Shared>) -> anyhow::Result<impl Future<Output = ()>> {
    let listener = match listen {
        Some(address) => Some(
            TcpListener::bind(address).await.with_context(|| format!("can't listen on --ready-listen {address}"))?,
        ),
        None => None,
    };
    Ok(async move {
        match listener {
            Some(listener) => ready::serve(listener, shared).await,
            None => std::future::pending().await,
        }
    })
}

/// Grows from one start to the next, as a zone's serial has to.
fn first_serial() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs() as u32)
}

fn upstream(text: &str) -> Result<Upstream, String> {
    if text == "none" {
        return Ok(Upstream::None);
    }
    if let Ok(address) = text.parse() {
        return Ok(Upstream::Server(address));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    bare.parse()
        .map(|address| Upstream::Server(SocketAddr::new(address, 53)))
        .map_err(|_| format!("{text:?} is not an address, address:port or none"))
}
