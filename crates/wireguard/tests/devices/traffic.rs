//! What is sent through the tunnel, and known again at the other end.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Socket, Type};

use crate::support::Node;

/// Long enough for any transfer: a test that waits for it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Of datagrams, how many bytes are on their way at a time: less than a socket holds.
const BATCH: usize = 40_000;

/// Numbers that follow from the first (splitmix64).
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Whether what happens to so many of a thousand happens now.
    pub(crate) fn happens(&mut self, of_thousand: u64) -> bool {
        self.below(1000) < of_thousand
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Sends so many bytes over a new connection to `address` of `to`, and reads the same there.
pub(crate) fn transfer(from: &Node, to: &Node, address: &str, bytes: usize) {
    const CHUNK: usize = 1 << 16;
    let listener = to.within(|| TcpListener::bind((address, 0)).unwrap());
    let at = listener.local_addr().unwrap();
    let mut sender = from.within(|| TcpStream::connect_timeout(&at, PATIENCE).unwrap());
    let (mut receiver, _) = listener.accept().unwrap();
    sender.set_write_timeout(Some(PATIENCE)).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let chunks = || (0..bytes).step_by(CHUNK).map(|start| CHUNK.min(bytes - start));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut noise, mut chunk) = (Noise(1), vec![0; CHUNK]);
            for len in chunks() {
                noise.fill(&mut chunk[..len]);
                sender.write_all(&chunk[..len]).unwrap();
            }
            sender.shutdown(Shutdown::Write).unwrap();
        });
        let (mut noise, mut sent, mut got) = (Noise(1), vec![0; CHUNK], vec![0; CHUNK]);
        for len in chunks() {
            noise.fill(&mut sent[..len]);
            receiver.read_exact(&mut got[..len]).unwrap();
            assert!(sent[..len] == got[..len], "TCP to {address}: the bytes are others");
        }
        assert_eq!(receiver.read(&mut got).unwrap(), 0, "nothing after the end");
    });
}

/// A socket at `address` of a node with room for a flood.
pub(crate) fn receiver(node: &Node, address: &str, patience: Duration) -> UdpSocket {
    let socket = node.within(|| UdpSocket::bind((address, 0)).unwrap());
    setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket
}

/// A socket of a node that sends to another.
pub(crate) fn sender(node: &Node, to: &UdpSocket) -> UdpSocket {
    let to = to.local_addr().unwrap();
    node.within(|| {
        let socket = UdpSocket::bind(if to.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" }).unwrap();
        socket.connect(to).unwrap();
        socket
    })
}

/// A socket at an address of a node that hears only what comes through the node's own device.
pub(crate) fn through(node: &Node, address: &str) -> UdpSocket {
    let socket = node.within(|| {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        socket.bind_device(Some(node.iface.as_bytes())).unwrap();
        socket.bind(&address.parse::<SocketAddr>().unwrap().into()).unwrap();
        UdpSocket::from(socket)
    });
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Sends datagrams of all sizes through a device of this MTU. Each that arrives is as it was sent, and none arrives
/// twice. How many did.
pub(crate) fn datagrams(from: &Node, to: &Node, address: &str, mtu: u32, count: u32) -> usize {
    let receiver = receiver(to, address, Duration::from_millis(5));
    let sender = sender(from, &receiver);
    let mut seen = HashSet::new();
    let mut buffer = vec![0; 1 << 16];
    let mut receive = |until: usize| {
        while seen.len() < until
            && let Ok(len) = receiver.recv(&mut buffer)
        {
            let got = &buffer[..len];
            let number = number(got);
            assert!(number < count && got == datagram(number, mtu), "no such datagram of {len} bytes was sent");
            assert!(seen.insert(number), "datagram {number} of {len} bytes came twice");
        }
        seen.len()
    };
    let mut on_the_way = 0;
    for number in 0..count {
        let datagram = datagram(number, mtu);
        sender.send(&datagram).unwrap();
        on_the_way += datagram.len();
        if on_the_way > BATCH {
            receive(number as usize + 1);
            on_the_way = 0;
        }
    }
    receiver.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    receive(count as usize)
}

/// The datagrams below 4 bytes have room for no number: one of each size is sent.
fn number(datagram: &[u8]) -> u32 {
    datagram.first_chunk().map_or(datagram.len() as u32, |bytes| u32::from_le_bytes(*bytes))
}

/// What a number says: first from 0 bytes on, then around the largest that is one packet, then of any size up to three
/// packets, every other in one.
fn datagram(number: u32, mtu: u32) -> Vec<u8> {
    let mut noise = Noise(u64::from(number) << 32);
    let whole = u64::from(mtu) - 48;
    let size = match number {
        0..40 => u64::from(number),
        40..80 => whole - 10 + u64::from(number - 40),
        _ if number.is_multiple_of(2) => 4 + noise.below(whole),
        _ => 4 + noise.below(whole * 3),
    };
    let mut datagram = vec![0; size as usize];
    noise.fill(&mut datagram);
    if let Some(start) = datagram.first_chunk_mut() {
        *start = number.to_le_bytes();
    }
    datagram
}
