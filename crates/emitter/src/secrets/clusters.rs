//! The clusters that are admitted, a Secret each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::watcher;
use kube::{Api, Client, Resource};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{AUTHORITY, KEPT, MANAGER, api, code, field, invites, secret};
use crate::admissions::{Admissions, Admitted, Certificate, ClaimError, renewed};

const CLUSTER: &str = "cluster";
const CERTIFICATES: &str = "certificates";
/// How often a write is tried again that another one came before.
const TRIES: usize = 10;
/// How often the people of the cluster are told, by an Event, of attempts that were refused.
const TELL: Duration = Duration::from_secs(60);

/// Admissions that are kept in Secrets, and followed: a Secret that somebody deletes revokes at once.
pub struct KubeAdmissions {
    api: Api<Secret>,
    client: Client,
    namespace: String,
    admitted: watch::Sender<Option<Arc<Admitted>>>,
    told: Mutex<Option<Instant>>,
}

impl KubeAdmissions {
    /// Follows the Secrets of a namespace until `shutdown`. Must be called inside a tokio runtime.
    pub fn start(client: Client, namespace: &str, shutdown: CancellationToken) -> Arc<Self> {
        let (admitted, _) = watch::channel(None);
        let api = api(client.clone(), namespace);
        let started = Arc::new(KubeAdmissions {
            api: api.clone(),
            client,
            namespace: namespace.to_owned(),
            admitted,
            told: Mutex::default(),
        });
        let follow = Arc::downgrade(&started);
        tokio::spawn(async move {
            let config = watcher::Config::default().labels(&format!("{KEPT}=cluster"));
            let mut events = watcher(api, config).boxed();
            let mut listed = BTreeMap::new();
            loop {
                let event = tokio::select! {
                    () = shutdown.cancelled() => return,
                    event = events.next() => event,
                };
                let (Some(event), Some(admissions)) = (event, follow.upgrade()) else { return };
                match event {
                    Ok(event) => admissions.follow(&mut listed, event),
                    Err(error) => {
                        tracing::warn!(%error, "who is admitted can't be read at this moment: it stays as it was");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        });
        started
    }

    fn follow(&self, listed: &mut BTreeMap<String, Vec<Certificate>>, event: watcher::Event<Secret>) {
        match event {
            watcher::Event::Init => listed.clear(),
            watcher::Event::InitApply(secret) => {
                if let Some((cluster, certificates)) = read(&secret) {
                    listed.insert(cluster, certificates);
                }
            }
            watcher::Event::InitDone => {
                self.publish(|_| Admitted::new(std::mem::take(listed)));
            }
            watcher::Event::Apply(secret) => match read(&secret) {
                Some((cluster, certificates)) => self.publish(|known| known.with(&cluster, certificates)),
                None => self.publish(|known| known.with(name_in(&secret), Vec::new())),
            },
            watcher::Event::Delete(secret) => {
                tracing::info!(cluster = name_in(&secret), "a cluster is no longer admitted");
                self.publish(|known| known.with(name_in(&secret), Vec::new()));
            }
        }
    }

    fn publish(&self, change: impl FnOnce(&Admitted) -> Admitted) {
        self.admitted.send_if_modified(|admitted| {
            let new = change(admitted.as_deref().unwrap_or(&Admitted::default()));
            let changed = admitted.as_deref() != Some(&new);
            *admitted = Some(Arc::new(new));
            changed
        });
    }

    /// Writes a Secret, made from the one that there is, and admits what it says without waiting for its event.
    async fn write(
        &self,
        cluster: &str,
        certificates: impl Fn(Option<&[Certificate]>) -> Result<Vec<Certificate>, String>,
    ) -> Result<(), String> {
        let name = name_of(cluster);
        let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        for _ in 0..TRIES {
            let known = self.api.get_opt(&name).await.map_err(|error| error.to_string())?;
            let read = known.as_ref().and_then(read).map(|(_, certificates)| certificates);
            let wanted = certificates(read.as_deref())?;
            let text = serde_json::to_string(&wanted).map_err(|error| error.to_string())?;
            let mut new = secret(&name, (KEPT, "cluster"), None, [(CLUSTER, cluster.to_owned()), (CERTIFICATES, text)]);
            let written = match known {
                None => self.api.create(&params, &new).await,
                Some(known) => {
                    new.metadata.resource_version = known.metadata.resource_version;
                    self.api.replace(&name, &params, &new).await
                }
            };
            match written {
                Ok(_) => {
                    // Before the first list is read nothing is known; it will have this one.
                    self.admitted.send_modify(|admitted| {
                        if let Some(known) = admitted.take() {
                            *admitted = Some(Arc::new(known.with(cluster, wanted)));
                        }
                    });
                    return Ok(());
                }
                Err(error) if matches!(code(&error), Some(404 | 409)) => {}
                Err(error) => return Err(format!("the Secret {name} can't be written: {error}")),
            }
        }
        Err(format!("the Secret {name} changes all the time; see who writes it"))
    }

    /// Says on the authority's Secret, once in a while, that somebody was refused.
    async fn tell(&self, note: String) {
        let Ok(Some(about)) = self.api.get_opt(AUTHORITY).await else { return };
        let reporter = Reporter { controller: "tombolo.io/emitter".into(), instance: None };
        let recorder = Recorder::new(self.client.clone(), reporter);
        let event = Event {
            type_: EventType::Warning,
            reason: "JoinRefused".into(),
            note: Some(note),
            action: "Join".into(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &about.object_ref(&())).await {
            tracing::debug!(%error, namespace = self.namespace, "no Event of an attempt that was refused");
        }
    }
}

#[async_trait]
impl Admissions for KubeAdmissions {
    async fn claim(&self, id: &str, secret: &str) -> Result<String, ClaimError> {
        invites::claim(&self.api, id, secret).await
    }

    async fn admit(&self, cluster: &str, certificate: Certificate) -> Result<(), String> {
        self.write(cluster, |_| Ok(vec![certificate.clone()])).await
    }

    async fn renew(&self, cluster: &str, by: &str, certificate: Certificate) -> Result<(), String> {
        self.write(cluster, |known| renewed(known.unwrap_or_default(), by, certificate.clone())).await
    }

    fn admitted(&self) -> watch::Receiver<Option<Arc<Admitted>>> {
        self.admitted.subscribe()
    }

    fn refused(&self, reason: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| told.elapsed() < TELL) {
            return;
        }
        *told = Some(Instant::now());
        let note = format!("an attempt to join this cluster's emitter was refused: {reason}");
        let (api, client, namespace) = (self.api.clone(), self.client.clone(), self.namespace.clone());
        let (admitted, told) = (self.admitted.clone(), Mutex::default());
        let this = KubeAdmissions { api, client, namespace, admitted, told };
        tokio::spawn(async move { this.tell(note).await });
    }
}

impl std::fmt::Debug for KubeAdmissions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeAdmissions").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// The cluster that a Secret admits, and its certificates; `None` for one that is broken.
fn read(secret: &Secret) -> Option<(String, Vec<Certificate>)> {
    let cluster = field(&secret.data, CLUSTER)?;
    let certificates = serde_json::from_str(&field(&secret.data, CERTIFICATES)?);
    match certificates {
        Ok(certificates) if name_of(&cluster) == secret.metadata.name.as_deref()? => Some((cluster, certificates)),
        _ => {
            tracing::warn!(secret = secret.metadata.name, "admits nobody: it does not hold what an admission does");
            None
        }
    }
}

fn name_of(cluster: &str) -> String {
    format!("tombolo-cluster-{cluster}")
}

/// The cluster that a Secret is named for.
fn name_in(secret: &Secret) -> &str {
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    name.strip_prefix("tombolo-cluster-").unwrap_or(name)
}
