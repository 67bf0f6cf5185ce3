//! A packet that no peer can be sent is answered at once: its sender need not wait for what will not come.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use crate::support::{A, Node, Pair};

#[test]
fn addresses_of_no_peer_are_unreachable() {
    let pair = Pair::new("ours");
    pair.connect(false);
    for address in ["10.9.0.99", "fd09::99"] {
        is_unreachable(&pair.a, address);
    }
}

#[test]
fn a_peer_that_is_nowhere_is_unreachable() {
    let pair = Pair::new("ours");
    // The second has no endpoint for the first, which has not spoken yet.
    pair.b.wg_file("setconf", &pair.config_b());
    for address in A {
        is_unreachable(&pair.b, address);
    }
}

fn is_unreachable(from: &Node, address: &str) {
    let refused = from.within(|| {
        let is_v6 = address.contains(':');
        let socket = UdpSocket::bind(if is_v6 { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
        // Without it a socket is told of errors only that will not pass (`icmp(7)`).
        if is_v6 {
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true).unwrap();
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap();
        }
        socket.connect((address, 7)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send(b"is anybody there?").unwrap();
        socket.recv(&mut [0; 100]).unwrap_err()
    });
    let kind = refused.kind();
    assert!(matches!(kind, ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable), "{address}: {refused}");
}
