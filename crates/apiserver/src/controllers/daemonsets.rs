//! A DaemonSet: one pod on each node that it selects.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::replicasets::Outcome;
use super::write::{Write, controller_reference, hash, int};
use super::{affinity, pods};
use crate::object::{self, str_at};
use crate::resources::Gvr;

/// The label of a pod that says which template it was made from.
const HASH: &str = "controller-revision-hash";

/// The writes for a DaemonSet. `owned` are the pods that it controls.
pub(super) fn reconcile(set: &Value, nodes: &[Arc<Value>], owned: &[Arc<Value>], now: OffsetDateTime) -> Outcome {
    let template = object::at(set, &["spec", "template"]).cloned().unwrap_or_else(|| json!({}));
    let spec = template.get("spec").cloned().unwrap_or_default();
    let hash = hash(&template);
    let gvr = Gvr::new("", "v1", "pods");
    let mut outcome = Outcome::default();
    let mut on_node: BTreeMap<&str, Vec<&Arc<Value>>> = BTreeMap::new();
    for pod in owned {
        on_node.entry(str_at(pod, &["spec", "nodeName"])).or_default().push(pod);
    }

    let mut count = Counts::default();
    let mut outdated: Vec<(&Arc<Value>, bool)> = Vec::new();
    for node in nodes {
        let mut present = on_node.remove(object::name(node)).unwrap_or_default();
        let terminating = present.iter().any(|pod| object::is_terminating(pod));
        present.retain(|pod| !object::is_terminating(pod));
        if !affinity::selects(&spec, node) || affinity::untolerated(&tolerant(&spec), node).is_some() {
            count.misscheduled += i64::from(!present.is_empty());
            outcome.writes.extend(present.into_iter().map(|pod| Write::delete(gvr.clone(), pod)));
            continue;
        }
        count.desired += 1;
        let (ended, mut running): (Vec<_>, Vec<_>) = present.into_iter().partition(|pod| pods::has_ended(pod));
        outcome.writes.extend(ended.iter().map(|pod| Write::delete(gvr.clone(), pod)));
        running.sort_by_key(|pod| object::meta_str(pod, "creationTimestamp").to_owned());
        let Some((first, surplus)) = running.split_first() else {
            if ended.is_empty() && !terminating && !object::is_terminating(set) {
                outcome.writes.push(Write::Create(gvr.clone(), new_pod(set, &template, &hash, object::name(node))));
            }
            continue;
        };
        outcome.writes.extend(surplus.iter().map(|pod| Write::delete(gvr.clone(), pod)));
        let availability = pods::availability(first, int(set, &["spec", "minReadySeconds"]).unwrap_or(0), now);
        if let Err(Some(seconds)) = availability {
            outcome.look_again = Some(outcome.look_again.map_or(seconds, |soonest| soonest.min(seconds)));
        }
        count.current += 1;
        count.ready += i64::from(pods::is_ready(first));
        count.available += i64::from(availability.is_ok());
        if str_at(first, &["metadata", "labels", HASH]) == hash {
            count.updated += 1;
        } else {
            outdated.push((first, availability.is_ok()));
        }
    }
    // What is left is on nodes that are gone.
    let left = on_node.into_iter().filter(|(node, _)| !node.is_empty()).flat_map(|(_, pods)| pods);
    outcome.writes.extend(left.filter(|pod| pods::is_active(pod)).map(|pod| Write::delete(gvr.clone(), pod)));
    if !object::is_terminating(set) && str_at(set, &["spec", "updateStrategy", "type"]) != "OnDelete" {
        roll(set, &count, outdated, &mut outcome);
    }
    update_status(set, &count, &mut outcome);
    outcome
}

#[derive(Default)]
struct Counts {
    desired: i64,
    current: i64,
    ready: i64,
    available: i64,
    updated: i64,
    misscheduled: i64,
}

/// Deletes pods of old templates: those that do not serve at once, the others as far as may be missing at a time.
fn roll(set: &Value, count: &Counts, outdated: Vec<(&Arc<Value>, bool)>, outcome: &mut Outcome) {
    let allowed = match object::at(set, &["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"]) {
        Some(Value::Number(number)) => number.as_i64().unwrap_or(1),
        Some(Value::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(1);
            (count.desired.saturating_mul(percent) + 99) / 100
        }
        _ => 1,
    };
    let mut room = allowed.max(1) - (count.desired - count.available);
    for (pod, is_available) in outdated {
        if is_available && room <= 0 {
            continue;
        }
        room -= i64::from(is_available);
        outcome.writes.push(Write::delete(Gvr::new("", "v1", "pods"), pod));
    }
}

fn new_pod(set: &Value, template: &Value, hash: &str, node: &str) -> Value {
    let mut pod = pods::from_template(template, set, controller_reference("apps/v1", "DaemonSet", set));
    let mut labels = object::labels(&pod).cloned().unwrap_or_default();
    labels.insert(HASH.into(), hash.into());
    object::set_meta(&mut pod, "labels", labels.into());
    pod["spec"] = tolerant(&pod["spec"]);
    pod["spec"]["nodeName"] = node.into();
    pod["status"]["conditions"] = json!([{
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": crate::clock::now(),
    }]);
    pod
}

/// The spec with the tolerations that every DaemonSet's pod has: nodes in trouble need their daemons.
fn tolerant(spec: &Value) -> Value {
    let mut spec = spec.clone();
    let mut tolerations = super::write::list(&spec, &["tolerations"]).to_vec();
    let own = [
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
    ];
    for (condition, effect) in own {
        let key = format!("node.kubernetes.io/{condition}");
        let toleration = json!({"key": key, "operator": "Exists", "effect": effect});
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    if spec.is_null() {
        spec = json!({});
    }
    spec["tolerations"] = tolerations.into();
    spec
}

fn update_status(set: &Value, count: &Counts, outcome: &mut Outcome) {
    let mut status = json!({
        "currentNumberScheduled": count.current,
        "numberMisscheduled": count.misscheduled,
        "desiredNumberScheduled": count.desired,
        "numberReady": count.ready,
        "observedGeneration": int(set, &["metadata", "generation"]).unwrap_or(0),
    });
    for (field, number) in [
        ("updatedNumberScheduled", count.updated),
        ("numberAvailable", count.available),
        ("numberUnavailable", count.desired - count.available),
    ] {
        if number != 0 {
            status[field] = number.into();
        }
    }
    if set.get("status") != Some(&status) {
        let mut set = set.clone();
        set["status"] = status;
        outcome.writes.push(Write::Update(Gvr::new("apps", "v1", "daemonsets"), set));
    }
}
