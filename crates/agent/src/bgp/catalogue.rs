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
    Node(Seen<core::Node>),
    Service(Seen<core::Service>),
    Slice(Seen<discovery::EndpointSlice>),
}

/// Watches for as long as somebody listens.
pub(super) fn follow(client: &Client) -> mpsc::Receiver<Change> {
    let (sender, receiver) = mpsc::channel(1024);
    tokio::spawn(watch::follow(Api::all(client.clone()), sender.clone(), Change::Node));
    tokio::spawn(watch::follow(Api::all(client.clone()), sender.clone(), Change::Service));
    tokio::spawn(watch::follow(Api::all(client.clone()), sender, Change::Slice));
    receiver
}

#[derive(Default)]
pub(super) struct Catalogue {
    nodes: BTreeMap<String, (Node, Vec<Refusal>)>,
    services: BTreeMap<ServiceKey, (Option<Service>, Vec<Refusal>, Option<String>)>,
    slices: BTreeMap<String, Slice>,
    synced: [bool; 3],
}

impl Catalogue {
    pub(super) fn apply(&mut self, change: Change) {
        match change {
            Change::Node(Seen::Put(object)) => self.put_node(&object),
            Change::Node(Seen::Gone(object)) => drop(self.nodes.remove(&object.name_any())),
            Change::Node(Seen::All(objects)) => {
                self.nodes.clear();
                objects.iter().for_each(|object| self.put_node(object));
                self.synced[0] = true;
            }
            Change::Service(Seen::Put(object)) => self.put_service(&object),
            Change::Service(Seen::Gone(object)) => drop(self.services.remove(&service_key(&object))),
            Change::Service(Seen::All(objects)) => {
                self.services.clear();
                objects.iter().for_each(|object| self.put_service(object));
                self.synced[1] = true;
            }
            Change::Slice(Seen::Put(object)) => self.put_slice(&object),
            Change::Slice(Seen::Gone(object)) => drop(self.slices.remove(&slice_key(&object))),
            Change::Slice(Seen::All(objects)) => {
                self.slices.clear();
                objects.iter().for_each(|object| self.put_slice(object));
                self.synced[2] = true;
            }
            // It was said, and what is known stays.
            Change::Node(Seen::Trouble(_)) | Change::Service(Seen::Trouble(_)) | Change::Slice(Seen::Trouble(_)) => {}
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
        let with = self.services.iter().filter_map(|(key, (service, ..))| Some((key.clone(), service.clone()?)));
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
        of_node.chain(self.services.values().flat_map(|(_, refusals, _)| refusals)).cloned()
    }

    pub(super) fn subjects(&self) -> Vec<Subject> {
        let nodes =
            self.nodes.keys().map(|name| Subject { object: format!("Node/{name}"), uid: None, generation: None });
        let services = self.services.iter().map(|(key, (.., uid))| Subject {
            object: format!("Service/{}/{}", key.namespace, key.name),
            uid: uid.clone(),
            generation: None,
        });
        nodes.chain(services).collect()
    }

    fn put_node(&mut self, object: &core::Node) {
        let (node, refusals) = node::from_kubernetes(object);
        self.nodes.insert(node.name.clone(), (node, refusals));
    }

    fn put_service(&mut self, object: &core::Service) {
        let (service, refusals) = service::from_kubernetes(object);
        self.services.insert(service_key(object), (service, refusals, object.metadata.uid.clone()));
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
