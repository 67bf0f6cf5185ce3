//! The entry point for fuzzing: what anybody on the network can send to a device.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tombolo_net::wireguard::Key;

use crate::handshake::public;
use crate::message::{Message, coded};
use crate::session::Session;
use crate::{Engine, Event, HEADER, Now, OVERHEAD, receiver_index};

/// How bytes reach a device, after their first.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// As a message.
    Raw,
    /// The same, with a first code that is right: whoever knows the public key can do that.
    Coded,
    /// As what is changed in an initiation of the peer's.
    Initiation,
    /// As what is changed in the response to ours.
    Response,
    /// As what is changed in a data message.
    Data,
}

/// Gives the bytes to a device with one peer, the first saying how. Nothing comes of them, and the device and its
/// peer still agree on a session afterwards. A fuzz target is `fuzz_target!(|bytes: &[u8]| tombolo_noise::fuzz(bytes))`.
///
/// # Panics
/// When something does come of them: then there is a mistake in the protocol.
pub fn fuzz(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let ways = [Way::Raw, Way::Coded, Way::Initiation, Way::Response, Way::Data];
    let under_load = first & 0x80 != 0;
    Fuzzer::new().run(ways[usize::from(first & 0x7f) % ways.len()], bytes, under_load);
}

struct Fuzzer {
    device: Engine,
    peer: Engine,
    device_key: Key,
    peer_key: Key,
    now: Now,
}

impl Fuzzer {
    fn new() -> Self {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let now = Now { instant: Instant::now(), wall };
        let (device_private, peer_private) = (Key([1; 32]), Key([2; 32]));
        let (device_key, peer_key) = (public(&device_private), public(&peer_private));
        let (mut device, mut peer) = (Engine::seeded(1, now), Engine::seeded(2, now));
        device.set_private_key(Some(device_private), now);
        peer.set_private_key(Some(peer_private), now);
        device.add_peer(peer_key, None, None, now);
        peer.add_peer(device_key, None, None, now);
        Self { device, peer, device_key, peer_key, now }
    }

    fn run(&mut self, way: Way, bytes: &[u8], under_load: bool) {
        match way {
            Way::Raw => self.refuse(bytes, under_load),
            Way::Coded => self.refuse(&self.coded(bytes.to_vec()), under_load),
            Way::Initiation => {
                self.peer.initiate(&self.device_key, self.now);
                let initiation = message(&mut self.peer);
                self.refuse_changed(&initiation, bytes, under_load);
            }
            Way::Response => {
                self.device.initiate(&self.peer_key, self.now);
                let initiation = message(&mut self.device);
                let received = self.peer.receive(&initiation, address(), false, self.now);
                assert_eq!(received, Ok(()));
                let response = message(&mut self.peer);
                self.refuse_changed(&response, bytes, under_load);
            }
            Way::Data => return self.data(bytes),
        }
        self.agree();
    }

    /// A message that was changed is refused, whatever its first code.
    fn refuse_changed(&mut self, genuine: &[u8], changes: &[u8], under_load: bool) {
        // The second code is looked at under load only.
        let until = coded(genuine).body.len() + 16;
        let changed = change(genuine, changes);
        if changed[..until] != genuine[..until] {
            self.refuse(&changed, under_load);
        }
        // Indices are not part of the Noise message: the first code alone protects them.
        let noise = if changed[0] == 1 { 8 } else { 12 };
        let body = coded(genuine).body.len();
        if changed[noise..body] != genuine[noise..body] {
            self.refuse(&self.coded(changed), under_load);
        }
    }

    /// Nothing comes of a message but a cookie.
    fn refuse(&mut self, bytes: &[u8], under_load: bool) {
        let before = self.device.next_timeout(self.now.instant);
        let refused = self.device.receive(bytes, address(), under_load, self.now);
        assert!(refused.is_err_and(|refused| !refused.to_string().is_empty()));
        while let Some(event) = self.device.poll() {
            let Event::Reply { to, message } = event else { panic!("{event:?}") };
            assert!(under_load && to == address() && matches!(Message::parse(&message), Some(Message::CookieReply(_))));
        }
        assert_eq!(self.device.next_timeout(self.now.instant), before);
    }

    /// With a first code that is right, where there is one.
    fn coded(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if matches!(Message::parse(&bytes), Some(Message::Initiation(_) | Message::Response(_))) {
            crate::cookie::Generator::new(&self.device_key).write_codes(&mut bytes, self.now.instant);
        }
        bytes
    }

    /// The peer begins, and there is a session.
    fn agree(&mut self) -> (Arc<Session>, Arc<Session>) {
        self.now.instant += Duration::from_secs(6);
        self.now.wall += Duration::from_secs(6);
        self.peer.initiate(&self.device_key, self.now);
        self.peer.handle_timeout(self.now);
        let initiation = message(&mut self.peer);
        assert_eq!(self.device.receive(&initiation, address(), false, self.now), Ok(()));
        let Some(Event::Roamed { .. }) = self.device.poll() else { panic!("the peer is there") };
        let Some(Event::Established { session: ours, .. }) = self.device.poll() else { panic!("there is a session") };
        let response = message(&mut self.device);
        assert_eq!(self.peer.receive(&response, address(), false, self.now), Ok(()));
        let established = std::iter::from_fn(|| self.peer.poll()).find_map(|event| match event {
            Event::Sending { session, .. } => Some(session),
            _ => None,
        });
        let Some(theirs) = established else { panic!("and at the other end") };
        (ours, theirs)
    }

    /// A data message that was changed is not opened, and one that was not is.
    fn data(&mut self, changes: &[u8]) {
        let (ours, theirs) = self.agree();
        let mut genuine = vec![0; OVERHEAD + changes.len() % 64];
        let Some(counters) = theirs.reserve(1) else { panic!("it is a new one") };
        theirs.seal(counters.start, &mut genuine);
        let mut changed = change(&genuine, changes);
        if changed != genuine {
            assert!(ours.open(&mut changed).is_err_and(|error| !error.to_string().is_empty()));
        }
        let mut raw = changes.to_vec();
        assert!(ours.open(&mut raw).is_err());
        if let Some(index) = receiver_index(changes) {
            assert!(index != ours.local_index() || changes.len() >= OVERHEAD);
        }
        let Ok(opened) = ours.open(&mut genuine) else { panic!("what was sealed is opened") };
        assert_eq!((opened.counter, opened.plaintext), (0, HEADER..genuine.len() - crate::TAG));
        assert!(ours.window().accept(0) && !ours.window().accept(0));
    }
}

/// The genuine message with bytes changed: at each place by as much as the next byte says.
fn change(genuine: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut changed = genuine.to_vec();
    for pair in changes.chunks_exact(2) {
        let at = usize::from(pair[0]) % changed.len();
        changed[at] ^= pair[1];
    }
    changed
}

/// The next message that an engine wants sent.
fn message(engine: &mut Engine) -> Vec<u8> {
    let message = std::iter::from_fn(|| engine.poll()).find_map(|event| match event {
        Event::Send { message, .. } | Event::Reply { message, .. } => Some(message),
        _ => None,
    });
    let Some(message) = message else { panic!("it says something") };
    message
}

fn address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 51820))
}
