//! Whole networks: links, addresses, routes and rules that follow each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tombolo_host::{Host, HostError, Scope};
use tombolo_net::network::{Address, Change, Hop, Mac, Network, Route, Rule, Target, Vxlan, changes};

use crate::common::Namespace;
use crate::given::{address, everything, reach, remote, route, scope, vxlan, with_links};

#[test]
fn what_was_applied_is_observed_and_taken_away_again() {
    let namespace = with_links();
    namespace.run(async || {
        let host = Host::connect().await.unwrap();
        reach(&host, &everything()).await;
        assert!(host.apply(&changes(&Network::default(), &everything())).await.is_empty(), "what is so is done");
        reach(&host, &Network::default()).await;
        assert!(host.apply(&changes(&everything(), &Network::default())).await.is_empty(), "what is gone is done");
    });
    assert_eq!(namespace.ip("-o link show").matches("vx").count(), 0);
}

#[test]
fn random_networks_follow_each_other() {
    let namespace = with_links();
    namespace.ip("address add 172.16.0.1/12 dev d1");
    namespace.enter(|runtime| {
        let host = runtime.block_on(Host::connect()).unwrap();
        let scope = Scope { address_links: vec!["d0".into()], vxlan_names: vec!["vx".into()] };
        let mut runner = TestRunner::new(Config { cases: 40, failure_persistence: None, ..Config::default() });
        let outcome = runner.run(&networks(), |desired| {
            runtime.block_on(async {
                let current = host.observe(&scope).await.unwrap();
                let failed = host.apply(&changes(&current, &desired)).await;
                prop_assert!(failed.is_empty(), "{:?}", failed);
                prop_assert_eq!(host.observe(&scope).await.unwrap(), desired);
                Ok(())
            })
        });
        outcome.unwrap();
    });
}

fn networks() -> impl Strategy<Value = Network> {
    let v4 = (any::<[u8; 4]>(), 8u8..=32).prop_map(|(mut octets, length)| {
        octets[0] = 20 + octets[0] % 4;
        IpNet::from(Ipv4Net::new(Ipv4Addr::from(octets), length).unwrap().trunc())
    });
    let v6 = (any::<[u8; 16]>(), 16u8..=128).prop_map(|(mut octets, length)| {
        octets[0] = 0xfd;
        octets[1] %= 4;
        IpNet::from(Ipv6Net::new(Ipv6Addr::from(octets), length).unwrap().trunc())
    });
    let net = prop_oneof![v4, v6].boxed();
    let target = prop_oneof![
        1 => Just(None),
        4 => (prop_oneof![Just("d0"), Just("d1")], proptest::collection::vec(1u8..9, 0..4)).prop_map(Some),
    ];
    let route = (net.clone(), target, prop_oneof![Just(254u32), Just(117), Just(100_000)], 0u32..3).prop_map(
        |(destination, target, table, metric)| {
            let target = match target {
                None => Target::Unreachable,
                Some((link, gateways)) => {
                    let hop = |n: &u8| Hop {
                        link: if n.is_multiple_of(2) { "d0" } else { link }.into(),
                        gateway: match destination {
                            IpNet::V4(_) => IpAddr::from([172, 16, 0, 10 + n]),
                            IpNet::V6(_) => IpAddr::from(Ipv6Addr::new(0xfdff, 0, 0, 0, 0, 0, 0, (*n).into())),
                        },
                    };
                    let direct = Target::Link { link: link.into(), gateway: None };
                    Target::through(gateways.iter().map(hop).collect()).unwrap_or(direct)
                }
            };
            Route { table, destination, target, source: None, metric }
        },
    );
    let rule = (net.clone(), any::<bool>(), any::<bool>(), proptest::option::of((any::<u32>(), 1u32..)), 1u32..500);
    let rules = proptest::collection::vec(rule, 0..6).prop_map(|rules| {
        let numbered = rules.into_iter().zip(1000u32..);
        let rule = |((net, to, invert, fwmark, table), priority): ((IpNet, bool, bool, _, _), _)| Rule {
            ipv6: net.addr().is_ipv6(),
            priority,
            from: (!to).then_some(net),
            to: to.then_some(net),
            input: to.then(|| "d1".into()),
            fwmark,
            invert,
            table,
        };
        numbered.map(rule).collect::<BTreeSet<_>>()
    });
    let ends = proptest::collection::btree_map(2u8..30, any::<u8>(), 0..5);
    let link = proptest::option::of((ends, 1300u32..1303)).prop_map(|link| {
        link.map(|(ends, mtu)| {
            let remotes: Vec<_> = ends
                .iter()
                .flat_map(|(n, end)| {
                    let end = format!("10.1.1.{end}");
                    [remote(&format!("10.4.0.{n}"), *n, &end), remote(&format!("fd04::{n}"), *n, &end)]
                })
                .collect();
            Vxlan { mtu, ..vxlan(&remotes) }
        })
    });
    let addresses = proptest::collection::btree_set(net, 0..4);
    (proptest::collection::vec(route, 0..12), rules, link, addresses).prop_map(|(routes, rules, link, addresses)| {
        let place = |r: &Route| (r.table, r.destination, r.metric);
        let routes: BTreeMap<_, _> = routes.into_iter().map(|r| (place(&r), r)).collect();
        Network {
            vxlans: link.into_iter().collect(),
            addresses: addresses.into_iter().map(own_address).collect(),
            routes: routes.into_values().collect(),
            rules,
        }
    })
}

/// An address of d0 apart from all destinations, so that its subnet's own route is in nobody's place.
fn own_address(net: IpNet) -> Address {
    let net = match net {
        IpNet::V4(net) => {
            let [_, b, c, d] = net.addr().octets();
            IpNet::new(IpAddr::from([40, b, c, d | 1]), net.prefix_len().clamp(8, 30)).unwrap()
        }
        IpNet::V6(net) => {
            let mut octets = net.addr().octets();
            (octets[1], octets[15]) = (0x40, octets[15] | 1);
            IpNet::new(IpAddr::from(octets), net.prefix_len().clamp(16, 126)).unwrap()
        }
    };
    Address { link: "d0".into(), net }
}

#[test]
fn a_link_of_another_kind_is_left_alone_and_a_wrong_vxlan_is_made_right() {
    let namespace = with_links();
    namespace.ip("link add vx type bridge");
    namespace.run(async || {
        let host = Host::connect().await.unwrap();
        let failed = host.apply(&[Change::AddVxlan(vxlan(&[]))]).await;
        assert!(matches!(failed.as_slice(), [(_, HostError::ForeignLink { .. })]), "{failed:?}");
        host.apply(&[Change::RemoveVxlan("vx".into())]).await;
        assert_eq!(host.link("vx").await.unwrap().unwrap().kind.as_deref(), Some("bridge"));
        host.delete("vx").await.unwrap();
        namespace.ip("link add vx type vxlan id 4242 dstport 4789 local 10.1.0.1");
        let wanted = Network { vxlans: [vxlan(&[remote("10.4.0.2", 2, "10.1.0.2")])].into(), ..Network::default() };
        reach(&host, &wanted).await;
        namespace.exec("bridge fdb del 02:00:00:00:00:02 dev vx");
        assert_ne!(host.observe(&scope()).await.unwrap(), wanted);
        reach(&host, &wanted).await;
    });
}

#[test]
fn facts_name_addresses_and_default_routes() {
    let namespace = with_links();
    namespace.ip("address add 10.1.0.1/24 dev d0");
    namespace.ip("address add fd01::1/64 dev d1 nodad");
    namespace.ip("route add default via 10.1.0.254");
    namespace.ip("-6 route add default via fd01::ff");
    let facts = namespace.run(async || {
        let host = Host::connect().await.unwrap();
        host.set_up("d0", Some(1432)).await.unwrap();
        host.facts().await.unwrap()
    });
    assert!(facts.of_link("d0").any(|net| net == "10.1.0.1/24".parse().unwrap()));
    let v4 = facts.default_link_v4.unwrap();
    assert_eq!((v4.name.as_str(), v4.mtu, v4.up), ("d0", 1432, true));
    assert_eq!(facts.default_link_v6.unwrap().name, "d1");
}

#[test]
fn the_watch_hears_links_addresses_routes_and_rules() {
    let namespace = with_links();
    namespace.run(async || {
        let host = Host::connect().await.unwrap();
        let mut watch = host.watch().unwrap();
        for change in [
            "address add 10.1.0.1/24 dev d0",
            "route add 10.2.0.0/16 dev d0",
            "-6 route add fd02::/32 dev d0",
            "rule add priority 77 lookup 77",
            "link set d1 down",
        ] {
            while tokio::time::timeout(Duration::from_millis(50), watch.next()).await.is_ok() {}
            namespace.ip(change);
            let heard = tokio::time::timeout(Duration::from_secs(10), watch.next()).await;
            assert_eq!(heard, Ok(Some(())), "{change}");
        }
    });
}

#[test]
fn two_vxlan_ends_pass_a_ping() {
    let (near, far) = (Namespace::new(), Namespace::new());
    near.join(&far, &["10.1.0.1/24"], &["10.1.0.2/24"]);
    for (namespace, own, other) in [(&near, 1, 2), (&far, 2, 1)] {
        let gateways = [format!("10.4.0.{other}"), format!("fd04::{other}")];
        let ends = gateways.each_ref().map(|gateway| remote(gateway, other, &format!("10.1.0.{other}")));
        let link = Vxlan { local: IpAddr::from([10, 1, 0, own]), mac: Mac([2, 0, 0, 0, 0, own]), ..vxlan(&ends) };
        let wanted = Network {
            vxlans: [link].into(),
            addresses: [address("vx", &format!("10.4.0.{own}/32")), address("vx", &format!("fd04::{own}/128"))].into(),
            routes: [
                route(254, &format!("10.4.0.{other}/32"), "vx", Some(&gateways[0])),
                route(254, &format!("fd04::{other}/128"), "vx", Some(&gateways[1])),
            ]
            .into(),
            rules: BTreeSet::new(),
        };
        namespace.run(async || reach(&Host::connect().await.unwrap(), &wanted).await);
    }
    near.exec("ping -c 1 -W 5 10.4.0.2");
    near.exec("ping -c 1 -W 5 fd04::2");
}
