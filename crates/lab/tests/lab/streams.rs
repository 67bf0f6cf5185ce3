//! `exec`, `attach` and `logs` into the lab's pods, by kube-rs and by `kubectl`: that of `$PATH`, which speaks WebSocket,
//! and that of `$TOMBOLO_KUBECTL_OLD`, which speaks SPDY.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use futures::AsyncBufReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, AttachedProcess, LogParams, PostParams, TerminalSize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{until, wait_for_ready};

/// Writes its last line when there is a file `speaker.go` where it runs.
const SPEAKER: &str = "echo first; echo second >&2; \
    until test -e speaker.go; do sleep 0.01; done; echo third; exec sleep infinity";

/// All of it, in the pod `web`, which runs, and in one of its own.
pub async fn work(pods: &Api<Pod>, kubeconfig: &str) {
    // It goes also where a test fails.
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let container = json!({"image": "x", "command": ["sh", "-c", SPEAKER], "workingDir": folder});
    pods.create(&PostParams::default(), &crate::pod("speaker", container)).await.unwrap();
    wait_for_ready(pods, "speaker").await;
    commands_run(pods, folder).await;
    a_terminal_has_a_size(pods).await;
    a_command_ends_with_its_client(pods).await;
    for kubectl in kubectls() {
        kubectl_works(&kubectl, kubeconfig, folder);
    }
    logs_are_read(pods, folder).await;
}

fn kubectls() -> Vec<OsString> {
    std::iter::once("kubectl".into()).chain(std::env::var_os("TOMBOLO_KUBECTL_OLD")).collect()
}

async fn commands_run(pods: &Api<Pod>, folder: &Path) {
    let (stdout, stderr, status) = run(pods, "speaker", &["sh", "-c", "pwd; hostname >&2; exit 7"]).await;
    assert_eq!((stdout, stderr.as_str()), (format!("{}\n", folder.display()), "speaker\n"));
    assert_eq!(exit_code(&status), "7");
    let (stdout, _, status) = run(pods, "web", &["sh", "-c", "kill -9 $$"]).await;
    assert_eq!((stdout.as_str(), exit_code(&status)), ("", "137"));
    for (program, code, why) in
        [("no-such-program", "127", "executable file not found in $PATH"), ("/etc/hosts", "126", "permission denied")]
    {
        let (_, stderr, status) = run(pods, "web", &[program]).await;
        assert!(stderr.contains(why), "{stderr}");
        assert_eq!(exit_code(&status), code);
    }
    let input = vec![b'x'; 100_000];
    let wanted = AttachParams::default().stdin(true).stderr(false);
    let mut process = pods.exec("web", ["cat"], &wanted).await.unwrap();
    let (mut stdin, mut stdout) = (process.stdin().unwrap(), process.stdout().unwrap());
    let write = async {
        stdin.write_all(&input).await.unwrap();
        stdin.shutdown().await.unwrap();
    };
    let mut output = Vec::new();
    let (_, read) = tokio::join!(write, stdout.read_to_end(&mut output));
    read.unwrap();
    assert!(output == input, "{} bytes came back", output.len());
}

async fn a_terminal_has_a_size(pods: &Api<Pod>) {
    let wanted = AttachParams::interactive_tty();
    // The size and the input come by different ways, so that either can be first.
    let script = "read go; while [ \"$(stty size)\" = '0 0' ]; do sleep 0.05; done; stty size; tty";
    let mut process = pods.exec("web", ["sh", "-c", script], &wanted).await.unwrap();
    let mut sizes = process.terminal_size().unwrap();
    futures::SinkExt::send(&mut sizes, TerminalSize { width: 91, height: 17 }).await.unwrap();
    process.stdin().unwrap().write_all(b"go\n").await.unwrap();
    let mut shown = String::new();
    let mut stdout = process.stdout().unwrap();
    let read = stdout.read_to_string(&mut shown);
    tokio::time::timeout(Duration::from_secs(30), read).await.expect("the terminal gets its size").unwrap();
    assert!(shown.starts_with("go\r\n17 91\r\n/dev/pts/"), "{shown:?}");
}

async fn a_command_ends_with_its_client(pods: &Api<Pod>) {
    let running = async || run(pods, "web", &["pgrep", "-fx", "sleep 98765"]).await.0;
    for wanted in [AttachParams::default().stdin(true), AttachParams::interactive_tty()] {
        let process = pods.exec("web", ["sh", "-c", "sleep 98765; true"], &wanted).await.unwrap();
        until("the command to run", async || !running().await.is_empty()).await;
        process.abort();
        until("the command to end", async || running().await.is_empty()).await;
    }
}

fn kubectl_works(kubectl: &OsString, kubeconfig: &str, folder: &Path) {
    let with = |words: &[&str], input: Stdio| {
        let mut command = Command::new(kubectl);
        command.arg("--kubeconfig").arg(kubeconfig).args(words).stdin(input).output().unwrap()
    };
    let said = |words: &[&str]| success(with(words, Stdio::null()));
    assert_eq!(said(&["exec", "web", "--", "echo", "from inside"]), "from inside\n");
    assert_eq!(with(&["exec", "web", "--", "sh", "-c", "exit 7"], Stdio::null()).status.code(), Some(7));
    let missing = with(&["exec", "web", "-c", "other", "--", "true"], Stdio::null());
    let why = String::from_utf8(missing.stderr).unwrap();
    assert!(why.contains("container other is not valid for pod web"), "{why}");

    let file = folder.join("input");
    std::fs::write(&file, vec![b'y'; 1 << 20]).unwrap();
    let input = std::fs::File::open(&file).unwrap();
    let output = with(&["exec", "-i", "web", "--", "cat"], input.into()).stdout;
    assert!(output == std::fs::read(&file).unwrap(), "{} bytes came back", output.len());

    let line = format!("{} --kubeconfig {kubeconfig} exec -it web -- sh -c tty", kubectl.display());
    let terminal = success(Command::new("script").args(["-qec", &line, "/dev/null"]).output().unwrap());
    assert!(terminal.contains("/dev/pts/"), "{terminal}");

    let copy = folder.join("copy");
    said(&["cp", &file.display().to_string(), &format!("web:{}", copy.display())]);
    assert!(std::fs::read(&copy).unwrap() == std::fs::read(&file).unwrap());
    std::fs::remove_file(copy).unwrap();
    assert_eq!(said(&["logs", "speaker"]), "first\nsecond\n");
    assert_eq!(said(&["logs", "speaker", "--tail=1"]), "second\n");
}

async fn logs_are_read(pods: &Api<Pod>, folder: &Path) {
    let stamped = LogParams { timestamps: true, tail_lines: Some(2), ..LogParams::default() };
    let text = pods.logs("speaker", &stamped).await.unwrap();
    let lines: Vec<_> = text.lines().filter_map(|line| line.split_once("Z ")).collect();
    assert_eq!(lines.iter().map(|(_, line)| *line).collect::<Vec<_>>(), ["first", "second"], "{text}");
    assert!(lines.iter().all(|(time, _)| time.len() == "2026-11-21T02:30:53.123456789".len()), "{text}");

    let follow = LogParams { follow: true, tail_lines: Some(1), ..LogParams::default() };
    let mut followed = pods.log_stream("speaker", &follow).await.unwrap().lines();
    assert_eq!(futures::TryStreamExt::try_next(&mut followed).await.unwrap().unwrap(), "second");
    let attach = AttachParams { stdout: true, stderr: false, ..AttachParams::default() };
    let mut attached = pods.attach("speaker", &attach).await.unwrap();
    std::fs::write(folder.join("speaker.go"), "").unwrap();
    assert_eq!(futures::TryStreamExt::try_next(&mut followed).await.unwrap().unwrap(), "third");
    let mut third = [0; 6];
    attached.stdout().unwrap().read_exact(&mut third).await.unwrap();
    assert_eq!(&third, b"third\n");

    crate::delete(pods, "speaker").await;
    assert_eq!(futures::TryStreamExt::try_next(&mut followed).await.unwrap(), None, "a log ends with its container");
    let previous = LogParams { previous: true, ..LogParams::default() };
    let refused = pods.logs("web", &previous).await.unwrap_err().to_string();
    assert!(refused.contains(r#"previous terminated container "main" in pod "web" not found"#), "{refused}");
}

/// What the command wrote, and how it ended.
async fn run(pods: &Api<Pod>, pod: &str, words: &[&str]) -> (String, String, Value) {
    let mut process = pods.exec(pod, words.iter().copied(), &AttachParams::default()).await.unwrap();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let (mut out, mut err) = (process.stdout().unwrap(), process.stderr().unwrap());
    let (first, second) = tokio::join!(out.read_to_string(&mut stdout), err.read_to_string(&mut stderr));
    first.and(second).unwrap();
    (stdout, stderr, status(process).await)
}

async fn status(mut process: AttachedProcess) -> Value {
    serde_json::to_value(process.take_status().unwrap().await).unwrap()
}

fn exit_code(status: &Value) -> &str {
    status["details"]["causes"][0]["message"].as_str().unwrap_or("0")
}

fn success(output: Output) -> String {
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{out}{err}");
    out
}
