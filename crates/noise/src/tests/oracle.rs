//! Our engine against gotatun's, which descends from boringtun: in both roles, in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use gotatun::noise::index_table::IndexTable;
use gotatun::noise::rate_limiter::RateLimiter;
use gotatun::noise::{Tunn, TunnResult};
use gotatun::packet::{Packet, WgKind};
use gotatun::x25519::{PublicKey, StaticSecret};
use tombolo_net::wireguard::Key;

use crate::Now;
use crate::handshake::public;
use crate::tests::world::{Datagram, Device, private};

/// Ours is number 1, theirs number 2.
struct Meeting {
    ours: Device,
    theirs: Tunn,
    limiter: Arc<RateLimiter>,
    now: Now,
    key: Key,
    their_address: SocketAddr,
    /// What came out of theirs.
    received: Vec<Vec<u8>>,
    cookies: usize,
}

impl Meeting {
    /// `limit` handshakes a second are what theirs takes without a cookie.
    fn new(preshared: Option<Key>, limit: u64) -> Self {
        let now = Now::system();
        let (mut ours, key) = (Device::new(1, now), public(&private(2)));
        let their_address = SocketAddr::from(([192, 0, 2, 2], 51820));
        ours.add(key, Some(their_address), None, now);
        ours.engine.set_preshared_key(&key, preshared);
        let limiter = Arc::new(RateLimiter::new(&PublicKey::from(key.0), limit));
        let theirs = Tunn::new(
            StaticSecret::from(private(2).0),
            PublicKey::from(ours.key.0),
            preshared.map(|key| key.0),
            None,
            IndexTable::from_os_rng(),
            Arc::clone(&limiter),
        );
        Self { ours, theirs, limiter, now, key, their_address, received: Vec::new(), cookies: 0 }
    }

    fn wait(&mut self, time: Duration) {
        self.now = Now { instant: self.now.instant + time, wall: self.now.wall + time };
    }

    /// Passes messages to and fro until there are none.
    fn settle(&mut self, first: Option<WgKind>) {
        let mut to_ours: Vec<WgKind> = first.into_iter().collect();
        loop {
            for message in std::mem::take(&mut to_ours) {
                let bytes = Packet::from(message).as_ref().to_vec();
                let datagram = Datagram { from: self.their_address, to: self.ours.address, bytes };
                self.ours.receive(&datagram, self.now);
            }
            let sent = self.ours.sent();
            if sent.is_empty() {
                return;
            }
            for datagram in sent {
                to_ours.extend(self.give(&datagram.bytes));
            }
        }
    }

    /// What theirs answers.
    fn give(&mut self, bytes: &[u8]) -> Option<WgKind> {
        let packet = Packet::from_bytes(BytesMut::from(bytes));
        let result = match self.limiter.verify_packet(self.ours.address, packet) {
            Ok(message) => self.theirs.handle_incoming_packet(message),
            Err(result) => result,
        };
        match result {
            TunnResult::WriteToNetwork(message) => {
                self.cookies += usize::from(matches!(message, WgKind::CookieReply(_)));
                Some(message)
            }
            TunnResult::WriteToTunnel(packet) => {
                if !packet.as_ref().is_empty() {
                    self.received.push(packet.as_ref().to_vec());
                }
                None
            }
            TunnResult::Done => None,
            TunnResult::Err(error) => panic!("{error:?}"),
        }
    }

    fn send_ours(&mut self, packet: &[u8]) {
        self.ours.send(self.key, packet, self.now);
        self.settle(None);
    }

    fn send_theirs(&mut self, packet: &[u8]) {
        let message = self.theirs.handle_outgoing_packet(Packet::from_bytes(BytesMut::from(packet)), None);
        self.settle(message);
    }

    /// Data both ways, of many lengths.
    fn talk(&mut self) {
        for length in [16, 32, 1280, 1408] {
            let packet: Vec<u8> = (0..length).map(|i| i as u8).collect();
            self.send_ours(&packet);
            assert_eq!(self.received.pop(), Some(packet.clone()));
            self.send_theirs(&packet);
            assert_eq!(self.ours.received.pop(), Some(packet));
        }
    }
}

#[test]
fn we_begin() {
    for preshared in [None, Some(private(9))] {
        let mut meeting = Meeting::new(preshared, 100);
        meeting.ours.initiate(&meeting.key, meeting.now);
        meeting.settle(None);
        meeting.talk();
        assert!(meeting.ours.sending[&meeting.key].is_initiator());
        assert_eq!(meeting.ours.established, 1);
    }
}

#[test]
fn they_begin() {
    for preshared in [None, Some(private(9))] {
        let mut meeting = Meeting::new(preshared, 100);
        let initiation = meeting.theirs.format_handshake_initiation(false).map(Into::into);
        meeting.settle(initiation);
        meeting.talk();
        assert!(!meeting.ours.sending[&meeting.key].is_initiator());
        assert_eq!(meeting.ours.established, 1);
    }
}

#[test]
fn sessions_are_replaced_by_either() {
    let mut meeting = Meeting::new(Some(private(9)), 100);
    for round in 1..=3 {
        meeting.wait(Duration::from_secs(6));
        meeting.ours.initiate(&meeting.key, meeting.now);
        meeting.settle(None);
        meeting.talk();
        assert_eq!(meeting.ours.established, 2 * round - 1);
        meeting.wait(Duration::from_secs(6));
        let initiation = meeting.theirs.format_handshake_initiation(true).map(Into::into);
        meeting.settle(initiation);
        meeting.talk();
        assert_eq!(meeting.ours.established, 2 * round);
        assert!(meeting.ours.sessions.len() <= 3);
    }
}

#[test]
fn their_cookie_is_taken() {
    // Theirs takes nothing without a cookie.
    let mut meeting = Meeting::new(None, 0);
    meeting.ours.initiate(&meeting.key, meeting.now);
    meeting.settle(None);
    assert_eq!((meeting.cookies, meeting.ours.established), (1, 0));
    meeting.wait(Duration::from_secs(6));
    meeting.ours.timeout(meeting.now);
    meeting.settle(None);
    assert_eq!((meeting.cookies, meeting.ours.established), (1, 1), "the next initiation has the cookie");
    meeting.talk();
}

#[test]
fn our_cookie_is_taken() {
    let mut meeting = Meeting::new(None, 100);
    meeting.ours.under_load = true;
    let initiation = meeting.theirs.format_handshake_initiation(false).map(Into::into);
    meeting.settle(initiation);
    assert_eq!(meeting.ours.established, 0);
    let initiation = meeting.theirs.format_handshake_initiation(true).map(Into::into);
    meeting.settle(initiation);
    assert_eq!(meeting.ours.established, 1);
    meeting.talk();
}

#[test]
fn a_wrong_preshared_key_is_noticed_by_us() {
    let mut meeting = Meeting::new(Some(private(9)), 100);
    meeting.ours.engine.set_preshared_key(&meeting.key, Some(private(8)));
    meeting.ours.initiate(&meeting.key, meeting.now);
    meeting.settle(None);
    assert_eq!(meeting.ours.established, 0);
    meeting.ours.engine.set_preshared_key(&meeting.key, Some(private(9)));
    meeting.wait(Duration::from_secs(6));
    meeting.ours.timeout(meeting.now);
    meeting.settle(None);
    meeting.talk();
}
