//! Two runtimes on one machine.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use tombolo_bfd::{Diagnostic, Event, Packet, State};

/// Two addresses of 127.0.0.0/8 that no other test has.
fn addresses() -> [IpAddr; 2] {
    let random = u32::from_be_bytes([127, random() | 1, random(), random() & 0xfc]);
    [1, 2].map(|n| Ipv4Addr::from(random + n).into())
}

fn states(events: &[Event]) -> Vec<State> {
    events.iter().map(|event| event.state).collect()
}

#[test]
fn two_runtimes_come_up_change_their_pace_and_part() {
    let [a, b] = addresses();
    for multihop in [false, true] {
        let (left, right) = (Side::new(Some(a)), Side::new(Some(b)));
        let (to_right, to_left) = (peer(b, Some(a), multihop), peer(a, Some(b), multihop));
        left.set(&[(to_right, timers(20, 3))]);
        right.set(&[(to_left, timers(20, 3))]);
        left.wait_for(State::Up);
        right.wait_for(State::Up);
        until("the agreed pace", || left.only().transmit_interval == Some(ms(20)));

        left.set(&[(to_right, timers(40, 5))]);
        until("the new pace, on both sides", || {
            left.only().transmit_interval == Some(ms(40)) && right.only().detection_time == Some(ms(200))
        });
        let status = left.only();
        assert_eq!((status.state, status.remote_state, status.diagnostic), (State::Up, State::Up, None));
        assert!(status.sent > 2 && status.received > 2 && status.problem.is_none(), "{status:?}");

        left.set(&[]);
        let down = right.wait_for(State::Down);
        assert_eq!((down.remote_state, down.diagnostic), (State::AdminDown, Diagnostic::NEIGHBOR_DOWN));
        assert_eq!(left.bfd.status().sessions, []);
        left.set(&[(to_right, timers(20, 3))]);
        right.wait_for(State::Up);
        left.wait_for(State::Up);
        drop(left);
        let down = right.wait_for(State::Down);
        assert_eq!(down.remote_state, State::AdminDown, "the end of a process is no failure of the path");
    }
}

#[test]
fn a_peer_without_a_route_or_an_own_address_is_down_and_said_so_in_words() {
    let [a, _] = addresses();
    let side = Side::new(Some(a));
    let unreachable = peer("127.0.0.1".parse().unwrap(), Some("192.0.2.77".parse().unwrap()), false);
    side.set(&[(unreachable, timers(20, 3))]);
    until("the problem", || side.only().problem.is_some());
    let status = side.only();
    assert_eq!((status.state, status.sent), (State::Down, 0));
    let words = status.problem.unwrap();
    assert!(words.contains("cannot send from 192.0.2.77 to 127.0.0.1: "), "{words}");

    let other = Side::new(Some(a));
    other.set(&[(peer("127.0.0.1".parse().unwrap(), None, false), timers(20, 3))]);
    until("the taken port", || other.only().problem.is_some_and(|words| words.contains("another BFD daemon")));
}

#[test]
fn strangers_are_counted_and_delay_nobody() {
    let [a, b] = addresses();
    let (left, right) = (Side::new(Some(a)), Side::new(Some(b)));
    left.set(&[(peer(b, Some(a), false), timers(50, 3))]);
    right.set(&[(peer(a, Some(b), false), timers(50, 3))]);
    left.wait_for(State::Up);
    right.wait_for(State::Up);

    let stop = Arc::new(AtomicBool::new(false));
    let bytes = hello(7).to_bytes();
    let flood = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let stranger = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
            while !stop.load(Ordering::Relaxed) {
                for _ in 0..64 {
                    let _ = stranger.send_to(&bytes, (a, PORT));
                }
                std::thread::yield_now();
            }
        })
    };
    let before = left.only().received;
    until("packets through the flood", || {
        left.only().received > before + 20 && left.bfd.status().dropped.unknown > 10_000
    });
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    assert_eq!(states(&left.events()), [], "the session stayed up");
    assert_eq!(states(&right.events()), []);
}

#[test]
fn packets_from_behind_a_router_are_dropped_and_those_with_a_password_refused() {
    let [a, b] = addresses();
    let side = Side::new(Some(a));
    side.set(&[(peer(b, None, false), timers(50, 3))]);
    until("the listener", || side.only().sent > 0);
    let other = UdpSocket::bind((b, 0)).unwrap();
    other.set_ttl(254).unwrap();
    other.send_to(&hello(7).to_bytes(), (a, PORT)).unwrap();
    until("the drop", || side.bfd.status().dropped.hops == 1);

    let mut password = hello(7).to_bytes().to_vec();
    password[1] |= 0x04;
    password[3] = 28;
    password.extend([1, 4, 1, b'x']);
    other.set_ttl(255).unwrap();
    other.send_to(&password, (a, PORT)).unwrap();
    until("the refusal", || side.bfd.status().dropped.refused == 1);
    let words = side.only().problem.unwrap();
    assert!(words.contains("simple password"), "{words}");
    assert_eq!((side.only().state, side.only().received), (State::Down, 0));

    other.send_to(&hello(7).to_bytes(), (a, PORT)).unwrap();
    assert_eq!(side.wait_for(State::Init).diagnostic, Diagnostic::NONE);
    assert_eq!(side.only().problem, None);
}

#[test]
fn the_other_address_family() {
    let here: IpAddr = "::1".parse().unwrap();
    let side = Side::new(Some(here));
    side.set(&[(peer(here, Some(here), false), timers(50, 3))]);
    // The peer is the session itself: its own packets come back, which is as good as any neighbour's.
    side.wait_for(State::Init);
    assert!(side.only().received > 0);
}

fn hello(my_discriminator: u32) -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state: State::Down,
        poll: false,
        final_: false,
        control_plane_independent: false,
        demand: false,
        multiplier: 3,
        my_discriminator,
        your_discriminator: 0,
        desired_min_tx: 1_000_000,
        required_min_rx: 50_000,
    }
}
