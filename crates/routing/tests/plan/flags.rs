//! Each flag.

use std::time::Duration;

use tombolo_bgp::config::{AddPath, Bfd, MaxPrefixes, NextHop, Password, Ttl};
use tombolo_routing::{Flags, Settings};

use super::given::{Cluster, ip, neighbor, neighbors, net, routes};

const SECOND: Duration = Duration::from_secs(1);

fn with(change: impl FnOnce(&mut Flags)) -> Cluster {
    Cluster::new().flags(change)
}

/// That a flag is an error at the start, said with these words.
fn wrong(change: impl FnOnce(&mut Flags), words: &[&str]) {
    let error = Settings::new(with(change).flags).unwrap_err();
    assert_eq!(error.0.len(), 1, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error} without {word:?}");
    }
}

#[test]
fn without_flags_all_is_as_kube_router_has_it() {
    let config = Cluster::new().config();
    assert_eq!((config.asn, config.multipath), (64512, 1));
    assert_eq!(config.router_id.to_string(), "192.168.0.1");
    assert_eq!((config.cluster_id, config.graceful_restart.clone()), (None, None));
    for neighbor in config.neighbors.values() {
        assert_eq!((neighbor.port, neighbor.hold_time), (179, 90 * SECOND));
        assert_eq!((neighbor.ttl, neighbor.bfd, neighbor.max_prefixes), (Ttl::Default, None, None));
        assert_eq!(neighbor.next_hop, NextHop::Standard);
        assert_eq!(neighbor.add_path, AddPath { receive: false, send: 1 });
    }
}

#[test]
fn peers_of_the_flags_have_their_places() {
    let peers = |flags: &mut Flags| {
        flags.peer_router_ips = vec![ip("192.0.2.1"), ip("2001:db8::1")];
        flags.peer_router_asns = vec![65000, 65001];
        flags.peer_router_ports = vec![179, 1790];
        flags.peer_router_passwords = ["U2VjdXJlUGFzc3dvcmQ=", ""].map(|text| Password(text.into())).to_vec();
    };
    let config = with(peers).families(&["v4", "v6"]).config();
    assert_eq!(neighbors(&config)[0], "192.0.2.1 AS65000");
    let (first, second) = (neighbor(&config, "192.0.2.1"), neighbor(&config, "2001:db8::1"));
    assert_eq!((first.port, first.password.clone()), (179, Some(Password("SecurePassword".into()))));
    assert_eq!((second.port, second.password.clone()), (1790, None));
    assert_eq!((second.remote_asn, second.local_address), (Some(65001), Some(ip("fd00::1"))));
    // The file is of the same form, with a line's end, and goes after the flag.
    let of_file = |contents: &str| {
        let cluster = with(peers).families(&["v4", "v6"]);
        let config = cluster.flags(|flags| {
            flags.peer_router_passwords.clear();
            flags.peer_router_passwords_file = Some(Password(contents.into()));
        });
        neighbor(&config.config(), "192.0.2.1").password.clone()
    };
    assert_eq!(of_file("U2VjdXJlUGFzc3dvcmQ=,\n"), Some(Password("SecurePassword".into())));
    assert_eq!(of_file(" \n"), None);
    let both = with(peers).families(&["v4", "v6"]);
    let both = both.flags(|flags| flags.peer_router_passwords_file = Some(Password("eA==,eA==".into()))).config();
    assert_eq!(neighbor(&both, "2001:db8::1").password, None);
}

#[test]
fn peers_that_do_not_go_together_are_errors() {
    wrong(|f| f.peer_router_asns.push(1), &["--peer-router-asns", "1 address", "2 AS numbers"]);
    wrong(|f| f.peer_router_asns.clear(), &["--peer-router-asns", "0 AS numbers"]);
    wrong(|f| f.peer_router_ips.clear(), &["--peer-router-asns", "write --peer-router-ips"]);
    wrong(|f| f.peer_router_ports = vec![1, 2], &["--peer-router-ports", "2 ports"]);
    wrong(|f| f.peer_router_ports = vec![0], &["--peer-router-ports[0]", "1 to 65535"]);
    wrong(|f| f.peer_router_asns = vec![23456], &["--peer-router-asns[0]", "reserved"]);
    wrong(|f| f.peer_router_ips = vec![ip("0.0.0.0")], &["--peer-router-ips[0]", "one host"]);
    let passwords = |list: &[&str]| list.iter().map(|text| Password((*text).to_owned())).collect::<Vec<_>>();
    wrong(
        |f| f.peer_router_passwords = passwords(&["eA==", "eA=="]),
        &["--peer-router-passwords \"…,…\"", "2 passwords"],
    );
    wrong(|f| f.peer_router_passwords = passwords(&["secret!"]), &["--peer-router-passwords[0] \"…\"", "base64"]);
    wrong(
        |f| f.peer_router_passwords_file = Some(Password("eA==,eA==".into())),
        &["--peer-router-passwords-file", "2 passwords"],
    );
    let twice = |f: &mut Flags| {
        f.peer_router_ips = vec![ip("192.0.2.1"), ip("192.0.2.1")];
        f.peer_router_asns = vec![1, 2];
    };
    wrong(twice, &["--peer-router-ips[1]", "each peer once"]);
}

#[test]
fn all_wrong_flags_are_said_at_once() {
    let flags = Flags { cluster_asn: 23456, bgp_port: 0, router_id: "me".into(), ..Flags::default() };
    let errors = Settings::new(flags).unwrap_err();
    let flags: Vec<&str> = errors.0.iter().map(|error| error.flag.as_str()).collect();
    assert_eq!(flags, ["--cluster-asn", "--bgp-port", "--router-id"]);
    assert_eq!(errors.to_string().lines().count(), 3);
}

#[test]
fn cluster_asn_is_that_of_all_nodes() {
    let config = with(|f| f.cluster_asn = 65535).config();
    assert_eq!((config.asn, neighbors(&config)[1].as_str()), (65535, "192.168.0.2 AS65535"));
    assert_eq!(with(|f| f.cluster_asn = 0).config().asn, 64512);
    wrong(|f| f.cluster_asn = u32::MAX, &["--cluster-asn \"4294967295\""]);
}

#[test]
fn enable_ibgp_is_for_sessions_in_the_cluster() {
    assert_eq!(neighbors(&with(|f| f.enable_ibgp = false).config()), ["192.0.2.1 AS64512"]);
}

#[test]
fn nodes_full_mesh_off_without_annotations_is_one_cluster_as_before() {
    assert_eq!(with(|f| f.nodes_full_mesh = false).config(), Cluster::new().config());
}

#[test]
fn bgp_port_is_the_own_and_the_nodes_but_not_the_routers() {
    let config = with(|f| f.bgp_port = 1179).config();
    assert_eq!(config.listen, ["192.168.0.1:1179".parse().unwrap()]);
    assert_eq!((neighbor(&config, "192.168.0.2").port, neighbor(&config, "192.0.2.1").port), (1179, 179));
}

#[test]
fn times_are_in_their_ranges() {
    let hold = |time| with(|f| f.bgp_holdtime = time).config().neighbors.values().map(|n| n.hold_time).max().unwrap();
    assert_eq!(hold(3 * SECOND), 3 * SECOND);
    assert_eq!(hold(65_536 * SECOND), 65_535 * SECOND);
    wrong(|f| f.bgp_holdtime = 2 * SECOND, &["--bgp-holdtime \"2s\"", "3s to 18h12m16s"]);
    wrong(|f| f.bgp_holdtime = 65_537 * SECOND, &["--bgp-holdtime"]);
    wrong(|f| f.bgp_graceful_restart_time = 4096 * SECOND, &["--bgp-graceful-restart-time", "4095s"]);
    wrong(|f| f.bgp_graceful_restart_deferral_time = 64_801 * SECOND, &["deferral-time", "18h"]);
    wrong(|f| f.bgp_long_lived_graceful_restart_time = Some(SECOND), &["long-lived", "--bgp-graceful-restart, too"]);
}

#[test]
fn graceful_restart_is_as_asked() {
    let mut cluster = with(|f| {
        f.bgp_graceful_restart = true;
        f.bgp_graceful_restart_time = 120 * SECOND;
        f.bgp_long_lived_graceful_restart_time = Some(3600 * SECOND);
    });
    for restarting in [false, true] {
        cluster.restarting = restarting;
        let graceful = cluster.config().graceful_restart.unwrap();
        assert_eq!((graceful.restart_time, graceful.deferral_time), (120 * SECOND, 360 * SECOND));
        assert_eq!((graceful.preserves_forwarding, graceful.restarting), (true, restarting));
        assert_eq!(graceful.long_lived, Some(3600 * SECOND));
    }
}

#[test]
fn router_id_is_given_or_made() {
    let id = |families: &[&str], text: &str| {
        with(|f| f.router_id = text.into()).families(families).plan().config().router_id.to_string()
    };
    assert_eq!(id(&["v4"], ""), "192.168.0.1");
    assert_eq!(id(&["v6", "v4"], ""), "192.168.0.1");
    assert_eq!(id(&["v4"], "192.0.2.77"), "192.0.2.77");
    // The 32 bits of FNV-1a over the 16 octets of ::ffff:192.168.0.1 and of fd00::1, computed with a program apart.
    assert_eq!(id(&["v4"], "generate"), FNV_V4);
    assert_eq!(id(&["v6"], "generate"), FNV_V6);
    assert_eq!(id(&["v6"], ""), FNV_V6);
    wrong(|f| f.router_id = "0.0.0.0".into(), &["--router-id", "generate"]);
    wrong(|f| f.router_id = "fd00::1".into(), &["--router-id", "IPv4 address"]);
}

const FNV_V4: &str = "94.32.84.160";
const FNV_V6: &str = "148.2.92.203";

#[test]
fn multihop_is_for_peers_of_another_autonomous_system() {
    let ttl = |asn, ttl| {
        let config = with(|f| (f.peer_router_asns, f.peer_router_multihop_ttl) = (vec![asn], ttl)).config();
        assert_eq!(neighbor(&config, "192.168.0.2").ttl, Ttl::Default);
        neighbor(&config, "192.0.2.1").ttl
    };
    assert_eq!(ttl(65000, 5), Ttl::Multihop(5));
    assert_eq!(ttl(65000, 1), Ttl::Default);
    assert_eq!(ttl(64512, 5), Ttl::Default);
    let secure = with(|f| f.peer_router_ttl_security_hops = Some(2)).config();
    assert_eq!(neighbor(&secure, "192.0.2.1").ttl, Ttl::Security { hops: 2 });
    wrong(|f| f.peer_router_ttl_security_hops = Some(0), &["--peer-router-ttl-security-hops", "1 to 254"]);
    let both = |f: &mut Flags| (f.peer_router_ttl_security_hops, f.peer_router_multihop_ttl) = (Some(1), 2);
    wrong(both, &["--peer-router-ttl-security-hops", "one of the two"]);
}

#[test]
fn bfd_has_the_timers_of_the_flags() {
    let timers = |f: &mut Flags| {
        (f.bfd_desired_min_tx_interval, f.bfd_required_min_rx_interval, f.bfd_detection_multiplier) = (50, 60, 4);
    };
    let expected = Some(Bfd { transmit: Duration::from_millis(50), receive: Duration::from_millis(60), multiplier: 4 });
    let of = |cluster: Cluster| {
        let config = cluster.config();
        (neighbor(&config, "192.0.2.1").bfd, neighbor(&config, "192.168.0.2").bfd)
    };
    assert_eq!(of(with(timers)), (None, None));
    assert_eq!(of(with(timers).flags(|f| f.enable_bfd = true)), (expected, None));
    assert_eq!(of(with(timers).flags(|f| f.enable_bfd_nodes = true)), (None, expected));
    let silent = with(timers).flags(|f| f.enable_bfd = true);
    let silent = silent.annotate(1, "peers", "[{remoteip: 192.0.2.1, remoteasn: 1, bfd: {enabled: false}}]");
    assert_eq!(of(silent), (None, None));
    wrong(|f| f.bfd_port = 3785, &["--bfd-port", "3784"]);
    wrong(|f| f.bfd_detection_multiplier = 0, &["--bfd-detection-multiplier", "1 to 255"]);
    wrong(|f| f.bfd_desired_min_tx_interval = 0, &["--bfd-desired-min-tx-interval"]);
    wrong(|f| f.bfd_required_min_rx_interval = 4_294_968, &["--bfd-required-min-rx-interval", "4294967"]);
}

#[test]
fn our_own_flags_reach_the_neighbours() {
    let config = with(|f| {
        (f.add_path_receive, f.add_path_send, f.multipath) = (true, 4, 8);
        (f.max_prefixes, f.max_prefixes_restart) = (Some(1000), Some(60 * SECOND));
    })
    .config();
    assert_eq!(config.multipath, 8);
    let (router, node) = (neighbor(&config, "192.0.2.1"), neighbor(&config, "192.168.0.2"));
    assert_eq!(
        (router.add_path, node.add_path),
        (AddPath { receive: true, send: 4 }, AddPath { receive: true, send: 4 })
    );
    let limit = MaxPrefixes { limit: 1000, restart_after: Some(60 * SECOND) };
    assert_eq!((router.max_prefixes, node.max_prefixes), (Some(limit), None));
    wrong(|f| f.max_prefixes = Some(0), &["--max-prefixes"]);
    wrong(|f| f.multipath = 0, &["--multipath"]);
    wrong(|f| f.accept_cidrs = vec![net("0.0.0.0/0")], &["--accept-cidrs", "--accept-default-route"]);
}

#[test]
fn pods_are_originated_whoever_is_told() {
    let config = with(|f| f.advertise_pod_cidr = false).config();
    assert_eq!(routes(&config), ["10.41.1.0/24 1 via 192.168.0.1"]);
}
