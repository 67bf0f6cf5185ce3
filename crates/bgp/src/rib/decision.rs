//! The choice among the paths to a prefix (RFC 4271, section 9.1.2).

use std::cmp::{Ordering, Reverse};
use std::net::Ipv4Addr;

use super::{Attributes, Path, Source, Store};
use crate::Community;
use crate::config::Origin;

/// The best of the eligible paths, by its place.
#[inline]
pub fn best(paths: &[Path], sources: &[Source], store: &Store) -> Option<usize> {
    match paths {
        [] => None,
        [path] => path.state.eligible().then_some(0),
        _ => order(paths, sources, store).first().copied(),
    }
}

/// The eligible paths, the best first, by their places.
pub fn order(paths: &[Path], sources: &[Source], store: &Store) -> Vec<usize> {
    let mut left: Vec<usize> = (0..paths.len()).filter(|i| paths[*i].state.eligible()).collect();
    let mut ordered = Vec::with_capacity(left.len());
    // `MULTI_EXIT_DISC` is only compared within an AS, so that "better than" is no order of all paths: the best is found
    // by elimination, and the next best is the best of what remains.
    while !left.is_empty() {
        let best = eliminate(&left, paths, sources, store);
        left.retain(|i| *i != best);
        ordered.push(best);
    }
    ordered
}

/// The paths that share the traffic of a prefix: the best, and those that only differ from it in who announced them
/// and over which next hop. Best first.
pub fn multipath(paths: &[Path], sources: &[Source], store: &Store, limit: usize) -> Vec<usize> {
    if limit <= 1 || paths.len() == 1 {
        return best(paths, sources, store).into_iter().collect();
    }
    let ordered = order(paths, sources, store);
    let Some(&first) = ordered.first() else { return Vec::new() };
    let rank = |i: usize| Rank::of(&paths[i], sources, store);
    let (best, med) = (rank(first), |i: usize| store.get(paths[i].attributes).med);
    ordered.into_iter().filter(|i| rank(*i) == best && med(*i) == med(first)).take(limit).collect()
}

fn eliminate(left: &[usize], paths: &[Path], sources: &[Source], store: &Store) -> usize {
    let attributes = |i: usize| store.get(paths[i].attributes);
    // a) and b): the routes that tie in all that comes before `MULTI_EXIT_DISC`.
    let rank = |i: usize| Rank::of(&paths[i], sources, store);
    let before = left.iter().map(|i| rank(*i).before_med()).min();
    let tied = left.iter().copied().filter(|i| Some(rank(*i).before_med()) == before);
    // c): of each neighbouring AS those with the least.
    let tied: Vec<usize> = tied.collect();
    let beaten = |i: usize| {
        let own = attributes(i);
        tied.iter().any(|j| attributes(*j).first_as == own.first_as && attributes(*j).med < own.med)
    };
    let candidates = tied.iter().copied().filter(|i| !beaten(*i));
    // d) to g).
    candidates.min_by(|a, b| last_resort(&paths[*a], &paths[*b], sources, store)).unwrap_or(left[0])
}

/// What makes a path better before the last resorts. Less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    long_stale: bool,
    local_pref: Reverse<u32>,
    not_own: bool,
    path_length: u16,
    origin: u8,
    internal: bool,
}

impl Rank {
    fn of(path: &Path, sources: &[Source], store: &Store) -> Self {
        let attributes = store.get(path.attributes);
        let origin = sources[path.source as usize].origin;
        Self {
            // RFC 9494, section 4.3: a last resort.
            long_stale: attributes.well_known.has(Community::LLGR_STALE),
            local_pref: Reverse(local_pref(attributes)),
            not_own: origin != Origin::Local,
            path_length: attributes.path_length,
            origin: attributes.origin,
            internal: origin == Origin::Internal,
        }
    }

    fn before_med(self) -> Self {
        Self { internal: false, ..self }
    }
}

/// RFC 8326, section 4: what is shut down gracefully is preferred least.
fn local_pref(attributes: &Attributes) -> u32 {
    if attributes.well_known.has(Community::GRACEFUL_SHUTDOWN) { 0 } else { attributes.local_pref }
}

fn last_resort(a: &Path, b: &Path, sources: &[Source], store: &Store) -> Ordering {
    let key = |path: &Path| {
        let (attributes, source) = (store.get(path.attributes), &sources[path.source as usize]);
        // RFC 4456, section 9: the originator stands for the router ID, and a shorter cluster list is better.
        let id: Ipv4Addr = attributes.originator.unwrap_or(source.router_id);
        (source.origin == Origin::Internal, id, attributes.cluster_length, source.address, path.received_id)
    };
    key(a).cmp(&key(b))
}
