//! The sum over many bytes, with the widest registers that this processor has.
//!
//! The loop is written once, so that LLVM makes vectors of it; compiled for AVX2 it takes two thirds of the time of what
//! every x86-64 processor can (`examples/speed.rs` prints both).

#![allow(unsafe_code)]

/// The sum of the native 16-bit words of `bytes`, a last odd byte followed by a zero, brought below 2³⁴.
#[inline]
pub fn sum(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= 128 && std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was just asked whether it has AVX2; that is all that `sum_avx2` needs.
        return unsafe { sum_avx2(bytes) };
    }
    sum_portable(bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sum_avx2(bytes: &[u8]) -> u64 {
    sum_words(bytes)
}

/// [`sum`] without asking what the processor has.
pub fn sum_portable(bytes: &[u8]) -> u64 {
    sum_words(bytes)
}

/// Sums the whole 64-bit words and their upper halves, wrapping, which is one operation less than to part them:
/// `lower halves = whole - upper halves * 2³²`.
#[inline(always)]
fn sum_words(bytes: &[u8]) -> u64 {
    let (mut whole, mut upper) = (0_u64, 0_u64);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_ne_bytes(*word);
        whole = whole.wrapping_add(word);
        upper = upper.wrapping_add(word >> 32);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = u64::from_ne_bytes(last);
    let sum = upper + whole.wrapping_sub(upper << 32) + (last & 0xffff_ffff) + (last >> 32);
    (sum & 0xffff_ffff) + (sum >> 32)
}
