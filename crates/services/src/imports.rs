//! What clusters export, merged into ServiceImports (KEP-1645).
//!
//! Each cluster merges for itself, and all come to the same: the order of precedence is that of the exports'
//! `creationTimestamp`, and among those of the same second that of the clusters' ids. What differs between clusters is
//! only what is theirs: the addresses, the families that they have, and whether the namespace is there.
//!
//! # Ports
//!
//! A ServiceImport has the ports of all exports, the oldest first; a port whose name, or whose protocol and number, is
//! there already is left out. An endpoint serves those ports whose protocol and number its own Service has, by whatever
//! name. Where there is more than one port, one without a name is given one, `tcp-80`.
//!
//! # Families
//!
//! Those of the oldest export, as far as this cluster has them. It is a conflict where an export lacks one of them: a
//! client that uses that family does not reach its endpoints. One that has more is none.

mod conflicts;
mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tombolo_api::mcs::{self, condition, reason};
use tombolo_api::tombolo::{MANAGED_BY_LABEL, MANAGER, SLICE_MANAGED_BY_LABEL, STALE_SINCE};
use tombolo_proxy::convert::SERVICE_NAME_LABEL;
use tombolo_proxy::{Family, Refused, ServiceKey};

use crate::changes::Objects;
use crate::clusters::ClusterId;
use crate::endpoints::{self, EndpointMode, Here, Purpose};
use crate::mirrors::owned;
use crate::model::{Condition, Export, Import, Kind, OwnSlice, Service, Slice, Status, Timestamp};

/// A cluster's ServiceExport, with the Service that it is for.
#[derive(Debug, Clone, Copy)]
pub struct Exporter<'a> {
    /// The cluster.
    pub cluster: &'a ClusterId,
    /// The ServiceExport.
    pub export: &'a Export,
    /// The Service of its name, where there is one.
    pub service: Option<&'a Service>,
    /// The Service's EndpointSlices by name.
    pub slices: &'a BTreeMap<String, Slice>,
    /// What stands for its endpoints in other clusters.
    pub mode: EndpointMode,
    /// Since when the cluster is out of contact, where it is.
    pub stale_since: Option<Timestamp>,
}

/// This cluster, as far as one service is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its id.
    pub cluster: &'a ClusterId,
    /// Its families and addresses.
    pub here: &'a Here,
    /// Whether the service's namespace is here; only then it is imported.
    pub has_namespace: bool,
    /// Whether a derived Service stands in front of the endpoints, for a service proxy that knows no ServiceImports.
    pub derives: bool,
    /// The addresses of the import: those of the derived Service, or [allocated](crate::ips::allocate) ones.
    pub ips: &'a [IpAddr],
    /// What stands here now: the import, and its slices by their names.
    pub current: Option<(&'a Import, &'a BTreeMap<String, OwnSlice>)>,
    /// Clusters of which it is not known now whether they export the service: out of contact since the start, or
    /// [held back](crate::staleness::Standing::Held). Where the import names one, it stays as it is, and so do the
    /// endpoints there.
    pub unknown: &'a BTreeSet<ClusterId>,
}

/// A merged service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Merged {
    /// The ServiceImport; none where no cluster exports a Service that can be, or the namespace is not here.
    pub import: Option<Import>,
    /// Its EndpointSlices, by their names.
    pub slices: BTreeMap<String, OwnSlice>,
    /// The name and the content of the derived Service.
    pub derived: Option<(String, Service)>,
    /// The conditions of each cluster's ServiceExport. A cluster writes its own.
    pub conditions: BTreeMap<ClusterId, Vec<Condition>>,
    /// What was left out.
    pub refused: Vec<Refused>,
}

impl Merged {
    /// Adds it to the `objects` of `cluster`.
    pub fn put(mut self, key: &ServiceKey, cluster: &ClusterId, objects: &mut Objects) {
        let slices = self.slices.into_iter();
        objects.slices.extend(slices.map(|(name, slice)| (ServiceKey::new(&key.namespace, name), slice)));
        objects.services.extend(self.derived.map(|(name, derived)| (ServiceKey::new(&key.namespace, name), derived)));
        objects.imports.extend(self.import.map(|import| (key.clone(), import)));
        objects.exports.extend(self.conditions.remove(cluster).map(|conditions| (key.clone(), conditions)));
    }
}

/// The name of the Service that stands for an import: `derived-` and ten hexadecimal digits, the same in every cluster.
pub fn derived_name(key: &ServiceKey) -> String {
    format!("derived-{}", endpoints::short_hash(&[&key.namespace, &key.name]))
}

/// Merges the exports of all clusters, given in any order, one for each cluster at most.
pub fn merge(key: &ServiceKey, exporters: &[Exporter<'_>], place: &Place<'_>) -> Merged {
    let mut ordered: Vec<&Exporter<'_>> = exporters.iter().collect();
    ordered.sort_by_key(|exporter| (exporter.export.created, exporter.cluster));
    let valid: Vec<(&Exporter<'_>, &Service)> = ordered
        .iter()
        .filter_map(|exporter| Some((*exporter, exporter.service?)))
        .filter(|(_, service)| !matches!(service.kind, Kind::ExternalName(_)))
        .collect();
    let mut merged = Merged { conditions: conflicts::conditions(&ordered, &valid), ..Merged::default() };
    let kept =
        place.current.filter(|(import, _)| import.clusters.iter().any(|cluster| is_kept(cluster, place, &ordered)));
    let Some(mut import) = kept.map(|(import, _)| import.clone()).or_else(|| fresh(&valid)) else { return merged };
    if !place.has_namespace {
        return merged;
    }
    import.clusters.retain(|cluster| is_kept(cluster, place, &ordered));
    import.clusters.extend(valid.iter().map(|(exporter, _)| exporter.cluster.clone()));
    // A headless one that was written by an older definition of the resource does not say.
    let says_families = !import.families.is_empty();
    import.families.retain(|family| place.here.families.contains(family));
    let has_no_family = says_families && import.families.is_empty();
    import.ips = import_ips(&import, place.ips);
    import.conditions = vec![readiness(&import, has_no_family)];
    // An API server takes no Service with an address and without ports.
    let derives = place.derives && !import.headless && !has_no_family && !import.ports.is_empty();
    let derived = derives.then(|| derived_name(key));
    import.annotations.remove(mcs::DERIVED_SERVICE);
    import.annotations.extend(derived.as_deref().map(|name| owned((mcs::DERIVED_SERVICE, name))));
    for (exporter, service) in &valid {
        merged.slices.extend(slices_of(
            key,
            exporter,
            service,
            &import,
            place,
            derived.as_deref(),
            &mut merged.refused,
        ));
    }
    if let Some((_, slices)) = kept {
        merged.slices.extend(slices.iter().filter_map(|(name, slice)| {
            let cluster = ClusterId::parse(slice.labels.get(mcs::LABEL_SOURCE_CLUSTER)?).ok()?;
            is_kept(&cluster, place, &ordered).then(|| (name.clone(), slice.clone()))
        }));
    }
    merged.derived = derived.map(|name| (name, derived_service(key, &import)));
    merged.import = Some(import);
    merged
}

/// Whether a cluster's part is left as it is, as nothing is heard of it.
fn is_kept(cluster: &ClusterId, place: &Place<'_>, heard: &[&Exporter<'_>]) -> bool {
    place.unknown.contains(cluster) && !heard.iter().any(|exporter| exporter.cluster == cluster)
}

/// The import without what depends on the cluster that it is in.
fn fresh(valid: &[(&Exporter<'_>, &Service)]) -> Option<Import> {
    let (oldest, service) = valid.first()?;
    Some(Import {
        headless: service.kind == Kind::Headless,
        ports: ports::union(valid.iter().map(|(_, service)| *service)),
        families: endpoints::families(service, oldest.slices),
        session_affinity: service.session_affinity,
        internal_traffic_policy: service.internal_traffic_policy,
        traffic_distribution: service.traffic_distribution.clone(),
        labels: exported(&oldest.export.labels),
        annotations: exported(&oldest.export.annotations),
        ..Import::default()
    })
}

/// What is exported, but for what we say ourselves of an import.
fn exported(texts: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_ours = |name: &str| name.starts_with("tombolo.io/") || name.starts_with("multicluster.kubernetes.io/");
    texts.iter().filter(|(name, _)| !is_ours(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// One address a family, in the order of the families.
fn import_ips(import: &Import, ips: &[IpAddr]) -> Vec<IpAddr> {
    if import.headless {
        return Vec::new();
    }
    let of = |family: &Family| ips.iter().copied().find(|ip| Family::of(*ip) == *family);
    import.families.iter().filter_map(of).collect()
}

fn readiness(import: &Import, has_no_family: bool) -> Condition {
    let (status, reason, message) = if has_no_family {
        let message = "This cluster has none of the service's address families.";
        (Status::False, reason::IP_FAMILY_NOT_SUPPORTED, message)
    } else if !import.headless && import.ips.len() < import.families.len() {
        (Status::False, reason::PENDING, "The service has no address here yet.")
    } else {
        (Status::True, reason::READY, "The service can be used.")
    };
    Condition { kind: condition::READY.to_owned(), status, reason: reason.to_owned(), message: message.to_owned() }
}

fn slices_of(
    key: &ServiceKey,
    exporter: &Exporter<'_>,
    service: &Service,
    import: &Import,
    place: &Place<'_>,
    derived: Option<&str>,
    refused: &mut Vec<Refused>,
) -> BTreeMap<String, OwnSlice> {
    let cluster = exporter.cluster.as_str();
    let slices = if exporter.cluster == place.cluster {
        exporter.slices.clone()
    } else {
        endpoints::remote(key, cluster, service, exporter.slices, exporter.mode, place.here, refused)
    };
    let mut labels: BTreeMap<String, String> = [
        (mcs::LABEL_SERVICE_NAME, key.name.as_str()),
        (mcs::LABEL_SOURCE_CLUSTER, cluster),
        (SLICE_MANAGED_BY_LABEL, MANAGER),
    ]
    .map(owned)
    .into();
    labels.extend(derived.map(|name| owned((SERVICE_NAME_LABEL, name))));
    let stale = exporter.stale_since.map(|since| owned((STALE_SINCE, &since.0.to_string())));
    let annotations: BTreeMap<String, String> = stale.into_iter().collect();
    slices
        .into_iter()
        .filter_map(|(name, mut slice)| {
            slice.ports = ports::of_import(&slice.ports, service, import);
            // Without a port nobody is sent there; pods of a headless service are found by their names all the same.
            if slice.ports.is_empty() && !import.headless {
                return None;
            }
            hint(&mut slice, import);
            let name = endpoints::slice_name(Purpose::Import, key, cluster, &name);
            Some((name, OwnSlice { labels: labels.clone(), annotations: annotations.clone(), slice }))
        })
        .collect()
}

/// Hints of the source are for the nodes there; here, each zone uses its own endpoints where that is asked for.
fn hint(slice: &mut Slice, import: &Import) {
    let is_by_zone = matches!(import.traffic_distribution.as_deref(), Some("PreferClose" | "PreferSameZone"));
    for endpoint in &mut slice.endpoints {
        endpoint.for_zones = endpoint.zone.clone().filter(|_| is_by_zone).into_iter().collect();
    }
}

/// A Service without a selector, behind which are the import's slices.
fn derived_service(key: &ServiceKey, import: &Import) -> Service {
    Service {
        kind: Kind::ClusterIp,
        cluster_ips: Vec::new(),
        families: import.families.clone(),
        ports: import.ports.clone(),
        session_affinity: import.session_affinity,
        internal_traffic_policy: import.internal_traffic_policy,
        traffic_distribution: import.traffic_distribution.clone(),
        publish_not_ready: false,
        labels: [(mcs::LABEL_SERVICE_NAME, key.name.as_str()), (MANAGED_BY_LABEL, MANAGER)].map(owned).into(),
        annotations: BTreeMap::new(),
    }
}

/// The names of single pods of a headless import, relative to it: `HOSTNAME.CLUSTER`, with their addresses.
///
/// A pod without a hostname has none. Pods that are not ready are left out.
pub fn host_names<'a>(slices: impl IntoIterator<Item = &'a OwnSlice>) -> BTreeMap<String, BTreeSet<IpAddr>> {
    let mut names: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for slice in slices {
        let Some(cluster) = slice.labels.get(mcs::LABEL_SOURCE_CLUSTER) else { continue };
        for endpoint in slice.slice.endpoints.iter().filter(|endpoint| endpoint.ready) {
            if let Some(hostname) = &endpoint.hostname {
                names.entry(format!("{hostname}.{cluster}")).or_default().insert(endpoint.address);
            }
        }
    }
    names
}

#[cfg(test)]
mod tests;
