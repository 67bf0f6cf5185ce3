//! Four network namespaces: a node, its pod `a`, the pod `b` of another node, and a client from
//! outside the cluster. All are gone with the value.

pub(crate) mod world;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tombolo_proxy::Update;

/// Long enough for any answer: a test that waits for it fails.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a server looks whether it is to end.
const POLL: Duration = Duration::from_millis(50);

/// Name, its IPv4 and IPv6 address, and the node's on the same link.
const NEIGHBOURS: [(&str, [&str; 2], [&str; 2]); 3] = [
    ("client", ["192.0.2.2/24", "2001:db8::2/64"], ["192.0.2.1/24", "2001:db8::1/64"]),
    ("a", ["10.1.0.2/24", "fd00:1::2/64"], ["10.1.0.1/24", "fd00:1::1/64"]),
    ("b", ["10.2.0.2/24", "fd00:2::2/64"], ["10.2.0.1/24", "fd00:2::1/64"]),
];

/// Where node ports are served.
pub(crate) const NODE_ADDRESSES: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

/// Who answered, and as whom it saw the client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) server: String,
    pub(crate) client: IpAddr,
}

pub(crate) struct Lab {
    prefix: String,
    servers: Mutex<Vec<JoinHandle<()>>>,
    is_over: Arc<AtomicBool>,
}

pub(crate) fn cidrs(texts: &[&str]) -> Vec<ipnet::IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

impl Lab {
    pub(crate) fn new() -> Self {
        let lab = Self {
            prefix: format!("tp-{:04x}", rand::random::<u16>()),
            servers: Mutex::default(),
            is_over: Arc::default(),
        };
        for name in ["node", "client", "a", "b"] {
            ip(&["netns", "add", &lab.namespace(name)]);
            lab.run(name, &["ip", "link", "set", "lo", "up"]);
        }
        for (name, own, gateway) in NEIGHBOURS {
            lab.connect(name, own, gateway);
        }
        for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            lab.run("node", &["sysctl", "-qw", &format!("{key}=1")]);
        }
        // The node sends to service addresses itself, which takes a route, as any default one.
        for route in ["10.96.0.0/16", "fd00:96::/112"] {
            lab.run("node", &["ip", "route", "add", route, "dev", "to-b"]);
        }
        for name in ["a", "b"] {
            lab.serve(name);
        }
        lab
    }

    pub(crate) fn address(&self, name: &str, is_v6: bool) -> IpAddr {
        let (_, own, _) = NEIGHBOURS.iter().find(|n| n.0 == name).unwrap();
        let text = own[usize::from(is_v6)];
        text.split('/').next().unwrap().parse().unwrap()
    }

    /// Applies a transaction on the node.
    pub(crate) fn nft(&self, script: &str) {
        let mut child =
            self.command("node", &["nft", "-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}\nin\n{script}");
    }

    /// Applies an update on the node as the agent does: by netlink where it is about elements alone. Whether it was.
    pub(crate) fn apply(&self, update: &Update) -> bool {
        let (script, stale) = (update.script.clone(), update.stale.clone());
        let was_quick = script.element_changes().is_some();
        if !was_quick {
            self.nft(&script.to_string());
        }
        self.within("node", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                if let Some(changes) = script.element_changes() {
                    let mut socket = tombolo_host::nft::ElementSocket::open().unwrap();
                    assert!(socket.apply(&script.table, &changes).await.unwrap(), "{script}");
                }
                let is_own = |ip: IpAddr| NODE_ADDRESSES.contains(&ip.to_string().as_str());
                let is_stale =
                    |destination, replier| stale.iter().any(|flows| flows.contains(destination, replier, is_own));
                tombolo_host::conntrack::forget_udp(is_stale).await.unwrap();
            });
        });
        was_quick
    }

    /// Makes the node forget all UDP flows: a new client that gets the port of an earlier one is new to it then.
    pub(crate) fn forget_udp(&self) {
        self.within("node", || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(tombolo_host::conntrack::forget_udp(|_, _| true)).unwrap();
        });
    }

    /// The table in the kernel, in an order that does not depend on how it came about.
    pub(crate) fn listing(&self) -> BTreeSet<String> {
        let table = tombolo_proxy::DEFAULT_TABLE;
        let text = self.run("node", &["nft", "-j", "-s", "list", "table", "inet", table]);
        let mut listing: serde_json::Value = serde_json::from_str(&text).unwrap();
        let objects = listing["nftables"].as_array_mut().unwrap();
        objects
            .iter_mut()
            .filter(|object| object.get("metainfo").is_none())
            .map(|object| {
                normalize(object);
                object.to_string()
            })
            .collect()
    }

    pub(crate) fn tcp(&self, from: &str, ip: &str, port: u16) -> io::Result<Answer> {
        let address = SocketAddr::new(ip.parse().unwrap(), port);
        self.within(from, move || {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(answer(&text))
        })
    }

    pub(crate) fn udp(&self, from: &str, ip: &str, port: u16) -> io::Result<Answer> {
        ask_udp(&self.udp_socket(from, ip, port))
    }

    pub(crate) fn udp_socket(&self, from: &str, ip: &str, port: u16) -> UdpSocket {
        let address = SocketAddr::new(ip.parse().unwrap(), port);
        self.within(from, move || {
            let any = if address.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
            let socket = UdpSocket::bind(any).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(address).unwrap();
            socket
        })
    }

    /// Who answers `count` connections.
    pub(crate) fn tcp_servers(&self, from: &str, ip: &str, port: u16, count: usize) -> BTreeSet<String> {
        let answers = (0..count).map(|_| self.tcp(from, ip, port).unwrap().server);
        answers.collect()
    }

    /// Who answers datagrams of `count` clients.
    pub(crate) fn udp_servers(&self, from: &str, ip: &str, port: u16, count: usize) -> BTreeSet<String> {
        let answers = (0..count).map(|_| self.udp(from, ip, port).unwrap().server);
        answers.collect()
    }

    /// Runs a program to its good end; what it printed.
    pub(crate) fn run(&self, name: &str, words: &[&str]) -> String {
        let output = self.command(name, words).output().unwrap();
        assert!(output.status.success(), "{words:?} in {name}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn connect(&self, name: &str, own: [&str; 2], gateway: [&str; 2]) {
        let (node, peer) = (self.namespace("node"), self.namespace(name));
        let device = format!("to-{name}");
        let link = ["link", "add", "name", &device, "netns", &node, "type", "veth"];
        ip(&[&link[..], &["peer", "name", "eth0", "netns", &peer]].concat());
        for (side, device, addresses) in [("node", device.as_str(), gateway), (name, "eth0", own)] {
            self.run(side, &["ip", "link", "set", device, "up"]);
            for address in addresses {
                self.run(side, &["ip", "addr", "add", address, "dev", device, "nodad"]);
            }
        }
        for gateway in gateway {
            let via = gateway.split('/').next().unwrap();
            self.run(name, &["ip", "route", "add", "default", "via", via]);
        }
    }

    /// Whether the kernel has SCTP.
    pub(crate) fn has_sctp() -> bool {
        sctp_socket(false).is_ok()
    }

    /// Connects by SCTP, as the client.
    pub(crate) fn sctp(&self, from: &str, ip: &str, port: u16) -> io::Result<Answer> {
        use nix::sys::socket::{SockaddrStorage, connect, setsockopt, sockopt::ReceiveTimeout, sockopt::SendTimeout};
        use std::os::fd::AsRawFd;
        let address = SocketAddr::new(ip.parse().unwrap(), port);
        self.within(from, move || {
            let socket = sctp_socket(address.is_ipv6())?;
            let patience = nix::sys::time::TimeVal::new(5, 0);
            setsockopt(&socket, SendTimeout, &patience)?;
            setsockopt(&socket, ReceiveTimeout, &patience)?;
            connect(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
            let mut text = String::new();
            File::from(socket).read_to_string(&mut text)?;
            Ok(answer(&text))
        })
    }

    /// An SCTP server beside the others.
    pub(crate) fn serve_sctp(&self, name: &str) {
        use nix::sys::socket::{Backlog, SockaddrStorage, accept, bind, listen};
        use std::os::fd::{AsRawFd, FromRawFd};
        let listener = self.within(name, || {
            let listener = sctp_socket(true).unwrap();
            let any: SocketAddr = "[::]:9090".parse().unwrap();
            bind(listener.as_raw_fd(), &SockaddrStorage::from(any)).unwrap();
            listen(&listener, Backlog::new(16).unwrap()).unwrap();
            listener
        });
        let (is_over, name) = (Arc::clone(&self.is_over), name.to_owned());
        self.servers.lock().unwrap().push(std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                if !wait_readable(listener.as_fd()) {
                    continue;
                }
                let Ok(stream) = accept(listener.as_raw_fd()) else { continue };
                // SAFETY: the descriptor is new and nobody else's.
                let stream = unsafe { OwnedFd::from_raw_fd(stream) };
                // Which client it is takes more of SCTP's own calls than this test needs.
                let _ = write!(File::from(stream), "{name} ::");
            }
        }));
    }

    /// A TCP and a UDP server that say who they are and whom they see.
    fn serve(&self, name: &str) {
        let (listener, socket) = self.within(name, || {
            let listener = TcpListener::bind("[::]:8080").unwrap();
            listener.set_nonblocking(true).unwrap();
            (listener, UdpSocket::bind("[::]:5353").unwrap())
        });
        socket.set_read_timeout(Some(POLL)).unwrap();
        let mut servers = self.servers.lock().unwrap();
        let (is_over, name_) = (Arc::clone(&self.is_over), name.to_owned());
        servers.push(std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((mut stream, client)) => {
                        // The client may have gone; that is the client's to report.
                        let _ = write!(stream, "{name_} {}", client.ip().to_canonical());
                    }
                    Err(_) => drop(wait_readable(listener.as_fd())),
                }
            }
        }));
        let (is_over, name) = (Arc::clone(&self.is_over), name.to_owned());
        servers.push(std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                let Ok((_, client)) = socket.recv_from(&mut [0; 64]) else {
                    continue;
                };
                let text = format!("{name} {}", client.ip().to_canonical());
                let _ = socket.send_to(text.as_bytes(), client);
            }
        }));
    }

    /// Does something in a namespace; sockets made there stay there.
    fn within<T: Send + 'static>(&self, name: &str, what: impl FnOnce() -> T + Send + 'static) -> T {
        let path = format!("/run/netns/{}", self.namespace(name));
        let thread = std::thread::spawn(move || {
            setns(File::open(path).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
            what()
        });
        thread.join().unwrap()
    }

    fn command(&self, name: &str, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(name)]).args(words);
        command
    }

    fn namespace(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for server in self.servers.lock().unwrap().drain(..) {
            let _ = server.join();
        }
        for name in ["node", "client", "a", "b"] {
            // One that was not made yet can't be deleted.
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(name)]).stderr(Stdio::null()).status();
        }
    }
}

/// Sends a datagram and waits for the answer.
pub(crate) fn ask_udp(socket: &UdpSocket) -> io::Result<Answer> {
    socket.send(b"who?")?;
    let mut buffer = [0; 128];
    let len = socket.recv(&mut buffer)?;
    Ok(answer(std::str::from_utf8(&buffer[..len]).unwrap()))
}

fn answer(text: &str) -> Answer {
    let (server, client) = text.split_once(' ').unwrap();
    Answer { server: server.to_owned(), client: client.parse().unwrap() }
}

fn wait_readable(socket: BorrowedFd<'_>) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut fds = [PollFd::new(socket, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(POLL.as_millis() as u8)) == Ok(1)
}

fn sctp_socket(is_v6: bool) -> nix::Result<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    let family = if is_v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp)
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().unwrap();
    assert!(output.status.success(), "ip {words:?}: {output:?}");
}

/// Handles are numbered in order of making, elements are listed in order of hashing.
fn normalize(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.remove("handle");
            for (name, field) in fields.iter_mut() {
                normalize(field);
                if name == "elem" || name == "set" {
                    sort(field);
                }
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(normalize),
        _ => {}
    }
}

fn sort(value: &mut serde_json::Value) {
    if let serde_json::Value::Array(items) = value {
        items.sort_by_key(ToString::to_string);
    }
}
