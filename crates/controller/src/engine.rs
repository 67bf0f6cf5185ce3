//! The loop that holds all together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tombolo_api::tombolo::{HELD_SINCE, STALE_SINCE};
use tombolo_emitter::secrets;
use tombolo_proxy::ServiceKey;
use tombolo_services::clusters::{self, ClusterId};
use tombolo_services::staleness::{Standing, Tracker};
use tombolo_services::{Here, Timestamp};

use crate::emit::{self, Feed};
use crate::events::Word;
use crate::health::{self, Readiness};
use crate::kinds::Kind;
use crate::leader;
use crate::metrics::{ByKind, BySource, ByStanding, Metrics};
use crate::options::{Location, Options, SourceOptions};
use crate::own::{Concerned, Own};
use crate::plan::{self, World};
use crate::pool::Pool;
use crate::remote::Remote;
use crate::source::{self, Heard};
use crate::status::{self, Row};
use crate::watch::{Scope, Seen, follow};
use crate::words::Words;
use crate::writer::{self, Done};

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
    let (leads, leading) = watch::channel(options.identity.is_none());
    let election = options.identity.clone().map(|identity| {
        let namespace = options.own_namespace.clone();
        tokio::spawn(leader::elect(client.clone(), namespace, identity, leads, stop.clone()))
    });
    let renewal = emit::renew(client.clone(), options.own_namespace.clone(), leading.clone());
    let renewal = tokio::spawn(renewal);
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
    renewal.abort();
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
                    Scope { namespace: namespace.clone(), labels: Some(secrets::SOURCE.to_owned()), fields: None }
                }
                Kind::ConfigMap => {
                    let fields = Some(format!("metadata.name={}", status::NAME));
                    Scope { namespace: namespace.clone(), labels: None, fields }
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
        if self.can_write() && self.jobs.len() < WRITERS && self.dirty.iter().any(|key| !self.busy.contains(key)) {
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
        for message in batch {
            match message {
                Message::Own(seen) => {
                    match &seen {
                        Seen::Trouble(kind, words) => {
                            tracing::warn!("{words}");
                            self.troubles.insert(*kind, words.clone());
                        }
                        Seen::All(kind, ..) => drop(self.troubles.remove(kind)),
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
                            if let Seen::Trouble(_, words) = &seen {
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
            self.connect();
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
            concerned = Concerned::all();
            touched.extend(0..self.remotes.len());
        }
        self.concern(concerned);
        self.attend(Some(touched));
    }

    fn contact(&mut self, place: usize, lost: Option<String>) {
        let remote = &mut self.remotes[place];
        match &lost {
            None => tracing::info!(source = remote.name, "is reached"),
            Some(words) if remote.trouble().as_ref() != Some(words) => {
                tracing::warn!(source = remote.name, "cannot be reached: {words}; what it offered stands meanwhile");
            }
            Some(_) => {}
        }
        remote.contact(lost);
    }

    fn unready(&self) -> String {
        match self.troubles.values().next() {
            Some(words) => words.clone(),
            None => "this cluster's objects are being listed".to_owned(),
        }
    }

    /// Marks what is to be planned anew.
    fn concern(&mut self, concerned: Concerned) {
        self.dirty.extend(concerned.services);
        if concerned.all || !concerned.sources.is_empty() {
            self.admit();
        }
        if concerned.all {
            self.here = self.own.here(&self.options.cluster_cidrs);
            self.dirty.extend(self.own.kept.units());
            self.dirty.extend(self.own.local.export_names().cloned());
            for remote in &self.remotes {
                self.dirty.extend(remote.source.keys().into_iter().cloned());
            }
            return;
        }
        for namespace in &concerned.namespaces {
            self.dirty.extend(self.own.kept.units_in(namespace));
            self.dirty.extend(self.own.local.keys_in(namespace).cloned());
            for remote in &self.remotes {
                self.dirty.extend(remote.source.keys_in(namespace).cloned());
            }
        }
        for name in &concerned.sources {
            let id = self.admitted.iter().find(|(_, source)| *source == name).map(|(id, _)| id);
            let kept = &self.own.kept;
            self.dirty.extend(kept.mirrors_of(name).map(|(key, _)| key.clone()));
            if let Some(id) = id {
                let imports = kept.all_imports().filter(|(_, import)| import.clusters.contains(id));
                self.dirty.extend(imports.map(|(key, _)| key.clone()));
            }
            if let Some(remote) = self.remotes.iter().find(|remote| remote.name == *name) {
                self.dirty.extend(remote.source.keys().into_iter().cloned());
            }
        }
    }

    fn id(&self) -> Option<ClusterId> {
        let said = self.own.id().and_then(|id| id.as_ref().ok());
        self.options.cluster_id.as_ref().or(said).cloned()
    }

    /// Which source has which id.
    fn admit(&mut self) {
        let known = std::mem::take(&mut self.admitted);
        let of = |remote: &Remote| {
            let before = known.iter().find(|(_, name)| **name == remote.name).map(|(id, _)| id.clone());
            let id = if remote.is_heard() { remote.id().ok() } else { before };
            id.map(|id| (remote.name.clone(), id))
        };
        let claims: BTreeMap<String, ClusterId> = self.remotes.iter().filter_map(of).collect();
        let Some(own) = self.id() else {
            self.admitted = known;
            return;
        };
        let (admitted, refused) = clusters::admit(&own, &known, &claims);
        // Whose id has come to another source, or is nobody's any more.
        let moved = known.iter().filter(|(id, name)| admitted.get(*id) != Some(*name)).map(|(id, _)| id);
        let new = admitted.iter().filter(|(id, name)| known.get(*id) != Some(*name)).map(|(id, _)| id);
        let moved: BTreeSet<&ClusterId> = moved.chain(new).collect();
        if !moved.is_empty() {
            let names = |import: &tombolo_services::Import| import.clusters.iter().any(|id| moved.contains(id));
            let imports = self.own.kept.all_imports().filter(|(_, import)| names(import));
            self.dirty.extend(imports.map(|(key, _)| key.clone()));
            for remote in self.remotes.iter().filter(|remote| remote.id().is_ok_and(|id| moved.contains(&id))) {
                self.dirty.extend(remote.source.export_names().cloned());
            }
        }
        self.admitted = admitted;
        for remote in &self.remotes {
            let mut words: BTreeSet<String> = remote.refused().map(ToString::to_string).collect();
            words.extend(remote.id().err());
            let clash = format!("source {}", remote.name);
            words.extend(refused.iter().filter(|refusal| refusal.object == clash).map(ToString::to_string));
            let words = words.into_iter().map(|message| self.on_sources("SourceRefused", message)).collect();
            let client = self.leads.borrow().then_some(&self.client);
            self.sources.say(remote.name.clone(), words, client);
        }
    }

    fn on_sources(&self, reason: &'static str, message: String) -> Word {
        let key = ServiceKey::new(&self.options.own_namespace, status::NAME);
        let uid = self.own.status.as_ref().and_then(|map| map.metadata.uid.clone());
        Word { kind: Kind::ConfigMap, key, uid, reason, message }
    }

    /// Follows the settings and the Secrets: sources that are new are connected to, others are left.
    fn connect(&mut self) {
        let named = self.options.sources.iter().cloned();
        let more = self
            .own
            .sources()
            .into_iter()
            .map(|(name, text)| SourceOptions { name: name.to_owned(), location: Location::Text(text.to_owned()) });
        let mut wanted: Vec<SourceOptions> = named.collect();
        for source in more {
            if !wanted.iter().any(|other| other.name == source.name) {
                wanted.push(source);
            }
        }
        if wanted.iter().eq(self.connections.iter().map(|connection| &connection.options)) {
            return;
        }
        let mut old: Vec<(Connection, Remote)> = self.connections.drain(..).zip(self.remotes.drain(..)).collect();
        for options in wanted {
            let place = old.iter().position(|(connection, _)| connection.options.name == options.name);
            let before = place.map(|place| old.swap_remove(place));
            let (connection, remote) = match before {
                Some((connection, remote)) if connection.options == options => (connection, remote),
                Some((connection, remote)) => {
                    connection.stop.cancel();
                    (self.begin(options), remote)
                }
                None => {
                    let remote = Remote::new(&options.name, self.options.mode);
                    (self.begin(options), remote)
                }
            };
            self.connections.push(connection);
            self.remotes.push(remote);
        }
        for (connection, remote) in old {
            tracing::info!(source = remote.name, "is no source any more: what it offered is withdrawn");
            connection.stop.cancel();
            self.sources.say(remote.name.clone(), BTreeSet::new(), None);
        }
        self.concern(Concerned::all());
    }

    fn begin(&mut self, options: SourceOptions) -> Connection {
        let number = self.next_number;
        self.next_number += 1;
        let stop = CancellationToken::new();
        // One namespace needs rights in that one only.
        let mut namespaces = self.options.choice.namespaces.iter();
        let namespace = match (namespaces.next(), namespaces.next()) {
            (Some(only), None) => Some(only.clone()),
            _ => None,
        };
        let make = move |heard| Message::Source(number, heard);
        tokio::spawn(source::run(options.location.clone(), namespace, self.sender.clone(), make, stop.clone()));
        Connection { options, number, stop }
    }

    fn confirm(&mut self) {
        let Some(map) = &self.own.status else { return };
        for name in status::confirmed(map) {
            if let Some(remote) = self.remotes.iter_mut().find(|remote| remote.name == name) {
                remote.confirmed = true;
                self.is_confirmation_done = true;
            }
        }
    }

    /// Looks at what the sources count for; all, where it is only time that has passed.
    fn attend(&mut self, touched: Option<BTreeSet<usize>>) {
        if !self.has_begun {
            return;
        }
        self.retries.retain(|key, (at, _)| {
            let is_due = *at <= Instant::now();
            if is_due {
                self.dirty.insert(key.clone());
            }
            !is_due || self.busy.contains(key)
        });
        let places: Vec<usize> = match touched {
            Some(touched) => touched.into_iter().filter(|place| *place < self.remotes.len()).collect(),
            None => (0..self.remotes.len()).collect(),
        };
        let mut changed = Concerned::default();
        for place in places {
            let before = self.remotes[place].source.standing;
            let (kept, admitted, choice) = (&self.own.kept, &self.admitted, &self.options.choice);
            let remote = &mut self.remotes[place];
            let name = remote.name.clone();
            let recover = || recover(kept, admitted, choice, &name);
            let standing = remote.observe(choice, now(), &self.options.limits, recover);
            remote.source.standing = standing;
            if standing != before {
                say_standing(&name, standing, remote.trouble());
                changed.sources.insert(name);
            }
        }
        let has_changed = !changed.sources.is_empty();
        self.concern(changed);
        // The ids are in it that the next start goes by, so that news of a standing is written soon.
        let due = Instant::now() + if has_changed { STATUS / 10 } else { STATUS };
        self.status_due = Some(self.status_due.map_or(due, |at| at.min(due)));
    }

    fn start_jobs(&mut self) {
        self.metrics.waiting.set(self.dirty.len().try_into().unwrap_or(i64::MAX));
        if !self.can_write() {
            return;
        }
        let id = self.id();
        let mut planned = 0;
        let mut from: Option<ServiceKey> = None;
        while self.jobs.len() < WRITERS && planned < PLANS {
            let range = match &from {
                Some(key) => self.dirty.range((std::ops::Bound::Excluded(key), std::ops::Bound::Unbounded)),
                None => self.dirty.range::<ServiceKey, _>(..),
            };
            let Some(key) = range.into_iter().find(|key| !self.busy.contains(*key)).cloned() else { break };
            from = Some(key.clone());
            self.dirty.remove(&key);
            if self.retries.get(&key).is_some_and(|(at, _)| *at > Instant::now()) {
                continue;
            }
            planned += 1;
            self.plan(key, id.as_ref());
        }
    }

    fn plan(&mut self, key: ServiceKey, id: Option<&ClusterId>) {
        let world = World {
            own: &self.own,
            remotes: &self.remotes,
            admitted: &self.admitted,
            id,
            here: &self.here,
            choice: &self.options.choice,
            mirrors: self.options.mirror,
            imports: self.options.mcs,
            legacy_endpoints: self.options.legacy_endpoints,
        };
        let plan = plan::plan(&key, &world, &mut self.pool);
        let uid = self.own.foreign.get(&key).cloned();
        let uid = uid.or_else(|| self.own.kept.service(&key).map(|service| service.uid.clone()));
        let mut words = BTreeSet::new();
        words.extend(plan.conflicts.iter().map(|conflict| Word {
            kind: Kind::Service,
            key: key.clone(),
            uid: uid.clone(),
            reason: "MirrorConflict",
            message: conflict.to_string(),
        }));
        words.extend(plan.refused.iter().map(|(kind, refused)| Word {
            kind: *kind,
            key: key.clone(),
            uid: uid.clone().filter(|_| *kind == Kind::Service),
            reason: "Refused",
            message: refused.to_string(),
        }));
        self.services.say(key.clone(), words, Some(&self.client));
        self.count_conflicts(&key, plan.conflicts.into_iter().map(|conflict| conflict.source_name).collect());
        let steps = writer::steps(plan.changes, &self.own);
        if steps.is_empty() {
            self.retries.remove(&key);
            return;
        }
        self.busy.insert(key.clone());
        let client = self.client.clone();
        self.jobs.spawn(async move {
            let done = writer::write(client, steps).await;
            (key, done)
        });
    }

    fn count_conflicts(&mut self, key: &ServiceKey, sources: Vec<String>) {
        let before = if sources.is_empty() {
            self.conflicts.remove(key)
        } else {
            self.conflicts.insert(key.clone(), sources.clone())
        };
        let gauge = |source: &String| self.metrics.conflicts.get_or_create_owned(&BySource { source: source.clone() });
        before.iter().flatten().for_each(|source| {
            gauge(source).dec();
        });
        sources.iter().for_each(|source| {
            gauge(source).inc();
        });
    }

    fn done(&mut self, job: Result<Job, tokio::task::JoinError>) {
        let Ok((key, done)) = job else { return };
        self.busy.remove(&key);
        let mut has_failed = false;
        let mut concerned = Concerned::default();
        for done in done {
            let by = ByKind { kind: done.kind.name() };
            match done.result {
                Ok(answer) => {
                    self.metrics.writes.get_or_create(&by).inc();
                    concerned.add(self.own.wrote(&done.change, answer));
                }
                Err(error) => {
                    self.metrics.failures.get_or_create(&by).inc();
                    let is_first = !self.retries.contains_key(&key);
                    if is_first {
                        tracing::warn!("{error}");
                    } else {
                        tracing::debug!("{error}");
                    }
                    has_failed = true;
                }
            }
        }
        if has_failed {
            let pause = self.retries.get(&key).map_or(RETRY.0, |(_, pause)| (*pause * 2).min(RETRY.1));
            self.retries.insert(key, (Instant::now() + pause, pause));
        } else {
            self.retries.remove(&key);
        }
        self.concern(concerned);
    }

    /// Writes how the sources are, where it has changed.
    async fn write_status(&mut self) {
        if self.status_job.as_ref().is_some_and(tokio::task::JoinHandle::is_finished)
            && let Some(job) = self.status_job.take()
            && !job.await.unwrap_or(false)
        {
            // Tried again when there is something new to say, or in a while.
            self.written.clear();
            self.status_due = Some(Instant::now() + RETRY.1);
        }
        if self.status_job.is_some() || self.status_due.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.status_due = None;
        let rows: BTreeMap<String, Row> =
            self.remotes.iter().map(|remote| (remote.name.clone(), self.row(remote))).collect();
        self.count(&rows);
        let is_said = rows == self.written && !self.is_confirmation_done;
        if !self.can_write() || is_said || (rows.is_empty() && self.own.status.is_none()) {
            return;
        }
        self.written = rows.clone();
        let is_done = std::mem::take(&mut self.is_confirmation_done);
        let (client, namespace) = (self.client.clone(), self.options.own_namespace.clone());
        self.status_job = Some(tokio::spawn(status::write(client, namespace, rows, is_done)));
    }

    fn row(&self, remote: &Remote) -> Row {
        let standing = remote.source.standing;
        let mut problems: Vec<String> = Vec::new();
        if !matches!(standing, Standing::Live | Standing::Held { .. }) {
            problems.extend(remote.trouble());
        }
        if let Standing::Held { since } = standing {
            problems.push(held(&remote.name, since));
        }
        problems.extend(remote.id().err());
        problems.extend(remote.refused().take(10).map(ToString::to_string));
        let cluster = self.admitted.iter().find(|(_, name)| **name == remote.name).map(|(id, _)| id.to_string());
        if let (None, Ok(id), true) = (&cluster, remote.id(), self.id().is_some() && remote.is_heard()) {
            problems.push(format!("its id {id} is that of another cluster: nothing of it is imported"));
        }
        Row {
            standing: name_of(standing).to_owned(),
            cluster,
            services: remote.source.offered(&self.options.choice),
            exports: remote.source.exported(),
            problems,
        }
    }

    fn count(&self, rows: &BTreeMap<String, Row>) {
        for (source, row) in rows {
            for standing in ["Waiting", "Live", "Held", "Stale", "Gone"] {
                let gauge = self.metrics.standing.get_or_create_owned(&ByStanding { source: source.clone(), standing });
                gauge.set(i64::from(row.standing == standing));
            }
            let gauge = self.metrics.offered.get_or_create_owned(&BySource { source: source.clone() });
            gauge.set((row.services + row.exports).try_into().unwrap_or(i64::MAX));
        }
        let number = |count: usize| count.try_into().unwrap_or(i64::MAX);
        self.metrics.refused.set(number(self.services.count() + self.sources.count()));
        self.metrics.mirrors.set(number(self.own.kept.mirrors().count()));
        self.metrics.imports.set(number(self.own.kept.all_imports().count()));
    }
}

/// From what stands here of a source, after a start.
fn recover(
    kept: &crate::own::Kept,
    admitted: &BTreeMap<ClusterId, String>,
    choice: &tombolo_services::mirrors::Choice,
    name: &str,
) -> Tracker {
    let id = admitted.iter().find(|(_, source)| *source == name).map(|(id, _)| id);
    let mut count = kept.all_imports().filter(|(_, import)| id.is_some_and(|id| import.clusters.contains(id))).count();
    let (mut stale, mut held) = (None, None);
    for (key, service) in kept.mirrors_of(name) {
        if !choice.chooses(key, &service.labels) {
            continue;
        }
        count += 1;
        let mark = |name: &str| Some(Timestamp(service.annotations.get(name)?.parse().ok()?));
        stale = [stale, mark(STALE_SINCE)].into_iter().flatten().min();
        held = [held, mark(HELD_SINCE)].into_iter().flatten().min();
    }
    Tracker::recover(count, stale, held)
}

fn say_standing(source: &str, standing: Standing, trouble: Option<String>) {
    let trouble = trouble.unwrap_or_default();
    match standing {
        Standing::Waiting => {}
        Standing::Live => tracing::info!(source, "is live"),
        Standing::Stale { .. } => {
            tracing::warn!(
                source,
                trouble,
                "is stale: what it offered stays, and is marked, until --stale-after has passed"
            );
        }
        Standing::Gone => {
            tracing::warn!(source, trouble, "was out of reach for --stale-after: what it offered is withdrawn")
        }
        Standing::Held { since } => tracing::warn!(source, "{}", held(source, since)),
    }
}

fn held(source: &str, since: Timestamp) -> String {
    format!(
        "nearly all that it offered is gone at once (since {} UTC), and is kept for now; if it is meant to be gone: kubectl \
         annotate configmap {} {}={source}",
        utc(since),
        status::NAME,
        tombolo_api::tombolo::CONFIRM_DELETION
    )
}

fn utc(time: Timestamp) -> String {
    k8s_openapi::jiff::Timestamp::from_second(time.0).map_or_else(|_| time.0.to_string(), |time| time.to_string())
}

fn name_of(standing: Standing) -> &'static str {
    match standing {
        Standing::Waiting => "Waiting",
        Standing::Live => "Live",
        Standing::Held { .. } => "Held",
        Standing::Stale { .. } => "Stale",
        Standing::Gone => "Gone",
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_secs().try_into().unwrap_or(i64::MAX))
}
