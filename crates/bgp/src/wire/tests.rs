#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;

use proptest::collection::vec;
use proptest::prelude::*;

use super::notification::{cease, message};
use super::*;

fn wire(length: u16, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![0xff; 16];
    out.extend_from_slice(&length.to_be_bytes());
    out.push(kind);
    out.extend_from_slice(body);
    out
}

fn minimal_open() -> Vec<u8> {
    vec![4, 0xfc, 0, 0, 90, 10, 0, 0, 1, 0]
}

/// The minimal OPEN with these bytes from the length of the parameters on.
fn open_with(parameters: &[u8]) -> Vec<u8> {
    let mut body = minimal_open();
    body.pop();
    body.extend_from_slice(parameters);
    body
}

#[test]
fn a_header_out_of_bounds_is_refused_with_its_length() {
    let cases: [(u16, u8, bool, &[u8]); 15] = [
        (18, 4, false, &[1, 2, 0, 18]),
        (20, 4, false, &[1, 2, 0, 20]),
        (28, 1, false, &[1, 2, 0, 28]),
        (4097, 1, true, &[1, 2, 0x10, 1]),
        (22, 2, false, &[1, 2, 0, 22]),
        (4097, 2, false, &[1, 2, 0x10, 1]),
        (20, 3, false, &[1, 2, 0, 20]),
        (4097, 3, false, &[1, 2, 0x10, 1]),
        (4097, 5, false, &[1, 2, 0x10, 1]),
        (0, 2, false, &[1, 2, 0, 0]),
        (65535, 4, true, &[1, 2, 0xff, 0xff]),
        (19, 0, false, &[1, 3, 0]),
        (19, 6, false, &[1, 3, 6]),
        (19, 255, true, &[1, 3, 255]),
        (65535, 255, false, &[1, 2, 0xff, 0xff]),
    ];
    for (length, kind, extended, expected) in cases {
        let error = next(&wire(length, kind, &[]), extended).unwrap_err();
        let got = [&[error.code, error.subcode], error.data.as_slice()].concat();
        assert_eq!(got, expected, "length {length}, type {kind}, extended {extended}");
    }
    for at in 0..16 {
        let mut bytes = keepalive();
        bytes[at] = 0xfe;
        assert_eq!(next(&bytes, false), Err(Notification::new(1, 1, [])), "marker octet {at}");
    }
}

#[test]
fn messages_are_taken_one_by_one_when_they_are_whole() {
    let mut bytes = keepalive().to_vec();
    write(&mut bytes, Kind::Update, |out| out.extend_from_slice(&[0, 0, 0, 0]));
    write(&mut bytes, Kind::Update, |out| out.extend_from_slice(&[7; 5000]));
    for end in 0..HEADER {
        assert_eq!(next(&bytes[..end], false), Ok(None));
    }
    let first = next(&bytes, false).unwrap().unwrap();
    assert_eq!((first.kind, first.body, first.len), (Kind::Keepalive, &[][..], 19));
    let rest = &bytes[first.len..];
    assert_eq!(next(&rest[..22], false), Ok(None));
    let second = next(rest, false).unwrap().unwrap();
    assert_eq!((second.kind, second.body, second.len), (Kind::Update, &[0, 0, 0, 0][..], 23));
    let rest = &rest[second.len..];
    assert_eq!(next(rest, false).unwrap_err().subcode, 2);
    assert_eq!(next(rest, true).unwrap().unwrap().body, &[7; 5000]);
}

#[test]
fn an_open_that_is_wrong_is_answered_with_what_is_wrong() {
    let change = |at: usize, to: &[u8]| {
        let mut body = minimal_open();
        body[at..at + to.len()].copy_from_slice(to);
        body
    };
    type Case = (&'static str, Vec<u8>, (u8, u8, &'static [u8]));
    let cases: Vec<Case> = vec![
        ("no body", vec![], (1, 2, &[0, 19])),
        ("version 3", change(0, &[3]), (2, 1, &[0, 4])),
        ("version 5", change(0, &[5]), (2, 1, &[0, 4])),
        ("AS 0", change(1, &[0, 0]), (2, 2, &[])),
        ("AS_TRANS without the capability", change(1, &[0x5b, 0xa0]), (2, 2, &[])),
        ("AS 0 in the capability", open_with(&[8, 2, 6, 65, 4, 0, 0, 0, 0]), (2, 2, &[])),
        ("AS_TRANS in the capability", open_with(&[8, 2, 6, 65, 4, 0, 0, 0x5b, 0xa0]), (2, 2, &[])),
        ("hold time 1", change(3, &[0, 1]), (2, 6, &[0, 1])),
        ("hold time 2", change(3, &[0, 2]), (2, 6, &[0, 2])),
        ("identifier 0", change(5, &[0, 0, 0, 0]), (2, 3, &[])),
        ("parameters that are not there", change(9, &[1]), (2, 0, &[])),
        ("bytes behind the parameters", open_with(&[0, 2, 0]), (2, 0, &[])),
        ("authentication", open_with(&[2, 1, 0]), (2, 4, &[])),
        ("an unknown parameter", open_with(&[2, 7, 0]), (2, 4, &[])),
        ("a parameter without length", open_with(&[1, 2]), (2, 0, &[])),
        ("a parameter that is too long", open_with(&[3, 2, 2, 2]), (2, 0, &[])),
        ("a capability without length", open_with(&[3, 2, 1, 2]), (2, 0, &[])),
        ("a capability that is too long", open_with(&[4, 2, 2, 2, 1]), (2, 0, &[])),
        ("four-octet AS in three octets", open_with(&[7, 2, 5, 65, 3, 0, 0, 1]), (2, 0, &[])),
        ("extended without length", open_with(&[255, 255, 0]), (2, 0, &[])),
        ("extended and too short", open_with(&[255, 255, 0, 2, 2]), (2, 0, &[])),
        ("extended, and a length of one octet", open_with(&[255, 255, 0, 2, 2, 0]), (2, 0, &[])),
        ("extended in extended", open_with(&[255, 255, 0, 3, 255, 0, 0]), (2, 4, &[])),
    ];
    for (what, body, (code, subcode, data)) in cases {
        assert_eq!(Open::parse(&body), Err(Notification::new(code, subcode, data)), "{what}");
    }
}

#[test]
fn capabilities_are_read_out_of_all_parameters_in_either_form() {
    let expected = [Capability::RouteRefresh, Capability::EnhancedRefresh, Capability::FourOctetAs(4_200_000_000)];
    let forms: [&[u8]; 4] = [
        &[16, 2, 2, 2, 0, 2, 2, 70, 0, 2, 6, 65, 4, 0xfa, 0x56, 0xea, 0],
        &[12, 2, 10, 2, 0, 70, 0, 65, 4, 0xfa, 0x56, 0xea, 0],
        &[255, 255, 0, 16, 2, 0, 4, 2, 0, 70, 0, 2, 0, 6, 65, 4, 0xfa, 0x56, 0xea, 0],
        // Any length but 0 announces it.
        &[16, 255, 0, 13, 2, 0, 10, 2, 0, 70, 0, 65, 4, 0xfa, 0x56, 0xea, 0],
    ];
    for form in forms {
        let open = Open::parse(&open_with(form)).unwrap();
        assert_eq!(open.capabilities, expected, "{form:?}");
        assert_eq!(open.asn, 4_200_000_000);
    }
    assert!(Open::parse(&open_with(&[2, 2, 0])).unwrap().capabilities.is_empty());
}

#[test]
fn a_malformed_capability_is_kept_aside_and_the_rest_is_read() {
    let malformed: [(u8, &[u8]); 13] = [
        (1, &[0, 1, 0]),
        (1, &[0, 1, 0, 1, 0]),
        (2, &[0]),
        (5, &[0, 1, 0, 1, 0]),
        (6, &[1]),
        (9, &[]),
        (9, &[0, 0]),
        (64, &[0]),
        (64, &[0, 120, 0, 1, 1]),
        (69, &[0, 1, 1]),
        (69, &[0, 1, 1, 4]),
        (70, &[0]),
        (71, &[0, 1, 1, 0, 0, 0]),
    ];
    for (code, value) in malformed {
        let mut parameters = vec![value.len() as u8 + 6, 2, value.len() as u8 + 4, code, value.len() as u8];
        parameters.extend_from_slice(value);
        parameters.extend_from_slice(&[70, 0]);
        let open = Open::parse(&open_with(&parameters)).unwrap();
        let aside = Capability::Malformed { code, value: value.to_vec() };
        assert!(aside.to_string().contains("ignored"), "{aside}");
        assert_eq!(open.capabilities, [aside, Capability::EnhancedRefresh]);
    }
}

#[test]
fn many_capabilities_take_the_extended_form_and_never_too_long_a_message() {
    let unknown = |n: usize| (0..n).map(|i| Capability::Unknown { code: 128, value: vec![i as u8; 200] });
    let mut open = Open {
        version: 4,
        asn: 64512,
        hold_time: 90,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        capabilities: unknown(5).collect(),
    };
    let bytes = open.to_bytes();
    assert_eq!(&bytes[HEADER + 9..HEADER + 11], &[255, 255]);
    assert_eq!(Open::parse(&bytes[HEADER..]).unwrap(), open);
    open.capabilities = unknown(30).chain([Capability::EnhancedRefresh]).collect();
    let bytes = open.to_bytes();
    assert!(bytes.len() <= MAX, "{}", bytes.len());
    let read = Open::parse(&bytes[HEADER..]).unwrap();
    assert_eq!(read.capabilities.last(), Some(&Capability::EnhancedRefresh));
}

#[test]
fn a_refresh_of_the_wrong_length_comes_back_whole() {
    for body in [&[][..], &[0, 1, 0], &[0, 1, 1, 1, 0], &[0, 1, 2, 1, 0]] {
        let error = RouteRefresh::parse(body).unwrap_err();
        assert_eq!((error.code, error.subcode), (7, 1));
        let whole = next(&error.data, false).unwrap().unwrap();
        assert_eq!((whole.kind, whole.body), (Kind::RouteRefresh, body));
    }
    for subtype in 3..=255 {
        assert_eq!(RouteRefresh::parse(&[0, 1, subtype, 1]), Ok(None));
    }
    let normal = RouteRefresh { afi: 2, safi: 1, subtype: Subtype::Normal };
    assert_eq!(RouteRefresh::parse(&[0, 2, 0, 1, 1, 2, 3]), Ok(Some(normal)));
}

#[test]
fn notifications_speak_to_people() {
    let cases = [
        (Notification::open(2, []), "the neighbour refused our AS number (Open Message Error, Bad Peer AS)"),
        (Notification::hold_timer(), "the neighbour heard nothing from us for its hold time (Hold Timer Expired)"),
        (
            Notification::shutdown(Some("disk change, back at 4")),
            "somebody shut the session down at the neighbour (Cease, Administrative Shutdown): \"disk change, back at 4\"",
        ),
        (
            Notification::shutdown(Some("a\u{1b}[2J\u{202e}b\n")),
            "somebody shut the session down at the neighbour (Cease, Administrative Shutdown): \
             \"a\\u{1b}[2J\\u{202e}b\\n\"",
        ),
        (
            Notification::cease(cease::MAX_PREFIXES).hard(),
            "the neighbour ended the session and drops our routes (Cease, Hard Reset): we announced more prefixes than \
             the neighbour takes (Cease, Maximum Number of Prefixes Reached)",
        ),
        (Notification::new(9, 3, [1, 255]), "an unknown error (code 9, subcode 3), data 01 ff"),
        (Notification::new(3, 77, []), "an unknown error (Update Message Error, subcode 77)"),
        (Notification::new(1, 0, []), "an error that it does not name (Message Header Error)"),
    ];
    for (notification, words) in cases {
        assert_eq!(notification.to_string(), words);
    }
    assert_eq!(
        Notification::cease(cease::BFD_DOWN).sent().to_string(),
        "BFD says that the path to the neighbour is down (Cease, BFD Down)"
    );
    let nested = Notification::new(6, 9, [6, 9, 6, 9]);
    assert!(nested.to_string().contains("Hard Reset") && nested.words().is_none());
}

#[test]
fn words_of_a_shutdown_are_cut_at_a_character_and_read_as_far_as_they_go() {
    let long = "ü".repeat(200);
    let sent = Notification::shutdown(Some(&long));
    assert_eq!(sent.data.len(), 255);
    assert_eq!(sent.words(), Some("ü".repeat(127)));
    assert_eq!(Notification::reset(Some("x")).hard().words().as_deref(), Some("x"));
    assert!(Notification::shutdown(Some("")).data.is_empty());
    for data in [&[][..], &[0], &[5, b'a'], &[255]] {
        assert_eq!(Notification::new(message::CEASE, cease::SHUTDOWN, data).words(), None, "{data:?}");
    }
    assert_eq!(Notification::new(6, 2, [2, 0xff, b'a']).words().as_deref(), Some("\u{fffd}a"));
}

fn capability() -> impl Strategy<Value = Capability> {
    use Capability as C;
    prop_oneof![
        (any::<u16>(), any::<u8>()).prop_map(|(afi, safi)| C::Multiprotocol { afi, safi }),
        Just(C::RouteRefresh),
        vec(any::<(u16, u16, u16)>(), 0..5).prop_map(C::ExtendedNextHop),
        Just(C::ExtendedMessage),
        any::<u8>().prop_map(C::Role),
        (any::<bool>(), any::<bool>(), 0..4096u16, vec(any::<(u16, u8, bool)>(), 0..64)).prop_map(
            |(restarting, notification, time, families)| {
                C::GracefulRestart { restarting, notification, time, families }
            }
        ),
        vec((any::<u16>(), any::<u8>(), 1..=3u8), 0..64).prop_map(C::AddPath),
        Just(C::EnhancedRefresh),
        vec((any::<u16>(), any::<u8>(), any::<bool>(), 0..1u32 << 24), 0..37).prop_map(C::LongLivedGracefulRestart),
        (128..=255u8, vec(any::<u8>(), 0..256)).prop_map(|(code, value)| C::Unknown { code, value }),
    ]
}

fn asn() -> impl Strategy<Value = u32> {
    prop_oneof![1..65536u32, 65536..=u32::MAX].prop_filter("AS_TRANS", |asn| *asn != 23456)
}

proptest! {
    #[test]
    fn an_open_comes_back_as_it_was(
        asn in asn(),
        hold_time in prop_oneof![Just(0u16), 3..=u16::MAX],
        router_id in 1..=u32::MAX,
        mut capabilities in vec(capability(), 0..12),
    ) {
        if asn > 65535 || asn % 2 == 0 {
            capabilities.push(Capability::FourOctetAs(asn));
        }
        let open = Open { version: 4, asn, hold_time, router_id: router_id.into(), capabilities };
        let bytes = open.to_bytes();
        let message = next(&bytes, false).unwrap().unwrap();
        prop_assert_eq!((message.kind, message.len), (Kind::Open, bytes.len()));
        prop_assert_eq!(Open::parse(message.body).unwrap(), open);
    }

    #[test]
    fn a_notification_comes_back_as_it_was(code: u8, subcode: u8, data in vec(any::<u8>(), 0..300)) {
        let notification = Notification { code, subcode, data };
        let mut bytes = Vec::new();
        notification.encode(&mut bytes);
        let message = next(&bytes, false).unwrap().unwrap();
        prop_assert_eq!(message.kind, Kind::Notification);
        prop_assert_eq!(Notification::parse(message.body).unwrap(), notification.clone());
        let hard = notification.clone().hard();
        prop_assert!(hard.is_hard_reset());
        prop_assert!(notification.is_hard_reset() || hard.inner() == Some(notification));
    }

    #[test]
    fn a_refresh_comes_back_as_it_was(afi: u16, safi: u8, subtype in 0..3usize) {
        let subtype = [Subtype::Normal, Subtype::Begin, Subtype::End][subtype];
        let refresh = RouteRefresh { afi, safi, subtype };
        let mut bytes = Vec::new();
        refresh.encode(&mut bytes);
        let message = next(&bytes, false).unwrap().unwrap();
        prop_assert_eq!(RouteRefresh::parse(message.body).unwrap(), Some(refresh));
    }

    #[test]
    fn random_bytes_are_refused_or_read_but_never_panic(
        kind: u8,
        extended: bool,
        body in vec(any::<u8>(), 0..400),
        good in any::<bool>(),
    ) {
        let length = body.len() as u16 + 19;
        if let Ok(Some(message)) = next(&wire(length, kind % 7, &body), extended) {
            prop_assert_eq!(message.body, &body);
        }
        let _ = next(&body, extended);
        let mut open = if good { open_with(&[body.len().min(255) as u8]) } else { Vec::new() };
        open.extend_from_slice(&body);
        if let Ok(open) = Open::parse(&open) {
            // What was read can be told, and read again.
            let again = Open::parse(&open.to_bytes()[HEADER..]).unwrap();
            prop_assert_eq!(again.capabilities.len(), open.capabilities.len());
            open.capabilities.iter().for_each(|capability| assert!(!capability.to_string().is_empty()));
        }
        if let Ok(notification) = Notification::parse(&body) {
            prop_assert!(!notification.to_string().chars().any(char::is_control));
        }
        let _ = RouteRefresh::parse(&body);
    }
}
