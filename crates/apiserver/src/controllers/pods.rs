//! What several controllers ask of a pod, and how one is made from a template.

use std::net::IpAddr;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::write::{list, random_name};
use crate::clock;
use crate::object::{self, str_at};

pub(super) fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|condition| str_at(condition, &["status"]) == "True")
}

/// Whether it has ended and will not run again.
pub(super) fn has_ended(pod: &Value) -> bool {
    matches!(str_at(pod, &["status", "phase"]), "Succeeded" | "Failed")
}

/// Whether it runs or will run.
pub(super) fn is_active(pod: &Value) -> bool {
    !has_ended(pod) && !object::is_terminating(pod)
}

/// Whether it has been ready for so many seconds; if it only has to wait for that, how many seconds more.
pub(super) fn availability(pod: &Value, min_ready_seconds: i64, now: OffsetDateTime) -> Result<(), Option<i64>> {
    let Some(condition) = condition(pod, "Ready").filter(|condition| str_at(condition, &["status"]) == "True") else {
        return Err(None);
    };
    if min_ready_seconds <= 0 {
        return Ok(());
    }
    let Some(since) = clock::parse(str_at(condition, &["lastTransitionTime"])) else { return Err(None) };
    let passed = (now - since).whole_seconds();
    if passed >= min_ready_seconds { Ok(()) } else { Err(Some(min_ready_seconds - passed)) }
}

pub(super) fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    list(pod, &["status", "conditions"]).iter().find(|condition| str_at(condition, &["type"]) == kind)
}

/// Its addresses, the first one first.
pub(super) fn addresses(pod: &Value) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> =
        list(pod, &["status", "podIPs"]).iter().filter_map(|ip| str_at(ip, &["ip"]).parse().ok()).collect();
    if addresses.is_empty() {
        addresses.extend(str_at(pod, &["status", "podIP"]).parse::<IpAddr>());
    }
    addresses
}

/// A new pod of a controller, made from its template.
pub(super) fn from_template(template: &Value, owner: &Value, reference: Value) -> Value {
    let mut spec = template.get("spec").cloned().unwrap_or_else(|| json!({}));
    default_spec(&mut spec);
    let mut metadata = json!({
        "name": random_name(&format!("{}-", object::name(owner))),
        "generateName": format!("{}-", object::name(owner)),
        "namespace": object::namespace(owner),
    });
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = object::at(template, &["metadata", field]).filter(|value| !value.is_null()) {
            metadata[field] = value.clone();
        }
    }
    metadata["ownerReferences"] = json!([reference]);
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": spec,
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    })
}

/// What every stored pod says, where the template leaves it out.
fn default_spec(spec: &mut Value) {
    let Some(spec) = spec.as_object_mut() else { return };
    let account = spec.get("serviceAccountName").cloned().unwrap_or_else(|| "default".into());
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("serviceAccountName", account.clone()),
        ("serviceAccount", account),
        ("securityContext", json!({})),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
    ] {
        spec.entry(field).or_insert(value);
    }
}
