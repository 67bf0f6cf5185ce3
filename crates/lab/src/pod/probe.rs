//! Readiness probes: `exec`, `httpGet`, `tcpSocket`.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::netns;
use crate::spawn::Sandbox;

/// How a probe looks, with names resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// A command in the container succeeds.
    Exec(Vec<String>),
    /// A GET is answered with 200 to 399.
    Http {
        /// Host and port, `None` being the pod's own address.
        host: Option<IpAddr>,
        /// Port.
        port: u16,
        /// Path and query.
        path: String,
        /// More headers.
        headers: Vec<(String, String)>,
    },
    /// A connection is accepted.
    Tcp {
        /// The host, `None` being the pod's own address.
        host: Option<IpAddr>,
        /// Port.
        port: u16,
    },
}

/// A readiness probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// What is looked at.
    pub check: Check,
    /// Before the first look.
    pub initial_delay: Duration,
    /// Between two looks while the container is ready.
    pub period: Duration,
    /// For one look.
    pub timeout: Duration,
    /// That many looks in a row make it ready.
    pub successes: u32,
    /// That many failures in a row make it unready.
    pub failures: u32,
}

impl Readiness {
    /// The readiness probe of a container. One that cannot be done is answered with what is wrong.
    ///
    /// # Errors
    /// A port that is no number and no port's name, a host that is no address, or a kind that there is not.
    pub fn of(container: &Container) -> Result<Option<Self>, String> {
        let Some(probe) = &container.readiness_probe else { return Ok(None) };
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default))
        };
        let count =
            |value: Option<i32>, default: u32| value.and_then(|v| u32::try_from(v).ok()).unwrap_or(default).max(1);
        Ok(Some(Self {
            check: check(probe, container)?,
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10).max(Duration::from_secs(1)),
            timeout: seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1)),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
        }))
    }
}

fn check(probe: &Probe, container: &Container) -> Result<Check, String> {
    if let Some(exec) = &probe.exec {
        let words = exec.command.clone().unwrap_or_default();
        return if words.is_empty() {
            Err("readinessProbe.exec has no command".into())
        } else {
            Ok(Check::Exec(words))
        };
    }
    if let Some(http) = &probe.http_get {
        return http_check(http, container);
    }
    if let Some(tcp) = &probe.tcp_socket {
        return Ok(Check::Tcp { host: host(tcp.host.as_deref())?, port: port(&tcp.port, container)? });
    }
    Err("the lab's readiness probes are exec, httpGet and tcpSocket".into())
}

fn http_check(http: &HTTPGetAction, container: &Container) -> Result<Check, String> {
    if http.scheme.as_deref().unwrap_or("HTTP") != "HTTP" {
        return Err("the lab's readiness probes speak HTTP only".into());
    }
    let headers = http.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect();
    let path = http.path.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "/".into());
    Ok(Check::Http { host: host(http.host.as_deref())?, port: port(&http.port, container)?, path, headers })
}

fn host(host: Option<&str>) -> Result<Option<IpAddr>, String> {
    let Some(host) = host.filter(|h| !h.is_empty()) else { return Ok(None) };
    host.parse().map(Some).map_err(|_| format!("the host of the readiness probe, {host:?}, is not an address"))
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_ref() == Some(name));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    number.and_then(|n| u16::try_from(n).ok()).ok_or_else(|| format!("the readiness probe's port {port:?} is no port"))
}

/// Where a probe looks from and at.
#[derive(Debug, Clone)]
pub struct Target {
    /// The node's network namespace: probes come from the node.
    pub node_namespace: String,
    /// The pod's first address.
    pub pod_ip: Option<IpAddr>,
    /// The container's main process.
    pub pid: i32,
    /// Its environment.
    pub env: Vec<(String, String)>,
}

/// Looks once.
pub async fn look(readiness: &Readiness, target: &Target) -> bool {
    let timeout = readiness.timeout;
    let looked = match readiness.check.clone() {
        Check::Exec(words) => {
            return matches!(tokio::time::timeout(timeout, exec(&words, target)).await, Ok(Ok(true)));
        }
        Check::Tcp { host, port } => {
            let Some(ip) = host.or(target.pod_ip) else { return false };
            let connect = move || TcpStream::connect_timeout(&(ip, port).into(), timeout).map(|_| true);
            netns::enter_async(target.node_namespace.clone(), connect).await
        }
        Check::Http { host, port, path, headers } => {
            let Some(ip) = host.or(target.pod_ip) else { return false };
            let get = move || get((ip, port).into(), &path, &headers, timeout).map(|code| (200..400).contains(&code));
            netns::enter_async(target.node_namespace.clone(), get).await
        }
    };
    looked.unwrap_or(false)
}

async fn exec(words: &[String], target: &Target) -> io::Result<bool> {
    let mut command = Sandbox::of_process(target.pid)?.command(&words[0]);
    command.args(&words[1..]).env_clear().envs(target.env.iter().cloned());
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
    Ok(child.wait().await?.success())
}

/// The status code that a GET is answered with.
///
/// # Errors
/// No connection, no answer in time, or one that is not HTTP.
pub fn get(address: SocketAddr, path: &str, headers: &[(String, String)], timeout: Duration) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    let mut request = format!("GET {path} HTTP/1.1\r\nConnection: close\r\nUser-Agent: tombolo-lab\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request += &format!("Host: {address}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{request}\r\n").as_bytes())?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    let code = std::str::from_utf8(&start).ok().filter(|text| text.starts_with("HTTP/")).and_then(|text| text.get(9..));
    code.and_then(|code| code.parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;

    use serde_json::{Value, json};

    use super::*;

    fn readiness(probe: Value) -> Result<Option<Readiness>, String> {
        let container = json!({"name": "c", "ports": [{"name": "web", "containerPort": 80}], "readinessProbe": probe});
        Readiness::of(&serde_json::from_value(container).unwrap())
    }

    #[test]
    fn a_port_may_be_named() {
        let probe = readiness(json!({"httpGet": {"path": "/ok", "port": "web"}})).unwrap().unwrap();
        assert_eq!(probe.check, Check::Http { host: None, port: 80, path: "/ok".into(), headers: vec![] });
        assert_eq!(probe.period, Duration::from_secs(10));
        assert!(readiness(json!({"tcpSocket": {"port": "other"}})).is_err());
        assert_eq!(readiness(Value::Null), Ok(None));
    }

    #[test]
    fn an_answer_is_read_as_its_code() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let n = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
            String::from_utf8_lossy(&request[..n]).into_owned()
        });
        assert_eq!(get(address, "/x", &[("A".into(), "b".into())], Duration::from_secs(5)).unwrap(), 204);
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /x HTTP/1.1\r\n") && request.contains("A: b\r\n"), "{request}");
    }
}
