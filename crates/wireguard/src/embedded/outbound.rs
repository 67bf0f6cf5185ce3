//! From the TUN to the network.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tombolo_offload::{VirtioHeader, destination, unreachable};

use super::outbox::Outbox;
use super::peer::read;
use super::pipeline::Ticket;
use super::shared::{LastRoute, Shared};
use super::sys::tun::Vectors;

/// The longest that the kernel gives.
const LONGEST: usize = 65_535;

/// Room for one joined packet, or for many small ones before it.
const ROOM: usize = 2 * LONGEST;

/// An ICMP error quotes at most that much (RFC 4443 section 2.4).
const LONGEST_ERROR: usize = 1280;

/// What a thread needs to read the interface, seal and send.
pub(super) struct Half {
    shared: Arc<Shared>,
    buffer: Vec<u8>,
    packets: Vec<(VirtioHeader, usize, usize)>,
    outbox: Outbox,
    route: LastRoute,
    vectors: Vectors,
}

impl Half {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            buffer: vec![0; ROOM],
            packets: Vec::with_capacity(64),
            outbox: Outbox::new(),
            route: LastRoute::default(),
            vectors: Vectors::default(),
        }
    }

    /// Takes the packets that are there, as far as there is room; how many bytes that is.
    pub(super) fn read(&mut self) -> io::Result<usize> {
        self.packets.clear();
        let mut used = 0;
        while used + LONGEST <= self.buffer.len() {
            match self.shared.tun.read(&mut self.buffer[used..]) {
                Ok((header, length)) => {
                    self.packets.push((header, used, used + length));
                    used += length;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(used)
    }

    /// Sends what was sealed when it is its turn.
    pub(super) fn hand_on(&mut self, ticket: &Ticket<'_>) {
        ticket.wait();
        self.outbox.flush(self.shared.sockets().as_deref());
    }

    /// Splits and seals what was read.
    pub(super) fn seal(&mut self) {
        if self.packets.is_empty() {
            return;
        }
        let (now, mtu) = (Instant::now(), self.shared.mtu());
        let table = read(&self.shared.table);
        self.route.forget();
        let mut lost = Vec::new();
        for (header, start, end) in self.packets.drain(..) {
            let packet = &self.buffer[start..end];
            let Some(to) = destination(packet) else { continue };
            let Some((peer, endpoint)) = self.route.find(&table, to).and_then(|peer| Some((peer, peer.endpoint()?)))
            else {
                lost.push((to, start, end));
                continue;
            };
            let session = peer.session(now).or_else(|| {
                let session = peer.wait(header, packet, now);
                if session.is_none() {
                    self.shared.ask_for_handshake(peer, now);
                }
                session
            });
            let Some(session) = session else { continue };
            if self.outbox.seal(header, packet, (peer, &session, endpoint), mtu) {
                peer.activity.sent_data(now);
            }
            if session.wants_rekey_after_send(now) {
                self.shared.ask_for_handshake(peer, now);
            }
        }
        drop(table);
        self.shared.wake();
        for (to, start, end) in lost {
            self.complain(to, start..end, now);
        }
    }

    /// Tells who sent it that there is no way there: no peer has the address, or nobody knows where the peer is.
    fn complain(&mut self, to: IpAddr, packet: std::ops::Range<usize>, now: Instant) {
        let mut error = [0; LONGEST_ERROR];
        // The answer is from the address that can't be reached: one of our own would be refused as a martian.
        let Some(length) = unreachable(&self.buffer[packet], to, &mut error) else { return };
        if self.shared.may_complain(now) {
            let whole = 0..length as u32;
            let _ = self.shared.tun.write(VirtioHeader::NONE, &error, std::slice::from_ref(&whole), &mut self.vectors);
        }
    }
}
