//! The roles of `deploy/`: the controller runs with them alone, everything that it does at least once is done, and
//! each right is used.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::api::{Api, ListParams};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tombolo_api::tombolo::CONFIRM_DELETION;
use tombolo_apiserver::{Attributes, Authorizer, Status};
use tombolo_controller::{EmitOptions, Location, Options, SourceOptions};
use tombolo_emitter::client::join;
use tombolo_emitter::secrets::{self, Invite};

use crate::harness::{Cluster, Controller, OWN, client, options, soon};
use crate::objects::{export, serve, serve_all, service};

/// Rights that this test does not come to use, and why they are needed.
const UNUSED: [(&str, &str, &str); 6] = [
    // A certificate that is renewed, after months.
    ("", "secrets", "patch"),
    // An authority that is annotated by two at once.
    ("", "secrets", "update"),
    // A further Event of the same sort changes the first one.
    ("events.k8s.io", "events", "patch"),
    // An apply that makes the object: a kube-apiserver asks for this right then, ours for `patch` alone.
    ("", "configmaps", "create"),
    // A Namespace that somebody made in the same moment.
    ("", "namespaces", "get"),
    // Ours does not serve them: the controller lists them in vain.
    ("networking.k8s.io", "servicecidrs", "watch"),
];

/// A right: API group, resource (`services`, `serviceimports/status`) and verb; in one namespace or in all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    group: String,
    resource: String,
    verb: String,
    namespace: Option<String>,
}

/// The rules, with which were used and what they did not allow.
struct Rules {
    rights: BTreeSet<Right>,
    used: Mutex<BTreeSet<Right>>,
    refused: Mutex<BTreeSet<String>>,
}

impl Rules {
    /// The rules of all (Cluster)Roles of this name in files of `deploy/base`.
    fn of(name: &str, files: &[&str]) -> Self {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/base");
        let mut rights = BTreeSet::new();
        for file in files {
            let text = std::fs::read_to_string(base.join(file)).unwrap();
            for document in serde_yaml_ng::Deserializer::from_str(&text) {
                let object = Value::deserialize(document).unwrap();
                let kind = object["kind"].as_str().unwrap();
                let is_ours = object["metadata"]["name"].as_str().unwrap().starts_with(name);
                if !is_ours || !["ClusterRole", "Role"].contains(&kind) {
                    continue;
                }
                let namespace = (kind == "Role").then(|| object["metadata"]["namespace"].as_str().unwrap().to_owned());
                rights.extend(object["rules"].as_array().unwrap().iter().flat_map(|rule| each(rule, &namespace)));
            }
        }
        assert!(!rights.is_empty(), "no role {name} in {files:?}");
        Self { rights, used: Mutex::default(), refused: Mutex::default() }
    }

    fn refused(&self) -> BTreeSet<String> {
        self.refused.lock().unwrap().clone()
    }

    /// The rights that were not used. One in a single namespace that is also had in all is not one of its own.
    fn unused(&self) -> BTreeSet<Right> {
        self.rights.difference(&self.used.lock().unwrap()).cloned().collect()
    }
}

fn each(rule: &Value, namespace: &Option<String>) -> Vec<Right> {
    let list = |name: &str| -> Vec<String> {
        rule[name].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = Vec::new();
    for group in list("apiGroups") {
        for resource in list("resources") {
            rights.extend(list("verbs").into_iter().map(|verb| Right {
                group: group.clone(),
                resource: resource.clone(),
                verb,
                namespace: namespace.clone(),
            }));
        }
    }
    rights
}

impl Authorizer for Rules {
    fn authorize(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        // Discovery and the version are for everybody who is known.
        let Some(asked) = &attributes.resource else { return Ok(()) };
        let below = if asked.subresource.is_empty() { String::new() } else { format!("/{}", asked.subresource) };
        let right = |namespace: Option<&str>| Right {
            group: asked.group.to_owned(),
            resource: format!("{}{below}", asked.resource),
            verb: attributes.verb.to_owned(),
            namespace: namespace.map(str::to_owned),
        };
        // The narrow ones first, so that the wide ones are known to be needed.
        let given = [right(Some(asked.namespace)), right(None)].into_iter().find(|right| self.rights.contains(right));
        match given {
            Some(right) => {
                self.used.lock().unwrap().insert(right);
                Ok(())
            }
            None => {
                self.refused.lock().unwrap().insert(format!(
                    "{:?} of {:?}",
                    attributes.verb,
                    right(Some(asked.namespace))
                ));
                Err(attributes.forbidden(""))
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_roles_of_deploy_are_enough_and_nothing_in_them_is_unused() {
    let (east, here) = (Cluster::new("east").await, Cluster::new("here").await);
    let rules = Arc::new(Rules::of("tombolo-", &["controller/rbac.yaml", "controller/emitter-rbac.yaml"]));
    let source_rules = Arc::new(Rules::of("tombolo-source", &["controller/source-rbac.yaml"]));
    let (_guard, kubeconfig) = here.guarded(rules.clone()).await;
    let (_source_guard, source) = east.guarded(source_rules.clone()).await;
    let emit = free_address().await;
    let settings = Options {
        sources: vec![SourceOptions { name: "east".into(), location: Location::Text(source) }],
        legacy_endpoints: true,
        identity: Some("test".into()),
        emit: Some(EmitOptions { listen: emit, urls: vec![format!("https://{emit}")] }),
        ..options(&[])
    };
    here.put(json!({"kind": "Node", "metadata": {"name": "n1"}, "spec": {"podCIDR": "10.244.0.0/24"}})).await;

    // Mirrors come and change; one finds its name taken; a Namespace is made.
    here.put(service("taken", "web", json!({}))).await;
    serve(&east, "taken", "web", &["10.1.0.9"]).await;
    serve_all(&east, "shop", "web", &["10.1.0.1"]).await;
    serve(&east, "lived", "web", &["10.1.0.2"]).await;
    let controller = Controller::run_as(client(&kubeconfig).await, settings);
    here.wait_addresses("shop", "web", &["10.1.0.1"]).await;
    here.wait("Endpoints", "shop", "web", |_| true).await;
    here.wait_event("taken", "web", "MirrorConflict", &[]).await;
    let endpoints = json!([{"addresses": ["10.1.0.3"], "conditions": {"ready": true}}]);
    east.patch("EndpointSlice", "shop", "web-x", json!({"endpoints": endpoints})).await;
    here.wait_addresses("shop", "web", &["10.1.0.3"]).await;
    let ports = json!([{"name": "http", "port": 81, "targetPort": 8080}]);
    east.patch("Service", "shop", "web", json!({"spec": {"ports": ports}})).await;
    here.wait("Service", "shop", "web", |service| service["spec"]["ports"][0]["port"] == 81).await;

    // Imports come, change and go; an export of this cluster gets its conditions.
    here.wait("ServiceImport", "shop", "web", |import| import["status"]["clusters"][0]["cluster"] == "east").await;
    serve_all(&here, "own", "api", &["10.244.0.5"]).await;
    here.wait_condition(("own", "api"), "Valid", ("True", "Valid")).await;
    east.patch("Service", "shop", "web", json!({"spec": {"sessionAffinity": "ClientIP"}})).await;
    here.wait("ServiceImport", "shop", "web", |import| import["spec"]["sessionAffinity"] == "ClientIP").await;
    here.put(export("own", "nothing")).await;
    here.wait_condition(("own", "nothing"), "Valid", ("False", "NoService")).await;

    // The emitter admits one, and refuses one.
    let wanted = Invite {
        cluster: "west".into(),
        life: Duration::from_secs(600),
        urls: vec![format!("https://{emit}")],
        from: None,
    };
    let invitation = secrets::invite(here.client.clone(), OWN, wanted).await.unwrap();
    let joined = join(&invitation).await.unwrap();
    let offered: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(client(&joined.kubeconfig).await, "own");
    let names = |list: kube::core::ObjectList<k8s_openapi::api::core::v1::Service>| -> Vec<String> {
        list.items.into_iter().filter_map(|service| service.metadata.name).collect()
    };
    assert_eq!(offered.list(&ListParams::default()).await.map(names).unwrap(), ["api"]);
    assert!(join(&invitation).await.is_err(), "a token is good once");
    soon("an Event of the refusal".into(), || {
        rules.used.lock().unwrap().iter().find(|r| r.group == "events.k8s.io").cloned()
    })
    .await;

    // Everything goes: the Namespace that is empty is deleted, the one in which somebody lives is not.
    here.put(json!({"kind": "ConfigMap", "metadata": {"namespace": "lived", "name": "notes"}})).await;
    let map = json!({"metadata": {"annotations": {CONFIRM_DELETION: "east"}}});
    here.patch("ConfigMap", OWN, "tombolo-sources", map).await;
    east.delete("ServiceExport", "shop", "web").await;
    for namespace in ["shop", "lived"] {
        east.delete("Service", namespace, "web").await;
        here.wait_gone("Service", namespace, "web").await;
    }
    here.wait_gone("ServiceImport", "shop", "web").await;
    here.wait_gone("Namespace", "", "shop").await;
    here.wait("Namespace", "", "lived", |namespace| {
        namespace["metadata"]["annotations"].get("tombolo.io/made-for-mirrors").is_none()
    })
    .await;
    controller.stop().await;

    assert_eq!(rules.refused(), BTreeSet::new(), "these rights are missing in deploy/base/controller");
    assert_eq!(source_rules.refused(), BTreeSet::new(), "these rights are missing in source-rbac.yaml");
    assert_eq!(source_rules.unused(), BTreeSet::new());
    let is_known = |right: &Right| UNUSED.contains(&(&*right.group, &*right.resource, &*right.verb));
    let unused: BTreeSet<Right> = rules.unused().into_iter().filter(|right| !is_known(right)).collect();
    assert_eq!(unused, BTreeSet::new(), "nobody needs these rights");
}

/// An address that nothing listens on.
async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}
