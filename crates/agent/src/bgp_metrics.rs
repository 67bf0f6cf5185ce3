//! What Prometheus is told of BGP neighbours: the agent's, and a route reflector's.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::http::header;
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::oneshot;
use tombolo_bgp::router::show::NeighborStatus;
use tombolo_bgp::speaker::Speaker;

/// The type of what `/metrics` answers.
pub(crate) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers `/metrics` of a speaker for as long as the process lives.
///
/// # Errors
/// The address is taken or not ours.
pub async fn serve(listen: SocketAddr, speaker: Speaker) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen} for /metrics (--metrics-listen)"))?;
    let mut registry = Registry::default();
    let metrics = BgpMetrics::default();
    metrics.register(&mut registry);
    let known = Arc::new((registry, metrics));
    let render = move || {
        let (known, (tell, answer)) = (known.clone(), oneshot::channel());
        speaker.neighbors(move |neighbors| drop(tell.send(neighbors)));
        async move {
            // A speaker that has ended has no neighbours.
            known.1.count(&answer.await.unwrap_or_default());
            let mut text = String::new();
            // Writing into a String does not fail.
            let _ = prometheus_client::encoding::text::encode(&mut text, &known.0);
            ([(header::CONTENT_TYPE, OPENMETRICS)], text)
        }
    };
    let routes = Router::new().route("/metrics", get(render)).route("/healthz", get(async || "ok\n"));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "/metrics is no longer answered");
        }
    });
    Ok(())
}

/// A BGP neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Neighbor {
    peer: String,
}

/// A BGP neighbour, and a family.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NeighborFamily {
    peer: String,
    family: String,
}

/// What is counted of BGP neighbours.
#[derive(Default)]
pub(crate) struct BgpMetrics {
    up: Family<Neighbor, Gauge>,
    received: Family<NeighborFamily, Gauge>,
    accepted: Family<NeighborFamily, Gauge>,
    sent: Family<NeighborFamily, Gauge>,
    updates_received: Family<Neighbor, Gauge>,
    updates_sent: Family<Neighbor, Gauge>,
    flawed: Family<Neighbor, Gauge>,
    queued: Family<Neighbor, Gauge>,
}

impl BgpMetrics {
    /// Names them in a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
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

    /// Takes in how the BGP neighbours are.
    pub(crate) fn count(&self, neighbors: &[NeighborStatus]) {
        let bgp = self;
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
}
