//! What neighbours are to be told, computed from scratch: who announced what in, who is told what out.

use super::*;

/// What each neighbour announced.
pub(super) type Announced = BTreeMap<(IpNet, usize), Told>;

/// The best first (RFC 4271, section 9.1.2.2).
fn order(mut left: Vec<(usize, &Told)>, mates: &[Mate]) -> Vec<usize> {
    let mut ordered = Vec::new();
    while !left.is_empty() {
        let mut tied = left.clone();
        let pref = |told: &Told| told.local_pref.unwrap_or(100);
        let most = tied.iter().map(|(_, t)| pref(t)).max().unwrap();
        tied.retain(|(_, t)| pref(t) == most);
        let shortest = tied.iter().map(|(_, t)| t.path.len()).min().unwrap();
        tied.retain(|(_, t)| t.path.len() == shortest);
        let all = tied.clone();
        tied.retain(|(_, t)| {
            !all.iter().any(|(_, o)| o.path.first() == t.path.first() && o.med.unwrap_or(0) < t.med.unwrap_or(0))
        });
        if tied.iter().any(|(who, _)| mates[*who].is_external()) {
            tied.retain(|(who, _)| mates[*who].is_external());
        }
        // Their identifiers are their addresses.
        let (best, _) = tied.into_iter().min_by_key(|(who, _)| mates[*who].address).unwrap();
        ordered.push(best);
        left.retain(|(who, _)| *who != best);
    }
    ordered
}

/// Whether what `from` announced goes to `to` (RFC 4456, section 6).
fn goes(from: &Mate, to: &Mate) -> bool {
    from.is_external() || to.is_external() || from.client || to.client
}

fn as_told(route: &Told, from: &Mate, to: &Mate) -> Told {
    if to.is_external() {
        let own = if route.hop.is_ipv4() { OWN.into() } else { OWN6.parse().unwrap() };
        let path = [&[ASN], &route.path[..]].concat();
        return Told { path, hop: own, local_pref: None, med: None, ..route.clone() };
    }
    let mut told = Told { local_pref: Some(route.local_pref.unwrap_or(100)), ..route.clone() };
    if !from.is_external() {
        (told.originator, told.clusters) = (Some(from.address), vec![OWN]);
    }
    told
}

/// All that a neighbour is to be told; of several paths their identifiers do not matter.
pub(super) fn expected(to: usize, announced: &Announced, mates: &[Mate]) -> Vec<(IpNet, Told)> {
    let mut all = Vec::new();
    let nets: std::collections::BTreeSet<IpNet> = announced.keys().map(|(net, _)| *net).collect();
    for net in nets {
        let paths: Vec<(usize, &Told)> =
            announced.iter().filter(|((n, _), _)| *n == net).map(|((_, who), told)| (*who, told)).collect();
        let ordered = order(paths, mates);
        let most = if mates[to].add_path { 2 } else { 1 };
        let candidates: Vec<usize> = if mates[to].add_path {
            ordered.into_iter().filter(|from| goes(&mates[*from], &mates[to])).take(most).collect()
        } else {
            ordered.into_iter().take(1).filter(|from| goes(&mates[*from], &mates[to])).collect()
        };
        for from in candidates.into_iter().filter(|from| *from != to) {
            all.push((net, as_told(&announced[&(net, from)], &mates[from], &mates[to])));
        }
    }
    all.sort();
    all
}
