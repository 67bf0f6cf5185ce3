//! `tombolo controller`: Services of other clusters in this one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tombolo_controller::{EmitOptions, Location, Options, SourceOptions};
use tombolo_services::EndpointMode;
use tombolo_services::clusters::ClusterId;
use tombolo_services::mirrors::Choice;
use tombolo_services::selector::Selector;
use tombolo_services::staleness::Limits;

use crate::agent::duration;
use crate::client;

/// Where a pod is told its namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
const DEFAULT_NAMESPACE: &str = "tombolo-system";

/// Run the controller of a cluster: it mirrors and imports the Services of others
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How to reach this cluster [default: where this runs, in a pod]
    #[arg(long, env = "KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// A cluster to mirror and import Services from, by a name and a kubeconfig; repeatable. `tombolo accept` adds
    /// others while this runs
    #[arg(long, value_name = "NAME=KUBECONFIG", value_parser = source_file)]
    source: Vec<SourceOptions>,

    /// The same, by the URL of an API that asks for no credentials (`kubectl proxy`)
    #[arg(long, value_name = "NAME=URL", value_parser = source_url)]
    source_api: Vec<SourceOptions>,

    /// Mirror only Services with these labels [default: all but default/kubernetes and those in kube-system]
    #[arg(long, value_name = "SELECTOR", value_parser = selector, default_value = "")]
    import_selector: Selector,

    /// Offer only Services with these labels through the emitter, beside those with a ServiceExport [default: likewise]
    #[arg(long, value_name = "SELECTOR", value_parser = selector, default_value = "")]
    export_selector: Selector,

    /// Offer only Services in these namespaces through the emitter [default: all]
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    export_namespace: Vec<String>,

    /// Offer this cluster's Services to others here: see `tombolo invite`
    #[arg(long, value_name = "ADDR:PORT")]
    emit: Option<SocketAddr>,

    /// Where other clusters reach the emitter: what invitations say, and its certificate; repeatable
    #[arg(long, value_name = "https://HOST:PORT", requires = "emit", value_parser = emit_url)]
    emit_url: Vec<String>,

    /// Mirror only Services in these namespaces [default: all]
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    namespace: Vec<String>,

    /// Mirror the Services of the sources under their own names
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    mirror: bool,

    /// What mirrors have as endpoints: the remote pods, or the remote ClusterIP; a Service can say otherwise by the
    /// annotation tombolo.io/mirror-endpoints
    #[arg(long, value_name = "pods|cluster-ip", value_parser = mode, default_value = "pods")]
    mirror_endpoints: EndpointMode,

    /// Write Endpoints beside EndpointSlices, for those who still read them
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    legacy_endpoints: bool,

    /// How long mirrors of a source that cannot be reached stay
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "15m")]
    stale_after: Duration,

    /// How long Services are kept that a source has lost nearly all at once, unless a person confirms the loss
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h")]
    mass_delete_after: Duration,

    /// Look after ServiceExports and ServiceImports (the Multi-Cluster Services API), where they are served
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    mcs: bool,

    /// This cluster's id in the ClusterSet [default: the ClusterProperty cluster.clusterset.k8s.io]
    #[arg(long, value_name = "ID", value_parser = ClusterId::parse)]
    cluster_id: Option<ClusterId>,

    /// Give ServiceImports addresses of their own out of these networks, one a family, which Tombolo's service proxy
    /// serves; without it a derived Service stands for each, which any service proxy serves
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    clusterset_cidr: Vec<IpNet>,

    /// CIDRs of this cluster's pods and Services, beside those that its API server knows: endpoints of others in
    /// them are refused
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    cluster_cidr: Vec<IpNet>,

    /// The namespace of the controller's own objects [default: the pod's, or tombolo-system]
    #[arg(long, value_name = "NAMESPACE")]
    own_namespace: Option<String>,

    /// Write only as the holder of the Lease tombolo-controller, so that several can run
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    leader_elect: bool,

    /// Where to answer /healthz, /readyz and /metrics by HTTP
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,

    /// What is logged: all, debug, info, warn, error or none
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    log_level: String,

    /// Log in JSON, a line an object
    #[arg(long)]
    log_json: bool,
}

/// Runs until SIGINT or SIGTERM. What stands then stays.
///
/// # Errors
/// A kubeconfig that cannot be used, an address that cannot be listened on, settings that contradict each other.
pub async fn run(args: Args) -> anyhow::Result<()> {
    crate::log::start(&args.log_level, args.log_json)?;
    let client = client::connect(args.kubeconfig.as_deref()).await?;
    let options = options(args)?;
    let stop = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let asked = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        asked.cancel();
    });
    tombolo_controller::run(client, options, stop).await
}

fn options(args: Args) -> anyhow::Result<Options> {
    let sources: Vec<SourceOptions> = args.source.into_iter().chain(args.source_api).collect();
    let mut names = BTreeSet::new();
    if let Some(twice) = sources.iter().find(|source| !names.insert(&source.name)) {
        anyhow::bail!("there are two sources of the name {}; give each a name of its own", twice.name);
    }
    for v4 in [true, false] {
        let networks = args.clusterset_cidr.iter().filter(|network| network.addr().is_ipv4() == v4).count();
        anyhow::ensure!(networks <= 1, "--clusterset-cidr takes one network a family");
    }
    let limits = Limits {
        stale_after: args.stale_after,
        grace: Limits::default().grace.min(args.stale_after / 2),
        mass_delete_after: args.mass_delete_after,
        ..Limits::default()
    };
    let own_namespace = args.own_namespace.or_else(|| {
        let text = std::fs::read_to_string(NAMESPACE_FILE).ok()?;
        Some(text.trim().to_owned()).filter(|name| !name.is_empty())
    });
    Ok(Options {
        sources,
        choice: Choice { selector: args.import_selector, namespaces: args.namespace.into_iter().collect() },
        mirror: args.mirror,
        export_choice: Choice {
            selector: args.export_selector,
            namespaces: args.export_namespace.into_iter().collect(),
        },
        emit: args.emit.map(|listen| EmitOptions { listen, urls: args.emit_url }),
        mode: args.mirror_endpoints,
        legacy_endpoints: args.legacy_endpoints,
        limits,
        mcs: args.mcs,
        cluster_id: args.cluster_id,
        clusterset_cidrs: args.clusterset_cidr,
        cluster_cidrs: args.cluster_cidr,
        own_namespace: own_namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        identity: args.leader_elect.then(identity).transpose()?,
        listen: args.listen,
    })
}

/// The host's name, which in a pod is the pod's, and what tells two on one host apart.
fn identity() -> anyhow::Result<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").context("cannot read the host's name")?;
    Ok(format!("{}_{:08x}", host.trim(), rand::random::<u32>()))
}

fn named(text: &str) -> Result<(String, &str), String> {
    let (name, rest) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=WHERE"))?;
    let is_good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = (1..=40).contains(&name.len()) && name.bytes().all(is_good) && !name.starts_with('-');
    if !is_label || name.ends_with('-') {
        return Err(format!("{name:?} is no name of a source: up to 40 of a-z, 0-9 and -"));
    }
    Ok((name.to_owned(), rest))
}

fn source_file(text: &str) -> Result<SourceOptions, String> {
    let (name, file) = named(text)?;
    if file.is_empty() {
        return Err(format!("the kubeconfig of source {name} is missing"));
    }
    Ok(SourceOptions { name, location: Location::File(file.into()) })
}

fn source_url(text: &str) -> Result<SourceOptions, String> {
    let (name, url) = named(text)?;
    if !url.starts_with("http://") && !url.starts_with("https://") {
        return Err(format!("{url:?} is no URL; write http://ADDRESS:PORT or https://ADDRESS:PORT"));
    }
    Ok(SourceOptions { name, location: Location::Url(url.to_owned()) })
}

fn emit_url(text: &str) -> Result<String, String> {
    let is_good = text.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.contains('/'));
    if is_good { Ok(text.to_owned()) } else { Err(format!("{text:?} is not https://HOST:PORT")) }
}

fn selector(text: &str) -> Result<Selector, String> {
    Selector::parse(text).map_err(|error| error.to_string())
}

fn mode(text: &str) -> Result<EndpointMode, String> {
    EndpointMode::parse(text).ok_or_else(|| format!("{text:?} is neither pods nor cluster-ip"))
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

    fn parse(args: &[&str]) -> anyhow::Result<Options> {
        options(Cli::try_parse_from(std::iter::once(&"controller").chain(args))?.args)
    }

    #[test]
    fn sources_have_names_and_come_in_order() {
        let options =
            parse(&["--source", "west=/w", "--source=east=/e", "--source-api", "dev=http://[::1]:8001"]).unwrap();
        let names: Vec<&str> = options.sources.iter().map(|source| source.name.as_str()).collect();
        assert_eq!(names, ["west", "east", "dev"]);
        assert_eq!(options.sources[2].location, Location::Url("http://[::1]:8001".to_owned()));
    }

    #[test]
    fn what_is_wrong_is_refused_with_what_to_write() {
        for (args, words) in [
            (&["--source", "west"][..], "NAME=WHERE"),
            (&["--source", "West=/x"], "a-z, 0-9"),
            (&["--source", "w="], "kubeconfig of source w"),
            (&["--source-api", "w=localhost:80"], "http://"),
            (&["--source", "w=/a", "--source", "w=/b"], "two sources"),
            (&["--import-selector", "a in b"], "label selector"),
            (&["--mirror-endpoints", "pod"], "cluster-ip"),
            (&["--cluster-id", "West"], "63 of a-z"),
            (&["--clusterset-cidr", "10.0.0.0/16,10.1.0.0/16"], "one network a family"),
            (&["--stale-after", "15"], "30s"),
        ] {
            let error = parse(args).unwrap_err().to_string();
            assert!(error.contains(words), "{args:?}: {error}");
        }
    }
}
