//! Two devices with a path between them, in namespaces that go with the value.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use tombolo_wireguard::keys;

/// Where `wg` and `wireguard-go` have their sockets: the interfaces' names are random.
const SOCKETS: &str = "/run/wireguard";

/// The two ends inside.
pub(crate) const A: [&str; 2] = ["10.9.0.1", "fd09::1"];
pub(crate) const B: [&str; 2] = ["10.9.0.2", "fd09::2"];
/// What the middle has towards the first and towards the second.
pub(crate) const MIDDLE: [[&str; 2]; 2] = [["192.0.2.254", "2001:db8::fe"], ["198.51.100.254", "2001:db8:1::fe"]];

const A_OUTSIDE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
/// The second on one cable with the first, and behind the middle.
const B_OUTSIDE: [[&str; 2]; 2] = [["192.0.2.2", "2001:db8::2"], ["198.51.100.2", "2001:db8:1::2"]];

/// What two ends are, and what is between them.
#[derive(Clone, Copy)]
pub(crate) struct Setup {
    /// `ours`, `plain` (ours without offloads), `many` (ours with four threads) or `go` (wireguard-go).
    pub(crate) kinds: [&'static str; 2],
    /// MTU of the devices, where it is not their default.
    pub(crate) mtu: Option<u32>,
    /// MTU of the cable at the first, and at the second where there is a middle.
    pub(crate) outer_mtu: [u32; 2],
    /// A third namespace between the two. It forwards nothing by itself.
    pub(crate) has_middle: bool,
}

impl Setup {
    /// One cable of 1500 bytes.
    pub(crate) fn cable(kinds: [&'static str; 2]) -> Self {
        Self { kinds, mtu: None, outer_mtu: [1500; 2], has_middle: false }
    }

    pub(crate) fn middle(kinds: [&'static str; 2]) -> Self {
        Self { has_middle: true, ..Self::cable(kinds) }
    }
}

pub(crate) struct Pair {
    pub(crate) a: Node,
    pub(crate) b: Node,
    pub(crate) middle: Option<Arc<Namespace>>,
}

impl Pair {
    /// Ours and another on one cable.
    pub(crate) fn new(other: &'static str) -> Self {
        Self::build(Setup::cable(["ours", other]))
    }

    pub(crate) fn build(setup: Setup) -> Self {
        let name = random("wt");
        let [a, b] = ["a", "b"].map(|end| Namespace::new(&format!("{name}{end}")));
        let middle = setup.has_middle.then(|| Namespace::new(&format!("{name}m")));
        let [near, far] = setup.outer_mtu;
        if let Some(middle) = &middle {
            cable([&a, middle], ["v0", "v0"], [A_OUTSIDE, MIDDLE[0]], near);
            cable([&b, middle], ["v0", "v1"], [B_OUTSIDE[1], MIDDLE[1]], far);
            for (node, [v4, v6]) in [(&a, MIDDLE[0]), (&b, MIDDLE[1])] {
                node.ip(&["route", "add", "default", "via", v4]);
                node.ip(&["route", "add", "default", "via", v6]);
            }
        } else {
            cable([&a, &b], ["v0", "v0"], [A_OUTSIDE, B_OUTSIDE[0]], near);
        }
        let start = |namespace: &Arc<Namespace>, n: usize| {
            let node = Node::start(namespace, &namespace.name, setup.kinds[n], setup.mtu);
            node.up([A, B][n]);
            node
        };
        Self { a: start(&a, 0), b: start(&b, 1), middle }
    }

    /// Tells both of each other. The second waits for the first to speak, from wherever.
    pub(crate) fn configure(&self, endpoint: &str) {
        self.a.wg_file("setconf", &self.config_a(endpoint));
        self.b.wg_file("setconf", &self.config_b());
    }

    pub(crate) fn config_a(&self, endpoint: &str) -> String {
        format!(
            "[Interface]\nPrivateKey = {}\nListenPort = 51820\nFwMark = 0x453\n[Peer]\nPublicKey = {}\n\
             Endpoint = {endpoint}\nAllowedIPs = 10.9.0.2/32, fd09::2/128\n",
            self.a.private, self.b.public
        )
    }

    pub(crate) fn config_b(&self) -> String {
        format!(
            "[Interface]\nPrivateKey = {}\nListenPort = 51821\n[Peer]\nPublicKey = {}\n\
             AllowedIPs = 10.9.0.1/32, fd09::1/128\n",
            self.b.private, self.a.public
        )
    }

    /// Where the second is for the first, if what is between them forwards.
    pub(crate) fn endpoint(&self, is_v6: bool) -> String {
        endpoint(B_OUTSIDE[usize::from(self.middle.is_some())][usize::from(is_v6)], 51821)
    }

    /// [`Self::configure`] with the second's own address, and a first packet each way.
    pub(crate) fn connect(&self, is_v6: bool) {
        self.configure(&self.endpoint(is_v6));
        self.a.ping(B[0], &[]);
        self.b.ping(A[1], &[]);
    }
}

pub(crate) fn endpoint(ip: &str, port: u16) -> String {
    std::net::SocketAddr::new(ip.parse().unwrap(), port).to_string()
}

/// A cable between two namespaces, with both families' addresses at both ends.
fn cable(ends: [&Namespace; 2], names: [&str; 2], addresses: [[&str; 2]; 2], mtu: u32) {
    let mtu = mtu.to_string();
    let [left, right] = [0, 1].map(|n| ["mtu", &mtu, "name", names[n], "netns", &ends[n].name]);
    run("ip", &[&["link", "add"][..], &left, &["type", "veth", "peer"], &right].concat());
    for ((end, name), [v4, v6]) in ends.into_iter().zip(names).zip(addresses) {
        end.ip(&["addr", "add", &format!("{v4}/24"), "dev", name]);
        end.ip(&["addr", "add", &format!("{v6}/64"), "dev", name, "nodad"]);
        end.ip(&["link", "set", name, "up"]);
    }
}

/// A network namespace.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    fn new(name: &str) -> Arc<Self> {
        run("ip", &["netns", "add", name]);
        let namespace = Self { name: name.to_owned() };
        namespace.ip(&["link", "set", "lo", "up"]);
        Arc::new(namespace)
    }

    pub(crate) fn ip(&self, args: &[&str]) {
        run("ip", &[&["-n", &self.name], args].concat());
    }

    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]).args(args);
        command
    }

    /// Runs on a thread in this namespace; sockets that it makes stay in it.
    pub(crate) fn within<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let file = File::open(Path::new("/run/netns").join(&self.name)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                what()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// A device. Its process ends with the value.
pub(crate) struct Node {
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) iface: String,
    pub(crate) private: String,
    pub(crate) public: String,
    kind: &'static str,
    mtu: Option<u32>,
    process: Child,
}

impl Node {
    /// Starts a device that has an interface and no configuration.
    pub(crate) fn start(namespace: &Arc<Namespace>, iface: &str, kind: &'static str, mtu: Option<u32>) -> Self {
        let private = keys::generate_private();
        Self {
            namespace: Arc::clone(namespace),
            iface: iface.to_owned(),
            private: private.to_string(),
            public: keys::public(&private).to_string(),
            kind,
            mtu,
            process: spawn(namespace, iface, kind, mtu),
        }
    }

    /// Ends the process with SIGKILL, and starts another as it was started; it has no configuration then.
    pub(crate) fn restart(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = spawn(&self.namespace, &self.iface, self.kind, self.mtu);
    }

    /// Gives the interface its addresses.
    pub(crate) fn up(&self, [v4, v6]: [&str; 2]) {
        self.ip(&["addr", "add", &format!("{v4}/24"), "dev", &self.iface]);
        self.ip(&["addr", "add", &format!("{v6}/64"), "dev", &self.iface, "nodad"]);
        self.ip(&["link", "set", &self.iface, "up"]);
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn ip(&self, args: &[&str]) {
        self.namespace.ip(args);
    }

    pub(crate) fn within<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        self.namespace.within(what)
    }

    pub(crate) fn ping(&self, to: &str, args: &[&str]) {
        let args = [&["-c", "2", "-i", "0.1", "-W", "4"], args, &[to]].concat();
        let said = self.namespace.command("ping", &args).output().unwrap();
        assert!(said.status.success(), "ping {to}: {}", String::from_utf8_lossy(&said.stdout));
    }

    pub(crate) fn wg(&self, args: &[&str]) {
        run("wg", &[&["set", &self.iface], args].concat());
    }

    /// What `wg show` says of the device's only peer, without its key.
    pub(crate) fn shows(&self, what: &str) -> String {
        let said = output("wg", &["show", &self.iface, what]);
        said.split_once('\t').map_or(said.as_str(), |(_, rest)| rest).trim().to_owned()
    }

    pub(crate) fn wg_file(&self, what: &str, text: &str) {
        let mut wg = Command::new("wg").args([what, &self.iface, "/dev/stdin"]).stdin(Stdio::piped()).spawn().unwrap();
        wg.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(wg.wait().unwrap().success(), "wg {what}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(socket(&self.iface));
    }
}

fn spawn(namespace: &Namespace, iface: &str, kind: &str, mtu: Option<u32>) -> Child {
    let is_ours = kind != "go";
    let mut command = if is_ours {
        namespace.command(&program().display().to_string(), &["wireguard", iface])
    } else {
        namespace.command("wireguard-go", &["-f", iface])
    };
    command.env("WG_PROCESS_FOREGROUND", "1");
    match kind {
        "plain" => _ = command.arg("--no-offloads"),
        "many" => _ = command.args(["--threads", "4"]),
        _ => {}
    }
    if let (true, Some(mtu)) = (is_ours, mtu) {
        command.args(["--mtu", &mtu.to_string()]);
    }
    let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Not with `wg`: it deletes a socket that is bound and does not listen yet (wireguard-tools, `ipc-uapi-unix.h`), and
    // wireguard-go ends then.
    wait(|| UnixStream::connect(socket(iface)).is_ok());
    if let (false, Some(mtu)) = (is_ours, mtu) {
        namespace.ip(&["link", "set", iface, "mtu", &mtu.to_string()]);
    }
    process
}

fn socket(iface: &str) -> PathBuf {
    Path::new(SOCKETS).join(format!("{iface}.sock"))
}

/// The example `device`, which `cargo test` builds beside the tests.
pub(crate) fn program() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let found = own.ancestors().map(|folder| folder.join("examples/device")).find(|path| path.is_file());
    found.expect("the example is not built: cargo build -p tombolo-wireguard --example device")
}

pub(crate) fn random(prefix: &str) -> String {
    let key = keys::generate_preshared();
    key.0[..4].iter().fold(prefix.to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

pub(crate) fn run(program: &str, args: &[&str]) {
    let status = Command::new(program).args(args).status().unwrap();
    assert!(status.success(), "{program} {}", args.join(" "));
}

pub(crate) fn output(program: &str, args: &[&str]) -> String {
    String::from_utf8(Command::new(program).args(args).output().unwrap().stdout).unwrap()
}

pub(crate) fn wait(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "the condition did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}
