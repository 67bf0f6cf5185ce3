//! What is known of this cluster: what people have here, and what we keep here.

mod here;
mod kept;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use tombolo_api::about;
use tombolo_api::tombolo::{MANAGED_BY_LABEL, MANAGER};
use tombolo_emitter::secrets;
use tombolo_proxy::ServiceKey;
use tombolo_services::clusters::ClusterId;
use tombolo_services::convert::{self, own};
use tombolo_services::mirrors::NamespaceState;
use tombolo_services::{Change, Here, Object, Source};

use crate::kinds::{Item, Kind};
use crate::watch::Seen;
use here::Ground;
pub(crate) use kept::{Kept, Known};

/// Which services a change concerns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Concerned {
    /// These.
    pub services: BTreeSet<ServiceKey>,
    /// Those in these Namespaces.
    pub namespaces: BTreeSet<String>,
    /// Those that these sources have, or had.
    pub sources: BTreeSet<String>,
    /// All.
    pub all: bool,
}

/// What stands for a Namespace itself among services: no Service has no name. Mirrors that go at the same time each see
/// the other one, so the Namespace is looked at once more when none is left.
pub(crate) fn the_namespace(name: &str) -> ServiceKey {
    ServiceKey::new(name, "")
}

/// This cluster.
#[derive(Debug)]
pub(crate) struct Own {
    /// People's Services, with their endpoints and exports.
    pub local: Source,
    /// What we keep.
    pub kept: Kept,
    /// The identities of the Services that are not ours, for Events on them.
    pub foreign: BTreeMap<ServiceKey, String>,
    /// ServiceImports of another program.
    pub foreign_imports: BTreeSet<ServiceKey>,
    /// Conditions as they stand, with the generation of the object.
    pub conditions: BTreeMap<(Kind, ServiceKey), (Vec<Condition>, Option<i64>)>,
    /// The addresses of our Services.
    pub addresses: BTreeMap<ServiceKey, Vec<IpAddr>>,
    /// All Namespaces.
    pub namespaces: BTreeMap<String, NamespaceState>,
    /// The version that a kind is served in, as a place in [`Kind::resources`].
    pub versions: BTreeMap<Kind, usize>,
    /// The Secrets that hold a source, by their names: the source's name, and its kubeconfig.
    secrets: BTreeMap<String, (String, String)>,
    /// The ConfigMap of [`crate::status`].
    pub status: Option<core::ConfigMap>,
    id: Option<Result<ClusterId, String>>,
    ground: Ground,
}

impl Own {
    pub(crate) fn new() -> Self {
        Self {
            local: Source::own(),
            kept: Kept::default(),
            foreign: BTreeMap::new(),
            foreign_imports: BTreeSet::new(),
            conditions: BTreeMap::new(),
            addresses: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            versions: BTreeMap::new(),
            secrets: BTreeMap::new(),
            status: None,
            id: None,
            ground: Ground::default(),
        }
    }

    /// Takes in what was written, as the API server answered: none where it is gone.
    /// `deleted` is the identity of what was deleted: what has the name by now may be another object.
    pub(crate) fn wrote(&mut self, change: &Change, deleted: Option<&str>, answer: Option<Item>) -> Concerned {
        if deleted.is_some_and(|deleted| self.uid_at(change).is_some_and(|now| now != deleted)) {
            return Concerned::default();
        }
        match (change, answer) {
            (Change::Apply(Object::Service(key, service)), Some(Item::Service(object))) => {
                let addresses = addresses(&object);
                let has_moved = self.addresses.insert(key.clone(), addresses.clone()) != Some(addresses);
                let unit = self.kept.set_service(key.clone(), Some(Known::written(&object.metadata, *service.clone())));
                Concerned::one(unit.filter(|_| has_moved))
            }
            (Change::Apply(Object::Slice(key, slice)), Some(Item::Slice(object))) => {
                self.kept.set_slice(key.clone(), Some(Known::written(&object.metadata, slice.clone())));
                Concerned::default()
            }
            (Change::Apply(Object::Endpoints(key, endpoints)), Some(Item::Endpoints(object))) => {
                self.kept.set_endpoints(key.clone(), Some(Known::written(&object.metadata, endpoints.clone())));
                Concerned::default()
            }
            (Change::Apply(Object::Import(key, import)), Some(Item::Import(object))) => {
                self.keep_conditions(
                    Kind::Import,
                    key,
                    object.status.map(|status| status.conditions),
                    &object.metadata,
                );
                self.kept.set_import(key.clone(), Some(Known::written(&object.metadata, *import.clone())));
                Concerned::default()
            }
            (Change::Apply(Object::Export(key, conditions)), Some(Item::Export(object))) => {
                self.keep_conditions(
                    Kind::Export,
                    key,
                    object.status.map(|status| status.conditions),
                    &object.metadata,
                );
                self.kept.set_export(key.clone(), Some(Known::written(&object.metadata, conditions.clone())));
                Concerned::default()
            }
            (Change::Apply(_) | Change::DeleteNamespace(_), Some(item)) => self.put(item),
            // It is there until all in it is gone.
            (Change::DeleteNamespace(name), None) => {
                if let Some(state) = self.namespaces.get_mut(name) {
                    state.terminating = true;
                }
                Concerned::default()
            }
            (Change::DeleteService(key), None) => self.gone(Kind::Service, key),
            (Change::DeleteSlice(key), None) => self.gone(Kind::Slice, key),
            (Change::DeleteEndpoints(key), None) => self.gone(Kind::Endpoints, key),
            (Change::DeleteImport(key), None) => self.gone(Kind::Import, key),
            _ => Concerned::default(),
        }
    }

    /// The identity of the object that has the name of one that is to be deleted.
    fn uid_at(&self, change: &Change) -> Option<&str> {
        let kept = &self.kept;
        match change {
            Change::DeleteService(key) => {
                let ours = kept.service(key).map(|known| &known.uid);
                ours.or_else(|| self.foreign.get(key))
            }
            Change::DeleteSlice(key) => kept.slice(key).map(|known| &known.uid),
            Change::DeleteEndpoints(key) => kept.endpoints_of(key).map(|known| &known.uid),
            Change::DeleteImport(key) => kept.import(key).map(|known| &known.uid),
            _ => None,
        }
        .map(String::as_str)
    }

    fn keep_conditions(&mut self, kind: Kind, key: &ServiceKey, now: Option<Vec<Condition>>, metadata: &ObjectMeta) {
        self.conditions.insert((kind, key.clone()), (now.unwrap_or_default(), metadata.generation));
    }

    /// The Namespaces that were made for mirrors and hold none, each in place of a service
    /// ([`the_namespace`]).
    pub(crate) fn empty_namespaces(&self) -> impl Iterator<Item = ServiceKey> {
        self.namespaces.keys().filter(|name| self.is_empty(name)).map(|name| the_namespace(name))
    }

    fn is_empty(&self, namespace: &str) -> bool {
        let state = self.namespaces.get(namespace);
        state.is_some_and(|state| state.made_for_mirrors && !state.terminating) && !self.kept.has_mirrors(namespace)
    }

    /// This cluster's id, by its ClusterProperty.
    pub(crate) fn id(&self) -> Option<&Result<ClusterId, String>> {
        self.id.as_ref()
    }

    /// Its families and addresses; `more` are CIDRs that were given by hand.
    pub(crate) fn here(&self, more: &[ipnet::IpNet]) -> Here {
        self.ground.here(more)
    }

    /// Sources in Secrets: their names and kubeconfigs, each once.
    pub(crate) fn sources(&self) -> BTreeMap<&str, &str> {
        // Of two with one name, the one in the Secret that comes first by name.
        self.secrets.values().rev().map(|(name, text)| (name.as_str(), text.as_str())).collect()
    }

    /// Whether everything was listed that decides what is to be written.
    pub(crate) fn is_whole(&self, needed: &[Kind]) -> bool {
        needed.iter().all(|kind| self.versions.contains_key(kind))
    }

    /// Takes in an event, and says whom it concerns.
    pub(crate) fn apply(&mut self, seen: Seen) -> Concerned {
        match seen {
            Seen::Put(item) => self.put(item),
            Seen::Gone(kind, key) => self.gone(kind, &key),
            Seen::All(kind, items, version) => {
                let mut concerned = Concerned::default();
                let mut missing = self.keys(kind);
                for item in items {
                    missing.remove(&item.key());
                    concerned.add(self.put(item));
                }
                for key in missing {
                    concerned.add(self.gone(kind, &key));
                }
                if self.versions.insert(kind, version) != Some(version) {
                    return Concerned::all();
                }
                concerned
            }
            // It may stand for anything, so it stays as it was; the API server takes nothing of that sort.
            Seen::Refused(..) | Seen::Trouble(..) | Seen::Denied(..) => Concerned::default(),
        }
    }

    fn put(&mut self, item: Item) -> Concerned {
        let key = item.key();
        match item {
            Item::Service(object) => self.service(key, &object),
            Item::Slice(object) => self.slice(key, &object),
            Item::Endpoints(object) => {
                let endpoints = own::endpoints(&object);
                Concerned::one(self.kept.set_endpoints(key, endpoints.map(|value| Known::new(&object.metadata, value))))
            }
            Item::Import(object) => self.import(key, &object),
            Item::Export(object) => self.export(key, &object),
            Item::Namespace(object) => {
                let name = key.name;
                let state = convert::namespace(&object, is_labelled_by_others(&object.metadata));
                let concerned = Concerned::namespace(&name);
                if self.namespaces.insert(name, state) == Some(state) { Concerned::default() } else { concerned }
            }
            Item::Node(object) => Concerned::all_if(self.ground.set_node(&key.name, Some(&object))),
            Item::ServiceCidr(object) => Concerned::all_if(self.ground.set_service_cidrs(&key.name, Some(&object))),
            Item::Property(object) => Concerned::all_if(self.property(&object)),
            Item::Secret(object) => {
                let label = object.metadata.labels.as_ref().and_then(|labels| labels.get(secrets::SOURCE));
                let text = object.data.as_ref().and_then(|data| data.get(secrets::KUBECONFIG));
                let text = text.and_then(|bytes| String::from_utf8(bytes.0.clone()).ok());
                match label.cloned().zip(text) {
                    Some(source) => drop(self.secrets.insert(key.name, source)),
                    None => drop(self.secrets.remove(&key.name)),
                }
                Concerned::default()
            }
            Item::ConfigMap(object) => {
                if key.name == crate::status::NAME {
                    self.status = Some(*object);
                }
                Concerned::default()
            }
        }
    }

    fn gone(&mut self, kind: Kind, key: &ServiceKey) -> Concerned {
        match kind {
            Kind::Service => {
                if *key == kubernetes() {
                    self.ground.set_kubernetes(Vec::new());
                }
                self.addresses.remove(key);
                let was_foreign = self.foreign.remove(key).is_some();
                self.local.set_service(key.clone(), None);
                let had_mirrors = self.kept.has_mirrors(&key.namespace);
                let mut concerned = Concerned::one(self.kept.set_service(key.clone(), None));
                if was_foreign {
                    concerned.add(Concerned::one(Some(key.clone())));
                }
                if had_mirrors && self.is_empty(&key.namespace) {
                    concerned.add(Concerned::one(Some(the_namespace(&key.namespace))));
                }
                concerned
            }
            Kind::Slice => {
                let mut units = self.local.set_slice(key.clone(), None);
                units.extend(self.kept.set_slice(key.clone(), None));
                Concerned::these(units)
            }
            Kind::Endpoints => Concerned::one(self.kept.set_endpoints(key.clone(), None)),
            Kind::Import => {
                self.conditions.remove(&(kind, key.clone()));
                self.foreign_imports.remove(key);
                self.kept.set_import(key.clone(), None);
                Concerned::one(Some(key.clone()))
            }
            Kind::Export => {
                self.conditions.remove(&(kind, key.clone()));
                let _ = self.local.set_export(key.clone(), None);
                self.kept.set_export(key.clone(), None);
                Concerned::one(Some(key.clone()))
            }
            Kind::Namespace => {
                self.namespaces.remove(&key.name);
                Concerned::namespace(&key.name)
            }
            Kind::Node => Concerned::all_if(self.ground.set_node(&key.name, None)),
            Kind::ServiceCidr => Concerned::all_if(self.ground.set_service_cidrs(&key.name, None)),
            Kind::Property => Concerned::all_if(key.name == about::CLUSTER_ID && self.id.take().is_some()),
            Kind::Secret => {
                self.secrets.remove(&key.name);
                Concerned::default()
            }
            Kind::ConfigMap => {
                if key.name == crate::status::NAME {
                    self.status = None;
                }
                Concerned::default()
            }
        }
    }

    fn keys(&self, kind: Kind) -> BTreeSet<ServiceKey> {
        let named = |name: &String| ServiceKey::new("", name);
        match kind {
            Kind::Service => self.foreign.keys().cloned().chain(self.kept.services().cloned()).collect(),
            Kind::Slice => self.local.slice_names().chain(self.kept.slices()).cloned().collect(),
            Kind::Endpoints => self.kept.endpoints().cloned().collect(),
            Kind::Import => self.kept.imports().chain(&self.foreign_imports).cloned().collect(),
            Kind::Export => self.kept.exports().cloned().collect(),
            Kind::Namespace => self.namespaces.keys().map(named).collect(),
            Kind::Node => self.ground.nodes().map(named).collect(),
            Kind::ServiceCidr => self.ground.service_cidrs().map(named).collect(),
            Kind::Property => self.id.iter().map(|_| ServiceKey::new("", about::CLUSTER_ID)).collect(),
            Kind::Secret => self.secrets.keys().map(named).collect(),
            Kind::ConfigMap => self.status.iter().map(|_| self.own_key(crate::status::NAME)).collect(),
        }
    }

    /// Keys of objects of which the name alone counts.
    fn own_key(&self, name: &str) -> ServiceKey {
        ServiceKey::new("", name)
    }

    fn service(&mut self, key: ServiceKey, object: &core::Service) -> Concerned {
        let addresses = addresses(object);
        if key == kubernetes() && self.ground.set_kubernetes(addresses.clone()) {
            let _ = self.service(key, object);
            return Concerned::all();
        }
        let Some(ours) = own::service(object) else {
            let (service, _) = convert::service(object);
            let uid = object.metadata.uid.clone().unwrap_or_default();
            let mut concerned = Concerned::one(self.kept.set_service(key.clone(), None));
            concerned.add(Concerned::one(Some(key.clone())));
            self.foreign.insert(key.clone(), uid);
            self.local.set_service(key, Some(service));
            return concerned;
        };
        let was_foreign = self.foreign.remove(&key).is_some();
        self.local.set_service(key.clone(), None);
        let has_moved = self.addresses.insert(key.clone(), addresses.clone()) != Some(addresses);
        let unit = kept::unit_of_service(&key, &ours);
        let mut concerned =
            Concerned::one(self.kept.set_service(key.clone(), Some(Known::new(&object.metadata, ours))));
        if has_moved || was_foreign {
            concerned.add(Concerned::one(Some(unit)));
        }
        concerned
    }

    fn slice(&mut self, key: ServiceKey, object: &k8s_openapi::api::discovery::v1::EndpointSlice) -> Concerned {
        let mut units = BTreeSet::new();
        match own::slice(object) {
            Some(slice) => {
                units.extend(self.local.set_slice(key.clone(), None));
                units.extend(self.kept.set_slice(key, Some(Known::new(&object.metadata, slice))));
            }
            None => {
                units.extend(self.kept.set_slice(key.clone(), None));
                units.extend(self.local.set_slice(key, convert::slice(object).0));
            }
        }
        Concerned::these(units)
    }

    fn import(&mut self, key: ServiceKey, object: &tombolo_api::mcs::v1beta1::ServiceImport) -> Concerned {
        let mut managers = object.metadata.managed_fields.iter().flatten().peekable();
        let is_foreign = managers.peek().is_some() && !managers.any(|entry| entry.manager.as_deref() == Some(MANAGER));
        if is_foreign {
            self.foreign_imports.insert(key.clone());
            self.kept.set_import(key.clone(), None);
            return Concerned::one(Some(key));
        }
        let conditions = object.status.as_ref().map(|status| status.conditions.clone());
        self.keep_conditions(Kind::Import, &key, conditions, &object.metadata);
        let is_changed = self.kept.set_import(key.clone(), Some(Known::new(&object.metadata, own::import(object))));
        Concerned::one(is_changed.then_some(key))
    }

    fn export(&mut self, key: ServiceKey, object: &tombolo_api::mcs::v1beta1::ServiceExport) -> Concerned {
        let conditions = object.status.as_ref().map(|status| status.conditions.clone());
        self.keep_conditions(Kind::Export, &key, conditions, &object.metadata);
        let is_changed = self.kept.set_export(key.clone(), Some(Known::new(&object.metadata, own::export(object))));
        let is_new = self.local.set_export(key.clone(), Some(convert::export(object)));
        Concerned::one((is_changed || is_new).then_some(key))
    }

    fn property(&mut self, object: &about::ClusterProperty) -> bool {
        if object.metadata.name.as_deref() != Some(about::CLUSTER_ID) {
            return false;
        }
        let id = Some(ClusterId::parse(&object.spec.value).map_err(|error| error.to_string()));
        std::mem::replace(&mut self.id, id.clone()) != id
    }
}

impl Item {
    /// The namespace and the name; of what has no namespace that counts, the name alone.
    pub(crate) fn key(&self) -> ServiceKey {
        let metadata: &ObjectMeta = match self {
            Self::Service(object) => &object.metadata,
            Self::Slice(object) => &object.metadata,
            Self::Endpoints(object) => &object.metadata,
            Self::Export(object) => &object.metadata,
            Self::Import(object) => &object.metadata,
            Self::Namespace(object) => return of_name(&object.metadata),
            Self::Node(object) => return of_name(&object.metadata),
            Self::ServiceCidr(object) => return of_name(&object.metadata),
            Self::Property(object) => return of_name(&object.metadata),
            Self::Secret(object) => return of_name(&object.metadata),
            Self::ConfigMap(object) => return of_name(&object.metadata),
        };
        convert::key(metadata)
    }
}

fn of_name(metadata: &ObjectMeta) -> ServiceKey {
    ServiceKey::new("", metadata.name.clone().unwrap_or_default())
}

impl Concerned {
    pub(crate) fn all() -> Self {
        Self { all: true, ..Self::default() }
    }

    pub(crate) fn these(services: BTreeSet<ServiceKey>) -> Self {
        Self { services, ..Self::default() }
    }

    pub(crate) fn one(key: Option<ServiceKey>) -> Self {
        Self::these(key.into_iter().collect())
    }

    pub(crate) fn source(name: &str) -> Self {
        Self { sources: BTreeSet::from([name.to_owned()]), ..Self::default() }
    }

    fn namespace(name: &str) -> Self {
        Self { namespaces: BTreeSet::from([name.to_owned()]), ..Self::default() }
    }

    fn all_if(all: bool) -> Self {
        Self { all, ..Self::default() }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.services.extend(other.services);
        self.namespaces.extend(other.namespaces);
        self.sources.extend(other.sources);
        self.all |= other.all;
    }
}

/// Somebody else has put a label or an annotation on a Namespace of ours, so that it is theirs, too.
pub(crate) fn is_labelled_by_others(metadata: &ObjectMeta) -> bool {
    let labels = metadata.labels.iter().flatten().map(|(name, _)| name.as_str());
    let annotations = metadata.annotations.iter().flatten().map(|(name, _)| name.as_str());
    let known = ["kubernetes.io/metadata.name", MANAGED_BY_LABEL, tombolo_api::tombolo::MADE_FOR_MIRRORS];
    labels.chain(annotations).any(|name| !known.contains(&name))
}

fn kubernetes() -> ServiceKey {
    ServiceKey::new("default", "kubernetes")
}

fn addresses(object: &core::Service) -> Vec<IpAddr> {
    let spec = object.spec.as_ref();
    let texts = spec.and_then(|spec| spec.cluster_ips.as_deref()).unwrap_or_default();
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}
