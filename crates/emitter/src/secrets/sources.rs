//! In the importing cluster: the kubeconfigs for the emitters of others.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{ListParams, Patch, PatchParams, PostParams};

use super::{MANAGER, api, code, field, refused, secret};
use crate::admissions::now;
use crate::{Error, client};

/// The label of a Secret that holds a source's kubeconfig; its value is the source's name.
pub const SOURCE: &str = "tombolo.io/source";

/// The longest name that `tombolo controller` takes for a source.
const LONGEST: usize = 40;

/// The key of the kubeconfig.
pub const KUBECONFIG: &str = "kubeconfig";

/// What became of the certificate of a source.
#[derive(Debug)]
pub struct Renewed {
    /// The source.
    pub source: String,
    /// Whether it was renewed, which is not done before it is time, or why it could not be.
    pub result: Result<bool, Error>,
}

/// The Secret of a source: `tombolo-source-NAME`.
pub fn source_name(source: &str) -> String {
    format!("tombolo-source-{source}")
}

/// Keeps the kubeconfig of a source, in place of one that there was.
///
/// # Errors
/// When the name is none, the Secret is somebody else's, or the API refuses.
pub async fn store_source(client: Client, namespace: &str, source: &str, kubeconfig: &str) -> Result<(), Error> {
    store(client, namespace, source, kubeconfig, false).await
}

/// Whether [`store_source`] would do, before an invitation is used up for it.
///
/// # Errors
/// As [`store_source`].
pub async fn check_source(client: Client, namespace: &str, source: &str) -> Result<(), Error> {
    store(client, namespace, source, "", true).await
}

async fn store(client: Client, namespace: &str, source: &str, kubeconfig: &str, dry_run: bool) -> Result<(), Error> {
    if !crate::is_cluster_name(source) || source.len() > LONGEST {
        let what = "lower-case letters, digits and hyphens, 40 at most";
        return Err(Error::State(format!("{source:?} can't be the name of a source; take one of {what}")));
    }
    let (api, name) = (api(client, namespace), source_name(source));
    let what = || format!("the Secret {namespace}/{name} can't be written");
    let new = secret(&name, (SOURCE, source), None, [(KUBECONFIG, kubeconfig.to_owned())]);
    let params = PostParams { field_manager: Some(MANAGER.into()), dry_run };
    match api.create(&params, &new).await {
        Ok(_) => return Ok(()),
        Err(error) if code(&error) == Some(409) => {}
        Err(error) => return Err(refused(what())(error)),
    }
    let known = api.get(&name).await.map_err(refused(what()))?;
    if known.metadata.labels.is_none_or(|labels| labels.get(SOURCE).is_none_or(|label| label != source)) {
        let text = format!("the Secret {namespace}/{name} is there and is no source's; take another --name");
        return Err(Error::State(text));
    }
    let patch = serde_json::json!({"data": new.data});
    let params = PatchParams { dry_run, ..PatchParams::default() };
    api.patch(&name, &params, &Patch::Merge(patch)).await.map_err(refused(what()))?;
    Ok(())
}

/// Renews the certificates of sources in time: to be called every hour or so. One that was replaced or removed in the
/// meantime is left as it is.
///
/// # Errors
/// When the sources can't be listed; what becomes of each is in its [`Renewed`].
pub async fn renew_sources(client: Client, namespace: &str) -> Result<Vec<Renewed>, Error> {
    renew_sources_at(client, namespace, now()).await
}

/// [`renew_sources`] as of a moment, in Unix seconds.
///
/// # Errors
/// As [`renew_sources`].
pub async fn renew_sources_at(client: Client, namespace: &str, moment: i64) -> Result<Vec<Renewed>, Error> {
    let api = api(client, namespace);
    let what = format!("the sources in {namespace} can't be listed");
    let sources = api.list(&ListParams::default().labels(SOURCE)).await.map_err(refused(what))?;
    let mut renewed = Vec::new();
    for known in sources.items {
        let labels = known.metadata.labels.as_ref();
        let Some(source) = labels.and_then(|labels| labels.get(SOURCE)).cloned() else { continue };
        renewed.push(Renewed { result: renew(&api, known, moment).await, source });
    }
    Ok(renewed)
}

async fn renew(api: &kube::Api<Secret>, mut known: Secret, moment: i64) -> Result<bool, Error> {
    let Some(kubeconfig) = field(&known.data, KUBECONFIG) else { return Ok(false) };
    let Some(new) = client::renew_if_due_at(&kubeconfig, moment).await? else { return Ok(false) };
    let name = known.metadata.name.clone().unwrap_or_default();
    let what = format!("the renewed certificate can't be kept in the Secret {name}");
    // It has its resource version, so that a kubeconfig that came in between is not undone.
    known.data.get_or_insert_default().insert(KUBECONFIG.to_owned(), ByteString(new.into_bytes()));
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    match api.replace(&name, &params, &known).await {
        Ok(_) => Ok(true),
        Err(error) if matches!(code(&error), Some(404 | 409)) => Ok(false),
        Err(error) => Err(refused(what)(error)),
    }
}
