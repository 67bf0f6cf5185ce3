//! Sums against a loop over words.

use proptest::prelude::*;
use tombolo_offload::checksum::{complement, fold, pseudo_header, sum, sum_portable, verifies, word};

use crate::naive;

#[test]
fn of_every_length_at_every_alignment() {
    let data = naive::filler(2100, 3);
    for len in 0..=2000 {
        for start in 0..=if len < 200 { 64 } else { 8 } {
            let bytes = &data[start..start + len];
            assert_eq!(complement(sum(bytes)), naive::checksum(bytes), "{len} bytes from {start}");
            assert_eq!(fold(sum(bytes)), fold(sum_portable(bytes)), "{len} bytes from {start}");
        }
    }
}

#[test]
fn of_the_largest_words_does_not_overflow() {
    for len in [64, 127, 128, 1419, 65535, 1 << 20] {
        let bytes = vec![0xff; len];
        assert_eq!(complement(sum(&bytes)), naive::checksum(&bytes), "{len}");
        assert!(sum(&bytes) < 1 << 34, "{len}");
    }
}

#[test]
fn of_zeros_is_zero() {
    assert_eq!(sum(&[0; 500]), 0);
    assert_eq!(fold(0), 0);
    assert_eq!(complement(sum(&[])), [0xff, 0xff]);
}

#[test]
fn a_number_counts_as_its_bytes_do() {
    assert_eq!(word(0x1234), sum(&[0x12, 0x34]));
    let addresses = [10, 0, 0, 1, 10, 0, 0, 2];
    let by_hand = [10, 0, 0, 1, 10, 0, 0, 2, 0, 17, 5, 200];
    assert_eq!(complement(pseudo_header(&addresses, 17, 5 << 8 | 200)), naive::checksum(&by_hand));
}

#[test]
fn the_other_zero_does_not_verify() {
    assert!(verifies(0xffff, [0, 0], false) && !verifies(0xffff, [0xff, 0xff], false));
    assert!(verifies(0xffff, [0xff, 0xff], true) && !verifies(0xffff, [0, 0], true));
    assert!(!verifies(0xfffe, [1, 2], false));
}

proptest! {
    #[test]
    fn sums_fold_as_numbers_add(a in 0_u64..1 << 60, b in 0_u64..1 << 60) {
        let naive = |n: u64| n % 0xffff;
        prop_assert_eq!(u64::from(fold(a + b)) % 0xffff, (naive(a) + naive(b)) % 0xffff);
        prop_assert_eq!(fold(a) == 0, a == 0);
    }
}
