//! Networks to reach, and reaching them.

use tombolo_host::{Host, Scope};
use tombolo_net::network::{Address, Mac, Network, Route, Rule, Target, Vxlan, VxlanRemote, changes};

use crate::common::Namespace;

pub(crate) fn scope() -> Scope {
    Scope { address_links: vec!["d0".into(), "d1".into(), "vx".into()], vxlan_names: vec!["vx".into()] }
}

/// A namespace with the links d0 and d1, without addresses.
pub(crate) fn with_links() -> Namespace {
    let namespace = Namespace::new();
    for link in ["d0", "d1"] {
        namespace.ip(&format!("link add {link} type veth peer name {link}p"));
        namespace.ip(&format!("link set {link} up"));
        namespace.ip(&format!("link set {link}p up"));
    }
    namespace
}

pub(crate) async fn reach(host: &Host, desired: &Network) {
    let current = host.observe(&scope()).await.unwrap();
    let failed = host.apply(&changes(&current, desired)).await;
    assert!(failed.is_empty(), "{failed:?}");
    let reached = host.observe(&scope()).await.unwrap();
    assert_eq!(&reached, desired);
    assert_eq!(changes(&reached, desired), []);
}

pub(crate) fn route(table: u32, destination: &str, link: &str, gateway: Option<&str>) -> Route {
    let target = Target::Link { link: link.into(), gateway: gateway.map(|g| g.parse().unwrap()) };
    Route { table, destination: destination.parse().unwrap(), target, source: None, metric: 0 }
}

pub(crate) fn unreachable(table: u32, destination: &str) -> Route {
    Route { target: Target::Unreachable, ..route(table, destination, "", None) }
}

pub(crate) fn rule(ipv6: bool, priority: u32, table: u32) -> Rule {
    Rule { ipv6, priority, from: None, to: None, input: None, fwmark: None, invert: false, table }
}

pub(crate) fn address(link: &str, net: &str) -> Address {
    Address { link: link.into(), net: net.parse().unwrap() }
}

pub(crate) fn vxlan(remotes: &[VxlanRemote]) -> Vxlan {
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

pub(crate) fn remote(gateway: &str, number: u8, end: &str) -> VxlanRemote {
    VxlanRemote { gateway: gateway.parse().unwrap(), mac: Mac([2, 0, 0, 0, 0, number]), remote: end.parse().unwrap() }
}

pub(crate) fn everything() -> Network {
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
