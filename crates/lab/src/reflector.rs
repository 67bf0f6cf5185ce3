//! The route reflector of a lab whose clusters are joined by BGP: its configuration, its processes, how to look at it.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use futures::future::join_all;
use ipnet::IpNet;
use nix::unistd::{User, chown};

use crate::agent::BGP_SOCKET;
use crate::control::ReflectorStatus;
use crate::daemon::{Daemon, Kept, Wish};
use crate::netns;
use crate::plan::{Interconnect, Plan, REFLECTOR_ASN as ASN, Reflector};
use crate::requirements::find;
use crate::state::StateDir;

/// The port of BGP.
pub const PORT: u16 = 179;
/// Where Debian's `frr` puts its programs.
pub const FRR_DIR: &str = "/usr/lib/frr";
/// How often BFD sends to agents that speak it, in milliseconds.
const BFD_INTERVAL: u32 = 50;
/// The BGP identifier where it is not left to the program.
const ROUTER_ID: &str = "172.18.0.2";
/// Where GoBGP answers `gobgp`, in the reflector's namespace.
const GOBGP_PORT: u16 = 50051;
/// FRR keeps its daemons' last words there, in a folder each that is left when they are killed.
const FRR_TEMPORARY: &str = "/var/tmp";
/// FRR makes this folder if it is not there.
pub const FRR_RUN: &str = "/run/frr";
/// The state LISTEN in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// What a reflector is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Its configuration: names of files in its folder, and what is in them.
    pub files: Vec<(&'static str, String)>,
    /// Its processes, the speaker last.
    pub daemons: Vec<Daemon>,
    /// The command that shows its neighbours, on the machine.
    pub look: String,
    /// Whom the programs become once they have started, so that the folder must be theirs.
    pub user: Option<&'static str>,
}

/// The reflector of the plan, if it has one.
pub fn parts(plan: &Plan, state: &StateDir) -> Option<Parts> {
    let Interconnect::Bgp(reflector) = plan.interconnect else { return None };
    let dir = state.reflector();
    let file = |name: &str| dir.join(name).display().to_string();
    let namespace = plan.reflector_namespace();
    let daemon = |what, words: Vec<String>, log: &str| Daemon {
        what,
        namespace: namespace.clone(),
        words,
        env: Vec::new(),
        log: dir.join(log),
        mounts: Vec::new(),
        then: Vec::new(),
    };
    let exec = format!("ip netns exec {namespace}");
    Some(match reflector {
        Reflector::Tombolo => {
            let mut words = words(&state.program().display().to_string(), &["route-reflector"]);
            let mut flag = |name: &str, value: String| words.extend([format!("--{name}"), value]);
            for net in plan.reflector_addresses() {
                flag("listen", std::net::SocketAddr::new(net.addr(), PORT).to_string());
            }
            flag("asn", ASN.to_string());
            flag("router-id", ROUTER_ID.to_owned());
            for range in ranges(plan) {
                flag("client-range", range.to_owned());
            }
            for net in plan.reflector_networks() {
                flag("network", net.to_string());
            }
            flag("bfd-interval", BFD_INTERVAL.to_string());
            flag("socket", file("bgp.sock"));
            words.push("--bfd".to_owned());
            Parts {
                files: Vec::new(),
                daemons: vec![daemon("the route reflector", words, "reflector.log")],
                look: format!("{BGP_SOCKET}={} tombolo bgp neighbors", file("bgp.sock")),
                user: None,
            }
        }
        Reflector::Frr => {
            let frr = |name: &'static str| {
                let words = words(&format!("{FRR_DIR}/{name}"), &["--log", "stdout", "-P", "0", "--vty_socket"]);
                let more = [
                    dir.display().to_string(),
                    "-f".into(),
                    file(&format!("{name}.conf")),
                    "-i".into(),
                    file(&format!("{name}.pid")),
                    "-z".into(),
                    file("zserv.api"),
                ];
                let words = words.into_iter().chain(more).collect();
                let mounts = [FRR_TEMPORARY, FRR_RUN].map(|over| (dir.join("tmp"), PathBuf::from(over))).to_vec();
                Daemon { mounts, ..daemon(name, words, &format!("{name}.log")) }
            };
            Parts {
                files: vec![("zebra.conf", String::new()), ("bgpd.conf", frr_conf(plan))],
                daemons: vec![frr("zebra"), frr("bgpd")],
                look: format!("vtysh --vty_socket {} -c 'show bgp summary'", dir.display()),
                user: Some("frr"),
            }
        }
        Reflector::Bird => {
            let words = words(
                &program("bird"),
                &["-f", "-c", &file("bird.conf"), "-s", &file("bird.ctl"), "-P", &file("bird.pid")],
            );
            Parts {
                files: vec![("bird.conf", bird_conf(plan))],
                daemons: vec![daemon("bird", words, "bird.log")],
                look: format!("birdc -s {} show protocols", file("bird.ctl")),
                user: None,
            }
        }
        Reflector::Gobgp => {
            let api = format!("127.0.0.1:{GOBGP_PORT}");
            let words = words(
                &program("gobgpd"),
                &["-f", &file("gobgpd.toml"), "--api-hosts", &api, "--pprof-disable", "--log-plain"],
            );
            // Its configuration has no word for networks of its own.
            let networks = plan.reflector_networks().into_iter().zip(plan.reflector_addresses());
            let then = networks.map(|(net, address)| gobgp_add(&net, &address));
            Parts {
                files: vec![("gobgpd.toml", gobgp_conf(plan))],
                daemons: vec![Daemon { then: then.collect(), ..daemon("gobgpd", words, "gobgpd.log") }],
                look: format!("{exec} gobgp -p {GOBGP_PORT} neighbor"),
                user: None,
            }
        }
    })
}

fn gobgp_add(net: &IpNet, address: &IpNet) -> Vec<String> {
    let family = if net.addr().is_ipv4() { "ipv4" } else { "ipv6" };
    let (port, net, next_hop) = (GOBGP_PORT.to_string(), net.to_string(), address.addr().to_string());
    words(&program("gobgp"), &["-p", &port, "global", "rib", "add", &net, "nexthop", &next_hop, "-a", family])
}

fn words(program: &str, arguments: &[&str]) -> Vec<String> {
    [program].iter().chain(arguments).map(|&word| word.to_owned()).collect()
}

/// Where a program is, which need not be in `$PATH`.
fn program(name: &str) -> String {
    find(name).map_or(name.to_owned(), |path| path.display().to_string())
}

/// Whom the reflector takes as clients: whoever asks.
fn ranges(plan: &Plan) -> impl Iterator<Item = &'static str> {
    plan.reflector_addresses().into_iter().map(|net| if net.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" })
}

fn has_ipv4(plan: &Plan) -> bool {
    plan.reflector_addresses().iter().any(|net| net.addr().is_ipv4())
}

/// With IPv4 alone it is, word for word, what kube-router's users have.
fn frr_conf(plan: &Plan) -> String {
    let mut text = format!("router bgp {ASN}\n");
    if !has_ipv4(plan) {
        let _ = writeln!(text, " bgp router-id {ROUTER_ID}");
    }
    let networks = plan.reflector_networks();
    for net in networks.iter().filter(|net| net.addr().is_ipv4()) {
        let _ = writeln!(text, " network {net}");
    }
    text += " neighbor kube peer-group\n";
    let _ = writeln!(text, " neighbor kube remote-as {ASN}");
    text += " neighbor kube route-reflector-client\n";
    for range in ranges(plan) {
        let _ = writeln!(text, " bgp listen range {range} peer-group kube");
    }
    for net in networks.iter().filter(|net| net.addr().is_ipv6()) {
        let _ = write!(
            text,
            " address-family ipv6 unicast\n  network {net}\n  neighbor kube activate\n  \
             neighbor kube route-reflector-client\n exit-address-family\n"
        );
    }
    text
}

fn bird_conf(plan: &Plan) -> String {
    let mut text = format!("log stderr all;\nrouter id {ROUTER_ID};\nprotocol device {{}}\n");
    text += "protocol direct { ipv4; ipv6; interface \"eth0\"; }\n";
    for net in plan.reflector_networks() {
        let family = if net.addr().is_ipv4() { "ipv4" } else { "ipv6" };
        let _ = writeln!(text, "protocol static {{ {family}; route {net} via \"lo\"; }}");
    }
    let channel = "import all; export where source ~ [ RTS_BGP, RTS_STATIC ]; next hop keep;";
    for (net, range) in plan.reflector_addresses().iter().zip(ranges(plan)) {
        let name = if net.addr().is_ipv4() { "kube" } else { "kube6" };
        let _ = write!(
            text,
            "protocol bgp {name} {{\n  local {} as {ASN};\n  neighbor range {range} as {ASN};\n  \
             dynamic name \"{name}_\";\n  rr client;\n  ipv4 {{ {channel} }};\n  ipv6 {{ {channel} }};\n}}\n",
            net.addr()
        );
    }
    text
}

fn gobgp_conf(plan: &Plan) -> String {
    let addresses: Vec<String> = plan.reflector_addresses().iter().map(|net| format!("\"{}\"", net.addr())).collect();
    let mut text = format!(
        "[global.config]\n  as = {ASN}\n  router-id = \"{ROUTER_ID}\"\n  local-address-list = [{}]\n\
         [[peer-groups]]\n  [peer-groups.config]\n    peer-group-name = \"kube\"\n    peer-as = {ASN}\n  \
         [peer-groups.route-reflector.config]\n    route-reflector-client = true\n    \
         route-reflector-cluster-id = \"{ROUTER_ID}\"\n",
        addresses.join(", ")
    );
    for family in ["ipv4-unicast", "ipv6-unicast"] {
        let _ = write!(
            text,
            "  [[peer-groups.afi-safis]]\n    [peer-groups.afi-safis.config]\n      afi-safi-name = \"{family}\"\n"
        );
    }
    for range in ranges(plan) {
        let _ = write!(
            text,
            "[[dynamic-neighbors]]\n  [dynamic-neighbors.config]\n    prefix = \"{range}\"\n    \
             peer-group = \"kube\"\n"
        );
    }
    text
}

/// A reflector that runs.
pub struct Running {
    plan: Plan,
    program: Reflector,
    look: String,
    processes: Vec<Kept>,
}

impl Running {
    /// Writes the configuration and starts the processes, if the plan has a reflector. Its network is there already.
    ///
    /// # Errors
    /// The file system's.
    pub fn start(plan: &Plan, state: &StateDir) -> io::Result<Option<Self>> {
        let (Interconnect::Bgp(program), Some(parts)) = (plan.interconnect, parts(plan, state)) else {
            return Ok(None);
        };
        let dir = state.reflector();
        std::fs::create_dir_all(dir.join("tmp"))?;
        for (name, text) in parts.files {
            std::fs::write(dir.join(name), text)?;
        }
        if let Some(user) = parts.user.map(User::from_name).transpose()?.flatten() {
            for dir in [&dir, &dir.join("tmp")] {
                chown(dir, Some(user.uid), Some(user.gid))?;
            }
        }
        let processes = parts.daemons.into_iter().map(Kept::start).collect();
        Ok(Some(Self { plan: plan.clone(), program, look: parts.look, processes }))
    }

    /// Starts, stops or kills it, and waits until that is so; not until it listens.
    pub async fn wish(&self, wish: Wish) {
        join_all(self.processes.iter().map(|process| process.wish(wish))).await;
    }

    /// How often a process of it ended by itself.
    pub fn restarts(&self) -> u32 {
        self.processes.iter().map(|process| process.state().restarts).max().unwrap_or_default()
    }

    /// The speaker's log.
    pub fn log(&self) -> &Path {
        self.processes.last().map_or(Path::new(""), |process| &process.daemon.log)
    }

    /// Whether it listens on the port of BGP, in every family that it has.
    pub async fn listens(&self) -> bool {
        let families: Vec<bool> = self.plan.reflector_addresses().iter().map(|net| net.addr().is_ipv4()).collect();
        let look = move || {
            let [four, six] =
                ["tcp", "tcp6"].map(|file| std::fs::read_to_string(format!("/proc/thread-self/net/{file}")));
            // A socket of IPv6 may take IPv4 too.
            let six = listening(&six.unwrap_or_default());
            let four = listening(&four?);
            Ok(families.into_iter().all(|is_ipv4| if is_ipv4 { four || six } else { six }))
        };
        netns::enter_async(self.plan.reflector_namespace(), look).await.unwrap_or(false)
    }

    /// How it is.
    pub async fn status(&self) -> ReflectorStatus {
        ReflectorStatus {
            program: self.program,
            namespace: self.plan.reflector_namespace(),
            addresses: self.plan.reflector_addresses().iter().map(|net| net.addr().to_string()).collect(),
            networks: self.plan.reflector_networks().iter().map(ToString::to_string).collect(),
            processes: self.processes.iter().map(Kept::state).collect(),
            listens: self.listens().await,
            log: self.log().display().to_string(),
            look: self.look.clone(),
        }
    }
}

/// Whether a table of sockets, as `/proc/net/tcp` has it, has one that listens on the port of BGP.
fn listening(table: &str) -> bool {
    let port = format!(":{PORT:04X}");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some(LISTEN)
    })
}

#[cfg(test)]
mod tests;
