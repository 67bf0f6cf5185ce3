//! What a packet's own header says stays as it was: the traffic class and how far it may go.

use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};

use crate::support::{A, B, Node, Pair};
use crate::traffic::{receiver, sender};

/// Traffic class (or type of service) with its two bits of ECN, and hop limit (or time to live).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    class: u8,
    hops: u8,
}

#[test]
fn headers_are_kept() {
    are_kept(&Pair::new("ours"));
}

#[test]
fn headers_are_kept_with_wireguard_go() {
    are_kept(&Pair::new("go"));
}

fn are_kept(pair: &Pair) {
    pair.connect(false);
    let (a, b) = (&pair.a, &pair.b);
    for (from, to, addresses) in [(a, b, B), (b, a, A)] {
        addresses.iter().for_each(|address| arrive_as_sent(from, to, address));
    }
}

/// Packets of one flow and one size, sent at once, that differ in nothing but their marks.
fn arrive_as_sent(from: &Node, to: &Node, address: &str) {
    let receiver = receiver(to, address, Duration::from_secs(5));
    if receiver.local_addr().unwrap().is_ipv6() {
        setsockopt(&receiver, sockopt::Ipv6RecvTClass, &true).unwrap();
        setsockopt(&receiver, sockopt::Ipv6RecvHopLimit, &true).unwrap();
    } else {
        setsockopt(&receiver, sockopt::IpRecvTos, &true).unwrap();
        setsockopt(&receiver, sockopt::Ipv4RecvTtl, &true).unwrap();
    }
    let sender = sender(from, &receiver);
    for burst in 0..10 {
        let numbers = burst * 20..(burst + 1) * 20;
        for number in numbers.clone() {
            send(&sender, number, marks(number));
        }
        for number in numbers {
            assert_eq!(receive(&receiver), (number, marks(number)), "to {address}");
        }
    }
}

/// Two alike now and then, so that some could be joined.
fn marks(number: u8) -> Marks {
    let class = [0, 0, 1, 2, 2, 3, 0xb8, 0xb8 | 2][usize::from(number) % 8];
    Marks { class, hops: [64, 64, 64, 7, 255][usize::from(number / 4) % 5] }
}

fn send(socket: &UdpSocket, number: u8, marks: Marks) {
    let (class, hops) = (i32::from(marks.class), i32::from(marks.hops));
    let control = if socket.local_addr().unwrap().is_ipv6() {
        [ControlMessage::Ipv6TClass(&class), ControlMessage::Ipv6HopLimit(&hops)]
    } else {
        [ControlMessage::Ipv4Tos(&marks.class), ControlMessage::Ipv4Ttl(&hops)]
    };
    let payload = [number; 1000];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&payload)], &control, MsgFlags::empty(), None).unwrap();
}

fn receive(socket: &UdpSocket) -> (u8, Marks) {
    let mut payload = [0; 2000];
    let mut space = nix::cmsg_space!(i32, i32);
    let mut slices = [IoSliceMut::new(&mut payload)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty()).unwrap();
    let (mut class, mut hops) = (None, None);
    for control in message.cmsgs().unwrap() {
        match control {
            ControlMessageOwned::Ipv4Tos(value) => class = Some(value),
            ControlMessageOwned::Ipv6TClass(value) => class = u8::try_from(value).ok(),
            ControlMessageOwned::Ipv4Ttl(value) | ControlMessageOwned::Ipv6HopLimit(value) => {
                hops = u8::try_from(value).ok();
            }
            other => panic!("{other:?}"),
        }
    }
    let len = message.bytes;
    assert!(len == 1000 && payload[..len].iter().all(|byte| *byte == payload[0]), "{len} bytes");
    (payload[0], Marks { class: class.unwrap(), hops: hops.unwrap() })
}
