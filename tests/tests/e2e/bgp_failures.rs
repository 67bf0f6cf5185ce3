//! Clusters joined by BGP on bad days: the reflector is lost and comes back, agents are updated, a node is cut off.

use std::time::{Duration, Instant};

use tombolo_e2e::clusters::{cluster_ips, fetch, ping, pod_ips, run_web};
use tombolo_e2e::command::{attempt, run, tombolo};
use tombolo_e2e::lab::Lab;
use tombolo_e2e::traffic::{Heard, Pings};
use tombolo_e2e::wait_until;

const PATIENCE: Duration = Duration::from_secs(40);

/// Two clusters, and web servers and clients in both, that reach each other.
fn joined(reflector: &str, args: &[&str]) -> Lab {
    let mut all = vec!["--underlay", "flat", "--interconnect", "bgp", "--reflector", reflector];
    all.extend_from_slice(args);
    let lab = Lab::up(&all);
    run_web(&lab, 1);
    run_web(&lab, 2);
    reached(&lab);
    lab
}

/// Waits until every pod of cluster 2 reaches every one of cluster 1.
fn reached(lab: &Lab) {
    for address in pod_ips(lab, 1) {
        for pod in ["web-1", "web-2"] {
            wait_until("pods reach each other by BGP", PATIENCE, || ping(lab, 2, pod, &address));
        }
    }
}

/// Every route by BGP on the nodes of cluster 2, and none is left that the reflector's sessions keep as stale.
fn settled(lab: &Lab) {
    for node in lab.nodes(2) {
        wait_until("all sessions are up and complete", PATIENCE, || {
            let program = tombolo();
            let words = [program.to_str().unwrap(), "bgp", "neighbors", "-o", "json"];
            let shown = attempt(&mut lab.on_node(2, &node, &words), "")?;
            let neighbors: serde_json::Value = serde_json::from_str(&shown).unwrap();
            let ready = |n: &serde_json::Value| {
                n["state"] == "Established"
                    && n["restarting"] == false
                    && n["families"].as_array().unwrap().iter().all(|f| f["complete"] == true)
            };
            if neighbors.as_array().unwrap().iter().all(ready) { Ok(()) } else { Err(shown) }
        });
    }
}

fn reflector_lost(reflector: &str, args: &[&str]) -> Heard {
    let lab = joined(reflector, args);
    settled(&lab);
    let address = pod_ips(&lab, 1)[1].clone();
    let pings = Pings::start(&lab, 2, "web-1", &address);
    wait_until("pings pass", PATIENCE, || ping(&lab, 2, "web-1", &address));
    run(lab.lab("reflector").arg("kill"), "");
    wait_until("the loss is noticed", PATIENCE, || {
        let log = lab.log(2, "c2-n1");
        if log.contains("Peer Down Key=172.18.0.2") { Ok(()) } else { Err(log) }
    });
    run(lab.lab("reflector").arg("start"), "");
    settled(&lab);
    reached(&lab);
    pings.end()
}

#[test]
fn a_reflector_that_restarts_stops_nothing_with_graceful_restart() {
    let heard = reflector_lost("tombolo", &[]);
    let lost = heard.sent - heard.answered;
    println!("our reflector killed and back, graceful restart on: {lost} of {} pings lost ({heard:?})", heard.sent);
    // The last ping may be on its way at the end.
    assert!(lost <= 1, "{heard:?}");
}

#[test]
fn without_graceful_restart_routes_go_and_come_with_the_reflector() {
    let heard = reflector_lost("tombolo", &["--agent-arg=--bgp-graceful-restart=false"]);
    let lost = heard.sent - heard.answered;
    println!("our reflector killed and back, graceful restart off: {lost} of {} pings lost ({heard:?})", heard.sent);
    assert!(heard.answered > 0 && lost > 0, "{heard:?}");
}

#[test]
fn debians_frr_is_lost_and_comes_back() {
    let heard = reflector_lost("frr", &[]);
    println!("FRR killed and back: {} of {} pings lost ({heard:?})", heard.sent - heard.answered, heard.sent);
    assert!(heard.answered > 0, "{heard:?}");
}

#[test]
fn agents_are_updated_one_at_a_time_and_no_ping_is_lost() {
    for (way, verb) in [("as a DaemonSet's update does (SIGTERM)", "stop"), ("killed", "kill")] {
        let lab = joined("tombolo", &[]);
        settled(&lab);
        let address = pod_ips(&lab, 1)[0].clone();
        let pings = Pings::start(&lab, 2, "web-2", &address);
        wait_until("pings pass", PATIENCE, || ping(&lab, 2, "web-2", &address));
        for cluster in [1, 2] {
            for node in lab.nodes(cluster) {
                let node = format!("cluster{cluster}/{node}");
                run(lab.lab("agent").args([&node, verb]), "");
                run(lab.lab("agent").args([&node, "start"]), "");
                settled(&lab);
            }
        }
        reached(&lab);
        let heard = pings.end();
        let lost = heard.sent - heard.answered;
        println!("four agents, one at a time, {way}: {lost} of {} pings lost ({heard:?})", heard.sent);
        assert!(lost <= 1, "{heard:?}");
    }
}

/// The next hop of a node's route.
fn next_hop(lab: &Lab, node: &str, destination: &str) -> Option<String> {
    let shown = run(&mut lab.on_node(2, node, &["ip", "-j", "route", "show", destination]), "");
    let routes: serde_json::Value = serde_json::from_str(&shown).ok()?;
    Some(routes[0]["gateway"].as_str()?.to_owned())
}

#[test]
fn with_bfd_traffic_moves_to_another_node_at_once() {
    let bfd = [
        "--agent-arg=--enable-bfd",
        "--agent-arg=--bfd-desired-min-tx-interval=50",
        "--agent-arg=--bfd-required-min-rx-interval=50",
    ];
    let lab = joined("tombolo", &bfd);
    let service = cluster_ips(&lab, 1, "web")[0].clone();
    wait_until("the ClusterIP has a route", PATIENCE, || match next_hop(&lab, "c2-n1", &service) {
        Some(_) => Ok(()),
        None => Err("none".to_owned()),
    });
    // Both nodes of cluster 1 announce the ClusterIP, and the pod is on the one that stays.
    let carrier = next_hop(&lab, "c2-n1", &service).unwrap();
    let nodes = lab.nodes(1);
    let at = |node: &String| lab.node(1, node)["addresses"][0] == carrier.as_str();
    let lost = nodes.iter().find(|node| at(node)).unwrap().clone();
    let survivor = nodes.iter().find(|node| !at(node)).unwrap().clone();
    let number = lost.chars().last().unwrap();
    run(&mut lab.kubectl(1, &["delete", "pod", &format!("web-{number}"), "--grace-period=0", "--force"]), "");
    wait_until("the ClusterIP answers from the pod on the other node", PATIENCE, || {
        let page = fetch(&lab, 2, "web-1", &service)?;
        if page.contains(&format!("on node {survivor}")) { Ok(()) } else { Err(page) }
    });
    wait_until("BFD watches the paths", PATIENCE, || {
        let log = lab.log(1, &lost);
        if log.contains("state=Up") { Ok(()) } else { Err(log) }
    });
    let pings = Pings::start(&lab, 2, "web-1", &service);
    wait_until("pings pass", PATIENCE, || ping(&lab, 2, "web-1", &service));
    let start = Instant::now();
    run(lab.lab("cut").arg(format!("cluster1/{lost}")), "");
    let cut = start.elapsed();
    wait_until("the route goes over the other node", PATIENCE, || match next_hop(&lab, "c2-n1", &service) {
        Some(hop) if hop != carrier => Ok(()),
        hop => Err(format!("{hop:?}")),
    });
    let moved = start.elapsed();
    wait_until("the ClusterIP answers again", PATIENCE, || fetch(&lab, 2, "web-1", &service).map(drop));
    let heard = pings.end();
    println!(
        "a node cut off, BFD at 50 ms: the route moved {moved:?} after the cut began ({cut:?} the command itself); {heard:?}"
    );
    // The hold time alone would take 90 s.
    assert!(heard.longest_stop < Duration::from_secs(5), "{heard:?}");
}
