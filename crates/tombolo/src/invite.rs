//! `tombolo invite`: lets another cluster read the services that this one exports.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use kube::Api;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tombolo_api::about::{CLUSTER_ID, ClusterProperty};
use tombolo_emitter::client::emitter_url;
use tombolo_emitter::is_cluster_name;
use tombolo_emitter::secrets::{self, Invite};

use crate::agent::duration;
use crate::client;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// One object.
    Json,
}

/// Invite another cluster to read the services that this one exports
///
/// Prints a token on standard output, and on standard error what to do with it. It is good once.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The name of the cluster that is invited
    name: String,

    /// For how long the token is good
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1h")]
    expires: Duration,

    /// Where the other cluster reaches this one's emitter, repeatable [default: what its controller has written down]
    #[arg(long, value_name = "ADDR:PORT|URL")]
    emitter: Vec<String>,

    /// The cluster that serves [default: $KUBECONFIG, else where this runs, in a pod]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// The namespace of its controller
    #[arg(long, value_name = "NAMESPACE", default_value = "tombolo-system")]
    namespace: String,

    /// Print more than the token, for programs
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

/// Makes an invitation.
///
/// # Errors
/// A name that is none, an emitter whose address nobody knows, a cluster that refuses.
pub async fn run(args: Args) -> anyhow::Result<()> {
    if !is_cluster_name(&args.name) {
        bail!("{:?} can't be the name of a cluster: up to 63 of a-z, 0-9 and -", args.name);
    }
    let given: Vec<String> = args.emitter.iter().map(|text| emitter_url(text)).collect::<Result<_, _>>()?;
    let client = client::connect(args.kubeconfig.as_deref()).await?;
    let urls = match given.is_empty() {
        false => given,
        true => secrets::announced(client.clone(), &args.namespace).await?,
    };
    if urls.is_empty() {
        bail!(
            "it is not known where the emitter is reached: give --emitter ADDR:PORT, as the other cluster sees it, or \
             start the controller with --emit-url"
        );
    }
    let from = own_name(client.clone()).await;
    let wanted = Invite { cluster: args.name.clone(), life: args.expires, urls, from };
    let invitation = secrets::invite(client, &args.namespace, wanted).await?;
    let token = invitation.to_string();
    let expires = moment(invitation.expires)?;
    if args.output == Some(Output::Json) {
        let whole = json!({
            "token": token, "id": invitation.id, "cluster": invitation.cluster, "from": invitation.from,
            "urls": invitation.urls, "expires": expires,
        });
        println!("{whole}");
        return Ok(());
    }
    println!("{token}");
    let name = if invitation.from.is_some() { "" } else { " --name NAME-OF-THIS-CLUSTER" };
    eprintln!(
        "\nThe line above admits one cluster, as {}, once, until {expires}. Whoever has it is admitted: send it by a \
         way that you trust.\nIn that cluster, run:\n\n    tombolo accept{name} TOKEN\n\nTo undo it, before or after: \
         kubectl -n {ns} delete secret tombolo-invite-{} tombolo-cluster-{} --ignore-not-found",
        invitation.cluster,
        invitation.id,
        invitation.cluster,
        ns = args.namespace,
    );
    Ok(())
}

/// The cluster's own name in its set, if it has one.
async fn own_name(client: kube::Client) -> Option<String> {
    let property = Api::<ClusterProperty>::all(client).get_opt(CLUSTER_ID).await.ok()??;
    Some(property.spec.value).filter(|name| is_cluster_name(name))
}

/// Unix seconds as people and programs read them.
pub(crate) fn moment(seconds: i64) -> anyhow::Result<String> {
    let moment = OffsetDateTime::from_unix_timestamp(seconds).context("a time that is out of range")?;
    moment.format(&Rfc3339).context("a time that is out of range")
}
