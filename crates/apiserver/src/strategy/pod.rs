//! Pods.

use serde_json::{Value, json};

use super::{Strategy, keep, names};
use crate::status::Cause;

pub(super) struct Pods;

const MUTABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`, `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` (only additions to existing tolerations), `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

impl Strategy for Pods {
    fn counts_generations(&self) -> bool {
        true
    }

    fn has_status(&self) -> bool {
        true
    }

    fn prepare_create(&self, object: &mut Value) {
        object["status"] = json!({"phase": "Pending", "qosClass": qos_class(&object["spec"])});
        if let Some(spec) = object["spec"].as_object_mut() {
            if spec.get("serviceAccountName").is_none_or(|n| n == "") {
                spec.insert("serviceAccountName".into(), "default".into());
            }
            let account = spec.get("serviceAccountName").cloned().unwrap_or_default();
            spec.insert("serviceAccount".into(), account);
        }
    }

    fn prepare_update(&self, old: &Value, object: &mut Value, subresource: Option<&str>) {
        keep(old, object, if subresource == Some("status") { "spec" } else { "status" });
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        validate_spec("spec", &object["spec"], causes);
    }

    fn validate_update(&self, old: &Value, object: &Value, _subresource: Option<&str>, causes: &mut Vec<Cause>) {
        let fixed = |pod: &Value| {
            let mut spec = pod["spec"].clone();
            for field in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates"] {
                super::remove(&mut spec, field);
            }
            for list in ["containers", "initContainers"] {
                for container in spec[list].as_array_mut().into_iter().flatten() {
                    container["image"] = Value::Null;
                }
            }
            spec
        };
        if fixed(old) != fixed(object) {
            causes.push(Cause::forbidden("spec", MUTABLE));
        }
    }
}

/// What is wrong with a pod's spec, of a pod or of a template.
pub(super) fn validate_spec(path: &str, spec: &Value, causes: &mut Vec<Cause>) {
    let Some(containers) = spec["containers"].as_array().filter(|c| !c.is_empty()) else {
        causes.push(Cause::required(format!("{path}.containers"), ""));
        return;
    };
    let mut seen = Vec::new();
    let init = spec["initContainers"].as_array().into_iter().flatten();
    let named = containers.iter().enumerate().map(|(i, c)| (format!("{path}.containers[{i}]"), c));
    for (place, container) in named.chain(init.enumerate().map(|(i, c)| (format!("{path}.initContainers[{i}]"), c))) {
        let name = container["name"].as_str().unwrap_or("");
        if name.is_empty() {
            causes.push(Cause::required(format!("{place}.name"), ""));
        } else {
            for detail in names::label(name) {
                causes.push(Cause::invalid(format!("{place}.name"), &name.into(), detail));
            }
            if seen.contains(&name) {
                causes.push(Cause::duplicate(format!("{place}.name"), &name.into()));
            }
        }
        seen.push(name);
        if container["image"].as_str().unwrap_or("").is_empty() && path == "spec" {
            causes.push(Cause::required(format!("{place}.image"), ""));
        }
        validate_ports(&place, container, causes);
    }
    let policies = ["Always", "OnFailure", "Never"];
    if !spec["restartPolicy"].as_str().is_none_or(|p| policies.contains(&p)) {
        causes.push(Cause::not_supported(format!("{path}.restartPolicy"), &spec["restartPolicy"], &policies));
    }
}

fn validate_ports(place: &str, container: &Value, causes: &mut Vec<Cause>) {
    for (i, port) in container["ports"].as_array().into_iter().flatten().enumerate() {
        let number = &port["containerPort"];
        if !number.as_i64().is_some_and(|p| (1..=65535).contains(&p)) {
            causes.push(Cause::invalid(format!("{place}.ports[{i}].containerPort"), number, names::PORT_RANGE));
        }
        if let Some(name) = port["name"].as_str().filter(|n| !n.is_empty()) {
            for detail in names::port_name(name) {
                causes.push(Cause::invalid(format!("{place}.ports[{i}].name"), &name.into(), detail));
            }
        }
    }
}

/// The quality of service that the resources of all containers ask for.
fn qos_class(spec: &Value) -> &'static str {
    let lists = ["containers", "initContainers"];
    let containers: Vec<&Value> = lists.iter().filter_map(|l| spec[*l].as_array()).flatten().collect();
    let amounts = |container: &Value, kind: &str, resource: &str| container["resources"][kind][resource].clone();
    let any = |kind: &str| containers.iter().any(|c| c["resources"][kind].as_object().is_some_and(|r| !r.is_empty()));
    if !any("requests") && !any("limits") {
        return "BestEffort";
    }
    let guaranteed = containers.iter().all(|c| {
        ["cpu", "memory"].iter().all(|resource| {
            let (request, limit) = (amounts(c, "requests", resource), amounts(c, "limits", resource));
            !limit.is_null() && (request.is_null() || request == limit)
        })
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}
