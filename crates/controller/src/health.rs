//! `/healthz`, `/readyz` and `/metrics` over HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::{Metrics, OPENMETRICS};

/// Why the controller is not ready; none when it is.
#[derive(Debug)]
pub(crate) struct Readiness(Mutex<Option<String>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Mutex::new(Some("starting: this cluster's API server has not been heard yet".to_owned())))
    }
}

impl Readiness {
    pub(crate) fn set(&self, reason: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }

    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

type Shared = (Arc<Readiness>, Arc<Metrics>);

/// Listens, and serves from then on.
///
/// # Errors
/// The address is taken or not ours.
pub(crate) async fn serve(address: SocketAddr, readiness: Arc<Readiness>, metrics: Arc<Metrics>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("can't listen on {address}; choose another --listen"))?;
    let routes = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
        .with_state((readiness, metrics));
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, routes).await {
            tracing::error!(%error, "the health server stopped");
        }
    });
    Ok(())
}

async fn ready(State((readiness, _)): State<Shared>) -> Response {
    match readiness.get() {
        None => "ok\n".into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn render(State((_, metrics)): State<Shared>) -> Response {
    ([(header::CONTENT_TYPE, OPENMETRICS)], metrics.render()).into_response()
}
