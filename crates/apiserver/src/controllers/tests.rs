#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

use super::write::Write;
use super::*;
use crate::object::{self, str_at};
use crate::resources::Gvr;
use crate::store::{DeleteOptions, Propagation, Store};

const NOW: OffsetDateTime = datetime!(2026-11-21 12:00:00 UTC);

/// A write in short: what it does, to what, and the object.
fn short(writes: &[Write]) -> Vec<(&'static str, String, &Value)> {
    let mut entries = Vec::new();
    for write in writes {
        entries.push(match write {
            Write::Create(gvr, object) => ("create", gvr.to_string(), object),
            Write::Update(gvr, object) => ("update", gvr.to_string(), object),
            Write::Delete(gvr, object, _) => ("delete", gvr.to_string(), object),
        });
    }
    entries
}

/// The slices after the writes: those that were there and those that are new.
fn after(existing: &[Arc<Value>], writes: &[Write]) -> Vec<Arc<Value>> {
    let mut slices = existing.to_vec();
    for (verb, resource, object) in short(writes) {
        if resource != "endpointslices.discovery.k8s.io" {
            continue;
        }
        match verb {
            "create" => slices.push(Arc::new(object.clone())),
            _ => slices.retain(|slice| object::name(slice) != object::name(object)),
        }
        if verb == "update" {
            slices.push(Arc::new(object.clone()));
        }
    }
    slices
}

fn pod(name: &str, ip: &str, ready: &str) -> Arc<Value> {
    Arc::new(json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"), "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIPs": [{"ip": ip}, {"ip": "fd00::9"}], "conditions": [{"type": "Ready", "status": ready}]},
    }))
}

fn service(spec: Value) -> Value {
    json!({"metadata": {"name": "web", "namespace": "default", "uid": "uid-web", "labels": {"team": "a"}}, "spec": spec})
}

fn no_zone(_: &str) -> Option<String> {
    None
}

#[test]
fn a_service_gets_slices_of_its_pods() {
    let spec = json!({"clusterIP": "10.96.0.9", "ipFamilies": ["IPv4", "IPv6"], "selector": {"app": "web"}, "ports": [{"name": "w", "port": 80, "targetPort": "http", "protocol": "TCP"}]});
    let service = service(spec);
    let pods = [pod("a", "10.0.0.1", "True"), pod("b", "10.0.0.2", "False")];
    let writes = service_slices::reconcile(&service, &pods, &[], |_| Some("z1".into()));
    let slices = after(&[], &writes);
    assert_eq!(slices.len(), 2);
    let slice = &slices[0];
    assert_eq!(slice["addressType"], "IPv4");
    assert!(object::name(slice).starts_with("web-"));
    assert_eq!(slice["ports"], json!([{"name": "w", "port": 8080, "protocol": "TCP"}]));
    let labels = json!({
        "team": "a",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "kubernetes.io/service-name": "web",
    });
    assert_eq!(slice["metadata"]["labels"], labels);
    let owner = json!([{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "uid-web", "controller": true, "blockOwnerDeletion": true}]);
    assert_eq!(slice["metadata"]["ownerReferences"], owner);
    let expected = json!({
        "addresses": ["10.0.0.1"],
        "conditions": {"ready": true, "serving": true, "terminating": false},
        "targetRef": {"kind": "Pod", "namespace": "default", "name": "a", "uid": "uid-a"},
        "nodeName": "n1",
        "zone": "z1",
    });
    assert_eq!(slice["endpoints"][0], expected);
    assert_eq!(slice["endpoints"][1]["conditions"], json!({"ready": false, "serving": false, "terminating": false}));
    assert_eq!(slices[1]["endpoints"][0]["addresses"], json!(["fd00::9"]));

    // What is right is left alone, and a change is a single write.
    assert!(service_slices::reconcile(&service, &pods, &slices, |_| Some("z1".into())).is_empty());
    let mut leaving = Value::clone(&pods[0]);
    leaving["metadata"]["deletionTimestamp"] = json!("2026-11-21T11:00:00Z");
    let writes =
        service_slices::reconcile(&service, &[Arc::new(leaving), pods[1].clone()], &slices[..1], |_| Some("z1".into()));
    let (verb, _, changed) = short(&writes)[if writes.len() == 2 { 1 } else { 0 }].clone();
    assert_eq!(verb, "update");
    assert_eq!(changed["endpoints"][0]["conditions"], json!({"ready": false, "serving": true, "terminating": true}));
}

#[test]
fn slices_hold_a_hundred_endpoints_and_stay_where_they_are() {
    let service = service(json!({"clusterIP": "None", "selector": {"app": "web"}, "publishNotReadyAddresses": true}));
    let pods: Vec<_> =
        (0..250).map(|n| pod(&format!("p{n}"), &format!("10.0.{}.{}", n / 200, n % 200 + 1), "False")).collect();
    let slices = after(&[], &service_slices::reconcile(&service, &pods, &[], no_zone));
    let mut sizes: Vec<usize> = slices.iter().map(|slice| slice["endpoints"].as_array().unwrap().len()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 100, 100]);
    assert_eq!(str_at(&slices[0], &["metadata", "labels", "service.kubernetes.io/headless"]), "");
    assert_eq!(slices[0]["endpoints"][0]["conditions"]["ready"], true);

    let one_less = &pods[1..];
    assert_eq!(service_slices::reconcile(&service, one_less, &slices, no_zone).len(), 1);
    let writes = service_slices::reconcile(&service, &[], &slices, no_zone);
    let left = after(&slices, &writes);
    assert_eq!(left.len(), 1, "an empty slice stays, so that the Service has one");
    assert_eq!(left[0]["endpoints"], json!([]));

    // It is filled again under its name.
    let again = after(&left, &service_slices::reconcile(&service, &pods[..1], &left, no_zone));
    assert_eq!((again.len(), object::name(&again[0])), (1, object::name(&left[0])));
}

#[test]
fn a_service_gets_endpoints() {
    let spec =
        json!({"clusterIP": "10.96.0.9", "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]});
    let web = service(spec);
    let pods = [pod("a", "10.0.0.1", "True"), pod("b", "10.0.0.2", "False")];
    let Some(Write::Create(_, endpoints)) = endpoints::reconcile(&web, &pods, None) else { panic!() };
    assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "10.0.0.1");
    assert_eq!(endpoints["subsets"][0]["notReadyAddresses"][0]["ip"], "10.0.0.2");
    assert_eq!(endpoints["subsets"][0]["ports"], json!([{"port": 8080, "protocol": "TCP"}]));
    assert!(endpoints::reconcile(&web, &pods, Some(&endpoints)).is_none());
    let Some(Write::Update(_, empty)) = endpoints::reconcile(&web, &[], Some(&endpoints)) else { panic!() };
    assert_eq!(empty.get("subsets"), None);
}

#[test]
fn hand_made_endpoints_are_mirrored() {
    let by_hand = service(json!({"ports": [{"port": 80}]}));
    let mut endpoints = json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "uid-e", "labels": {"x": "y"}, "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "keep": "1"}},
        "subsets": [{"addresses": [{"ip": "10.1.2.3"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.1.2.4"}], "ports": [{"port": 80, "protocol": "TCP"}]}],
    });
    let slices = after(&[], &mirror::reconcile(Some(&by_hand), Some(&endpoints), &[]));
    assert_eq!(slices.len(), 2);
    assert_eq!(slices[0]["ports"], json!([{"name": "", "port": 80, "protocol": "TCP"}]));
    let expected = json!([
        {"addresses": ["10.1.2.3"], "conditions": {"ready": true}},
        {"addresses": ["10.1.2.4"], "conditions": {"ready": false}},
    ]);
    assert_eq!(slices[0]["endpoints"], expected);
    assert_eq!(slices[0]["metadata"]["annotations"], json!({"keep": "1"}));
    assert_eq!(str_at(&slices[0], &["metadata", "labels", slices::MANAGED_BY]), mirror::MANAGER);
    assert_eq!(slices[0]["metadata"]["ownerReferences"][0]["kind"], "Endpoints");
    assert!(mirror::reconcile(Some(&by_hand), Some(&endpoints), &slices).is_empty());

    let with_selector = service(json!({"selector": {"app": "web"}}));
    assert_eq!(short(&mirror::reconcile(Some(&with_selector), Some(&endpoints), &slices)).len(), 2);
    assert_eq!(short(&mirror::reconcile(Some(&by_hand), None, &slices))[0].0, "delete");
    assert!(mirror::reconcile(None, Some(&endpoints), &[]).is_empty());
    endpoints["metadata"]["labels"]["endpointslice.kubernetes.io/skip-mirror"] = json!("true");
    assert_eq!(mirror::reconcile(Some(&by_hand), Some(&endpoints), &slices).len(), 2);
}

fn node(name: &str, ready: &str, spec: Value) -> Arc<Value> {
    Arc::new(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": spec,
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }))
}

#[test]
fn pods_get_the_node_with_the_fewest() {
    let taint = json!({"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]});
    let nodes = [
        node("n1", "True", json!({})),
        node("n2", "True", json!({})),
        node("cordoned", "True", json!({"unschedulable": true})),
        node("broken", "False", json!({})),
        node("tainted", "True", taint),
    ];
    let waiting = |spec: Value| json!({"metadata": {"name": "w", "namespace": "default"}, "spec": spec, "status": {"phase": "Pending"}});
    let taken = [pod("a", "10.0.0.1", "True")];
    let table = [
        (json!({}), "n2"),
        (json!({"nodeSelector": {"kubernetes.io/hostname": "n1"}}), "n1"),
        (
            json!({"tolerations": [{"key": "k", "operator": "Exists"}], "nodeSelector": {"kubernetes.io/hostname": "tainted"}}),
            "tainted",
        ),
        (
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["n2"]}]},
            ]}}}}),
            "n1",
        ),
    ];
    for (spec, expected) in table {
        let Some(Write::Update(_, placed)) = scheduler::reconcile(&waiting(spec.clone()), &nodes, &taken) else {
            panic!()
        };
        assert_eq!(placed["spec"]["nodeName"], expected, "{spec}");
        assert_eq!(placed["status"]["conditions"][0]["status"], "True");
    }
    let nowhere = waiting(json!({"nodeSelector": {"kubernetes.io/hostname": "cordoned"}}));
    let Some(Write::Update(_, refused)) = scheduler::reconcile(&nowhere, &nodes, &taken) else { panic!() };
    let message = "0/5 nodes are available: 1 node(s) had untolerated taint {k: v}, 1 node(s) were not ready, 1 node(s) were unschedulable, 2 node(s) didn't match Pod's node affinity/selector.";
    assert_eq!(refused["status"]["conditions"][0]["message"], message);
    assert!(scheduler::reconcile(&refused, &nodes, &taken).is_none(), "the same refusal is written once");
    assert!(scheduler::reconcile(&waiting(json!({"nodeName": "n1"})), &nodes, &taken).is_none());
}

#[test]
fn what_has_no_owner_left_goes() {
    let gvr = Gvr::new("", "v1", "configmaps");
    let owned = |blocks: bool| json!({"metadata": {"name": "d", "uid": "d", "ownerReferences": [{"uid": "o", "blockOwnerDeletion": blocks}]}});
    let owner = |finalizers: Value| json!({"metadata": {"name": "o", "uid": "o", "deletionTimestamp": "2026-11-21T11:00:00Z", "finalizers": finalizers}});
    let reconcile = |object: &Value, state, dependents: &[Value]| {
        let dependents: Vec<_> = dependents.iter().map(|d| (gvr.clone(), Arc::new(d.clone()))).collect();
        garbage::reconcile(&gvr, object, |_| state, &dependents)
    };
    assert!(reconcile(&owned(true), garbage::Owner::Present, &[]).is_empty());
    assert_eq!(short(&reconcile(&owned(true), garbage::Owner::Gone, &[]))[0].0, "delete");
    let waiting = reconcile(&owned(true), garbage::Owner::Waiting, &[owned(true)]);
    assert!(matches!(
        &waiting[0],
        Write::Delete(_, _, DeleteOptions { propagation: Some(Propagation::Foreground), .. })
    ));

    let foreground = owner(json!(["foregroundDeletion", "other"]));
    assert!(reconcile(&foreground, garbage::Owner::Gone, &[owned(true)]).is_empty());
    let freed = reconcile(&foreground, garbage::Owner::Gone, &[owned(false)]);
    assert_eq!(short(&freed)[0].2["metadata"]["finalizers"], json!(["other"]));

    let orphaned = reconcile(&owner(json!(["orphan"])), garbage::Owner::Gone, &[owned(true)]);
    assert_eq!(short(&orphaned)[0].2["metadata"].get("ownerReferences"), None);
    assert_eq!(short(&orphaned)[1].2["metadata"].get("finalizers"), None);
}

/// A Deployment of ten, its template's image and the ReplicaSets that it has: image, wanted and available pods.
fn deployment(image: &str, strategy: Value) -> Value {
    json!({
        "metadata": {"name": "web", "namespace": "default", "uid": "uid-d", "generation": 3},
        "spec": {
            "replicas": 10,
            "strategy": strategy,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
    })
}

fn replica_set(image: &str, revision: i64, wanted: i64, available: i64) -> Arc<Value> {
    Arc::new(json!({
        "metadata": {
            "name": format!("web-{image}"), "namespace": "default", "uid": image, "generation": 1,
            "annotations": {deployments::REVISION: revision.to_string()},
            "ownerReferences": [{"uid": "uid-d", "kind": "Deployment", "name": "web", "controller": true}],
        },
        "spec": {
            "replicas": wanted,
            "template": {"metadata": {"labels": {"app": "web", "pod-template-hash": image}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
        "status": {"replicas": wanted, "readyReplicas": available, "availableReplicas": available},
    }))
}

fn scales(outcome: &replicasets::Outcome) -> Vec<(String, i64)> {
    let sets = short(&outcome.writes)
        .into_iter()
        .filter(|(verb, resource, _)| *verb != "delete" && resource.starts_with("replicasets"));
    let mut scales: Vec<(String, i64)> = sets
        .map(|(_, _, set)| {
            (
                str_at(&set["spec"]["template"]["spec"]["containers"][0], &["image"]).to_owned(),
                set["spec"]["replicas"].as_i64().unwrap(),
            )
        })
        .collect();
    scales.sort();
    scales
}

#[test]
fn a_rollout_keeps_within_its_bounds() {
    // maxSurge 25 % of 10 is 3, maxUnavailable 2.
    type Sizes = &'static [(i64, i64)];
    type Scaled = &'static [(&'static str, i64)];
    let table: [(Sizes, Scaled); 5] = [
        // Old (wanted, available), then new; what is scaled to what.
        (&[(10, 10)], &[("new", 3), ("old", 8)]),
        (&[(8, 8), (5, 0)], &[("new", 5), ("old", 8)]),
        (&[(8, 8), (5, 3)], &[("new", 5), ("old", 5)]),
        (&[(3, 3), (10, 8)], &[("new", 10), ("old", 0)]),
        (&[(10, 0)], &[("new", 3), ("old", 8)]),
    ];
    for (sets, expected) in table {
        let mut present = vec![replica_set("old", 1, sets[0].0, sets[0].1)];
        present.extend(sets.get(1).map(|(wanted, available)| replica_set("new", 2, *wanted, *available)));
        let outcome = deployments::reconcile(&deployment("new", json!({"type": "RollingUpdate"})), &present, NOW);
        let changed = scales(&outcome);
        for (image, replicas) in expected {
            let before =
                present.iter().find(|set| object::uid(set) == *image).and_then(|set| set["spec"]["replicas"].as_i64());
            let after = changed.iter().find(|(changed, _)| changed == image).map(|(_, replicas)| *replicas).or(before);
            assert_eq!(after, Some(*replicas), "{sets:?} {image}");
        }
    }
}

#[test]
fn recreating_waits_until_the_old_pods_are_gone() {
    let recreate = deployment("new", json!({"type": "Recreate"}));
    let outcome = deployments::reconcile(&recreate, &[replica_set("old", 1, 10, 10)], NOW);
    assert_eq!(scales(&outcome), [("new".to_owned(), 0), ("old".to_owned(), 0)]);
    let outcome = deployments::reconcile(&recreate, &[replica_set("old", 1, 0, 0), replica_set("new", 2, 0, 0)], NOW);
    assert_eq!(scales(&outcome), [("new".to_owned(), 10)]);
}

#[test]
fn a_deployment_says_how_far_it_is() {
    let condition = |deployment: &Value, kind: &str| {
        let conditions = deployment["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
        (str_at(found, &["status"]).to_owned(), str_at(found, &["reason"]).to_owned())
    };
    let deployed = |outcome: &replicasets::Outcome| {
        let writes = short(&outcome.writes);
        writes.into_iter().find(|(_, resource, _)| resource == "deployments.apps").unwrap().2.clone()
    };
    let begun = deployments::reconcile(&deployment("new", json!({})), &[], NOW);
    let first = deployed(&begun);
    assert_eq!(first["status"]["observedGeneration"], 3);
    assert_eq!(str_at(&first, &["metadata", "annotations", deployments::REVISION]), "1");
    assert_eq!(condition(&first, "Available"), ("False".into(), "MinimumReplicasUnavailable".into()));
    assert_eq!(condition(&first, "Progressing"), ("True".into(), "NewReplicaSetCreated".into()));

    // Without progress the deadline passes.
    let late = NOW + time::Duration::seconds(601);
    let stuck = [replica_set("new", 1, 10, 0)];
    let waiting = deployments::reconcile(&deployed(&deployments::reconcile(&first, &stuck, NOW)), &stuck, NOW);
    assert_eq!(waiting.look_again, Some(601));
    let mut seen = first.clone();
    seen["status"] = deployed(&deployments::reconcile(&first, &stuck, NOW))["status"].clone();
    let failed = deployed(&deployments::reconcile(&seen, &stuck, late));
    assert_eq!(condition(&failed, "Progressing"), ("False".into(), "ProgressDeadlineExceeded".into()));

    let done = deployed(&deployments::reconcile(&first, &[replica_set("new", 1, 10, 10)], NOW));
    assert_eq!(condition(&done, "Available"), ("True".into(), "MinimumReplicasAvailable".into()));
    assert_eq!(condition(&done, "Progressing"), ("True".into(), "NewReplicaSetAvailable".into()));
    assert_eq!(done["status"]["updatedReplicas"], 10);
}

#[test]
fn a_daemon_set_has_a_pod_on_each_node() {
    let set = json!({
        "metadata": {"name": "d", "namespace": "default", "uid": "uid-ds", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"nodeSelector": {}, "containers": []}}},
    });
    let nodes = [node("n1", "True", json!({})), node("n2", "True", json!({"unschedulable": true}))];
    let outcome = daemonsets::reconcile(&set, &nodes, &[], NOW);
    let writes = short(&outcome.writes);
    let places: Vec<&str> = writes
        .iter()
        .filter(|(verb, ..)| *verb == "create")
        .map(|(_, _, pod)| str_at(pod, &["spec", "nodeName"]))
        .collect();
    assert_eq!(places, ["n1", "n2"]);

    let mut pods: Vec<Value> =
        writes.iter().filter(|(verb, ..)| *verb == "create").map(|(_, _, pod)| (*pod).clone()).collect();
    for pod in &mut pods {
        pod["status"] = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    }
    let pods: Vec<Arc<Value>> = pods.into_iter().map(Arc::new).collect();
    let settled = daemonsets::reconcile(&set, &nodes, &pods, NOW);
    let status = &short(&settled.writes)[0].2["status"];
    assert_eq!(
        (&status["numberReady"], &status["updatedNumberScheduled"], &status["numberAvailable"]),
        (&json!(2), &json!(2), &json!(2))
    );

    // A new template takes one pod at a time; a node that is gone takes its pod with it.
    let mut changed = set.clone();
    changed["spec"]["template"]["spec"]["priority"] = json!(1);
    let deleted =
        |outcome: replicasets::Outcome| short(&outcome.writes).iter().filter(|(verb, ..)| *verb == "delete").count();
    assert_eq!(deleted(daemonsets::reconcile(&changed, &nodes, &pods, NOW)), 1);
    assert_eq!(deleted(daemonsets::reconcile(&set, &nodes[..1], &pods, NOW)), 1);
}

/// Waits until `holds` gives something.
async fn until<T>(store: &Store, holds: impl Fn(&Store) -> Option<T>) -> T {
    let mut events = store.subscribe();
    let wait = async {
        loop {
            if let Some(found) = holds(store) {
                return found;
            }
            events.next().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap()
}

fn create(store: &Store, gvr: &Gvr, mut object: Value) -> Arc<Value> {
    object["metadata"]["namespace"] = json!("default");
    store.create(gvr, object).unwrap()
}

#[tokio::test]
async fn the_loop_brings_it_all_together() {
    let store = Store::new();
    let (namespaces, nodes, pods) =
        (Gvr::new("", "v1", "namespaces"), Gvr::new("", "v1", "nodes"), Gvr::new("", "v1", "pods"));
    store
        .create(&namespaces, json!({"metadata": {"name": "default"}, "spec": {"finalizers": ["kubernetes"]}}))
        .unwrap();
    store.create(&nodes, Value::clone(&node("n1", "True", json!({})))).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(run(store.clone(), "CA".into(), async { drop(stopped.await) }));

    let config_maps = Gvr::new("", "v1", "configmaps");
    let map = until(&store, |store| store.get(&config_maps, "default", "kube-root-ca.crt")).await;
    assert_eq!(map["data"]["ca.crt"], "CA");

    let deployments = Gvr::new("apps", "v1", "deployments");
    let mut web = deployment("i", json!({}));
    web["spec"]["replicas"] = json!(2);
    web["metadata"].as_object_mut().unwrap().remove("uid");
    create(&store, &deployments, web);
    let services = Gvr::new("", "v1", "services");
    create(
        &store,
        &services,
        json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}),
    );

    let placed = |store: &Store| {
        let list = store.list(&pods, Some("default")).items;
        (list.len() == 2 && list.iter().all(|pod| str_at(pod, &["spec", "nodeName"]) == "n1")).then_some(list)
    };
    for (index, pod) in until(&store, placed).await.iter().enumerate() {
        let ready = json!({"phase": "Running", "podIP": format!("10.0.0.{index}"), "conditions": [{"type": "Ready", "status": "True"}]});
        store
            .modify(&pods, "default", object::name(pod), |pod| {
                pod["status"] = ready.clone();
                Ok(true)
            })
            .unwrap();
    }
    until(&store, |store| store.get(&deployments, "default", "web").filter(|d| d["status"]["availableReplicas"] == 2))
        .await;
    let slices = Gvr::new("discovery.k8s.io", "v1", "endpointslices");
    let full = |store: &Store| {
        let list = store.list(&slices, None).items;
        list.iter()
            .any(|slice| slice["endpoints"].as_array().is_some_and(|endpoints| endpoints.len() == 2))
            .then_some(())
    };
    until(&store, full).await;

    // Owners take what is theirs with them, and a Service its Endpoints.
    store
        .delete(
            &deployments,
            "default",
            "web",
            &DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() },
        )
        .unwrap();
    let sets = Gvr::new("apps", "v1", "replicasets");
    let leaving =
        |store: &Store| store.list(&pods, None).items.iter().all(|pod| object::is_terminating(pod)).then_some(());
    until(&store, leaving).await;
    for pod in store.list(&pods, None).items {
        store.delete(&pods, "default", object::name(&pod), &DeleteOptions::now()).unwrap();
    }
    until(&store, |store| (store.count(&sets) == 0 && store.count(&deployments) == 0).then_some(())).await;
    store.delete(&services, "default", "web", &DeleteOptions::default()).unwrap();
    let endpoints = Gvr::new("", "v1", "endpoints");
    until(&store, |store| (store.count(&endpoints) == 0 && store.count(&slices) == 0).then_some(())).await;

    store.delete(&namespaces, "", "default", &DeleteOptions::default()).unwrap();
    until(&store, |store| (store.count(&namespaces) == 0).then_some(())).await;
    assert_eq!((store.count(&config_maps), store.count(&pods)), (0, 0));
    drop(stop);
    running.await.unwrap();
}
