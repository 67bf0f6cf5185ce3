//! kgctl's arguments against the recordings of Kilo's own.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use tombolo_api::kilo;
use tombolo_mesh::kgctl::Output;

use super::list::Listed;
use super::{Command, graph, parse};

const NOW: i64 = 1_780_000_000;

#[test]
fn the_recorded_commands_are_answered_to_the_byte() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mesh/tests/golden");
    let mut commands = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let case = entry.unwrap().path();
        let cluster = load(&case.join("objects.json"));
        let recorded = fs::read_to_string(case.join("expected.txt")).unwrap();
        for block in recorded.strip_prefix("$ ").unwrap().strip_suffix('\n').unwrap().split("\n$ ") {
            let (command, rest) = block.split_once('\n').unwrap();
            let (exit, rest) = rest.strip_prefix("# exit ").unwrap().split_once('\n').unwrap();
            let stdout = if rest.starts_with("# error: ") { "" } else { rest };
            let output = run(&cluster, command);
            assert_eq!(output.stdout, stdout, "{command}");
            assert_eq!(output.exit.to_string(), exit, "{command}: {}", output.stderr);
            assert!(output.exit == 0 || !output.stderr.is_empty(), "{command} failed without a word");
            commands += 1;
        }
    }
    assert_eq!(commands, 32);
}

#[test]
fn flags_stand_where_kilos_may_stand() {
    for command in [
        "kgctl --kubeconfig /k showconf node a1 --as-peer -o yaml --allowed-ips 10.43.0.0/16",
        "kgctl showconf --as-peer -o yaml node a1 --kubeconfig /k",
        "kgctl showconf node a1 --as-peer=true --output=json --port 51821",
        "kgctl showconf node --backend kubernetes --topology-label example.com/zone a1",
        "kgctl showconf peer p --allowed-ips 10.43.0.0/16,fd43::/112 --allowed-ips 10.44.0.0/16",
        "kgctl showconf node a1 --allowed-ips= --mesh-granularity auto",
        "kgctl graph --mesh-granularity full",
        "kgctl version",
    ] {
        let parsed = parse(command.split(' ').map(Into::into));
        assert!(parsed.is_ok(), "{command}: {}", parsed.unwrap_err());
    }
}

#[test]
fn wrong_arguments_are_named() {
    for (command, named) in [
        ("kgctl showconf node a1 -o xml", "xml"),
        ("kgctl showconf node a1 --allowed-ips 10.43.0.0/16,10.43.0.0/33", "10.43.0.0/33"),
        ("kgctl showconf node", "NAME"),
        ("kgctl showconf node a1 --mesh-granularity wrong", "auto, location or full"),
        ("kgctl showconf node a1 --port 0", "--port"),
        ("kgctl showconf node a1 --backend etcd", "kubernetes"),
    ] {
        let error = parse(command.split(' ').map(Into::into)).unwrap_err().to_string();
        assert!(error.contains(named), "{command}: {error}");
    }
}

fn load(path: &Path) -> Listed {
    let text = fs::read_to_string(path).unwrap().replace("\"NOW\"", &format!("\"{NOW}\""));
    let list: serde_json::Value = serde_json::from_str(&text).unwrap();
    let (nodes, peers): (Vec<_>, Vec<_>) =
        list["items"].as_array().unwrap().iter().cloned().partition(|item| item["kind"] == "Node");
    let nodes: Vec<_> = nodes.into_iter().map(|node| serde_json::from_value(node).unwrap()).collect();
    Listed::new(&nodes, peers, kilo::REGION_LABEL)
}

fn run(cluster: &Listed, command: &str) -> Output {
    let cli = match parse(command.split(' ').map(Into::into)) {
        Ok(cli) => cli,
        Err(error) => return Output { stdout: String::new(), stderr: error.to_string(), exit: 1 },
    };
    let view = cli.mesh.view(cluster, NOW);
    match cli.command {
        Command::Showconf(args) => args.answer(&view),
        Command::Graph => graph::answer(&view),
        Command::Version => unreachable!(),
    }
}
