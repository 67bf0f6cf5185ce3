//! Congestion outside is known inside (RFC 6040): packets outside are marked as those inside are, and what they meet
//! on the way is passed on. `wireguard-go` does neither.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::Duration;

use crate::headers::{Marks, hear_marks, receive, send};
use crate::relay::{CONGESTED, Relay};
use crate::support::{B, Node, Pair, Setup};
use crate::traffic::{receiver, sender};

/// Each ECN field, with and without another class.
const CLASSES: [u8; 6] = [0, 1, 2, 3, 0xb8, 0xb8 | 2];
const HOPS: u8 = 64;
const ROUNDS: usize = 20;

#[test]
fn congestion_is_passed_on_over_ipv4() {
    is_passed_on(false);
}

#[test]
fn congestion_is_passed_on_over_ipv6() {
    is_passed_on(true);
}

fn is_passed_on(is_v6: bool) {
    let pair = Pair::build(Setup::middle(["ours", "ours"]));
    let relay = Relay::start(&pair, is_v6);
    pair.configure(relay.endpoint());
    pair.a.ping(B[0], &[]);
    for address in B {
        relay.classes();
        arrive(&pair.a, &pair.b, address, |class| class);
        // The classes themselves are no business of the path's. What has met congestion already may be marked so, or
        // as what can meet it.
        let mut outside = relay.classes();
        let already = outside.remove(&CONGESTED).unwrap_or(0);
        *outside.entry(2).or_default() += already;
        let wanted = [(0, 2), (1, 1), (2, 3)].map(|(class, count)| (class, count * ROUNDS));
        assert_eq!(outside, BTreeMap::from(wanted), "outside, of packets to {address}");
    }
    relay.congest();
    for address in B {
        let met = |class| if class & CONGESTED == 0 { class } else { class | CONGESTED };
        arrive(&pair.a, &pair.b, address, met);
    }
}

/// Packets of one flow, sent at once with different classes, arrive with what these become.
fn arrive(from: &Node, to: &Node, address: &str, becomes: impl Fn(u8) -> u8) {
    let receiver = receiver(to, address, Duration::from_secs(5));
    hear_marks(&receiver);
    let sender = sender(from, &receiver);
    for _ in 0..ROUNDS {
        for class in CLASSES {
            send(&sender, None, &[class; 1000], Marks { class, hops: HOPS }).unwrap();
        }
        for class in CLASSES {
            assert_eq!(next(&receiver), (class, becomes(class)), "to {address}");
        }
    }
}

/// With which class a packet was sent, and with which it came.
fn next(receiver: &UdpSocket) -> (u8, u8) {
    let mut payload = [0; 2000];
    let (len, _, marks) = receive(receiver, &mut payload).unwrap();
    assert_eq!(len, 1000);
    (payload[0], marks.class)
}
