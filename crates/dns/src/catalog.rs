//! What the names depend on, and the records that follow from it: the Kubernetes DNS
//! specification 1.1 (<https://github.com/kubernetes/dns/blob/master/docs/specification.md>).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::name::{Name, NameError};
use crate::zone::{Data, Record};

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Names a Service or an EndpointSlice.
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

/// The Services and EndpointSlices of a cluster, as far as names depend on them.
#[derive(Debug)]
pub struct Catalog {
    /// `svc.<domain>`.
    services_origin: Name,
    services: HashMap<ObjectKey, Service>,
    slices: HashMap<ObjectKey, Slice>,
    slices_of: HashMap<ObjectKey, BTreeSet<Box<str>>>,
}

#[derive(Debug, PartialEq, Eq)]
enum Service {
    /// At addresses of its own.
    Addressed { addresses: Vec<IpAddr>, ports: Vec<Port> },
    /// Its endpoints are its addresses.
    Headless,
    /// Another name for something elsewhere.
    External(Box<str>),
}

#[derive(Debug)]
struct Slice {
    service: ObjectKey,
    endpoints: Vec<Endpoint>,
    ports: Vec<Port>,
}

#[derive(Debug)]
struct Endpoint {
    address: IpAddr,
    hostname: Option<Box<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Port {
    name: Box<str>,
    protocol: &'static str,
    number: u16,
}

impl Catalog {
    /// An empty catalog for a cluster whose domain is `domain`.
    ///
    /// # Errors
    /// `domain` is not a domain name or too long to have names below it.
    pub fn new(domain: &str) -> Result<Self, NameError> {
        Ok(Self {
            services_origin: Name::parse(domain)?.child("svc")?,
            services: HashMap::new(),
            slices: HashMap::new(),
            slices_of: HashMap::new(),
        })
    }

    /// A Service was added or changed.
    pub fn apply_service(&mut self, object: &core::Service) -> Diff {
        let key = ObjectKey::of(&object.metadata);
        let service = read_service(object);
        if service.is_some() && self.services.get(&key) == service.as_ref() {
            return Diff::default();
        }
        self.changing(std::slice::from_ref(&key.clone()), |catalog| match service {
            Some(service) => {
                catalog.services.insert(key, service);
            }
            None => {
                catalog.services.remove(&key);
            }
        })
    }

    /// A Service is gone.
    pub fn delete_service(&mut self, key: &ObjectKey) -> Diff {
        self.changing(std::slice::from_ref(key), |catalog| {
            catalog.services.remove(key);
        })
    }

    /// An EndpointSlice was added or changed.
    pub fn apply_slice(&mut self, object: &discovery::EndpointSlice) -> Diff {
        let key = ObjectKey::of(&object.metadata);
        let Some(slice) = read_slice(object) else {
            return self.delete_slice(&key);
        };
        let mut services = vec![slice.service.clone()];
        if let Some(old) = self.slices.get(&key)
            && old.service != slice.service
        {
            services.push(old.service.clone());
        }
        self.changing(&services, |catalog| {
            catalog.forget_slice(&key);
            let names = catalog.slices_of.entry(slice.service.clone()).or_default();
            names.insert(key.name.clone());
            catalog.slices.insert(key, slice);
        })
    }

    /// An EndpointSlice is gone.
    pub fn delete_slice(&mut self, key: &ObjectKey) -> Diff {
        let Some(slice) = self.slices.get(key) else {
            return Diff::default();
        };
        let service = slice.service.clone();
        self.changing(&[service], |catalog| catalog.forget_slice(key))
    }

    /// These are all Services that there are.
    pub fn retain_services(&mut self, present: &HashSet<ObjectKey>) -> Diff {
        let gone: Vec<ObjectKey> = missing(self.services.keys(), present);
        let diffs = gone.iter().map(|key| self.delete_service(key));
        Diff::sum(diffs)
    }

    /// These are all EndpointSlices that there are.
    pub fn retain_slices(&mut self, present: &HashSet<ObjectKey>) -> Diff {
        let gone: Vec<ObjectKey> = missing(self.slices.keys(), present);
        let diffs = gone.iter().map(|key| self.delete_slice(key));
        Diff::sum(diffs)
    }

    /// The difference that `change` makes to the records of `services`.
    fn changing(&mut self, services: &[ObjectKey], change: impl FnOnce(&mut Self)) -> Diff {
        let mut ignored = Vec::new();
        let before = self.records_of(services, &mut ignored);
        change(self);
        let mut refused = Vec::new();
        let after = self.records_of(services, &mut refused);
        refused.retain(|sentence| !ignored.contains(sentence));
        Diff {
            removed: before.difference(&after).cloned().collect(),
            added: after.difference(&before).cloned().collect(),
            refused,
        }
    }

    fn records_of(&self, services: &[ObjectKey], refused: &mut Vec<String>) -> BTreeSet<Record> {
        let mut records = BTreeSet::new();
        for key in services {
            if let Err(error) = self.add_records(key, &mut records) {
                refused.push(format!("Service {key}: no name can be made for part of it: {error}"));
            }
        }
        records
    }

    fn add_records(&self, key: &ObjectKey, records: &mut BTreeSet<Record>) -> Result<(), NameError> {
        let Some(service) = self.services.get(key) else {
            return Ok(());
        };
        let name = self.services_origin.child(&key.namespace)?.child(&key.name)?;
        match service {
            Service::Addressed { addresses, ports } => {
                for address in addresses {
                    records.insert(record(&name, Data::address(*address)));
                    records.insert(record(&Name::reverse(*address), Data::Ptr(name.clone())));
                }
                for port in ports {
                    add_srv(&name, port, &name, records)?;
                }
                Ok(())
            }
            Service::Headless => self.add_endpoints(key, &name, records),
            Service::External(target) => {
                records.insert(record(&name, Data::Cname(Name::parse(target)?)));
                Ok(())
            }
        }
    }

    /// Every ready endpoint is an address of a headless service, and has a name of its own.
    fn add_endpoints(&self, key: &ObjectKey, name: &Name, records: &mut BTreeSet<Record>) -> Result<(), NameError> {
        for slice in self.slices_of(key) {
            for endpoint in &slice.endpoints {
                let address = endpoint.address;
                let own = match &endpoint.hostname {
                    Some(hostname) => name.child(hostname)?,
                    None => name.child(&dashed(address))?,
                };
                records.insert(record(name, Data::address(address)));
                records.insert(record(&own, Data::address(address)));
                records.insert(record(&Name::reverse(address), Data::Ptr(own.clone())));
                for port in &slice.ports {
                    add_srv(name, port, &own, records)?;
                }
            }
        }
        Ok(())
    }

    fn slices_of(&self, service: &ObjectKey) -> impl Iterator<Item = &Slice> {
        let names = self.slices_of.get(service).into_iter().flatten();
        names
            .filter_map(|name| self.slices.get(&ObjectKey { namespace: service.namespace.clone(), name: name.clone() }))
    }

    fn forget_slice(&mut self, key: &ObjectKey) {
        let Some(slice) = self.slices.remove(key) else {
            return;
        };
        if let Some(names) = self.slices_of.get_mut(&slice.service) {
            names.remove(&key.name);
            if names.is_empty() {
                self.slices_of.remove(&slice.service);
            }
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

fn record(owner: &Name, data: Data) -> Record {
    Record { owner: owner.clone(), data }
}

/// `_port._protocol.<service>`; a port without a name has none.
fn add_srv(service: &Name, port: &Port, target: &Name, records: &mut BTreeSet<Record>) -> Result<(), NameError> {
    if port.name.is_empty() {
        return Ok(());
    }
    let owner = service.child(port.protocol)?.child(&format!("_{}", port.name))?;
    let data = Data::Srv { port: port.number, target: target.clone() };
    records.insert(record(&owner, data));
    Ok(())
}

/// The label of an endpoint without a hostname.
fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

fn read_service(object: &core::Service) -> Option<Service> {
    let spec = object.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") {
        let target = spec.external_name.as_deref()?;
        return Some(Service::External(target.into()));
    }
    let mut texts: Vec<&str> = spec.cluster_ips.iter().flatten().map(String::as_str).collect();
    if texts.is_empty() {
        texts.extend(spec.cluster_ip.as_deref());
    }
    texts.retain(|text| !text.is_empty());
    if texts.first() == Some(&"None") {
        return Some(Service::Headless);
    }
    let addresses: Vec<IpAddr> = texts.iter().filter_map(|text| text.parse().ok()).collect();
    if addresses.is_empty() {
        return None;
    }
    let ports = spec.ports.iter().flatten();
    let ports = ports.filter_map(|port| read_port(&port.name, &port.protocol, port.port));
    Some(Service::Addressed { addresses, ports: ports.collect() })
}

fn read_slice(object: &discovery::EndpointSlice) -> Option<Slice> {
    let service = object.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    let endpoints = object.endpoints.iter().flatten().filter_map(|endpoint| {
        let conditions = endpoint.conditions.as_ref();
        let is_ready = conditions.and_then(|c| c.ready).unwrap_or(true);
        let address = endpoint.addresses.first()?.parse().ok()?;
        is_ready.then(|| Endpoint { address, hostname: endpoint.hostname.as_deref().map(Into::into) })
    });
    let ports = object.ports.iter().flatten();
    let ports = ports.filter_map(|port| read_port(&port.name, &port.protocol, port.port?));
    Some(Slice {
        service: ObjectKey { namespace: ObjectKey::of(&object.metadata).namespace, name: service.as_str().into() },
        endpoints: endpoints.collect(),
        ports: ports.collect(),
    })
}

fn read_port(name: &Option<String>, protocol: &Option<String>, number: i32) -> Option<Port> {
    Some(Port {
        name: name.as_deref().unwrap_or_default().into(),
        protocol: match protocol.as_deref() {
            None | Some("TCP") => "_tcp",
            Some("UDP") => "_udp",
            Some("SCTP") => "_sctp",
            Some(_) => return None,
        },
        number: number.try_into().ok()?,
    })
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
