//! What Prometheus is told.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Why a request or connection was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Reason {
    pub(crate) reason: &'static str,
}

/// The cluster that it is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Cluster {
    pub(crate) cluster: String,
}

/// The metrics of an emitter. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(crate) connections: Gauge,
    pub(crate) clusters: Family<Cluster, Gauge>,
    pub(crate) watches: Family<Cluster, Gauge>,
    pub(crate) objects: Gauge,
    pub(crate) admitted: Gauge,
    pub(crate) joined: Counter,
    pub(crate) renewed: Counter,
    pub(crate) refused: Family<Reason, Counter>,
}

impl Metrics {
    /// Adds them to what a program says of itself.
    pub fn register(&self, registry: &mut Registry) {
        let connections = self.connections.clone();
        registry.register("tombolo_emitter_connections", "Connections to the emitter", connections);
        let clusters = self.clusters.clone();
        registry.register("tombolo_emitter_cluster_connections", "Connections of admitted clusters", clusters);
        registry.register("tombolo_emitter_watches", "Open watches, by cluster", self.watches.clone());
        registry.register("tombolo_emitter_objects", "Objects that are offered", self.objects.clone());
        registry.register("tombolo_emitter_admitted", "Clusters that are admitted", self.admitted.clone());
        registry.register("tombolo_emitter_joined", "Invitations that were used", self.joined.clone());
        registry.register("tombolo_emitter_renewed", "Certificates that were renewed", self.renewed.clone());
        registry.register("tombolo_emitter_refused", "What was refused, by reason", self.refused.clone());
    }

    pub(crate) fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }
}

/// Counts something for as long as it is held.
#[derive(Debug)]
pub(crate) struct Held(Gauge);

impl Held {
    pub(crate) fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Held(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}
