//! The kinds that ask for little.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::{NameRule, Strategy, keep, remove};
use crate::object;
use crate::status::Cause;

/// Kinds with nothing of their own.
pub(super) struct Plain;
/// Custom resources.
pub(super) struct Custom;
/// Custom resources with a status subresource.
pub(super) struct CustomWithStatus;
pub(super) struct Secrets;
pub(super) struct ConfigMaps;
pub(super) struct Endpoints;
pub(super) struct EndpointSlices;
pub(super) struct Events;
pub(super) struct Leases;
/// Deployments, DaemonSets and ReplicaSets.
pub(super) struct Workloads;
/// Roles, their bindings and those of the cluster.
pub(super) struct Rbac;

/// The most that a ConfigMap or Secret may hold, in bytes.
const MAX_DATA: usize = 1 << 20;

impl Strategy for Plain {}

impl Strategy for Custom {
    fn counts_generations(&self) -> bool {
        true
    }

    fn updates_unconditionally(&self) -> bool {
        false
    }
}

impl Strategy for CustomWithStatus {
    fn counts_generations(&self) -> bool {
        true
    }

    fn has_status(&self) -> bool {
        true
    }

    fn updates_unconditionally(&self) -> bool {
        false
    }

    fn prepare_update(&self, old: &Value, object: &mut Value, subresource: Option<&str>) {
        if subresource != Some("status") {
            keep(old, object, "status");
            return;
        }
        // Only the status is taken; of the metadata only who wrote it.
        let status = object.get("status").cloned();
        let managers = object["metadata"].get("managedFields").cloned();
        *object = old.clone();
        object::set_meta(object, "managedFields", managers.unwrap_or(Value::Null));
        match status {
            Some(status) => object["status"] = status,
            None => remove(object, "status"),
        }
    }

    fn content_changed(&self, old: &Value, object: &Value) -> bool {
        let content = |value: &Value| {
            let mut value = value.clone();
            remove(&mut value, "metadata");
            remove(&mut value, "status");
            value
        };
        content(old) != content(object)
    }
}

impl Strategy for Secrets {
    fn prepare_create(&self, object: &mut Value) {
        encode_string_data(object);
    }

    fn prepare_update(&self, _old: &Value, object: &mut Value, _subresource: Option<&str>) {
        encode_string_data(object);
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        validate_data(object, &["data"], causes);
        for (key, value) in object["data"].as_object().into_iter().flatten() {
            let text = value.as_str().unwrap_or("");
            if STANDARD.decode(text).is_err() {
                causes.push(Cause::invalid(format!("data[{key}]"), value, "illegal base64 data"));
            }
        }
    }

    fn validate_update(&self, old: &Value, object: &Value, _subresource: Option<&str>, causes: &mut Vec<Cause>) {
        if old["type"] != object["type"] {
            causes.push(Cause::invalid("type", &object["type"], "field is immutable"));
        }
        immutable_data(old, object, causes);
    }
}

impl Strategy for ConfigMaps {
    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        validate_data(object, &["data", "binaryData"], causes);
    }

    fn validate_update(&self, old: &Value, object: &Value, _subresource: Option<&str>, causes: &mut Vec<Cause>) {
        immutable_data(old, object, causes);
    }
}

impl Strategy for Endpoints {
    fn creates_on_update(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        for (i, subset) in object["subsets"].as_array().into_iter().flatten().enumerate() {
            for list in ["addresses", "notReadyAddresses"] {
                for (j, address) in subset[list].as_array().into_iter().flatten().enumerate() {
                    validate_endpoint_ip(&format!("subsets[{i}].{list}[{j}].ip"), &address["ip"], causes);
                }
            }
            let none = |list: &str| subset[list].as_array().is_none_or(Vec::is_empty);
            if none("addresses") && none("notReadyAddresses") {
                causes
                    .push(Cause::required(format!("subsets[{i}]"), "must specify `addresses` or `notReadyAddresses`"));
            }
            validate_ports(&format!("subsets[{i}].ports"), &subset["ports"], true, causes);
        }
    }
}

impl Strategy for EndpointSlices {
    fn counts_generations(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let family = object["addressType"].as_str().unwrap_or("");
        if !["IPv4", "IPv6", "FQDN"].contains(&family) {
            causes.push(Cause::not_supported("addressType", &object["addressType"], &["FQDN", "IPv4", "IPv6"]));
        }
        for (i, endpoint) in object["endpoints"].as_array().into_iter().flatten().enumerate() {
            let addresses = endpoint["addresses"].as_array();
            if addresses.is_none_or(Vec::is_empty) {
                let detail = "must contain at least 1 address";
                causes.push(Cause::required(format!("endpoints[{i}].addresses"), detail));
            }
            for (j, address) in addresses.into_iter().flatten().enumerate() {
                let field = format!("endpoints[{i}].addresses[{j}]");
                let ip = address.as_str().and_then(|a| a.parse::<std::net::IpAddr>().ok());
                match (family, ip) {
                    ("IPv4", Some(ip)) if !ip.is_ipv4() => {
                        causes.push(Cause::invalid(field, address, "must be a valid IPv4 address"));
                    }
                    ("IPv6", Some(ip)) if !ip.is_ipv6() => {
                        causes.push(Cause::invalid(field, address, "must be a valid IPv6 address"));
                    }
                    ("IPv4" | "IPv6", _) => validate_endpoint_ip(&field, address, causes),
                    _ => {}
                }
            }
        }
        validate_ports("ports", &object["ports"], false, causes);
    }

    fn validate_update(&self, old: &Value, object: &Value, _subresource: Option<&str>, causes: &mut Vec<Cause>) {
        if old["addressType"] != object["addressType"] {
            causes.push(Cause::invalid("addressType", &object["addressType"], "field is immutable"));
        }
    }
}

impl Strategy for Events {
    fn creates_on_update(&self) -> bool {
        true
    }
}

impl Strategy for Leases {
    fn creates_on_update(&self) -> bool {
        true
    }

    fn updates_unconditionally(&self) -> bool {
        false
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        for field in ["leaseDurationSeconds", "leaseTransitions"] {
            let value = &object["spec"][field];
            let (least, detail) = match field {
                "leaseTransitions" => (0, "must be greater than or equal to 0"),
                _ => (1, "must be greater than 0"),
            };
            if value.as_i64().is_some_and(|v| v < least) {
                causes.push(Cause::invalid(format!("spec.{field}"), value, detail));
            }
        }
    }
}

impl Strategy for Workloads {
    fn counts_generations(&self) -> bool {
        true
    }

    fn has_status(&self) -> bool {
        true
    }

    fn prepare_create(&self, object: &mut Value) {
        object["status"] = json!({});
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let spec = &object["spec"];
        if spec["replicas"].as_i64().is_some_and(|r| r < 0) {
            causes.push(Cause::invalid("spec.replicas", &spec["replicas"], "must be greater than or equal to 0"));
        }
        super::pod::validate_spec("spec.template.spec", &spec["template"]["spec"], causes);
        let Ok(selector) = crate::selectors::LabelSelector::from_object(&spec["selector"]) else { return };
        let labels = spec["template"]["metadata"]["labels"].as_object();
        if spec["selector"].is_object() && !selector.matches_labels(labels) {
            let value = spec["template"]["metadata"].get("labels").cloned().unwrap_or(json!({}));
            let detail = "`selector` does not match template `labels`";
            causes.push(Cause::invalid("spec.template.metadata.labels", &value, detail));
        }
    }

    fn validate_update(&self, old: &Value, object: &Value, subresource: Option<&str>, causes: &mut Vec<Cause>) {
        if subresource.is_none() && old["spec"]["selector"] != object["spec"]["selector"] {
            causes.push(Cause::invalid("spec.selector", &object["spec"]["selector"], "field is immutable"));
        }
    }
}

impl Strategy for Rbac {
    fn creates_on_update(&self) -> bool {
        true
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn validate_update(&self, old: &Value, object: &Value, _subresource: Option<&str>, causes: &mut Vec<Cause>) {
        if old.get("roleRef") != object.get("roleRef") {
            causes.push(Cause::invalid("roleRef", &object["roleRef"], "cannot change roleRef"));
        }
    }
}

/// What was written as text is kept in base64, and the text isn't shown again.
fn encode_string_data(object: &mut Value) {
    let Some(Value::Object(texts)) = object.as_object_mut().and_then(|o| o.shift_remove("stringData")) else { return };
    if texts.is_empty() {
        return;
    }
    let Some(data) = object::field_mut(object, "data") else { return };
    for (key, text) in texts {
        data.insert(key, STANDARD.encode(text.as_str().unwrap_or("")).into());
    }
}

fn validate_data(object: &Value, fields: &[&str], causes: &mut Vec<Cause>) {
    let mut size = 0;
    for field in fields {
        let empty = Map::new();
        for (key, value) in object[*field].as_object().unwrap_or(&empty) {
            size += value.as_str().map_or(0, str::len);
            for detail in super::names::config_key(key) {
                causes.push(Cause::invalid(format!("{field}[{key}]"), &key.as_str().into(), detail));
            }
        }
    }
    // Base64 is a third longer than what it holds.
    let limit = if fields.contains(&"binaryData") { MAX_DATA } else { MAX_DATA / 3 * 4 + 4 };
    if size > limit {
        causes.push(Cause::new("FieldValueTooLong", "", format!("Too long: may not be more than {MAX_DATA} bytes")));
    }
}

fn immutable_data(old: &Value, object: &Value, causes: &mut Vec<Cause>) {
    if old["immutable"] != true {
        return;
    }
    for field in ["immutable", "data", "binaryData"] {
        if old.get(field) != object.get(field) {
            causes.push(Cause::forbidden(field, "field is immutable when `immutable` is set"));
        }
    }
}

fn validate_ports(path: &str, ports: &Value, need_port: bool, causes: &mut Vec<Cause>) {
    let ports = ports.as_array().map_or(&[][..], Vec::as_slice);
    for (i, port) in ports.iter().enumerate() {
        let number = &port["port"];
        let in_range = number.as_i64().is_some_and(|p| (1..=65535).contains(&p));
        if !in_range && (need_port || !number.is_null()) {
            causes.push(Cause::invalid(format!("{path}[{i}].port"), number, super::names::PORT_RANGE));
        }
        if ports.len() > 1 && need_port && port["name"].as_str().unwrap_or("").is_empty() {
            causes.push(Cause::required(format!("{path}[{i}].name"), ""));
        }
        let protocol = &port["protocol"];
        if !protocol.is_null() && !matches!(protocol.as_str(), Some("TCP" | "UDP" | "SCTP")) {
            causes.push(Cause::not_supported(format!("{path}[{i}].protocol"), protocol, &["SCTP", "TCP", "UDP"]));
        }
    }
}

/// An endpoint is some other machine: not this one, and not many.
fn validate_endpoint_ip(field: &str, value: &Value, causes: &mut Vec<Cause>) {
    let Some(ip) = value.as_str().and_then(|text| text.parse::<std::net::IpAddr>().ok()) else {
        causes.push(Cause::invalid(field, value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
        return;
    };
    let link_local = match ip {
        std::net::IpAddr::V4(ip) => {
            ip.is_link_local() || (ip.octets()[0] == 224 && ip.octets()[1] == 0 && ip.octets()[2] == 0)
        }
        std::net::IpAddr::V6(ip) => ip.is_unicast_link_local() || (ip.segments()[0] & 0xff0f) == 0xff02,
    };
    let detail = if ip.is_unspecified() {
        "may not be unspecified (0.0.0.0 or ::)"
    } else if ip.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    } else if link_local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    } else {
        return;
    };
    causes.push(Cause::invalid(field, value, detail));
}
