//! ChaCha20-Poly1305 (RFC 8439) as WireGuard's data messages have it: the nonce is four zero bytes and the counter, and
//! there is no additional data (whitepaper, section 5.4.6).
//!
//! It is `ring`'s, but for longer messages on processors with AVX-512 (and its IFMA), where sixteen blocks of the cipher and
//! eight of the authenticator are worked on at once. No library that can be had here does so, and encryption is half of what
//! a tunnel costs. `docs/decisions/0017-avx-512.md` has the figures.
//!
//! Nothing here branches on, or indexes by, a key or a text: only lengths decide what is done.

#![deny(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx512;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use ring::error::Unspecified;
use zeroize::Zeroizing;

/// Length of an authentication tag.
pub const TAG: usize = 16;

/// From this length on the blocks are enough for the wide registers to pay.
const WIDE: usize = 320;

/// From this length on two texts are worth being worked on together: both need most of 24 blocks.
#[cfg(target_arch = "x86_64")]
const PAIRED: usize = 1024;

/// A key for one way of a session.
pub struct Key {
    ring: LessSafeKey,
    /// The key's words, where the processor is wide enough for our own.
    wide: Option<Zeroizing<[u32; 8]>>,
}

/// A text that is not authentic, or longer than the cipher allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

impl Key {
    /// A key of 32 bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        let words = || {
            let mut words = Zeroizing::new([0; 8]);
            for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *word = u32::from_le_bytes(*bytes);
            }
            words
        };
        // The only reason for an error is a length that is not the key's.
        let ring = UnboundKey::new(&CHACHA20_POLY1305, bytes).map(LessSafeKey::new);
        let ring = ring.unwrap_or_else(|Unspecified| unreachable!("32 bytes are a key"));
        Self { ring, wide: is_wide().then(words) }
    }

    /// Encrypts the text where it lies and gives its tag. A counter may be used once only.
    ///
    /// # Errors
    /// [`Refused`] for a text that is too long for the cipher (2^38 bytes).
    pub fn seal(&self, counter: u64, text: &mut [u8]) -> Result<[u8; TAG], Refused> {
        #[cfg(target_arch = "x86_64")]
        if let Some(words) = self.wide.as_ref().filter(|_| text.len() >= WIDE) {
            return avx512::seal(words, counter, text).ok_or(Refused);
        }
        let tag = self.ring.seal_in_place_separate_tag(nonce(counter), Aad::empty(), text).map_err(|_| Refused)?;
        tag.as_ref().try_into().map_err(|_| Refused)
    }

    /// Encrypts two texts where they lie, with a counter for each: where both are about as long as packets are, in less
    /// time than one after the other.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub fn seal_two(&self, counters: [u64; 2], texts: [&mut [u8]; 2]) -> Result<[[u8; TAG]; 2], Refused> {
        #[cfg(target_arch = "x86_64")]
        if let Some(words) = self.pair(&texts, 0) {
            return avx512::seal_two(words, counters, texts).ok_or(Refused);
        }
        let [one, other] = texts;
        Ok([self.seal(counters[0], one)?, self.seal(counters[1], other)?])
    }

    /// Decrypts a text with its tag behind it where it lies; gives the length of the text.
    ///
    /// # Errors
    /// [`Refused`] for one that is not authentic. Its bytes are then worth nothing.
    pub fn open(&self, counter: u64, message: &mut [u8]) -> Result<usize, Refused> {
        #[cfg(target_arch = "x86_64")]
        if let Some(words) = self.wide.as_ref().filter(|_| message.len() >= WIDE + TAG) {
            let (text, tag) = message.split_last_chunk_mut::<TAG>().ok_or(Refused)?;
            return avx512::open(words, counter, text, tag).then_some(text.len()).ok_or(Refused);
        }
        let text = self.ring.open_in_place(nonce(counter), Aad::empty(), message).map_err(|_| Refused)?;
        Ok(text.len())
    }

    /// Decrypts two texts where they lie, each as [`Self::open`] does it; see [`Self::seal_two`].
    pub fn open_two(&self, counters: [u64; 2], messages: [&mut [u8]; 2]) -> [Result<usize, Refused>; 2] {
        #[cfg(target_arch = "x86_64")]
        if let Some(words) = self.pair(&messages, TAG) {
            let [one, other] = messages;
            if let (Some((one, one_tag)), Some((other, other_tag))) =
                (one.split_last_chunk_mut::<TAG>(), other.split_last_chunk_mut::<TAG>())
            {
                let lengths = [one.len(), other.len()];
                let is_authentic = avx512::open_two(words, counters, [one, other], [one_tag, other_tag]);
                return [0, 1].map(|index| is_authentic[index].then_some(lengths[index]).ok_or(Refused));
            }
            return [Err(Refused); 2];
        }
        let [one, other] = messages;
        [self.open(counters[0], one), self.open(counters[1], other)]
    }

    /// The key's words, if these are worth being worked on together; `tag` bytes of each are no text.
    #[cfg(target_arch = "x86_64")]
    fn pair(&self, texts: &[&mut [u8]; 2], tag: usize) -> Option<&[u32; 8]> {
        let lengths = [0, 1].map(|index| texts[index].len().saturating_sub(tag));
        let is_pair = avx512::is_pair(lengths) && lengths.iter().all(|length| *length >= PAIRED);
        self.wide.as_deref().filter(|_| is_pair)
    }
}

/// Whether this processor has the instructions for our own.
pub fn is_wide() -> bool {
    #[cfg(target_arch = "x86_64")]
    let is_wide = avx512::is_available();
    #[cfg(not(target_arch = "x86_64"))]
    let is_wide = false;
    is_wide
}

/// Seals and opens what the bytes say (key, counter, text) as `ring` does it, or panics. For the fuzzer.
#[doc(hidden)]
pub fn fuzz(bytes: &[u8]) {
    let Some((bytes, text)) = bytes.split_first_chunk::<40>() else { return };
    let (Some(key), Some(counter)) = (bytes.first_chunk(), bytes.last_chunk()) else { return };
    let (key, counter) = (Key::new(key), u64::from_le_bytes(*counter));
    let (mut ours, mut rings) = (text.to_vec(), text.to_vec());
    let tag = key.seal(counter, &mut ours).unwrap_or_default();
    let expected = key.ring.seal_in_place_append_tag(nonce(counter), Aad::empty(), &mut rings);
    assert!(
        expected.is_ok() && rings[..text.len()] == ours && rings[text.len()..] == tag,
        "sealed otherwise than by ring"
    );
    let (mut both, mut other) = (text.to_vec(), text.to_vec());
    let tags = key.seal_two([counter, counter.wrapping_add(1)], [&mut both, &mut other]).unwrap_or_default();
    assert!(both == ours && tags[0] == tag, "sealed otherwise in two");
    other.extend(tags[1]);
    assert!(
        key.open(counter.wrapping_add(1), &mut other) == Ok(text.len()) && other[..text.len()] == *text,
        "not opened"
    );
    let (mut both, mut other) = (rings.clone(), rings.clone());
    let opened = key.open_two([counter, counter.wrapping_add(1)], [&mut both, &mut other]);
    assert!(
        opened[0] == Ok(text.len()) && both[..text.len()] == *text && opened[1].is_err(),
        "opened otherwise in two"
    );
    assert!(key.open(counter, &mut rings) == Ok(text.len()) && rings[..text.len()] == *text, "not opened");
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests;
