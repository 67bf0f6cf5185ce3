//! The loop: events in, tasks noted, tasks done.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use time::OffsetDateTime;

use super::garbage::Owner;
use super::index::{Index, service_of};
use super::queue::{Queue, Task};
use super::replicasets::Outcome;
use super::write::{Write, apply, controller_of, owner_references};
use super::{
    daemonsets, deployments, endpoints, garbage, mirror, namespaces, replicasets, scheduler, service_slices, slices,
};
use crate::object::{self, str_at};
use crate::resources::Gvr;
use crate::selectors::LabelSelector;
use crate::status::Status;
use crate::store::{DeleteOptions, Event, EventKind, Store};

/// After a failure that a new look alone does not mend.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs the controllers on the objects of `store` until `shutdown` is done. `root_ca` is the certificate (PEM) by which
/// pods know the API server; every namespace gets it in the ConfigMap `kube-root-ca.crt`.
pub async fn run(store: Store, root_ca: String, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let mut events = store.subscribe();
    let mut runner = Runner::new(store, root_ca);
    loop {
        // What is known is brought up to date before every task, so that none decides on the past.
        while let Some(event) = events.try_next() {
            runner.note(&event);
        }
        if let Some(task) = runner.queue.pop(Instant::now()) {
            runner.work(task);
            tokio::task::consume_budget().await;
            continue;
        }
        let next = runner.queue.next_time();
        let timer = async {
            match next {
                Some(time) => tokio::time::sleep_until(time.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = events.next() => match event {
                Some(event) => runner.note(&event),
                None => return,
            },
            () = timer => {}
            () = &mut shutdown => return,
        }
    }
}

struct Runner {
    store: Store,
    root_ca: String,
    index: Index,
    queue: Queue,
    /// The revision up to which a resource's events were in the lists at the start.
    listed: HashMap<(Arc<str>, Arc<str>), u64>,
}

impl Runner {
    /// Takes in all that is stored and notes a look at each object.
    fn new(store: Store, root_ca: String) -> Self {
        let mut runner =
            Runner { store, root_ca, index: Index::default(), queue: Queue::default(), listed: HashMap::new() };
        let lists: Vec<_> =
            runner.store.resources().into_iter().map(|gvr| (runner.store.list(&gvr, None), gvr)).collect();
        for (list, gvr) in &lists {
            runner.listed.insert((gvr.group.clone(), gvr.resource.clone()), list.revision);
            for object in &list.items {
                runner.index.replace(gvr, None, Some(object));
            }
        }
        for (list, gvr) in &lists {
            for object in &list.items {
                runner.note_tasks(gvr, EventKind::Added, object, None);
                let (namespace, name) = key(object);
                if gvr.is("", "endpoints") && endpoints::is_ours(object) {
                    runner.queue.push(Task::ServiceGone(namespace, name));
                }
            }
        }
        runner
    }

    fn note(&mut self, event: &Event) {
        let listed = self.listed.get(&(event.gvr.group.clone(), event.gvr.resource.clone()));
        if listed.is_some_and(|revision| event.revision <= *revision) {
            return;
        }
        let dependents: Vec<String> = match event.kind {
            EventKind::Deleted => self.index.dependents(object::uid(&event.object)).cloned().collect(),
            _ => Vec::new(),
        };
        self.index.record(event);
        for dependent in dependents {
            self.queue.push(Task::Garbage(dependent));
        }
        self.note_tasks(&event.gvr, event.kind, &event.object, event.previous.as_deref());
    }

    /// Notes what is to be looked at because of one object's change.
    fn note_tasks(&mut self, gvr: &Gvr, kind: EventKind, object: &Value, previous: Option<&Value>) {
        let (namespace, name) = key(object);
        self.note_garbage(kind, object, previous);
        if !namespace.is_empty() && kind != EventKind::Modified {
            let home = self.get("", "namespaces", "", &namespace);
            let ending = home.is_some_and(|home| object::is_terminating(&home));
            if ending || (kind == EventKind::Deleted && namespaces::is_standard(gvr, &name)) {
                self.queue.push(Task::Namespace(namespace.clone()));
            }
        }
        match (&*gvr.group, &*gvr.resource) {
            ("", "namespaces") => self.queue.push(Task::Namespace(name)),
            ("", "services") => {
                if kind == EventKind::Deleted {
                    self.queue.push(Task::ServiceGone(namespace.clone(), name.clone()));
                }
                self.queue.push(Task::Service(namespace.clone(), name.clone()));
                self.queue.push(Task::Mirror(namespace, name));
            }
            ("", "endpoints") => {
                self.queue.push(Task::Mirror(namespace.clone(), name.clone()));
                self.queue.push(Task::Service(namespace, name));
            }
            ("discovery.k8s.io", "endpointslices") => {
                for slice in [Some(object), previous].into_iter().flatten() {
                    let (namespace, service) = service_of(slice);
                    match str_at(slice, &["metadata", "labels", slices::MANAGED_BY]) {
                        service_slices::MANAGER => self.queue.push(Task::Service(namespace, service)),
                        mirror::MANAGER => self.queue.push(Task::Mirror(namespace, service)),
                        _ => {}
                    }
                }
            }
            ("", "pods") => self.note_pod(kind, object, previous),
            ("", "nodes") => self.note_node(kind, &name),
            ("apps", "deployments") => self.queue.push(Task::Deployment(namespace, name)),
            ("apps", "replicasets") => {
                self.note_controller(object);
                if controller_of(object).is_none() {
                    for deployment in self.list("apps", "deployments", Some(&namespace)) {
                        if deployments::adopts(&deployment, object) {
                            let (namespace, name) = key(&deployment);
                            self.queue.push(Task::Deployment(namespace, name));
                        }
                    }
                }
                self.queue.push(Task::ReplicaSet(namespace, name));
            }
            ("apps", "daemonsets") => self.queue.push(Task::DaemonSet(namespace, name)),
            _ => {}
        }
    }

    fn note_garbage(&mut self, kind: EventKind, object: &Value, previous: Option<&Value>) {
        let uid = object::uid(object);
        if kind == EventKind::Deleted {
            // An owner that waits for this one may go now.
            for owner in owner_references(object) {
                self.queue.push(Task::Garbage(str_at(owner, &["uid"]).to_owned()));
            }
            return;
        }
        let owners = owner_references(object);
        let owners_changed = !owners.is_empty() && previous.is_none_or(|previous| owner_references(previous) != owners);
        if owners_changed || object::is_terminating(object) {
            self.queue.push(Task::Garbage(uid.to_owned()));
        }
        if garbage::waits_for_dependents(object) {
            for dependent in self.index.dependents(uid) {
                self.queue.push(Task::Garbage(dependent.clone()));
            }
        }
    }

    fn note_pod(&mut self, kind: EventKind, pod: &Value, previous: Option<&Value>) {
        let (namespace, name) = key(pod);
        for service in self.list("", "services", Some(&namespace)) {
            let Some(selector) = service_selector(&service) else { continue };
            if selector.matches(pod) || previous.is_some_and(|previous| selector.matches(previous)) {
                self.queue.push(Task::Service(namespace.clone(), object::name(&service).to_owned()));
            }
        }
        self.note_controller(pod);
        if controller_of(pod).is_none() {
            for set in self.list("apps", "replicasets", Some(&namespace)) {
                if replicasets::adopts(&set, pod) {
                    self.queue.push(Task::ReplicaSet(namespace.clone(), object::name(&set).to_owned()));
                }
            }
        }
        if kind != EventKind::Deleted && scheduler::is_waiting(pod) {
            self.queue.push(Task::Pod(namespace, name));
        }
    }

    fn note_node(&mut self, kind: EventKind, name: &str) {
        if kind == EventKind::Deleted {
            self.queue.push(Task::NodeGone(name.to_owned()));
        } else {
            for pod in self.list("", "pods", None) {
                if scheduler::is_waiting(&pod) {
                    let (namespace, name) = key(&pod);
                    self.queue.push(Task::Pod(namespace, name));
                }
            }
        }
        for set in self.list("apps", "daemonsets", None) {
            let (namespace, name) = key(&set);
            self.queue.push(Task::DaemonSet(namespace, name));
        }
    }

    fn note_controller(&mut self, object: &Value) {
        let Some(controller) = controller_of(object) else { return };
        let (namespace, name) = (object::namespace(object).to_owned(), str_at(controller, &["name"]).to_owned());
        match str_at(controller, &["kind"]) {
            "Deployment" => self.queue.push(Task::Deployment(namespace, name)),
            "ReplicaSet" => self.queue.push(Task::ReplicaSet(namespace, name)),
            "DaemonSet" => self.queue.push(Task::DaemonSet(namespace, name)),
            _ => {}
        }
    }

    fn work(&mut self, task: Task) {
        let outcome = self.look(&task);
        if let Some(seconds) = outcome.look_again {
            let after = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            self.queue.push_at(Instant::now() + after, task.clone());
        }
        match apply(&self.store, outcome.writes) {
            Ok(()) => {}
            Err(status) if status.reason == "Conflict" => self.queue.push(task),
            Err(status) => self.complain(task, &status),
        }
    }

    fn complain(&mut self, task: Task, status: &Status) {
        tracing::warn!(?task, %status, "a controller's write was refused; it is tried again in a second");
        self.queue.push_at(Instant::now() + PAUSE, task);
    }

    fn look(&self, task: &Task) -> Outcome {
        let now = OffsetDateTime::now_utc();
        let writes = match task {
            Task::Service(namespace, name) => self.look_at_service(namespace, name),
            Task::ServiceGone(namespace, name) => self.look_at_gone_service(namespace, name),
            Task::Mirror(namespace, name) => {
                let service = self.get("", "services", namespace, name);
                let endpoints = self.get("", "endpoints", namespace, name);
                let existing = self.slices(namespace, name, mirror::MANAGER);
                mirror::reconcile(service.as_deref(), endpoints.as_deref(), &existing)
            }
            Task::Deployment(namespace, name) => {
                let Some(deployment) = self.get("apps", "deployments", namespace, name) else {
                    return Outcome::default();
                };
                let mut sets = self.list("apps", "replicasets", Some(namespace));
                sets.retain(|set| is_controlled(set, &deployment) || deployments::adopts(&deployment, set));
                return deployments::reconcile(&deployment, &sets, now);
            }
            Task::ReplicaSet(namespace, name) => {
                let Some(set) = self.get("apps", "replicasets", namespace, name) else { return Outcome::default() };
                let mut orphans = self.list("", "pods", Some(namespace));
                orphans.retain(|pod| replicasets::adopts(&set, pod));
                return replicasets::reconcile(&set, &self.controlled_pods(&set), &orphans, now);
            }
            Task::DaemonSet(namespace, name) => {
                let Some(set) = self.get("apps", "daemonsets", namespace, name) else { return Outcome::default() };
                let nodes = self.list("", "nodes", None);
                return daemonsets::reconcile(&set, &nodes, &self.controlled_pods(&set), now);
            }
            Task::Pod(namespace, name) => match self.get("", "pods", namespace, name) {
                Some(pod) if scheduler::is_waiting(&pod) => {
                    let write = scheduler::reconcile(&pod, &self.list("", "nodes", None), &self.list("", "pods", None));
                    write.into_iter().collect()
                }
                _ => Vec::new(),
            },
            Task::Namespace(name) => self.look_at_namespace(name),
            Task::NodeGone(name) => self.look_at_gone_node(name),
            Task::Garbage(uid) => self.look_at_garbage(uid),
        };
        Outcome { writes, look_again: None }
    }

    fn look_at_service(&self, namespace: &str, name: &str) -> Vec<Write> {
        let service = self.get("", "services", namespace, name).filter(|service| !object::is_terminating(service));
        let Some(service) = service else { return Vec::new() };
        let Some(selector) = service_selector(&service) else { return Vec::new() };
        let mut pods = self.list("", "pods", Some(namespace));
        pods.retain(|pod| selector.matches(pod));
        let existing = self.slices(namespace, name, service_slices::MANAGER);
        let zone_of = |node: &str| {
            let node = self.get("", "nodes", "", node)?;
            Some(str_at(&node, &["metadata", "labels", "topology.kubernetes.io/zone"]).to_owned())
                .filter(|zone| !zone.is_empty())
        };
        let mut writes = service_slices::reconcile(&service, &pods, &existing, zone_of);
        let present = self.get("", "endpoints", namespace, name);
        writes.extend(endpoints::reconcile(&service, &pods, present.as_deref()));
        writes
    }

    /// Endpoints go with their Service, hand-made ones too; slices follow by their owner references.
    fn look_at_gone_service(&self, namespace: &str, name: &str) -> Vec<Write> {
        if self.get("", "services", namespace, name).is_some() {
            return Vec::new();
        }
        let endpoints = self.get("", "endpoints", namespace, name);
        endpoints.iter().map(|endpoints| Write::delete(gvr("", "endpoints"), endpoints)).collect()
    }

    fn look_at_namespace(&self, name: &str) -> Vec<Write> {
        let Some(namespace) = self.get("", "namespaces", "", name) else { return Vec::new() };
        if !object::is_terminating(&namespace) {
            return namespaces::furnish(&namespace, &self.root_ca, |gvr, object| self.store.get(gvr, name, object));
        }
        let mut contents = Vec::new();
        for gvr in self.store.resources() {
            let list = self.store.list(&gvr, Some(name));
            contents.extend(list.items.into_iter().map(|object| (gvr.clone(), object)));
        }
        namespaces::empty(&namespace, &contents)
    }

    /// Nobody is left who could say that these pods have ended.
    fn look_at_gone_node(&self, name: &str) -> Vec<Write> {
        if self.get("", "nodes", "", name).is_some() {
            return Vec::new();
        }
        let mut pods = self.list("", "pods", None);
        pods.retain(|pod| str_at(pod, &["spec", "nodeName"]) == name);
        pods.iter().map(|pod| Write::Delete(gvr("", "pods"), Value::clone(pod), DeleteOptions::now())).collect()
    }

    fn look_at_garbage(&self, uid: &str) -> Vec<Write> {
        let Some((gvr, object)) = self.by_uid(uid) else { return Vec::new() };
        let owner = |reference: &Value| {
            let found = self.by_uid(str_at(reference, &["uid"]));
            Owner::of(found.as_ref().map(|(_, owner)| &**owner))
        };
        let dependents: Vec<(Gvr, Arc<Value>)> =
            self.index.dependents(uid).filter_map(|dependent| self.by_uid(dependent)).collect();
        garbage::reconcile(&gvr, &object, owner, &dependents)
    }

    fn by_uid(&self, uid: &str) -> Option<(Gvr, Arc<Value>)> {
        let place = self.index.place(uid)?;
        let object = self.store.get(&place.gvr, &place.namespace, &place.name)?;
        (object::uid(&object) == uid).then(|| (place.gvr.clone(), object))
    }

    fn controlled_pods(&self, controller: &Value) -> Vec<Arc<Value>> {
        let namespace = object::namespace(controller);
        let names = self.index.controlled(object::uid(controller));
        names.filter_map(|name| self.get("", "pods", namespace, name)).collect()
    }

    fn slices(&self, namespace: &str, service: &str, manager: &str) -> Vec<Arc<Value>> {
        let names = self.index.slices(namespace, service);
        let slices = names.filter_map(|name| self.get("discovery.k8s.io", "endpointslices", namespace, name));
        slices.filter(|slice| str_at(slice, &["metadata", "labels", slices::MANAGED_BY]) == manager).collect()
    }

    fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.store.get(&gvr(group, resource), namespace, name)
    }

    fn list(&self, group: &str, resource: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
        self.store.list(&gvr(group, resource), namespace).items
    }
}

fn gvr(group: &str, resource: &str) -> Gvr {
    Gvr::new(group, "v1", resource)
}

fn key(object: &Value) -> (String, String) {
    (object::namespace(object).to_owned(), object::name(object).to_owned())
}

fn is_controlled(object: &Value, controller: &Value) -> bool {
    controller_of(object).is_some_and(|owner| str_at(owner, &["uid"]) == object::uid(controller))
}

/// The pods that a Service selects; `None` for one that leaves its endpoints to others.
fn service_selector(service: &Value) -> Option<LabelSelector> {
    if str_at(service, &["spec", "type"]) == "ExternalName" {
        return None;
    }
    let selector = object::at(service, &["spec", "selector"])?.as_object().filter(|selector| !selector.is_empty())?;
    Some(LabelSelector::from_map(selector))
}
