//! `exec`, `attach` and `logs`, as kube-rs and `kubectl` (that of `$PATH`, and `$TOMBOLO_KUBECTL_OLD`) see
//! them, with containers that are processes of this machine.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, LogParams, PostParams, TerminalSize as KubeSize};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::mpsc;
use tombolo_apiserver::exec::{Exec, ExecOptions, LogOptions, Output, PodRuntime};
use tombolo_apiserver::{ApiServer, Status};

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs commands on this machine, whatever the pod.
struct Processes;

#[async_trait]
impl PodRuntime for Processes {
    async fn exec(&self, _pod: &Value, container: &str, options: ExecOptions) -> Result<Exec, Status> {
        let piped = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
        let mut child = Command::new(&options.command[0])
            .args(&options.command[1..])
            .env("CONTAINER", container)
            .stdin(piped(options.stdin))
            .stdout(piped(options.stdout))
            .stderr(piped(options.stderr))
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Status::internal(format!("{:?} cannot be run: {error}", options.command[0])))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (resize, mut sizes) = mpsc::channel(1);
        if options.tty {
            // A "terminal" that shows its size and ends.
            let (shown, mut output) = tokio::io::duplex(64);
            tokio::spawn(async move {
                if let Some(size) = sizes.recv().await {
                    let size: tombolo_apiserver::exec::TerminalSize = size;
                    output.write_all(format!("{}x{}", size.width, size.height).as_bytes()).await.unwrap();
                }
            });
            return Ok(Exec {
                stdin: None,
                stdout: Some(Box::new(shown)),
                stderr: None,
                resize: Some(resize),
                exit: Box::pin(async { Ok(0) }),
            });
        }
        Ok(Exec {
            stdin: stdin.map(|pipe| Box::new(pipe) as _),
            stdout: stdout.map(|pipe| Box::new(pipe) as _),
            stderr: stderr.map(|pipe| Box::new(pipe) as _),
            resize: None,
            exit: Box::pin(async move {
                let status = child.wait().await.map_err(Status::internal)?;
                Ok(status.code().unwrap_or(137))
            }),
        })
    }

    async fn logs(&self, _pod: &Value, container: &str, options: LogOptions) -> Result<Output, Status> {
        let lines = ["one", "two", "three"].map(|line| format!("{container} {line}\n"));
        let first = lines.len() - options.tail_lines.map_or(lines.len(), |lines| lines as usize).min(lines.len());
        Ok(Box::new(std::io::Cursor::new(lines[first..].concat())))
    }
}

struct Cluster {
    server: ApiServer,
    client: Client,
    home: tempfile::TempDir,
}

impl Cluster {
    /// A server with the pods `a` (one container) and `b` (two).
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = ApiServer::builder().pod_runtime(Arc::new(Processes)).build().unwrap();
        server.serve(listener);
        let kubeconfig = server.kubeconfig(&format!("https://{address}"));
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("config"), &kubeconfig).unwrap();
        let kubeconfig = Kubeconfig::from_yaml(&kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let pods: Api<Pod> = Api::default_namespaced(client.clone());
        for (name, containers) in [("a", &["main"][..]), ("b", &["main", "side"])] {
            let containers: Vec<Value> = containers.iter().map(|name| json!({"name": name, "image": "none"})).collect();
            let spec = json!({"nodeName": "n", "containers": containers});
            let pod = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
            pods.create(&PostParams::default(), &pod).await.unwrap();
        }
        Cluster { server, client, home }
    }

    fn pods(&self) -> Api<Pod> {
        Api::default_namespaced(self.client.clone())
    }

    /// Exit code, standard output and standard error of a kubectl.
    async fn kubectl(&self, kubectl: &Path, spdy: bool, args: &[&str], stdin: &str) -> (i32, String, String) {
        let mut command = Command::new(kubectl);
        command.args(args).env("HOME", self.home.path()).env("KUBECONFIG", self.home.path().join("config"));
        if spdy {
            command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(stdin.as_bytes()).await.unwrap();
        drop(pipe);
        let done = tokio::time::timeout(PATIENCE, child.wait_with_output()).await.expect("kubectl is stuck").unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
    }
}

async fn all(stream: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut text = String::new();
    tokio::time::timeout(PATIENCE, stream.unwrap().read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn kube_rs_runs_commands_in_pods() {
    let cluster = Cluster::new().await;
    let pods = cluster.pods();

    let params = AttachParams::default().stdout(true).stderr(true);
    let command = ["sh", "-c", "echo out $CONTAINER; echo err >&2; exit 3"];
    let mut process = pods.exec("a", command, &params).await.unwrap();
    let (out, err, status) = (process.stdout(), process.stderr(), process.take_status().unwrap());
    assert_eq!(tokio::join!(all(out), all(err)), ("out main\n".to_owned(), "err\n".to_owned()));
    let status = status.await.unwrap();
    assert_eq!(status.status.as_deref(), Some("Failure"));
    assert_eq!(status.reason.as_deref(), Some("NonZeroExitCode"));
    let cause = &status.details.unwrap().causes.unwrap()[0];
    assert_eq!((cause.reason.as_deref(), cause.message.as_deref()), (Some("ExitCode"), Some("3")));

    // The input's end reaches the command: without it `cat` would not end.
    let params = AttachParams::default().stdin(true).stdout(true).stderr(false).container("side");
    let mut process = pods.exec("b", ["cat"], &params).await.unwrap();
    let mut input = process.stdin().unwrap();
    let text = "0123456789abcdef".repeat(20_000);
    let written = async {
        input.write_all(text.as_bytes()).await.unwrap();
        input.shutdown().await.unwrap();
        drop(input);
    };
    let out = process.stdout();
    let ((), out) = tokio::join!(written, all(out));
    assert_eq!(out.len(), text.len());
    assert!(out == text);

    // What cannot be started is said on the stream that carries the end.
    let params = AttachParams::default();
    let mut process = pods.exec("a", ["/does/not/exist"], &params).await.unwrap();
    let status = process.take_status().unwrap().await.unwrap();
    assert_eq!(status.reason.as_deref(), Some("InternalError"));

    let mut process = pods.exec("a", ["true"], &AttachParams::interactive_tty().stdin(false)).await.unwrap();
    let mut sizes = process.terminal_size().unwrap();
    futures::SinkExt::send(&mut sizes, KubeSize { width: 120, height: 40 }).await.unwrap();
    assert_eq!(all(process.stdout()).await, "120x40");
    cluster.server.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_come_before_the_upgrade() {
    let cluster = Cluster::new().await;
    let pods = cluster.pods();
    for pod in ["a", "nobody"] {
        let attached = pods.attach(pod, &AttachParams::default()).await;
        assert!(attached.is_err(), "{pod}");
    }
    assert!(pods.exec("b", ["true"], &AttachParams::default()).await.is_err());

    assert_eq!(pods.logs("a", &LogParams::default()).await.unwrap(), "main one\nmain two\nmain three\n");
    let last = LogParams { container: Some("side".into()), tail_lines: Some(1), ..LogParams::default() };
    assert_eq!(pods.logs("b", &last).await.unwrap(), "side three\n");
    let error = pods.logs("b", &LogParams::default()).await.unwrap_err().to_string();
    assert!(error.contains("choose one of: [main side]"), "{error}");
    cluster.server.shutdown();
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_runs_commands_in_pods() {
    let cluster = Cluster::new().await;
    let old = std::env::var_os("TOMBOLO_KUBECTL_OLD").map(PathBuf::from);
    let kubectls = std::iter::once(PathBuf::from("kubectl")).chain(old);
    for kubectl in kubectls {
        for spdy in [false, true] {
            let run = |args: &'static [&'static str], stdin: &'static str| cluster.kubectl(&kubectl, spdy, args, stdin);
            let name = format!("{} SPDY {spdy}", kubectl.display());

            let script = "echo out; echo err >&2; exit 3";
            let (code, out, err) = cluster.kubectl(&kubectl, spdy, &["exec", "a", "--", "sh", "-c", script], "").await;
            assert_eq!((code, out.as_str()), (3, "out\n"), "{name}: {err}");
            assert!(err.starts_with("err\n") && err.contains("exit code 3"), "{name}: {err}");

            let (code, out, err) = run(&["exec", "a", "--", "seq", "20000"], "").await;
            assert_eq!((code, out.lines().count()), (0, 20_000), "{name}: {err}");

            let (code, out, err) = run(
                &["exec", "-i", "b", "-c", "side", "--", "sh", "-c", "read line; echo $CONTAINER $line"],
                "hello\n",
            )
            .await;
            assert_eq!((code, out.as_str()), (0, "side hello\n"), "{name}: {err}");

            let (code, _, err) = run(&["exec", "a", "--", "/does/not/exist"], "").await;
            assert!(code != 0 && err.contains("cannot be run"), "{name}: {err}");

            let (code, out, err) = run(&["logs", "b", "-c", "side", "--tail", "2"], "").await;
            assert_eq!((code, out.as_str()), (0, "side two\nside three\n"), "{name}: {err}");
        }
    }
    cluster.server.shutdown();
}
