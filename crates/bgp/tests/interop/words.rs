//! Sessions that do not come up or end, and what is said of it: wrong AS, router ID, roles (RFC 9234), shutdown with
//! words (RFC 9003), too many prefixes, a neighbour that hangs.

use std::time::Duration;

use nix::sys::signal::Signal;
use tombolo_bgp::config::{Config, MaxPrefixes, Neighbor, Range, Role};

use super::bird::Bird;
use super::exabgp::Exabgp;
use super::frr::Frr;
use super::gobgp::Gobgp;
use super::harness::*;

fn all_four<'a>(lab: &'a Lab, plan: &Plan<'_>) -> (Bird<'a>, Frr<'a>, Gobgp<'a>, Exabgp<'a>) {
    let of = |n| Plan { n, ..plan.clone() };
    (Bird::start(lab, &of(2)), Frr::start(lab, &of(3)), Gobgp::start(lab, &of(4)), Exabgp::start(lab, &of(5)))
}

fn with_all_four(neighbor: &Neighbor) -> Config {
    Config { neighbors: [2, 3, 4, 5].map(|n| (v4(n), neighbor.clone())).into(), ..ours(AS) }
}

#[test]
fn a_wrong_as_is_said_by_us() {
    let lab = Lab::new();
    let us = lab.start(with_all_four(&neighbor(AS)));
    let _them = all_four(&lab, &Plan { asn: 64999, ..Plan::new(0) });
    for n in [2, 3, 4, 5] {
        us.until_down(v4(n), "the neighbour says it is AS 64999, 64512 was expected");
    }
}

#[test]
fn a_wrong_as_is_said_by_them() {
    let lab = Lab::new();
    let us = lab.start(with_all_four(&neighbor(AS)));
    let _them = all_four(&lab, &Plan { ours: 64999, ..Plan::new(0) });
    for n in [2, 3, 4] {
        us.until_down(v4(n), "the neighbour refused our AS number");
    }
    us.until("ExaBGP refuses", v4(5), |s| s.state != "Established" && s.last_error.is_some());
}

#[test]
fn our_own_router_id_is_said() {
    let lab = Lab::new();
    let mut config = with(with(ours(AS), v4(2), neighbor(AS)), v4(3), neighbor(AS));
    config.router_id = "10.9.0.2".parse().unwrap();
    let us = lab.start(config);
    let _bird = Bird::start(&lab, &Plan::new(2));
    // FRR has another one: it comes up beside.
    let _frr = Frr::start(&lab, &Plan::new(3));
    us.until_up(v4(3));
    let says = |s: &tombolo_bgp::router::show::NeighborStatus| {
        let error = s.last_error.as_deref().unwrap_or_default();
        // Either may see it first.
        error.contains("our own router ID, 10.9.0.2") || error.contains("Bad BGP Identifier")
    };
    us.until("it is said", v4(2), says);
    assert_eq!(us.ups_and_downs(), (1, 0));
}

#[test]
fn roles_that_fit_mark_routes_only_for_customers() {
    let lab = Lab::new();
    let (bird_as, frr_as) = (64602, 64603);
    let role = |asn, role| Neighbor { role: Some(role), strict_role: true, ..neighbor(asn) };
    let config = with(ours(AS), v4(2), role(bird_as, Role::Customer));
    let us = lab.start(with(config, v4(3), role(frr_as, Role::Provider)));
    let bird = Bird::start(&lab, &Plan { asn: bird_as, session: "local role provider;", ..Plan::new(2) });
    let session = " neighbor PEER local-role customer strict-mode";
    let frr = Frr::start(&lab, &Plan { asn: frr_as, session, ..Plan::new(3) });
    for (n, named) in [(2, "role(provider)"), (3, "role(customer)")] {
        let status = us.until_up(v4(n));
        assert!(status.capabilities.iter().any(|c| c == named), "{status:?}");
    }
    // From our provider to our customer, marked.
    let seen = frr.until_route(&prefix4(2), |_| true);
    assert_eq!((&*seen.as_path, seen.text.contains(&bird_as.to_string())), ("64512 64602", true), "{seen:?}");
    assert!(seen.text.contains(&format!("\"otc\":{bird_as}")), "{}", seen.text);
    // And from our customer to our provider.
    let seen = bird.until_route(&prefix4(3), |_| true);
    assert_eq!(seen.as_path, "64512 64603");
    // Our own to the customer, with us as the mark.
    let seen = frr.until_route(&prefix4(1), |_| true);
    assert!(seen.text.contains(&format!("\"otc\":{AS}")), "{}", seen.text);
}

#[test]
fn what_a_provider_told_another_provider_is_not_told() {
    let lab = Lab::new();
    let role = |asn, role| Neighbor { role: Some(role), ..neighbor(asn) };
    let config = with(ours(AS), v4(2), role(64602, Role::Customer));
    let us = lab.start(with(config, v4(3), role(64603, Role::Peer)));
    let bird = Bird::start(&lab, &Plan { asn: 64602, session: "local role provider;", ..Plan::new(2) });
    let frr = Frr::start(&lab, &Plan { asn: 64603, session: " neighbor PEER local-role peer", ..Plan::new(3) });
    for n in [2, 3] {
        us.until_up(v4(n));
    }
    us.until("both have told all", v4(2), |s| s.families.iter().all(|f| f.accepted == 1 && f.sent == 1));
    us.until("both have told all", v4(3), |s| s.families.iter().all(|f| f.accepted == 1 && f.sent == 1));
    for prefix in [prefix4(1), prefix6(1)] {
        bird.until_route(&prefix, |_| true);
    }
    for prefix in [prefix4(1), prefix6(1)] {
        frr.until_route(&prefix, |_| true);
    }
    assert!(bird.routes().iter().all(|route| route.prefix != prefix4(3)), "a peer's is not told to a provider");
    assert!(frr.routes().iter().all(|route| route.prefix != prefix4(2)), "a provider's is not told to a peer");
}

#[test]
fn roles_that_do_not_fit_are_refused_in_words() {
    let lab = Lab::new();
    let role = |asn| Neighbor { role: Some(Role::Customer), strict_role: true, ..neighbor(asn) };
    let config = [2, 3, 4].into_iter().fold(ours(AS), |config, n| with(config, v4(n), role(64600 + u32::from(n))));
    let us = lab.start(config);
    let _bird = Bird::start(&lab, &Plan { asn: 64602, session: "local role customer;", ..Plan::new(2) });
    let _frr = Frr::start(&lab, &Plan { asn: 64603, session: " neighbor PEER local-role peer", ..Plan::new(3) });
    let _gobgp = Gobgp::start(&lab, &Plan { asn: 64604, ..Plan::new(4) });
    for (n, words) in [(2, "role is customer and ours is customer"), (3, "role is peer and ours is customer")] {
        let says = |s: &tombolo_bgp::router::show::NeighborStatus| {
            let error = s.last_error.as_deref().unwrap_or_default();
            // Either side may see it first.
            error.contains(words) || error.contains("Role Mismatch")
        };
        us.until("the roles are refused", v4(n), says);
    }
    us.until_down(v4(4), "does not tell its role");
    assert_eq!(us.ups_and_downs(), (0, 0));
}

const WORDS: &str = "the rack moves, back at 9";

#[test]
fn their_last_words_are_shown() {
    let lab = Lab::new();
    let us = lab.start(with_all_four(&neighbor(AS)));
    let (bird, frr, gobgp, exabgp) = all_four(&lab, &Plan::new(0));
    for n in [2, 3, 4, 5] {
        us.until_up(v4(n));
    }
    bird.ask(&format!("disable x \"{WORDS}\""));
    let shutdown = format!("neighbor {} shutdown message {WORDS}", v4(1));
    frr.configure(&[&format!("router bgp {AS}"), &shutdown]);
    gobgp.ask(&["neighbor", &v4(1).to_string(), "shutdown", "--reason", WORDS]);
    until("all three say why", || {
        let downs = us.downs();
        let say = downs.iter().filter(|(_, why)| why.contains(WORDS)).count();
        if say == 3 { Ok(()) } else { Err(format!("{downs:#?}")) }
    });
    exabgp.daemon().signal(Signal::SIGTERM);
    us.until("ExaBGP is gone", v4(5), |s| s.state != "Established" && s.last_error.is_some());
}

#[test]
fn our_last_words_are_shown() {
    let lab = Lab::new();
    let us = lab.start(with_all_four(&neighbor(AS)));
    let (bird, frr, gobgp, exabgp) = all_four(&lab, &Plan::new(0));
    for n in [2, 3, 4, 5] {
        us.until_up(v4(n));
    }
    us.configure(with_all_four(&Neighbor { shutdown: Some(WORDS.to_owned()), ..neighbor(AS) }));
    let shown = |what: &str, text: &dyn Fn() -> String| {
        until(&format!("{what} shows our words"), || Some(()).filter(|()| text().contains(WORDS)).ok_or_else(text));
    };
    shown("BIRD", &|| bird.log());
    shown("FRR", &|| frr.neighbor(v4(1)).to_string() + &frr.log());
    shown("GoBGP", &|| gobgp.log());
    // ExaBGP 4.2 takes the message for a broken one, but sees the end.
    until("ExaBGP sees the end", || {
        let log = exabgp.log();
        if log.contains("\"state\": \"down\"") { Ok(()) } else { Err(log) }
    });
    for n in [2, 3, 4, 5] {
        assert_eq!(us.neighbor(v4(n)).unwrap().state, "Idle");
    }
}

#[test]
fn too_many_prefixes_end_the_session_in_words_until_reset() {
    let lab = Lab::new();
    let limit = Some(MaxPrefixes { limit: 1, restart_after: None });
    let us = lab.start(with_all_four(&Neighbor { max_prefixes: limit, ..neighbor(AS) }));
    let (_bird, _frr, gobgp, _exabgp) = all_four(&lab, &Plan::new(0));
    gobgp.announce();
    for n in [2, 3, 4, 5] {
        us.until_down(v4(n), "too many prefixes");
    }
    us.configure(with_all_four(&neighbor(AS)));
    for n in [2, 3, 4, 5] {
        us.reset(v4(n));
        us.until_up(v4(n));
        us.until_route(v4(n), &prefix6(n), |_| true);
    }
}

#[test]
fn who_hangs_is_down_when_the_hold_time_is_over() {
    let lab = Lab::new();
    let us = lab.start(with_all_four(&Neighbor { hold_time: Duration::from_secs(3), ..neighbor(AS) }));
    let (bird, frr, gobgp, exabgp) = all_four(&lab, &Plan::new(0));
    gobgp.announce();
    for n in [2, 3, 4, 5] {
        let status = us.until_up(v4(n));
        assert_eq!(status.hold_time, Some(3));
        us.until_route(v4(n), &prefix4(n), |_| true);
    }
    let daemons = [bird.daemon(), frr.daemon(), gobgp.daemon(), exabgp.daemon()];
    for daemon in daemons {
        daemon.signal(Signal::SIGSTOP);
    }
    for n in [2, 3, 4, 5] {
        let gone = |s: &tombolo_bgp::router::show::NeighborStatus| s.state != "Established" && s.last_error.is_some();
        us.until("the session is down", v4(n), gone);
        us.until_gone(v4(n), &prefix4(n));
    }
    let downs = us.downs();
    assert!(downs.len() == 4 && downs.iter().all(|(_, why)| why.contains("Hold Timer Expired")), "{downs:#?}");
    for daemon in daemons {
        daemon.signal(Signal::SIGCONT);
    }
    for n in [2, 3, 4, 5] {
        us.until_up(v4(n));
    }
}

#[test]
fn neighbours_come_out_of_a_range() {
    let lab = Lab::new();
    let range = Range { prefix: "10.9.0.0/28".parse().unwrap(), limit: 3, neighbor: neighbor(AS) };
    let us = lab.start(Config { ranges: vec![range], ..ours(AS) });
    let (mut bird, frr, gobgp) =
        (Bird::start(&lab, &Plan::new(2)), Frr::start(&lab, &Plan::new(3)), Gobgp::start(&lab, &Plan::new(4)));
    for n in [2, 3, 4] {
        assert!(us.until_up(v4(n)).dynamic);
    }
    bird.until_route(&prefix4(1), |_| true);
    frr.until_route(&prefix4(1), |_| true);
    gobgp.until_route(&prefix4(1), |_| true);
    // The fourth is one too many, until another has gone.
    let exabgp = Exabgp::start(&lab, &Plan::new(5));
    until("ExaBGP was turned away", || {
        let log = exabgp.log();
        if log.contains("lost") || log.contains("closed") || log.contains("reset") { Ok(()) } else { Err(log) }
    });
    assert_eq!(us.neighbor(v4(5)), None);
    bird.kill();
    us.until_up(v4(5));
    until("the first is no neighbour any more", || us.neighbor(v4(2)).map_or(Ok(()), |n| Err(format!("{n:?}"))));
}
