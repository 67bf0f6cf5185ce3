//! Queries in datagrams: a thread a socket, which answers what the zones and the cache know.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::answer::{Reply, Transport};
use crate::message::{MAX_UDP, Query};
use crate::metrics::Tally;
use crate::mmsg::{BATCH, Peer, Received};
use crate::server::Shared;
use crate::{answer::answer, mmsg};

/// After a failure to receive, such as for lack of memory.
const PAUSE: Duration = Duration::from_millis(10);

/// A question that others have to be asked.
pub(crate) struct Question {
    pub(crate) socket: Arc<UdpSocket>,
    pub(crate) peer: Peer,
    pub(crate) packet: Vec<u8>,
    /// What was written so far.
    pub(crate) out: Vec<u8>,
    pub(crate) reply: Reply,
}

/// A thread that answers, until this is dropped.
#[derive(Debug)]
pub(crate) struct Thread {
    socket: Arc<UdpSocket>,
    is_over: Arc<AtomicBool>,
    handle: Option<JoinHandle<()>>,
}

impl Thread {
    pub(crate) fn start(
        socket: Arc<UdpSocket>,
        shared: Arc<Shared>,
        questions: mpsc::Sender<Question>,
    ) -> io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let (its_socket, its_end) = (Arc::clone(&socket), Arc::clone(&is_over));
        let handle = std::thread::Builder::new()
            .name("dns-udp".to_owned())
            .spawn(move || serve(&its_socket, &shared, &questions, &its_end))?;
        Ok(Self { socket, is_over, handle: Some(handle) })
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // This ends the wait for a datagram, though it says that there is no connection.
        let _ = socket2::SockRef::from(&*self.socket).shutdown(std::net::Shutdown::Both);
        if let Some(handle) = self.handle.take() {
            // A panic has been printed.
            let _ = handle.join();
        }
    }
}

fn serve(socket: &Arc<UdpSocket>, shared: &Shared, questions: &mpsc::Sender<Question>, is_over: &AtomicBool) {
    let mut received = Received::new();
    let mut responses: Vec<Vec<u8>> = (0..BATCH).map(|_| Vec::with_capacity(MAX_UDP)).collect();
    let mut to = [0; BATCH];
    let mut tally = Tally::default();
    loop {
        let count = match received.receive(socket) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::debug!(%error, "datagrams could not be received");
                std::thread::sleep(PAUSE);
                0
            }
        };
        if is_over.load(Ordering::Acquire) {
            return;
        }
        let mut ready = 0;
        shared.read(|zones| {
            for at in 0..count {
                let (packet, peer) = received.get(at);
                // Nobody can be told anything at port 0.
                let Some((client, 1..)) = peer.address() else {
                    tally.ignored();
                    continue;
                };
                let out = &mut responses[ready];
                let can_ask = shared.can_ask(client);
                match answer(packet, zones, Transport::Udp, can_ask, out) {
                    Reply::Silence => {
                        tally.ignored();
                        continue;
                    }
                    Reply::Send => {}
                    _ if !can_ask => {}
                    reply => {
                        if reply == Reply::Forward && shared.cached(packet, out) {
                            tally.cache_hit();
                        } else {
                            let (socket, packet, out) = (Arc::clone(socket), packet.to_vec(), out.clone());
                            let question = Question { socket, peer: *peer, packet, out, reply };
                            if questions.try_send(question).is_ok() {
                                tally.forwarded();
                                continue;
                            }
                            shared.overloaded(received.get(at).0, &mut responses[ready]);
                        }
                    }
                }
                tally.response(&responses[ready]);
                to[ready] = at;
                ready += 1;
            }
        });
        received.respond(socket, &responses[..ready], &to[..ready]);
        shared.metrics().add(Transport::Udp, &mut tally);
    }
}

impl Question {
    /// Asks, and tells the client.
    pub(crate) async fn settle(mut self, shared: &Shared) {
        shared.ask(&self.packet, Transport::Udp, self.reply, &mut self.out).await;
        let mut tally = Tally::default();
        tally.response(&self.out);
        shared.metrics().add(Transport::Udp, &mut tally);
        if let Err(error) = mmsg::send(&self.socket, &self.out, &self.peer) {
            tracing::debug!(%error, "a response could not be sent");
        }
    }
}

/// How long a response may be.
pub(crate) fn limit(query: &Query<'_>, transport: Transport) -> usize {
    match transport {
        Transport::Udp => query.udp_limit(),
        Transport::Tcp => usize::from(u16::MAX),
    }
}
