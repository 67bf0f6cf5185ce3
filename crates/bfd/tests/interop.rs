//! Sessions with BIRD's and FRR's BFD, over a link between two network namespaces that is cut.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use common::*;
use nix::sched::{CloneFlags, setns};
use tombolo_bfd::{Diagnostic, Peer, State};

const BIRD: &str = "/usr/sbin/bird";
const BFDD: &str = "/usr/lib/frr/bfdd";

/// What is told later than this after the cut is told too late.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// Ours, the other's, over several hops or one.
const SESSIONS: [(&str, &str, bool); 3] =
    [("10.9.0.1", "10.9.0.2", false), ("fd09::1", "fd09::2", false), ("10.9.1.1", "10.9.1.2", true)];

#[test]
fn bird_comes_up_and_its_loss_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = String::from("router id 10.9.0.2;\nprotocol device { scan time 1; }\nprotocol bfd {\n");
    for kind in ["interface \"*\"", "multihop"] {
        config += &format!("  {kind} {{ min rx interval 50 ms; min tx interval 50 ms; multiplier 3; }};\n");
    }
    for (ours, theirs, multihop) in SESSIONS {
        let kind = if multihop { format!("local {theirs} multihop yes") } else { "dev \"eth0\"".to_owned() };
        config += &format!("  neighbor {ours} {kind};\n");
    }
    config += "}\n";
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("bird.conf"), config).unwrap();
    scenario("BIRD", BIRD, "bird2", &["-f", "-c", &path("bird.conf"), "-s", &path("ctl"), "-P", &path("pid")]);
}

#[test]
fn frr_comes_up_and_its_loss_is_told() {
    let folder = tempfile::tempdir().unwrap();
    // The daemon gives up its rights, and writes there.
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let mut config = String::from("bfd\n");
    for (ours, theirs, multihop) in SESSIONS {
        let kind = if multihop { "multihop " } else { "" };
        config +=
            &format!(" peer {ours} {kind}local-address {theirs}\n  receive-interval 50\n  transmit-interval 50\n");
        config += "  detect-multiplier 3\n  no shutdown\n !\n";
    }
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("bfdd.conf"), config + "!\n").unwrap();
    let (config, pid, zebra, control) = (path("bfdd.conf"), path("pid"), path("zebra"), path("control"));
    let files = ["-f", &config, "-i", &pid, "-z", &zebra, "--bfdctl", &control, "--vty_socket", &path("")];
    scenario("FRR", BFDD, "frr", &[&files[..], &["-P", "0", "-u", "frr", "-g", "frr"]].concat());
}

fn scenario(name: &str, program: &str, package: &str, arguments: &[&str]) {
    assert!(Path::new(program).exists(), "{program} is missing: install Debian's {package}");
    let (here, there) = (Namespace::new(), Namespace::new());
    here.ip(&format!("link add eth0 type veth peer name eth0 netns {}", there.0));
    for namespace in [&here, &there] {
        namespace.ip("link set eth0 up");
    }
    let number = |ours: bool| {
        let namespace = if ours { &here } else { &there };
        for (own, other, _) in SESSIONS {
            let address = if ours { own } else { other };
            let rest = if address.contains(':') { "/64 nodad" } else { "/24" };
            namespace.ip(&format!("address replace {address}{rest} dev eth0"));
        }
    };
    number(true);
    number(false);
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &there.0, program]).args(arguments);
    let _daemon = Daemon(command.spawn().unwrap());
    let side = here.enter(|| Side::new(None));

    let address = |text: &str| -> IpAddr { text.parse().unwrap() };
    let peers = SESSIONS.map(|(ours, theirs, multihop)| peer(address(theirs), Some(address(ours)), multihop));
    side.set(&peers.map(|peer| (peer, timers(50, 3))));
    for round in 1..=2 {
        let mut waiting = peers.to_vec();
        while !waiting.is_empty() {
            let event = side.wait_for(State::Up);
            waiting.retain(|peer| *peer != event.peer);
        }
        until("the agreed pace", || {
            side.bfd.status().sessions.iter().all(|session| {
                session.state == State::Up
                    && session.transmit_interval == Some(ms(50))
                    && session.detection_time == Some(ms(150))
            })
        });
        let counts = || side.bfd.status().sessions.into_iter().map(|session| session.received);
        let before: Vec<u64> = counts().collect();
        until("a while at that pace", || counts().zip(&before).all(|(now, before)| now >= before + 10));
        let early = side.events();
        assert!(early.is_empty(), "nothing happens while the link is whole: {early:?}");

        let cut = Instant::now();
        there.ip("link set eth0 down");
        let mut waiting: Vec<Peer> = peers.to_vec();
        while !waiting.is_empty() {
            let event = side.wait_for(State::Down);
            let told = event.at.saturating_duration_since(cut);
            assert!(event.at > cut && told < TOLD_WITHIN, "{}: {told:?}", event.peer);
            println!("{name}, round {round}: {} down {told:?} after the cut: {}", event.peer, event.diagnostic);
            assert_eq!(event.diagnostic, Diagnostic::TIME_EXPIRED);
            waiting.retain(|peer| *peer != event.peer);
        }
        there.ip("link set eth0 up");
        number(false);
    }
}

/// Ends with the value.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A namespace that goes with the value, also when the test fails.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        let namespace = Self(format!("tbfd-{}-{:02x}{:02x}", std::process::id(), random(), random()));
        run(&["netns", "add", &namespace.0]);
        namespace.ip("link set lo up");
        namespace
    }

    fn ip(&self, words: &str) {
        let mut all = vec!["-n", &self.0];
        all.extend(words.split_whitespace());
        run(&all);
    }

    /// Runs a function inside, on a thread of its own; threads that it starts stay there.
    fn enter<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(File::open(format!("/run/netns/{}", self.0)).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            task()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

fn run(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("the program ip (Debian's iproute2)");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
