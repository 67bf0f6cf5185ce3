//! The loop that holds all together.

mod report;
mod services;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1 as core;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tombolo_emitter::secrets;
use tombolo_proxy::ServiceKey;
use tombolo_services::clusters::ClusterId;
use tombolo_services::{Here, Timestamp};

use crate::emit::{self, Feed};
use crate::health::{self, Readiness};
use crate::kinds::Kind;
use crate::leader;
use crate::metrics::Metrics;
use crate::options::{Options, SourceOptions};
use crate::own::{Concerned, Own};
use crate::pool::Pool;
use crate::remote::Remote;
use crate::source::Heard;
use crate::status::{self, Row};
use crate::watch::{ABSENT, Scope, Seen, follow, words};
use crate::words::Words;
use crate::writer::Done;

/// So many services are written at a time.
const WRITERS: usize = 64;
/// So many are planned before the world is looked at again.
const PLANS: usize = 256;
/// So many events are taken in before something is planned.
const BATCH: usize = 512;
/// Pauses after a write that failed.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(60));
/// How often the state of the sources is written, at most.
const STATUS: Duration = Duration::from_secs(1);

enum Message {
    Own(Seen),
    /// Of the connection of this number.
    Source(u64, Heard),
}

type Job = (ServiceKey, Vec<Done>);

struct Connection {
    options: SourceOptions,
    number: u64,
    stop: CancellationToken,
}

struct Engine {
    client: Client,
    options: Arc<Options>,
    sender: mpsc::Sender<Message>,
    own: Own,
    here: Here,
    remotes: Vec<Remote>,
    /// In the order of `remotes`.
    connections: Vec<Connection>,
    next_number: u64,
    admitted: BTreeMap<ClusterId, String>,
    pool: Pool,
    dirty: BTreeSet<ServiceKey>,
    busy: BTreeSet<ServiceKey>,
    retries: BTreeMap<ServiceKey, (Instant, Duration)>,
    jobs: JoinSet<Job>,
    services: Words<ServiceKey>,
    sources: Words<String>,
    conflicts: BTreeMap<ServiceKey, Vec<String>>,
    leads: watch::Receiver<bool>,
    has_begun: bool,
    troubles: BTreeMap<Kind, String>,
    feed: Option<Feed>,
    written: BTreeMap<String, Row>,
    status_job: Option<tokio::task::JoinHandle<bool>>,
    status_due: Option<Instant>,
    is_confirmation_done: bool,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
}

/// Mirrors and imports until `stop`. What stands then stays.
///
/// # Errors
/// Where `--listen` or `--emit` cannot be listened on, or the emitter's key cannot be kept.
pub async fn run(client: Client, options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let options = Arc::new(options);
    let (metrics, readiness) = (Arc::new(Metrics::default()), Arc::new(Readiness::default()));
    if let Some(address) = options.listen {
        health::serve(address, Arc::clone(&readiness), Arc::clone(&metrics)).await?;
    }
    make_namespace(&client, &options.own_namespace).await;
    let (leads, leading) = watch::channel(options.identity.is_none());
    let election = options.identity.clone().map(|identity| {
        let namespace = options.own_namespace.clone();
        // Who is dropped must not go on holding the Lease.
        AbortOnDropHandle::new(tokio::spawn(leader::elect(client.clone(), namespace, identity, leads, stop.clone())))
    });
    let renewal = emit::renew(client.clone(), options.own_namespace.clone(), leading.clone());
    let _renewal = AbortOnDropHandle::new(tokio::spawn(renewal));
    let (sender, messages) = mpsc::channel(4096);
    let mut engine = Engine::new(client, Arc::clone(&options), sender, leading, metrics, readiness);
    if let Some(emit) = &options.emit {
        let emitter = emit::start(&engine.client, &options.own_namespace, emit, stop.clone()).await?;
        let feed = Feed::new(emitter, options.export_choice.clone());
        engine.metrics.with(|registry| feed.metrics().register(registry));
        engine.feed = Some(feed);
    }
    engine.watch_own();
    engine.follow_loop(messages, &stop).await;
    // What is on its way is written to its end, before another one leads.
    let rest = async { while engine.jobs.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(5), rest).await;
    if let Some(election) = election {
        let _ = election.await;
    }
    Ok(())
}

impl Engine {
    fn new(
        client: Client,
        options: Arc<Options>,
        sender: mpsc::Sender<Message>,
        leads: watch::Receiver<bool>,
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
    ) -> Self {
        Self {
            pool: Pool::new(&options.clusterset_cidrs),
            client,
            options,
            sender,
            own: Own::new(),
            here: Here::default(),
            remotes: Vec::new(),
            connections: Vec::new(),
            next_number: 0,
            admitted: BTreeMap::new(),
            dirty: BTreeSet::new(),
            busy: BTreeSet::new(),
            retries: BTreeMap::new(),
            jobs: JoinSet::new(),
            services: Words::new(),
            sources: Words::new(),
            conflicts: BTreeMap::new(),
            leads,
            has_begun: false,
            troubles: BTreeMap::new(),
            feed: None,
            written: BTreeMap::new(),
            status_job: None,
            status_due: None,
            is_confirmation_done: false,
            metrics,
            readiness,
        }
    }

    /// What of this cluster is watched.
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![
            Kind::Namespace,
            Kind::Node,
            Kind::ServiceCidr,
            Kind::Service,
            Kind::Slice,
            Kind::Export,
            Kind::Import,
            Kind::Property,
            Kind::Secret,
            Kind::ConfigMap,
        ];
        if self.options.legacy_endpoints || self.feed.is_some() {
            kinds.push(Kind::Endpoints);
        }
        kinds
    }

    fn watch_own(&self) {
        let namespace = Some(self.options.own_namespace.clone());
        for kind in self.kinds() {
            let scope = match kind {
                Kind::Secret => {
                    Scope { namespace: namespace.clone(), labels: Some(secrets::SOURCE.to_owned()), ..Scope::default() }
                }
                Kind::ConfigMap => {
                    let fields = Some(format!("metadata.name={}", status::NAME));
                    Scope { namespace: namespace.clone(), fields, ..Scope::default() }
                }
                // The emitter offers people's own, too.
                Kind::Endpoints if self.feed.is_none() => {
                    let label = format!("{}={}", tombolo_api::tombolo::MANAGED_BY_LABEL, tombolo_api::tombolo::MANAGER);
                    Scope { labels: Some(label), ..Scope::default() }
                }
                _ => Scope::default(),
            };
            tokio::spawn(follow(self.client.clone(), kind, scope, self.sender.clone(), Message::Own));
        }
    }

    async fn follow_loop(&mut self, mut messages: mpsc::Receiver<Message>, stop: &CancellationToken) {
        loop {
            let pause = self.pause();
            tokio::select! {
                () = stop.cancelled() => return,
                Some(message) = messages.recv() => {
                    let mut batch = vec![message];
                    while batch.len() < BATCH && let Ok(message) = messages.try_recv() {
                        batch.push(message);
                    }
                    self.take_in(batch);
                }
                Some(job) = self.jobs.join_next() => self.done(job),
                Ok(()) = self.leads.changed() => {
                    self.metrics.leads.set(i64::from(*self.leads.borrow_and_update()));
                    self.concern(Concerned::all());
                }
                () = tokio::time::sleep(pause) => self.attend(None),
            }
            self.start_jobs();
            self.write_status().await;
        }
    }

    /// How long nothing has to be done, if nothing is heard.
    fn pause(&self) -> Duration {
        if self.can_write() && self.jobs.len() < WRITERS && self.dirty.iter().any(|key| self.is_free(key)) {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let retry = self.retries.values().map(|(at, _)| at.saturating_duration_since(now)).min();
        let status = self.status_due.map(|at| at.saturating_duration_since(now));
        let clock = self::now();
        let standing = self.remotes.iter().filter_map(|remote| remote.deadline(clock, &self.options.limits)).min();
        let standing = standing.map(|at| at.since(clock) + Duration::from_millis(10));
        let longest = Duration::from_secs(30);
        [retry, status, standing].into_iter().flatten().fold(longest, Duration::min).max(Duration::from_millis(1))
    }

    fn can_write(&self) -> bool {
        self.has_begun && *self.leads.borrow()
    }

    fn take_in(&mut self, batch: Vec<Message>) {
        let mut concerned = Concerned::default();
        let mut touched = BTreeSet::new();
        let mut has_sources = false;
        for message in batch {
            match message {
                Message::Own(seen) => {
                    has_sources |= seen.kind() == Kind::Secret;
                    match &seen {
                        Seen::Trouble(kind, words) | Seen::Denied(kind, words) => {
                            tracing::warn!("{words}");
                            self.troubles.insert(*kind, words.clone());
                        }
                        Seen::All(kind, _, version) => {
                            self.troubles.remove(kind);
                            if (*kind, *version) == (Kind::Import, ABSENT) {
                                let next = "kubectl apply -f deploy/crds, and it begins by itself";
                                tracing::info!(next, "ServiceImports are not served here: nothing is imported");
                            }
                        }
                        Seen::Refused(kind, key, why) => {
                            tracing::warn!(object = %format!("{} {key}", kind.name()), why, "cannot be read");
                        }
                        _ => {}
                    }
                    if let Some(feed) = &mut self.feed {
                        feed.apply(&seen);
                    }
                    concerned.add(self.own.apply(seen));
                }
                Message::Source(number, heard) => {
                    let Some(place) = self.connections.iter().position(|c| c.number == number) else { continue };
                    touched.insert(place);
                    match heard {
                        Heard::Seen(seen) => {
                            if let Seen::Trouble(_, words) | Seen::Denied(_, words) = &seen {
                                tracing::warn!(source = self.remotes[place].name, "{words}");
                            }
                            concerned.add(self.remotes[place].apply(seen));
                        }
                        Heard::Contact(lost) => self.contact(place, lost),
                    }
                }
            }
        }
        let is_whole = self.own.is_whole(&self.kinds());
        self.readiness.set((!is_whole).then(|| self.unready()));
        if is_whole {
            if has_sources || !self.has_begun {
                self.connect();
            }
            self.confirm();
            let id = self.id();
            if let Some(feed) = &mut self.feed {
                feed.set_id(id);
                feed.set_ready();
            }
        }
        if is_whole && !self.has_begun {
            self.has_begun = true;
            self.admitted = self.own.status.as_ref().map(status::known).unwrap_or_default();
            self.dirty.extend(self.own.empty_namespaces());
            concerned = Concerned::all();
            touched.extend(0..self.remotes.len());
        }
        self.concern(concerned);
        self.attend(Some(touched));
    }

    fn unready(&self) -> String {
        match self.troubles.values().next() {
            Some(words) => words.clone(),
            None => "this cluster's objects are being listed".to_owned(),
        }
    }

    fn id(&self) -> Option<ClusterId> {
        let said = self.own.id().and_then(|id| id.as_ref().ok());
        self.options.cluster_id.as_ref().or(said).cloned()
    }
}

/// Makes the namespace of our own objects, where there is none: on a cluster that nothing was installed in.
async fn make_namespace(client: &Client, name: &str) {
    let api: Api<core::Namespace> = Api::all(client.clone());
    let namespace = core::Namespace {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..core::Namespace::default()
    };
    match api.create(&PostParams::default(), &namespace).await {
        Ok(_) => tracing::info!(namespace = name, "was made for this controller's own objects"),
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
        Err(error) => tracing::debug!(namespace = name, error = words(&error), "cannot be made"),
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_secs().try_into().unwrap_or(i64::MAX))
}
