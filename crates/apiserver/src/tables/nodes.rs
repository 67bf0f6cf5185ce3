//! Nodes.

use serde_json::Value;
use time::OffsetDateTime;

use super::{AGE, Cells, Column, NAME, age_of, columns, list_at, name, or, or_none};
use crate::object::{self, str_at};

pub(super) fn printer() -> (Vec<Column>, Cells) {
    let columns = columns(&[
        NAME,
        ("Status", "string", 0, "Whether the node is ready, and whether new pods may come to it."),
        ("Roles", "string", 0, "The node's roles."),
        AGE,
        ("Version", "string", 0, "Version that the node's kubelet reports."),
        ("Internal-IP", "string", 1, "Address within the cluster."),
        ("External-IP", "string", 1, "Address outside the cluster."),
        ("OS-Image", "string", 1, "Operating system that the node reports."),
        ("Kernel-Version", "string", 1, "Kernel that the node reports."),
        ("Container-Runtime", "string", 1, "Container runtime and version that the node reports."),
    ]);
    (columns, cells)
}

fn cells(node: &Value, now: OffsetDateTime) -> Vec<Value> {
    let info = |field| str_at(node, &["status", "nodeInfo", field]);
    vec![
        name(node),
        status(node).into(),
        or_none(&roles(node)),
        age_of(node, now),
        info("kubeletVersion").into(),
        or_none(address(node, "InternalIP")),
        or_none(address(node, "ExternalIP")),
        or(info("osImage"), "<unknown>"),
        or(info("kernelVersion"), "<unknown>"),
        or(info("containerRuntimeVersion"), "<unknown>"),
    ]
}

fn status(node: &Value) -> String {
    let conditions = list_at(node, &["status", "conditions"]);
    let ready = conditions.iter().find(|condition| str_at(condition, &["type"]) == "Ready");
    let mut status = match ready.map(|condition| str_at(condition, &["status"])) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object::at(node, &["spec", "unschedulable"]).and_then(Value::as_bool) == Some(true) {
        status.push_str(",SchedulingDisabled");
    }
    status
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = Vec::new();
    for (key, value) in object::labels(node).into_iter().flatten() {
        let role = match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => role,
            None if key == "kubernetes.io/role" => value.as_str().unwrap_or_default(),
            None => continue,
        };
        if !role.is_empty() {
            roles.push(role);
        }
    }
    roles.sort_unstable();
    roles.dedup();
    roles.join(",")
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    let addresses = list_at(node, &["status", "addresses"]);
    let found = addresses.iter().find(|address| str_at(address, &["type"]) == kind);
    found.map_or("", |address| str_at(address, &["address"]))
}
