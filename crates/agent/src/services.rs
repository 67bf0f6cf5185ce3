//! The service proxy: Services and EndpointSlices into one nftables table, whenever they or the node change.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use kube::{Api, Client, ResourceExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tombolo_host::{conntrack, nft};
use tombolo_proxy::convert::{self, Slice};
use tombolo_proxy::{Endpoint, Node, Refused, Script, Service, ServiceKey, Tables};

use crate::metrics::Metrics;
use crate::watch::{Seen, follow};
use crate::{Options, ServiceProxy};

/// Where kube-proxy says that it is healthy, in each of its modes; those that replace it (Cilium) answer there, too.
const KUBE_PROXY_HEALTH: u16 = 10256;
/// How often it is looked for: it may start after the agent.
const LOOK_FOR_OTHERS: Duration = Duration::from_secs(10);
/// After a failed change of the table, it is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// One object of the API, as far as it is for the proxy.
enum Change {
    Service(ServiceKey, Option<Service>),
    Slice(String, Option<Slice>),
    AllServices(BTreeMap<ServiceKey, Service>),
    AllSlices(BTreeMap<String, Slice>),
    /// Nothing can be seen, which was said: services stay as they are.
    Nothing,
}

#[derive(Default)]
struct Catalogue {
    services: BTreeMap<ServiceKey, Service>,
    slices: BTreeMap<String, Slice>,
    synced: (bool, bool),
}

impl Catalogue {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Service(key, Some(service)) => drop(self.services.insert(key, service)),
            Change::Service(key, None) => drop(self.services.remove(&key)),
            Change::Slice(key, Some(slice)) => drop(self.slices.insert(key, slice)),
            Change::Slice(key, None) => drop(self.slices.remove(&key)),
            Change::AllServices(services) => {
                self.services = services;
                self.synced.0 = true;
            }
            Change::AllSlices(slices) => {
                self.slices = slices;
                self.synced.1 = true;
            }
            Change::Nothing => {}
        }
    }

    fn endpoints(&self) -> BTreeMap<ServiceKey, Vec<Endpoint>> {
        let mut endpoints: BTreeMap<ServiceKey, Vec<Endpoint>> = BTreeMap::new();
        for slice in self.slices.values() {
            endpoints.entry(slice.service.clone()).or_default().extend(slice.endpoints.iter().cloned());
        }
        endpoints
    }
}

/// Carries Services until `shutdown`. `node` says what this node is; nothing is done before it is known.
/// With `--clean-up` the table is removed at the end; else it stays, so that an update of the agent cuts no connection.
/// Left to decide for itself, it makes way for good once kube-proxy is seen.
pub(crate) async fn run(
    client: Client,
    mut node: watch::Receiver<Option<Node>>,
    options: Arc<Options>,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let mut others = tokio::time::interval(LOOK_FOR_OTHERS);
    others.set_missed_tick_behavior(MissedTickBehavior::Delay);
    if options.service_proxy == ServiceProxy::Auto && another_at_work().await {
        return make_way().await;
    }
    let (sender, mut changes) = mpsc::channel(1024);
    start(&client, &sender);
    let mut catalogue = Catalogue::default();
    let mut proxy = Proxy { applied: None, refused: BTreeSet::new(), metrics };
    let mut retry = false;
    loop {
        let pause = tokio::time::sleep(RETRY);
        tokio::select! {
            () = shutdown.cancelled() => break,
            Some(change) = changes.recv() => catalogue.apply(change),
            Ok(()) = node.changed() => {}
            () = pause, if retry => {}
            _ = others.tick(), if options.service_proxy == ServiceProxy::Auto => {
                if another_at_work().await {
                    return make_way().await;
                }
                continue;
            }
        }
        while let Ok(change) = changes.try_recv() {
            catalogue.apply(change);
        }
        let now = node.borrow_and_update().clone();
        let Some(now) = now.filter(|_| catalogue.synced == (true, true)) else { continue };
        retry = !proxy.bring_to(&catalogue, &now).await;
    }
    if options.clean_up
        && let Some(applied) = proxy.applied
    {
        let removal = Script::removal(applied.name);
        if let Err(error) = nft::run(&removal.to_string()).await {
            tracing::warn!(%error, "cannot remove the service proxy's table");
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
    if let Err(error) = nft::run(&Script::removal(tombolo_proxy::DEFAULT_TABLE).to_string()).await {
        tracing::warn!(%error, "cannot remove the service proxy's table");
    }
}

struct Proxy {
    applied: Option<Tables>,
    refused: BTreeSet<Refused>,
    metrics: Arc<Metrics>,
}

impl Proxy {
    /// Returns whether the table is as it shall be.
    async fn bring_to(&mut self, catalogue: &Catalogue, node: &Node) -> bool {
        let compiled = tombolo_proxy::tables(&catalogue.services, &catalogue.endpoints(), node);
        self.say(compiled.refused.into_iter().collect());
        self.metrics.services.set(catalogue.services.len().try_into().unwrap_or(i64::MAX));
        let script = tombolo_proxy::plan(&compiled.tables, self.applied.as_ref());
        if script.is_empty() {
            return true;
        }
        if let Err(error) = nft::run(&script.to_string()).await {
            tracing::error!(%error, "cannot change the service proxy's table; it is made anew in a second");
            self.metrics.failed("services");
            self.applied = None;
            return false;
        }
        let before = self.applied.replace(compiled.tables.clone()).unwrap_or_default();
        forget_flows(&compiled.tables, &before, node).await;
        true
    }

    fn say(&mut self, refused: BTreeSet<Refused>) {
        for refusal in refused.difference(&self.refused) {
            tracing::warn!(object = %refusal.object, field = %refusal.field, reason = %refusal.reason, "refused");
        }
        self.refused = refused;
    }
}

/// Connection tracking would send UDP clients on to endpoints that are gone.
async fn forget_flows(desired: &Tables, before: &Tables, node: &Node) {
    let mut destinations: BTreeSet<SocketAddr> = BTreeSet::new();
    for flow in tombolo_proxy::stale_udp(desired, before) {
        match flow.destination {
            Some(address) => drop(destinations.insert(SocketAddr::new(address, flow.port))),
            None => destinations.extend(node.node_port_addresses.iter().map(|a| SocketAddr::new(*a, flow.port))),
        }
    }
    if destinations.is_empty() {
        return;
    }
    if let Err(error) = conntrack::forget_udp(&destinations).await {
        tracing::warn!(%error, "UDP clients may go on sending to endpoints that are gone for up to two minutes");
    }
}

fn start(client: &Client, sender: &mpsc::Sender<Change>) {
    let service = |object: &core::Service| Some((convert::service_key(object), convert::service(object).value?));
    tokio::spawn(follow(Api::<core::Service>::all(client.clone()), sender.clone(), move |seen| match seen {
        Seen::Put(object) => Change::Service(convert::service_key(&object), convert::service(&object).value),
        Seen::Gone(object) => Change::Service(convert::service_key(&object), None),
        Seen::All(objects) => Change::AllServices(objects.iter().filter_map(service).collect()),
        Seen::Trouble(_) => Change::Nothing,
    }));
    let slice = |object: &discovery::EndpointSlice| Some((slice_key(object), convert::endpoint_slice(object).value?));
    tokio::spawn(follow(
        Api::<discovery::EndpointSlice>::all(client.clone()),
        sender.clone(),
        move |seen| match seen {
            Seen::Put(object) => Change::Slice(slice_key(&object), convert::endpoint_slice(&object).value),
            Seen::Gone(object) => Change::Slice(slice_key(&object), None),
            Seen::All(objects) => Change::AllSlices(objects.iter().filter_map(slice).collect()),
            Seen::Trouble(_) => Change::Nothing,
        },
    ));
}

fn slice_key(object: &discovery::EndpointSlice) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}
