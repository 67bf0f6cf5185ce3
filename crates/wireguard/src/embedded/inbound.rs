//! From the network to the TUN.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tombolo_noise::{OVERHEAD, OpenError, Opened, Session, receiver_index};
use tombolo_offload::{Coalescer, Limits, decapsulate_ecn, ip_len, source};

use super::outbox::Outbox;
use super::peer::{Receiving, Table, read};
use super::pipeline::Ticket;
use super::shared::{LastRoute, Shared};
use super::sys::tun::Vectors;
use super::sys::udp::{Endpoint, Inbox, Received, Socket};

/// What a thread needs to receive from the sockets, open, and write to the interface.
pub(super) struct Half {
    shared: Arc<Shared>,
    inbox: Inbox,
    batch: Batch,
    vectors: Vectors,
    outbox: Outbox,
}

/// What was received at once, on its way to the interface.
struct Batch {
    /// The session of the messages that came last, one after the other, and those of them that are authentic.
    receiving: Option<Receiving>,
    opened: Vec<Message>,
    route: LastRoute,
    coalescer: Coalescer,
    /// Sessions whose first message this is.
    unconfirmed: Vec<Arc<Session>>,
}

/// An authentic message.
struct Message {
    counter: u64,
    text: Range<usize>,
    endpoint: Endpoint,
    ecn: u8,
}

impl Half {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let offloads = shared.tun.offloads();
        Self {
            shared,
            inbox: Inbox::new(),
            batch: Batch {
                receiving: None,
                opened: Vec::new(),
                route: LastRoute::default(),
                coalescer: Coalescer::new(Limits { tcp: offloads.tcp, udp: offloads.udp }),
                unconfirmed: Vec::new(),
            },
            vectors: Vectors::default(),
            outbox: Outbox::new(),
        }
    }

    /// Takes what there is; how many bytes that is.
    pub(super) fn receive(&mut self, socket: &Socket) -> usize {
        if let Err(error) = self.inbox.receive(socket) {
            // An error that an earlier packet met (ICMP) comes up here; the socket goes on.
            tracing::debug!(%error, "receiving");
        }
        self.inbox.parts().1.iter().map(|received| received.bytes.len()).sum()
    }

    /// Writes what was opened to the interface when it is its turn.
    pub(super) fn hand_on(&mut self, ticket: &Ticket<'_>) {
        // Before the packets are handed on: their answers are sent with the new session already.
        for session in self.batch.unconfirmed.drain(..) {
            self.shared.drive(&mut self.outbox, None, |engine, now| engine.confirm(&session, now));
        }
        ticket.wait();
        let (arena, _) = self.inbox.parts();
        for write in self.batch.coalescer.writes() {
            if let Err(error) = self.shared.tun.write(write.header, arena, write.pieces, &mut self.vectors) {
                tracing::trace!(%error, "the interface did not take a packet");
            }
        }
    }

    /// Opens what was received, and finds out what may be handed on.
    pub(super) fn open(&mut self) {
        let now = Instant::now();
        let table = read(&self.shared.table);
        let (arena, received) = self.inbox.parts();
        let batch = &mut self.batch;
        batch.coalescer.begin();
        batch.route.forget();
        for received in received {
            let mut start = received.bytes.start;
            while start < received.bytes.end {
                let one = start..received.bytes.end.min(start + received.segment);
                start = one.end;
                let Some(index) = receiver_index(&arena[one.clone()]) else {
                    let message = &arena[one];
                    if message.first().is_some_and(|kind| (1..=3).contains(kind)) {
                        self.shared.queue_handshake(message, received.endpoint);
                    }
                    continue;
                };
                if batch.receiving.as_ref().is_none_or(|r| r.session.local_index() != index) {
                    batch.check(&self.shared, &table, arena, now);
                    batch.receiving = table.sessions.get(&index).filter(|r| r.session.may_receive(now)).cloned();
                }
                let Some(session) = batch.receiving.as_ref().map(|receiving| &receiving.session) else { continue };
                let other = one.end..received.bytes.end.min(one.end + received.segment);
                if receiver_index(&arena[other.clone()]) == Some(index) {
                    start = other.end;
                    let (first, second) = arena[one.start..other.end].split_at_mut(one.len());
                    let [first, second] = session.open_two([first, second]);
                    batch.take(first, one.start, received);
                    batch.take(second, other.start, received);
                } else {
                    let opened = session.open(&mut arena[one.clone()]);
                    batch.take(opened, one.start, received);
                }
            }
        }
        batch.check(&self.shared, &table, arena, now);
        batch.coalescer.finish(arena);
    }
}

impl Batch {
    /// Takes a message that began at `start`, if it is authentic.
    fn take(&mut self, opened: Result<Opened, OpenError>, start: usize, received: &Received) {
        let Ok(Opened { counter, plaintext }) = opened else { return };
        let text = start + plaintext.start..start + plaintext.end;
        self.opened.push(Message { counter, text, endpoint: received.endpoint, ecn: received.ecn });
    }

    /// Takes what of the session is new, and what its peer may send, to the packets for the interface.
    fn check(&mut self, shared: &Shared, table: &Table, arena: &mut [u8], now: Instant) {
        let Some(Receiving { session, peer }) = self.receiving.take() else { return };
        let mut window = session.window();
        self.opened.retain(|message| window.accept(message.counter));
        drop(window);
        let Some(last) = self.opened.last() else { return };
        peer.roam(last.endpoint);
        let bytes = self.opened.iter().map(|message| (message.text.len() + OVERHEAD) as u64);
        peer.received.fetch_add(bytes.sum(), Ordering::Relaxed);
        peer.activity.received_any(now);
        if !session.is_confirmed() {
            self.unconfirmed.push(Arc::clone(&session));
        }
        let mut has_data = false;
        for Message { text, ecn, .. } in self.opened.drain(..) {
            if text.is_empty() {
                continue;
            }
            has_data = true;
            let Some(length) = ip_len(&arena[text.clone()]) else { continue };
            let packet = text.start..text.start + length;
            let Some(from) = source(&arena[packet.clone()]) else { continue };
            if !self.route.find(table, from).is_some_and(|owner| Arc::ptr_eq(owner, &peer)) {
                continue;
            }
            if ecn == 0 || decapsulate_ecn(ecn, &mut arena[packet.clone()]) {
                self.coalescer.push(arena, packet);
            }
        }
        if has_data {
            peer.activity.received_data(now);
        }
        if session.wants_rekey_after_receive(now) {
            shared.ask_for_handshake(&peer, now);
        }
        shared.wake();
    }
}
