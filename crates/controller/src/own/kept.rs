//! What we keep in this cluster, as it stands there, by the service that it is for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tombolo_api::mcs;
use tombolo_api::tombolo::MIRRORED_FROM;
use tombolo_proxy::ServiceKey;
use tombolo_proxy::convert::SERVICE_NAME_LABEL;
use tombolo_services::{Condition, Import, LegacyEndpoints, Objects, OwnSlice, Service};

/// An object as it stands, with what tells it from others of its name and from itself at other times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known<T> {
    pub value: T,
    pub uid: String,
    pub version: String,
    /// It is what we wrote, taken by the API server: what that leaves out (a field that its definition does not have)
    /// is not written again and again.
    pub settled: bool,
}

impl<T> Known<T> {
    pub(crate) fn new(metadata: &ObjectMeta, value: T) -> Self {
        Self {
            value,
            uid: metadata.uid.clone().unwrap_or_default(),
            version: metadata.resource_version.clone().unwrap_or_default(),
            settled: false,
        }
    }

    /// What was written, as the API server answered.
    pub(crate) fn written(metadata: &ObjectMeta, value: T) -> Self {
        Self { settled: true, ..Self::new(metadata, value) }
    }

    /// Whether this is news. An answer to a write can be ahead of the watch, and behind it. Versions can be compared as
    /// numbers where they are numbers, which they are (KEP-5504).
    fn is_newer_than(&self, old: &Self) -> bool {
        match (self.version.parse::<u128>(), old.version.parse::<u128>()) {
            // Of one version it is better known what we meant than how it can be read.
            (Ok(new), Ok(old)) if self.settled => new >= old,
            (Ok(new), Ok(before)) if self.uid == old.uid => new > before,
            _ if self.settled || self.uid != old.uid => true,
            _ => self.version != old.version,
        }
    }
}

/// So many that are gone are remembered: more than are written at a time.
const GONE: usize = 1024;

/// Everything that we keep.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    services: BTreeMap<ServiceKey, Known<Service>>,
    slices: BTreeMap<ServiceKey, Known<OwnSlice>>,
    endpoints: BTreeMap<ServiceKey, Known<LegacyEndpoints>>,
    imports: BTreeMap<ServiceKey, Known<Import>>,
    exports: BTreeMap<ServiceKey, Known<Vec<Condition>>>,
    /// The slices and the derived Services of each service, by their names.
    members: BTreeMap<ServiceKey, Members>,
    /// The last that were seen to go: an answer to what made one of them can come after that.
    gone: VecDeque<String>,
    /// How many mirrors stand in each Namespace.
    mirrors_in: BTreeMap<String, BTreeSet<ServiceKey>>,
}

#[derive(Debug, Default)]
struct Members {
    slices: BTreeSet<String>,
    services: BTreeSet<String>,
}

impl Kept {
    pub(crate) fn services(&self) -> impl Iterator<Item = &ServiceKey> {
        self.services.keys()
    }

    pub(crate) fn slices(&self) -> impl Iterator<Item = &ServiceKey> {
        self.slices.keys()
    }

    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &ServiceKey> {
        self.endpoints.keys()
    }

    pub(crate) fn imports(&self) -> impl Iterator<Item = &ServiceKey> {
        self.imports.keys()
    }

    pub(crate) fn exports(&self) -> impl Iterator<Item = &ServiceKey> {
        self.exports.keys()
    }

    /// All mirrored Services.
    pub(crate) fn mirrors(&self) -> impl Iterator<Item = (&ServiceKey, &Service)> {
        let services = self.services.iter().map(|(key, known)| (key, &known.value));
        services.filter(|(_, service)| is_mirror(service))
    }

    /// The mirrored Services of one source.
    pub(crate) fn mirrors_of(&self, source: &str) -> impl Iterator<Item = (&ServiceKey, &Service)> {
        self.mirrors().filter(move |(_, service)| service.annotations.get(MIRRORED_FROM).is_some_and(|of| of == source))
    }

    /// All services in one Namespace that we keep something for.
    pub(crate) fn units_in(&self, namespace: &str) -> BTreeSet<ServiceKey> {
        fn of<'a, T>(map: &'a BTreeMap<ServiceKey, T>, namespace: &'a str) -> impl Iterator<Item = &'a ServiceKey> {
            let from = map.range(ServiceKey::new(namespace, "")..).map(|(key, _)| key);
            from.take_while(move |key| key.namespace == namespace)
        }
        let named = of(&self.endpoints, namespace).chain(of(&self.imports, namespace));
        named.chain(of(&self.exports, namespace)).chain(of(&self.members, namespace)).cloned().collect()
    }

    /// All ServiceImports.
    pub(crate) fn all_imports(&self) -> impl Iterator<Item = (&ServiceKey, &Import)> {
        self.imports.iter().map(|(key, known)| (key, &known.value))
    }

    /// Whether mirrors of other services than `key` stand in its Namespace.
    pub(crate) fn has_other_mirrors(&self, key: &ServiceKey) -> bool {
        self.mirrors_in.get(&key.namespace).is_some_and(|mirrors| mirrors.iter().any(|other| other != key))
    }

    /// Whether mirrors stand in a Namespace.
    pub(crate) fn has_mirrors(&self, namespace: &str) -> bool {
        self.mirrors_in.get(namespace).is_some_and(|mirrors| !mirrors.is_empty())
    }

    /// All services that we keep something for.
    pub(crate) fn units(&self) -> BTreeSet<ServiceKey> {
        let named = self.endpoints.keys().chain(self.imports.keys()).chain(self.exports.keys());
        named.chain(self.members.keys()).cloned().collect()
    }

    /// What stands for one service.
    pub(crate) fn of(&self, unit: &ServiceKey) -> Objects {
        let mut objects = Objects::default();
        if let Some(members) = self.members.get(unit) {
            let names = |names: &BTreeSet<String>| -> Vec<ServiceKey> {
                names.iter().map(|name| ServiceKey::new(&unit.namespace, name)).collect()
            };
            let slices = names(&members.slices).into_iter();
            objects.slices =
                slices.filter_map(|key| Some((key.clone(), self.slices.get(&key)?.value.clone()))).collect();
            let services = names(&members.services).into_iter();
            objects.services =
                services.filter_map(|key| Some((key.clone(), self.services.get(&key)?.value.clone()))).collect();
        }
        let own = |key: &ServiceKey| key.clone();
        objects.endpoints.extend(self.endpoints.get(unit).map(|known| (own(unit), known.value.clone())));
        objects.imports.extend(self.imports.get(unit).map(|known| (own(unit), known.value.clone())));
        objects.exports.extend(self.exports.get(unit).map(|known| (own(unit), known.value.clone())));
        objects
    }

    pub(crate) fn service(&self, key: &ServiceKey) -> Option<&Known<Service>> {
        self.services.get(key)
    }

    pub(crate) fn slice(&self, key: &ServiceKey) -> Option<&Known<OwnSlice>> {
        self.slices.get(key)
    }

    pub(crate) fn endpoints_of(&self, key: &ServiceKey) -> Option<&Known<LegacyEndpoints>> {
        self.endpoints.get(key)
    }

    pub(crate) fn import(&self, key: &ServiceKey) -> Option<&Known<Import>> {
        self.imports.get(key)
    }

    /// Returns the service that is concerned, where there is news.
    pub(crate) fn set_service(&mut self, key: ServiceKey, service: Option<Known<Service>>) -> Option<ServiceKey> {
        if self.is_over(self.services.get(&key).map(|old| old.uid.clone()), service.as_ref()) {
            return None;
        }
        let old = self.services.get(&key);
        let is_news = is_news(old, service.as_ref());
        let before = old.map(|known| unit_of_service(&key, &known.value));
        if let Some(unit) = before.as_ref().filter(|_| is_news)
            && let Some(members) = self.members.get_mut(unit)
        {
            members.services.remove(&key.name);
            self.forget_empty(unit);
        }
        if !is_news {
            return None;
        }
        if let Some(mirrors) = self.mirrors_in.get_mut(&key.namespace) {
            mirrors.remove(&key);
        }
        let Some(service) = service else {
            self.services.remove(&key);
            return before;
        };
        let unit = unit_of_service(&key, &service.value);
        if is_mirror(&service.value) {
            self.mirrors_in.entry(key.namespace.clone()).or_default().insert(key.clone());
        }
        self.members.entry(unit.clone()).or_default().services.insert(key.name.clone());
        self.services.insert(key, service);
        Some(unit)
    }

    /// Returns the services that are concerned.
    pub(crate) fn set_slice(&mut self, key: ServiceKey, slice: Option<Known<OwnSlice>>) -> BTreeSet<ServiceKey> {
        if self.is_over(self.slices.get(&key).map(|old| old.uid.clone()), slice.as_ref()) {
            return BTreeSet::new();
        }
        let old = self.slices.get(&key);
        if !is_news(old, slice.as_ref()) {
            return BTreeSet::new();
        }
        let mut units = BTreeSet::new();
        if let Some(unit) = old.and_then(|known| unit_of_slice(&key, &known.value)) {
            if let Some(members) = self.members.get_mut(&unit) {
                members.slices.remove(&key.name);
            }
            self.forget_empty(&unit);
            units.insert(unit);
        }
        match slice {
            Some(slice) => {
                if let Some(unit) = unit_of_slice(&key, &slice.value) {
                    self.members.entry(unit.clone()).or_default().slices.insert(key.name.clone());
                    units.insert(unit);
                }
                self.slices.insert(key, slice);
            }
            None => drop(self.slices.remove(&key)),
        }
        units
    }

    /// Returns the service that is concerned, where there is news.
    pub(crate) fn set_endpoints(
        &mut self,
        key: ServiceKey,
        value: Option<Known<LegacyEndpoints>>,
    ) -> Option<ServiceKey> {
        if self.is_over(self.endpoints.get(&key).map(|old| old.uid.clone()), value.as_ref()) {
            return None;
        }
        set(&mut self.endpoints, &key, value).then_some(key)
    }

    /// Returns whether there is news.
    pub(crate) fn set_import(&mut self, key: ServiceKey, value: Option<Known<Import>>) -> bool {
        if self.is_over(self.imports.get(&key).map(|old| old.uid.clone()), value.as_ref()) {
            return false;
        }
        set(&mut self.imports, &key, value)
    }

    /// Returns whether there is news.
    pub(crate) fn set_export(&mut self, key: ServiceKey, value: Option<Known<Vec<Condition>>>) -> bool {
        if self.is_over(self.exports.get(&key).map(|old| old.uid.clone()), value.as_ref()) {
            return false;
        }
        set(&mut self.exports, &key, value)
    }

    /// Whether an answer comes after the end of what it is about; remembers the end of `old`, where that is it.
    fn is_over<T>(&mut self, old: Option<String>, new: Option<&Known<T>>) -> bool {
        if let (Some(uid), None) = (old, new) {
            self.gone.truncate(GONE - 1);
            self.gone.push_front(uid);
        }
        new.is_some_and(|new| new.settled && self.gone.contains(&new.uid))
    }

    fn forget_empty(&mut self, unit: &ServiceKey) {
        if self.members.get(unit).is_some_and(|members| members.slices.is_empty() && members.services.is_empty()) {
            self.members.remove(unit);
        }
    }
}

/// Whether a Service of ours is a mirror, not a derived one.
pub(crate) fn is_mirror(service: &Service) -> bool {
    service.annotations.contains_key(MIRRORED_FROM)
}

/// The service that one of our Services is for.
pub(super) fn unit_of_service(key: &ServiceKey, service: &Service) -> ServiceKey {
    match service.labels.get(mcs::LABEL_SERVICE_NAME) {
        Some(name) if !is_mirror(service) => ServiceKey::new(&key.namespace, name),
        _ => key.clone(),
    }
}

fn unit_of_slice(key: &ServiceKey, slice: &OwnSlice) -> Option<ServiceKey> {
    let label = |name| slice.labels.get(name);
    let name = label(mcs::LABEL_SERVICE_NAME).or_else(|| label(SERVICE_NAME_LABEL))?;
    Some(ServiceKey::new(&key.namespace, name))
}

fn is_news<T>(old: Option<&Known<T>>, new: Option<&Known<T>>) -> bool {
    match (old, new) {
        (None, None) => false,
        (Some(old), Some(new)) => new.is_newer_than(old),
        _ => true,
    }
}

fn set<T: PartialEq>(map: &mut BTreeMap<ServiceKey, Known<T>>, key: &ServiceKey, value: Option<Known<T>>) -> bool {
    if !is_news(map.get(key), value.as_ref()) {
        return false;
    }
    match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(key),
    };
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(uid: &str, version: u64, value: bool) -> Known<Vec<Condition>> {
        let value = if value {
            vec![]
        } else {
            vec![Condition {
                kind: "x".into(),
                status: tombolo_services::Status::True,
                reason: "x".into(),
                message: String::new(),
            }]
        };
        Known { value, uid: uid.to_owned(), version: version.to_string(), settled: false }
    }

    #[test]
    fn an_answer_that_comes_late_changes_nothing() {
        let key = ServiceKey::new("shop", "web");
        let settled = |version| Some(Known { settled: true, ..known("a", version, true) });
        let mut kept = Kept::default();
        assert!(kept.set_export(key.clone(), Some(known("a", 12, false))));
        assert!(!kept.set_export(key.clone(), settled(10)), "it was changed since");
        assert!(kept.set_export(key.clone(), settled(12)), "it is what was written");
        assert!(!kept.set_export(key.clone(), Some(known("a", 12, false))));
        assert!(kept.set_export(key.clone(), None));
        assert!(!kept.set_export(key.clone(), settled(12)), "it is gone");
        assert_eq!(kept.exports().count(), 0);
        assert!(kept.set_export(key, Some(known("b", 14, true))));
    }
}
