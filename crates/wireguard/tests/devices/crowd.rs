//! Many peers on one device.

use std::fmt::Write as _;
use std::net::UdpSocket;

use tombolo_wireguard::keys;

use crate::support::{A, Node, Pair};
use crate::traffic::{PATIENCE, through};

/// Configured, and of them alive.
const PEERS: usize = 100;
const LIVE: usize = 20;

#[test]
fn a_hundred_peers() {
    let pair = Pair::new("ours");
    pair.connect(false);
    let hub = &pair.a;
    let before = memory(hub.pid());
    let others: Vec<Node> = (0..LIVE)
        .map(|n| {
            let kind = if n.is_multiple_of(5) { "go" } else { "ours" };
            Node::start(&pair.b.namespace, &format!("{}{n}", pair.b.iface), kind, None)
        })
        .collect();
    let mut config = String::new();
    for n in 0..PEERS {
        let public =
            others.get(n).map_or_else(|| keys::public(&keys::generate_private()).to_string(), |n| n.public.clone());
        writeln!(
            config,
            "[Peer]\nPublicKey = {public}\nEndpoint = 192.0.2.2:{}\nAllowedIPs = 10.9.1.{n}/32",
            52000 + n
        )
        .unwrap();
    }
    hub.wg_file("addconf", &config);
    hub.ip(&["route", "add", "10.9.1.0/24", "dev", &hub.iface]);
    let configured = memory(hub.pid());

    let sockets: Vec<UdpSocket> = others.iter().zip(0_u8..).map(|(node, n)| join(node, &hub.public, n)).collect();
    let from = hub.within(|| UdpSocket::bind((A[0], 0)).unwrap());
    from.set_read_timeout(Some(PATIENCE)).unwrap();
    // All shake hands at once, then once more with sessions.
    for round in [b"first", b"again"] {
        for socket in &sockets {
            from.send_to(round, socket.local_addr().unwrap()).unwrap();
        }
        let mut buffer = [0; 100];
        for socket in &sockets {
            let (len, source) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], source), (&round[..], from.local_addr().unwrap()));
            socket.send_to(socket.local_addr().unwrap().to_string().as_bytes(), source).unwrap();
        }
        for _ in &sockets {
            let (len, source) = from.recv_from(&mut buffer).unwrap();
            assert_eq!(std::str::from_utf8(&buffer[..len]).unwrap(), source.to_string());
        }
    }
    println!(
        "memory with 1 peer {before} KiB, with {PEERS} more {configured} KiB, {LIVE} of them alive {} KiB",
        memory(hub.pid())
    );
}

/// Configures a device as peer `n` of the hub; a socket that hears only what comes through it.
fn join(node: &Node, hub: &str, n: u8) -> UdpSocket {
    let (address, port) = (format!("10.9.1.{n}"), 52000 + u16::from(n));
    node.wg_file(
        "setconf",
        &format!(
            "[Interface]\nPrivateKey = {}\nListenPort = {port}\n[Peer]\nPublicKey = {hub}\nAllowedIPs = 10.9.0.1/32\n",
            node.private
        ),
    );
    node.ip(&["addr", "add", &format!("{address}/32"), "dev", &node.iface]);
    node.ip(&["link", "set", &node.iface, "up"]);
    through(node, &format!("{address}:7"))
}

/// Resident memory in KiB.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
