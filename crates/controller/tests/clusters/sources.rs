//! Sources that cannot be reached, that lose everything, that come and go; and controllers that do.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tombolo_controller::{Location, Options, SourceOptions};

use crate::harness::{Cluster, Controller, OWN, options, soon};
use crate::objects::{export, serve, serve_all, service};

const STALE: &str = "tombolo.io/stale-since";
const HELD: &str = "tombolo.io/held-since";
const CONFIRM: &str = "tombolo.io/confirm-deletion";

fn has(object: &Value, annotation: &str) -> bool {
    !object["metadata"]["annotations"][annotation].is_null()
}

/// The versions of all mirrors and their slices.
fn versions(cluster: &Cluster, namespace: &str) -> BTreeMap<(String, String), String> {
    let kinds = ["Service", "EndpointSlice", "ServiceImport"];
    let of = |kind: &str| -> Vec<((String, String), String)> {
        let name = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap().to_owned();
        let objects = cluster.list(kind, namespace);
        objects.iter().map(|o| ((kind.to_owned(), name(o, "name")), name(o, "resourceVersion"))).collect()
    };
    kinds.into_iter().flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_out_of_reach_is_marked_withdrawn_and_comes_back() {
    let (east, here) = (Cluster::new("east").await, Cluster::new("here").await);
    here.put(json!({"kind": "Namespace", "metadata": {"name": "shop"}})).await;
    serve_all(&east, "shop", "web", &["10.1.0.1"]).await;
    let mut settings = options(&[&east]);
    settings.limits.stale_after = Duration::from_secs(4);
    let controller = Controller::run(&here, settings).await;
    here.wait_addresses("shop", "web", &["10.1.0.1"]).await;
    here.wait("ServiceImport", "shop", "web", |_| true).await;

    east.gate.shut();
    let marked = here.wait("Service", "shop", "web", |service| has(service, STALE)).await;
    assert_eq!(marked["spec"]["ports"][0]["port"], 80);
    assert_eq!(here.addresses("shop", "web"), ["10.1.0.1"], "endpoints stay");
    here.wait_source("east", |row| row["standing"] == "Stale" && !row["problems"].as_array().unwrap().is_empty()).await;
    here.wait_gone("Service", "shop", "web").await;
    here.wait_gone("ServiceImport", "shop", "web").await;
    here.wait_source("east", |row| row["standing"] == "Gone").await;
    soon("no slice is left".to_owned(), || here.list("EndpointSlice", "shop").is_empty().then_some(())).await;

    east.gate.open();
    here.wait("Service", "shop", "web", |service| !has(service, STALE)).await;
    here.wait_addresses("shop", "web", &["10.1.0.1"]).await;
    here.wait("ServiceImport", "shop", "web", |_| true).await;
    here.wait_source("east", |row| row["standing"] == "Live" && row["problems"].is_null()).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_absence_only_the_differences_are_written() {
    let (east, here) = (Cluster::new("east").await, Cluster::new("here").await);
    here.put(json!({"kind": "Namespace", "metadata": {"name": "shop"}})).await;
    for number in 0..5 {
        serve_all(&east, "shop", &format!("web-{number}"), &[&format!("10.1.0.{number}")]).await;
    }
    let mut settings = options(&[&east]);
    settings.limits.grace = Duration::from_secs(300);
    let controller = Controller::run(&here, settings.clone()).await;
    for number in 0..5 {
        let name = format!("web-{number}");
        here.wait_addresses("shop", &name, &[&format!("10.1.0.{number}")]).await;
        here.wait("ServiceImport", "shop", &name, |import| import["status"]["conditions"][0]["status"] == "True").await;
    }
    here.wait_source("east", |row| row["standing"] == "Live").await;
    east.gate.shut();
    here.wait_source("east", |row| row["standing"] == "Waiting").await;
    let before = versions(&here, "shop");
    east.patch("Service", "shop", "web-1", json!({"metadata": {"labels": {"news": "yes"}}})).await;
    east.delete("Service", "shop", "web-2").await;
    east.gate.open();
    here.wait("Service", "shop", "web-1", |service| service["metadata"]["labels"]["news"] == "yes").await;
    here.wait_gone("Service", "shop", "web-2").await;
    here.wait_gone("ServiceImport", "shop", "web-2").await;
    here.wait_source("east", |row| row["standing"] == "Live").await;
    let unchanged = |all: BTreeMap<(String, String), String>| {
        let is_other = |name: &String| ["web-0", "web-3", "web-4"].iter().any(|other| name.starts_with(other));
        all.into_iter().filter(|((_, name), _)| is_other(name)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(unchanged(versions(&here, "shop")), unchanged(before.clone()));

    // Nor does a restart write what stands.
    let before = versions(&here, "shop");
    controller.stop().await;
    let controller = Controller::run(&here, settings).await;
    serve(&east, "shop", "marker", &["10.1.0.99"]).await;
    here.wait_addresses("shop", "marker", &["10.1.0.99"]).await;
    let mut after = versions(&here, "shop");
    after.retain(|(_, name), _| !name.starts_with("marker"));
    assert_eq!(after, before);
    controller.stop().await;
}

/// A source that comes back without its twelve Services and exports, and a controller that holds their mirrors.
async fn wiped(mass_delete_after: u64) -> (Cluster, Cluster, Controller, Options) {
    let (east, here) = (Cluster::new("east").await, Cluster::new("here").await);
    here.put(json!({"kind": "Namespace", "metadata": {"name": "shop"}})).await;
    for number in 0..12 {
        serve_all(&east, "shop", &format!("web-{number}"), &["10.1.0.1"]).await;
    }
    let mut settings = options(&[&east]);
    settings.limits.grace = Duration::from_secs(300);
    settings.limits.mass_delete_after = Duration::from_secs(mass_delete_after);
    let controller = Controller::run(&here, settings.clone()).await;
    for number in 0..12 {
        here.wait_addresses("shop", &format!("web-{number}"), &["10.1.0.1"]).await;
        here.wait("ServiceImport", "shop", &format!("web-{number}"), |_| true).await;
    }
    here.wait_source("east", |row| row["standing"] == "Live").await;
    east.gate.shut();
    here.wait_source("east", |row| row["standing"] == "Waiting").await;
    for number in 0..12 {
        let name = format!("web-{number}");
        east.delete("ServiceExport", "shop", &name).await;
        east.delete("Service", "shop", &name).await;
        east.delete("EndpointSlice", "shop", &format!("{name}-x")).await;
    }
    east.gate.open();
    (east, here, controller, settings)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_source_is_held_until_a_person_confirms_it() {
    let (east, here, controller, settings) = wiped(600).await;
    let words = |row: &Value| row["problems"].to_string().contains("tombolo.io/confirm-deletion=east");
    here.wait_source("east", |row| row["standing"] == "Held" && words(row)).await;
    for number in 0..12 {
        let name = format!("web-{number}");
        here.wait("Service", "shop", &name, |service| has(service, HELD)).await;
        assert_eq!(here.addresses("shop", &name), ["10.1.0.1"], "endpoints of {name}");
        assert!(here.get("ServiceImport", "shop", &name).is_some(), "import of {name}");
        assert_eq!(here.addresses_by("shop", "multicluster.kubernetes.io/service-name", &name), ["10.1.0.1"]);
    }
    // What is new comes all the same, and a restart lets nothing go.
    serve(&east, "shop", "new", &["10.1.0.7"]).await;
    here.wait_addresses("shop", "new", &["10.1.0.7"]).await;
    controller.kill().await;
    let controller = Controller::run(&here, settings).await;
    serve(&east, "shop", "newer", &["10.1.0.8"]).await;
    here.wait_addresses("shop", "newer", &["10.1.0.8"]).await;
    for number in 0..12 {
        assert_eq!(here.addresses("shop", &format!("web-{number}")), ["10.1.0.1"]);
    }
    let confirmed = json!({"metadata": {"annotations": {CONFIRM: "east"}}});
    here.patch("ConfigMap", OWN, "tombolo-sources", confirmed).await;
    for number in 0..12 {
        here.wait_gone("Service", "shop", &format!("web-{number}")).await;
        here.wait_gone("ServiceImport", "shop", &format!("web-{number}")).await;
    }
    here.wait("ConfigMap", OWN, "tombolo-sources", |map| !has(map, CONFIRM)).await;
    here.wait_source("east", |row| row["standing"] == "Live").await;
    assert!(here.get("Service", "shop", "new").is_some());
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_source_is_let_go_when_its_time_is_over() {
    let (_east, here, controller, _) = wiped(4).await;
    here.wait_source("east", |row| row["standing"] == "Held").await;
    for number in 0..12 {
        here.wait_gone("Service", "shop", &format!("web-{number}")).await;
        here.wait_gone("ServiceImport", "shop", &format!("web-{number}")).await;
    }
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_is_killed_at_any_moment_comes_to_the_same() {
    let (east, here) = (Cluster::new("east").await, Cluster::new("here").await);
    let all: Vec<String> = (0..40).map(|number| format!("web-{number}")).collect();
    for name in &all {
        serve_all(&east, "shop", name, &["10.1.0.1"]).await;
    }
    // It is killed as it has written so many objects, again and again.
    let mut controller = Controller::run(&here, options(&[&east])).await;
    for moment in [1, 3, 7, 20, 45, 80, 120] {
        let written = || (versions(&here, "shop").len() >= moment).then_some(());
        soon(format!("{moment} objects"), written).await;
        controller.kill().await;
        controller = Controller::run(&here, options(&[&east])).await;
    }
    let derived = |here: &Cluster| {
        let services = here.list("Service", "shop");
        services.iter().filter(|s| s["metadata"]["name"].as_str().unwrap().starts_with("derived-")).count()
    };
    let is_whole = |here: &Cluster, count: usize| {
        let is_here = |name: &String| {
            let is_mirrored = here.addresses("shop", name) == ["10.1.0.1"];
            is_mirrored && here.addresses_by("shop", "multicluster.kubernetes.io/service-name", name) == ["10.1.0.1"]
        };
        let counts = ["ServiceImport", "EndpointSlice"].map(|kind| here.list(kind, "shop").len());
        (all[..count].iter().all(is_here) && counts == [count, 2 * count] && derived(here) == count).then_some(())
    };
    soon("all of it, and no more".to_owned(), || is_whole(&here, 40)).await;
    for name in &all[20..] {
        east.delete("ServiceExport", "shop", name).await;
        east.delete("Service", "shop", name).await;
        east.delete("EndpointSlice", "shop", &format!("{name}-x")).await;
    }
    controller.kill().await;
    let controller = Controller::run(&here, options(&[&east])).await;
    soon("half of it, and no more".to_owned(), || is_whole(&here, 20)).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_a_source_out_of_reach_takes_nothing_away() {
    let (east, west, here) = (Cluster::new("east").await, Cluster::new("west").await, Cluster::new("here").await);
    here.put(json!({"kind": "Namespace", "metadata": {"name": "shop"}})).await;
    for name in ["web", "api"] {
        serve_all(&east, "shop", name, &["10.1.0.1"]).await;
    }
    serve(&west, "shop", "other", &["10.2.0.1"]).await;
    let controller = Controller::run(&here, options(&[&east, &west])).await;
    let imported = |import: &Value| import["status"]["conditions"][0]["status"] == "True";
    for name in ["web", "api"] {
        here.wait_addresses("shop", name, &["10.1.0.1"]).await;
        here.wait("ServiceImport", "shop", name, imported).await;
    }
    controller.kill().await;
    // Not even who had which id is known, as if it had been killed before that was written.
    if here.get("ConfigMap", OWN, "tombolo-sources").is_some() {
        here.delete("ConfigMap", OWN, "tombolo-sources").await;
    }
    east.gate.shut();
    let controller = Controller::run(&here, options(&[&east, &west])).await;
    here.wait_addresses("shop", "other", &["10.2.0.1"]).await;
    for name in ["web", "api"] {
        here.wait("Service", "shop", name, |service| has(service, STALE)).await;
        assert_eq!(here.addresses("shop", name), ["10.1.0.1"]);
        let import = here.get("ServiceImport", "shop", name).expect("the import stands");
        assert_eq!(import["status"]["clusters"], json!([{"cluster": "east"}]));
        assert_eq!(here.addresses_by("shop", "multicluster.kubernetes.io/service-name", name), ["10.1.0.1"]);
    }
    east.delete("Service", "shop", "api").await;
    east.gate.open();
    here.wait("Service", "shop", "web", |service| !has(service, STALE)).await;
    here.wait_gone("Service", "shop", "api").await;
    here.wait_gone("ServiceImport", "shop", "api").await;
    here.wait("ServiceImport", "shop", "web", imported).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_in_a_secret_comes_and_goes_with_it() {
    let (east, west, here) = (Cluster::new("east").await, Cluster::new("west").await, Cluster::new("here").await);
    serve(&east, "shop", "web", &["10.1.0.1"]).await;
    serve(&west, "shop", "api", &["10.2.0.1"]).await;
    let controller = Controller::run(&here, options(&[&east])).await;
    here.wait_addresses("shop", "web", &["10.1.0.1"]).await;
    // Its name is anybody's choice.
    let secret = |kubeconfig: &str| {
        json!({
            "kind": "Secret", "metadata": {"namespace": OWN, "name": "any", "labels": {"tombolo.io/source": "west"}},
            "stringData": {"kubeconfig": kubeconfig},
        })
    };
    here.put(secret(&west.kubeconfig())).await;
    here.wait_addresses("shop", "api", &["10.2.0.1"]).await;
    // It can be mended where it is wrong; what it says of files and programs here is not followed.
    let wrong = west.kubeconfig().replace("token:", "tokenFile: /etc/hostname #");
    here.patch("Secret", OWN, "any", json!({"stringData": {"kubeconfig": wrong}})).await;
    here.wait_source("west", |row| row["problems"].to_string().contains("tokenFile")).await;
    assert_eq!(here.addresses("shop", "api"), ["10.2.0.1"]);
    here.patch("Secret", OWN, "any", json!({"stringData": {"kubeconfig": west.kubeconfig()}})).await;
    here.wait_source("west", |row| row["standing"] == "Live").await;
    here.delete("Secret", OWN, "any").await;
    here.wait_gone("Service", "shop", "api").await;
    soon("west is forgotten".to_owned(), || here.source_row("west").is_none().then_some(())).await;
    assert_eq!(here.addresses("shop", "web"), ["10.1.0.1"]);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_no_longer_named_is_withdrawn_and_others_stay() {
    let (east, west, here) = (Cluster::new("east").await, Cluster::new("west").await, Cluster::new("here").await);
    here.put(json!({"kind": "Namespace", "metadata": {"name": "shop"}})).await;
    serve_all(&east, "shop", "web", &["10.1.0.1"]).await;
    serve_all(&west, "shop", "api", &["10.2.0.1"]).await;
    west.put(service("shop", "web", json!({}))).await;
    west.put(export("shop", "web")).await;
    let controller = Controller::run(&here, options(&[&east, &west])).await;
    here.wait("ServiceImport", "shop", "api", |_| true).await;
    let both = |import: &Value| import["status"]["clusters"].as_array().is_some_and(|clusters| clusters.len() == 2);
    here.wait("ServiceImport", "shop", "web", both).await;
    here.wait_addresses("shop", "api", &["10.2.0.1"]).await;
    controller.stop().await;
    // One whose kubeconfig is missing takes nothing from the others, nor does one that was never reached.
    let mut settings = options(&[&east]);
    let nowhere = [Location::File("/nonexistent/kubeconfig".into()), Location::Url("http://127.0.0.1:9".to_owned())];
    let nowhere = nowhere.into_iter().enumerate();
    settings.sources.extend(nowhere.map(|(n, location)| SourceOptions { name: format!("nowhere-{n}"), location }));
    let controller = Controller::run(&here, settings).await;
    here.wait_gone("Service", "shop", "api").await;
    here.wait_source("nowhere-0", |row| row["problems"].to_string().contains("/nonexistent/kubeconfig")).await;
    here.wait_source("nowhere-1", |row| row["problems"].to_string().contains("onnect")).await;
    here.wait_addresses("shop", "web", &["10.1.0.1"]).await;
    controller.stop().await;
}
