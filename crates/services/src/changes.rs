//! From what is to what shall be.

use std::collections::{BTreeMap, BTreeSet};

use tombolo_proxy::ServiceKey;

use crate::model::{Condition, Import, LegacyEndpoints, OwnSlice, Service};

/// Objects of this cluster: those that we keep, and no others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Objects {
    /// Namespaces that were made for mirrors.
    pub namespaces: BTreeSet<String>,
    /// Mirrored and derived Services.
    pub services: BTreeMap<ServiceKey, Service>,
    /// EndpointSlices, by their own names.
    pub slices: BTreeMap<ServiceKey, OwnSlice>,
    /// Endpoints.
    pub endpoints: BTreeMap<ServiceKey, LegacyEndpoints>,
    /// ServiceImports.
    pub imports: BTreeMap<ServiceKey, Import>,
    /// The conditions of this cluster's ServiceExports, which are other people's objects: none are deleted.
    pub exports: BTreeMap<ServiceKey, Vec<Condition>>,
}

/// One object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A Namespace, made for mirrors.
    Namespace(String),
    /// A Service.
    Service(ServiceKey, Box<Service>),
    /// An EndpointSlice.
    Slice(ServiceKey, OwnSlice),
    /// An Endpoints object.
    Endpoints(ServiceKey, LegacyEndpoints),
    /// A ServiceImport: metadata, spec and status.
    Import(ServiceKey, Box<Import>),
    /// The conditions of a ServiceExport.
    Export(ServiceKey, Vec<Condition>),
}

/// One step from what is to what shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Make the object, or make it so.
    Apply(Object),
    /// Delete the Namespace.
    DeleteNamespace(String),
    /// Delete the Service. Also comes before an [`Change::Apply`] of it, where its kind changes: an API server does not
    /// take a ClusterIP from a Service.
    DeleteService(ServiceKey),
    /// Delete the EndpointSlice.
    DeleteSlice(ServiceKey),
    /// Delete the Endpoints.
    DeleteEndpoints(ServiceKey),
    /// Delete the ServiceImport.
    DeleteImport(ServiceKey),
}

/// The steps from `current` to `desired`, in an order in which each can be done: nothing where they are the same.
///
/// Endpoints come before the Service that they are for, so that it never stands without them; what is deleted is
/// deleted the other way round.
pub fn changes(current: &Objects, desired: &Objects) -> Vec<Change> {
    let mut changes: Vec<Change> = Vec::new();
    let new = desired.namespaces.difference(&current.namespaces);
    changes.extend(new.map(|name| Change::Apply(Object::Namespace(name.clone()))));
    // The address type of a slice stays as it is, too.
    let of_other_family = desired
        .slices
        .iter()
        .filter(|(key, slice)| current.slices.get(*key).is_some_and(|old| old.slice.family != slice.slice.family));
    changes.extend(of_other_family.map(|(key, _)| Change::DeleteSlice(key.clone())));
    apply(&mut changes, &current.slices, &desired.slices, Object::Slice);
    apply(&mut changes, &current.endpoints, &desired.endpoints, Object::Endpoints);
    for (key, service) in &desired.services {
        match current.services.get(key) {
            Some(old) if old == service => {}
            old => {
                if old.is_some_and(|old| !can_become(old, service)) {
                    changes.push(Change::DeleteService(key.clone()));
                }
                changes.push(Change::Apply(Object::Service(key.clone(), Box::new(service.clone()))));
            }
        }
    }
    apply(&mut changes, &current.imports, &desired.imports, |key, import| Object::Import(key, Box::new(import)));
    apply(&mut changes, &current.exports, &desired.exports, Object::Export);
    changes.extend(missing(&current.imports, &desired.imports).map(Change::DeleteImport));
    changes.extend(missing(&current.services, &desired.services).map(Change::DeleteService));
    changes.extend(missing(&current.endpoints, &desired.endpoints).map(Change::DeleteEndpoints));
    changes.extend(missing(&current.slices, &desired.slices).map(Change::DeleteSlice));
    changes.extend(current.namespaces.difference(&desired.namespaces).cloned().map(Change::DeleteNamespace));
    changes
}

fn apply<T: Clone + PartialEq>(
    changes: &mut Vec<Change>,
    current: &BTreeMap<ServiceKey, T>,
    desired: &BTreeMap<ServiceKey, T>,
    object: impl Fn(ServiceKey, T) -> Object,
) {
    let different = desired.iter().filter(|(key, value)| current.get(key) != Some(value));
    changes.extend(different.map(|(key, value)| Change::Apply(object(key.clone(), value.clone()))));
}

fn missing<T>(
    current: &BTreeMap<ServiceKey, T>,
    desired: &BTreeMap<ServiceKey, T>,
) -> impl Iterator<Item = ServiceKey> {
    current.keys().filter(|key| !desired.contains_key(key)).cloned()
}

/// Whether an API server takes the one in place of the other: `clusterIP` stays as it is once given, and so does the
/// first family.
fn can_become(old: &Service, new: &Service) -> bool {
    old.kind == new.kind && old.families.first() == new.families.first()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Kind;

    fn with(services: &[(&str, Kind)]) -> Objects {
        let services = services
            .iter()
            .map(|(name, kind)| (ServiceKey::new("ns", *name), Service { kind: kind.clone(), ..Service::default() }));
        Objects { services: services.collect(), namespaces: BTreeSet::from(["ns".to_owned()]), ..Objects::default() }
    }

    #[test]
    fn what_is_as_it_shall_be_is_left_alone() {
        let objects = with(&[("a", Kind::ClusterIp), ("b", Kind::Headless)]);
        assert_eq!(changes(&objects, &objects), []);
    }

    #[test]
    fn namespaces_come_first_and_go_last() {
        let objects = with(&[("a", Kind::ClusterIp)]);
        let key = ServiceKey::new("ns", "a");
        let made = changes(&Objects::default(), &objects);
        assert_eq!(made[0], Change::Apply(Object::Namespace("ns".to_owned())));
        assert!(matches!(&made[1..], [Change::Apply(Object::Service(k, _))] if *k == key));
        let gone = changes(&objects, &Objects::default());
        assert_eq!(gone, [Change::DeleteService(key), Change::DeleteNamespace("ns".to_owned())]);
    }

    #[test]
    fn a_service_that_changes_its_kind_is_made_anew() {
        let (old, new) = (with(&[("a", Kind::ClusterIp)]), with(&[("a", Kind::Headless)]));
        let steps = changes(&old, &new);
        assert_eq!(steps[0], Change::DeleteService(ServiceKey::new("ns", "a")));
        assert!(matches!(&steps[1..], [Change::Apply(Object::Service(..))]));
    }
}
