//! Data messages of a session.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::session::{Agreed, REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES, Session};
use crate::tests::world::{MS, SECOND, private};
use crate::{HEADER, OVERHEAD, OpenError, TAG, receiver_index};

/// The two ends of a session; the first is the initiator's.
fn ends(now: Instant) -> (Session, Session) {
    let end = |initiator| {
        let (one, other) = ([1; 32], [2; 32]);
        let (local_index, remote_index) = if initiator { (11, 22) } else { (22, 11) };
        let (sealing, opening) = if initiator { (one, other) } else { (other, one) };
        Session::new(Agreed { peer: private(3), local_index, remote_index, initiator, sealing, opening }, now)
    };
    (end(true), end(false))
}

fn sealed(session: &Session, counter: u64, packet: &[u8]) -> Vec<u8> {
    let mut buffer = [&[0; HEADER], packet, &[0; TAG]].concat();
    session.seal(counter, &mut buffer);
    buffer
}

#[test]
fn two_are_sealed_and_opened_as_one_after_the_other() {
    let (one, other) = ends(Instant::now());
    for lengths in [[0, 0], [1424, 1424], [1424, 80], [1280, 1424], [16, 2000]] {
        let packets = lengths.map(|length| vec![5; length]);
        let counters = [7, 9];
        let mut messages = packets.each_ref().map(|packet| [&[0; HEADER], &packet[..], &[0; TAG]].concat());
        let [first, second] = &mut messages;
        one.seal_two(counters, [first, second]);
        assert_eq!(messages, [0, 1].map(|index| sealed(&one, counters[index], &packets[index])));
        for (index, forged) in [(0, false), (0, true), (1, true)] {
            let mut messages = messages.clone();
            // The last byte is the tag's.
            *messages[index].last_mut().unwrap() ^= u8::from(forged);
            let [first, second] = &mut messages;
            let opened = other.open_two([first, second]);
            for (at, (opened, message)) in opened.into_iter().zip(&messages).enumerate() {
                match opened {
                    Ok(opened) => {
                        assert_eq!((opened.counter, &message[opened.plaintext]), (counters[at], &packets[at][..]));
                        assert!(!forged || at != index);
                    }
                    Err(error) => assert!(forged && at == index && error == OpenError::Forged),
                }
            }
        }
        // One that is not this session's does not take the other with it.
        let [mut first, mut second] = messages;
        first[4] ^= 1;
        let opened = other.open_two([&mut first, &mut second]);
        assert!(opened[0] == Err(OpenError::NotOurs) && opened[1].is_ok());
    }
}

#[test]
fn what_is_sealed_is_opened_by_the_other_end() {
    let (one, other) = ends(Instant::now());
    for (counter, length) in [(0, 0), (1, 16), (7, 1424), (REJECT_AFTER_MESSAGES - 1, 65520)] {
        let packet: Vec<u8> = (0..length).map(|i| i as u8).collect();
        let mut message = sealed(&one, counter, &packet);
        assert_eq!(receiver_index(&message), Some(22));
        assert_eq!(message.len(), length + OVERHEAD);
        assert!(length < 16 || message[HEADER..HEADER + 16] != packet[..16], "nobody can read it");
        assert_eq!(one.open(&mut message.clone()), Err(OpenError::NotOurs));
        let opened = other.open(&mut message).unwrap();
        assert_eq!((opened.counter, &message[opened.plaintext]), (counter, &packet[..]));
    }
}

#[test]
fn a_counter_beyond_the_limit_is_refused() {
    let (one, other) = ends(Instant::now());
    let mut message = sealed(&one, REJECT_AFTER_MESSAGES, b"");
    assert_eq!(other.open(&mut message), Err(OpenError::Counter));
}

#[test]
fn counters_are_given_once_each_to_any_thread() {
    let session = Arc::new(ends(Instant::now()).0);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let session = Arc::clone(&session);
            std::thread::spawn(move || (1..200).filter_map(|n| session.reserve(n)).flatten().collect::<Vec<_>>())
        })
        .collect();
    let mut counters: Vec<u64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    counters.sort();
    assert!(counters.iter().copied().eq(0..4 * 199 * 100), "all, and none twice");
}

#[test]
fn a_session_is_used_up_at_its_last_counter() {
    let now = Instant::now();
    let (session, _) = ends(now);
    session.skip_to(REKEY_AFTER_MESSAGES);
    assert!(!session.wants_rekey_after_send(now));
    assert_eq!(session.reserve(1), Some(REKEY_AFTER_MESSAGES..REKEY_AFTER_MESSAGES + 1));
    assert!(session.wants_rekey_after_send(now), "after 2^60 messages");
    session.skip_to(REJECT_AFTER_MESSAGES - 2);
    assert_eq!(session.reserve(3), None, "there are only two");
    assert!(session.may_send(now));
    assert_eq!(session.reserve(2), Some(REJECT_AFTER_MESSAGES - 2..REJECT_AFTER_MESSAGES));
    assert!(!session.may_send(now) && session.may_receive(now));
    assert_eq!(session.reserve(1), None);
    assert_eq!(session.reserve(u64::MAX), None);
}

#[test]
fn a_session_ages() {
    let now = Instant::now();
    let (initiator, responder) = ends(now);
    responder.confirm();
    let cases: [(Duration, bool, bool, bool); 5] = [
        (120 * SECOND - MS, false, false, true),
        (120 * SECOND, true, false, true),
        (165 * SECOND, true, true, true),
        (180 * SECOND - MS, true, true, true),
        (180 * SECOND, true, true, false),
    ];
    for (age, after_send, after_receive, good) in cases {
        let at = now + age;
        assert_eq!(initiator.wants_rekey_after_send(at), after_send, "{age:?}");
        assert_eq!(initiator.wants_rekey_after_receive(at), after_receive, "{age:?}");
        assert!(!responder.wants_rekey_after_send(at) && !responder.wants_rekey_after_receive(at));
        for session in [&initiator, &responder] {
            assert_eq!((session.may_send(at), session.may_receive(at)), (good, good), "{age:?}");
        }
    }
}

#[test]
fn no_key_is_in_a_log() {
    let (session, _) = ends(Instant::now());
    let text = format!("{session:?}");
    assert!(text.contains("local_index: 11") && !text.contains("ealing"), "{text}");
}
