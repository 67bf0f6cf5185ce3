//! Two network namespaces: a node with a server, and a client beside it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

const LINK: &str = "between";
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) struct Place {
    prefix: String,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self { prefix: format!("bp-{:04x}", rand::random::<u16>()) };
        let (node, client) = (place.name("node"), place.name("client"));
        for name in [&node, &client] {
            ip(&["netns", "add", name]);
            ip(&["-n", name, "link", "set", "lo", "up"]);
        }
        let pair = ["type", "veth", "peer", "name", LINK, "netns", &client];
        ip(&[&["link", "add", "name", LINK, "netns", &node][..], &pair].concat());
        for (name, address) in [(&node, "192.0.2.1/24"), (&client, "192.0.2.2/24")] {
            ip(&["-n", name, "addr", "add", address, "dev", LINK]);
            ip(&["-n", name, "link", "set", LINK, "up"]);
        }
        ip(&["-n", &node, "addr", "add", &format!("{}/32", super::SERVER), "dev", "lo"]);
        ip(&["-n", &client, "route", "add", "10.0.0.0/8", "via", "192.0.2.1"]);
        place.serve();
        place
    }

    pub(crate) fn within_node<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> T {
        within(self.name("node"), what)
    }

    /// How long the client took to set up each of `count` connections.
    pub(crate) fn connections(&self, address: &str, port: u16, count: usize) -> Vec<Duration> {
        let to = SocketAddr::new(address.parse().unwrap(), port);
        within(self.name("client"), move || {
            let connect = |_| {
                let start = Instant::now();
                let mut stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
                let time = start.elapsed();
                // Until the server has closed it: one at a time.
                let _ = stream.read(&mut [0; 1]);
                time
            };
            (0..count).map(connect).collect()
        })
    }

    /// How many datagrams go forth and back in a second, one at a time, over one flow.
    pub(crate) fn round_trips(&self, address: &str, port: u16, count: usize) -> usize {
        let to = SocketAddr::new(address.parse().unwrap(), port);
        within(self.name("client"), move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket.connect(to).unwrap();
            let start = Instant::now();
            for _ in 0..count {
                socket.send(b"ping").unwrap();
                socket.recv(&mut [0; 16]).unwrap();
            }
            (count as f64 / start.elapsed().as_secs_f64()) as usize
        })
    }

    /// The servers end with the process.
    fn serve(&self) {
        let (listener, socket) = self.within_node(|| {
            let at = |port: u16| SocketAddr::new(super::SERVER.parse().unwrap(), port);
            (TcpListener::bind(at(8080)).unwrap(), UdpSocket::bind(at(5353)).unwrap())
        });
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.unwrap().flush();
            }
        });
        std::thread::spawn(move || {
            let mut buffer = [0; 16];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(&buffer[..length], from).unwrap();
            }
        });
    }

    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for name in ["node", "client"] {
            // One that was not made can't be deleted.
            let _ = Command::new("ip").args(["netns", "del", &self.name(name)]).stderr(Stdio::null()).status();
        }
    }
}

/// Does something in a namespace; sockets made there stay there.
fn within<T: Send + 'static>(name: String, what: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        setns(File::open(format!("/run/netns/{name}")).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        what()
    });
    thread.join().unwrap()
}

fn ip(words: &[&str]) {
    let output = Command::new("ip").args(words).output().unwrap();
    assert!(output.status.success(), "ip {words:?}: {output:?}");
}
