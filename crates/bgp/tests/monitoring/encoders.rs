//! Records and messages, byte by byte and the other way round.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use tombolo_bgp::Family;
use tombolo_bgp::mrt::{IndexPeer, RibEntry, encode as mrt};
use tombolo_bgp::prefix::{Prefix, V4, V6};
use tombolo_bgp::router::tap::{Ending, Heard, Seen, What};
use tombolo_bgp::session::State;

use crate::read::{self, Bmp, Mrt};

fn seen() -> Seen {
    Seen {
        address: "192.0.2.2".parse().unwrap(),
        asn: 65_002,
        router_id: Ipv4Addr::new(10, 0, 0, 2),
        local_address: "192.0.2.1".parse().unwrap(),
        local_asn: 65_001,
        four_octet: true,
        add_path: Vec::new(),
        families: vec![Family::Ipv4],
        extended: false,
        conn: None,
        ports: OnceLock::from((179, 40_000)),
        at: UNIX_EPOCH + Duration::from_millis(1_500),
        sent_open: open(1),
        received_open: open(2),
    }
}

/// An OPEN as RFC 4271 draws it.
fn open(n: u8) -> Vec<u8> {
    [&[0xff; 16][..], &[0, 29, 1, 4, 0xfd, 0xe9, 0, 90, 10, 0, 0, n, 0]].concat()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

fn bmp(heard: &Heard, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    tombolo_bgp::bmp::encode::heard(&mut out, heard, bytes);
    out
}

fn one(bytes: &[u8]) -> Bmp {
    let mut rest = bytes;
    let message = read::bmp(&mut rest).unwrap();
    assert!(rest.is_empty());
    message
}

#[test]
fn a_table_is_an_index_and_records() {
    let mut out = Vec::new();
    let peers = [
        IndexPeer { router_id: Ipv4Addr::new(10, 0, 0, 1), address: Ipv4Addr::UNSPECIFIED.into(), asn: 65_001 },
        IndexPeer {
            router_id: Ipv4Addr::new(10, 0, 0, 2),
            address: "2001:db8::2".parse().unwrap(),
            asn: 4_200_000_000,
        },
    ];
    mrt::peer_index_table(&mut out, 0x6000_0000, Ipv4Addr::new(10, 0, 0, 1), &peers);
    let index = "60000000 000d 0001 0000002e  0a000001 0000 0002
        02 0a000001 00000000 0000fde9
        03 0a000002 20010db8000000000000000000000002 fa56ea00";
    assert_eq!(out, hex(index));

    out.clear();
    let entry = RibEntry { peer: 1, originated: 0x6000_0000, path_id: 7, attributes: hex("400101 00") };
    let prefix = V4::of_net("10.1.128.0/17".parse().unwrap()).unwrap();
    mrt::rib(&mut out, 0x6000_0001, 5, prefix, false, std::slice::from_ref(&entry));
    assert_eq!(out, hex("60000001 000d 0002 00000016  00000005 11 0a0180 0001  0001 60000000 0004 40010100"));

    out.clear();
    let prefix = V6::of_net("2001:db8::/32".parse().unwrap()).unwrap();
    mrt::rib(&mut out, 0x6000_0001, 6, prefix, true, &[entry]);
    let rib = "60000001 000d 000a 0000001b  00000006 20 20010db8 0001  0001 60000000 00000007 0004 40010100";
    assert_eq!(out, hex(rib));
}

#[test]
fn messages_and_states_have_as_numbers_as_the_session_has() {
    let body = hex("0000 0000");
    let message = "ffffffffffffffffffffffffffffffff 0017 02 0000 0000";
    let (mut wide, mut narrow) = (Vec::new(), Vec::new());
    mrt::update(&mut wide, 1, &seen(), &body);
    let session = "0000fdea 0000fde9 0000 0001 c0000202 c0000201";
    assert_eq!(wide, hex(&format!("00000001 0010 0004 0000002b {session} {message}")));

    let old = Seen { four_octet: false, local_asn: 4_200_000_000, ..seen() };
    mrt::update(&mut narrow, 1, &old, &body);
    let session = "fdea 5ba0 0000 0001 c0000202 c0000201";
    assert_eq!(narrow, hex(&format!("00000001 0010 0001 00000027 {session} {message}")));

    narrow.clear();
    mrt::state_change(&mut narrow, 1, &old, State::OpenConfirm, State::Established);
    assert_eq!(narrow, hex(&format!("00000001 0010 0000 00000014 {session} 0005 0006")));

    wide.clear();
    mrt::state_change(&mut wide, 1, &seen(), State::Idle, State::Connect);
    let session = "0000fdea 0000fde9 0000 0001 c0000202 c0000201";
    assert_eq!(wide, hex(&format!("00000001 0010 0005 00000018 {session} 0001 0002")));
}

#[test]
fn prefixes_with_identifiers_have_subtypes_of_their_own() {
    let both = Seen { add_path: vec![Family::Ipv6], ..seen() };
    // 2001:db8::/32, withdrawn with an identifier; 10.0.0.0/8, withdrawn without one.
    let v6 = hex("0000 000f 800f0c 0002 01 00000001 20 20010db8");
    let v4 = hex("0002 080a 0000");
    for (body, expected) in [(v6, true), (v4, false)] {
        let mut out = Vec::new();
        mrt::update(&mut out, 1, &both, &body);
        let Mrt::Message { add_path, message, .. } = &read::mrt(&out)[0].1 else { panic!("no message") };
        assert_eq!(*add_path, expected);
        assert_eq!(read::update(message, expected).withdrawn.len(), 1);
    }
}

#[test]
fn a_station_is_told_sessions_and_routes() {
    let peer = Arc::new(seen());
    let header = "00 00 0000000000000000 000000000000000000000000c0000202 0000fdea 0a000002 00000001 0007a120";
    let heard = |what| Heard { at: UNIX_EPOCH + Duration::from_millis(1_500), peer: peer.clone(), what };
    let hexed = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();

    let up = format!(
        "03 0000007e 03 {header} 000000000000000000000000c0000201 00b3 9c40 {} {}",
        hexed(&open(1)),
        hexed(&open(2))
    );
    assert_eq!(bmp(&heard(What::Up), &[]), hex(&up));

    let update = "ffffffffffffffffffffffffffffffff 0017 02 0000 0000";
    let routes = bmp(&heard(What::Update(1..5)), &[9, 0, 0, 0, 0, 9]);
    assert_eq!(routes, hex(&format!("03 00000047 00 {header} {update}")));

    let cease = hex("ffffffffffffffffffffffffffffffff 0015 03 06 02");
    let sent = bmp(&heard(What::Down(Ending::Sent(cease.clone()))), &[]);
    assert_eq!(sent, hex(&format!("03 00000046 02 {header} 01 {}", hexed(&cease))));
    let received = bmp(&heard(What::Down(Ending::Received(cease.clone()))), &[]);
    assert_eq!(received, hex(&format!("03 00000046 02 {header} 03 {}", hexed(&cease))));
    let silent = bmp(&heard(What::Down(Ending::Silent(17))), &[]);
    assert_eq!(silent, hex(&format!("03 00000033 02 {header} 02 0011")));
    assert_eq!(bmp(&heard(What::Down(Ending::Closed)), &[]), hex(&format!("03 00000031 02 {header} 04")));

    let counted = bmp(&heard(What::Routes { received: [3, 9], sent: [5, 9] }), &[]);
    let statistics = "00000004 0007 0008 0000000000000003 0009 000b 0001 01 0000000000000003
        000f 0008 0000000000000005 0011 000b 0001 01 0000000000000005";
    assert_eq!(counted, hex(&format!("03 0000006a 01 {header} {statistics}")));

    let silent = heard(What::State { from: State::Idle, to: State::Connect });
    assert!(bmp(&silent, &[]).is_empty());

    let mut out = Vec::new();
    tombolo_bgp::bmp::encode::initiation(&mut out, "rr", "a b");
    assert_eq!(out, hex("03 00000013 04 0001 0003 612062 0002 0002 7272"));
    out.clear();
    tombolo_bgp::bmp::encode::termination(&mut out);
    assert_eq!(out, hex("03 0000000c 05 0001 0002 0000"));
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|n| IpAddr::from(Ipv4Addr::from_bits(n))),
        any::<u128>().prop_map(|n| IpAddr::from(Ipv6Addr::from_bits(n))),
    ]
}

fn entry() -> impl Strategy<Value = RibEntry> {
    (any::<u16>(), any::<u32>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(peer, originated, path_id, attributes)| RibEntry { peer, originated, path_id, attributes })
}

fn check_rib<P: Prefix>(at: u32, sequence: u32, prefix: P, add_path: bool, entries: &[RibEntry]) {
    let mut out = Vec::new();
    mrt::rib(&mut out, at, sequence, prefix, add_path, entries);
    let expected = entries.iter().map(|entry| read::Entry {
        peer: entry.peer,
        originated: entry.originated,
        path_id: add_path.then_some(entry.path_id),
        attributes: entry.attributes.clone(),
    });
    let expected = Mrt::Rib { sequence, prefix: prefix.net(), entries: expected.collect() };
    assert_eq!(read::mrt(&out), [(at, expected)]);
}

proptest! {
    #[test]
    fn what_is_written_of_a_table_is_read(
        at: u32,
        sequence: u32,
        bits: u128,
        lengths in (0_u8..=32, 0_u8..=128),
        add_path: bool,
        entries in prop::collection::vec(entry(), 0..5),
        peers in prop::collection::vec((any::<u32>(), address(), any::<u32>()), 0..9),
    ) {
        let bytes = bits.to_be_bytes();
        let octets = |length: u8| &bytes[..usize::from(length).div_ceil(8)];
        check_rib(at, sequence, V4::of(lengths.0, octets(lengths.0)), add_path, &entries);
        check_rib(at, sequence, V6::of(lengths.1, octets(lengths.1)), add_path, &entries);

        let peers = peers.iter().map(|(id, address, asn)| ((*id).into(), *address, *asn)).collect::<Vec<_>>();
        let written = peers.iter().map(|(router_id, address, asn)| IndexPeer { router_id: *router_id, address: *address, asn: *asn });
        let mut out = Vec::new();
        mrt::peer_index_table(&mut out, at, sequence.into(), &written.collect::<Vec<_>>());
        let expected = Mrt::Index { collector: sequence.into(), view: Vec::new(), peers };
        prop_assert_eq!(read::mrt(&out), [(at, expected)]);
    }

    #[test]
    fn what_is_written_of_a_session_is_read(
        addresses in (any::<bool>(), any::<u128>(), any::<u128>()),
        asns: (u32, u32),
        four_octet: bool,
        ports: (u16, u16),
        millis in 0..u64::from(u32::MAX) * 1000,
        body in prop::collection::vec(any::<u8>(), 0..200),
        counts: ([u32; 2], [u32; 2]),
    ) {
        let (v6, a, b) = addresses;
        let address = |n: u128| if v6 { IpAddr::from(Ipv6Addr::from_bits(n)) } else { Ipv4Addr::from_bits(n as u32).into() };
        let at = UNIX_EPOCH + Duration::from_millis(millis);
        let peer = Arc::new(Seen {
            address: address(a), local_address: address(b), asn: asns.0, local_asn: asns.1, four_octet,
            ports: ports.into(), at, families: Family::ALL.to_vec(), ..seen()
        });
        let seconds = u32::try_from(millis / 1000).unwrap();
        let header = read::Peer {
            v6, two_octets: !four_octet, address: peer.address, asn: asns.0, router_id: peer.router_id,
            at: (seconds, u32::try_from(millis % 1000).unwrap() * 1000),
        };
        let heard = |what| Heard { at, peer: peer.clone(), what };

        let update = heard(What::Update(0..body.len()));
        let Bmp::Routes(found, message) = one(&bmp(&update, &body)) else { panic!("no routes") };
        prop_assert_eq!((&found, &message[19..]), (&header, &body[..]));
        let mut out = Vec::new();
        mrt::heard(&mut out, &update, &body);
        let two = |asn: u32| u16::try_from(asn).map_or(23_456, u32::from);
        let session = read::Session {
            asn: if four_octet { asns.0 } else { two(asns.0) },
            local_asn: if four_octet { asns.1 } else { two(asns.1) },
            address: peer.address,
            local_address: peer.local_address,
        };
        let expected = Mrt::Message { add_path: false, four: four_octet, session: session.clone(), message };
        prop_assert_eq!(read::mrt(&out), [(seconds, expected)]);

        out.clear();
        mrt::heard(&mut out, &heard(What::State { from: State::Active, to: State::OpenSent }), &[]);
        let expected = Mrt::State { four: four_octet, session, from: 3, to: 4 };
        prop_assert_eq!(read::mrt(&out), [(seconds, expected)]);

        let up = one(&bmp(&heard(What::Up), &[]));
        let opens = [open(1), open(2)];
        prop_assert_eq!(up, Bmp::Up { peer: header.clone(), local: peer.local_address, ports, opens });

        let (received, sent) = (counts.0.map(u64::from), counts.1.map(u64::from));
        let counted = one(&bmp(&heard(What::Routes { received, sent }), &[]));
        let of = |kind: u16, family: u16, n: u64| {
            let family = [&family.to_be_bytes()[..], &[1]].concat();
            (kind, [if matches!(kind, 9 | 17) { family } else { Vec::new() }, n.to_be_bytes().to_vec()].concat())
        };
        let expected = [
            of(7, 0, received[0] + received[1]), of(9, 1, received[0]), of(9, 2, received[1]),
            of(15, 0, sent[0] + sent[1]), of(17, 1, sent[0]), of(17, 2, sent[1]),
        ];
        prop_assert_eq!(counted, Bmp::Statistics(header, expected.to_vec()));
    }
}
