//! The API server as programs see it: kube-rs clients and informers, and plain HTTP.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service};
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, PropagationPolicy, WatchEvent,
    WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tombolo_apiserver::{ApiServer, Builder, Gvr};

const PATIENCE: Duration = Duration::from_secs(20);

struct Served {
    server: ApiServer,
    client: Client,
}

async fn serve(builder: Builder) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = builder.service_cidrs(["10.96.0.0/24".parse().unwrap()]).advertise(address).build().unwrap();
    server.serve(listener);
    let kubeconfig = Kubeconfig::from_yaml(&server.kubeconfig(&format!("https://{address}"))).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Served { client: Client::try_from(config).unwrap(), server }
}

fn config_map(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"key": value}})).unwrap()
}

/// What a failure says: code and reason.
fn failure<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.reason.clone()),
        other => panic!("{other:?}"),
    }
}

async fn next<T, E: std::fmt::Debug>(stream: &mut (impl futures::Stream<Item = Result<T, E>> + Unpin)) -> T {
    tokio::time::timeout(PATIENCE, stream.next()).await.unwrap().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_sees_what_enters_and_leaves_its_selection() {
    let served = serve(ApiServer::builder().without_controllers()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(served.client.clone());
    let start = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    api.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    for (turn, value) in ["yes", "yes", "no", "yes"].into_iter().enumerate() {
        let patch = json!({"metadata": {"labels": {"in": value}}, "data": {"turn": turn.to_string()}});
        api.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }
    api.delete("a", &DeleteParams::default()).await.unwrap();

    let watched = api.watch(&WatchParams::default().labels("in=yes"), &start).await.unwrap();
    let events: Vec<&str> = watched
        .take(5)
        .map_ok(|event| match event {
            WatchEvent::Added(_) => "ADDED",
            WatchEvent::Modified(_) => "MODIFIED",
            WatchEvent::Deleted(_) => "DELETED",
            WatchEvent::Bookmark(_) => "BOOKMARK",
            WatchEvent::Error(_) => "ERROR",
        })
        .try_collect()
        .await
        .unwrap();
    assert_eq!(events, ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]);
    served.server.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_list_ends_with_a_bookmark() {
    let served = serve(ApiServer::builder().without_controllers()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(served.client.clone());
    api.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let mut events = Box::pin(api.watch(&WatchParams::default().initial_events(), "0").await.unwrap());
    assert!(matches!(next(&mut events).await, WatchEvent::Added(_)));
    let WatchEvent::Bookmark(mark) = next(&mut events).await else { panic!("no bookmark") };
    assert_eq!(mark.metadata.annotations["k8s.io/initial-events-end"], "true");
    api.create(&PostParams::default(), &config_map("b", "1")).await.unwrap();
    let WatchEvent::Added(added) = next(&mut events).await else { panic!("no event") };
    assert_eq!(added.metadata.name.as_deref(), Some("b"));
    served.server.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_of_one_moment() {
    let served = serve(ApiServer::builder().without_controllers()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(served.client.clone());
    for i in 0..10 {
        api.create(&PostParams::default(), &config_map(&format!("c{i}"), "1")).await.unwrap();
    }
    let first = api.list(&ListParams::default().limit(4)).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(6));
    api.delete("c5", &DeleteParams::default()).await.unwrap();
    api.create(&PostParams::default(), &config_map("c55", "1")).await.unwrap();
    let mut names: Vec<String> = first.items.into_iter().filter_map(|o| o.metadata.name).collect();
    let mut token = first.metadata.continue_;
    while let Some(next) = token {
        let page = api.list(&ListParams::default().limit(4).continue_token(&next)).await.unwrap();
        names.extend(page.items.into_iter().filter_map(|o| o.metadata.name));
        token = page.metadata.continue_.filter(|t| !t.is_empty());
    }
    assert_eq!(names, (0..10).map(|i| format!("c{i}")).collect::<Vec<_>>());
    served.server.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_applies_owns_and_others_conflict() {
    let served = serve(ApiServer::builder().without_controllers()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(served.client.clone());
    let with = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"key": value}});
    let made = api.patch("a", &PatchParams::apply("one"), &Patch::Apply(with("1"))).await.unwrap();
    let again = api.patch("a", &PatchParams::apply("one"), &Patch::Apply(with("1"))).await.unwrap();
    assert_eq!(made.metadata.resource_version, again.metadata.resource_version, "nothing changed, nothing written");
    let other = api.patch("a", &PatchParams::apply("two"), &Patch::Apply(with("2"))).await;
    assert_eq!(failure(other), (409, "Conflict".into()));
    let forced = api.patch("a", &PatchParams::apply("two").force(), &Patch::Apply(with("2"))).await.unwrap();
    assert_eq!(forced.data.unwrap()["key"], "2");
    let stale = ConfigMap { metadata: made.metadata, ..config_map("a", "3") };
    assert_eq!(failure(api.replace("a", &PostParams::default(), &stale).await), (409, "Conflict".into()));
    served.server.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizers_hold_and_owners_take_along() {
    let served = serve(ApiServer::builder()).await;
    let api: Api<ConfigMap> = Api::default_namespaced(served.client.clone());
    let mut owner = config_map("owner", "1");
    owner.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    let owner = api.create(&PostParams::default(), &owner).await.unwrap();
    let mut child = config_map("child", "1");
    child.metadata.owner_references = Some(vec![
        serde_json::from_value(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}),
        )
        .unwrap(),
    ]);
    api.create(&PostParams::default(), &child).await.unwrap();
    api.delete("owner", &DeleteParams::default()).await.unwrap();
    assert!(api.get("owner").await.unwrap().metadata.deletion_timestamp.is_some());

    let start = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let release = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("owner", &PatchParams::default(), &release).await.unwrap();
    let mut events = Box::pin(api.watch(&WatchParams::default().fields("metadata.name=child"), &start).await.unwrap());
    assert!(matches!(next(&mut events).await, WatchEvent::Deleted(_)));
    assert_eq!(failure(api.get("owner").await).0, 404);

    let wrong = DeleteParams { propagation_policy: Some(PropagationPolicy::Background), ..DeleteParams::default() };
    assert_eq!(failure(api.delete("owner", &wrong).await), (404, "NotFound".into()));
    served.server.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let served = serve(ApiServer::builder().data_dir(folder.path())).await;
    let api: Api<ConfigMap> = Api::default_namespaced(served.client.clone());
    let made = api.create(&PostParams::default(), &config_map("a", "1")).await.unwrap();
    let (ca, token) = (served.server.ca_pem(), served.server.token().to_owned());
    let services: Api<Service> = Api::default_namespaced(served.client.clone());
    let service =
        serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}})).unwrap();
    let service = services.create(&PostParams::default(), &service).await.unwrap();
    let address = service.spec.unwrap().cluster_ip.unwrap();
    let store = served.server.store().clone();
    drop(served);
    // The store is let go when the last connection has ended.
    let closed = async {
        while store_users(folder.path()) {
            tokio::task::yield_now().await;
        }
    };
    drop(store);
    tokio::time::timeout(PATIENCE, closed).await.unwrap();

    let served = serve(ApiServer::builder().data_dir(folder.path())).await;
    assert_eq!((served.server.ca_pem(), served.server.token().to_owned()), (ca, token));
    let api: Api<ConfigMap> = Api::default_namespaced(served.client.clone());
    assert_eq!(api.get("a").await.unwrap().metadata, made.metadata);
    let services: Api<Service> = Api::default_namespaced(served.client.clone());
    let twin: Service = serde_json::from_value(
        json!({"metadata": {"name": "t"}, "spec": {"clusterIP": address, "ports": [{"port": 80}]}}),
    )
    .unwrap();
    assert_eq!(failure(services.create(&PostParams::default(), &twin).await).0, 422);
    served.server.shutdown();
}

/// Whether a server still holds the folder.
fn store_users(folder: &std::path::Path) -> bool {
    tombolo_apiserver::Store::open(&folder.join("store")).is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_what_and_why() {
    let served = serve(ApiServer::builder().without_controllers()).await;
    let client = served.client.clone();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "nowhere");
    let lost = api.create(&PostParams::default(), &config_map("a", "1")).await;
    assert_eq!(failure(lost), (404, "NotFound".into()));
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    assert_eq!(failure(api.list(&ListParams::default().labels("a in (")).await), (400, "BadRequest".into()));
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let refused = namespaces.delete("default", &DeleteParams::default()).await;
    assert_eq!(failure(refused.map(|_| ())), (403, "Forbidden".into()));

    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let secret = serde_json::from_value(json!({"metadata": {"name": "s"}, "stringData": {"a": "b"}})).unwrap();
    let secret = secrets.create(&PostParams { dry_run: true, field_manager: None }, &secret).await.unwrap();
    assert_eq!(secret.data.unwrap()["a"].0, b"b");
    assert_eq!(failure(secrets.get("s").await).0, 404, "a dry run stores nothing");
    served.server.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_the_same_in_both_of_its_groups() {
    let served = serve(ApiServer::builder().without_controllers()).await;
    let event = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
        "regarding": {"kind": "Node", "name": "n"}, "note": "hello", "reason": "Seen", "type": "Normal",
        "eventTime": "2026-11-21T01:00:00.000000Z", "action": "See", "reportingController": "c", "reportingInstance": "i",
    });
    let kind = kube::api::ApiResource::erase::<k8s_openapi::api::events::v1::Event>(&());
    let events: Api<DynamicObject> = Api::default_namespaced_with(served.client.clone(), &kind);
    let event: DynamicObject = serde_json::from_value(event).unwrap();
    events.create(&PostParams::default(), &event).await.unwrap();
    let stored = served.server.store().get(&Gvr::new("", "v1", "events"), "default", "e").unwrap();
    assert_eq!((&stored["message"], &stored["involvedObject"]["name"]), (&Value::from("hello"), &Value::from("n")));
    assert_eq!(events.get("e").await.unwrap().data["note"], "hello");
    served.server.shutdown();
}
