//! Each of the kernel's timers, with a clock of our own.

use std::time::Duration;

use crate::tests::world::{EMPTY, MS, SECOND, World};

const PACKET: &[u8] = b"0123456789abcdef";
const JITTER: Duration = Duration::from_millis(333);

/// Two devices with a session, 10 s ago; nothing is due but its end.
fn established(keepalive: Option<u16>) -> World {
    let mut world = World::pair_with(keepalive);
    world.initiate(0);
    world.run_until(10 * SECOND);
    world.log.clear();
    world
}

/// How long after the 10 s.
fn after(times: Vec<Duration>) -> Vec<Duration> {
    times.into_iter().map(|time| time - 10 * SECOND).collect()
}

fn within(time: Duration, from: Duration, jitter: Duration) -> bool {
    (from..=from + jitter).contains(&time)
}

#[test]
fn whoever_only_receives_says_after_ten_seconds_that_it_is_there() {
    let mut world = established(None);
    world.send(0, PACKET);
    world.run(5 * SECOND);
    world.send(0, PACKET);
    world.run(60 * SECOND);
    assert_eq!(after(world.sent(1, 4)), [10 * SECOND + 20 * MS], "10 s after the first packet, and once");
    assert_eq!(world.last(1, 4).bytes.len(), EMPTY);
    assert_eq!(world.devices[0].keepalives, 0, "a keepalive is not answered");
    assert_eq!(world.sent(0, 1).len() + world.sent(1, 1).len(), 0);
}

#[test]
fn whoever_answers_sends_no_keepalive() {
    let mut world = established(None);
    for _ in 0..10 {
        world.send(0, PACKET);
        world.run(9 * SECOND);
        world.send(1, PACKET);
    }
    assert_eq!(world.devices[0].keepalives + world.devices[1].keepalives, 0);
}

#[test]
fn data_without_an_answer_for_fifteen_seconds_begins_a_handshake() {
    let mut world = established(None);
    world.cut();
    for _ in 0..14 {
        world.send(0, PACKET);
        world.run(SECOND);
    }
    assert_eq!(world.sent(0, 1).len(), 0);
    world.run(2 * SECOND);
    let initiations = after(world.sent(0, 1));
    assert!(within(initiations[0], 15 * SECOND, JITTER), "{initiations:?}");
}

#[test]
fn an_answer_to_data_prevents_a_handshake() {
    let mut world = established(None);
    world.send(0, PACKET);
    world.run(8 * SECOND);
    world.send(1, PACKET);
    world.run(SECOND);
    world.cut();
    world.run(100 * SECOND);
    assert_eq!(world.sent(0, 1).len(), 0, "whoever has sent nothing since waits for nothing");
    let initiations = after(world.sent(1, 1));
    assert!(within(initiations[0], 23 * SECOND, JITTER), "the other does, since 8 s: {initiations:?}");
}

#[test]
fn an_initiation_is_repeated_every_five_seconds_for_ninety() {
    let mut world = World::pair();
    world.cut();
    world.send(0, PACKET);
    world.run(200 * SECOND);
    let initiations = world.sent(0, 1);
    assert_eq!(initiations.len(), 18);
    for pair in initiations.windows(2) {
        assert!(within(pair[1] - pair[0], 5 * SECOND, JITTER), "{pair:?}");
    }
    let jitters: Vec<Duration> = initiations.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(jitters.iter().any(|jitter| *jitter != jitters[0]), "they differ");
    assert_eq!(world.devices[0].gave_up, 1);
    let now = world.now().instant;
    assert_eq!(world.devices[0].engine.next_timeout(now), None, "then it is quiet");
    world.heal();
    world.send(0, b"second packet...");
    world.run(SECOND);
    assert_eq!(world.devices[1].received, [b"second packet..."], "what waited at first was dropped");
}

#[test]
fn each_initiation_is_a_new_one() {
    let mut world = World::pair();
    world.cut();
    world.initiate(0);
    world.run(60 * SECOND);
    let mut ephemeral: Vec<Vec<u8>> = world.log.iter().map(|(_, sent)| sent.bytes[4..40].to_vec()).collect();
    let sent = ephemeral.len();
    assert!(sent > 10);
    ephemeral.sort();
    ephemeral.dedup();
    assert_eq!(ephemeral.len(), sent);
}

#[test]
fn data_has_the_attempts_begin_anew() {
    let mut world = World::pair();
    world.cut();
    for _ in 0..20 {
        world.send(0, PACKET);
        world.run(10 * SECOND);
    }
    assert_eq!(world.devices[0].gave_up, 0);
    let initiations = world.sent(0, 1);
    assert!((36..=40).contains(&initiations.len()), "but no sooner: {}", initiations.len());
}

#[test]
fn a_session_is_replaced_by_its_initiator_when_it_sends_after_120_seconds() {
    let mut world = established(None);
    world.run_until(119 * SECOND);
    world.send(0, PACKET);
    world.run(SECOND);
    assert_eq!(world.sent(0, 1).len(), 0);
    // It came up at 40 ms.
    world.run_until(120 * SECOND + 40 * MS);
    world.send(1, PACKET);
    world.run(SECOND);
    assert_eq!(world.sent(0, 1).len() + world.sent(1, 1).len(), 0, "neither by its responder nor when it receives");
    world.send(0, PACKET);
    world.run(SECOND);
    assert_eq!(world.sent(0, 1).len(), 1);
    assert_eq!(world.devices[0].established, 2);
}

#[test]
fn a_session_is_replaced_by_its_initiator_when_it_receives_after_165_seconds() {
    let mut world = established(None);
    world.run_until(165 * SECOND);
    world.send(1, PACKET);
    world.run(30 * MS);
    assert_eq!(world.sent(0, 1).len(), 0);
    world.run(30 * MS);
    world.send(1, PACKET);
    world.run(SECOND);
    assert_eq!(world.sent(0, 1).len(), 1);
    assert_eq!(world.devices[1].established, 2);
}

#[test]
fn a_session_without_traffic_ends_after_180_seconds_and_leaves_silence() {
    let mut world = established(None);
    let now = world.now().instant;
    assert_eq!(world.devices[0].engine.next_timeout(now), Some(world.epoch + 180 * SECOND + 40 * MS));
    world.run_until(180 * SECOND);
    assert_eq!(world.devices[0].sessions.len(), 1);
    world.run(SECOND);
    for device in &world.devices {
        assert!(device.sessions.is_empty() && device.sending.is_empty());
        assert_eq!(device.engine.next_timeout(world.now().instant), None);
    }
    assert!(world.log.is_empty());
}

#[test]
fn a_persistent_keepalive_is_sent_at_once_and_then_in_silence() {
    let mut world = World::pair_with(Some(25));
    assert_eq!(world.sent(0, 1), [Duration::ZERO], "a session is needed for it");
    world.run_until(100 * SECOND);
    // The last message of the handshake was the keepalive at 40 ms.
    let sent = [40 * MS, 25 * SECOND + 40 * MS, 50 * SECOND + 40 * MS, 75 * SECOND + 40 * MS];
    assert_eq!(world.sent(0, 4), sent);
    assert_eq!(world.devices[1].keepalives, 0);
    world.send(0, PACKET);
    world.run(24 * SECOND);
    assert_eq!(world.sent(0, 4).len(), 5, "traffic puts it off: the other's keepalive came after 10 s");
    assert_eq!(world.devices[1].keepalives, 1);
}

#[test]
fn a_persistent_keepalive_keeps_a_session_up_for_ever() {
    let mut world = World::pair_with(Some(25));
    world.run(1000 * SECOND);
    assert!((7..=9).contains(&world.devices[0].established), "{}", world.devices[0].established);
    assert_eq!(world.devices[0].gave_up, 0);
    assert!(world.devices.iter().all(|device| device.sending.len() == 1));
}

#[test]
fn a_persistent_keepalive_finds_a_peer_that_was_away_for_hours() {
    let mut world = World::pair_with(Some(25));
    world.run(SECOND);
    world.cut();
    world.run(3 * 3600 * SECOND);
    assert!(world.devices[0].gave_up > 50, "{}", world.devices[0].gave_up);
    assert_eq!(world.devices[0].sessions.len(), 0);
    world.heal();
    let healed = world.since;
    world.run(31 * SECOND);
    assert!(world.sent(1, 2).last().is_some_and(|sent| *sent > healed));
    assert_eq!(world.devices[0].sending.len(), 1);
}

#[test]
fn a_persistent_keepalive_that_is_set_later_is_sent_at_once() {
    let mut world = established(None);
    let (now, (_, two)) = (world.now(), world.keys(0));
    let device = &mut world.devices[0];
    device.engine.set_persistent_keepalive(&two, Some(0), now);
    assert!(device.engine.poll().is_none());
    device.engine.set_persistent_keepalive(&two, Some(60), now);
    device.poll(now);
    assert_eq!(device.keepalives, 1);
    device.engine.set_persistent_keepalive(&two, Some(30), now);
    device.poll(now);
    assert_eq!(device.keepalives, 1, "it was there already");
    assert_eq!(device.engine.next_timeout(now.instant), Some(now.instant + 30 * SECOND));
    world.run(70 * SECOND);
    assert_eq!(world.devices[0].keepalives, 3);
    let (now, device) = (world.now(), &mut world.devices[0]);
    device.engine.set_persistent_keepalive(&two, None, now);
    world.run(100 * SECOND);
    assert_eq!(world.devices[0].keepalives, 3);
}

#[test]
fn a_device_without_a_key_greets_its_peers_when_it_gets_one() {
    let mut world = World::pair();
    let (now, (_, two)) = (world.now(), world.keys(0));
    let engine = &mut world.devices[0].engine;
    engine.set_private_key(None, now);
    engine.set_persistent_keepalive(&two, Some(25), now);
    assert!(engine.poll().is_none());
    engine.set_private_key(Some(crate::tests::world::private(1)), now);
    world.devices[0].poll(now);
    assert_eq!(world.devices[0].sent().len(), 1);
}

#[test]
fn whoever_has_just_answered_waits_with_its_own_initiation() {
    let mut world = World::pair();
    world.initiate(0);
    world.run(30 * MS);
    // The response gets lost.
    world.cut();
    world.send(1, PACKET);
    assert_eq!(world.sent(1, 1).len(), 0);
    let (_, two) = world.keys(0);
    world.devices[0].engine.remove_peer(&two);
    world.run(10 * SECOND);
    let initiations = world.sent(1, 1);
    assert!(within(initiations[0], 5 * SECOND + 20 * MS, JITTER), "then it is its turn: {initiations:?}");
}

#[test]
fn what_is_due_is_done_when_it_is_due() {
    // The world asserts after each step that nothing that was due is still due.
    let mut world = World::pair_with(Some(1));
    for step in 0..300u32 {
        world.send((step % 2) as usize, PACKET);
        if step == 100 {
            world.cut();
        }
        if step == 250 {
            world.heal();
        }
        world.run(Duration::from_millis(u64::from(step * 37 % 3000)));
    }
    assert!(world.devices.iter().all(|device| device.sending.len() == 1));
}
