//! A service in two clusters, of which one loses its pods, and then its link: requests of a third cluster are counted.

use std::time::{Duration, Instant};

use tombolo_e2e::clusters::fetch;
use tombolo_e2e::command::run;
use tombolo_e2e::lab::Lab;
use tombolo_e2e::services::{
    Requests, SOON, client, endpoints, export, from_cluster, namespace, peer_all, wait_ready, web,
};
use tombolo_e2e::wait_until;

const WEB: &str = "web.shop.svc.clusterset.local";
/// So many requests are made while a cluster's endpoints go, at least, and so many after they are gone.
const DURING: usize = 1000;
const AFTER: usize = 500;
/// A node is taken for lost after 40 s without a word (kube-controller-manager's `--node-monitor-grace-period`).
const LOST: Duration = Duration::from_secs(60);
/// From the last EndpointSlice to the last node's rules, and to the end of what was asked before.
const RULES: Duration = Duration::from_secs(3);

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
    // Both answer, and 200 requests on end do not fail.
    let settle = |what: &str, requests: &Requests| {
        wait_until(what, SOON, || {
            let start = Instant::now();
            requests.wait_for(200, start);
            let (count, is_mixed) = (requests.since(start), [1, 2].map(|cluster| requests.heard_of(cluster, start)));
            if count.failed == 0 && is_mixed == [true, true] { Ok(()) } else { Err(format!("{count:?}, {is_mixed:?}")) }
        });
    };
    settle("pods of both clusters answer", &requests);

    let start = Instant::now();
    run(&mut lab.kubectl(1, &["scale", "deployment", "-n", "shop", "web", "--replicas=0"]), "");
    let (failed, _) = lose(&lab, &requests, start, SOON, "cluster1 loses its pods");
    // They end at once, so what was under way is lost, and what comes before every node knows.
    assert!(failed * 10 < DURING, "{failed} of {DURING}");

    run(&mut lab.kubectl(1, &["scale", "deployment", "-n", "shop", "web", "--replicas=2"]), "");
    settle("the pods of cluster1 are back", &requests);

    let start = Instant::now();
    run(lab.lab("cut").arg("cluster1/c1-n1"), "");
    let (_, others) = lose(&lab, &requests, start, LOST, "cluster1 loses its link");
    drop(requests);

    run(lab.lab("mend").arg("cluster1/c1-n1"), "");
    settle("the link of cluster1 is back", &others);
}

/// Waits until cluster 1 has no endpoints left in the third cluster, and says how many requests failed until then. Of
/// those of another pod, which are given back, none do from then on. (Of the same pod some can: where it gave up on a
/// connection to a lost endpoint and takes the same port again within two minutes, the kernel takes it for a second
/// attempt of the first, and sends it the same way.)
fn lose(lab: &Lab, requests: &Requests, start: Instant, patience: Duration, what: &str) -> (usize, Requests) {
    wait_until("no endpoint of cluster1 is left", patience, || {
        match endpoints(lab, 3, "shop", &from_cluster("web", 1))? {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        }
    });
    let took = start.elapsed();
    let settled = Instant::now() + RULES;
    wait_until(
        "the rules of all nodes",
        RULES * 2,
        || if Instant::now() > settled { Ok(()) } else { Err(String::new()) },
    );
    requests.wait_for(DURING, start);
    let (during, lasted) = (requests.since(start), start.elapsed());
    let after = Instant::now();
    let others = Requests::start(lab, 3, "other", WEB);
    others.wait_for(AFTER, after);
    let (same, rest) = (requests.since(after), others.since(after));
    println!(
        "{what}: its endpoints were gone after {took:?}; {} of {} requests failed in {lasted:?}; after that {} of {} of \
         the same pod, {} of {} of another",
        during.failed, during.requests, same.failed, same.requests, rest.failed, rest.requests
    );
    assert_eq!(rest.failed, 0, "{what}: requests fail after its endpoints are gone");
    assert!(!others.heard_of(1, after), "{what}, and answers");
    (during.failed, others)
}
