//! `/healthz`, `/readyz`, `/metrics` and `/graph` over HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::task::JoinHandle;

use crate::metrics::Metrics;

/// How the agent is, as the loop last said.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    /// Why the node's network is not as it shall be; `None` when it is.
    unready: Option<String>,
    graph: String,
}

impl Default for Inner {
    fn default() -> Self {
        Self { unready: Some("starting: the API server has not been heard yet".into()), graph: String::new() }
    }
}

impl Health {
    /// The node's network is as it shall be.
    pub(crate) fn ready(&self, graph: String) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.unready = None;
        inner.graph = graph;
    }

    /// It is not, for this reason. Returns whether the reason is new.
    pub(crate) fn unready(&self, reason: String) -> bool {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.unready.replace(reason) != inner.unready
    }

    fn reason(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).unready.clone()
    }

    fn graph(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).graph.clone()
    }
}

type Shared = (Arc<Health>, Arc<Metrics>);

/// Listens and serves until the task is aborted.
///
/// # Errors
/// The address is taken or not ours.
pub(crate) async fn serve(
    address: SocketAddr,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
) -> std::io::Result<JoinHandle<()>> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let routes = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/health", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .route("/graph", get(async |State((health, _)): State<Shared>| health.graph()))
        .with_state((health, metrics));
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the health server stopped");
        }
    }))
}

async fn ready(State((health, _)): State<Shared>) -> Response {
    match health.reason() {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn render(State((_, metrics)): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, crate::bgp_metrics::OPENMETRICS)], metrics.render()).into_response()
}
