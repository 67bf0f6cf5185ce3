//! What is known of another cluster.

use std::collections::{BTreeMap, BTreeSet};

use tombolo_api::about;
use tombolo_proxy::{Refused, ServiceKey};
use tombolo_services::clusters::ClusterId;
use tombolo_services::mirrors::Choice;
use tombolo_services::staleness::{Contact, Limits, Standing, Tracker};
use tombolo_services::{EndpointMode, Source, Timestamp, convert};

use crate::kinds::{Item, Kind};
use crate::own::Concerned;
use crate::watch::Seen;

/// What is watched of another cluster.
pub(crate) const KINDS: [Kind; 4] = [Kind::Service, Kind::Slice, Kind::Export, Kind::Property];

/// About how many bytes one source may take: some 100,000 Services with their endpoints.
const WEIGHT: usize = 128 << 20;
/// So much is said of one object, and of so many objects.
const SAID: (usize, usize) = (4, 1000);

/// Another cluster.
#[derive(Debug)]
pub(crate) struct Remote {
    pub name: String,
    /// What it offers, once all of it was heard.
    pub source: Source,
    /// What is being listed, until all of it is: half of it would take endpoints from what stands, and an emptied
    /// cluster would be known for what it is only when the endpoints are gone.
    coming: Option<Source>,
    mode: EndpointMode,
    tracker: Option<Tracker>,
    listed: BTreeSet<Kind>,
    troubles: BTreeMap<Kind, String>,
    /// What this account was never let see, and is done without.
    denied: BTreeMap<Kind, String>,
    /// Why it cannot be reached.
    lost: Option<String>,
    refused: BTreeMap<(Kind, ServiceKey), Vec<Refused>>,
    id: Option<Result<ClusterId, String>>,
    /// A person has said that what is gone is meant to be.
    pub confirmed: bool,
}

impl Remote {
    pub(crate) fn new(name: &str, mode: EndpointMode) -> Self {
        Self {
            name: name.to_owned(),
            source: Source::of(mode),
            coming: Some(Source::of(mode)),
            mode,
            tracker: None,
            listed: BTreeSet::new(),
            troubles: BTreeMap::new(),
            denied: BTreeMap::new(),
            lost: Some("not reached yet".to_owned()),
            refused: BTreeMap::new(),
            id: None,
            confirmed: false,
        }
    }

    /// Its id: its ClusterProperty, or its name here where it has none.
    pub(crate) fn id(&self) -> Result<ClusterId, String> {
        match &self.id {
            Some(id) => id.clone(),
            None => ClusterId::parse(&self.name).map_err(|error| error.to_string()),
        }
    }

    /// Whether its id is known: it is asked for with all the rest.
    pub(crate) fn is_heard(&self) -> bool {
        self.source.is_heard
    }

    /// Why nothing is heard of it; none where all is well.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.lost.clone().or_else(|| self.troubles.values().next().cloned()).or_else(|| {
            let missing = KINDS.iter().find(|kind| !self.listed.contains(kind))?;
            Some(format!("its {} are being listed", missing.name()))
        })
    }

    /// What this account may not see of it.
    pub(crate) fn denied(&self) -> impl Iterator<Item = &String> {
        self.denied.values()
    }

    /// What of its objects cannot be used.
    pub(crate) fn refused(&self) -> impl Iterator<Item = &Refused> {
        self.refused.values().flatten()
    }

    /// It answers, or does not.
    pub(crate) fn contact(&mut self, lost: Option<String>) {
        if lost.is_some() {
            // Everything is listed again when it is back.
            self.troubles.clear();
            self.listed.clear();
            self.refused.clear();
            self.coming = Some(Source::of(self.mode));
        }
        self.lost = lost;
    }

    /// Takes in an event, and says whom it concerns.
    pub(crate) fn apply(&mut self, seen: Seen) -> Concerned {
        match seen {
            Seen::Put(item) => self.put(item),
            Seen::Gone(kind, key) => self.gone(kind, &key),
            Seen::All(kind, items, _) => {
                self.troubles.remove(&kind);
                let mut concerned = Concerned::default();
                let mut missing = self.keys(kind);
                for item in items {
                    missing.remove(&item.key());
                    concerned.add(self.put(item));
                }
                missing.retain(|key| !self.is_unreadable(kind, key));
                for key in missing {
                    concerned.add(self.gone(kind, &key));
                }
                self.denied.remove(&kind);
                concerned.add(self.listed(kind));
                concerned
            }
            Seen::Denied(kind, words)
                if kind.may_be_absent() && (!self.source.is_heard || self.denied.contains_key(&kind)) =>
            {
                self.denied.insert(kind, words);
                self.listed(kind)
            }
            Seen::Refused(kind, key, reason) => {
                let object = format!("{} {key} of {}", kind.name(), self.name);
                let reason = format!("{reason}; what was known of it stands");
                self.remember((kind, key), vec![Refused { object, field: "object".to_owned(), reason }]);
                Concerned::default()
            }
            Seen::Trouble(kind, words) | Seen::Denied(kind, words) => {
                self.troubles.insert(kind, words);
                Concerned::default()
            }
        }
    }

    /// Once all is listed, that counts, all at once.
    fn arrive(&mut self) -> Concerned {
        if !KINDS.iter().all(|kind| self.listed.contains(kind)) {
            return Concerned::default();
        }
        let Some(mut new) = self.coming.take() else { return Concerned::default() };
        let is_first = !self.source.is_heard;
        let unreadable: Vec<(Kind, ServiceKey)> =
            self.refused.keys().filter(|(kind, key)| self.is_unreadable(*kind, key)).cloned().collect();
        for (kind, key) in unreadable {
            match kind {
                Kind::Service => new.keep_service(&self.source, &key),
                Kind::Slice => new.keep_slice(&self.source, &key),
                Kind::Export => new.keep_export(&self.source, &key),
                _ => {}
            }
        }
        (new.is_heard, new.standing) = (true, self.source.standing);
        let concerned = self.source.difference(&new);
        self.source = new;
        // From now on it is known which id it has.
        if is_first { Concerned::source(&self.name) } else { Concerned::these(concerned) }
    }

    /// What it counts for now. `standing` is how many mirrors and imports of it stood here when we started, with the
    /// earliest of their marks.
    pub(crate) fn observe(
        &mut self,
        choice: &Choice,
        now: Timestamp,
        limits: &Limits,
        recover: impl FnOnce() -> Tracker,
    ) -> Standing {
        let tracker = self.tracker.get_or_insert_with(recover);
        let is_whole = self.coming.is_none();
        let contact = if self.lost.is_none() && self.troubles.is_empty() && is_whole {
            let offered = self.source.offered(choice) + self.source.exported();
            Contact::Live { offered, confirmed: std::mem::take(&mut self.confirmed) }
        } else {
            Contact::Lost
        };
        tracker.observe(contact, now, limits)
    }

    /// When to look again.
    pub(crate) fn deadline(&self, now: Timestamp, limits: &Limits) -> Option<Timestamp> {
        self.tracker.as_ref()?.deadline(now, limits)
    }

    /// All of a kind was heard, or never will be.
    fn listed(&mut self, kind: Kind) -> Concerned {
        self.listed.insert(kind);
        self.arrive()
    }

    fn is_unreadable(&self, kind: Kind, key: &ServiceKey) -> bool {
        let refused = self.refused.get(&(kind, key.clone()));
        refused.is_some_and(|refused| refused.iter().any(|refusal| refusal.field == "object"))
    }

    fn now_source(&mut self) -> &mut Source {
        self.coming.as_mut().unwrap_or(&mut self.source)
    }

    fn keys(&self, kind: Kind) -> BTreeSet<ServiceKey> {
        let source = self.coming.as_ref().unwrap_or(&self.source);
        match kind {
            Kind::Service => source.service_names().cloned().collect(),
            Kind::Slice => source.slice_names().cloned().collect(),
            Kind::Export => source.export_names().cloned().collect(),
            Kind::Property => self.id.iter().map(|_| ServiceKey::new("", about::CLUSTER_ID)).collect(),
            _ => BTreeSet::new(),
        }
    }

    /// What is wrong is repeated, but not without end.
    fn remember(&mut self, about: (Kind, ServiceKey), refused: Vec<Refused>) {
        if self.refused.len() < SAID.1 || self.refused.contains_key(&about) {
            self.refused.insert(about, refused);
        }
    }

    fn note(&mut self, kind: Kind, key: &ServiceKey, mut refused: Vec<Refused>) {
        refused.truncate(SAID.0);
        for refusal in &mut refused {
            refusal.object = format!("{} of {}", refusal.object, self.name);
        }
        // What is never taken is nobody's worry: the API server's own endpoints are often a loopback address.
        let is_system = key.namespace == "kube-system" || *key == ServiceKey::new("default", "kubernetes");
        if refused.is_empty() || is_system {
            self.refused.remove(&(kind, key.clone()));
        } else {
            self.remember((kind, key.clone()), refused);
        }
    }

    fn put(&mut self, item: Item) -> Concerned {
        let key = item.key();
        if self.now_source().weight() > WEIGHT {
            let reason = format!(
                "it has more than {} MiB of Services and endpoints, and what comes then is left out; mirror less of it by \
                 --namespace",
                WEIGHT >> 20
            );
            let refused = Refused { object: format!("source {}", self.name), field: "all".to_owned(), reason };
            self.remember((Kind::ConfigMap, ServiceKey::new("", "")), vec![refused]);
            return Concerned::default();
        }
        match item {
            Item::Service(object) => {
                let (service, refused) = convert::service(&object);
                self.note(Kind::Service, &key, refused);
                let is_news = self.now_source().set_service(key.clone(), Some(service));
                self.concerns(is_news.then_some(key))
            }
            Item::Slice(object) => {
                let (slice, refused) = convert::slice(&object);
                self.note(Kind::Slice, &key, refused);
                let concerned = self.now_source().set_slice(key, slice);
                self.these(concerned)
            }
            Item::Export(object) => {
                self.note(Kind::Export, &key, Vec::new());
                let is_news = self.now_source().set_export(key.clone(), Some(convert::export(&object)));
                self.concerns(is_news.then_some(key))
            }
            Item::Property(object) if key.name == about::CLUSTER_ID => {
                let id = Some(ClusterId::parse(&object.spec.value).map_err(|error| error.to_string()));
                if std::mem::replace(&mut self.id, id.clone()) == id { Concerned::default() } else { Concerned::all() }
            }
            _ => Concerned::default(),
        }
    }

    fn gone(&mut self, kind: Kind, key: &ServiceKey) -> Concerned {
        self.refused.remove(&(kind, key.clone()));
        let source = self.now_source();
        match kind {
            Kind::Service => {
                let is_news = source.set_service(key.clone(), None);
                self.concerns(is_news.then(|| key.clone()))
            }
            Kind::Slice => {
                let concerned = source.set_slice(key.clone(), None);
                self.these(concerned)
            }
            Kind::Export => {
                let is_news = source.set_export(key.clone(), None);
                self.concerns(is_news.then(|| key.clone()))
            }
            Kind::Property if key.name == about::CLUSTER_ID && self.id.take().is_some() => Concerned::all(),
            _ => Concerned::default(),
        }
    }

    fn concerns(&self, key: Option<ServiceKey>) -> Concerned {
        self.these(key.into_iter().collect())
    }

    /// Nobody, as long as not all was heard.
    fn these(&self, keys: BTreeSet<ServiceKey>) -> Concerned {
        if self.coming.is_none() { Concerned::these(keys) } else { Concerned::default() }
    }
}
