#![allow(clippy::unwrap_used)]

mod pair;
mod random;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use pair::{Pair, local, neighbor, options};

use super::*;
use crate::config::{AddPath, MaxPrefixes, Neighbor};
use crate::wire::notification::{cease, message, open as subcode};
use crate::wire::{Capability, HEADER, Notification, Open, Subtype};

const SECOND: Duration = Duration::from_secs(1);

fn words(session: &Session) -> String {
    session.last_error().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn two_sides_agree_on_what_both_have() {
    let mut pair = Pair::new([1, 2], |side, _, neighbor| {
        neighbor.families = vec![Family::Ipv4, Family::Ipv6];
        neighbor.hold_time = [90, 30][side] * SECOND;
        neighbor.add_path = [AddPath { receive: true, send: 0 }, AddPath { receive: true, send: 4 }][side];
        neighbor.passive = side == 1;
    });
    pair.start();
    let [a, b] = pair.negotiated();
    assert_eq!(a.hold_time, 30 * SECOND);
    assert_eq!(b.hold_time, 30 * SECOND);
    assert_eq!(a.families, [Family::Ipv4, Family::Ipv6]);
    assert_eq!((a.kind, a.direction, b.direction), (PeerKind::Internal, Direction::Outgoing, Direction::Incoming));
    assert!(a.four_octet && a.extended && a.refresh && a.enhanced_refresh);
    assert_eq!(a.add_path_receive, [Family::Ipv4, Family::Ipv6]);
    assert_eq!((a.add_path_send.len(), b.add_path_receive.len()), (0, 0));
    assert_eq!(b.add_path_send, a.add_path_receive);
    let graceful = a.graceful.unwrap();
    assert!(graceful.notification && !graceful.restarting);
    assert_eq!(graceful.families, [(Family::Ipv4, true), (Family::Ipv6, true)]);
    assert_eq!(a.long_lived, [(Family::Ipv4, true, 3600 * SECOND), (Family::Ipv6, true, 3600 * SECOND)]);
    assert_eq!(pair.sides[0].messages_sent().of(Kind::Open), 1);
    assert_eq!(pair.sides[0].remote_capabilities(), pair.sides[1].local_capabilities());
}

#[test]
fn keepalives_hold_a_session_and_silence_ends_it_with_its_routes_kept() {
    let mut pair = Pair::new([1, 2], |_, _, _| {});
    pair.start();
    pair.run(3600 * SECOND);
    assert_eq!(pair.ups, [1, 1]);
    assert!(pair.sides[0].messages_sent().of(Kind::Keepalive) > 100);
    pair.cut = true;
    pair.run(91 * SECOND);
    assert_eq!(pair.downs.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    for down in pair.downs.iter().flatten() {
        assert!(down.keeps_routes);
        assert_eq!(down.why.to_string(), "nothing was heard from the neighbour for the hold time (Hold Timer Expired)");
    }
    pair.cut = false;
    pair.run(60 * SECOND);
    assert_eq!(pair.ups, [2, 2]);
}

#[test]
fn without_hold_time_silence_is_no_end() {
    let mut pair = Pair::new([1, 2], |side, _, neighbor| neighbor.hold_time = [0, 90][side] * SECOND);
    pair.start();
    pair.cut = true;
    pair.run(100_000 * SECOND);
    assert!(pair.established());
    assert_eq!(pair.sides.each_ref().map(Session::deadline), [None, None]);
}

#[test]
fn of_two_connections_that_of_the_greater_router_id_stays_in_whatever_order_messages_come() {
    for ids in [[1, 2], [2, 1], [1, 200], [200, 1]] {
        for order in 0..4096u64 {
            let mut pair = Pair::new(ids, |_, _, _| {});
            // Spread, so that late choices differ, too.
            pair.start_in_order(order.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert!(pair.established(), "IDs {ids:?}, order {order}");
            assert!(pair.downs.iter().all(Vec::is_empty), "IDs {ids:?}, order {order}: {:?}", pair.downs);
            assert_eq!(pair.sides[0].connection(), pair.sides[1].connection(), "IDs {ids:?}, order {order}");
            assert_eq!(pair.open_connections(), 1, "IDs {ids:?}, order {order}");
        }
    }
    // With both OPENs under way at once, it is the router ID that decides.
    for (ids, winner) in [([1, 2], 1), ([2, 1], 0)] {
        let mut pair = Pair::new(ids, |_, _, _| {});
        pair.start_at_once();
        let directions = pair.negotiated().map(|n| n.direction);
        assert_eq!(directions[winner], Direction::Outgoing, "IDs {ids:?}");
        assert_eq!(directions[1 - winner], Direction::Incoming, "IDs {ids:?}");
    }
}

#[test]
fn external_neighbours_with_one_router_id_go_by_as_number() {
    let mut pair = Pair::new([7, 7], |side, local, neighbor| {
        local.asn = 65001 + side as u32;
        neighbor.remote_asn = None;
    });
    pair.start_at_once();
    assert_eq!(pair.negotiated().map(|n| n.direction), [Direction::Incoming, Direction::Outgoing]);
    assert_eq!(pair.negotiated().map(|n| n.remote_asn), [65002, 65001]);
}

#[test]
fn a_second_connection_does_not_disturb_an_established_session() {
    let mut pair = Pair::new([1, 2], |_, local, _| local.graceful_restart = None);
    pair.start();
    let mut out = Vec::new();
    for (id, direction) in [(900, Direction::Incoming), (901, Direction::Outgoing)] {
        pair.sides[0].connected(pair.now, ConnId(id), direction, &mut out);
        assert_eq!(pair::notification(&out).unwrap(), Notification::cease(cease::COLLISION));
        assert_eq!(out.pop(), Some(Action::Close(ConnId(id))));
        out.clear();
    }
    assert!(pair.established());
}

#[test]
fn a_neighbour_that_restarted_and_comes_again_takes_over_with_routes_kept() {
    let mut pair = Pair::new([1, 2], |_, _, _| {});
    pair.start();
    pair.run(10 * SECOND);
    let old = pair.sides[0].connection().unwrap();
    let (open, mut out) = (own_open_of(&pair, 1), Vec::new());
    pair.sides[0].connected(pair.now, ConnId(900), Direction::Incoming, &mut out);
    assert_eq!(out, []);
    pair.sides[0].message(pair.now, ConnId(900), Kind::Open, &open[HEADER..], &mut out);
    assert_eq!(out[0], Action::Close(old));
    let Action::Down(down) = &out[1] else { panic!("{out:?}") };
    assert!(down.keeps_routes && down.why == Reason::Restarted);
    assert!(pair::notification(&out).is_none());
    pair.sides[0].message(pair.now, ConnId(900), Kind::Keepalive, &[], &mut out);
    assert_eq!(pair.sides[0].connection(), Some(ConnId(900)));
}

fn own_open_of(pair: &Pair, side: usize) -> Vec<u8> {
    Open {
        version: 4,
        asn: 64512,
        hold_time: 90,
        router_id: pair.ids[side],
        capabilities: pair.sides[side].local_capabilities(),
    }
    .to_bytes()
}

/// Sets two sides up, and returns what each says of the failure.
fn refused(ids: [u8; 2], set: impl Fn(usize, &mut Local, &mut Neighbor)) -> [String; 2] {
    let mut pair = Pair::new(ids, |side, local, neighbor| {
        neighbor.passive = side == 1;
        set(side, local, neighbor);
    });
    pair.start();
    assert!(!pair.established());
    [words(&pair.sides[0]), words(&pair.sides[1])]
}

#[test]
fn what_does_not_fit_is_said_in_words() {
    use Role::{Customer, Peer, Provider, RouteServer};
    let [here, _] = refused([1, 2], |side, local, neighbor| {
        local.asn = [64512, 65001][side];
        neighbor.remote_asn = [Some(64512), None][side];
    });
    assert_eq!(
        here,
        "the neighbour says it is AS 65001, 64512 was expected; correct one of the two (peer-router-asns / node.asn) \
         (Open Message Error, Bad Peer AS)"
    );
    let [_, there] = refused([1, 2], |side, local, neighbor| {
        local.asn = [64512, 65001][side];
        neighbor.remote_asn = [Some(64512), None][side];
    });
    assert_eq!(there, "the neighbour refused our AS number (Open Message Error, Bad Peer AS)");
    let same = refused([9, 9], |_, _, _| {});
    assert!(same.iter().any(|w| w.contains("our own router ID, 10.0.0.9")), "{same:?}");
    let families = refused([1, 2], |side, _, neighbor| neighbor.families = vec![Family::ALL[side]]);
    assert!(families.iter().any(|w| w.contains("no address family in common")), "{families:?}");
    let external = |roles: [Option<Role>; 2], strict: bool| {
        move |side: usize, local: &mut Local, neighbor: &mut Neighbor| {
            local.asn = 65001 + side as u32;
            neighbor.remote_asn = None;
            neighbor.role = roles[side];
            neighbor.strict_role = strict;
        }
    };
    for roles in [[Provider, Provider], [Customer, Peer], [RouteServer, Customer]] {
        let said = refused([1, 2], external(roles.map(Some), false));
        assert!(said.iter().any(|w| w.contains("role is") && w.ends_with("Role Mismatch)")), "{roles:?}: {said:?}");
    }
    let strict = refused([1, 2], external([Some(Customer), None], true));
    assert!(strict.iter().any(|w| w.contains("does not tell its role")), "{strict:?}");
    let fitting = [[Provider, Customer].map(Some), [Peer, Peer].map(Some), [Some(Customer), None]];
    for roles in fitting {
        let mut pair = Pair::new([1, 2], external(roles, false));
        pair.start();
        let [a, b] = pair.negotiated();
        assert_eq!([b.remote_role, a.remote_role], roles);
    }
}

#[test]
fn a_neighbour_of_old_without_capabilities_has_ipv4_and_two_octets() {
    let mut settings = neighbor();
    settings.families = vec![Family::Ipv6, Family::Ipv4];
    let (now, mut out) = (Instant::now(), Vec::new());
    let mut session = Session::new(local(1), &settings, IpAddr::V4(Ipv4Addr::LOCALHOST), 1, now);
    session.start(now, &mut out);
    session.connected(now, ConnId(1), Direction::Outgoing, &mut out);
    session.message(now, ConnId(1), Kind::Open, &[4, 0xfc, 0, 0, 90, 10, 0, 0, 2, 0], &mut out);
    session.message(now, ConnId(1), Kind::Keepalive, &[], &mut out);
    let negotiated = session.negotiated().unwrap();
    assert_eq!(negotiated.families, [Family::Ipv4]);
    assert!(!negotiated.four_octet && !negotiated.extended && !negotiated.refresh && negotiated.graceful.is_none());
    assert!(negotiated.extended_receive);
}

#[test]
fn messages_that_are_not_due_are_told_with_the_state() {
    // What is sent before, and the subcode (RFC 6608) that the last of it is answered with.
    let open: &[u8] = &[4, 0xfc, 0, 0, 90, 10, 0, 0, 2, 0];
    type Messages<'a> = &'a [(Kind, &'a [u8])];
    let cases: [(Messages, [u8; 3]); 7] = [
        (&[(Kind::Keepalive, &[])], [5, 1, 4]),
        (&[(Kind::Update, &[0, 0, 0, 0])], [5, 1, 2]),
        (&[(Kind::RouteRefresh, &[0, 1, 0, 1])], [5, 1, 5]),
        (&[(Kind::Open, open), (Kind::Open, open)], [5, 2, 1]),
        (&[(Kind::Open, open), (Kind::Update, &[0, 0, 0, 0])], [5, 2, 2]),
        (&[(Kind::Open, open), (Kind::Keepalive, &[]), (Kind::Open, open)], [5, 3, 1]),
        (&[(Kind::Open, &[4, 0, 0])], [1, 2, 0]),
    ];
    for (messages, [code, subcode, first]) in cases {
        let (now, mut out) = (Instant::now(), Vec::new());
        let mut session = Session::new(local(1), &neighbor(), IpAddr::V4(Ipv4Addr::LOCALHOST), 1, now);
        session.start(now, &mut out);
        session.connected(now, ConnId(1), Direction::Outgoing, &mut out);
        for (kind, body) in messages {
            assert!(pair::notification(&out).is_none(), "{messages:?}: {out:?}");
            session.message(now, ConnId(1), *kind, body, &mut out);
        }
        let sent = pair::notification(&out).unwrap();
        assert_eq!((sent.code, sent.subcode, sent.data[0]), (code, subcode, first), "{messages:?}");
        assert!(out.contains(&Action::Close(ConnId(1))));
        assert_eq!(session.state(), State::Active);
    }
}

#[test]
fn words_of_a_shutdown_arrive_and_it_keeps_no_routes() {
    let mut pair = Pair::new([1, 2], |_, _, _| {});
    pair.start();
    pair.act(0, |session, now, out| session.stop(now, Some("rack 4 moves".to_owned()), out));
    let [here, there] = pair.downs.each_ref().map(|downs| downs[0].clone());
    assert_eq!(here.why.to_string(), "shut down here: \"rack 4 moves\"");
    assert!(there.why.to_string().ends_with("(Cease, Administrative Shutdown): \"rack 4 moves\""), "{}", there.why);
    assert!(!here.keeps_routes && !there.keeps_routes);
    pair.run(300 * SECOND);
    assert_eq!(pair.sides[0].state(), State::Idle);
    assert!(words(&pair.sides[1]).contains("rack 4 moves"));
    pair.act(0, Session::start);
    pair.run(61 * SECOND);
    assert!(pair.established());
}

#[test]
fn routes_are_kept_over_a_reset_and_not_over_a_hard_one() {
    let cases: [(Notification, bool); 5] = [
        (Notification::cease(cease::CONFIGURATION), true),
        (Notification::update(1, []), true),
        (Notification::cease(cease::BFD_DOWN), false),
        (Notification::cease(cease::DECONFIGURED), false),
        (Notification::reset(None).hard(), false),
    ];
    for (notification, keeps) in cases {
        for graceful in [true, false] {
            let mut pair = Pair::new([1, 2], |_, local, _| {
                local.graceful_restart = local.graceful_restart.take().filter(|_| graceful);
            });
            pair.start();
            let id = pair.sides[0].connection().unwrap();
            pair.act(0, |session, now, out| session.fail(now, id, notification.clone(), out));
            for down in pair.downs.iter().flatten() {
                assert_eq!(down.keeps_routes, keeps && graceful, "{notification}, graceful {graceful}");
            }
            assert_eq!(pair.downs.each_ref().map(Vec::len), [1, 1]);
        }
    }
}

#[test]
fn a_lost_connection_keeps_routes_where_graceful_restart_was_agreed_on() {
    for graceful in [[true, true], [true, false], [false, true]] {
        let mut pair = Pair::new([1, 2], |side, local, _| {
            local.graceful_restart = local.graceful_restart.take().filter(|_| graceful[side]);
        });
        pair.start();
        let id = pair.sides[0].connection().unwrap();
        pair.act(0, |session, now, out| session.closed(now, id, "connection reset by peer".to_owned(), out));
        let down = &pair.downs[0][0];
        assert_eq!(down.keeps_routes, graceful == [true, true]);
        assert_eq!(down.why.to_string(), "the connection ended: connection reset by peer");
    }
}

#[test]
fn the_wait_doubles_with_each_failure_and_starts_anew_after_a_good_session() {
    let (start, mut out) = (Instant::now(), Vec::new());
    let mut session = Session::new(local(1), &neighbor(), IpAddr::V4(Ipv4Addr::LOCALHOST), 1, start);
    let mut now = start;
    session.start(now, &mut out);
    let open: &[u8] = &[4, 0xfc, 0, 0, 0, 10, 0, 0, 2, 0];
    let mut id = 0;
    let mut attempt = |session: &mut Session, now: &mut Instant, lasts: Option<Duration>| {
        let mut out = Vec::new();
        id += 1;
        session.connected(*now, ConnId(id), Direction::Outgoing, &mut out);
        if let Some(lasts) = lasts {
            session.message(*now, ConnId(id), Kind::Open, open, &mut out);
            session.message(*now, ConnId(id), Kind::Keepalive, &[], &mut out);
            assert_eq!(session.state(), State::Established);
            *now += lasts;
        }
        session.closed(*now, ConnId(id), "reset".to_owned(), &mut out);
        let wait = session.deadline().unwrap() - *now;
        *now += wait;
        out.clear();
        session.tick(*now, &mut out);
        assert_eq!(out, [Action::Connect]);
        wait
    };
    for expected in [5, 10, 20, 40, 60, 60, 60] {
        let wait = attempt(&mut session, &mut now, None);
        assert!(wait <= expected * SECOND && wait >= expected * SECOND * 3 / 4, "{wait:?} for {expected} s");
    }
    assert!(attempt(&mut session, &mut now, Some(30 * SECOND)) >= 45 * SECOND);
    assert!(attempt(&mut session, &mut now, Some(61 * SECOND)) <= 5 * SECOND);
    // A neighbour that is away is looked for as often as before.
    for _ in 0..5 {
        session.connect_failed(now, "connection refused".to_owned(), &mut out);
        let wait = session.deadline().unwrap() - now;
        assert!(wait <= 5 * SECOND, "{wait:?}");
        now += wait;
        session.tick(now, &mut out);
    }
    assert_eq!(words(&session), "no connection: connection refused");
}

#[test]
fn too_many_prefixes_bar_the_neighbour_for_as_long_as_is_set() {
    for restart_after in [None, Some(600 * SECOND)] {
        let mut pair = Pair::new([1, 2], |side, _, neighbor| {
            neighbor.max_prefixes = (side == 0).then_some(MaxPrefixes { limit: 10, restart_after });
        });
        pair.start();
        let id = pair.sides[0].connection().unwrap();
        pair.act(0, |s, now, out| s.fail(now, id, Notification::cease(cease::MAX_PREFIXES), out));
        assert!(pair.downs.iter().flatten().all(|down| !down.keeps_routes));
        pair.run(590 * SECOND);
        assert_eq!(pair.sides[0].state(), State::Idle);
        assert_eq!(pair.ups, [1, 1]);
        pair.run(120 * SECOND);
        assert_eq!(pair.established(), restart_after.is_some());
        pair.act(0, Session::start);
        pair.run(61 * SECOND);
        assert!(pair.established());
    }
}

#[test]
fn only_a_change_of_what_was_agreed_on_ends_the_session() {
    let mut pair = Pair::new([1, 2], |_, _, _| {});
    pair.start();
    let (own, mut settings) = options(&pair, 0);
    settings.description = "reflector".to_owned();
    settings.route_reflector_client = true;
    settings.passive = true;
    let mut restarting = own.clone();
    restarting.graceful_restart.as_mut().unwrap().restarting = true;
    pair.act(0, |s, now, out| s.reconfigure(now, restarting.clone(), &settings, out));
    assert_eq!(pair.ups, [1, 1]);
    assert!(pair.established());
    settings.families.push(Family::Ipv6);
    settings.passive = false;
    pair.act(0, |s, now, out| s.reconfigure(now, own.clone(), &settings, out));
    let down = &pair.downs[1][0];
    assert!(down.keeps_routes && down.why.to_string().contains("Other Configuration Change"), "{}", down.why);
    pair.run(10 * SECOND);
    assert_eq!(pair.ups, [2, 2]);
    settings.shutdown = Some("later".to_owned());
    pair.act(0, |s, now, out| s.reconfigure(now, own.clone(), &settings, out));
    assert_eq!(pair.sides[0].state(), State::Idle);
    assert!(words(&pair.sides[1]).contains("\"later\""));
    pair.act(0, Session::start);
    assert_eq!(pair.sides[0].state(), State::Idle);
    settings.shutdown = None;
    pair.act(0, |s, now, out| s.reconfigure(now, own.clone(), &settings, out));
    pair.run(61 * SECOND);
    assert_eq!(pair.ups, [3, 3]);
    settings.remote_asn = Some(65001);
    pair.act(0, |s, now, out| s.reconfigure(now, own.clone(), &settings, out));
    assert!(!pair.established());
}

#[test]
fn refreshes_of_agreed_families_are_passed_on() {
    let mut pair = Pair::new([1, 2], |_, _, _| {});
    pair.start();
    let id = pair.sides[0].connection().unwrap();
    let mut ask = |body: &[u8]| {
        let mut out = Vec::new();
        pair.sides[0].message(pair.now, id, Kind::RouteRefresh, body, &mut out);
        out
    };
    for (number, subtype) in [(0, Subtype::Normal), (1, Subtype::Begin), (2, Subtype::End)] {
        let refresh = RouteRefresh { afi: 1, safi: 1, subtype };
        assert_eq!(ask(&[0, 1, number, 1]), [Action::Refresh(refresh)]);
    }
    for ignored in [[0, 2, 0, 1], [0, 1, 0, 128], [0, 1, 9, 1]] {
        assert_eq!(ask(&ignored), []);
    }
    let sent = pair::notification(&ask(&[0, 1, 1])).unwrap();
    assert_eq!((sent.code, sent.subcode), (message::ROUTE_REFRESH, 1));
}

#[test]
fn an_own_role_is_not_told_to_internal_neighbours() {
    let mut settings = neighbor();
    settings.role = Some(Role::Peer);
    let has_role = |settings: &Neighbor| {
        let session = Session::new(local(1), settings, IpAddr::V4(Ipv4Addr::LOCALHOST), 1, Instant::now());
        session.local_capabilities().contains(&Capability::Role(Role::Peer.to_wire()))
    };
    assert!(!has_role(&settings));
    settings.remote_asn = Some(65001);
    assert!(has_role(&settings));
}

#[test]
fn a_refused_hold_time_and_version_are_told() {
    for (open, expected) in
        [([4u8, 0xfc, 0, 0, 2], subcode::HOLD_TIME), ([3, 0xfc, 0, 0, 9], subcode::UNSUPPORTED_VERSION)]
    {
        let (now, mut out) = (Instant::now(), Vec::new());
        let mut session = Session::new(local(1), &neighbor(), IpAddr::V4(Ipv4Addr::LOCALHOST), 1, now);
        session.start(now, &mut out);
        session.connected(now, ConnId(1), Direction::Incoming, &mut out);
        let body = [&open[..], &[10, 0, 0, 2, 0]].concat();
        session.message(now, ConnId(1), Kind::Open, &body, &mut out);
        let sent = pair::notification(&out).unwrap();
        assert_eq!((sent.code, sent.subcode), (message::OPEN, expected));
    }
}
