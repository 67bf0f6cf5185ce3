//! Services of other clusters under their own names, as Service-Reflector makes them.
//!
//! A Service here is ours where it carries the annotation [`MIRRORED_FROM`]; then it is of the source that is named
//! there. Any other is never touched, nor is one of another source: that is a [`Conflict`]. Where several sources offer
//! a Service, the one that has it keeps it, else the first one in the order of the settings has it.
//!
//! Labels and annotations come with the Service, but for those that tell a controller in its own cluster something
//! ([`FOREIGN_DOMAINS`]). `internalTrafficPolicy` does not: no remote endpoint is local. A mirror is never mirrored
//! further, so that two clusters can mirror one another.

use std::collections::{BTreeMap, BTreeSet};

use tombolo_api::mcs;
use tombolo_api::tombolo::{HELD_SINCE, MANAGED_BY_LABEL, MANAGER, MIRRORED_FROM, SLICE_MANAGED_BY_LABEL, STALE_SINCE};
use tombolo_proxy::convert::SERVICE_NAME_LABEL;
use tombolo_proxy::{Refused, ServiceKey, TrafficPolicy};

use crate::changes::Objects;
use crate::endpoints::{self, EndpointMode, Here, Purpose};
use crate::model::{Kind, LegacyEndpoints, OwnSlice, Service, Slice, Subset, Timestamp};
use crate::selector::Selector;
use crate::staleness::Standing;

/// Labels and annotations whose names end their prefix with one of these stay in their own cluster.
pub const FOREIGN_DOMAINS: [&str; 7] = [
    "kubernetes.io",
    "k8s.io",
    "kube-router.io",
    "tombolo.io",
    "service-reflector.squat.ai",
    "meta.helm.sh",
    "argocd.argoproj.io",
];

/// On the mirrors of Service-Reflector, which are not mirrored further either.
const REFLECTED: &str = "service-reflector.squat.ai/reflected";
/// Keeps the control plane from making EndpointSlices out of Endpoints, as there are some already.
const SKIP_MIRROR_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";

/// Which Services are mirrored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// `--import-selector`; without one, all but `default/kubernetes` and those in `kube-system`.
    pub selector: Selector,
    /// `--namespace`; none for all.
    pub namespaces: BTreeSet<String>,
}

impl Choice {
    /// Whether a Service of a source is to be mirrored.
    pub fn takes(&self, key: &ServiceKey, service: &Service) -> bool {
        let is_derived = key.name.starts_with("derived-") && service.labels.contains_key(mcs::LABEL_SERVICE_NAME);
        let is_mirror = service.annotations.contains_key(MIRRORED_FROM) || service.annotations.contains_key(REFLECTED);
        self.chooses(key, &service.labels) && !is_mirror && !is_derived
    }

    /// Whether the name and the labels are among those that are asked for; also of a mirror that stands here already,
    /// so that after a change of the settings what is no longer asked for does not count as lost
    /// ([`Tracker::recover`](crate::staleness::Tracker::recover)).
    pub fn chooses(&self, key: &ServiceKey, labels: &BTreeMap<String, String>) -> bool {
        let is_in = self.namespaces.is_empty() || self.namespaces.contains(&key.namespace);
        let is_system = key.namespace == "kube-system" || *key == ServiceKey::new("default", "kubernetes");
        is_in && if self.selector.is_empty() { !is_system } else { self.selector.matches(labels) }
    }
}

/// What a source says of one Service.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// The name of the source.
    pub source: &'a str,
    /// What the source counts for.
    pub standing: Standing,
    /// What stands for the endpoints, where the Service does not say.
    pub mode: EndpointMode,
    /// The Service and its EndpointSlices by name, as last heard; none where there is none, or none is
    /// [taken](Choice::takes), or nothing was heard since the start.
    pub service: Option<(&'a Service, &'a BTreeMap<String, Slice>)>,
}

/// What stands here under the name already.
#[derive(Debug, Clone, Copy)]
pub enum Existing<'a> {
    /// Nothing.
    None,
    /// A Service that is not ours.
    Foreign,
    /// A mirror, of the source in its annotation.
    Mirror(&'a Mirror),
}

/// A mirrored Service with what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mirror {
    /// The Service.
    pub service: Service,
    /// Its EndpointSlices, by their names here.
    pub slices: BTreeMap<String, OwnSlice>,
    /// Its Endpoints, where they are asked for.
    pub endpoints: Option<LegacyEndpoints>,
}

impl Mirror {
    /// The source that it is of.
    pub fn source(&self) -> &str {
        self.service.annotations.get(MIRRORED_FROM).map_or("", String::as_str)
    }

    /// Adds it to `objects`.
    pub fn put(self, key: &ServiceKey, objects: &mut Objects) {
        let slices = self.slices.into_iter();
        objects.slices.extend(slices.map(|(name, slice)| (ServiceKey::new(&key.namespace, name), slice)));
        objects.endpoints.extend(self.endpoints.map(|endpoints| (key.clone(), endpoints)));
        objects.services.insert(key.clone(), self.service);
    }
}

/// A Service that is not mirrored because its name is taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("Service {service} of {source_name} is not mirrored: {holder}")]
pub struct Conflict {
    /// The Service.
    pub service: ServiceKey,
    /// Whose Service it would be.
    pub source_name: String,
    /// Whose it is.
    pub holder: Holder,
}

/// Who has a name here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Holder {
    /// Somebody made a Service of that name here.
    #[error(
        "a Service of that name stands here that is not a mirror; rename one of them, or leave it out by a selector"
    )]
    Foreign,
    /// It is mirrored from another source.
    #[error("it is mirrored from {0} already; leave it out there or here by a selector")]
    Source(String),
}

/// What is to stand under one name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The mirror; none where there is to be none.
    pub mirror: Option<Mirror>,
    /// Sources whose Service finds the name taken.
    pub conflicts: Vec<Conflict>,
    /// What was left out.
    pub refused: Vec<Refused>,
}

/// What is to stand here under `key`. `offers` are in the order of the settings, with one for each source there is.
pub fn mirror(key: &ServiceKey, offers: &[Offer<'_>], existing: Existing<'_>, here: &Here, legacy: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut holder = match existing {
        Existing::Foreign => Some(Holder::Foreign),
        Existing::None | Existing::Mirror(_) => None,
    };
    if let Existing::Mirror(old) = existing {
        let owner = offers.iter().find(|offer| offer.source == old.source());
        if let Some(kept) = owner.and_then(|offer| of_owner(key, offer, old, here, legacy, &mut outcome.refused)) {
            holder = Some(Holder::Source(old.source().to_owned()));
            outcome.mirror = Some(kept);
        }
    }
    for offer in offers {
        let Some((service, slices)) = offer.service.filter(|_| offer.standing != Standing::Gone) else { continue };
        match &holder {
            Some(Holder::Source(source)) if source == offer.source => {}
            Some(holder) => outcome.conflicts.push(Conflict {
                service: key.clone(),
                source_name: offer.source.to_owned(),
                holder: holder.clone(),
            }),
            None => {
                let made = make(key, offer, service, slices, here, legacy, &mut outcome.refused);
                holder = made.is_some().then(|| Holder::Source(offer.source.to_owned()));
                outcome.mirror = made;
            }
        }
    }
    outcome
}

/// What the source that has the name wants of it; none where it gives it up.
fn of_owner(
    key: &ServiceKey,
    offer: &Offer<'_>,
    old: &Mirror,
    here: &Here,
    legacy: bool,
    refused: &mut Vec<Refused>,
) -> Option<Mirror> {
    match (offer.standing, offer.service) {
        (Standing::Gone, _) | (Standing::Live, None) => None,
        (_, Some((service, slices))) => make(key, offer, service, slices, here, legacy, refused),
        (Standing::Waiting, None) => Some(old.clone()),
        (Standing::Stale { since }, None) => Some(marked(old.clone(), STALE_SINCE, since)),
        (Standing::Held { since }, None) => {
            let mut mirror = old.clone();
            mirror.service.annotations.remove(STALE_SINCE);
            Some(marked(mirror, HELD_SINCE, since))
        }
    }
}

fn marked(mut mirror: Mirror, name: &str, since: Timestamp) -> Mirror {
    mirror.service.annotations.insert(name.to_owned(), since.0.to_string());
    mirror
}

fn make(
    key: &ServiceKey,
    offer: &Offer<'_>,
    service: &Service,
    slices: &BTreeMap<String, Slice>,
    here: &Here,
    legacy: bool,
    refused: &mut Vec<Refused>,
) -> Option<Mirror> {
    let mut mirror = Mirror { service: mirrored(service, offer.source), ..Mirror::default() };
    if let Standing::Stale { since } = offer.standing {
        mirror = marked(mirror, STALE_SINCE, since);
    }
    if let Kind::ExternalName(_) = service.kind {
        return Some(mirror);
    }
    mirror.service.families = endpoints::families(service, slices);
    mirror.service.families.retain(|family| here.families.contains(family));
    if mirror.service.families.is_empty() {
        let reason = "this cluster has none of its address families; make one of the clusters dual-stack";
        refused.push(endpoints::refusal(key, offer.source, "spec.ipFamilies", reason.to_owned()));
        return None;
    }
    if service.kind == Kind::ClusterIp && service.ports.is_empty() {
        let reason = "it has no port that can be used; give it one";
        refused.push(endpoints::refusal(key, offer.source, "spec.ports", reason.to_owned()));
        return None;
    }
    let taken = endpoints::remote(key, offer.source, service, slices, offer.mode, here, refused);
    mirror.endpoints = legacy.then(|| LegacyEndpoints {
        labels: [(MANAGED_BY_LABEL, MANAGER), (SKIP_MIRROR_LABEL, "true")].map(owned).into(),
        annotations: BTreeMap::from([owned((MIRRORED_FROM, offer.source))]),
        subsets: subsets(mirror.service.families.first().copied(), taken.values()),
    });
    mirror.slices = taken
        .into_iter()
        .map(|(name, slice)| {
            (endpoints::slice_name(Purpose::Mirror, key, offer.source, &name), own_slice(key, offer.source, slice))
        })
        .collect();
    Some(mirror)
}

fn mirrored(service: &Service, source: &str) -> Service {
    let travels = |(name, _): &(&String, &String)| {
        let domain = name.split_once('/').map_or("", |(domain, _)| domain);
        !FOREIGN_DOMAINS.iter().any(|own| domain == *own || domain.strip_suffix(own).is_some_and(|d| d.ends_with('.')))
    };
    let keep = |texts: &BTreeMap<String, String>| -> BTreeMap<String, String> {
        texts.iter().filter(travels).map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    let mut labels = keep(&service.labels);
    // These are a person's words, whatever their domain.
    let common = service.labels.iter().filter(|(name, _)| name.starts_with("app.kubernetes.io/"));
    labels.extend(common.map(|(name, value)| (name.clone(), value.clone())));
    labels.extend([owned((MANAGED_BY_LABEL, MANAGER))]);
    let mut annotations = keep(&service.annotations);
    annotations.extend([owned((MIRRORED_FROM, source))]);
    Service {
        cluster_ips: Vec::new(),
        internal_traffic_policy: TrafficPolicy::Cluster,
        labels,
        annotations,
        ..service.clone()
    }
}

fn own_slice(key: &ServiceKey, source: &str, slice: Slice) -> OwnSlice {
    let labels = [(SERVICE_NAME_LABEL, key.name.as_str()), (SLICE_MANAGED_BY_LABEL, MANAGER)];
    let annotations = BTreeMap::from([owned((MIRRORED_FROM, source))]);
    OwnSlice { labels: labels.map(owned).into(), annotations, slice }
}

/// Endpoints hold one family, the Service's first one.
fn subsets<'a>(family: Option<tombolo_proxy::Family>, slices: impl Iterator<Item = &'a Slice>) -> Vec<Subset> {
    let mut subsets: BTreeMap<_, Subset> = BTreeMap::new();
    for slice in slices.filter(|slice| Some(slice.family) == family && !slice.endpoints.is_empty()) {
        let mut ports: Vec<_> = slice.ports.iter().filter(|port| port.port.is_some()).cloned().collect();
        ports.sort();
        let subset = subsets.entry(ports.clone()).or_insert_with(|| Subset { ports, ..Subset::default() });
        for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.ready || !endpoint.terminating) {
            let list = if endpoint.ready { &mut subset.ready } else { &mut subset.not_ready };
            list.push((endpoint.address, endpoint.hostname.clone()));
        }
    }
    for subset in subsets.values_mut() {
        subset.ready.sort();
        subset.not_ready.sort();
    }
    subsets.into_values().filter(|subset| !subset.ready.is_empty() || !subset.not_ready.is_empty()).collect()
}

pub(crate) fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A Namespace of this cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NamespaceState {
    /// It was made for mirrors.
    pub made_for_mirrors: bool,
    /// It is being deleted: nothing can be made in it.
    pub terminating: bool,
    /// Something that is not ours lives in it.
    pub in_use: bool,
}

/// The Namespaces to be kept for mirrors, and what is to wait: takes from `desired` what is in a Namespace that is
/// being deleted, and fills in [`Objects::namespaces`].
///
/// A Namespace that was made for mirrors goes with the last of them, unless somebody else lives in it by now.
pub fn namespaces(desired: &mut Objects, existing: &BTreeMap<String, NamespaceState>) {
    let is_open = |namespace: &String| !existing.get(namespace).is_some_and(|state| state.terminating);
    desired.services.retain(|key, _| is_open(&key.namespace));
    desired.slices.retain(|key, _| is_open(&key.namespace));
    desired.endpoints.retain(|key, _| is_open(&key.namespace));
    desired.imports.retain(|key, _| is_open(&key.namespace));
    let needed: BTreeSet<&String> = desired.services.keys().map(|key| &key.namespace).collect();
    let missing = needed.iter().filter(|name| !existing.contains_key(**name)).map(|name| (*name).clone());
    let kept = existing
        .iter()
        .filter(|(name, state)| state.made_for_mirrors && (state.terminating || state.in_use || needed.contains(name)));
    desired.namespaces = missing.chain(kept.map(|(name, _)| name.clone())).collect();
}

#[cfg(test)]
mod tests;
