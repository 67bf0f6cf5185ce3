//! One cluster of a running lab: its API server, its nodes with their kubelets and agents.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::net::TcpListener;
use tombolo_api::about::ClusterProperty;
use tombolo_api::kilo;
use tombolo_apiserver::ApiServer;

use crate::control::{ClusterStatus, NodeStatus, Place};
use crate::daemon::{Kept, Wish};
use crate::kubelet::{Facts, Kubelet, Running};
use crate::plan::{ClusterPlan, MAX_NODES, NodePlan, Plan, Underlay};
use crate::pod::directory::Directory;
use crate::pod::runtime::Runtime;
use crate::pod::worker::bare;
use crate::state::StateDir;
use crate::{agent, controller, dns, netns, underlay};

/// The port of the API server on the underlay.
const API_PORT: u16 = 6443;
/// How often a node behind NAT sends something so that its way in stays open, in seconds.
const NAT_KEEPALIVE: &str = "5";

/// A cluster that runs.
pub struct Cluster {
    plan: Plan,
    number: u8,
    state: StateDir,
    client: Client,
    directory: Arc<Directory>,
    /// The API server's addresses, the one on this machine's loopback first.
    urls: Vec<String>,
    /// Ends when it is dropped.
    _server: ApiServer,
    nodes: BTreeMap<u8, Node>,
}

struct Node {
    kubelet: Running,
    agent: Kept,
    cut: bool,
}

impl Cluster {
    /// Starts the API server, on the underlay and on a free port of this machine's loopback, and writes the
    /// kubeconfigs. The underlay is there already.
    ///
    /// # Errors
    /// What didn't start.
    pub async fn start(plan: &Plan, number: u8, state: &StateDir) -> anyhow::Result<Self> {
        let cluster = plan.cluster(number);
        let directory = Arc::new(Directory::default());
        let addresses = bare(&cluster.api_servers());
        let runtime = Arc::new(Runtime(directory.clone()));
        let mut builder = ApiServer::builder().service_cidrs(cluster.service_cidrs()).pod_runtime(runtime);
        if let Some(ip) = addresses.first() {
            builder = builder.advertise(SocketAddr::new(*ip, API_PORT));
        }
        let server = builder.build().context("the API server does not start")?;
        let local = TcpListener::bind(("127.0.0.1", 0)).await.context("no free port on 127.0.0.1")?;
        let url = format!("https://{}", local.local_addr()?);
        let mut urls = vec![url.clone()];
        server.serve(local);
        let public = bare(&cluster.public_api_servers());
        let more = public.iter().filter(|ip| !addresses.contains(ip));
        for ip in addresses.iter().chain(more) {
            server.serve(listen(cluster.network_namespace(), *ip).await?);
            urls.push(format!("https://{}", SocketAddr::new(*ip, API_PORT)));
        }
        let outer = server.kubeconfig(&url);
        write_private(&state.kubeconfig(&cluster.name()), &outer)?;
        write_private(&state.inner_kubeconfig(&cluster.name()), &server.kubeconfig(&urls[1]))?;
        if let Some(ip) = public.first() {
            let url = format!("https://{}", SocketAddr::new(*ip, API_PORT));
            write_private(&state.source_kubeconfig(&cluster.name()), &server.kubeconfig(&url))?;
        }
        let client = client(&outer).await?;
        let (plan, state) = (plan.clone(), state.clone());
        Ok(Self { plan, number, state, _server: server, client, directory, urls, nodes: BTreeMap::new() })
    }

    /// Registers the resources that agents and the controller look for, and says which cluster it is.
    ///
    /// # Errors
    /// What the API server did not take.
    pub async fn install_resources(&self) -> anyhow::Result<()> {
        let params = PostParams::default();
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        definitions.create(&params, &kilo::crd()).await.context("the Peer resource was not taken")?;
        if self.plan.services {
            for definition in controller::definitions()? {
                let name = definition.metadata.name.clone().unwrap_or_default();
                definitions.create(&params, &definition).await.with_context(|| format!("{name} was not taken"))?;
            }
            let properties: Api<ClusterProperty> = Api::all(self.client.clone());
            let property = controller::identity(self.plan());
            properties.create(&params, &property).await.context("the ClusterProperty was not taken")?;
        }
        Ok(())
    }

    /// Lets the cluster run its controller.
    ///
    /// # Errors
    /// What the API server did not take.
    pub async fn install_controller(&self) -> anyhow::Result<()> {
        let params = PostParams::default();
        let (namespace, deployment) = controller::objects(&self.plan, self.plan(), &self.state)?;
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.create(&params, &namespace).await.context("the Namespace tombolo-system was not taken")?;
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), controller::NAMESPACE);
        deployments.create(&params, &deployment).await.context("the Deployment tombolo-controller was not taken")?;
        Ok(())
    }

    /// Whether the controller's pod is ready.
    pub async fn has_controller(&self) -> bool {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), controller::NAMESPACE);
        let deployment = deployments.get(controller::NAME).await;
        deployment.is_ok_and(|deployment| deployment.status.and_then(|s| s.ready_replicas).is_some_and(|n| n > 0))
    }

    /// Lets the cluster run its DNS.
    ///
    /// # Errors
    /// What the API server did not take.
    pub async fn install_dns(&self) -> anyhow::Result<()> {
        let params = PostParams::default();
        let (deployment, service) = dns::objects(&self.plan, self.plan(), &self.state)?;
        let services: Api<Service> = Api::namespaced(self.client.clone(), "kube-system");
        services.create(&params, &service).await.context("the Service kube-dns was not taken")?;
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), "kube-system");
        deployments.create(&params, &deployment).await.context("the Deployment tombolo-dns was not taken")?;
        Ok(())
    }

    /// Makes a node with its network, kubelet and agent.
    ///
    /// # Errors
    /// What failed. What was made of the node is removed.
    pub async fn add_node(&mut self, number: u8) -> anyhow::Result<()> {
        let cluster = self.plan.cluster(self.number);
        let node = cluster.node(number);
        let steps = underlay::node(&self.plan, node);
        let (name, namespace) = (node.name(), node.namespace());
        let made = match tokio::task::spawn_blocking(move || underlay::apply(&steps)).await? {
            Ok(()) => self.start_node(number).await,
            Err(error) => Err(error.into()),
        };
        if made.is_err() {
            // The reason is that of the first failure.
            let _ = tokio::task::spawn_blocking(move || netns::destroy(&namespace)).await?;
        }
        made.with_context(|| format!("node {name} could not be made"))
    }

    async fn start_node(&mut self, number: u8) -> anyhow::Result<()> {
        let node = self.plan.cluster(self.number).node(number);
        let facts = facts(&self.plan, node, &self.state);
        facts.dir.create()?;
        let agent = agent::of(&self.plan, node, &self.state);
        let kubelet = Kubelet::start(facts, self.client.clone(), self.directory.clone()).await?;
        self.nodes.insert(number, Node { kubelet, agent: Kept::start(agent), cut: false });
        Ok(())
    }

    /// The number that the next node gets: one more than the last, so that no name comes twice.
    ///
    /// # Errors
    /// The address plan is full.
    pub fn next_node(&self) -> anyhow::Result<u8> {
        let last = self.nodes.keys().next_back().copied().unwrap_or_default();
        if last < MAX_NODES { Ok(last + 1) } else { Err(anyhow!("a cluster of the lab has {MAX_NODES} nodes at most")) }
    }

    /// Removes a node: pods, agent (which is given the time to leave the mesh), Node object, namespace.
    ///
    /// # Errors
    /// There is no such node, or what could not be removed.
    pub async fn remove_node(&mut self, number: u8) -> anyhow::Result<()> {
        let name = self.plan().node(number).name();
        let node = self.nodes.remove(&number).ok_or_else(|| self.no_node(number))?;
        node.kubelet.remove().await.with_context(|| format!("node {name} could not be removed"))?;
        node.agent.end(Wish::Stop).await;
        let namespace = self.plan().node(number).namespace();
        tokio::task::spawn_blocking(move || netns::destroy(&namespace)).await??;
        std::fs::remove_dir_all(self.state.node(&name).path())?;
        Ok(())
    }

    /// Cuts a node's cable, or mends it.
    ///
    /// # Errors
    /// There is no such node, or what `ip` said.
    pub async fn set_cut(&mut self, number: u8, cut: bool) -> anyhow::Result<()> {
        let missing = self.no_node(number);
        let node = self.nodes.get_mut(&number).ok_or(missing)?;
        underlay::set_link(self.plan.cluster(self.number).node(number), !cut)?;
        node.kubelet.set_cut(cut);
        node.cut = cut;
        Ok(())
    }

    /// Starts, stops or kills a node's agent.
    ///
    /// # Errors
    /// There is no such node.
    pub async fn wish_agent(&self, number: u8, wish: Wish) -> anyhow::Result<()> {
        self.nodes.get(&number).ok_or_else(|| self.no_node(number))?.agent.wish(wish).await;
        Ok(())
    }

    /// Where a container runs.
    ///
    /// # Errors
    /// There is none, or it does not run.
    pub fn place(&self, namespace: &str, pod: &str, container: Option<&str>) -> anyhow::Result<Place> {
        let missing = || anyhow!("no pod {namespace}/{pod} runs in {}: see `kubectl get pods -A`", self.name());
        let entry = self.directory.get(namespace, pod).ok_or_else(missing)?;
        let container = entry.container(container).ok_or_else(|| {
            let names: Vec<_> = entry.containers.iter().map(|c| c.name.as_str()).collect();
            anyhow!("the pod {namespace}/{pod} has no such container: it has {}", names.join(", "))
        })?;
        let pid = container.pid.ok_or_else(|| anyhow!("the container {} does not run now", container.name))?;
        Ok(Place { pid, env: container.env.clone(), working_dir: container.working_dir.clone() })
    }

    /// The nodes that are not ready yet: their agents say so, or the API does not know them as ready.
    pub async fn unready(&self) -> Vec<String> {
        let looks = self.nodes.iter().map(|(number, node)| async move {
            let ready = node.kubelet.is_ready() && agent::is_ready(&node.agent.daemon.namespace).await;
            (!ready).then(|| self.plan().node(*number).name())
        });
        futures::future::join_all(looks).await.into_iter().flatten().collect()
    }

    /// How often the agent that was most often started anew was.
    pub fn agent_restarts(&self) -> u32 {
        self.nodes.values().map(|node| node.agent.state().restarts).max().unwrap_or_default()
    }

    /// A namespace from which the cluster's Services can be reached.
    pub fn vantage(&self) -> Option<String> {
        self.nodes.values().next().map(|node| node.agent.daemon.namespace.clone())
    }

    /// The cluster's plan.
    pub fn plan(&self) -> ClusterPlan<'_> {
        self.plan.cluster(self.number)
    }

    /// `cluster1`.
    pub fn name(&self) -> String {
        self.plan().name()
    }

    /// How it is.
    pub async fn status(&self) -> ClusterStatus {
        let text = |nets: Vec<ipnet::IpNet>| nets.iter().map(ToString::to_string).collect();
        let nodes = self.nodes.iter().map(|(number, node)| {
            let plan = self.plan().node(*number);
            async move {
                NodeStatus {
                    name: plan.name(),
                    namespace: plan.namespace(),
                    addresses: bare(&plan.addresses()).iter().map(ToString::to_string).collect(),
                    location: plan.location(),
                    cut: node.cut,
                    agent: node.agent.state(),
                    ready: agent::is_ready(&node.agent.daemon.namespace).await,
                    log: node.agent.daemon.log.display().to_string(),
                }
            }
        });
        ClusterStatus {
            name: self.name(),
            kubeconfig: self.state.kubeconfig(&self.name()).display().to_string(),
            api: self.urls.clone(),
            pod_cidrs: text(self.plan().pod_cidrs()),
            service_cidrs: text(self.plan().service_cidrs()),
            nodes: futures::future::join_all(nodes).await,
        }
    }

    fn no_node(&self, number: u8) -> anyhow::Error {
        let names: Vec<_> = self.nodes.keys().map(|n| self.plan().node(*n).name()).collect();
        anyhow!("{} has no node {}: it has {}", self.name(), self.plan().node(number).name(), names.join(", "))
    }
}

/// A listener inside a namespace.
async fn listen(namespace: String, ip: IpAddr) -> anyhow::Result<TcpListener> {
    let what = format!("the API server cannot listen on {ip} port {API_PORT} in {namespace}");
    let bind = move || {
        let listener = std::net::TcpListener::bind((ip, API_PORT))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let listener = netns::enter_async(namespace, bind).await.context(what)?;
    Ok(TcpListener::from_std(listener)?)
}

async fn client(kubeconfig: &str) -> anyhow::Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Writes a file that holds a credential: readable for its owner alone.
fn write_private(path: &std::path::Path, text: &str) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())
}

fn facts(plan: &Plan, node: NodePlan<'_>, state: &StateDir) -> Facts {
    let cluster = node.cluster;
    let own = |pairs: &[(&str, String)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
    let mut annotations = Vec::new();
    if plan.underlay == Underlay::Nat {
        let public = bare(&cluster.public_addresses());
        let endpoint = public.first().map(|ip| SocketAddr::new(*ip, node.wireguard_port()).to_string());
        annotations.push((kilo::FORCE_ENDPOINT, endpoint.unwrap_or_default()));
        annotations.push((kilo::PERSISTENT_KEEPALIVE, NAT_KEEPALIVE.to_owned()));
    }
    Facts {
        name: node.name(),
        namespace: node.namespace(),
        pod_prefix: format!("{}{}-p-", plan.prefix(), cluster.short()),
        addresses: bare(&node.addresses()),
        pod_cidrs: node.pod_cidrs().iter().map(ToString::to_string).collect(),
        labels: own(&[
            ("kubernetes.io/hostname", node.name()),
            ("kubernetes.io/os", "linux".into()),
            (kilo::REGION_LABEL, node.location()),
        ]),
        annotations: own(&annotations),
        dir: state.node(&node.name()),
        kubernetes: cluster.kubernetes_addresses().first().copied(),
        dns: if plan.dns { cluster.dns_addresses() } else { Vec::new() },
        program: state.program(),
    }
}
