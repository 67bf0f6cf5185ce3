//! What every namespace has, and how one ends: first what is in it, then itself.

use std::sync::Arc;

use serde_json::{Value, json};

use super::write::{Write, list};
use crate::clock;
use crate::object::{self, str_at};
use crate::resources::Gvr;

/// The entry of `spec.finalizers` that stands for the namespace's contents.
const FINALIZER: &str = "kubernetes";
const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";

/// Whether the object is one that every namespace has.
pub(super) fn is_standard(gvr: &Gvr, name: &str) -> bool {
    (gvr.is("", "serviceaccounts") && name == ACCOUNT) || (gvr.is("", "configmaps") && name == ROOT_CA)
}

/// The writes that give a namespace its ServiceAccount and the certificate (PEM) by which its pods know the API server.
/// `get` reads an object of the namespace.
pub(super) fn furnish(namespace: &Value, root_ca: &str, get: impl Fn(&Gvr, &str) -> Option<Arc<Value>>) -> Vec<Write> {
    let mut writes = Vec::new();
    let name = object::name(namespace);
    let accounts = Gvr::new("", "v1", "serviceaccounts");
    if get(&accounts, ACCOUNT).is_none() {
        let metadata = json!({"name": ACCOUNT, "namespace": name});
        writes
            .push(Write::Create(accounts, json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})));
    }
    let config_maps = Gvr::new("", "v1", "configmaps");
    let data = json!({"ca.crt": root_ca});
    match get(&config_maps, ROOT_CA) {
        None => {
            let metadata = json!({"name": ROOT_CA, "namespace": name});
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
            writes.push(Write::Create(config_maps, map));
        }
        Some(map) if map["data"] != data => {
            let mut map = Value::clone(&map);
            map["data"] = data;
            writes.push(Write::Update(config_maps, map));
        }
        Some(_) => {}
    }
    writes
}

/// The writes that bring a namespace that is being deleted nearer to its end. `contents` is all that is in it.
pub(super) fn empty(namespace: &Value, contents: &[(Gvr, Arc<Value>)]) -> Vec<Write> {
    let namespaces = Gvr::new("", "v1", "namespaces");
    let mut wanted = namespace.clone();
    if contents.is_empty() {
        let left = list(namespace, &["spec", "finalizers"]).iter().filter(|finalizer| *finalizer != FINALIZER);
        wanted["spec"]["finalizers"] = left.cloned().collect();
    } else {
        set_remaining(&mut wanted, contents);
    }
    let mut writes: Vec<Write> = contents
        .iter()
        .filter(|(_, object)| !object::is_terminating(object))
        .map(|(gvr, object)| Write::delete(gvr.clone(), object))
        .collect();
    if wanted != *namespace {
        writes.push(Write::Update(namespaces, wanted));
    }
    writes
}

/// Says in the namespace's conditions what is still in it.
fn set_remaining(namespace: &mut Value, contents: &[(Gvr, Arc<Value>)]) {
    let mut counts: Vec<(String, usize)> = Vec::new();
    for (gvr, _) in contents {
        let name = format!("{}.{}", gvr.resource, gvr.group);
        match counts.iter_mut().find(|(counted, _)| *counted == name) {
            Some((_, count)) => *count += 1,
            None => counts.push((name, 1)),
        }
    }
    counts.sort();
    let counts: Vec<String> =
        counts.into_iter().map(|(name, count)| format!("{name} has {count} resource instances")).collect();
    let condition = json!({
        "type": "NamespaceContentRemaining",
        "status": "True",
        "lastTransitionTime": clock::now(),
        "reason": "SomeResourcesRemain",
        "message": format!("Some resources are remaining: {}", counts.join(", ")),
    });
    let mut conditions = list(namespace, &["status", "conditions"]).to_vec();
    match conditions.iter_mut().find(|present| present["type"] == condition["type"]) {
        Some(present) if str_at(present, &["message"]) == str_at(&condition, &["message"]) => {}
        Some(present) => *present = condition,
        None => conditions.push(condition),
    }
    namespace["status"]["conditions"] = conditions.into();
}
