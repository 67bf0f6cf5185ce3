//! The host's end against the real kernel, in namespaces of its own.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use common::{Namespace, eventually};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tombolo_host::probe::{Prober, Settings, Target as Probed};
use tombolo_host::{Host, HostError, NftError, Scope, Sysctls, capabilities, conntrack, nft};
use tombolo_net::network::{Address, Change, Mac, Network, Route, Rule, Target, Vxlan, VxlanRemote, changes};

fn scope() -> Scope {
    Scope { address_links: vec!["d0".into(), "d1".into(), "vx".into()], vxlan_names: vec!["vx".into()] }
}

/// A namespace with the links d0 and d1, without addresses.
fn with_links() -> Namespace {
    let namespace = Namespace::new();
    for link in ["d0", "d1"] {
        namespace.ip(&format!("link add {link} type veth peer name {link}p"));
        namespace.ip(&format!("link set {link} up"));
        namespace.ip(&format!("link set {link}p up"));
    }
    namespace
}

async fn reach(host: &Host, desired: &Network) {
    let current = host.observe(&scope()).await.unwrap();
    let failed = host.apply(&changes(&current, desired)).await;
    assert!(failed.is_empty(), "{failed:?}");
    let reached = host.observe(&scope()).await.unwrap();
    assert_eq!(&reached, desired);
    assert_eq!(changes(&reached, desired), []);
}

fn route(table: u32, destination: &str, link: &str, gateway: Option<&str>) -> Route {
    let target = Target::Link { link: link.into(), gateway: gateway.map(|g| g.parse().unwrap()) };
    Route { table, destination: destination.parse().unwrap(), target, source: None, metric: 0 }
}

fn unreachable(table: u32, destination: &str) -> Route {
    Route { target: Target::Unreachable, ..route(table, destination, "", None) }
}

fn rule(ipv6: bool, priority: u32, table: u32) -> Rule {
    Rule { ipv6, priority, from: None, to: None, input: None, fwmark: None, invert: false, table }
}

fn address(link: &str, net: &str) -> Address {
    Address { link: link.into(), net: net.parse().unwrap() }
}

fn vxlan(remotes: &[VxlanRemote]) -> Vxlan {
    Vxlan {
        name: "vx".into(),
        vni: 4242,
        port: 4789,
        local: "10.1.0.1".parse().unwrap(),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1400,
        remotes: remotes.iter().copied().collect(),
    }
}

fn remote(gateway: &str, number: u8, end: &str) -> VxlanRemote {
    VxlanRemote { gateway: gateway.parse().unwrap(), mac: Mac([2, 0, 0, 0, 0, number]), remote: end.parse().unwrap() }
}

fn everything() -> Network {
    let sourced =
        Route { source: Some("10.1.0.1".parse().unwrap()), ..route(254, "10.20.0.0/16", "d0", Some("10.9.9.9")) };
    let sourced6 = Route { source: Some("fd01::1".parse().unwrap()), ..route(254, "fd20::/32", "d1", Some("fd99::9")) };
    Network {
        vxlans: [vxlan(&[
            remote("10.4.0.2", 2, "10.1.0.2"),
            remote("fd04::2", 2, "10.1.0.2"),
            remote("10.4.0.3", 3, "10.1.0.3"),
        ])]
        .into(),
        addresses: [
            address("d0", "10.1.0.1/24"),
            address("d0", "10.1.0.7/24"),
            address("d0", "fd01::1/64"),
            address("vx", "10.4.0.1/16"),
        ]
        .into(),
        routes: [
            sourced,
            sourced6,
            route(254, "10.30.0.0/16", "d1", None),
            route(254, "fd30::/32", "d1", None),
            Route { metric: 7, ..route(254, "10.30.0.0/16", "d0", None) },
            Route { metric: 7, ..route(254, "fd30::/32", "d0", None) },
            route(1107, "0.0.0.0/0", "vx", Some("10.4.0.2")),
            route(1107, "::/0", "vx", Some("fd04::2")),
            unreachable(1107, "10.99.0.0/16"),
            unreachable(1107, "fd99:1::/32"),
        ]
        .into(),
        rules: [
            Rule { fwmark: Some((0x1107, 0xffff)), invert: true, ..rule(false, 1000, 1107) },
            Rule { fwmark: Some((0x1107, 0xffff)), invert: true, ..rule(true, 1000, 1107) },
            Rule { input: Some("d0".into()), from: Some("10.7.0.0/16".parse().unwrap()), ..rule(false, 1001, 1108) },
            Rule { to: Some("fd07::/32".parse().unwrap()), ..rule(true, 1002, 254) },
        ]
        .into(),
    }
}

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
        4 => (prop_oneof![Just("d0"), Just("d1")], proptest::option::of(1u8..9)).prop_map(Some),
    ];
    let route = (net.clone(), target, prop_oneof![Just(254u32), Just(117), Just(100_000)], 0u32..3).prop_map(
        |(destination, target, table, metric)| {
            let target = match target {
                None => Target::Unreachable,
                Some((link, gateway)) => Target::Link {
                    link: link.into(),
                    gateway: gateway.map(|n| match destination {
                        IpNet::V4(_) => IpAddr::from([172, 16, 0, 10 + n]),
                        IpNet::V6(_) => IpAddr::from(Ipv6Addr::new(0xfdff, 0, 0, 0, 0, 0, 0, n.into())),
                    }),
                },
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
        assert_eq!(host.observe(&scope()).await.unwrap().routes.len(), 2);
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

#[test]
fn the_prober_sees_a_neighbour_answer_fall_silent_and_come_back() {
    let (near, far) = (Namespace::new(), Namespace::new());
    near.join(&far, &["10.1.0.1/24", "fd01::1/64"], &["10.1.0.2/24", "fd01::2/64"]);
    near.run(async || {
        let prober = Prober::new(Settings { interval: Duration::from_millis(50), threshold: 3 }).unwrap();
        let target = |id, address: &str, source: Option<&str>| Probed {
            id,
            address: address.parse().unwrap(),
            source: source.map(|s| s.parse().unwrap()),
            mark: Some(0x1107),
            device: source.map(|_| "eth0".into()),
        };
        let targets = vec![
            target(1, "10.1.0.2", None),
            target(2, "fd01::2", None),
            target(3, "10.1.0.2", Some("10.1.0.1")),
            target(4, "fd01::2", Some("fd01::1")),
            target(5, "10.1.0.99", None),
        ];
        prober.set_targets(targets);
        let are = |answering: bool| (1..=4).all(|id| prober.state(id).unwrap().answering == Some(answering));
        eventually("all answer", async || are(true)).await;
        let mut changes = prober.changes();
        changes.mark_unchanged();
        far.ip("link set eth0 down");
        eventually("all are silent", async || are(false)).await;
        assert!(changes.has_changed().unwrap());
        far.ip("link set eth0 up");
        far.ip("address replace fd01::2/64 dev eth0 nodad");
        eventually("all answer again", async || are(true)).await;
        eventually("the absent one is silent", async || prober.state(5).unwrap().answering == Some(false)).await;
        assert_eq!(prober.state(5).unwrap().last_reply, None);
    });
}

#[test]
fn nftables_transactions_and_their_complaints() {
    let namespace = Namespace::new();
    namespace.run(async || {
        nft::run("table inet trial { chain c { accept\n }\n }\n").await.unwrap();
        assert!(nft::table_exists("inet", "trial").await.unwrap());
        assert!(!nft::table_exists("ip", "trial").await.unwrap());
        assert!(nft::list_table("inet", "trial").await.unwrap().contains("\"chain\""));
        let error = nft::run("add table inet other\nadd rule inet trial nowhere accept\n").await.unwrap_err();
        let NftError::Rejected { line: Some((2, _)), message } = &error else { panic!("{error}") };
        assert!(message.contains("No such file or directory"), "{message}");
        assert!(!nft::table_exists("inet", "other").await.unwrap(), "a refused transaction does nothing");
        nft::delete_table("inet", "trial").await.unwrap();
        nft::delete_table("inet", "trial").await.unwrap();
        assert!(!nft::table_exists("inet", "trial").await.unwrap());
    });
}

#[test]
fn settings_are_set_recorded_and_put_back() {
    let (namespace, folder) = (Namespace::new(), tempfile::tempdir().unwrap());
    let record = folder.path().join("settings");
    namespace.run(async || {
        let (forward, ports) = ("net.ipv4.ip_forward", "net/ipv4/ip_local_port_range");
        let before = [Sysctls::read(forward).unwrap(), Sysctls::read(ports).unwrap()];
        let wanted = if before[0] == "1" { "0" } else { "1" };
        Sysctls::set(&[(forward, wanted), (ports, "40000 50000")], &record).unwrap();
        Sysctls::set(&[(forward, wanted), (ports, "40000 50000")], &record).unwrap();
        assert_eq!(Sysctls::read(forward).unwrap(), wanted);
        assert_eq!(Sysctls::read(ports).unwrap(), "40000\t50000");
        Sysctls::restore(&record).unwrap();
        assert_eq!([Sysctls::read(forward).unwrap(), Sysctls::read(ports).unwrap()], before);
        assert!(!record.exists());
        Sysctls::set(&[(forward, wanted)], &record).unwrap();
        std::fs::write("/proc/sys/net/ipv4/ip_forward", &before[0]).unwrap();
        Sysctls::restore(&record).unwrap();
        assert_eq!(Sysctls::read(forward).unwrap(), before[0], "what somebody changed since is theirs");
    });
}

#[test]
fn udp_flows_to_an_address_are_forgotten_and_others_kept() {
    let (near, far) = (Namespace::new(), Namespace::new());
    near.join(&far, &["10.1.0.1/24", "fd01::1/64"], &["10.1.0.2/24", "fd01::2/64"]);
    near.run(async || {
        nft::run("table inet trial {\n chain o { type filter hook output priority 0; ct state new accept\n }\n}\n")
            .await
            .unwrap();
        let wanted = ["10.1.0.2:5353".parse().unwrap(), "[fd01::2]:5353".parse().unwrap()];
        for (from, to) in [("0.0.0.0:0", "10.1.0.2"), ("[::]:0", "[fd01::2]")] {
            let socket = std::net::UdpSocket::bind(from).unwrap();
            for port in [5353, 5454] {
                socket.send_to(b"x", format!("{to}:{port}")).unwrap();
            }
        }
        assert_eq!(conntrack::forget_udp(&BTreeSet::from(wanted)).await.unwrap(), 2);
        assert_eq!(conntrack::forget_udp(&BTreeSet::from(wanted)).await.unwrap(), 0);
        let other = BTreeSet::from(["10.1.0.2:5454".parse().unwrap(), "[fd01::2]:5454".parse().unwrap()]);
        assert_eq!(conntrack::forget_udp(&other).await.unwrap(), 2);
    });
}

#[test]
fn what_this_machine_has_is_found_and_nothing_is_left() {
    let namespace = Namespace::new();
    let before = namespace.ip("-o link show");
    let findings = namespace.run(async || capabilities::check().await);
    let ok = |what: &str| findings.iter().find(|f| f.what == what).unwrap().ok;
    for what in
        ["CAP_NET_ADMIN", "CAP_NET_RAW", "the program nft", "nftables NAT in the kernel", "policy routing", "VXLAN"]
    {
        assert!(ok(what), "{what}: {findings:?}");
    }
    let made = std::process::Command::new("ip")
        .args(["-n", &namespace.0, "link", "add", "wg0", "type", "wireguard"])
        .output()
        .unwrap()
        .status
        .success();
    assert_eq!(ok("WireGuard in the kernel"), made);
    if made {
        namespace.ip("link delete wg0");
    }
    assert_eq!(namespace.ip("-o link show"), before);
}
