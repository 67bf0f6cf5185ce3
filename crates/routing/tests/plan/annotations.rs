//! Each annotation of a Node.

use std::time::Duration;

use serde_json::json;
use tombolo_bgp::config::{Bfd, NextHop};

use super::given::{Cluster, ip, judge, neighbor, neighbors, net, routes};
use tombolo_bgp::config::Origin;

#[test]
fn peers_are_a_yaml_list() {
    let yaml = "
- remoteip: 192.0.2.7
  remoteasn: 65000
  localip: 192.168.0.9
  password: U2VjdXJlUGFzc3dvcmQ=
  port: 1790
  bfd: {enabled: true, desired_min_tx_interval: 50, required_min_rx_interval: 60, detection_multiplier: 4}
- {remoteip: '192.0.2.8', remoteasn: '65001'}
";
    let config = Cluster::quiet().annotate(1, "peers", yaml).config();
    assert_eq!(neighbors(&config)[..2], ["192.0.2.7 AS65000", "192.0.2.8 AS65001"]);
    let first = neighbor(&config, "192.0.2.7");
    assert_eq!((first.port, first.local_address), (1790, Some(ip("192.168.0.9"))));
    assert_eq!(first.password.as_ref().unwrap().0, "SecurePassword");
    let millis = Duration::from_millis;
    assert_eq!(first.bfd, Some(Bfd { transmit: millis(50), receive: millis(60), multiplier: 4 }));
    let second = neighbor(&config, "192.0.2.8");
    assert_eq!((second.port, second.local_address), (179, Some(ip("192.168.0.1"))));
    assert_eq!((&second.password, second.bfd), (&None, None));
}

#[test]
fn single_annotations_name_peers_too() {
    let cluster = Cluster::quiet()
        .annotate(1, "peer.ips", "192.0.2.7, 192.0.2.8")
        .annotate(1, "peer.asns", "65000,0xFDE9")
        .annotate(1, "peer.ports", ",1790")
        .annotate(1, "peer.passwords", "U2VjdXJlUGFzc3dvcmQ=,")
        .annotate(1, "peer.localips", ",192.168.0.9");
    let config = cluster.config();
    assert_eq!(neighbors(&config)[..2], ["192.0.2.7 AS65000", "192.0.2.8 AS65001"]);
    let (first, second) = (neighbor(&config, "192.0.2.7"), neighbor(&config, "192.0.2.8"));
    assert_eq!((first.port, second.port), (179, 1790));
    assert_eq!((first.password.is_some(), second.password.is_some()), (true, false));
    assert_eq!(first.local_address, Some(ip("192.168.0.1")));
    assert_eq!(second.local_address, Some(ip("192.168.0.9")));
}

#[test]
fn the_node_s_word_goes_before_the_flags() {
    let peers = |cluster: Cluster| neighbors(cluster.plan().config())[..1].to_vec();
    let annotated = Cluster::new().annotate(1, "peers", "[{remoteip: 192.0.2.7, remoteasn: 65000}]");
    assert_eq!(peers(annotated.clone()), ["192.0.2.7 AS65000"]);
    let both = annotated.annotate(1, "peer.ips", "192.0.2.8").annotate(1, "peer.asns", "65001");
    assert_eq!(peers(both), ["192.0.2.7 AS65000"]);
    // An empty list is a word, too; what can't be read is none.
    assert_eq!(peers(Cluster::new().annotate(1, "peers", "[]")), ["192.168.0.2 AS64512"]);
    assert_eq!(peers(Cluster::new().annotate(1, "peers", "{")), ["192.0.2.1 AS64512"]);
    assert_eq!(peers(Cluster::new().annotate(1, "peers", " ")), ["192.0.2.1 AS64512"]);
}

#[test]
fn a_wrong_peer_is_refused_and_the_others_stay() {
    let good = "{remoteip: 192.0.2.8, remoteasn: 65001}";
    for (bad, words) in [
        ("{remoteip: 192.0.2.7}", ["peers[0].remoteasn", "not given"]),
        ("{remoteasn: 65000}", ["peers[0].remoteip", "not given"]),
        ("{remoteip: router, remoteasn: 65000}", ["peers[0].remoteip \"router\"", "write one"]),
        ("{remoteip: 'fe80::1', remoteasn: 65000}", ["peers[0].remoteip", "on each link"]),
        ("{remoteip: 192.0.2.7, remoteasn: 0}", ["peers[0].remoteasn \"0\"", "reserved"]),
        ("{remoteip: 192.0.2.7, remoteasn: 65000, port: 70000}", ["peers[0].port \"70000\"", "1 to 65535"]),
        ("{remoteip: 192.0.2.7, remoteasn: 65000, localip: x}", ["peers[0].localip \"x\"", "left out"]),
        ("{remoteip: 192.0.2.7, remoteasn: 65000, localip: 'fd00::1'}", ["peers[0].remoteip", "other family"]),
        ("{remoteip: 192.0.2.7, remoteasn: 65000, password: se_cret}", ["peers[0].password \"…\"", "not base64"]),
        ("{remoteip: 192.0.2.7, remoteasn: 65000, bfd: 1}", ["peers[0].bfd", "no object"]),
        ("{remoteip: 192.0.2.7, remoteasn: 65000, bfd: {enabled: yes please}}", ["bfd.enabled", "neither"]),
        ("{remoteip: 192.0.2.7, remoteasn: 65000, bfd: {port: 3785}}", ["bfd.port \"3785\"", "3784"]),
        (
            "{remoteip: 192.0.2.7, remoteasn: 65000, bfd: {detection_multiplier: 256}}",
            ["detection_multiplier \"256\"", "1 to 255"],
        ),
        ("192.0.2.7", ["peers[0]", "no object"]),
        ("{remoteip: {a: b}, remoteasn: 65000}", ["peers[0].remoteip \"…\"", "no IP address"]),
    ] {
        let outcome = Cluster::quiet().annotate(1, "peers", &format!("[{bad}, {good}]")).plan();
        outcome.refuses(&words);
        assert_eq!(neighbors(outcome.config())[..1], ["192.0.2.8 AS65001"], "{bad}");
        assert_eq!(outcome.config().neighbors.len(), 3, "{bad}");
    }
}

#[test]
fn a_key_that_is_not_known_is_said_and_the_peer_stays() {
    let outcome = Cluster::quiet().annotate(1, "peers", "[{remoteip: 192.0.2.7, remoteasn: 65000, prot: 1}]").plan();
    outcome.refuses(&["peers[0] \"prot\"", "remoteip, remoteasn, localip, password, port, bfd"]);
    assert_eq!(outcome.config().neighbors.len(), 3);
}

#[test]
fn a_password_is_repeated_nowhere() {
    let secret = "TopSecret!";
    let cluster = Cluster::quiet()
        .annotate(1, "peers", &format!("[{{remoteip: 192.0.2.7, remoteasn: 65000, password: '{secret}'}}"))
        .annotate(1, "peer.ips", "192.0.2.8,192.0.2.9")
        .annotate(1, "peer.asns", "65000,65000")
        .annotate(1, "peer.passwords", secret);
    let outcome = cluster.plan();
    assert_eq!(outcome.refused.len(), 2);
    assert!(!format!("{outcome:?}").contains(secret), "{outcome:?}");
    let good = Cluster::quiet().annotate(1, "peers", "[{remoteip: 192.0.2.7, remoteasn: 1, password: VG9wU2VjcmV0}]");
    assert!(!format!("{:?}", good.plan()).contains("TopSecret"));
    assert!(!format!("{:?}", good.read()).contains("TopSecret"));
}

#[test]
fn lists_of_different_lengths_are_said_in_words() {
    let three = || Cluster::quiet().annotate(1, "peer.ips", "192.0.2.7,192.0.2.8,192.0.2.9");
    let with_asns = || three().annotate(1, "peer.asns", "1,2,3");
    for (cluster, words) in [
        (
            three().annotate(1, "peer.asns", "1,2"),
            ["peer.asns \"1,2\"", "there are 3 addresses and there are 2 AS numbers"],
        ),
        (three(), ["peer.asns", "there are 3 addresses and there are 0 AS numbers"]),
        (with_asns().annotate(1, "peer.ports", "179"), ["peer.ports \"179\"", "there is 1 port"]),
        (with_asns().annotate(1, "peer.passwords", "eA==,eA=="), ["peer.passwords \"…,…\"", "there are 2 passwords"]),
        (with_asns().annotate(1, "peer.localips", "192.168.0.1"), ["peer.localips", "there is 1 local address"]),
        (Cluster::quiet().annotate(1, "peer.asns", "1"), ["peer.asns \"1\"", "write kube-router.io/peer.ips"]),
    ] {
        let outcome = cluster.plan();
        outcome.refuses(&words);
        assert_eq!(neighbors(outcome.config()), ["192.168.0.2 AS64512", "192.168.0.3 AS64512"]);
    }
}

#[test]
fn a_wrong_place_of_a_list_is_refused_and_the_others_stay() {
    let good =
        [("peer.ips", "192.0.2.7,192.0.2.8"), ("peer.asns", "1,2"), ("peer.ports", ","), ("peer.passwords", ",")];
    for (name, value, words) in [
        ("peer.ips", "x,192.0.2.8", "peer.ips[0] \"x\""),
        ("peer.ips", ",192.0.2.8", "peer.ips[0] \"\""),
        ("peer.asns", "AS1,2", "peer.asns[0] \"AS1\""),
        ("peer.ports", "0,", "peer.ports[0] \"0\""),
        ("peer.passwords", "?,", "peer.passwords[0] \"…\""),
        ("peer.localips", "0.0.0.0,", "peer.localips[0] \"0.0.0.0\""),
    ] {
        let cluster = good.iter().fold(Cluster::quiet(), |cluster, (name, value)| cluster.annotate(1, name, value));
        let outcome = cluster.annotate(1, name, value).plan();
        outcome.refuses(&[words, "left out"]);
        assert_eq!(neighbors(outcome.config())[..1], ["192.0.2.8 AS2"], "{name}");
    }
}

#[test]
fn a_peer_that_makes_no_sense_here_is_refused() {
    for (peer, words) in [
        ("192.168.0.1", "this node's own address"),
        ("192.168.0.2", "neighbour by itself (node n2)"),
        ("fd00::99", "no IPv6 address"),
    ] {
        let outcome =
            Cluster::quiet().annotate(1, "peers", &format!("[{{remoteip: '{peer}', remoteasn: 65000}}]")).plan();
        outcome.refuses(&[peer, words]);
        assert_eq!(neighbors(outcome.config()), ["192.168.0.2 AS64512", "192.168.0.3 AS64512"]);
    }
    let twice = "[{remoteip: 192.0.2.7, remoteasn: 1}, {remoteip: '::ffff:192.0.2.7', remoteasn: 2}]";
    let outcome = Cluster::quiet().annotate(1, "peers", twice).plan();
    assert_eq!(neighbors(outcome.refuses(&["peers[1].remoteip", "each peer once"]).config())[..1], ["192.0.2.7 AS1"]);
}

#[test]
fn node_asn_holds_where_there_is_no_full_mesh() {
    let apart = || {
        let cluster = Cluster::new().flags(|flags| flags.nodes_full_mesh = false);
        cluster.annotate(1, "node.asn", "65001").annotate(2, "node.asn", "0xFDE9").annotate(3, "node.asn", "65003")
    };
    let config = apart().config();
    assert_eq!(config.asn, 65001);
    assert_eq!(neighbors(&config), ["192.0.2.1 AS64512", "192.168.0.2 AS65001"]);
    // A wrong one counts as not given, which is the cluster's.
    let outcome = apart().annotate(1, "node.asn", "many").plan();
    outcome.refuses(&["node.asn \"many\"", "like 64512"]);
    assert_eq!((outcome.config().asn, outcome.config().neighbors.len()), (64512, 1));
}

#[test]
fn node_asn_in_a_full_mesh_is_said_to_have_no_effect() {
    let outcome = Cluster::new().annotate(1, "node.asn", "65001").annotate(2, "node.asn", "65002").plan();
    outcome.refuses(&["Node/n1", "node.asn \"65001\"", "--nodes-full-mesh=false"]);
    assert_eq!((outcome.config().asn, outcome.config().neighbors.len()), (64512, 3));
    assert_eq!(Cluster::new().annotate(1, "node.asn", "64512").config().asn, 64512);
}

#[test]
fn reflectors_and_their_clients_peer() {
    let cluster = Cluster::quiet().annotate(1, "rr.server", "42").annotate(2, "rr.client", "0.0.0.42");
    let cluster = cluster.annotate(3, "rr.client", "42");
    let server = cluster.plan_of("n1");
    let config = server.config();
    assert_eq!(config.cluster_id, Some("0.0.0.42".parse().unwrap()));
    assert_eq!(neighbors(config), ["192.168.0.2 AS64512", "192.168.0.3 AS64512"]);
    assert!(config.neighbors.values().all(|n| n.route_reflector_client));
    let client = cluster.plan_of("n2");
    let config = client.config();
    assert_eq!((config.cluster_id, neighbors(config)), (None, vec!["192.168.0.1 AS64512".to_owned()]));
    assert!(config.neighbors.values().all(|n| !n.route_reflector_client));
}

#[test]
fn reflectors_peer_with_each_other_and_with_plain_nodes() {
    let cluster = Cluster::quiet().annotate(1, "rr.server", "1").annotate(2, "rr.server", "2");
    let config = cluster.config();
    assert_eq!(config.neighbors.len(), 2);
    assert!(config.neighbors.values().all(|n| !n.route_reflector_client));
}

#[test]
fn reflection_that_comes_to_nothing_is_said() {
    let lonely = Cluster::quiet().annotate(1, "rr.client", "42").annotate(2, "rr.server", "43").plan();
    assert!(lonely.refuses(&["rr.client", "no reachable node of AS 64512"]).config().neighbors.is_empty());
    let both = Cluster::quiet().annotate(1, "rr.client", "42").annotate(1, "rr.server", "43").plan();
    assert_eq!(both.refuses(&["rr.client", "goes before"]).config().neighbors.len(), 2);
    for name in ["rr.server", "rr.client"] {
        let wrong = Cluster::quiet().annotate(1, name, "reflector").plan();
        assert_eq!(wrong.refuses(&[name, "\"reflector\"", "42"]).config().neighbors.len(), 2);
        let alone = Cluster::quiet().flags(|flags| flags.enable_ibgp = false).annotate(1, name, "42").plan();
        assert!(alone.refuses(&[name, "--enable-ibgp"]).config().neighbors.is_empty());
    }
}

#[test]
fn paths_to_external_peers_are_prepended() {
    let cluster = || Cluster::new().annotate(1, "path-prepend.as", "65000").annotate(1, "path-prepend.repeat-n", "5");
    let config = cluster().config();
    let sets = |address: &str| {
        let statements = &neighbor(&config, address).export.statements;
        statements.iter().map(|statement| statement.set.prepend).collect::<Vec<_>>()
    };
    assert_eq!(sets("192.0.2.1"), [Some((65000, 5)); 4]);
    assert_eq!(sets("192.168.0.2"), [None; 4]);
    let none = cluster().annotate(1, "path-prepend.repeat-n", "0").config();
    assert!(neighbor(&none, "192.0.2.1").export.statements.iter().all(|statement| statement.set.is_empty()));
    for (name, value, words) in [
        ("path-prepend.as", "x", ["path-prepend.as \"x\"", "no AS number"]),
        ("path-prepend.repeat-n", "256", ["path-prepend.repeat-n \"256\"", "up to 255"]),
        ("path-prepend.as", "", ["path-prepend.repeat-n", "write kube-router.io/path-prepend.as"]),
        ("path-prepend.repeat-n", "", ["path-prepend.as", "write kube-router.io/path-prepend.repeat-n"]),
    ] {
        let outcome = cluster().annotate(1, name, value).plan();
        outcome.refuses(&words);
        let export = &neighbor(outcome.config(), "192.0.2.1").export;
        assert!(export.statements.iter().all(|statement| statement.set.is_empty()));
    }
}

#[test]
fn communities_are_put_on_what_external_peers_get() {
    let list = "64512:100, no-export,64512:1:2,65536:1,blackhole";
    let outcome = Cluster::new().annotate(1, "node.bgp.communities", list).plan();
    outcome.refuses(&["node.bgp.communities \"65536:1\"", "64512:100"]);
    for statement in &neighbor(outcome.config(), "192.0.2.1").export.statements {
        let communities: Vec<String> = statement.set.communities.iter().map(ToString::to_string).collect();
        assert_eq!(communities, ["64512:100", "no-export", "65535:666"]);
        assert_eq!(statement.set.large_communities, ["64512:1:2".parse().unwrap()]);
    }
    let inside = &neighbor(outcome.config(), "192.168.0.2").export;
    assert!(inside.statements.iter().all(|statement| statement.set.is_empty()));
}

#[test]
fn customimportreject_holds_for_all_neighbours() {
    let list = "172.20.0.0/16, fd20::/32,172.21.0.1,::ffff:10.0.0.0/104";
    let outcome = Cluster::new().annotate(1, "node.bgp.customimportreject", list).plan();
    assert_eq!(outcome.refused.len(), 2, "{:?}", outcome.refused);
    for address in ["192.0.2.1", "192.168.0.2"] {
        let import = &neighbor(outcome.config(), address).import;
        for (prefix, taken) in [
            ("172.20.0.0/16", false),
            ("172.20.7.0/24", false),
            ("fd20::1/128", false),
            ("172.16.0.0/12", true),
            ("172.21.0.1/32", true),
        ] {
            let (accepted, why) = judge(import, prefix, Origin::Internal, None);
            assert_eq!(accepted, taken, "{address} {prefix} {why}");
            assert!(taken || why.contains("customimportreject"), "{why}");
        }
    }
}

#[test]
fn pod_cidrs_of_the_annotations_go_before_those_of_the_spec() {
    let pods = |cluster: &Cluster| routes(cluster.plan().config());
    let cluster = Cluster::new().annotate(1, "pod-cidr", "10.50.0.0/24");
    assert_eq!(pods(&cluster), ["10.50.0.0/24 1 via 192.168.0.1"]);
    let cluster = cluster.annotate(1, "pod-cidrs", "10.51.0.7/24,10.52.0.0/24");
    assert_eq!(pods(&cluster), ["10.51.0.0/24 1 via 192.168.0.1", "10.52.0.0/24 1 via 192.168.0.1"]);
    let outcome = Cluster::new().annotate(1, "pod-cidr", "10.50.0.0").plan();
    outcome.refuses(&["pod-cidr \"10.50.0.0\"", "ADDRESS/LENGTH"]);
    assert_eq!(routes(outcome.config()), ["10.41.1.0/24 1 via 192.168.0.1"]);
}

#[test]
fn bgp_local_addresses_are_where_it_listens() {
    let listen =
        |cluster: &Cluster| -> Vec<String> { cluster.plan().config().listen.iter().map(ToString::to_string).collect() };
    assert_eq!(listen(&Cluster::new()), ["192.168.0.1:179"]);
    assert_eq!(listen(&Cluster::new().families(&["v6", "v4"])), ["192.168.0.1:179", "[fd00::1]:179"]);
    let cluster = Cluster::new().annotate(1, "bgp-local-addresses", "172.20.56.25,host,fd00::25");
    cluster.plan().refuses(&["bgp-local-addresses \"host\""]);
    assert_eq!(listen(&cluster), ["172.20.56.25:179", "[fd00::25]:179"]);
}

#[test]
fn the_next_hop_is_the_session_s_own_where_it_is_overridden() {
    let cluster = Cluster::new().families(&["v4", "v6"]).flags(|flags| flags.override_nexthop = true);
    let config = cluster.config();
    assert_eq!(neighbor(&config, "192.0.2.1").next_hop, NextHop::OwnAddress);
    assert_eq!(neighbor(&config, "192.168.0.2").next_hop, NextHop::Standard);
    assert_eq!(routes(&config), ["10.41.1.0/24 1 via 192.168.0.1", "fd41:1::/64 1 via fd00::1"]);
    assert_eq!(config.addresses, [ip("192.168.0.1"), ip("fd00::1")]);
}

#[test]
fn the_annotations_of_another_node_are_not_this_one_s() {
    let cluster = Cluster::new()
        .annotate(2, "peers", "[{remoteip: 192.0.2.7, remoteasn: 65000}]")
        .annotate(2, "path-prepend.as", "1")
        .annotate(2, "path-prepend.repeat-n", "1")
        .annotate(2, "node.bgp.communities", "1:1")
        .annotate(2, "bgp-local-addresses", "172.20.56.25");
    assert_eq!(cluster.config(), Cluster::new().config());
}

#[test]
fn a_node_without_annotations_and_a_status_is_still_one() {
    let mut cluster = Cluster::new();
    cluster.nodes[0] = json!({"metadata": {"name": "n1"}});
    let outcome = cluster.plan();
    assert_eq!(outcome.refuses(&["status.addresses", "--node-ip"]).plan.config, None);
    let mut cluster = Cluster::new();
    cluster.nodes[1] = json!({"metadata": {"name": "n2"}});
    assert_eq!(neighbors(&cluster.config()), ["192.0.2.1 AS64512", "192.168.0.3 AS64512"]);
    assert!(cluster.config().routes.contains_key(&net("10.41.1.0/24")));
}

#[test]
fn text_that_would_keep_every_agent_busy_is_refused() {
    let aliases = format!("- &a [{}]\n{}", "x,".repeat(1000), "- *a\n".repeat(1000));
    let deep = "[".repeat(5_000);
    let long = format!("{}- {{}}", "#\n".repeat(10_000));
    for (text, words) in [(aliases, "anchor (&)"), (deep, "no YAML"), (long, "may have 16384")] {
        let outcome = Cluster::new().annotate(1, "peers", &text).plan();
        outcome.refuses(&["kube-router.io/peers \"…\"", words]);
        assert_eq!(neighbors(outcome.config())[0], "192.0.2.1 AS64512");
    }
    let many = Cluster::new().annotate(1, "peer.ips", &",".repeat(1024)).annotate(1, "peer.asns", &",".repeat(1024));
    assert_eq!(
        neighbors(many.plan().refuses(&["1025 addresses", "1024 is the most"]).config())[0],
        "192.0.2.1 AS64512"
    );
}
