//! What Kilo's own kgctl printed for a cluster's state, recorded on a real API server, is what ours answers: to the byte
//! on standard output, and in the exit code.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use tombolo_api::kilo;
use tombolo_mesh::kgctl::{self, Output, Showconf, View};
use tombolo_mesh::{Node, Peer, Refusal, node, peer};

const NOW: i64 = 1_780_000_000;

#[test]
fn every_recorded_case_is_answered_to_the_byte() {
    let mut commands = 0;
    for case in cases() {
        let cluster = Cluster::load(&case.join("objects.json"));
        let recorded = fs::read_to_string(case.join("expected.txt")).unwrap();
        for Recorded { command, exit, stdout } in parse(&recorded) {
            let output = cluster.run(&command);
            let name = case.file_name().unwrap().to_string_lossy();
            assert_eq!(output.stdout, stdout, "{name}: {command}: standard output");
            assert_eq!(output.exit, exit, "{name}: {command}: exit code; standard error: {}", output.stderr);
            assert!(exit == 0 || !output.stderr.is_empty(), "{name}: {command}: failed without a word");
            commands += 1;
        }
    }
    assert_eq!(commands, 32);
}

#[test]
fn the_order_of_the_lists_does_not_matter() {
    for case in cases() {
        let cluster = Cluster::load(&case.join("objects.json"));
        let mut reversed = cluster.clone();
        reversed.nodes.reverse();
        reversed.peers.reverse();
        for Recorded { command, .. } in parse(&fs::read_to_string(case.join("expected.txt")).unwrap()) {
            assert_eq!(cluster.run(&command), reversed.run(&command), "{command}");
        }
    }
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

struct Recorded {
    command: String,
    exit: u8,
    stdout: String,
}

/// Each block is `$ command`, `# exit CODE`, perhaps `# error:`, the standard output and one line break.
fn parse(text: &str) -> Vec<Recorded> {
    let text = text.strip_prefix("$ ").unwrap().strip_suffix('\n').unwrap();
    text.split("\n$ ")
        .map(|block| {
            let (command, rest) = block.split_once('\n').unwrap();
            let (exit, rest) = rest.strip_prefix("# exit ").unwrap().split_once('\n').unwrap();
            let stdout = match rest.strip_prefix("# error: ") {
                Some(_) => String::new(),
                None => rest.to_owned(),
            };
            Recorded { command: command.to_owned(), exit: exit.parse().unwrap(), stdout }
        })
        .collect()
}

#[derive(Clone)]
struct Cluster {
    nodes: Vec<Node>,
    peers: Vec<Peer>,
    refusals: Vec<Refusal>,
}

impl Cluster {
    fn load(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap().replace("\"NOW\"", &format!("\"{NOW}\""));
        let list: serde_json::Value = serde_json::from_str(&text).unwrap();
        let mut cluster = Self { nodes: Vec::new(), peers: Vec::new(), refusals: Vec::new() };
        for item in list["items"].as_array().unwrap() {
            let item = item.clone();
            if item["kind"] == "Node" {
                let object = serde_json::from_value(item).unwrap();
                let (node, refusals) = node::from_kubernetes(&object, kilo::REGION_LABEL);
                cluster.nodes.push(node);
                cluster.refusals.extend(refusals);
            } else {
                let (peer, refusals) = peer::from_kubernetes(&serde_json::from_value(item).unwrap()).unwrap();
                cluster.peers.push(peer);
                cluster.refusals.extend(refusals);
            }
        }
        cluster
    }

    /// Reads as much of kgctl's arguments as the recordings have.
    fn run(&self, command: &str) -> Output {
        match self.try_run(command) {
            Ok(output) => output,
            Err(stderr) => Output { stdout: String::new(), stderr, exit: 1 },
        }
    }

    fn try_run(&self, command: &str) -> Result<Output, String> {
        let mut view = View {
            nodes: &self.nodes,
            peers: &self.peers,
            refusals: &self.refusals,
            granularity: None,
            port: 51820,
            now: NOW,
        };
        let mut args = Showconf::default();
        let mut positional = Vec::new();
        let mut words = command.split(' ').skip(1);
        while let Some(word) = words.next() {
            match word {
                "--as-peer" => args.as_peer = true,
                "-o" => args.format = words.next().unwrap().parse().map_err(|e| format!("{e}"))?,
                "--allowed-ips" => {
                    let ips: Result<Vec<IpNet>, _> = words.next().unwrap().split(',').map(str::parse).collect();
                    args.allowed_ips = ips.map_err(|e| format!("{e}"))?;
                }
                "--mesh-granularity" => {
                    view.granularity = Some(words.next().unwrap().parse().map_err(|e| format!("{e}"))?)
                }
                other => positional.push(other),
            }
        }
        match positional[..] {
            ["graph"] => Ok(kgctl::graph(&view)),
            ["showconf", "node", name] => Ok(kgctl::showconf_node(&view, &Showconf { name: name.to_owned(), ..args })),
            ["showconf", "peer", name] => Ok(kgctl::showconf_peer(&view, &Showconf { name: name.to_owned(), ..args })),
            _ => Err(format!("{command}: a name is missing")),
        }
    }
}
