//! Services across clusters: what people apply, and requests that go on while something happens.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::clusters::peer_with;
use crate::command::{attempt, run};
use crate::lab::Lab;
use crate::wait_until;

/// How long something may take that is done by controllers, agents and DNS together.
pub const SOON: Duration = Duration::from_secs(20);

/// Peers each cluster with each other one.
pub fn peer_all(lab: &Lab) {
    let clusters = lab.status["clusters"].as_array().map_or(0, Vec::len);
    for from in 1..=clusters {
        for to in (1..=clusters).filter(|to| *to != from) {
            peer_with(lab, "kubectl", from, to);
        }
    }
}

/// `kubectl apply`.
///
/// # Panics
/// When the API server does not take it.
pub fn apply(lab: &Lab, cluster: usize, manifest: &str) {
    run(&mut lab.kubectl(cluster, &["apply", "-f", "-"]), manifest);
}

/// A Namespace.
pub fn namespace(lab: &Lab, cluster: usize, name: &str) {
    apply(lab, cluster, &format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n"));
}

/// A Deployment of two web servers in front of which stands the Service `web`, both in a Namespace. `labels` are the
/// Service's, in YAML: `{mirror: "true"}`.
pub fn web(lab: &Lab, cluster: usize, namespace: &str, labels: &str) {
    self::namespace(lab, cluster, namespace);
    let manifest = format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: {namespace}}}\nspec:\n  replicas: 2\n  \
           selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    spec:\n      \
             containers: [{{name: web, image: tombolo/web}}]\n\
         ---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: {namespace}, labels: {labels}}}\nspec:\n  \
           selector: {{app: web}}\n  ports: [{{name: http, port: 80}}]\n"
    );
    apply(lab, cluster, &manifest);
}

/// The headless Service `db`, before two pods with names of their own as a StatefulSet makes them: `db-0`, `db-1`.
pub fn database(lab: &Lab, cluster: usize, namespace: &str, labels: &str) {
    self::namespace(lab, cluster, namespace);
    let mut manifest = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: db, namespace: {namespace}, labels: {labels}}}\nspec:\n  \
           clusterIP: None\n  selector: {{app: db}}\n  ports: [{{name: http, port: 80}}]\n"
    );
    for number in 0..2 {
        manifest += &format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: db-{number}, namespace: {namespace}, labels: {{app: db}}}}\n\
             spec:\n  hostname: db-{number}\n  subdomain: db\n  containers: [{{name: db, image: tombolo/web}}]\n"
        );
    }
    apply(lab, cluster, &manifest);
}

/// A pod to ask from.
pub fn client(lab: &Lab, cluster: usize) {
    let manifest = "apiVersion: v1\nkind: Pod\nmetadata: {name: client}\nspec:\n  \
                    containers: [{name: client, image: tombolo/pause}]\n";
    apply(lab, cluster, manifest);
    run(&mut lab.kubectl(cluster, &["wait", "--for=condition=Ready", "pod/client", "--timeout=30s"]), "");
}

/// A ServiceExport.
pub fn export(lab: &Lab, cluster: usize, namespace: &str, name: &str) {
    let manifest = format!(
        "apiVersion: multicluster.x-k8s.io/v1beta1\nkind: ServiceExport\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\n"
    );
    apply(lab, cluster, &manifest);
}

/// Waits until the pods with this label are there and ready.
///
/// # Panics
/// When they are not in time.
pub fn wait_ready(lab: &Lab, cluster: usize, namespace: &str, label: &str, pods: usize) {
    wait_until(&format!("{pods} pods {label} of cluster{cluster}"), SOON, || {
        let ready = |pod: &Value| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        };
        let list = get(lab, cluster, &["pods", "-n", namespace, "-l", label])?;
        let count = list["items"].as_array().unwrap().iter().filter(|pod| ready(pod)).count();
        if count == pods { Ok(()) } else { Err(format!("{count} are ready")) }
    });
}

/// `kubectl get … -o json`.
///
/// # Errors
/// What `kubectl` says.
///
/// # Panics
/// When it prints no JSON.
pub fn get(lab: &Lab, cluster: usize, args: &[&str]) -> Result<Value, String> {
    let words = [&["get"], args, &["-o", "json"]].concat();
    Ok(serde_json::from_str(&attempt(&mut lab.kubectl(cluster, &words), "")?).unwrap())
}

/// The addresses of the pods with this label, sorted.
///
/// # Panics
/// When they cannot be listed.
pub fn addresses(lab: &Lab, cluster: usize, namespace: &str, label: &str) -> Vec<String> {
    let list = get(lab, cluster, &["pods", "-n", namespace, "-l", label]).unwrap();
    let address = |pod: &Value| pod["status"]["podIP"].as_str().unwrap_or_default().to_owned();
    let mut addresses: Vec<String> = list["items"].as_array().unwrap().iter().map(address).collect();
    addresses.sort();
    addresses
}

/// The addresses of the ready endpoints of the EndpointSlices that a label selects, sorted.
///
/// # Errors
/// They cannot be listed.
///
/// # Panics
/// When it is no list.
pub fn endpoints(lab: &Lab, cluster: usize, namespace: &str, label: &str) -> Result<Vec<String>, String> {
    let list = get(lab, cluster, &["endpointslices", "-n", namespace, "-l", label])?;
    let slices = list["items"].as_array().unwrap().iter();
    let endpoints = slices.flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
    let mut addresses: Vec<String> = ready
        .flat_map(|endpoint| endpoint["addresses"].as_array().cloned().unwrap_or_default())
        .map(|address| address.as_str().unwrap().to_owned())
        .collect();
    addresses.sort();
    Ok(addresses)
}

/// The label of the EndpointSlices of an imported service that are from one cluster.
pub fn from_cluster(service: &str, cluster: usize) -> String {
    format!(
        "multicluster.kubernetes.io/service-name={service},multicluster.kubernetes.io/source-cluster=cluster{cluster}"
    )
}

/// Status and reason of a condition of a ServiceExport: `True PortConflict`.
///
/// # Errors
/// There is no such ServiceExport, or it has no such condition yet.
pub fn condition(lab: &Lab, cluster: usize, namespace: &str, name: &str, kind: &str) -> Result<String, String> {
    let export = get(lab, cluster, &["serviceexport", "-n", namespace, name])?;
    let conditions = export["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let found = conditions.iter().find(|condition| condition["type"] == kind);
    let found = found.ok_or_else(|| format!("no condition {kind}: {conditions:?}"))?;
    Ok(format!("{} {}", found["status"].as_str().unwrap_or_default(), found["reason"].as_str().unwrap_or_default()))
}

/// Waits until there is no such object.
///
/// # Panics
/// When there is one after [`SOON`].
pub fn wait_gone(lab: &Lab, cluster: usize, args: &[&str]) {
    wait_until(&format!("{args:?} of cluster{cluster} is gone"), SOON, || match get(lab, cluster, args) {
        Ok(_) => Err("it is there".to_owned()),
        Err(words) if words.contains("NotFound") => Ok(()),
        Err(words) => Err(words),
    });
}

/// Waits until there is such an object, and gives it back.
///
/// # Panics
/// When there is none after [`SOON`].
pub fn wait_present(lab: &Lab, cluster: usize, args: &[&str]) -> Value {
    let mut found = Value::Null;
    wait_until(&format!("{args:?} of cluster{cluster}"), SOON, || {
        found = get(lab, cluster, args)?;
        Ok(())
    });
    found
}

/// What the pod `client` of a cluster finds of a name.
///
/// # Errors
/// Nothing.
pub fn dig(lab: &Lab, cluster: usize, name: &str, kind: &str) -> Result<Vec<String>, String> {
    let text = attempt(&mut lab.in_pod(cluster, "client", &["dig", "+short", "+time=1", "+tries=1", name, kind]), "")?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    if lines.is_empty() { Err(format!("{name} has no {kind}")) } else { Ok(lines) }
}

/// Requests of a pod to one host, many a second, until they are ended.
pub struct Requests {
    children: Vec<Child>,
    readers: Vec<JoinHandle<()>>,
    log: Arc<Mutex<Log>>,
}

#[derive(Default)]
struct Log {
    /// When a request ended, and whether it was answered.
    ends: Vec<(Instant, bool)>,
    /// When a page came, and its text.
    pages: Vec<(Instant, String)>,
}

/// What came of [`Requests`] in some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Requests that ended.
    pub requests: usize,
    /// Of which were not answered.
    pub failed: usize,
}

/// So many clients ask at the same time, each as often as this in a second. One that meets an endpoint which does not
/// answer gives up after [`GIVE_UP`], and the others go on.
const CLIENTS: usize = 24;
const RATE: &str = "7/s";
/// For a connection, in seconds; the machine may be busy. An answer may take twice as long.
const GIVE_UP: (&str, &str) = ("1", "2");

impl Requests {
    /// Starts.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(lab: &Lab, cluster: usize, pod: &str, host: &str) -> Self {
        let log = Arc::new(Mutex::new(Log::default()));
        let url = format!("http://{host}/[1-1000000]");
        let words = [
            "curl",
            "-sN",
            "--connect-timeout",
            GIVE_UP.0,
            "-m",
            GIVE_UP.1,
            "--rate",
            RATE,
            "-w",
            "%{stderr}%{http_code}\\n",
            &url,
        ];
        let (mut children, mut readers) = (Vec::new(), Vec::new());
        for _ in 0..CLIENTS {
            let mut command = lab.in_pod(cluster, pod, &words);
            let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let (codes, pages) = (child.stderr.take().unwrap(), child.stdout.take().unwrap());
            let known = Arc::clone(&log);
            readers.push(each_line(codes, move |at, line| known.lock().unwrap().ends.push((at, line == "200"))));
            let known = Arc::clone(&log);
            readers.push(each_line(pages, move |at, line| known.lock().unwrap().pages.push((at, line))));
            children.push(child);
        }
        Self { children, readers, log }
    }

    /// What came of those that ended since.
    ///
    /// # Panics
    /// When a reader panicked.
    pub fn since(&self, start: Instant) -> Count {
        let log = self.log.lock().unwrap();
        let ends: Vec<bool> = log.ends.iter().filter(|(at, _)| *at >= start).map(|(_, ok)| *ok).collect();
        Count { requests: ends.len(), failed: ends.iter().filter(|ok| !**ok).count() }
    }

    /// Waits until so many have ended since.
    ///
    /// # Panics
    /// When they have not after a minute.
    pub fn wait_for(&self, requests: usize, start: Instant) {
        wait_until(&format!("{requests} requests"), Duration::from_secs(60), || match self.since(start) {
            count if count.requests >= requests => Ok(()),
            count => Err(format!("{count:?}")),
        });
    }

    /// Whether a page of this cluster's pods came since.
    ///
    /// # Panics
    /// When a reader panicked.
    pub fn heard_of(&self, cluster: usize, start: Instant) -> bool {
        let node = format!(" on node c{cluster}-");
        self.log.lock().unwrap().pages.iter().any(|(at, page)| *at >= start && page.contains(&node))
    }

    fn kill(&mut self) {
        for child in &mut self.children {
            // The command in the pod is below.
            let kill = format!("pkill -KILL -P {0}; kill -KILL {0}", child.id());
            let _ = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
            let _ = child.wait();
        }
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.kill();
    }
}

fn each_line(
    stream: impl Read + Send + 'static,
    mut take: impl FnMut(Instant, String) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { return };
            take(Instant::now(), line);
        }
    })
}

/// What the controller of a cluster tells Prometheus.
///
/// # Errors
/// It cannot be asked.
pub fn metrics(lab: &Lab, cluster: usize) -> Result<String, String> {
    let template = "jsonpath={.items[0].status.podIP}";
    let label = "app.kubernetes.io/name=tombolo-controller";
    let words = ["get", "pods", "-n", "tombolo-system", "-l", label, "-o", template];
    let address = attempt(&mut lab.kubectl(cluster, &words), "")?;
    let host = if address.contains(':') { format!("[{address}]") } else { address };
    let node = lab.nodes(cluster)[0].clone();
    let url = format!("http://{host}:8080/metrics");
    attempt(&mut lab.on_node(cluster, &node, &["curl", "-sSfg", "-m", "2", &url]), "")
}
