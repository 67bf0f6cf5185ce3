//! `tombolo lab`: whole clusters in network namespaces on one machine.

use std::io::{ErrorKind, Write};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result, anyhow, bail};
use clap::{Subcommand, ValueEnum};
use serde_json::Value;
use tombolo_lab::agent::{BGP_SOCKET, in_node};
use tombolo_lab::control::{Place, Request, Status, ask, cluster_number, node_number};
use tombolo_lab::daemon::Wish;
use tombolo_lab::state::{Process, StateDir, labs};
use tombolo_lab::{
    Family, Interconnect, Plan, Reflector, Underlay, plan, report, requirements, supervisor, teardown, web,
};

/// Clusters to try it all on, without a cluster.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Lab,
}

#[derive(Debug, Subcommand)]
enum Lab {
    /// Bring up clusters and leave them running.
    Up(Up),
    /// Say what runs where.
    Status {
        #[command(flatten)]
        lab: Name,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// List the labs on this machine.
    List,
    /// Print the path of a cluster's kubeconfig.
    Kubeconfig {
        #[command(flatten)]
        lab: Name,
        /// Print the kubeconfig itself.
        #[arg(long)]
        raw: bool,
        /// `cluster1`, `c1` or `1`.
        cluster: String,
    },
    /// Run a command in a container of a pod.
    Exec {
        #[command(flatten)]
        lab: Name,
        /// The container; the first if not given.
        #[arg(short, long)]
        container: Option<String>,
        /// `CLUSTER/POD` or `CLUSTER/NAMESPACE/POD`.
        pod: String,
        /// The command.
        #[arg(last = true, required = true)]
        words: Vec<String>,
    },
    /// Run a command on a node.
    Node {
        #[command(flatten)]
        lab: Name,
        /// `CLUSTER/NODE`, such as `cluster1/c1-n1` or `c1/n1`.
        node: String,
        /// The command.
        #[arg(last = true, required = true)]
        words: Vec<String>,
    },
    /// Add a node to a cluster, and print its name.
    AddNode {
        #[command(flatten)]
        lab: Name,
        /// `cluster1`, `c1` or `1`.
        cluster: String,
    },
    /// Remove a node with its pods.
    RemoveNode(OneNode),
    /// Cut a node off: its link to the underlay goes down.
    Cut(OneNode),
    /// Join a node that was cut off again.
    Mend(OneNode),
    /// Stop, kill or start a node's agent. One that is stopped or killed so is not started by itself.
    Agent {
        #[command(flatten)]
        node: OneNode,
        /// What to do.
        #[arg(value_enum)]
        wish: AgentWish,
    },
    /// Stop, kill or start the route reflector. One that is stopped or killed so is not started by itself.
    Reflector {
        #[command(flatten)]
        lab: Name,
        /// What to do.
        #[arg(value_enum)]
        wish: AgentWish,
    },
    /// Remove a lab: every namespace, link, process and file of it.
    Down {
        #[command(flatten)]
        lab: Name,
    },
    /// The process that a lab lives in.
    #[command(hide = true)]
    Supervise { name: String },
    /// The web server of the image `tombolo/web`.
    #[command(hide = true)]
    Web {
        #[arg(long, default_value_t = 80)]
        port: u16,
    },
}

#[derive(Debug, clap::Args)]
struct Up {
    #[command(flatten)]
    lab: Name,
    /// How many clusters.
    #[arg(long, default_value_t = 2)]
    clusters: u8,
    /// How many nodes each cluster has.
    #[arg(long, default_value_t = 2)]
    nodes: u8,
    /// How many locations the nodes of a cluster are spread over.
    #[arg(long, default_value_t = 1)]
    locations: u8,
    /// How the nodes' networks hang together.
    #[arg(long, value_enum, default_value_t = UnderlayArg::Routed)]
    underlay: UnderlayArg,
    /// Which IP the nodes, pods and services have.
    #[arg(long, value_enum, default_value_t = FamilyArg::Ipv4)]
    family: FamilyArg,
    /// How the clusters learn of each other; BGP takes `--underlay flat`.
    #[arg(long, value_enum, default_value_t = InterconnectArg::Wireguard)]
    interconnect: InterconnectArg,
    /// The route reflector, with `--interconnect bgp`.
    #[arg(long, value_enum, default_value_t = ReflectorArg::Tombolo)]
    reflector: ReflectorArg,
    /// Which nodes have a tunnel: one of each location, or all.
    #[arg(long, value_enum, default_value_t = Granularity::Location)]
    mesh_granularity: Granularity,
    /// One more argument for every agent; may be given several times.
    #[arg(long = "agent-arg", value_name = "ARG", allow_hyphen_values = true)]
    agent_args: Vec<String>,
    /// Leave out the clusters' DNS.
    #[arg(long)]
    no_dns: bool,
    /// Each cluster runs a controller: Services are mirrored and imported.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    services: bool,
    /// Imported Services have addresses of their own, out of 10.255.0.0/16 and fdff::/112, instead of derived
    /// Services.
    #[arg(long)]
    clusterset_cidr: bool,
}

#[derive(Debug, clap::Args)]
struct Name {
    /// Which lab; several can stand side by side.
    #[arg(long, default_value = "lab")]
    name: String,
}

#[derive(Debug, clap::Args)]
struct OneNode {
    #[command(flatten)]
    lab: Name,
    /// `CLUSTER/NODE`, such as `cluster1/c1-n1` or `c1/n1`.
    node: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum UnderlayArg {
    /// A network for each cluster, and a router between them.
    Routed,
    /// One network for all.
    Flat,
    /// A private network for each cluster, behind a router that translates addresses.
    Nat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FamilyArg {
    Ipv4,
    Ipv6,
    Dual,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum InterconnectArg {
    /// By Kilo's peers.
    Wireguard,
    /// By BGP, through a route reflector.
    Bgp,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ReflectorArg {
    Tombolo,
    Frr,
    Bird,
    Gobgp,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Granularity {
    Location,
    Full,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AgentWish {
    Stop,
    Kill,
    Start,
}

impl From<AgentWish> for Wish {
    fn from(wish: AgentWish) -> Self {
        match wish {
            AgentWish::Stop => Wish::Stop,
            AgentWish::Kill => Wish::Kill,
            AgentWish::Start => Wish::Start,
        }
    }
}

impl Args {
    /// Whether it is one of the processes of a lab, which outlive those that they write to.
    pub(crate) fn serves(&self) -> bool {
        matches!(self.command, Lab::Supervise { .. } | Lab::Web { .. })
    }
}

/// Runs the subcommand. `exec` and `node` end the process with the exit code of what they ran.
pub(crate) async fn run(args: Args) -> Result<()> {
    match args.command {
        Lab::Up(up) => bring_up(up).await,
        Lab::Status { lab, output } => show(&lab.name, output),
        Lab::List => list(),
        Lab::Kubeconfig { lab, raw, cluster } => kubeconfig(&lab.name, &cluster, raw),
        Lab::Exec { lab, container, pod, words } => exec(&lab.name, &pod, container, &words),
        Lab::Node { lab, node, words } => on_node(&lab.name, &node, &words),
        Lab::AddNode { lab, cluster } => {
            let cluster = parse_cluster(&cluster)?;
            say(&format!("{}\n", ask::<String>(&lab.name, &Request::AddNode { cluster })?))
        }
        Lab::RemoveNode(which) => request(&which, |cluster, node| Request::RemoveNode { cluster, node }),
        Lab::Cut(which) => request(&which, |cluster, node| Request::Cut { cluster, node, cut: true }),
        Lab::Mend(which) => request(&which, |cluster, node| Request::Cut { cluster, node, cut: false }),
        Lab::Agent { node, wish } => {
            let wish = wish.into();
            request(&node, |cluster, node| Request::Agent { cluster, node, wish })
        }
        Lab::Reflector { lab, wish } => {
            ask::<Value>(&lab.name, &Request::Reflector { wish: wish.into() })?;
            Ok(())
        }
        Lab::Down { lab } => down(&lab.name),
        Lab::Supervise { name } => {
            crate::log::start("info", false)?;
            supervisor::supervise(&name).await
        }
        Lab::Web { port } => web::serve(port).await.with_context(|| format!("cannot serve on port {port}")),
    }
}

async fn bring_up(up: Up) -> Result<()> {
    let plan = Plan {
        name: up.lab.name,
        clusters: up.clusters,
        nodes: up.nodes,
        locations: up.locations,
        underlay: match up.underlay {
            UnderlayArg::Routed => Underlay::Routed,
            UnderlayArg::Flat => Underlay::Flat,
            UnderlayArg::Nat => Underlay::Nat,
        },
        family: match up.family {
            FamilyArg::Ipv4 => Family::Ipv4,
            FamilyArg::Ipv6 => Family::Ipv6,
            FamilyArg::Dual => Family::Dual,
        },
        interconnect: match (up.interconnect, up.reflector) {
            (InterconnectArg::Wireguard, _) => Interconnect::Wireguard,
            (InterconnectArg::Bgp, ReflectorArg::Tombolo) => Interconnect::Bgp(Reflector::Tombolo),
            (InterconnectArg::Bgp, ReflectorArg::Frr) => Interconnect::Bgp(Reflector::Frr),
            (InterconnectArg::Bgp, ReflectorArg::Bird) => Interconnect::Bgp(Reflector::Bird),
            (InterconnectArg::Bgp, ReflectorArg::Gobgp) => Interconnect::Bgp(Reflector::Gobgp),
        },
        mesh_granularity: match up.mesh_granularity {
            Granularity::Location => "location".into(),
            Granularity::Full => "full".into(),
        },
        agent_args: up.agent_args,
        dns: !up.no_dns,
        services: up.services,
        clusterset_cidr: up.clusterset_cidr,
    };
    let program = std::env::current_exe().context("this program does not know where it is")?;
    let started = std::time::Instant::now();
    tombolo_lab::up(&plan, &program, |step| {
        // Nobody may be reading any more: the lab comes up all the same.
        let _ = writeln!(std::io::stderr(), "{:5.1} s  {step}", started.elapsed().as_secs_f32());
    })
    .await?;
    let status: Status = ask(&plan.name, &Request::Status)?;
    say(&format!("{}\n{}", report::status(&status), report::guide(&status)))
}

fn show(name: &str, output: Output) -> Result<()> {
    match output {
        Output::Text => say(&report::status(&ask(name, &Request::Status)?)),
        Output::Json => say(&format!("{:#}\n", ask::<Value>(name, &Request::Status)?)),
    }
}

fn list() -> Result<()> {
    let line = |name: String| {
        let text = std::fs::read(StateDir::new(&name).supervisor()).unwrap_or_default();
        let alive = serde_json::from_slice::<Process>(&text).is_ok_and(|process| process.is_alive());
        format!("{name}\t{}\n", if alive { "running" } else { "dead" })
    };
    say(&labs().into_iter().map(line).collect::<String>())
}

fn kubeconfig(name: &str, cluster: &str, raw: bool) -> Result<()> {
    let state = StateDir::new(name);
    let plan = state.read_plan().map_err(|_| anyhow!("there is no lab {name:?}: see `tombolo lab list`"))?;
    let number = parse_cluster(cluster)?;
    if number > plan.clusters {
        bail!("the lab {name} has no cluster{number}: it has {}", plan.clusters);
    }
    let path = state.kubeconfig(&plan.cluster(number).name());
    if !raw {
        return say(&format!("{}\n", path.display()));
    }
    say(&std::fs::read_to_string(&path).with_context(|| path.display().to_string())?)
}

fn exec(name: &str, pod: &str, container: Option<String>, words: &[String]) -> Result<()> {
    let parts: Vec<&str> = pod.split('/').collect();
    let (cluster, namespace, pod) = match parts[..] {
        [cluster, pod] => (cluster, "default", pod),
        [cluster, namespace, pod] => (cluster, namespace, pod),
        _ => bail!("{pod:?} is no pod: write CLUSTER/POD or CLUSTER/NAMESPACE/POD"),
    };
    let (cluster, namespace, pod) = (parse_cluster(cluster)?, namespace.to_owned(), pod.to_owned());
    let place: Place = ask(name, &Request::Container { cluster, namespace, pod, container })?;
    let mut command = place.command(words).context("the container has just ended")?;
    if let Some(terminal) = std::env::var_os("TERM") {
        command.env("TERM", terminal);
    }
    end_as(command, &words[0])
}

fn on_node(name: &str, node: &str, words: &[String]) -> Result<()> {
    let (cluster, number) = parse_node(node)?;
    let state = StateDir::new(name);
    let plan = state.read_plan().map_err(|_| anyhow!("there is no lab {name:?}: see `tombolo lab list`"))?;
    let node = plan.cluster(cluster).node(number);
    let sandbox = in_node(&node.namespace(), &state.node(&node.name()).wireguard());
    let sandbox = sandbox.with_context(|| format!("there is no node {}: see `tombolo lab status`", node.name()))?;
    let mut command = sandbox.command(&words[0]);
    command.args(&words[1..]).env("KUBECONFIG", state.inner_kubeconfig(&node.cluster.name()));
    command.env(BGP_SOCKET, state.node(&node.name()).bgp_socket());
    end_as(command, &words[0])
}

/// Runs the command and ends this process as it ended.
fn end_as(mut command: Command, name: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    std::process::exit(exit_code(status))
}

fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1)
}

fn down(name: &str) -> Result<()> {
    plan::validate_name(name)?;
    requirements::check_root()?;
    if !teardown::down(name).with_context(|| format!("the lab {name} could not be removed whole; try again"))? {
        eprintln!("there is no lab {name}");
    }
    Ok(())
}

fn request(which: &OneNode, make: impl Fn(u8, u8) -> Request) -> Result<()> {
    let (cluster, node) = parse_node(&which.node)?;
    ask::<Value>(&which.lab.name, &make(cluster, node))?;
    Ok(())
}

/// Writes to standard output. A reader that has seen enough (`head`) is no failure.
fn say(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to standard output"),
        _ => Ok(()),
    }
}

fn parse_cluster(text: &str) -> Result<u8> {
    cluster_number(text).ok_or_else(|| anyhow!("{text:?} is no cluster: write cluster1, c1 or 1"))
}

fn parse_node(text: &str) -> Result<(u8, u8)> {
    let parsed = text.split_once('/').and_then(|(cluster, node)| {
        let cluster = cluster_number(cluster)?;
        Some((cluster, node_number(cluster, node)?))
    });
    parsed.ok_or_else(|| anyhow!("{text:?} is no node: write CLUSTER/NODE, such as cluster1/c1-n1 or c1/n1"))
}
