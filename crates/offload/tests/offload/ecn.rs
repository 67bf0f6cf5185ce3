//! Congestion marks.

use tombolo_offload::{decapsulate_ecn, ecn, set_ce};

use crate::naive::{Spec, right};

const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CE: u8 = 3;

fn packet(v6: bool, tos: u8) -> Vec<u8> {
    Spec { v6, tos, payload: vec![1, 2, 3], ..Spec::default() }.bytes()
}

#[test]
fn out_of_a_tunnel() {
    // RFC 6040, figure 4.
    let table = [
        (NOT_ECT, [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None]),
        (ECT_0, [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)]),
        (ECT_1, [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)]),
        (CE, [Some(CE), Some(CE), Some(CE), Some(CE)]),
    ];
    for v6 in [false, true] {
        for (inner, row) in table {
            for (outer, expected) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(row) {
                for dscp in [0, 0xb8, 0xfc] {
                    let mut it = packet(v6, dscp | inner);
                    // Only the two bits of the outer type of service count.
                    let kept = decapsulate_ecn(0xa8 | outer, &mut it);
                    assert_eq!(kept.then(|| ecn(&it)), expected, "outer {outer}, inner {inner}");
                    assert_eq!(it, packet(v6, dscp | expected.unwrap_or(inner)));
                }
            }
        }
    }
}

#[test]
fn a_mark_is_set_where_it_is_understood() {
    for v6 in [false, true] {
        for tos in 0..=255 {
            let mut it = packet(v6, tos);
            assert_eq!(ecn(&it), tos & 3);
            let marked = set_ce(&mut it);
            assert_eq!(marked, tos & 3 != 0);
            assert_eq!(it, packet(v6, if marked { tos | 3 } else { tos }));
            assert!(right(&it, if v6 { 40 } else { 20 }));
        }
    }
}

#[test]
fn the_amended_checksum_is_right_for_every_sum() {
    for id in 0..=u16::MAX {
        let spec = Spec { id, tos: ECT_0, ..Spec::default() };
        let mut it = spec.bytes();
        assert!(set_ce(&mut it));
        assert_eq!(it, Spec { tos: CE, ..spec }.bytes());
    }
}

#[test]
fn what_is_no_ip_packet_is_left_as_it_is() {
    for bytes in [&[][..], &[0x45, 1], &[0x62; 39], &[0x13; 60]] {
        let mut it = bytes.to_vec();
        assert_eq!(ecn(&it), 0);
        assert!(!set_ce(&mut it));
        for outer in 0..4 {
            assert_eq!(decapsulate_ecn(outer, &mut it), outer != CE);
        }
        assert_eq!(it, bytes);
    }
}
