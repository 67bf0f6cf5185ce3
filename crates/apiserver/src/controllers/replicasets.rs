//! A ReplicaSet and its pods.

use std::sync::Arc;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::pods;
use super::write::{Write, controller_of, controller_reference, int, list};
use crate::object::{self, str_at};
use crate::resources::Gvr;
use crate::selectors::LabelSelector;

/// What a look at something with pods led to.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) writes: Vec<Write>,
    /// Seconds after which time alone changes something.
    pub(super) look_again: Option<i64>,
}

/// Whether the ReplicaSet should take the pod as its own: it matches and belongs to nobody.
pub(super) fn adopts(set: &Value, pod: &Value) -> bool {
    let selector = object::at(set, &["spec", "selector"]).map(LabelSelector::from_object);
    let matches = matches!(selector, Some(Ok(selector)) if !selector.is_empty() && selector.matches(pod));
    matches && controller_of(pod).is_none() && !object::is_terminating(pod) && !object::is_terminating(set)
}

/// The writes for a ReplicaSet. `owned` are the pods that it controls, `orphans` those that it [`adopts`].
pub(super) fn reconcile(set: &Value, owned: &[Arc<Value>], orphans: &[Arc<Value>], now: OffsetDateTime) -> Outcome {
    let gvr = Gvr::new("", "v1", "pods");
    let mut outcome = Outcome::default();
    if !object::is_terminating(set) {
        for orphan in orphans {
            let mut adopted = Value::clone(orphan);
            let references = [super::write::owner_references(orphan), &[reference(set)]].concat();
            object::set_meta(&mut adopted, "ownerReferences", references.into());
            outcome.writes.push(Write::Update(gvr.clone(), adopted));
        }
        let wanted = usize::try_from(int(set, &["spec", "replicas"]).unwrap_or(1)).unwrap_or(0);
        let mut active: Vec<&Arc<Value>> = owned.iter().chain(orphans).filter(|pod| pods::is_active(pod)).collect();
        for _ in active.len()..wanted {
            let template = object::at(set, &["spec", "template"]).unwrap_or(&Value::Null);
            outcome.writes.push(Write::Create(gvr.clone(), pods::from_template(template, set, reference(set))));
        }
        if active.len() > wanted {
            active.sort_by_key(|pod| deletion_order(pod));
            let surplus = active.len() - wanted;
            outcome.writes.extend(active.into_iter().take(surplus).map(|pod| Write::delete(gvr.clone(), pod)));
        }
    }
    update_status(set, owned, now, &mut outcome);
    outcome
}

fn reference(set: &Value) -> Value {
    controller_reference("apps/v1", "ReplicaSet", set)
}

/// Which pods go first: those that do the least, and of equals the youngest.
fn deletion_order(pod: &Value) -> (bool, u8, bool, std::cmp::Reverse<String>, String) {
    let phase = match str_at(pod, &["status", "phase"]) {
        "Pending" => 0,
        "Running" => 2,
        _ => 1,
    };
    let created = object::meta_str(pod, "creationTimestamp").to_owned();
    let has_node = !str_at(pod, &["spec", "nodeName"]).is_empty();
    (has_node, phase, pods::is_ready(pod), std::cmp::Reverse(created), object::name(pod).to_owned())
}

fn update_status(set: &Value, owned: &[Arc<Value>], now: OffsetDateTime, outcome: &mut Outcome) {
    let min_ready_seconds = int(set, &["spec", "minReadySeconds"]).unwrap_or(0);
    let template_labels = object::at(set, &["spec", "template", "metadata", "labels"]).and_then(Value::as_object);
    let labelled = LabelSelector::from_map(&template_labels.cloned().unwrap_or_default());
    let (mut replicas, mut fully_labelled, mut ready, mut available) = (0, 0, 0, 0);
    for pod in owned.iter().filter(|pod| pods::is_active(pod)) {
        replicas += 1;
        fully_labelled += i64::from(labelled.matches(pod));
        ready += i64::from(pods::is_ready(pod));
        match pods::availability(pod, min_ready_seconds, now) {
            Ok(()) => available += 1,
            Err(Some(seconds)) => {
                outcome.look_again = Some(outcome.look_again.map_or(seconds, |soonest| soonest.min(seconds)));
            }
            Err(None) => {}
        }
    }
    let mut status = json!({"replicas": replicas});
    for (field, count) in
        [("fullyLabeledReplicas", fully_labelled), ("readyReplicas", ready), ("availableReplicas", available)]
    {
        if count != 0 {
            status[field] = count.into();
        }
    }
    status["observedGeneration"] = int(set, &["metadata", "generation"]).unwrap_or(0).into();
    if let conditions @ [_, ..] = list(set, &["status", "conditions"]) {
        status["conditions"] = conditions.into();
    }
    if set.get("status") != Some(&status) {
        let mut set = set.clone();
        set["status"] = status;
        outcome.writes.push(Write::Update(Gvr::new("apps", "v1", "replicasets"), set));
    }
}
