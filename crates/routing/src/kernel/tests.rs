//! Given these learned routes and addresses, these routes of the kernel.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// A node with two links; `eth1`'s first network lies within `eth0`'s.
const LINKS: [(&str, &str); 6] = [
    ("eth1", "10.0.0.129/25"),
    ("eth0", "10.0.0.1/24"),
    ("eth0", "fd00::1/64"),
    ("eth0", "fe80::1/64"),
    ("eth1", "192.0.2.0/31"),
    ("tun0", "10.4.0.1/32"),
];

fn links(links: &[(&str, &str)]) -> Vec<(String, IpNet)> {
    links.iter().map(|(link, net)| ((*link).to_owned(), net.parse().unwrap())).collect()
}

fn learned(routes: &[(&str, &[&str])]) -> BTreeMap<IpNet, Vec<IpAddr>> {
    let next_hops = |hops: &[&str]| hops.iter().map(|hop| hop.parse().unwrap()).collect();
    routes.iter().map(|(net, hops)| (net.parse().unwrap(), next_hops(hops))).collect()
}

/// Routes as `DESTINATION TARGET`, and the reasons.
fn outcome(routes: &[(&str, &[&str])]) -> (Vec<String>, Vec<String>) {
    let (routes, refused) = kernel_routes(&learned(routes), &links(&LINKS));
    let line = |r: &Route| format!("{} {}", r.destination, r.target);
    (routes.iter().map(line).collect(), refused.into_values().collect())
}

#[test]
fn next_hops_are_found_on_the_longest_network() {
    for (net, next_hops, wanted) in [
        ("10.5.0.0/16", &["10.0.0.9"][..], "via 10.0.0.9 dev eth0"),
        ("10.5.0.0/16", &["10.0.0.200"], "via 10.0.0.200 dev eth1"),
        ("10.5.0.0/16", &["192.0.2.1"], "via 192.0.2.1 dev eth1"),
        ("fd05::/48", &["fd00::9"], "via fd00::9 dev eth0"),
        ("fd05::/48", &["fe80::9"], "via fe80::9 dev eth0"),
        ("10.5.0.0/16", &["10.0.0.9", "10.0.0.9"], "via 10.0.0.9 dev eth0"),
        ("10.5.0.0/16", &["10.0.0.200", "10.0.0.9"], "nexthop via 10.0.0.9 dev eth0 nexthop via 10.0.0.200 dev eth1"),
    ] {
        assert_eq!(outcome(&[(net, next_hops)]), (vec![format!("{net} {wanted}")], vec![]));
    }
}

#[test]
fn routes_are_marked_as_learned() {
    let (routes, _) = kernel_routes(&learned(&[("10.5.0.0/16", &["10.0.0.9"])]), &links(&LINKS));
    let route = routes.first().unwrap();
    assert_eq!((route.table, route.metric, route.source), (254, BGP_METRIC, None));
}

#[test]
fn what_can_be_no_next_hop_is_refused_for_itself_alone() {
    for (net, bad, reason) in [
        ("10.5.0.0/16", "10.0.0.1", "next hop 10.0.0.1 is this node's own address, on eth0"),
        ("10.5.0.0/16", "10.4.0.1", "next hop 10.4.0.1 is this node's own address, on tun0"),
        ("10.5.0.0/16", "10.9.0.9", "next hop 10.9.0.9 is on no link of this node and no route leads to it"),
        ("10.5.0.0/16", "0.0.0.0", "next hop 0.0.0.0 is no address that a neighbour can have"),
        ("10.5.0.0/16", "224.0.0.5", "next hop 224.0.0.5 is no address that a neighbour can have"),
        ("10.5.0.0/16", "127.0.0.9", "next hop 127.0.0.9 is no address that a neighbour can have"),
        (
            "10.5.0.0/16",
            "10.0.0.255",
            "next hop 10.0.0.255 is the network or broadcast address of 10.0.0.128/25 on eth1",
        ),
        ("10.5.0.0/16", "fd00::9", "next hop fd00::9 is not of the family of 10.5.0.0/16, to which it shall lead"),
        (
            "10.5.0.0/16",
            "10.5.0.9",
            "next hop 10.5.0.9 is on no link of this node and the route to it, 10.5.0.0/16, leads to none within 4 steps",
        ),
    ] {
        assert_eq!(outcome(&[(net, &[bad])]), (vec![], vec![reason.to_owned()]), "{bad} alone");
        if bad == "10.5.0.9" {
            // The good one leads to it.
            continue;
        }
        let beside = (vec![format!("{net} via 10.0.0.9 dev eth0")], vec![reason.to_owned()]);
        assert_eq!(outcome(&[(net, &[bad, "10.0.0.9"])]), beside, "{bad} beside a good one");
    }
}

#[test]
fn a_link_local_next_hop_needs_exactly_one_link() {
    let routes = learned(&[("fd05::/48", &["fe80::9"])]);
    let both = links(&[("b", "fe80::2/64"), ("a", "fe80::1/64")]);
    let (set, refused) = kernel_routes(&routes, &both);
    let reason = "next hop fe80::9 is link-local and may be on any of a, b; let the neighbour announce a global one";
    assert_eq!((set.len(), refused.into_values().collect::<Vec<_>>()), (0, vec![reason.to_owned()]));
    let (set, refused) = kernel_routes(&routes, &links(&[("a", "fd00::1/64")]));
    let reason = "next hop fe80::9 is link-local and no link of this node has such addresses";
    assert_eq!((set.len(), refused.into_values().collect::<Vec<_>>()), (0, vec![reason.to_owned()]));
}

#[test]
fn next_hops_on_no_link_are_reached_through_learned_routes() {
    let (routes, refused) = outcome(&[
        ("10.5.0.0/16", &["10.7.0.1"]),
        ("10.7.0.0/16", &["10.0.0.9"]),
        ("10.7.0.0/24", &["10.0.0.10", "10.8.0.1"]),
        ("10.8.0.0/24", &["10.0.0.11"]),
    ]);
    assert_eq!(
        routes,
        [
            "10.5.0.0/16 nexthop via 10.0.0.10 dev eth0 nexthop via 10.0.0.11 dev eth0",
            "10.7.0.0/16 via 10.0.0.9 dev eth0",
            "10.7.0.0/24 nexthop via 10.0.0.10 dev eth0 nexthop via 10.0.0.11 dev eth0",
            "10.8.0.0/24 via 10.0.0.11 dev eth0",
        ]
    );
    assert_eq!(refused, Vec::<String>::new());
}

#[test]
fn routes_that_lead_to_each_other_lead_nowhere() {
    let (routes, refused) = outcome(&[("10.5.0.0/16", &["10.6.0.1"]), ("10.6.0.0/16", &["10.5.0.1"])]);
    assert_eq!((routes, refused.len()), (vec![], 2));
}

#[test]
fn four_routes_one_after_the_other_lead_to_a_next_hop_and_five_do_not() {
    let (routes, refused) = outcome(&[
        ("10.10.0.0/16", &["10.0.0.9"]),
        ("10.11.0.0/16", &["10.10.0.1"]),
        ("10.12.0.0/16", &["10.11.0.1"]),
        ("10.13.0.0/16", &["10.12.0.1"]),
        ("10.14.0.0/16", &["10.13.0.1"]),
        ("10.15.0.0/16", &["10.14.0.1"]),
    ]);
    assert_eq!(routes.len(), 5, "{routes:?}");
    assert!(routes.contains(&"10.14.0.0/16 via 10.0.0.9 dev eth0".to_owned()), "{routes:?}");
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(refused[0].starts_with("next hop 10.14.0.1 is on no link"), "{refused:?}");
}

#[test]
fn a_route_has_no_more_next_hops_than_the_kernel_is_asked_to_bear() {
    let next_hops: Vec<IpAddr> =
        (2..=250u8).flat_map(|n| [IpAddr::from([10, 2, 0, n]), [10, 2, 1, n].into()]).collect();
    let routes = BTreeMap::from([("10.5.0.0/16".parse().unwrap(), next_hops)]);
    let (routes, refused) = kernel_routes(&routes, &links(&[("eth0", "10.2.0.1/16")]));
    let Target::Multipath(hops) = &routes.first().unwrap().target else { panic!("{routes:?}") };
    assert_eq!((hops.iter().count(), refused.len()), (MAX_HOPS, 0));
}

/// What was learned, and the addresses by link.
type World = (BTreeMap<IpNet, Vec<IpAddr>>, Vec<(String, IpNet)>);

/// Few networks and addresses, so that they meet.
fn worlds() -> impl Strategy<Value = World> {
    let address = (any::<bool>(), 0u8..6, 0u8..4).prop_map(|(v4, net, host)| match v4 {
        true => IpAddr::from([10, net, 0, host]),
        false => IpAddr::from([0xfd00, net.into(), 0, 0, 0, 0, 0, host.into()]),
    });
    let net = |address: IpAddr, length: u8| {
        IpNet::new(address, if address.is_ipv4() { 8 * length } else { 16 * length }).unwrap()
    };
    let route = ((address.clone(), 0u8..=4), proptest::collection::vec(address.clone(), 0..4))
        .prop_map(move |((address, length), hops)| (net(address, length).trunc(), hops));
    let link = (0u8..3, address, 2u8..=4).prop_map(move |(n, a, length)| (format!("eth{n}"), net(a, length)));
    let routes = proptest::collection::vec(route, 0..8).prop_map(BTreeMap::from_iter);
    (routes, proptest::collection::vec(link, 0..4))
}

fn hops(target: &Target) -> Vec<Hop> {
    match target {
        Target::Link { link, gateway } => vec![Hop { link: link.clone(), gateway: gateway.unwrap() }],
        Target::Multipath(hops) => hops.iter().cloned().collect(),
        Target::Unreachable => vec![],
    }
}

proptest! {
    #[test]
    fn every_gateway_is_a_neighbour_on_its_link_and_was_learned((learned, links) in worlds()) {
        let (routes, refused) = kernel_routes(&learned, &links);
        let next_hops: BTreeSet<IpAddr> = learned.values().flatten().copied().collect();
        for route in &routes {
            prop_assert!(learned.contains_key(&route.destination));
            prop_assert!(!hops(&route.target).is_empty());
            for hop in hops(&route.target) {
                prop_assert!(links.iter().any(|(link, net)| *link == hop.link && net.contains(&hop.gateway)));
                prop_assert!(links.iter().all(|(_, net)| net.addr() != hop.gateway));
                prop_assert!(next_hops.contains(&hop.gateway));
                prop_assert!(same_family(route.destination, hop.gateway));
            }
        }
        prop_assert!(refused.keys().all(|next_hop| next_hops.contains(next_hop)));
    }

    #[test]
    fn a_network_is_left_out_exactly_when_all_its_next_hops_are_refused((learned, links) in worlds()) {
        let (routes, _) = kernel_routes(&learned, &links);
        let there: BTreeSet<IpNet> = routes.iter().map(|r| r.destination).collect();
        prop_assert_eq!(there.len(), routes.len(), "one route a network");
        for (net, next_hops) in &learned {
            let refused = |next_hop: &IpAddr| {
                !same_family(*net, *next_hop)
                    || Resolver { learned: &learned, on_link: &links, known: HashMap::new() }
                        .resolve(*next_hop, LEVELS)
                        .is_err()
            };
            prop_assert_eq!(there.contains(net), !next_hops.iter().all(refused));
        }
    }

    #[test]
    fn the_order_of_links_and_next_hops_does_not_matter((learned, mut links) in worlds()) {
        let before = kernel_routes(&learned, &links);
        links.reverse();
        let mut turned = learned.clone();
        turned.values_mut().for_each(|hops| hops.reverse());
        let after = kernel_routes(&turned, &links);
        prop_assert_eq!(before.0, after.0);
        prop_assert_eq!(before.1.keys().collect::<Vec<_>>(), after.1.keys().collect::<Vec<_>>());
    }
}
