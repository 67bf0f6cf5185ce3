//! Which pods run in a cluster of the lab, for those who want to look inside: `kubectl exec`, `kubectl logs`, `lab exec`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::log::Growth;

/// A container, as far as one needs to know to run something in it or to read what it wrote.
#[derive(Debug, Clone)]
pub struct ContainerEntry {
    /// Its name.
    pub name: String,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Where its programs start.
    pub working_dir: Option<String>,
    /// Its main process, while it runs.
    pub pid: Option<i32>,
    /// What it writes, as records ([`super::log`]).
    pub log: PathBuf,
    /// How far that is.
    pub growth: watch::Receiver<Growth>,
}

impl ContainerEntry {
    /// What it wrote before it was started anew.
    pub fn previous_log(&self) -> PathBuf {
        self.log.with_extension("previous.log")
    }
}

/// A pod of the cluster.
#[derive(Debug, Clone)]
pub struct PodEntry {
    /// Its UID.
    pub uid: String,
    /// The network namespace that it is in.
    pub network: String,
    /// Its containers.
    pub containers: Vec<ContainerEntry>,
}

impl PodEntry {
    /// The container with this name, or the first.
    pub fn container(&self, name: Option<&str>) -> Option<&ContainerEntry> {
        match name {
            Some(name) => self.containers.iter().find(|c| c.name == name),
            None => self.containers.first(),
        }
    }
}

/// The pods of one cluster, by namespace and name.
#[derive(Debug, Default)]
pub struct Directory(Mutex<HashMap<(String, String), PodEntry>>);

impl Directory {
    /// The pod.
    pub fn get(&self, namespace: &str, name: &str) -> Option<PodEntry> {
        self.lock().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// Enters the pod.
    pub fn insert(&self, namespace: &str, name: &str, entry: PodEntry) {
        self.lock().insert((namespace.to_owned(), name.to_owned()), entry);
    }

    /// Strikes the pod out, unless another with the same name has taken its place.
    pub fn remove(&self, namespace: &str, name: &str, uid: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let mut pods = self.lock();
        if pods.get(&key).is_some_and(|entry| entry.uid == uid) {
            pods.remove(&key);
        }
    }

    /// Notes the main process of a container, or that there is none.
    pub fn set_pid(&self, namespace: &str, name: &str, container: usize, pid: Option<i32>) {
        let mut pods = self.lock();
        let entry = pods.get_mut(&(namespace.to_owned(), name.to_owned()));
        if let Some(container) = entry.and_then(|entry| entry.containers.get_mut(container)) {
            container.pid = pid;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, String), PodEntry>> {
        // A map is whole whatever the panicking holder was doing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
