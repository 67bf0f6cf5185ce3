#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

fn up() -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state: State::Up,
        poll: true,
        final_: false,
        control_plane_independent: false,
        demand: false,
        multiplier: 3,
        my_discriminator: 0x0102_0304,
        your_discriminator: 0x0506_0708,
        desired_min_tx: 50_000,
        required_min_rx: 100_000,
    }
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let state = prop_oneof![Just(State::AdminDown), Just(State::Down), Just(State::Init), Just(State::Up)];
    let flags = any::<[bool; 4]>();
    (0u8..32, state, flags, 1u8.., (1u32.., any::<u32>()), any::<(u32, u32)>()).prop_map(
        |(diagnostic, state, [poll, final_, control_plane_independent, demand], multiplier, numbers, intervals)| {
            let (my_discriminator, your_discriminator) = numbers;
            let (desired_min_tx, required_min_rx) = intervals;
            Packet {
                diagnostic: Diagnostic::from_bits(diagnostic),
                state: if your_discriminator == 0 { State::Down } else { state },
                poll,
                final_,
                control_plane_independent,
                demand,
                multiplier,
                my_discriminator,
                your_discriminator,
                desired_min_tx,
                required_min_rx,
            }
        },
    )
}

#[test]
fn a_packet_is_laid_out_as_in_the_rfc() {
    let bytes = [0x20, 0xe0, 3, 24, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0xc3, 0x50, 0, 1, 0x86, 0xa0, 0, 0, 0, 0];
    assert_eq!(up().to_bytes(), bytes);
    assert_eq!(Packet::parse(&bytes), Ok(up()));
}

#[test]
fn each_check_of_reception_refuses_with_its_reason() {
    let changed = |at: usize, to: u8| {
        let mut bytes = up().to_bytes();
        bytes[at] = to;
        Packet::parse(&bytes).unwrap_err()
    };
    assert_eq!(changed(0, 0x00), Refusal::Version(0));
    assert_eq!(changed(0, 0x40), Refusal::Version(2));
    assert_eq!(changed(3, 23), Refusal::Length { said: 23, got: 24 });
    assert_eq!(changed(3, 25), Refusal::Length { said: 25, got: 24 });
    assert_eq!(changed(2, 0), Refusal::Multiplier);
    assert_eq!(changed(1, 0xc1), Refusal::Multipoint);
    assert_eq!(Packet::parse(&up().to_bytes()[..23]), Err(Refusal::Short(23)));
    let parse = |packet: Packet| Packet::parse(&packet.to_bytes());
    assert_eq!(parse(Packet { my_discriminator: 0, ..up() }), Err(Refusal::MyDiscriminator));
    for state in [State::Init, State::Up] {
        assert_eq!(parse(Packet { your_discriminator: 0, state, ..up() }), Err(Refusal::Unanswered(state)));
    }
    for state in [State::AdminDown, State::Down] {
        assert!(parse(Packet { your_discriminator: 0, state, ..up() }).is_ok());
    }
    let mut longer = up().to_bytes().to_vec();
    longer.push(9);
    assert_eq!(Packet::parse(&longer), Ok(up()), "what follows the packet is not its own");
}

#[test]
fn authentication_is_refused_by_its_name() {
    let parse = |kind: u8, length: u8, octets: usize| {
        let mut bytes = up().to_bytes().to_vec();
        bytes[1] |= 0x04;
        bytes.resize(24 + octets, 0);
        bytes[3] = bytes.len() as u8;
        bytes[24..26].copy_from_slice(&[kind, length]);
        Packet::parse(&bytes).unwrap_err()
    };
    for (kind, length, name) in [
        (1, 4, "simple password"),
        (1, 19, "simple password"),
        (2, 24, "keyed MD5"),
        (3, 24, "meticulous keyed MD5"),
        (4, 28, "keyed SHA1"),
        (5, 28, "meticulous keyed SHA1"),
    ] {
        let words = parse(kind, length, length.into()).to_string();
        assert!(words.contains(&format!("({name}), which is not supported")), "{words}");
        let refusal = parse(kind, length, usize::from(length) + 1);
        assert_eq!(refusal, Refusal::MalformedAuthentication { kind, length });
    }
    assert_eq!(parse(6, 24, 24), Refusal::MalformedAuthentication { kind: 6, length: 24 });
    assert_eq!(parse(1, 20, 20), Refusal::MalformedAuthentication { kind: 1, length: 20 });
    let mut bytes = up().to_bytes();
    bytes[1] |= 0x04;
    assert_eq!(Packet::parse(&bytes), Err(Refusal::Length { said: 24, got: 24 }));
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was(packet in any_packet()) {
        prop_assert_eq!(Packet::parse(&packet.to_bytes()), Ok(packet));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        crate::fuzz(&bytes);
    }

    #[test]
    fn bytes_that_are_nearly_a_packet_are_read_or_refused(
        packet in any_packet(), length in 20u8..60, tail in proptest::collection::vec(any::<u8>(), 0..40),
        flips in proptest::collection::vec((0usize..24, any::<u8>()), 0..3),
    ) {
        let mut bytes = packet.to_bytes().to_vec();
        bytes.extend(tail);
        bytes[3] = length;
        for (at, mask) in flips {
            bytes[at] ^= mask;
        }
        crate::fuzz(&bytes);
    }
}
