//! Services; their addresses and node ports are given out by `services`.

use serde_json::{Value, json};

use super::{NameRule, Strategy, keep, names};
use crate::status::Cause;

pub(super) struct Services;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

impl Strategy for Services {
    fn has_status(&self) -> bool {
        true
    }

    fn creates_on_update(&self) -> bool {
        true
    }

    fn name_rule(&self) -> NameRule {
        NameRule::Label1035
    }

    fn prepare_create(&self, object: &mut Value) {
        object["status"] = json!({"loadBalancer": {}});
    }

    fn prepare_update(&self, old: &Value, object: &mut Value, subresource: Option<&str>) {
        keep(old, object, if subresource == Some("status") { "spec" } else { "status" });
        if subresource.is_none() {
            carry(old, object);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let spec = &object["spec"];
        let kind = spec["type"].as_str().unwrap_or("ClusterIP");
        if !TYPES.contains(&kind) {
            causes.push(Cause::not_supported("spec.type", &spec["type"], &TYPES));
        }
        let headless = spec["clusterIP"] == "None";
        let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
        if ports.is_empty() && !headless && kind != "ExternalName" {
            causes.push(Cause::required("spec.ports", ""));
        }
        if kind == "ExternalName" {
            validate_external_name(spec, causes);
        }
        if headless && (kind == "NodePort" || kind == "LoadBalancer") {
            let detail = format!("may not be set to 'None' for {kind} services");
            causes.push(Cause::invalid("spec.clusterIPs[0]", &"None".into(), detail));
        }
        validate_ports(ports, kind, causes);
        if !matches!(spec["sessionAffinity"].as_str(), None | Some("ClientIP" | "None")) {
            causes.push(Cause::not_supported("spec.sessionAffinity", &spec["sessionAffinity"], &["ClientIP", "None"]));
        }
        super::metadata::validate_labels("spec.selector", spec["selector"].as_object(), causes);
        for (i, address) in spec["externalIPs"].as_array().into_iter().flatten().enumerate() {
            if address.as_str().and_then(|a| a.parse::<std::net::IpAddr>().ok()).is_none() {
                let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                causes.push(Cause::invalid(format!("spec.externalIPs[{i}]"), address, detail));
            }
        }
    }
}

/// What was given out stays with a Service whose update does not name it.
fn carry(old: &Value, object: &mut Value) {
    let (before, after) = (&old["spec"], &object["spec"]);
    let has_address = |spec: &Value| spec["type"].as_str() != Some("ExternalName");
    if !has_address(before) || !has_address(after) {
        return;
    }
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let unset = object["spec"][field].as_str().is_none_or(str::is_empty)
            && object["spec"][field].as_array().is_none_or(Vec::is_empty);
        if unset && !old["spec"][field].is_null() && object["spec"].is_object() {
            object["spec"][field] = old["spec"][field].clone();
        }
    }
    // One address of a pair changed alone stands for both of its fields.
    if object["spec"]["clusterIP"] != object["spec"]["clusterIPs"][0]
        && object["spec"]["clusterIPs"] == old["spec"]["clusterIPs"]
        && object["spec"]["clusterIP"] != old["spec"]["clusterIP"]
    {
        object["spec"]["clusterIPs"] = json!([object["spec"]["clusterIP"].clone()]);
    }
    if !matches!(object["spec"]["type"].as_str(), Some("NodePort" | "LoadBalancer")) {
        return;
    }
    let same = |a: &Value, b: &Value| a["port"] == b["port"] && a["protocol"] == b["protocol"];
    let known = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
    for port in object["spec"]["ports"].as_array_mut().into_iter().flatten() {
        if port["nodePort"].as_i64().unwrap_or(0) == 0
            && let Some(before) = known.iter().find(|b| same(b, port))
            && !before["nodePort"].is_null()
        {
            port["nodePort"] = before["nodePort"].clone();
        }
    }
}

fn validate_external_name(spec: &Value, causes: &mut Vec<Cause>) {
    let name = spec["externalName"].as_str().unwrap_or("");
    let host = name.strip_suffix('.').unwrap_or(name);
    if host.is_empty() {
        causes.push(Cause::required("spec.externalName", ""));
        return;
    }
    for detail in names::subdomain(host) {
        causes.push(Cause::invalid("spec.externalName", &name.into(), detail));
    }
    if spec["clusterIP"].as_str().is_some_and(|ip| !ip.is_empty()) {
        causes.push(Cause::forbidden("spec.clusterIPs", "may not be set when `type` is 'ExternalName'"));
    }
}

fn validate_ports(ports: &[Value], kind: &str, causes: &mut Vec<Cause>) {
    let mut seen_names = Vec::new();
    let mut seen = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let field = |name: &str| format!("spec.ports[{i}].{name}");
        let name = port["name"].as_str().unwrap_or("");
        if ports.len() > 1 && name.is_empty() {
            causes.push(Cause::required(field("name"), ""));
        } else if !name.is_empty() {
            for detail in names::label(name) {
                causes.push(Cause::invalid(field("name"), &name.into(), detail));
            }
            if seen_names.contains(&name) {
                causes.push(Cause::duplicate(field("name"), &name.into()));
            }
            seen_names.push(name);
        }
        let valid = |number: i64| (1..=65535).contains(&number);
        if !port["port"].as_i64().is_some_and(valid) {
            causes.push(Cause::invalid(field("port"), &port["port"], names::PORT_RANGE));
        }
        if !matches!(port["protocol"].as_str(), None | Some("TCP" | "UDP" | "SCTP")) {
            causes.push(Cause::not_supported(field("protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]));
        }
        match &port["targetPort"] {
            Value::Number(number) if !number.as_i64().is_some_and(valid) => {
                causes.push(Cause::invalid(field("targetPort"), &port["targetPort"], names::PORT_RANGE));
            }
            Value::String(text) => {
                for detail in names::port_name(text) {
                    causes.push(Cause::invalid(field("targetPort"), &port["targetPort"], detail));
                }
            }
            _ => {}
        }
        let node_port = port["nodePort"].as_i64().unwrap_or(0);
        if node_port != 0 && kind == "ClusterIP" {
            causes.push(Cause::forbidden(field("nodePort"), "may not be used when `type` is 'ClusterIP'"));
        }
        let key = (&port["protocol"], &port["port"]);
        if seen.contains(&key) {
            let value = json!({"protocol": port["protocol"], "port": port["port"]});
            causes.push(Cause::duplicate(format!("spec.ports[{i}]"), &value));
        }
        seen.push(key);
    }
}
