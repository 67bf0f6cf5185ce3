//! ServiceImports, whose kind the API may lack today and have tomorrow.

use std::collections::VecDeque;
use std::time::Duration;

use futures::stream::{BoxStream, StreamExt, unfold};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind, Status};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client};
use tombolo_api::mcs::GROUP;

use super::backoff;

/// Both have the same fields.
const VERSIONS: [&str; 2] = ["v1alpha1", "v1beta1"];

/// How often it is looked whether the kind is there by now.
const RETRY: Duration = Duration::from_secs(1);

pub(super) enum Observed {
    Event(Box<watcher::Result<Event<DynamicObject>>>),
    /// The API has no ServiceImports, in any version.
    Missing,
}

/// All ServiceImports, in the first version that the API has.
pub(super) fn stream(client: Client) -> BoxStream<'static, Observed> {
    let search = Search { client, versions: VERSIONS.into(), watch: None, missed: 0, is_told: false };
    unfold(search, async |mut search| Some((search.next().await, search))).boxed()
}

struct Search {
    client: Client,
    /// The next to be tried is the first.
    versions: VecDeque<&'static str>,
    watch: Option<BoxStream<'static, watcher::Result<Event<DynamicObject>>>>,
    /// In how many versions in a row it was not there.
    missed: usize,
    is_told: bool,
}

impl Search {
    async fn next(&mut self) -> Observed {
        loop {
            if self.missed == VERSIONS.len() {
                self.missed = 0;
                self.watch = None;
                if !std::mem::replace(&mut self.is_told, true) {
                    tracing::info!(
                        "the API has no ServiceImports ({GROUP}): no name of the cluster set exists until their \
                         definition is installed"
                    );
                    return Observed::Missing;
                }
                tokio::time::sleep(RETRY).await;
            }
            let version = self.versions[0];
            let client = self.client.clone();
            let watch = self.watch.get_or_insert_with(|| watch(client, version));
            match watch.next().await {
                Some(Err(error)) if status(&error).is_some_and(Status::is_not_found) => {
                    self.missed += 1;
                    self.versions.rotate_left(1);
                    self.watch = None;
                }
                // A list begins before it is known whether there is anything to be listed.
                Some(Ok(Event::Init)) => return Observed::Event(Box::new(Ok(Event::Init))),
                Some(event) => {
                    self.missed = 0;
                    if event.is_ok() && std::mem::take(&mut self.is_told) {
                        tracing::info!("the API has ServiceImports now, in {version}");
                    }
                    return Observed::Event(Box::new(event));
                }
                None => self.watch = None,
            }
        }
    }
}

fn watch(client: Client, version: &str) -> BoxStream<'static, watcher::Result<Event<DynamicObject>>> {
    let kind = GroupVersionKind::gvk(GROUP, version, "ServiceImport");
    let resource = ApiResource::from_gvk_with_plural(&kind, "serviceimports");
    watcher(Api::<DynamicObject>::all_with(client, &resource), Config::default()).backoff(backoff()).boxed()
}

/// What the API said against it.
pub(super) fn status(error: &watcher::Error) -> Option<&Status> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => Some(status),
        _ => None,
    }
}
