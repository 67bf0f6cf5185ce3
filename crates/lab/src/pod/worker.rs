//! One pod from its binding to the node until it is gone from the API.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::container::{ContainerEvent, ContainerSpec, supervise};
use super::directory::{ContainerEntry, PodEntry};
use super::log::Growth;
use super::probe::Readiness;
use super::spec::{self, Place};
use super::status::{ContainerView, PodView, RestartPolicy, State, pod_status};
use crate::cni::{Attachment, CniError, ConfList, addresses};
use crate::kubelet::Kubelet;
use crate::netns;
use crate::underlay::HOST_SYSCTLS;

/// How long to wait before a pod's network is tried again.
const NETWORK_RETRY: Duration = Duration::from_millis(100);
/// How long to wait before a status that the API did not take is sent again.
const STATUS_RETRY: Duration = Duration::from_millis(200);

/// What shall become of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It runs.
    Run,
    /// It ends, with this long between the end signal and the kill, and then leaves the API if it is still there.
    Stop(Duration),
}

/// A pod, and everything that is known of it here.
pub struct Worker {
    kubelet: Arc<Kubelet>,
    pod: Pod,
    orders: watch::Receiver<Order>,
    view: PodView,
    reported: Value,
    /// The attachment and what `ADD` answered.
    network: Option<(ConfList, Attachment, Value)>,
}

impl Worker {
    /// A worker for a pod that was just bound to the node.
    pub fn new(kubelet: Arc<Kubelet>, pod: Pod, orders: watch::Receiver<Order>) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let waiting = || State::Waiting { reason: "ContainerCreating", message: String::new() };
        let containers = spec.containers.iter().map(|c| ContainerView {
            name: c.name.clone(),
            image: c.image.clone().unwrap_or_default(),
            id: String::new(),
            state: waiting(),
            last: None,
            ready: false,
            restarts: 0,
        });
        let view = PodView {
            restart_policy: RestartPolicy::parse(spec.restart_policy.as_deref()),
            containers: containers.collect(),
            host_ips: kubelet.facts.addresses.clone(),
            pod_ips: Vec::new(),
            started: crate::clock::now(),
        };
        let reported = serde_json::to_value(&pod.status).unwrap_or_default();
        Self { kubelet, pod, orders, view, reported, network: None }
    }

    /// Runs the pod to its end.
    pub async fn run(mut self) {
        let (namespace, name) = self.names();
        if let Err(error) = self.live().await {
            tracing::warn!(pod = %format!("{namespace}/{name}"), %error, "the pod failed");
            self.event("Failed", &error.to_string()).await;
            for container in &mut self.view.containers {
                let message = error.to_string();
                container.state = State::Waiting { reason: "CreateContainerConfigError", message };
            }
            self.report().await;
            self.stopped().await;
        }
        if let Err(error) = self.clean_up().await {
            tracing::warn!(pod = %format!("{namespace}/{name}"), %error, "the pod's network could not be taken down");
        }
        self.kubelet.directory.remove(&namespace, &name, &self.uid());
        self.leave_api().await;
    }

    async fn live(&mut self) -> anyhow::Result<()> {
        spec::check(&self.pod)?;
        std::fs::create_dir_all(self.dir())?;
        if !self.attach().await? {
            return Ok(());
        }
        let specs = self.container_specs()?;
        self.enter_directory(&specs);
        let (events, mut inbox) = mpsc::unbounded_channel();
        let (stop, stopped) = watch::channel(None);
        let mut running = specs.len();
        for spec in specs {
            tokio::spawn(supervise(spec, self.view.restart_policy, events.clone(), stopped.clone()));
        }
        drop(events);
        let mut orders = self.orders.clone();
        let mut returns = self.kubelet.returns();
        while running > 0 {
            tokio::select! {
                Some((index, event)) = inbox.recv() => {
                    running -= usize::from(self.apply(index, event));
                    // What came at the same time is reported at once.
                    while let Ok((index, event)) = inbox.try_recv() {
                        running -= usize::from(self.apply(index, event));
                    }
                    self.report().await;
                }
                Ok(()) = orders.changed() => if let Order::Stop(grace) = *orders.borrow_and_update() {
                    stop.send_replace(Some(grace));
                },
                Ok(()) = returns.changed() => self.report_anew().await,
                else => break,
            }
        }
        self.stopped().await;
        Ok(())
    }

    /// Waits until the pod is told to end.
    async fn stopped(&mut self) {
        // No sender is left when the kubelet itself stops.
        let _ = self.orders.wait_for(|order| matches!(order, Order::Stop(_))).await;
    }

    /// Gives the pod its network. `false` when it was told to end before.
    async fn attach(&mut self) -> anyhow::Result<bool> {
        if self.is_on_host() {
            self.view.pod_ips = self.view.host_ips.clone();
            return Ok(true);
        }
        let mut last = String::new();
        loop {
            if matches!(*self.orders.borrow(), Order::Stop(_)) {
                return Ok(false);
            }
            match self.attach_once().await {
                Ok(()) => return Ok(true),
                Err(error) => {
                    let message = error.to_string();
                    if message != last {
                        self.event("FailedCreatePodSandBox", &message).await;
                        last = message;
                    }
                }
            }
            let stop = self.orders.wait_for(|order| matches!(order, Order::Stop(_)));
            let _ = tokio::time::timeout(NETWORK_RETRY, stop).await;
        }
    }

    async fn attach_once(&mut self) -> anyhow::Result<()> {
        let list = ConfList::load(&self.kubelet.facts.dir.cni_conf())?;
        let namespace = self.kubelet.facts.pod_namespace(&self.uid());
        let made = namespace.clone();
        let make = move || {
            // A namespace is left over when the attempt before this one failed half way.
            if netns::path(&made).exists() {
                netns::destroy(&made)?;
            }
            netns::create(std::slice::from_ref(&made))?;
            netns::sysctl(&made, HOST_SYSCTLS)
        };
        tokio::task::spawn_blocking(make).await.map_err(io::Error::other)??;
        let attachment = Attachment {
            node_namespace: self.kubelet.facts.namespace.clone(),
            pod_namespace: namespace,
            container_id: self.uid(),
            pod: self.names(),
            capabilities: spec::capabilities(&self.pod),
        };
        let result = list.add(&attachment).await?;
        self.view.pod_ips = addresses(&result);
        self.network = Some((list, attachment, result));
        Ok(())
    }

    async fn clean_up(&mut self) -> anyhow::Result<()> {
        let detached = match &self.network {
            Some((list, attachment, result)) => list.delete(attachment, Some(result)).await,
            None => Ok::<_, CniError>(()),
        };
        let namespace = self.kubelet.facts.pod_namespace(&self.uid());
        if !self.is_on_host() && netns::path(&namespace).exists() {
            tokio::task::spawn_blocking(move || netns::destroy(&namespace)).await.map_err(io::Error::other)??;
        }
        match std::fs::remove_dir_all(self.dir()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        Ok(detached?)
    }

    fn container_specs(&self) -> anyhow::Result<Vec<ContainerSpec>> {
        let facts = &self.kubelet.facts;
        let place = Place {
            node: facts.name.clone(),
            host_ips: facts.addresses.clone(),
            pod_ips: self.view.pod_ips.clone(),
            kubernetes: facts.kubernetes,
            dns: facts.dns.clone(),
            program: facts.program.display().to_string(),
        };
        let mounts = self.mounts(&place)?;
        let containers = self.pod.spec.iter().flat_map(|spec| &spec.containers).enumerate();
        let specs = containers.map(|(index, container)| {
            let env = spec::environment(&self.pod, container, &place)?;
            let words = spec::command(container, &env, &place.program)?;
            let readiness = Readiness::of(container).map_err(anyhow::Error::msg)?;
            let log = self.dir().join(format!("{}.log", container.name));
            anyhow::Ok(ContainerSpec {
                index,
                words,
                env,
                working_dir: container.working_dir.clone(),
                previous_log: log.with_extension("previous.log"),
                log,
                growth: watch::Sender::new(Growth::default()),
                readiness,
                network: self.network_namespace(),
                hostname: Some(spec::hostname(&self.pod, &place)),
                mounts: mounts.clone(),
                node_namespace: facts.namespace.clone(),
                pod_ip: self.view.pod_ips.first().copied(),
            })
        });
        specs.collect()
    }

    /// The pod's own files, over those of the machine.
    fn mounts(&self, place: &Place) -> io::Result<Vec<(PathBuf, PathBuf)>> {
        let machine = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let mut mounts = Vec::new();
        for (file, text) in [
            ("/etc/resolv.conf", spec::resolv_conf(&self.pod, place, &machine)),
            ("/etc/hosts", spec::hosts(&self.pod, place)),
            // A resolver of the machine (systemd-resolved, mDNS) would be asked past resolv.conf.
            ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n".to_owned()),
        ] {
            let Ok(target) = std::fs::canonicalize(file) else { continue };
            let own = self.dir().join(file.trim_start_matches("/etc/"));
            std::fs::write(&own, text)?;
            mounts.push((own, target));
        }
        Ok(mounts)
    }

    fn enter_directory(&self, specs: &[ContainerSpec]) {
        let entry = |(spec, view): (&ContainerSpec, &ContainerView)| ContainerEntry {
            name: view.name.clone(),
            env: spec.env.clone(),
            working_dir: spec.working_dir.clone(),
            pid: None,
            log: spec.log.clone(),
            growth: spec.growth.subscribe(),
        };
        let containers = specs.iter().zip(&self.view.containers).map(entry).collect();
        let (namespace, name) = self.names();
        let entry = PodEntry { uid: self.uid(), network: self.network_namespace(), containers };
        self.kubelet.directory.insert(&namespace, &name, entry);
    }

    /// Takes in what became of a container. Whether it has ended for good.
    fn apply(&mut self, index: usize, event: ContainerEvent) -> bool {
        let (namespace, name) = self.names();
        let directory = self.kubelet.directory.clone();
        let id = format!("{}-{index}", self.uid());
        let Some(view) = self.view.containers.get_mut(index) else { return false };
        match event {
            ContainerEvent::Done => return true,
            ContainerEvent::Ready(ready) => view.ready = ready,
            ContainerEvent::Restarting(end) => {
                let message = format!("it ended with exit code {} and is started anew", end.exit_code);
                view.state = State::Waiting { reason: "CrashLoopBackOff", message };
                (view.last, view.ready) = (Some(end), false);
                view.restarts += 1;
                directory.set_pid(&namespace, &name, index, None);
            }
            ContainerEvent::State(state, pid) => {
                (view.state, view.ready) = (state, false);
                view.id = format!("{id}-{}", view.restarts);
                directory.set_pid(&namespace, &name, index, pid);
            }
        }
        false
    }

    /// Writes the status to the API over what others wrote there.
    async fn report_anew(&mut self) {
        let (_, name) = self.names();
        if let Ok(pod) = self.api().get_status(&name).await {
            self.reported = serde_json::to_value(&pod.status).unwrap_or_default();
        }
        self.report().await;
    }

    /// Writes the status to the API, if it changed.
    async fn report(&mut self) {
        let status = pod_status(&self.view, &self.reported, &crate::clock::now());
        if status == self.reported {
            return;
        }
        let (namespace, name) = self.names();
        let patch = Patch::Merge(json!({"metadata": {"uid": self.uid()}, "status": status}));
        for _ in 0..5 {
            match self.api().patch_status(&name, &PatchParams::default(), &patch).await {
                Ok(_) => {
                    self.reported = status;
                    return;
                }
                // It is gone, or another has its name.
                Err(kube::Error::Api(error)) if [404, 409].contains(&error.code) => return,
                Err(error) => tracing::warn!(%namespace, %name, %error, "the pod's status could not be written"),
            }
            tokio::time::sleep(STATUS_RETRY).await;
        }
    }

    /// Ends the graceful deletion: the node has nothing left of the pod.
    async fn leave_api(&self) {
        let (namespace, name) = self.names();
        let uid = Some(self.uid());
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteParams::default()
        };
        match self.api().delete(&name, &params).await {
            Err(kube::Error::Api(error)) if [404, 409].contains(&error.code) => {}
            Err(error) => tracing::warn!(%namespace, %name, %error, "the pod could not be removed from the API"),
            Ok(_) => {}
        }
    }

    async fn event(&self, reason: &str, message: &str) {
        self.kubelet.event(&self.pod, reason, message).await;
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.kubelet.client.clone(), &self.names().0)
    }

    fn network_namespace(&self) -> String {
        let facts = &self.kubelet.facts;
        if self.is_on_host() { facts.namespace.clone() } else { facts.pod_namespace(&self.uid()) }
    }

    fn is_on_host(&self) -> bool {
        self.pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true))
    }

    fn dir(&self) -> PathBuf {
        self.kubelet.facts.dir.pod(&self.uid())
    }

    fn uid(&self) -> String {
        self.pod.metadata.uid.clone().unwrap_or_default()
    }

    /// Namespace and name.
    fn names(&self) -> (String, String) {
        let metadata = &self.pod.metadata;
        (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
    }
}

/// The addresses of a node without their prefix lengths.
pub fn bare(nets: &[ipnet::IpNet]) -> Vec<IpAddr> {
    nets.iter().map(ipnet::IpNet::addr).collect()
}
