//! A service in two clusters, of which one loses its pods, and then its link: requests of a third cluster are counted.

use std::time::{Duration, Instant};

use tombolo_e2e::clusters::fetch;
use tombolo_e2e::command::run;
use tombolo_e2e::lab::Lab;
use tombolo_e2e::services::{
    Count, Requests, SOON, client, endpoints, export, from_cluster, namespace, peer_all, wait_ready, web,
};
use tombolo_e2e::wait_until;

const WEB: &str = "web.shop.svc.clusterset.local";
/// So many requests are made while a cluster's endpoints go, at least, and so many after they are gone.
const DURING: usize = 1000;
const AFTER: usize = 500;
/// So many that do not fail, one after the other, say that it is over.
const SETTLED: usize = 200;
/// Before Kubernetes takes a node for lost: 40 s (kube-controller-manager's `--node-monitor-grace-period`).
const BEFORE_KUBERNETES: Duration = Duration::from_secs(35);

#[test]
fn requests_go_to_the_other_cluster_when_one_loses_its_pods_or_its_link() {
    let lab = Lab::up(&["--clusters", "3", "--nodes", "1"]);
    peer_all(&lab);
    client(&lab, 3);
    run(&mut lab.kubectl(3, &["run", "other", "--image=tombolo/pause"]), "");
    run(&mut lab.kubectl(3, &["wait", "--for=condition=Ready", "pod/other", "--timeout=30s"]), "");
    namespace(&lab, 3, "shop");
    for cluster in [1, 2] {
        web(&lab, cluster, "shop", "{}");
        wait_ready(&lab, cluster, "shop", "app=web", 2);
        export(&lab, cluster, "shop", "web");
    }
    wait_until("the service answers", SOON, || fetch(&lab, 3, "client", WEB).map(drop));
    let requests = Requests::start(&lab, 3, "client", WEB);
    settle(&requests, [true, true], SOON, "pods of both clusters answer");

    let start = Instant::now();
    run(&mut lab.kubectl(1, &["scale", "deployment", "-n", "shop", "web", "--replicas=0"]), "");
    let count = lose(&lab, &requests, start, SOON, "cluster1 loses its pods");
    // They end at once, so what was under way is lost, and what comes before every node knows.
    assert!(count.failed * 10 < count.requests, "{count:?}");
    assert_eq!(endpoints(&lab, 3, "shop", &from_cluster("web", 1)).unwrap(), [""; 0]);

    run(&mut lab.kubectl(1, &["scale", "deployment", "-n", "shop", "web", "--replicas=2"]), "");
    settle(&requests, [true, true], SOON, "the pods of cluster1 are back");

    let start = Instant::now();
    run(lab.lab("cut").arg("cluster1/c1-n1"), "");
    lose(&lab, &requests, start, BEFORE_KUBERNETES, "cluster1 loses its link");
    let left = endpoints(&lab, 3, "shop", &from_cluster("web", 1)).unwrap();
    assert_ne!(left, [""; 0], "it was not for want of endpoints");

    run(lab.lab("mend").arg("cluster1/c1-n1"), "");
    settle(&requests, [true, true], SOON, "the link of cluster1 is back");
}

/// Waits until requests do not fail, and are answered by those of the first two clusters.
fn settle(requests: &Requests, clusters: [bool; 2], patience: Duration, what: &str) {
    wait_until(what, patience, || {
        let start = Instant::now();
        requests.wait_for(SETTLED, start);
        let (count, heard) = (requests.since(start), [1, 2].map(|cluster| requests.heard_of(cluster, start)));
        if count.failed == 0 && heard == clusters { Ok(()) } else { Err(format!("{count:?}, {heard:?}")) }
    });
}

/// Waits until the second cluster alone answers, and says how many requests failed until then. From then on none do,
/// whoever asks.
fn lose(lab: &Lab, requests: &Requests, start: Instant, patience: Duration, what: &str) -> Count {
    settle(requests, [false, true], patience, what);
    let took = start.elapsed();
    requests.wait_for(DURING, start);
    let (during, lasted) = (requests.since(start), start.elapsed());
    let after = Instant::now();
    let others = Requests::start(lab, 3, "other", WEB);
    others.wait_for(AFTER, after);
    let (same, rest) = (requests.since(after), others.since(after));
    println!(
        "{what}: over after {took:?}; {} of {} requests failed in {lasted:?}; after that {} of {} of the same pod, {} of \
         {} of another",
        during.failed, during.requests, same.failed, same.requests, rest.failed, rest.requests
    );
    assert_eq!((same.failed, rest.failed), (0, 0), "{what}: requests fail when it should be over");
    assert!(!others.heard_of(1, after), "{what}, and answers");
    during
}
