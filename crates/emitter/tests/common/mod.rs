//! Clusters, emitters and kubectl for the tests, on loopback.

#![allow(dead_code, clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request};
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, DynamicObject, PostParams};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tombolo_apiserver::ApiServer;
use tombolo_emitter::secrets::{self, Invite, KubeAdmissions};
use tombolo_emitter::{Emitter, Invitation, client};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const NAMESPACE: &str = "tombolo-system";

/// A cluster: an API server, with the namespace that is ours.
pub struct Cluster {
    pub server: ApiServer,
    pub client: Client,
    pub kubeconfig: String,
}

/// A cluster with its emitter.
pub struct Serving {
    pub cluster: Cluster,
    pub emitter: Emitter,
    pub admissions: Arc<KubeAdmissions>,
    pub shutdown: CancellationToken,
}

impl Cluster {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = ApiServer::builder().without_controllers().build().unwrap();
        server.serve(listener);
        let kubeconfig = server.kubeconfig(&format!("https://{address}"));
        let client = client_of(&kubeconfig).await;
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        Cluster { server, client, kubeconfig }
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

impl Serving {
    /// With the Service `shop/web` and its endpoints, and ready.
    pub async fn new() -> Self {
        let serving = Serving::unready(Cluster::new().await, "127.0.0.1:0").await;
        serving.emitter.set(service("shop", "web"));
        serving.emitter.set(slice("shop", "web"));
        serving.emitter.set_ready();
        serving
    }

    pub async fn unready(cluster: Cluster, listen: &str) -> Self {
        let shutdown = CancellationToken::new();
        let opened = secrets::open(cluster.client.clone(), NAMESPACE, Vec::new(), shutdown.clone()).await;
        let (identity, admissions) = opened.unwrap();
        // An address that was just let go may not be free at once.
        let listener = until("the address is free", async || TcpListener::bind(listen).await.ok()).await;
        let emitter = Emitter::start(listener, identity, admissions.clone(), shutdown.clone()).await.unwrap();
        Serving { cluster, emitter, admissions, shutdown }
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.emitter.address())
    }

    pub async fn invite(&self, cluster: &str, life: Duration) -> Invitation {
        let wanted = Invite { cluster: cluster.into(), life, urls: vec![self.url()], from: Some("tokyo".into()) };
        secrets::invite(self.cluster.client.clone(), NAMESPACE, wanted).await.unwrap()
    }

    /// The kubeconfig of a cluster that was invited and joined.
    pub async fn joined(&self, cluster: &str) -> String {
        let invitation = self.invite(cluster, Duration::from_secs(600)).await;
        client::join(&invitation).await.unwrap().kubeconfig
    }

    /// A client that shows no certificate.
    pub async fn stranger(&self) -> Client {
        let (authority, _) = secrets::load_or_create(self.cluster.client.clone(), NAMESPACE).await.unwrap().to_pem();
        client_of(&kubeconfig(&self.url(), &authority, None)).await
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A kubeconfig by hand: the server's CA, and a certificate with its key, all in PEM.
pub fn kubeconfig(url: &str, authority: &str, certificate: Option<(&str, &str)>) -> String {
    use base64::Engine;
    let encode = |pem: &str| base64::engine::general_purpose::STANDARD.encode(pem);
    let user = match certificate {
        Some((pem, key)) => json!({"client-certificate-data": encode(pem), "client-key-data": encode(key)}),
        None => json!({}),
    };
    let cluster = json!({"server": url, "certificate-authority-data": encode(authority)});
    let whole = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    whole.to_string()
}

pub async fn client_of(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    // A failure is what a test looks at.
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

/// Status, the header `Retry-After` and body of a request's answer.
pub async fn ask(client: &Client, method: Method, path: &str, body: Vec<u8>) -> (u16, Option<String>, String) {
    use http_body_util::BodyExt;
    let request = Request::builder().method(method).uri(path).body(Body::from(body)).unwrap();
    let response = tokio::time::timeout(PATIENCE, client.send(request)).await.unwrap().unwrap();
    let retry = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, retry, String::from_utf8(body.to_vec()).unwrap())
}

pub async fn get(client: &Client, path: &str) -> (u16, Option<String>, String) {
    ask(client, Method::GET, path, Vec::new()).await
}

pub fn service(namespace: &str, name: &str) -> Service {
    let object = json!({
        "metadata": {
            "namespace": namespace, "name": name, "uid": format!("uid-{name}"), "labels": {"app": name},
            "managedFields": [{"manager": "kubectl", "operation": "Update", "apiVersion": "v1"}],
        },
        "spec": {
            "type": "ClusterIP", "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10"], "selector": {"secret": "x"},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
    });
    serde_json::from_value(object).unwrap()
}

pub fn slice(namespace: &str, name: &str) -> EndpointSlice {
    let object: Value = json!({
        "metadata": {
            "namespace": namespace, "name": format!("{name}-1"), "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.4.0.1"], "conditions": {"ready": true}, "nodeName": "hidden", "zone": "a"}],
    });
    serde_json::from_value(object).unwrap()
}

/// Waits until there is something.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every kubectl there is: that of `$PATH`, and `$TOMBOLO_KUBECTL_OLD`.
pub fn kubectls() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap();
    let first = std::env::split_paths(&path).map(|folder| folder.join("kubectl")).find(|file| file.is_file());
    let mut found = vec![first.expect("kubectl is not in $PATH; install Debian's kubernetes-client")];
    found.extend(std::env::var_os("TOMBOLO_KUBECTL_OLD").map(PathBuf::from));
    found
}

/// One kubectl with one kubeconfig.
pub struct Kubectl {
    program: PathBuf,
    home: tempfile::TempDir,
}

impl Kubectl {
    pub fn new(program: PathBuf, kubeconfig: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("config"), kubeconfig).unwrap();
        Kubectl { program, home }
    }

    pub fn command(&self, args: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(args.split_whitespace())
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// What it printed, on both, and whether it succeeded.
    pub async fn run(&self, args: &str) -> (bool, String) {
        let done = tokio::time::timeout(PATIENCE, self.command(args).output()).await;
        let output = done.unwrap_or_else(|_| panic!("kubectl {args} does not end")).unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    pub async fn ok(&self, args: &str) -> String {
        let (ok, text) = self.run(args).await;
        assert!(ok, "kubectl {args}: {text}");
        text
    }

    pub async fn fails(&self, args: &str) -> String {
        let (ok, text) = self.run(args).await;
        assert!(!ok, "kubectl {args} should fail, and said {text}");
        text
    }
}

/// The names of a list.
pub fn names(list: &kube::core::ObjectList<DynamicObject>) -> Vec<String> {
    list.items.iter().filter_map(|item| item.metadata.name.clone()).collect()
}
