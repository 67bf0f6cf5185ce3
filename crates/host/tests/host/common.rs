//! Network namespaces of a test's own.
#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::resume_unwind;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use tokio::runtime::Runtime;

/// A namespace that goes with the value, also when the test fails.
pub(crate) struct Namespace(pub(crate) String);

impl Namespace {
    pub(crate) fn new() -> Self {
        let number = RandomState::new().build_hasher().finish() as u32;
        let namespace = Self(format!("th-{number:08x}"));
        run(&["ip", "netns", "add", &namespace.0]);
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `ip WORDS` inside and gives what it printed.
    pub(crate) fn ip(&self, words: &str) -> String {
        self.exec(&format!("ip {words}"))
    }

    pub(crate) fn exec(&self, words: &str) -> String {
        let mut command = vec!["ip", "netns", "exec", &self.0];
        command.extend(words.split_whitespace());
        run(&command)
    }

    /// Runs a future inside, on a thread and a runtime of its own.
    pub(crate) fn run<T: Send>(&self, task: impl AsyncFnOnce() -> T + Send) -> T {
        self.enter(|runtime| runtime.block_on(task()))
    }

    /// Runs a function inside, on a thread of its own, with a runtime.
    pub(crate) fn enter<T: Send>(&self, task: impl FnOnce(Runtime) -> T + Send) -> T {
        let inside = || {
            setns(File::open(format!("/run/netns/{}", self.0)).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            task(tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap())
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// Joins two namespaces by a veth pair, both ends named `eth0` and up, with the addresses.
    pub(crate) fn join(&self, other: &Self, own: &[&str], others: &[&str]) {
        self.ip(&format!("link add eth0 type veth peer name eth0 netns {}", other.0));
        for (namespace, addresses) in [(self, own), (other, others)] {
            for address in addresses {
                let nodad = if address.contains(':') { "nodad" } else { "" };
                namespace.ip(&format!("address add {address} dev eth0 {nodad}"));
            }
            namespace.ip("link set eth0 up");
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

fn run(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits for the condition, ten seconds at most.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}: not within ten seconds");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
