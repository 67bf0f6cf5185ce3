//! WireGuard's protocol without input and output.
//!
//! Nothing in here opens a socket, reads a clock or starts a thread. Whoever uses it hands in what came from the
//! network and what time it is, and is handed what to send. The whitepaper (*WireGuard: Next Generation Kernel Network
//! Tunnel*) gives the messages and the cryptography; where it leaves something open, we do as Linux's kernel does.
//!
//! # Two halves
//!
//! ```text
//!                 few messages, &mut                          many messages, &self, any thread
//!   ┌──────────────────────────────────────────┐      ┌───────────────────────────────────────────┐
//!   │ Engine: every peer's handshake, cookies, │ ───► │ Session: two keys, a counter, a window.   │
//!   │ timers. One a device, in its mutex.      │      │ seal, open: in place, nothing allocated.  │
//!   │                                          │ ◄─── │ Activity: when a peer was last heard of.  │
//!   └──────────────────────────────────────────┘      └───────────────────────────────────────────┘
//! ```
//!
//! The [`Engine`] makes a [`Session`] with each handshake and says in an [`Event`] what it is good for. Whoever moves
//! packets seals and opens with it, on as many threads as there are, without asking the engine. There are three
//! reasons to go back: a session wants to be replaced ([`Engine::initiate`]), the first message came over a new one
//! ([`Engine::confirm`]), and a timer is due ([`Engine::handle_timeout`]). The timers learn what was sent and received
//! from the peer's [`Activity`], which the packet movers write once a batch.
//!
//! # How a session comes up
//!
//! ```text
//!     initiator                                   responder
//!   initiate        ──── initiation (148) ─────►
//!                   ◄─── response (92) ─────────  Established: it may be received with
//!   Established, Sending
//!                   ──── data, or a keepalive ─►  confirm: Sending
//! ```
//!
//! The responder sends nothing with the new session before it has received something with it: only then does it know
//! that the initiation was not an old one, sent again by somebody else. Until then it goes on with the session before.
//! So a peer has up to three: the *current*, with which we send, the *previous*, with which late packets are still
//! opened, and the *next*, which waits for its confirmation.
//!
//! A device under load answers an initiation with a *cookie*, and works on it only when the initiator comes back with
//! the cookie in the second of the message's two authentication codes: then its address is no invention.
//!
//! # The parts
//!
//! [`message`] draws what goes over the network. `handshake` is the Noise pattern IKpsk2 (by `snow`), `cookie` and
//! `limiter` keep strangers from wasting our time, `replay` is the window of counters, `session` the data messages.
//! `activity` is what timers learn from, `timers` when something is due, `peer` what one peer's state does, and
//! `engine` finds the peer that a message is for.

#![forbid(unsafe_code)]

mod activity;
mod clock;
mod cookie;
mod engine;
mod fuzz;
mod handshake;
mod hash;
mod limiter;
pub mod message;
mod peer;
mod replay;
mod session;
mod timers;

#[cfg(test)]
mod tests;

pub use activity::Activity;
pub use clock::Now;
pub use engine::{Engine, Event, Refused};
pub use fuzz::fuzz;
pub use message::{HEADER, OVERHEAD, TAG, padded, receiver_index};
pub use replay::ReplayGuard;
pub use session::{OpenError, Opened, Session};
