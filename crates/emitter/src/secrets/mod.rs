//! What the emitter keeps, in Secrets of its own cluster. There is nothing else to keep: no files.
//!
//! | Secret | what it holds |
//! | --- | --- |
//! | `tombolo-emitter-ca` | the certificate authority (`tls.crt`, `tls.key`); annotated with what all starts share |
//! | `tombolo-invite-ID` | an invitation: the cluster's name, the hash of the secret, for how long |
//! | `tombolo-cluster-NAME` | an admitted cluster and its certificates; deleting it revokes them at once |
//! | `tombolo-source-NAME` | in the importing cluster: a kubeconfig for the emitter of another |

mod authority;
mod clusters;
mod invites;
mod sources;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

pub use authority::{announce, announced, load_or_create, next_revision};
pub use clusters::KubeAdmissions;
pub use invites::{Invite, invite};
pub use sources::{
    KUBECONFIG, Renewed, SOURCE, check_source, renew_sources, renew_sources_at, source_name, store_source,
};

use crate::{Error, Identity};

/// The field manager of what is written.
pub(crate) const MANAGER: &str = "tombolo-emitter";

/// The Secret of the certificate authority.
pub const AUTHORITY: &str = "tombolo-emitter-ca";

/// The label of the Secrets that the emitter keeps beside its authority: `invite` or `cluster`.
pub const KEPT: &str = "tombolo.io/emitter";

const MANAGED_BY: &str = tombolo_api::tombolo::MANAGED_BY_LABEL;

const NEXT: &str = "see that the namespace is there, and that Secrets may be read and written in it (docs/emitter.md)";

/// All that a controller needs to begin: the identity that its cluster keeps, and who is admitted.
///
/// # Errors
/// When the cluster's API refuses to give or keep one of them.
pub async fn open(
    client: Client,
    namespace: &str,
    names: Vec<String>,
    shutdown: CancellationToken,
) -> Result<(Identity, Arc<KubeAdmissions>), Error> {
    let authority = load_or_create(client.clone(), namespace).await?;
    let first_revision = next_revision(client.clone(), namespace).await?;
    let identity = Identity { names, first_revision, ..Identity::new(authority) };
    Ok((identity, KubeAdmissions::start(client, namespace, shutdown)))
}

fn api(client: Client, namespace: &str) -> Api<Secret> {
    Api::namespaced(client, namespace)
}

/// A Secret of ours.
fn secret<'a>(
    name: &str,
    label: (&str, &str),
    type_: Option<&str>,
    data: impl IntoIterator<Item = (&'a str, String)>,
) -> Secret {
    let labels = [(label.0, label.1), (MANAGED_BY, tombolo_api::tombolo::MANAGER)];
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        type_: type_.map(str::to_owned),
        data: Some(data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect()),
        ..Secret::default()
    }
}

/// A text out of a Secret.
fn field(data: &Option<BTreeMap<String, ByteString>>, key: &str) -> Option<String> {
    let bytes = data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok()
}

fn refused(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Error {
    let what = what.into();
    move |error| Error::Kube { what, error: Box::new(error), next: NEXT }
}

/// The HTTP status of a refusal by the API.
fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}
