//! A program of a lab that is kept running, as a DaemonSet's pod or a system service would be.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::pod::container::open_log;
use crate::spawn::Sandbox;

/// The pause before a program that ended is started anew, doubled each time up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a program has to end before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// The pause before a follow-up command that failed is tried again.
const FOLLOW_UP_AGAIN: Duration = Duration::from_millis(50);

/// What shall become of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// It runs, and is started anew when it ends.
    Start,
    /// It is told to end, and stays so.
    Stop,
    /// It is killed, and stays so.
    Kill,
}

/// What a program is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// What it is, for the supervisor's log.
    pub what: &'static str,
    /// The network namespace that it runs in.
    pub namespace: String,
    /// Program and arguments.
    pub words: Vec<String>,
    /// More of its environment.
    pub env: Vec<(&'static str, String)>,
    /// Where its output goes.
    pub log: PathBuf,
    /// Folders that it sees in the place of others, which exist: `(what, over what)`.
    pub mounts: Vec<(PathBuf, PathBuf)>,
    /// Commands that follow each start, in order; each is repeated until it succeeds.
    pub then: Vec<Vec<String>>,
}

impl Daemon {
    fn start(&self) -> io::Result<Child> {
        let log = open_log(&self.log)?;
        let mut command = self.command(&self.words)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn()
    }

    fn command(&self, words: &[String]) -> io::Result<Command> {
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut sandbox = Sandbox::network(&self.namespace)?;
        for (source, target) in &self.mounts {
            sandbox = sandbox.bind(source, target)?;
        }
        let mut command = sandbox.session().command(program);
        command.args(arguments).envs(self.env.iter().cloned()).current_dir("/");
        Ok(Command::from(command))
    }

    /// Runs the commands that follow a start. It never ends by itself: whoever waits for the program drops it.
    async fn follow_up(&self) -> Infallible {
        for words in &self.then {
            while let Err(error) = self.once(words).await {
                tracing::debug!(%error, "`{}` is tried again", words.join(" "));
                tokio::time::sleep(FOLLOW_UP_AGAIN).await;
            }
        }
        std::future::pending().await
    }

    async fn once(&self, words: &[String]) -> io::Result<()> {
        let output = self.command(words)?.stdin(Stdio::null()).kill_on_drop(true).output().await?;
        if output.status.success() { Ok(()) } else { Err(io::Error::other(String::from_utf8_lossy(&output.stderr))) }
    }
}

/// What a program does at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonState {
    /// Its process, while it runs.
    pub pid: Option<i32>,
    /// How often it was started anew without having been asked to.
    pub restarts: u32,
}

/// A program that is looked after.
pub struct Kept {
    /// What it is started with.
    pub daemon: Daemon,
    wishes: watch::Sender<Wish>,
    state: watch::Receiver<DaemonState>,
    task: JoinHandle<()>,
}

impl Kept {
    /// Starts it.
    pub fn start(daemon: Daemon) -> Self {
        let (wishes, inbox) = watch::channel(Wish::Start);
        let (report, state) = watch::channel(DaemonState::default());
        let task = tokio::spawn(keep(daemon.clone(), inbox, report));
        Self { daemon, wishes, state, task }
    }

    /// What it does.
    pub fn state(&self) -> DaemonState {
        self.state.borrow().clone()
    }

    /// Starts, stops or kills it, and waits until that is so.
    pub async fn wish(&self, wish: Wish) {
        self.wishes.send_replace(wish);
        let mut state = self.state.clone();
        let done = state.wait_for(|state| state.pid.is_some() == (wish == Wish::Start));
        // One that does not start is seen in the status and in its log.
        let _ = tokio::time::timeout(GRACE + LONGEST_PAUSE, done).await;
    }

    /// Ends it for good.
    pub async fn end(self, wish: Wish) {
        self.wish(wish).await;
        self.task.abort();
    }
}

async fn keep(daemon: Daemon, mut wishes: watch::Receiver<Wish>, report: watch::Sender<DaemonState>) {
    let mut pause = FIRST_PAUSE;
    loop {
        if wishes.wait_for(|wish| *wish == Wish::Start).await.is_err() {
            return;
        }
        let since = Instant::now();
        match daemon.start() {
            Ok(child) => run(&daemon, child, &mut wishes, &report).await,
            Err(error) => tracing::error!(namespace = %daemon.namespace, %error, "{} does not start", daemon.what),
        }
        if *wishes.borrow() != Wish::Start {
            pause = FIRST_PAUSE;
            continue;
        }
        if since.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        let (namespace, log) = (&daemon.namespace, daemon.log.display());
        tracing::warn!(%namespace, %log, "{} ended and is started anew", daemon.what);
        report.send_modify(|state| state.restarts += 1);
        let _ = tokio::time::timeout(pause, wishes.wait_for(|wish| *wish != Wish::Start)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn run(
    daemon: &Daemon,
    mut child: Child,
    wishes: &mut watch::Receiver<Wish>,
    report: &watch::Sender<DaemonState>,
) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    report.send_modify(|state| state.pid = pid);
    let wish = tokio::select! {
        _ = child.wait() => Wish::Start,
        never = daemon.follow_up() => match never {},
        wish = wishes.wait_for(|wish| *wish != Wish::Start) => wish.map(|wish| *wish).unwrap_or(Wish::Stop),
    };
    if wish == Wish::Stop {
        signal(pid, Signal::SIGTERM);
        if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
            signal(pid, Signal::SIGKILL);
        }
    }
    if wish == Wish::Kill {
        signal(pid, Signal::SIGKILL);
    }
    if wish != Wish::Start {
        let _ = child.wait().await;
    }
    report.send_modify(|state| state.pid = None);
}

/// The child has not been waited for, so that its number is still its own.
fn signal(pid: Option<i32>, signal: Signal) {
    if let Some(pid) = pid {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}
