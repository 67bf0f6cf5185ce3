//! Configuring, changing, spawning and removing.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tombolo_net::wireguard::{Device as Wanted, Peer, changes};
use tombolo_wireguard::device::{Kind, OpenOptions, Prefer, open, remove};
use tombolo_wireguard::{embedded, keys};

use crate::support::{Node, Pair, output, program, random, wait};

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

    let mut ping = a.namespace.command("ping", &["-q", "-c", "50", "-i", "0.01", "-W", "2", "10.9.0.2"]);
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
    let second = Node::start(&pair.a.namespace, &format!("{}2", pair.a.iface), "ours", None);
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
