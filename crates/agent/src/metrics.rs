//! What Prometheus is told. The first five are Kilo's, by the names that its users' dashboards have.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tombolo_bgp::router::show::NeighborStatus;

/// Which step failed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Step {
    pub event: String,
}

/// The object that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Object {
    pub object: String,
}

/// A BGP neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Neighbor {
    pub peer: String,
}

/// A BGP neighbour, and a family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct NeighborFamily {
    pub peer: String,
    pub family: String,
}

/// What is counted of BGP neighbours.
#[derive(Default)]
struct Bgp {
    up: Family<Neighbor, Gauge>,
    received: Family<NeighborFamily, Gauge>,
    accepted: Family<NeighborFamily, Gauge>,
    sent: Family<NeighborFamily, Gauge>,
    updates_received: Family<Neighbor, Gauge>,
    updates_sent: Family<Neighbor, Gauge>,
    flawed: Family<Neighbor, Gauge>,
    queued: Family<Neighbor, Gauge>,
}

impl Bgp {
    fn register(&self, registry: &mut Registry) {
        registry.register("tombolo_bgp_peer_up", "Whether the session is established", self.up.clone());
        let prefixes = [
            ("received", "Prefixes that the neighbour announced", &self.received),
            ("accepted", "Those of them that are taken", &self.accepted),
            ("sent", "Prefixes that it was told", &self.sent),
        ];
        for (name, help, family) in prefixes {
            registry.register(format!("tombolo_bgp_prefixes_{name}"), help, family.clone());
        }
        let messages = [
            ("updates_received", "UPDATE messages that came", &self.updates_received),
            ("updates_sent", "UPDATE messages that went", &self.updates_sent),
            ("updates_flawed", "UPDATE messages with flaws (RFC 7606)", &self.flawed),
            ("queued_bytes", "Bytes that wait to be sent", &self.queued),
        ];
        for (name, help, family) in messages {
            registry.register(format!("tombolo_bgp_{name}"), help, family.clone());
        }
    }
}

/// The agent's metrics.
pub(crate) struct Metrics {
    registry: Registry,
    pub errors: Family<Step, Counter>,
    pub leader: Gauge,
    pub nodes: Gauge,
    pub peers: Gauge,
    pub reconciles: Counter,
    pub changes: Counter,
    pub refused: Family<Object, Gauge>,
    pub takeovers: Counter,
    pub services: Gauge,
    pub bgp_routes: Gauge,
    bgp: Bgp,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let (errors, refused) = (Family::default(), Family::default());
        let (leader, nodes, peers, services) = (Gauge::default(), Gauge::default(), Gauge::default(), Gauge::default());
        let (reconciles, changes, takeovers) = (Counter::default(), Counter::default(), Counter::default());
        registry.register("kilo_errors", "Errors, by the step that failed", errors.clone());
        registry.register("kilo_leader", "Whether this node leads its location", leader.clone());
        registry.register("kilo_nodes", "Nodes in the mesh", nodes.clone());
        registry.register("kilo_peers", "Peers in the mesh", peers.clone());
        registry.register("kilo_reconciles", "Plans that were made", reconciles.clone());
        registry.register("tombolo_changes", "Changes made to this node's network", changes.clone());
        registry.register("tombolo_refused", "Values that are refused, by object", refused.clone());
        registry.register("tombolo_takeovers", "Addresses that another Peer took over", takeovers.clone());
        registry.register("tombolo_services", "Services that this node carries", services.clone());
        let (bgp_routes, bgp) = (Gauge::default(), Bgp::default());
        registry.register("tombolo_bgp_routes", "Routes learned by BGP", bgp_routes.clone());
        bgp.register(&mut registry);
        Self {
            registry,
            bgp_routes,
            bgp,
            errors,
            leader,
            nodes,
            peers,
            reconciles,
            changes,
            refused,
            takeovers,
            services,
        }
    }
}

impl Metrics {
    /// Counts a failure of a step.
    pub(crate) fn failed(&self, event: &str) {
        self.errors.get_or_create(&Step { event: event.to_owned() }).inc();
    }

    /// Takes in how the BGP neighbours are.
    pub(crate) fn bgp(&self, neighbors: &[NeighborStatus]) {
        let bgp = &self.bgp;
        for all in [&bgp.up, &bgp.updates_received, &bgp.updates_sent, &bgp.flawed, &bgp.queued] {
            all.clear();
        }
        for all in [&bgp.received, &bgp.accepted, &bgp.sent] {
            all.clear();
        }
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        for neighbor in neighbors {
            let peer = Neighbor { peer: neighbor.address.to_string() };
            bgp.up.get_or_create(&peer).set(i64::from(neighbor.state == "Established"));
            bgp.updates_received.get_or_create(&peer).set(number(neighbor.messages.updates_received));
            bgp.updates_sent.get_or_create(&peer).set(number(neighbor.messages.updates_sent));
            bgp.flawed.get_or_create(&peer).set(number(neighbor.flawed_updates));
            bgp.queued.get_or_create(&peer).set(number(neighbor.queued_bytes as u64));
            for status in &neighbor.families {
                let of = NeighborFamily { peer: peer.peer.clone(), family: status.family.to_string() };
                bgp.received.get_or_create(&of).set(status.received.into());
                bgp.accepted.get_or_create(&of).set(status.accepted.into());
                bgp.sent.get_or_create(&of).set(number(status.sent as u64));
            }
        }
    }

    /// The text of `/metrics` (OpenMetrics 1.0).
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
