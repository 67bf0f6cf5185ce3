//! What `kgctl showconf` and `kgctl graph` answer, as functions of what was listed from the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use crate::kiloconf::{Conf, PeerSection};
use crate::peer_manifest::PeerManifest;
use crate::{Granularity, Node, Peer, Refusal, Topology, TopologyError, TopologyInput};

/// The WireGuard subnet where no node has a WireGuard address yet: Kilo's default.
pub const DEFAULT_SUBNET: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 4, 0, 0), 16));

/// A cluster's mesh as it was listed, and how to look at it.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// All nodes, ready or not, in any order.
    pub nodes: &'a [Node],
    /// All peers, in any order.
    pub peers: &'a [Peer],
    /// What of the objects could not be read; said on standard error.
    pub refusals: &'a [Refusal],
    /// `--mesh-granularity`; `None` for `auto`, which is what the nodes say.
    pub granularity: Option<Granularity>,
    /// `--port`.
    pub port: u16,
    /// Unix time in seconds.
    pub now: i64,
}

/// The arguments of `showconf node` and `showconf peer`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Showconf {
    /// Name of the node or peer.
    pub name: String,
    /// `--as-peer`: what others need to reach it, instead of what it needs itself.
    pub as_peer: bool,
    /// `--output`, which counts with `--as-peer` only.
    pub format: Format,
    /// `--allowed-ips`, which are added with `--as-peer` only.
    pub allowed_ips: Vec<IpNet>,
}

/// The forms in which a peer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// A section `[Peer]`.
    #[default]
    WireGuard,
    /// A Peer resource.
    Yaml,
    /// A Peer resource.
    Json,
}

/// A text that names no [`Format`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no output format; write wireguard, yaml or json")]
pub struct FormatError(String);

impl FromStr for Format {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "wireguard" => Ok(Self::WireGuard),
            "yaml" => Ok(Self::Yaml),
            "json" => Ok(Self::Json),
            other => Err(FormatError(other.to_owned())),
        }
    }
}

/// What a command prints and exits with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// For programs, to the byte as Kilo's kgctl prints it.
    pub stdout: String,
    /// For people; whole lines.
    pub stderr: String,
    /// 0 done, 1 failed.
    pub exit: u8,
}

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No node at all.
    #[error("the cluster has no nodes; see whether the kubeconfig is that of the right cluster")]
    NoNodes,
    /// Nodes, but none that takes part in the mesh.
    #[error("no node of the cluster is ready for the mesh: {0}")]
    NoReadyNodes(String),
    /// No node of that name.
    #[error("there is no node named {name:?}; the cluster has {known}")]
    UnknownNode {
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The node does not take part in the mesh.
    #[error("node {name:?} is not ready for the mesh: {reason}")]
    NodeNotReady {
        /// The name asked for.
        name: String,
        /// What it lacks.
        reason: String,
    },
    /// No peer of that name.
    #[error("there is no peer named {name:?}; the cluster has {known}")]
    UnknownPeer {
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
    /// The peer cannot be used.
    #[error("peer {name:?} cannot be used: {reason}")]
    PeerRefused {
        /// The name asked for.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `auto`, but no node says.
    #[error(
        "no node says at what granularity it is meshed (annotation kilo.squat.ai/granularity); \
         give --mesh-granularity location or full"
    )]
    UnknownGranularity,
    /// No topology.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// The answer cannot be written.
    #[error("the Peer cannot be written as YAML: {0}")]
    Yaml(#[from] serde_yaml_ng::Error),
    /// The answer cannot be written.
    #[error("the Peer cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// `kgctl showconf node`: the configuration of the node's device, or of the node's segment as a peer.
///
/// A node that leads no segment has none: nothing on standard output, a word on standard error, and exit code 0, so that
/// a loop over all nodes goes on.
pub fn showconf_node(view: &View<'_>, args: &Showconf) -> Output {
    output(view, || {
        let mesh = Mesh::new(view)?;
        let Some(node) = mesh.nodes.get(&args.name) else { return Err(missing_node(view, &args.name)) };
        let topology = mesh.topology(view, &args.name, node.persistent_keepalive)?;
        let refusals = topology.refusals.clone();
        if !topology.leader {
            return Ok(Answer { refusals, ..Answer::said(no_leader(&topology)) });
        }
        if !args.as_peer {
            return Ok(Answer { refusals, ..Answer::printed(topology.conf().to_string()) });
        }
        let Some(section) = topology.as_peer() else {
            return Err(TopologyError::UnknownHost(args.name.clone()).into());
        };
        Ok(Answer { refusals, ..Answer::printed(peer_text(section, args)?) })
    })
}

/// `kgctl showconf peer`: the configuration of the peer's device, or the peer as a peer of other devices.
pub fn showconf_peer(view: &View<'_>, args: &Showconf) -> Output {
    output(view, || {
        let mesh = Mesh::new(view)?;
        let Some(peer) = mesh.peers.get(&args.name) else { return Err(missing_peer(view, &args.name)) };
        if args.as_peer {
            return Ok(Answer::printed(peer_text(PeerSection::from(peer), args)?));
        }
        let topology = mesh.topology(view, mesh.first_node()?, peer.persistent_keepalive.unwrap_or(0))?;
        let text = topology.peer_conf(&args.name).to_string();
        Ok(Answer { refusals: topology.refusals, ..Answer::printed(text) })
    })
}

/// `kgctl graph`: the topology in Graphviz's DOT language.
pub fn graph(view: &View<'_>) -> Output {
    output(view, || {
        let mesh = Mesh::new(view)?;
        let topology = mesh.topology(view, mesh.first_node()?, 0)?;
        let text = topology.graph() + "\n";
        Ok(Answer { refusals: topology.refusals, ..Answer::printed(text) })
    })
}

#[derive(Default)]
struct Answer {
    stdout: String,
    note: Option<String>,
    refusals: Vec<Refusal>,
}

impl Answer {
    fn printed(stdout: String) -> Self {
        Self { stdout, ..Self::default() }
    }

    fn said(note: String) -> Self {
        Self { note: Some(note), ..Self::default() }
    }
}

fn output(view: &View<'_>, answer: impl FnOnce() -> Result<Answer, Error>) -> Output {
    let mut output = Output::default();
    let mut say = |line: String| {
        // Writing to a String does not fail.
        let _ = writeln!(output.stderr, "{line}");
    };
    for refusal in view.refusals {
        say(format!("warning: {refusal}"));
    }
    match answer() {
        Ok(answer) => {
            answer.refusals.iter().for_each(|refusal| say(format!("warning: {refusal}")));
            answer.note.into_iter().for_each(say);
            output.stdout = answer.stdout;
        }
        Err(error) => {
            say(format!("error: {error}"));
            output.exit = 1;
        }
    }
    output
}

/// What takes part in the mesh.
struct Mesh {
    nodes: BTreeMap<String, Node>,
    peers: BTreeMap<String, Peer>,
    granularity: Granularity,
    subnets: Vec<IpNet>,
}

impl Mesh {
    fn new(view: &View<'_>) -> Result<Self, Error> {
        let ready = |node: &&Node| node.ready(view.now);
        let nodes: BTreeMap<String, Node> =
            view.nodes.iter().filter(ready).map(|node| (node.name.clone(), node.clone())).collect();
        if view.nodes.is_empty() {
            return Err(Error::NoNodes);
        }
        if nodes.is_empty() {
            return Err(Error::NoReadyNodes(unready(view)));
        }
        let said = nodes.values().find_map(|node| node.granularity);
        let granularity = view.granularity.or(said).ok_or(Error::UnknownGranularity)?;
        let peers = view.peers.iter().filter(|peer| peer.ready()).map(|peer| (peer.name.clone(), peer.clone()));
        let subnets = subnets(&nodes, view.nodes);
        Ok(Self { nodes, peers: peers.collect(), granularity, subnets })
    }

    fn first_node(&self) -> Result<&str, Error> {
        self.nodes.keys().next().map(String::as_str).ok_or(Error::NoNodes)
    }

    fn topology(&self, view: &View<'_>, hostname: &str, keepalive: u16) -> Result<Topology, TopologyError> {
        Topology::new(&TopologyInput {
            nodes: &self.nodes,
            peers: &self.peers,
            granularity: self.granularity,
            hostname,
            port: view.port,
            subnets: &self.subnets,
            service_cidrs: &[],
            persistent_keepalive: keepalive,
        })
    }
}

/// The subnets that the WireGuard addresses of the nodes are from: of each family the first by name, ready ones first.
fn subnets(ready: &BTreeMap<String, Node>, all: &[Node]) -> Vec<IpNet> {
    let rest: BTreeMap<&str, &Node> = all.iter().map(|node| (node.name.as_str(), node)).collect();
    let ips = ready.values().chain(rest.into_values()).flat_map(|node| &node.wireguard_ips);
    let mut subnets: Vec<IpNet> = Vec::new();
    for ip in ips {
        if !subnets.iter().any(|subnet| subnet.addr().is_ipv4() == ip.addr().is_ipv4()) {
            subnets.push(ip.trunc());
        }
    }
    if subnets.is_empty() { vec![DEFAULT_SUBNET] } else { subnets }
}

fn peer_text(mut section: PeerSection, args: &Showconf) -> Result<String, Error> {
    section.allowed_ips.extend(args.allowed_ips.iter().map(IpNet::trunc));
    section.deduplicate();
    match args.format {
        Format::WireGuard => Ok(Conf { interface: None, peers: vec![section] }.to_string()),
        Format::Yaml => Ok(PeerManifest::new(&args.name, &section).yaml()?),
        Format::Json => Ok(PeerManifest::new(&args.name, &section).json()?),
    }
}

fn no_leader(topology: &Topology) -> String {
    let leader = topology.own_segment().map(|segment| segment.leader().name.as_str()).unwrap_or_default();
    format!("Node {:?} is not a leader node; {leader:?} leads {:?}", topology.hostname, topology.location)
}

fn missing_node(view: &View<'_>, name: &str) -> Error {
    let name = name.to_owned();
    match view.nodes.iter().find(|node| node.name == name) {
        Some(node) => Error::NodeNotReady { name, reason: lacks(node, view.now) },
        None => Error::UnknownNode { name, known: names(view.nodes.iter().map(|node| node.name.as_str()), "nodes") },
    }
}

fn missing_peer(view: &View<'_>, name: &str) -> Error {
    let object = format!("Peer/{name}");
    let refused: Vec<String> = view
        .refusals
        .iter()
        .filter(|refusal| refusal.object == object)
        .map(|refusal| format!("{} {:?}: {}", refusal.field, refusal.value, refusal.reason))
        .collect();
    let name = name.to_owned();
    if !refused.is_empty() {
        return Error::PeerRefused { name, reason: refused.join("; ") };
    }
    if view.peers.iter().any(|peer| peer.name == name) {
        return Error::PeerRefused { name, reason: "its spec.allowedIPs is empty".to_owned() };
    }
    Error::UnknownPeer { name, known: names(view.peers.iter().map(|peer| peer.name.as_str()), "peers") }
}

fn unready(view: &View<'_>) -> String {
    let by_name: BTreeMap<&str, &Node> = view.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
    let reasons = by_name.into_values().map(|node| format!("{} ({})", node.name, lacks(node, view.now)));
    shortened(reasons.collect())
}

/// What a node that is not ready lacks.
fn lacks(node: &Node, now: i64) -> String {
    let mut lacks = Vec::new();
    if node.endpoint.is_none() {
        lacks.push("it has no endpoint".to_owned());
    }
    if node.key.is_none() {
        lacks.push("it has no WireGuard key".to_owned());
    }
    if node.subnets.is_empty() {
        lacks.push("it has no pod CIDR".to_owned());
    }
    if node.last_seen == 0 {
        lacks.push("its agent was never seen; see whether one runs on it".to_owned());
    } else if !node.ready(now) && lacks.is_empty() {
        let ago = now.saturating_sub(node.last_seen);
        lacks.push(format!("its agent was last seen {ago} seconds ago; see whether it runs"));
    }
    lacks.join(", ")
}

fn names<'a>(names: impl Iterator<Item = &'a str>, what: &str) -> String {
    let sorted: BTreeSet<&str> = names.collect();
    if sorted.is_empty() {
        return format!("no {what}");
    }
    shortened(sorted.into_iter().map(str::to_owned).collect())
}

/// At most ten of them.
fn shortened(mut texts: Vec<String>) -> String {
    let more = texts.len().saturating_sub(10);
    texts.truncate(10);
    let text = texts.join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}
