//! What is to stand here for one service: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tombolo_api::mcs::{self, condition};
use tombolo_api::tombolo::MIRRORED_FROM;
use tombolo_proxy::{Refused, ServiceKey};
use tombolo_services::clusters::ClusterId;
use tombolo_services::imports::{self, Place, derived_name};
use tombolo_services::mirrors::{self, Choice, Conflict, Existing, Mirror};
use tombolo_services::staleness::Standing;
use tombolo_services::{Change, Here, Objects, OwnSlice, changes, source};

use crate::kinds::Kind;
use crate::own::{Own, the_namespace};
use crate::pool::Pool;
use crate::remote::Remote;
use crate::watch::ABSENT;

/// All that a plan follows from.
pub(crate) struct World<'a> {
    pub own: &'a Own,
    /// The other clusters, in the order of the settings.
    pub remotes: &'a [Remote],
    /// Which of them has which id.
    pub admitted: &'a BTreeMap<ClusterId, String>,
    /// This cluster's id; without one nothing is imported.
    pub id: Option<&'a ClusterId>,
    pub here: &'a Here,
    pub choice: &'a Choice,
    pub mirrors: bool,
    pub imports: bool,
    pub legacy_endpoints: bool,
}

/// What is to be done for one service, and what cannot be.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub changes: Vec<Change>,
    pub conflicts: Vec<Conflict>,
    /// With the kind of the object that an Event is to be on.
    pub refused: Vec<(Kind, Refused)>,
}

/// Plans one service.
pub(crate) fn plan(key: &ServiceKey, world: &World<'_>, pool: &mut Pool) -> Plan {
    let mut plan = Plan::default();
    let mut current = world.own.kept.of(key);
    let mut desired = Objects::default();
    if world.mirrors {
        mirror(key, world, &current, &mut desired, &mut plan);
    }
    if imports(key, world) {
        import(key, world, pool, &current, &mut desired, &mut plan);
    } else {
        let is_exported = world.own.conditions.contains_key(&(Kind::Export, key.clone()));
        if world.imports && world.id.is_none() && is_exported {
            let reason = "this cluster has no id yet, so nothing is exported or imported; make the ClusterProperty \
                          cluster.clusterset.k8s.io, or give the controller --cluster-id";
            let object = format!("ServiceExport {key}");
            let refused = Refused { object, field: "cluster".to_owned(), reason: reason.to_owned() };
            plan.refused.push((Kind::Export, refused));
        }
        // What stands is left alone: it cannot be told what it should be.
        current.slices.retain(|_, slice| !slice.labels.contains_key(mcs::LABEL_SERVICE_NAME));
        current.services.retain(|name, _| name == key);
        current.imports.clear();
    }
    let state = world.own.namespaces.get(&key.namespace).copied();
    let namespace: BTreeMap<_, _> = state
        .map(|mut state| {
            state.in_use |= world.own.kept.has_other_mirrors(key);
            (key.namespace.clone(), state)
        })
        .into_iter()
        .collect();
    let stood = current.services.contains_key(key);
    mirrors::namespaces(&mut desired, &namespace);
    // Others decide about a Namespace in which this service never was.
    let decides = stood || desired.services.contains_key(key) || *key == the_namespace(&key.namespace);
    if decides && state.is_some_and(|state| state.made_for_mirrors) {
        current.namespaces.insert(key.namespace.clone());
    } else if state.is_some() {
        desired.namespaces.clear();
    }
    current.exports.values_mut().for_each(|conditions| conditions.retain(|condition| is_ours(&condition.kind)));
    plan.changes = changes(&current, &desired);
    plan
}

fn is_ours(kind: &str) -> bool {
    [condition::VALID, condition::READY, condition::CONFLICT].contains(&kind)
}

fn mirror(key: &ServiceKey, world: &World<'_>, current: &Objects, desired: &mut Objects, plan: &mut Plan) {
    let offers: Vec<_> =
        world.remotes.iter().map(|remote| remote.source.offer(&remote.name, key, world.choice)).collect();
    let standing = current.services.get(key).filter(|service| service.annotations.contains_key(MIRRORED_FROM));
    let standing = standing.map(|service| Mirror {
        service: service.clone(),
        slices: named(current, |slice| slice.annotations.contains_key(MIRRORED_FROM)),
        endpoints: current.endpoints.get(key).cloned(),
    });
    let existing = match &standing {
        _ if world.own.foreign.contains_key(key) => Existing::Foreign,
        Some(mirror) => Existing::Mirror(mirror),
        None => Existing::None,
    };
    let outcome = mirrors::mirror(key, &offers, existing, world.here, world.legacy_endpoints);
    if let Some(mirror) = outcome.mirror {
        mirror.put(key, desired);
    }
    plan.conflicts = outcome.conflicts;
    plan.refused.extend(outcome.refused.into_iter().map(|refused| (Kind::Service, refused)));
}

/// Whether ServiceImports of this name are ours to look after.
fn imports(key: &ServiceKey, world: &World<'_>) -> bool {
    let is_served = world.own.versions.get(&Kind::Import).is_some_and(|version| *version != ABSENT);
    world.imports && world.id.is_some() && is_served && !world.own.foreign_imports.contains(key)
}

fn import(
    key: &ServiceKey,
    world: &World<'_>,
    pool: &mut Pool,
    current: &Objects,
    desired: &mut Objects,
    plan: &mut Plan,
) {
    let Some(own_id) = world.id else { return };
    let by_name: BTreeMap<&str, &Remote> = world.remotes.iter().map(|remote| (remote.name.as_str(), remote)).collect();
    let others = world.admitted.iter().filter_map(|(id, name)| Some((id, &by_name.get(name.as_str())?.source)));
    let clusters = std::iter::once((own_id, &world.own.local)).chain(others);
    let (exporters, mut unknown) = source::words(clusters, key);
    let standing = current.imports.get(key);
    // Of a cluster that was not heard since the start not even the id is known.
    unknown.extend(standing.iter().flat_map(|import| waiting(world, own_id, &import.clusters)));
    if exporters.is_empty() && standing.is_none() {
        pool.release(key);
        let has_some = current.slices.values().any(|slice| slice.labels.contains_key(mcs::LABEL_SERVICE_NAME));
        if !has_some && current.services.len() <= usize::from(current.services.contains_key(key)) {
            return;
        }
    }
    let slices = named(current, |slice| slice.labels.contains_key(mcs::LABEL_SERVICE_NAME));
    let derived = ServiceKey::new(&key.namespace, derived_name(key));
    let ips: Vec<IpAddr> = if pool.is_used() {
        pool.of(key, standing.map(|import| import.ips.as_slice()).unwrap_or_default())
    } else {
        world.own.addresses.get(&derived).cloned().unwrap_or_default()
    };
    let place = Place {
        cluster: own_id,
        here: world.here,
        has_namespace: world.own.namespaces.contains_key(&key.namespace),
        derives: !pool.is_used(),
        ips: &ips,
        current: standing.map(|import| (import, &slices)),
        unknown: &unknown,
    };
    let mut merged = imports::merge(key, &exporters, &place);
    if merged.import.is_none() {
        pool.release(key);
    }
    plan.refused.extend(merged.refused.iter().cloned().map(|refused| (Kind::Import, refused)));
    // The address is in the answer when the derived Service is made: then the import is written, once and whole.
    if standing.is_none() && merged.derived.is_some() && !current.services.contains_key(&derived) {
        merged.import = None;
    }
    merged.put(key, own_id, desired);
}

/// Those of the clusters of an import that may be sources that were not heard since we started.
fn waiting(world: &World<'_>, own: &ClusterId, clusters: &BTreeSet<ClusterId>) -> Vec<ClusterId> {
    let is_unheard = |remote: &&Remote| !remote.is_heard() && remote.source.standing != Standing::Gone;
    let unheard: BTreeSet<&str> = world.remotes.iter().filter(is_unheard).map(|remote| remote.name.as_str()).collect();
    // An id that nobody has may be that of any of them.
    let may_be = |id: &&ClusterId| match world.admitted.get(*id) {
        Some(name) => unheard.contains(name.as_str()),
        None => *id != own && !unheard.is_empty(),
    };
    clusters.iter().filter(may_be).cloned().collect()
}

fn named(objects: &Objects, is_wanted: impl Fn(&OwnSlice) -> bool) -> BTreeMap<String, OwnSlice> {
    let slices = objects.slices.iter().filter(|(_, slice)| is_wanted(slice));
    slices.map(|(key, slice)| (key.name.clone(), slice.clone())).collect()
}
