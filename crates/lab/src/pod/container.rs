//! One container: its process, started anew as the pod's restart policy says, and its readiness.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::net::unix::pipe;
use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};

use super::log::{Growth, Writer};
use super::probe::{Readiness, Target, look};
use super::status::{RestartPolicy, State, Terminated};
use crate::spawn::Sandbox;
use crate::{clock, netns};

/// The first pause before a container that ended is started anew; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often an unready container is looked at: a kubelet, too, looks more often than the period says then.
const UNREADY_PERIOD: Duration = Duration::from_millis(20);
/// How long the rest of a log may take once nothing is left of its container: somebody else holds the pipe open.
const LOG_END: Duration = Duration::from_secs(1);

/// What a container runs, and in what.
#[derive(Debug, Clone)]
pub struct ContainerSpec {
    /// Which of the pod's containers.
    pub index: usize,
    /// Program and arguments.
    pub words: Vec<String>,
    /// Environment.
    pub env: Vec<(String, String)>,
    /// Where the program starts.
    pub working_dir: Option<String>,
    /// What it writes goes here.
    pub log: PathBuf,
    /// What its last run wrote.
    pub previous_log: PathBuf,
    /// Tells how far the log is.
    pub growth: watch::Sender<Growth>,
    /// Its readiness probe.
    pub readiness: Option<Readiness>,
    /// The network namespace that it runs in.
    pub network: String,
    /// Its host name; `None` is the machine's.
    pub hostname: Option<String>,
    /// `(what, over what)`, both existing files.
    pub mounts: Vec<(PathBuf, PathBuf)>,
    /// The node's network namespace.
    pub node_namespace: String,
    /// The pod's first address.
    pub pod_ip: Option<std::net::IpAddr>,
}

/// What became of a container.
#[derive(Debug)]
pub enum ContainerEvent {
    /// It is in this state; running with this process.
    State(State, Option<i32>),
    /// It ended and will be started anew.
    Restarting(Terminated),
    /// Its readiness changed.
    Ready(bool),
    /// It has ended for good.
    Done,
}

/// Runs the container until it is told to stop, or ends and the policy leaves it so. `stop` tells how long it has from
/// the end signal until it is killed.
pub async fn supervise(
    spec: ContainerSpec,
    policy: RestartPolicy,
    events: mpsc::UnboundedSender<(usize, ContainerEvent)>,
    mut stop: watch::Receiver<Option<Duration>>,
) {
    // When nobody listens any more the pod is gone, and this task with it.
    let tell = |event| drop(events.send((spec.index, event)));
    let mut pause = FIRST_PAUSE;
    while stop.borrow().is_none() {
        let started = clock::now();
        let running_since = tokio::time::Instant::now();
        let exit_code = match start(&spec) {
            Ok((child, log)) => {
                let exit_code = run(child, &spec, &started, &events, &mut stop).await;
                // With the end of its container a log is whole.
                let _ = tokio::time::timeout(LOG_END, log).await;
                exit_code
            }
            Err(error) => {
                let message = format!("cannot start {:?}: {error}\n", spec.words[0]);
                if let Ok(log) = Writer::create(&spec.log, spec.growth.clone()) {
                    let _ = log.copy(message.as_bytes()).await;
                }
                // What a shell says of a program that it can't start.
                127
            }
        };
        let end = Terminated { exit_code, started, finished: clock::now() };
        if stop.borrow().is_some() || !policy.restarts(exit_code) {
            tell(ContainerEvent::State(State::Terminated(end), None));
            break;
        }
        if running_since.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        tell(ContainerEvent::Restarting(end));
        let _ = tokio::time::timeout(pause, stop.wait_for(Option::is_some)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        let _ = std::fs::rename(&spec.log, &spec.previous_log);
    }
    tell(ContainerEvent::Done);
}

/// The process, and the task that writes its log.
fn start(spec: &ContainerSpec) -> io::Result<(Child, JoinHandle<io::Result<()>>)> {
    let mut sandbox = Sandbox::network(&spec.network)?.session();
    for (source, target) in &spec.mounts {
        sandbox = sandbox.bind(source, target)?;
    }
    if let Some(hostname) = &spec.hostname {
        sandbox = sandbox.hostname(hostname)?;
    }
    let (source, sink) = io::pipe()?;
    let mut command = sandbox.command(&spec.words[0]);
    command
        .args(&spec.words[1..])
        .env_clear()
        .envs(spec.env.iter().cloned())
        .current_dir(spec.working_dir.as_deref().unwrap_or("/"))
        .stdin(Stdio::null())
        .stdout(sink.try_clone()?)
        .stderr(sink);
    let child = tokio::process::Command::from(command).spawn()?;
    let log = Writer::create(&spec.log, spec.growth.clone())?;
    Ok((child, tokio::spawn(log.copy(pipe::Receiver::from_owned_fd(OwnedFd::from(source))?))))
}

/// Opens a log to write at its end.
///
/// # Errors
/// The file's.
pub fn open_log(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

async fn run(
    mut child: Child,
    spec: &ContainerSpec,
    started: &str,
    events: &mpsc::UnboundedSender<(usize, ContainerEvent)>,
    stop: &mut watch::Receiver<Option<Duration>>,
) -> i32 {
    let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()) else { return 0 };
    // Whatever it starts is in its mount namespace, however it detaches itself.
    let mounts = netns::process_namespace(pid, "mnt");
    let state = State::Running { since: started.to_owned() };
    let _ = events.send((spec.index, ContainerEvent::State(state, Some(pid))));
    let probe = probe(spec, pid, events.clone());
    let ended = tokio::select! {
        status = child.wait() => Some(status),
        _ = stop.wait_for(Option::is_some) => None,
    };
    let status = match ended {
        Some(status) => status,
        None => terminate(&mut child, pid, stop).await,
    };
    if let Some(probe) = probe {
        probe.abort();
    }
    if let Some(mounts) = mounts {
        let leftover = move || netns::kill_all(|link| link == Some(mounts.as_str()), "mnt");
        if let Ok(Err(error)) = tokio::task::spawn_blocking(leftover).await {
            tracing::warn!(%error, "a container left processes behind");
        }
    }
    status.map_or(255, exit_code)
}

/// Tells a process to end, and kills it when the grace period, which may shrink meanwhile, is over.
async fn terminate(
    child: &mut Child,
    pid: i32,
    stop: &mut watch::Receiver<Option<Duration>>,
) -> io::Result<ExitStatus> {
    let told = tokio::time::Instant::now();
    let _ = killpg(Pid::from_raw(pid), Signal::SIGTERM);
    loop {
        let grace = stop.borrow_and_update().unwrap_or_default();
        tokio::select! {
            status = child.wait() => return status,
            () = tokio::time::sleep_until(told + grace) => break,
            changed = stop.changed() => if changed.is_err() { break },
        }
    }
    let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    child.wait().await
}

fn probe(
    spec: &ContainerSpec,
    pid: i32,
    events: mpsc::UnboundedSender<(usize, ContainerEvent)>,
) -> Option<AbortHandle> {
    let index = spec.index;
    let Some(readiness) = spec.readiness.clone() else {
        let _ = events.send((index, ContainerEvent::Ready(true)));
        return None;
    };
    let target =
        Target { node_namespace: spec.node_namespace.clone(), pod_ip: spec.pod_ip, pid, env: spec.env.clone() };
    let watch = async move {
        tokio::time::sleep(readiness.initial_delay).await;
        let (mut ready, mut streak) = (false, 0);
        loop {
            streak = if look(&readiness, &target).await == ready { 0 } else { streak + 1 };
            if streak >= if ready { readiness.failures } else { readiness.successes } {
                (ready, streak) = (!ready, 0);
                let _ = events.send((index, ContainerEvent::Ready(ready)));
            }
            tokio::time::sleep(if ready { readiness.period } else { UNREADY_PERIOD }).await;
        }
    };
    Some(tokio::spawn(watch).abort_handle())
}

/// As a shell tells it: the exit code, or 128 and the number of the signal that ended the process.
pub fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(255)
}
