//! What one can ask of a running lab: a JSON object on a line, answered by one.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::daemon::{DaemonState, Wish};
use crate::plan::{Plan, Reflector};
use crate::spawn::Sandbox;
use crate::state::StateDir;

/// How long the longest request may take: a node that comes or goes with its agent.
const TIMEOUT: Duration = Duration::from_secs(90);

/// A request. Clusters and nodes are named by their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the fields say what they are")]
pub enum Request {
    /// How everything is; answered with [`Status`].
    Status,
    /// One more node; answered with its name.
    AddNode { cluster: u8 },
    /// One node less, with its pods.
    RemoveNode { cluster: u8, node: u8 },
    /// Cuts the node's cable (`cut`), or mends it.
    Cut { cluster: u8, node: u8, cut: bool },
    /// Starts, stops or kills a node's agent.
    Agent { cluster: u8, node: u8, wish: Wish },
    /// Starts, stops or kills the route reflector.
    Reflector { wish: Wish },
    /// Where a container runs; answered with [`Place`].
    Container { cluster: u8, namespace: String, pod: String, container: Option<String> },
}

/// Where a container runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its main process.
    pub pid: i32,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Where its programs start.
    pub working_dir: Option<String>,
}

impl Place {
    /// A command in the container, with its environment.
    ///
    /// # Errors
    /// The container has ended meanwhile.
    pub fn command(&self, words: &[String]) -> io::Result<Command> {
        self.command_in(Sandbox::of_process(self.pid)?, words)
    }

    /// The same in a session of its own; with `terminal` its standard input, which is one, becomes the session's.
    ///
    /// # Errors
    /// As [`Place::command`].
    pub fn session(&self, words: &[String], terminal: bool) -> io::Result<Command> {
        let sandbox = Sandbox::of_process(self.pid)?;
        self.command_in(if terminal { sandbox.terminal() } else { sandbox.session() }, words)
    }

    fn command_in(&self, sandbox: Sandbox, words: &[String]) -> io::Result<Command> {
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let sandbox = sandbox.directory(self.working_dir.as_deref().unwrap_or("/"))?;
        let mut command = sandbox.command(program);
        command.args(arguments).env_clear().envs(self.env.iter().cloned());
        Ok(command)
    }
}

/// How a lab is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What it was built from.
    pub plan: Plan,
    /// The supervisor's process.
    pub pid: u32,
    /// Its clusters.
    pub clusters: Vec<ClusterStatus>,
    /// Its route reflector, if the clusters are joined by BGP.
    pub reflector: Option<ReflectorStatus>,
}

/// How the route reflector is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReflectorStatus {
    /// Which program.
    pub program: Reflector,
    /// Its network namespace.
    pub namespace: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// What it announces itself.
    pub networks: Vec<String>,
    /// Its processes, the speaker last.
    pub processes: Vec<DaemonState>,
    /// Whether it listens on the port of BGP.
    pub listens: bool,
    /// The speaker's log.
    pub log: String,
    /// The command that shows its neighbours.
    pub look: String,
}

/// How a cluster is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// The kubeconfig for this machine.
    pub kubeconfig: String,
    /// Its API server, for this machine and for its nodes.
    pub api: Vec<String>,
    /// Its pod CIDRs.
    pub pod_cidrs: Vec<String>,
    /// Its service CIDRs.
    pub service_cidrs: Vec<String>,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
}

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// Its network namespace.
    pub namespace: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its location.
    pub location: String,
    /// Whether its cable is cut.
    pub cut: bool,
    /// Its agent.
    pub agent: DaemonState,
    /// Whether the agent says that it is ready.
    pub ready: bool,
    /// The agent's log.
    pub log: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It is done.
    Ok(Value),
    /// It is not, for this reason.
    Error(String),
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no lab with this name.
    #[error(
        "there is no lab {0:?}: make one with `tombolo lab up --name {0}`, or see which there are with `tombolo lab list`"
    )]
    NoLab(String),
    /// What is left of one.
    #[error(
        "the lab {name:?} is there, but its supervisor does not answer ({source}): remove it with `tombolo lab down --name {name}`"
    )]
    Dead {
        /// Its name.
        name: String,
        /// What the socket said.
        source: io::Error,
    },
    /// The supervisor refused.
    #[error("{0}")]
    Refused(String),
    /// The answer does not parse: another version's supervisor.
    #[error("the lab's supervisor answered something else than asked for ({0}): is it of another version?")]
    Answer(#[from] serde_json::Error),
}

/// Asks the supervisor of the lab `name`.
///
/// # Errors
/// There is none, or it refuses.
pub fn ask<T: serde::de::DeserializeOwned>(name: &str, request: &Request) -> Result<T, ControlError> {
    let state = StateDir::new(name);
    if !state.path().exists() {
        return Err(ControlError::NoLab(name.to_owned()));
    }
    let dead = |source| ControlError::Dead { name: name.to_owned(), source };
    let line = exchange(&state, request).map_err(dead)?;
    match serde_json::from_str(&line)? {
        Answer::Ok(value) => Ok(serde_json::from_value(value)?),
        Answer::Error(why) => Err(ControlError::Refused(why)),
    }
}

fn exchange(state: &StateDir, request: &Request) -> io::Result<String> {
    let mut stream = UnixStream::connect(state.control())?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    writeln!(stream, "{}", serde_json::to_string(request)?)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    if line.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(line) }
}

/// The number of a cluster by any of its names: `cluster1`, `c1`, `1`.
pub fn cluster_number(name: &str) -> Option<u8> {
    let digits = name.strip_prefix("cluster").or_else(|| name.strip_prefix('c')).unwrap_or(name);
    digits.parse().ok().filter(|n| *n > 0)
}

/// The number of a node of a cluster by any of its names: `c1-n2`, `n2`, `2`.
pub fn node_number(cluster: u8, name: &str) -> Option<u8> {
    let rest = name.strip_prefix(&format!("c{cluster}-")).unwrap_or(name);
    rest.strip_prefix('n').unwrap_or(rest).parse().ok().filter(|n| *n > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn clusters_and_nodes_have_long_and_short_names() {
        for name in ["cluster2", "c2", "2"] {
            assert_eq!(cluster_number(name), Some(2), "{name}");
        }
        for name in ["c2-n1", "n1", "1"] {
            assert_eq!(node_number(2, name), Some(1), "{name}");
        }
        assert_eq!(node_number(1, "c2-n1"), None);
        assert_eq!(cluster_number("cluster0"), None);
        assert_eq!(cluster_number("x"), None);
    }

    #[test]
    fn a_request_is_one_line_of_json() {
        let request = Request::Agent { cluster: 1, node: 2, wish: Wish::Kill };
        let line = serde_json::to_string(&request).unwrap();
        assert_eq!(line, r#"{"do":"agent","cluster":1,"node":2,"wish":"kill"}"#);
        assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), request);
    }
}
