//! A lab of a test's own, gone with it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::command::{attempt, command, run, tombolo};

/// A lab. Dropping it takes it down, also when the test fails.
pub struct Lab {
    /// Its name, which no other has.
    pub name: String,
    /// `tombolo lab status -o json`.
    pub status: Value,
}

impl Lab {
    /// Brings up a lab with these arguments of `tombolo lab up`.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn up(args: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("e{}x{}", std::process::id() % 100_000, COUNT.fetch_add(1, Ordering::Relaxed));
        let mut lab = Self { name, status: Value::Null };
        run(lab.lab("up").args(args), "");
        lab.refresh();
        lab
    }

    /// Reads the status anew.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn refresh(&mut self) {
        self.status = serde_json::from_str(&run(self.lab("status").args(["-o", "json"]), "")).unwrap();
    }

    /// `tombolo lab VERB --name NAME`.
    pub fn lab(&self, verb: &str) -> Command {
        command(tombolo(), ["lab", verb, "--name", &self.name])
    }

    /// The kubeconfig of a cluster, by number from 1.
    pub fn kubeconfig(&self, cluster: usize) -> PathBuf {
        PathBuf::from(self.status["clusters"][cluster - 1]["kubeconfig"].as_str().unwrap())
    }

    /// The service CIDRs of a cluster, separated by commas.
    pub fn service_cidrs(&self, cluster: usize) -> String {
        strings(&self.status["clusters"][cluster - 1]["service_cidrs"]).join(",")
    }

    /// The pod CIDRs of a cluster.
    pub fn pod_cidrs(&self, cluster: usize) -> Vec<String> {
        strings(&self.status["clusters"][cluster - 1]["pod_cidrs"])
    }

    /// The names of a cluster's nodes.
    pub fn nodes(&self, cluster: usize) -> Vec<String> {
        let nodes = self.status["clusters"][cluster - 1]["nodes"].as_array().unwrap();
        nodes.iter().map(|node| node["name"].as_str().unwrap().to_owned()).collect()
    }

    /// A node's entry in the status.
    pub fn node(&self, cluster: usize, name: &str) -> &Value {
        let nodes = self.status["clusters"][cluster - 1]["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["name"] == name).unwrap()
    }

    /// `kubectl` on a cluster.
    pub fn kubectl(&self, cluster: usize, args: &[&str]) -> Command {
        self.kubectl_of("kubectl", cluster, args)
    }

    /// Another `kubectl` on a cluster.
    pub fn kubectl_of(&self, program: &str, cluster: usize, args: &[&str]) -> Command {
        let mut command = command(program, ["--kubeconfig"]);
        command.arg(self.kubeconfig(cluster));
        // What kubectl knows of an API server it keeps by address, and addresses of labs come again.
        command.arg("--cache-dir").arg(format!("/run/tombolo-lab/{}/kubectl-cache", self.name)).args(args);
        command
    }

    /// `kgctl` on a cluster.
    pub fn kgctl(&self, cluster: usize, args: &[&str]) -> Command {
        let mut command = command(format!("/run/tombolo-lab/{}/bin/kgctl", self.name), ["--kubeconfig"]);
        command.arg(self.kubeconfig(cluster)).args(args);
        command
    }

    /// A command in a pod.
    pub fn in_pod(&self, cluster: usize, pod: &str, words: &[&str]) -> Command {
        let mut command = self.lab("exec");
        command.arg(format!("cluster{cluster}/{pod}")).arg("--").args(words);
        command
    }

    /// A command on a node.
    pub fn on_node(&self, cluster: usize, node: &str, words: &[&str]) -> Command {
        let mut command = self.lab("node");
        command.arg(format!("cluster{cluster}/{node}")).arg("--").args(words);
        command
    }

    /// The agent's log of a node.
    pub fn log(&self, cluster: usize, node: &str) -> String {
        std::fs::read_to_string(self.node(cluster, node)["log"].as_str().unwrap()).unwrap_or_default()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.say_logs();
        }
        if let Err(words) = attempt(&mut self.lab("down"), "") {
            eprintln!("lab {} is not down: {words}", self.name);
        }
    }
}

impl Lab {
    /// The ends of the agents' logs, for the one who reads why a test failed.
    fn say_logs(&self) {
        let clusters = self.status["clusters"].as_array().cloned().unwrap_or_default();
        for node in clusters.iter().flat_map(|c| c["nodes"].as_array().cloned().unwrap_or_default()) {
            let log = std::fs::read_to_string(node["log"].as_str().unwrap_or_default()).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- {}\n{}", node["name"], lines[lines.len().saturating_sub(15)..].join("\n"));
        }
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}
