//! Whatever the bytes are, nothing panics, and what is refused is refused by a value.

use proptest::prelude::*;
use tombolo_offload::{
    Coalescer, Limits, Segmenter, VirtioHeader, decapsulate_ecn, destination, ecn, ip_len, set_ce, source, unreachable,
};

use crate::naive::{Spec, filler};

/// All that the crate does with one packet.
fn all(header: VirtioHeader, packet: &[u8]) {
    if let Ok(segmenter) = Segmenter::new(header, packet) {
        let count = segmenter.count();
        assert!(count >= 1 && count <= packet.len().max(1));
        for i in (0..count).take(70) {
            let mut out = vec![0; segmenter.segment_len(i)];
            segmenter.write(i, &mut out);
            assert!(out.len() <= packet.len());
        }
    }
    if let Some(len) = ip_len(packet) {
        assert!((20..=packet.len()).contains(&len));
        assert!(source(packet).is_some() && destination(packet).is_some());
    }
    let mut amended = packet.to_vec();
    assert!(ecn(packet) < 4);
    set_ce(&mut amended);
    for outer in 0..4 {
        let _ = decapsulate_ecn(outer, &mut amended);
    }
    let mut out = [0; 1280];
    for from in ["10.0.0.254", "fd00::fe"] {
        if let Some(len) = unreachable(packet, from.parse().unwrap(), &mut out) {
            assert_eq!(ip_len(&out[..len]), Some(len));
        }
    }
    // Twice the same: the second may continue the first.
    let mut arena = [packet, packet].concat();
    let mut coalescer = Coalescer::new(Limits { tcp: true, udp: true });
    coalescer.push(&arena, 0..packet.len());
    coalescer.push(&arena, packet.len()..arena.len());
    coalescer.finish(&mut arena);
    assert_eq!(coalescer.writes().map(|w| w.pieces.len()).sum::<usize>(), 2);
}

fn header() -> impl Strategy<Value = VirtioHeader> {
    let kind = prop_oneof![4 => prop::sample::select(vec![0_u8, 1, 4, 5, 0x81, 0x84]), 1 => any::<u8>()];
    let small = || prop_oneof![3 => 0_u16..100, 1 => any::<u16>()];
    (any::<u8>(), kind, small(), small(), small(), small()).prop_map(
        |(flags, gso_type, hdr_len, gso_size, csum_start, csum_offset)| VirtioHeader {
            flags,
            gso_type,
            hdr_len,
            gso_size,
            csum_start,
            csum_offset,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes(header in header(), version in any::<u8>(), mut packet in prop::collection::vec(any::<u8>(), 0..200)) {
        all(header, &packet);
        for nibble in [0x45, 0x4f, 0x60, version] {
            if let Some(first) = packet.first_mut() {
                *first = nibble;
            }
            all(header, &packet);
        }
    }

    #[test]
    fn packets_with_bytes_changed(
        other in prop::option::of(header()),
        (v6, tcp) in any::<(bool, bool)>(),
        len in 0_usize..400,
        size in 1_usize..200,
        changes in prop::collection::vec((0_usize..80, any::<u8>()), 0..4),
        cut in prop::option::of(0_usize..500),
    ) {
        let spec = Spec { v6, tcp, payload: filler(len, 9), ..Spec::default() };
        let header = other.unwrap_or(spec.header(size));
        for mut packet in [spec.partial(), spec.bytes()] {
            for (at, byte) in &changes {
                if let Some(it) = packet.get_mut(*at) {
                    *it = *byte;
                }
            }
            packet.truncate(cut.unwrap_or(usize::MAX));
            all(header, &packet);
        }
    }
}

#[test]
fn the_longest_and_the_shortest() {
    let largest = vec![0x45; 65535 + 40];
    for len in [0, 1, 19, 20, 39, 40, 65535, 65536, largest.len()] {
        for gso_type in [0, 1, 4, 5] {
            for flags in [0, 1] {
                let header =
                    VirtioHeader { flags, gso_type, gso_size: 1000, csum_start: 20, csum_offset: 16, hdr_len: 0 };
                all(header, &largest[..len]);
                all(VirtioHeader { csum_start: 0xffff, csum_offset: 0xffff, ..header }, &largest[..len]);
            }
        }
    }
}

#[test]
fn lengths() {
    let v4 = Spec { payload: filler(5, 1), ..Spec::default() }.bytes();
    let v6 = Spec { v6: true, payload: filler(5, 1), ..Spec::default() }.bytes();
    for packet in [&v4, &v6] {
        assert_eq!(ip_len(packet), Some(packet.len()));
        let padded = [&packet[..], &[0; 11]].concat();
        assert_eq!(ip_len(&padded), Some(packet.len()));
        assert_eq!(ip_len(&packet[..packet.len() - 1]), None);
    }
    let changed = |packet: &[u8], at: usize, bytes: &[u8]| {
        let mut packet = packet.to_vec();
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        ip_len(&packet)
    };
    assert_eq!(changed(&v4, 0, &[0x44]), None, "a header of 16 bytes");
    assert_eq!(changed(&v4, 2, &[0, 19]), None, "less than the header");
    assert_eq!(changed(&v4, 2, &[0, 20]), Some(20));
    assert_eq!(changed(&v4, 0, &[0x55]), None, "version 5");
    assert_eq!(changed(&v6, 4, &[0, 0]), Some(40), "no payload");
    assert_eq!(changed(&v6, 4, &[0, 0, 0]), None, "a jumbogram");
    assert_eq!(ip_len(&[]), None);
}

#[test]
fn addresses() {
    let v4 = Spec::default().bytes();
    assert_eq!((source(&v4), destination(&v4)), ("10.1.0.1".parse().ok(), "10.2.0.200".parse().ok()));
    let v6 = Spec { v6: true, ..Spec::default() }.bytes();
    assert_eq!(source(&v6), "fd00:1:203:405:607:809:a0b:c01".parse().ok());
    assert_eq!(destination(&v6), "fd00:1:203:405:607:809:a0b:cc8".parse().ok());
    assert_eq!((source(&v4[..19]), destination(&v6[..39]), source(&[0x50; 60])), (None, None, None));
}
