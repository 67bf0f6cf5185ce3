//! Clusters that are an API server each, gates in front of them, and controllers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tombolo_api::{about, mcs};
use tombolo_apiserver::{ApiServer, Authorizer, Gvr};
use tombolo_controller::{Location, Options, SourceOptions};
use tombolo_services::EndpointMode;
use tombolo_services::clusters::ClusterId;
use tombolo_services::mirrors::Choice;
use tombolo_services::staleness::Limits;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(45);
/// How often it is looked whether it is so.
const LOOK: Duration = Duration::from_millis(20);
/// The namespace of the controller's own objects.
pub const OWN: &str = "tombolo-system";

/// Waits until there is something, and fails with `what` where nothing comes.
#[track_caller]
pub fn soon<T, F: FnMut() -> Option<T>>(what: String, mut look: F) -> impl Future<Output = T> {
    let place = std::panic::Location::caller();
    async move {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < end, "{place}: not within {} s: {what}", PATIENCE.as_secs());
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// The resource of a kind, in the version that is stored.
pub fn gvr(kind: &str) -> Gvr {
    let (group, version, plural) = match kind {
        "Namespace" => ("", "v1", "namespaces"),
        "Node" => ("", "v1", "nodes"),
        "Service" => ("", "v1", "services"),
        "Endpoints" => ("", "v1", "endpoints"),
        "ConfigMap" => ("", "v1", "configmaps"),
        "Secret" => ("", "v1", "secrets"),
        "Event" => ("", "v1", "events"),
        "EndpointSlice" => ("discovery.k8s.io", "v1", "endpointslices"),
        "Lease" => ("coordination.k8s.io", "v1", "leases"),
        "ServiceExport" => (mcs::GROUP, "v1beta1", "serviceexports"),
        "ServiceImport" => (mcs::GROUP, "v1beta1", "serviceimports"),
        "ClusterProperty" => (about::GROUP, "v1beta1", "clusterproperties"),
        "CustomResourceDefinition" => ("apiextensions.k8s.io", "v1", "customresourcedefinitions"),
        other => panic!("no kind {other}"),
    };
    Gvr::new(group, version, plural)
}

/// A cluster: its API server, and a gate through which others reach it.
pub struct Cluster {
    pub name: String,
    pub server: ApiServer,
    pub client: Client,
    pub gate: Gate,
    address: SocketAddr,
}

impl Cluster {
    /// An IPv4 cluster whose id is its name, with the definitions of the Multi-Cluster Services API.
    pub async fn new(name: &str) -> Self {
        Self::with(name, &["10.96.0.0/16"], &definitions()).await
    }

    /// A cluster with these networks for Services and these definitions.
    pub async fn with(name: &str, cidrs: &[&str], definitions: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cidrs = cidrs.iter().map(|cidr| cidr.parse().unwrap());
        let server = ApiServer::builder().service_cidrs(cidrs).advertise(address).build().unwrap();
        server.serve(listener);
        let client = client(&server.kubeconfig(&format!("https://{address}"))).await;
        let gate = Gate::new(address).await;
        let cluster = Self { name: name.to_owned(), server, client, gate, address };
        cluster.put(json!({"kind": "Namespace", "metadata": {"name": OWN}})).await;
        for definition in definitions {
            cluster.define(definition).await;
        }
        if definitions.iter().any(|definition| definition["spec"]["names"]["kind"] == "ClusterProperty") {
            cluster.identify(name).await;
        }
        cluster
    }

    /// Installs a definition.
    pub async fn define(&self, definition: &Value) {
        let mut definition = definition.clone();
        definition["kind"] = json!("CustomResourceDefinition");
        self.put(definition.clone()).await;
        // It is served a moment after it is stored.
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        let end = Instant::now() + PATIENCE;
        while self.api(&kind, "").list(&Default::default()).await.is_err() {
            assert!(Instant::now() < end, "{kind} is not served");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Gives it an id.
    pub async fn identify(&self, id: &str) {
        self.put(json!({"kind": "ClusterProperty", "metadata": {"name": about::CLUSTER_ID}, "spec": {"value": id}}))
            .await;
    }

    /// A kubeconfig for another API server over the same objects, which lets pass what `authorizer` does.
    pub async fn guarded(&self, authorizer: Arc<dyn Authorizer>) -> (ApiServer, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let builder = ApiServer::builder().store(self.server.store().clone()).without_controllers();
        let cidr = "10.97.0.0/16".parse().unwrap();
        let server = builder.service_cidrs([cidr]).authorizer(authorizer).build().unwrap();
        server.serve(listener);
        let kubeconfig = server.kubeconfig(&format!("https://{address}"));
        (server, kubeconfig)
    }

    /// It as a source, through its gate.
    pub fn source(&self) -> SourceOptions {
        SourceOptions { name: self.name.clone(), location: Location::Text(self.kubeconfig()) }
    }

    /// A kubeconfig that leads through the gate.
    pub fn kubeconfig(&self) -> String {
        self.server.kubeconfig(&format!("https://{}", self.gate.address))
    }

    /// A client of its own, straight to the server.
    pub async fn another_client(&self) -> Client {
        client(&self.server.kubeconfig(&format!("https://{}", self.address))).await
    }

    pub fn api(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let gvr = gvr(kind);
        let gvk = GroupVersionKind::gvk(&gvr.group, &gvr.version, kind);
        let resource = ApiResource::from_gvk_with_plural(&gvk, &gvr.resource);
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }

    /// Creates an object, or the namespaces that it needs before.
    pub async fn put(&self, mut object: Value) -> Value {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let gvr = gvr(&kind);
        let group = if gvr.group.is_empty() { String::new() } else { format!("{}/", gvr.group) };
        object["apiVersion"] = json!(format!("{group}{}", gvr.version));
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        if !namespace.is_empty() && self.get("Namespace", "", &namespace).is_none() {
            let namespace = json!({"kind": "Namespace", "metadata": {"name": namespace}});
            Box::pin(self.put(namespace)).await;
        }
        let parsed: DynamicObject = serde_json::from_value(object.clone()).unwrap();
        let made = self.api(&kind, &namespace).create(&PostParams::default(), &parsed).await;
        serde_json::to_value(made.unwrap_or_else(|error| panic!("{error}: {object}"))).unwrap()
    }

    /// Merges a patch into an object.
    pub async fn patch(&self, kind: &str, namespace: &str, name: &str, patch: Value) -> Value {
        let parameters = PatchParams::apply("a-person");
        let parameters = PatchParams { force: false, ..parameters };
        let patched = self.api(kind, namespace).patch(name, &parameters, &Patch::Merge(&patch)).await;
        serde_json::to_value(patched.unwrap()).unwrap()
    }

    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) {
        self.api(kind, namespace).delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// An object as it is stored.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.server.store().get(&gvr(kind), namespace, name)
    }

    /// All objects of a kind in a namespace.
    pub fn list(&self, kind: &str, namespace: &str) -> Vec<Arc<Value>> {
        let namespace = (!namespace.is_empty()).then_some(namespace);
        self.server.store().list(&gvr(kind), namespace).items.into_iter().collect()
    }

    /// The addresses in the slices that belong to a Service.
    pub fn addresses(&self, namespace: &str, service: &str) -> Vec<String> {
        self.addresses_by(namespace, "kubernetes.io/service-name", service)
    }

    /// The addresses in the slices with this label.
    pub fn addresses_by(&self, namespace: &str, label: &str, value: &str) -> Vec<String> {
        let slices = self.list("EndpointSlice", namespace);
        let slices = slices.iter().filter(|slice| slice["metadata"]["labels"][label] == value);
        let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
        let mut found: Vec<String> =
            endpoints.map(|endpoint| endpoint["addresses"][0].as_str().unwrap().to_owned()).collect();
        found.sort();
        found
    }

    /// Waits until an object is as `is_so` asks.
    #[track_caller]
    pub fn wait(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        is_so: impl Fn(&Value) -> bool,
    ) -> impl Future<Output = Arc<Value>> {
        let what = format!("{kind} {namespace}/{name} of {}", self.name);
        soon(what, move || self.get(kind, namespace, name).filter(|object| is_so(object)))
    }

    #[track_caller]
    pub fn wait_gone(&self, kind: &str, namespace: &str, name: &str) -> impl Future<Output = ()> {
        let what = format!("{kind} {namespace}/{name} of {} is gone", self.name);
        soon(what, move || self.get(kind, namespace, name).is_none().then_some(()))
    }

    #[track_caller]
    pub fn wait_addresses(&self, namespace: &str, service: &str, expected: &[&str]) -> impl Future<Output = ()> {
        let what = format!("{namespace}/{service} of {} has {expected:?}", self.name);
        soon(what, move || (self.addresses(namespace, service) == expected).then_some(()))
    }

    /// What is said of a source, once `is_so`.
    #[track_caller]
    pub fn wait_source(&self, source: &str, is_so: impl Fn(&Value) -> bool) -> impl Future<Output = Value> {
        let what = format!("the state of source {source} at {}", self.name);
        soon(what, move || self.source_row(source).filter(|row| is_so(row)))
    }

    pub fn source_row(&self, source: &str) -> Option<Value> {
        let map = self.get("ConfigMap", OWN, "tombolo-sources")?;
        serde_json::from_str(map["data"][source].as_str()?).ok()
    }

    /// Waits for an Event of this reason on an object, whose message has all `words`.
    #[track_caller]
    pub fn wait_event(&self, namespace: &str, name: &str, reason: &str, words: &[&str]) -> impl Future<Output = ()> {
        let what = format!("an Event {reason} on {namespace}/{name} of {} with {words:?}", self.name);
        soon(what, move || {
            let is_it = |event: &Arc<Value>| {
                let message = event["message"].as_str().unwrap_or_default();
                event["involvedObject"]["name"] == name
                    && event["reason"] == reason
                    && words.iter().all(|word| message.contains(word))
            };
            self.list("Event", namespace).iter().any(is_it).then_some(())
        })
    }

    /// The condition of a ServiceExport: status and reason.
    pub fn condition(&self, namespace: &str, name: &str, kind: &str) -> Option<(String, String)> {
        let export = self.get("ServiceExport", namespace, name)?;
        let conditions = export["status"]["conditions"].as_array()?.clone();
        let condition = conditions.into_iter().find(|condition| condition["type"] == kind)?;
        Some((condition["status"].as_str()?.to_owned(), condition["reason"].as_str()?.to_owned()))
    }

    #[track_caller]
    pub fn wait_condition(&self, key: (&str, &str), kind: &str, expected: (&str, &str)) -> impl Future<Output = ()> {
        let what = format!("{kind} of ServiceExport {key:?} of {} is {expected:?}", self.name);
        let expected = (expected.0.to_owned(), expected.1.to_owned());
        soon(what, move || (self.condition(key.0, key.1, kind).as_ref() == Some(&expected)).then_some(()))
    }
}

pub async fn client(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// The definitions of the Multi-Cluster Services API as in `deploy/`.
pub fn definitions() -> [Value; 3] {
    [
        serde_json::to_value(mcs::service_exports_crd().unwrap()).unwrap(),
        serde_json::to_value(mcs::service_imports_crd().unwrap()).unwrap(),
        serde_json::to_value(about::crd()).unwrap(),
    ]
}

/// A TCP proxy that can be shut: nobody gets through, and connections that are there end.
pub struct Gate {
    pub address: SocketAddr,
    is_open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Gate {
    pub async fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (is_open, opened) = watch::channel(true);
        let task = tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let mut opened = opened.clone();
                if !*opened.borrow() {
                    continue;
                }
                tokio::spawn(async move {
                    let Ok(mut to) = TcpStream::connect(to).await else { return };
                    let (_, _) = (from.set_nodelay(true), to.set_nodelay(true));
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut from, &mut to) => {}
                        _ = opened.wait_for(|is_open| !is_open) => {}
                    }
                });
            }
        });
        Self { address, is_open, task }
    }

    pub fn shut(&self) {
        self.is_open.send_replace(false);
    }

    pub fn open(&self) {
        self.is_open.send_replace(true);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.shut();
        self.task.abort();
    }
}

/// A controller that runs.
pub struct Controller {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

impl Controller {
    pub async fn run(cluster: &Cluster, options: Options) -> Self {
        Self::run_as(cluster.another_client().await, options)
    }

    /// With the rights of this client.
    pub fn run_as(client: Client, options: Options) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(tombolo_controller::run(client, options, stop.clone())), stop }
    }

    /// As SIGTERM does.
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// As SIGKILL does: whatever is on its way is dropped.
    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// Mirroring from these clusters, with short limits.
pub fn options(sources: &[&Cluster]) -> Options {
    let limits = Limits {
        grace: Duration::from_secs(1),
        stale_after: Duration::from_secs(600),
        mass_delete_after: Duration::from_secs(600),
        ..Limits::default()
    };
    Options {
        sources: sources.iter().map(|cluster| cluster.source()).collect(),
        choice: Choice::default(),
        mirror: true,
        export_choice: Choice::default(),
        emit: None,
        mode: EndpointMode::Pods,
        legacy_endpoints: false,
        limits,
        mcs: true,
        cluster_id: None,
        clusterset_cidrs: Vec::new(),
        cluster_cidrs: Vec::new(),
        own_namespace: OWN.to_owned(),
        identity: None,
        listen: None,
    }
}

/// Only ServiceExports and ServiceImports.
pub fn imports_only(sources: &[&Cluster]) -> Options {
    Options { mirror: false, ..options(sources) }
}

pub fn id(text: &str) -> ClusterId {
    ClusterId::parse(text).unwrap()
}
