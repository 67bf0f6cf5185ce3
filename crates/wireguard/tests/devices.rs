//! Devices for real, in network namespaces: ours with ours and with Debian's `wireguard-go`, configured by Debian's
//! `wg`. Needs root, wireguard-tools, wireguard-go, iproute2 and iputils-ping.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tombolo_net::wireguard::{Device as Wanted, Peer, changes};
use tombolo_wireguard::device::{Kind, OpenOptions, Prefer, open, remove};
use tombolo_wireguard::{embedded, keys};

/// Where `wg` and `wireguard-go` have their sockets: the interfaces' names are random.
const SOCKETS: &str = "/run/wireguard";

#[test]
fn ours_and_ours_carry_traffic() {
    carries_traffic(&Pair::new("ours"));
}

#[test]
fn ours_and_wireguard_go_carry_traffic() {
    carries_traffic(&Pair::new("go"));
}

/// Inner and outer IPv4 and IPv6, a new port, roaming, one address for both, and peers that come and go.
fn carries_traffic(pair: &Pair) {
    let (a, b) = (&pair.a, &pair.b);
    pair.configure("[2001:db8::2]:51821");
    a.ping("10.9.0.2", &[]);
    b.ping("fd09::1", &[]);

    a.wg(&["listen-port", "51999", "peer", &b.public, "endpoint", "192.0.2.2:51821"]);
    a.ping("fd09::2", &[]);
    let endpoints = output("wg", &["show", &b.iface, "endpoints"]);
    assert!(endpoints.contains("192.0.2.1:51999"), "the peer roamed to the new port and family: {endpoints}");

    // The peer's endpoint is itself routed into the tunnel; only the mark keeps encrypted packets out of it.
    a.ip(&["route", "add", "192.0.2.2/32", "dev", &a.iface, "table", "7"]);
    a.ip(&["rule", "add", "not", "fwmark", "0x453", "lookup", "7"]);
    a.wg(&["peer", &b.public, "allowed-ips", "10.9.0.2/32,fd09::2/128,192.0.2.2/32"]);
    a.ping("192.0.2.2", &["-I", "10.9.0.1"]);
    a.wg(&["listen-port", "51998"]);
    a.ping("192.0.2.2", &["-I", "10.9.0.1"]);

    let mut ping = a.command("ping", &["-q", "-c", "50", "-i", "0.01", "-W", "2", "10.9.0.2"]);
    let ping = ping.stdout(Stdio::piped()).spawn().unwrap();
    for n in 0..10 {
        let stranger = keys::public(&keys::generate_private()).to_string();
        a.wg(&["peer", &stranger, "allowed-ips", &format!("10.77.{n}.0/24"), "endpoint", "192.0.2.99:9"]);
        a.wg(&["peer", &stranger, "remove"]);
    }
    let said = String::from_utf8(ping.wait_with_output().unwrap().stdout).unwrap();
    assert!(said.contains(" 0% packet loss"), "another peer's traffic was disturbed: {said}");

    let config = output("wg", &["showconf", &a.iface]);
    a.wg_file("syncconf", &config);
    a.wg_file("setconf", &config);
    a.ping("10.9.0.2", &[]);
}

#[test]
fn a_refusal_leaves_the_device_as_it_was() {
    let pair = Pair::new("ours");
    pair.configure("192.0.2.2:51821");
    pair.a.ping("10.9.0.2", &[]);
    // Both families' port is taken by a second device of the same namespace.
    let second = Node::start(&pair.a.namespace, &format!("{}2", pair.a.iface), "ours");
    second.wg_file("setconf", &format!("[Interface]\nPrivateKey = {}\nListenPort = 52000\n", second.private));
    let refused = Command::new("wg").args(["set", &pair.a.iface, "listen-port", "52000"]).output().unwrap();
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && words.contains("Address already in use"), "{words}");
    assert_eq!(output("wg", &["show", &pair.a.iface, "listen-port"]).trim(), "51820");
    pair.a.ping("10.9.0.2", &[]);
}

/// What an agent does: open, change, find again, survive `kill -9`, remove.
#[test]
fn a_device_is_spawned_found_and_removed() {
    // The thread's network namespace is its own, and what it starts is in it.
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(lives());
    });
    thread.join().unwrap();
}

async fn lives() {
    let name = random("wl");
    let dir = std::env::temp_dir().join(&name);
    let options = OpenOptions {
        socket_dir: dir.join("sockets"),
        exe: program(),
        log: Some(dir.with_extension("log")),
        mtu: Some(1380),
        prefer: Prefer::Userspace,
    };
    let device = open(&name, &options).await.unwrap();
    assert_eq!(device.kind(), Kind::Userspace);
    let wanted = Wanted {
        private_key: Some(keys::generate_private()),
        listen_port: Some(51820),
        fwmark: Some(7),
        peers: vec![Peer {
            allowed_ips: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            endpoint: Some("[2001:db8::1]:7".parse().unwrap()),
            preshared_key: Some(keys::generate_preshared()),
            persistent_keepalive: Some(25),
            ..Peer::new(keys::public(&keys::generate_private()))
        }],
    };
    device.apply(&changes(&device.status().await.unwrap(), &wanted)).await.unwrap();
    let again = open(&name, &options).await.unwrap();
    assert_eq!(changes(&again.status().await.unwrap(), &wanted), [], "what was set is what is there");

    kill(Pid::from_raw(pid_of(&name)), Signal::SIGKILL).unwrap();
    wait(|| !Path::new("/proc/thread-self/net/dev_snmp6").join(&name).exists());
    assert!(embedded::find(&name, &options.socket_dir).await.is_none());
    let device = open(&name, &options).await.unwrap();
    assert_eq!(device.status().await.unwrap().peers, []);

    remove(&name, &options.socket_dir).await.unwrap();
    remove(&name, &options.socket_dir).await.unwrap();
    wait(|| !options.socket_dir.join(format!("{name}.sock")).exists());
    let _ = std::fs::remove_dir_all(&dir);
    let _ = std::fs::remove_file(dir.with_extension("log"));
}

/// The process that was started as `… wireguard NAME …`.
fn pid_of(name: &str) -> i32 {
    let found = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let entry = entry.ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let words: Vec<&[u8]> = line.split(|c| *c == 0).collect();
        let ours = words.get(1) == Some(&&b"wireguard"[..]) && words.get(2) == Some(&name.as_bytes());
        if ours { entry.file_name().to_str()?.parse().ok() } else { None }
    });
    found.last().unwrap()
}

/// Two namespaces, joined by a cable with both families, and a device in each.
struct Pair {
    a: Node,
    b: Node,
}

struct Node {
    namespace: String,
    iface: String,
    private: String,
    public: String,
    process: Child,
    owns_namespace: bool,
}

impl Pair {
    fn new(other: &str) -> Self {
        let name = random("wt");
        let (a, b) = (format!("{name}a"), format!("{name}b"));
        for namespace in [&a, &b] {
            run("ip", &["netns", "add", namespace]);
            run("ip", &["-n", namespace, "link", "set", "lo", "up"]);
        }
        run("ip", &["link", "add", "v0", "netns", &a, "type", "veth", "peer", "name", "v0", "netns", &b]);
        for (namespace, n) in [(&a, 1), (&b, 2)] {
            run("ip", &["-n", namespace, "addr", "add", &format!("192.0.2.{n}/24"), "dev", "v0"]);
            run("ip", &["-n", namespace, "addr", "add", &format!("2001:db8::{n}/64"), "dev", "v0", "nodad"]);
            run("ip", &["-n", namespace, "link", "set", "v0", "up"]);
        }
        let owner = |namespace: &str, kind| {
            let mut node = Node::start(namespace, namespace, kind);
            node.owns_namespace = true;
            node
        };
        let pair = Self { a: owner(&a, "ours"), b: owner(&b, other) };
        for (node, n) in [(&pair.a, 1), (&pair.b, 2)] {
            node.ip(&["addr", "add", &format!("10.9.0.{n}/24"), "dev", &node.iface]);
            node.ip(&["addr", "add", &format!("fd09::{n}/64"), "dev", &node.iface, "nodad"]);
            node.ip(&["link", "set", &node.iface, "up"]);
        }
        pair
    }

    /// The second waits for the first to speak, from wherever.
    fn configure(&self, endpoint: &str) {
        let (a, b) = (&self.a, &self.b);
        b.wg_file(
            "setconf",
            &format!(
                "[Interface]\nPrivateKey = {}\nListenPort = 51821\n[Peer]\nPublicKey = {}\n\
                 AllowedIPs = 10.9.0.1/32, fd09::1/128\n",
                b.private, a.public
            ),
        );
        a.wg_file(
            "setconf",
            &format!(
                "[Interface]\nPrivateKey = {}\nListenPort = 51820\nFwMark = 0x453\n[Peer]\nPublicKey = {}\n\
                 Endpoint = {endpoint}\nAllowedIPs = 10.9.0.2/32, fd09::2/128\n",
                a.private, b.public
            ),
        );
    }
}

impl Node {
    fn start(namespace: &str, iface: &str, kind: &str) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]);
        match kind {
            "ours" => command.arg(program()).args(["wireguard", iface]),
            _ => command.args(["wireguard-go", "-f", iface]).env("WG_PROCESS_FOREGROUND", "1"),
        };
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let private = keys::generate_private();
        let node = Self {
            namespace: namespace.to_owned(),
            iface: iface.to_owned(),
            private: private.to_string(),
            public: keys::public(&private).to_string(),
            process,
            owns_namespace: false,
        };
        wait(|| Command::new("wg").args(["show", iface]).output().unwrap().status.success());
        node
    }

    fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]).args(args);
        command
    }

    fn ip(&self, args: &[&str]) {
        run("ip", &[&["-n", &self.namespace], args].concat());
    }

    fn ping(&self, to: &str, args: &[&str]) {
        let said = self.command("ping", &[&["-c", "2", "-i", "0.1", "-W", "4"], args, &[to]].concat()).output();
        let said = said.unwrap();
        assert!(said.status.success(), "ping {to}: {}", String::from_utf8_lossy(&said.stdout));
    }

    fn wg(&self, args: &[&str]) {
        run("wg", &[&["set", &self.iface], args].concat());
    }

    fn wg_file(&self, what: &str, text: &str) {
        let mut wg = Command::new("wg").args([what, &self.iface, "/dev/stdin"]).stdin(Stdio::piped()).spawn().unwrap();
        wg.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(wg.wait().unwrap().success(), "wg {what}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(Path::new(SOCKETS).join(format!("{}.sock", self.iface)));
        if self.owns_namespace {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
        }
    }
}

/// The example `device`, which `cargo test` builds beside the tests.
fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let found = own.ancestors().map(|folder| folder.join("examples/device")).find(|path| path.is_file());
    found.expect("the example is not built: cargo build -p tombolo-wireguard --example device")
}

fn random(prefix: &str) -> String {
    let key = keys::generate_preshared();
    key.0[..4].iter().fold(prefix.to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {}", args.join(" "));
}

fn output(program: &str, args: &[&str]) -> String {
    String::from_utf8(Command::new(program).args(args).output().unwrap().stdout).unwrap()
}

fn wait(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "the condition did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}
