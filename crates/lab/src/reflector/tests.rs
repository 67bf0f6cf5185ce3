#![allow(clippy::unwrap_used)]

use super::*;
use crate::plan::tests::plan;
use crate::plan::{Family, Underlay};

fn of(reflector: Reflector, family: Family) -> Parts {
    let plan = Plan { interconnect: Interconnect::Bgp(reflector), ..plan(Underlay::Flat, family) };
    parts(&plan, &StateDir::new("lab")).unwrap()
}

#[test]
fn without_bgp_there_is_no_reflector() {
    assert_eq!(parts(&plan(Underlay::Flat, Family::Ipv4), &StateDir::new("lab")), None);
}

#[test]
fn frr_has_the_configuration_that_kube_routers_users_have() {
    let text = |family| of(Reflector::Frr, family).files.pop().unwrap().1;
    assert_eq!(
        text(Family::Ipv4),
        "router bgp 64512\n network 1.0.0.2/32\n neighbor kube peer-group\n neighbor kube remote-as 64512\n \
         neighbor kube route-reflector-client\n bgp listen range 0.0.0.0/0 peer-group kube\n"
    );
    let six = " bgp listen range ::/0 peer-group kube\n address-family ipv6 unicast\n  network fd01::2/128\n";
    assert!(text(Family::Dual).contains(six));
    assert!(text(Family::Ipv6).starts_with("router bgp 64512\n bgp router-id 172.18.0.2\n neighbor kube"));
}

#[test]
fn our_own_is_told_the_same_by_flags() {
    let parts = of(Reflector::Tombolo, Family::Dual);
    assert_eq!(
        parts.daemons[0].words.join(" "),
        "/run/tombolo-lab/lab/bin/tombolo route-reflector --listen 172.18.0.2:179 --listen [fd12::2]:179 --asn 64512 \
         --router-id 172.18.0.2 --client-range 0.0.0.0/0 --client-range ::/0 --network 1.0.0.2/32 \
         --network fd01::2/128 --bfd-interval 50 --socket /run/tombolo-lab/lab/reflector/bgp.sock --bfd"
    );
}

#[test]
fn gobgp_is_told_its_networks_once_it_runs() {
    let daemon = of(Reflector::Gobgp, Family::Dual).daemons.remove(0);
    let then: Vec<String> = daemon.then.iter().map(|words| words[1..].join(" ")).collect();
    assert_eq!(
        then,
        [
            "-p 50051 global rib add 1.0.0.2/32 nexthop 172.18.0.2 -a ipv4",
            "-p 50051 global rib add fd01::2/128 nexthop fd12::2 -a ipv6"
        ]
    );
}

#[test]
fn each_family_has_its_clients() {
    for (reflector, four, six) in [
        (Reflector::Bird, "neighbor range 0.0.0.0/0 as 64512;", "neighbor range ::/0 as 64512;"),
        (Reflector::Gobgp, "prefix = \"0.0.0.0/0\"", "prefix = \"::/0\""),
    ] {
        for (family, has_four, has_six) in
            [(Family::Ipv4, true, false), (Family::Ipv6, false, true), (Family::Dual, true, true)]
        {
            let text = &of(reflector, family).files[0].1;
            assert_eq!((text.contains(four), text.contains(six)), (has_four, has_six), "{text}");
        }
    }
}

#[test]
fn a_listening_socket_is_told_from_a_connection() {
    let head = "  sl  local_address rem_address   st\n";
    let line = |local: &str, state: &str| format!("{head}   0: {local} 00000000:0000 {state} 00000000:00000000\n");
    assert!(listening(&line("020012AC:00B3", "0A")));
    assert!(!listening(&line("020012AC:00B3", "01")));
    assert!(!listening(&line("020012AC:00B4", "0A")));
    assert!(!listening(head));
}
