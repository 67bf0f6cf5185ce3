//! The conditions of ServiceExports.

use std::collections::{BTreeMap, BTreeSet};

use tombolo_api::mcs::{condition, reason};
use tombolo_proxy::TrafficPolicy;

use super::Exporter;
use crate::clusters::ClusterId;
use crate::model::{Condition, Kind, Service, Status};

/// The conditions of all exports: `ordered` are all of them, `valid` those that are merged, the oldest first.
pub(super) fn conditions(
    ordered: &[&Exporter<'_>],
    valid: &[(&Exporter<'_>, &Service)],
) -> BTreeMap<ClusterId, Vec<Condition>> {
    let conflict = conflict(valid);
    let of = |exporter: &&Exporter<'_>| match refusal(exporter.service) {
        Some(refused) => refused.to_vec(),
        None => vec![
            new(condition::VALID, Status::True, reason::VALID, "The Service can be exported."),
            new(condition::READY, Status::True, reason::READY, "The other clusters can read it."),
            conflict.clone(),
        ],
    };
    ordered.iter().map(|exporter| (exporter.cluster.clone(), of(exporter))).collect()
}

fn new(kind: &str, status: Status, reason: &str, message: impl Into<String>) -> Condition {
    Condition { kind: kind.to_owned(), status, reason: reason.to_owned(), message: message.into() }
}

/// `Valid` and `Ready` of an export that cannot be.
fn refusal(service: Option<&Service>) -> Option<[Condition; 2]> {
    let (why, what, ready) = match service.map(|service| &service.kind) {
        None => (
            reason::NO_SERVICE,
            "There is no Service of this name in the namespace; create it, or delete the ServiceExport.",
            reason::PENDING,
        ),
        Some(Kind::ExternalName(_)) => (
            reason::INVALID_SERVICE_TYPE,
            "A Service of type ExternalName is not exported; create it in each cluster.",
            reason::FAILED,
        ),
        Some(Kind::ClusterIp | Kind::Headless) => return None,
    };
    Some([new(condition::VALID, Status::False, why, what), new(condition::READY, Status::False, ready, what)])
}

/// One property in which exports can differ.
struct Property {
    reason: &'static str,
    /// Its name, in a message.
    name: &'static str,
    /// What is said of it; equal texts agree.
    say: fn(&Exporter<'_>, &Service) -> String,
}

const PROPERTIES: [Property; 8] = [
    Property { reason: reason::PORT_CONFLICT, name: "ports", say: |_, service| ports(service) },
    Property { reason: reason::TYPE_CONFLICT, name: "type", say: |_, service| kind(service).to_owned() },
    Property {
        reason: reason::SESSION_AFFINITY_CONFLICT,
        name: "session affinity",
        say: |_, service| if service.session_affinity.is_some() { "ClientIP" } else { "None" }.to_owned(),
    },
    Property {
        reason: reason::INTERNAL_TRAFFIC_POLICY_CONFLICT,
        name: "internal traffic policy",
        say: |_, service| match service.internal_traffic_policy {
            TrafficPolicy::Cluster => "Cluster".to_owned(),
            TrafficPolicy::Local => "Local".to_owned(),
        },
    },
    Property {
        reason: reason::TRAFFIC_DISTRIBUTION_CONFLICT,
        name: "traffic distribution",
        say: |_, service| service.traffic_distribution.clone().unwrap_or_else(|| "none".to_owned()),
    },
    Property { reason: reason::LABELS_CONFLICT, name: "exported labels", say: |e, _| texts(&e.export.labels) },
    Property {
        reason: reason::ANNOTATIONS_CONFLICT,
        name: "exported annotations",
        say: |e, _| texts(&e.export.annotations),
    },
    // Not a property of one export alone: see `disagrees`.
    Property {
        reason: reason::IP_FAMILY_CONFLICT,
        name: "IP families",
        say: |_, service| service.families.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(","),
    },
];

/// The longest value that a message repeats.
const MAX_SAID: usize = 200;

fn conflict(valid: &[(&Exporter<'_>, &Service)]) -> Condition {
    let none = new(condition::CONFLICT, Status::False, reason::NO_CONFLICTS, "All clusters agree.");
    let Some((oldest, first)) = valid.first() else { return none };
    let mut found: Vec<(&str, String)> = Vec::new();
    for property in &PROPERTIES {
        let said = (property.say)(oldest, first);
        let differing = valid.iter().filter(|(e, service)| disagrees(property, (oldest, first), (e, service))).count();
        if differing > 0 {
            found.push((property.reason, sentence(property, &said, oldest, differing, valid.len())));
        }
    }
    let timeouts: BTreeSet<u32> = valid.iter().filter_map(|(_, service)| service.session_affinity).collect();
    if timeouts.len() > 1 {
        let used = first.session_affinity.map_or("none".to_owned(), |seconds| format!("{seconds} s"));
        let text = format!(
            "Conflicting session affinity config: {used}, of the oldest export in {}, is used.",
            oldest.cluster
        );
        found.push((reason::SESSION_AFFINITY_CONFIG_CONFLICT, text));
    }
    if found.is_empty() {
        return none;
    }
    let reasons: Vec<&str> = found.iter().map(|(reason, _)| *reason).collect();
    let messages: Vec<&str> = found.iter().map(|(_, message)| message.as_str()).collect();
    new(condition::CONFLICT, Status::True, &reasons.join(","), messages.join(" "))
}

fn disagrees(
    property: &Property,
    (oldest, first): (&Exporter<'_>, &Service),
    (exporter, service): (&Exporter<'_>, &Service),
) -> bool {
    if property.reason == reason::IP_FAMILY_CONFLICT {
        let lacks = |family| !service.families.contains(family);
        return !service.families.is_empty() && first.families.iter().any(lacks);
    }
    (property.say)(oldest, first) != (property.say)(exporter, service)
}

fn sentence(property: &Property, said: &str, oldest: &Exporter<'_>, differing: usize, all: usize) -> String {
    let Property { reason, name, .. } = property;
    let cluster = oldest.cluster;
    let end = format!("{differing}/{all} clusters disagree.");
    if *reason == reason::PORT_CONFLICT {
        return format!(
            "Conflicting ports: those of all exports are used, those of the oldest, in {cluster}, first; {end}"
        );
    }
    let short: String = said.chars().take(MAX_SAID).collect();
    format!("Conflicting {name}: {short:?}, of the oldest export in {cluster}, is used; {end}")
}

fn ports(service: &Service) -> String {
    let mut ports: Vec<String> = service
        .ports
        .iter()
        .map(|p| format!("{}:{}/{}:{}", p.name, p.port, p.protocol, p.app_protocol.as_deref().unwrap_or_default()))
        .collect();
    ports.sort();
    ports.join(",")
}

fn kind(service: &Service) -> &'static str {
    if service.kind == Kind::Headless { "Headless" } else { "ClusterSetIP" }
}

fn texts(texts: &BTreeMap<String, String>) -> String {
    texts.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}
