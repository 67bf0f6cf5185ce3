//! ChaCha20-Poly1305 in registers of 512 bits.
#![allow(unsafe_code)]

mod chacha;
mod poly1305;

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

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn wide_seal(key: &[u32; 8], counter: u64, text: &mut [u8]) -> [u8; 16] {
    let first = chacha::blocks(key, counter, 0);
    chacha::apply(key, counter, text, &first);
    poly1305::tag(&authenticator_key(&first), text)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn wide_open(key: &[u32; 8], counter: u64, text: &mut [u8], tag: &[u8; 16]) -> bool {
    let first = chacha::blocks(key, counter, 0);
    let is_authentic = bool::from(poly1305::tag(&authenticator_key(&first), text).ct_eq(tag));
    if is_authentic {
        chacha::apply(key, counter, text, &first);
    }
    is_authentic
}

/// The first half of the first block (RFC 8439, section 2.6).
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn authenticator_key(first: &chacha::Blocks) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    chacha::store_half(&first[0], &mut key);
    key
}

#[cfg(test)]
pub(crate) fn poly1305_tag(key: &[u8; 32], text: &[u8]) -> [u8; 16] {
    assert!(is_available());
    // SAFETY: asked just above.
    unsafe { poly1305::tag(key, text) }
}
