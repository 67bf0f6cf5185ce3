//! Who belongs to whom, kept up with every event, so that no look has to go through all objects.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::write::{controller_of, owner_references};
use crate::object::{self, str_at};
use crate::resources::Gvr;
use crate::store::{Event, EventKind};

/// The label of an EndpointSlice that names its Service.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Where an object is stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) gvr: Gvr,
    pub(super) namespace: String,
    pub(super) name: String,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    /// Every object, by its UID.
    places: HashMap<String, Place>,
    /// UIDs of the objects that name an owner, by the owner's UID.
    dependents: HashMap<String, BTreeSet<String>>,
    /// Names of EndpointSlices, by namespace and Service.
    slices: HashMap<(String, String), BTreeSet<String>>,
    /// Names of pods, by the UID of their controller.
    controlled: HashMap<String, BTreeSet<String>>,
}

impl Index {
    pub(super) fn record(&mut self, event: &Event) {
        let object = if event.kind == EventKind::Deleted { None } else { Some(&*event.object) };
        let previous = event.previous.as_deref().or((event.kind == EventKind::Deleted).then_some(&*event.object));
        self.replace(&event.gvr, previous, object);
    }

    /// Takes in that an object is now another, is new or is gone.
    pub(super) fn replace(&mut self, gvr: &Gvr, previous: Option<&Value>, object: Option<&Value>) {
        if let Some(previous) = previous {
            let uid = object::uid(previous);
            self.places.remove(uid);
            for owner in owner_references(previous) {
                forget(&mut self.dependents, &str_at(owner, &["uid"]).to_owned(), uid);
            }
            if gvr.is("discovery.k8s.io", "endpointslices") {
                forget(&mut self.slices, &service_of(previous), object::name(previous));
            }
            if let Some(owner) = controller_of(previous).filter(|_| gvr.is("", "pods")) {
                forget(&mut self.controlled, &str_at(owner, &["uid"]).to_owned(), object::name(previous));
            }
        }
        if let Some(object) = object {
            let uid = object::uid(object).to_owned();
            for owner in owner_references(object) {
                self.dependents.entry(str_at(owner, &["uid"]).to_owned()).or_default().insert(uid.clone());
            }
            if gvr.is("discovery.k8s.io", "endpointslices") {
                self.slices.entry(service_of(object)).or_default().insert(object::name(object).to_owned());
            }
            if let Some(owner) = controller_of(object).filter(|_| gvr.is("", "pods")) {
                let names = self.controlled.entry(str_at(owner, &["uid"]).to_owned()).or_default();
                names.insert(object::name(object).to_owned());
            }
            let (namespace, name) = (object::namespace(object).to_owned(), object::name(object).to_owned());
            self.places.insert(uid, Place { gvr: gvr.clone(), namespace, name });
        }
    }

    /// Where the object with this UID is, if there is one.
    pub(super) fn place(&self, uid: &str) -> Option<&Place> {
        self.places.get(uid)
    }

    /// The UIDs of the objects that name the one with this UID as their owner.
    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = &String> {
        self.dependents.get(uid).into_iter().flatten()
    }

    /// The names of a Service's EndpointSlices, whoever manages them.
    pub(super) fn slices(&self, namespace: &str, service: &str) -> impl Iterator<Item = &String> {
        self.slices.get(&(namespace.to_owned(), service.to_owned())).into_iter().flatten()
    }

    /// The names of the pods that belong to the controller with this UID.
    pub(super) fn controlled(&self, uid: &str) -> impl Iterator<Item = &String> {
        self.controlled.get(uid).into_iter().flatten()
    }
}

fn forget<K: std::hash::Hash + Eq>(map: &mut HashMap<K, BTreeSet<String>>, key: &K, member: &str) {
    let Some(members) = map.get_mut(key) else { return };
    members.remove(member);
    if members.is_empty() {
        map.remove(key);
    }
}

/// Namespace and name of the Service that an EndpointSlice belongs to.
pub(super) fn service_of(slice: &Value) -> (String, String) {
    let service = str_at(slice, &["metadata", "labels", SERVICE_NAME]);
    (object::namespace(slice).to_owned(), service.to_owned())
}
