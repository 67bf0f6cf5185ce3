//! The loop: whatever changed, plan anew and apply what differs.

mod apply;
mod inputs;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use kube::Client;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tombolo_host::{Facts, Host, Scope};
use tombolo_mesh::plan::{self, Plan};
use tombolo_net::network::Route;
use tombolo_net::wireguard::Key;

use crate::bgp::Learned;
use crate::events::{Reporter, Subject};
use crate::health::Health;
use crate::liveness::Watchers;
use crate::metrics::Metrics;
use crate::names::Names;
use crate::selfnode::list;
use crate::world::World;
use crate::{Options, key, watch as kube_watch};
use apply::Applier;

/// How often a node says that it lives, as Kilo's do.
const CHECK_IN: Duration = Duration::from_secs(30);
/// How often names in endpoints are looked up.
const LOOK_UP: Duration = Duration::from_secs(30);
/// After a failure it is tried again after this.
const RETRY: Duration = Duration::from_secs(1);
/// Changes of the host come in bursts (a pod's link, its addresses, its routes): one look for all of them.
const HOST_PAUSE: Duration = Duration::from_millis(100);

/// What goes between the loop and its neighbours.
pub(crate) struct Inputs {
    /// Is told what this node is, for the service proxy.
    pub said: watch::Sender<Option<tombolo_proxy::Node>>,
    /// What BGP has learned.
    pub learned: watch::Receiver<Learned>,
}

/// Runs the loop until `shutdown`.
pub(crate) async fn run(
    client: Client,
    options: Arc<Options>,
    Inputs { said, mut learned }: Inputs,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) -> Result<()> {
    let private_key = key::load_or_generate(&options.state_dir)?;
    let host = Host::connect().await?;
    let mut host_changes = host.watch()?;
    let watchers = Watchers::new(&options.interface)?;
    let mut answers = watchers.changes();
    let mut objects = kube_watch::start(&client);
    let mut node = NodeLoop {
        world: World::new(&options.hostname, &options.topology_label),
        applier: Applier::new(client.clone(), options.clone(), host, metrics.clone()),
        reporter: Reporter::new(client, options.hostname.clone()),
        names: Names::default(),
        carriers: BTreeMap::new(),
        leader: None,
        has_planned: false,
        private_key,
        watchers,
        said,
        learned: learned.clone(),
        silent: BTreeSet::new(),
        pathless: BTreeMap::new(),
        health,
        metrics,
        options: options.clone(),
    };
    let every = |period| {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    };
    let (mut resync, mut check_in, mut look_up) = (every(options.resync_period), every(CHECK_IN), every(LOOK_UP));
    let mut due: Option<Instant> = None;
    loop {
        let pause = sleep_until(due.unwrap_or_else(Instant::now));
        let now = Some(Instant::now());
        tokio::select! {
            () = shutdown.cancelled() => break,
            change = objects.recv() => {
                let change = change.context("the watches of the API server ended; please report it")?;
                let mut different = node.world.apply(change);
                while let Ok(change) = objects.try_recv() {
                    different |= node.world.apply(change);
                }
                if different { due = now }
            }
            change = host_changes.next() => {
                change.context("the kernel closed the netlink socket")?;
                due = due.or(Some(Instant::now() + HOST_PAUSE));
            }
            Ok(()) = answers.changed() => due = now,
            Ok(()) = learned.changed() => due = now,
            _ = resync.tick() => due = now,
            _ = check_in.tick() => {
                node.applier.check_in();
                due = now;
            }
            _ = look_up.tick() => node.look_up(true),
            changed = node.names.answered() => if changed { due = now },
            () = pause, if due.is_some() => {
                due = match node.reconcile().await {
                    Ok(()) => None,
                    Err(()) => Some(Instant::now() + RETRY),
                };
            }
        }
    }
    if options.clean_up {
        node.applier.clean_up().await;
    }
    Ok(())
}

struct NodeLoop {
    options: Arc<Options>,
    private_key: Key,
    world: World,
    names: Names,
    carriers: BTreeMap<IpNet, String>,
    leader: Option<String>,
    has_planned: bool,
    watchers: Watchers,
    applier: Applier,
    reporter: Reporter,
    said: watch::Sender<Option<tombolo_proxy::Node>>,
    learned: watch::Receiver<Learned>,
    /// The networks that did not answer when it was planned last.
    silent: BTreeSet<IpNet>,
    /// Next hops of BGP's that no route can have, and why.
    pathless: BTreeMap<IpAddr, String>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
}

impl NodeLoop {
    fn look_up(&mut self, again: bool) {
        self.names.ask(&plan::names(&self.world.nodes, &self.world.peers), again);
    }

    /// Plans and applies. An error has been said, and is to be tried again soon.
    async fn reconcile(&mut self) -> Result<(), ()> {
        if !self.world.synced() {
            if let Some(trouble) = self.world.trouble() {
                self.health.unready(trouble.to_owned());
            }
            return Ok(());
        }
        self.look_up(false);
        self.metrics.reconciles.inc();
        let planned = match self.plan().await {
            Ok(planned) => planned,
            Err(error) => {
                self.fail("plan", &error);
                return Err(());
            }
        };
        let Planned { plan, mtu, own } = planned;
        self.note(&plan);
        self.said.send_if_modified(|said| {
            let node = inputs::proxy_node(&self.options, &own, &self.world, &plan);
            said.replace(node.clone()) != Some(node)
        });
        let problems = self.applier.apply(&plan, mtu, &own, &self.world).await;
        self.watchers.ask(&plan.probes, &own.internal_ips);
        self.report(&plan);
        if let Some(problem) = problems.first() {
            self.fail("apply", problem);
            return Err(());
        }
        self.health.ready(plan.topology.graph());
        Ok(())
    }

    async fn plan(&mut self) -> Result<Planned> {
        let facts = self.applier.host().facts().await?;
        let own =
            inputs::own_node(&self.options, &facts, self.private_key, &self.world, &self.watchers.silent_nodes())?;
        let underlay = inputs::underlay(&facts, &own, self.applier.host()).await?;
        let mut nodes = self.world.nodes.clone();
        nodes.insert(own.name.clone(), own.clone());
        if !self.has_planned {
            // What stands there is what an agent before this one found.
            self.watchers.believe(&own.silent_networks);
        }
        let liveness = self.watchers.peers(self.applier.device_status(), &self.world.peers);
        let mut plan = plan::plan(&plan::Inputs {
            settings: &inputs::settings(&self.options),
            private_key: self.private_key,
            nodes: &nodes,
            peers: &self.world.peers,
            resolved: self.names.resolved(),
            liveness: &liveness,
            carriers: &self.carriers,
            underlay: &underlay,
            now: inputs::unix_now(),
        })?;
        self.has_planned = true;
        self.add_learned(&mut plan, &facts).await?;
        let mtu = self.options.mtu.unwrap_or_else(|| inputs::tunnel_mtu(&facts, &underlay));
        Ok(Planned { plan, mtu, own })
    }

    /// Adds the routes that BGP has learned. Whoever is there knows the way back to this node's pods.
    async fn add_learned(&mut self, plan: &mut Plan, facts: &Facts) -> Result<()> {
        let learned = self.learned.borrow().clone();
        let routes: BTreeSet<Route> = match learned {
            Learned::NotYet => {
                let there = self.applier.host().observe(&Scope::default()).await?;
                there.routes.into_iter().filter(|route| route.metric == tombolo_routing::BGP_METRIC).collect()
            }
            Learned::Routes(learned) => {
                let (routes, pathless) =
                    tombolo_routing::kernel_routes(&learned, &inputs::on_link(&self.options, facts));
                for (next_hop, why) in pathless.iter().filter(|(hop, why)| self.pathless.get(hop) != Some(why)) {
                    tracing::warn!(%next_hop, "routes of BGP are not used: {why}");
                }
                self.pathless = pathless;
                routes
            }
        };
        let destinations = routes.iter().map(|route| route.destination).filter(|net| net.prefix_len() > 0);
        plan.firewall.known.extend(destinations);
        // Where the mesh has a route of its own, that is the better one, and the only one that is needed.
        let planned: BTreeSet<(u32, IpNet)> = plan.network.routes.iter().map(|r| (r.table, r.destination)).collect();
        let missing = routes.into_iter().filter(|route| !planned.contains(&(route.table, route.destination)));
        plan.network.routes.extend(missing);
        Ok(())
    }

    /// Says what is new in the plan.
    fn note(&mut self, plan: &Plan) {
        if self.leader.as_ref() != Some(&plan.leader) {
            tracing::info!(location = %plan.topology.location, leader = %plan.leader, "the location has a leader");
            self.leader = Some(plan.leader.clone());
        }
        for (net, carrier) in &plan.carriers {
            match self.carriers.get(net) {
                Some(before) if before != carrier => {
                    tracing::warn!(%net, from = %before, to = %carrier, "the Peer does not answer; another takes over");
                    self.metrics.takeovers.inc();
                }
                Some(_) => {}
                None => tracing::info!(%net, peer = %carrier, "several Peers claim the address; one carries it"),
            }
        }
        self.carriers = plan.carriers.clone();
        self.note_silence(plan);
        self.metrics.leader.set(i64::from(plan.leads()));
        self.metrics.nodes.set(plan.members.0.try_into().unwrap_or(i64::MAX));
        self.metrics.peers.set(plan.members.1.try_into().unwrap_or(i64::MAX));
    }

    fn note_silence(&mut self, plan: &Plan) {
        let fell_silent: Vec<&IpNet> = plan.silent_networks.difference(&self.silent).collect();
        if !fell_silent.is_empty() {
            let (networks, next) = (list(fell_silent), "look for its last handshake in `wg show`, and at its link");
            tracing::warn!(%networks, next, "a Peer does not answer: Services that have other endpoints are not sent there");
        }
        let answer: Vec<&IpNet> = self.silent.difference(&plan.silent_networks).collect();
        if !answer.is_empty() {
            tracing::info!(networks = %list(answer), "a Peer answers again");
        }
        self.silent = plan.silent_networks.clone();
        self.metrics.silent_networks.set(self.silent.len().try_into().unwrap_or(i64::MAX));
    }

    fn report(&mut self, plan: &Plan) {
        let refusals: Vec<_> = self.world.refusals().chain(&plan.refusals).cloned().collect();
        self.metrics.refused.clear();
        for refusal in &refusals {
            let object = crate::metrics::Object { object: refusal.object.clone() };
            self.metrics.refused.get_or_create(&object).inc();
        }
        let subjects: Vec<Subject> = self.world.subjects().collect();
        // One speaks for all: the first of the nodes that take part.
        let first = plan.topology.segments.iter().flat_map(|s| &s.members).map(|m| &m.name).min();
        let speaker = first == Some(&self.options.hostname);
        let own = format!("Node/{}", self.options.hostname);
        self.reporter.report(&refusals, &subjects, |object| object == own || (speaker && object.starts_with("Peer/")));
    }

    fn fail(&self, step: &str, error: &anyhow::Error) {
        let reason = format!("{error:#}");
        self.metrics.failed(step);
        if self.health.unready(reason.clone()) {
            tracing::error!(step, error = %reason, "this node's network is not as it shall be; it is tried again every second");
        }
    }
}

struct Planned {
    plan: Plan,
    mtu: u32,
    own: tombolo_mesh::Node,
}
