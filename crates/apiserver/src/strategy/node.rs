//! Nodes.

use serde_json::Value;

use super::{Strategy, keep};
use crate::status::Cause;

pub(super) struct Nodes;

impl Strategy for Nodes {
    fn has_status(&self) -> bool {
        true
    }

    /// A kubelet registers its node with a status.
    fn prepare_create(&self, _object: &mut Value) {}

    fn prepare_update(&self, old: &Value, object: &mut Value, subresource: Option<&str>) {
        keep(old, object, if subresource == Some("status") { "spec" } else { "status" });
    }

    fn validate(&self, object: &Value, causes: &mut Vec<Cause>) {
        let cidrs = object["spec"]["podCIDRs"].as_array().map_or(&[][..], Vec::as_slice);
        for (i, cidr) in cidrs.iter().enumerate() {
            if cidr.as_str().and_then(|c| c.parse::<ipnet::IpNet>().ok()).is_none() {
                let detail = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
                causes.push(Cause::invalid(format!("spec.podCIDRs[{i}]"), cidr, detail));
            }
        }
        if let Some(first) = cidrs.first()
            && !object["spec"]["podCIDR"].is_null()
            && object["spec"]["podCIDR"] != *first
        {
            let detail = "must be the same as spec.podCIDRs[0]";
            causes.push(Cause::invalid("spec.podCIDR", &object["spec"]["podCIDR"], detail));
        }
        for (i, taint) in object["spec"]["taints"].as_array().into_iter().flatten().enumerate() {
            for detail in super::names::qualified(taint["key"].as_str().unwrap_or("")) {
                causes.push(Cause::invalid(format!("spec.taints[{i}].key"), &taint["key"], detail));
            }
            let effects = ["NoExecute", "NoSchedule", "PreferNoSchedule"];
            if !taint["effect"].as_str().is_some_and(|e| effects.contains(&e)) {
                causes.push(Cause::not_supported(format!("spec.taints[{i}].effect"), &taint["effect"], &effects));
            }
        }
        let mut seen = Vec::new();
        for (i, address) in object["status"]["addresses"].as_array().into_iter().flatten().enumerate() {
            if seen.contains(&address) {
                causes.push(Cause::duplicate(format!("status.addresses[{i}]"), address));
            }
            seen.push(address);
        }
    }

    fn validate_update(&self, old: &Value, object: &Value, _subresource: Option<&str>, causes: &mut Vec<Cause>) {
        let (before, after) = (&old["spec"]["podCIDRs"], &object["spec"]["podCIDRs"]);
        if before.as_array().is_some_and(|c| !c.is_empty()) && before != after {
            causes.push(Cause::forbidden(
                "spec.podCIDRs",
                "node updates may not change podCIDR except from \"\" to valid",
            ));
        }
        let (before, after) = (&old["spec"]["providerID"], &object["spec"]["providerID"]);
        if before.as_str().is_some_and(|p| !p.is_empty()) && before != after {
            let detail = "node updates may not change providerID except from \"\" to valid";
            causes.push(Cause::forbidden("spec.providerID", detail));
        }
    }
}
