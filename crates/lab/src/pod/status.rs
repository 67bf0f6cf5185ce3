//! A Pod's status out of its containers' states, as a kubelet reports it. Pure.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It does not run yet, or not just now.
    Waiting {
        /// In one word, such as `CrashLoopBackOff`.
        reason: &'static str,
        /// For people.
        message: String,
    },
    /// It runs.
    Running {
        /// Since when (RFC 3339).
        since: String,
    },
    /// It has ended.
    Terminated(Terminated),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terminated {
    /// Exit code, or 128 and the signal's number.
    pub exit_code: i32,
    /// When it had been started (RFC 3339).
    pub started: String,
    /// When it ended.
    pub finished: String,
}

/// One container of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Names this run of it.
    pub id: String,
    /// What it does.
    pub state: State,
    /// How it ended the last time.
    pub last: Option<Terminated>,
    /// Whether it runs and its readiness probe, if it has one, succeeds.
    pub ready: bool,
    /// How often it was started anew.
    pub restarts: u32,
}

/// When a pod's containers are started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Whenever they end.
    Always,
    /// When they end with another exit code than 0.
    OnFailure,
    /// Never.
    Never,
}

impl RestartPolicy {
    /// Reads the field of a Pod.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended so is started anew.
    pub fn restarts(self, exit_code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => exit_code != 0,
            Self::Never => false,
        }
    }
}

/// A pod as its node sees it.
#[derive(Debug, Clone)]
pub struct PodView {
    /// The pod's restart policy.
    pub restart_policy: RestartPolicy,
    /// Its containers, in the order of the spec.
    pub containers: Vec<ContainerView>,
    /// The node's addresses.
    pub host_ips: Vec<IpAddr>,
    /// The pod's addresses.
    pub pod_ips: Vec<IpAddr>,
    /// When the node saw it first (RFC 3339).
    pub started: String,
}

/// The whole `status` of the pod. `previous` is the one before: a condition that is as it was keeps its time.
pub fn pod_status(view: &PodView, previous: &Value, now: &str) -> Value {
    let phase = phase(view);
    let unready: Vec<&str> = view.containers.iter().filter(|c| !c.ready).map(|c| c.name.as_str()).collect();
    let all_ready = unready.is_empty();
    let reason = match phase {
        "Succeeded" => "PodCompleted",
        "Failed" => "PodFailed",
        _ => "ContainersNotReady",
    };
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    let started = !view.pod_ips.is_empty();
    let condition = |kind: &str, status: bool, why: Option<(&str, &str)>| {
        condition(kind, status, why, previous.get("conditions"), now)
    };
    let unready = (!all_ready).then_some((reason, message.as_str()));
    let mut status = json!({
        "phase": phase,
        "conditions": [
            condition("PodReadyToStartContainers", started, None),
            condition("Initialized", true, None),
            condition("Ready", all_ready, unready),
            condition("ContainersReady", all_ready, unready),
            condition("PodScheduled", true, None),
        ],
        "startTime": view.started,
        "containerStatuses": view.containers.iter().map(container_status).collect::<Vec<_>>(),
        "qosClass": "BestEffort",
    });
    for (one, many, addresses) in [("hostIP", "hostIPs", &view.host_ips), ("podIP", "podIPs", &view.pod_ips)] {
        let Some(first) = addresses.first() else { continue };
        status[one] = json!(first);
        status[many] = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    }
    status
}

/// One condition, which changed now unless `conditions` has it with the same status.
pub fn condition(kind: &str, status: bool, why: Option<(&str, &str)>, conditions: Option<&Value>, now: &str) -> Value {
    let status = if status { "True" } else { "False" };
    let before = conditions.and_then(Value::as_array).into_iter().flatten().find(|c| c["type"] == kind);
    let kept = before.filter(|c| c["status"] == status).and_then(|c| c["lastTransitionTime"].as_str());
    let mut condition = json!({"type": kind, "status": status, "lastTransitionTime": kept.unwrap_or(now)});
    if let Some((reason, message)) = why {
        condition["reason"] = json!(reason);
        condition["message"] = json!(message);
    }
    condition
}

fn phase(view: &PodView) -> &'static str {
    let ended = |c: &ContainerView| match (&c.state, &c.last) {
        (State::Terminated(end), _) | (State::Waiting { .. }, Some(end)) => Some(end.exit_code),
        _ => None,
    };
    let ends: Vec<i32> = view.containers.iter().filter_map(ended).collect();
    let running = view.containers.iter().any(|c| matches!(c.state, State::Running { .. }));
    let started = ends.len() + usize::from(running);
    if view.containers.iter().any(|c| matches!(c.state, State::Waiting { .. }) && c.last.is_none()) || started == 0 {
        return "Pending";
    }
    if running || ends.iter().any(|code| view.restart_policy.restarts(*code)) {
        return "Running";
    }
    if ends.iter().all(|code| *code == 0) { "Succeeded" } else { "Failed" }
}

fn container_status(container: &ContainerView) -> Value {
    let id = format!("tombolo-lab://{}", container.id);
    let terminated = |end: &Terminated| {
        json!({
            "exitCode": end.exit_code,
            "reason": if end.exit_code == 0 { "Completed" } else { "Error" },
            "startedAt": end.started,
            "finishedAt": end.finished,
            "containerID": id,
        })
    };
    let state = match &container.state {
        State::Waiting { reason, message } if message.is_empty() => json!({"waiting": {"reason": reason}}),
        State::Waiting { reason, message } => json!({"waiting": {"reason": reason, "message": message}}),
        State::Running { since } => json!({"running": {"startedAt": since}}),
        State::Terminated(end) => json!({"terminated": terminated(end)}),
    };
    let mut status = Map::new();
    status.insert("name".into(), json!(container.name));
    status.insert("image".into(), json!(container.image));
    status.insert("imageID".into(), json!(""));
    if !container.id.is_empty() {
        status.insert("containerID".into(), json!(id));
    }
    status.insert("state".into(), state);
    status.insert(
        "lastState".into(),
        container.last.as_ref().map_or(json!({}), |e| json!({"terminated": terminated(e)})),
    );
    status.insert("ready".into(), json!(container.ready));
    status.insert("started".into(), json!(matches!(container.state, State::Running { .. })));
    status.insert("restartCount".into(), json!(container.restarts));
    Value::Object(status)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn end(exit_code: i32) -> Terminated {
        Terminated { exit_code, started: "t0".into(), finished: "t1".into() }
    }

    fn container(state: State, last: Option<Terminated>) -> ContainerView {
        let ready = matches!(state, State::Running { .. });
        ContainerView { name: "c".into(), image: "i".into(), id: "x".into(), state, last, ready, restarts: 0 }
    }

    fn view(restart_policy: RestartPolicy, containers: Vec<ContainerView>) -> PodView {
        let ip = |text: &str| text.parse().unwrap();
        PodView {
            restart_policy,
            containers,
            host_ips: vec![ip("172.18.1.11")],
            pod_ips: vec![ip("10.41.1.2"), ip("fd40::2")],
            started: "t".into(),
        }
    }

    fn waiting() -> State {
        State::Waiting { reason: "ContainerCreating", message: String::new() }
    }

    fn running() -> State {
        State::Running { since: "t0".into() }
    }

    #[test]
    fn the_phase_follows_from_the_containers() {
        use RestartPolicy::{Always, Never, OnFailure};
        let ended = |code| State::Terminated(end(code));
        for (policy, containers, expected) in [
            (Always, vec![], "Pending"),
            (Always, vec![container(waiting(), None)], "Pending"),
            (Always, vec![container(running(), None), container(waiting(), None)], "Pending"),
            (Always, vec![container(running(), None)], "Running"),
            (Always, vec![container(waiting(), Some(end(1)))], "Running"),
            (Always, vec![container(ended(0), None)], "Running"),
            (OnFailure, vec![container(waiting(), Some(end(1)))], "Running"),
            (OnFailure, vec![container(ended(0), None)], "Succeeded"),
            (Never, vec![container(ended(0), None), container(running(), None)], "Running"),
            (Never, vec![container(ended(0), None), container(ended(3), None)], "Failed"),
            (Never, vec![container(ended(0), None)], "Succeeded"),
        ] {
            assert_eq!(phase(&view(policy, containers.clone())), expected, "{policy:?} {containers:?}");
        }
    }

    #[test]
    fn a_condition_keeps_its_time_until_it_changes() {
        let ready = |status: &Value| {
            let conditions = status["conditions"].as_array().unwrap().clone();
            conditions.into_iter().find(|c| c["type"] == "Ready").unwrap()
        };
        let up = view(RestartPolicy::Always, vec![container(running(), None)]);
        let first = pod_status(&up, &Value::Null, "10:00");
        let second = pod_status(&up, &first, "11:00");
        assert_eq!(ready(&second), json!({"type": "Ready", "status": "True", "lastTransitionTime": "10:00"}));
        let down = view(RestartPolicy::Always, vec![container(waiting(), Some(end(1)))]);
        assert_eq!(
            ready(&pod_status(&down, &second, "12:00")),
            json!({"type": "Ready", "status": "False", "lastTransitionTime": "12:00", "reason": "ContainersNotReady",
                   "message": "containers with unready status: [c]"})
        );
    }

    #[test]
    fn addresses_of_both_families_are_told() {
        let status = pod_status(&view(RestartPolicy::Always, vec![]), &Value::Null, "t");
        assert_eq!(status["podIP"], "10.41.1.2");
        assert_eq!(status["podIPs"], json!([{"ip": "10.41.1.2"}, {"ip": "fd40::2"}]));
        assert_eq!(status["hostIP"], "172.18.1.11");
    }

    #[test]
    fn how_a_container_ended_is_told() {
        let status = container_status(&container(State::Terminated(end(137)), None));
        assert_eq!(status["state"]["terminated"]["exitCode"], 137);
        assert_eq!(status["state"]["terminated"]["reason"], "Error");
        assert_eq!(status["ready"], false);
    }
}
