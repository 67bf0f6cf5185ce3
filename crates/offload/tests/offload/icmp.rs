//! The answer to a packet that nobody takes.

use std::net::IpAddr;

use tombolo_offload::unreachable;

use crate::naive::{Spec, filler, right, sum};

const V4: [u8; 4] = [10, 0, 0, 254];

fn from(v6: bool) -> IpAddr {
    if v6 { "fd00::fe".parse().unwrap() } else { V4.into() }
}

fn answer(packet: &[u8]) -> Option<Vec<u8>> {
    let mut out = [0xee; 1280];
    let len = unreachable(packet, from(packet[0] >> 4 == 6), &mut out)?;
    Some(out[..len].to_vec())
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[test]
fn over_ipv4_byte_for_byte() {
    let packet = "45 00 00 1d 12 34 40 00 40 11 13 d1 0a 01 00 01 0a 02 00 c8 9c 40 00 35 00 09 00 00 61";
    let ip = "45 c0 00 39 00 00 40 00 40 01 25 05 0a 00 00 fe 0a 01 00 01";
    let icmp = "03 01 ff 7f 00 00 00 00";
    assert_eq!(answer(&bytes(packet)), Some(bytes(&format!("{ip} {icmp} {packet}"))));
}

#[test]
fn over_ipv6_byte_for_byte() {
    let source = "fd 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01";
    let destination = "fd 00 00 00 00 00 00 00 00 00 00 00 00 00 00 c8";
    let packet = format!("60 00 00 00 00 09 11 40 {source} {destination} 9c 40 00 35 00 09 00 00 61");
    let ip = format!("60 00 00 00 00 39 3a 40 fd 00 00 00 00 00 00 00 00 00 00 00 00 00 00 fe {source}");
    let icmp = "01 03 99 f5 00 00 00 00";
    assert_eq!(answer(&bytes(&packet)), Some(bytes(&format!("{ip} {icmp} {packet}"))));
}

#[test]
fn quotes_as_much_as_may_be_and_not_the_padding() {
    for (v6, most, head) in [(false, 576, 28), (true, 1280, 48)] {
        for len in [0, 1, 200, 1400, 9000] {
            let packet = Spec { v6, payload: filler(len, 4), ..Spec::default() }.bytes();
            let out = answer(&[&packet[..], &[9; 15]].concat()).unwrap();
            assert_eq!(out.len(), most.min(head + packet.len()));
            assert_eq!(out[head..], packet[..out.len() - head]);
            if v6 {
                assert!(right(&out, 40));
            } else {
                assert_eq!((sum(&out[..20]), sum(&out[20..])), (0xffff, 0xffff));
            }
        }
    }
}

#[test]
fn needs_room_and_an_address_of_the_family() {
    let packet = Spec { payload: filler(900, 1), ..Spec::default() }.bytes();
    assert_eq!(unreachable(&packet, from(false), &mut [0; 575]), None);
    assert_eq!(unreachable(&packet, from(false), &mut [0; 576]), Some(576));
    assert_eq!(unreachable(&packet, from(true), &mut [0; 1280]), None);
    assert_eq!(unreachable(&packet[..packet.len() - 1], from(false), &mut [0; 1280]), None, "not whole");
    assert_eq!(unreachable(&[], from(false), &mut [0; 1280]), None);
}

fn v4(protocol: u8, fragment: u16, source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let mut packet = Spec { tcp: false, ..Spec::default() }.bytes();
    packet.truncate(20);
    packet[9] = protocol;
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    let octets = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
    packet[12..16].copy_from_slice(&octets(source));
    packet[16..20].copy_from_slice(&octets(destination));
    packet.extend(payload);
    packet[3] = packet.len() as u8;
    packet
}

#[test]
fn ipv4_that_may_not_be_answered() {
    let (a, b) = ("10.1.0.1", "10.2.0.1");
    for kind in 0..=20 {
        let error = matches!(kind, 3 | 4 | 5 | 11 | 12);
        assert_eq!(answer(&v4(1, 0, a, b, &[kind, 0, 0, 0])).is_none(), error, "ICMP type {kind}");
    }
    assert_eq!(answer(&v4(1, 0, a, b, &[])), None, "ICMP cut short");
    assert!(answer(&v4(17, 0x2000, a, b, &[0; 8])).is_some(), "the first fragment");
    assert_eq!(answer(&v4(17, 0x2001, a, b, &[0; 8])), None, "a later fragment");
    assert_eq!(answer(&v4(1, 0x0001, a, b, &[8, 0])), None, "the last fragment");
    for source in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"] {
        assert_eq!(answer(&v4(17, 0, source, b, &[0; 8])), None, "from {source}");
    }
    for destination in ["224.0.0.5", "255.255.255.255"] {
        assert_eq!(answer(&v4(17, 0, a, destination, &[0; 8])), None, "to {destination}");
    }
    assert!(answer(&v4(17, 0, a, b, &[])).is_some());
}

fn v6(next: u8, source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let mut packet = Spec { v6: true, tcp: false, ..Spec::default() }.bytes();
    packet.truncate(40);
    packet[6] = next;
    let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    packet[8..24].copy_from_slice(&octets(source));
    packet[24..40].copy_from_slice(&octets(destination));
    packet.extend(payload);
    packet[5] = payload.len() as u8;
    packet
}

#[test]
fn ipv6_that_may_not_be_answered() {
    let (a, b) = ("fd00::1", "fd00::2");
    for kind in 0..=255 {
        let silent = kind < 128 || kind == 137;
        assert_eq!(answer(&v6(58, a, b, &[kind, 0, 0, 0])).is_none(), silent, "ICMPv6 type {kind}");
        // Hidden behind hop-by-hop options, an authentication header and a first fragment.
        let mut hidden = vec![51, 0, 1, 4, 0, 0, 0, 0];
        hidden.extend([44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        hidden.extend([58, 0, 0, 1, 0, 0, 0, 7, kind, 0, 0, 0]);
        assert_eq!(answer(&v6(0, a, b, &hidden)).is_none(), silent, "hidden ICMPv6 type {kind}");
    }
    assert_eq!(answer(&v6(58, a, b, &[])), None, "ICMPv6 cut short");
    assert!(answer(&v6(44, a, b, &[17, 0, 0, 1, 0, 0, 0, 7, 0, 0])).is_some(), "the first fragment");
    assert_eq!(answer(&v6(44, a, b, &[17, 0, 0, 9, 0, 0, 0, 7, 0, 0])), None, "a later fragment");
    assert_eq!(answer(&v6(44, a, b, &[17, 0, 0])), None, "a fragment header cut short");
    assert_eq!(answer(&v6(60, a, b, &[17, 9])), None, "options cut short");
    for source in ["::", "ff02::1", "::1"] {
        assert_eq!(answer(&v6(17, source, b, &[0; 8])), None, "from {source}");
    }
    assert_eq!(answer(&v6(17, a, "ff02::1", &[0; 8])), None, "to many");
    assert!(answer(&v6(59, a, b, &[])).is_some());
}
