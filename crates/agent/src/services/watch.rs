//! The API server's events, as values of the proxy.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tombolo_api::about::{self, ClusterProperty};
use tombolo_api::mcs::v1alpha1::ServiceImport;
use tombolo_proxy::convert::{self, Converted};
use tombolo_proxy::{Import, Refused, Service, ServiceKey, Slice};

use crate::events::words;
use crate::watch::{Seen, backoff, follow};

/// How often it is looked whether the API server has got a resource that it did not have.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// What is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Service,
    Import,
    Slice,
    ClusterId,
}

impl Kind {
    /// How many there are.
    pub(super) const ALL: usize = 4;
}

/// An object as far as it is for the proxy.
#[derive(Debug)]
pub(super) struct Object<T> {
    pub value: Option<T>,
    pub refused: Vec<Refused>,
    pub uid: Option<String>,
}

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self { value: None, refused: Vec::new(), uid: None }
    }
}

impl<T> Object<T> {
    fn new(converted: Converted<T>, uid: Option<String>) -> Self {
        Self { value: converted.value, refused: converted.refused, uid }
    }
}

/// What came, changed or went.
pub(super) enum Change {
    Service(ServiceKey, Box<Object<Service>>),
    Import(ServiceKey, Box<Object<Import>>),
    Slice(String, Box<Object<Slice>>),
    AllServices(BTreeMap<ServiceKey, Object<Service>>),
    AllImports(BTreeMap<ServiceKey, Object<Import>>),
    AllSlices(BTreeMap<String, Object<Slice>>),
    /// What the cluster says of its id in the ClusterSet.
    ClusterId(Option<String>),
    /// Nothing can be seen, which was said: services stay as they are.
    Nothing,
}

/// Watches for as long as somebody listens.
pub(super) fn start(client: &Client, sender: &mpsc::Sender<Change>, asks_for_id: bool) {
    tokio::spawn(follow(Api::<core::Service>::all(client.clone()), sender.clone(), |seen| match seen {
        Seen::Put(object) => Change::Service(convert::service_key(&object), Box::new(service(&object))),
        Seen::Gone(object) => Change::Service(convert::service_key(&object), Box::default()),
        Seen::All(objects) => {
            Change::AllServices(objects.iter().map(|object| (convert::service_key(object), service(object))).collect())
        }
        Seen::Trouble(_) => Change::Nothing,
    }));
    tokio::spawn(follow(Api::<discovery::EndpointSlice>::all(client.clone()), sender.clone(), |seen| match seen {
        Seen::Put(object) => Change::Slice(slice_name(&object), Box::new(slice(&object))),
        Seen::Gone(object) => Change::Slice(slice_name(&object), Box::default()),
        Seen::All(objects) => {
            Change::AllSlices(objects.iter().map(|object| (slice_name(object), slice(object))).collect())
        }
        Seen::Trouble(_) => Change::Nothing,
    }));
    tokio::spawn(follow_optional(Api::<ServiceImport>::all(client.clone()), sender.clone(), |seen| match seen {
        Seen::Put(object) => Change::Import(convert::import_key(&object), Box::new(import(&object))),
        Seen::Gone(object) => Change::Import(convert::import_key(&object), Box::default()),
        Seen::All(objects) => {
            Change::AllImports(objects.iter().map(|object| (convert::import_key(object), import(object))).collect())
        }
        Seen::Trouble(_) => Change::Nothing,
    }));
    if asks_for_id {
        let is_id = |object: &ClusterProperty| object.name_any() == about::CLUSTER_ID;
        tokio::spawn(follow_optional(
            Api::<ClusterProperty>::all(client.clone()),
            sender.clone(),
            move |seen| match seen {
                Seen::Put(object) if is_id(&object) => Change::ClusterId(Some(object.spec.value)),
                Seen::Gone(object) if is_id(&object) => Change::ClusterId(None),
                Seen::All(objects) => {
                    Change::ClusterId(objects.into_iter().find(is_id).map(|object| object.spec.value))
                }
                Seen::Put(_) | Seen::Gone(_) | Seen::Trouble(_) => Change::Nothing,
            },
        ));
    }
}

/// As [`follow`], of a resource that the API server may not have: then there are none, without a word, until it has it.
async fn follow_optional<K, C>(api: Api<K>, sender: mpsc::Sender<C>, change: impl Fn(Seen<K>) -> C)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut said = None;
    loop {
        let mut listing = Vec::new();
        let mut events = watcher(api.clone(), watcher::Config::default()).backoff(backoff()).boxed();
        let error = loop {
            let seen = match events.try_next().await {
                Ok(None) => return,
                Err(error) => match absence(&error) {
                    Some(why) => break why,
                    None => {
                        tracing::debug!(kind = %K::plural(&()), %error, "cannot watch; it is tried again");
                        continue;
                    }
                },
                Ok(Some(watcher::Event::Init)) => {
                    listing.clear();
                    continue;
                }
                Ok(Some(watcher::Event::InitApply(object))) => {
                    listing.push(object);
                    continue;
                }
                Ok(Some(watcher::Event::InitDone)) => {
                    if said.take().is_some() {
                        tracing::info!(kind = %K::plural(&()), "can be watched now");
                    }
                    Seen::All(std::mem::take(&mut listing))
                }
                Ok(Some(watcher::Event::Apply(object))) => Seen::Put(object),
                Ok(Some(watcher::Event::Delete(object))) => Seen::Gone(object),
            };
            if sender.send(change(seen)).await.is_err() {
                return;
            }
        };
        if let Absence::Denied(words) = error
            && said.as_ref() != Some(&words)
        {
            let next = "let the agent's service account list and watch it: see deploy/";
            tracing::warn!(kind = %K::plural(&()), error = words, next, "cannot watch");
            said = Some(words);
        }
        if sender.send(change(Seen::All(Vec::new()))).await.is_err() {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Why there is nothing to be seen.
enum Absence {
    Missing,
    Denied(String),
}

fn absence(error: &watcher::Error) -> Option<Absence> {
    match error {
        watcher::Error::InitialListFailed(error @ kube::Error::Api(status)) => match status.code {
            404 => Some(Absence::Missing),
            403 => Some(Absence::Denied(words(error))),
            _ => None,
        },
        _ => None,
    }
}

fn service(object: &core::Service) -> Object<Service> {
    Object::new(convert::service(object), object.uid())
}

fn import(object: &ServiceImport) -> Object<Import> {
    Object::new(convert::service_import(object), object.uid())
}

fn slice(object: &discovery::EndpointSlice) -> Object<Slice> {
    Object::new(convert::endpoint_slice(object), object.uid())
}

fn slice_name(object: &discovery::EndpointSlice) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}
