//! Cutting, against segments that are built one by one.

use proptest::prelude::*;
use tombolo_offload::{
    F_DATA_VALID, F_NEEDS_CSUM, GSO_ECN, GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP, GSO_UDP_L4, Malformed, Segmenter,
    VirtioHeader,
};

use crate::naive::{ACK, CWR, ECE, FIN, PSH, Spec, cut, filler, right};

fn assert_cut(spec: &Spec, size: usize) {
    let expected: Vec<Vec<u8>> = spec.segments(size).iter().map(Spec::bytes).collect();
    assert_eq!(cut(spec.header(size), &spec.partial()), expected, "partial: {spec:?} by {size}");
    if !spec.v6 || spec.ip_options.is_empty() {
        // The kernel sets it always; without it the sum is found from the addresses.
        let whole = VirtioHeader { flags: 0, csum_start: 0, csum_offset: 0, ..spec.header(size) };
        assert_eq!(cut(whole, &spec.bytes()), expected, "whole: {spec:?} by {size}");
    }
}

#[test]
fn tcp_of_64_kib() {
    for v6 in [false, true] {
        let most = if v6 { 65535 } else { 65535 - 20 };
        let spec = Spec { v6, flags: ACK | PSH | FIN | CWR, payload: filler(most - 32, 1), ..Spec::default() };
        assert_cut(&spec, 1368);
        assert_cut(&spec, 1);
        assert_cut(&spec, 65535);
    }
}

#[test]
fn udp_of_64_kib() {
    for v6 in [false, true] {
        let most = if v6 { 65535 } else { 65535 - 20 };
        let spec = Spec { v6, tcp: false, payload: filler(most - 8, 1), ..Spec::default() };
        assert_cut(&spec, 1200);
        assert_cut(&spec, 7);
    }
}

#[test]
fn flags_are_where_they_belong() {
    let spec = Spec { flags: ACK | PSH | FIN | CWR | ECE, payload: filler(300, 1), ..Spec::default() };
    let flags: Vec<u8> = cut(spec.header(100), &spec.partial()).iter().map(|p| p[33]).collect();
    assert_eq!(flags, [ACK | ECE | CWR, ACK | ECE, ACK | ECE | PSH | FIN]);
}

#[test]
fn one_segment_keeps_all_flags() {
    let spec = Spec { flags: ACK | PSH | FIN | CWR, payload: filler(50, 1), ..Spec::default() };
    assert_cut(&spec, 100);
    assert_cut(&Spec { payload: Vec::new(), ..spec }, 100);
}

#[test]
fn the_hint_of_the_header_length_is_not_believed() {
    let spec = Spec { payload: filler(300, 1), ..Spec::default() };
    let expected = cut(spec.header(100), &spec.partial());
    for hdr_len in [0, 1, 20, 40, 0xffff] {
        assert_eq!(cut(VirtioHeader { hdr_len, ..spec.header(100) }, &spec.partial()), expected);
    }
}

#[test]
fn a_routing_header_has_its_own_destination_in_the_sum() {
    let spec = Spec { v6: true, ip_options: vec![0; 24], payload: filler(300, 1), ..Spec::default() };
    let segments = cut(spec.header(100), &spec.partial());
    assert!(segments.len() == 3);
    // The kernel wrote the sum for another destination: so are the sums of the segments.
    let mut moved = spec.partial();
    moved[24..40].fill(0x11);
    for (moved, segment) in cut(spec.header(100), &moved).iter().zip(&segments) {
        assert_eq!((&moved[24..40], &moved[40..]), (&[0x11; 16][..], &segment[40..]));
    }
}

#[test]
fn a_partial_checksum_is_completed() {
    for v6 in [false, true] {
        for tcp in [false, true] {
            for len in [0, 1, 2, 3, 99, 1400] {
                let spec = Spec { v6, tcp, payload: filler(len, 5), ..Spec::default() };
                let header = VirtioHeader { gso_type: GSO_NONE, gso_size: 0, ..spec.header(1) };
                assert_eq!(cut(header, &spec.partial()), [spec.bytes()], "{spec:?}");
            }
        }
    }
}

/// A UDP packet whose sum comes out as zero.
fn zero_sum(v6: bool, len: usize) -> Spec {
    let mut spec = Spec { v6, tcp: false, payload: vec![0; len], ..Spec::default() };
    let bytes = spec.bytes();
    let field = spec.ip_len() + 6;
    // What the checksum is has to be in the sum.
    spec.payload[..2].copy_from_slice(&bytes[field..field + 2]);
    assert_eq!(spec.bytes()[field..field + 2], [0xff, 0xff]);
    spec
}

#[test]
fn a_udp_sum_of_zero_is_written_as_its_other_form() {
    for v6 in [false, true] {
        let spec = zero_sum(v6, 60);
        let whole = VirtioHeader { gso_type: GSO_NONE, ..spec.header(1) };
        assert_eq!(cut(whole, &spec.partial()), [spec.bytes()]);
        let mut two = spec.clone();
        two.payload.extend(&spec.payload);
        let segments = cut(two.header(60), &two.partial());
        assert_eq!(segments[0][spec.ip_len() + 6..][..2], [0xff, 0xff]);
        assert_cut(&two, 60);
    }
}

#[test]
fn a_tcp_sum_of_zero_is_written_as_zero() {
    let mut spec = Spec { payload: vec![0; 60], ..Spec::default() };
    let sum = [spec.bytes()[36], spec.bytes()[37]];
    spec.payload[..2].copy_from_slice(&sum);
    let header = VirtioHeader { gso_type: GSO_NONE, ..spec.header(1) };
    assert_eq!(cut(header, &spec.partial())[0][36..38], [0, 0]);
    assert_cut(&spec, 60);
}

#[test]
fn udp_without_a_checksum_stays_without() {
    let spec = Spec { tcp: false, unsummed: true, payload: filler(50, 2), ..Spec::default() };
    let header = VirtioHeader { flags: 0, ..spec.header(20) };
    let expected: Vec<Vec<u8>> = spec.segments(20).iter().map(Spec::bytes).collect();
    assert_eq!(cut(header, &spec.bytes()), expected);
}

#[test]
fn what_is_not_to_be_cut_is_passed_whatever_it_is() {
    for bytes in [&b""[..], b"x", b"E garbage", &[0x60; 100]] {
        assert_eq!(cut(VirtioHeader::NONE, bytes), [bytes]);
        assert_eq!(cut(VirtioHeader { flags: F_DATA_VALID, ..VirtioHeader::NONE }, bytes), [bytes]);
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let v4 = Spec { payload: filler(300, 1), ..Spec::default() };
    let v6 = Spec { v6: true, ..v4.clone() };
    let udp = Spec { tcp: false, ..v4.clone() };
    let (header, packet) = (v4.header(100), v4.partial());
    let refuse = |header: VirtioHeader, packet: &[u8], why| {
        assert_eq!(Segmenter::new(header, packet).map(|s| s.count()), Err(why), "{header:?}");
    };
    refuse(VirtioHeader { gso_type: GSO_UDP, ..header }, &packet, Malformed::Type(GSO_UDP));
    refuse(VirtioHeader { gso_type: 9, ..header }, &packet, Malformed::Type(9));
    refuse(VirtioHeader { gso_type: GSO_ECN, ..header }, &packet, Malformed::Type(GSO_ECN));
    let ecn = GSO_UDP_L4 | GSO_ECN;
    refuse(VirtioHeader { gso_type: ecn, ..udp.header(9) }, &udp.partial(), Malformed::Type(ecn));
    refuse(VirtioHeader { gso_size: 0, ..header }, &packet, Malformed::Size);
    refuse(VirtioHeader { gso_type: GSO_TCPV6, ..header }, &packet, Malformed::Ip);
    refuse(VirtioHeader { gso_type: GSO_TCPV4, ..v6.header(9) }, &v6.partial(), Malformed::Ip);
    refuse(header, &packet[..19], Malformed::Ip);
    refuse(header, &[], Malformed::Ip);
    refuse(header, &packet[..39], Malformed::Transport);
    refuse(header, &packet[..51], Malformed::Transport);
    refuse(VirtioHeader { gso_type: GSO_UDP_L4, ..header }, &packet, Malformed::Transport);
    refuse(VirtioHeader { csum_start: 24, ..header }, &packet, Malformed::Transport);
    refuse(VirtioHeader { csum_start: 41, ..v6.header(9) }, &v6.partial(), Malformed::Transport);
    refuse(VirtioHeader { csum_offset: 6, ..header }, &packet, Malformed::Checksum);
    let mut fragment = packet.clone();
    fragment[6] = 0x20;
    refuse(header, &fragment, Malformed::Ip);
    let long = [&v6.partial()[..], &[0; 65535]].concat();
    refuse(VirtioHeader { gso_size: 65535, ..v6.header(9) }, &long, Malformed::Long);

    let none =
        |csum_start, csum_offset| VirtioHeader { flags: F_NEEDS_CSUM, csum_start, csum_offset, ..VirtioHeader::NONE };
    let end = packet.len() as u16;
    assert!(Segmenter::new(none(20, end - 22), &packet).is_ok());
    refuse(none(20, end - 21), &packet, Malformed::Checksum);
    refuse(none(0xffff, 0xffff), &packet, Malformed::Checksum);
    refuse(none(19, 16), &packet, Malformed::Checksum);
    refuse(none(20, 16), &[0x12; 50], Malformed::Ip);
}

#[test]
fn the_header_is_read_as_it_was_written() {
    let header = Spec::default().header(1300);
    let mut bytes = [0; VirtioHeader::LEN];
    header.write(&mut bytes);
    assert_eq!(VirtioHeader::read(&bytes), Some(header));
    assert_eq!(VirtioHeader::read(&bytes[..9]), None);
    if cfg!(target_endian = "little") {
        assert_eq!(bytes, [1, 1, 52, 0, 0x14, 5, 20, 0, 16, 0]);
    }
}

proptest! {
    #[test]
    fn segments_are_as_if_built_one_by_one(
        (v6, tcp, df) in any::<(bool, bool, bool)>(),
        ip_options in 0_usize..4,
        options in 0_usize..=10,
        (flags, tos, id, sequence) in any::<(u8, u8, u16, u32)>(),
        len in 0_usize..5000,
        size in 1_usize..2000,
        seed in any::<u64>(),
    ) {
        let ip_options = if v6 {
            // The length counts eights beyond the first.
            let mut bytes = vec![0; ip_options * 8];
            if ip_options > 0 {
                bytes[1] = ip_options as u8 - 1;
            }
            bytes
        } else {
            vec![1; ip_options * 4]
        };
        let options = filler(options * 4, seed);
        let payload = filler(len, seed);
        let spec = Spec { v6, tcp, df, ip_options, options, flags, tos, id, sequence, payload, ..Spec::default() };
        assert_cut(&spec, size);
        if spec.ip_options.is_empty() {
            for segment in cut(spec.header(size), &spec.partial()) {
                prop_assert!(right(&segment, spec.ip_len()));
            }
        }
    }
}
