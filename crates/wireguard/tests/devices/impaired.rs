//! A bad path outside is, inside, a path that loses packets and does nothing else to them.

use std::net::UdpSocket;
use std::time::Duration;

use crate::relay::{Faults, Relay, To};
use crate::support::{A, B, MIDDLE, Node, Pair, Setup};
use crate::traffic::{datagrams, receiver, sender, transfer};

const FAULTS: Faults = Faults { lost: 20, doubled: 10, late: 100, damaged: 5 };
const BYTES: usize = 2 << 20;
const DATAGRAMS: u32 = 1000;

#[test]
fn over_ipv4() {
    carries("ours", false);
}

#[test]
fn over_ipv6() {
    carries("ours", true);
}

#[test]
fn over_ipv4_with_wireguard_go() {
    carries("go", false);
}

#[test]
fn over_ipv6_with_wireguard_go() {
    carries("go", true);
}

#[test]
fn over_ipv4_through_many_threads() {
    carries("many", false);
}

fn carries(other: &'static str, is_v6: bool) {
    let pair = Pair::build(Setup::middle(["ours", other]));
    let relay = Relay::start(&pair, is_v6);
    let (a, b) = (&pair.a, &pair.b);
    pair.configure(relay.endpoint());
    a.ping(B[0], &[]);
    relay.set_faults(FAULTS);
    for (from, to, [v4, v6]) in [(a, b, B), (b, a, A)] {
        transfer(from, to, v4, BYTES);
        transfer(from, to, v6, BYTES);
        for address in [v4, v6] {
            let arrived = datagrams(from, to, address, 1420, DATAGRAMS);
            assert!(arrived > DATAGRAMS as usize * 8 / 10, "{arrived} of {DATAGRAMS} arrived at {address}");
        }
    }
    let Faults { lost, doubled, late, damaged } = relay.met();
    assert!(lost > 50 && doubled > 20 && late > 200 && damaged > 10, "the path was bad: {:?}", relay.met());
}

/// What was said once is not heard again, and who repeats it is not taken for the one who said it.
#[test]
fn what_is_repeated_is_dropped() {
    let pair = Pair::build(Setup::middle(["ours", "ours"]));
    let relay = Relay::start(&pair, false);
    let (a, b) = (&pair.a, &pair.b);
    relay.record();
    pair.configure(relay.endpoint());
    a.ping(B[0], &[]);
    for (from, to, [v4, v6]) in [(a, b, B), (b, a, A)] {
        transfer(from, to, v6, 100_000);
        assert_eq!(datagrams(from, to, v4, 1420, 200), 200);
    }
    let recorded = relay.recorded();
    assert!(recorded.len() > 600, "{} datagrams", recorded.len());

    let ends = [a, b];
    let packets = || ends.map(delivered);
    let endpoints = ends.map(|node| node.shows("endpoints"));
    let sockets = [(a, A[0]), (b, B[0])].map(|(node, address)| receiver(node, address, Duration::from_secs(5)));
    let before = packets();
    let stranger = pair.middle.as_ref().unwrap().within(|| UdpSocket::bind((MIDDLE[0][0], 0)).unwrap());
    for (to, datagram) in &recorded {
        relay.send(*to, datagram, None);
    }
    for (_, datagram) in recorded.iter().filter(|(to, _)| *to == To::A) {
        relay.send(To::A, datagram, Some(&stranger));
    }
    // After these have come nothing is on its way any more.
    for (from, socket) in [(b, &sockets[0]), (a, &sockets[1])] {
        let sender = sender(from, socket);
        sender.send(b"last").unwrap();
        let mut buffer = [0; 100];
        assert_eq!(socket.recv(&mut buffer).unwrap(), 4);
    }
    assert_eq!(packets(), before.map(|packets| packets + 1), "only the last two packets were delivered");
    assert_eq!(ends.map(|node| node.shows("endpoints")), endpoints, "nobody followed the stranger");
}

/// Packets that came out of the tunnel.
fn delivered(node: &Node) -> u64 {
    let path = format!("/sys/class/net/{}/statistics/rx_packets", node.iface);
    let text = node.namespace.command("cat", &[&path]).output().unwrap().stdout;
    String::from_utf8(text).unwrap().trim().parse().unwrap()
}
