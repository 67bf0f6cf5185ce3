//! Services of one cluster under their own names in two others.

use tombolo_e2e::clusters::fetch;
use tombolo_e2e::command::run;
use tombolo_e2e::lab::Lab;
use tombolo_e2e::services::{
    SOON, addresses, apply, client, database, dig, endpoints, get, namespace, peer_all, wait_gone, wait_present,
    wait_ready, web,
};
use tombolo_e2e::wait_until;

const EXTERNAL: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: elsewhere, namespace: shop, labels: {mirror: \"true\"}}\n\
                        spec: {type: ExternalName, externalName: example.org}\n";
const FOREIGN: &str =
    "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec:\n  ports: [{port: 81}]\n";

#[test]
fn services_with_a_label_are_mirrored() {
    let lab = Lab::up(&["--clusters", "3", "--nodes", "1"]);
    peer_all(&lab);
    for cluster in [2, 3] {
        client(&lab, cluster);
    }
    web(&lab, 1, "shop", "{mirror: \"true\", tier: front}");
    database(&lab, 1, "shop", "{mirror: \"true\"}");
    apply(&lab, 1, EXTERNAL);
    apply(
        &lab,
        1,
        "apiVersion: v1\nkind: Service\nmetadata: {name: private, namespace: shop}\nspec:\n  ports: [{port: 80}]\n",
    );
    wait_ready(&lab, 1, "shop", "app=web", 2);
    wait_ready(&lab, 1, "shop", "app=db", 2);

    for cluster in [2, 3] {
        // The endpoints are the remote pods themselves, and a pod here reaches them by the Service's name.
        for (name, label) in [("web", "app=web"), ("db", "app=db")] {
            let pods = addresses(&lab, 1, "shop", label);
            let slices = format!("kubernetes.io/service-name={name}");
            wait_until("the endpoints are the remote pods", SOON, || {
                match endpoints(&lab, cluster, "shop", &slices)? {
                    found if found == pods => Ok(()),
                    found => Err(format!("{found:?}, not {pods:?}")),
                }
            });
        }
        let mirror = wait_present(&lab, cluster, &["service", "-n", "shop", "web"]);
        assert_eq!(mirror["metadata"]["annotations"]["tombolo.io/mirrored-from"], "cluster1");
        assert_eq!(mirror["metadata"]["labels"]["tier"], "front");
        wait_until("a pod reaches the mirror", SOON, || fetch(&lab, cluster, "client", "web.shop").map(drop));
        // Headless: the name has the pods' addresses, and each pod a name.
        let pods = addresses(&lab, 1, "shop", "app=db");
        wait_until("the headless mirror's name has the pods", SOON, || {
            match dig(&lab, cluster, "db.shop.svc.cluster.local", "A")? {
                found if found == pods => Ok(()),
                found => Err(format!("{found:?}, not {pods:?}")),
            }
        });
        let page = fetch(&lab, cluster, "client", "db-1.db.shop.svc.cluster.local").unwrap();
        assert!(page.starts_with("pod db-1 on node c1-n1 "), "{page}");
        // ExternalName: another name.
        wait_until("the ExternalName is mirrored", SOON, || {
            match dig(&lab, cluster, "elsewhere.shop.svc.cluster.local", "CNAME")? {
                found if found == ["example.org."] => Ok(()),
                found => Err(format!("{found:?}")),
            }
        });
        assert!(get(&lab, cluster, &["service", "-n", "shop", "private"]).is_err(), "it has no such label");
    }

    // Without the label it is a mirror no more; with the last one goes the Namespace, which nobody else has used.
    run(&mut lab.kubectl(1, &["label", "service", "-n", "shop", "web", "mirror-"]), "");
    for cluster in [2, 3] {
        wait_gone(&lab, cluster, &["service", "-n", "shop", "web"]);
        wait_present(&lab, cluster, &["service", "-n", "shop", "db"]);
    }
    apply(&lab, 3, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes, namespace: shop}\n");
    run(&mut lab.kubectl(1, &["delete", "service", "-n", "shop", "db", "elsewhere"]), "");
    wait_gone(&lab, 2, &["namespace", "shop"]);
    wait_gone(&lab, 3, &["service", "-n", "shop", "db"]);
    wait_until("the Namespace is left to those who use it", SOON, || {
        let shop = get(&lab, 3, &["namespace", "shop"])?;
        let marks = &shop["metadata"]["annotations"]["tombolo.io/made-for-mirrors"];
        if marks.is_null() && shop["status"]["phase"] == "Active" { Ok(()) } else { Err(shop.to_string()) }
    });
}

#[test]
fn a_service_of_the_same_name_is_left_alone_and_told() {
    let lab = Lab::up(&["--clusters", "3", "--nodes", "1"]);
    namespace(&lab, 2, "shop");
    apply(&lab, 2, FOREIGN);
    let before = get(&lab, 2, &["service", "-n", "shop", "web"]).unwrap();
    web(&lab, 1, "shop", "{mirror: \"true\"}");
    wait_until("an Event on the Service tells of the conflict", SOON, || {
        let events = get(&lab, 2, &["events", "-n", "shop"])?;
        let told = events["items"].as_array().unwrap().iter().find(|event| event["reason"] == "MirrorConflict");
        let event = told.ok_or("there is none")?;
        assert_eq!(event["involvedObject"]["uid"], before["metadata"]["uid"], "{event}");
        let message = event["message"].as_str().unwrap();
        assert!(message.contains("of cluster1 is not mirrored: a Service of that name stands here"), "{message}");
        Ok(())
    });
    assert_eq!(conflicts(&lab, 2), Ok(1));
    assert_eq!(get(&lab, 2, &["service", "-n", "shop", "web"]).unwrap(), before, "it was touched");

    // The same name from two sources: the first that came has it, the other is told of.
    web(&lab, 1, "store", "{}");
    web(&lab, 2, "store", "{mirror: \"true\"}");
    wait_present(&lab, 3, &["service", "-n", "store", "web"]);
    run(&mut lab.kubectl(1, &["label", "service", "-n", "store", "web", "mirror=true"]), "");
    wait_until("the second source is told of", SOON, || match conflicts(&lab, 3)? {
        1 => Ok(()),
        count => Err(format!("{count} conflicts")),
    });
    let source = |cluster: usize, namespace: &str| {
        let service = get(&lab, cluster, &["service", "-n", namespace, "web"])?;
        Ok::<_, String>(
            service["metadata"]["annotations"]["tombolo.io/mirrored-from"].as_str().unwrap_or("").to_owned(),
        )
    };
    assert_eq!(source(3, "store").unwrap(), "cluster2");

    // Each conflict is over when one of the two goes.
    run(&mut lab.kubectl(2, &["delete", "service", "-n", "shop", "web"]), "");
    run(&mut lab.kubectl(2, &["delete", "service", "-n", "store", "web"]), "");
    for (cluster, namespace) in [(2, "shop"), (3, "store")] {
        wait_until("the mirror stands", SOON, || match source(cluster, namespace)? {
            from if from == "cluster1" => Ok(()),
            from => Err(from),
        });
    }
    for cluster in [1, 2, 3] {
        wait_until("nothing is said any more", SOON, || match conflicts(&lab, cluster)? {
            0 => Ok(()),
            count => Err(format!("{count} conflicts in cluster{cluster}")),
        });
    }
    // The Namespace was made by a person, and stays when the mirror goes.
    run(&mut lab.kubectl(1, &["delete", "service", "-n", "shop", "web"]), "");
    wait_gone(&lab, 2, &["service", "-n", "shop", "web"]);
    assert_eq!(get(&lab, 2, &["namespace", "shop"]).unwrap()["status"]["phase"], "Active");
}

/// How many conflicts the controller of a cluster has by its metrics.
fn conflicts(lab: &Lab, cluster: usize) -> Result<u32, String> {
    let metrics = tombolo_e2e::services::metrics(lab, cluster)?;
    let lines = metrics.lines().filter(|line| line.starts_with("tombolo_controller_conflicts{"));
    Ok(lines.map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()).sum())
}
