//! One rule a test.

use super::*;
use crate::config::{MaxPrefixes, Policy, Role, Set, Statement, Verdict};
use crate::wire::Capability;

const NET: &str = "10.9.0.0/24";

#[test]
fn a_reflector_follows_rfc_4456() {
    let mut stage = Stage::up(vec![Mate::client(1), Mate::client(2), Mate::internal(3), Mate::internal(4)], |_| {});
    stage.announce(0, NET, &[]);
    stage.announce(2, "10.9.1.0/24", &[]);
    stage.settle();
    for who in 1..4 {
        let told = stage.told(who, NET).unwrap();
        assert_eq!((told.originator, &told.clusters[..]), (Some(stage.mates[0].address), &[OWN][..]));
    }
    assert!(stage.told(0, NET).is_none(), "told to its source");
    assert!(stage.told(0, "10.9.1.0/24").is_some() && stage.told(1, "10.9.1.0/24").is_some());
    assert!(stage.told(3, "10.9.1.0/24").is_none(), "from a non-client to a non-client");
}

#[test]
fn routes_that_came_around_are_shown_but_not_used() {
    let mut stage = Stage::up(vec![Mate::client(1), Mate::new(2, 65001)], |_| {});
    let base = stage.mates[0].route(NET.parse().unwrap());
    let looped = [
        Told { originator: Some(OWN), ..base.clone() },
        Told { clusters: vec![Ipv4Addr::new(1, 1, 1, 1), OWN], ..base.clone() },
        Told { path: vec![65001, ASN], ..base.clone() },
        Told { hop: OWN.into(), ..base },
    ];
    for route in looped {
        stage.say(0, &mate::update(NET.parse().unwrap(), &route));
        stage.settle();
        assert_eq!(stage.told(1, NET), None, "{route:?}");
        assert!(stage.router.received(stage.mates[0].address.into()).unwrap()[0].refused.is_some());
        stage.check_counts();
    }
}

#[test]
fn a_neighbour_that_becomes_a_client_is_reflected_without_a_new_session() {
    let mut stage = Stage::up(vec![Mate::internal(1), Mate::internal(2)], |_| {});
    stage.announce(0, NET, &[]);
    stage.settle();
    assert_eq!(stage.told(1, NET), None);
    let address: IpAddr = stage.mates[0].address.into();
    stage.configure(|config| config.neighbors.get_mut(&address).unwrap().route_reflector_client = true);
    assert!(stage.told(1, NET).is_some());
    stage.configure(|config| config.neighbors.get_mut(&address).unwrap().route_reflector_client = false);
    assert_eq!(stage.told(1, NET), None);
    assert!(stage.mates.iter().all(|mate| mate.conn.is_some()));
}

#[test]
fn own_routes_are_told_changed_and_taken_back() {
    let mut stage = Stage::up(vec![Mate::internal(1), Mate::new(2, 65001)], |_| {});
    let net: IpNet = NET.parse().unwrap();
    stage.configure(|config| drop(config.routes.insert(net, Origination { med: Some(7), ..Origination::default() })));
    let internal = stage.told(0, NET).unwrap();
    assert_eq!((internal.hop, internal.local_pref, internal.med), (OWN.into(), Some(100), Some(7)));
    assert_eq!(stage.told(1, NET).unwrap().path, [ASN]);
    stage.configure(|config| config.routes.get_mut(&net).unwrap().local_pref = Some(300));
    assert_eq!(stage.told(0, NET).unwrap().local_pref, Some(300));
    stage.configure(|config| config.routes.clear());
    assert!(stage.told(0, NET).is_none() && stage.told(1, NET).is_none());
    // Prefixes are given up once nobody has anything of them before it.
    stage.pass(1);
    assert_eq!(stage.router.sizes(), (0, 0, 0));
}

#[test]
fn a_next_hop_of_the_other_family_is_told_only_where_it_can_be() {
    let v6: IpAddr = "fd00::77".parse().unwrap();
    let mut stage = Stage::up(vec![Mate::internal(1), Mate::internal(2)], |_| {});
    let address: IpAddr = stage.mates[0].address.into();
    stage.configure(|config| {
        config.neighbors.get_mut(&address).unwrap().next_hop = crate::config::NextHop::Address(v6);
        for net in [NET, "fd09::/64"] {
            config.routes.insert(net.parse().unwrap(), Origination::default());
        }
        let wrong = Origination { next_hop: Some(v6), ..Origination::default() };
        config.routes.insert("10.9.1.0/24".parse().unwrap(), wrong);
    });
    assert_eq!(stage.told(0, "fd09::/64").unwrap().hop, v6);
    assert_eq!(stage.told(0, NET).unwrap().hop, IpAddr::from(OWN));
    assert_eq!(stage.told(1, "fd09::/64").unwrap().hop, OWN6.parse::<IpAddr>().unwrap());
    // An IPv4 route with an IPv6 next hop has no place in a message without RFC 8950.
    assert_eq!(stage.told(1, "10.9.1.0/24"), None);
}

#[test]
fn well_known_communities_keep_routes_in() {
    let mut stage = Stage::up(vec![Mate::client(1), Mate::client(2), Mate::new(3, 65001)], |_| {});
    for (community, internal, external) in [
        (Some(crate::Community::NO_EXPORT), true, false),
        (Some(crate::Community::NO_EXPORT_SUBCONFED), true, false),
        (Some(crate::Community::NO_ADVERTISE), false, false),
        (None, true, true),
    ] {
        let mut route = stage.mates[0].route(NET.parse().unwrap());
        route.communities = community.iter().map(|c| c.0).collect();
        stage.say(0, &mate::update(NET.parse().unwrap(), &route));
        stage.settle();
        assert_eq!((stage.told(1, NET).is_some(), stage.told(2, NET).is_some()), (internal, external), "{community:?}");
    }
}

#[test]
fn roles_keep_leaks_out() {
    // The own role towards each, and whether what a provider announced is told.
    for (role, told) in [(Role::Provider, true), (Role::Customer, false), (Role::Peer, false)] {
        let mut stage = Stage::new(vec![Mate::new(1, 65001), Mate::new(2, 65002)], |config| {
            for (neighbor, role) in config.neighbors.values_mut().zip([Role::Customer, role]) {
                neighbor.role = Some(role);
            }
        });
        stage.mates[0].capabilities.push(Capability::Role(Role::Provider.to_wire()));
        stage.mates[1].capabilities.push(Capability::Role(role.counterpart().to_wire()));
        (0..2).for_each(|who| stage.connect(who));
        stage.announce(0, NET, &[65001]);
        stage.settle();
        assert_eq!(stage.told(1, NET).is_some(), told, "{role:?}");
    }
}

#[test]
fn without_a_policy_nothing_is_exchanged_where_one_is_required() {
    let mut stage = Stage::up(vec![Mate::new(1, 65001), Mate::internal(2)], |config| {
        config.neighbors.values_mut().next().unwrap().require_policy = true;
    });
    stage.announce(0, NET, &[65001]);
    stage.announce(1, "10.9.1.0/24", &[]);
    stage.settle();
    assert!(stage.told(0, "10.9.1.0/24").is_none() && stage.told(1, NET).is_none());
    // With one, the router asks for all routes again.
    let takes = Policy { statements: vec![Statement::new("all", Verdict::Accept)], default: Verdict::Reject };
    stage.configure(|config| {
        let neighbor = config.neighbors.values_mut().next().unwrap();
        (neighbor.import, neighbor.export) = (takes.clone(), takes);
    });
    assert!(stage.mates[0].others.iter().any(|message| message[18] == 5), "no ROUTE-REFRESH");
    stage.announce(0, NET, &[65001]);
    stage.settle();
    assert!(stage.told(0, "10.9.1.0/24").is_some() && stage.told(1, NET).is_some());
}

#[test]
fn policies_change_routes_on_their_way_in_and_out() {
    let set = |set| Statement { set, ..Statement::new("set", Verdict::Accept) };
    let policy = |set_: Set| Policy { statements: vec![set(set_)], default: Verdict::Reject };
    let mut stage = Stage::up(vec![Mate::new(1, 65001), Mate::internal(2), Mate::new(3, 65002)], |config| {
        let mut neighbors = config.neighbors.values_mut();
        neighbors.next().unwrap().import =
            policy(Set { local_pref: Some(250), prepend: Some((65009, 2)), ..Set::default() });
        neighbors.next().unwrap().export = policy(Set { med: Some(5), ..Set::default() });
        let communities = vec![crate::Community(77)];
        neighbors.next().unwrap().export = policy(Set { med: Some(6), communities, ..Set::default() });
    });
    stage.announce(0, NET, &[65001]);
    stage.settle();
    let internal = stage.told(1, NET).unwrap();
    assert_eq!(
        (internal.local_pref, internal.med, &internal.path[..]),
        (Some(250), Some(5), &[65009, 65009, 65001][..])
    );
    let external = stage.told(2, NET).unwrap();
    assert_eq!((external.local_pref, external.med, &external.communities[..]), (None, Some(6), &[77][..]));
    assert_eq!(external.path, [ASN, 65009, 65009, 65001]);
}

#[test]
fn too_many_prefixes_end_the_session_until_time_is_up() {
    let restart_after = Some(Duration::from_secs(60));
    let mut stage = Stage::up(vec![Mate::internal(1), Mate::client(2)], |config| {
        config.neighbors.values_mut().next().unwrap().max_prefixes = Some(MaxPrefixes { limit: 2, restart_after });
    });
    for net in ["10.9.1.0/24", "10.9.2.0/24"] {
        stage.announce(0, net, &[]);
    }
    stage.settle();
    assert_eq!(stage.mates[1].view.len(), 2);
    stage.announce(0, "10.9.3.0/24", &[]);
    stage.settle();
    assert!(stage.mates[0].conn.is_none() && stage.mates[1].view.is_empty());
    stage.connect(0);
    assert!(stage.mates[0].conn.is_none(), "taken although it has to wait");
    stage.pass(61);
    stage.connect(0);
    stage.announce(0, NET, &[]);
    stage.settle();
    assert!(stage.told(1, NET).is_some());
}

fn restarting(number: u8) -> Mate {
    let mut mate = Mate::client(number);
    let families = vec![(1, 1, true), (2, 1, true)];
    mate.capabilities.push(Capability::GracefulRestart { restarting: false, notification: true, time: 120, families });
    let long = vec![(1, 1, true, 3600), (2, 1, true, 3600)];
    mate.capabilities.push(Capability::LongLivedGracefulRestart(long));
    mate
}

#[test]
fn routes_of_a_restarting_neighbour_are_kept_until_it_has_told_all_again() {
    let mut stage =
        Stage::up(vec![restarting(1), Mate::client(2)], |config| config.graceful_restart = Some(graceful()));
    stage.announce(0, NET, &[]);
    stage.announce(0, "10.9.1.0/24", &[]);
    stage.settle();
    stage.lose(0);
    stage.settle();
    assert_eq!(stage.mates[1].view.len(), 2);
    stage.connect(0);
    stage.announce(0, NET, &[]);
    stage.settle();
    assert_eq!(stage.mates[1].view.len(), 2);
    Family::ALL.iter().for_each(|family| stage.say(0, &mate::end_of_rib(*family)));
    stage.settle();
    assert!(stage.told(1, NET).is_some() && stage.told(1, "10.9.1.0/24").is_none());
    stage.check_counts();
}

#[test]
fn routes_that_are_stale_for_long_are_a_last_resort_and_then_gone() {
    let mates = vec![restarting(1), restarting(2), Mate::client(3)];
    let mut stage = Stage::up(mates, |config| config.graceful_restart = Some(graceful()));
    stage.announce(0, NET, &[]);
    stage.settle();
    stage.lose(0);
    stage.pass(121);
    let stale = crate::Community::LLGR_STALE.0;
    assert_eq!(stage.told(1, NET).unwrap().communities, [stale]);
    assert_eq!(stage.told(2, NET), None, "told to one that does not know what stale is");
    // Any other is better.
    stage.announce(1, NET, &[65001, 65002, 65003]);
    stage.settle();
    assert_eq!(stage.told(2, NET).unwrap().path.len(), 3);
    stage.say(1, &mate::withdrawal(NET.parse().unwrap()));
    stage.pass(3601);
    stage.pass(1);
    assert_eq!(stage.router.sizes(), (0, 0, 0));
}

#[test]
fn a_refresh_has_a_begin_and_an_end_and_what_is_not_repeated_between_them_is_gone() {
    use crate::wire::{RouteRefresh, Subtype};
    let refresh = |subtype| {
        let mut bytes = Vec::new();
        RouteRefresh { afi: 1, safi: 1, subtype }.encode(&mut bytes);
        bytes
    };
    let mut stage = Stage::up(vec![Mate::client(1), Mate::client(2)], |_| {});
    stage.announce(0, NET, &[]);
    stage.announce(0, "10.9.1.0/24", &[]);
    stage.settle();
    stage.mates[1].view.clear();
    stage.say(1, &refresh(Subtype::Normal));
    // Asking again and again does not make more to be said.
    stage.say(1, &refresh(Subtype::Normal));
    stage.settle();
    assert_eq!(stage.mates[1].view.len(), 2);
    let markers: Vec<u8> = stage.mates[1].others.iter().map(|message| message[21]).collect();
    assert_eq!(markers, [Subtype::Begin as u8, Subtype::End as u8]);
    stage.say(0, &refresh(Subtype::Begin));
    stage.announce(0, NET, &[]);
    stage.say(0, &refresh(Subtype::End));
    stage.settle();
    assert!(stage.told(1, NET).is_some() && stage.told(1, "10.9.1.0/24").is_none());
    stage.check_counts();
}

#[test]
fn neighbours_come_out_of_a_range_up_to_its_limit_and_go_with_their_session() {
    let mut stage = Stage::new(vec![Mate::client(1), Mate::client(2), Mate::client(3)], |config| {
        let neighbor = config.neighbors.values().next().unwrap().clone();
        config.neighbors.clear();
        config.ranges = vec![Range { prefix: "10.0.0.0/24".parse().unwrap(), limit: 2, neighbor }];
    });
    (0..3).for_each(|who| stage.connect(who));
    stage.announce(0, NET, &[]);
    stage.settle();
    assert!(stage.mates[2].conn.is_none() && stage.told(1, NET).is_some());
    stage.lose(0);
    stage.settle();
    assert!(stage.told(1, NET).is_none());
    assert_eq!(stage.router.neighbors(stage.now).len(), 1);
    stage.connect(2);
    stage.announce(2, NET, &[]);
    stage.settle();
    assert_eq!(stage.told(1, NET).unwrap().originator, Some(stage.mates[2].address));
}

#[test]
fn a_neighbour_that_is_taken_out_is_told_so_and_its_routes_are_gone() {
    let mut stage = Stage::up(vec![Mate::client(1), Mate::client(2)], |_| {});
    stage.announce(0, NET, &[]);
    stage.settle();
    let address: IpAddr = stage.mates[0].address.into();
    stage.configure(|config| drop(config.neighbors.remove(&address)));
    assert!(stage.mates[0].conn.is_none() && stage.told(1, NET).is_none());
    // Its successor is no one's heir, whatever number it has inside.
    let mut heir = Mate::client(9);
    stage.configure(|config| drop(config.neighbors.insert(heir.address.into(), neighbor(&heir))));
    heir.view.clear();
    stage.mates.push(heir);
    stage.connect(2);
    stage.announce(2, NET, &[]);
    stage.settle();
    assert_eq!(stage.told(1, NET).unwrap().originator, Some(Ipv4Addr::new(10, 0, 0, 9)));
}

#[test]
fn words_of_a_shutdown_reach_the_neighbour() {
    let mut stage = Stage::up(vec![Mate::client(1)], |_| {});
    stage.configure(|config| config.neighbors.values_mut().next().unwrap().shutdown = Some("new cables".to_owned()));
    assert!(stage.mates[0].conn.is_none());
    let down = stage.actions.iter().any(|a| matches!(a, Action::Down { why, .. } if why.contains("new cables")));
    assert!(down, "{:?}", stage.actions);
}

#[test]
fn of_several_paths_all_are_taken_back_from_one_that_has_to_catch_up() {
    use crate::wire::{RouteRefresh, Subtype};
    let mut mates: Vec<Mate> = (1..=5).map(Mate::client).collect();
    mates.push(Mate { add_path: true, ..Mate::client(6) });
    let mut stage = Stage::up(mates, |_| {});
    let net: IpNet = NET.parse().unwrap();
    for who in 0..5 {
        // The later the better: what is told has the greatest identifiers.
        let route = Told { local_pref: Some(100 + who as u32), ..stage.mates[who].route(net) };
        stage.say(who, &mate::update(net, &route));
        stage.settle();
    }
    assert_eq!(stage.mates[5].view.keys().map(|(_, id)| *id).collect::<Vec<_>>(), [4, 5]);
    let mut refresh = Vec::new();
    RouteRefresh { afi: 1, safi: 1, subtype: Subtype::Normal }.encode(&mut refresh);
    stage.say(5, &refresh);
    for who in 1..5 {
        stage.say(who, &mate::withdrawal(net));
    }
    stage.settle();
    assert_eq!(stage.mates[5].view.keys().map(|(_, id)| *id).collect::<Vec<_>>(), [1]);
    stage.check_counts();
}
