//! What SIG Multicluster's conformance suite and KEP-1645 ask for, as far as API objects show it. The table that says
//! which test is for which of theirs is `docs/conformance-mcs.md`.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Cluster, Controller, definitions, id, imports_only, soon};
use crate::objects::{export, serve_all, service, slice};

const NS: &str = "mcs";
const SERVICE: &str = "multicluster.kubernetes.io/service-name";
const CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";

/// Two clusters that read each other, with the namespace in both.
struct Pair {
    one: Cluster,
    two: Cluster,
    controllers: Vec<Controller>,
}

impl Pair {
    async fn new(cidrs: &[&[&str]; 2]) -> Self {
        let one = Cluster::with("one", cidrs[0], &definitions()).await;
        let two = Cluster::with("two", cidrs[1], &definitions()).await;
        for cluster in [&one, &two] {
            cluster.put(json!({"kind": "Namespace", "metadata": {"name": NS}})).await;
        }
        let controllers = vec![
            Controller::run(&one, imports_only(&[&two])).await,
            Controller::run(&two, imports_only(&[&one])).await,
        ];
        Self { one, two, controllers }
    }

    async fn v4() -> Self {
        Self::new(&[&["10.95.0.0/16"], &["10.96.0.0/16"]]).await
    }

    fn both(&self) -> [&Cluster; 2] {
        [&self.one, &self.two]
    }

    /// Exports `first` in the one, and once that stands, and is older by a second, `second` in the other.
    async fn export_both(&self, first: (Value, Value), second: (Value, Value)) {
        deploy(&self.one, first).await;
        let import = self.one.wait("ServiceImport", NS, "hello", |_| true).await;
        let made = self.one.get("ServiceExport", NS, "hello").unwrap();
        let after = made["metadata"]["creationTimestamp"].as_str().unwrap().to_owned();
        // Creation times have no parts of a second.
        let later = soon("a later second".to_owned(), || {
            (k8s_openapi::jiff::Timestamp::now().as_second()
                > after.parse::<k8s_openapi::jiff::Timestamp>().unwrap().as_second())
            .then_some(())
        });
        later.await;
        assert_eq!(import["metadata"]["name"], "hello");
        deploy(&self.two, second).await;
    }

    async fn wait_conflict(&self, reason: &str) {
        for cluster in self.both() {
            cluster.wait_condition((NS, "hello"), "Conflict", ("True", reason)).await;
        }
    }

    #[track_caller]
    fn wait_imports(&self, is_so: impl Fn(&Value) -> bool) -> impl Future<Output = ()> {
        let what = "the import in both clusters".to_owned();
        soon(what, move || {
            let is_in =
                |cluster: &Cluster| cluster.get("ServiceImport", NS, "hello").is_some_and(|import| is_so(&import));
            (is_in(&self.one) && is_in(&self.two)).then_some(())
        })
    }

    async fn wait_none(&self) {
        for cluster in self.both() {
            cluster.wait_gone("ServiceImport", NS, "hello").await;
            soon("no slices".to_owned(), || cluster.addresses_by(NS, SERVICE, "hello").is_empty().then_some(())).await;
            soon("no derived Service".to_owned(), || derived(cluster).is_none().then_some(())).await;
        }
    }

    async fn end(self) {
        for controller in self.controllers {
            controller.stop().await;
        }
    }
}

/// The suite's Service.
fn hello(more: Value) -> Value {
    let ports = json!([{"name": "tcp", "port": 42, "protocol": "TCP"}, {"name": "udp", "port": 42, "protocol": "UDP"}]);
    let affinity = json!({"clientIP": {"timeoutSeconds": 10}});
    let mut spec = json!({"ports": ports, "sessionAffinity": "ClientIP", "sessionAffinityConfig": affinity,
        "ipFamilyPolicy": "PreferDualStack"});
    for (name, value) in more.as_object().unwrap() {
        spec[name] = value.clone();
    }
    let mut hello = service(NS, "hello", spec);
    hello["metadata"]["labels"] = json!({"dummy-svc": "dummy"});
    hello["metadata"]["annotations"] = json!({"dummy-svc": "dummy"});
    hello
}

fn exported(labels: Value, annotations: Value) -> Value {
    let mut export = export(NS, "hello");
    export["spec"] = json!({"exportedLabels": labels, "exportedAnnotations": annotations});
    export
}

async fn deploy(cluster: &Cluster, (service, export): (Value, Value)) {
    let is_external = service["spec"]["type"] == "ExternalName";
    cluster.put(service).await;
    if !is_external {
        let address = if cluster.name == "one" { "10.1.0.1" } else { "10.2.0.1" };
        let mut slice = slice(NS, "hello", &[address]);
        slice["ports"] =
            json!([{"name": "tcp", "port": 42, "protocol": "TCP"}, {"name": "udp", "port": 42, "protocol": "UDP"}]);
        slice["endpoints"][0]["hostname"] = json!("hello-0");
        cluster.put(slice).await;
    }
    cluster.put(export).await;
}

/// The derived Service of `hello`.
fn derived(cluster: &Cluster) -> Option<Arc<Value>> {
    let services = cluster.list("Service", NS);
    services.into_iter().find(|service| service["metadata"]["labels"][SERVICE] == "hello")
}

fn ports(import: &Value) -> Vec<String> {
    let one = |port: &Value| {
        format!("{}:{}/{}", port["name"].as_str().unwrap(), port["port"], port["protocol"].as_str().unwrap())
    };
    let mut ports: Vec<String> = import["spec"]["ports"].as_array().unwrap().iter().map(one).collect();
    ports.sort();
    ports
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_stands_as_long_as_somebody_exports() {
    let pair = Pair::v4().await;
    deploy(&pair.one, (hello(json!({})), export(NS, "hello"))).await;
    pair.wait_imports(|import| import["spec"]["type"] == "ClusterSetIP").await;
    pair.one.wait_condition((NS, "hello"), "Valid", ("True", "Valid")).await;
    pair.one.wait_condition((NS, "hello"), "Ready", ("True", "Ready")).await;
    pair.one.wait_condition((NS, "hello"), "Conflict", ("False", "NoConflicts")).await;
    let uid = pair.two.get("ServiceImport", NS, "hello").unwrap()["metadata"]["uid"].clone();
    deploy(&pair.two, (hello(json!({})), export(NS, "hello"))).await;
    pair.wait_imports(|import| import["status"]["clusters"].as_array().is_some_and(|c| c.len() == 2)).await;
    pair.one.delete("ServiceExport", NS, "hello").await;
    pair.wait_imports(|import| import["status"]["clusters"] == json!([{"cluster": "two"}])).await;
    assert_eq!(pair.two.get("ServiceImport", NS, "hello").unwrap()["metadata"]["uid"], uid, "never gone in between");
    soon("the other one's endpoints".to_owned(), || {
        (pair.one.addresses_by(NS, SERVICE, "hello") == ["10.2.0.1"]).then_some(())
    })
    .await;
    pair.two.delete("ServiceExport", NS, "hello").await;
    pair.wait_none().await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_import_is_as_the_exported_service() {
    let pair = Pair::v4().await;
    let more = json!({"internalTrafficPolicy": "Cluster", "trafficDistribution": "PreferClose"});
    let words = exported(json!({"dummy-label": "true"}), json!({"dummy-annotation": "true"}));
    deploy(&pair.one, (hello(more), words)).await;
    pair.wait_imports(|import| {
        let spec = &import["spec"];
        let metadata = &import["metadata"];
        ports(import) == ["tcp:42/TCP", "udp:42/UDP"]
            && spec["sessionAffinity"] == "ClientIP"
            && spec["sessionAffinityConfig"] == json!({"clientIP": {"timeoutSeconds": 10}})
            && spec["internalTrafficPolicy"] == "Cluster"
            && spec["trafficDistribution"] == "PreferClose"
            && metadata["labels"] == json!({"dummy-label": "true"})
            && metadata["annotations"]["dummy-annotation"] == "true"
            && metadata["annotations"].get("dummy-svc").is_none()
            && spec["ips"].as_array().is_some_and(|ips| ips.len() == 1)
            && import["status"]["conditions"][0]["reason"] == "Ready"
    })
    .await;
    for cluster in pair.both() {
        let (derived, import) = (derived(cluster).unwrap(), cluster.get("ServiceImport", NS, "hello").unwrap());
        assert_eq!(import["spec"]["ips"][0], derived["spec"]["clusterIP"]);
        let annotation = &import["metadata"]["annotations"]["multicluster.kubernetes.io/derived-service"];
        assert_eq!(*annotation, derived["metadata"]["name"]);
    }
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_an_address_for_each_family_in_their_order() {
    let pair = Pair::new(&[&["10.95.0.0/16", "fd95::/108"], &["10.96.0.0/16", "fd96::/108"]]).await;
    for cluster in pair.both() {
        let node = json!({"podCIDR": "10.127.0.0/24", "podCIDRs": ["10.127.0.0/24", "fd7f::/64"]});
        cluster.put(json!({"kind": "Node", "metadata": {"name": "n"}, "spec": node})).await;
    }
    deploy(&pair.one, (hello(json!({"ipFamilies": ["IPv6", "IPv4"]})), export(NS, "hello"))).await;
    pair.wait_imports(|import| {
        let ips = import["spec"]["ips"].as_array().cloned().unwrap_or_default();
        import["spec"]["ipFamilies"] == json!(["IPv6", "IPv4"])
            && ips.len() == 2
            && ips[0].as_str().unwrap().contains(':')
            && ips[1].as_str().unwrap().contains('.')
    })
    .await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_are_united_and_the_oldest_has_the_last_word() {
    let pair = Pair::v4().await;
    let second = json!({"ports": [{"name": "tcp", "port": 42, "protocol": "TCP"}, {"name": "stcp", "port": 142, "protocol": "SCTP"}]});
    let plain = || export(NS, "hello");
    pair.export_both((hello(json!({})), plain()), (hello(second), plain())).await;
    pair.wait_conflict("PortConflict").await;
    pair.wait_imports(|import| ports(import) == ["stcp:142/SCTP", "tcp:42/TCP", "udp:42/UDP"]).await;
    // One name with two numbers: the oldest's.
    let conflicting = json!([{"name": "tcp", "port": 43, "protocol": "TCP"}]);
    pair.two.patch("Service", NS, "hello", json!({"spec": {"ports": conflicting}})).await;
    pair.wait_imports(|import| ports(import) == ["tcp:42/TCP", "udp:42/UDP"]).await;
    pair.wait_conflict("PortConflict").await;
    // Its endpoints are sent nothing that they do not listen for.
    soon("only the one's endpoints".to_owned(), || {
        pair.both().iter().all(|cluster| cluster.addresses_by(NS, SERVICE, "hello") == ["10.1.0.1"]).then_some(())
    })
    .await;
    // The oldest goes, and the other one has the last word.
    pair.one.delete("ServiceExport", NS, "hello").await;
    pair.wait_imports(|import| ports(import) == ["tcp:43/TCP"]).await;
    pair.two.wait_condition((NS, "hello"), "Conflict", ("False", "NoConflicts")).await;
    soon("the other one's endpoints".to_owned(), || {
        pair.both().iter().all(|cluster| cluster.addresses_by(NS, SERVICE, "hello") == ["10.2.0.1"]).then_some(())
    })
    .await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_annotations_and_policies_of_the_oldest_count() {
    let pair = Pair::v4().await;
    let words = |n: u8| {
        exported(json!({(format!("dummy-label{n}")): "true"}), json!({(format!("dummy-annotation{n}")): "true"}))
    };
    let second = json!({"sessionAffinity": "None", "sessionAffinityConfig": null, "internalTrafficPolicy": "Local",
        "trafficDistribution": "PreferClose"});
    pair.export_both((hello(json!({})), words(1)), (hello(second), words(2))).await;
    let reasons = "SessionAffinityConflict,InternalTrafficPolicyConflict,TrafficDistributionConflict,LabelsConflict,\
                   AnnotationsConflict";
    pair.wait_conflict(reasons).await;
    pair.wait_imports(|import| {
        import["metadata"]["labels"] == json!({"dummy-label1": "true"})
            && import["metadata"]["annotations"]["dummy-annotation1"] == "true"
            && import["metadata"]["annotations"].get("dummy-annotation2").is_none()
            && import["spec"]["sessionAffinity"] == "ClientIP"
            && import["spec"]["internalTrafficPolicy"] == "Cluster"
            && import["spec"].get("trafficDistribution").is_none()
            && import["status"]["clusters"] == json!([{"cluster": "one"}, {"cluster": "two"}])
    })
    .await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_headless_service_has_no_address_and_its_pods_have_names() {
    let pair = Pair::v4().await;
    deploy(&pair.one, (hello(json!({"clusterIP": "None"})), export(NS, "hello"))).await;
    pair.wait_imports(|import| {
        import["spec"]["type"] == "Headless" && import["status"]["conditions"][0]["status"] == "True"
    })
    .await;
    for cluster in pair.both() {
        soon("the slice".to_owned(), || (cluster.addresses_by(NS, SERVICE, "hello") == ["10.1.0.1"]).then_some(()))
            .await;
        let import = cluster.get("ServiceImport", NS, "hello").unwrap();
        assert_eq!(import["spec"].get("ips").and_then(Value::as_array).map_or(0, Vec::len), 0);
        assert!(derived(cluster).is_none());
        let slices = cluster.list("EndpointSlice", NS);
        let slice = slices.iter().find(|slice| slice["metadata"]["labels"][SERVICE] == "hello").unwrap();
        assert_eq!(slice["endpoints"][0]["hostname"], "hello-0");
    }
    pair.one.delete("ServiceExport", NS, "hello").await;
    pair.wait_none().await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_external_name_is_not_exported() {
    let pair = Pair::v4().await;
    let external = json!({"type": "ExternalName", "externalName": "example.com", "ports": null, "ipFamilyPolicy": null,
        "sessionAffinity": null, "sessionAffinityConfig": null});
    deploy(&pair.one, (hello(external), export(NS, "hello"))).await;
    pair.one.wait_condition((NS, "hello"), "Valid", ("False", "InvalidServiceType")).await;
    // Another one that is exported later is imported by now, and this one is not.
    serve_all(&pair.one, NS, "marker", &["10.1.0.9"]).await;
    for cluster in pair.both() {
        cluster.wait("ServiceImport", NS, "marker", |_| true).await;
        assert!(cluster.get("ServiceImport", NS, "hello").is_none());
    }
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_headless_and_not_the_oldest_counts() {
    let pair = Pair::v4().await;
    let plain = || export(NS, "hello");
    pair.export_both((hello(json!({})), plain()), (hello(json!({"clusterIP": "None"})), plain())).await;
    pair.wait_conflict("TypeConflict").await;
    pair.wait_imports(|import| import["spec"]["type"] == "ClusterSetIP").await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_carry_the_labels_of_the_api() {
    let pair = Pair::v4().await;
    deploy(&pair.one, (hello(json!({})), export(NS, "hello"))).await;
    for cluster in pair.both() {
        let slice = soon("the slice".to_owned(), || {
            let slices = cluster.list("EndpointSlice", NS);
            slices.into_iter().find(|slice| slice["metadata"]["labels"][SERVICE] == "hello")
        })
        .await;
        let labels = &slice["metadata"]["labels"];
        assert_eq!(
            (&labels[CLUSTER], &labels["endpointslice.kubernetes.io/managed-by"]),
            (&json!("one"), &json!("tombolo"))
        );
        let derived = soon("the derived Service".to_owned(), || derived(cluster)).await;
        assert_eq!(labels["kubernetes.io/service-name"], derived["metadata"]["name"]);
        let ports: Vec<&Value> = slice["ports"].as_array().unwrap().iter().map(|port| &port["name"]).collect();
        assert_eq!(ports, ["tcp", "udp"]);
    }
    pair.one.delete("ServiceExport", NS, "hello").await;
    pair.wait_none().await;
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_cluster_with_the_namespace_imports() {
    let (one, two) = (Cluster::new("one").await, Cluster::new("two").await);
    let controller = Controller::run(&two, imports_only(&[&one])).await;
    serve_all(&one, "later", "web", &["10.1.0.1"]).await;
    two.put(json!({"kind": "Namespace", "metadata": {"name": "now"}})).await;
    serve_all(&one, "now", "web", &["10.1.0.2"]).await;
    two.wait("ServiceImport", "now", "web", |_| true).await;
    assert!(two.get("Namespace", "", "later").is_none(), "none is made for an import");
    two.put(json!({"kind": "Namespace", "metadata": {"name": "later"}})).await;
    two.wait("ServiceImport", "later", "web", |import| import["status"]["conditions"][0]["status"] == "True").await;
    soon("its slice".to_owned(), || (two.addresses_by("later", SERVICE, "web") == ["10.1.0.1"]).then_some(())).await;
    two.delete("Namespace", "", "later").await;
    two.wait_gone("Namespace", "", "later").await;
    assert!(two.get("ServiceImport", "later", "web").is_none());
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_of_our_own_range_are_kept_over_a_restart() {
    let (one, two) = (Cluster::new("one").await, Cluster::new("two").await);
    two.put(json!({"kind": "Namespace", "metadata": {"name": NS}})).await;
    let mut settings = imports_only(&[&one]);
    settings.clusterset_cidrs = vec!["10.200.0.0/24".parse().unwrap()];
    settings.cluster_id = Some(id("b"));
    let controller = Controller::run(&two, settings.clone()).await;
    for name in ["hello", "web"] {
        serve_all(&one, NS, name, &["10.1.0.1"]).await;
        two.wait("ServiceImport", NS, name, |import| {
            let is_ready = import["status"]["conditions"][0]["status"] == "True";
            is_ready && import["spec"]["ips"][0].as_str().is_some_and(|ip| ip.starts_with("10.200.0."))
        })
        .await;
    }
    let version = |name: &str| two.get("ServiceImport", NS, name).unwrap()["metadata"]["resourceVersion"].clone();
    let before = [version("hello"), version("web")];
    let address = |name: &str| two.get("ServiceImport", NS, name).unwrap()["spec"]["ips"].clone();
    assert_ne!(address("hello"), address("web"));
    assert!(derived(&two).is_none());
    controller.stop().await;
    let controller = Controller::run(&two, settings).await;
    serve_all(&one, NS, "marker", &["10.1.0.2"]).await;
    two.wait("ServiceImport", NS, "marker", |import| import["status"]["conditions"][0]["status"] == "True").await;
    assert_eq!([version("hello"), version("web")], before);
    controller.stop().await;
}

/// Definitions as the API had them first: v1alpha1 alone, with fewer fields.
fn old_definitions() -> Vec<Value> {
    let [mut exports, mut imports, properties] = definitions();
    for definition in [&mut exports, &mut imports] {
        let versions = definition["spec"]["versions"].as_array_mut().unwrap();
        versions.retain(|version| version["name"] == "v1alpha1");
        versions[0]["storage"] = json!(true);
        let schema = &mut versions[0]["schema"]["openAPIV3Schema"]["properties"];
        let mut drop = |path: &str, fields: &[&str]| {
            if let Some(properties) = schema.pointer_mut(path).and_then(Value::as_object_mut) {
                fields.iter().for_each(|field| {
                    properties.remove(*field);
                });
            }
        };
        drop(
            "/spec/properties",
            &["ipFamilies", "internalTrafficPolicy", "trafficDistribution", "exportedLabels", "exportedAnnotations"],
        );
        drop("/status/properties", &["endpointSliceObjects"]);
        if definition["spec"]["names"]["kind"] == "ServiceImport" {
            let versions = definition["spec"]["versions"].as_array_mut().unwrap();
            let schema = &mut versions[0]["schema"]["openAPIV3Schema"]["properties"];
            schema["status"]["properties"].as_object_mut().unwrap().remove("conditions");
        }
    }
    vec![exports, imports, properties]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_definitions_are_used_and_nothing_is_written_again_and_again() {
    let one = Cluster::new("one").await;
    let old = Cluster::with("old", &["10.95.0.0/16"], &[]).await;
    old.put(json!({"kind": "Namespace", "metadata": {"name": NS}})).await;
    serve_all(&one, NS, "hello", &["10.1.0.1"]).await;
    one.put(json!({"kind": "Namespace", "metadata": {"name": "more"}})).await;
    let mut settings = imports_only(&[&one]);
    settings.cluster_id = Some(id("old"));
    let controller = Controller::run(&old, settings.clone()).await;
    old.wait_source("one", |row| row["standing"] == "Live").await;
    // They come while it runs.
    let definitions = old_definitions();
    let alpha = |plural: &str| tombolo_apiserver::Gvr::new("multicluster.x-k8s.io", "v1alpha1", plural);
    for mut definition in definitions {
        definition["kind"] = json!("CustomResourceDefinition");
        old.put(definition).await;
    }
    let import = |name: &str| old.server.store().get(&alpha("serviceimports"), NS, name);
    let is_whole = |name: &str| {
        let import = import(name)?;
        (import["spec"]["ips"].as_array()?.len() == 1 && import["status"]["clusters"][0]["cluster"] == "one")
            .then_some(import)
    };
    let first = soon("the import".to_owned(), || is_whole("hello")).await;
    assert!(first["spec"].get("ipFamilies").is_none() && first["status"].get("conditions").is_none());
    // Others are imported meanwhile, and the controller begins anew; the first stays as it was written.
    serve_all(&one, NS, "marker", &["10.1.0.2"]).await;
    soon("a second import".to_owned(), || is_whole("marker")).await;
    controller.stop().await;
    let controller = Controller::run(&old, settings).await;
    for round in 0..3 {
        let name = format!("more-{round}");
        serve_all(&one, NS, &name, &["10.1.0.3"]).await;
        soon("another import".to_owned(), || is_whole(&name)).await;
    }
    assert_eq!(import("hello").unwrap(), first);
    controller.stop().await;
}
