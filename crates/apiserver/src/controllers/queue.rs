//! What is to be looked at, each thing once, in the order in which it was noted; some of it not before a time.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Instant;

/// Something to look at. Namespaced things are a namespace and a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Task {
    /// A Service's Endpoints and EndpointSlices.
    Service(String, String),
    /// The Endpoints of a Service that is gone.
    ServiceGone(String, String),
    /// The EndpointSlices that mirror an Endpoints object.
    Mirror(String, String),
    /// A Deployment's ReplicaSets.
    Deployment(String, String),
    /// A ReplicaSet's pods.
    ReplicaSet(String, String),
    /// A DaemonSet's pods.
    DaemonSet(String, String),
    /// A node for a pod.
    Pod(String, String),
    /// What every namespace has, and the end of one.
    Namespace(String),
    /// The pods of a node that is gone.
    NodeGone(String),
    /// Owners and dependents of the object with this UID.
    Garbage(String),
}

#[derive(Debug, Default)]
pub(super) struct Queue {
    ready: VecDeque<Task>,
    noted: HashSet<Task>,
    later: BTreeSet<(Instant, Task)>,
}

impl Queue {
    pub(super) fn push(&mut self, task: Task) {
        if self.noted.insert(task.clone()) {
            self.ready.push_back(task);
        }
    }

    pub(super) fn push_at(&mut self, time: Instant, task: Task) {
        self.later.insert((time, task));
    }

    /// The next task whose time has come.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Task> {
        while self.next_time().is_some_and(|time| time <= now) {
            if let Some((_, task)) = self.later.pop_first() {
                self.push(task);
            }
        }
        let task = self.ready.pop_front()?;
        self.noted.remove(&task);
        Some(task)
    }

    /// When the first of the tasks that wait for a time is due.
    pub(super) fn next_time(&self) -> Option<Instant> {
        self.later.first().map(|(time, _)| *time)
    }
}
