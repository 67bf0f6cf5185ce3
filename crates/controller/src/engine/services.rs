//! The services: marked when something concerns them, planned anew, and written.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::Instant;

use tokio::task::JoinError;
use tombolo_proxy::ServiceKey;
use tombolo_services::clusters::ClusterId;

use super::{Engine, Job, PLANS, RETRY, WRITERS};
use crate::events::Word;
use crate::kinds::Kind;
use crate::metrics::{ByKind, BySource};
use crate::own::{Concerned, the_namespace};
use crate::plan::{self, World};
use crate::writer;

impl Engine {
    /// Marks what is to be planned anew.
    pub(super) fn concern(&mut self, concerned: Concerned) {
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

    pub(super) fn start_jobs(&mut self) {
        self.metrics.waiting.set(self.dirty.len().try_into().unwrap_or(i64::MAX));
        if !self.can_write() {
            return;
        }
        let id = self.id();
        let mut planned = 0;
        let mut from: Option<ServiceKey> = None;
        while self.jobs.len() < WRITERS && planned < PLANS {
            let range = match &from {
                Some(key) => self.dirty.range((Bound::Excluded(key), Bound::Unbounded)),
                None => self.dirty.range::<ServiceKey, _>(..),
            };
            let Some(key) = range.into_iter().find(|key| self.is_free(key)).cloned() else { break };
            from = Some(key.clone());
            self.dirty.remove(&key);
            if self.retries.get(&key).is_some_and(|(at, _)| *at > Instant::now()) {
                continue;
            }
            planned += 1;
            self.plan(key, id.as_ref());
        }
    }

    /// Whether it can be planned now: nothing is being written for it, nor for anything else in a Namespace that is
    /// itself to be looked at.
    pub(super) fn is_free(&self, key: &ServiceKey) -> bool {
        if *key != the_namespace(&key.namespace) {
            return !self.busy.contains(key);
        }
        let after = (Bound::Excluded(key), Bound::Unbounded);
        let is_in = |next: Option<&ServiceKey>| next.is_some_and(|next| next.namespace == key.namespace);
        !is_in(self.busy.range(key..).next()) && !is_in(self.dirty.range::<ServiceKey, _>(after).next())
    }

    pub(super) fn plan(&mut self, key: ServiceKey, id: Option<&ClusterId>) {
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

    pub(super) fn count_conflicts(&mut self, key: &ServiceKey, sources: Vec<String>) {
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

    pub(super) fn done(&mut self, job: Result<Job, JoinError>) {
        let Ok((key, done)) = job else { return };
        self.busy.remove(&key);
        let mut has_failed = false;
        let mut concerned = Concerned::default();
        for done in done {
            let by = ByKind { kind: done.kind.name() };
            match done.result {
                Ok(answer) => {
                    self.metrics.writes.get_or_create(&by).inc();
                    concerned.add(self.own.wrote(&done.change, done.uid.as_deref(), answer));
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
}
