//! The log of a resource's events, and those who read it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::{Key, Store, key_of};
use crate::resources::Gvr;
use crate::status::Status;

/// How many events of each resource are kept for watches that begin in the past.
const LOG: usize = 4096;

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It is new.
    Added,
    /// It was replaced.
    Modified,
    /// It is gone.
    Deleted,
}

/// One write.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The resource, in its storage version.
    pub gvr: Gvr,
    /// The resource version of the write.
    pub revision: u64,
    /// The object after it, or as it last was when it is gone.
    pub object: Arc<Value>,
    /// The object before it.
    pub previous: Option<Arc<Value>>,
    json: OnceLock<Bytes>,
}

/// The events of one resource, in order, none left out. See [`Store::watch`].
#[derive(Debug)]
pub struct Watch {
    store: Store,
    gvr: Gvr,
    seen: u64,
    woken: watch::Receiver<u64>,
}

/// The events of all resources, in order. See [`Store::subscribe`].
#[derive(Debug)]
pub struct Subscription {
    pub(super) receiver: mpsc::UnboundedReceiver<Arc<Event>>,
}

/// The objects of one resource and its log.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) gvr: Gvr,
    pub(super) objects: BTreeMap<Key, Arc<Value>>,
    pub(super) log: VecDeque<Arc<Event>>,
    /// Everything after this revision is in the log.
    pub(super) floor: u64,
    pub(super) wake: watch::Sender<u64>,
}

impl Event {
    pub(super) fn new(
        kind: EventKind,
        gvr: Gvr,
        revision: u64,
        object: Arc<Value>,
        previous: Option<Arc<Value>>,
    ) -> Self {
        Event { kind, gvr, revision, object, previous, json: OnceLock::new() }
    }

    /// The object as JSON; written once, however many read it.
    pub fn json(&self) -> Bytes {
        self.json.get_or_init(|| serde_json::to_vec(&*self.object).unwrap_or_default().into()).clone()
    }
}

impl Watch {
    pub(super) fn new(store: Store, gvr: Gvr, seen: u64, woken: watch::Receiver<u64>) -> Self {
        Watch { store, gvr, seen, woken }
    }

    /// Waits until there is at least one event and gives all that there are.
    ///
    /// # Errors
    /// 410 when the reader was so slow that the log went on without it.
    pub async fn next(&mut self) -> Result<Vec<Arc<Event>>, Status> {
        loop {
            self.woken.borrow_and_update();
            let (events, _) = self.ready()?;
            if !events.is_empty() {
                return Ok(events);
            }
            if self.woken.changed().await.is_err() {
                return Err(Status::internal("the API server is shutting down"));
            }
        }
    }

    /// The events that there are, and the resource version that is reached with them.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn ready(&mut self) -> Result<(Vec<Arc<Event>>, u64), Status> {
        let state = self.store.read();
        let revision = state.revision;
        let Some(table) = state.tables.get(&self.gvr.table()) else { return Ok((Vec::new(), revision)) };
        if self.seen < table.floor {
            return Err(Status::too_old(self.seen, table.floor));
        }
        let from = table.log.partition_point(|event| event.revision <= self.seen);
        let events: Vec<Arc<Event>> = table.log.range(from..).cloned().collect();
        drop(state);
        if let Some(last) = events.last() {
            self.seen = last.revision;
        }
        Ok((events, revision))
    }
}

impl Subscription {
    /// The next event; `None` when the store is gone.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        self.receiver.recv().await
    }

    /// The next event if there is one by now.
    pub fn try_next(&mut self) -> Option<Arc<Event>> {
        self.receiver.try_recv().ok()
    }
}

impl Table {
    pub(super) fn new(gvr: Gvr, floor: u64) -> Self {
        let (wake, _) = watch::channel(floor);
        Table { gvr, objects: BTreeMap::new(), log: VecDeque::new(), floor, wake }
    }

    pub(super) fn record(&mut self, event: Arc<Event>) {
        let key = key_of(&event.object);
        match event.kind {
            EventKind::Deleted => self.objects.remove(&key),
            EventKind::Added | EventKind::Modified => self.objects.insert(key, event.object.clone()),
        };
        let revision = event.revision;
        self.log.push_back(event);
        if self.log.len() > LOG
            && let Some(oldest) = self.log.pop_front()
        {
            self.floor = oldest.revision;
        }
        self.wake.send_replace(revision);
    }

    pub(super) fn objects_at(&self, revision: u64) -> Result<BTreeMap<Key, Arc<Value>>, Status> {
        if revision < self.floor {
            return Err(Status::too_old(revision, self.floor));
        }
        let mut objects = self.objects.clone();
        for event in self.log.iter().rev().take_while(|event| event.revision > revision) {
            let key = key_of(&event.object);
            match &event.previous {
                Some(previous) => objects.insert(key, previous.clone()),
                None => objects.remove(&key),
            };
        }
        Ok(objects)
    }
}
