//! Services of other clusters under their own names.

use serde_json::{Value, json};
use tombolo_services::EndpointMode;
use tombolo_services::mirrors::Choice;
use tombolo_services::selector::Selector;

use crate::harness::{Cluster, Controller, options, soon};
use crate::objects::{serve, service, slice};

const FROM: &str = "tombolo.io/mirrored-from";

fn annotation<'a>(object: &'a Value, name: &str) -> &'a Value {
    &object["metadata"]["annotations"][name]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_comes_changes_and_goes_and_its_namespace_with_it() {
    let (east, here) = (Cluster::new("east").await, Cluster::new("here").await);
    serve(&east, "shop", "web", &["10.1.0.1", "10.1.0.2"]).await;
    let controller = Controller::run(&here, options(&[&east])).await;
    let mirror = here.wait("Service", "shop", "web", |_| true).await;
    assert_eq!(annotation(&mirror, FROM), "east");
    assert_eq!((&mirror["spec"]["ports"][0]["port"], mirror["spec"].get("selector")), (&json!(80), None));
    assert_ne!(mirror["spec"]["clusterIP"], "None");
    here.wait_addresses("shop", "web", &["10.1.0.1", "10.1.0.2"]).await;
    let made_for = here.get("Namespace", "", "shop").unwrap();
    assert_eq!(annotation(&made_for, "tombolo.io/made-for-mirrors"), "true");

    let ports = json!([{"name": "http", "port": 81, "targetPort": 8080}]);
    east.patch("Service", "shop", "web", json!({"spec": {"ports": ports, "sessionAffinity": "ClientIP"}})).await;
    let changed = here.wait("Service", "shop", "web", |service| service["spec"]["ports"][0]["port"] == 81).await;
    assert_eq!(changed["metadata"]["uid"], mirror["metadata"]["uid"], "changed, not made anew");
    assert_eq!(changed["spec"]["sessionAffinity"], "ClientIP");
    let endpoints = json!([{"addresses": ["10.1.0.3"], "conditions": {"ready": true}}]);
    east.patch("EndpointSlice", "shop", "web-x", json!({"endpoints": endpoints})).await;
    here.wait_addresses("shop", "web", &["10.1.0.3"]).await;

    east.patch(
        "Service",
        "shop",
        "web",
        json!({"spec": {"type": "ExternalName", "externalName": "example.com",
        "ports": null, "clusterIP": null, "clusterIPs": null, "ipFamilies": null, "ipFamilyPolicy": null,
        "internalTrafficPolicy": null}}),
    )
    .await;
    here.wait("Service", "shop", "web", |service| service["spec"]["externalName"] == "example.com").await;
    here.wait_addresses("shop", "web", &[]).await;

    east.delete("Service", "shop", "web").await;
    here.wait_gone("Service", "shop", "web").await;
    here.wait_gone("Namespace", "", "shop").await;
    assert_eq!(here.list("EndpointSlice", "shop").len(), 0);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_left_to_those_who_live_in_it() {
    let (east, here) = (Cluster::new("east").await, Cluster::new("here").await);
    // One that was there before, one that somebody moved into, and one that somebody labelled.
    here.put(json!({"kind": "Namespace", "metadata": {"name": "before"}})).await;
    for namespace in ["before", "lived-in", "labelled"] {
        serve(&east, namespace, "web", &["10.1.0.1"]).await;
    }
    let controller = Controller::run(&here, options(&[&east])).await;
    for namespace in ["before", "lived-in", "labelled"] {
        here.wait_addresses(namespace, "web", &["10.1.0.1"]).await;
    }
    here.put(json!({"kind": "ConfigMap", "metadata": {"namespace": "lived-in", "name": "mine"}})).await;
    here.patch("Namespace", "", "labelled", json!({"metadata": {"labels": {"team": "a"}}})).await;
    for namespace in ["before", "lived-in", "labelled"] {
        east.delete("Service", namespace, "web").await;
        here.wait_gone("Service", namespace, "web").await;
    }
    let left = |namespace: &Value| annotation(namespace, "tombolo.io/made-for-mirrors").is_null();
    here.wait("Namespace", "", "lived-in", left).await;
    for namespace in ["before", "lived-in", "labelled"] {
        let namespace = here.get("Namespace", "", namespace).unwrap();
        assert!(namespace["metadata"]["deletionTimestamp"].is_null());
    }
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_service_is_mirrored_as_what_it_is() {
    let east = Cluster::with("east", &["10.96.0.0/16", "fd96::/108"], &[]).await;
    let here = Cluster::with("here", &["10.97.0.0/16", "fd97::/108"], &[]).await;
    let single = Cluster::with("single", &["10.98.0.0/16"], &[]).await;
    let node = json!({"podCIDR": "10.127.0.0/24", "podCIDRs": ["10.127.0.0/24", "fd7f::/64"]});
    here.put(json!({"kind": "Node", "metadata": {"name": "n"}, "spec": node})).await;
    east.put(service("shop", "headless", json!({"clusterIP": "None", "publishNotReadyAddresses": true}))).await;
    let mut named = slice("shop", "headless", &["10.1.0.1"]);
    named["endpoints"][0]["hostname"] = json!("web-0");
    named["endpoints"][0]["nodeName"] = json!("a-node-there");
    east.put(named).await;
    east.put(service("shop", "name", json!({"type": "ExternalName", "externalName": "example.com", "ports": null})))
        .await;
    east.put(service("shop", "dual", json!({"ipFamilyPolicy": "RequireDualStack"}))).await;
    east.put(slice("shop", "dual", &["10.1.0.2"])).await;
    east.put(slice("shop", "dual", &["fd01::2"])).await;
    east.put(service("shop", "six", json!({"ipFamilies": ["IPv6"]}))).await;
    east.put(slice("shop", "six", &["fd01::3"])).await;
    let controllers =
        [Controller::run(&here, options(&[&east])).await, Controller::run(&single, options(&[&east])).await];
    let headless = here.wait("Service", "shop", "headless", |service| service["spec"]["clusterIP"] == "None").await;
    assert_eq!(headless["spec"]["publishNotReadyAddresses"], true);
    here.wait_addresses("shop", "headless", &["10.1.0.1"]).await;
    let slices = here.list("EndpointSlice", "shop");
    let slice = slices.iter().find(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == "headless").unwrap();
    assert_eq!(slice["endpoints"][0]["hostname"], "web-0");
    assert!(slice["endpoints"][0]["nodeName"].is_null(), "a node of that name here is another one");
    let name = here.wait("Service", "shop", "name", |_| true).await;
    assert_eq!((&name["spec"]["type"], &name["spec"]["externalName"]), (&json!("ExternalName"), &json!("example.com")));
    let dual = here.wait("Service", "shop", "dual", |_| true).await;
    assert_eq!(dual["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(dual["spec"]["clusterIPs"].as_array().unwrap().len(), 2);
    here.wait_addresses("shop", "dual", &["10.1.0.2", "fd01::2"]).await;
    let six = here.wait("Service", "shop", "six", |_| true).await;
    assert!(six["spec"]["clusterIP"].as_str().unwrap().starts_with("fd97:"));

    // Where there is one family, that one is mirrored, and what has none of it is said.
    let dual = single.wait("Service", "shop", "dual", |_| true).await;
    assert_eq!(dual["spec"]["ipFamilies"], json!(["IPv4"]));
    single.wait_event("shop", "six", "Refused", &["none of its address families"]).await;
    assert!(single.get("Service", "shop", "six").is_none());
    for controller in controllers {
        controller.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_are_pods_or_the_cluster_ip_as_flag_and_annotation_say() {
    let (east, here) =
        (Cluster::with("east", &["10.95.0.0/16"], &[]).await, Cluster::with("here", &["10.96.0.0/16"], &[]).await);
    serve(&east, "shop", "web", &["10.1.0.1"]).await;
    let mut pods = service("shop", "pods", json!({}));
    pods["metadata"]["annotations"] = json!({"tombolo.io/mirror-endpoints": "pods"});
    east.put(pods).await;
    east.put(slice("shop", "pods", &["10.1.0.2"])).await;
    let web = east.get("Service", "shop", "web").unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned();

    let mut settings = options(&[&east]);
    settings.mode = EndpointMode::ClusterIp;
    settings.legacy_endpoints = true;
    let controller = Controller::run(&here, settings).await;
    here.wait_addresses("shop", "web", &[&web]).await;
    here.wait_addresses("shop", "pods", &["10.1.0.2"]).await;
    let slices = here.list("EndpointSlice", "shop");
    let port = |service: &str| {
        let slice = slices.iter().find(|s| s["metadata"]["labels"]["kubernetes.io/service-name"] == service);
        slice.unwrap()["ports"][0]["port"].clone()
    };
    assert_eq!((port("web"), port("pods")), (json!(80), json!(8080)));
    let legacy = here
        .wait("Endpoints", "shop", "web", |endpoints| endpoints["subsets"][0]["addresses"][0]["ip"] == web.as_str())
        .await;
    assert_eq!(legacy["metadata"]["labels"]["endpointslice.kubernetes.io/skip-mirror"], "true");
    // The control plane makes no second slice of it.
    here.wait_addresses("shop", "web", &[&web]).await;

    // A word that is none is said, and the flag counts.
    let odd = json!({"metadata": {"annotations": {"tombolo.io/mirror-endpoints": "pod"}}});
    east.patch("Service", "shop", "pods", odd).await;
    let ip = east.get("Service", "shop", "pods").unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned();
    here.wait_addresses("shop", "pods", &[&ip]).await;
    here.wait_event("shop", "pods", "Refused", &["neither pods nor cluster-ip"]).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_of_people_travel_words_to_controllers_do_not() {
    let (east, here) = (Cluster::new("east").await, Cluster::new("here").await);
    let mut web =
        service("shop", "web", json!({"internalTrafficPolicy": "Local", "trafficDistribution": "PreferClose"}));
    web["metadata"]["labels"] =
        json!({"team": "a", "app.kubernetes.io/name": "web", "service.kubernetes.io/headless": "x"});
    web["metadata"]["annotations"] =
        json!({"note": "hello", "service.beta.kubernetes.io/aws-load-balancer-type": "nlb"});
    east.put(web).await;
    let controller = Controller::run(&here, options(&[&east])).await;
    let mirror = here.wait("Service", "shop", "web", |_| true).await;
    let labels = json!({"team": "a", "app.kubernetes.io/name": "web", "app.kubernetes.io/managed-by": "tombolo"});
    assert_eq!(mirror["metadata"]["labels"], labels);
    assert_eq!(mirror["metadata"]["annotations"], json!({"note": "hello", FROM: "east"}));
    assert_eq!(mirror["spec"]["internalTrafficPolicy"], "Cluster");
    assert_eq!(mirror["spec"]["trafficDistribution"], "PreferClose");

    // Somebody's label stays on the mirror, and one of ours that is changed comes back.
    let patch = json!({"metadata": {"labels": {"mine": "yes", "team": "b"}, "annotations": {"note": null}}});
    here.patch("Service", "shop", "web", patch).await;
    let healed = |service: &Value| {
        service["metadata"]["labels"]["team"] == "a" && service["metadata"]["annotations"]["note"] == "hello"
    };
    let mirror = here.wait("Service", "shop", "web", healed).await;
    assert_eq!(mirror["metadata"]["labels"]["mine"], "yes");
    here.delete("Service", "shop", "web").await;
    here.wait("Service", "shop", "web", |service| service["metadata"]["uid"] != mirror["metadata"]["uid"]).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_mirrored_is_what_is_asked_for() {
    let (east, here) = (Cluster::new("east").await, Cluster::new("here").await);
    for (namespace, name, label) in
        [("shop", "yes", "1"), ("shop", "no", "2"), ("kube-system", "dns", "1"), ("other", "yes", "1")]
    {
        let mut object = service(namespace, name, json!({}));
        object["metadata"]["labels"] = json!({"mirror": label});
        east.put(object).await;
    }
    let mut settings = options(&[&east]);
    settings.choice =
        Choice { selector: Selector::parse("mirror in (1, 3)").unwrap(), namespaces: ["shop".to_owned()].into() };
    let controller = Controller::run(&here, settings).await;
    here.wait("Service", "shop", "yes", |_| true).await;
    let row = here.wait_source("east", |row| row["standing"] == "Live").await;
    assert_eq!(row["services"], 1);
    east.patch("Service", "shop", "no", json!({"metadata": {"labels": {"mirror": "3"}}})).await;
    here.wait("Service", "shop", "no", |_| true).await;
    east.patch("Service", "shop", "yes", json!({"metadata": {"labels": {"mirror": null}}})).await;
    here.wait_gone("Service", "shop", "yes").await;
    controller.stop().await;

    // Without a selector all but the system's.
    let controller = Controller::run(&here, options(&[&east])).await;
    here.wait("Service", "other", "yes", |_| true).await;
    here.wait("Service", "shop", "yes", |_| true).await;
    assert!(here.get("Service", "kube-system", "dns").is_none());
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_s_service_is_never_touched() {
    let (east, here) = (Cluster::new("east").await, Cluster::new("here").await);
    let theirs = here.put(service("shop", "web", json!({"selector": {"app": "web"}}))).await;
    // The label alone makes nothing ours.
    let mut labelled = service("shop", "labelled", json!({}));
    labelled["metadata"]["labels"] = json!({"app.kubernetes.io/managed-by": "tombolo"});
    let labelled = here.put(labelled).await;
    for name in ["web", "labelled"] {
        serve(&east, "shop", name, &["10.1.0.1"]).await;
    }
    let controller = Controller::run(&here, options(&[&east])).await;
    for name in ["web", "labelled"] {
        here.wait_event("shop", name, "MirrorConflict", &["of east is not mirrored", "not a mirror"]).await;
    }
    serve(&east, "shop", "after", &["10.1.0.9"]).await;
    here.wait_addresses("shop", "after", &["10.1.0.9"]).await;
    assert_eq!(*here.get("Service", "shop", "web").unwrap(), theirs);
    assert_eq!(*here.get("Service", "shop", "labelled").unwrap(), labelled);
    assert_eq!(here.addresses("shop", "web"), Vec::<String>::new());
    here.delete("Service", "shop", "web").await;
    here.wait("Service", "shop", "web", |service| annotation(service, FROM) == "east").await;
    here.wait_addresses("shop", "web", &["10.1.0.1"]).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_at_the_same_time_is_not_touched_either() {
    let (east, here) = (Cluster::new("east").await, Cluster::new("here").await);
    here.put(json!({"kind": "Namespace", "metadata": {"name": "shop"}})).await;
    let controller = Controller::run(&here, options(&[&east])).await;
    here.wait_source("east", |row| row["standing"] == "Live").await;
    let mut theirs = 0;
    for number in 0..40 {
        let name = format!("web-{number}");
        let api = here.api("Service", "shop");
        let mine = service("shop", &name, json!({"selector": {"app": "mine"}}));
        let mine = serde_json::from_value(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": mine["metadata"], "spec": mine["spec"]}),
        )
        .unwrap();
        let parameters = Default::default();
        let (_, made) = tokio::join!(serve(&east, "shop", &name, &["10.1.0.1"]), api.create(&parameters, &mine));
        if made.is_ok() {
            theirs += 1;
        }
    }
    for number in 0..40 {
        let name = format!("web-{number}");
        soon(format!("{name} is whole"), || {
            let service = here.get("Service", "shop", &name)?;
            let addresses = here.addresses("shop", &name);
            if annotation(&service, FROM).is_null() {
                assert_eq!(service["spec"]["selector"], json!({"app": "mine"}));
                addresses.is_empty().then_some(())
            } else {
                assert!(service["spec"].get("selector").is_none());
                (addresses == ["10.1.0.1"]).then_some(())
            }
        })
        .await;
    }
    let standing = here.list("Service", "shop");
    let untouched = standing.iter().filter(|service| annotation(service, FROM).is_null()).count();
    assert_eq!(untouched, theirs, "who came first keeps it");
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_sources_with_one_name_the_first_has_it_until_it_goes() {
    let (east, west, here) = (Cluster::new("east").await, Cluster::new("west").await, Cluster::new("here").await);
    serve(&east, "shop", "web", &["10.1.0.1"]).await;
    serve(&west, "shop", "web", &["10.2.0.1"]).await;
    serve(&west, "shop", "own", &["10.2.0.2"]).await;
    let controller = Controller::run(&here, options(&[&west, &east])).await;
    here.wait_addresses("shop", "own", &["10.2.0.2"]).await;
    here.wait_event("shop", "web", "MirrorConflict", &["is mirrored from"]).await;
    let first = here.get("Service", "shop", "web").unwrap();
    let (holder, other) = if annotation(&first, FROM) == "west" { (&west, "10.1.0.1") } else { (&east, "10.2.0.1") };
    // A restart with the sources the other way round changes nothing.
    controller.stop().await;
    let controller = Controller::run(&here, options(&[&east, &west])).await;
    here.wait_source("east", |row| row["standing"] == "Live").await;
    here.wait_source("west", |row| row["standing"] == "Live").await;
    assert_eq!(annotation(&here.get("Service", "shop", "web").unwrap(), FROM), annotation(&first, FROM));
    holder.delete("Service", "shop", "web").await;
    here.wait_addresses("shop", "web", &[other]).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_is_not_mirrored_and_two_clusters_do_not_chase_each_other() {
    let (east, west) = (Cluster::new("east").await, Cluster::new("west").await);
    let third = Cluster::new("third").await;
    serve(&east, "shop", "from-east", &["10.1.0.1"]).await;
    serve(&west, "shop", "from-west", &["10.2.0.1"]).await;
    serve(&east, "shop", "both", &["10.1.0.2"]).await;
    serve(&west, "shop", "both", &["10.2.0.2"]).await;
    let controllers = [
        Controller::run(&east, options(&[&west])).await,
        Controller::run(&west, options(&[&east])).await,
        Controller::run(&third, options(&[&west])).await,
    ];
    east.wait_addresses("shop", "from-west", &["10.2.0.1"]).await;
    west.wait_addresses("shop", "from-east", &["10.1.0.1"]).await;
    third.wait_addresses("shop", "from-west", &["10.2.0.1"]).await;
    // Endpoints come before their Service.
    east.wait("Service", "shop", "from-west", |_| true).await;
    west.wait("Service", "shop", "from-east", |_| true).await;
    east.wait_event("shop", "both", "MirrorConflict", &[]).await;
    west.wait_event("shop", "both", "MirrorConflict", &[]).await;
    assert!(third.get("Service", "shop", "from-east").is_none(), "west only mirrors it");
    // What is written from now on is what the tests write: each waits for the other through a marker.
    let services = |cluster: &Cluster| {
        let objects = cluster.list("Service", "shop");
        objects.iter().map(|object| object["metadata"]["resourceVersion"].clone()).collect::<Vec<_>>()
    };
    let before = [services(&east), services(&west)];
    for round in 0..3 {
        serve(&east, "marker", &format!("e{round}"), &["10.1.9.9"]).await;
        west.wait_addresses("marker", &format!("e{round}"), &["10.1.9.9"]).await;
        serve(&west, "marker", &format!("w{round}"), &["10.2.9.9"]).await;
        east.wait_addresses("marker", &format!("w{round}"), &["10.2.9.9"]).await;
    }
    assert_eq!([services(&east), services(&west)], before);
    east.delete("Service", "shop", "from-east").await;
    west.wait_gone("Service", "shop", "from-east").await;
    for controller in controllers {
        controller.stop().await;
    }
}
