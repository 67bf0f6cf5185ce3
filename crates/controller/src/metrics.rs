//! What Prometheus is told.

use std::sync::Mutex;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// The content type of `/metrics`.
pub(crate) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct BySource {
    pub source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ByStanding {
    pub source: String,
    pub standing: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ByKind {
    pub kind: &'static str,
}

/// The controller's metrics.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    pub leads: Gauge,
    pub standing: Family<ByStanding, Gauge>,
    pub offered: Family<BySource, Gauge>,
    pub conflicts: Family<BySource, Gauge>,
    pub refused: Gauge,
    pub mirrors: Gauge,
    pub imports: Gauge,
    pub writes: Family<ByKind, Counter>,
    pub failures: Family<ByKind, Counter>,
    pub waiting: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let metrics = Self {
            registry: Mutex::default(),
            leads: Gauge::default(),
            standing: Family::default(),
            offered: Family::default(),
            conflicts: Family::default(),
            refused: Gauge::default(),
            mirrors: Gauge::default(),
            imports: Gauge::default(),
            writes: Family::default(),
            failures: Family::default(),
            waiting: Gauge::default(),
        };
        registry.register("tombolo_controller_leader", "Whether this controller writes", metrics.leads.clone());
        registry.register(
            "tombolo_controller_source_standing",
            "What each source counts for: 1 at its standing",
            metrics.standing.clone(),
        );
        registry.register(
            "tombolo_controller_source_offers",
            "Services and ServiceExports of each source",
            metrics.offered.clone(),
        );
        registry.register(
            "tombolo_controller_conflicts",
            "Services that are not mirrored as their name is taken",
            metrics.conflicts.clone(),
        );
        registry.register("tombolo_controller_refused", "Values that are refused", metrics.refused.clone());
        registry.register("tombolo_controller_mirrors", "Mirrored Services", metrics.mirrors.clone());
        registry.register("tombolo_controller_imports", "ServiceImports", metrics.imports.clone());
        registry.register("tombolo_controller_writes", "Writes, by kind", metrics.writes.clone());
        registry.register("tombolo_controller_write_failures", "Writes that failed, by kind", metrics.failures.clone());
        registry.register(
            "tombolo_controller_waiting",
            "Services that are still to be looked at",
            metrics.waiting.clone(),
        );
        Self { registry: Mutex::new(registry), ..metrics }
    }
}

impl Metrics {
    /// The text of `/metrics` (OpenMetrics 1.0).
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Writing into a String does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }

    /// Another part's metrics.
    pub(crate) fn with(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}
