//! What an admitted cluster can read, what it can't, and what others hear.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::{Cluster, Kubectl, NAMESPACE, PATIENCE, Serving, ask, client_of, get, kubeconfig, kubectls};
use common::{service, slice, until};
use futures::{StreamExt, TryStreamExt};
use http::Method;
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams, WatchParams};
use kube::runtime::watcher;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tombolo_api::about::ClusterProperty;
use tombolo_api::mcs::{v1alpha1, v1beta1};
use tombolo_emitter::{Authority, EmittedKind, secrets};

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_lists_and_watches_what_is_exported() {
    let tokyo = Serving::new().await;
    let emitter = &tokyo.emitter;
    emitter.set(object::<v1alpha1::ServiceExport>(json!({"metadata": {"namespace": "shop", "name": "web"}})));
    emitter.set(object::<ClusterProperty>(
        json!({"metadata": {"name": "cluster.clusterset.k8s.io"}, "spec": {"value": "tokyo"}}),
    ));
    emitter.set(object::<Namespace>(json!({"metadata": {"name": "shop"}})));
    emitter.set(object::<Endpoints>(json!({
        "metadata": {"namespace": "shop", "name": "web"},
        "subsets": [{
            "addresses": [{"ip": "10.4.0.1", "nodeName": "hidden"}], "ports": [{"name": "http", "port": 8080}],
        }],
    })));
    let kubeconfig = tokyo.joined("paris").await;
    for program in kubectls() {
        let kubectl = Kubectl::new(program, &kubeconfig);
        let table = kubectl.ok("get svc -A").await;
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[1][..6], ["shop", "web", "ClusterIP", "10.96.0.10", "<none>", "80/TCP"], "{table}");
        let whole = kubectl.ok("get svc,endpoints,endpointslices -n shop -o yaml").await;
        for hidden in ["hidden", "selector:", "managedFields", "nodeName"] {
            assert!(!whole.contains(hidden), "{hidden}: {whole}");
        }
        assert!(whole.contains("zone: a"), "{whole}");
        for (what, wanted) in [
            (
                "serviceexports.v1alpha1.multicluster.x-k8s.io -n shop -o jsonpath={.items[0].apiVersion}",
                "multicluster.x-k8s.io/v1alpha1",
            ),
            (
                "serviceexports.v1beta1.multicluster.x-k8s.io -n shop -o jsonpath={.items[0].apiVersion}",
                "multicluster.x-k8s.io/v1beta1",
            ),
            ("clusterproperties -o jsonpath={.items[0].spec.value}", "tokyo"),
            ("ns -o name", "namespace/shop"),
            ("ep -n shop web -o jsonpath={.subsets[0].addresses[0].ip}", "10.4.0.1"),
        ] {
            assert_eq!(kubectl.ok(&format!("get {what}")).await.trim(), wanted, "{what}");
        }
        let mut watching = kubectl.command("get svc -A -w --no-headers").spawn().unwrap();
        let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
        let mut line = async || tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        assert!(line().await.contains("web"));
        emitter.set(service("shop", "later"));
        assert!(line().await.contains("later"));
        emitter.remove(EmittedKind::Service, "shop", "later");
        assert!(line().await.contains("later"));
        watching.kill().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_can_be_written_and_nothing_else_be_read() {
    let tokyo = Serving::new().await;
    let kubeconfig = tokyo.joined("paris").await;
    for program in kubectls() {
        let kubectl = Kubectl::new(program, &kubeconfig);
        for (args, wanted) in [
            ("delete svc web -n shop", "cannot delete resource \"services\""),
            ("delete svc --all -n shop", "cannot delete resource \"services\""),
            ("create service clusterip x --tcp=80 -n shop", "cannot create resource \"services\""),
            ("patch svc web -n shop -p {\"spec\":null}", "cannot patch resource \"services\""),
            ("get --raw /api/v1/secrets", "cannot list resource \"secrets\""),
            ("get --raw /api/v1/namespaces/shop/pods/x", "cannot get resource \"pods\""),
            ("get --raw /metrics", "cannot get path \"/metrics\""),
            ("get secrets", "the server doesn't have a resource type \"secrets\""),
        ] {
            let said = kubectl.fails(args).await;
            assert!(said.contains(wanted), "{args}: {said}");
        }
        let resources = kubectl.ok("api-resources -o name").await;
        let resources: BTreeSet<&str> = resources.lines().collect();
        let expected = [
            "clusterproperties.about.k8s.io",
            "endpoints",
            "endpointslices.discovery.k8s.io",
            "namespaces",
            "serviceexports.multicluster.x-k8s.io",
            "services",
        ];
        assert_eq!(resources, expected.into());
    }
    let client = client_of(&kubeconfig).await;
    let named = "/api/v1/namespaces/shop/services/web";
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS] {
        for path in [named, "/api/v1/services", "/api/v1/namespaces/shop/services/web/status", "/version", "/"] {
            let (status, _, body) = ask(&client, method.clone(), path, b"{}".to_vec()).await;
            assert_eq!(status, 403, "{method} {path}: {body}");
        }
    }
    assert_eq!(get(&client, named).await.0, 200);
    assert_eq!(get(&client, "/version").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_learns_nothing() {
    let (tokyo, lima) = (Serving::new().await, Serving::new().await);
    let authority = secrets::load_or_create(tokyo.cluster.client.clone(), NAMESPACE).await.unwrap();
    let request = |key: &rcgen::KeyPair| rcgen::CertificateParams::default().serialize_request(key).unwrap().pem();
    let key = rcgen::KeyPair::generate().unwrap();
    // One that somebody else's authority gave, one of the same name as ours, and one of ours that is nobody's.
    let elsewhere = secrets::load_or_create(lima.cluster.client.clone(), NAMESPACE).await.unwrap();
    let year = Duration::from_secs(365 * 86400);
    let signed = |authority: &Authority| authority.sign_client(&request(&key).unwrap(), "paris", year).unwrap().0;
    let (foreign, nobody) = (signed(&elsewhere), signed(&authority));
    let own = |certificate: &str| {
        let pair = key.serialize_pem();
        kubeconfig(&tokyo.url(), authority.certificate_pem(), Some((certificate, &pair)))
    };
    tokyo.joined("paris").await;
    let paths =
        ["/", "/api", "/apis", "/api/v1", "/version", "/api/v1/services", "/openapi/v2", "/nothing", "/readyz/x"];
    let (stranger, foreign) = (tokyo.stranger().await, client_of(&own(&foreign)).await);
    let mut answers = BTreeSet::new();
    for client in [&stranger, &foreign] {
        for path in paths {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                answers.insert(ask(client, method, path, Vec::new()).await);
            }
        }
        answers.insert(ask(client, Method::POST, "/tombolo/v1/renew", b"{}".to_vec()).await);
        answers.insert(get(client, "/tombolo/v1/join").await);
        for path in ["/healthz", "/livez", "/readyz"] {
            assert_eq!(get(client, path).await, (200, None, "ok".to_owned()));
        }
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert_eq!(answers.first().unwrap().0, 401);
    let nobody = client_of(&own(&nobody)).await;
    for path in paths {
        assert_eq!(get(&nobody, path).await.0, 403, "{path}");
    }
    // A token of the API server inside it is none here.
    let kubectl = Kubectl::new(kubectls().remove(0), &kubeconfig(&tokyo.url(), authority.certificate_pem(), None));
    let said = kubectl.fails("get svc --token=anything").await;
    assert!(said.contains("logged in") || said.contains("Unauthorized"), "{said}");
    let big = vec![b'x'; 70 << 10];
    assert_eq!(ask(&stranger, Method::POST, "/tombolo/v1/join", big).await.0, 413);
}

#[tokio::test(flavor = "multi_thread")]
async fn until_all_is_known_nothing_is_taken_for_gone() {
    let tokyo = Serving::unready(Cluster::new().await, "127.0.0.1:0").await;
    let kubeconfig = tokyo.joined("paris").await;
    let client = client_of(&kubeconfig).await;
    for path in ["/api/v1/services", "/api/v1/services?watch=1", "/api/v1/namespaces/shop/services/web"] {
        let (status, retry, body) = get(&client, path).await;
        assert_eq!((status, retry.as_deref()), (503, Some("2")), "{path}");
        assert!(body.contains("does not know yet all"), "{body}");
    }
    assert_eq!(get(&client, "/readyz").await.0, 503);
    assert_eq!(get(&client, "/healthz").await.0, 200);
    assert_eq!(get(&client, "/apis").await.0, 200);
    tokyo.emitter.replace(EmittedKind::Service, [service("shop", "web")]);
    tokyo.emitter.set_ready();
    let api: Api<Service> = Api::all(client);
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_a_watcher_lists_again_and_misses_nothing() {
    let tokyo = Serving::new().await;
    let kubeconfig = tokyo.joined("paris").await;
    let client = client_of(&kubeconfig).await;
    let api: Api<Service> = Api::all(client.clone());
    let known = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut events = watcher(api.clone(), watcher::Config::default()).boxed();
    let mut next = async || loop {
        // A watcher says each failure and tries again.
        if let Ok(event) = tokio::time::timeout(PATIENCE, events.next()).await.expect("no event").unwrap() {
            return event;
        }
    };
    assert!(matches!(next().await, watcher::Event::Init));
    assert!(matches!(next().await, watcher::Event::InitApply(_)));
    assert!(matches!(next().await, watcher::Event::InitDone));

    let address = tokyo.emitter.address().to_string();
    tokyo.shutdown.cancel();
    let cluster = Cluster::new().await;
    // The same cluster as before: only its emitter starts again.
    let cluster = Cluster { client: tokyo.cluster.client.clone(), ..cluster };
    let again = Serving::unready(cluster, &address).await;
    again.emitter.replace(EmittedKind::Service, [service("shop", "other")]);
    again.emitter.set_ready();
    let mut seen = Vec::new();
    loop {
        match next().await {
            watcher::Event::Init => seen.clear(),
            watcher::Event::InitApply(service) => seen.extend(service.metadata.name),
            watcher::Event::InitDone => break,
            event => panic!("{event:?}"),
        }
    }
    assert_eq!(seen, ["other"]);
    let now = api.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    assert!(now.parse::<u64>().unwrap() > known.parse::<u64>().unwrap());
    for version in [known, (now.parse::<u64>().unwrap() + 1000).to_string()] {
        let params = WatchParams::default();
        let first: Vec<_> = api.watch(&params, &version).await.unwrap().take(1).try_collect().await.unwrap();
        assert!(matches!(&first[..], [kube::api::WatchEvent::Error(status)] if status.code == 410), "{first:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_watched_and_only_changes_are_events() {
    let tokyo = Serving::new().await;
    let client = client_of(&tokyo.joined("paris").await).await;
    let emitter = &tokyo.emitter;
    let revision = async || {
        let list = Api::<Service>::all(client.clone()).list(&ListParams::default()).await.unwrap();
        list.metadata.resource_version.unwrap()
    };
    let before = revision().await;
    emitter.set(service("shop", "web"));
    emitter.replace(EmittedKind::Service, [service("shop", "web")]);
    emitter.replace(EmittedKind::EndpointSlice, [slice("shop", "web")]);
    assert_eq!(revision().await, before);

    // One that was deleted and made anew in between is another one.
    let mut anew = service("shop", "web");
    anew.metadata.uid = Some("another".into());
    emitter.set(anew);
    let events: Vec<_> = Api::<Service>::all(client.clone())
        .watch(&WatchParams::default(), &before)
        .await
        .unwrap()
        .take(2)
        .try_collect()
        .await
        .unwrap();
    use kube::api::WatchEvent::{Added, Deleted};
    assert!(matches!(&events[..], [Deleted(_), Added(_)]), "{events:?}");

    emitter.set(object::<v1beta1::ServiceExport>(json!({"metadata": {"namespace": "shop", "name": "web"}})));
    let exports: Api<v1alpha1::ServiceExport> = Api::all(client.clone());
    let exports = watcher(exports, watcher::Config::default().streaming_lists());
    let names: Vec<String> = exports
        .try_filter_map(async |event| Ok(matches!(&event, watcher::Event::InitApply(_)).then_some(event)))
        .take(1)
        .map_ok(|event| format!("{event:?}"))
        .try_collect()
        .await
        .unwrap();
    assert!(names[0].contains("\"web\""), "{names:?}");
    let slices: Api<EndpointSlice> = Api::all(client.clone());
    let by_label = ListParams::default().labels("kubernetes.io/service-name=web");
    assert_eq!(slices.list(&by_label).await.unwrap().items.len(), 1);
    emitter.replace(EmittedKind::EndpointSlice, Vec::<EndpointSlice>::new());
    assert!(slices.list(&by_label).await.unwrap().items.is_empty());

    let mut registry = prometheus_client::registry::Registry::default();
    emitter.metrics().register(&mut registry);
    let text = until("the watches are counted down", async || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.contains("tombolo_emitter_watches{cluster=\"paris\"} 0").then_some(text)
    });
    let text = text.await;
    assert!(text.contains("tombolo_emitter_joined_total 1") && text.contains("tombolo_emitter_objects 2"), "{text}");
    assert!(text.contains("tombolo_emitter_admitted 1"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_strangers_take_no_place_of_those_who_are_admitted() {
    use tokio::io::AsyncReadExt;
    let tokyo = Serving::new().await;
    let client = client_of(&tokyo.joined("paris").await).await;
    assert_eq!(get(&client, "/version").await.0, 200);
    let mut strangers = Vec::new();
    // Those that are let in are silent, and so is the server; one too many is closed at once.
    let refused = until("a connection is refused", async || {
        let mut stream = tokio::net::TcpStream::connect(tokyo.emitter.address()).await.unwrap();
        let read = tokio::time::timeout(Duration::from_millis(20), stream.read_u8()).await;
        strangers.push(stream);
        read.ok().map(|read| read.is_err())
    });
    assert!(refused.await);
    assert!(strangers.len() > 100, "{}", strangers.len());
    assert_eq!(get(&client, "/api/v1/services").await.0, 200);
    drop(strangers);
    let other = tokyo.stranger().await;
    until("there is a place again", async || {
        let request = http::Request::get("/healthz").body(kube::client::Body::empty()).unwrap();
        other.send(request).await.ok().filter(|response| response.status() == 200)
    })
    .await;
}
