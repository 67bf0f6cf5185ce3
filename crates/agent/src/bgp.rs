//! BGP: Nodes, Services and EndpointSlices into a speaker's configuration, and what the speaker learns into routes.

mod catalogue;
mod speaker;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tombolo_bgp::RouteChange;
use tombolo_host::{Host, Scope};
use tombolo_routing::{Inputs, Refusal};

use crate::Options;
use crate::events::Reporter;
use crate::metrics::Metrics;
use catalogue::Catalogue;
use speaker::Running;

/// After a failed start of the speaker it is tried again after this.
const RETRY: Duration = Duration::from_secs(2);
/// How long the routes of an earlier run are kept without graceful restart: sessions come up within this.
const KEEP: Duration = Duration::from_secs(15);
/// How often the neighbours are counted for the metrics.
const COUNT: Duration = Duration::from_secs(5);

/// What is known of routes by BGP.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Learned {
    /// Nothing yet: what an earlier run brought into the kernel stays as it is.
    #[default]
    NotYet,
    /// To where, over which next hops.
    Routes(BTreeMap<IpNet, Vec<IpAddr>>),
}

/// Speaks BGP until `shutdown`. `learned` is told what it learns.
pub(crate) async fn run(
    client: Client,
    options: Arc<Options>,
    learned: watch::Sender<Learned>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let (said, mut events) = mpsc::unbounded_channel();
    let mut objects = catalogue::follow(&client);
    let mut bgp = Bgp {
        catalogue: Catalogue::default(),
        reporter: Reporter::new(client, options.hostname.clone()),
        running: None,
        restarting: leftovers().await,
        settled: None,
        routes: BTreeMap::new(),
        learned,
        said,
        options,
        metrics,
    };
    let mut count = tokio::time::interval(COUNT);
    count.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut due: Option<Instant> = None;
    loop {
        let pause = sleep_until(due.unwrap_or_else(Instant::now));
        let keeping = match bgp.settled {
            Some(Settled::At(at)) => Some(at),
            _ => None,
        };
        let kept = sleep_until(keeping.unwrap_or_else(Instant::now));
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(change) = objects.recv() => {
                bgp.catalogue.apply(change);
                while let Ok(change) = objects.try_recv() {
                    bgp.catalogue.apply(change);
                }
                due = Some(Instant::now());
            }
            Some(event) = events.recv() => {
                let mut changed = bgp.take(event);
                while let Ok(event) = events.try_recv() {
                    changed |= bgp.take(event);
                }
                if changed {
                    bgp.publish();
                }
            }
            () = kept, if keeping.is_some() => {
                bgp.settled = Some(Settled::Now);
                bgp.publish();
            }
            _ = count.tick(), if bgp.running.is_some() => bgp.count(),
            () = pause, if due.is_some() => {
                due = match bgp.reconcile().await {
                    true => None,
                    false => Some(Instant::now() + RETRY),
                };
            }
        }
    }
    bgp.stop("the agent is shut down").await;
}

/// Whether the kernel has routes of an earlier run.
async fn leftovers() -> bool {
    let network = match Host::connect().await {
        Ok(host) => host.observe(&Scope::default()).await,
        Err(error) => Err(error),
    };
    network.is_ok_and(|network| network.routes.iter().any(|route| route.metric == tombolo_routing::BGP_METRIC))
}

/// When what is known is all that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Now,
    At(Instant),
    /// When the speaker says that its restart is over.
    WhenToldSo,
}

struct Bgp {
    options: Arc<Options>,
    catalogue: Catalogue,
    reporter: Reporter,
    running: Option<Running>,
    /// Whether the kernel had routes of an earlier run at the start.
    restarting: bool,
    settled: Option<Settled>,
    routes: BTreeMap<IpNet, Vec<IpAddr>>,
    learned: watch::Sender<Learned>,
    said: mpsc::UnboundedSender<speaker::Event>,
    metrics: Arc<Metrics>,
}

impl Bgp {
    /// Brings the speaker to what shall be. Returns whether it is there.
    async fn reconcile(&mut self) -> bool {
        if !self.catalogue.synced() {
            return true;
        }
        let options = self.options.clone();
        let nodes = self.catalogue.nodes();
        let pod_cidrs: Vec<IpNet> = nodes.values().flat_map(|node| node.pod_cidrs.iter().copied()).collect();
        let plan = tombolo_routing::plan(&Inputs {
            hostname: &options.hostname,
            settings: &options.bgp,
            nodes: &nodes,
            services: &self.catalogue.services(),
            slices: self.catalogue.slices(),
            pod_cidrs: &pod_cidrs,
            service_cidrs: &options.service_cidrs,
            restarting: self.restarting,
        });
        self.report(&plan.refusals);
        let Some(config) = plan.config else {
            self.stop("BGP is no longer asked for").await;
            self.routes.clear();
            self.settled = Some(Settled::Now);
            self.publish();
            return true;
        };
        self.settled.get_or_insert(match (&config.graceful_restart, self.restarting) {
            (_, false) => Settled::Now,
            (Some(_), true) => Settled::WhenToldSo,
            (None, true) => Settled::At(Instant::now() + KEEP),
        });
        let done = match &mut self.running {
            Some(running) => running.configure(config).await,
            None => match Running::start(config, &options, self.said.clone()) {
                Ok(running) => {
                    self.running = Some(running);
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        match done {
            Ok(()) => {
                self.publish();
                true
            }
            Err(error) => {
                self.metrics.failed("bgp");
                tracing::error!(error = %format!("{error:#}"), "BGP is not as it shall be; it is tried again");
                false
            }
        }
    }

    /// Takes in what the speaker says. Returns whether routes are others for it.
    fn take(&mut self, event: speaker::Event) -> bool {
        match event {
            speaker::Event::Routes(changes) => {
                for RouteChange { net, next_hops } in changes {
                    if next_hops.is_empty() {
                        self.routes.remove(&net);
                    } else {
                        self.routes.insert(net, next_hops);
                    }
                }
                true
            }
            speaker::Event::RestartOver => {
                self.settled = Some(Settled::Now);
                true
            }
            speaker::Event::PathDown(neighbor) => {
                if let Some(running) = &self.running {
                    running.path_down(neighbor);
                }
                false
            }
        }
    }

    fn publish(&self) {
        if self.settled != Some(Settled::Now) {
            return;
        }
        self.metrics.bgp_routes.set(self.routes.len().try_into().unwrap_or(i64::MAX));
        let learned = Learned::Routes(self.routes.clone());
        self.learned.send_if_modified(|before| {
            let changed = *before != learned;
            *before = learned;
            changed
        });
    }

    fn report(&mut self, refusals: &[Refusal]) {
        let all: BTreeSet<Refusal> =
            self.catalogue.refusals(&self.options.hostname).chain(refusals.iter().cloned()).collect();
        let all: Vec<Refusal> = all.into_iter().collect();
        let own = format!("Node/{}", self.options.hostname);
        // One speaks for all of Services, and each for itself.
        let speaks = self.catalogue.first_node() == Some(&self.options.hostname);
        let subjects = self.catalogue.subjects();
        self.reporter.report(&all, &subjects, |object| object == own || (speaks && object.starts_with("Service/")));
    }

    fn count(&self) {
        let Some(running) = &self.running else { return };
        let metrics = self.metrics.clone();
        running.neighbors(move |neighbors| metrics.bgp.count(&neighbors));
    }

    async fn stop(&mut self, words: &str) {
        if let Some(running) = self.running.take() {
            // Neighbours keep the routes over an update of the agent; not when it cleans up behind itself.
            running.stop(words, !self.options.clean_up).await;
            self.metrics.bgp.count(&[]);
        }
    }
}
