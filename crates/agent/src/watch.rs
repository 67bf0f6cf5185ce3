//! The API server's events.

use std::fmt::Debug;
use std::time::Duration;

use backon::ExponentialBuilder;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1 as core;
use kube::runtime::watcher::ExponentialBackoff;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tombolo_api::kilo;

use crate::events::words;
use crate::world::Change;

/// What a watch sees.
#[derive(Debug)]
pub(crate) enum Seen<K> {
    /// An object is as given.
    Put(K),
    /// An object is gone.
    Gone(K),
    /// These are all objects: others are gone.
    All(Vec<K>),
    /// Nothing can be seen, for this reason.
    Trouble(String),
}

/// Watches Nodes and Peers for as long as somebody listens.
pub(crate) fn start(client: &Client) -> mpsc::Receiver<Change> {
    let (sender, receiver) = mpsc::channel(256);
    tokio::spawn(follow(Api::<core::Node>::all(client.clone()), sender.clone(), |seen| match seen {
        Seen::Put(object) => Change::Node(Box::new(object)),
        Seen::Gone(object) => Change::NodeGone(object.name_any()),
        Seen::All(objects) => Change::AllNodes(objects),
        Seen::Trouble(words) => Change::Trouble(words),
    }));
    tokio::spawn(follow(Api::<kilo::Peer>::all(client.clone()), sender, |seen| match seen {
        Seen::Put(object) => Change::Peer(Box::new(object)),
        Seen::Gone(object) => Change::PeerGone(object.name_any()),
        Seen::All(objects) => Change::AllPeers(objects),
        Seen::Trouble(words) => Change::Trouble(words),
    }));
    receiver
}

/// Pauses between attempts after a failure: the node is to know within seconds that the API server is there again.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

pub(crate) fn backoff() -> ExponentialBackoff {
    let builder = ExponentialBuilder::default().with_min_delay(RETRY.0).with_max_delay(RETRY.1);
    builder.with_jitter().without_max_times().into()
}

/// Watches all objects of a kind for as long as somebody listens. Interruptions are bridged: after one, everything is
/// listed again, and what went meanwhile is missing from that list.
pub(crate) async fn follow<K, C>(api: Api<K>, sender: mpsc::Sender<C>, change: impl Fn(Seen<K>) -> C)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let kind = K::plural(&());
    let mut listing = Vec::new();
    let mut silent = false;
    let mut events = watcher(api, watcher::Config::default()).backoff(backoff()).boxed();
    loop {
        let seen = match events.try_next().await {
            Ok(None) => return,
            Err(error) => {
                if std::mem::replace(&mut silent, true) {
                    continue;
                }
                Seen::Trouble(say(&kind, &error))
            }
            Ok(Some(watcher::Event::Init)) => {
                listing.clear();
                continue;
            }
            Ok(Some(watcher::Event::InitApply(object))) => {
                listing.push(object);
                continue;
            }
            Ok(Some(watcher::Event::InitDone)) => {
                if std::mem::take(&mut silent) {
                    tracing::info!(%kind, "the API server answers again");
                }
                Seen::All(std::mem::take(&mut listing))
            }
            Ok(Some(watcher::Event::Apply(object))) => Seen::Put(object),
            Ok(Some(watcher::Event::Delete(object))) => Seen::Gone(object),
        };
        if sender.send(change(seen)).await.is_err() {
            return;
        }
    }
}

/// Said once until the API server answers again: the watcher tries on by itself.
fn say(kind: &str, error: &watcher::Error) -> String {
    let missing = matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404);
    let denied = matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403);
    let next = if missing {
        "install the resource: kubectl apply -f deploy/crds/peers.kilo.squat.ai.yaml"
    } else if denied {
        "let the agent's service account list and watch it: see deploy/"
    } else {
        "it is tried again; the node's network stays as it is meanwhile"
    };
    let error = match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => words(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        other => other.to_string(),
    };
    tracing::warn!(%kind, error, next, "cannot watch");
    format!("cannot watch {kind}: {error}; {next}")
}
