//! What the names depend on, and the records that follow from it: the Kubernetes DNS
//! specification 1.1 (<https://github.com/kubernetes/dns/blob/master/docs/specification.md>), and
//! its multi-cluster extension 1.0 (KEP-1645, `specification.md`).

mod objects;
mod pods;
mod pointers;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tombolo_api::mcs::v1alpha1::ServiceImport;

use self::objects::{Import, Port, Service, Slice, beside, read_import, read_pod, read_service, read_slice};
use self::pods::Pods;
use self::pointers::{Claim, Pointers, Rank};
use crate::name::{Name, NameError};
use crate::record::{Data, Record};

/// Names a Service, a ServiceImport, an EndpointSlice or a Pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: Box<str>,
    /// The name.
    pub name: Box<str>,
}

/// The records that a change takes away and brings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diff {
    /// To be removed.
    pub removed: Vec<Record>,
    /// To be added.
    pub added: Vec<Record>,
    /// Sentences about values that no name can be made of.
    pub refused: Vec<String>,
}

/// The Services, ServiceImports, EndpointSlices and Pods of a cluster, as far as names depend on
/// them.
#[derive(Debug)]
pub struct Catalog {
    /// `svc.<domain>`.
    services_origin: Name,
    /// `svc.<domain of the cluster set>`.
    imports_origin: Option<Name>,
    services: HashMap<ObjectKey, Service>,
    imports: HashMap<ObjectKey, Import>,
    slices: HashMap<ObjectKey, Slice>,
    slices_of: HashMap<Owner, BTreeSet<Box<str>>>,
    pods: Option<Pods>,
    pointers: Pointers,
}

/// What names are made for, and slices belong to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Owner {
    Service(ObjectKey),
    Import(ObjectKey),
}

/// What an object brings into the zones.
#[derive(Debug, Default)]
struct Names {
    records: BTreeSet<Record>,
    claims: BTreeSet<Claim>,
    refused: Vec<String>,
}

impl Catalog {
    /// An empty catalog for a cluster whose domain is `domain`.
    ///
    /// # Errors
    /// `domain` is not a domain name or too long to have names below it.
    pub fn new(domain: &str) -> Result<Self, NameError> {
        Ok(Self {
            services_origin: Name::parse(domain)?.child("svc")?,
            imports_origin: None,
            services: HashMap::new(),
            imports: HashMap::new(),
            slices: HashMap::new(),
            slices_of: HashMap::new(),
            pods: None,
            pointers: Pointers::default(),
        })
    }

    /// Makes names for ServiceImports, too, below `domain`.
    ///
    /// # Errors
    /// `domain` is not a domain name or too long to have names below it.
    pub fn with_clusterset(mut self, domain: &str) -> Result<Self, NameError> {
        self.imports_origin = Some(Name::parse(domain)?.child("svc")?);
        Ok(self)
    }

    /// Makes names for Pods, too, below `pod.<domain>`.
    ///
    /// # Errors
    /// `domain` is not a domain name or too long to have names below it.
    pub fn with_pods(mut self, domain: &str) -> Result<Self, NameError> {
        self.pods = Some(Pods::new(Name::parse(domain)?.child("pod")?));
        Ok(self)
    }

    /// Whether names are made for ServiceImports.
    pub fn has_clusterset(&self) -> bool {
        self.imports_origin.is_some()
    }

    /// Whether names are made for Pods.
    pub fn has_pods(&self) -> bool {
        self.pods.is_some()
    }

    /// A Service was added or changed.
    pub fn apply_service(&mut self, object: &core::Service) -> Diff {
        let key = ObjectKey::of(&object.metadata);
        let Some(service) = read_service(object) else {
            return self.delete_service(&key);
        };
        if self.services.get(&key) == Some(&service) {
            return Diff::default();
        }
        self.changing(&[Owner::Service(key.clone())], |catalog| {
            catalog.services.insert(key, service);
        })
    }

    /// A Service is gone.
    pub fn delete_service(&mut self, key: &ObjectKey) -> Diff {
        self.changing(&[Owner::Service(key.clone())], |catalog| {
            catalog.services.remove(key);
        })
    }

    /// A ServiceImport was added or changed.
    pub fn apply_import(&mut self, object: &ServiceImport) -> Diff {
        let key = ObjectKey::of(&object.metadata);
        let import = read_import(object);
        if self.imports.get(&key) == Some(&import) {
            return Diff::default();
        }
        self.changing(&[Owner::Import(key.clone())], |catalog| {
            catalog.imports.insert(key, import);
        })
    }

    /// A ServiceImport is gone.
    pub fn delete_import(&mut self, key: &ObjectKey) -> Diff {
        self.changing(&[Owner::Import(key.clone())], |catalog| {
            catalog.imports.remove(key);
        })
    }

    /// An EndpointSlice was added or changed.
    pub fn apply_slice(&mut self, object: &discovery::EndpointSlice) -> Diff {
        let key = ObjectKey::of(&object.metadata);
        let Some(slice) = read_slice(object) else {
            return self.delete_slice(&key);
        };
        let old = self.slices.get(&key);
        if old == Some(&slice) {
            return Diff::default();
        }
        let mut owners = slice.owners(&key);
        for owner in old.into_iter().flat_map(|old| old.owners(&key)) {
            if !owners.contains(&owner) {
                owners.push(owner);
            }
        }
        self.changing(&owners, |catalog| {
            catalog.forget_slice(&key);
            for owner in slice.owners(&key) {
                catalog.slices_of.entry(owner).or_default().insert(key.name.clone());
            }
            catalog.slices.insert(key, slice);
        })
    }

    /// An EndpointSlice is gone.
    pub fn delete_slice(&mut self, key: &ObjectKey) -> Diff {
        let Some(slice) = self.slices.get(key) else {
            return Diff::default();
        };
        let owners = slice.owners(key);
        self.changing(&owners, |catalog| catalog.forget_slice(key))
    }

    /// A Pod was added or changed.
    pub fn apply_pod(&mut self, object: &core::Pod) -> Diff {
        let key = ObjectKey::of(&object.metadata);
        self.pods.as_mut().map_or_else(Diff::default, |pods| pods.set(&key, read_pod(object)))
    }

    /// A Pod is gone.
    pub fn delete_pod(&mut self, key: &ObjectKey) -> Diff {
        self.pods.as_mut().map_or_else(Diff::default, |pods| pods.set(key, Vec::new()))
    }

    /// These are all Services that there are.
    pub fn retain_services(&mut self, present: &HashSet<ObjectKey>) -> Diff {
        let gone = missing(self.services.keys(), present);
        Diff::sum(gone.iter().map(|key| self.delete_service(key)))
    }

    /// These are all ServiceImports that there are.
    pub fn retain_imports(&mut self, present: &HashSet<ObjectKey>) -> Diff {
        let gone = missing(self.imports.keys(), present);
        Diff::sum(gone.iter().map(|key| self.delete_import(key)))
    }

    /// These are all EndpointSlices that there are.
    pub fn retain_slices(&mut self, present: &HashSet<ObjectKey>) -> Diff {
        let gone = missing(self.slices.keys(), present);
        Diff::sum(gone.iter().map(|key| self.delete_slice(key)))
    }

    /// These are all Pods that there are.
    pub fn retain_pods(&mut self, present: &HashSet<ObjectKey>) -> Diff {
        let gone = self.pods.as_ref().map_or_else(Vec::new, |pods| missing(pods.keys(), present));
        Diff::sum(gone.iter().map(|key| self.delete_pod(key)))
    }

    /// The difference that `change` makes to the records of `owners`.
    fn changing(&mut self, owners: &[Owner], change: impl FnOnce(&mut Self)) -> Diff {
        let before = self.names_of(owners);
        change(self);
        let mut after = self.names_of(owners);
        after.refused.retain(|sentence| !before.refused.contains(sentence));
        let mut diff = Diff {
            removed: before.records.difference(&after.records).cloned().collect(),
            added: after.records.difference(&before.records).cloned().collect(),
            refused: after.refused,
        };
        self.pointers.replace(&before.claims, &after.claims, &mut diff);
        diff
    }

    fn names_of(&self, owners: &[Owner]) -> Names {
        let mut names = Names::default();
        for owner in owners {
            if let Err(error) = self.add_names(owner, &mut names) {
                names.refused.push(format!("{owner}: no name can be made for part of it: {error}"));
            }
        }
        names
    }

    fn add_names(&self, owner: &Owner, names: &mut Names) -> Result<(), NameError> {
        match owner {
            Owner::Service(key) => {
                let Some(service) = self.services.get(key) else {
                    return Ok(());
                };
                let name = self.services_origin.child(&key.namespace)?.child(&key.name)?;
                match service {
                    Service::Addressed { addresses, ports } => {
                        names.addressed(owner, &name, Rank::Cluster, addresses, ports);
                    }
                    Service::Headless { publish_not_ready } => {
                        self.add_endpoints(owner, &name, *publish_not_ready, names);
                    }
                    Service::External(target) => names.add(&name, Data::Cname(Name::parse(target)?)),
                }
            }
            Owner::Import(key) => {
                let (Some(import), Some(origin)) = (self.imports.get(key), &self.imports_origin) else {
                    return Ok(());
                };
                let name = origin.child(&key.namespace)?.child(&key.name)?;
                match import {
                    Import::Addressed { addresses, ports, faults } => {
                        names.refused.extend(faults.iter().map(|fault| format!("{owner}: {fault}")));
                        // It is there before it has an address, and in a family in which it has none.
                        names.add(&name, Data::Empty);
                        names.addressed(owner, &name, Rank::ClusterSet, addresses, ports);
                    }
                    Import::Headless => self.add_endpoints(owner, &name, false, names),
                }
            }
        }
        Ok(())
    }

    /// Every ready endpoint is an address of a headless service, and has a name of its own: directly
    /// below the service's in a cluster, below that of its cluster in a cluster set.
    fn add_endpoints(&self, owner: &Owner, name: &Name, also_not_ready: bool, names: &mut Names) {
        for (slice_key, slice) in self.slices_of(owner) {
            let (rank, above) = match (owner, &slice.cluster) {
                (Owner::Service(_), _) => (Rank::Cluster, Some(Ok(name.clone()))),
                // An id may have dots.
                (Owner::Import(_), Some(cluster)) => {
                    let above = cluster.rsplit('.').try_fold(name.clone(), |name, label| name.child(label));
                    (Rank::ClusterSet, Some(above))
                }
                (Owner::Import(_), None) => (Rank::ClusterSet, None),
            };
            match &above {
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    names.refused.push(format!("EndpointSlice {slice_key}: its endpoints have no names: {error}"));
                }
                None => names.refused.push(format!(
                    "EndpointSlice {slice_key}: its endpoints have no names, since it has no label {}",
                    tombolo_api::mcs::LABEL_SOURCE_CLUSTER
                )),
            }
            for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.is_ready || also_not_ready) {
                let address = endpoint.address;
                names.add(name, Data::address(address));
                let Some(Ok(above)) = &above else { continue };
                let own = match &endpoint.hostname {
                    Some(hostname) => above.child(hostname),
                    None => above.child(&dashed(address)),
                };
                match own {
                    Ok(own) => {
                        names.add(&own, Data::address(address));
                        names.claims.insert((address, rank, own.clone()));
                        for port in &slice.ports {
                            names.add_srv(owner, name, port, &own);
                        }
                    }
                    Err(error) => {
                        names.refused.push(format!("{owner}: no name can be made for part of it: {error}"));
                    }
                }
            }
        }
    }

    fn slices_of(&self, owner: &Owner) -> impl Iterator<Item = (ObjectKey, &Slice)> {
        let names = self.slices_of.get(owner).into_iter().flatten();
        names.filter_map(|name| {
            let key = ObjectKey { namespace: owner.key().namespace.clone(), name: name.clone() };
            let slice = self.slices.get(&key)?;
            Some((key, slice))
        })
    }

    fn forget_slice(&mut self, key: &ObjectKey) {
        let Some(slice) = self.slices.remove(key) else {
            return;
        };
        for owner in slice.owners(key) {
            if let Some(names) = self.slices_of.get_mut(&owner) {
                names.remove(&key.name);
                if names.is_empty() {
                    self.slices_of.remove(&owner);
                }
            }
        }
    }
}

impl Slice {
    /// What it belongs to: a slice of a Service that is derived from a ServiceImport, to both.
    fn owners(&self, key: &ObjectKey) -> Vec<Owner> {
        let service = self.service.iter().map(|name| Owner::Service(beside(key, name)));
        let import = self.import.iter().map(|name| Owner::Import(beside(key, name)));
        service.chain(import).collect()
    }
}

impl Names {
    fn add(&mut self, owner: &Name, data: Data) {
        self.records.insert(Record { owner: owner.clone(), data });
    }

    fn addressed(&mut self, owner: &Owner, name: &Name, rank: Rank, addresses: &[IpAddr], ports: &[Port]) {
        for address in addresses {
            self.add(name, Data::address(*address));
            self.claims.insert((*address, rank, name.clone()));
        }
        for port in ports {
            self.add_srv(owner, name, port, name);
        }
    }

    /// `_port._protocol.<service>`; a port without a name has none.
    fn add_srv(&mut self, owner: &Owner, service: &Name, port: &Port, target: &Name) {
        if port.name.is_empty() {
            return;
        }
        let name = service.child(port.protocol).and_then(|name| name.child(&format!("_{}", port.name)));
        match name {
            Ok(name) => self.add(&name, Data::Srv { port: port.number, target: target.clone() }),
            Err(error) => self.refused.push(format!("{owner}: no name can be made for part of it: {error}")),
        }
    }
}

impl Owner {
    fn key(&self) -> &ObjectKey {
        match self {
            Self::Service(key) | Self::Import(key) => key,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(key) => write!(f, "Service {key}"),
            Self::Import(key) => write!(f, "ServiceImport {key}"),
        }
    }
}

impl ObjectKey {
    /// The key of an object.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.as_deref().unwrap_or("default").into(),
            name: meta.name.as_deref().unwrap_or_default().into(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Diff {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty()
    }

    fn sum(diffs: impl Iterator<Item = Self>) -> Self {
        diffs.fold(Self::default(), |mut sum, diff| {
            sum.removed.extend(diff.removed);
            sum.added.extend(diff.added);
            sum.refused.extend(diff.refused);
            sum
        })
    }
}

fn missing<'a>(keys: impl Iterator<Item = &'a ObjectKey>, present: &HashSet<ObjectKey>) -> Vec<ObjectKey> {
    keys.filter(|key| !present.contains(key)).cloned().collect()
}

/// The label of an address: dashes for its dots or colons.
fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

/// Groups records by name, for tests and for people.
impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: BTreeMap<&Name, (usize, usize)> = BTreeMap::new();
        for record in &self.removed {
            names.entry(&record.owner).or_default().0 += 1;
        }
        for record in &self.added {
            names.entry(&record.owner).or_default().1 += 1;
        }
        for (i, (name, (removed, added))) in names.iter().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            write!(f, "{separator}{name} -{removed} +{added}")?;
        }
        Ok(())
    }
}
