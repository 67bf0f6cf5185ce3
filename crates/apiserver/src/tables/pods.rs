//! Pods. The STATUS column is the phase, unless something more telling is known of a container or of the deletion.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{AGE, Cells, Column, NAME, age, age_of, columns, int_at, list_at, name, or_none};
use crate::clock;
use crate::object::{self, str_at};

pub(super) fn printer() -> (Vec<Column>, Cells) {
    let columns = columns(&[
        NAME,
        ("Ready", "string", 0, "Containers that are ready, of all containers."),
        ("Status", "string", 0, "What the pod's containers are doing."),
        ("Restarts", "string", 0, "How often containers were restarted, and when the last one was."),
        AGE,
        ("IP", "string", 1, "The pod's first address."),
        ("Node", "string", 1, "The node that the pod is on."),
        ("Nominated Node", "string", 1, "The node on which room is being made for the pod."),
        ("Readiness Gates", "string", 1, "Readiness gates that are fulfilled, of all gates."),
    ]);
    (columns, cells)
}

/// The row's condition for a Pod that has ended, by which clients may hide it.
pub(super) fn row_conditions(object: &Value) -> Option<Value> {
    if object::kind(object) != "Pod" {
        return None;
    }
    let (reason, message) = match str_at(object, &["status", "phase"]) {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

fn cells(pod: &Value, now: OffsetDateTime) -> Vec<Value> {
    let summary = summary(pod);
    let restarts = match summary.last_restart {
        Some(time) if summary.restarts != 0 => {
            format!("{} ({} ago)", summary.restarts, age::since(&clock::format_seconds(time), now))
        }
        _ => summary.restarts.to_string(),
    };
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age_of(pod, now),
        or_none(first_ip(pod)),
        or_none(str_at(pod, &["spec", "nodeName"])),
        or_none(str_at(pod, &["status", "nominatedNodeName"])),
        readiness_gates(pod).into(),
    ]
}

#[derive(Default)]
struct Summary {
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<OffsetDateTime>,
    reason: String,
}

impl Summary {
    fn count_restarts(&mut self, status: &Value) {
        self.restarts += int_at(status, &["restartCount"]);
        let finished = clock::parse(str_at(status, &["lastState", "terminated", "finishedAt"]));
        self.last_restart = self.last_restart.max(finished);
    }
}

fn summary(pod: &Value) -> Summary {
    let mut reason = str_at(pod, &["status", "phase"]);
    if !str_at(pod, &["status", "reason"]).is_empty() {
        reason = str_at(pod, &["status", "reason"]);
    }
    if condition(pod, "PodScheduled").is_some_and(|c| str_at(c, &["reason"]) == "SchedulingGated") {
        reason = "SchedulingGated";
    }
    let sidecars = list_at(pod, &["spec", "initContainers"]).iter().filter(|container| is_sidecar(container));
    let total = list_at(pod, &["spec", "containers"]).len() + sidecars.count();
    let mut summary = Summary { total, reason: reason.to_owned(), ..Summary::default() };

    let initializing = initialize(pod, &mut summary);
    let initialized = condition(pod, "Initialized").is_some_and(|c| str_at(c, &["status"]) == "True");
    if !initializing || initialized {
        run(pod, &mut summary);
    }

    if object::is_terminating(pod) {
        let phase = str_at(pod, &["status", "phase"]);
        if str_at(pod, &["status", "reason"]) == "NodeLost" {
            summary.reason = "Unknown".into();
        } else if phase != "Succeeded" && phase != "Failed" {
            summary.reason = "Terminating".into();
        }
    }
    summary
}

/// Takes in the init containers; whether one of them is still to end.
fn initialize(pod: &Value, summary: &mut Summary) -> bool {
    let containers = list_at(pod, &["spec", "initContainers"]);
    for (index, status) in list_at(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
        summary.count_restarts(status);
        let named = containers.iter().find(|c| str_at(c, &["name"]) == str_at(status, &["name"]));
        let started = status.get("started").and_then(Value::as_bool) == Some(true);
        let terminated = object::at(status, &["state", "terminated"]).filter(|state| state.is_object());
        let waiting = str_at(status, &["state", "waiting", "reason"]);
        match terminated {
            Some(state) if int_at(state, &["exitCode"]) == 0 => continue,
            _ if started && named.is_some_and(is_sidecar) => {
                if is_ready(status) {
                    summary.ready += 1;
                }
                continue;
            }
            Some(state) => summary.reason = format!("Init:{}", ending(state)),
            None if !waiting.is_empty() && waiting != "PodInitializing" => summary.reason = format!("Init:{waiting}"),
            None => summary.reason = format!("Init:{index}/{}", containers.len()),
        }
        return true;
    }
    false
}

/// Takes in the containers; of several that are not running, the first one's reason is shown.
fn run(pod: &Value, summary: &mut Summary) {
    let sidecar_names: Vec<&str> = list_at(pod, &["spec", "initContainers"])
        .iter()
        .filter(|container| is_sidecar(container))
        .map(|container| str_at(container, &["name"]))
        .collect();
    (summary.restarts, summary.last_restart) = (0, None);
    for status in list_at(pod, &["status", "initContainerStatuses"]) {
        if sidecar_names.contains(&str_at(status, &["name"])) {
            summary.count_restarts(status);
        }
    }

    let mut running = false;
    for status in list_at(pod, &["status", "containerStatuses"]).iter().rev() {
        summary.count_restarts(status);
        let waiting = str_at(status, &["state", "waiting", "reason"]);
        let state = |name| object::at(status, &["state", name]).filter(|state| state.is_object());
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if let Some(terminated) = state("terminated") {
            summary.reason = ending(terminated);
        } else if is_ready(status) && state("running").is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    if summary.reason == "Completed" && running {
        let ready = condition(pod, "Ready").is_some_and(|c| str_at(c, &["status"]) == "True");
        summary.reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
}

/// How a container ended.
fn ending(terminated: &Value) -> String {
    let reason = str_at(terminated, &["reason"]);
    match int_at(terminated, &["signal"]) {
        _ if !reason.is_empty() => reason.to_owned(),
        0 => format!("ExitCode:{}", int_at(terminated, &["exitCode"])),
        signal => format!("Signal:{signal}"),
    }
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list_at(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".into();
    }
    let holds = |gate: &&Value| {
        condition(pod, str_at(gate, &["conditionType"])).is_some_and(|c| str_at(c, &["status"]) == "True")
    };
    format!("{}/{}", gates.iter().filter(holds).count(), gates.len())
}

fn first_ip(pod: &Value) -> &str {
    match list_at(pod, &["status", "podIPs"]).first() {
        Some(first) => str_at(first, &["ip"]),
        None => str_at(pod, &["status", "podIP"]),
    }
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    list_at(pod, &["status", "conditions"]).iter().find(|condition| str_at(condition, &["type"]) == kind)
}

fn is_ready(status: &Value) -> bool {
    status.get("ready").and_then(Value::as_bool) == Some(true)
}

fn is_sidecar(container: &Value) -> bool {
    str_at(container, &["restartPolicy"]) == "Always"
}
