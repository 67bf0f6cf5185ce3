//! Where a lab keeps its files, and which process looks after it.

use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::Plan;

/// The folder of all labs.
pub const ROOT: &str = "/run/tombolo-lab";

/// A lab's folder, `/run/tombolo-lab/NAME`.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

impl StateDir {
    /// The folder of the lab `name`; it need not exist.
    pub fn new(name: &str) -> Self {
        Self(Path::new(ROOT).join(name))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The plan that the lab was built from.
    pub fn plan(&self) -> PathBuf {
        self.0.join("plan.json")
    }

    /// Which process supervises the lab.
    pub fn supervisor(&self) -> PathBuf {
        self.0.join("supervisor.json")
    }

    /// The supervisor's own log.
    pub fn supervisor_log(&self) -> PathBuf {
        self.0.join("supervisor.log")
    }

    /// The socket that the supervisor takes requests on.
    pub fn control(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    /// Programs to put in front of `$PATH`: `tombolo` and `kgctl`.
    pub fn bin(&self) -> PathBuf {
        self.0.join("bin")
    }

    /// The `tombolo` program that the lab runs.
    pub fn program(&self) -> PathBuf {
        self.bin().join("tombolo")
    }

    /// The kubeconfig for the user of a cluster, on this machine.
    pub fn kubeconfig(&self, cluster: &str) -> PathBuf {
        self.0.join(format!("{cluster}.kubeconfig"))
    }

    /// The kubeconfig for what runs inside a cluster.
    pub fn inner_kubeconfig(&self, cluster: &str) -> PathBuf {
        self.0.join(format!("{cluster}.inner.kubeconfig"))
    }

    /// The kubeconfig of a cluster for the controllers of the others.
    pub fn source_kubeconfig(&self, cluster: &str) -> PathBuf {
        self.0.join(format!("{cluster}.source.kubeconfig"))
    }

    /// A node's folder.
    pub fn node(&self, node: &str) -> NodeDir {
        NodeDir(self.0.join("nodes").join(node))
    }

    /// The route reflector's folder.
    pub fn reflector(&self) -> PathBuf {
        self.0.join("reflector")
    }

    /// Notes which process supervises the lab.
    ///
    /// # Errors
    /// There is no such process, or the file's.
    pub fn write_supervisor(&self, pid: i32) -> io::Result<()> {
        std::fs::write(self.supervisor(), serde_json::to_vec(&Process::of(pid)?)?)
    }

    /// Reads the plan.
    ///
    /// # Errors
    /// The file's.
    pub fn read_plan(&self) -> io::Result<Plan> {
        Ok(serde_json::from_slice(&std::fs::read(self.plan())?)?)
    }
}

/// A node's folder, `/run/tombolo-lab/NAME/nodes/NODE`.
#[derive(Debug, Clone)]
pub struct NodeDir(PathBuf);

impl NodeDir {
    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The agent's `--state-dir`.
    pub fn agent_state(&self) -> PathBuf {
        self.0.join("agent")
    }

    /// The agent's output.
    pub fn agent_log(&self) -> PathBuf {
        self.0.join("agent.log")
    }

    /// The folder that CNI configuration is looked for in.
    pub fn cni_conf(&self) -> PathBuf {
        self.0.join("cni").join("net.d")
    }

    /// Where the agent writes CNI configuration to.
    pub fn cni_conflist(&self) -> PathBuf {
        self.cni_conf().join("10-tombolo.conflist")
    }

    /// Where the `host-local` plugin remembers the addresses that it gave away.
    pub fn cni_data(&self) -> PathBuf {
        self.0.join("cni").join("data")
    }

    /// Where the agent answers `tombolo bgp`.
    pub fn bgp_socket(&self) -> PathBuf {
        self.0.join("bgp.sock")
    }

    /// WireGuard control sockets of the node.
    pub fn wireguard(&self) -> PathBuf {
        self.0.join("wireguard")
    }

    /// A pod's folder.
    pub fn pod(&self, uid: &str) -> PathBuf {
        self.0.join("pods").join(uid)
    }

    /// Makes the folders.
    ///
    /// # Errors
    /// The file system's.
    pub fn create(&self) -> io::Result<()> {
        for dir in [self.agent_state(), self.cni_conf(), self.cni_data(), self.wireguard(), self.0.join("pods")] {
            std::fs::create_dir_all(dir)?;
        }
        Ok(())
    }
}

/// A process that cannot be confused with a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot (field 22 of proc_pid_stat(5)).
    pub started: u64,
}

impl Process {
    /// The process with this id.
    ///
    /// # Errors
    /// There is none.
    pub fn of(pid: i32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (state, started) = parse_stat(&stat).ok_or_else(|| io::Error::other("/proc/PID/stat is not as it was"))?;
        // A zombie is gone already, only its parent has not asked yet.
        if state == 'Z' || state == 'X' {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(Self { pid, started })
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now == *self)
    }

    /// Sends a signal, if it still runs.
    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            // It may have ended since: there is nothing to do then.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }
}

/// State and start time. The second field, the name, may contain anything, so fields are counted from its last `)`.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The names of the labs that there are, or that left something in [`ROOT`].
pub fn labs() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(ROOT) else { return Vec::new() };
    let folders = entries.flatten().filter(|e| e.path().is_dir());
    let mut names: Vec<_> = folders.filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_process_is_told_from_a_later_one_with_the_same_number() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let me = Process::of(pid).unwrap();
        assert!(me.is_alive());
        assert!(!Process { started: me.started + 1, ..me }.is_alive());
    }

    #[test]
    fn the_name_in_stat_may_hold_spaces_and_brackets() {
        let fields = (0..18).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(parse_stat(&format!("7 (a) b (c)) S {fields} 4711 0")), Some(('S', 4711)));
        assert_eq!(parse_stat("nothing"), None);
    }
}
