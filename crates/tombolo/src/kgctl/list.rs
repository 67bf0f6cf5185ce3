//! Nodes and Peers from the API server.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1 as core;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tombolo_api::kilo;
use tombolo_mesh::{Node, Peer, Refusal, node, peer};

/// How long a server may take to be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// What was listed, and what of it cannot be used.
#[derive(Debug, Default)]
pub(super) struct Listed {
    pub(super) nodes: Vec<Node>,
    pub(super) peers: Vec<Peer>,
    pub(super) refusals: Vec<Refusal>,
}

impl Listed {
    pub(super) fn new(nodes: &[core::Node], peers: Vec<serde_json::Value>, topology_label: &str) -> Self {
        let mut listed = Self::default();
        for object in nodes {
            let (node, refusals) = node::from_kubernetes(object, topology_label);
            listed.nodes.push(node);
            listed.refusals.extend(refusals);
        }
        for object in peers {
            match peer::from_json(object) {
                Ok((peer, refusals)) => {
                    listed.peers.push(peer);
                    listed.refusals.extend(refusals);
                }
                Err(refusal) => listed.refusals.push(refusal),
            }
        }
        listed
    }
}

/// Lists both kinds at the same time: each is one request, and nothing else is asked.
pub(super) async fn list(kubeconfig: Option<&Path>, topology_label: &str) -> anyhow::Result<Listed> {
    // Where the process has set another provider already, that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = config(kubeconfig).await?;
    let server = config.cluster_url.to_string();
    let client = Client::try_from(config).context("the kubeconfig cannot be used; see its users and certificates")?;
    let params = ListParams::default();
    let resource = ApiResource::erase::<kilo::Peer>(&());
    let nodes = Api::<core::Node>::all(client.clone());
    let peers = Api::<DynamicObject>::all_with(client, &resource);
    let (nodes, peers) = tokio::join!(nodes.list(&params), peers.list(&params));
    let nodes = nodes.map_err(|error| explain(error, "nodes", &server))?;
    let peers = peers.map_err(|error| explain(error, "peers.kilo.squat.ai", &server))?;
    let peers: Result<Vec<_>, _> = peers.items.into_iter().map(serde_json::to_value).collect();
    Ok(Listed::new(&nodes.items, peers.context("the Peers of the API server cannot be read")?, topology_label))
}

async fn config(path: Option<&Path>) -> anyhow::Result<Config> {
    let mut config = match path {
        Some(path) => {
            let file = Kubeconfig::read_from(path)
                .with_context(|| format!("the kubeconfig {} cannot be used", path.display()))?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                .await
                .with_context(|| format!("the kubeconfig {} cannot be used", path.display()))?
        }
        None => {
            Config::infer().await.context("no kubeconfig can be used; give --kubeconfig FILE or set $KUBECONFIG")?
        }
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    Ok(config)
}

/// What, why, and what next.
fn explain(error: kube::Error, what: &str, server: &str) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => match status.code {
            401 => anyhow::anyhow!(
                "the API server at {server} does not know who asks: {}; see the user in the kubeconfig",
                status.message
            ),
            403 => anyhow::anyhow!(
                "listing {what} is forbidden: {}; ask for a role that may get and list them",
                status.message
            ),
            404 if what != "nodes" => anyhow::anyhow!(
                "the cluster has no resource {what}; apply deploy/crds/peers.kilo.squat.ai.yaml, as the agent's \
                 installation does"
            ),
            code => anyhow::anyhow!("the API server at {server} refuses to list {what}: {code} {}", status.message),
        },
        error => {
            let next = "see whether it runs and whether the kubeconfig is that of the right cluster";
            let reason = match &error {
                kube::Error::Service(inner) => reasons(inner.as_ref()),
                other => reasons(other),
            };
            anyhow::anyhow!("{what} cannot be listed from the API server at {server}: {reason}; {next}")
        }
    }
}

/// An error with those that it comes from, each said once and in one line.
pub(super) fn reasons(error: &(dyn std::error::Error + 'static)) -> String {
    let line = |error: &dyn std::error::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
    let mut text = line(error);
    let mut source = error.source();
    while let Some(inner) = source {
        let reason = line(inner);
        if !text.contains(&reason) {
            text = format!("{text}: {reason}");
        }
        source = inner.source();
    }
    text
}
