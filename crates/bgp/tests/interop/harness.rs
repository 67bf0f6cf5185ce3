//! Two network namespaces with a cable between them: this speaker in one, programs of others in the other.

use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tombolo_bgp::config::{Config, Neighbor, Origination};
use tombolo_bgp::router::show::{NeighborStatus, Route};
use tombolo_bgp::speaker::{Event, Options, Speaker};
use tombolo_bgp::{Community, Family, LargeCommunity};

/// What has not happened by then does not happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often is looked.
const POLL: Duration = Duration::from_millis(20);

/// The own AS of most tests, and an AS that takes four octets.
pub const AS: u32 = 64512;
pub const BIG_AS: u32 = 4_200_000_001;

/// The address of a side: 1 is this speaker, the others have the numbers from 2 on.
pub fn v4(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 9, 0, n).into()
}

pub fn v6(n: u8) -> IpAddr {
    format!("fd09::{n}").parse().unwrap()
}

/// Looks until what is looked for is there; an `Err` says what is there instead.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) => assert!(Instant::now() < deadline, "it does not happen: {what}; instead: {instead}"),
        }
        std::thread::sleep(POLL);
    }
}

/// The two sides, and a folder. All of it goes with the value.
pub struct Lab {
    pub here: Namespace,
    pub there: Namespace,
    pub folder: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Some programs give up their rights.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let lab = Self { here: Namespace::new("a"), there: Namespace::new("b"), folder };
        lab.here.ip(&format!("link add eth0 type veth peer name eth0 netns {}", lab.there.0));
        for (namespace, numbers) in [(&lab.here, vec![1, 7, 8, 9]), (&lab.there, vec![2, 3, 4, 5])] {
            for n in numbers {
                namespace.ip(&format!("address add {}/24 dev eth0", v4(n)));
                namespace.ip(&format!("address add {}/64 dev eth0 nodad", v6(n)));
            }
            namespace.ip("link set eth0 up");
        }
        lab
    }

    /// The path of a file of the lab.
    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Starts a program at the other side. What it says is in the file `name.out`.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Daemon {
        let program = command.get_program().to_owned();
        assert!(Path::new(&program).exists(), "{} is missing: install Debian's package of it", program.display());
        let out = File::options().create(true).append(true).open(self.path(&format!("{name}.out"))).unwrap();
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).process_group(0);
        Daemon(self.there.enter(|| command.spawn().unwrap()))
    }

    /// Asks a program at the other side; empty if it does not answer yet.
    pub fn ask(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.there.enter(|| Command::new(program).args(arguments).output().unwrap());
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Starts this speaker.
    pub fn start(&self, config: Config) -> Ours {
        self.here.enter(|| Ours::start(config))
    }
}

impl Drop for Lab {
    /// What the programs said, of a test that failed.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for file in fs::read_dir(self.folder.path()).into_iter().flatten().flatten() {
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            let last: Vec<&str> = text.lines().rev().take(40).collect();
            println!("{}:\n{}", file.path().display(), last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// A program. It ends with the value.
pub struct Daemon(Child);

impl Daemon {
    pub fn signal(&self, signal: Signal) {
        killpg(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }

    /// As if its machine had lost power, but for the kernel's last word.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGKILL);
        let _ = self.0.wait();
    }
}

pub struct Namespace(pub String);

impl Namespace {
    fn new(side: &str) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let namespace = Self(format!("tbgp-{}-{number}{side}", std::process::id()));
        ip(&["netns", "add", &namespace.0]);
        namespace.ip("link set lo up");
        namespace
    }

    pub fn ip(&self, words: &str) {
        let mut all = vec!["-n", &self.0];
        all.extend(words.split_whitespace());
        ip(&all);
    }

    /// Runs a function inside, on a thread of its own; threads and programs that it starts stay there.
    pub fn enter<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            setns(File::open(format!("/run/netns/{}", self.0)).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            task()
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Children of the daemons; nobody else's process can be in it.
        if let Ok(left) = Command::new("ip").args(["netns", "pids", &self.0]).output() {
            let pids = String::from_utf8_lossy(&left.stdout).into_owned();
            for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                // Threads of this test itself may be in it.
                if pid != std::process::id().cast_signed() {
                    let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
            }
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).status();
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("the program ip (Debian's iproute2)");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// This speaker.
pub struct Ours {
    pub speaker: Speaker,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Ours {
    pub fn start(config: Config) -> Self {
        let events = Arc::new(Mutex::new(Vec::new()));
        let end = Instant::now() + PATIENCE;
        loop {
            let heard = events.clone();
            let hear = move |event| heard.lock().unwrap().push(event);
            match Speaker::start(config.clone(), Options { installs: true }, hear) {
                Ok(speaker) => return Self { speaker, events },
                // Of a speaker before this one, a program that another test starts has the sockets, too, until it runs.
                Err(error) => assert!(Instant::now() < end, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn configure(&self, config: Config) {
        self.ask(|speaker, reply| speaker.configure(config, reply)).unwrap();
    }

    fn ask<T: Send + 'static>(&self, question: impl FnOnce(&Speaker, Box<dyn FnOnce(T) + Send>)) -> T {
        let (answer, answered) = mpsc::channel();
        question(&self.speaker, Box::new(move |value| answer.send(value).unwrap()));
        answered.recv_timeout(PATIENCE).expect("the speaker's answer")
    }

    pub fn neighbor(&self, address: IpAddr) -> Option<NeighborStatus> {
        let all: Vec<NeighborStatus> = self.ask(|speaker, reply| speaker.neighbors(reply));
        all.into_iter().find(|neighbor| neighbor.address == address)
    }

    pub fn received(&self, address: IpAddr) -> Vec<Route> {
        self.ask(|speaker, reply| speaker.received(address, reply)).unwrap_or_default()
    }

    /// How often a session came up, or was lost.
    pub fn ups_and_downs(&self) -> (usize, usize) {
        let events = self.events.lock().unwrap();
        let count = |wanted: fn(&&Event) -> bool| events.iter().filter(wanted).count();
        (count(|e| matches!(e, Event::Up { .. })), count(|e| matches!(e, Event::Down { .. })))
    }

    /// Whose sessions were lost, and why.
    pub fn downs(&self) -> Vec<(IpAddr, String)> {
        let events = self.events.lock().unwrap();
        let downs = events.iter().filter_map(|event| match event {
            Event::Down { peer, why } => Some((*peer, why.clone())),
            _ => None,
        });
        downs.collect()
    }

    pub fn reset(&self, address: IpAddr) {
        self.ask(|speaker, reply| speaker.reset(address, reply)).unwrap();
    }

    /// Waits until a neighbour is as wanted.
    pub fn until(&self, what: &str, address: IpAddr, wanted: impl Fn(&NeighborStatus) -> bool) -> NeighborStatus {
        until(what, || match self.neighbor(address) {
            Some(neighbor) if wanted(&neighbor) => Ok(neighbor),
            other => Err(format!("{other:#?}")),
        })
    }

    pub fn until_up(&self, address: IpAddr) -> NeighborStatus {
        self.until("the session comes up", address, |neighbor| neighbor.state == "Established")
    }

    /// Waits until the session is not up, for a reason with these words.
    pub fn until_down(&self, address: IpAddr, words: &str) -> String {
        let says = |n: &NeighborStatus| n.last_error.as_ref().is_some_and(|error| error.contains(words));
        let what = format!("there is no session, and {words:?} is said");
        self.until(&what, address, |n| n.state != "Established" && says(n)).last_error.unwrap()
    }

    /// Waits until a neighbour has announced a prefix, in a way that is as wanted.
    pub fn until_route(&self, from: IpAddr, prefix: &str, wanted: impl Fn(&Route) -> bool) -> Route {
        let prefix = prefix.parse().unwrap();
        until(&format!("{prefix} comes from {from}"), || {
            let all = self.received(from);
            let found = all.iter().find(|route| route.prefix == prefix && wanted(route)).cloned();
            found.ok_or_else(|| format!("{all:#?} of {:#?}", self.neighbor(from)))
        })
    }

    pub fn until_gone(&self, from: IpAddr, prefix: &str) {
        let prefix = prefix.parse().unwrap();
        until(&format!("{prefix} from {from} is gone"), || {
            let left = self.received(from).into_iter().find(|route| route.prefix == prefix);
            left.map_or(Ok(()), |route| Err(format!("{route:#?}")))
        });
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.speaker.shut_down("the test is over", false);
    }
}

/// A configuration of this speaker without neighbours, with a route of each family.
pub fn ours(asn: u32) -> Config {
    let route = Origination {
        communities: vec![Community(64512 << 16 | 11)],
        large_communities: vec![LargeCommunity { global: BIG_AS, local: (1, 1) }],
        med: Some(7),
        ..Origination::default()
    };
    Config {
        asn,
        router_id: Ipv4Addr::new(10, 9, 0, 1),
        cluster_id: None,
        addresses: vec![v4(1), v6(1)],
        listen: vec![SocketAddr::new(v4(1), 179), SocketAddr::new(v6(1), 179)],
        neighbors: [].into(),
        ranges: Vec::new(),
        routes: [prefix4(1), prefix6(1)].map(|prefix| (prefix.parse().unwrap(), route.clone())).into(),
        multipath: 1,
        graceful_restart: None,
    }
}

/// A neighbour of both families that is quickly connected to.
pub fn neighbor(asn: u32) -> Neighbor {
    Neighbor {
        remote_asn: Some(asn),
        families: Family::ALL.to_vec(),
        connect_retry: Duration::from_secs(1),
        ..Neighbor::default()
    }
}

/// A configuration with one neighbour.
pub fn with(mut config: Config, address: IpAddr, neighbor: Neighbor) -> Config {
    config.neighbors.insert(address, neighbor);
    config
}

/// What a side announces.
pub fn prefix4(n: u8) -> String {
    format!("192.0.{n}.0/24")
}

pub fn prefix6(n: u8) -> String {
    format!("2001:db8:{n}::/48")
}

/// A route as another program shows it. What it does not show is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    pub prefix: String,
    pub next_hop: String,
    /// AS numbers with spaces between.
    pub as_path: String,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    /// As `64512:1`.
    pub communities: Vec<String>,
    /// As `64512:1:1`.
    pub large: Vec<String>,
    /// As the program writes them.
    pub extended: Vec<String>,
    pub originator: String,
    pub clusters: Vec<String>,
    /// All that it says, for the rest.
    pub text: String,
}

/// Another program.
pub trait Peer {
    /// What it has from this speaker.
    fn routes(&self) -> Vec<Seen>;

    /// What else there is to be said when something does not happen.
    fn log(&self) -> String;

    fn until_route(&self, prefix: &str, wanted: impl Fn(&Seen) -> bool) -> Seen
    where
        Self: Sized,
    {
        until(&format!("the other side has {prefix}"), || {
            let all = self.routes();
            let found = all.iter().find(|route| route.prefix == prefix && wanted(route)).cloned();
            found.ok_or_else(|| format!("{all:#?}; it says {}", self.log()))
        })
    }

    fn until_gone(&self, prefix: &str)
    where
        Self: Sized,
    {
        until(&format!("the other side has {prefix} no longer"), || {
            let left = self.routes().into_iter().find(|route| route.prefix == prefix);
            left.map_or(Ok(()), |route| Err(format!("{route:#?}; it says {}", self.log())))
        });
    }
}

/// Adds a line to a file that a program reads on and on.
pub fn append(path: &str, line: &str) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    writeln!(file, "{line}").unwrap();
}

/// How the other side is to be set up. The options are in its own language.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// Its number, in addresses and prefixes.
    pub n: u8,
    pub asn: u32,
    pub ours: u32,
    /// Whether the session is over IPv6.
    pub v6: bool,
    /// Options of the session.
    pub session: &'a str,
    /// Options of each family.
    pub family: &'a str,
    /// Whatever else there is.
    pub more: &'a str,
}

impl Plan<'_> {
    pub const fn new(n: u8) -> Self {
        Self { n, asn: AS, ours: AS, v6: false, session: "", family: "", more: "" }
    }

    /// Its address and ours.
    pub fn addresses(&self) -> (IpAddr, IpAddr) {
        if self.v6 { (v6(self.n), v6(1)) } else { (v4(self.n), v4(1)) }
    }
}

/// Another speaker of ours, on the same side: a client of somebody's reflector. It announces `prefix` alone.
pub fn client(n: u8, prefix: &str, of: IpAddr, neighbor: Neighbor) -> Config {
    let Config { routes, .. } = ours(AS);
    let route = routes.into_values().next().unwrap();
    let neighbor = Neighbor { local_address: Some(v4(n)), ..neighbor };
    let IpAddr::V4(router_id) = v4(n) else { unreachable!("it is an IPv4 address") };
    let config = Config {
        router_id,
        addresses: vec![v4(n), v6(n)],
        listen: Vec::new(),
        routes: [(prefix.parse().unwrap(), route)].into(),
        ..ours(AS)
    };
    with(config, of, neighbor)
}
