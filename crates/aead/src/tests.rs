#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// What `ring` says, which knows nothing of us.
fn sealed_by_ring(key: &[u8; 32], counter: u64, text: &[u8]) -> Vec<u8> {
    let mut message = text.to_vec();
    let ring = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).unwrap());
    ring.seal_in_place_append_tag(nonce(counter), Aad::empty(), &mut message).unwrap();
    message
}

fn sealed(key: &Key, counter: u64, text: &[u8]) -> Vec<u8> {
    let mut message = text.to_vec();
    let tag = key.seal(counter, &mut message).unwrap();
    message.extend(tag);
    message
}

/// Texts on which carries go far: runs of ones and zeros, and anything.
fn text(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..length),
        (any::<u8>(), 0..length).prop_map(|(byte, length)| vec![byte; length]),
        (0..length).prop_map(|length| vec![0xff; length]),
    ]
}

#[test]
fn every_length_is_as_ring_has_it() {
    let bytes: [u8; 32] = std::array::from_fn(|index| index as u8 * 7 + 1);
    let key = Key::new(&bytes);
    for length in 0..4500_usize {
        let text: Vec<u8> = (0..length).map(|index| (index * index + length) as u8 ^ (index >> 3) as u8).collect();
        let counter = length as u64 * 0x0123_4567_89ab;
        let mut message = sealed(&key, counter, &text);
        assert_eq!(message, sealed_by_ring(&bytes, counter, &text), "{length}");
        assert_eq!(key.open(counter, &mut message), Ok(length));
        assert_eq!(message[..length], text);
    }
}

#[test]
fn every_length_of_two_is_as_ring_has_it() {
    let bytes = [3; 32];
    let key = Key::new(&bytes);
    for length in 0..1600_usize {
        let mut texts = [vec![length as u8; length], vec![!(length as u8); length.saturating_sub(length % 3)]];
        let counters = [length as u64, u64::MAX - length as u64];
        let expected = [0, 1].map(|index| sealed_by_ring(&bytes, counters[index], &texts[index]));
        let [one, other] = &mut texts;
        let tags = key.seal_two(counters, [one, other]).unwrap();
        assert_eq!([0, 1].map(|index| [&texts[index][..], &tags[index]].concat()), expected, "{length}");
    }
}

#[test]
fn the_fuzzer_s_question_is_answered() {
    for length in [0, 39, 40, 41, 400, 1464] {
        fuzz(&vec![0xa5; length]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn every_text_is_as_ring_has_it(bytes: [u8; 32], counter: u64, text in text(2000)) {
        let key = Key::new(&bytes);
        let mut message = sealed(&key, counter, &text);
        prop_assert_eq!(&message, &sealed_by_ring(&bytes, counter, &text));
        prop_assert_eq!(key.open(counter, &mut message), Ok(text.len()));
        prop_assert_eq!(&message[..text.len()], &text);
    }

    #[test]
    fn two_are_as_one_after_the_other(
        bytes: [u8; 32],
        counters: [u64; 2],
        one in text(1700),
        other in text(1700),
        like: bool,
        wrong in 0..4_u8,
    ) {
        let key = Key::new(&bytes);
        let other = if like { one.iter().map(|byte| byte ^ 0x5a).collect() } else { other };
        let expected = [sealed_by_ring(&bytes, counters[0], &one), sealed_by_ring(&bytes, counters[1], &other)];
        let mut texts = [one.clone(), other.clone()];
        let [first, second] = &mut texts;
        let tags = key.seal_two(counters, [first, second]).unwrap();
        let mut sealed = [0, 1].map(|index| [&texts[index][..], &tags[index]].concat());
        prop_assert_eq!(&sealed, &expected);
        // Either may be forged, and the other is opened all the same.
        for (index, message) in sealed.iter_mut().enumerate() {
            message[0] ^= wrong >> index & 1;
        }
        let [first, second] = &mut sealed;
        let opened = key.open_two(counters, [first, second]);
        for (index, text) in [one, other].iter().enumerate() {
            let is_wrong = wrong & 1 << index != 0;
            prop_assert_eq!(opened[index], if is_wrong { Err(Refused) } else { Ok(text.len()) });
            prop_assert!(is_wrong || sealed[index][..text.len()] == text[..]);
        }
    }

    #[test]
    fn no_bit_can_be_changed(bytes: [u8; 32], counter: u64, text in text(1600), bit: prop::sample::Index) {
        let key = Key::new(&bytes);
        let mut message = sealed(&key, counter, &text);
        let bit = bit.index(message.len() * 8);
        message[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(key.open(counter, &mut message), Err(Refused));
    }

    #[test]
    fn another_counter_does_not_open(bytes: [u8; 32], counter: u64, other: u64, text in text(1600)) {
        prop_assume!(counter != other);
        let key = Key::new(&bytes);
        prop_assert_eq!(key.open(other, &mut sealed(&key, counter, &text)), Err(Refused));
    }
}

#[cfg(target_arch = "x86_64")]
mod authenticator {
    use poly1305::Poly1305;
    use poly1305::universal_hash::KeyInit as _;

    use super::*;

    /// The padded text and the lengths, by another's Poly1305.
    fn expected(key: &[u8; 32], text: &[u8]) -> [u8; 16] {
        use poly1305::universal_hash::UniversalHash as _;
        let mut message = text.to_vec();
        message.resize(text.len().next_multiple_of(16), 0);
        message.extend(0_u64.to_le_bytes());
        message.extend((text.len() as u64).to_le_bytes());
        let mut poly1305 = Poly1305::new(key.into());
        poly1305.update_padded(&message);
        poly1305.finalize().into()
    }

    fn check(key: &[u8; 32], text: &[u8]) {
        if is_wide() {
            let expected = expected(key, text);
            assert_eq!(avx512::poly1305_tag(key, text), expected, "{key:?} {}", text.len());
            assert_eq!(avx512::poly1305_tags([key, key], [text, text]), [expected; 2], "{key:?} {}", text.len());
        }
    }

    /// Through the cipher no test could choose these.
    #[test]
    fn keys_and_texts_at_the_edges() {
        let bytes = [0, 1, 2, 5, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff];
        for r in bytes {
            for s in [0, 0xff] {
                let mut key = [r; 32];
                key[16..].fill(s);
                for byte in bytes {
                    for length in [0, 1, 16, 127, 128, 129, 256, 384, 1280, 1408, 1424, 2000] {
                        check(&key, &vec![byte; length]);
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn any_key_and_text(key: [u8; 32], text in text(2000)) {
            check(&key, &text);
        }

        #[test]
        fn small_factors(r in 0_u8..8, text in text(600)) {
            let mut key = [0; 32];
            key[0] = r;
            check(&key, &text);
        }
    }
}
