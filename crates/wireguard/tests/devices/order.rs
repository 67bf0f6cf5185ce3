//! The packets of a flow come in the order in which they were sent, however fast that was.

use std::io::IoSlice;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg, sendmsg};

use crate::support::{A, B, Node, Pair};
use crate::traffic::{Noise, PATIENCE, receiver, sender};

const SIZE: usize = 1200;
/// How many are handed to the kernel at a time; 40 fill the largest packet there is.
const BURST: u64 = 40;
/// How many of a flow must come.
const ENOUGH: usize = 1500;

#[derive(Clone, Copy, Debug)]
enum How {
    /// `send`, one system call each.
    Singly,
    /// `sendmmsg`.
    Many,
    /// `UDP_SEGMENT`.
    Segmented,
}

const WAYS: [How; 3] = [How::Singly, How::Many, How::Segmented];

#[test]
fn packets_keep_their_order() {
    keep_their_order(&Pair::new("ours"));
}

#[test]
fn packets_keep_their_order_with_wireguard_go() {
    keep_their_order(&Pair::new("go"));
}

#[test]
fn packets_keep_their_order_without_offloads() {
    keep_their_order(&Pair::new("plain"));
}

#[test]
fn packets_keep_their_order_through_many_threads() {
    keep_their_order(&Pair::new("many"));
}

fn keep_their_order(pair: &Pair) {
    pair.connect(true);
    for (from, to, [v4, v6]) in [(&pair.a, &pair.b, B), (&pair.b, &pair.a, A)] {
        for (how, address) in WAYS.into_iter().zip([v4, v6, v6]) {
            flood(from, to, &[(address, how)]);
        }
        let flows = [(v4, How::Segmented), (v6, How::Singly), (v4, How::Many), (v6, How::Segmented)];
        flood(from, to, &flows);
    }
}

/// As fast as it goes, until enough of each flow have come.
fn flood(from: &Node, to: &Node, flows: &[(&str, How)]) {
    let running = AtomicUsize::new(flows.len());
    std::thread::scope(|scope| {
        for (address, how) in flows {
            let receiver = receiver(to, address, PATIENCE);
            let sender = sender(from, &receiver);
            let running = &running;
            scope.spawn(move || {
                let result = std::panic::catch_unwind(|| in_order(&receiver, *how));
                running.fetch_sub(1, Ordering::Relaxed);
                result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            });
            scope.spawn(move || {
                let mut first = 0;
                while running.load(Ordering::Relaxed) > 0 {
                    send(&sender, *how, first);
                    first += BURST;
                }
            });
        }
    });
}

fn in_order(receiver: &UdpSocket, how: How) {
    let mut buffer = [0; SIZE + 1];
    let mut next = 0;
    for n in 0..ENOUGH {
        let len = receiver.recv(&mut buffer).unwrap_or_else(|error| panic!("{how:?}: after {n}: {error}"));
        let number = u64::from_le_bytes(*buffer.first_chunk().unwrap());
        assert!(buffer[..len] == datagram(number, how), "{how:?}: {number} is another, of {len} bytes");
        assert!(number >= next, "{how:?}: {number} came after {}", next - 1);
        next = number + 1;
    }
}

fn send(socket: &UdpSocket, how: How, first: u64) {
    let datagrams: Vec<_> = (first..first + BURST).map(|number| datagram(number, how)).collect();
    let fd = socket.as_raw_fd();
    // A full queue is the limit of the speed.
    match how {
        How::Singly => datagrams.iter().for_each(|datagram| drop(socket.send(datagram))),
        How::Many => {
            let slices: Vec<_> = datagrams.iter().map(|datagram| [IoSlice::new(datagram)]).collect();
            let addresses: Vec<Option<SockaddrStorage>> = vec![None; slices.len()];
            let mut headers = MultiHeaders::preallocate(slices.len(), None);
            let _ = sendmmsg(fd, &mut headers, &slices, addresses, [], MsgFlags::empty());
        }
        How::Segmented => {
            let size = SIZE as u16;
            let whole = datagrams.concat();
            let whole = [IoSlice::new(&whole)];
            let control = [ControlMessage::UdpGsoSegments(&size)];
            let _ = sendmsg::<()>(fd, &whole, &control, MsgFlags::empty(), None);
        }
    }
}

/// Now and then one is shorter than those before it; of segments only the last can be.
fn datagram(number: u64, how: How) -> Vec<u8> {
    let is_last = number % BURST == BURST - 1;
    let is_short = is_last || (!matches!(how, How::Segmented) && number.is_multiple_of(7));
    let mut datagram = vec![0; if is_short { 8 + (number as usize * 13) % SIZE / 2 } else { SIZE }];
    Noise(number << 32).fill(&mut datagram);
    datagram[..8].copy_from_slice(&number.to_le_bytes());
    datagram
}
