//! What this cluster offers to others, given to the emitter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tombolo_api::about;
use tombolo_api::mcs::v1beta1::ServiceExport;
use tombolo_emitter::{Emitted, EmittedKind, Emitter, Metrics, secrets};
use tombolo_proxy::ServiceKey;
use tombolo_proxy::convert::SERVICE_NAME_LABEL;
use tombolo_services::clusters::ClusterId;
use tombolo_services::convert::{self, own};
use tombolo_services::mirrors::Choice;

use crate::kinds::{Item, Kind};
use crate::watch::Seen;

/// How often the certificates are looked at by which this cluster reads others' emitters.
const RENEW: Duration = Duration::from_secs(3600);

/// Where the emitter is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmitOptions {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where the others reach it, `https://HOST:PORT`: what invitations say.
    pub urls: Vec<String>,
}

/// Begins to listen. Nothing is offered before all is known.
///
/// # Errors
/// The address is taken, or the cluster does not let us keep the authority's key.
pub(crate) async fn start(
    client: &Client,
    namespace: &str,
    options: &EmitOptions,
    stop: CancellationToken,
) -> anyhow::Result<Emitter> {
    let listener = TcpListener::bind(options.listen).await;
    let listener = listener.with_context(|| format!("can't listen on {}; choose another --emit", options.listen))?;
    let hosts = options.urls.iter().filter_map(|url| url.parse::<http::Uri>().ok());
    let hosts = hosts.filter_map(|url| url.host().map(|host| host.trim_matches(['[', ']']).to_owned()));
    let (identity, admissions) = secrets::open(client.clone(), namespace, hosts.collect(), stop.clone()).await?;
    if !options.urls.is_empty() {
        secrets::announce(client.clone(), namespace, &options.urls).await?;
    }
    Ok(Emitter::start(listener, identity, admissions, stop).await?)
}

/// Renews the certificates of the sources that were joined by an invitation, as long as it is ours to write.
pub(crate) async fn renew(client: Client, namespace: String, leads: tokio::sync::watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(RENEW);
    loop {
        ticks.tick().await;
        if !*leads.borrow() {
            continue;
        }
        match secrets::renew_sources(client.clone(), &namespace).await {
            Ok(renewed) => {
                for renewed in renewed {
                    match renewed.result {
                        Ok(true) => tracing::info!(source = renewed.source, "its certificate was renewed"),
                        Ok(false) => {}
                        Err(error) => tracing::warn!(source = renewed.source, %error, "its certificate is not renewed"),
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "no certificates are renewed"),
        }
    }
}

/// What can be offered, and what is.
#[derive(Debug)]
pub(crate) struct Feed {
    emitter: Emitter,
    choice: Choice,
    namespaces: BTreeMap<String, core::Namespace>,
    services: BTreeMap<ServiceKey, core::Service>,
    exports: BTreeMap<ServiceKey, ServiceExport>,
    endpoints: BTreeMap<ServiceKey, core::Endpoints>,
    slices: BTreeMap<ServiceKey, (ServiceKey, discovery::EndpointSlice)>,
    slices_of: BTreeMap<ServiceKey, BTreeSet<ServiceKey>>,
    /// What is offered: of each service its slices.
    offered: BTreeMap<ServiceKey, BTreeSet<ServiceKey>>,
    id: Option<ClusterId>,
}

impl Feed {
    /// Offers the Services that `choice` takes, and those with a ServiceExport.
    pub(crate) fn new(emitter: Emitter, choice: Choice) -> Self {
        Self {
            emitter,
            choice,
            namespaces: BTreeMap::new(),
            services: BTreeMap::new(),
            exports: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            slices: BTreeMap::new(),
            slices_of: BTreeMap::new(),
            offered: BTreeMap::new(),
            id: None,
        }
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        self.emitter.metrics()
    }

    /// All of this cluster was heard: what is offered is all there is.
    pub(crate) fn set_ready(&self) {
        self.emitter.set_ready();
    }

    /// This cluster's id, which others read as its ClusterProperty.
    pub(crate) fn set_id(&mut self, id: Option<ClusterId>) {
        if self.id == id {
            return;
        }
        match &id {
            Some(id) => self.emitter.set(about::ClusterProperty {
                metadata: ObjectMeta { name: Some(about::CLUSTER_ID.to_owned()), ..ObjectMeta::default() },
                spec: about::ClusterPropertySpec { value: id.as_str().to_owned() },
                status: None,
            }),
            None => self.emitter.remove(EmittedKind::ClusterProperty, "", about::CLUSTER_ID),
        }
        self.id = id;
    }

    /// Takes in an event of this cluster.
    pub(crate) fn apply(&mut self, seen: &Seen) {
        let mut concerned = BTreeSet::new();
        match seen {
            Seen::Put(item) => self.put(item, &mut concerned),
            Seen::Gone(kind, key) => self.gone(*kind, key, &mut concerned),
            Seen::All(kind, items, _) => {
                let present: BTreeSet<ServiceKey> = items.iter().map(Item::key).collect();
                for key in self.keys(*kind).difference(&present) {
                    self.gone(*kind, key, &mut concerned);
                }
                items.iter().for_each(|item| self.put(item, &mut concerned));
            }
            Seen::Refused(..) | Seen::Trouble(..) | Seen::Denied(..) => {}
        }
        for key in concerned {
            self.refresh(&key);
        }
    }

    fn put(&mut self, item: &Item, concerned: &mut BTreeSet<ServiceKey>) {
        let key = item.key();
        match item {
            Item::Namespace(object) => drop(self.namespaces.insert(key.name, without_fields(object))),
            Item::Service(object) if own::service(object).is_none() => {
                self.services.insert(key.clone(), without_fields(object));
                concerned.insert(key);
            }
            // One that has become ours.
            Item::Service(_) => self.gone(Kind::Service, &key, concerned),
            Item::Endpoints(object) => {
                if own::endpoints(object).is_none() {
                    self.endpoints.insert(key.clone(), without_fields(object));
                }
                concerned.insert(key);
            }
            Item::Export(object) => {
                self.exports.insert(key.clone(), without_fields(object));
                concerned.insert(key);
            }
            Item::Slice(object) => {
                self.gone(Kind::Slice, &key, concerned);
                let label = object.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL));
                if let Some(name) = label.filter(|_| own::slice(object).is_none()) {
                    let service = ServiceKey::new(&key.namespace, name);
                    self.slices_of.entry(service.clone()).or_default().insert(key.clone());
                    self.slices.insert(key, (service.clone(), without_fields(object)));
                    concerned.insert(service);
                }
            }
            _ => {}
        }
    }

    fn gone(&mut self, kind: Kind, key: &ServiceKey, concerned: &mut BTreeSet<ServiceKey>) {
        let is_news = match kind {
            Kind::Service => self.services.remove(key).is_some(),
            Kind::Endpoints => self.endpoints.remove(key).is_some(),
            Kind::Export => self.exports.remove(key).is_some(),
            Kind::Namespace => {
                self.namespaces.remove(&key.name);
                false
            }
            Kind::Slice => {
                if let Some((service, _)) = self.slices.remove(key) {
                    if let Some(slices) = self.slices_of.get_mut(&service) {
                        slices.remove(key);
                        if slices.is_empty() {
                            self.slices_of.remove(&service);
                        }
                    }
                    concerned.insert(service);
                }
                false
            }
            _ => false,
        };
        if is_news {
            concerned.insert(key.clone());
        }
    }

    fn keys(&self, kind: Kind) -> BTreeSet<ServiceKey> {
        match kind {
            Kind::Service => self.services.keys().cloned().collect(),
            Kind::Endpoints => self.endpoints.keys().cloned().collect(),
            Kind::Export => self.exports.keys().cloned().collect(),
            Kind::Slice => self.slices.keys().cloned().collect(),
            Kind::Namespace => self.namespaces.keys().map(|name| ServiceKey::new("", name)).collect(),
            _ => BTreeSet::new(),
        }
    }

    /// Offers a service as it is, or no longer. Endpoints come before the Service, and its export last.
    fn refresh(&mut self, key: &ServiceKey) {
        let export = self.exports.get(key);
        let service = self.services.get(key);
        let is_chosen = service.is_some_and(|object| self.choice.takes(key, &convert::service(object).0));
        if !is_chosen && export.is_none() {
            return self.withdraw(key);
        }
        let emitter = &self.emitter;
        if let Some(namespace) = self.namespaces.get(&key.namespace) {
            emitter.set(namespace.clone());
        }
        let present = self.slices_of.get(key).cloned().unwrap_or_default();
        for name in &present {
            if let Some((_, slice)) = self.slices.get(name) {
                emitter.set(slice.clone());
            }
        }
        let before = self.offered.insert(key.clone(), present.clone()).unwrap_or_default();
        for name in before.difference(&present) {
            emitter.remove(EmittedKind::EndpointSlice, &name.namespace, &name.name);
        }
        put_or_remove(emitter, EmittedKind::Endpoints, key, self.endpoints.get(key).cloned());
        put_or_remove(emitter, EmittedKind::Service, key, service.cloned());
        put_or_remove(emitter, EmittedKind::ServiceExport, key, export.cloned());
    }

    fn withdraw(&mut self, key: &ServiceKey) {
        let Some(slices) = self.offered.remove(key) else { return };
        for kind in [EmittedKind::ServiceExport, EmittedKind::Service, EmittedKind::Endpoints] {
            self.emitter.remove(kind, &key.namespace, &key.name);
        }
        for name in slices {
            self.emitter.remove(EmittedKind::EndpointSlice, &name.namespace, &name.name);
        }
        let mut rest = self.offered.range(ServiceKey::new(&key.namespace, "")..);
        if rest.next().is_none_or(|(next, _)| next.namespace != key.namespace) {
            self.emitter.remove(EmittedKind::Namespace, "", &key.namespace);
        }
    }
}

fn put_or_remove(emitter: &Emitter, kind: EmittedKind, key: &ServiceKey, object: Option<impl Into<Emitted>>) {
    match object {
        Some(object) => emitter.set(object),
        None => emitter.remove(kind, &key.namespace, &key.name),
    }
}

/// Who has written which field is half of an object, and is not offered.
fn without_fields<K: kube::Resource + Clone>(object: &K) -> K {
    let mut object = object.clone();
    object.meta_mut().managed_fields = None;
    object
}
