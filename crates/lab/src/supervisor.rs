//! The process that a lab lives in: builds it, keeps it, and answers requests on its socket.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::RwLock;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::control::{Answer, Request, Status};
use crate::daemon::Wish;
use crate::plan::Plan;
use crate::state::StateDir;
use crate::{dns, netns, reflector, underlay};

/// How long agents and DNS may take to become ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often is looked whether they are.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// After how long it is said what is being waited for, and again when it is still the same.
const SAY_AFTER: Duration = Duration::from_secs(1);
const SAY_AGAIN: Duration = Duration::from_secs(5);
/// An agent that ended as often as this before it was ever ready will not come up.
const HOPELESS: u32 = 4;
/// How many lines of a log are shown when something did not come up.
const TAIL: usize = 15;

/// A line that the supervisor tells `lab up`, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum News {
    /// A step is done, or being waited for.
    Progress(String),
    /// Everything is there.
    Ready,
    /// It does not come up, for this reason.
    Failed(String),
}

/// A running lab.
struct Lab {
    plan: Plan,
    clusters: Vec<RwLock<Cluster>>,
    reflector: Option<reflector::Running>,
}

/// Builds the lab whose plan is in its folder, tells how it goes on standard output, and keeps it until the process is
/// ended.
///
/// # Errors
/// The lab does not come up. What was made of it is left to [`teardown::down`](crate::teardown::down).
pub async fn supervise(name: &str) -> anyhow::Result<()> {
    let state = StateDir::new(name);
    // Whoever started this process writes the same; but it may have been killed before that.
    state.write_supervisor(std::process::id().cast_signed())?;
    let lab = match build(&state).await {
        Ok(lab) => lab,
        Err(error) => {
            tell(&News::Failed(format!("{error:#}")));
            return Err(error);
        }
    };
    let listener = UnixListener::bind(state.control()).context("the control socket cannot be made")?;
    tell(&News::Ready);
    detach_stdout()?;
    serve(lab, listener).await
}

async fn build(state: &StateDir) -> anyhow::Result<Lab> {
    let plan = state.read_plan().with_context(|| format!("{} cannot be read", state.plan().display()))?;
    let steps = underlay::between(&plan);
    tokio::task::spawn_blocking(move || underlay::apply(&steps)).await??;
    let reflector = reflector::Running::start(&plan, state).context("the route reflector cannot be started")?;
    let started = join_all(plan.all_clusters().map(|c| Cluster::start(&plan, c.number, state))).await;
    let mut clusters = started.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    tell(&News::Progress("networks and API servers are up".into()));
    if let Some(reflector) = &reflector {
        wait_for_reflector(reflector).await?;
        tell(&News::Progress("the route reflector listens".into()));
    }
    for installed in join_all(clusters.iter().map(Cluster::install_resources)).await {
        installed?;
    }
    let nodes = plan.nodes;
    let add = |cluster| async move { add_nodes(cluster, nodes).await };
    for added in join_all(clusters.iter_mut().map(add)).await {
        added?;
    }
    tell(&News::Progress(format!("{} nodes are up", usize::from(nodes) * clusters.len())));
    wait_for_agents(&clusters, state).await?;
    tell(&News::Progress("agents and nodes are ready".into()));
    // Not before, so that pods are spread over all nodes.
    if plan.services {
        for installed in join_all(clusters.iter().map(Cluster::install_controller)).await {
            installed?;
        }
    }
    if plan.dns {
        for installed in join_all(clusters.iter().map(Cluster::install_dns)).await {
            installed?;
        }
        wait_for_dns(&clusters, state).await?;
        tell(&News::Progress("DNS answers".into()));
    }
    if plan.services {
        wait_for_controllers(&clusters, state).await?;
        tell(&News::Progress("controllers are ready".into()));
    }
    Ok(Lab { plan, clusters: clusters.into_iter().map(RwLock::new).collect(), reflector })
}

async fn add_nodes(cluster: &mut Cluster, nodes: u8) -> anyhow::Result<()> {
    for number in 1..=nodes {
        cluster.add_node(number).await?;
    }
    Ok(())
}

/// Waits until every agent says that it is ready and every node is, which takes the agent's CNI configuration.
async fn wait_for_agents(clusters: &[Cluster], state: &StateDir) -> anyhow::Result<()> {
    let unready = || async { join_all(clusters.iter().map(Cluster::unready)).await.concat() };
    let hopeless = || clusters.iter().any(|cluster| cluster.agent_restarts() >= HOPELESS);
    let Err(unready) = wait_until("the agents of", unready, hopeless).await else { return Ok(()) };
    Err(not_ready(&unready, state))
}

async fn wait_for_reflector(reflector: &reflector::Running) -> anyhow::Result<()> {
    let silent = || async { if reflector.listens().await { Vec::new() } else { vec!["BGP".to_owned()] } };
    let waited = wait_until("the route reflector to listen for", silent, || reflector.restarts() >= HOPELESS).await;
    let log = reflector.log();
    waited.map_err(|_| anyhow!("the route reflector does not listen; the end of {}:\n{}", log.display(), tail(log)))
}

fn not_ready(nodes: &[String], state: &StateDir) -> anyhow::Error {
    let log = nodes.first().map(|name| state.node(name).agent_log()).unwrap_or_default();
    anyhow!(
        "the agents of {} do not become ready (/readyz, and a CNI configuration); the end of {}:\n{}",
        nodes.join(", "),
        log.display(),
        tail(&log)
    )
}

async fn wait_for_dns(clusters: &[Cluster], state: &StateDir) -> anyhow::Result<()> {
    let silent = || async {
        let looks = clusters.iter().map(|cluster| async move {
            let servers = cluster.plan().dns_addresses();
            let ask = move || servers.into_iter().try_for_each(|ip| dns::ask(ip, Duration::from_millis(250)));
            let answers = netns::enter_async(cluster.vantage()?, ask).await;
            answers.is_err().then(|| cluster.name())
        });
        join_all(looks).await.into_iter().flatten().collect::<Vec<_>>()
    };
    let Err(silent) = wait_until("DNS of", silent, || false).await else { return Ok(()) };
    let tails = tails(state, "dns");
    bail!("DNS of {} does not answer after {} s; what its pods say:{tails}", silent.join(", "), PATIENCE.as_secs())
}

async fn wait_for_controllers(clusters: &[Cluster], state: &StateDir) -> anyhow::Result<()> {
    let unready = || async {
        let looks = clusters.iter().map(|cluster| async { (!cluster.has_controller().await).then(|| cluster.name()) });
        join_all(looks).await.into_iter().flatten().collect::<Vec<_>>()
    };
    let Err(unready) = wait_until("the controllers of", unready, || false).await else { return Ok(()) };
    let (names, tails) = (unready.join(", "), tails(state, "controller"));
    bail!("the controllers of {names} are not ready after {} s; what they say:{tails}", PATIENCE.as_secs())
}

/// The ends of the logs of all containers of this name.
fn tails(state: &StateDir, container: &str) -> String {
    let nodes = std::fs::read_dir(state.path().join("nodes")).into_iter().flatten().flatten();
    let pods = nodes.filter_map(|node| std::fs::read_dir(node.path().join("pods")).ok()).flatten().flatten();
    pods.map(|pod| pod.path().join(format!("{container}.log")))
        .filter(|log| log.exists())
        .map(|log| format!("\n{}:\n{}", log.display(), tail(&log)))
        .collect()
}

/// Looks until nothing is pending, and says what is when that takes longer; returns it after [`PATIENCE`], or when
/// there is no hope.
async fn wait_until<F: Future<Output = Vec<String>>>(
    what: &str,
    pending: impl Fn() -> F,
    hopeless: impl Fn() -> bool,
) -> Result<(), Vec<String>> {
    let started = Instant::now();
    let mut say_at = started + SAY_AFTER;
    let mut said = Vec::new();
    loop {
        let left = pending().await;
        if left.is_empty() {
            return Ok(());
        }
        if started.elapsed() > PATIENCE || hopeless() {
            return Err(left);
        }
        if Instant::now() > say_at || (!said.is_empty() && said != left) {
            tell(&News::Progress(format!("waiting for {what} {}", left.join(", "))));
            say_at = Instant::now() + SAY_AGAIN;
            said = left;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    if lines.is_empty() { "(empty)".into() } else { lines[from..].join("\n") }
}

fn tell(news: &News) {
    if let News::Progress(text) | News::Failed(text) = news {
        tracing::info!("{text}");
    }
    let Ok(line) = serde_json::to_string(news) else { return };
    let mut out = std::io::stdout();
    // Whoever started the lab may have gone away: it comes up all the same.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Lets go of the pipe to `lab up`, which ends when it is closed.
fn detach_stdout() -> anyhow::Result<()> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(null)?;
    Ok(())
}

async fn serve(lab: Lab, listener: UnixListener) -> anyhow::Result<()> {
    let lab = std::sync::Arc::new(lab);
    loop {
        let (stream, _) = listener.accept().await?;
        let lab = lab.clone();
        tokio::spawn(async move {
            if let Err(error) = converse(&lab, stream).await {
                tracing::debug!(%error, "a request broke off");
            }
        });
    }
}

async fn converse(lab: &Lab, stream: UnixStream) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let answer = match serde_json::from_str(&line) {
            Ok(request) => lab.answer(request).await.map_or_else(|e| Answer::Error(format!("{e:#}")), Answer::Ok),
            Err(error) => Answer::Error(format!("this is no request: {error}")),
        };
        write.write_all(format!("{}\n", serde_json::to_string(&answer)?).as_bytes()).await?;
    }
    Ok(())
}

impl Lab {
    async fn answer(&self, request: Request) -> anyhow::Result<Value> {
        match request {
            Request::Status => self.status().await,
            Request::AddNode { cluster } => {
                let mut cluster = self.cluster(cluster)?.write().await;
                let number = cluster.next_node()?;
                cluster.add_node(number).await?;
                let name = cluster.plan().node(number).name();
                let unready = || async { cluster.unready().await.into_iter().filter(|node| *node == name).collect() };
                let state = StateDir::new(&self.plan.name);
                wait_until("the agent of", unready, || false).await.map_err(|nodes| not_ready(&nodes, &state))?;
                Ok(json!(name))
            }
            Request::RemoveNode { cluster, node } => {
                self.cluster(cluster)?.write().await.remove_node(node).await?;
                Ok(Value::Null)
            }
            Request::Cut { cluster, node, cut } => {
                self.cluster(cluster)?.write().await.set_cut(node, cut).await?;
                Ok(Value::Null)
            }
            Request::Agent { cluster, node, wish } => {
                self.cluster(cluster)?.read().await.wish_agent(node, wish).await?;
                Ok(Value::Null)
            }
            Request::Reflector { wish } => {
                let missing = "the lab has no route reflector: bring it up with --interconnect bgp";
                let reflector = self.reflector.as_ref().context(missing)?;
                reflector.wish(wish).await;
                if wish == Wish::Start {
                    wait_for_reflector(reflector).await?;
                }
                Ok(Value::Null)
            }
            Request::Container { cluster, namespace, pod, container } => {
                let place = self.cluster(cluster)?.read().await.place(&namespace, &pod, container.as_deref())?;
                Ok(serde_json::to_value(place)?)
            }
        }
    }

    async fn status(&self) -> anyhow::Result<Value> {
        let mut clusters = Vec::new();
        for cluster in &self.clusters {
            clusters.push(cluster.read().await.status().await);
        }
        let reflector = match &self.reflector {
            Some(reflector) => Some(reflector.status().await),
            None => None,
        };
        Ok(serde_json::to_value(Status { plan: self.plan.clone(), pid: std::process::id(), clusters, reflector })?)
    }

    fn cluster(&self, number: u8) -> anyhow::Result<&RwLock<Cluster>> {
        let found = usize::from(number).checked_sub(1).and_then(|index| self.clusters.get(index));
        found.ok_or_else(|| anyhow!("the lab has no cluster{number}: it has {}", self.clusters.len()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn news_are_read_as_they_are_told() {
        for news in [News::Progress("x".into()), News::Ready, News::Failed("y".into())] {
            let line = serde_json::to_string(&news).unwrap();
            assert_eq!(serde_json::from_str::<News>(&line).unwrap(), news);
        }
    }

    #[test]
    fn the_end_of_a_log_is_shown() {
        let log = std::env::temp_dir().join(format!("tombolo-tail-{}", std::process::id()));
        assert_eq!(tail(&log), "(empty)");
        let lines: Vec<_> = (0..20).map(|n| n.to_string()).collect();
        std::fs::write(&log, lines.join("\n")).unwrap();
        let end = tail(&log);
        std::fs::remove_file(&log).unwrap();
        assert_eq!(end, lines[5..].join("\n"));
    }
}
