//! Which packets may pass, where the peers are, and how large packets are on the way.

use std::net::UdpSocket;
use std::time::Duration;

use crate::support::{A, B, Node, Pair, Setup, output};
use crate::traffic::{datagrams, through, transfer};

/// Large and small packets over TCP and UDP, both families, both ways. Nothing is lost on an idle cable.
fn carries_all_sizes(pair: &Pair, mtu: u32) {
    let (a, b) = (&pair.a, &pair.b);
    for (from, to, addresses) in [(a, b, B), (b, a, A)] {
        for address in addresses {
            transfer(from, to, address, 1 << 20);
            let arrived = datagrams(from, to, address, mtu, 300);
            assert!(arrived > 250, "{arrived} of 300 arrived at {address}");
        }
    }
}

/// Connections of both families, both ways at once.
fn carries_many_flows(pair: &Pair) {
    let (a, b) = (&pair.a, &pair.b);
    std::thread::scope(|scope| {
        for (from, to, addresses) in [(a, b, B), (b, a, A), (a, b, B)] {
            for address in addresses {
                scope.spawn(move || transfer(from, to, address, 1 << 19));
                scope.spawn(move || transfer(to, from, if to.iface == b.iface { A[0] } else { B[0] }, 1 << 19));
            }
        }
    });
}

#[test]
fn many_flows_at_once() {
    let pair = Pair::new("ours");
    pair.connect(false);
    carries_many_flows(&pair);
}

#[test]
fn many_flows_at_once_with_wireguard_go() {
    let pair = Pair::new("go");
    pair.connect(true);
    carries_many_flows(&pair);
}

#[test]
fn many_flows_at_once_without_offloads() {
    let pair = Pair::new("plain");
    pair.connect(false);
    carries_many_flows(&pair);
}

fn over(setup: Setup, is_v6: bool) {
    let pair = Pair::build(setup);
    if setup.has_middle {
        forward(&pair);
    }
    pair.connect(is_v6);
    carries_all_sizes(&pair, setup.mtu.unwrap_or(1420));
}

/// The middle becomes a router.
fn forward(pair: &Pair) {
    pair.middle.as_ref().unwrap().within(|| {
        for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{key}"), "1").unwrap();
        }
    });
}

/// The encrypted packets are larger than the cable's and travel in pieces.
#[test]
fn a_cable_of_1280_bytes() {
    over(Setup { outer_mtu: [1280; 2], ..Setup::cable(["ours", "ours"]) }, false);
}

#[test]
fn a_cable_of_1280_bytes_to_wireguard_go() {
    over(Setup { outer_mtu: [1280; 2], ..Setup::cable(["ours", "go"]) }, true);
}

/// Only a router on the way knows how small packets must be.
#[test]
fn a_narrow_place_behind_a_router() {
    over(Setup { outer_mtu: [1500, 1280], ..Setup::middle(["ours", "ours"]) }, false);
}

#[test]
fn a_narrow_place_behind_a_router_over_ipv6() {
    over(Setup { outer_mtu: [1500, 1280], ..Setup::middle(["ours", "ours"]) }, true);
}

#[test]
fn jumbo_packets() {
    over(Setup { mtu: Some(9000), outer_mtu: [9100; 2], ..Setup::cable(["ours", "ours"]) }, true);
}

#[test]
fn jumbo_packets_with_wireguard_go() {
    over(Setup { mtu: Some(9000), outer_mtu: [9100; 2], ..Setup::cable(["go", "ours"]) }, false);
}

#[test]
fn a_peer_speaks_only_from_its_addresses() {
    let pair = Pair::new("ours");
    pair.connect(false);
    let (a, b) = (&pair.a, &pair.b);
    for (own, address, foreign) in [(A[0], "10.9.0.77/24", "10.9.0.77"), (A[1], "fd09::77/64", "fd09::77")] {
        b.ip(&["addr", "add", address, "dev", &b.iface]);
        let at = bound(a, own);
        let to = at.local_addr().unwrap();
        let mut buffer = [0; 100];
        let [wrong, right] = [foreign, if own == A[0] { B[0] } else { B[1] }].map(|source| bound(b, source));
        wrong.send_to(b"wrong", to).unwrap();
        right.send_to(b"right", to).unwrap();
        let (len, source) = at.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], source), (&b"right"[..], right.local_addr().unwrap()), "the first was dropped");
        // It is a matter of what is allowed, and of nothing else.
        a.wg(&["peer", &b.public, "allowed-ips", &format!("{},{},{foreign}", B[0], B[1])]);
        wrong.send_to(b"wrong", to).unwrap();
        let (len, source) = at.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], source), (&b"wrong"[..], wrong.local_addr().unwrap()));
    }
}

#[test]
fn the_longest_prefix_wins() {
    let pair = Pair::new("ours");
    pair.connect(false);
    let (a, b) = (&pair.a, &pair.b);
    let c = Node::start(&b.namespace, &format!("{}2", b.iface), "ours", None);
    c.ip(&["link", "set", &c.iface, "up"]);
    c.wg_file(
        "setconf",
        &format!(
            "[Interface]\nPrivateKey = {}\nListenPort = 51822\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.9.0.1/32\n",
            c.private, a.public
        ),
    );
    // Both have the address; only one is asked.
    for node in [b, &c] {
        node.ip(&["addr", "add", "10.9.0.130/32", "dev", &node.iface]);
    }
    let [at_b, at_c] = [b, &c].map(|node| through(node, "10.9.0.130:7"));
    let from = bound(a, A[0]);
    let endpoint = "192.0.2.2:51822";
    let cases = [
        ("10.9.0.0/24", "10.9.0.128/25", false),
        ("10.9.0.130/32", "10.9.0.128/25", true),
        ("0.0.0.0/0", "10.9.0.130/32", false),
        ("10.9.0.130/32", "0.0.0.0/0", true),
    ];
    for (number, (of_b, of_c, is_for_b)) in (0_u8..).zip(cases) {
        a.wg(&["peer", &b.public, "allowed-ips", of_b]);
        a.wg(&["peer", &c.public, "endpoint", endpoint, "allowed-ips", of_c]);
        from.send_to(&[number], "10.9.0.130:7").unwrap();
        let mut buffer = [0; 100];
        let at = if is_for_b { &at_b } else { &at_c };
        assert_eq!(at.recv(&mut buffer).unwrap(), 1);
        assert_eq!(buffer[0], number, "{of_b} and {of_c}");
    }
}

#[test]
fn a_peer_that_moves_is_followed() {
    moves(&Pair::new("ours"));
}

#[test]
fn a_peer_that_moves_is_followed_by_wireguard_go() {
    moves(&Pair::build(Setup::cable(["go", "ours"])));
}

/// The second gets another address, then one of the other family.
fn moves(pair: &Pair) {
    pair.connect(false);
    let (a, b) = (&pair.a, &pair.b);
    b.ip(&["addr", "add", "192.0.2.3/24", "dev", "v0"]);
    b.ip(&["addr", "del", "192.0.2.2/24", "dev", "v0"]);
    // Where one is the second's only address, the kernel takes the others' with it.
    let addresses = output("ip", &["-n", &b.iface, "addr", "show", "dev", "v0"]);
    if !addresses.contains("192.0.2.3/24") {
        b.ip(&["addr", "add", "192.0.2.3/24", "dev", "v0"]);
    }
    b.ping(A[0], &[]);
    assert_eq!(a.shows("endpoints"), "192.0.2.3:51821");
    a.ping(B[1], &[]);

    b.wg(&["peer", &a.public, "endpoint", "[2001:db8::1]:51820"]);
    b.ping(A[1], &[]);
    assert_eq!(a.shows("endpoints"), "[2001:db8::2]:51821");
    transfer(a, b, B[0], 1 << 18);
}

fn bound(node: &Node, address: &str) -> UdpSocket {
    let socket = node.within(|| UdpSocket::bind((address, 0)).unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}
