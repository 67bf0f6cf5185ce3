//! A node for each pod that has none: of the ready nodes that the pod may be on, the one with the fewest pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::write::{Write, list};
use super::{affinity, pods};
use crate::clock;
use crate::object::{self, str_at};
use crate::resources::Gvr;

/// Whether the pod waits for this scheduler.
pub(super) fn is_waiting(pod: &Value) -> bool {
    let scheduler = str_at(pod, &["spec", "schedulerName"]);
    str_at(pod, &["spec", "nodeName"]).is_empty()
        && pods::is_active(pod)
        && matches!(scheduler, "" | "default-scheduler")
        && list(pod, &["spec", "schedulingGates"]).is_empty()
}

/// The write that gives a waiting pod a node, or says in its condition why there is none. `all_pods` are those whose
/// places on nodes count.
pub(super) fn reconcile(pod: &Value, nodes: &[Arc<Value>], all_pods: &[Arc<Value>]) -> Option<Write> {
    if !is_waiting(pod) {
        return None;
    }
    let mut wanted = pod.clone();
    let condition = match choose(pod, nodes, all_pods) {
        Ok(node) => {
            wanted["spec"]["nodeName"] = node.into();
            json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null})
        }
        Err(why) => json!({
            "type": "PodScheduled",
            "status": "False",
            "lastProbeTime": null,
            "reason": "Unschedulable",
            "message": why,
        }),
    };
    set_condition(&mut wanted, condition);
    (wanted != *pod).then(|| Write::Update(Gvr::new("", "v1", "pods"), wanted))
}

fn choose(pod: &Value, nodes: &[Arc<Value>], all_pods: &[Arc<Value>]) -> Result<String, String> {
    let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
    let mut siblings: BTreeMap<&str, usize> = BTreeMap::new();
    let owner = super::write::controller_of(pod).map(|owner| str_at(owner, &["uid"]));
    for other in all_pods.iter().filter(|other| pods::is_active(other)) {
        let node = str_at(other, &["spec", "nodeName"]);
        *taken.entry(node).or_default() += 1;
        if owner.is_some() && super::write::controller_of(other).map(|owner| str_at(owner, &["uid"])) == owner {
            *siblings.entry(node).or_default() += 1;
        }
    }
    let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
    let mut fitting: Vec<&str> = Vec::new();
    for node in nodes {
        match refusal(pod, node) {
            Some(why) => *refusals.entry(why).or_default() += 1,
            None => fitting.push(object::name(node)),
        }
    }
    let count = |counts: &BTreeMap<&str, usize>, node: &str| counts.get(node).copied().unwrap_or(0);
    // Pods of one owner apart from each other first, so that one node's loss takes as few as possible.
    let best = fitting.into_iter().min_by_key(|node| (count(&siblings, node), count(&taken, node), node.to_string()));
    best.map(str::to_owned).ok_or_else(|| match nodes.is_empty() {
        true => "no nodes available to schedule pods".to_owned(),
        false => {
            let mut reasons: Vec<String> = refusals.into_iter().map(|(why, count)| format!("{count} {why}")).collect();
            reasons.sort();
            format!("0/{} nodes are available: {}.", nodes.len(), reasons.join(", "))
        }
    })
}

fn refusal(pod: &Value, node: &Value) -> Option<String> {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    if affinity::is_cordoned(node) {
        return Some("node(s) were unschedulable".into());
    }
    if !pods::is_ready(node) {
        return Some("node(s) were not ready".into());
    }
    if let Some(taint) = affinity::untolerated(spec, node) {
        let (key, value) = (str_at(taint, &["key"]), str_at(taint, &["value"]));
        return Some(format!("node(s) had untolerated taint {{{key}: {value}}}"));
    }
    (!affinity::selects(spec, node)).then(|| "node(s) didn't match Pod's node affinity/selector".into())
}

fn set_condition(pod: &mut Value, mut condition: Value) {
    let mut conditions = list(pod, &["status", "conditions"]).to_vec();
    let present = conditions.iter_mut().find(|present| present["type"] == condition["type"]);
    let same_status = present.as_ref().filter(|present| present["status"] == condition["status"]);
    condition["lastTransitionTime"] = match same_status {
        Some(present) => present["lastTransitionTime"].clone(),
        None => clock::now().into(),
    };
    match present {
        Some(present) => *present = condition,
        None => conditions.push(condition),
    }
    pod["status"]["conditions"] = conditions.into();
}
