//! What people do with clusters: peer them, run pods and services, look.

use std::time::{Duration, Instant};

use crate::command::{attempt, output, run};
use crate::lab::Lab;
use crate::wait_until;

/// Peers the nodes of `from` in the other cluster, with the loop of Kilo's multi-cluster guide, by the kubectl named.
/// Gives back which nodes have a Peer, and how long it took.
///
/// # Panics
/// When a step fails that shall not.
pub fn peer_with(lab: &Lab, kubectl: &str, from: usize, to: usize) -> (Vec<String>, Duration) {
    let start = Instant::now();
    let names = run(&mut lab.kubectl_of(kubectl, from, &["get", "no", "-o", "name"]), "");
    let mut peered = Vec::new();
    for node in names.lines().map(|line| line.trim_start_matches("node/")) {
        let service_cidrs = lab.service_cidrs(from);
        let args = ["showconf", "node", node, "--as-peer", "-o", "yaml", "--allowed-ips", &service_cidrs];
        let manifest = run(&mut lab.kgctl(from, &args), "");
        let applied = output(&mut lab.kubectl_of(kubectl, to, &["apply", "-f", "-"]), &manifest);
        let words = String::from_utf8_lossy(&applied.stderr).into_owned();
        if manifest.trim().is_empty() {
            assert!(words.contains("no objects passed to apply"), "a node that leads nothing: {words}");
            continue;
        }
        assert!(applied.status.success(), "{words}");
        peered.push(node.to_owned());
    }
    (peered, start.elapsed())
}

/// Peers both ways. Gives back how long it took.
pub fn peer(lab: &Lab) -> Duration {
    peer_with(lab, "kubectl", 1, 2).1 + peer_with(lab, "kubectl", 2, 1).1
}

/// On each node of a cluster a pod that answers HTTP, `web-1` on the first, and the Service `web` before them, with an
/// address of each family of the cluster. Waits until they are ready.
///
/// # Panics
/// When they do not become ready.
pub fn run_web(lab: &Lab, cluster: usize) {
    let mut manifest = String::from(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ipFamilyPolicy: PreferDualStack\n  \
         selector: {app: web}\n  ports: [{port: 80}]\n",
    );
    for (index, node) in lab.nodes(cluster).iter().enumerate() {
        manifest += &format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: web-{}, labels: {{app: web}}}}\nspec:\n  nodeName: {node}\n  \
             containers: [{{name: web, image: tombolo/web}}]\n",
            index + 1
        );
    }
    run(&mut lab.kubectl(cluster, &["apply", "-f", "-"]), &manifest);
    let wait = ["wait", "--for=condition=Ready", "pod", "-l", "app=web", "--timeout=30s"];
    run(&mut lab.kubectl(cluster, &wait), "");
}

/// The addresses of the pods `web-…` of a cluster.
pub fn pod_ips(lab: &Lab, cluster: usize) -> Vec<String> {
    let template = "jsonpath={range .items[*]}{range .status.podIPs[*]}{.ip} {end}{end}";
    words(&run(&mut lab.kubectl(cluster, &["get", "pods", "-l", "app=web", "-o", template]), ""))
}

/// The ClusterIPs of a Service.
pub fn cluster_ips(lab: &Lab, cluster: usize, service: &str) -> Vec<String> {
    let template = "jsonpath={range .spec.clusterIPs[*]}{@} {end}";
    words(&run(&mut lab.kubectl(cluster, &["get", "service", service, "-o", template]), ""))
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Pings an address from a pod once.
///
/// # Errors
/// No answer within two seconds.
pub fn ping(lab: &Lab, cluster: usize, pod: &str, address: &str) -> Result<(), String> {
    attempt(&mut lab.in_pod(cluster, pod, &["ping", "-n", "-c", "1", "-W", "2", address]), "").map(drop)
}

/// Fetches a page from a pod, and gives it back.
///
/// # Errors
/// No page within three seconds.
pub fn fetch(lab: &Lab, cluster: usize, pod: &str, host: &str) -> Result<String, String> {
    let url = if host.contains(':') { format!("http://[{host}]/") } else { format!("http://{host}/") };
    attempt(&mut lab.in_pod(cluster, pod, &["curl", "-sS", "-g", "-m", "3", &url]), "")
}

/// Waits until each pod of `cluster` reaches every pod and ClusterIP of the other cluster, by ping and HTTP.
///
/// # Panics
/// When one does not within ten seconds.
pub fn wait_joined(lab: &Lab, cluster: usize) -> Duration {
    let other = 3 - cluster;
    let start = Instant::now();
    let targets: Vec<String> = pod_ips(lab, other).into_iter().chain(cluster_ips(lab, other, "web")).collect();
    for pod in 1..=lab.nodes(cluster).len() {
        let pod = format!("web-{pod}");
        for target in &targets {
            let what = format!("{pod} of cluster{cluster} reaches {target}");
            wait_until(&what, Duration::from_secs(10), || ping(lab, cluster, &pod, target));
            wait_until(&what, Duration::from_secs(10), || fetch(lab, cluster, &pod, target).map(drop));
        }
    }
    start.elapsed()
}
