//! The API server as `kubectl` sees it: that of `$PATH`, and `$TOMBOLO_KUBECTL_OLD`.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tombolo_apiserver::ApiServer;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

const WORKLOAD: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: by-hand}
spec:
  ports: [{port: 80}]
---
apiVersion: v1
kind: Endpoints
metadata: {name: by-hand}
subsets: [{addresses: [{ip: 10.1.2.3}], ports: [{port: 80, protocol: TCP}]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web}]}
"#;

const DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  names: {kind: Thing, plural: things, shortNames: [th]}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Size, type: integer, jsonPath: .spec.size}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [color]
            properties:
              color: {type: string, enum: [red, green]}
              size: {type: integer, default: 3, minimum: 1}
          status:
            type: object
            properties: {phase: {type: string}}
"#;

/// A server on loopback and one kubectl for it.
struct Cluster {
    kubectl: PathBuf,
    home: tempfile::TempDir,
    server: ApiServer,
}

/// What a command answered.
struct Answer {
    ok: bool,
    out: String,
    err: String,
}

impl Cluster {
    async fn new(kubectl: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cidrs = ["10.96.0.0/24".parse().unwrap(), "fd00:96::/112".parse().unwrap()];
        let server = ApiServer::builder().service_cidrs(cidrs).advertise(address).build().unwrap();
        server.serve(listener);
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("config"), server.kubeconfig(&format!("https://{address}"))).unwrap();
        Cluster { kubectl: kubectl.to_owned(), home, server }
    }

    async fn run(&self, args: &str, stdin: &str) -> Answer {
        self.run_args(&args.split_whitespace().collect::<Vec<_>>(), stdin).await
    }

    async fn run_args(&self, args: &[&str], stdin: &str) -> Answer {
        let mut child = Command::new(&self.kubectl)
            .args(args)
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("config"))
            .env("EDITOR", self.home.path().join("editor"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).await.unwrap();
        let done = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output = done.unwrap_or_else(|_| panic!("kubectl {args:?} does not end")).unwrap();
        Answer {
            ok: output.status.success(),
            out: String::from_utf8(output.stdout).unwrap().trim().to_owned(),
            err: String::from_utf8(output.stderr).unwrap().trim().to_owned(),
        }
    }

    /// Runs a command that must succeed, and gives what it printed.
    async fn ok(&self, args: &str) -> String {
        self.ok_with(args, "").await
    }

    async fn ok_with(&self, args: &str, stdin: &str) -> String {
        let answer = self.run(args, stdin).await;
        assert!(answer.ok, "kubectl {args}: {}{}", answer.out, answer.err);
        answer.out
    }

    /// Runs a command that must fail, and gives its reason.
    async fn fails(&self, args: &str, stdin: &str) -> String {
        let answer = self.run(args, stdin).await;
        assert!(!answer.ok, "kubectl {args} should fail, and said {}", answer.out);
        answer.err
    }

    /// Waits until a command answers what is wanted.
    async fn until(&self, args: &str, wanted: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let out = self.run(args, "").await.out;
            if wanted(&out) {
                return out;
            }
            assert!(start.elapsed() < PATIENCE, "kubectl {args} still says {out}");
        }
    }
}

/// Every kubectl there is, each at its own cluster.
async fn clusters() -> Vec<Cluster> {
    let found = std::env::var_os("PATH").unwrap();
    let first = std::env::split_paths(&found).map(|folder| folder.join("kubectl")).find(|file| file.is_file());
    let first = first.expect("kubectl is not in $PATH; install Debian's kubernetes-client");
    let mut clusters = vec![Cluster::new(&first).await];
    if let Some(old) = std::env::var_os("TOMBOLO_KUBECTL_OLD") {
        clusters.push(Cluster::new(Path::new(&old)).await);
    }
    clusters
}

/// The lines of a table, each with its columns.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_made_changed_and_deleted() {
    for cluster in clusters().await {
        assert_eq!(cluster.ok("create configmap a --from-literal=x=1").await, "configmap/a created");
        let again = cluster.fails("create configmap a --from-literal=x=1", "").await;
        assert!(again.contains(r#"configmaps "a" already exists"#), "{again}");
        assert_eq!(cluster.ok("annotate configmap a note=hello").await, "configmap/a annotated");
        assert_eq!(cluster.ok("label configmap a tier=low").await, "configmap/a labeled");
        assert_eq!(cluster.ok("get configmaps -l tier=low -o name").await, "configmap/a");
        assert_eq!(cluster.ok("get configmaps -l tier!=low -o name").await, "configmap/kube-root-ca.crt");
        let patch =
            ["patch", "configmap", "a", "--type=json", "-p", r#"[{"op":"add","path":"/data/two","value":"2"}]"#];
        assert!(cluster.run_args(&patch, "").await.ok);
        let patch = ["patch", "configmap", "a", "--type=merge", "-p", r#"{"data":{"x":null}}"#];
        assert!(cluster.run_args(&patch, "").await.ok);
        let patch = ["patch", "configmap", "a", "-p", r#"{"data":{"three":"3"}}"#];
        assert!(cluster.run_args(&patch, "").await.ok);
        assert_eq!(cluster.ok("get configmap a -o jsonpath={.data}").await, r#"{"three":"3","two":"2"}"#);
        assert_eq!(cluster.ok("get configmap a -o jsonpath={.metadata.annotations.note}").await, "hello");

        let editor = cluster.home.path().join("editor");
        std::fs::write(&editor, "#!/bin/sh\nsed -i 's/^  two: .*/  two: edited/' \"$1\"\n").unwrap();
        std::fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(cluster.ok("edit configmap a").await, "configmap/a edited");
        assert_eq!(cluster.ok("get configmap a -o jsonpath={.data.two}").await, "edited");

        assert_eq!(cluster.ok("delete configmap a").await, r#"configmap "a" deleted"#);
        let gone = cluster.fails("get configmap a", "").await;
        assert_eq!(gone, r#"Error from server (NotFound): configmaps "a" not found"#);
        cluster.server.shutdown();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_is_applied_shown_scaled_and_deleted() {
    for cluster in clusters().await {
        let made = cluster.ok_with("apply -f -", WORKLOAD).await;
        assert_eq!(made.lines().count(), 4, "{made}");
        assert!(made.contains("service/web created") && made.contains("deployment.apps/web created"), "{made}");
        let again = cluster.ok_with("apply -f -", WORKLOAD).await;
        assert!(again.lines().all(|line| line.ends_with("unchanged")), "{again}");

        let services = cluster.ok("get svc").await;
        assert_eq!(rows(&services)[0], ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]);
        let address = cluster.ok("get svc web -o jsonpath={.spec.clusterIP}").await;
        assert!(address.starts_with("10.96.0."), "{address}");
        let pods = cluster.until("get pods -l app=web --no-headers", |out| out.lines().count() == 2).await;
        assert!(rows(&pods).iter().all(|row| row[1..3] == ["0/1", "Pending"]), "{pods}");
        let slices = "get endpointslices -l kubernetes.io/service-name=by-hand --no-headers";
        let slices = cluster.until(slices, |out| !out.is_empty()).await;
        assert_eq!(rows(&slices)[0][1..4], ["IPv4", "80", "10.1.2.3"], "{slices}");

        assert_eq!(cluster.ok("scale deployment web --replicas=1").await, "deployment.apps/web scaled");
        cluster.until("get pods -l app=web -o name", |out| out.lines().count() == 1).await;
        assert_eq!(cluster.ok("get deployment web -o jsonpath={.metadata.generation}").await, "2");
        cluster.ok("delete deployment web").await;
        cluster.until("get pods,rs -o name", str::is_empty).await;

        let refused = cluster.fails("patch svc web -p {\"spec\":{\"clusterIP\":\"10.96.0.77\"}}", "").await;
        assert!(refused.contains("may not change once set"), "{refused}");
        let outside = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"x"},"spec":{"clusterIP":"10.97.0.1","ports":[{"port":1}]}}"#;
        let refused = cluster.fails("create -f -", outside).await;
        assert!(refused.contains("10.97.0.1"), "{refused}");
        let bad = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"Not_A_Name"}}"#;
        let refused = cluster.fails("create -f -", bad).await;
        assert!(
            refused.contains(r#"The ConfigMap "Not_A_Name" is invalid: metadata.name: Invalid value"#),
            "{refused}"
        );
        cluster.server.shutdown();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn custom_resources_are_defined_checked_and_explained() {
    for cluster in clusters().await {
        cluster.ok_with("apply -f -", DEFINITION).await;
        cluster.ok("wait --for=condition=Established crd/things.example.com --timeout=10s").await;
        let thing = |color: &str| {
            format!(
                r#"{{"apiVersion":"example.com/v1","kind":"Thing","metadata":{{"name":"one"}},"spec":{{"color":"{color}"}}}}"#
            )
        };
        let refused = cluster.fails("apply --validate=false -f -", &thing("blue")).await;
        assert!(refused.contains("spec.color: Unsupported value: \"blue\""), "{refused}");
        assert_eq!(cluster.ok_with("apply -f -", &thing("red")).await, "thing.example.com/one created");
        assert_eq!(cluster.ok_with("apply -f -", &thing("red")).await, "thing.example.com/one unchanged");
        assert_eq!(cluster.ok_with("apply -f -", &thing("green")).await, "thing.example.com/one configured");
        let table = cluster.ok("get th").await;
        assert_eq!(rows(&table), [["NAME", "SIZE"], ["one", "3"]], "{table}");
        let explained = cluster.ok("explain thing.spec.size").await;
        assert!(explained.contains("<integer>"), "{explained}");

        let server_side = "apply --server-side --field-manager=other -f -";
        let conflict = cluster.fails(server_side, &thing("red")).await;
        assert!(conflict.contains(".spec.color"), "{conflict}");
        cluster.ok_with("apply --server-side --force-conflicts --field-manager=other -f -", &thing("red")).await;
        assert_eq!(cluster.ok("get th one -o jsonpath={.spec.color}").await, "red");

        cluster.ok("delete crd things.example.com").await;
        cluster.fails("get things", "").await;
        cluster.server.shutdown();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_go_with_what_is_in_them() {
    for cluster in clusters().await {
        cluster.ok("create namespace short").await;
        cluster.ok("create configmap a -n short --from-literal=x=1").await;
        cluster.ok("delete namespace short").await;
        let late = cluster.fails("create configmap b -n short", "").await;
        assert!(late.contains(r#"namespaces "short" not found"#), "{late}");
        let kept = cluster.fails("delete namespace kube-system", "").await;
        assert!(kept.contains("forbidden"), "{kept}");
        assert_eq!(cluster.ok("auth can-i delete nodes").await, "yes");
        assert_eq!(cluster.ok("get --raw /readyz").await, "ok");
        let nodes = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"},"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
        cluster.ok_with("create -f -", nodes).await;
        cluster.ok("wait --for=condition=Ready node/n1 --timeout=10s").await;
        let table = cluster.ok("get nodes").await;
        assert_eq!(rows(&table)[1][..2], ["n1", "Ready"], "{table}");
        cluster.server.shutdown();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kubectl_makes_of_arguments_is_stored() {
    // Since 1.32 these bodies are protobuf; older ones send JSON. What is stored is the same.
    for cluster in clusters().await {
        for args in [
            "configmap a --from-literal=x=1",
            "secret generic s --from-literal=password=hunter2",
            "serviceaccount builder",
            "service clusterip web --tcp=80:8080",
            "service nodeport np --tcp=80:http --node-port=30080",
            "service externalname out --tcp=5432 --external-name=db.example.com",
            "deployment idle --image=web --replicas=0 --port=8080",
            "role reader --verb=get --resource=pods",
            "rolebinding readers --role=reader --serviceaccount=default:builder",
            "clusterrole nodes --verb=list --resource=nodes",
        ] {
            cluster.ok(&format!("create {args}")).await;
        }
        for (path, wanted) in [
            ("configmap a -o jsonpath={.data}", r#"{"x":"1"}"#),
            ("secret s -o jsonpath={.data}{.type}", r#"{"password":"aHVudGVyMg=="}Opaque"#),
            (
                "svc web -o jsonpath={.spec.ports}{.spec.type}",
                r#"[{"name":"80-8080","port":80,"protocol":"TCP","targetPort":8080}]ClusterIP"#,
            ),
            ("svc np -o jsonpath={.spec.ports[0].targetPort}:{.spec.ports[0].nodePort}", "http:30080"),
            ("svc out -o jsonpath={.spec.externalName}{.spec.clusterIP}", "db.example.com"),
            (
                "deployment idle -o jsonpath={.spec.replicas}{.spec.template.spec.containers[0].ports[0].containerPort}",
                "08080",
            ),
            ("role reader -o jsonpath={.rules}", r#"[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]"#),
            ("rolebinding readers -o jsonpath={.subjects[0].name}{.roleRef.name}", "builderreader"),
        ] {
            assert_eq!(cluster.ok(&format!("get {path}")).await, wanted, "{path}");
        }
        cluster.ok("delete deployment idle --cascade=foreground").await;
        cluster.server.shutdown();
    }
}
