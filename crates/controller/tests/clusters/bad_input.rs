//! Sources that send what they should not, and people who write it.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tombolo_controller::{Location, SourceOptions};

use crate::harness::{Cluster, Controller, OWN, imports_only, options, soon};
use crate::objects::{export, serve, serve_all, service, slice};

type Answer = UnsyncBoxBody<Bytes, std::io::Error>;
/// What a watch sends; an error cuts the connection.
type Parts = mpsc::UnboundedReceiver<Result<Bytes, std::io::Error>>;

/// What a false API server answers: the text of a list, and of each watch of Services what comes through a channel.
#[derive(Clone)]
struct False {
    list: Arc<dyn Fn(&str) -> String + Send + Sync>,
    watches: Arc<Mutex<Vec<Parts>>>,
}

impl False {
    /// Serves it, and says where.
    async fn serve(self, name: &str) -> SourceOptions {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let this = self.clone();
                let service = hyper::service::service_fn(move |request| {
                    let answer = this.answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(async move {
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        SourceOptions { name: name.to_owned(), location: Location::Url(url) }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Answer> {
        let text = |text: String| Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
        let path = request.uri().path();
        let plural = path.rsplit('/').next().unwrap();
        if path == "/version" {
            let version = json!({"major": "1", "minor": "30", "gitVersion": "v1.30.0", "gitCommit": "", "gitTreeState": "",
                "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
            return Response::new(text(version.to_string()));
        }
        if path.contains("multicluster") || path.contains("about") {
            let status =
                json!({"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404, "message": "no"});
            return Response::builder().status(404).body(text(status.to_string())).unwrap();
        }
        if !request.uri().query().unwrap_or_default().contains("watch=true") {
            return Response::new(text((self.list)(plural)));
        }
        let parts = if plural == "services" { self.watches.lock().unwrap().pop() } else { None };
        // The others are silent.
        let parts = parts.unwrap_or_else(|| {
            let (sender, parts) = mpsc::unbounded_channel();
            tokio::spawn(async move { sender.closed().await });
            parts
        });
        let stream = futures::stream::unfold(parts, |mut parts| async { Some((parts.recv().await?, parts)) });
        let frames = futures::StreamExt::map(stream, |part| part.map(Frame::data));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn list(kind: &str, items: &[Value]) -> String {
    let group = if kind == "EndpointSlice" { "discovery.k8s.io/v1" } else { "v1" };
    json!({"apiVersion": group, "kind": format!("{kind}List"), "metadata": {"resourceVersion": "5"}, "items": items})
        .to_string()
}

fn stored(mut object: Value, version: u32) -> Value {
    object["apiVersion"] = json!("v1");
    object["metadata"]["resourceVersion"] = json!(version.to_string());
    object["metadata"]["uid"] = json!(format!("uid-{}", object["metadata"]["name"]));
    object
}

fn event(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": kind, "object": object})).into()
}

fn whole(services: Vec<Value>) -> False {
    let answer = move |plural: &str| match plural {
        "services" => list("Service", &services),
        _ => list("EndpointSlice", &[]),
    };
    False { list: Arc::new(answer), watches: Arc::default() }
}

fn says(words: &'static [&'static str]) -> impl Fn(&Value) -> bool {
    move |row| {
        let problems = row["problems"].to_string();
        words.iter().all(|word| problems.contains(word))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_said_and_others_go_on() {
    let (east, here) = (Cluster::new("east").await, Cluster::new("here").await);
    serve(&east, "shop", "web", &["10.1.0.1"]).await;
    let no_json = False { list: Arc::new(|_| "<html>hello</html>".to_owned()), watches: Arc::default() };
    let wrong_shape = False { list: Arc::new(|_| json!({"items": {"a": 1}}).to_string()), watches: Arc::default() };
    let huge =
        False { list: Arc::new(|_| format!("{{\"items\": [\"{}\"]}}", "x".repeat(40 << 20))), watches: Arc::default() };
    let one_bad = whole(vec![
        stored(service("bad", "good", json!({})), 1),
        stored(service("bad", "shape", json!({"ports": "http"})), 2),
        stored(service("bad", "port", json!({"ports": [{"port": 80}, {"name": "b", "port": 70_000}]})), 3),
        stored(
            json!({"kind": "Service", "metadata": {"namespace": "Bad Name", "name": "../x"}, "spec": {"ports": [{"port": 80}]}}),
            4,
        ),
    ]);
    let mut settings = options(&[&east]);
    for (source, name) in [(no_json, "html"), (wrong_shape, "shape"), (huge, "huge"), (one_bad, "one-bad")] {
        settings.sources.push(source.serve(name).await);
    }
    let controller = Controller::run(&here, settings).await;
    here.wait_addresses("shop", "web", &["10.1.0.1"]).await;
    here.wait("Service", "bad", "good", |_| true).await;
    let port = here.wait("Service", "bad", "port", |_| true).await;
    assert_eq!(port["spec"]["ports"].as_array().unwrap().len(), 1);
    here.wait_source("one-bad", says(&["bad/shape", "bad/port", "70000"])).await;
    for name in ["html", "shape"] {
        here.wait_source(name, says(&["cannot watch"])).await;
    }
    here.wait_source("huge", says(&["cannot watch", "more than 33554432 bytes"])).await;
    assert!(here.get("Service", "bad", "shape").is_none());
    // Everything goes on.
    serve(&east, "shop", "more", &["10.1.0.2"]).await;
    here.wait_addresses("shop", "more", &["10.1.0.2"]).await;
    here.wait_source("east", |row| row["standing"] == "Live" && row["problems"].is_null()).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_dies_in_an_object_or_sends_one_that_is_too_large_goes_on() {
    let here = Cluster::new("here").await;
    let source = whole(vec![stored(service("shop", "a", json!({})), 1)]);
    let (first, one) = mpsc::unbounded_channel();
    let (second, two) = mpsc::unbounded_channel();
    source.watches.lock().unwrap().extend([two, one]);
    let mut settings = options(&[]);
    settings.sources.push(source.serve("east").await);
    let controller = Controller::run(&here, settings).await;
    here.wait("Service", "shop", "a", |_| true).await;
    first.send(Ok(event("ADDED", &stored(service("shop", "b", json!({})), 6)))).unwrap();
    here.wait("Service", "shop", "b", |_| true).await;
    // Half an object, and then nothing more.
    first.send(Ok(Bytes::from(&b"{\"type\":\"ADDED\",\"object\":{\"metad"[..]))).unwrap();
    first.send(Err(std::io::Error::other("cut"))).unwrap();
    // An object of 10 MiB between others, and one that cannot be read.
    let mut large = stored(service("shop", "b", json!({"externalName": "x"})), 7);
    large["metadata"]["annotations"] = json!({"large": "x".repeat(10 << 20)});
    second.send(Ok(event("MODIFIED", &large))).unwrap();
    second.send(Ok(event("MODIFIED", &stored(service("shop", "a", json!({"ports": 5})), 8)))).unwrap();
    second.send(Ok(event("ADDED", &stored(service("shop", "c", json!({})), 9)))).unwrap();
    here.wait("Service", "shop", "c", |_| true).await;
    here.wait_source("east", says(&["services shop/a of east", "services ?/? of east", "larger than 4 MiB"])).await;
    for name in ["a", "b"] {
        assert_eq!(here.get("Service", "shop", name).unwrap()["spec"]["ports"][0]["port"], 80, "what was known stands");
    }
    // It is good again.
    second
        .send(Ok(event("MODIFIED", &stored(service("shop", "a", json!({"sessionAffinity": "ClientIP"})), 10))))
        .unwrap();
    here.wait("Service", "shop", "a", |service| service["spec"]["sessionAffinity"] == "ClientIP").await;
    here.wait_source("east", |row| !row["problems"].to_string().contains("shop/a")).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_with_one_id_and_one_with_ours() {
    let (east, west) = (Cluster::new("east").await, Cluster::new("west").await);
    let (twin, us, here) = (Cluster::new("twin").await, Cluster::new("us").await, Cluster::new("here").await);
    here.put(json!({"kind": "Namespace", "metadata": {"name": "shop"}})).await;
    serve_all(&east, "shop", "web", &["10.1.0.1"]).await;
    serve_all(&west, "shop", "web", &["10.2.0.1"]).await;
    serve_all(&us, "shop", "web", &["10.4.0.1"]).await;
    serve_all(&twin, "shop", "web", &["10.3.0.1"]).await;
    for (cluster, id) in [(&twin, "east"), (&us, "here")] {
        cluster.patch("ClusterProperty", "", "cluster.clusterset.k8s.io", json!({"spec": {"value": id}})).await;
    }
    let controller = Controller::run(&here, imports_only(&[&east, &west])).await;
    let both = |import: &Value| import["status"]["clusters"] == json!([{"cluster": "east"}, {"cluster": "west"}]);
    here.wait("ServiceImport", "shop", "web", both).await;
    here.wait_source("east", |row| row["cluster"] == "east").await;
    controller.stop().await;
    // The newcomers come first by name and in the settings, and take nothing away all the same.
    let controller = Controller::run(&here, imports_only(&[&twin, &us, &east, &west])).await;
    here.wait_source("twin", says(&["its id east is that of another cluster"])).await;
    here.wait_source("us", says(&["its id here is that of another cluster"])).await;
    here.wait_event(OWN, "tombolo-sources", "SourceRefused", &["twin", "east is the id of source east"]).await;
    serve_all(&east, "shop", "more", &["10.1.0.2"]).await;
    let more = soon("more is imported".to_owned(), || {
        let found = here.addresses_by("shop", "multicluster.kubernetes.io/service-name", "more");
        (found == ["10.1.0.2"]).then_some(())
    });
    more.await;
    assert!(both(&here.get("ServiceImport", "shop", "web").unwrap()));
    let web = here.addresses_by("shop", "multicluster.kubernetes.io/service-name", "web");
    assert_eq!(web, ["10.1.0.1", "10.2.0.1"]);
    // It gets an id of its own.
    twin.patch("ClusterProperty", "", "cluster.clusterset.k8s.io", json!({"spec": {"value": "twin"}})).await;
    here.wait("ServiceImport", "shop", "web", |import| import["status"]["clusters"].as_array().unwrap().len() == 3)
        .await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_without_a_service_and_an_address_that_is_ours() {
    let (east, here) =
        (Cluster::with("east", &["10.95.0.0/16"], &crate::harness::definitions()).await, Cluster::new("here").await);
    let node = json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"]});
    here.put(json!({"kind": "Node", "metadata": {"name": "n"}, "spec": node})).await;
    here.put(export("shop", "nothing")).await;
    serve_all(&east, "shop", "web", &["10.1.0.9", "10.2.0.9"]).await;
    serve(&here, "shop", "api", &["10.1.0.5"]).await;
    here.put(export("shop", "api")).await;
    let controller = Controller::run(&here, options(&[&east])).await;
    here.wait_condition(("shop", "nothing"), "Valid", ("False", "NoService")).await;
    here.wait_condition(("shop", "nothing"), "Ready", ("False", "Pending")).await;
    here.wait_condition(("shop", "api"), "Valid", ("True", "Valid")).await;
    assert!(here.get("ServiceImport", "shop", "nothing").is_none());
    here.wait_addresses("shop", "web", &["10.2.0.9"]).await;
    here.wait_event("shop", "web", "Refused", &["10.1.0.9 is an address of this cluster too", "10.1.0.0/24"]).await;
    // Our own endpoints are no others'.
    soon("api is imported".to_owned(), || {
        let found = here.addresses_by("shop", "multicluster.kubernetes.io/service-name", "api");
        (found == ["10.1.0.5"]).then_some(())
    })
    .await;
    // By way of the ClusterIP it is whole.
    let by_ip = json!({"metadata": {"annotations": {"tombolo.io/mirror-endpoints": "cluster-ip"}}});
    let ip = east.patch("Service", "shop", "web", by_ip).await["spec"]["clusterIP"].as_str().unwrap().to_owned();
    here.wait_addresses("shop", "web", &[&ip]).await;
    here.put(service("shop", "nothing", json!({}))).await;
    here.wait_condition(("shop", "nothing"), "Valid", ("True", "Valid")).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_an_hour_off_changes_who_is_oldest_and_nothing_else() {
    let (east, west) = (Cluster::new("east").await, Cluster::new("west").await);
    let at = |cluster: &Cluster, time: &str, port: u16| {
        // A store takes what it is given, so that the clock of its API server may be any.
        let mut made = service("shop", "web", json!({"clusterIP": "10.96.0.77", "clusterIPs": ["10.96.0.77"]}));
        made["spec"]["ports"][0]["port"] = json!(port);
        for (kind, mut object) in [
            ("Service", made),
            ("EndpointSlice", slice("shop", "web", &["10.9.0.1"])),
            ("ServiceExport", export("shop", "web")),
        ] {
            object["metadata"]["creationTimestamp"] = json!(time);
            object["metadata"]["uid"] = json!(format!("{}-{kind}", cluster.name));
            object["apiVersion"] = json!(match kind {
                "Service" => "v1",
                "EndpointSlice" => "discovery.k8s.io/v1",
                _ => "multicluster.x-k8s.io/v1beta1",
            });
            cluster.server.store().create(&crate::harness::gvr(kind), object).unwrap();
        }
    };
    for cluster in [&east, &west] {
        cluster.put(json!({"kind": "Namespace", "metadata": {"name": "shop"}})).await;
    }
    at(&east, "2026-01-01T12:00:00Z", 80);
    // An hour behind: its export counts as older, everywhere.
    at(&west, "2026-01-01T11:00:00Z", 90);
    let controllers =
        [Controller::run(&east, imports_only(&[&west])).await, Controller::run(&west, imports_only(&[&east])).await];
    for cluster in [&east, &west] {
        let first = |import: &Value| import["spec"]["ports"][0]["port"] == 90;
        cluster.wait("ServiceImport", "shop", "web", first).await;
        cluster.wait_condition(("shop", "web"), "Conflict", ("True", "PortConflict")).await;
        cluster
            .wait_source(if cluster.name == "east" { "west" } else { "east" }, |row| row["standing"] == "Live")
            .await;
    }
    for controller in controllers {
        tokio::time::timeout(Duration::from_secs(20), controller.stop()).await.unwrap();
    }
}
