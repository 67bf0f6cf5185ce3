//! The sources: connected to, told apart by their ids, and judged by what they count for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tombolo_api::tombolo::{HELD_SINCE, STALE_SINCE};
use tombolo_proxy::ServiceKey;
use tombolo_services::Timestamp;
use tombolo_services::clusters::{self, ClusterId};
use tombolo_services::staleness::{Standing, Tracker};

use super::report::held;
use super::{Connection, Engine, Message, STATUS, now};
use crate::events::Word;
use crate::kinds::Kind;
use crate::options::{Location, SourceOptions};
use crate::own::Concerned;
use crate::remote::Remote;
use crate::source;
use crate::status;

impl Engine {
    pub(super) fn contact(&mut self, place: usize, lost: Option<String>) {
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

    /// Which source has which id.
    pub(super) fn admit(&mut self) {
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

    pub(super) fn on_sources(&self, reason: &'static str, message: String) -> Word {
        let key = ServiceKey::new(&self.options.own_namespace, status::NAME);
        let uid = self.own.status.as_ref().and_then(|map| map.metadata.uid.clone());
        Word { kind: Kind::ConfigMap, key, uid, reason, message }
    }

    /// Follows the settings and the Secrets: sources that are new are connected to, others are left.
    pub(super) fn connect(&mut self) {
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

    pub(super) fn begin(&mut self, options: SourceOptions) -> Connection {
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

    pub(super) fn confirm(&mut self) {
        let Some(map) = &self.own.status else { return };
        for name in status::confirmed(map) {
            if let Some(remote) = self.remotes.iter_mut().find(|remote| remote.name == name) {
                remote.confirmed = true;
                self.is_confirmation_done = true;
            }
        }
    }

    /// Looks at what the sources count for; all, where it is only time that has passed.
    pub(super) fn attend(&mut self, touched: Option<BTreeSet<usize>>) {
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
