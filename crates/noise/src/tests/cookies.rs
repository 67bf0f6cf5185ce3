//! Devices under load.

use std::net::SocketAddr;

use crate::message::{COOKIE_REPLY, INITIATION};
use crate::tests::world::{Datagram, MS, SECOND, World};
use crate::{Event, Refused};

fn mac2(datagram: &Datagram) -> &[u8] {
    &datagram.bytes[datagram.bytes.len() - 16..]
}

#[test]
fn under_load_an_initiation_needs_a_cookie() {
    let mut world = World::pair();
    world.devices[1].under_load = true;
    world.initiate(0);
    world.run(SECOND);
    let lengths: Vec<usize> = world.log.iter().map(|(_, datagram)| datagram.bytes.len()).collect();
    assert_eq!(lengths, [INITIATION, COOKIE_REPLY]);
    assert_eq!(mac2(&world.last(0, 1)), [0; 16]);
    world.run(6 * SECOND);
    assert_ne!(mac2(&world.last(0, 1)), [0; 16], "the next has it");
    assert_eq!((world.sent(0, 1).len(), world.sent(1, 2).len()), (2, 1));
    assert!(world.devices.iter().all(|device| device.established == 1));
}

#[test]
fn under_load_a_response_needs_a_cookie() {
    let mut world = World::pair();
    world.devices[0].under_load = true;
    world.initiate(0);
    world.run(SECOND);
    assert_eq!((world.sent(1, 2).len(), world.sent(0, 3).len()), (1, 1));
    world.run(6 * SECOND);
    assert_ne!(mac2(&world.last(1, 2)), [0; 16]);
    assert_eq!(world.devices[0].established, 1);
}

#[test]
fn a_cookie_is_for_one_address() {
    let mut world = World::pair();
    world.devices[1].under_load = true;
    world.initiate(0);
    world.run(SECOND);
    world.cut();
    world.run(6 * SECOND);
    let (initiation, now) = (world.last(0, 1), world.now());
    assert_ne!(mac2(&initiation), [0; 16]);
    let engine = &mut world.devices[1].engine;
    for elsewhere in ["192.0.2.9:51820", "192.0.2.1:51821", "[2001:db8::1]:51820"] {
        let refused = engine.receive(&initiation.bytes, elsewhere.parse().unwrap(), true, now);
        assert_eq!(refused, Err(Refused::UnderLoad));
        let Some(Event::Reply { to, message }) = engine.poll() else { panic!("a cookie is sent") };
        assert_eq!((to, message.len()), (elsewhere.parse::<SocketAddr>().unwrap(), COOKIE_REPLY));
        assert!(engine.poll().is_none());
    }
    // A socket of both families writes the address in another way.
    let mapped = "[::ffff:192.0.2.1]:51820".parse().unwrap();
    assert_eq!(engine.receive(&initiation.bytes, mapped, true, now), Ok(()));
}

#[test]
fn a_cookie_gets_old() {
    let mut world = World::pair();
    world.devices[1].under_load = true;
    world.initiate(0);
    world.run(SECOND);
    world.cut();
    for _ in 0..14 {
        // Data keeps the attempts up.
        world.initiate(0);
        world.run(9 * SECOND);
    }
    let with_cookie = |world: &World, from, until| {
        let mut initiations = world.log.iter().filter(|(when, sent)| (from..until).contains(when) && sent.kind() == 1);
        initiations.next().map(|(_, sent)| mac2(sent) != [0; 16])
    };
    // It came at 40 ms.
    assert_eq!(with_cookie(&world, 105 * SECOND, 115 * SECOND), Some(true));
    assert_eq!(with_cookie(&world, 115 * SECOND + 40 * MS, 125 * SECOND), Some(false), "5 s before its giver does");
}

#[test]
fn the_giver_of_a_cookie_changes_its_mind_after_two_minutes() {
    let mut world = World::pair();
    world.devices[1].under_load = true;
    world.initiate(0);
    world.run(SECOND);
    world.cut();
    world.run(6 * SECOND);
    let initiation = world.last(0, 1);
    let engine = &mut world.devices[1].engine;
    let mut at = |since| engine.receive(&initiation.bytes, initiation.from, true, super::world::at(world.epoch, since));
    // The secret was made at 20 ms. This is no newer initiation then, but one with a cookie.
    assert_eq!(at(100 * SECOND), Ok(()));
    assert_eq!(at(120 * SECOND + 19 * MS), Err(Refused::Replayed));
    assert_eq!(at(120 * SECOND + 20 * MS), Err(Refused::UnderLoad));
}

#[test]
fn whoever_has_a_cookie_may_not_ask_too_often() {
    let mut world = World::pair();
    world.devices[1].under_load = true;
    world.initiate(0);
    world.run(SECOND);
    world.cut();
    world.run(6 * SECOND);
    let (initiation, now) = (world.last(0, 1), world.now());
    let engine = &mut world.devices[1].engine;
    let mut answers = (0..7).map(|_| engine.receive(&initiation.bytes, initiation.from, true, now));
    assert_eq!(answers.next(), Some(Ok(())));
    assert!(answers.by_ref().take(4).all(|answer| answer == Err(Refused::Replayed)));
    assert!(answers.all(|answer| answer == Err(Refused::RateLimited)));
}

#[test]
fn a_cookie_that_nobody_asked_for_is_refused() {
    let mut world = World::pair();
    world.devices[1].under_load = true;
    world.initiate(0);
    world.run(SECOND);
    let (cookie, now) = (world.last(1, 3), world.now());
    let again = world.devices[0].engine.receive(&cookie.bytes, cookie.from, false, now);
    assert_eq!(again, Err(Refused::Cookie), "one message gets one");
    world.run(6 * SECOND);
    let later = world.devices[0].engine.receive(&cookie.bytes, cookie.from, false, now);
    assert_eq!(later, Err(Refused::UnknownIndex), "that handshake is over");
}
