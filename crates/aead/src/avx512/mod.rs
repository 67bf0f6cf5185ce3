//! ChaCha20-Poly1305 in registers of 512 bits.
#![allow(unsafe_code)]

mod chacha;
mod poly1305;

use std::arch::x86_64::__m512i;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// The longest text: the cipher's block counter has 32 bits, and the first block is the authenticator's key.
const LONGEST: u64 = ((1 << 32) - 1) * 64;

/// Whether this processor has the instructions. The question is answered from memory after the first time.
pub(crate) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512ifma")
}

/// Encrypts; nothing where the text is too long. Only for where [`is_available`].
pub(crate) fn seal(key: &[u32; 8], counter: u64, text: &mut [u8]) -> Option<[u8; 16]> {
    if text.len() as u64 > LONGEST || !is_available() {
        return None;
    }
    // SAFETY: the processor has the instructions: asked just above.
    Some(unsafe { wide_seal(key, counter, text) })
}

/// Decrypts, if the tag is the text's. Only for where [`is_available`].
pub(crate) fn open(key: &[u32; 8], counter: u64, text: &mut [u8], tag: &[u8; 16]) -> bool {
    if text.len() as u64 > LONGEST || !is_available() {
        return false;
    }
    // SAFETY: the processor has the instructions: asked just above.
    unsafe { wide_open(key, counter, text, tag) }
}

/// Whether two texts of these lengths are worked on together.
pub(crate) fn is_pair(lengths: [usize; 2]) -> bool {
    lengths.iter().all(|length| *length <= chacha::PAIRED)
}

/// Encrypts two texts for which [`is_pair`]. Only for where [`is_available`].
pub(crate) fn seal_two(key: &[u32; 8], counters: [u64; 2], texts: [&mut [u8]; 2]) -> Option<[[u8; 16]; 2]> {
    if !is_pair([texts[0].len(), texts[1].len()]) || !is_available() {
        return None;
    }
    // SAFETY: the processor has the instructions: asked just above.
    Some(unsafe { wide_seal_two(key, counters, texts) })
}

/// Decrypts those of two texts, for which [`is_pair`], whose tags are right. Only for where [`is_available`].
pub(crate) fn open_two(key: &[u32; 8], counters: [u64; 2], texts: [&mut [u8]; 2], tags: [&[u8; 16]; 2]) -> [bool; 2] {
    if !is_pair([texts[0].len(), texts[1].len()]) || !is_available() {
        return [false; 2];
    }
    // SAFETY: the processor has the instructions: asked just above.
    unsafe { wide_open_two(key, counters, texts, tags) }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn wide_seal(key: &[u32; 8], counter: u64, text: &mut [u8]) -> [u8; 16] {
    let first = chacha::blocks(key, counter, 0);
    chacha::apply(key, counter, text, &first);
    poly1305::tag(&authenticator_key(&first[0]), text)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn wide_open(key: &[u32; 8], counter: u64, text: &mut [u8], tag: &[u8; 16]) -> bool {
    let first = chacha::blocks(key, counter, 0);
    let is_authentic = is_equal(&poly1305::tag(&authenticator_key(&first[0]), text), tag);
    if is_authentic {
        chacha::apply(key, counter, text, &first);
    }
    is_authentic
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn wide_seal_two(key: &[u32; 8], counters: [u64; 2], [one, other]: [&mut [u8]; 2]) -> [[u8; 16]; 2] {
    let pair = chacha::Pair::new(key, counters);
    pair.apply_first(one);
    pair.apply_second(other);
    let keys = pair.beginnings().map(|block| authenticator_key(block));
    poly1305::tags([&keys[0], &keys[1]], [one, other])
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn wide_open_two(
    key: &[u32; 8],
    counters: [u64; 2],
    [one, other]: [&mut [u8]; 2],
    expected: [&[u8; 16]; 2],
) -> [bool; 2] {
    let pair = chacha::Pair::new(key, counters);
    let keys = pair.beginnings().map(|block| authenticator_key(block));
    let tags = poly1305::tags([&keys[0], &keys[1]], [one, other]);
    let is_authentic = [0, 1].map(|index| is_equal(&tags[index], expected[index]));
    if is_authentic[0] {
        pair.apply_first(one);
    }
    if is_authentic[1] {
        pair.apply_second(other);
    }
    is_authentic
}

/// Compares two tags in a time that does not tell where they differ.
fn is_equal(one: &[u8; 16], other: &[u8; 16]) -> bool {
    u128::from_ne_bytes(*one).ct_eq(&u128::from_ne_bytes(*other)).into()
}

/// The first half of the first block (RFC 8439, section 2.6).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn authenticator_key(first: &__m512i) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    chacha::store_half(first, &mut key);
    key
}

#[cfg(test)]
pub(crate) fn poly1305_tags(keys: [&[u8; 32]; 2], texts: [&[u8]; 2]) -> [[u8; 16]; 2] {
    assert!(is_available());
    // SAFETY: asked just above.
    unsafe { poly1305::tags(keys, texts) }
}

#[cfg(test)]
pub(crate) fn poly1305_tag(key: &[u8; 32], text: &[u8]) -> [u8; 16] {
    assert!(is_available());
    // SAFETY: asked just above.
    unsafe { poly1305::tag(key, text) }
}
