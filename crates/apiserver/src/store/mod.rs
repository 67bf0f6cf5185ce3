//! Objects, revisions and events, in memory.
//!
//! There is one resource version for everything that is stored, a counter that each write advances, as etcd's revision
//! is for a real kube-apiserver. Every resource keeps a log of its last events: a watch reads on from a place in the
//! log and so needs no queue of its own, and a list at an earlier resource version is the present one with the log
//! undone. What is older than the log is answered by 410 Gone, and clients list again.
//!
//! Objects are immutable once stored (`Arc<Value>`), so a snapshot costs a pointer an object.

mod deletion;
mod event;
mod journal;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::{Value, json};
use tokio::sync::mpsc;

pub use deletion::{DeleteOptions, Deletion, FOREGROUND, ORPHAN, Propagation};
pub use event::{Event, EventKind, Subscription, Watch};

use crate::resources::Gvr;
use crate::status::Status;
use crate::{clock, object};
use event::Table;
use journal::{Contents, Journal};

/// The namespace (empty for a cluster-scoped object) and the name of an object.
pub type Key = (Box<str>, Box<str>);

/// The objects of one API server. Clones share them.
#[derive(Debug, Clone)]
pub struct Store {
    state: Arc<RwLock<State>>,
}

/// A consistent view of some objects.
#[derive(Debug, Clone)]
pub struct List {
    /// The resource version at which the objects are as given.
    pub revision: u64,
    /// The objects, by namespace and name.
    pub items: Vec<Arc<Value>>,
}

#[derive(Debug)]
struct State {
    revision: u64,
    /// The resource version at the start: a resource without events yet can be watched from there on.
    start: u64,
    /// Whether a resource version that is still to come is one of another life of the store.
    sealed: bool,
    tables: HashMap<(Arc<str>, Arc<str>), Table>,
    subscribers: Vec<mpsc::UnboundedSender<Arc<Event>>>,
    journal: Option<Journal>,
}

/// What a write leaves behind.
enum Change {
    Put(Value),
    Remove(Value),
}

impl Default for Store {
    fn default() -> Self {
        Store::new()
    }
}

impl Store {
    /// An empty store that is gone with the process.
    pub fn new() -> Self {
        Store::with(State::new(1))
    }

    /// An empty store whose resource versions begin after `revision`.
    ///
    /// It is for a store that is filled anew at each start: where each start begins after the resource versions of all
    /// before, what a client knows from an earlier one is answered by 410 Gone, and it lists again. So is a watch from
    /// a resource version that is still to come, which [`Store::new`] and [`Store::open`] let wait.
    pub fn starting_after(revision: u64) -> Self {
        Store::with(State { sealed: true, ..State::new(revision) })
    }

    /// The store that is kept in `folder`, made if it is absent. See `journal` for what a crash may cost.
    ///
    /// # Errors
    /// When the folder can't be made, read or written, or is in use by another process.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        let (journal, Contents { revision, objects }) = Journal::open(folder)?;
        let mut tables: HashMap<(Arc<str>, Arc<str>), Table> = HashMap::new();
        for (gvr, object) in objects {
            let table = tables.entry(gvr.table()).or_insert_with(|| Table::new(gvr, revision));
            table.objects.insert(key_of(&object), Arc::new(object));
        }
        let revision = revision.max(1);
        Ok(Store::with(State { tables, journal: Some(journal), ..State::new(revision) }))
    }

    /// The present resource version.
    pub fn revision(&self) -> u64 {
        self.read().revision
    }

    /// The resources that have, or had, an object.
    pub fn resources(&self) -> Vec<Gvr> {
        self.read().tables.values().map(|table| table.gvr.clone()).collect()
    }

    /// One object; `namespace` is `""` for a cluster-scoped one. Only group and resource of `gvr` count, here and below.
    pub fn get(&self, gvr: &Gvr, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.read().current(gvr, namespace, name).cloned()
    }

    /// How many objects there are of a resource.
    pub fn count(&self, gvr: &Gvr) -> usize {
        self.read().tables.get(&gvr.table()).map_or(0, |table| table.objects.len())
    }

    /// All objects of a resource, or those of one namespace.
    pub fn list(&self, gvr: &Gvr, namespace: Option<&str>) -> List {
        let state = self.read();
        let items = state.tables.get(&gvr.table()).map(|table| in_namespace(&table.objects, namespace));
        List { revision: state.revision, items: items.unwrap_or_default() }
    }

    /// The same as it was at an earlier resource version.
    ///
    /// # Errors
    /// 410 when the log does not reach back so far, 504 when `revision` is still to come.
    pub fn list_at(&self, gvr: &Gvr, namespace: Option<&str>, revision: u64) -> Result<List, Status> {
        let state = self.read();
        if revision > state.revision {
            return Err(too_large(revision, state.revision));
        }
        let Some(table) = state.tables.get(&gvr.table()) else {
            return match revision < state.start {
                true => Err(Status::too_old(revision, state.start)),
                false => Ok(List { revision, items: Vec::new() }),
            };
        };
        let objects = table.objects_at(revision)?;
        Ok(List { revision, items: in_namespace(&objects, namespace) })
    }

    /// Stores a new object and gives it back with its `uid`, `creationTimestamp` and `resourceVersion`.
    ///
    /// # Errors
    /// 409 when there is one of this name.
    pub fn create(&self, gvr: &Gvr, object: Value) -> Result<Arc<Value>, Status> {
        self.create_with(gvr, object, false)
    }

    /// [`Store::create`]; with `dry_run` nothing is stored.
    ///
    /// # Errors
    /// 409 when there is one of this name.
    pub fn create_with(&self, gvr: &Gvr, mut object: Value, dry_run: bool) -> Result<Arc<Value>, Status> {
        if object::uid(&object).is_empty() {
            object::set_meta(&mut object, "uid", json!(uuid::Uuid::new_v4().to_string()));
        }
        if object::meta_str(&object, "creationTimestamp").is_empty() {
            object::set_meta(&mut object, "creationTimestamp", json!(clock::now()));
        }
        let (namespace, name) = (object::namespace(&object).to_owned(), object::name(&object).to_owned());
        let mut state = self.write();
        if state.current(gvr, &namespace, &name).is_some() {
            return Err(Status::already_exists(&gvr.group, &gvr.resource, &name));
        }
        state.commit(gvr, None, Change::Put(object), dry_run)
    }

    /// Replaces an object. Its `resourceVersion`, if it has one, must be that of the stored one, and its `uid` too; its
    /// `uid` and `creationTimestamp` stay where it has none.
    /// An object whose last finalizer goes while it is being deleted is removed by this. A write that changes nothing
    /// makes no event.
    ///
    /// # Errors
    /// 404 when it is not there, 409 when it has been modified or replaced since.
    pub fn update(&self, gvr: &Gvr, object: Value) -> Result<Arc<Value>, Status> {
        self.update_with(gvr, object, false)
    }

    /// [`Store::update`]; with `dry_run` nothing is stored.
    ///
    /// # Errors
    /// As [`Store::update`].
    pub fn update_with(&self, gvr: &Gvr, mut object: Value, dry_run: bool) -> Result<Arc<Value>, Status> {
        let mut state = self.write();
        let (namespace, name) = (object::namespace(&object), object::name(&object));
        let Some(current) = state.current(gvr, namespace, name).cloned() else {
            return Err(Status::not_found(&gvr.group, &gvr.resource, name));
        };
        let version = object::resource_version(&object);
        if !version.is_empty() && version != object::resource_version(&current) {
            return Err(Status::modified(&gvr.group, &gvr.resource, name));
        }
        let uid = object::uid(&object);
        if !uid.is_empty() && uid != object::uid(&current) {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                object::uid(&current)
            );
            return Err(Status::conflict(&gvr.group, &gvr.resource, name, &why));
        }
        for field in ["uid", "creationTimestamp"] {
            if object::meta_str(&object, field).is_empty() {
                object::set_meta(&mut object, field, current["metadata"][field].clone());
            }
        }
        let change = if deletion::is_finished(gvr, &object) { Change::Remove(object) } else { Change::Put(object) };
        state.commit(gvr, Some(current), change, dry_run)
    }

    /// Reads an object, lets `edit` change it and writes it back, again when somebody else wrote in between. `edit`
    /// says whether there is something to write.
    ///
    /// # Errors
    /// 404 when it is not there, and what `edit` gives.
    pub fn modify<F>(&self, gvr: &Gvr, namespace: &str, name: &str, mut edit: F) -> Result<Arc<Value>, Status>
    where
        F: FnMut(&mut Value) -> Result<bool, Status>,
    {
        loop {
            let Some(current) = self.get(gvr, namespace, name) else {
                return Err(Status::not_found(&gvr.group, &gvr.resource, name));
            };
            let mut object = Value::clone(&current);
            if !edit(&mut object)? {
                return Ok(current);
            }
            match self.update(gvr, object) {
                Err(status) if status.reason == "Conflict" => continue,
                result => return result,
            }
        }
    }

    /// Asks for an object's deletion, as `DELETE` does: removed at once, or marked when finalizers, a grace period or
    /// (for a namespace) what is in it stand before that.
    ///
    /// # Errors
    /// 404 when it is not there, 409 when a precondition does not hold.
    pub fn delete(&self, gvr: &Gvr, namespace: &str, name: &str, options: &DeleteOptions) -> Result<Deletion, Status> {
        let mut state = self.write();
        let Some(current) = state.current(gvr, namespace, name).cloned() else {
            return Err(Status::not_found(&gvr.group, &gvr.resource, name));
        };
        options.check(gvr, &current)?;
        match deletion::plan(gvr, &current, options) {
            deletion::Plan::Nothing => Ok(Deletion::Marked(current)),
            deletion::Plan::Mark(object) => {
                state.commit(gvr, Some(current), Change::Put(object), options.dry_run).map(Deletion::Marked)
            }
            deletion::Plan::Remove(object) => {
                state.commit(gvr, Some(current), Change::Remove(object), options.dry_run).map(Deletion::Removed)
            }
        }
    }

    /// The events of one resource after `revision`, those of the log first.
    ///
    /// # Errors
    /// 410 when the log does not reach back so far, or `revision` is none of this store (see
    /// [`Store::starting_after`]).
    pub fn watch(&self, gvr: &Gvr, revision: u64) -> Result<Watch, Status> {
        let mut state = self.write();
        if state.sealed && revision > state.revision {
            return Err(Status::too_old(revision, state.start));
        }
        let table = state.table_mut(gvr);
        if revision < table.floor {
            return Err(Status::too_old(revision, table.floor));
        }
        let woken = table.wake.subscribe();
        drop(state);
        Ok(Watch::new(self.clone(), gvr.clone(), revision, woken))
    }

    /// Every event of every resource from now on, for what runs inside this process and reads at once: the queue is
    /// unbounded.
    pub fn subscribe(&self) -> Subscription {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.write().subscribers.push(sender);
        Subscription { receiver }
    }

    /// Writes what is still on its way to the disk. Nothing to do for a store in memory.
    pub fn flush(&self) {
        if let Some(journal) = &self.read().journal {
            journal.sync();
        }
    }

    fn with(state: State) -> Self {
        Store { state: Arc::new(RwLock::new(state)) }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(revision: u64) -> Self {
        let (tables, subscribers) = (HashMap::new(), Vec::new());
        State { revision, start: revision, sealed: false, tables, subscribers, journal: None }
    }

    fn current(&self, gvr: &Gvr, namespace: &str, name: &str) -> Option<&Arc<Value>> {
        self.tables.get(&gvr.table())?.objects.get(&key(namespace, name))
    }

    fn table_mut(&mut self, gvr: &Gvr) -> &mut Table {
        let start = self.start;
        self.tables.entry(gvr.table()).or_insert_with(|| Table::new(gvr.clone(), start))
    }

    fn commit(
        &mut self,
        gvr: &Gvr,
        previous: Option<Arc<Value>>,
        change: Change,
        dry_run: bool,
    ) -> Result<Arc<Value>, Status> {
        let (mut object, kind) = match (change, &previous) {
            (Change::Put(object), None) => (object, EventKind::Added),
            (Change::Put(object), Some(_)) => (object, EventKind::Modified),
            (Change::Remove(object), _) => (object, EventKind::Deleted),
        };
        if let (EventKind::Modified, Some(previous)) = (kind, &previous) {
            object::set_meta(&mut object, "resourceVersion", json!(object::resource_version(previous)));
            if object == **previous {
                return Ok(previous.clone());
            }
        }
        if dry_run {
            return Ok(Arc::new(object));
        }
        let revision = self.revision + 1;
        object::set_meta(&mut object, "resourceVersion", json!(revision.to_string()));
        let event = Arc::new(Event::new(kind, gvr.clone(), revision, Arc::new(object), previous));
        if let Some(journal) = &mut self.journal {
            let tables = &self.tables;
            let snapshot = || {
                let rows = tables.values().flat_map(|t| t.objects.values().map(move |o| (t.gvr.clone(), o.clone())));
                rows.collect()
            };
            journal.append(&event, snapshot).map_err(|e| {
                Status::internal(format!("can't write to the storage: {e}; free space on its disk and try again"))
            })?;
        }
        self.revision = revision;
        let object = event.object.clone();
        self.table_mut(gvr).record(event.clone());
        self.subscribers.retain(|subscriber| subscriber.send(event.clone()).is_ok());
        Ok(object)
    }
}

/// 504, as when a list is asked for at a resource version that is still to come.
fn too_large(asked: u64, present: u64) -> Status {
    let cause = crate::status::Cause::new("ResourceVersionTooLarge", "", "Too large resource version");
    let message = format!("Timeout: Too large resource version: {asked}, current: {present}");
    let details = crate::status::Details { causes: vec![cause], retry_after_seconds: 1, ..Default::default() };
    Status::new(504, "Timeout", message).with_details(details)
}

fn in_namespace(objects: &BTreeMap<Key, Arc<Value>>, namespace: Option<&str>) -> Vec<Arc<Value>> {
    let Some(namespace) = namespace else { return objects.values().cloned().collect() };
    let from = Bound::Included(key(namespace, ""));
    let rest = objects.range((from, Bound::Unbounded));
    rest.take_while(|(key, _)| &*key.0 == namespace).map(|(_, object)| object.clone()).collect()
}

fn key(namespace: &str, name: &str) -> Key {
    (namespace.into(), name.into())
}

fn key_of(object: &Value) -> Key {
    key(object::namespace(object), object::name(object))
}

#[cfg(test)]
mod tests;
