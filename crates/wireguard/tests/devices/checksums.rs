//! What comes out of the tunnel has right checksums, for whoever forwards it on.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt};

use crate::support::{A, B, Node, Pair};
use crate::traffic::{datagrams, receiver, sender, transfer};

#[test]
fn checksums_are_right() {
    are_right(&Pair::new("ours"));
}

#[test]
fn checksums_are_right_with_wireguard_go() {
    are_right(&Pair::new("go"));
}

#[test]
fn checksums_are_right_without_offloads() {
    are_right(&Pair::new("plain"));
}

fn are_right(pair: &Pair) {
    pair.connect(false);
    let (a, b) = (&pair.a, &pair.b);
    for (from, to, addresses) in [(a, b, B), (b, a, A)] {
        let capture = capture(to);
        for address in addresses {
            transfer(from, to, address, 2_000_000);
            transfer(to, from, if addresses == B { A } else { B }[usize::from(address.contains(':'))], 2_000_000);
            assert!(datagrams(from, to, address, 1420, 200) > 0);
        }
        without_checksum(from, to, addresses[0]);
        let seen = check(&capture, addresses);
        assert!(seen.iter().all(|count| *count > 50), "packets of TCP and UDP, of IPv4 and IPv6: {seen:?}");
    }
}

/// A sender that left the checksum out gets none.
fn without_checksum(from: &Node, to: &Node, address: &str) {
    let receiver = receiver(to, address, Duration::from_secs(5));
    let sender = sender(from, &receiver);
    let on: libc::c_int = 1;
    // SAFETY: the option is read from `on`, an int, while the call lasts.
    let set = unsafe {
        let value = (&raw const on).cast();
        libc::setsockopt(sender.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NO_CHECK, value, size_of_val(&on) as u32)
    };
    assert_eq!(set, 0);
    sender.send(b"no checksum").unwrap();
    let mut buffer = [0; 100];
    let len = receiver.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..len], b"no checksum");
}

/// All packets of a node's namespace, without their link's header.
fn capture(node: &Node) -> OwnedFd {
    node.within(|| {
        let flags = SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll).unwrap();
        setsockopt(&fd, sockopt::RcvBufForce, &(64 << 20)).unwrap();
        fd
    })
}

/// Of the packets to these addresses, how many were TCP and UDP over IPv4 and over IPv6; all of them are right.
fn check(capture: &OwnedFd, [v4, v6]: [&str; 2]) -> [usize; 4] {
    let v4 = v4.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let v6 = v6.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let mut seen = [0; 4];
    let mut buffer = vec![0; 1 << 16];
    while let Ok(len) = recv(capture.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
        let packet = &buffer[..len];
        let (addresses, protocol, payload) = match packet[0] >> 4 {
            4 if packet[16..20] == v4 => {
                let header = usize::from(packet[0] & 15) * 4;
                assert_eq!(fold(sum(&packet[..header])), 0xffff, "the IPv4 header's");
                let total = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
                assert!(total <= len, "{total} of {len} bytes");
                // Fragments are checked when they are one again, by the kernel.
                if u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0 {
                    continue;
                }
                (&packet[12..20], packet[9], &packet[header..total])
            }
            6 if packet[24..40] == v6 => {
                let end = 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]]));
                (&packet[8..40], packet[6], &packet[40..end])
            }
            _ => continue,
        };
        let (at, kind) = match i32::from(protocol) {
            libc::IPPROTO_TCP => (16, 0),
            libc::IPPROTO_UDP => (6, 1),
            _ => continue,
        };
        seen[kind + if addresses.len() == 32 { 2 } else { 0 }] += 1;
        let field = u16::from_be_bytes([payload[at], payload[at + 1]]);
        let pseudo = sum(addresses) + u64::from(protocol) + payload.len() as u64;
        let is_left_out = field == 0 && payload.len() == 8 + b"no checksum".len();
        // A packet that is to be completed by hardware has the pseudo header's sum.
        assert!(
            is_left_out || fold(pseudo + sum(payload)) == 0xffff || field == fold(pseudo),
            "{} bytes of protocol {protocol} with {field:#06x}",
            payload.len()
        );
    }
    seen
}

fn sum(bytes: &[u8]) -> u64 {
    let pairs = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    pairs.map(u64::from).sum()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
