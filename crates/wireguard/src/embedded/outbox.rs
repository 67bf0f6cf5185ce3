//! Sealed packets on their way out: written one after the other into an arena, joined into as few messages as the
//! kernel takes, and sent together.

use std::sync::atomic::Ordering;
use std::time::Instant;

use tombolo_noise::{HEADER, OVERHEAD, Session, padded};
use tombolo_offload::{Segmenter, VirtioHeader, ecn};

use super::peer::Peer;
use super::sockets::Sockets;
use super::sys::udp::{Endpoint, MAX_MESSAGE, MAX_SEGMENTS, Transmit};

/// Room for what is read at once, in packets of usual sizes.
const ROOM: usize = 192 << 10;

/// Messages that are yet to be sent.
pub(super) struct Outbox {
    arena: Vec<u8>,
    used: usize,
    transmits: Vec<Transmit>,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { arena: vec![0; ROOM], used: 0, transmits: Vec::with_capacity(64) }
    }

    /// Splits what was read from the TUN into packets and seals them. False where it is not a packet that can be split,
    /// or the session is used up.
    pub(super) fn seal(
        &mut self,
        header: VirtioHeader,
        packet: &[u8],
        (peer, session, endpoint): (&Peer, &Session, Endpoint),
        mtu: usize,
    ) -> bool {
        let Ok(segments) = Segmenter::new(header, packet) else { return false };
        let Some(counters) = session.reserve(segments.count() as u64) else { return false };
        let (before, tos) = (self.used, ecn(packet));
        let mut index = 0;
        while index < segments.count() {
            let counter = counters.start + index as u64;
            let lengths = [index, index + 1].map(|index| {
                if index < segments.count() { OVERHEAD + padded(segments.segment_len(index), mtu) } else { 0 }
            });
            let (one, other) = self.room(lengths[0] + lengths[1]).split_at_mut(lengths[0]);
            lay(&segments, index, one);
            if other.is_empty() {
                session.seal(counter, one);
                self.put(lengths[0], endpoint, tos);
            } else {
                lay(&segments, index + 1, other);
                session.seal_two([counter, counter + 1], [one, other]);
                self.put(lengths[0], endpoint, tos);
                self.put(lengths[1], endpoint, tos);
            }
            index += 2;
        }
        peer.sent.fetch_add((self.used - before) as u64, Ordering::Relaxed);
        true
    }

    /// An empty message: the peer learns that we are there.
    pub(super) fn seal_keepalive(&mut self, peer: &Peer, session: &Session, endpoint: Endpoint, now: Instant) {
        let Some(counter) = session.reserve(1).and_then(|mut counters| counters.next()) else { return };
        session.seal(counter, self.room(OVERHEAD));
        self.put(OVERHEAD, endpoint, 0);
        peer.sent.fetch_add(OVERHEAD as u64, Ordering::Relaxed);
        peer.activity.sent_any(now);
    }

    /// A message that is sealed already, or needs no seal.
    pub(super) fn push(&mut self, message: &[u8], endpoint: Endpoint, tos: u8) {
        self.room(message.len()).copy_from_slice(message);
        self.put(message.len(), endpoint, tos);
    }

    /// Sends all of it.
    pub(super) fn flush(&mut self, sockets: Option<&Sockets>) {
        if let Some(sockets) = sockets.filter(|_| !self.transmits.is_empty()) {
            sockets.send(&self.arena, &self.transmits);
        }
        self.transmits.clear();
        self.used = 0;
    }

    fn room(&mut self, length: usize) -> &mut [u8] {
        let end = self.used + length;
        if self.arena.len() < end {
            self.arena.resize(end.next_multiple_of(ROOM), 0);
        }
        &mut self.arena[self.used..end]
    }

    /// Counts what was written in; it joins the message before where the kernel can split them again.
    fn put(&mut self, length: usize, endpoint: Endpoint, tos: u8) {
        let bytes = self.used..self.used + length;
        self.used = bytes.end;
        if let Some(last) = self.transmits.last_mut() {
            let (size, segment) = (last.bytes.len(), last.segment);
            if last.endpoint == endpoint
                && last.tos == tos
                && length <= segment
                && size.is_multiple_of(segment)
                && size / segment < MAX_SEGMENTS
                && size + length <= MAX_MESSAGE
            {
                last.bytes.end = bytes.end;
                return;
            }
        }
        self.transmits.push(Transmit { endpoint, bytes, segment: length, tos });
    }
}

/// Lays packet number `index` into the middle of its message, padded.
fn lay(segments: &Segmenter<'_>, index: usize, message: &mut [u8]) {
    let (text, rest) = message[HEADER..].split_at_mut(segments.segment_len(index));
    segments.write(index, text);
    rest.fill(0);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn endpoint(text: &str) -> Endpoint {
        Endpoint { to: text.parse().unwrap(), from: None }
    }

    /// The messages to the kernel that packets of these sizes become: (bytes, size of one).
    fn joined(packets: &[(usize, &str, u8)]) -> Vec<(usize, usize)> {
        let mut outbox = Outbox::new();
        for (length, to, tos) in packets {
            outbox.push(&vec![7; *length], endpoint(to), *tos);
        }
        outbox.transmits.iter().map(|transmit| (transmit.bytes.len(), transmit.segment)).collect()
    }

    #[test]
    fn packets_of_one_size_to_one_place_leave_together() {
        let (a, b) = ("192.0.2.1:1", "192.0.2.2:1");
        assert_eq!(joined(&[(100, a, 0), (100, a, 0), (100, a, 0)]), [(300, 100)]);
        // A shorter one is the last of its message, a longer one begins another.
        assert_eq!(joined(&[(100, a, 0), (60, a, 0), (60, a, 0)]), [(160, 100), (60, 60)]);
        assert_eq!(joined(&[(60, a, 0), (100, a, 0)]), [(60, 60), (100, 100)]);
        assert_eq!(joined(&[(100, a, 0), (100, b, 0), (100, a, 0)]), [(100, 100); 3]);
        assert_eq!(joined(&[(100, a, 0), (100, a, 2)]), [(100, 100); 2]);
    }

    #[test]
    fn messages_are_no_larger_than_the_kernel_takes() {
        let a = "192.0.2.1:1";
        let messages = joined(&[(1452, a, 0); 100]);
        assert_eq!(messages, [(45 * 1452, 1452), (45 * 1452, 1452), (10 * 1452, 1452)]);
        let messages = joined(&[(32, a, 0); 100]);
        assert_eq!(messages, [(64 * 32, 32), (36 * 32, 32)]);
    }
}
