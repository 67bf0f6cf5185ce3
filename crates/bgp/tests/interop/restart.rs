//! Graceful restart (RFC 4724), in both roles, and what lasts longer (RFC 9494).

use std::time::Duration;

use tombolo_bgp::Community;
use tombolo_bgp::config::{Config, GracefulRestart};

use super::bird::Bird;
use super::frr::Frr;
use super::gobgp::Gobgp;
use super::harness::*;

fn graceful(long_lived: Option<u64>) -> GracefulRestart {
    GracefulRestart {
        restart_time: Duration::from_secs(60),
        deferral_time: Duration::from_secs(60),
        preserves_forwarding: true,
        restarting: false,
        returning: [].into(),
        long_lived: long_lived.map(Duration::from_secs),
    }
}

fn config(n: u8, graceful: GracefulRestart) -> Config {
    Config { graceful_restart: Some(graceful), ..with(ours(AS), v4(n), neighbor(AS)) }
}

/// They die: their routes are kept as stale.
fn they_are_gone(us: &Ours, n: u8, kill: impl FnOnce()) {
    let status = us.until_up(v4(n));
    assert!(status.capabilities.iter().any(|c| c == "graceful-restart"), "{status:?}");
    us.until("End-of-RIB", v4(n), |s| s.families.iter().all(|f| f.complete && f.accepted == 1));
    kill();
    us.until("it restarts", v4(n), |status| status.restarting && status.state != "Established");
    for prefix in [prefix4(n), prefix6(n)] {
        let route = us.until_route(v4(n), &prefix, |route| route.stale);
        assert!(route.best, "{route:?}");
    }
}

/// They are back, without their IPv6 route: it is swept at their End-of-RIB.
fn they_are_back(us: &Ours, n: u8) {
    us.until_up(v4(n));
    us.until_route(v4(n), &prefix4(n), |route| !route.stale);
    us.until_gone(v4(n), &prefix6(n));
    us.until("the restart is over", v4(n), |status| !status.restarting);
    assert_eq!(us.ups_and_downs(), (2, 1));
}

/// We are gone and come again, without our IPv6 route: they keep all until our End-of-RIB.
fn we_restart<P: Peer>(lab: &Lab, us: Ours, n: u8, them: &P, stale: impl Fn(&P, &Seen) -> bool) {
    let stale = |route: &Seen| stale(them, route);
    for prefix in [prefix4(1), prefix6(1)] {
        them.until_route(&prefix, |route| !stale(route));
    }
    us.speaker.shut_down("not to be told", true);
    for prefix in [prefix4(1), prefix6(1)] {
        them.until_route(&prefix, stale);
    }
    let mut config = config(n, GracefulRestart { restarting: true, ..graceful(None) });
    config.routes.retain(|net, _| net.to_string() == prefix4(1));
    let again = lab.start(config);
    again.until_up(v4(n));
    them.until_route(&prefix4(1), |route| !stale(route));
    them.until_gone(&prefix6(1));
}

#[test]
fn bird_restarts_and_we_do() {
    let lab = Lab::new();
    let us = lab.start(config(2, graceful(None)));
    let mut bird = Bird::start(&lab, &Plan { session: "graceful restart yes;", ..Plan::new(2) });
    they_are_gone(&us, 2, || bird.kill());
    let file = lab.read("bird2.conf").replace(&format!("route {}", prefix6(2)), "route 2001:db8:ffff::/48");
    lab.write("bird2.conf", &file);
    bird.restart();
    they_are_back(&us, 2);
    // It does not show which routes are stale.
    we_restart(&lab, us, 2, &bird, |bird, _| bird.log().contains("Neighbor graceful restart active"));
}

#[test]
fn bird_does_not_come_back() {
    let lab = Lab::new();
    let us = lab.start(config(2, graceful(None)));
    let mut bird =
        Bird::start(&lab, &Plan { session: "graceful restart yes; graceful restart time 1;", ..Plan::new(2) });
    they_are_gone(&us, 2, || bird.kill());
    for prefix in [prefix4(2), prefix6(2)] {
        us.until_gone(v4(2), &prefix);
    }
    us.until("nothing is kept", v4(2), |status| !status.restarting);
}

#[test]
fn bird_is_a_last_resort_and_we_are() {
    let lab = Lab::new();
    let us = lab.start(config(2, graceful(Some(60))));
    let session =
        "graceful restart yes; graceful restart time 1; long lived graceful restart yes; long lived stale time 60;";
    let mut bird = Bird::start(&lab, &Plan { session, ..Plan::new(2) });
    let status = us.until_up(v4(2));
    assert!(status.capabilities.iter().any(|c| c == "long-lived-graceful-restart"), "{status:?}");
    they_are_gone(&us, 2, || bird.kill());
    for prefix in [prefix4(2), prefix6(2)] {
        us.until_route(v4(2), &prefix, |route| route.stale && route.communities.contains(&Community::LLGR_STALE));
    }
    bird.restart();
    us.until_up(v4(2));
    let fresh =
        |route: &tombolo_bgp::router::show::Route| !route.stale && !route.communities.contains(&Community::LLGR_STALE);
    for prefix in [prefix4(2), prefix6(2)] {
        us.until_route(v4(2), &prefix, fresh);
    }

    drop(us);
    let us = lab.start(config(2, GracefulRestart { restart_time: Duration::from_secs(1), ..graceful(Some(60)) }));
    us.until_up(v4(2));
    let marked = |route: &Seen| route.communities.iter().any(|c| c == "65535:6");
    for prefix in [prefix4(1), prefix6(1)] {
        bird.until_route(&prefix, |route| !marked(route));
    }
    us.speaker.shut_down("not to be told", true);
    for prefix in [prefix4(1), prefix6(1)] {
        bird.until_route(&prefix, marked);
    }
}

#[test]
fn frr_restarts_and_we_do() {
    let lab = Lab::new();
    let us = lab.start(config(3, graceful(None)));
    let session =
        " bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n bgp graceful-restart restart-time 60";
    let mut frr = Frr::start(&lab, &Plan { session, ..Plan::new(3) });
    they_are_gone(&us, 3, || frr.kill());
    let file = lab.read("frr3.conf").replace(&format!("network {}", prefix6(3)), "network 2001:db8:ffff::/48");
    lab.write("frr3.conf", &file);
    frr.restart();
    they_are_back(&us, 3);
    we_restart(&lab, us, 3, &frr, |_, route| route.text.contains("\"stale\":true"));
}

const GOBGP: &str = "  [neighbors.graceful-restart.config]\n    enabled = true\n    restart-time = 60";
const GOBGP_FAMILY: &str = "    [neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true";

#[test]
fn gobgp_keeps_our_routes() {
    let lab = Lab::new();
    let us = lab.start(config(4, graceful(None)));
    let gobgp = Gobgp::start(&lab, &Plan { session: GOBGP, family: GOBGP_FAMILY, ..Plan::new(4) });
    gobgp.announce();
    us.until_up(v4(4));
    we_restart(&lab, us, 4, &gobgp, |_, route| route.text.contains("\"stale\":true"));
}

#[test]
fn gobgp_restarts() {
    let lab = Lab::new();
    let us = lab.start(config(4, graceful(None)));
    let mut gobgp = Gobgp::start(&lab, &Plan { session: GOBGP, family: GOBGP_FAMILY, ..Plan::new(4) });
    gobgp.announce();
    us.until_up(v4(4));
    for prefix in [prefix4(4), prefix6(4)] {
        us.until_route(v4(4), &prefix, |_| true);
    }
    gobgp.kill();
    for prefix in [prefix4(4), prefix6(4)] {
        us.until_route(v4(4), &prefix, |route| route.stale);
    }
    // Without -r it says that its forwarding did not go on: nothing of before is kept.
    gobgp.restart();
    us.until_up(v4(4));
    for prefix in [prefix4(4), prefix6(4)] {
        us.until_gone(v4(4), &prefix);
    }
    gobgp.announce();
    for prefix in [prefix4(4), prefix6(4)] {
        us.until_route(v4(4), &prefix, |route| !route.stale);
    }
}

#[test]
fn gobgp_takes_us_as_a_last_resort() {
    let lab = Lab::new();
    let us = lab.start(config(4, GracefulRestart { restart_time: Duration::from_secs(1), ..graceful(Some(60)) }));
    let session = format!("{GOBGP}\n    long-lived-enabled = true");
    let family = format!(
        "{GOBGP_FAMILY}\n    [neighbors.afi-safis.long-lived-graceful-restart.config]\n      enabled = true\n      \
         restart-time = 60"
    );
    let gobgp = Gobgp::start(&lab, &Plan { session: &session, family: &family, ..Plan::new(4) });
    let status = us.until_up(v4(4));
    assert!(status.capabilities.iter().any(|c| c == "long-lived-graceful-restart"), "{status:?}");
    let marked = |route: &Seen| route.communities.iter().any(|c| c == "65535:6");
    for prefix in [prefix4(1), prefix6(1)] {
        gobgp.until_route(&prefix, |route| !marked(route));
    }
    us.speaker.shut_down("not to be told", true);
    for prefix in [prefix4(1), prefix6(1)] {
        gobgp.until_route(&prefix, marked);
    }
}
