//! The whitepaper's HASH and MAC (section 5.4): BLAKE2s (RFC 7693), plain and keyed.

use blake2::digest::consts::{U16, U32};
use blake2::digest::{FixedOutput, Mac, Update};
use blake2::{Blake2s, Blake2sMac};
use subtle::ConstantTimeEq;

/// An authentication code of a message: `mac1`, `mac2` or a cookie.
pub(crate) type Code = [u8; 16];

/// HASH of the parts, one after the other.
pub(crate) fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Blake2s::<U32>::default();
    parts.iter().for_each(|part| Update::update(&mut state, part));
    state.finalize_fixed().into()
}

/// MAC under a key of 16 or 32 bytes.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> Code {
    debug_assert!(key.len() <= 32);
    // A key of up to 32 bytes is never refused; were it, the code would be one that nobody else computes.
    let Ok(mut state) = Blake2sMac::<U16>::new_from_slice(key) else { return [0; 16] };
    parts.iter().for_each(|part| Update::update(&mut state, part));
    state.finalize_fixed().into()
}

/// Whether two codes are the same, in a time that does not tell where they differ.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}
