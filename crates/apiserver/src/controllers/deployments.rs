//! A Deployment and its ReplicaSets: one for the present template, and the old ones on their way out.

use std::sync::Arc;

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::deployment_status;
use super::replicasets::Outcome;
use super::write::{Write, controller_of, controller_reference, hash, int, list, owner_references};
use crate::object::{self, str_at};
use crate::resources::Gvr;
use crate::selectors::LabelSelector;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
const HASH: &str = "pod-template-hash";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Whether the Deployment should take the ReplicaSet as its own: it matches and belongs to nobody.
pub(super) fn adopts(deployment: &Value, set: &Value) -> bool {
    let selector = object::at(deployment, &["spec", "selector"]).map(LabelSelector::from_object);
    let matches = matches!(selector, Some(Ok(selector)) if !selector.is_empty() && selector.matches(set));
    matches && controller_of(set).is_none() && !object::is_terminating(set) && !object::is_terminating(deployment)
}

/// The writes for a Deployment. `sets` are the ReplicaSets that it controls or [`adopts`].
pub(super) fn reconcile(deployment: &Value, sets: &[Arc<Value>], now: OffsetDateTime) -> Outcome {
    let mut rollout = Rollout::new(deployment, sets);
    if !object::is_terminating(deployment) {
        if object::at(deployment, &["spec", "paused"]) == Some(&Value::Bool(true)) {
            rollout.scale_paused();
        } else {
            rollout.ensure_new();
            match str_at(deployment, &["spec", "strategy", "type"]) {
                "Recreate" => rollout.recreate(),
                _ => rollout.roll(),
            }
            rollout.clean_up();
        }
    }
    rollout.finish(now)
}

/// The Deployment's wanted number of pods.
pub(super) fn replicas(deployment: &Value) -> i64 {
    int(deployment, &["spec", "replicas"]).unwrap_or(1)
}

/// Resolves `maxSurge` and `maxUnavailable`: pods above the wanted number, and below it. Not both are 0.
pub(super) fn fenceposts(deployment: &Value) -> (i64, i64) {
    if str_at(deployment, &["spec", "strategy", "type"]) == "Recreate" {
        return (0, 0);
    }
    let replicas = replicas(deployment);
    let resolve = |field: &str, up: bool| {
        let value = object::at(deployment, &["spec", "strategy", "rollingUpdate", field]);
        let percent = match value {
            Some(Value::Number(number)) => return number.as_i64().unwrap_or(0),
            Some(Value::String(text)) => text.trim_end_matches('%').parse().unwrap_or(25),
            _ => 25,
        };
        let hundredths = replicas.saturating_mul(percent);
        if up { (hundredths + 99) / 100 } else { hundredths / 100 }
    };
    match (resolve("maxSurge", true), resolve("maxUnavailable", false)) {
        (0, 0) => (0, 1),
        (surge, unavailable) => (surge, unavailable),
    }
}

/// A ReplicaSet as it is to be.
struct Set {
    before: Option<Arc<Value>>,
    after: Value,
}

impl Set {
    fn wanted(&self) -> i64 {
        replicas(&self.after)
    }

    fn available(&self) -> i64 {
        int(&self.after, &["status", "availableReplicas"]).unwrap_or(0)
    }

    fn scale(&mut self, replicas: i64) {
        if self.wanted() != replicas {
            self.after["spec"]["replicas"] = replicas.into();
            let generation = int(&self.after, &["metadata", "generation"]).unwrap_or(0);
            object::set_meta(&mut self.after, "generation", json!(generation + 1));
        }
    }
}

struct Rollout<'a> {
    deployment: &'a Value,
    revision: Option<i64>,
    new: Option<Set>,
    /// The oldest first.
    old: Vec<Set>,
    surplus: Vec<Value>,
}

impl<'a> Rollout<'a> {
    fn new(deployment: &'a Value, sets: &[Arc<Value>]) -> Self {
        let template = template_without_hash(deployment);
        let mut old: Vec<Set> = sets
            .iter()
            .map(|set| {
                let mut after = Value::clone(set);
                if adopts(deployment, set) {
                    let reference = controller_reference("apps/v1", "Deployment", deployment);
                    object::set_meta(
                        &mut after,
                        "ownerReferences",
                        [owner_references(set), &[reference]].concat().into(),
                    );
                }
                Set { before: Some(set.clone()), after }
            })
            .collect();
        old.sort_by_key(|set| {
            (object::meta_str(&set.after, "creationTimestamp").to_owned(), object::name(&set.after).to_owned())
        });
        let is_new = |set: &Set| template_without_hash(&set.after) == template && !object::is_terminating(&set.after);
        let new = old.iter().position(is_new).map(|index| old.remove(index));
        Rollout { deployment, revision: None, new, old, surplus: Vec::new() }
    }

    /// Makes the ReplicaSet of the present template if there is none, and numbers it.
    fn ensure_new(&mut self) {
        let latest = self.old.iter().map(|set| revision(&set.after)).max().unwrap_or(0);
        let mut new = self.new.take().unwrap_or_else(|| Set { before: None, after: new_set(self.deployment) });
        let number = if revision(&new.after) > latest { revision(&new.after) } else { latest + 1 };
        self.revision = Some(number);
        let (surge, _) = fenceposts(self.deployment);
        let wanted = replicas(self.deployment);
        annotate(&mut new.after, REVISION, number);
        annotate(&mut new.after, DESIRED, wanted);
        annotate(&mut new.after, MAXIMUM, wanted + surge);
        let min_ready = object::at(self.deployment, &["spec", "minReadySeconds"]).cloned();
        if new.after["spec"].get("minReadySeconds").cloned() != min_ready {
            new.after["spec"]["minReadySeconds"] = min_ready.unwrap_or_else(|| json!(0));
        }
        self.new = Some(new);
    }

    fn roll(&mut self) {
        let wanted = replicas(self.deployment);
        let (surge, unavailable) = fenceposts(self.deployment);
        let total = self.total();
        let Some(new) = &mut self.new else { return };
        let present = new.wanted();
        let scaled = match present > wanted {
            true => wanted,
            false => present + (wanted + surge - total).clamp(0, wanted - present),
        };
        new.scale(scaled);

        let unready_new = scaled - new.available().min(scaled);
        let all_available =
            self.old.iter().map(|set| set.available().min(set.wanted())).sum::<i64>() + scaled - unready_new;
        let least = wanted - unavailable;
        let total = self.total();
        // Pods that serve nobody go first, as far as the new ones that are not ready leave room for.
        let mut room = total - least - unready_new;
        for set in &mut self.old {
            let idle = set.wanted() - set.available().min(set.wanted());
            let scaled_down = idle.min(room).max(0);
            set.scale(set.wanted() - scaled_down);
            room -= scaled_down;
        }
        let mut room = room.min(all_available - least);
        for set in &mut self.old {
            let scaled_down = set.wanted().min(room).max(0);
            set.scale(set.wanted() - scaled_down);
            room -= scaled_down;
        }
    }

    /// All old pods first, then all new ones.
    fn recreate(&mut self) {
        let running = |set: &Set| int(&set.after, &["status", "replicas"]).unwrap_or(0) > 0;
        let waits = self.old.iter().any(|set| set.wanted() > 0 || running(set));
        for set in &mut self.old {
            set.scale(0);
        }
        let Some(new) = &mut self.new else { return };
        if !waits {
            new.scale(replicas(self.deployment));
        }
    }

    /// While it is paused, a Deployment of one ReplicaSet can still be scaled.
    fn scale_paused(&mut self) {
        let wanted = replicas(self.deployment);
        let mut active: Vec<&mut Set> = self.new.iter_mut().chain(&mut self.old).collect();
        active.retain(|set| set.wanted() > 0);
        if let [only] = active.as_mut_slice() {
            only.scale(wanted);
        }
    }

    /// Deletes the oldest ReplicaSets that are no longer used, above the history's limit.
    fn clean_up(&mut self) {
        let limit = int(self.deployment, &["spec", "revisionHistoryLimit"]).unwrap_or(10);
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_unused = |set: &Set| {
            set.wanted() == 0
                && int(&set.after, &["status", "replicas"]).unwrap_or(0) == 0
                && !object::is_terminating(&set.after)
        };
        let mut unused: Vec<usize> = (0..self.old.len()).filter(|index| is_unused(&self.old[*index])).collect();
        unused.sort_by_key(|index| revision(&self.old[*index].after));
        unused.truncate(unused.len().saturating_sub(limit));
        unused.sort_unstable();
        for index in unused.into_iter().rev() {
            self.surplus.push(self.old.remove(index).after);
        }
    }

    fn total(&self) -> i64 {
        self.new.iter().chain(&self.old).map(Set::wanted).sum()
    }

    fn finish(self, now: OffsetDateTime) -> Outcome {
        let gvr = Gvr::new("apps", "v1", "replicasets");
        let mut outcome = Outcome::default();
        let sets: Vec<&Value> = self.new.iter().chain(&self.old).map(|set| &set.after).collect();
        let mut deployment = self.deployment.clone();
        if let Some(revision) = self.revision {
            annotate(&mut deployment, REVISION, revision);
        }
        let new = self.new.as_ref().map(|set| &set.after);
        let created = self.new.as_ref().is_some_and(|set| set.before.is_none());
        let (status, look_again) = deployment_status::status(self.deployment, new, created, &sets, now);
        deployment["status"] = status;
        outcome.look_again = look_again;
        for set in self.new.iter().chain(&self.old) {
            match &set.before {
                None => outcome.writes.push(Write::Create(gvr.clone(), set.after.clone())),
                Some(before) if **before != set.after => {
                    outcome.writes.push(Write::Update(gvr.clone(), set.after.clone()))
                }
                Some(_) => {}
            }
        }
        outcome.writes.extend(self.surplus.iter().map(|set| Write::delete(gvr.clone(), set)));
        if deployment != *self.deployment {
            outcome.writes.push(Write::Update(Gvr::new("apps", "v1", "deployments"), deployment));
        }
        outcome
    }
}

fn new_set(deployment: &Value) -> Value {
    let template = template_without_hash(deployment);
    let hash = hash(&template);
    let mut labels = object::at(&template, &["metadata", "labels"]).cloned().unwrap_or_else(|| json!({}));
    labels[HASH] = hash.clone().into();
    let mut template = template;
    template["metadata"]["labels"] = labels.clone();
    let mut selector = object::at(deployment, &["spec", "selector"]).cloned().unwrap_or_else(|| json!({}));
    selector["matchLabels"][HASH] = hash.clone().into();
    let mut annotations = object::annotations(deployment).cloned().unwrap_or_default();
    annotations.retain(|key, _| key != LAST_APPLIED && key != REVISION);
    json!({
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{}-{hash}", object::name(deployment)),
            "namespace": object::namespace(deployment),
            "labels": labels,
            "annotations": annotations,
            "generation": 1,
            "ownerReferences": [controller_reference("apps/v1", "Deployment", deployment)],
        },
        "spec": {
            "replicas": 0,
            "minReadySeconds": int(deployment, &["spec", "minReadySeconds"]).unwrap_or(0),
            "selector": selector,
            "template": template,
        },
        "status": {"replicas": 0},
    })
}

/// The template, without the label by which ReplicaSets tell their pods apart.
fn template_without_hash(object: &Value) -> Value {
    let mut template = object::at(object, &["spec", "template"]).cloned().unwrap_or_else(|| json!({}));
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.shift_remove(HASH);
    }
    template
}

fn revision(set: &Value) -> i64 {
    str_at(set, &["metadata", "annotations", REVISION]).parse().unwrap_or(0)
}

fn annotate(object: &mut Value, key: &str, value: i64) {
    let mut annotations = object::annotations(object).cloned().unwrap_or_default();
    annotations.insert(key.to_owned(), value.to_string().into());
    object::set_meta(object, "annotations", annotations.into());
}

/// The sum of a status field over ReplicaSets.
pub(super) fn sum(sets: &[&Value], field: &str) -> i64 {
    sets.iter().map(|set| int(set, &["status", field]).unwrap_or(0)).sum()
}

/// The conditions of a Deployment's status.
pub(super) fn conditions(deployment: &Value) -> &[Value] {
    list(deployment, &["status", "conditions"])
}
