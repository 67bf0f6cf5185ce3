//! Where load balancers ask whether this node has endpoints of a Service (`healthCheckNodePort`), with the answers of
//! kube-proxy.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tombolo_mesh::Refusal;
use tombolo_proxy::{HealthCheck, ServiceKey};

use crate::events::{Reporter, Subject};

/// How many endpoints there are here, for load balancers that share by it.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// The kernel has no IPv6 (errno(3)).
const EAFNOSUPPORT: i32 = 97;

/// The servers, one a Service that is asked for.
pub(super) struct HealthPorts {
    servers: BTreeMap<ServiceKey, Server>,
    reporter: Reporter,
    /// Where it is listened; the tests' is the loopback.
    address: Option<IpAddr>,
}

struct Server {
    port: u16,
    answer: Shared,
    task: JoinHandle<()>,
}

type Shared = Arc<Mutex<Answer>>;

#[derive(Debug, Clone)]
struct Answer {
    service: ServiceKey,
    local_endpoints: usize,
    is_proxy_healthy: bool,
}

impl HealthPorts {
    pub(super) fn new(reporter: Reporter) -> Self {
        Self { servers: BTreeMap::new(), reporter, address: None }
    }

    /// Opens, changes and closes servers. A port that is taken is said in an Event on its Service, and tried again with
    /// the next call.
    pub(super) async fn bring_to(
        &mut self,
        checks: &BTreeMap<ServiceKey, HealthCheck>,
        is_proxy_healthy: bool,
        uid: impl Fn(&ServiceKey) -> Option<String>,
    ) {
        self.servers.retain(|key, server| checks.get(key).is_some_and(|check| check.port == server.port));
        let mut refusals = Vec::new();
        for (key, check) in checks {
            let answer = Answer { service: key.clone(), local_endpoints: check.local_endpoints, is_proxy_healthy };
            if let Some(server) = self.servers.get(key) {
                *server.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
                continue;
            }
            match self.listen(check.port).await {
                Ok(listener) => drop(self.servers.insert(key.clone(), Server::start(listener, check.port, answer))),
                Err(error) => refusals.push(Refusal {
                    object: format!("Service/{key}"),
                    field: "spec.healthCheckNodePort".into(),
                    value: check.port.to_string(),
                    reason: format!(
                        "cannot listen on it at this node: {error}; the load balancer takes the node for one without \
                         endpoints until whoever has the port lets go, or the Service gets another"
                    ),
                }),
            }
        }
        let subjects: Vec<Subject> = checks
            .keys()
            .map(|key| Subject { object: format!("Service/{key}"), uid: uid(key), generation: None })
            .collect();
        // Each node has ports of its own, and speaks for them.
        self.reporter.report(&refusals, &subjects, |_| true);
    }

    async fn listen(&self, port: u16) -> std::io::Result<TcpListener> {
        if let Some(address) = self.address {
            return TcpListener::bind(SocketAddr::new(address, port)).await;
        }
        match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
            // A host without IPv6.
            Err(error) if error.raw_os_error() == Some(EAFNOSUPPORT) => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
            }
            other => other,
        }
    }
}

impl Server {
    fn start(listener: TcpListener, port: u16, answer: Answer) -> Self {
        let answer = Arc::new(Mutex::new(answer));
        let routes = Router::new().fallback(say).with_state(answer.clone());
        let service = answer.lock().unwrap_or_else(PoisonError::into_inner).service.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%service, %error, "the server for load balancers' health checks stopped");
            }
        });
        Self { port, answer, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn say(State(answer): State<Shared>) -> Response {
    let Answer { service, local_endpoints, is_proxy_healthy } =
        answer.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let is_here = local_endpoints > 0 && is_proxy_healthy;
    let status = if is_here { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "service": { "namespace": service.namespace, "name": service.name },
        "localEndpoints": local_endpoints,
        "serviceProxyHealthy": is_proxy_healthy,
    });
    let headers = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (WEIGHT, local_endpoints.to_string()),
    ];
    (status, headers, format!("{body:#}\n")).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::ErrorKind;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// A client that reaches nobody: Events that it writes are lost.
    fn ports() -> HealthPorts {
        let config = kube::Config::new("http://127.0.0.1:9".parse().unwrap());
        let client = kube::Client::try_from(config).unwrap();
        let reporter = Reporter::new(client, "n1".into());
        HealthPorts { servers: BTreeMap::new(), reporter, address: Some(Ipv4Addr::LOCALHOST.into()) }
    }

    fn web() -> ServiceKey {
        ServiceKey::new("shop", "web")
    }

    fn check(port: u16, local_endpoints: usize) -> BTreeMap<ServiceKey, HealthCheck> {
        [(web(), HealthCheck { port, local_endpoints })].into()
    }

    async fn ask(port: u16) -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(b"GET /anything HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// A port that was free a moment ago.
    async fn free_port() -> u16 {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port()
    }

    #[tokio::test]
    async fn a_load_balancer_is_answered_as_kube_proxy_does() {
        let (mut ports, port) = (ports(), free_port().await);
        for (endpoints, is_healthy, status) in [(2, true, "200 OK"), (0, true, "503 "), (2, false, "503 ")] {
            ports.bring_to(&check(port, endpoints), is_healthy, |_| None).await;
            let text = ask(port).await.unwrap();
            assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{text}");
            assert!(text.contains("content-type: application/json\r\n"), "{text}");
            assert!(text.contains(&format!("x-load-balancing-endpoint-weight: {endpoints}\r\n")), "{text}");
            let body: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
            let expected = json!({
                "service": {"namespace": "shop", "name": "web"},
                "localEndpoints": endpoints,
                "serviceProxyHealthy": is_healthy,
            });
            assert_eq!(body, expected);
        }
        ports.bring_to(&BTreeMap::new(), true, |_| None).await;
        // The task ends at its next turn.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while ask(port).await.is_ok() {
            assert!(std::time::Instant::now() < deadline);
            tokio::task::yield_now().await;
        }
        assert_eq!(
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_taken_over_when_it_is_free() {
        let (mut ports, other) = (ports(), TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
        let port = other.local_addr().unwrap().port();
        ports.bring_to(&check(port, 1), true, |_| None).await;
        assert!(ports.servers.is_empty());
        drop(other);
        ports.bring_to(&check(port, 1), true, |_| None).await;
        assert!(ask(port).await.unwrap().starts_with("HTTP/1.1 200"));
    }
}
