//! Whatever order things come in.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Event {
    Connected(bool),
    Failed,
    Closed(u32),
    Message(u32, usize, Vec<u8>),
    Open(u32, u8),
    Fail(u32, u8),
    Stop,
    Start,
    Wait(u32),
}

fn event() -> impl Strategy<Value = Event> {
    let id = || 0..6u32;
    prop_oneof![
        4 => any::<bool>().prop_map(Event::Connected),
        1 => Just(Event::Failed),
        1 => id().prop_map(Event::Closed),
        3 => (id(), 0..5usize, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(a, b, c)| Event::Message(a, b, c)),
        4 => (id(), 1..4u8).prop_map(|(a, b)| Event::Open(a, b)),
        4 => id().prop_map(|id| Event::Message(id, 3, Vec::new())),
        1 => (id(), 0..12u8).prop_map(|(a, b)| Event::Fail(a, b)),
        1 => Just(Event::Stop),
        2 => Just(Event::Start),
        3 => (0..100u32).prop_map(Event::Wait),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_ups_and_downs_alternate_and_closed_connections_stay_closed(
        events in prop::collection::vec(event(), 0..60),
        seed: u64,
    ) {
        let mut now = Instant::now();
        let mut session = Session::new(local(2), &neighbor(), IpAddr::V4(Ipv4Addr::LOCALHOST), seed, now);
        let mut ids = 0;
        let (mut closed, mut up) = (Vec::new(), None);
        for event in events {
            let mut out = Vec::new();
            match event {
                Event::Connected(incoming) => {
                    let direction = if incoming { Direction::Incoming } else { Direction::Outgoing };
                    session.connected(now, ConnId(ids), direction, &mut out);
                    ids += 1;
                }
                Event::Failed => session.connect_failed(now, "no".to_owned(), &mut out),
                Event::Closed(back) => {
                    let id = ConnId(ids.saturating_sub(back));
                    session.closed(now, id, "no".to_owned(), &mut out);
                    if id.0 < ids {
                        closed.push(id);
                    }
                }
                Event::Message(back, kind, body) => {
                    session.message(now, ConnId(ids.saturating_sub(back)), Kind::ALL[kind], &body, &mut out);
                }
                Event::Open(back, id) => {
                    let open = [4, 0xfc, 0, 0, 90, 10, 0, 0, id, 0];
                    session.message(now, ConnId(ids.saturating_sub(back)), Kind::Open, &open, &mut out);
                }
                Event::Fail(back, subcode) => {
                    let id = ConnId(ids.saturating_sub(back));
                    session.fail(now, id, Notification::cease(subcode), &mut out);
                }
                Event::Stop => session.stop(now, None, &mut out),
                Event::Start => session.start(now, &mut out),
                Event::Wait(seconds) => {
                    now += seconds * SECOND;
                    session.tick(now, &mut out);
                    prop_assert!(session.deadline().is_none_or(|deadline| deadline > now));
                }
            }
            for action in out {
                match action {
                    Action::Send(id, bytes) => {
                        prop_assert!(!closed.contains(&id), "sent on closed {id:?}");
                        prop_assert!(crate::wire::next(&bytes, false).unwrap().is_some());
                    }
                    Action::Close(id) => {
                        prop_assert!(!closed.contains(&id), "closed {id:?} twice");
                        closed.push(id);
                    }
                    Action::Up(id, _) => {
                        prop_assert!(up.is_none() && !closed.contains(&id));
                        up = Some(id);
                    }
                    Action::Down(_) => prop_assert!(up.take().is_some()),
                    _ => {}
                }
            }
            prop_assert_eq!(session.connection(), up);
            prop_assert_eq!(session.state() == State::Established, up.is_some());
        }
    }
}
