//! The codes of handshake messages, and cookies (whitepaper, sections 5.4.4 and 5.4.7).
//!
//! `mac1` says that the sender knows whom it writes to. `mac2` says that it can receive at its address: its key is a
//! *cookie*, which is a code of that address under a secret that only the giver has and changes every two minutes.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use rand::RngCore;
use rand::rngs::StdRng;
use tombolo_net::wireguard::Key;

use crate::hash::{Code, hash, mac, same};
use crate::message::{COOKIE_REPLY, Coded, CookieReply, coded, write_codes};

/// How long a secret, and so a cookie, is good for.
const SECRET_AGE: Duration = Duration::from_secs(120);
/// How much earlier the receiver of a cookie stops to use it, as it took a while to come.
const LATENCY: Duration = Duration::from_secs(5);

/// The two keys that follow from a public key.
struct Labelled {
    mac1: [u8; 32],
    cookie: [u8; 32],
}

/// Checks the codes of messages to us, and gives cookies.
pub(crate) struct Checker {
    own: Labelled,
    secret: [u8; 32],
    secret_made: Option<Instant>,
}

/// Writes the codes of messages to one peer, and keeps the cookie that it gave us.
pub(crate) struct Generator {
    peer: Labelled,
    /// The code of the last message, which a cookie reply answers; none once one came.
    last_mac1: Option<Code>,
    cookie: Option<(Code, Instant)>,
}

impl Labelled {
    fn new(public: &Key) -> Self {
        Self { mac1: hash(&[b"mac1----", &public.0]), cookie: hash(&[b"cookie--", &public.0]) }
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.cookie.into())
    }
}

impl Checker {
    pub(crate) fn new(own_public: &Key) -> Self {
        Self { own: Labelled::new(own_public), secret: [0; 32], secret_made: None }
    }

    /// Whether an initiation's or response's first code is right.
    pub(crate) fn mac1_is_right(&self, message: &[u8]) -> bool {
        let Coded { body, mac1, .. } = coded(message);
        same(&mac(&self.own.mac1, &[body]), mac1)
    }

    /// Whether its second is, which proves the address.
    pub(crate) fn mac2_is_right(&mut self, message: &[u8], from: SocketAddr, rng: &mut StdRng, now: Instant) -> bool {
        let Coded { body, mac1, mac2 } = coded(message);
        let cookie = self.cookie(from, rng, now);
        same(&mac(&cookie, &[body, mac1]), mac2)
    }

    /// The answer to a message whose first code is right and whose second is not.
    pub(crate) fn reply(
        &mut self,
        message: &[u8],
        sender: u32,
        from: SocketAddr,
        rng: &mut StdRng,
        now: Instant,
    ) -> Option<[u8; COOKIE_REPLY]> {
        let mut sealed = [0; 32];
        let (cookie, tag) = sealed.split_at_mut(16);
        cookie.copy_from_slice(&self.cookie(from, rng, now));
        let mut nonce = [0; 24];
        rng.fill_bytes(&mut nonce);
        let cipher = self.own.cipher();
        let computed =
            cipher.encrypt_in_place_detached(XNonce::from_slice(&nonce), coded(message).mac1, cookie).ok()?;
        tag.copy_from_slice(&computed);
        Some(CookieReply::bytes(sender, &nonce, &sealed))
    }

    fn cookie(&mut self, from: SocketAddr, rng: &mut StdRng, now: Instant) -> Code {
        if self.secret_made.is_none_or(|made| now.saturating_duration_since(made) >= SECRET_AGE) {
            rng.fill_bytes(&mut self.secret);
            self.secret_made = Some(now);
        }
        let port = from.port().to_be_bytes();
        match from.ip().to_canonical() {
            IpAddr::V4(address) => mac(&self.secret, &[&address.octets(), &port]),
            IpAddr::V6(address) => mac(&self.secret, &[&address.octets(), &port]),
        }
    }
}

impl Generator {
    pub(crate) fn new(peer: &Key) -> Self {
        Self { peer: Labelled::new(peer), last_mac1: None, cookie: None }
    }

    /// Writes the codes of an initiation or a response.
    pub(crate) fn write_codes(&mut self, message: &mut [u8], now: Instant) {
        let body = coded(message).body;
        let mac1 = mac(&self.peer.mac1, &[body]);
        let fresh = |made: &Instant| now.saturating_duration_since(*made) < SECRET_AGE - LATENCY;
        let mac2 = match &self.cookie {
            Some((cookie, made)) if fresh(made) => mac(cookie, &[body, &mac1]),
            _ => [0; 16],
        };
        write_codes(message, &mac1, &mac2);
        self.last_mac1 = Some(mac1);
    }

    /// Takes the cookie out of a reply to the last message; false when it is none.
    pub(crate) fn take(&mut self, reply: CookieReply<'_>, now: Instant) -> bool {
        let Some(mac1) = self.last_mac1 else { return false };
        let (sealed, tag) = reply.sealed().split_at(16);
        let mut cookie = [0; 16];
        cookie.copy_from_slice(sealed);
        let nonce = XNonce::from_slice(reply.nonce());
        let opened = self.peer.cipher().decrypt_in_place_detached(nonce, &mac1, &mut cookie, tag.into());
        if opened.is_err() {
            return false;
        }
        self.cookie = Some((cookie, now));
        self.last_mac1 = None;
        true
    }
}
