//! The API server's events on Nodes and Peers.

use std::fmt::Debug;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1 as core;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tombolo_api::kilo;

use crate::events::words;
use crate::world::Change;

/// Watches Nodes and Peers for as long as somebody listens. Interruptions are bridged: after one, everything is
/// listed again, and what went meanwhile is missing from that list.
pub(crate) fn start(client: &Client) -> mpsc::Receiver<Change> {
    let (sender, receiver) = mpsc::channel(256);
    tokio::spawn(follow(
        Api::<core::Node>::all(client.clone()),
        sender.clone(),
        |object| Change::Node(Box::new(object)),
        Change::NodeGone,
        Change::AllNodes,
    ));
    tokio::spawn(follow(
        Api::<kilo::Peer>::all(client.clone()),
        sender,
        |object| Change::Peer(Box::new(object)),
        Change::PeerGone,
        Change::AllPeers,
    ));
    receiver
}

async fn follow<K>(
    api: Api<K>,
    sender: mpsc::Sender<Change>,
    put: fn(K) -> Change,
    gone: fn(String) -> Change,
    all: fn(Vec<K>) -> Change,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let kind = K::plural(&());
    let mut listing = Vec::new();
    let mut silent = false;
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => return,
            Err(error) => {
                if std::mem::replace(&mut silent, true) {
                    continue;
                }
                Err(say(&kind, &error))
            }
        };
        let change = match event {
            Err(trouble) => Change::Trouble(trouble),
            Ok(watcher::Event::Init) => {
                listing.clear();
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                listing.push(object);
                continue;
            }
            Ok(watcher::Event::InitDone) => {
                if std::mem::take(&mut silent) {
                    tracing::info!(%kind, "the API server answers again");
                }
                all(std::mem::take(&mut listing))
            }
            Ok(watcher::Event::Apply(object)) => put(object),
            Ok(watcher::Event::Delete(object)) => gone(object.meta().name.clone().unwrap_or_default()),
        };
        if sender.send(change).await.is_err() {
            return;
        }
    }
}

/// Said once until the API server answers again: the watcher tries on by itself.
fn say(kind: &str, error: &watcher::Error) -> String {
    let missing = matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404);
    let denied = matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403);
    let next = if missing {
        "install the resource: kubectl apply -f deploy/crds"
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
