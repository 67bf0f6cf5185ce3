//! Poly1305 (RFC 8439, section 2.5), eight blocks at a time.
//!
//! A number modulo 2^130 - 5 is three limbs of 44, 44 and 42 bits, and a register holds one limb of eight numbers. IFMA
//! multiplies 52 bits by 52 and adds the low or the high half of the product; a high half is worth 2^52, which is 2^8 of
//! the next limb (2^10 where the limb is the last), and what goes beyond 2^130 comes back times 5.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_and_si512, _mm512_broadcastq_epi64, _mm512_castsi512_si128, _mm512_loadu_si512,
    _mm512_madd52hi_epu64, _mm512_madd52lo_epu64, _mm512_mask_blend_epi64, _mm512_or_si512, _mm512_reduce_add_epi64,
    _mm512_set1_epi64, _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srli_epi64, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi64,
};

const MASK_44: u64 = (1 << 44) - 1;
const MASK_42: u64 = (1 << 42) - 1;

/// The bits of `r` that stay (RFC 8439, section 2.5.1).
const CLAMP: u128 = 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff;

/// Blocks of one step.
const WIDE: usize = 8 * 16;

/// A number as limbs.
type Limbs = [u64; 3];

/// Eight numbers.
type Wide = [__m512i; 3];

/// Eight factors: the limbs, and the last two of them times 20, for what goes beyond 2^130.
type Factor = [__m512i; 5];

/// The tag of a text without additional data, padded and followed by the lengths (RFC 8439, section 2.8).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
pub(super) fn tag(key: &[u8; 32], text: &[u8]) -> [u8; 16] {
    let (groups, rest) = text.as_chunks::<WIDE>();
    let powers = Powers::new(key);
    let [sum] = sum_wide([groups], [&powers]);
    finish(sum, rest, text.len(), powers.r, key)
}

/// The tags of two texts: where they are of like length the one is worked on while the other waits for its products.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
pub(super) fn tags(keys: [&[u8; 32]; 2], texts: [&[u8]; 2]) -> [[u8; 16]; 2] {
    let ([one, other], [one_rest, other_rest]) = {
        let [(one, one_rest), (other, other_rest)] = [texts[0].as_chunks::<WIDE>(), texts[1].as_chunks::<WIDE>()];
        ([one, other], [one_rest, other_rest])
    };
    if one.len() != other.len() {
        return [tag(keys[0], texts[0]), tag(keys[1], texts[1])];
    }
    let powers = [Powers::new(keys[0]), Powers::new(keys[1])];
    let sums = sum_wide([one, other], [&powers[0], &powers[1]]);
    [
        finish(sums[0], one_rest, texts[0].len(), powers[0].r, keys[0]),
        finish(sums[1], other_rest, texts[1].len(), powers[1].r, keys[1]),
    ]
}

/// The key's factor and what it is to the eighth, and as many times as each lane needs at the end.
struct Powers {
    r: Limbs,
    step: Factor,
    last: Factor,
}

impl Powers {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    fn new(key: &[u8; 32]) -> Self {
        let r = split(number(&key[..16]) & CLAMP);
        let (one, r1, r2) = (all([1, 0, 0]), all(r), all(times(r, r)));
        // The exponents 4, 4, 3, 3, 2, 2, 1, 1: those of 2, 2, 1, 1 and so on, and two more in the first half.
        let low = carry_wide(times_wide(choose(0b0011_0011, r1, r2), factor(choose(0b0000_1111, one, r2))));
        // Four more in every other lane: 8, 4, 7, 3, 6, 2, 5, 1, the order in which `load` leaves the blocks.
        let last = carry_wide(times_wide(low, factor(choose(0b0101_0101, one, first(low)))));
        Self { r, step: factor(first(last)), last: factor(last) }
    }
}

/// The number in all lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn all(number: Limbs) -> Wide {
    let limb = |index: usize| _mm512_set1_epi64(number[index].cast_signed());
    [limb(0), limb(1), limb(2)]
}

/// The first lane's number in all lanes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn first(numbers: Wide) -> Wide {
    let limb = |index: usize| _mm512_broadcastq_epi64(_mm512_castsi512_si128(numbers[index]));
    [limb(0), limb(1), limb(2)]
}

/// The lanes of `set` where the mask has a bit, of `unset` elsewhere.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn choose(mask: u8, unset: Wide, set: Wide) -> Wide {
    let limb = |index: usize| _mm512_mask_blend_epi64(mask, unset[index], set[index]);
    [limb(0), limb(1), limb(2)]
}

/// The blocks that are no whole group, the lengths, and the second half of the key.
#[inline]
fn finish(mut sum: Limbs, rest: &[u8], length: usize, r: Limbs, key: &[u8; 32]) -> [u8; 16] {
    for block in rest.chunks(16) {
        sum = times(add_block(sum, number(block)), r);
    }
    sum = times(add_block(sum, (length as u128) << 64), r);
    reduced(sum).wrapping_add(number(&key[16..])).to_le_bytes()
}

/// The sums over whole groups of eight blocks, as many groups of each text: each lane goes in steps of r^8, and gets its
/// own power at the end.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn sum_wide<const TEXTS: usize>(texts: [&[[u8; WIDE]]; TEXTS], powers: [&Powers; TEXTS]) -> [Limbs; TEXTS] {
    let mut result = [[0; 3]; TEXTS];
    let count = texts[0].len();
    if count == 0 {
        return result;
    }
    let mut sums = [[_mm512_setzero_si512(); 3]; TEXTS];
    for index in 0..count {
        for text in 0..TEXTS {
            let Some(group) = texts[text].get(index) else { continue };
            let blocks = load(group);
            if index > 0 {
                sums[text] = carry_wide(times_wide(sums[text], powers[text].step));
            }
            for limb in 0..3 {
                sums[text][limb] = _mm512_add_epi64(sums[text][limb], blocks[limb]);
            }
        }
    }
    for text in 0..TEXTS {
        let [low0, high0, low1, high1, low2, high2] = times_wide(sums[text], powers[text].last);
        let all = |low, high| {
            let sum = |lanes| u128::from(_mm512_reduce_add_epi64(lanes).cast_unsigned());
            sum(low) + (sum(high) << 52)
        };
        result[text] = carry(all(low0, high0), all(low1, high1), all(low2, high2));
    }
    result
}

/// Eight blocks as numbers, in the order 0, 4, 1, 5, 2, 6, 3, 7.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn load(group: &[u8; WIDE]) -> Wide {
    let mask = _mm512_set1_epi64(MASK_44.cast_signed());
    // SAFETY: two times 64 of 128 bytes are read; no alignment is needed.
    let (first, second) = unsafe {
        let at = group.as_ptr();
        (_mm512_loadu_si512(at.cast()), _mm512_loadu_si512(at.add(WIDE / 2).cast()))
    };
    let (low, high) = (_mm512_unpacklo_epi64(first, second), _mm512_unpackhi_epi64(first, second));
    let middle = _mm512_or_si512(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
    // The bit behind the block, 2^128.
    let end = _mm512_set1_epi64(1 << 40);
    [_mm512_and_si512(low, mask), _mm512_and_si512(middle, mask), _mm512_or_si512(_mm512_srli_epi64::<24>(high), end)]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn factor([limb0, limb1, limb2]: Wide) -> Factor {
    let twenty_times = |limb| _mm512_add_epi64(_mm512_slli_epi64::<4>(limb), _mm512_slli_epi64::<2>(limb));
    [limb0, limb1, limb2, twenty_times(limb1), twenty_times(limb2)]
}

/// The products, as low and high halves of each limb, nothing carried.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn times_wide(h: Wide, [r0, r1, r2, s1, s2]: Factor) -> [__m512i; 6] {
    let sum = |factors: [__m512i; 3]| {
        let zero = _mm512_setzero_si512();
        let (mut low, mut high) = (zero, zero);
        // The last limb first: it is the first one that a carry leaves ready.
        for (limb, factor) in [(h[2], factors[2]), (h[1], factors[1]), (h[0], factors[0])] {
            low = _mm512_madd52lo_epu64(low, limb, factor);
            high = _mm512_madd52hi_epu64(high, limb, factor);
        }
        [low, high]
    };
    let ([low0, high0], [low1, high1], [low2, high2]) = (sum([r0, s2, s1]), sum([r1, r0, s2]), sum([r2, r1, r0]));
    [low0, high0, low1, high1, low2, high2]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn carry_wide([low0, high0, low1, high1, low2, high2]: [__m512i; 6]) -> Wide {
    let mask_44 = _mm512_set1_epi64(MASK_44.cast_signed());
    let mask_42 = _mm512_set1_epi64(MASK_42.cast_signed());
    let over = _mm512_add_epi64(_mm512_srli_epi64::<44>(low0), _mm512_slli_epi64::<8>(high0));
    let limb1 = _mm512_add_epi64(low1, over);
    let over = _mm512_add_epi64(_mm512_srli_epi64::<44>(limb1), _mm512_slli_epi64::<8>(high1));
    let limb2 = _mm512_add_epi64(low2, over);
    let over = _mm512_add_epi64(_mm512_srli_epi64::<42>(limb2), _mm512_slli_epi64::<10>(high2));
    let five_times = _mm512_add_epi64(over, _mm512_slli_epi64::<2>(over));
    let limb0 = _mm512_add_epi64(_mm512_and_si512(low0, mask_44), five_times);
    [
        _mm512_and_si512(limb0, mask_44),
        _mm512_add_epi64(_mm512_and_si512(limb1, mask_44), _mm512_srli_epi64::<44>(limb0)),
        _mm512_and_si512(limb2, mask_42),
    ]
}

/// A number of up to 16 bytes, little-endian.
#[inline]
fn number(bytes: &[u8]) -> u128 {
    let mut block = [0; 16];
    block[..bytes.len()].copy_from_slice(bytes);
    u128::from_le_bytes(block)
}

#[inline]
fn split(number: u128) -> Limbs {
    [number as u64 & MASK_44, (number >> 44) as u64 & MASK_44, (number >> 88) as u64]
}

/// Adds a block and the bit behind it: all blocks here are whole.
#[inline]
fn add_block(sum: Limbs, block: u128) -> Limbs {
    let block = split(block);
    [sum[0] + block[0], sum[1] + block[1], sum[2] + (block[2] | 1 << 40)]
}

#[inline]
fn times(h: Limbs, r: Limbs) -> Limbs {
    let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
    let (s1, s2) = (r[1] * 20, r[2] * 20);
    carry(
        product(h[0], r[0]) + product(h[1], s2) + product(h[2], s1),
        product(h[0], r[1]) + product(h[1], r[0]) + product(h[2], s2),
        product(h[0], r[2]) + product(h[1], r[1]) + product(h[2], r[0]),
    )
}

/// Limbs of up to 100 bits become limbs that can be multiplied again.
#[inline]
fn carry(limb0: u128, limb1: u128, limb2: u128) -> Limbs {
    let limb1 = limb1 + (limb0 >> 44);
    let limb2 = limb2 + (limb1 >> 44);
    let low = (limb0 as u64 & MASK_44) + (limb2 >> 42) as u64 * 5;
    [low & MASK_44, (limb1 as u64 & MASK_44) + (low >> 44), limb2 as u64 & MASK_42]
}

/// The number below 2^130 - 5 that it stands for, modulo 2^128.
#[inline]
fn reduced([h0, h1, h2]: Limbs) -> u128 {
    let (h1, over) = (h1 & MASK_44, h1 >> 44);
    let (h2, over) = ((h2 + over) & MASK_42, (h2 + over) >> 42);
    let (h0, over) = ((h0 + over * 5) & MASK_44, (h0 + over * 5) >> 44);
    let (h1, over) = ((h1 + over) & MASK_44, (h1 + over) >> 44);
    let h2 = h2 + over;
    // Less 2^130 - 5, if that is not below zero.
    let (g0, over) = ((h0 + 5) & MASK_44, (h0 + 5) >> 44);
    let (g1, over) = ((h1 + over) & MASK_44, (h1 + over) >> 44);
    let g2 = (h2 + over).wrapping_sub(1 << 42);
    let is_below = 0_u64.wrapping_sub(g2 >> 63);
    let choose = |h: u64, g: u64| u128::from((h & is_below) | (g & !is_below));
    choose(h0, g0) | choose(h1, g1) << 44 | choose(h2, g2) << 88
}
