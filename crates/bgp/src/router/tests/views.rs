//! Whatever happens, neighbours end up with what the rules say.

use proptest::prelude::*;

use super::rules::{Announced, expected};
use super::*;
use crate::export::queue::LIMIT;
use crate::wire::{RouteRefresh, Subtype};

const NETS: u8 = 10;

#[derive(Debug, Clone)]
enum Event {
    Announce { who: usize, net: u8, pref: u8, length: usize, first: u32, med: u8 },
    Withdraw { who: usize, net: u8 },
    Flap(usize),
    Reconnect(usize),
    Refresh(usize),
    Hear { who: usize, most: usize },
    Flush,
}

fn event() -> impl Strategy<Value = Event> {
    let who = || 0..6_usize;
    prop_oneof![
        12 => (who(), 0..NETS, 0..3_u8, 0..3_usize, 0..2_u32, 0..3_u8)
            .prop_map(|(who, net, pref, length, first, med)| Event::Announce { who, net, pref, length, first, med }),
        4 => (who(), 0..NETS).prop_map(|(who, net)| Event::Withdraw { who, net }),
        1 => who().prop_map(Event::Flap),
        1 => who().prop_map(Event::Reconnect),
        1 => who().prop_map(Event::Refresh),
        3 => (who(), 1..400_usize).prop_map(|(who, most)| Event::Hear { who, most }),
        6 => Just(Event::Flush),
    ]
}

fn net(number: u8) -> IpNet {
    let text = if number < NETS / 2 { format!("10.9.{number}.0/24") } else { format!("fd09:{number:x}::/64") };
    text.parse().unwrap()
}

fn mates() -> Vec<Mate> {
    vec![
        Mate::client(1),
        Mate { add_path: true, ..Mate::client(2) },
        Mate::internal(3),
        Mate::internal(4),
        Mate::new(5, 65001),
        Mate::new(6, 65002),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]
    #[test]
    fn neighbours_end_up_with_what_the_rules_say(events in prop::collection::vec(event(), 0..160)) {
        let mut stage = Stage::up(mates(), |_| {});
        let mut announced = Announced::new();
        for event in events {
            match event {
                Event::Announce { who, net: number, pref, length, first, med } => {
                    if stage.mates[who].conn.is_none() {
                        continue;
                    }
                    let mut route = stage.mates[who].route(net(number));
                    if stage.mates[who].is_external() {
                        route.path.extend((0..length).map(|n| 65100 + n as u32));
                    } else {
                        route.local_pref = Some(99 + u32::from(pref));
                        route.path = (0..length).map(|n| 65001 + first + n as u32).collect();
                    }
                    route.med = (med > 0).then_some(u32::from(med));
                    stage.say(who, &mate::update(net(number), &route));
                    announced.insert((net(number), who), route);
                }
                Event::Withdraw { who, net: number } => {
                    stage.say(who, &mate::withdrawal(net(number)));
                    announced.remove(&(net(number), who));
                }
                Event::Flap(who) => {
                    stage.lose(who);
                    announced.retain(|(_, from), _| *from != who);
                }
                Event::Reconnect(who) => {
                    if stage.mates[who].conn.is_none() {
                        stage.connect(who);
                    }
                }
                Event::Refresh(who) => {
                    let mut bytes = Vec::new();
                    RouteRefresh { afi: 1, safi: 1, subtype: Subtype::Normal }.encode(&mut bytes);
                    stage.say(who, &bytes);
                }
                Event::Hear { who, most } => drop(stage.hear(who, most)),
                Event::Flush => {
                    let before: Vec<usize> = queued(&mut stage);
                    stage.router.flush();
                    for (before, after) in before.into_iter().zip(queued(&mut stage)) {
                        // One burst beyond: the most that ten prefixes make, with all that goes with them.
                        prop_assert!(after <= before.max(LIMIT) + 40 * 150, "{before} became {after}");
                    }
                }
            }
            stage.check_counts();
        }
        stage.settle();
        stage.check_counts();
        for (who, mate) in stage.mates.iter().enumerate().filter(|(_, mate)| mate.conn.is_some()) {
            let mut view: Vec<(IpNet, Told)> = mate.view.iter().map(|((net, _), told)| (*net, told.clone())).collect();
            view.sort();
            prop_assert_eq!(view, expected(who, &announced, &stage.mates), "neighbour {}", who);
            prop_assert!(mate.ends.contains(&Family::Ipv4) && mate.ends.contains(&Family::Ipv6));
        }
    }
}

fn queued(stage: &mut Stage) -> Vec<usize> {
    let conns: Vec<_> = stage.mates.iter().map(|mate| mate.conn).collect();
    conns.into_iter().map(|c| c.and_then(|c| stage.router.queue(c)).map_or(0, |queue| queue.len())).collect()
}
