//! From the Kubernetes API into the zones.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{StreamExt, select};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client};

use crate::catalog::{Catalog, Diff, ObjectKey};
use crate::server::Shared;

/// After a failed watch, how soon it is tried again: at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Keeps the zones of `shared` what the Services and EndpointSlices of a cluster say, and declares
/// them loaded once both are read. Runs until it is dropped: when the API can't be reached the
/// zones stay as they are.
pub async fn follow(client: Client, catalog: Catalog, shared: Arc<Shared>) {
    let services = watcher(Api::<Service>::all(client.clone()), Config::default())
        .backoff(backoff())
        .map(|event| Observed::Service(Box::new(event)));
    let slices = watcher(Api::<EndpointSlice>::all(client), Config::default())
        .backoff(backoff())
        .map(|event| Observed::Slice(Box::new(event)));
    let mut state = State {
        catalog,
        services: Progress::new("Services"),
        slices: Progress::new("EndpointSlices"),
        started: Instant::now(),
        shared,
    };
    let mut events = std::pin::pin!(select(services, slices));
    while let Some(observed) = events.next().await {
        state.observe(observed);
    }
}

enum Observed {
    Service(Box<watcher::Result<Event<Service>>>),
    Slice(Box<watcher::Result<Event<EndpointSlice>>>),
}

struct State {
    catalog: Catalog,
    services: Progress,
    slices: Progress,
    started: Instant,
    shared: Arc<Shared>,
}

/// How far the reading of one kind of object is.
struct Progress {
    kind: &'static str,
    /// What the list under way has brought so far.
    listed: HashSet<ObjectKey>,
    is_complete: bool,
    is_failing: bool,
}

impl State {
    fn observe(&mut self, observed: Observed) {
        let diff = match observed {
            Observed::Service(event) => match *event {
                Ok(event) => {
                    self.services.works();
                    self.service(event)
                }
                Err(error) => return self.services.fails(&error),
            },
            Observed::Slice(event) => match *event {
                Ok(event) => {
                    self.slices.works();
                    self.slice(event)
                }
                Err(error) => return self.slices.fails(&error),
            },
        };
        for sentence in &diff.refused {
            tracing::warn!("{sentence}");
        }
        let is_complete = self.services.is_complete && self.slices.is_complete;
        let becomes_complete = is_complete && !self.shared.read(|zones| zones.is_loaded());
        if diff.is_empty() && !becomes_complete {
            return;
        }
        tracing::debug!(%diff, "names changed");
        self.shared.write(|zones| {
            zones.apply(diff);
            if becomes_complete {
                zones.loaded();
            }
        });
        if becomes_complete {
            let elapsed = self.started.elapsed();
            tracing::info!(?elapsed, "all Services and EndpointSlices are read: names are answered");
        }
    }

    fn service(&mut self, event: Event<Service>) -> Diff {
        match event {
            Event::Init => self.services.begin(),
            Event::InitApply(service) => {
                self.services.listed.insert(ObjectKey::of(&service.metadata));
                self.catalog.apply_service(&service)
            }
            Event::InitDone => self.catalog.retain_services(&self.services.end()),
            Event::Apply(service) => self.catalog.apply_service(&service),
            Event::Delete(service) => {
                let key = ObjectKey::of(&service.metadata);
                self.catalog.delete_service(&key)
            }
        }
    }

    fn slice(&mut self, event: Event<EndpointSlice>) -> Diff {
        match event {
            Event::Init => self.slices.begin(),
            Event::InitApply(slice) => {
                self.slices.listed.insert(ObjectKey::of(&slice.metadata));
                self.catalog.apply_slice(&slice)
            }
            Event::InitDone => self.catalog.retain_slices(&self.slices.end()),
            Event::Apply(slice) => self.catalog.apply_slice(&slice),
            Event::Delete(slice) => {
                let key = ObjectKey::of(&slice.metadata);
                self.catalog.delete_slice(&key)
            }
        }
    }
}

impl Progress {
    fn new(kind: &'static str) -> Self {
        Self { kind, listed: HashSet::new(), is_complete: false, is_failing: false }
    }

    fn begin(&mut self) -> Diff {
        self.listed.clear();
        Diff::default()
    }

    /// What the list brought.
    fn end(&mut self) -> HashSet<ObjectKey> {
        self.is_complete = true;
        std::mem::take(&mut self.listed)
    }

    fn works(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            tracing::info!("{} are watched again", self.kind);
        }
    }

    /// A watch that merely ended is no failure: it is taken up where it ended.
    fn fails(&mut self, error: &watcher::Error) {
        if !std::mem::replace(&mut self.is_failing, true) {
            tracing::warn!(
                %error,
                "{} can't be watched; what is known stays, and it is tried again",
                self.kind
            );
        }
    }
}

/// Waits twice as long after each failure in a row.
struct Doubling {
    next: Duration,
}

fn backoff() -> Doubling {
    Doubling { next: RETRY.0 }
}

impl Iterator for Doubling {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = self.next;
        self.next = (now * 2).min(RETRY.1);
        Some(now)
    }
}

impl Backoff for Doubling {
    fn reset(&mut self) {
        self.next = RETRY.0;
    }
}
