//! Nodes, Services and EndpointSlices, as far as BGP has to know them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::{Api, Client, ResourceExt as _};
use tokio::sync::mpsc;
use tombolo_proxy::ServiceKey;
use tombolo_proxy::convert::service_key;
use tombolo_routing::{Node, Refusal, Service, Slice, node, service, slice};

use crate::events::Subject;
use crate::watch::{self, Seen};

/// An object that came, changed or went.
pub(super) enum Change {
    Node(Box<Seen<core::Node>>),
    Service(Box<Seen<core::Service>>),
    Slice(Box<Seen<discovery::EndpointSlice>>),
}

/// Watches for as long as somebody listens.
pub(super) fn follow(client: &Client) -> mpsc::Receiver<Change> {
    let (sender, receiver) = mpsc::channel(1024);
    tokio::spawn(watch::follow(Api::all(client.clone()), sender.clone(), |seen| Change::Node(Box::new(seen))));
    tokio::spawn(watch::follow(Api::all(client.clone()), sender.clone(), |seen| Change::Service(Box::new(seen))));
    tokio::spawn(watch::follow(Api::all(client.clone()), sender, |seen| Change::Slice(Box::new(seen))));
    receiver
}

struct KnownService {
    service: Option<Service>,
    refusals: Vec<Refusal>,
    uid: Option<String>,
}

#[derive(Default)]
pub(super) struct Catalogue {
    nodes: BTreeMap<String, (Node, Vec<Refusal>)>,
    services: BTreeMap<ServiceKey, KnownService>,
    slices: BTreeMap<String, Slice>,
    synced: [bool; 3],
}

impl Catalogue {
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Node(seen) => self.apply_node(*seen),
            Change::Service(seen) => self.apply_service(*seen),
            Change::Slice(seen) => self.apply_slice(*seen),
        }
    }

    /// Whether everything was seen once: before, what is missing must not be taken for gone.
    pub(super) fn synced(&self) -> bool {
        self.synced == [true; 3]
    }

    pub(super) fn nodes(&self) -> BTreeMap<String, Node> {
        self.nodes.iter().map(|(name, (node, _))| (name.clone(), node.clone())).collect()
    }

    pub(super) fn services(&self) -> BTreeMap<ServiceKey, Service> {
        let with = self.services.iter().filter_map(|(key, known)| Some((key.clone(), known.service.clone()?)));
        with.collect()
    }

    pub(super) fn slices(&self) -> &BTreeMap<String, Slice> {
        &self.slices
    }

    pub(super) fn first_node(&self) -> Option<&String> {
        self.nodes.keys().next()
    }

    /// What could not be read of this node and of Services.
    pub(super) fn refusals(&self, hostname: &str) -> impl Iterator<Item = Refusal> {
        let of_node = self.nodes.get(hostname).into_iter().flat_map(|(_, refusals)| refusals);
        of_node.chain(self.services.values().flat_map(|known| &known.refusals)).cloned()
    }

    pub(super) fn subjects(&self) -> Vec<Subject> {
        let nodes =
            self.nodes.keys().map(|name| Subject { object: format!("Node/{name}"), uid: None, generation: None });
        let services = self.services.iter().map(|(key, known)| Subject {
            object: format!("Service/{}/{}", key.namespace, key.name),
            uid: known.uid.clone(),
            generation: None,
        });
        nodes.chain(services).collect()
    }

    fn apply_node(&mut self, seen: Seen<core::Node>) {
        match seen {
            Seen::Put(object) => self.put_node(&object),
            Seen::Gone(object) => drop(self.nodes.remove(&object.name_any())),
            Seen::All(objects) => {
                self.nodes.clear();
                objects.iter().for_each(|object| self.put_node(object));
                self.synced[0] = true;
            }
            // It was said, and what is known stays.
            Seen::Trouble(_) => {}
        }
    }

    fn apply_service(&mut self, seen: Seen<core::Service>) {
        match seen {
            Seen::Put(object) => self.put_service(&object),
            Seen::Gone(object) => drop(self.services.remove(&service_key(&object))),
            Seen::All(objects) => {
                self.services.clear();
                objects.iter().for_each(|object| self.put_service(object));
                self.synced[1] = true;
            }
            Seen::Trouble(_) => {}
        }
    }

    fn apply_slice(&mut self, seen: Seen<discovery::EndpointSlice>) {
        match seen {
            Seen::Put(object) => self.put_slice(&object),
            Seen::Gone(object) => drop(self.slices.remove(&slice_key(&object))),
            Seen::All(objects) => {
                self.slices.clear();
                objects.iter().for_each(|object| self.put_slice(object));
                self.synced[2] = true;
            }
            Seen::Trouble(_) => {}
        }
    }

    fn put_node(&mut self, object: &core::Node) {
        let (node, refusals) = node::from_kubernetes(object);
        self.nodes.insert(node.name.clone(), (node, refusals));
    }

    fn put_service(&mut self, object: &core::Service) {
        let (service, refusals) = service::from_kubernetes(object);
        let known = KnownService { service, refusals, uid: object.metadata.uid.clone() };
        self.services.insert(service_key(object), known);
    }

    fn put_slice(&mut self, object: &discovery::EndpointSlice) {
        match slice::from_kubernetes(object) {
            Some(slice) => drop(self.slices.insert(slice_key(object), slice)),
            None => drop(self.slices.remove(&slice_key(object))),
        }
    }
}

fn slice_key(object: &discovery::EndpointSlice) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}
