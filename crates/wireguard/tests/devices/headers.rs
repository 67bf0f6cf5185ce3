//! What a packet's own header says stays as it was: the traffic class and how far it may go.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};

use crate::support::{A, B, Node, Pair};
use crate::traffic::{receiver, sender};

const SIZE: usize = 1000;

/// Traffic class (or type of service) with its two bits of ECN, and hop limit (or time to live).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) class: u8,
    pub(crate) hops: u8,
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
    hear_marks(&receiver);
    let sender = sender(from, &receiver);
    for burst in 0..10 {
        let numbers = burst * 20..(burst + 1) * 20;
        for number in numbers.clone() {
            send(&sender, None, &[number; SIZE], marks(number)).unwrap();
        }
        for number in numbers {
            let mut payload = [0; SIZE + 1];
            let (len, _, marks_now) = receive(&receiver, &mut payload).unwrap();
            assert_eq!((&payload[..len], marks_now), (&[number; SIZE][..], marks(number)), "to {address}");
        }
    }
}

/// Two alike now and then, so that some could be joined.
fn marks(number: u8) -> Marks {
    let class = [0, 0, 1, 2, 2, 3, 0xb8, 0xb8 | 2][usize::from(number) % 8];
    Marks { class, hops: [64, 64, 64, 7, 255][usize::from(number / 4) % 5] }
}

/// From now on the socket is told of marks.
pub(crate) fn hear_marks(socket: &UdpSocket) {
    if socket.local_addr().unwrap().is_ipv6() {
        setsockopt(socket, sockopt::Ipv6RecvTClass, &true).unwrap();
        setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true).unwrap();
    } else {
        setsockopt(socket, sockopt::IpRecvTos, &true).unwrap();
        setsockopt(socket, sockopt::Ipv4RecvTtl, &true).unwrap();
    }
}

/// Sends to an address, or to where the socket is connected.
pub(crate) fn send(socket: &UdpSocket, to: Option<SocketAddr>, payload: &[u8], marks: Marks) -> nix::Result<usize> {
    let (class, hops) = (i32::from(marks.class), i32::from(marks.hops));
    let control = if socket.local_addr().unwrap().is_ipv6() {
        [ControlMessage::Ipv6TClass(&class), ControlMessage::Ipv6HopLimit(&hops)]
    } else {
        [ControlMessage::Ipv4Tos(&marks.class), ControlMessage::Ipv4Ttl(&hops)]
    };
    let to = to.map(SockaddrStorage::from);
    sendmsg(socket.as_raw_fd(), &[IoSlice::new(payload)], &control, MsgFlags::empty(), to.as_ref())
}

/// A datagram's length, from where it came, and its marks.
pub(crate) fn receive(socket: &UdpSocket, payload: &mut [u8]) -> nix::Result<(usize, SocketAddr, Marks)> {
    let mut space = nix::cmsg_space!(i32, i32);
    let mut slices = [IoSliceMut::new(payload)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty())?;
    let (mut class, mut hops) = (None, None);
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv4Tos(value) => class = Some(value),
            ControlMessageOwned::Ipv6TClass(value) => class = u8::try_from(value).ok(),
            ControlMessageOwned::Ipv4Ttl(value) | ControlMessageOwned::Ipv6HopLimit(value) => {
                hops = u8::try_from(value).ok();
            }
            other => panic!("{other:?}"),
        }
    }
    let source = message.address.unwrap();
    let v4 = source.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    let source = v4.unwrap_or_else(|| SocketAddr::V6((*source.as_sockaddr_in6().unwrap()).into()));
    Ok((message.bytes, source, Marks { class: class.unwrap(), hops: hops.unwrap() }))
}
