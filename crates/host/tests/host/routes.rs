//! Routes: replaced in place, told from others', alone in their place.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};

use tombolo_host::{Host, HostError};
use tombolo_net::network::{Change, Hop, Network, Route, Rule, Target};

use crate::common::Namespace;
use crate::given::{reach, route, rule, scope, unreachable, with_links};

#[test]
fn a_route_changes_its_link_gateway_and_kind_without_company() {
    let namespace = with_links();
    namespace.run(async || {
        let host = Host::connect().await.unwrap();
        for (destination, gateway) in [("10.50.0.0/16", "10.9.9.9"), ("fd50::/32", "fd99::9")] {
            let targets = [
                route(254, destination, "d0", None),
                route(254, destination, "d1", None),
                route(254, destination, "d1", Some(gateway)),
                route(254, destination, "d0", Some(gateway)),
                unreachable(254, destination),
                route(254, destination, "d0", Some(gateway)),
                route(254, destination, "d0", None),
            ];
            for target in targets {
                reach(&host, &Network { routes: [target].into(), ..Network::default() }).await;
            }
        }
    });
}

#[test]
fn next_hops_that_somebody_added_to_ours_go() {
    let namespace = with_links();
    namespace.run(async || {
        let host = Host::connect().await.unwrap();
        let wanted = Network { routes: [route(254, "fd50::/32", "d0", Some("fd99::9"))].into(), ..Network::default() };
        reach(&host, &wanted).await;
        namespace.ip("-6 route append fd50::/32 via fd99::8 dev d1 onlink proto 117");
        let both = through("fd50::/32", &[("d0", "fd99::9"), ("d1", "fd99::8")]);
        assert_eq!(host.observe(&scope()).await.unwrap().routes, [both].into());
        reach(&host, &wanted).await;
    });
}

#[test]
fn others_routes_and_rules_stay_and_are_not_replaced() {
    let namespace = with_links();
    namespace.ip("route add 10.60.0.0/16 dev d0 proto static");
    namespace.ip("-6 route add fd60::/32 dev d0 proto static");
    namespace.ip("rule add fwmark 7 lookup 77 priority 900");
    namespace.ip("route add 10.61.0.0/16 dev d0 table 1107");
    let seen = || (namespace.ip("route show table all"), namespace.ip("-6 route show table all"), namespace.ip("rule"));
    let before = seen();
    namespace.run(async || {
        let host = Host::connect().await.unwrap();
        assert_eq!(host.observe(&scope()).await.unwrap(), Network::default());
        let wanted = [
            Change::ReplaceRoute(route(254, "10.60.0.0/16", "d1", None)),
            Change::ReplaceRoute(route(254, "fd60::/32", "d1", None)),
            Change::ReplaceRoute(route(254, "10.62.0.0/16", "d1", None)),
            Change::AddRule(Rule { fwmark: Some((7, u32::MAX)), ..rule(false, 900, 77) }),
        ];
        let failed = host.apply(&wanted).await;
        assert_eq!(failed.iter().map(|(change, _)| change.clone()).collect::<Vec<_>>(), wanted[..2]);
        assert!(failed.iter().all(|(_, error)| matches!(error, HostError::Occupied { .. })), "{failed:?}");
        host.apply(&[
            Change::RemoveRoute(route(254, "10.60.0.0/16", "d0", None)),
            Change::RemoveRoute(route(254, "10.62.0.0/16", "d1", None)),
            Change::RemoveRule(Rule { fwmark: Some((7, u32::MAX)), ..rule(false, 900, 77) }),
        ])
        .await;
    });
    assert_eq!(seen(), before);
}

fn through(destination: &str, hops: &[(&str, &str)]) -> Route {
    let hop = |(link, gateway): &(&str, &str)| Hop { link: (*link).into(), gateway: gateway.parse().unwrap() };
    Route { target: Target::through(hops.iter().map(hop).collect()).unwrap(), ..route(254, destination, "", None) }
}

fn only(route: &Route) -> Network {
    Network { routes: [route.clone()].into(), ..Network::default() }
}

/// A destination of each family, and gateways of its own.
const FAMILIES: [(&str, [&str; 3]); 2] =
    [("10.50.0.0/16", ["10.9.9.1", "10.9.9.2", "10.9.9.3"]), ("fd50::/32", ["fd99::1", "fd99::2", "fd99::3"])];

/// The lines in which ip-route(8) shows our route.
fn shown(namespace: &Namespace, destination: &str) -> BTreeSet<String> {
    let family = if destination.contains(':') { "-6 " } else { "" };
    let text = namespace.ip(&format!("{family}route show {destination} proto 117"));
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn several_next_hops_are_one_route_and_change_in_place() {
    let namespace = with_links();
    namespace.run(async || {
        let host = Host::connect().await.unwrap();
        for (destination, [a, b, c]) in FAMILIES {
            let several = through(destination, &[("d0", a), ("d1", b)]);
            for wanted in [
                several.clone(),
                through(destination, &[("d1", a), ("d1", b), ("d0", c)]),
                route(254, destination, "d1", None),
                several.clone(),
                unreachable(254, destination),
                through(destination, &[("d0", a), ("d0", b)]),
                through(destination, &[("d0", a)]),
                Route { metric: 2000, ..several.clone() },
                several,
            ] {
                reach(&host, &only(&wanted)).await;
            }
            let lines = shown(&namespace, destination);
            for (gateway, link) in [(a, "d0"), (b, "d1")] {
                let hop = format!("nexthop via {gateway} dev {link} weight 1 onlink");
                assert!(lines.contains(&hop), "{hop}: {lines:?}");
            }
            reach(&host, &Network::default()).await;
            assert_eq!(shown(&namespace, destination), BTreeSet::new());
        }
    });
}

#[test]
fn several_next_hops_that_are_not_as_ours_are_put_right_or_removed() {
    let namespace = with_links();
    namespace.run(async || {
        let host = Host::connect().await.unwrap();
        for (destination, [a, b, c]) in FAMILIES {
            let by_hand = |verb: &str, hops: &str| {
                let family = if destination.contains(':') { "-6 " } else { "" };
                namespace.ip(&format!("{family}route {verb} {destination} proto 117 {hops}"));
            };
            let wanted = only(&through(destination, &[("d0", a), ("d1", b)]));
            for hops in [
                format!("nexthop via {b} dev d1 onlink nexthop via {a} dev d0 onlink"),
                format!("nexthop via {a} dev d0 weight 3 onlink nexthop via {b} dev d1 onlink"),
                format!("nexthop via {b} dev d0 onlink nexthop via {c} dev d0 onlink"),
            ] {
                by_hand("add", &hops);
                reach(&host, &wanted).await;
                reach(&host, &Network::default()).await;
                by_hand("add", &hops);
                reach(&host, &Network::default()).await;
            }
            reach(&host, &wanted).await;
            // In IPv6 what has a gateway joins ours, so the same gateway cannot come again.
            let again = if destination.contains(':') { b } else { a };
            for stray in [format!("via {again} dev d0 onlink"), format!("via {c} dev d1 onlink"), "dev d0".to_owned()] {
                by_hand("prepend", &stray);
                reach(&host, &wanted).await;
            }
            reach(&host, &Network::default()).await;
        }
    });
}

#[test]
fn a_route_that_gains_and_loses_next_hops_leads_somewhere_at_any_moment() {
    let namespace = with_links();
    namespace.ip("address add 172.16.0.1/12 dev d0");
    namespace.ip("address add fd01::1/64 dev d0 nodad");
    namespace.enter(|runtime| {
        let host = runtime.block_on(Host::connect()).unwrap();
        for ((destination, [a, b, c]), (any, to)) in
            FAMILIES.into_iter().zip([("0.0.0.0:0", "10.50.0.1:9"), ("[::]:0", "[fd50::1]:9")])
        {
            let wanted = [
                through(destination, &[("d0", a)]),
                through(destination, &[("d0", a), ("d1", b)]),
                through(destination, &[("d0", c), ("d1", b), ("d1", a)]),
            ];
            let set = |route: &Route| {
                let failed = runtime.block_on(host.apply(&[Change::ReplaceRoute(route.clone())]));
                assert!(failed.is_empty(), "{failed:?}");
            };
            // Connecting a UDP socket looks up the route and sends nothing.
            let socket = UdpSocket::bind(any).unwrap();
            assert!(socket.connect(to).is_err(), "there is no route yet");
            set(&wanted[0]);
            let done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let looking = scope.spawn(|| {
                    let mut lookups = 0u64;
                    while !done.load(Ordering::Relaxed) {
                        socket.connect(to).map_err(|error| format!("lookup {lookups}: {error}"))?;
                        lookups += 1;
                    }
                    Ok::<_, String>(lookups)
                });
                for route in wanted.iter().cycle().take(150) {
                    set(route);
                }
                done.store(true, Ordering::Relaxed);
                assert!(looking.join().unwrap().unwrap() > 0);
            });
        }
    });
}
