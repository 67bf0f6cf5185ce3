//! Many clusters and one controller: how long until all is imported, its memory, and what one change costs.
//!
//!     clusters TOMBOLO [CLUSTERS [SERVICES]]
//!
//! The clusters are API servers in this process, on loopback; the controller is `TOMBOLO controller` as its own process.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tombolo_api::{about, mcs};
use tombolo_apiserver::{ApiServer, Gvr};

const NAMESPACE: &str = "bench";
const ENDPOINTS: usize = 4;
const CHANGES: usize = 300;
const PATIENCE: Duration = Duration::from_secs(300);

/// Ends the controller, also after a panic.
struct Controller(Child);

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Controller {
    /// CPU time so far.
    fn cpu(&self) -> Duration {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.0.id())).unwrap();
        // The first number is that of the main thread alone; threads are added.
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        let of = |text: &str| text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        let all = threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok());
        Duration::from_nanos(all.map(|text| of(&text)).sum::<u64>().max(of(&text)))
    }

    /// Resident memory in MiB: now, and at most.
    fn memory(&self) -> (u64, u64) {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let of = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) / 1024
        };
        (of("VmRSS"), of("VmHWM"))
    }
}

fn gvr(kind: &str) -> Gvr {
    match kind {
        "services" | "namespaces" => Gvr::new("", "v1", kind),
        "endpointslices" => Gvr::new("discovery.k8s.io", "v1", kind),
        "clusterproperties" => Gvr::new(about::GROUP, "v1beta1", kind),
        other => Gvr::new(mcs::GROUP, "v1beta1", other),
    }
}

fn definitions() -> [Value; 3] {
    [
        serde_json::to_value(mcs::service_exports_crd().unwrap()).unwrap(),
        serde_json::to_value(mcs::service_imports_crd().unwrap()).unwrap(),
        serde_json::to_value(about::crd()).unwrap(),
    ]
}

async fn cluster(name: &str, cidr: &str, folder: &Path) -> ApiServer {
    let mut builder = ApiServer::builder().service_cidrs([cidr.parse().unwrap()]).without_controllers();
    for definition in definitions() {
        builder = builder.definition(definition);
    }
    let server = builder.build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    server.serve(listener);
    std::fs::write(folder.join(name), server.kubeconfig(&url)).unwrap();
    let store = server.store();
    store
        .create(&gvr("namespaces"), json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}))
        .unwrap();
    let property = json!({
        "apiVersion": "about.k8s.io/v1beta1", "kind": "ClusterProperty",
        "metadata": {"name": about::CLUSTER_ID}, "spec": {"value": name},
    });
    store.create(&gvr("clusterproperties"), property).unwrap();
    server
}

/// The slice of a service; `round` is in its first address.
fn slice(cluster: usize, service: usize, round: usize) -> Value {
    let address = |n: usize| format!("10.{}.{}.{}", 100 + n + cluster / 200, cluster % 200, service % 200 + 1);
    let mut addresses: Vec<String> = (0..ENDPOINTS).map(address).collect();
    addresses[0] = format!("11.{}.{}.{}", cluster % 200, service % 200, round + 1);
    let endpoints = addresses.iter().map(|a| json!({"addresses": [a], "conditions": {"ready": true}}));
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("s{cluster}-{service}-x"), "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": format!("s{cluster}-{service}")},
        },
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints.collect::<Vec<_>>(),
    })
}

fn fill(server: &ApiServer, cluster: usize, services: usize) {
    let store = server.store();
    for service in 0..services {
        let metadata = json!({"name": format!("s{cluster}-{service}"), "namespace": NAMESPACE});
        let spec = json!({
            "type": "ClusterIP", "clusterIP": format!("10.96.{}.{}", service / 200, service % 200 + 1),
            "clusterIPs": [format!("10.96.{}.{}", service / 200, service % 200 + 1)], "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        });
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec});
        store.create(&gvr("services"), object).unwrap();
        store.create(&gvr("endpointslices"), slice(cluster, service, 0)).unwrap();
        let export =
            json!({"apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": metadata});
        store.create(&gvr("serviceexports"), export).unwrap();
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "not within {} s: {what}", PATIENCE.as_secs());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let program = args.next().expect("clusters TOMBOLO [CLUSTERS [SERVICES]]");
    let number = |text: Option<String>| text.map(|text| text.parse::<usize>().expect("a number"));
    let clusters = number(args.next()).unwrap_or(100);
    let services = number(args.next()).unwrap_or(100);
    let folder = std::env::temp_dir().join(format!("tombolo-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for way in [&["--mirror=false", "--clusterset-cidr", "10.200.0.0/16"][..], &["--mirror=false"]] {
        run(&program, way, (clusters, services), &folder).await;
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

async fn run(program: &str, way: &[&str], (clusters, services): (usize, usize), folder: &Path) {
    let own = cluster("own", "10.98.0.0/15", folder).await;
    let mut sources = Vec::new();
    for n in 0..clusters {
        let source = cluster(&format!("c{n}"), "10.96.0.0/16", folder).await;
        fill(&source, n, services);
        sources.push(source);
    }
    let mut command = Command::new(program);
    command.arg("controller").arg("--kubeconfig").arg(folder.join("own")).args([
        "--leader-elect=false",
        "--log-level",
        "error",
    ]);
    for n in 0..clusters {
        command.arg("--source").arg(format!("c{n}={}", folder.join(format!("c{n}")).display()));
    }
    let begin = Instant::now();
    let controller = Controller(command.args(way).stdin(Stdio::null()).spawn().unwrap());
    let all = clusters * services;
    let store = own.store();
    let whole = || {
        let imports = store.list(&gvr("serviceimports"), None).items;
        let has = |object: &Value, path: &str| object.pointer(path).is_some_and(|value| *value != json!([]));
        imports.len() == all
            && imports.iter().all(|import| has(import, "/spec/ips/0") && has(import, "/status/clusters/0"))
    };
    until("everything is imported", || {
        store.count(&gvr("serviceimports")) == all && store.count(&gvr("endpointslices")) == all
    })
    .await;
    until("every import has its address", whole).await;
    let took = begin.elapsed();
    let (now, most) = controller.memory();
    let cpu = controller.cpu();
    println!(
        "{}: {clusters} clusters x {services} services x {ENDPOINTS} endpoints: {:.2} s from start to whole ({:.2} CPU-s of the \
         controller), RSS {now} MiB, at most {most}",
        if way.len() > 1 { "addresses of a CIDR" } else { "derived Services" },
        took.as_secs_f64(),
        cpu.as_secs_f64()
    );
    // What is still to be heard of its own writes is no part of a change.
    let mut last = controller.cpu();
    until("the controller is at rest", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = controller.cpu();
        now - std::mem::replace(&mut last, now) < Duration::from_millis(50)
    })
    .await;
    let idle_from = (Instant::now(), controller.cpu());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let idle = (controller.cpu() - idle_from.1).as_secs_f64() / idle_from.0.elapsed().as_secs_f64();
    let mut latencies = Vec::new();
    // One list and one watch: this process is not to take the caches from the controller.
    let revision = store.list(&gvr("endpointslices"), None).revision;
    let mut events = store.watch(&gvr("endpointslices"), revision).unwrap();
    let (begin, before) = (Instant::now(), controller.cpu());
    for n in 0..CHANGES {
        let (cluster, service) = (n % clusters, n / clusters % services);
        let address = format!("11.{}.{}.{}", cluster % 200, service % 200, n % 250 + 2);
        let at = Instant::now();
        sources[cluster].store().update(&gvr("endpointslices"), slice(cluster, service, n % 250 + 1)).unwrap();
        loop {
            let news = tokio::time::timeout(PATIENCE, events.next()).await.expect("a change arrives").unwrap();
            if news.iter().any(|event| event.object["endpoints"][0]["addresses"][0] == json!(address)) {
                break;
            }
        }
        latencies.push(at.elapsed());
    }
    let spent = (controller.cpu() - before).as_secs_f64() - idle * begin.elapsed().as_secs_f64();
    latencies.sort();
    let at = |share: usize| latencies[(latencies.len() - 1) * share / 100].as_secs_f64() * 1000.0;
    println!(
        "  one endpoint changes, {CHANGES} times: here after {:.2} ms (p50), {:.2} ms (p99); {:.3} ms of the controller's CPU \
         each; idle {:.2} % of a core",
        at(50),
        at(99),
        spent * 1000.0 / CHANGES as f64,
        idle * 100.0
    );
}
