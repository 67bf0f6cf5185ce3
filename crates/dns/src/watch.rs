//! From the Kubernetes API into the zones.

mod imports;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{BoxStream, StreamExt, select_all};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Config, Event, watcher};
use kube::{Api, Client, Resource};
use tombolo_api::mcs::v1alpha1::ServiceImport;

use crate::catalog::{Catalog, Diff, ObjectKey};
use crate::name::Name;
use crate::server::Shared;

/// After a failed watch, how soon it is tried again: at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// The domains whose names are made out of the cluster's objects.
#[derive(Debug, Clone)]
pub struct Domains {
    /// Of the cluster.
    pub cluster: Name,
    /// Of the cluster set; without it ServiceImports are not read.
    pub clusterset: Option<Name>,
}

/// Keeps the zones of `shared` what the Services, ServiceImports, EndpointSlices and (if names are
/// made for them) Pods of a cluster say, and declares each zone loaded once what it is made of is
/// read. Runs until it is dropped: when the API can't be reached the zones stay as they are.
pub async fn follow(client: Client, catalog: Catalog, domains: Domains, shared: Arc<Shared>) {
    let mut streams = vec![
        stream(Api::<Service>::all(client.clone()), Observed::Service),
        stream(Api::<EndpointSlice>::all(client.clone()), Observed::Slice),
    ];
    if catalog.has_pods() {
        streams.push(stream(Api::<Pod>::all(client.clone()), Observed::Pod));
    }
    if catalog.has_clusterset() {
        streams.push(imports::stream(client).map(Observed::Import).boxed());
    }
    let mut state = State {
        services: Progress::new("Services"),
        slices: Progress::new("EndpointSlices"),
        imports: Progress::new("ServiceImports"),
        pods: Progress { is_complete: !catalog.has_pods(), ..Progress::new("Pods") },
        catalog,
        domains,
        started: Instant::now(),
        shared,
    };
    let mut events = select_all(streams);
    while let Some(observed) = events.next().await {
        state.observe(observed);
    }
}

fn stream<K>(api: Api<K>, wrap: fn(watcher::Result<Event<K>>) -> Observed) -> BoxStream<'static, Observed>
where
    K: Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
{
    watcher(api, Config::default()).backoff(backoff()).map(wrap).boxed()
}

#[expect(clippy::large_enum_variant)] // They are not kept.
enum Observed {
    Service(watcher::Result<Event<Service>>),
    Slice(watcher::Result<Event<EndpointSlice>>),
    Pod(watcher::Result<Event<Pod>>),
    Import(imports::Observed),
}

struct State {
    catalog: Catalog,
    services: Progress,
    slices: Progress,
    imports: Progress,
    pods: Progress,
    domains: Domains,
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
            Observed::Service(event) => self.services.observe(event, &mut self.catalog),
            Observed::Slice(event) => self.slices.observe(event, &mut self.catalog),
            Observed::Pod(event) => self.pods.observe(event, &mut self.catalog),
            Observed::Import(imports::Observed::Event(event)) => self.imports.observe(*event, &mut self.catalog),
            Observed::Import(imports::Observed::Missing) => {
                self.imports.is_missing();
                self.catalog.retain_imports(&HashSet::new())
            }
        };
        for sentence in &diff.refused {
            tracing::warn!("{sentence}");
        }
        let loaded = self.newly_loaded();
        if diff.is_empty() && loaded.is_empty() {
            return;
        }
        tracing::debug!(%diff, "names changed");
        self.shared.write(|zones| {
            zones.apply(diff);
            for part in &loaded {
                match part {
                    Part::Zone(origin) => zones.loaded_below(origin),
                    Part::Reverse => zones.reverse_loaded(),
                }
            }
        });
        for part in loaded {
            if let Part::Zone(origin) = part {
                let elapsed = self.started.elapsed();
                tracing::info!(domain = %origin, ?elapsed, "all that its names depend on is read: they are answered");
            }
        }
    }

    /// What is complete and does not say so yet.
    fn newly_loaded(&self) -> Vec<Part> {
        let has_services = self.services.is_complete && self.slices.is_complete;
        let (has_cluster, has_set) =
            (has_services && self.pods.is_complete, self.slices.is_complete && self.imports.is_complete);
        // Imports that can't be read keep nobody from the names that addresses have in the cluster.
        let has_reverse = has_services && (has_set || self.imports.is_failing || self.domains.clusterset.is_none());
        self.shared.read(|zones| {
            let loading = zones.loading().filter_map(|origin| {
                if *origin == self.domains.cluster {
                    has_cluster.then(|| Part::Zone(origin.clone()))
                } else if Some(origin) == self.domains.clusterset.as_ref() {
                    has_set.then(|| Part::Zone(origin.clone()))
                } else {
                    has_reverse.then_some(Part::Reverse)
                }
            });
            loading.collect()
        })
    }
}

/// What loads as a whole.
enum Part {
    Zone(Name),
    Reverse,
}

/// A kind of object that names depend on.
trait Watched: Resource {
    fn apply(catalog: &mut Catalog, object: &Self) -> Diff;
    fn delete(catalog: &mut Catalog, key: &ObjectKey) -> Diff;
    fn retain(catalog: &mut Catalog, present: &HashSet<ObjectKey>) -> Diff;
}

impl Watched for Service {
    fn apply(catalog: &mut Catalog, object: &Self) -> Diff {
        catalog.apply_service(object)
    }
    fn delete(catalog: &mut Catalog, key: &ObjectKey) -> Diff {
        catalog.delete_service(key)
    }
    fn retain(catalog: &mut Catalog, present: &HashSet<ObjectKey>) -> Diff {
        catalog.retain_services(present)
    }
}

impl Watched for EndpointSlice {
    fn apply(catalog: &mut Catalog, object: &Self) -> Diff {
        catalog.apply_slice(object)
    }
    fn delete(catalog: &mut Catalog, key: &ObjectKey) -> Diff {
        catalog.delete_slice(key)
    }
    fn retain(catalog: &mut Catalog, present: &HashSet<ObjectKey>) -> Diff {
        catalog.retain_slices(present)
    }
}

impl Watched for Pod {
    fn apply(catalog: &mut Catalog, object: &Self) -> Diff {
        catalog.apply_pod(object)
    }
    fn delete(catalog: &mut Catalog, key: &ObjectKey) -> Diff {
        catalog.delete_pod(key)
    }
    fn retain(catalog: &mut Catalog, present: &HashSet<ObjectKey>) -> Diff {
        catalog.retain_pods(present)
    }
}

/// A ServiceImport of any version.
impl Watched for DynamicObject {
    fn apply(catalog: &mut Catalog, object: &Self) -> Diff {
        match object.clone().try_parse::<ServiceImport>() {
            Ok(import) => catalog.apply_import(&import),
            // One that can't be read keeps nobody from the others.
            Err(error) => {
                let key = ObjectKey::of(&object.metadata);
                let mut diff = catalog.delete_import(&key);
                diff.refused.push(format!("ServiceImport {key}: it can't be read: {error}"));
                diff
            }
        }
    }
    fn delete(catalog: &mut Catalog, key: &ObjectKey) -> Diff {
        catalog.delete_import(key)
    }
    fn retain(catalog: &mut Catalog, present: &HashSet<ObjectKey>) -> Diff {
        catalog.retain_imports(present)
    }
}

impl Progress {
    fn new(kind: &'static str) -> Self {
        Self { kind, listed: HashSet::new(), is_complete: false, is_failing: false }
    }

    fn observe<K: Watched>(&mut self, event: watcher::Result<Event<K>>, catalog: &mut Catalog) -> Diff {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                self.fails(&error);
                return Diff::default();
            }
        };
        self.works(&event);
        match event {
            Event::Init => {
                self.listed.clear();
                Diff::default()
            }
            Event::InitApply(object) => {
                self.listed.insert(ObjectKey::of(object.meta()));
                K::apply(catalog, &object)
            }
            Event::InitDone => {
                self.is_complete = true;
                K::retain(catalog, &std::mem::take(&mut self.listed))
            }
            Event::Apply(object) => K::apply(catalog, &object),
            Event::Delete(object) => K::delete(catalog, &ObjectKey::of(object.meta())),
        }
    }

    /// That a list begins does not say that it comes.
    fn works<K>(&mut self, event: &Event<K>) {
        if !matches!(event, Event::Init) && std::mem::take(&mut self.is_failing) {
            tracing::info!("{} are watched again", self.kind);
        }
    }

    /// A watch that merely ended is no failure: it is taken up where it ended.
    fn fails(&mut self, error: &watcher::Error) {
        if std::mem::replace(&mut self.is_failing, true) {
            return;
        }
        if imports::status(error).is_some_and(|status| status.is_forbidden()) {
            tracing::warn!(
                %error,
                "{} may not be read; names that depend on them are answered with SERVFAIL until a ClusterRole with the \
                 verbs list and watch allows it, which is tried again and again",
                self.kind
            );
        } else {
            tracing::warn!(
                %error,
                "{} can't be watched; what is known stays, and it is tried again",
                self.kind
            );
        }
    }

    /// There are no such objects, since the API has no such kind.
    fn is_missing(&mut self) {
        self.listed.clear();
        self.is_failing = false;
        self.is_complete = true;
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
