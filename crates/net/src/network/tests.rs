//! The steps between networks, and targets in words.
#![allow(clippy::unwrap_used)]

use super::*;

fn route(destination: &str, link: &str) -> Route {
    Route {
        table: 254,
        destination: destination.parse().unwrap(),
        target: Target::Link { link: link.into(), gateway: None },
        source: None,
        metric: 0,
    }
}

fn network(routes: &[Route]) -> Network {
    Network { routes: routes.iter().cloned().collect(), ..Network::default() }
}

#[test]
fn a_route_with_a_new_target_is_replaced_and_never_missing() {
    let (old, new) = (route("10.0.0.0/8", "a"), route("10.0.0.0/8", "b"));
    assert_eq!(changes(&network(&[old]), &network(std::slice::from_ref(&new))), [Change::ReplaceRoute(new)]);
}

#[test]
fn a_route_that_shares_its_place_is_set_again() {
    let (old, new) = (route("fd00::/8", "a"), route("fd00::/8", "b"));
    let both = network(&[old, new.clone()]);
    assert_eq!(changes(&both, &network(std::slice::from_ref(&new))), [Change::ReplaceRoute(new)]);
}

#[test]
fn a_link_made_anew_gets_its_addresses_and_routes_back() {
    let vxlan = |mtu| Vxlan {
        name: "vx".into(),
        vni: 7,
        port: 4789,
        local: IpAddr::from([10, 0, 0, 9]),
        mac: Mac([2; 6]),
        mtu,
        remotes: BTreeSet::new(),
    };
    let address = Address { link: "vx".into(), net: "10.9.0.1/24".parse().unwrap() };
    let with = |mtu| Network {
        vxlans: [vxlan(mtu)].into(),
        addresses: [address.clone()].into(),
        ..network(&[route("10.0.0.0/8", "vx")])
    };
    assert_eq!(
        changes(&with(1400), &with(1450)),
        [
            Change::RemoveVxlan("vx".into()),
            Change::AddVxlan(vxlan(1450)),
            Change::AddAddress(address.clone()),
            Change::ReplaceRoute(route("10.0.0.0/8", "vx")),
        ]
    );
}

#[test]
fn a_route_that_is_not_wanted_goes() {
    let old = route("10.0.0.0/8", "a");
    assert_eq!(changes(&network(std::slice::from_ref(&old)), &network(&[])), [Change::RemoveRoute(old)]);
}

#[test]
fn a_vxlan_gains_and_loses_ends_without_being_made_anew() {
    let remote = |n: u8| VxlanRemote {
        gateway: IpAddr::from([10, 0, 0, n]),
        mac: Mac([2, 0, 0, 0, 0, n]),
        remote: IpAddr::from([10, 0, 0, n]),
    };
    let link = |ends: &[u8]| Vxlan {
        name: "vx".into(),
        vni: 7,
        port: 4789,
        local: IpAddr::from([10, 0, 0, 9]),
        mac: Mac([2; 6]),
        mtu: 1450,
        remotes: ends.iter().map(|n| remote(*n)).collect(),
    };
    let with = |ends: &[u8]| Network { vxlans: [link(ends)].into(), ..Network::default() };
    assert_eq!(
        changes(&with(&[1, 2]), &with(&[2, 3])),
        [Change::RemoveRemote("vx".into(), remote(1)), Change::AddRemote("vx".into(), remote(3))]
    );
}

fn multipath(destination: &str, hops: &[(&str, &str)]) -> Route {
    let hop = |(link, gateway): &(&str, &str)| Hop { link: (*link).into(), gateway: gateway.parse().unwrap() };
    Route { target: Target::through(hops.iter().map(hop).collect()).unwrap(), ..route(destination, "") }
}

#[test]
fn one_next_hop_is_a_link_and_none_is_no_target() {
    let one = multipath("10.0.0.0/8", &[("a", "10.9.0.1"), ("a", "10.9.0.1")]).target;
    assert_eq!(one, Target::Link { link: "a".into(), gateway: Some(IpAddr::from([10, 9, 0, 1])) });
    assert_eq!(Target::through(BTreeSet::new()), None);
}

#[test]
fn targets_are_written_as_ip_route_writes_them() {
    let several = multipath("10.0.0.0/8", &[("b", "10.9.0.1"), ("a", "10.9.0.2")]).target;
    for (target, words, links) in [
        (&several, "nexthop via 10.9.0.2 dev a nexthop via 10.9.0.1 dev b", vec!["a", "b"]),
        (&multipath("fd00::/8", &[("a", "fd09::1")]).target, "via fd09::1 dev a", vec!["a"]),
        (&route("10.0.0.0/8", "a").target, "dev a", vec!["a"]),
        (&Target::Unreachable, "unreachable", vec![]),
    ] {
        assert_eq!((target.to_string().as_str(), target.links().collect::<Vec<_>>()), (words, links));
    }
}

#[test]
fn a_route_gains_and_loses_next_hops_in_one_step() {
    let steps = [
        route("10.0.0.0/8", "a"),
        multipath("10.0.0.0/8", &[("a", "10.9.0.1"), ("b", "10.9.0.2")]),
        multipath("10.0.0.0/8", &[("a", "10.9.0.1"), ("b", "10.9.0.3")]),
        multipath("10.0.0.0/8", &[("a", "10.9.0.1")]),
    ];
    for pair in steps.windows(2) {
        assert_eq!(changes(&network(&pair[..1]), &network(&pair[1..])), [Change::ReplaceRoute(pair[1].clone())]);
    }
}

#[test]
fn a_route_with_a_part_on_a_link_that_goes_is_set_again_or_removed_before() {
    let link = |mtu| Vxlan {
        name: "vx".into(),
        vni: 7,
        port: 4789,
        local: IpAddr::from([10, 0, 0, 9]),
        mac: Mac([2; 6]),
        mtu,
        remotes: BTreeSet::new(),
    };
    let with = |mtu, routes: &[Route]| Network { vxlans: [link(mtu)].into(), ..network(routes) };
    let part = multipath("10.0.0.0/8", &[("vx", "10.9.0.1"), ("b", "10.9.0.2")]);
    let whole = multipath("10.0.0.0/8", &[("vx", "10.9.0.1"), ("vx", "10.9.0.2")]);
    let anew = [Change::RemoveVxlan("vx".into()), Change::AddVxlan(link(2))];
    for route in [&part, &whole] {
        let routes = std::slice::from_ref(route);
        let mut steps = anew.to_vec();
        steps.push(Change::ReplaceRoute(route.clone()));
        assert_eq!(changes(&with(1, routes), &with(2, routes)), steps);
    }
    assert_eq!(changes(&with(1, &[whole]), &with(2, &[])), anew);
    let mut steps = vec![Change::RemoveRoute(part.clone())];
    steps.extend(anew);
    assert_eq!(changes(&with(1, &[part]), &with(2, &[])), steps);
}
