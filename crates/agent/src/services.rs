//! The service proxy: Services, ServiceImports and EndpointSlices into one nftables table, whenever they or the node
//! change.

mod catalogue;
mod health;
mod table;
mod watch;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch as channel};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tombolo_host::nft;
use tombolo_proxy::{DEFAULT_TABLE, Node, Script};

use crate::events::Reporter;
use crate::metrics::Metrics;
use crate::{Options, ServiceProxy};
use catalogue::Catalogue;
use health::HealthPorts;
use table::Table;

/// Where kube-proxy says that it is healthy, in each of its modes; those that replace it (Cilium) answer there, too.
const KUBE_PROXY_HEALTH: u16 = 10256;
/// How often it is looked for: it may start after the agent.
const LOOK_FOR_OTHERS: Duration = Duration::from_secs(10);
/// After a failed change of the table, it is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// Carries Services until `shutdown`. `node` says what this node is; nothing is done before it is known.
/// With `--clean-up` the table is removed at the end; else it stays, so that an update of the agent cuts no connection.
/// Left to decide for itself, it makes way for good once kube-proxy is seen. Switched off, it only removes what an
/// earlier run left.
pub(crate) async fn run(
    client: Client,
    node: channel::Receiver<Option<Node>>,
    options: Arc<Options>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    match options.service_proxy {
        ServiceProxy::Off => return remove_leftovers().await,
        ServiceProxy::Auto if another_at_work().await => return make_way().await,
        ServiceProxy::Auto | ServiceProxy::On => {}
    }
    let (sender, changes) = mpsc::channel(1024);
    watch::start(&client, &sender, options.cluster_id.is_none());
    let reporter = Reporter::new(client, options.hostname.clone());
    let proxy = Proxy {
        catalogue: Catalogue::new(options.cluster_id.clone()),
        table: Table::default(),
        ports: HealthPorts::new(reporter),
        options: options.clone(),
        metrics,
    };
    let applied = proxy.follow(node, changes, shutdown).await;
    match applied {
        End::MakeWay => make_way().await,
        End::Shutdown if options.clean_up => remove().await,
        End::Shutdown => {}
    }
}

/// Why the proxy ended.
enum End {
    Shutdown,
    MakeWay,
}

struct Proxy {
    catalogue: Catalogue,
    table: Table,
    ports: HealthPorts,
    options: Arc<Options>,
    metrics: Arc<Metrics>,
}

impl Proxy {
    async fn follow(
        mut self,
        mut node: channel::Receiver<Option<Node>>,
        mut changes: mpsc::Receiver<watch::Change>,
        shutdown: CancellationToken,
    ) -> End {
        let every = |period| {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut others, mut resync) = (every(LOOK_FOR_OTHERS), every(self.options.resync_period));
        let is_auto = self.options.service_proxy == ServiceProxy::Auto;
        let mut retry = false;
        loop {
            let pause = tokio::time::sleep(RETRY);
            tokio::select! {
                () = shutdown.cancelled() => return End::Shutdown,
                Some(change) = changes.recv() => self.catalogue.apply(change),
                Ok(()) = node.changed() => {
                    if let Some(node) = node.borrow_and_update().clone() {
                        self.catalogue.set_node(node);
                    }
                }
                () = pause, if retry => {}
                _ = resync.tick() => self.look_after().await,
                _ = others.tick(), if is_auto => {
                    if another_at_work().await {
                        return End::MakeWay;
                    }
                    continue;
                }
            }
            while let Ok(change) = changes.try_recv() {
                self.catalogue.apply(change);
            }
            retry = !self.reconcile().await;
        }
    }

    /// Returns whether the table is as it shall be, or nothing can be said of it yet.
    async fn reconcile(&mut self) -> bool {
        let Some((compiler, node)) = self.catalogue.compiler() else { return true };
        let update = compiler.flush();
        let done = self.table.apply(&update, node).await;
        if let Err(error) = &done {
            compiler.forget_applied();
            tracing::error!(error = %format!("{error:#}"), "cannot change the service proxy's table; it is made anew in a second");
            self.metrics.failed("services");
        }
        self.metrics.services.set(compiler.len().try_into().unwrap_or(i64::MAX));
        let checks = compiler.health_checks().clone();
        self.ports.bring_to(&checks, done.is_ok(), |key| self.catalogue.uid(key)).await;
        self.catalogue.say();
        done.is_ok()
    }

    /// Somebody may have flushed all rules.
    async fn look_after(&mut self) {
        let Some((compiler, node)) = self.catalogue.compiler() else { return };
        let table = node.table.clone();
        if compiler.tables().name == table
            && self.table.is_applied()
            && let Ok(false) = nft::table_exists("inet", &table).await
        {
            tracing::warn!(%table, "the service proxy's table is gone: somebody removed it; it is made anew");
            compiler.forget_applied();
        }
    }
}

async fn another_at_work() -> bool {
    let answers = TcpStream::connect((Ipv4Addr::LOCALHOST, KUBE_PROXY_HEALTH));
    matches!(tokio::time::timeout(RETRY, answers).await, Ok(Ok(_)))
}

/// The table goes, also one of an earlier run.
async fn make_way() {
    tracing::info!(
        seen = %format!("127.0.0.1:{KUBE_PROXY_HEALTH} answers"),
        "kube-proxy is at work on this node: Services are left to it (--service-proxy=true carries them all the same)"
    );
    remove().await;
}

async fn remove_leftovers() {
    // Where nft is missing there is no table of ours.
    if let Ok(true) = nft::table_exists("inet", DEFAULT_TABLE).await {
        tracing::info!(table = DEFAULT_TABLE, "Services are not carried (--service-proxy=false): the table is removed");
        remove().await;
    }
}

async fn remove() {
    if let Err(error) = nft::run(&Script::removal(DEFAULT_TABLE).to_string()).await {
        tracing::warn!(%error, "cannot remove the service proxy's table");
    }
}
