//! Routes are asked for again (RFC 2918, RFC 7313), from both sides, and nothing is lost meanwhile.

use std::time::Duration;

use tombolo_bgp::config::{Config, GracefulRestart, Policy, PrefixMatch, Statement, Verdict};

use super::bird::Bird;
use super::exabgp::Exabgp;
use super::frr::Frr;
use super::gobgp::Gobgp;
use super::harness::*;

/// They ask by what `ask` does, if they can.
fn they_ask(us: &Ours, them: &impl Peer, n: u8, ask: impl FnOnce() -> bool) {
    us.until_up(v4(n));
    for prefix in [prefix4(n), prefix6(n)] {
        us.until_route(v4(n), &prefix, |_| true);
    }
    for prefix in [prefix4(1), prefix6(1)] {
        them.until_route(&prefix, |_| true);
    }
    let before = us.neighbor(v4(n)).unwrap().messages;
    if ask() {
        us.until("it asks, and is told again", v4(n), |status| status.messages.updates_sent >= before.updates_sent + 2);
    }
    for prefix in [prefix4(1), prefix6(1)] {
        them.until_route(&prefix, |_| true);
    }
}

/// We ask, because our policy is another.
fn we_ask(us: &Ours, n: u8) {
    let mut config = config(n);
    let refuse = Statement {
        prefixes: Some(vec![PrefixMatch::exactly(prefix4(n).parse().unwrap())]),
        ..Statement::new("not this one", Verdict::Reject)
    };
    let policy = Policy { statements: vec![refuse], ..Policy::default() };
    config.neighbors.get_mut(&v4(n)).unwrap().import = policy;
    us.configure(config.clone());
    us.until_route(v4(n), &prefix4(n), |route| route.refused.as_deref() == Some("not this one"));
    config.neighbors.get_mut(&v4(n)).unwrap().import = Policy::default();
    us.configure(config);
    us.until_route(v4(n), &prefix4(n), |route| route.refused.is_none());
    us.until_route(v4(n), &prefix6(n), |route| route.refused.is_none());
    assert_eq!((us.downs(), us.ups_and_downs()), (Vec::new(), (1, 0)), "the session stays");
    assert_eq!(us.neighbor(v4(n)).unwrap().flawed_updates, 0);
}

/// With graceful restart: FRR 8.4 tells nothing again before its End-of-RIB, which it sends to nobody else.
fn config(n: u8) -> Config {
    let graceful_restart = GracefulRestart {
        restart_time: Duration::from_secs(60),
        deferral_time: Duration::from_secs(60),
        preserves_forwarding: false,
        restarting: false,
        returning: [].into(),
        long_lived: None,
    };
    Config { graceful_restart: Some(graceful_restart), ..with(ours(AS), v4(n), neighbor(AS)) }
}

fn start(lab: &Lab, n: u8) -> Ours {
    lab.start(config(n))
}

#[test]
fn with_bird() {
    let lab = Lab::new();
    let (us, bird) = (start(&lab, 2), Bird::start(&lab, &Plan::new(2)));
    let status = us.until_up(v4(2));
    assert!(status.capabilities.iter().any(|c| c == "enhanced-route-refresh"), "{status:?}");
    they_ask(&us, &bird, 2, || bird.ask("reload in x").contains("reloading"));
    we_ask(&us, 2);
}

#[test]
fn with_frr() {
    let lab = Lab::new();
    let (us, frr) = (start(&lab, 3), Frr::start(&lab, &Plan::new(3)));
    let status = us.until_up(v4(3));
    assert!(status.capabilities.iter().any(|c| c == "enhanced-route-refresh"), "{status:?}");
    they_ask(&us, &frr, 3, || {
        frr.ask("clear bgp ipv4 unicast * soft in");
        frr.ask("clear bgp ipv6 unicast * soft in");
        true
    });
    we_ask(&us, 3);
    let asked = &frr.neighbor(v4(1))["messageStats"];
    assert!(asked["routeRefreshRecv"].as_u64() >= Some(4), "{asked}");
}

#[test]
fn with_gobgp() {
    let lab = Lab::new();
    let (us, gobgp) = (start(&lab, 4), Gobgp::start(&lab, &Plan::new(4)));
    gobgp.announce();
    // It keeps what it was told, and never asks.
    they_ask(&us, &gobgp, 4, || false);
    we_ask(&us, 4);
}

#[test]
fn with_exabgp() {
    let lab = Lab::new();
    let us = start(&lab, 5);
    let exabgp = Exabgp::start(&lab, &Plan { session: "  capability { route-refresh enable; }", ..Plan::new(5) });
    they_ask(&us, &exabgp, 5, || {
        exabgp.say("announce route-refresh ipv4 unicast");
        exabgp.say("announce route-refresh ipv6 unicast");
        true
    });
}
