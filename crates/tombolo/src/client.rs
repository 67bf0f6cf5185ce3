//! The connection to the cluster that a command is for.

use std::path::Path;

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};

/// Connects by a kubeconfig, or as a pod of the cluster does.
///
/// # Errors
/// A file that cannot be read or used; no file, outside of a cluster.
pub(crate) async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<kube::Client> {
    let config = match kubeconfig {
        None => kube::Config::infer().await.context("no cluster is named: give --kubeconfig FILE, or run in a pod")?,
        Some(file) => {
            let context = || format!("--kubeconfig {}", file.display());
            let read = Kubeconfig::read_from(file).with_context(context)?;
            kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.with_context(context)?
        }
    };
    kube::Client::try_from(config).context("the connection to the cluster can't be prepared; see the kubeconfig")
}
