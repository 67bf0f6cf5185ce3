//! Bidirectional forwarding detection (RFC 5880) over one hop (RFC 5881) and several (RFC 5883).
//!
//! Two systems send each other a small packet many times a second. Each packet says two things: how its sender sees
//! the path, and how fast it can send and be sent to. When as many packets in a row as the sender's *multiplier* fail
//! to come, the path is down, and whoever routes over it is told so, long before a BGP hold timer would have run out.
//!
//! # How a session comes up
//!
//! ```text
//!     A                         B
//!   Down ──── Down ─────────► Down       B hears A, so it goes to Init: "I hear you"
//!   Down ◄─── Init ────────── Init       A is heard and hears: Up
//!    Up  ──── Up ───────────► Init       so does B
//!    Up  ◄─── Up ───────────── Up
//! ```
//!
//! Until then both send about once a second, however fast they are configured, so that an absent peer costs nothing.
//! Each side picks a number for the session, its *discriminator*, and repeats the other's: later packets are told
//! apart by it. The first have none yet and are told apart by their addresses.
//!
//! # How fast
//!
//! A says how often it would like to send and how often it can bear to be sent to, and B likewise. What goes from A to
//! B goes at the slower of A's wish and B's limit, a random part of up to a quarter earlier, so that many sessions do
//! not send all at once. B gives up when A's multiplier times that interval has passed without a packet.
//!
//! A change is asked for with the *poll* bit, on the packets that are sent anyway, until the answer with the *final*
//! bit comes. Until then neither sends less often nor gives up sooner than the other can know of.
//!
//! # How it goes down
//!
//! By silence, by the other's word that it is down (it hears nothing: then the path is broken one way), or by
//! somebody's wish (*AdminDown*), which is no failure of the path. A [`Diagnostic`] says which.
//!
//! # The parts
//!
//! [`packet`] reads and writes control packets. [`session`] is the protocol, without a socket or a clock. [`runtime`]
//! runs many sessions on a thread of its own, so that nothing else that the process does can make a path look dead.
//!
//! # What is not here
//!
//! Authentication (RFC 5880, section 6.7): a packet with an authentication section is refused with a reason. What
//! protects a single hop is the hop limit of 255, which nobody farther away can forge (RFC 5082). The echo function:
//! it is refused to others by a required interval of zero. Own demand mode: that of the other side is respected.
//! IPv6 link-local peers: an address alone does not say which link.

pub mod packet;
pub mod runtime;
pub mod session;

pub use packet::{Diagnostic, Packet, Refusal, State};
pub use runtime::{Bfd, Event, Options, Peer};
pub use session::{Session, Timers};

/// Reads any bytes as a packet and checks that what was read is written as it was: for the fuzzer.
///
/// # Panics
/// When it is not: then there is a mistake in the codec.
pub fn fuzz(bytes: &[u8]) {
    match Packet::parse(bytes) {
        Ok(packet) => {
            let written = packet.to_bytes();
            assert_eq!(Packet::parse(&written), Ok(packet), "what is written is read as it was");
            // The echo interval is not kept, and the length leaves out what follows the packet.
            assert_eq!((written[0], written[1] & 0xfb), (bytes[0], bytes[1] & 0xfb));
            assert_eq!(written[4..20], bytes[4..20]);
        }
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}
