//! ChaCha20 (RFC 8439, section 2.4), sixteen blocks at a time: each register holds one word of the state for all of them.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_storeu_si256, _mm512_add_epi32, _mm512_castsi512_si256, _mm512_mask_blend_epi32,
    _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8, _mm512_rol_epi32, _mm512_set1_epi32, _mm512_setr_epi32,
    _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

/// Sixteen blocks of the key stream, one after the other.
pub(super) type Blocks = [__m512i; 16];

/// Four words of the state, a row of the cipher's square.
type Row = [__m512i; 4];

/// Bytes of a block.
const BLOCK: usize = 64;

/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// What differs between the blocks: their numbers, and the low and the high half of the counters of their messages.
struct Lanes {
    numbers: __m512i,
    low: __m512i,
    high: __m512i,
}

/// Sixteen blocks of the key stream from number `block` on.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
pub(super) fn blocks(key: &[u32; 8], counter: u64, block: u32) -> Blocks {
    let first = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let lanes = Lanes {
        numbers: _mm512_add_epi32(all(block), first),
        low: all(counter as u32),
        high: all((counter >> 32) as u32),
    };
    blocks_of(key, &lanes)
}

/// The blocks 16 to 23 of one message and 0 to 7 of another.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn blocks_between(key: &[u32; 8], [counter, other]: [u64; 2]) -> Blocks {
    let numbers = _mm512_setr_epi32(16, 17, 18, 19, 20, 21, 22, 23, 0, 1, 2, 3, 4, 5, 6, 7);
    let both = |word: u32, other: u32| _mm512_mask_blend_epi32(0xff00, all(word), all(other));
    let lanes = Lanes {
        numbers,
        low: both(counter as u32, other as u32),
        high: both((counter >> 32) as u32, (other >> 32) as u32),
    };
    blocks_of(key, &lanes)
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn all(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn blocks_of(key: &[u32; 8], lanes: &Lanes) -> Blocks {
    let start: [Row; 4] = [
        [all(CONSTANTS[0]), all(CONSTANTS[1]), all(CONSTANTS[2]), all(CONSTANTS[3])],
        [all(key[0]), all(key[1]), all(key[2]), all(key[3])],
        [all(key[4]), all(key[5]), all(key[6]), all(key[7])],
        [lanes.numbers, _mm512_setzero_si512(), lanes.low, lanes.high],
    ];
    let [mut a, mut b, mut c, mut d] = start;
    for _ in 0..10 {
        round(&mut a, &mut b, &mut c, &mut d);
        // The diagonals become columns, and go back.
        (b, c, d) = ([b[1], b[2], b[3], b[0]], [c[2], c[3], c[0], c[1]], [d[3], d[0], d[1], d[2]]);
        round(&mut a, &mut b, &mut c, &mut d);
        (b, c, d) = ([b[3], b[0], b[1], b[2]], [c[2], c[3], c[0], c[1]], [d[1], d[2], d[3], d[0]]);
    }
    let mut rows = [a, b, c, d];
    for (row, start) in rows.iter_mut().zip(&start) {
        for (word, start) in row.iter_mut().zip(start) {
            *word = _mm512_add_epi32(*word, *start);
        }
    }
    transpose(&rows)
}

/// Adds the key stream to the text; `first` are the blocks from number 0, whose first one is not for the text.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
pub(super) fn apply(key: &[u32; 8], counter: u64, text: &mut [u8], first: &Blocks) {
    let (head, rest) = text.split_at_mut(text.len().min(15 * BLOCK));
    xor(head, &first[1..]);
    for (number, chunk) in (1_u32..).zip(rest.chunks_mut(16 * BLOCK)) {
        xor(chunk, &blocks(key, counter, number * 16));
    }
}

/// The blocks of two messages of up to [`PAIRED`] bytes, in which no lane is idle.
pub(super) struct Pair {
    first: Blocks,
    between: Blocks,
    last: Blocks,
}

/// The longest text of which 24 blocks are enough: one of them is not for the text.
pub(super) const PAIRED: usize = 23 * BLOCK;

impl Pair {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    pub(super) fn new(key: &[u32; 8], counters: [u64; 2]) -> Self {
        Self {
            first: blocks(key, counters[0], 0),
            between: blocks_between(key, counters),
            last: blocks(key, counters[1], 8),
        }
    }

    /// The first block of each.
    pub(super) fn beginnings(&self) -> [&__m512i; 2] {
        [&self.first[0], &self.between[8]]
    }

    /// Adds the key stream to the first text.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    pub(super) fn apply_first(&self, text: &mut [u8]) {
        let (head, rest) = text.split_at_mut(text.len().min(15 * BLOCK));
        xor(head, &self.first[1..]);
        xor(rest, &self.between[..8]);
    }

    /// Adds the key stream to the second text.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
    pub(super) fn apply_second(&self, text: &mut [u8]) {
        let (head, rest) = text.split_at_mut(text.len().min(7 * BLOCK));
        xor(head, &self.between[9..]);
        xor(rest, &self.last);
    }
}

/// The first half of a block.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
pub(super) fn store_half(block: &__m512i, out: &mut [u8; 32]) {
    // SAFETY: 32 bytes are written to 32 bytes; no alignment is needed.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast::<__m256i>(), _mm512_castsi512_si256(*block)) };
}

/// Four quarter rounds, one a column (RFC 8439, section 2.1).
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn round(a: &mut Row, b: &mut Row, c: &mut Row, d: &mut Row) {
    half_quarter::<16>(a, b, d);
    half_quarter::<12>(c, d, b);
    half_quarter::<8>(a, b, d);
    half_quarter::<7>(c, d, b);
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn half_quarter<const BITS: i32>(sum: &mut Row, addend: &Row, turned: &mut Row) {
    for column in 0..4 {
        sum[column] = _mm512_add_epi32(sum[column], addend[column]);
        turned[column] = _mm512_rol_epi32::<BITS>(_mm512_xor_si512(turned[column], sum[column]));
    }
}

/// From a word of all blocks a register to a block a register.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn transpose(rows: &[Row; 4]) -> Blocks {
    let zero = _mm512_setzero_si512();
    // quarters[row][n]: in its lanes of 128 bits the row's words of the blocks n, n + 4, n + 8, n + 12.
    let mut quarters = [[zero; 4]; 4];
    for (quarters, [w0, w1, w2, w3]) in quarters.iter_mut().zip(rows) {
        let (low01, high01) = (_mm512_unpacklo_epi32(*w0, *w1), _mm512_unpackhi_epi32(*w0, *w1));
        let (low23, high23) = (_mm512_unpacklo_epi32(*w2, *w3), _mm512_unpackhi_epi32(*w2, *w3));
        *quarters = [
            _mm512_unpacklo_epi64(low01, low23),
            _mm512_unpackhi_epi64(low01, low23),
            _mm512_unpacklo_epi64(high01, high23),
            _mm512_unpackhi_epi64(high01, high23),
        ];
    }
    let mut blocks = [zero; 16];
    for n in 0..4 {
        let [q0, q1, q2, q3] = [quarters[0][n], quarters[1][n], quarters[2][n], quarters[3][n]];
        let (low01, low23) = (_mm512_shuffle_i32x4::<0x44>(q0, q1), _mm512_shuffle_i32x4::<0x44>(q2, q3));
        let (high01, high23) = (_mm512_shuffle_i32x4::<0xee>(q0, q1), _mm512_shuffle_i32x4::<0xee>(q2, q3));
        blocks[n] = _mm512_shuffle_i32x4::<0x88>(low01, low23);
        blocks[n + 4] = _mm512_shuffle_i32x4::<0xdd>(low01, low23);
        blocks[n + 8] = _mm512_shuffle_i32x4::<0x88>(high01, high23);
        blocks[n + 12] = _mm512_shuffle_i32x4::<0xdd>(high01, high23);
    }
    blocks
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512ifma")]
fn xor(text: &mut [u8], blocks: &[__m512i]) {
    for (chunk, block) in text.chunks_mut(BLOCK).zip(blocks) {
        let mask = u64::MAX >> (BLOCK - chunk.len());
        // SAFETY: the mask has a bit for each byte of the chunk, and nothing else is read or written.
        unsafe {
            let text = _mm512_maskz_loadu_epi8(mask, chunk.as_ptr().cast());
            _mm512_mask_storeu_epi8(chunk.as_mut_ptr().cast(), mask, _mm512_xor_si512(text, *block));
        }
    }
}
