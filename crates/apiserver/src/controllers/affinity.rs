//! Which nodes a pod may be on: node selector, required node affinity, taints and tolerations
//! (<https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/>).

use serde_json::Value;

use super::write::list;
use crate::object::{self, str_at};

/// Whether the node has the labels that the pod's spec asks for.
pub(super) fn selects(spec: &Value, node: &Value) -> bool {
    let label = |key: &str| object::labels(node).and_then(|labels| labels.get(key)).and_then(Value::as_str);
    let selector = spec.get("nodeSelector").and_then(Value::as_object);
    if !selector.into_iter().flatten().all(|(key, value)| label(key) == value.as_str()) {
        return false;
    }
    let required = ["affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];
    let Some(required) = object::at(spec, &required).filter(|required| required.is_object()) else { return true };
    list(required, &["nodeSelectorTerms"]).iter().any(|term| {
        let (labels, fields) = (list(term, &["matchExpressions"]), list(term, &["matchFields"]));
        let is_empty = labels.is_empty() && fields.is_empty();
        !is_empty
            && labels.iter().all(|expression| holds(expression, label(str_at(expression, &["key"]))))
            && fields.iter().all(|expression| holds(expression, Some(object::name(node))))
    })
}

/// The first of the node's taints that keeps the pod away.
pub(super) fn untolerated<'a>(spec: &Value, node: &'a Value) -> Option<&'a Value> {
    let keeps_away = |taint: &&Value| matches!(str_at(taint, &["effect"]), "NoSchedule" | "NoExecute");
    let mut taints = list(node, &["spec", "taints"]).iter().filter(keeps_away);
    taints.find(|taint| !list(spec, &["tolerations"]).iter().any(|toleration| tolerates(toleration, taint)))
}

/// Whether the node is cordoned.
pub(super) fn is_cordoned(node: &Value) -> bool {
    object::at(node, &["spec", "unschedulable"]) == Some(&Value::Bool(true))
}

fn holds(expression: &Value, value: Option<&str>) -> bool {
    let values = || list(expression, &["values"]).iter().filter_map(Value::as_str);
    let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
    let bound = || number(values().next());
    match str_at(expression, &["operator"]) {
        "In" => value.is_some_and(|value| values().any(|wanted| wanted == value)),
        "NotIn" => !value.is_some_and(|value| values().any(|wanted| wanted == value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number(value).zip(bound()).is_some_and(|(value, bound)| value > bound),
        "Lt" => number(value).zip(bound()).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let effect = str_at(toleration, &["effect"]);
    if !effect.is_empty() && effect != str_at(taint, &["effect"]) {
        return false;
    }
    let (key, exists) = (str_at(toleration, &["key"]), str_at(toleration, &["operator"]) == "Exists");
    if key.is_empty() {
        return exists;
    }
    key == str_at(taint, &["key"]) && (exists || str_at(toleration, &["value"]) == str_at(taint, &["value"]))
}
