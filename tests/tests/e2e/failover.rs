//! Nodes that are lost: another Peer takes over an address that several claim, another node leads the location.

use std::time::{Duration, Instant};

use tombolo_e2e::clusters::{self, cluster_ips, fetch, ping, pod_ips, run_web, wait_joined};
use tombolo_e2e::command::run;
use tombolo_e2e::lab::Lab;
use tombolo_e2e::traffic::Pings;
use tombolo_e2e::wait_until;

/// Which node of cluster 1 has the service CIDR in the device of a node of cluster 2.
fn carrier(lab: &Lab, on: &str) -> Option<String> {
    let shown = run(&mut lab.on_node(2, on, &["wg", "show", "kilo0", "dump"]), "");
    let line = shown.lines().find(|line| line.contains(&lab.service_cidrs(1)))?.to_owned();
    let endpoint = line.split('\t').nth(2)?.rsplit_once(':')?.0.to_owned();
    lab.nodes(1).into_iter().find(|node| lab.node(1, node)["addresses"][0] == endpoint.as_str())
}

#[test]
fn another_peer_takes_over_a_shared_cidr_within_five_seconds() {
    let lab = Lab::up(&["--mesh-granularity", "full"]);
    run_web(&lab, 1);
    run_web(&lab, 2);
    clusters::peer(&lab);
    wait_joined(&lab, 2);
    let service = cluster_ips(&lab, 1, "web")[0].clone();
    let lost = carrier(&lab, "c2-n1").unwrap();
    // A Service with its pod on the other node answers, whichever node carries the ClusterIP.
    let survivor = lab.nodes(1).into_iter().find(|node| *node != lost).unwrap();
    let number = lost.chars().last().unwrap();
    run(&mut lab.kubectl(1, &["delete", "pod", &format!("web-{number}"), "--grace-period=0", "--force"]), "");
    for pod in ["web-1", "web-2"] {
        wait_until("the ClusterIP answers from the pod on the other node", Duration::from_secs(10), || {
            let page = fetch(&lab, 2, pod, &service)?;
            if page.contains(&format!("on node {survivor}")) { Ok(()) } else { Err(page) }
        });
    }
    let pings = Pings::start(&lab, 2, "web-1", &service);
    wait_until("pings pass", Duration::from_secs(5), || ping(&lab, 2, "web-1", &service));
    let start = Instant::now();
    run(lab.lab("cut").arg(format!("cluster1/{lost}")), "");
    wait_until("another Peer carries the service CIDR", Duration::from_secs(10), || match carrier(&lab, "c2-n1") {
        Some(node) if node == survivor => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let moved = start.elapsed();
    wait_until("the ClusterIP answers again", Duration::from_secs(10), || ping(&lab, 2, "web-1", &service));
    let heard = pings.end();
    println!("Peer lost: the other carried the service CIDR after {moved:?}; {heard:?}");
    assert!(heard.longest_stop < Duration::from_secs(5), "{heard:?}");

    // The lost one comes back and does not take the CIDR back, which would cut connections a second time.
    run(lab.lab("mend").arg(format!("cluster1/{lost}")), "");
    let address = lab.node(1, &lost)["addresses"][0].as_str().unwrap().to_owned();
    wait_until("the lost node is back", Duration::from_secs(20), || ping(&lab, 2, "web-1", &address));
    assert_eq!(carrier(&lab, "c2-n1"), Some(survivor));
}

#[test]
fn another_node_leads_when_the_leader_is_lost() {
    // Two locations of two nodes in one cluster, so that a leader's loss is seen from the other location.
    let lab = Lab::up(&["--clusters", "1", "--nodes", "4", "--locations", "2"]);
    run_web(&lab, 1);
    let location = |node: &str| lab.node(1, node)["location"].as_str().unwrap().to_owned();
    let nodes = lab.nodes(1);
    let (here, there): (Vec<_>, Vec<_>) = nodes.iter().partition(|node| location(node) == location(&nodes[0]));
    // The leader of a location is its first node; the pod that is pinged is on the second.
    let (leader, second) = (there[0], there[1]);
    let pod_of = |node: &str| format!("web-{}", nodes.iter().position(|n| n == node).unwrap() + 1);
    let template = "jsonpath={.status.podIP}";
    let address = run(&mut lab.kubectl(1, &["get", "pod", &pod_of(second), "-o", template]), "");
    let from = pod_of(here[0]);
    wait_until("pods of two locations reach each other", Duration::from_secs(10), || ping(&lab, 1, &from, &address));
    let pings = Pings::start(&lab, 1, &from, &address);
    wait_until("pings pass", Duration::from_secs(5), || ping(&lab, 1, &from, &address));
    let start = Instant::now();
    run(lab.lab("cut").arg(format!("cluster1/{leader}")), "");
    wait_until("the second node's device", Duration::from_secs(30), || {
        tombolo_e2e::command::attempt(&mut lab.on_node(1, second, &["wg", "show", "kilo0"]), "").map(drop)
    });
    let took = start.elapsed();
    wait_until("the pod is reached through the new leader", Duration::from_secs(30), || ping(&lab, 1, &from, &address));
    let heard = pings.end();
    println!(
        "leader lost: the second node led after {took:?}; traffic stopped for {:?} ({heard:?})",
        heard.longest_stop
    );
    assert!(heard.longest_stop < Duration::from_secs(10), "{heard:?}");
}

#[test]
fn a_node_comes_and_goes() {
    let mut lab = Lab::up(&["--mesh-granularity", "full"]);
    run_web(&lab, 1);
    run_web(&lab, 2);
    clusters::peer(&lab);
    wait_joined(&lab, 1);
    let node = run(lab.lab("add-node").arg("cluster1"), "").trim().to_owned();
    lab.refresh();
    assert_eq!(lab.nodes(1).len(), 3);
    wait_until("the new node's key is known", Duration::from_secs(20), || {
        let shown = run(&mut lab.kgctl(1, &["showconf", "node", "c1-n1"]), "");
        let address = lab.node(1, &node)["addresses"][0].as_str().unwrap().to_owned();
        if shown.contains(&address) { Ok(()) } else { Err(shown) }
    });
    run_web(&lab, 1);
    clusters::peer(&lab);
    wait_joined(&lab, 1);
    wait_joined(&lab, 2);
    let gone = pod_ips(&lab, 1).last().unwrap().clone();
    run(lab.lab("remove-node").arg(format!("cluster1/{node}")), "");
    lab.refresh();
    run(&mut lab.kubectl(2, &["delete", "peer", &node]), "");
    wait_until("the others forget the node", Duration::from_secs(10), || {
        let words = ["sh", "-c", "ip route show table all proto 117; wg show kilo0 allowed-ips"];
        let (one, two) = (lab.on_node(1, "c1-n1", &words), lab.on_node(2, "c2-n1", &words));
        for mut look in [one, two] {
            let text = run(&mut look, "");
            let subnet = gone.rsplit_once('.').unwrap().0.to_owned() + ".0/24";
            if text.contains(&subnet) {
                return Err(text);
            }
        }
        Ok(())
    });
    wait_until("the rest goes on", Duration::from_secs(10), || ping(&lab, 1, "web-1", &pod_ips(&lab, 2)[0]));
}
