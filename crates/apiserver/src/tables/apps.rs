//! Deployments, ReplicaSets and DaemonSets.

use serde_json::Value;
use time::OffsetDateTime;

use super::{AGE, Cells, Column, NAME, age_of, columns, int_at, labels_text, list_at, name};
use crate::object::{self, str_at};
use crate::selectors::LabelSelector;

const CONTAINERS: (&str, &str, i64, &str) = ("Containers", "string", 1, "Names of the template's containers.");
const IMAGES: (&str, &str, i64, &str) = ("Images", "string", 1, "Images of the template's containers.");
const SELECTOR: (&str, &str, i64, &str) = ("Selector", "string", 1, "Labels of the pods that belong to it.");

pub(super) fn deployment() -> (Vec<Column>, Cells) {
    let columns = columns(&[
        NAME,
        ("Ready", "string", 0, "Pods that are ready, of those wanted."),
        ("Up-to-date", "string", 0, "Pods made from the current template."),
        ("Available", "string", 0, "Pods that have been ready for long enough."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ]);
    (columns, |object, now| {
        let ready = format!("{}/{}", status(object, "readyReplicas"), wanted(object));
        let counts =
            [ready.into(), status(object, "updatedReplicas").into(), status(object, "availableReplicas").into()];
        row(object, counts, now)
    })
}

pub(super) fn replica_set() -> (Vec<Column>, Cells) {
    let columns = columns(&[
        NAME,
        ("Desired", "integer", 0, "Pods wanted."),
        ("Current", "integer", 0, "Pods that there are."),
        ("Ready", "integer", 0, "Pods that are ready."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ]);
    (columns, |object, now| {
        row(
            object,
            [wanted(object).into(), status(object, "replicas").into(), status(object, "readyReplicas").into()],
            now,
        )
    })
}

pub(super) fn daemon_set() -> (Vec<Column>, Cells) {
    let columns = columns(&[
        NAME,
        ("Desired", "integer", 0, "Nodes that should run the pod."),
        ("Current", "integer", 0, "Nodes that run the pod and should."),
        ("Ready", "integer", 0, "Nodes on which the pod is ready."),
        ("Up-to-date", "integer", 0, "Nodes that run the current template."),
        ("Available", "integer", 0, "Nodes on which the pod has been ready for long enough."),
        ("Node Selector", "string", 0, "Labels of the nodes that should run it."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ]);
    (columns, |object, now| {
        let counts = [
            status(object, "desiredNumberScheduled").into(),
            status(object, "currentNumberScheduled").into(),
            status(object, "numberReady").into(),
            status(object, "updatedNumberScheduled").into(),
            status(object, "numberAvailable").into(),
            labels_text(object::at(object, &["spec", "template", "spec", "nodeSelector"])),
        ];
        row(object, counts, now)
    })
}

fn row<const N: usize>(object: &Value, counts: [Value; N], now: OffsetDateTime) -> Vec<Value> {
    let containers = list_at(object, &["spec", "template", "spec", "containers"]);
    let joined = |field| containers.iter().map(|c| str_at(c, &[field])).collect::<Vec<_>>().join(",");
    let selector = object::at(object, &["spec", "selector"]).map(LabelSelector::from_object);
    let selector = match selector {
        Some(Ok(selector)) if !selector.is_empty() => selector.to_string(),
        _ => "<none>".to_owned(),
    };
    let mut cells = vec![name(object)];
    cells.extend(counts);
    cells.extend([age_of(object, now), joined("name").into(), joined("image").into(), selector.into()]);
    cells
}

fn status(object: &Value, field: &str) -> i64 {
    int_at(object, &["status", field])
}

fn wanted(object: &Value) -> i64 {
    object::at(object, &["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(1)
}
