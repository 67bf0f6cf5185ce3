//! Invitations. A Secret holds the hash of the secret only: who can read Secrets cannot join.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client};

use super::{KEPT, MANAGER, api, code, field, load_or_create, refused, secret};
use crate::admissions::{hash, is_secret, now};
use crate::{ClaimError, Error, Invitation, invitation};

const CLUSTER: &str = "cluster";
const HASH: &str = "hash";
/// For how long it is good, in seconds after the Secret was made: by the API server's clock, not by that of whoever
/// types `tombolo invite`.
const LIFE: &str = "life";

/// What is asked for with [`invite`].
#[derive(Debug, Clone)]
pub struct Invite {
    /// The name of the cluster that is invited: a DNS label.
    pub cluster: String,
    /// For how long the invitation is good.
    pub life: Duration,
    /// Where the emitter can be reached, `https://HOST:PORT`.
    pub urls: Vec<String>,
    /// The name of the serving cluster, where it has one.
    pub from: Option<String>,
}

/// Invites a cluster, and clears away the invitations that have expired.
///
/// # Errors
/// When the name is none, or the API refuses.
pub async fn invite(client: Client, namespace: &str, wanted: Invite) -> Result<Invitation, Error> {
    let Invite { cluster, life, urls, from } = wanted;
    if !crate::is_cluster_name(&cluster) {
        let what = "lower-case letters, digits and hyphens, 63 at most";
        return Err(Error::State(format!("{cluster:?} can't be the name of a cluster; take one of {what}")));
    }
    let ca = load_or_create(client.clone(), namespace).await?.fingerprint();
    let api = api(client, namespace);
    let (id, secret) = invitation::make();
    let data = [(CLUSTER, cluster.clone()), (HASH, hash(&secret)), (LIFE, life.as_secs().to_string())];
    let new = self::secret(&name(&id), (KEPT, "invite"), None, data);
    let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
    let made = api.create(&params, &new).await;
    let made = made.map_err(refused(format!("the invitation can't be kept in {namespace}")))?;
    let expires = expiry(&made).unwrap_or_default();
    // That it can't be cleared up now does not stop an invitation.
    let _ = clear(&api, expires.saturating_sub_unsigned(life.as_secs())).await;
    Ok(Invitation { urls, ca, id, secret, expires, cluster, from })
}

/// Takes an invitation: whoever deletes its Secret, as it was read, has it.
pub(super) async fn claim(api: &Api<Secret>, id: &str, given: &str) -> Result<String, ClaimError> {
    let unavailable = |error: kube::Error| ClaimError::Unavailable(format!("the invitations can't be read: {error}"));
    let found = api.get_opt(&name(id)).await.map_err(unavailable)?;
    // Where there is none the comparison is made as well, so that the time says nothing.
    let kept = found.as_ref().and_then(|found| field(&found.data, HASH)).unwrap_or_else(|| hash(""));
    let right = is_secret(given, &kept);
    let Some(found) = found else { return Err(ClaimError::Unknown) };
    let cluster = field(&found.data, CLUSTER).unwrap_or_default();
    let invites = found.metadata.labels.as_ref().is_some_and(|l| l.get(KEPT).is_some_and(|v| v == "invite"));
    if !invites || !crate::is_cluster_name(&cluster) {
        return Err(ClaimError::Unknown);
    }
    if !right {
        return Err(ClaimError::WrongSecret { cluster });
    }
    let expired = expiry(&found).is_none_or(|expires| expires <= now());
    match (delete(api, &found).await, expired) {
        (_, true) => Err(ClaimError::Expired { cluster }),
        (Ok(()), false) => Ok(cluster),
        (Err(error), false) if matches!(code(&error), Some(404 | 409)) => Err(ClaimError::Used),
        (Err(error), false) => Err(ClaimError::Unavailable(format!("the invitation can't be used up: {error}"))),
    }
}

/// Deletes the invitations that have expired at a moment (Unix seconds).
async fn clear(api: &Api<Secret>, moment: i64) -> kube::Result<()> {
    let selector = ListParams::default().labels(&format!("{KEPT}=invite"));
    for old in api.list(&selector).await?.items {
        if expiry(&old).is_some_and(|expires| expires <= moment) {
            delete(api, &old).await?;
        }
    }
    Ok(())
}

async fn delete(api: &Api<Secret>, known: &Secret) -> kube::Result<()> {
    let preconditions =
        Preconditions { uid: known.metadata.uid.clone(), resource_version: known.metadata.resource_version.clone() };
    let params = DeleteParams::default().preconditions(preconditions);
    api.delete(known.metadata.name.as_deref().unwrap_or_default(), &params).await.map(|_| ())
}

/// Until when it is good, in Unix seconds.
fn expiry(known: &Secret) -> Option<i64> {
    let made = known.metadata.creation_timestamp.as_ref()?.0.as_second();
    let life: u64 = field(&known.data, LIFE)?.parse().ok()?;
    Some(made.saturating_add_unsigned(life))
}

fn name(id: &str) -> String {
    format!("tombolo-invite-{id}")
}
