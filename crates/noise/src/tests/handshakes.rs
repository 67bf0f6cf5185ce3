//! Handshakes between two engines.

use std::net::SocketAddr;

use crate::message::{INITIATION, RESPONSE};
use crate::tests::world::{Device, EMPTY, MS, SECOND, World, at, private};
use crate::{Event, Refused};

fn numbered(number: u32) -> Vec<u8> {
    [number.to_be_bytes(); 4].concat()
}

#[test]
fn what_waits_for_a_session_is_sent_with_it() {
    let mut world = World::pair();
    for number in 0..3 {
        world.send(0, &numbered(number));
    }
    world.run(SECOND);
    assert_eq!(world.devices[1].received, [numbered(0), numbered(1), numbered(2)]);
    let lengths: Vec<usize> = world.log.iter().map(|(_, datagram)| datagram.bytes.len()).collect();
    assert_eq!(lengths, [INITIATION, RESPONSE, EMPTY + 16, EMPTY + 16, EMPTY + 16], "the data confirms the session");
    world.send(1, &numbered(9));
    world.run(SECOND);
    assert_eq!(world.devices[0].received, [numbered(9)]);
    assert_eq!(world.devices[0].established + world.devices[1].established, 2, "one handshake does for both ways");
}

#[test]
fn without_data_a_keepalive_confirms_the_session() {
    let mut world = World::pair();
    world.initiate(0);
    world.run(SECOND);
    let lengths: Vec<usize> = world.log.iter().map(|(_, datagram)| datagram.bytes.len()).collect();
    assert_eq!(lengths, [INITIATION, RESPONSE, EMPTY]);
    let (one, two) = world.keys(0);
    assert!(world.devices[0].sending[&two].is_initiator());
    assert!(!world.devices[1].sending[&one].is_initiator());
}

#[test]
fn a_responder_does_not_send_before_it_has_received() {
    let mut world = World::pair();
    world.initiate(0);
    world.run(30 * MS);
    let (one, _) = world.keys(0);
    assert_eq!(world.devices[1].established, 1);
    assert!(!world.devices[1].sending.contains_key(&one));
    let session = world.devices[1].sessions.values().next().unwrap().clone();
    assert!(!session.is_confirmed() && !session.may_send(world.now().instant));
    assert!(session.may_receive(world.now().instant));
    world.send(1, &numbered(1));
    assert_eq!(world.sent(1, 4).len(), 0);
    world.run(SECOND);
    assert!(session.is_confirmed() && session.may_send(world.now().instant));
    assert_eq!(world.devices[0].received, [numbered(1)]);
    assert_eq!(world.sent(1, 1).len(), 0, "no second handshake was wanted");
}

#[test]
fn a_session_that_was_not_confirmed_outlives_the_next_initiation() {
    let mut world = World::pair();
    world.initiate(0);
    world.run(30 * MS);
    // The response arrives; what would confirm the session does not, nor does the response to the next initiation.
    world.fate = Box::new(|datagram| if datagram.kind() == 1 { vec![20 * MS] } else { Vec::new() });
    world.run(6 * SECOND);
    world.initiate(0);
    world.run(SECOND);
    assert_eq!((world.devices[0].established, world.devices[1].established), (1, 2));
    world.heal();
    world.send(0, &numbered(1));
    world.run(30 * MS);
    world.send(1, &numbered(2));
    world.run(30 * MS);
    assert_eq!(world.devices[1].received, [numbered(1)]);
    assert_eq!(world.devices[0].received, [numbered(2)], "it is the only one that both have, and is used");
    world.run(10 * SECOND);
    let (one, two) = world.keys(0);
    let ends = [world.devices[0].sending[&two].created(), world.devices[1].sending[&one].created()];
    assert!(ends.iter().all(|created| *created > world.epoch + 6 * SECOND), "until the next comes up");
}

#[test]
fn the_time_of_the_last_handshake_stays() {
    let mut world = World::pair();
    let (one, two) = world.keys(0);
    assert_eq!(world.devices[0].engine.last_handshake(&two), None);
    world.initiate(0);
    world.run(SECOND);
    assert_eq!(world.devices[0].engine.last_handshake(&two), Some(at(world.epoch, 40 * MS).wall));
    assert_eq!(world.devices[1].engine.last_handshake(&one), Some(at(world.epoch, 60 * MS).wall));
    world.run(600 * SECOND);
    assert!(world.devices.iter().all(|device| device.sessions.is_empty()));
    assert_eq!(world.devices[0].engine.last_handshake(&two), Some(at(world.epoch, 40 * MS).wall));
}

#[test]
fn rekeying_loses_nothing_while_both_send() {
    let mut world = World::pair();
    for number in 0..10_000 {
        world.send(0, &numbered(number));
        world.send(1, &numbered(number));
        world.run(50 * MS);
    }
    world.run(SECOND);
    let all: Vec<Vec<u8>> = (0..10_000).map(numbered).collect();
    for device in &world.devices {
        assert!(device.received == all, "all is received, in order");
        assert!((5..=7).contains(&device.established), "{} sessions in 500 s", device.established);
        assert!(device.sessions.len() <= 3);
    }
}

#[test]
fn rekeying_loses_nothing_where_only_one_sends() {
    for sender in [0, 1] {
        let mut world = World::pair();
        // The receiver is the initiator once.
        world.initiate(0);
        world.run(SECOND);
        for number in 0..5000 {
            world.send(sender, &numbered(number));
            world.run(100 * MS);
        }
        world.run(SECOND);
        let all: Vec<Vec<u8>> = (0..5000).map(numbered).collect();
        assert!(world.devices[1 - sender].received == all, "all is received, in order");
    }
}

#[test]
fn both_may_begin_at_once() {
    let mut world = World::pair();
    world.send(0, &numbered(0));
    world.send(1, &numbered(0));
    for number in 1..10_000 {
        world.run(50 * MS);
        world.send(0, &numbered(number));
        world.send(1, &numbered(number));
    }
    world.run(SECOND);
    let all: Vec<Vec<u8>> = (0..10_000).map(numbered).collect();
    for device in &world.devices {
        assert!(device.received == all, "all is received, in order");
        assert!(device.established <= 8, "only the first handshake was a double one: {}", device.established);
    }
}

#[test]
fn a_peer_that_roams_is_answered_where_it_is() {
    let mut world = World::pair();
    let (one, _) = world.keys(0);
    let away: SocketAddr = "[2001:db8::7]:4711".parse().unwrap();
    world.devices[0].address = away;
    world.initiate(0);
    world.run(SECOND);
    assert_eq!(world.devices[1].endpoints[&one], away);
    assert_eq!(world.last(1, 2).to, away);
    world.send(1, &numbered(1));
    world.run(SECOND);
    assert_eq!(world.devices[0].received, [numbered(1)]);
}

#[test]
fn a_repeated_initiation_is_refused_also_after_the_session() {
    let mut world = World::pair();
    world.initiate(0);
    world.run(SECOND);
    let initiation = world.last(0, 1);
    for wait in [SECOND, 100 * SECOND, 700 * SECOND] {
        world.run(wait);
        let now = world.now();
        let away = "198.51.100.1:1".parse().unwrap();
        let refused = world.devices[1].engine.receive(&initiation.bytes, away, false, now);
        assert_eq!(refused, Err(Refused::Replayed));
        assert!(world.devices[1].engine.poll().is_none(), "there is no answer, and no roaming");
    }
}

#[test]
fn a_response_is_good_for_one_handshake() {
    let mut world = World::pair();
    world.initiate(0);
    world.run(SECOND);
    let response = world.last(1, 2);
    let now = world.now();
    let refused = world.devices[0].engine.receive(&response.bytes, response.from, false, now);
    assert_eq!(refused, Err(Refused::UnknownIndex));
}

#[test]
fn initiations_are_taken_fifty_times_a_second_at_most() {
    let mut world = World::pair();
    world.cut();
    let initiation = |world: &mut World, wait| {
        world.run(wait);
        world.initiate(0);
        world.last(0, 1)
    };
    let first = initiation(&mut world, MS);
    let second = initiation(&mut world, 6 * SECOND);
    let third = initiation(&mut world, 6 * SECOND);
    assert!(first != second && second != third);
    let engine = &mut world.devices[1].engine;
    let mut take = |datagram: &crate::tests::world::Datagram, since| {
        engine.receive(&datagram.bytes, datagram.from, false, at(world.epoch, since))
    };
    assert_eq!(take(&first, 100 * SECOND), Ok(()));
    assert_eq!(take(&second, 100 * SECOND + 19 * MS), Err(Refused::TooOften));
    assert_eq!(take(&third, 100 * SECOND + 20 * MS), Ok(()));
    assert_eq!(take(&second, 100 * SECOND + 40 * MS), Err(Refused::Replayed), "the third is newer");
}

#[test]
fn a_stranger_gets_no_answer() {
    let mut world = World::pair();
    let now = world.now();
    let mut stranger = Device::new(3, now);
    let (one, two) = (world.devices[0].key, world.devices[1].key);
    stranger.add(two, Some(world.devices[1].address), None, now);
    stranger.initiate(&two, now);
    let initiation = stranger.sent().remove(0);
    let refused = world.devices[1].engine.receive(&initiation.bytes, initiation.from, false, now);
    assert_eq!(refused, Err(Refused::UnknownPeer));
    assert!(world.devices[1].engine.poll().is_none());
    let refused = world.devices[0].engine.receive(&initiation.bytes, initiation.from, false, now);
    assert_eq!(refused, Err(Refused::Mac1), "it is for somebody else");
    world.devices[1].engine.set_private_key(None, now);
    let refused = world.devices[1].engine.receive(&initiation.bytes, initiation.from, false, now);
    assert_eq!(refused, Err(Refused::NoIdentity));
    world.devices[1].engine.initiate(&one, now);
    assert!(world.devices[1].engine.poll().is_none(), "who has no key has nothing to say");
}

#[test]
fn a_peer_whose_key_is_of_low_order_is_no_peer() {
    // RFC 7748, section 6.1: with these, the shared secret is zero whatever the other key is.
    let mut points = vec![[0; 32]; 2];
    points[1][0] = 1;
    for point in points {
        let mut world = World::pair();
        let (now, bad) = (world.now(), tombolo_net::wireguard::Key(point));
        let engine = &mut world.devices[0].engine;
        engine.add_peer(bad, None, None, now);
        engine.initiate(&bad, now);
        assert!(matches!(engine.poll(), Some(Event::GaveUp { peer }) if peer == bad));
        assert!(engine.poll().is_none());
        assert_eq!(engine.next_timeout(now.instant), None, "and it is not tried again");
    }
}

#[test]
fn both_ends_need_the_same_preshared_key() {
    let mut world = World::pair();
    let (one, two) = world.keys(0);
    let preshared = Some(private(77));
    world.devices[0].engine.set_preshared_key(&two, preshared);
    world.send(0, &numbered(1));
    world.run(4 * SECOND);
    let now = world.now();
    let response = world.last(1, 2);
    let refused = world.devices[0].engine.receive(&response.bytes, response.from, false, now);
    assert_eq!(refused, Err(Refused::Handshake));
    assert!(world.devices[1].received.is_empty());
    world.devices[1].engine.set_preshared_key(&one, preshared);
    world.run(4 * SECOND);
    assert_eq!(world.devices[1].received, [numbered(1)], "the next initiation does it");
}

#[test]
fn a_new_private_key_ends_the_sessions() {
    let mut world = World::pair();
    world.initiate(0);
    world.run(SECOND);
    let (now, two) = (world.now(), world.devices[1].key);
    let session = world.devices[0].sending[&two].clone();
    world.devices[0].engine.set_private_key(Some(private(1)), now);
    assert!(session.may_send(now.instant), "it is the one it had");
    world.devices[0].engine.set_private_key(Some(private(9)), now);
    world.devices[0].poll(now);
    assert!(world.devices[0].sessions.is_empty() && world.devices[0].sending.is_empty());
    assert!(!session.may_send(now.instant) && !session.may_receive(now.instant), "also for who still holds it");
    let nine = crate::handshake::public(&private(9));
    world.devices[1].add(nine, None, None, now);
    world.send(0, &numbered(1));
    world.run(SECOND);
    assert_eq!(world.devices[1].received, [numbered(1)], "at once, as this device has sent no initiation yet");
}

#[test]
fn a_peer_that_was_removed_is_a_stranger() {
    let mut world = World::pair();
    world.initiate(0);
    world.run(SECOND);
    let (one, _) = world.keys(0);
    let now = world.now();
    world.devices[1].engine.remove_peer(&one);
    world.devices[1].poll(now);
    assert!(world.devices[1].sessions.is_empty());
    assert_eq!(world.devices[1].engine.next_timeout(now.instant), None);
    world.run(6 * SECOND);
    world.initiate(0);
    let (initiation, now) = (world.last(0, 1), world.now());
    let refused = world.devices[1].engine.receive(&initiation.bytes, initiation.from, false, now);
    assert_eq!(refused, Err(Refused::UnknownPeer));
}
