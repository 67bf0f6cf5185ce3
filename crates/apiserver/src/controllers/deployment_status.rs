//! A Deployment's status: what `kubectl rollout status` and `kubectl wait --for=condition=Available` look at.

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::deployments::{conditions, fenceposts, replicas, sum};
use super::write::int;
use crate::clock;
use crate::object::{self, str_at};

/// The status, with its ReplicaSets (`sets`, of which `new` is the present template's and `created` just now), and the
/// seconds until the rollout's deadline.
pub(super) fn status(
    deployment: &Value,
    new: Option<&Value>,
    created: bool,
    sets: &[&Value],
    now: OffsetDateTime,
) -> (Value, Option<i64>) {
    let wanted = replicas(deployment);
    let generation = int(deployment, &["metadata", "generation"]).unwrap_or(0);
    let available = sum(sets, "availableReplicas");
    let planned: i64 = sets.iter().map(|set| replicas(set)).sum();
    let updated = new.and_then(|new| int(new, &["status", "replicas"])).unwrap_or(0);
    let total = sum(sets, "replicas");
    let mut status = json!({"observedGeneration": generation});
    for (field, count) in [
        ("replicas", total),
        ("updatedReplicas", updated),
        ("readyReplicas", sum(sets, "readyReplicas")),
        ("availableReplicas", available),
        ("unavailableReplicas", (planned - available).max(0)),
    ] {
        if count != 0 {
            status[field] = count.into();
        }
    }
    if let Some(count) = object::at(deployment, &["status", "collisionCount"]) {
        status["collisionCount"] = count.clone();
    }

    let (_, unavailable) = fenceposts(deployment);
    let is_available = available >= wanted - unavailable;
    let is_complete = updated == wanted && total == wanted && available == wanted;
    let (progressing, look_again) = progressing(deployment, new, created, &status, is_complete, now);
    let available_condition = match is_available {
        true => ("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.".to_owned()),
        false => {
            let message = "Deployment does not have minimum availability.".to_owned();
            ("Available", "False", "MinimumReplicasUnavailable", message)
        }
    };
    let mut list = conditions(deployment).to_vec();
    set_condition(&mut list, available_condition, false, now);
    if let Some((condition, refresh)) = progressing {
        set_condition(&mut list, condition, refresh, now);
    }
    status["conditions"] = list.into();
    (status, look_again)
}

type Condition = (&'static str, &'static str, &'static str, String);

/// The condition Progressing and whether its time is to be renewed; and the seconds until the deadline.
fn progressing(
    deployment: &Value,
    new: Option<&Value>,
    created: bool,
    status: &Value,
    is_complete: bool,
    now: OffsetDateTime,
) -> (Option<(Condition, bool)>, Option<i64>) {
    let present = conditions(deployment).iter().find(|condition| condition["type"] == "Progressing");
    if object::at(deployment, &["spec", "paused"]) == Some(&Value::Bool(true)) {
        let condition = ("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused".to_owned());
        return (Some((condition, false)), None);
    }
    let Some(new) = new else { return (None, None) };
    let name = object::name(new);
    if is_complete {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        return (Some((("Progressing", "True", "NewReplicaSetAvailable", message), false)), None);
    }
    if created {
        let message = format!("Created new replica set \"{name}\"");
        return (Some((("Progressing", "True", "NewReplicaSetCreated", message), true)), None);
    }
    let count = |status: &Value, field: &str| int(status, &[field]).unwrap_or(0);
    let before = deployment.get("status").unwrap_or(&Value::Null);
    let old = |status: &Value| count(status, "replicas") - count(status, "updatedReplicas");
    let grew = ["updatedReplicas", "readyReplicas", "availableReplicas"]
        .iter()
        .any(|field| count(status, field) > count(before, field));
    if grew || old(status) < old(before) || present.is_none() {
        let message = format!("ReplicaSet \"{name}\" is progressing.");
        return (Some((("Progressing", "True", "ReplicaSetUpdated", message), true)), None);
    }
    let allowed = int(deployment, &["spec", "progressDeadlineSeconds"]).unwrap_or(600);
    let since = present.and_then(|condition| clock::parse(str_at(condition, &["lastUpdateTime"]))).unwrap_or(now);
    // A finished rollout that lost pods is no rollout that has not come on.
    let was_complete = present.is_some_and(|condition| condition["reason"] == "NewReplicaSetAvailable");
    if was_complete || allowed >= i64::from(i32::MAX) {
        return (None, None);
    }
    let deadline = since + Duration::seconds(allowed);
    if now < deadline {
        return (None, Some((deadline - now).whole_seconds() + 1));
    }
    let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
    (Some((("Progressing", "False", "ProgressDeadlineExceeded", message), false)), None)
}

fn set_condition(list: &mut Vec<Value>, condition: Condition, refresh: bool, now: OffsetDateTime) {
    let (kind, state, reason, message) = condition;
    let now = clock::format_seconds(now);
    let present = list.iter_mut().find(|present| present["type"] == kind);
    let unchanged = present
        .as_ref()
        .is_some_and(|p| p["status"] == state && p["reason"] == reason && p["message"] == message.as_str());
    if unchanged && !refresh {
        return;
    }
    let transition = match present.as_ref().filter(|present| present["status"] == state) {
        Some(present) => present["lastTransitionTime"].clone(),
        None => now.clone().into(),
    };
    let condition = json!({
        "type": kind,
        "status": state,
        "lastUpdateTime": now,
        "lastTransitionTime": transition,
        "reason": reason,
        "message": message,
    });
    match present {
        Some(present) => *present = condition,
        None => list.push(condition),
    }
}
