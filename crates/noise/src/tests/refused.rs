//! What is wrong changes nothing.

use proptest::prelude::*;

use crate::tests::world::{MS, SECOND, World};
use crate::{Engine, OpenError, Refused, fuzz};

/// The engine refuses the message, says nothing, and has nothing more to do than before.
fn refuses(engine: &mut Engine, bytes: &[u8], under_load: bool, world_now: crate::Now) -> Refused {
    let before = engine.next_timeout(world_now.instant);
    let refused = engine.receive(bytes, "198.51.100.1:1".parse().unwrap(), under_load, world_now).unwrap_err();
    if refused != Refused::UnderLoad {
        assert!(engine.poll().is_none());
    }
    while engine.poll().is_some() {}
    assert_eq!(engine.next_timeout(world_now.instant), before);
    refused
}

fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8 % bytes.len()] ^= 1 << (bit % 8);
    flipped
}

#[test]
fn no_bit_of_a_handshake_message_may_be_flipped() {
    let mut world = World::pair();
    world.initiate(0);
    let (initiation, now) = (world.last(0, 1), world.now());
    for bit in 0..initiation.bytes.len() * 8 {
        // The second code counts under load only.
        let under_load = bit >= 132 * 8;
        refuses(&mut world.devices[1].engine, &flip(&initiation.bytes, bit), under_load, now);
    }
    world.run(30 * MS);
    let (response, now) = (world.last(1, 2), world.now());
    for bit in 0..response.bytes.len() * 8 {
        let under_load = bit >= 76 * 8;
        refuses(&mut world.devices[0].engine, &flip(&response.bytes, bit), under_load, now);
    }
    world.run(SECOND);
    assert!(world.devices.iter().all(|device| device.established == 1), "what was not flipped was taken");
    assert_eq!((world.sent(0, 1).len(), world.sent(1, 2).len()), (1, 1), "at the first attempt");
}

#[test]
fn no_bit_of_a_cookie_may_be_flipped() {
    let mut world = World::pair();
    world.devices[1].under_load = true;
    world.initiate(0);
    world.run(30 * MS);
    let (cookie, now) = (world.last(1, 3), world.now());
    for bit in 0..cookie.bytes.len() * 8 {
        refuses(&mut world.devices[0].engine, &flip(&cookie.bytes, bit), false, now);
    }
    world.run(10 * SECOND);
    assert!(world.devices.iter().all(|device| device.established == 1));
}

#[test]
fn a_message_cut_short_is_none() {
    let mut world = World::pair();
    world.initiate(0);
    let (initiation, now) = (world.last(0, 1), world.now());
    for length in 0..initiation.bytes.len() {
        let refused = refuses(&mut world.devices[1].engine, &initiation.bytes[..length], false, now);
        assert_eq!(refused, Refused::Malformed);
    }
    world.run(SECOND);
    world.send(0, b"0123456789abcdef");
    let data = world.last(0, 4);
    assert_eq!(
        refuses(&mut world.devices[1].engine, &data.bytes, false, now),
        Refused::Malformed,
        "data is not for it"
    );
    let session = world.devices[1].sessions.values().next().unwrap().clone();
    for length in 0..data.bytes.len() {
        let opened = session.open(&mut data.bytes[..length].to_vec());
        let expected = if length < crate::OVERHEAD { OpenError::NotOurs } else { OpenError::Forged };
        assert_eq!(opened, Err(expected), "{length} bytes");
    }
}

#[test]
fn no_bit_of_a_data_message_may_be_flipped() {
    let mut world = World::pair();
    world.initiate(0);
    world.run(SECOND);
    world.send(0, b"0123456789abcdef");
    let data = world.last(0, 4);
    let session = world.devices[1].sessions.values().next().unwrap().clone();
    for bit in 0..data.bytes.len() * 8 {
        assert!(session.open(&mut flip(&data.bytes, bit)).is_err(), "bit {bit}");
    }
    let opened = session.open(&mut data.bytes.clone()).unwrap();
    assert!(session.window().accept(opened.counter));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_comes_of_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        fuzz(&bytes);
    }

    #[test]
    fn nothing_comes_of_what_is_nearly_a_message(
        way in 0u8..5, under_load: bool, kind in 1u8..5, length in prop::sample::select(vec![148usize, 92, 64, 80]),
        tail in proptest::collection::vec(any::<u8>(), 148), changes in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let way = way | u8::from(under_load) << 7;
        fuzz(&[&[way][..], &changes].concat());
        fuzz(&[&[way, kind, 0, 0, 0][..], &tail[..length - 4]].concat());
    }
}

/// The seeds of the fuzz target, so that they stay good for something.
#[test]
fn nothing_comes_of_the_seeds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/noise_message");
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        fuzz(&std::fs::read(entry.unwrap().path()).unwrap());
        seeds += 1;
    }
    assert!(seeds >= 5, "a seed for each way");
}
