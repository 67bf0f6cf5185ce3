//! `tombolo invite` and `tombolo accept`, as they are typed.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;
use tombolo_apiserver::ApiServer;
use tombolo_emitter::{Emitter, secrets};

const PATIENCE: Duration = Duration::from_secs(30);
const NAMESPACE: &str = "tombolo-system";

struct Cluster {
    server: ApiServer,
    client: Client,
    kubeconfig: PathBuf,
}

impl Cluster {
    async fn new(home: &Path, name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = ApiServer::builder().without_controllers().build().unwrap();
        server.serve(listener);
        let text = server.kubeconfig(&format!("https://{address}"));
        let kubeconfig = home.join(name);
        std::fs::write(&kubeconfig, &text).unwrap();
        let client = client(&text).await;
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        Cluster { server, client, kubeconfig }
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Runs `tombolo` with this cluster's kubeconfig; gives whether it succeeded and what it printed on each.
    async fn tombolo(&self, args: &[&str], stdin: &str) -> (bool, String, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tombolo"))
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).await.unwrap();
        let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.unwrap().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    async fn ok(&self, args: &[&str], stdin: &str) -> (String, String) {
        let (ok, out, err) = self.tombolo(args, stdin).await;
        assert!(ok, "tombolo {args:?}: {out}{err}");
        (out, err)
    }

    async fn fails(&self, args: &[&str]) -> String {
        let (ok, out, err) = self.tombolo(args, "").await;
        assert!(!ok, "tombolo {args:?} should fail, and said {out}");
        err
    }
}

async fn client(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_invites_and_another_accepts() {
    let home = tempfile::tempdir().unwrap();
    let tokyo = Cluster::new(home.path(), "tokyo").await;
    let paris = Cluster::new(home.path(), "paris").await;
    let stop = CancellationToken::new();
    let opened = secrets::open(tokyo.client.clone(), NAMESPACE, Vec::new(), stop.clone()).await;
    let (identity, admissions) = opened.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let emitter = Emitter::start(listener, identity, admissions, stop.clone()).await.unwrap();
    emitter.set_ready();
    let address = emitter.address().to_string();

    let unknown = tokyo.fails(&["invite", "paris"]).await;
    assert!(unknown.contains("give --emitter"), "{unknown}");
    let bad = tokyo.fails(&["invite", "Paris!", "--emitter", &address]).await;
    assert!(bad.contains("a-z"), "{bad}");

    // Standard output has the token and nothing else; the rest is for people.
    let (token, words) = tokyo.ok(&["invite", "paris", "--emitter", &address], "").await;
    assert_eq!(token.lines().count(), 1, "{token}");
    assert!(words.contains("tombolo accept --name NAME-OF-THIS-CLUSTER TOKEN"), "{words}");
    // What is wrong here costs no token.
    for (args, wanted) in [
        (&["accept", token.trim()][..], "--name"),
        (&["accept", "--name", "Tokyo", token.trim()], "can't be the name of a source"),
        (&["accept", "--name", "tokyo", "--namespace", "nowhere", token.trim()], "nowhere"),
        (&["accept", "--write-kubeconfig", "/nowhere/x", token.trim()], "can't be written"),
        (&["accept", "--name", "tokyo", &token[..60]], "no invitation"),
    ] {
        let said = paris.fails(args).await;
        assert!(said.contains(wanted), "{args:?}: {said}");
    }
    let (said, _) = paris.ok(&["accept", "--name", "tokyo", "-"], &token).await;
    assert!(said.contains("tokyo admits this cluster as paris"), "{said}");
    assert!(said.contains("tombolo-system/tombolo-source-tokyo"), "{said}");
    let secret = paris.secrets().get("tombolo-source-tokyo").await.unwrap();
    let kept = String::from_utf8(secret.data.unwrap()["kubeconfig"].0.clone()).unwrap();
    let services: Api<k8s_openapi::api::core::v1::Service> = Api::all(client(&kept).await);
    assert!(services.list(&ListParams::default()).await.unwrap().items.is_empty());
    let again = paris.fails(&["accept", "--name", "tokyo", token.trim()]).await;
    assert!(again.contains("has been used, has expired or is wrong"), "{again}");

    // Where the controller wrote down its address nobody needs to know it; JSON and a file, for programs.
    secrets::announce(tokyo.client.clone(), NAMESPACE, &[format!("https://{address}")]).await.unwrap();
    let (made, _) = tokyo.ok(&["invite", "lima", "--expires", "10m", "-o", "json"], "").await;
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!((&made["cluster"], &made["urls"][0]), (&json!("lima"), &json!(format!("https://{address}"))));
    let file = home.path().join("tokyo.kubeconfig");
    let path = file.to_str().unwrap();
    let token = made["token"].as_str().unwrap();
    let (done, _) = paris.ok(&["accept", token, "--write-kubeconfig", path, "-o", "json"], "").await;
    let done: Value = serde_json::from_str(&done).unwrap();
    assert_eq!(done["cluster"], "lima");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let services: Api<k8s_openapi::api::core::v1::Service> =
        Api::all(client(&std::fs::read_to_string(&file).unwrap()).await);
    assert!(services.list(&ListParams::default()).await.unwrap().items.is_empty());
    let (renewed, _) = paris.ok(&["accept", "--renew", path, "-o", "json"], "").await;
    assert_eq!(serde_json::from_str::<Value>(&renewed).unwrap(), json!({"renewed": false}));

    stop.cancel();
    tokyo.server.shutdown();
    paris.server.shutdown();
}
