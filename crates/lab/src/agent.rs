//! A node's agent, kept running as a DaemonSet's pod would be.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::Child;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::netns;
use crate::plan::{NodePlan, Plan};
use crate::pod::container::open_log;
use crate::pod::probe;
use crate::spawn::Sandbox;
use crate::state::StateDir;

/// Where the agent answers `/readyz`, in its node's namespace.
pub const LISTEN: &str = "127.0.0.1:1107";
/// The pause before an agent that ended is started anew, doubled each time up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long an agent has to end before it is killed.
const GRACE: Duration = Duration::from_secs(10);
/// Where WireGuard's control sockets are looked for by `wg`.
const WIREGUARD_DIR: &str = "/run/wireguard";

/// What shall become of an agent.
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

/// What an agent is started with.
#[derive(Debug, Clone)]
pub struct Agent {
    /// The node's network namespace.
    pub namespace: String,
    /// Program and arguments.
    pub words: Vec<String>,
    /// Where its output goes.
    pub log: PathBuf,
    /// The node's WireGuard control sockets.
    pub wireguard: PathBuf,
}

impl Agent {
    /// The agent of a node of the plan.
    pub fn of(plan: &Plan, node: NodePlan<'_>, state: &StateDir) -> Self {
        let dir = state.node(&node.name());
        let join = |nets: Vec<ipnet::IpNet>| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let path = |path: PathBuf| path.display().to_string();
        let mut words = vec![path(state.program()), "agent".to_owned()];
        let mut flag = |name: &str, value: String| words.extend([format!("--{name}"), value]);
        flag("kubeconfig", path(state.inner_kubeconfig(&node.cluster.name())));
        flag("hostname", node.name());
        flag("subnet", join(node.cluster.wireguard_cidrs()));
        flag("service-cidr", join(node.cluster.service_cidrs()));
        flag("mesh-granularity", plan.mesh_granularity.clone());
        flag("port", node.wireguard_port().to_string());
        flag("state-dir", path(dir.agent_state()));
        flag("cni-path", path(dir.cni_conflist()));
        flag("cni-data-dir", path(dir.cni_data()));
        flag("wireguard-socket-dir", path(dir.wireguard()));
        flag("listen", LISTEN.to_owned());
        words.extend(plan.agent_args.iter().cloned());
        Self { namespace: node.namespace(), words, log: dir.agent_log(), wireguard: dir.wireguard() }
    }

    fn start(&self) -> io::Result<Child> {
        let log = open_log(&self.log)?;
        let mut command = in_node(&self.namespace, &self.wireguard)?.session().command(&self.words[0]);
        command.args(&self.words[1..]).current_dir("/").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        tokio::process::Command::from(command).spawn()
    }

    /// Whether its `/readyz` says that it is ready.
    pub async fn is_ready(&self) -> bool {
        let ask = || {
            let address = LISTEN.parse().map_err(io::Error::other)?;
            probe::get(address, "/readyz", &[], Duration::from_secs(1))
        };
        netns::enter_async(self.namespace.clone(), ask).await.is_ok_and(|code| code == 200)
    }
}

/// A sandbox for programs of a node: its network, and `wg` finds the node's WireGuard interfaces.
///
/// # Errors
/// There is no such namespace.
pub fn in_node(namespace: &str, wireguard: &Path) -> io::Result<Sandbox> {
    let sandbox = Sandbox::network(namespace)?;
    let target = Path::new(WIREGUARD_DIR);
    if target.is_dir() { sandbox.bind(wireguard, target) } else { Ok(sandbox) }
}

/// Where `/run/wireguard` must be for [`in_node`] to put the node's in its place. The lab makes it if it is missing,
/// and says so in the folder of all labs, so that the last lab takes it away again.
///
/// # Errors
/// The file system's.
pub fn make_wireguard_dir() -> io::Result<()> {
    match std::fs::create_dir(WIREGUARD_DIR) {
        Ok(()) => std::fs::write(made_marker(), ""),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Undoes [`make_wireguard_dir`], unless somebody has put something there.
pub fn remove_wireguard_dir() {
    if std::fs::remove_file(made_marker()).is_ok() {
        // It is not empty when others use it.
        let _ = std::fs::remove_dir(WIREGUARD_DIR);
    }
}

fn made_marker() -> PathBuf {
    Path::new(crate::state::ROOT).join(".made-run-wireguard")
}

/// What an agent does at the moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentState {
    /// Its process, while it runs.
    pub pid: Option<i32>,
    /// How often it was started anew without having been asked to.
    pub restarts: u32,
}

/// An agent that is looked after.
pub struct Kept {
    /// What it is started with.
    pub agent: Agent,
    wishes: watch::Sender<Wish>,
    state: watch::Receiver<AgentState>,
    task: JoinHandle<()>,
}

impl Kept {
    /// Starts the agent.
    pub fn start(agent: Agent) -> Self {
        let (wishes, inbox) = watch::channel(Wish::Start);
        let (report, state) = watch::channel(AgentState::default());
        let task = tokio::spawn(keep(agent.clone(), inbox, report));
        Self { agent, wishes, state, task }
    }

    /// What it does.
    pub fn state(&self) -> AgentState {
        self.state.borrow().clone()
    }

    /// Starts, stops or kills it, and waits until that is so.
    pub async fn wish(&self, wish: Wish) {
        self.wishes.send_replace(wish);
        let mut state = self.state.clone();
        let done = state.wait_for(|state| state.pid.is_some() == (wish == Wish::Start));
        // An agent that does not start is seen in the status and in its log.
        let _ = tokio::time::timeout(GRACE + LONGEST_PAUSE, done).await;
    }

    /// Ends it for good.
    pub async fn end(self, wish: Wish) {
        self.wish(wish).await;
        self.task.abort();
    }
}

async fn keep(agent: Agent, mut wishes: watch::Receiver<Wish>, report: watch::Sender<AgentState>) {
    let mut pause = FIRST_PAUSE;
    loop {
        if wishes.wait_for(|wish| *wish == Wish::Start).await.is_err() {
            return;
        }
        let since = Instant::now();
        match agent.start() {
            Ok(child) => run(child, &mut wishes, &report).await,
            Err(error) => tracing::error!(namespace = %agent.namespace, %error, "an agent does not start"),
        }
        if *wishes.borrow() != Wish::Start {
            pause = FIRST_PAUSE;
            continue;
        }
        if since.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        tracing::warn!(namespace = %agent.namespace, log = %agent.log.display(), "an agent ended and is started anew");
        report.send_modify(|state| state.restarts += 1);
        let _ = tokio::time::timeout(pause, wishes.wait_for(|wish| *wish != Wish::Start)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn run(mut child: Child, wishes: &mut watch::Receiver<Wish>, report: &watch::Sender<AgentState>) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok());
    report.send_modify(|state| state.pid = pid);
    let wish = tokio::select! {
        _ = child.wait() => Wish::Start,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::plan::tests::plan;
    use crate::plan::{Family, Underlay};

    #[test]
    fn an_agent_is_told_everything_that_is_not_the_same_for_all() {
        let mut plan = plan(Underlay::Routed, Family::Dual);
        plan.agent_args = vec!["--log-level=debug".into()];
        let agent = Agent::of(&plan, plan.cluster(1).node(2), &StateDir::new("lab"));
        let words = agent.words.join(" ");
        for part in [
            "/run/tombolo-lab/lab/bin/tombolo agent --kubeconfig /run/tombolo-lab/lab/cluster1.inner.kubeconfig ",
            "--hostname c1-n2 --subnet 10.161.0.0/16,fda0:1::/64 --service-cidr 10.101.0.0/16,fd64:1::/112 ",
            "--cni-path /run/tombolo-lab/lab/nodes/c1-n2/cni/net.d/10-tombolo.conflist ",
            " --log-level=debug",
        ] {
            assert!(words.contains(part), "{part} in {words}");
        }
    }
}
