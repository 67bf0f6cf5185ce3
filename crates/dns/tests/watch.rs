//! From an API that changes its mind into the zones.
#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tombolo_dns::server::Shared;
use tombolo_dns::watch::{Domains, follow};
use tombolo_dns::{Catalog, Name, Transport, Zones, answer};

const DEADLINE: Duration = Duration::from_secs(20);
const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NAME_ERROR: u8 = 3;

/// What the API says when ServiceImports of each version are listed.
#[derive(Clone, Default)]
struct Imports {
    v1alpha1: Answer,
    v1beta1: Answer,
}

#[derive(Clone, Default)]
enum Answer {
    #[default]
    Missing,
    Forbidden,
    List(Vec<Value>),
}

fn import(name: &str, ip: &str) -> Value {
    json!({
        "metadata": {"namespace": "ns", "name": name, "uid": name, "resourceVersion": "1"},
        "spec": {"type": "ClusterSetIP", "ips": [ip], "ports": [{"port": 80}]},
    })
}

fn listed(kind: &str, items: &[Value]) -> (StatusCode, Value) {
    let list = json!({"apiVersion": "v1", "kind": format!("{kind}List"), "metadata": {"resourceVersion": "7"}, "items": items});
    (StatusCode::OK, list)
}

fn refused(code: StatusCode, reason: &str) -> (StatusCode, Value) {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": reason, "reason": reason, "code": code.as_u16(),
    });
    (code, status)
}

/// An API with one Service, and with ServiceImports as they are said to be.
fn api(imports: Arc<Mutex<Imports>>) -> Client {
    let service = json!({
        "metadata": {"namespace": "ns", "name": "web", "resourceVersion": "1"}, "spec": {"clusterIP": "10.96.0.1"},
    });
    let respond = move |request: Request<Body>| {
        let (imports, service) = (Arc::clone(&imports), service.clone());
        async move {
            let path = request.uri().path();
            if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                // Nothing ever changes.
                std::future::pending::<()>().await;
            }
            let (code, body) = match path {
                "/api/v1/services" => listed("Service", &[service]),
                "/apis/discovery.k8s.io/v1/endpointslices" => listed("EndpointSlice", &[]),
                path => {
                    let imports = imports.lock().unwrap().clone();
                    let answer = match path {
                        "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports" => imports.v1alpha1,
                        "/apis/multicluster.x-k8s.io/v1beta1/serviceimports" => imports.v1beta1,
                        other => panic!("nobody asked for {other}"),
                    };
                    match answer {
                        Answer::Missing => refused(StatusCode::NOT_FOUND, "NotFound"),
                        Answer::Forbidden => refused(StatusCode::FORBIDDEN, "Forbidden"),
                        Answer::List(items) => listed("ServiceImport", &items),
                    }
                }
            };
            let response = Response::builder().status(code).header("content-type", "application/json");
            Ok::<_, Infallible>(response.body(Body::from(body.to_string().into_bytes())).unwrap())
        }
    };
    Client::new(tower::service_fn(respond), "default")
}

/// Follows an API whose ServiceImports are `imports` at first.
fn start(imports: Imports) -> (Arc<Shared>, Arc<Mutex<Imports>>) {
    let (cluster, clusterset) = ("cluster.local", "clusterset.local");
    let catalog = Catalog::new(cluster).unwrap().with_clusterset(clusterset).unwrap();
    let zones = Zones::cluster(cluster, 1).unwrap().with_clusterset(clusterset, 1).unwrap();
    let shared = Shared::new(zones, None);
    let imports = Arc::new(Mutex::new(imports));
    let domains =
        Domains { cluster: Name::parse(cluster).unwrap(), clusterset: Some(Name::parse(clusterset).unwrap()) };
    tokio::spawn(follow(api(Arc::clone(&imports)), catalog, domains, Arc::clone(&shared)));
    (shared, imports)
}

/// The code of the answer for the address of `name`, and how many addresses it has.
fn told(shared: &Shared, name: &str) -> (u8, u8) {
    let mut packet = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    packet.extend_from_slice(Name::parse(name).unwrap().as_bytes());
    packet.extend_from_slice(&[0, 1, 0, 1]);
    let mut out = Vec::new();
    shared.read(|zones| answer(&packet, zones, Transport::Udp, false, &mut out));
    (out[3] & 0xf, out[7])
}

async fn becomes(shared: &Shared, name: &str, expected: (u8, u8)) {
    let wait = async {
        while told(shared, name) != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if tokio::time::timeout(DEADLINE, wait).await.is_err() {
        panic!("{name}: {:?} after {DEADLINE:?}, not {expected:?}", told(shared, name));
    }
}

#[tokio::test]
async fn the_zone_of_the_cluster_set_fills_when_the_kind_appears() {
    let (shared, imports) = start(Imports::default());
    becomes(&shared, "web.ns.svc.clusterset.local", (NAME_ERROR, 0)).await;
    becomes(&shared, "web.ns.svc.cluster.local", (NO_ERROR, 1)).await;
    becomes(&shared, "1.0.96.10.in-addr.arpa", (NO_ERROR, 0)).await;
    assert!(shared.read(|zones| zones.is_loaded()), "without the kind nothing is missing");

    // One that can't be read keeps nobody from the other.
    let mut strange = import("strange", "10.43.0.2");
    strange["spec"]["type"] = json!("Unheard of");
    imports.lock().unwrap().v1alpha1 = Answer::List(vec![strange, import("web", "10.43.0.1")]);
    becomes(&shared, "web.ns.svc.clusterset.local", (NO_ERROR, 1)).await;
    assert_eq!(told(&shared, "strange.ns.svc.clusterset.local"), (NAME_ERROR, 0));
}

#[tokio::test]
async fn either_version_will_do() {
    let v1beta1 = Answer::List(vec![import("web", "10.43.0.1")]);
    let (shared, _) = start(Imports { v1beta1, ..Imports::default() });
    becomes(&shared, "web.ns.svc.clusterset.local", (NO_ERROR, 1)).await;
}

#[tokio::test]
async fn imports_that_may_not_be_read_keep_nobody_from_the_cluster() {
    let (shared, imports) = start(Imports { v1alpha1: Answer::Forbidden, v1beta1: Answer::Forbidden });
    becomes(&shared, "web.ns.svc.cluster.local", (NO_ERROR, 1)).await;
    becomes(&shared, "1.0.96.10.in-addr.arpa", (NO_ERROR, 0)).await;
    assert_eq!(told(&shared, "web.ns.svc.clusterset.local"), (SERVER_FAILURE, 0));
    let loading = shared.read(|zones| zones.loading().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(loading, ["clusterset.local."]);

    imports.lock().unwrap().v1alpha1 = Answer::List(vec![import("web", "10.43.0.1")]);
    becomes(&shared, "web.ns.svc.clusterset.local", (NO_ERROR, 1)).await;
    assert!(shared.read(|zones| zones.is_loaded()));
}
