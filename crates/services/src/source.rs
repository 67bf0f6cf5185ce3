//! What is known of one cluster, kept from its watches.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tombolo_proxy::ServiceKey;

use crate::clusters::ClusterId;
use crate::endpoints::EndpointMode;
use crate::imports::Exporter;
use crate::mirrors::{Choice, Offer};
use crate::model::{Export, Service, Slice};
use crate::staleness::Standing;

/// No slices.
static NONE: BTreeMap<String, Slice> = BTreeMap::new();

/// A cluster: this one, or one that Services are mirrored or imported from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Source {
    /// What it counts for.
    pub standing: Standing,
    /// Whether it has listed all since we started. Before that, what is not here may be there.
    pub is_heard: bool,
    /// What stands for its endpoints, where a Service does not say.
    pub mode: EndpointMode,
    // Each plan of a service looks it up in all of many sources.
    services: HashMap<ServiceKey, Service>,
    exports: HashMap<ServiceKey, Export>,
    slices: HashMap<ServiceKey, BTreeMap<String, Slice>>,
    /// The Service of each slice.
    owners: HashMap<ServiceKey, ServiceKey>,
    weight: usize,
}

/// What a cluster says of the export of one service.
#[derive(Debug, Clone, Copy)]
pub enum Word<'a> {
    /// It exports it.
    Exports(Exporter<'a>),
    /// It does not.
    Nothing,
    /// Nobody knows now; see [`Place::unknown`](crate::imports::Place::unknown).
    Unknown,
}

impl Source {
    /// This cluster itself, whose own Services are as they are.
    pub fn own() -> Self {
        Self { standing: Standing::Live, is_heard: true, ..Self::default() }
    }

    /// Another cluster, of which nothing is known yet.
    pub fn of(mode: EndpointMode) -> Self {
        Self { mode, ..Self::default() }
    }

    /// Takes in a Service, or that there is none of that name. Returns whether that is news.
    pub fn set_service(&mut self, key: ServiceKey, service: Option<Service>) -> bool {
        self.weight -= self.services.get(&key).map_or(0, Service::weight);
        self.weight += service.as_ref().map_or(0, Service::weight);
        match service {
            Some(service) => self.services.insert(key, service.clone()) != Some(service),
            None => self.services.remove(&key).is_some(),
        }
    }

    /// Takes in a ServiceExport, or that there is none of that name. Returns whether that is news.
    pub fn set_export(&mut self, key: ServiceKey, export: Option<Export>) -> bool {
        self.weight -= self.exports.get(&key).map_or(0, Export::weight);
        self.weight += export.as_ref().map_or(0, Export::weight);
        match export {
            Some(export) => self.exports.insert(key, export.clone()) != Some(export),
            None => self.exports.remove(&key).is_some(),
        }
    }

    /// Takes in an EndpointSlice by its own name, with its Service; none where there is none, or it has no Service.
    ///
    /// Returns the Services that are concerned: none where it is no news, two where the slice has gone from one to
    /// another.
    pub fn set_slice(&mut self, name: ServiceKey, slice: Option<(ServiceKey, Slice)>) -> BTreeSet<ServiceKey> {
        let mut concerned = BTreeSet::new();
        if let (Some(owner), Some((service, slice))) = (self.owners.get(&name), &slice)
            && owner == service
            && self.slices.get(owner).and_then(|slices| slices.get(&name.name)) == Some(slice)
        {
            return concerned;
        }
        if let Some(old) = self.owners.remove(&name) {
            if let Some(slices) = self.slices.get_mut(&old) {
                self.weight -= slices.remove(&name.name).as_ref().map_or(0, Slice::weight);
                if slices.is_empty() {
                    self.slices.remove(&old);
                }
            }
            concerned.insert(old);
        }
        if let Some((service, slice)) = slice {
            self.weight += slice.weight();
            self.slices.entry(service.clone()).or_default().insert(name.name.clone(), slice);
            self.owners.insert(name, service.clone());
            concerned.insert(service);
        }
        concerned
    }

    /// About how many bytes all of it takes, so that a limit can be set to what one cluster may take.
    pub fn weight(&self) -> usize {
        self.weight
    }

    /// The services that `other` says something else of, in any part.
    pub fn difference(&self, other: &Self) -> BTreeSet<ServiceKey> {
        fn differing<'a, V: PartialEq>(
            one: &'a HashMap<ServiceKey, V>,
            other: &'a HashMap<ServiceKey, V>,
        ) -> impl Iterator<Item = &'a ServiceKey> {
            let changed = one.iter().filter(|(key, value)| other.get(key) != Some(value)).map(|(key, _)| key);
            changed.chain(other.keys().filter(|key| !one.contains_key(key)))
        }
        let services = differing(&self.services, &other.services);
        let exports = differing(&self.exports, &other.exports);
        services.chain(exports).chain(differing(&self.slices, &other.slices)).cloned().collect()
    }

    /// Takes over from `old` what it knew of a Service, where there is none of that name.
    pub fn keep_service(&mut self, old: &Self, key: &ServiceKey) {
        if let (None, Some(service)) = (self.services.get(key), old.services.get(key)) {
            let _ = self.set_service(key.clone(), Some(service.clone()));
        }
    }

    /// Takes over from `old` what it knew of a ServiceExport, likewise.
    pub fn keep_export(&mut self, old: &Self, key: &ServiceKey) {
        if let (None, Some(export)) = (self.exports.get(key), old.exports.get(key)) {
            let _ = self.set_export(key.clone(), Some(export.clone()));
        }
    }

    /// Takes over from `old` what it knew of an EndpointSlice of this name, likewise.
    pub fn keep_slice(&mut self, old: &Self, name: &ServiceKey) {
        let slice = old.owners.get(name).and_then(|owner| Some((owner, old.slices.get(owner)?.get(&name.name)?)));
        if let (false, Some((owner, slice))) = (self.owners.contains_key(name), slice) {
            let _ = self.set_slice(name.clone(), Some((owner.clone(), slice.clone())));
        }
    }

    /// All Services and exports that are known of.
    pub fn keys(&self) -> BTreeSet<&ServiceKey> {
        self.services.keys().chain(self.exports.keys()).collect()
    }

    /// Those of them in one Namespace.
    pub fn keys_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a ServiceKey> {
        self.services.keys().chain(self.exports.keys()).filter(move |key| key.namespace == namespace)
    }

    /// The names of all Services.
    pub fn service_names(&self) -> impl Iterator<Item = &ServiceKey> {
        self.services.keys()
    }

    /// The names of all ServiceExports.
    pub fn export_names(&self) -> impl Iterator<Item = &ServiceKey> {
        self.exports.keys()
    }

    /// The names of all EndpointSlices that belong to a Service.
    pub fn slice_names(&self) -> impl Iterator<Item = &ServiceKey> {
        self.owners.keys()
    }

    /// How many Services it offers for mirroring, for [`Contact::Live`](crate::staleness::Contact::Live).
    pub fn offered(&self, choice: &Choice) -> usize {
        self.services.iter().filter(|(key, service)| choice.takes(key, service)).count()
    }

    /// How many Services it exports, likewise.
    pub fn exported(&self) -> usize {
        self.exports.len()
    }

    /// What it offers for mirroring under one name; `name` is its own.
    pub fn offer<'a>(&'a self, name: &'a str, key: &ServiceKey, choice: &Choice) -> Offer<'a> {
        let service = self.services.get(key).filter(|service| choice.takes(key, service));
        let service = service.map(|service| (service, self.slices_of(key)));
        Offer { source: name, standing: self.standing, mode: self.mode, service }
    }

    /// What it says of the export of one service; `id` is its own.
    pub fn word<'a>(&'a self, id: &'a ClusterId, key: &ServiceKey) -> Word<'a> {
        let Some(export) = self.exports.get(key) else {
            return match self.standing {
                Standing::Held { .. } => Word::Unknown,
                Standing::Waiting | Standing::Stale { .. } if !self.is_heard => Word::Unknown,
                Standing::Waiting | Standing::Stale { .. } | Standing::Live | Standing::Gone => Word::Nothing,
            };
        };
        let stale_since = match self.standing {
            Standing::Gone => return Word::Nothing,
            Standing::Stale { since } => Some(since),
            Standing::Waiting | Standing::Live | Standing::Held { .. } => None,
        };
        let (service, slices) = (self.services.get(key), self.slices_of(key));
        Word::Exports(Exporter { cluster: id, export, service, slices, mode: self.mode, stale_since })
    }

    fn slices_of(&self, key: &ServiceKey) -> &BTreeMap<String, Slice> {
        self.slices.get(key).unwrap_or(&NONE)
    }
}

/// The words of all clusters on one service, for [`merge`](crate::imports::merge): who exports it, and of whom it is
/// not known.
pub fn words<'a>(
    clusters: impl IntoIterator<Item = (&'a ClusterId, &'a Source)>,
    key: &ServiceKey,
) -> (Vec<Exporter<'a>>, BTreeSet<ClusterId>) {
    let (mut exporters, mut unknown) = (Vec::new(), BTreeSet::new());
    for (id, source) in clusters {
        match source.word(id, key) {
            Word::Exports(exporter) => exporters.push(exporter),
            Word::Unknown => {
                unknown.insert(id.clone());
            }
            Word::Nothing => {}
        }
    }
    (exporters, unknown)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::model::{Endpoint, Timestamp};

    fn key(name: &str) -> ServiceKey {
        ServiceKey::new("shop", name)
    }

    fn slice() -> Slice {
        let endpoints = vec![Endpoint::ready("10.1.0.1".parse().unwrap())];
        Slice { family: tombolo_proxy::Family::V4, ports: Vec::new(), endpoints }
    }

    #[test]
    fn a_slice_goes_from_one_service_to_another() {
        let mut source = Source::default();
        assert_eq!(source.set_slice(key("s"), Some((key("a"), slice()))), BTreeSet::from([key("a")]));
        assert_eq!(source.set_slice(key("s"), Some((key("b"), slice()))), BTreeSet::from([key("a"), key("b")]));
        assert_eq!((source.slices_of(&key("a")).len(), source.slices_of(&key("b")).len()), (0, 1));
        assert_eq!(source.set_slice(key("s"), None), BTreeSet::from([key("b")]));
        assert_eq!(source.set_slice(key("s"), None), BTreeSet::new());
        assert_eq!(source, Source::default(), "nor does it weigh anything");
    }

    #[test]
    fn a_word_is_as_the_cluster_stands() {
        let (id, since) = (ClusterId::parse("a").unwrap(), Timestamp(7));
        for (standing, is_heard, expected) in [
            // For an export that is there, and for one that is not.
            (Standing::Live, true, ["exports", "nothing"]),
            (Standing::Waiting, true, ["exports", "nothing"]),
            (Standing::Waiting, false, ["exports", "unknown"]),
            (Standing::Stale { since }, true, ["stale", "nothing"]),
            (Standing::Stale { since }, false, ["stale", "unknown"]),
            (Standing::Held { since }, true, ["exports", "unknown"]),
            (Standing::Gone, true, ["nothing", "nothing"]),
            (Standing::Gone, false, ["nothing", "nothing"]),
        ] {
            let mut source = Source { standing, is_heard, ..Source::default() };
            source.set_export(key("there"), Some(Export::default()));
            let said = ["there", "not"].map(|name| match source.word(&id, &key(name)) {
                Word::Exports(exporter) if exporter.stale_since == Some(since) => "stale",
                Word::Exports(_) => "exports",
                Word::Nothing => "nothing",
                Word::Unknown => "unknown",
            });
            assert_eq!(said, expected, "{standing:?}, heard {is_heard}");
        }
    }

    #[test]
    fn what_is_offered_is_what_is_chosen() {
        let mut source = Source { standing: Standing::Live, is_heard: true, ..Source::default() };
        source.set_service(key("web"), Some(Service::default()));
        source.set_service(ServiceKey::new("kube-system", "dns"), Some(Service::default()));
        source.set_slice(key("web-1"), Some((key("web"), slice())));
        source.set_export(key("web"), Some(Export::default()));
        let all = Choice::default();
        assert_eq!((source.offered(&all), source.exported(), source.keys().len()), (1, 1, 2));
        let (_, slices) = source.offer("east", &key("web"), &all).service.unwrap();
        assert_eq!(slices.len(), 1);
        assert!(source.offer("east", &ServiceKey::new("kube-system", "dns"), &all).service.is_none());
        source.set_service(key("web"), None);
        assert!(source.offer("east", &key("web"), &all).service.is_none());

        let (a, b) = (ClusterId::parse("a").unwrap(), ClusterId::parse("b").unwrap());
        let silent = Source::default();
        let (exporters, unknown) = words([(&a, &source), (&b, &silent)], &key("web"));
        assert_eq!((exporters.len(), exporters[0].cluster, exporters[0].service), (1, &a, None));
        assert_eq!(unknown, BTreeSet::from([b]));
    }
}
