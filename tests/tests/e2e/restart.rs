//! Agents that are killed while there is traffic.

use std::time::Duration;

use tombolo_e2e::clusters::{self, fetch, ping, pod_ips, run_web, wait_joined};
use tombolo_e2e::command::{attempt, run};
use tombolo_e2e::lab::Lab;
use tombolo_e2e::traffic::Pings;
use tombolo_e2e::wait_until;

#[test]
fn agents_are_killed_under_traffic_and_converge() {
    let lab = Lab::up(&["--mesh-granularity", "full"]);
    run_web(&lab, 1);
    run_web(&lab, 2);
    clusters::peer(&lab);
    wait_joined(&lab, 1);
    let target = pod_ips(&lab, 2)[0].clone();
    let pings = Pings::start(&lab, 1, "web-1", &target);
    for node in ["cluster1/c1-n1", "cluster2/c2-n1"] {
        run(lab.lab("agent").args([node, "kill"]), "");
        // While nobody looks after it: the node keeps what it has, and what others break is mended at the next start.
        assert_eq!(ping(&lab, 1, "web-1", &target), Ok(()));
        let (cluster, name) = (node[7..8].parse().unwrap(), &node[9..]);
        let broken = "ip route flush table 1117; nft delete table inet tombolo; ip rule del pref 1117";
        run(&mut lab.on_node(cluster, name, &["sh", "-c", broken]), "");
        run(lab.lab("agent").args([node, "start"]), "");
        wait_until("the restarted agent mends its node", Duration::from_secs(10), || {
            ping(&lab, 1, "web-1", &target)?;
            attempt(&mut lab.on_node(cluster, name, &["nft", "list", "table", "inet", "tombolo"]), "").map(drop)
        });
    }
    let heard = pings.end();
    println!("agents killed, their nodes broken, and restarted: {heard:?}");
    assert_eq!(fetch(&lab, 1, "web-2", &target).map(drop), Ok(()));
}

#[test]
fn a_kill_alone_loses_no_packet() {
    let lab = Lab::up(&["--mesh-granularity", "full"]);
    run_web(&lab, 1);
    run_web(&lab, 2);
    clusters::peer(&lab);
    wait_joined(&lab, 1);
    let target = pod_ips(&lab, 2)[0].clone();
    let pings = Pings::start(&lab, 1, "web-1", &target);
    wait_until("pings pass", Duration::from_secs(5), || ping(&lab, 1, "web-1", &target));
    for node in ["cluster1/c1-n1", "cluster2/c2-n1"] {
        run(lab.lab("agent").args([node, "kill"]), "");
        run(lab.lab("agent").args([node, "start"]), "");
        let (cluster, name) = (node[7..8].parse().unwrap(), &node[9..]);
        wait_until("the agent is ready again", Duration::from_secs(10), || {
            attempt(&mut lab.on_node(cluster, name, &["curl", "-sSf", "-m", "1", "http://127.0.0.1:1107/readyz"]), "")
                .map(drop)
        });
    }
    let heard = pings.end();
    println!("agents killed and restarted: {heard:?}");
    // The last one may still be on its way.
    assert!(heard.sent - heard.answered <= 1, "{heard:?}");
}

#[test]
fn an_agent_undoes_what_it_did_when_asked() {
    let lab = Lab::up(&["--agent-arg=--clean-up", "--agent-arg=--clean-up-interface"]);
    let look = "ip route show table all proto 117; ip rule | grep 'proto 117'; ip -o link show kilo0; \
                ip -o link show tombolo-vxlan; nft list tables";
    let held = run(&mut lab.on_node(1, "c1-n1", &["sh", "-c", &format!("{look}; true")]), "");
    assert!(held.contains("kilo0") && held.contains("table inet tombolo"), "{held}");
    run(lab.lab("agent").args(["cluster1/c1-n1", "stop"]), "");
    wait_until("nothing is left", Duration::from_secs(10), || {
        let held = run(&mut lab.on_node(1, "c1-n1", &["sh", "-c", &format!("{look} 2>/dev/null; true")]), "");
        if held.trim().is_empty() { Ok(()) } else { Err(held) }
    });
    let template = "jsonpath={.metadata.annotations}";
    let left = run(&mut lab.kubectl(1, &["get", "node", "c1-n1", "-o", template]), "");
    assert!(!left.contains("kilo.squat.ai/key"), "{left}");
}
