//! The Secret of the certificate authority.

use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::PostParams;
use time::OffsetDateTime;

use super::{AUTHORITY, KEPT, MANAGER, api, code, field, refused, secret};
use crate::{Authority, Error};

/// On the authority's Secret: where the resource versions of the last start began.
const REVISION: &str = "tombolo.io/emitter-revision";
/// On the authority's Secret: where the emitter can be reached, for invitations; separated by commas.
const URLS: &str = "tombolo.io/emitter-urls";
/// What a start has at least for its writes, before the next one begins.
const STEP: u64 = 1 << 32;
/// How often a write is tried again that another one came before.
const TRIES: usize = 20;

/// The authority that the cluster keeps; made, once, where there is none. Two that start at the same time get the same.
///
/// # Errors
/// When the API refuses, or the Secret holds no authority.
pub async fn load_or_create(client: Client, namespace: &str) -> Result<Authority, Error> {
    let api = api(client, namespace);
    let what = || format!("the Secret {namespace}/{AUTHORITY} can't be read or made");
    // It goes round again only when it was deleted between the refusal to make it and the look.
    for _ in 0..TRIES {
        if let Some(known) = api.get_opt(AUTHORITY).await.map_err(refused(what()))? {
            return read(&known, namespace);
        }
        let (certificate, key) = Authority::generate()?.to_pem();
        let data = [("tls.crt", certificate), ("tls.key", key)];
        let new = secret(AUTHORITY, (KEPT, "authority"), Some("kubernetes.io/tls"), data);
        match api.create(&params(), &new).await {
            Ok(made) => return read(&made, namespace),
            Err(error) if code(&error) == Some(409) => {}
            Err(error) => return Err(refused(what())(error)),
        }
    }
    Err(Error::State(format!("the Secret {namespace}/{AUTHORITY} comes and goes; see who deletes it")))
}

/// Where the resource versions of this start begin: above those of every start before, whatever the clock says.
///
/// # Errors
/// When the API refuses, or there is no authority yet.
pub async fn next_revision(client: Client, namespace: &str) -> Result<u64, Error> {
    let micros = u64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000).unwrap_or(1);
    let mut begin = 0;
    annotate(client, namespace, REVISION, |last| {
        let last = last.and_then(|last| last.parse().ok()).unwrap_or(0u64);
        begin = micros.max(last.saturating_add(STEP));
        begin.to_string()
    })
    .await?;
    Ok(begin)
}

/// Writes down where the emitter can be reached (`https://HOST:PORT`, in the order to try), for `tombolo invite`.
///
/// # Errors
/// When the API refuses, or there is no authority yet.
pub async fn announce(client: Client, namespace: &str, urls: &[String]) -> Result<(), Error> {
    annotate(client, namespace, URLS, |_| urls.join(",")).await
}

/// What was [announced](announce).
///
/// # Errors
/// When the API refuses.
pub async fn announced(client: Client, namespace: &str) -> Result<Vec<String>, Error> {
    let what = format!("the Secret {namespace}/{AUTHORITY} can't be read");
    let known = api(client, namespace).get_opt(AUTHORITY).await.map_err(refused(what))?;
    let annotations = known.and_then(|known| known.metadata.annotations).unwrap_or_default();
    let urls = annotations.get(URLS).map(String::as_str).unwrap_or_default();
    Ok(urls.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect())
}

async fn annotate(
    client: Client,
    namespace: &str,
    name: &str,
    mut value: impl FnMut(Option<&str>) -> String,
) -> Result<(), Error> {
    let api = api(client, namespace);
    let what = || format!("the Secret {namespace}/{AUTHORITY} can't be updated");
    for _ in 0..TRIES {
        let mut known = api.get(AUTHORITY).await.map_err(refused(what()))?;
        let annotations = known.metadata.annotations.get_or_insert_default();
        let present = annotations.get(name).cloned();
        let wanted = value(present.as_deref());
        if present.as_deref() == Some(&wanted) {
            return Ok(());
        }
        annotations.insert(name.to_owned(), wanted);
        match api.replace(AUTHORITY, &params(), &known).await {
            Ok(_) => return Ok(()),
            Err(error) if code(&error) == Some(409) => {}
            Err(error) => return Err(refused(what())(error)),
        }
    }
    Err(Error::State(format!("the Secret {namespace}/{AUTHORITY} changes all the time; see who writes it")))
}

fn read(known: &Secret, namespace: &str) -> Result<Authority, Error> {
    let missing = |key: &str| {
        let text = format!("the Secret {namespace}/{AUTHORITY} has no {key}; delete it and invite the clusters again");
        Error::State(text)
    };
    let certificate = field(&known.data, "tls.crt").ok_or_else(|| missing("tls.crt"))?;
    let key = field(&known.data, "tls.key").ok_or_else(|| missing("tls.key"))?;
    Authority::from_pem(&certificate, &key)
}

fn params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() }
}
