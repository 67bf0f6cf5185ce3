//! The scenario of the README in every shape: peer, reach, mirror by hand, part.

use std::time::{Duration, Instant};

use tombolo_e2e::clusters::{self, cluster_ips, fetch, peer_with, ping, pod_ips, run_web, wait_joined};
use tombolo_e2e::command::{attempt, run};
use tombolo_e2e::lab::Lab;
use tombolo_e2e::traffic::Capture;
use tombolo_e2e::wait_until;

#[test]
fn location_ipv4() {
    scenario("location", "ipv4");
}

#[test]
fn full_ipv4() {
    scenario("full", "ipv4");
}

#[test]
fn location_ipv6() {
    scenario("location", "ipv6");
}

#[test]
fn full_ipv6() {
    scenario("full", "ipv6");
}

#[test]
fn location_dual() {
    scenario("location", "dual");
}

#[test]
fn full_dual() {
    scenario("full", "dual");
}

/// One network for all nodes of both clusters: their addresses are neighbours, and still go through the tunnel.
#[test]
fn flat_underlay() {
    let lab = Lab::up(&["--underlay", "flat", "--mesh-granularity", "full"]);
    join_and_reach(&lab);
}

/// Nodes behind routers that translate addresses.
#[test]
fn behind_nat() {
    let lab = Lab::up(&["--underlay", "nat"]);
    join_and_reach(&lab);
}

/// Debian's kubectl of 2020 does the same.
#[test]
fn with_the_kubectl_of_debian() {
    let old = std::env::var("TOMBOLO_KUBECTL_OLD")
        .expect("TOMBOLO_KUBECTL_OLD names Debian's kubectl: run `make test`, or scripts/deps.sh kubectl DIR");
    let lab = Lab::up(&[]);
    let version = run(&mut lab.kubectl_of(&old, 1, &["version", "--short"]), "");
    assert!(version.contains("Client Version: v1.20."), "{version}");
    assert_eq!(peer_with(&lab, &old, 1, 2).0, ["c1-n1"]);
    assert_eq!(peer_with(&lab, &old, 2, 1).0, ["c2-n1"]);
    run_web(&lab, 1);
    run_web(&lab, 2);
    wait_joined(&lab, 1);
    let pods = run(&mut lab.kubectl_of(&old, 1, &["get", "pods", "-o", "wide"]), "");
    assert!(pods.contains("web-1") && pods.contains("Running") && pods.contains("NOMINATED NODE"), "{pods}");
    let said = run(&mut lab.kubectl_of(&old, 1, &["exec", "web-1", "--", "echo", "from inside"]), "");
    assert_eq!(said, "from inside\n");
}

fn join_and_reach(lab: &Lab) {
    run_web(lab, 1);
    run_web(lab, 2);
    let took = clusters::peer(lab);
    println!("the peering loop took {took:?} both ways");
    wait_joined(lab, 1);
    wait_joined(lab, 2);
}

fn scenario(granularity: &str, family: &str) {
    // A controller reads the other cluster's API server on the underlay itself, and this is about what shall not be there.
    let lab = Lab::up(&["--mesh-granularity", granularity, "--family", family, "--services=false"]);
    let before = traces(&lab);
    let networks = [1, 2].map(|cluster| networks(&lab, cluster));
    let capture = Capture::start(&lab, [&networks[0], &networks[1]]);
    join_and_reach(&lab);
    nodes_reach_nodes(&lab);
    let (encrypted, others) = capture.end(51820);
    assert!(encrypted > 0, "no packet of WireGuard was seen between the clusters");
    assert!(others.is_empty(), "other packets than WireGuard's between the clusters:\n{}", others.join("\n"));
    mirror_by_hand(&lab);
    part(&lab, &before);
}

/// A node's only address is its endpoint, and is reached through the tunnel all the same.
fn nodes_reach_nodes(lab: &Lab) {
    for node in lab.nodes(1) {
        for other in lab.nodes(2) {
            let address = lab.node(2, &other)["addresses"][0].as_str().unwrap().to_owned();
            let what = format!("{node} reaches {other} at {address}");
            let mut ping = lab.on_node(1, &node, &["ping", "-n", "-c", "1", "-W", "2", &address]);
            wait_until(&what, Duration::from_secs(10), || attempt(&mut ping, "").map(drop));
        }
    }
}

fn mirror_by_hand(lab: &Lab) {
    let remote = cluster_ips(lab, 1, "web")[0].clone();
    let family = if remote.contains(':') { "IPv6" } else { "IPv4" };
    let manifest = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: important-service}}\n\
         spec: {{ipFamilies: [{family}], ports: [{{port: 80}}]}}\n---\n\
         apiVersion: v1\nkind: Endpoints\nmetadata: {{name: important-service}}\n\
         subsets: [{{addresses: [{{ip: \"{remote}\"}}], ports: [{{port: 80}}]}}]\n"
    );
    run(&mut lab.kubectl(2, &["apply", "-f", "-"]), &manifest);
    for pod in ["web-1", "web-2"] {
        for name in ["important-service.default.svc.cluster.local", "important-service"] {
            let what = format!("{pod} of cluster2 fetches {name}");
            wait_until(&what, Duration::from_secs(10), || {
                let page = fetch(lab, 2, pod, name)?;
                if page.contains("on node c1-") { Ok(()) } else { Err(page) }
            });
        }
    }
}

/// Peers deleted: unreachable within a second, and no trace left.
fn part(lab: &Lab, before: &[String]) {
    let target = pod_ips(lab, 2)[0].clone();
    assert_eq!(ping(lab, 1, "web-1", &target), Ok(()));
    let start = Instant::now();
    run(&mut lab.kubectl(1, &["delete", "peers", "--all"]), "");
    run(&mut lab.kubectl(2, &["delete", "peers", "--all"]), "");
    wait_until("nodes without a trace of the other cluster", Duration::from_secs(5), || {
        let now = traces(lab);
        if now == before { Ok(()) } else { Err(now.join("\n")) }
    });
    println!("no trace of the other cluster {:?} after the Peers were asked to go", start.elapsed());
    assert!(attempt(&mut lab.in_pod(1, "web-1", &["ping", "-n", "-c", "1", "-W", "1", &target]), "").is_err());
}

/// What nodes hold of other clusters: routes, rules, addresses, WireGuard's peers, elements of nftables' sets.
fn traces(lab: &Lab) -> Vec<String> {
    let look = "ip -4 route show table all proto 117; ip -6 route show table all proto 117; ip rule; ip -6 rule; \
                ip -o address show dev kilo0 scope global 2>/dev/null; wg show kilo0 allowed-ips 2>/dev/null; \
                nft list table inet tombolo";
    let mut traces = Vec::new();
    for cluster in [1, 2] {
        for node in lab.nodes(cluster) {
            traces.push(run(&mut lab.on_node(cluster, &node, &["sh", "-c", look]), ""));
        }
    }
    traces
}

/// The networks of a cluster: nodes' addresses, pods, services.
fn networks(lab: &Lab, cluster: usize) -> Vec<String> {
    let mut networks = lab.pod_cidrs(cluster);
    networks.extend(lab.service_cidrs(cluster).split(',').map(str::to_owned));
    for node in lab.nodes(cluster) {
        let addresses = lab.node(cluster, &node)["addresses"].as_array().unwrap();
        networks.extend(addresses.iter().map(|a| {
            let address = a.as_str().unwrap();
            format!("{address}/{}", if address.contains(':') { 128 } else { 32 })
        }));
    }
    networks
}
