//! `/readyz` and `/healthz`, for probes, and `/metrics` for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::server::Shared;

const PATIENCE: Duration = Duration::from_secs(5);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const MAX_REQUEST: usize = 4096;

/// Answers probes: `/healthz` with 200, `/readyz` with 200 once the zones are complete and 503
/// before; and `/metrics`.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A probe that goes away has its answer.
            let _ = tokio::time::timeout(PATIENCE, respond(stream, &shared)).await;
        });
    }
}

async fn respond(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < MAX_REQUEST {
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let line = request.split(|b| *b == b'\r').next().unwrap_or_default();
    let path = line.split(|b| *b == b' ').nth(1).unwrap_or_default();
    let path = path.split(|b| *b == b'?').next().unwrap_or_default();
    let (status, body) = match path {
        b"/healthz" | b"/livez" => ("200 OK", "ok\n".to_owned()),
        b"/readyz" => readiness(shared),
        b"/metrics" => ("200 OK", shared.render_metrics()),
        _ => ("404 Not Found", "/readyz, /healthz and /metrics are here\n".to_owned()),
    };
    let kind = if path == b"/metrics" { OPENMETRICS } else { "text/plain" };
    let response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

fn readiness(shared: &Shared) -> (&'static str, String) {
    let loading: Vec<String> = shared.read(|zones| zones.loading().map(ToString::to_string).collect());
    if loading.is_empty() {
        return ("200 OK", "ok\n".to_owned());
    }
    let sentence = format!("not all objects are read yet that these zones are made of: {}\n", loading.join(" "));
    ("503 Service Unavailable", sentence)
}
