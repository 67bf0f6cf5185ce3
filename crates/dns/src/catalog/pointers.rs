//! Which names an address has.
//!
//! An address that a name of this cluster stands for has no names of the cluster set: the
//! multi-cluster specification (KEP-1645, `specification.md`, sections 2.3.3 and 2.4.3) wants a PTR
//! record only where there is none yet, and a Service that is derived from a ServiceImport has the
//! same address.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::Diff;
use crate::name::Name;
use crate::record::{Data, Record};

/// Of two kinds of names for one address, the lesser is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Cluster,
    ClusterSet,
}

/// A name that an address may have.
pub(super) type Claim = (IpAddr, Rank, Name);

/// All names that addresses may have.
#[derive(Debug, Default)]
pub(super) struct Pointers {
    claims: HashMap<IpAddr, BTreeSet<(Rank, Name)>>,
}

impl Pointers {
    /// Takes out and puts in claims, and adds to `diff` the records that this takes and brings.
    pub(super) fn replace(&mut self, before: &BTreeSet<Claim>, after: &BTreeSet<Claim>, diff: &mut Diff) {
        let changed: BTreeSet<IpAddr> = before.symmetric_difference(after).map(|(address, ..)| *address).collect();
        let old: Vec<BTreeSet<Name>> = changed.iter().map(|address| self.names(*address)).collect();
        for (address, rank, name) in before.difference(after) {
            if let Some(claims) = self.claims.get_mut(address) {
                claims.remove(&(*rank, name.clone()));
                if claims.is_empty() {
                    self.claims.remove(address);
                }
            }
        }
        for (address, rank, name) in after.difference(before) {
            self.claims.entry(*address).or_default().insert((*rank, name.clone()));
        }
        for (address, old) in changed.into_iter().zip(old) {
            let new = self.names(address);
            let record = |name: &Name| Record { owner: Name::reverse(address), data: Data::Ptr(name.clone()) };
            diff.removed.extend(old.difference(&new).map(record));
            diff.added.extend(new.difference(&old).map(record));
        }
    }

    /// Those of the best rank that there is.
    fn names(&self, address: IpAddr) -> BTreeSet<Name> {
        let claims = self.claims.get(&address).into_iter().flatten();
        let best = claims.clone().next().map(|(rank, _)| *rank);
        claims.filter(|(rank, _)| Some(*rank) == best).map(|(_, name)| name.clone()).collect()
    }
}
