//! A node's kubelet as far as the lab needs one: registers the Node, keeps it Ready, and runs the pods bound to it.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::cni::ConfList;
use crate::pod::directory::Directory;
use crate::pod::status::condition;
use crate::pod::worker::{Order, Worker};
use crate::state::NodeDir;

/// What the lab's kubelet says it is, in `kubectl get nodes`.
pub const VERSION: &str = concat!("v1.34.0+tombolo-lab-", env!("CARGO_PKG_VERSION"));
/// How long a pod without a period of its own has to end.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);
/// How often a node that is not ready is looked at.
const UNREADY_PERIOD: Duration = Duration::from_millis(25);
/// How long to wait before a watch that broke is begun anew.
const WATCH_RETRY: Duration = Duration::from_millis(50);
/// How often a ready node is.
const READY_PERIOD: Duration = Duration::from_secs(1);
/// How often the node's lease is renewed.
const LEASE_PERIOD: Duration = Duration::from_secs(10);
/// How long after the last sign of life a node is taken for lost (kube-controller-manager's
/// `--node-monitor-grace-period`).
const GRACE_PERIOD: Duration = Duration::from_secs(40);

/// What a kubelet knows about its node.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The node's name.
    pub name: String,
    /// The node's network namespace.
    pub namespace: String,
    /// The start of the names of its pods' namespaces.
    pub pod_prefix: String,
    /// The node's addresses, IPv4 first.
    pub addresses: Vec<IpAddr>,
    /// The Node's pod CIDRs.
    pub pod_cidrs: Vec<String>,
    /// The Node's labels.
    pub labels: Vec<(String, String)>,
    /// The Node's annotations.
    pub annotations: Vec<(String, String)>,
    /// The node's files.
    pub dir: NodeDir,
    /// The address of the Service `kubernetes`.
    pub kubernetes: Option<IpAddr>,
    /// The addresses of the cluster's DNS.
    pub dns: Vec<IpAddr>,
    /// The program that built-in images run.
    pub program: PathBuf,
}

impl Facts {
    /// The network namespace of the pod with this UID.
    pub fn pod_namespace(&self, uid: &str) -> String {
        format!("{}{}", self.pod_prefix, uid.chars().filter(char::is_ascii_hexdigit).take(8).collect::<String>())
    }
}

/// A node's kubelet.
pub struct Kubelet {
    /// What it knows about its node.
    pub facts: Facts,
    /// Its way to the API.
    pub client: Client,
    /// Where it enters its pods.
    pub directory: Arc<Directory>,
    /// Whether the node is cut off, so that it could not reach the API.
    cut: AtomicBool,
    /// Whether the API knows the node as ready.
    ready: AtomicBool,
    /// How often the node came back after it had been taken for lost.
    returns: watch::Sender<u32>,
}

/// A kubelet that runs.
pub struct Running {
    kubelet: Arc<Kubelet>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Kubelet {
    /// Registers the node and starts to look after it.
    ///
    /// # Errors
    /// The API server doesn't take the Node.
    pub async fn start(facts: Facts, client: Client, directory: Arc<Directory>) -> kube::Result<Running> {
        let (cut, ready, returns) = (AtomicBool::new(false), AtomicBool::new(false), watch::Sender::new(0));
        let kubelet = Arc::new(Self { facts, client, directory, cut, ready, returns });
        kubelet.register().await?;
        let stop = CancellationToken::new();
        let heart = tokio::spawn(kubelet.clone().beat(stop.clone()));
        let pods = tokio::spawn(kubelet.clone().run_pods(stop.clone()));
        Ok(Running { kubelet, stop, tasks: vec![heart, pods] })
    }

    async fn register(&self) -> kube::Result<()> {
        let facts = &self.facts;
        let labels: serde_json::Map<_, _> = facts.labels.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        let annotations: serde_json::Map<_, _> = facts.annotations.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": facts.name, "labels": labels, "annotations": annotations},
            "spec": {"podCIDR": facts.pod_cidrs.first(), "podCIDRs": facts.pod_cidrs},
        });
        let node: Node = serde_json::from_value(node).map_err(kube::Error::SerdeError)?;
        match self.nodes().create(&PostParams::default(), &node).await {
            Err(kube::Error::Api(error)) if error.code == 409 => {}
            other => drop(other?),
        }
        let (ready, message) = self.readiness();
        self.write_status(ready, &message, &Value::Null).await.map(drop)
    }

    /// Keeps the Node's conditions and its lease as they are.
    async fn beat(self: Arc<Self>, stop: CancellationToken) {
        let mut written: Option<(bool, String)> = None;
        let mut conditions = Value::Null;
        let mut renewed: Option<Instant> = None;
        let mut lost_since: Option<Instant> = None;
        while !stop.is_cancelled() {
            if self.cut.load(Ordering::Relaxed) {
                let since = *lost_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= GRACE_PERIOD && written.is_some() && self.report_lost().await.is_ok() {
                    written = None;
                }
            } else {
                if lost_since.take().is_some() && written.is_none() {
                    self.returns.send_modify(|times| *times += 1);
                }
                let now = self.readiness();
                if written.as_ref() != Some(&now) {
                    match self.write_status(now.0, &now.1, &conditions).await {
                        Ok(fresh) => {
                            self.ready.store(now.0, Ordering::Relaxed);
                            (conditions, written) = (fresh, Some(now));
                        }
                        Err(error) => {
                            tracing::warn!(node = %self.facts.name, %error, "the node's status was not taken")
                        }
                    }
                }
                if renewed.is_none_or(|at| at.elapsed() >= LEASE_PERIOD) {
                    renewed = Some(Instant::now());
                    if let Err(error) = self.renew_lease().await {
                        tracing::debug!(node = %self.facts.name, %error, "the node's lease was not renewed");
                    }
                }
            }
            let ready = written.as_ref().is_some_and(|(ready, _)| *ready);
            let pause = if ready { READY_PERIOD } else { UNREADY_PERIOD };
            let _ = tokio::time::timeout(pause, stop.cancelled()).await;
        }
        let stopped = "the kubelet stopped";
        if let Err(error) = self.write_status(false, stopped, &conditions).await {
            tracing::debug!(node = %self.facts.name, %error, "the node could not be marked as not ready");
        }
    }

    /// A node is ready when pods on it can get a network.
    fn readiness(&self) -> (bool, String) {
        match ConfList::load(&self.facts.dir.cni_conf()) {
            Ok(_) => (true, "kubelet is posting ready status".into()),
            Err(error) => (false, format!("container runtime network not ready: {error}")),
        }
    }

    async fn write_status(&self, ready: bool, message: &str, before: &Value) -> kube::Result<Value> {
        let now = clock::now();
        let conditions: Vec<Value> = [
            ("MemoryPressure", false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            ("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            ("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            ("Ready", ready, if ready { "KubeletReady" } else { "KubeletNotReady" }, message),
        ]
        .into_iter()
        .map(|(kind, status, reason, message)| {
            let mut condition = condition(kind, status, Some((reason, message)), Some(before), &now);
            condition["lastHeartbeatTime"] = json!(now);
            condition
        })
        .collect();
        let conditions = Value::Array(conditions);
        let facts = &self.facts;
        let internal = facts.addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip}));
        let hostname = json!({"type": "Hostname", "address": facts.name});
        let room = json!({"cpu": "2", "memory": "2Gi", "pods": "110"});
        let status = json!({
            "addresses": internal.chain([hostname]).collect::<Vec<_>>(),
            "capacity": room,
            "allocatable": room,
            "conditions": conditions,
            "nodeInfo": node_info(&facts.name),
        });
        self.patch_status(&json!({"status": status})).await?;
        Ok(conditions)
    }

    /// What the node controller writes when it has not heard of a node for long enough: nobody knows how the node is,
    /// and its pods are not ready.
    async fn report_lost(&self) -> kube::Result<()> {
        let now = clock::now();
        let pods: Api<Pod> = Api::all(self.client.clone());
        let ours = ListParams::default().fields(&format!("spec.nodeName={}", self.facts.name));
        for pod in pods.list(&ours).await? {
            let Some(conditions) = unready(&pod, &now) else { continue };
            let namespaced: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
            let patch = json!({"metadata": {"uid": uid(&pod)}, "status": {"conditions": conditions}});
            match namespaced.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
                Err(kube::Error::Api(error)) if [404, 409].contains(&error.code) => {}
                other => drop(other?),
            }
        }
        let conditions: Vec<Value> = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready"]
            .map(|kind| {
                json!({
                    "type": kind, "status": "Unknown", "reason": "NodeStatusUnknown", "lastTransitionTime": now,
                    "message": "Kubelet stopped posting node status.",
                })
            })
            .to_vec();
        self.patch_status(&json!({"status": {"conditions": conditions}})).await
    }

    async fn patch_status(&self, patch: &Value) -> kube::Result<()> {
        self.nodes().patch_status(&self.facts.name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
    }

    async fn renew_lease(&self) -> kube::Result<()> {
        let name = &self.facts.name;
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), "kube-node-lease");
        let spec = json!({"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": clock::now_micro()});
        let renewed = leases.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await;
        match renewed {
            Err(kube::Error::Api(error)) if error.code == 404 => {
                let lease = json!({"metadata": {"name": name}, "spec": spec});
                let lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
                leases.create(&PostParams::default(), &lease).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    async fn run_pods(self: Arc<Self>, stop: CancellationToken) {
        let watch = || {
            let config = watcher::Config::default().fields(&format!("spec.nodeName={}", self.facts.name));
            watcher(Api::<Pod>::all(self.client.clone()), config).boxed()
        };
        let mut stream = watch();
        let mut workers = Workers::default();
        let mut listed = HashSet::new();
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                () = stop.cancelled() => break,
            };
            workers.forget_ended();
            match event {
                Some(Ok(watcher::Event::Apply(pod))) => workers.see(&self, pod),
                Some(Ok(watcher::Event::Init)) => listed.clear(),
                Some(Ok(watcher::Event::InitApply(pod))) => {
                    listed.insert(uid(&pod));
                    workers.see(&self, pod);
                }
                Some(Ok(watcher::Event::InitDone)) => workers.stop_missing(&listed),
                Some(Ok(watcher::Event::Delete(pod))) => workers.order(&uid(&pod), Order::Stop(Duration::ZERO)),
                Some(Err(error)) => {
                    tracing::debug!(node = %self.facts.name, %error, "the watch on pods broke and is begun anew");
                    tokio::time::sleep(WATCH_RETRY).await;
                    // A watch that is refused because it begins too far back would be begun there again and again.
                    stream = watch();
                }
                None => break,
            }
        }
        workers.stop_all().await;
    }

    /// Says something about a pod, as `kubectl describe` shows it.
    pub async fn event(&self, pod: &Pod, reason: &str, message: &str) {
        let metadata = &pod.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let now = clock::now();
        let name = format!("{}.{:016x}", metadata.name.clone().unwrap_or_default(), rand::random::<u64>());
        let event = json!({
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "name": metadata.name, "namespace": namespace, "uid": metadata.uid,
            },
            "type": "Warning",
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": "kubelet", "host": self.facts.name},
        });
        let Ok(event) = serde_json::from_value::<Event>(event) else { return };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        if let Err(error) = events.create(&PostParams::default(), &event).await {
            tracing::debug!(%error, %message, "an event was not taken");
        }
    }

    /// Changes each time the node comes back after others wrote about its pods what they thought of them.
    pub fn returns(&self) -> watch::Receiver<u32> {
        self.returns.subscribe()
    }

    fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }
}

impl Running {
    /// Whether the node is cut off from now on: the kubelet then gives no sign of life.
    pub fn set_cut(&self, cut: bool) {
        self.kubelet.cut.store(cut, Ordering::Relaxed);
    }

    /// Whether the API knows the node as ready.
    pub fn is_ready(&self) -> bool {
        self.kubelet.ready.load(Ordering::Relaxed)
    }

    /// Ends the pods at once, and takes the node's readiness away.
    pub async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            // A task that panicked has stopped, too.
            let _ = task.await;
        }
    }

    /// [`stop`](Self::stop), and removes the Node.
    ///
    /// # Errors
    /// The API server does not remove it.
    pub async fn remove(self) -> kube::Result<()> {
        let kubelet = self.kubelet.clone();
        self.stop().await;
        match kubelet.nodes().delete(&kubelet.facts.name, &DeleteParams::default()).await {
            Err(kube::Error::Api(error)) if error.code == 404 => Ok(()),
            other => other.map(drop),
        }
    }
}

/// The workers of a node's pods, by UID.
#[derive(Default)]
struct Workers(HashMap<String, (watch::Sender<Order>, JoinHandle<()>)>);

impl Workers {
    fn see(&mut self, kubelet: &Arc<Kubelet>, pod: Pod) {
        let uid = uid(&pod);
        let order = if pod.metadata.deletion_timestamp.is_some() { Order::Stop(grace(&pod)) } else { Order::Run };
        if self.0.contains_key(&uid) {
            return self.order(&uid, order);
        }
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if order == Order::Run && matches!(phase, Some("Succeeded" | "Failed")) {
            return;
        }
        let (sender, orders) = watch::channel(order);
        let worker = Worker::new(kubelet.clone(), pod, orders);
        self.0.insert(uid, (sender, tokio::spawn(worker.run())));
    }

    fn order(&mut self, uid: &str, order: Order) {
        let Some((sender, _)) = self.0.get(uid) else { return };
        // The end is not taken back, and a shorter grace period counts.
        sender.send_if_modified(|current| {
            let newer = match (*current, order) {
                (Order::Run, Order::Stop(_)) => true,
                (Order::Stop(old), Order::Stop(new)) => new < old,
                (_, Order::Run) => false,
            };
            if newer {
                *current = order;
            }
            newer
        });
    }

    fn stop_missing(&mut self, listed: &HashSet<String>) {
        let missing: Vec<_> = self.0.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        for uid in missing {
            self.order(&uid, Order::Stop(Duration::ZERO));
        }
    }

    fn forget_ended(&mut self) {
        self.0.retain(|_, (_, task)| !task.is_finished());
    }

    async fn stop_all(mut self) {
        let uids: Vec<_> = self.0.keys().cloned().collect();
        for uid in uids {
            self.order(&uid, Order::Stop(Duration::ZERO));
        }
        for (_, (_, task)) in self.0 {
            let _ = task.await;
        }
    }
}

/// The conditions of a pod that is ready, with that taken away.
fn unready(pod: &Pod, now: &str) -> Option<Value> {
    let mut conditions = serde_json::to_value(pod.status.as_ref()?.conditions.as_ref()?).ok()?;
    let ready = conditions.as_array_mut()?.iter_mut().find(|condition| condition["type"] == "Ready")?;
    if ready["status"] != "True" {
        return None;
    }
    (ready["status"], ready["lastTransitionTime"]) = (json!("False"), json!(now));
    Some(conditions)
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

fn grace(pod: &Pod) -> Duration {
    let seconds = pod
        .metadata
        .deletion_grace_period_seconds
        .or_else(|| pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds));
    seconds.and_then(|s| u64::try_from(s).ok()).map_or(DEFAULT_GRACE, Duration::from_secs)
}

fn node_info(name: &str) -> Value {
    let read = |file: &str| std::fs::read_to_string(file).map(|t| t.trim().to_owned()).unwrap_or_default();
    let release = read("/etc/os-release");
    let os = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("Linux");
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    json!({
        "machineID": name,
        "systemUUID": name,
        "bootID": read("/proc/sys/kernel/random/boot_id"),
        "kernelVersion": read("/proc/sys/kernel/osrelease"),
        "osImage": os.trim_matches('"'),
        "containerRuntimeVersion": concat!("tombolo-lab://", env!("CARGO_PKG_VERSION")),
        "kubeletVersion": VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": architecture,
    })
}
