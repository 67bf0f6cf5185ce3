//! Who is admitted, and who is invited.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use time::OffsetDateTime;
use tokio::sync::watch;

use crate::authority::hex;

/// What is known of a certificate that was given to a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The SHA-256 of its DER, in hexadecimal.
    pub fingerprint: String,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// When it was given, in Unix seconds.
    pub issued: i64,
    /// When it expires, in Unix seconds.
    pub expires: i64,
}

/// The clusters that are admitted, by name, and their certificates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Admitted {
    clusters: BTreeMap<String, Vec<Certificate>>,
    index: HashMap<String, (String, i64)>,
}

/// Why an invitation is not taken. On the wire all are alike; the log tells them apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// There is none of this id.
    #[error("there is no such invitation: it has been used, or was withdrawn, or never made")]
    Unknown,
    /// Another claimed it at the same time.
    #[error("the invitation was used by another request at the same moment")]
    Used,
    /// Its time is over.
    #[error("the invitation for cluster {cluster} has expired")]
    Expired {
        /// Whom it was for.
        cluster: String,
    },
    /// The id is right, the secret is not.
    #[error("the secret is not that of the invitation for cluster {cluster}")]
    WrongSecret {
        /// Whom it was for.
        cluster: String,
    },
    /// It can't be said.
    #[error("{0}")]
    Unavailable(String),
}

/// Where it is kept who is admitted and who is invited.
#[async_trait]
pub trait Admissions: Send + Sync {
    /// Takes an invitation, which is good once, and gives the name of the cluster that it is for.
    ///
    /// # Errors
    /// Why it is not good. The secret is compared in constant time.
    async fn claim(&self, id: &str, secret: &str) -> Result<String, ClaimError>;

    /// Admits a cluster by this certificate alone, in place of those that it had.
    ///
    /// # Errors
    /// In words, when it can't be kept.
    async fn admit(&self, cluster: &str, certificate: Certificate) -> Result<(), String>;

    /// Adds a certificate to the one that it was asked for with. Others of the cluster are no longer good.
    ///
    /// # Errors
    /// In words, when it can't be kept, or `by` has been revoked since.
    async fn renew(&self, cluster: &str, by: &str, certificate: Certificate) -> Result<(), String>;

    /// Who is admitted, from now on; `None` as long as that isn't known.
    fn admitted(&self) -> watch::Receiver<Option<Arc<Admitted>>>;

    /// Somebody was refused, for a reason that is for the people of this cluster alone.
    fn refused(&self, _reason: &str) {}
}

impl Admitted {
    /// Out of clusters with their certificates.
    pub fn new(clusters: BTreeMap<String, Vec<Certificate>>) -> Self {
        let pairs = clusters.iter().flat_map(|(name, list)| list.iter().map(move |c| (name, c)));
        let index = pairs.map(|(name, c)| (c.fingerprint.clone(), (name.clone(), c.expires))).collect();
        Admitted { clusters, index }
    }

    /// The clusters and their certificates.
    pub fn clusters(&self) -> &BTreeMap<String, Vec<Certificate>> {
        &self.clusters
    }

    /// The cluster that a certificate is of, and until when it is good (Unix seconds).
    pub fn find(&self, fingerprint: &str) -> Option<(&str, i64)> {
        self.index.get(fingerprint).map(|(name, expires)| (name.as_str(), *expires))
    }

    /// The same with these certificates for a cluster; none for a cluster that is no longer admitted.
    pub fn with(&self, cluster: &str, certificates: Vec<Certificate>) -> Self {
        let mut clusters = self.clusters.clone();
        if certificates.is_empty() {
            clusters.remove(cluster);
        } else {
            clusters.insert(cluster.to_owned(), certificates);
        }
        Admitted::new(clusters)
    }
}

/// The certificates of a cluster after one was added by means of another, which stays good: the answer may be lost.
///
/// # Errors
/// In words, when the other one is not among them.
pub(crate) fn renewed(known: &[Certificate], by: &str, new: Certificate) -> Result<Vec<Certificate>, String> {
    let Some(by) = known.iter().find(|c| c.fingerprint == by) else {
        return Err("the certificate that a new one was asked for with is no longer admitted".into());
    };
    Ok(vec![by.clone(), new])
}

/// What is kept of an invitation's secret.
pub(crate) fn hash(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// Whether a secret is the one whose hash was kept, in constant time.
pub(crate) fn is_secret(secret: &str, kept: &str) -> bool {
    hash(secret).as_bytes().ct_eq(kept.as_bytes()).into()
}

/// Admissions that are gone with the process: for tests, and for a serving side without a cluster.
#[derive(Debug)]
pub struct InMemory {
    invitations: Mutex<HashMap<String, Invited>>,
    admitted: watch::Sender<Option<Arc<Admitted>>>,
}

#[derive(Debug, Clone)]
struct Invited {
    hash: String,
    cluster: String,
    expires: i64,
}

impl Default for InMemory {
    fn default() -> Self {
        let (admitted, _) = watch::channel(Some(Arc::default()));
        InMemory { invitations: Mutex::default(), admitted }
    }
}

impl InMemory {
    /// Invites a cluster; gives the id and the secret.
    pub fn invite(&self, cluster: &str, life: Duration) -> (String, String) {
        let (id, secret) = crate::invitation::make();
        let expires = now().saturating_add_unsigned(life.as_secs());
        let invited = Invited { hash: hash(&secret), cluster: cluster.to_owned(), expires };
        self.lock().insert(id.clone(), invited);
        (id, secret)
    }

    /// No longer admits a cluster.
    pub fn revoke(&self, cluster: &str) {
        self.put(cluster, Vec::new());
    }

    fn put(&self, cluster: &str, certificates: Vec<Certificate>) {
        self.admitted.send_modify(|admitted| {
            let known = admitted.clone().unwrap_or_default();
            *admitted = Some(Arc::new(known.with(cluster, certificates)));
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Invited>> {
        self.invitations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Admissions for InMemory {
    async fn claim(&self, id: &str, secret: &str) -> Result<String, ClaimError> {
        let mut invitations = self.lock();
        let Some(Invited { hash, cluster, expires }) = invitations.get(id).cloned() else {
            return Err(ClaimError::Unknown);
        };
        if !is_secret(secret, &hash) {
            return Err(ClaimError::WrongSecret { cluster });
        }
        invitations.remove(id);
        if expires <= now() {
            return Err(ClaimError::Expired { cluster });
        }
        Ok(cluster)
    }

    async fn admit(&self, cluster: &str, certificate: Certificate) -> Result<(), String> {
        self.put(cluster, vec![certificate]);
        Ok(())
    }

    async fn renew(&self, cluster: &str, by: &str, certificate: Certificate) -> Result<(), String> {
        let known = self.admitted.borrow().clone().unwrap_or_default();
        let known = known.clusters().get(cluster).cloned().unwrap_or_default();
        self.put(cluster, renewed(&known, by, certificate)?);
        Ok(())
    }

    fn admitted(&self) -> watch::Receiver<Option<Arc<Admitted>>> {
        self.admitted.subscribe()
    }
}

pub(crate) fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}
