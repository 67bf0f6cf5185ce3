//! The Noise handshake IKpsk2 (whitepaper, sections 5.4.2 and 5.4.3), by `snow`.
//!
//! Curve25519 is ours to give, as a shared secret of zero (RFC 7748, section 6.1) ends a handshake here, and as a test
//! seeds the randomness. Hash and cipher are `snow`'s own.

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use tombolo_net::wireguard::Key;
use x25519_dalek::{PublicKey, StaticSecret};

use crate::clock::Tai64n;
use crate::message::{INITIATION, Initiation, RESPONSE, Response};

const CONSTRUCTION: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
const IDENTIFIER: &[u8] = b"WireGuard v1 zx2c4 Jason@zx2c4.com";
/// Where in IKpsk2 the pre-shared key goes.
const PSK: usize = 2;

/// The message does not fit our key, the peer's or the pre-shared one; or a public key is of low order.
pub(crate) type Error = snow::Error;

/// An initiation that waits for its response.
pub(crate) struct Initiator(HandshakeState);

/// An initiation that was read.
pub(crate) struct Responder {
    state: HandshakeState,
    /// Who sent it.
    pub(crate) peer: Key,
    /// When, by the sender's clock.
    pub(crate) timestamp: Tai64n,
}

/// The transport keys: what the initiator seals with, and what the responder seals with.
pub(crate) struct Keys {
    pub(crate) initiator: [u8; 32],
    pub(crate) responder: [u8; 32],
}

/// The public key that belongs to a private one.
pub(crate) fn public(private: &Key) -> Key {
    Key(PublicKey::from(&StaticSecret::from(private.0)).to_bytes())
}

impl Initiator {
    /// Begins a handshake: the message has no codes yet.
    pub(crate) fn new(
        private: &Key,
        peer: &Key,
        sender: u32,
        timestamp: Tai64n,
        rng: &mut StdRng,
    ) -> Result<(Self, [u8; INITIATION]), Error> {
        let builder = Builder::with_resolver(params()?, Box::new(Resolver::new(rng)));
        let builder = builder.prologue(IDENTIFIER)?.local_private_key(&private.0)?.remote_public_key(&peer.0)?;
        let mut state = builder.build_initiator()?;
        let mut message = Initiation::blank(sender);
        state.write_message(&timestamp.0, &mut message[Initiation::NOISE])?;
        Ok((Self(state), message))
    }

    /// Ends the handshake. A wrong response leaves it as it was.
    pub(crate) fn finish(&mut self, response: Response<'_>, preshared: &Key) -> Result<Keys, Error> {
        self.0.set_psk(PSK, &preshared.0)?;
        self.0.read_message(response.noise(), &mut [])?;
        Ok(keys(&mut self.0))
    }
}

impl Responder {
    /// Reads an initiation: only who has its static key can have written it, though maybe long ago.
    pub(crate) fn new(private: &Key, initiation: Initiation<'_>, rng: &mut StdRng) -> Result<Self, Error> {
        let builder = Builder::with_resolver(params()?, Box::new(Resolver::new(rng)));
        let mut state = builder.prologue(IDENTIFIER)?.local_private_key(&private.0)?.build_responder()?;
        let mut timestamp = Tai64n::default();
        state.read_message(initiation.noise(), &mut timestamp.0)?;
        let key = state.get_remote_static().and_then(|key| key.try_into().ok()).ok_or(Error::Input)?;
        Ok(Self { state, peer: Key(key), timestamp })
    }

    /// Answers: the message has no codes yet.
    pub(crate) fn respond(
        mut self,
        sender: u32,
        receiver: u32,
        preshared: &Key,
    ) -> Result<(Keys, [u8; RESPONSE]), Error> {
        let mut message = Response::blank(sender, receiver);
        self.state.set_psk(PSK, &preshared.0)?;
        self.state.write_message(&[], &mut message[Response::NOISE])?;
        Ok((keys(&mut self.state), message))
    }
}

fn params() -> Result<NoiseParams, Error> {
    CONSTRUCTION.parse()
}

fn keys(state: &mut HandshakeState) -> Keys {
    let (initiator, responder) = state.dangerously_get_raw_split();
    Keys { initiator, responder }
}

/// Where `snow` gets its parts from: ours for the curve and randomness, its own for the rest.
struct Resolver([u8; 32]);

struct Randomness(StdRng);

/// A key pair of Curve25519.
struct Curve {
    private: StaticSecret,
    public: PublicKey,
}

impl Resolver {
    fn new(rng: &mut StdRng) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        Self(seed)
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Randomness(StdRng::from_seed(self.0))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        let private = StaticSecret::from([0; 32]);
        let public = PublicKey::from([0; 32]);
        (*choice == DHChoice::Curve25519).then(|| Box::new(Curve { private, public }) as _)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

impl Random for Randomness {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
        self.0.fill_bytes(dest);
        Ok(())
    }
}

impl Dh for Curve {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(privkey);
        self.private = StaticSecret::from(bytes);
        self.public = PublicKey::from(&self.private);
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), Error> {
        let mut bytes = [0; 32];
        rng.try_fill_bytes(&mut bytes)?;
        self.set(&bytes);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn privkey(&self) -> &[u8] {
        self.private.as_bytes()
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let theirs: [u8; 32] = pubkey.get(..32).and_then(|key| key.try_into().ok()).ok_or(Error::Input)?;
        let shared = self.private.diffie_hellman(&PublicKey::from(theirs));
        if !shared.was_contributory() {
            return Err(Error::Dh);
        }
        out.get_mut(..32).ok_or(Error::Input)?.copy_from_slice(shared.as_bytes());
        Ok(())
    }
}
