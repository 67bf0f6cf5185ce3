//! The node's loop: watches the cluster, plans the node's network and applies it.
//!
//! [`run`] wires five tasks, each of which may be told the same thing twice without harm:
//!
//! - `watch` turns the API server's events on Nodes and Peers into values of the mesh ([`world`]);
//! - `node` is the loop itself: whenever something changed (a Node, a Peer, a link of the host, an answer to a probe,
//!   a name's address) it makes a plan ([`tombolo_mesh::plan`]) and applies what differs;
//! - `bgp` speaks BGP, where that is asked for, and tells the loop what it learns;
//! - `services` does the same for Services, ServiceImports and the nftables table of the service proxy;
//! - `health` answers `/healthz`, `/readyz`, `/metrics` and `/graph`.

mod bgp;
pub mod bgp_metrics;
pub mod cni;
mod events;
mod health;
pub mod key;
mod liveness;
mod metrics;
mod names;
mod node;
mod options;
mod selfnode;
mod services;
mod watch;
pub mod world;

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

pub use options::{Options, ServiceProxy};

/// Runs until `shutdown` is cancelled, then undoes what was changed if the options ask for it.
///
/// # Errors
/// What is missing to begin at all: a privilege, a program, the API server's address, the Peer resource.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<()> {
    let options = Arc::new(options);
    check_host().await?;
    let client = connect(&options).await?;
    let metrics = Arc::new(metrics::Metrics::default());
    let health = Arc::new(health::Health::default());
    let server = health::serve(options.listen, health.clone(), metrics.clone())
        .await
        .with_context(|| format!("cannot listen on {} (--listen)", options.listen))?;
    let (said, node) = tokio::sync::watch::channel(None);
    let proxy = tokio::spawn(services::run(client.clone(), node, options.clone(), metrics.clone(), shutdown.clone()));
    let (learned, routes) = tokio::sync::watch::channel(bgp::Learned::default());
    let bgp = tokio::spawn(bgp::run(client.clone(), options.clone(), learned, metrics.clone(), shutdown.clone()));
    let inputs = node::Inputs { said, learned: routes };
    let done = node::run(client, options, inputs, health, metrics, shutdown.clone()).await;
    shutdown.cancel();
    bgp.await.context("the task of BGP panicked; please report it")?;
    proxy.await.context("the service proxy's task panicked; please report it")?;
    server.abort();
    done
}

/// Says what the host lacks: as an error where the agent cannot work without it, else as a warning.
async fn check_host() -> Result<()> {
    let findings = tombolo_host::capabilities::check().await;
    let mut missing = Vec::new();
    for finding in findings.into_iter().filter(|f| !f.ok) {
        if finding.needed {
            missing.push(format!("{}: {}; {}", finding.what, finding.why_it_matters, finding.how_to_fix));
            continue;
        }
        tracing::warn!(what = %finding.what, why = %finding.why_it_matters, next = %finding.how_to_fix, "not on this node");
    }
    anyhow::ensure!(missing.is_empty(), "this node cannot run the agent:\n  {}", missing.join("\n  "));
    Ok(())
}

async fn connect(options: &Options) -> Result<kube::Client> {
    let mut config = match &options.kubeconfig {
        Some(path) => {
            let kubeconfig = kube::config::Kubeconfig::read_from(path)
                .with_context(|| format!("cannot read the kubeconfig {} (--kubeconfig)", path.display()))?;
            kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
                .await
                .with_context(|| format!("the kubeconfig {} does not say how to connect", path.display()))?
        }
        None => kube::Config::infer().await.context(
            "no API server is known: pass --kubeconfig FILE, set $KUBECONFIG, or run in a pod with a service account",
        )?,
    };
    if let Some(master) = &options.master {
        config.cluster_url = master.parse().with_context(|| format!("--master {master} is not a URL"))?;
    }
    kube::Client::try_from(config).context("cannot make a client of the API server")
}
