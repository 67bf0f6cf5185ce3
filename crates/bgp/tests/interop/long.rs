//! Messages of more than 4096 bytes (RFC 8654), where both sides have them, and where one has not.

use tombolo_bgp::config::Config;
use tombolo_bgp::{LargeCommunity, config::Neighbor};

use super::bird::Bird;
use super::exabgp::Exabgp;
use super::frr::Frr;
use super::harness::*;

/// So many large communities are 12 kB.
const MANY: u32 = 1000;
const LONG: &str = "203.0.113.0/24";

fn with_long(mut config: Config) -> Config {
    let mut route = config.routes.values().next().unwrap().clone();
    route.large_communities = (1..=MANY).map(|i| LargeCommunity { global: AS, local: (1, i) }).collect();
    config.routes.insert(LONG.parse().unwrap(), route);
    config
}

fn we_tell(us: &Ours, them: &impl Peer, n: u8) {
    let status = us.until_up(v4(n));
    assert!(status.capabilities.iter().any(|c| c == "extended-messages"), "{status:?}");
    let seen = them.until_route(LONG, |_| true);
    // BIRD's line has room for fewer.
    assert!(n == 2 || seen.large.len() == MANY as usize, "{}", seen.text);
    them.until_route(&prefix6(1), |_| true);
}

fn they_tell(us: &Ours, n: u8) {
    let route = us.until_route(v4(n), "203.0.114.0/24", |_| true);
    assert_eq!((route.large_communities.len(), route.refused), (MANY as usize, None));
    assert_eq!(us.ups_and_downs(), (1, 0));
}

#[test]
fn with_bird() {
    let lab = Lab::new();
    let us = lab.start(with_long(with(ours(AS), v4(2), neighbor(AS))));
    let all: String = (1..=MANY).map(|i| format!("bgp_large_community.add(({AS},2,{i})); ")).collect();
    let more = format!("protocol static {{ ipv4; route 203.0.114.0/24 unreachable {{ {all} }}; }}");
    let bird = Bird::start(&lab, &Plan { session: "enable extended messages yes;", more: &more, ..Plan::new(2) });
    we_tell(&us, &bird, 2);
    let all = bird.ask(&format!("show route for {LONG} where bgp_large_community.len = {MANY}"));
    assert!(all.contains(LONG), "{all}");
    they_tell(&us, 2);
}

#[test]
fn with_frr() {
    let lab = Lab::new();
    let us = lab.start(with_long(with(ours(AS), v4(3), neighbor(AS))));
    let frr = Frr::start(&lab, &Plan::new(3));
    we_tell(&us, &frr, 3);
}

#[test]
fn with_exabgp() {
    let lab = Lab::new();
    let us = lab.start(with_long(with(ours(AS), v4(5), neighbor(AS))));
    let all: String = (1..=MANY).map(|i| format!("{AS}:2:{i} ")).collect();
    let more = format!("route 203.0.114.0/24 next-hop {} large-community [ {all} ];", v4(5));
    let session = "  capability { extended-message enable; }";
    let exabgp = Exabgp::start(&lab, &Plan { session, more: &more, ..Plan::new(5) });
    we_tell(&us, &exabgp, 5);
    they_tell(&us, 5);
}

#[test]
fn what_does_not_fit_is_not_told_and_the_rest_is() {
    let lab = Lab::new();
    let short = Neighbor { extended_messages: false, ..neighbor(AS) };
    let us = lab.start(with(with_long(with(ours(AS), v4(2), neighbor(AS))), v4(3), short));
    let bird = Bird::start(&lab, &Plan::new(2));
    let frr = Frr::start(&lab, &Plan::new(3));
    for n in [2, 3] {
        let status = us.until_up(v4(n));
        assert!(!status.capabilities.iter().any(|c| c == "extended-messages"), "{status:?}");
    }
    for prefix in [prefix4(1), prefix6(1)] {
        bird.until_route(&prefix, |_| true);
    }
    for prefix in [prefix4(1), prefix6(1)] {
        frr.until_route(&prefix, |_| true);
    }
    assert!(bird.routes().iter().all(|route| route.prefix != LONG));
    assert!(frr.routes().iter().all(|route| route.prefix != LONG));
    assert_eq!(us.ups_and_downs(), (2, 0));
}
