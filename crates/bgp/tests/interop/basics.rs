//! Routes of both families go both ways, over both transports, to the own AS and to others, with all that is on them.

use super::bird::Bird;
use super::exabgp::Exabgp;
use super::frr::Frr;
use super::gobgp::Gobgp;
use super::harness::*;

/// Transport over IPv6, and the two AS numbers.
const PLANS: [(bool, u32, u32); 4] = [(false, AS, AS), (true, AS, AS), (false, BIG_AS, 64513), (true, 64514, BIG_AS)];

/// Runs a scenario for each transport and kind of neighbour.
fn everywhere<'a, P: Peer>(n: u8, lab: &'a Lab, mut start: impl FnMut(&'a Lab, &Plan<'_>) -> P) {
    for (v6, asn, own) in PLANS {
        let plan = Plan { asn, ours: own, v6, ..Plan::new(n) };
        let address = plan.addresses().0;
        let us = lab.start(with(ours(own), address, neighbor(asn)));
        let them = start(lab, &plan);
        let status = us.until_up(address);
        assert_eq!((status.asn, status.router_id.unwrap().to_string()), (Some(asn), v4_text(n)));
        assert!(status.capabilities.iter().any(|c| c == "four-octet-as"), "{status:?}");
        println!("{plan:?}: {:?}", status.capabilities);
        both_ways(&us, &them, &plan);
        let status = us.until("End-of-RIB", address, |s| s.families.iter().all(|f| f.accepted == 1 && f.sent == 1));
        assert_eq!((status.flawed_updates, status.families.len()), (0, 2), "{status:#?}");
        std::fs::remove_dir_all(lab.path(&format!("frr{n}"))).unwrap_or_default();
    }
}

fn v4_text(n: u8) -> String {
    v4(n).to_string()
}

/// What each side has of the other.
fn both_ways(us: &Ours, them: &impl Peer, plan: &Plan<'_>) {
    let (n, internal) = (plan.n, plan.asn == plan.ours);
    let address = plan.addresses().0;
    for (prefix, hop) in [(prefix4(n), v4(n)), (prefix6(n), v6(n))] {
        let route = us.until_route(address, &prefix, |_| true);
        let path = if internal { String::new() } else { plan.asn.to_string() };
        assert_eq!((route.next_hop, &route.as_path, route.refused.as_ref()), (Some(hop), &path, None), "{route:?}");
        assert_eq!(&*route.origin, "igp");
        // BIRD does not give another AS the metric of its own.
        assert!(route.med == Some(u32::from(n)) || (n == 2 && !internal && route.med.is_none()), "{route:?}");
        assert_eq!(route.communities.iter().map(ToString::to_string).collect::<Vec<_>>(), [format!("64512:{n}")]);
        assert_eq!(route.large_communities, [format!("{BIG_AS}:{n}:{n}")]);
        assert!(route.best);
    }
    for (prefix, hop) in [(prefix4(1), v4(1)), (prefix6(1), v6(1))] {
        let seen = them.until_route(&prefix, |_| true);
        let path = if internal { String::new() } else { plan.ours.to_string() };
        assert_eq!((&seen.next_hop, &seen.as_path), (&hop.to_string(), &path), "{seen:?}");
        assert_eq!((seen.med, seen.communities.join(" ")), (Some(7), "64512:11".to_owned()), "{seen:?}");
        assert_eq!(seen.large.join(" "), format!("{BIG_AS}:1:1"), "{seen:?}");
        if internal {
            assert_eq!(seen.local_pref, Some(100), "{seen:?}");
        }
    }
}

#[test]
fn with_bird() {
    everywhere(2, &Lab::new(), Bird::start);
}

#[test]
fn with_frr() {
    everywhere(3, &Lab::new(), Frr::start);
}

#[test]
fn with_gobgp() {
    everywhere(4, &Lab::new(), |lab, plan| {
        let them = Gobgp::start(lab, plan);
        them.announce();
        them
    });
}

#[test]
fn with_exabgp() {
    let lab = Lab::new();
    everywhere(5, &lab, |lab, plan| {
        std::fs::remove_file(lab.path("exabgp5.heard")).unwrap_or_default();
        Exabgp::start(lab, plan)
    });
}
