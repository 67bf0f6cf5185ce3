//! Bad input: refused for itself alone, and said where people look.

use std::time::Duration;

use tombolo_e2e::clusters::{self, ping, pod_ips, run_web, wait_joined};
use tombolo_e2e::command::{output, run};
use tombolo_e2e::lab::Lab;
use tombolo_e2e::wait_until;

const KEY: &str = "XMP4KDi6cmAgPkWQzgPQDhZj1B9qUWcUT1yV1r4hZqA=";

fn peer(name: &str, key: &str, nets: &str, endpoint: &str) -> String {
    format!(
        "apiVersion: kilo.squat.ai/v1alpha1\nkind: Peer\nmetadata: {{name: {name}}}\n\
         spec: {{publicKey: \"{key}\", allowedIPs: [{nets}]{endpoint}}}\n"
    )
}

#[test]
fn a_bad_peer_is_refused_alone_and_said() {
    let lab = Lab::up(&[]);
    run_web(&lab, 1);
    run_web(&lab, 2);
    clusters::peer(&lab);
    wait_joined(&lab, 1);
    let pods = lab.pod_cidrs(1)[0].clone();

    // What the resource itself rules out does not get in.
    for (manifest, field) in [
        (peer("short", "short", "10.99.0.0/24", ""), "spec.publicKey"),
        (peer("nocidr", KEY, "10.99.0.0/33", ""), "spec.allowedIPs"),
        (peer("noport", KEY, "10.99.0.0/24", ", endpoint: {dnsOrIP: {ip: 192.0.2.1}, port: 0}"), "spec.endpoint.port"),
    ] {
        let refused = output(&mut lab.kubectl(1, &["apply", "-f", "-"]), &manifest);
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && words.contains(field), "{field}: {words}");
    }

    // What only the cluster can know is refused by the agents.
    let overlapping = peer("overlap", KEY, &format!("{pods}, 10.99.0.0/24"), "");
    run(&mut lab.kubectl(1, &["apply", "-f", "-"]), &overlapping);
    let unresolved = ", endpoint: {dnsOrIP: {dns: nowhere.invalid}, port: 51820}";
    let other_key = "oC2qcLocDMSKJ5+DOmU4K7m4F84tO0j2Mo88djZH6oE=";
    run(&mut lab.kubectl(1, &["apply", "-f", "-"]), &peer("nowhere", other_key, "10.98.0.0/24", unresolved));
    for (name, field) in [("overlap", "spec.allowedIPs"), ("nowhere", "spec.endpoint")] {
        wait_until("an Event says so", Duration::from_secs(10), || {
            let selector = format!("involvedObject.name={name}");
            let events = run(&mut lab.kubectl(1, &["get", "events", "--field-selector", &selector]), "");
            if events.contains("Refused") && events.contains(field) { Ok(()) } else { Err(events) }
        });
        wait_until("a condition says so", Duration::from_secs(10), || {
            let template = "jsonpath={.status.conditions[*].message}";
            let message = run(&mut lab.kubectl(1, &["get", "peer", name, "-o", template]), "");
            if message.contains(field) { Ok(()) } else { Err(message) }
        });
        let log = lab.log(1, "c1-n1");
        assert!(log.lines().any(|line| line.contains(&format!("Peer/{name}")) && line.contains(field)), "{log}");
    }

    // The rest of the same Peer is granted, and everything else goes on.
    let shown = run(&mut lab.on_node(1, "c1-n1", &["wg", "show", "kilo0", "allowed-ips"]), "");
    assert!(shown.contains("10.99.0.0/24") && !shown.contains(&pods), "{shown}");
    assert_eq!(ping(&lab, 1, "web-1", &pod_ips(&lab, 2)[0]), Ok(()));
    let ready = run(&mut lab.on_node(1, "c1-n1", &["curl", "-sS", "http://127.0.0.1:1107/readyz"]), "");
    assert_eq!(ready, "ok\n");
}

#[test]
fn an_annotation_that_does_not_parse_is_refused_alone_and_said() {
    let lab = Lab::up(&["--clusters", "1"]);
    let annotation = "kilo.squat.ai/allowed-location-ips=10.77.0.0/24,nonsense";
    run(&mut lab.kubectl(1, &["annotate", "node", "c1-n2", annotation]), "");
    wait_until("an Event on the Node says so", Duration::from_secs(10), || {
        let selector = "involvedObject.name=c1-n2";
        let events = run(&mut lab.kubectl(1, &["get", "events", "--field-selector", selector]), "");
        if events.contains("allowed-location-ips") && events.contains("nonsense") { Ok(()) } else { Err(events) }
    });
}

#[test]
fn kgctl_says_what_is_wrong_and_exits_with_1() {
    let lab = Lab::up(&["--clusters", "1", "--no-dns"]);
    for (args, words) in [
        (&["showconf", "node", "nope"][..], "nope"),
        (&["showconf", "peer", "nope"], "nope"),
        (&["showconf", "node", "c1-n1", "-o", "xml"], "xml"),
        (&["showconf", "node", "c1-n1", "--as-peer", "--allowed-ips", "10.43.0.0/33"], "10.43.0.0/33"),
    ] {
        let said = output(&mut lab.kgctl(1, args), "");
        let stderr = String::from_utf8_lossy(&said.stderr).into_owned();
        assert_eq!(said.status.code(), Some(1), "{args:?}");
        assert!(said.stdout.is_empty() && stderr.contains(words), "{args:?}: {stderr}");
    }
}
