//! The Multi-Cluster Services API: exports of several clusters are one service in all of them.

use tombolo_e2e::clusters::fetch;
use tombolo_e2e::command::run;
use tombolo_e2e::lab::Lab;
use tombolo_e2e::services::{
    SOON, addresses, client, condition, database, dig, endpoints, export, from_cluster, get, namespace, peer_all,
    wait_gone, wait_present, wait_ready, web,
};
use tombolo_e2e::wait_until;

const WEB: &str = "web.shop.svc.clusterset.local";

#[test]
fn an_exported_service_answers_in_every_cluster_that_has_the_namespace() {
    exported_service_answers(&["--clusters", "3", "--nodes", "1"]);
}

#[test]
fn an_exported_service_answers_at_an_address_of_its_own_in_both_families() {
    exported_service_answers(&["--clusters", "3", "--nodes", "1", "--family", "dual", "--clusterset-cidr"]);
}

fn exported_service_answers(args: &[&str]) {
    let has_own_address = args.contains(&"--clusterset-cidr");
    let lab = Lab::up(args);
    peer_all(&lab);
    for cluster in [1, 2, 3] {
        client(&lab, cluster);
    }
    web(&lab, 1, "shop", "{}");
    namespace(&lab, 2, "shop");
    wait_ready(&lab, 1, "shop", "app=web", 2);
    export(&lab, 1, "shop", "web");
    wait_until("the export is valid", SOON, || match condition(&lab, 1, "shop", "web", "Valid")?.as_str() {
        "True Valid" => Ok(()),
        other => Err(other.to_owned()),
    });
    // The exporting cluster finds it by the same name as the other ones.
    for cluster in [1, 2] {
        wait_until("a pod reaches the service by its name", SOON, || {
            let page = fetch(&lab, cluster, "client", WEB)?;
            if page.contains(" on node c1-n1 ") { Ok(()) } else { Err(page) }
        });
    }
    // The third has no such Namespace, so nothing is imported; then it has.
    assert!(get(&lab, 3, &["namespace", "shop"]).is_err());
    assert!(dig(&lab, 3, WEB, "A").is_err());
    namespace(&lab, 3, "shop");
    wait_until("it is imported once there is the Namespace", SOON, || fetch(&lab, 3, "client", WEB).map(drop));

    let import = wait_present(&lab, 3, &["serviceimport", "-n", "shop", "web"]);
    assert_eq!(import["spec"]["type"], "ClusterSetIP");
    assert_eq!(import["status"]["clusters"][0]["cluster"], "cluster1");
    let first = import["spec"]["ips"][0].as_str().unwrap();
    let derived = get(&lab, 3, &["services", "-n", "shop"]).unwrap()["items"].as_array().unwrap().len();
    if has_own_address {
        assert!(first.starts_with("10.255."), "{import}");
        assert_eq!((import["spec"]["ips"].as_array().unwrap().len(), derived), (1, 0), "{import}");
    } else {
        assert!(first.starts_with("10.103."), "{import}");
        assert_eq!(derived, 1);
    }
    assert_eq!(dig(&lab, 3, WEB, "A").unwrap(), [first]);
    let srv = dig(&lab, 3, &format!("_http._tcp.{WEB}"), "SRV").unwrap();
    assert!(srv.iter().all(|line| line.contains(&format!(" 80 {WEB}."))), "{srv:?}");

    // A second cluster exports the same: both answer, also each other's clients.
    web(&lab, 2, "shop", "{}");
    wait_ready(&lab, 2, "shop", "app=web", 2);
    export(&lab, 2, "shop", "web");
    for cluster in [1, 2, 3] {
        for node in ["c1-n1", "c2-n1"] {
            wait_until("pods of both clusters answer", SOON, || {
                let page = fetch(&lab, cluster, "client", WEB)?;
                if page.contains(node) { Ok(()) } else { Err(page) }
            });
        }
    }

    // Without exports there is no service.
    for cluster in [1, 2] {
        run(&mut lab.kubectl(cluster, &["delete", "serviceexport", "-n", "shop", "web"]), "");
    }
    for cluster in [1, 2, 3] {
        wait_gone(&lab, cluster, &["serviceimport", "-n", "shop", "web"]);
        wait_until("the name is gone", SOON, || match dig(&lab, cluster, WEB, "A") {
            Err(_) => Ok(()),
            Ok(found) => Err(format!("{found:?}")),
        });
    }
}

#[test]
fn pods_of_a_headless_service_have_names_with_their_clusters() {
    let lab = Lab::up(&["--clusters", "3", "--nodes", "1"]);
    peer_all(&lab);
    client(&lab, 3);
    namespace(&lab, 3, "shop");
    let mut all = Vec::new();
    for cluster in [1, 2] {
        database(&lab, cluster, "shop", "{}");
        wait_ready(&lab, cluster, "shop", "app=db", 2);
        export(&lab, cluster, "shop", "db");
        all.extend(addresses(&lab, cluster, "shop", "app=db"));
    }
    all.sort();
    wait_until("the name has the pods of both clusters", SOON, || {
        match dig(&lab, 3, "db.shop.svc.clusterset.local", "A")? {
            found if found == all => Ok(()),
            found => Err(format!("{found:?}, not {all:?}")),
        }
    });
    let import = wait_present(&lab, 3, &["serviceimport", "-n", "shop", "db"]);
    assert_eq!(import["spec"]["type"], "Headless");
    for cluster in [1, 2] {
        let of_cluster = endpoints(&lab, 3, "shop", &from_cluster("db", cluster)).unwrap();
        assert_eq!(of_cluster, addresses(&lab, cluster, "shop", "app=db"));
        for pod in ["db-0", "db-1"] {
            let name = format!("{pod}.cluster{cluster}.db.shop.svc.clusterset.local");
            let template = "jsonpath={.status.podIP}";
            let address = run(&mut lab.kubectl(cluster, &["get", "pod", "-n", "shop", pod, "-o", template]), "");
            assert_eq!(dig(&lab, 3, &name, "A").unwrap(), [address]);
            wait_until("the pod answers by its name", SOON, || {
                let page = fetch(&lab, 3, "client", &name)?;
                if page.starts_with(&format!("pod {pod} on node c{cluster}-n1 ")) { Ok(()) } else { Err(page) }
            });
        }
    }
}

#[test]
fn exports_that_differ_are_told_on_all_of_them_until_they_agree() {
    let lab = Lab::up(&["--clusters", "3", "--nodes", "1"]);
    namespace(&lab, 3, "shop");
    let conflict = |wanted: &str, clusters: &[usize]| {
        for cluster in clusters {
            wait_until("the condition Conflict", SOON, || {
                match condition(&lab, *cluster, "shop", "web", "Conflict")? {
                    found if found == wanted => Ok(()),
                    found => Err(found),
                }
            });
        }
    };
    let ports = || {
        let import = get(&lab, 3, &["serviceimport", "-n", "shop", "web"]).unwrap();
        let ports = import["spec"]["ports"].as_array().unwrap();
        let mut ports: Vec<u64> = ports.iter().map(|port| port["port"].as_u64().unwrap()).collect();
        ports.sort_unstable();
        ports
    };
    web(&lab, 1, "shop", "{}");
    export(&lab, 1, "shop", "web");
    conflict("False NoConflicts", &[1]);
    wait_present(&lab, 3, &["serviceimport", "-n", "shop", "web"]);
    assert_eq!(ports(), [80]);

    web(&lab, 2, "shop", "{}");
    let set = |port: u16| format!(r#"[{{"op": "replace", "path": "/spec/ports/0/port", "value": {port}}}]"#);
    run(&mut lab.kubectl(2, &["patch", "service", "-n", "shop", "web", "--type=json", "-p", &set(81)]), "");
    export(&lab, 2, "shop", "web");
    conflict("True PortConflict", &[1, 2]);
    // The oldest export of a port by one name is the one that counts.
    assert_eq!(ports(), [80]);
    assert_eq!(condition(&lab, 2, "shop", "web", "Valid").unwrap(), "True Valid");

    run(&mut lab.kubectl(2, &["patch", "service", "-n", "shop", "web", "--type=json", "-p", &set(80)]), "");
    conflict("False NoConflicts", &[1, 2]);

    // An export of nothing is told on itself alone.
    run(&mut lab.kubectl(2, &["delete", "service", "-n", "shop", "web"]), "");
    wait_until("the export has no Service", SOON, || match condition(&lab, 2, "shop", "web", "Valid")?.as_str() {
        "False NoService" => Ok(()),
        other => Err(other.to_owned()),
    });
    assert_eq!(condition(&lab, 1, "shop", "web", "Valid").unwrap(), "True Valid");
}
