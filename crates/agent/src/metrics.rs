//! What Prometheus is told. The first five are Kilo's, by the names that its users' dashboards have.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::bgp_metrics::BgpMetrics;

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
    pub silent_networks: Gauge,
    pub services: Gauge,
    pub bgp_routes: Gauge,
    pub bgp: BgpMetrics,
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
        let silent_networks = Gauge::default();
        let words = "Networks of Peers that do not answer";
        registry.register("tombolo_silent_networks", words, silent_networks.clone());
        registry.register("tombolo_services", "Services that this node carries", services.clone());
        let (bgp_routes, bgp) = (Gauge::default(), BgpMetrics::default());
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
            silent_networks,
            services,
        }
    }
}

impl Metrics {
    /// Counts a failure of a step.
    pub(crate) fn failed(&self, event: &str) {
        self.errors.get_or_create(&Step { event: event.to_owned() }).inc();
    }

    /// The text of `/metrics` (OpenMetrics 1.0).
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
