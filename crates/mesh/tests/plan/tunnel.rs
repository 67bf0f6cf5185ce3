//! What goes through the WireGuard interface, and what goes to the leader that has one.

use tombolo_mesh::routes::MARK;

use super::given::{Cluster, Family, device, net, node, refusals, routes, routes_in, rules};

#[test]
fn between_locations_a_leader_has_a_tunnel_to_each_other_leader() {
    let plan = Cluster::two_locations(Family::V4).plan("a1");
    assert!(plan.leads());
    assert_eq!(plan.leader, "a1");
    assert_eq!(
        device(&plan),
        ["b1 192.168.2.1:51820: 10.41.21.0/24 192.168.2.1/32 10.41.22.0/24 192.168.2.2/32 10.4.0.2/32"]
    );
    assert_eq!(
        routes(&plan),
        [
            "main 10.41.12.0/24 via 192.168.1.2 dev eth0",
            "tunnel 10.41.21.0/24 dev kilo0",
            "tunnel 10.41.22.0/24 dev kilo0",
            "tunnel 192.168.2.2/32 dev kilo0",
        ]
    );
    assert_eq!(
        rules(&plan),
        ["1117: not v4 fwmark 0x1170/0xffffffff tunnel", "1117: not v6 fwmark 0x1170/0xffffffff tunnel"]
    );
    let addresses: Vec<String> = plan.network.addresses.iter().map(|a| format!("{} {}", a.link, a.net)).collect();
    assert_eq!(addresses, ["kilo0 10.4.0.1/16"]);
    assert_eq!(plan.device.unwrap().fwmark, Some(MARK));
}

#[test]
fn the_other_nodes_of_a_location_send_to_its_leader() {
    let plan = Cluster::two_locations(Family::V4).plan("a2");
    assert!(!plan.leads());
    assert_eq!((plan.leader.as_str(), plan.device.is_none(), plan.network.addresses.len()), ("a1", true, 0));
    assert_eq!(
        routes(&plan),
        [
            "main 10.4.0.1/32 via 192.168.1.1 dev eth0",
            "main 10.4.0.2/32 via 192.168.1.1 dev eth0",
            "main 10.41.11.0/24 via 192.168.1.1 dev eth0",
            "main 10.41.21.0/24 via 192.168.1.1 dev eth0",
            "main 10.41.22.0/24 via 192.168.1.1 dev eth0",
            "main 192.168.2.2/32 via 192.168.1.1 dev eth0",
        ]
    );
    assert!(rules(&plan).is_empty());
}

#[test]
fn with_full_granularity_each_node_has_a_tunnel_to_each_other() {
    let cluster = Cluster::new(Family::V4, &["a1", "a2", "b1"]).full();
    for (name, others) in [("a1", ["a2", "b1"]), ("a2", ["a1", "b1"]), ("b1", ["a1", "a2"])] {
        let plan = cluster.plan(name);
        assert!(plan.leads());
        assert_eq!(plan.leader, name);
        let peers: Vec<String> = device(&plan).iter().map(|line| line[..2].to_owned()).collect();
        assert_eq!(peers, others);
        let pods = others.map(|n| format!("{} dev kilo0", node(n, Family::V4).subnets[0]));
        assert_eq!(routes_in(&plan, "tunnel"), pods, "an address that is an endpoint is not routed into the tunnel");
        assert!(routes_in(&plan, "main").is_empty());
        assert!(plan.network.vxlans.is_empty());
    }
}

#[test]
fn ipv6_is_planned_as_ipv4_is() {
    let cluster = Cluster::two_locations(Family::V6);
    assert_eq!(
        device(&cluster.plan("a1")),
        ["b1 [fd02::1]:51820: fd41:21::/64 fd02::1/128 fd41:22::/64 fd02::2/128 fd04::2/128"]
    );
    assert_eq!(
        routes(&cluster.plan("a1")),
        [
            "main fd41:12::/64 via fd01::2 dev eth0",
            "tunnel fd02::2/128 dev kilo0",
            "tunnel fd41:21::/64 dev kilo0",
            "tunnel fd41:22::/64 dev kilo0",
        ]
    );
    assert_eq!(routes(&cluster.plan("a2"))[0], "main fd02::2/128 via fd01::1 dev eth0");
}

#[test]
fn a_dual_stack_cluster_is_both() {
    let plan = Cluster::two_locations(Family::Dual).plan("a1");
    assert_eq!(
        routes(&plan),
        [
            "main 10.41.12.0/24 via 192.168.1.2 dev eth0",
            "main fd41:12::/64 via fd01::2 dev eth0",
            "tunnel 10.41.21.0/24 dev kilo0",
            "tunnel 10.41.22.0/24 dev kilo0",
            "tunnel 192.168.2.2/32 dev kilo0",
            "tunnel fd02::1/128 dev kilo0",
            "tunnel fd02::2/128 dev kilo0",
            "tunnel fd41:21::/64 dev kilo0",
            "tunnel fd41:22::/64 dev kilo0",
        ],
        "b1's IPv6 address is not its endpoint, and goes through the tunnel"
    );
    let addresses: Vec<_> = plan.network.addresses.iter().map(|a| a.net).collect();
    assert_eq!(addresses, [net("10.4.0.1/16"), net("fd04::1/64")]);
}

#[test]
fn what_the_node_itself_sends_comes_from_its_internal_address() {
    for name in ["a1", "a2"] {
        for route in &Cluster::two_locations(Family::Dual).plan(name).network.routes {
            let node = node(name, Family::Dual);
            let own = node.internal_ips[usize::from(route.destination.addr().is_ipv6())].addr();
            assert_eq!(route.source, Some(own), "{route:?}");
        }
    }
}

#[test]
fn a_private_address_behind_a_public_endpoint_is_reached_through_the_tunnel() {
    let cluster =
        Cluster::two_locations(Family::V4).with(|c| c.node("b1").endpoint = Some("203.0.113.1:51820".parse().unwrap()));
    assert!(routes_in(&cluster.plan("a1"), "tunnel").contains(&"192.168.2.1/32 dev kilo0".to_owned()));
    assert!(routes_in(&cluster.plan("a2"), "main").contains(&"192.168.2.1/32 via 192.168.1.1 dev eth0".to_owned()));
}

#[test]
fn allowed_location_ips_are_reached_through_their_location() {
    let cluster = Cluster::two_locations(Family::V4)
        .with(|c| c.node("b2").allowed_location_ips = vec![net("172.16.9.0/24"), net("172.16.8.7/32")]);
    let into_tunnel = routes_in(&cluster.plan("a1"), "tunnel");
    let to_leader = routes_in(&cluster.plan("a2"), "main");
    for foreign in ["172.16.8.7/32", "172.16.9.0/24"] {
        assert!(into_tunnel.contains(&format!("{foreign} dev kilo0")));
        assert!(to_leader.contains(&format!("{foreign} via 192.168.1.1 dev eth0")));
        assert!(device(&cluster.plan("a1"))[0].contains(foreign));
    }
    for own in ["b1", "b2"] {
        assert!(!routes(&cluster.plan(own)).iter().any(|r| r.contains("172.16")), "its own nodes know the way");
    }
}

#[test]
fn host_bits_that_a_person_wrote_are_not_in_routes() {
    let cluster =
        Cluster::two_locations(Family::V4).with(|c| c.node("b2").allowed_location_ips = vec![net("172.16.9.7/24")]);
    assert!(routes_in(&cluster.plan("a1"), "tunnel").contains(&"172.16.9.0/24 dev kilo0".to_owned()));
}

#[test]
fn allowed_location_ips_do_not_take_a_location_from_itself() {
    let cluster = Cluster::two_locations(Family::V4)
        .with(|c| c.node("b2").allowed_location_ips = vec![net("0.0.0.0/0"), net("172.16.9.0/24")]);
    for (name, table) in [("a1", "tunnel"), ("a2", "main")] {
        let plan = cluster.plan(name);
        assert_eq!(refusals(&plan), ["Node/b2 kilo.squat.ai/allowed-location-ips 0.0.0.0/0"]);
        assert!(plan.refusals[0].reason.contains("location:a"), "{}", plan.refusals[0].reason);
        let routes = routes_in(&plan, table);
        assert!(routes.iter().any(|r| r.starts_with("172.16.9.0/24")) && !routes.iter().any(|r| r.starts_with("0.")));
    }
    assert!(cluster.plan("b1").refusals.is_empty(), "those of its own location are nothing to a node");
}

#[test]
fn two_sites_with_one_private_network_keep_their_own_addresses() {
    // Both sites number their nodes alike, as home networks do; their endpoints are public.
    let cluster = Cluster::two_locations(Family::V4).with(|c| {
        for (name, endpoint, internal) in [
            ("a1", "203.0.113.1:51820", "192.168.1.1/24"),
            ("a2", "203.0.113.2:51820", "192.168.1.2/24"),
            ("b1", "198.51.100.1:51820", "192.168.1.1/24"),
            ("b2", "198.51.100.2:51820", "192.168.1.2/24"),
        ] {
            c.node(name).endpoint = Some(endpoint.parse().unwrap());
            c.node(name).internal_ips = vec![net(internal)];
        }
    });
    for (name, pods) in [("a1", ["10.41.21.0/24", "10.41.22.0/24"]), ("b1", ["10.41.11.0/24", "10.41.12.0/24"])] {
        let into_tunnel = routes_in(&cluster.plan(name), "tunnel");
        assert_eq!(into_tunnel, pods.map(|net| format!("{net} dev kilo0")), "not the neighbour's address");
    }
    for name in ["a2", "b2"] {
        let routes = routes_in(&cluster.plan(name), "main");
        assert!(!routes.iter().any(|r| r.starts_with("192.168.")), "{routes:?}");
    }
}

#[test]
fn more_segments_than_wireguard_addresses_are_too_many() {
    let cluster = Cluster::two_locations(Family::V4).full().with(|c| c.settings.subnets = vec![net("10.4.0.0/30")]);
    let error = cluster.error("a1");
    assert!(error.contains("10.4.0.0/30") && error.contains("4 segments") && error.contains("--subnet"), "{error}");
}
