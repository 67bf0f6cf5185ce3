//! Clusters joined by BGP through a route reflector, each of four, as kube-router's users do it.

use std::time::Duration;

use serde_json::Value;
use tombolo_e2e::clusters::{cluster_ips, fetch, pod_ips, run_web, wait_joined};
use tombolo_e2e::command::{attempt, run, tombolo};
use tombolo_e2e::lab::Lab;
use tombolo_e2e::wait_until;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn through_our_reflector_ipv4() {
    scenario("tombolo", "ipv4");
}

#[test]
fn through_our_reflector_dual() {
    scenario("tombolo", "dual");
}

#[test]
fn through_frr_ipv4() {
    scenario("frr", "ipv4");
}

#[test]
fn through_frr_dual() {
    scenario("frr", "dual");
}

#[test]
fn through_bird_ipv4() {
    scenario("bird", "ipv4");
}

#[test]
fn through_bird_dual() {
    scenario("bird", "dual");
}

#[test]
fn through_gobgp_ipv4() {
    scenario("gobgp", "ipv4");
}

#[test]
fn through_gobgp_dual() {
    scenario("gobgp", "dual");
}

fn up(reflector: &str, family: &str, more: &[&str]) -> Lab {
    let mut args = vec!["--underlay", "flat", "--interconnect", "bgp", "--reflector", reflector, "--family", family];
    args.extend_from_slice(more);
    let lab = Lab::up(&args);
    run_web(&lab, 1);
    run_web(&lab, 2);
    lab
}

fn scenario(reflector: &str, family: &str) {
    let lab = up(reflector, family, &[]);
    let networks = texts(&lab.status["reflector"]["networks"]);
    for cluster in [1, 2] {
        let others: Vec<String> = pod_cidrs(&lab, 3 - cluster).into_iter().chain(networks.clone()).collect();
        for node in lab.nodes(cluster) {
            peer_is_up(&lab, cluster, &node);
            for destination in &others {
                routed(&lab, cluster, &node, destination);
            }
            for network in &networks {
                let address = network.split('/').next().unwrap();
                let ping = ["ping", "-n", "-c", "1", "-W", "2", address];
                wait_until(&format!("{node} pings {address}"), PATIENCE, || {
                    attempt(&mut lab.on_node(cluster, &node, &ping), "").map(drop)
                });
            }
        }
    }
    // By ping and HTTP, each pod and each ClusterIP of the other cluster.
    wait_joined(&lab, 1);
    wait_joined(&lab, 2);
    pods_see_pods(&lab);
    for service in cluster_ips(&lab, 1, "web") {
        follows_its_endpoints(&lab, &service);
    }
}

/// The agent says it in its log as kube-router does, and `tombolo bgp neighbors` shows the session with its counts.
fn peer_is_up(lab: &Lab, cluster: usize, node: &str) {
    for address in texts(&lab.status["reflector"]["addresses"]) {
        wait_until(&format!("{node} has a session with {address}"), PATIENCE, || {
            let log = lab.log(cluster, node);
            let up = |line: &str| line.contains("Peer Up") && line.contains(&format!("Key={address} State="));
            if !log.lines().any(up) {
                return Err(log);
            }
            let program = tombolo();
            let words = [program.to_str().unwrap(), "bgp", "neighbors", "-o", "json"];
            let shown = run(&mut lab.on_node(cluster, node, &words), "");
            let neighbors: Value = serde_json::from_str(&shown).unwrap();
            let neighbor = neighbors.as_array().unwrap().iter().find(|n| n["address"] == address.as_str());
            let exchanged = |families: &Value, what: &str| {
                families.as_array().unwrap().iter().any(|family| family[what].as_u64().unwrap() > 0)
            };
            match neighbor {
                Some(n)
                    if n["state"] == "Established"
                        && exchanged(&n["families"], "received")
                        && exchanged(&n["families"], "sent") =>
                {
                    Ok(())
                }
                _ => Err(shown),
            }
        });
    }
}

/// A node has a route to the network, straight out of the link to the other nodes.
fn routed(lab: &Lab, cluster: usize, node: &str, network: &str) {
    wait_until(&format!("{node} has a route to {network}"), PATIENCE, || {
        let route = route(lab, cluster, node, network);
        if route.contains("via") && route.contains("dev eth0") { Ok(()) } else { Err(route) }
    });
}

fn route(lab: &Lab, cluster: usize, node: &str, network: &str) -> String {
    let family = if network.contains(':') { "-6" } else { "-4" };
    run(&mut lab.on_node(cluster, node, &["ip", family, "route", "show", "exact", network]), "")
}

/// No tunnel and no translation of addresses: the pod that answers says who asked.
fn pods_see_pods(lab: &Lab) {
    let template = "jsonpath={range .status.podIPs[*]}{.ip} {end}";
    let asking = run(&mut lab.kubectl(2, &["get", "pod", "web-1", "-o", template]), "");
    for address in pod_ips(lab, 1) {
        let own = asking.split_whitespace().find(|own| own.contains(':') == address.contains(':')).unwrap();
        let page = fetch(lab, 2, "web-1", &address).unwrap();
        assert!(page.trim_end().ends_with(&format!("answers {own}")), "{page}, and {own} asked");
    }
}

/// The other cluster's nodes have a route to a ClusterIP of cluster 1 as long as the Service has endpoints.
fn follows_its_endpoints(lab: &Lab, service: &str) {
    let length = if service.contains(':') { 128 } else { 32 };
    let network = format!("{service}/{length}");
    routed(lab, 2, "c2-n1", &network);
    select(lab, "nothing");
    let took = wait_until("a Service without endpoints is withdrawn", PATIENCE, || gone(lab, &network));
    println!("the ClusterIP {service} was withdrawn {took:?} after its Service selected nothing");
    select(lab, "web");
    routed(lab, 2, "c2-n1", &network);
    wait_until("it answers again", PATIENCE, || fetch(lab, 2, "web-1", service).map(drop));
}

fn select(lab: &Lab, app: &str) {
    let patch = format!("{{\"spec\": {{\"selector\": {{\"app\": \"{app}\"}}}}}}");
    run(&mut lab.kubectl(1, &["patch", "service", "web", "-p", &patch]), "");
}

fn gone(lab: &Lab, network: &str) -> Result<(), String> {
    let route = route(lab, 2, "c2-n1", network);
    if route.is_empty() { Ok(()) } else { Err(route) }
}

#[test]
fn annotations_of_a_service_override_what_is_announced() {
    let lab = up("tombolo", "ipv4", &["--agent-arg=--advertise-external-ip"]);
    let external = "203.0.113.7";
    let patch = format!("{{\"spec\": {{\"externalIPs\": [\"{external}\"]}}}}");
    run(&mut lab.kubectl(1, &["patch", "service", "web", "-p", &patch]), "");
    let external = format!("{external}/32");
    let internal = format!("{}/32", cluster_ips(&lab, 1, "web")[0]);
    routed(&lab, 2, "c2-n1", &external);
    routed(&lab, 2, "c2-n1", &internal);
    for (kind, network) in [("externalip", &external), ("clusterip", &internal)] {
        let annotation = format!("kube-router.io/service.advertise.{kind}");
        run(&mut lab.kubectl(1, &["annotate", "service", "web", &format!("{annotation}=false")]), "");
        wait_until(&format!("{annotation} withdraws {network}"), PATIENCE, || gone(&lab, network));
        run(&mut lab.kubectl(1, &["annotate", "service", "web", &format!("{annotation}-")]), "");
        routed(&lab, 2, "c2-n1", network);
    }
}

/// A reflector that agents are told of by annotations of their nodes alone, without a restart.
#[test]
fn node_annotations_take_effect_without_a_restart() {
    // They begin with a router to peer with that is not there: a node's annotations go before the flags.
    let nobody = ["--agent-arg=--peer-router-ips=172.18.0.9", "--agent-arg=--peer-router-asns=64512"];
    let lab = up("tombolo", "ipv4", &nobody);
    let pods: Vec<String> = (1..=2).map(|cluster| pod_cidrs(&lab, cluster)[0].clone()).collect();
    assert_eq!(route(&lab, 2, "c2-n1", &pods[0]), "");
    let before: Vec<Value> = [1, 2].map(|c| lab.node(c, &format!("c{c}-n1"))["agent"].clone()).to_vec();
    for cluster in [1, 2] {
        let set = ["kube-router.io/peer.ips=172.18.0.2", "kube-router.io/peer.asns=64512"];
        let args = [&["annotate", "nodes", "--all"][..], &set].concat();
        run(&mut lab.kubectl(cluster, &args), "");
    }
    routed(&lab, 2, "c2-n1", &pods[0]);
    routed(&lab, 1, "c1-n1", &pods[1]);
    let status = run(lab.lab("status").args(["-o", "json"]), "");
    let status: Value = serde_json::from_str(&status).unwrap();
    let after: Vec<Value> = (0..2).map(|c| status["clusters"][c]["nodes"][0]["agent"].clone()).collect();
    assert_eq!(after, before, "no agent was started anew");
}

/// The pod CIDRs of all nodes of a cluster.
fn pod_cidrs(lab: &Lab, cluster: usize) -> Vec<String> {
    let template = "jsonpath={range .items[*]}{range .spec.podCIDRs[*]}{@} {end}{end}";
    let text = run(&mut lab.kubectl(cluster, &["get", "nodes", "-o", template]), "");
    text.split_whitespace().map(str::to_owned).collect()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}
