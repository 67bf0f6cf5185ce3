//! The API servers' events: of this cluster and of the others, object by object.
//!
//! A watch outlives everything that can be wrong with it. An object that cannot be read is refused for itself, a list
//! that was cut is asked for again, and an API that is not served is looked for again from time to time.

use std::time::Duration;

use backon::ExponentialBuilder;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::ApiResource;
use kube::runtime::watcher::{self, ExponentialBackoff};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Client};
use tokio::sync::mpsc;
use tombolo_proxy::ServiceKey;

use crate::kinds::{Item, Kind};
use crate::raw::Raw;

/// After this an API that was not served is asked for again.
const LOOK_AGAIN: Duration = Duration::from_secs(3);
/// Pauses between attempts after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// In place of a version: the kind is not served.
pub(crate) const ABSENT: usize = usize::MAX;

/// What a watch sees.
#[derive(Debug)]
pub(crate) enum Seen {
    /// An object is as given.
    Put(Item),
    /// An object is gone.
    Gone(Kind, ServiceKey),
    /// These are all objects of the kind: others are gone. They are served in the version at this place of
    /// [`Kind::resources`]; [`ABSENT`] where they are not served.
    All(Kind, Vec<Item>, usize),
    /// An object that cannot be read: nothing is known of it.
    Refused(Kind, ServiceKey, String),
    /// Nothing can be seen, for this reason; what was seen stands.
    Trouble(Kind, String),
    /// This account may not see it; what was seen stands.
    Denied(Kind, String),
}

impl Seen {
    /// The kind that it is about.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Put(item) => item.kind(),
            Self::Gone(kind, _)
            | Self::All(kind, ..)
            | Self::Refused(kind, ..)
            | Self::Trouble(kind, _)
            | Self::Denied(kind, _) => *kind,
        }
    }
}

/// What of a kind is watched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scope {
    pub namespace: Option<String>,
    pub labels: Option<String>,
    pub fields: Option<String>,
    /// So many in one page of a list.
    pub page: Option<u32>,
}

/// Watches the objects of a kind until `send` says that nobody listens.
pub(crate) async fn follow<T>(
    client: Client,
    kind: Kind,
    scope: Scope,
    sender: mpsc::Sender<T>,
    make: impl Fn(Seen) -> T,
) {
    let mut is_absent = false;
    loop {
        for (place, resource) in kind.resources().iter().enumerate() {
            match version(&client, kind, (place, resource), &scope, &sender, &make).await {
                Ended::NotServed { was_served } => is_absent &= !was_served,
                Ended::Unheard => return,
            }
        }
        if !kind.may_be_absent() {
            let words =
                format!("cannot list {}: this is no Kubernetes API server, or not one of v1.21 or later", kind.name());
            if sender.send(make(Seen::Trouble(kind, words))).await.is_err() {
                return;
            }
        } else if !std::mem::replace(&mut is_absent, true)
            && sender.send(make(Seen::All(kind, Vec::new(), ABSENT))).await.is_err()
        {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
        if sender.is_closed() {
            return;
        }
    }
}

enum Ended {
    /// Not any more, where it was.
    NotServed {
        was_served: bool,
    },
    Unheard,
}

async fn version<T>(
    client: &Client,
    kind: Kind,
    (place, resource): (usize, &ApiResource),
    scope: &Scope,
    sender: &mpsc::Sender<T>,
    make: &impl Fn(Seen) -> T,
) -> Ended {
    let api: Api<Raw> = match &scope.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    };
    let config = watcher::Config {
        label_selector: scope.labels.clone(),
        field_selector: scope.fields.clone(),
        page_size: scope.page.or(watcher::Config::default().page_size),
        ..watcher::Config::default()
    };
    let begin = || watch(api.clone(), config.clone()).backoff(backoff()).boxed();
    let mut events = begin();
    let mut listing = Vec::new();
    let (mut is_silent, mut was_served) = (false, false);
    loop {
        let seen = match events.try_next().await {
            Ok(None) => return Ended::NotServed { was_served },
            Err(watcher::Error::InitialListFailed(kube::Error::Api(status))) if status.code == 404 => {
                return Ended::NotServed { was_served };
            }
            // A watch that ends is taken up where it ended, or everything is listed anew, by itself.
            Err(error @ (watcher::Error::WatchFailed(_) | watcher::Error::WatchError(_))) => {
                tracing::debug!(%error, kind = kind.name(), "a watch ended");
                continue;
            }
            Err(error) => {
                if !matches!(error, watcher::Error::InitialListFailed(_)) {
                    tokio::time::sleep(RETRY.1).await;
                    events = begin();
                }
                if std::mem::replace(&mut is_silent, true) {
                    continue;
                }
                let is_denied = code(&error) == Some(403);
                let words = say(kind, &error);
                if is_denied { Seen::Denied(kind, words) } else { Seen::Trouble(kind, words) }
            }
            Ok(Some(watcher::Event::Init)) => {
                listing.clear();
                continue;
            }
            Ok(Some(watcher::Event::InitApply(object))) => {
                match read(kind, object) {
                    Ok(item) => listing.push(item),
                    Err(refused) => {
                        if sender.send(make(refused)).await.is_err() {
                            return Ended::Unheard;
                        }
                    }
                }
                continue;
            }
            Ok(Some(watcher::Event::InitDone)) => {
                (is_silent, was_served) = (false, true);
                Seen::All(kind, std::mem::take(&mut listing), place)
            }
            Ok(Some(watcher::Event::Apply(object))) => match read(kind, object) {
                Ok(item) => Seen::Put(item),
                Err(refused) => refused,
            },
            Ok(Some(watcher::Event::Delete(object))) => Seen::Gone(kind, key(&object)),
        };
        if sender.send(make(seen)).await.is_err() {
            return Ended::Unheard;
        }
    }
}

fn backoff() -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_min_delay(RETRY.0).with_max_delay(RETRY.1);
    builder.with_jitter().without_max_times().into()
}

fn key(object: &Raw) -> ServiceKey {
    let metadata = &object.metadata;
    ServiceKey::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

fn read(kind: Kind, object: Raw) -> Result<Item, Seen> {
    let key = key(&object);
    kind.read(object).map_err(|error| Seen::Refused(kind, key, error.to_string()))
}

/// The HTTP status of a list or a watch that was refused.
fn code(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => Some(status.code),
        _ => None,
    }
}

fn say(kind: Kind, error: &watcher::Error) -> String {
    let next = match code(error) {
        Some(401) => "; the credentials are no longer good: renew the kubeconfig, or accept a new invitation",
        Some(403) => {
            "; let this account list and watch them (see deploy/), or accept a new invitation if this one was revoked"
        }
        _ => "",
    };
    let error = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => words(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        other => other.to_string(),
    };
    format!("cannot watch {}: {error}{next}", kind.name())
}

/// An error in words: of an API server its own, of a connection all its causes.
pub(crate) fn words(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({} {})", status.message, status.code, status.reason);
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
