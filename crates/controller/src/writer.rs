//! Changes to this cluster's objects.
//!
//! An object is made by POST, which fails where somebody made one of its name in the meantime, and changed by a merge
//! patch of what differs, which fails where it is no longer the object that was looked at (by its UID). A server-side
//! apply can do neither (decision 0013); conditions, which others can have too, are applied.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GetParams, GroupVersionKind, ListParams, Patch, PatchParams, PostParams,
    Preconditions, Request,
};
use kube::{Api, Client};
use serde_json::{Value, json};
use tombolo_api::tombolo::MANAGER;
use tombolo_proxy::ServiceKey;
use tombolo_services::convert::to;
use tombolo_services::{Change, Object};

use crate::kinds::{Item, Kind};
use crate::own::{Own, is_labelled_by_others};
use crate::watch::{ABSENT, words};

/// One write, with all that it needs to know.
#[derive(Debug)]
pub(crate) struct Step {
    what: What,
    kind: Kind,
    version: usize,
    key: ServiceKey,
    change: Change,
}

#[derive(Debug)]
enum What {
    /// Make it, and then write its status.
    Create(Value, Option<Value>),
    /// Change it, where it is still the one of this UID, its status, or both.
    Patch {
        uid: String,
        patch: Option<Value>,
        status: Option<Value>,
    },
    /// Apply conditions of ours among those of others.
    Conditions(Value),
    Delete {
        uid: Option<String>,
    },
    /// Delete the Namespace, or leave it to those who have something in it.
    DeleteNamespace,
}

/// What became of one write.
#[derive(Debug)]
pub(crate) struct Done {
    pub kind: Kind,
    pub change: Change,
    /// Of what was deleted.
    pub uid: Option<String>,
    pub result: Result<Option<Item>, String>,
}

/// Makes steps of changes.
pub(crate) fn steps(changes: Vec<Change>, own: &Own) -> Vec<Step> {
    let mut deleted = BTreeSet::new();
    let mut steps = Vec::new();
    for change in changes {
        if let Change::DeleteService(key) | Change::DeleteSlice(key) = &change {
            deleted.insert(key.clone());
        }
        steps.extend(step(change, own, &deleted));
    }
    steps
}

/// `deleted` are those objects that an earlier step deletes: what comes after it makes them anew.
fn step(change: Change, own: &Own, deleted: &BTreeSet<ServiceKey>) -> Option<Step> {
    let kept = &own.kept;
    let named = |name: &String| ServiceKey::new("", name);
    let (kind, key, what) = match &change {
        Change::Apply(Object::Namespace(name)) => {
            (Kind::Namespace, named(name), What::Create(value(&to::namespace(name))?, None))
        }
        Change::Apply(Object::Service(key, service)) => {
            let old = kept
                .service(key)
                .filter(|_| !deleted.contains(key))
                .map(|old| (old.uid.clone(), value(&to::service(key, &old.value))));
            (Kind::Service, key.clone(), put(old, value(&to::service(key, service))?, None))
        }
        Change::Apply(Object::Slice(key, slice)) => {
            let old = kept
                .slice(key)
                .filter(|_| !deleted.contains(key))
                .map(|old| (old.uid.clone(), value(&to::slice(key, &old.value))));
            (Kind::Slice, key.clone(), put(old, value(&to::slice(key, slice))?, None))
        }
        Change::Apply(Object::Endpoints(key, endpoints)) => {
            let old = kept.endpoints_of(key).map(|old| (old.uid.clone(), value(&to::endpoints(key, &old.value))));
            (Kind::Endpoints, key.clone(), put(old, value(&to::endpoints(key, endpoints))?, None))
        }
        Change::Apply(Object::Import(key, import)) => {
            let old = kept.import(key);
            let (conditions, _) = own.conditions.get(&(Kind::Import, key.clone())).cloned().unwrap_or_default();
            let is_new = old
                .is_none_or(|old| old.value.clusters != import.clusters || old.value.conditions != import.conditions);
            let status = is_new.then(|| to::import_status(import, &conditions, &now(), true));
            let status = status.and_then(|status| Some(json!({ "status": value(&status)? })));
            let old = old.map(|old| (old.uid.clone(), value(&to::import(key, &old.value))));
            (Kind::Import, key.clone(), put(old, value(&to::import(key, import))?, status))
        }
        Change::Apply(Object::Export(key, conditions)) => {
            let (current, generation) = own.conditions.get(&(Kind::Export, key.clone())).cloned()?;
            let conditions = to::conditions(conditions, &current, &now(), generation);
            (Kind::Export, key.clone(), What::Conditions(json!({ "status": { "conditions": value(&conditions)? } })))
        }
        Change::DeleteNamespace(name) => (Kind::Namespace, named(name), What::DeleteNamespace),
        Change::DeleteService(key) => {
            (Kind::Service, key.clone(), What::Delete { uid: kept.service(key).map(|old| old.uid.clone()) })
        }
        Change::DeleteSlice(key) => {
            (Kind::Slice, key.clone(), What::Delete { uid: kept.slice(key).map(|old| old.uid.clone()) })
        }
        Change::DeleteEndpoints(key) => {
            (Kind::Endpoints, key.clone(), What::Delete { uid: kept.endpoints_of(key).map(|old| old.uid.clone()) })
        }
        Change::DeleteImport(key) => {
            (Kind::Import, key.clone(), What::Delete { uid: kept.import(key).map(|old| old.uid.clone()) })
        }
    };
    let version = own.versions.get(&kind).copied().filter(|version| *version != ABSENT).unwrap_or(0);
    Some(Step { what, kind, version, key, change })
}

/// Our types turn into JSON without fail.
fn value<T: serde::Serialize>(object: &T) -> Option<Value> {
    serde_json::to_value(object).ok()
}

fn put(old: Option<(String, Option<Value>)>, new: Value, status: Option<Value>) -> What {
    match old {
        Some((uid, Some(old))) => What::Patch { uid, patch: difference(&old, &new), status },
        _ => What::Create(new, status),
    }
}

fn now() -> Time {
    Time(Timestamp::now())
}

/// The merge patch (RFC 7386) that leads from one to the other; none where they are the same.
fn difference(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = serde_json::Map::new();
    for (name, value) in new {
        match old.get(name) {
            None => drop(patch.insert(name.clone(), value.clone())),
            Some(before) => patch.extend(difference(before, value).map(|value| (name.clone(), value))),
        }
    }
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    patch.extend(gone.map(|name| (name.clone(), Value::Null)));
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// Writes one step after the other.
pub(crate) async fn write(client: Client, steps: Vec<Step>) -> Vec<Done> {
    let mut done = Vec::new();
    for step in steps {
        let result = perform(&client, &step).await.map_err(|error| explain(&step, &error));
        let has_failed = result.is_err();
        let uid = if let What::Delete { uid } = step.what { uid } else { None };
        done.push(Done { kind: step.kind, change: step.change, uid, result });
        // What comes after builds on a Namespace, or on an old Service that is gone.
        if has_failed && matches!(done.last().map(|done| done.kind), Some(Kind::Namespace | Kind::Service)) {
            break;
        }
    }
    done
}

async fn perform(client: &Client, step: &Step) -> kube::Result<Option<Item>> {
    let resources = step.kind.resources();
    let Some(resource) = resources.get(step.version) else { return Ok(None) };
    let api: Api<DynamicObject> = if step.kind == Kind::Namespace {
        Api::all_with(client.clone(), resource)
    } else {
        Api::namespaced_with(client.clone(), &step.key.namespace, resource)
    };
    let name = step.key.name.as_str();
    let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let typed = |mut object: Value| {
        object["apiVersion"] = json!(resource.api_version);
        object["kind"] = json!(resource.kind);
        object
    };
    // What is sent is JSON already, and of what comes back only the typed object is of interest: neither goes through
    // a DynamicObject, which would be two more copies of all of it.
    let requests = Request::new(api.resource_url());
    let send = async |request: Result<http::Request<Vec<u8>>, kube::core::request::Error>| {
        client.request_text(request.map_err(kube::Error::BuildRequest)?).await
    };
    let patch_status = |status: &Value| requests.patch_subresource("status", name, &parameters, &Patch::Merge(status));
    let answer = match &step.what {
        What::Create(object, status) => {
            let object = serde_json::to_vec(&typed(object.clone())).map_err(kube::Error::SerdeError)?;
            let posting = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            let made = match send(requests.create(&posting, object)).await {
                Err(kube::Error::Api(refusal)) if step.kind == Kind::Namespace && refusal.reason == "AlreadyExists" => {
                    send(requests.get(name, &GetParams::default())).await?
                }
                made => made?,
            };
            match status {
                Some(status) => send(patch_status(status)).await?,
                None => made,
            }
        }
        What::Patch { uid, patch, status } => {
            let mut answer = None;
            if let Some(patch) = patch {
                let mut patch = patch.clone();
                patch["metadata"]["uid"] = json!(uid);
                answer = Some(send(requests.patch(name, &parameters, &Patch::Merge(patch))).await?);
            }
            if let Some(status) = status {
                answer = Some(send(patch_status(status)).await?);
            }
            match answer {
                Some(answer) => answer,
                None => return Ok(None),
            }
        }
        What::Conditions(status) => {
            let mut status = typed(status.clone());
            status["metadata"] = json!({ "name": name });
            let parameters = PatchParams::apply(MANAGER).force();
            send(requests.patch_subresource("status", name, &parameters, &Patch::Apply(status))).await?
        }
        What::Delete { uid } => {
            let preconditions = uid.clone().map(|uid| Preconditions { uid: Some(uid), resource_version: None });
            delete(&api, name, preconditions).await?;
            return Ok(None);
        }
        What::DeleteNamespace => {
            // As it is now: somebody's label may be on its way to us.
            let Some(namespace) = api.get_opt(name).await? else { return Ok(None) };
            let metadata = &namespace.metadata;
            let is_at =
                Preconditions { uid: metadata.uid.clone(), resource_version: metadata.resource_version.clone() };
            if is_labelled_by_others(metadata) || is_in_use(client, name).await? {
                let annotations = json!({ tombolo_api::tombolo::MADE_FOR_MIRRORS: null });
                let patch = json!({ "metadata": { "annotations": annotations } });
                send(requests.patch(name, &parameters, &Patch::Merge(patch))).await?
            } else {
                delete(&api, name, Some(is_at)).await?;
                return Ok(None);
            }
        }
    };
    step.kind.parse(&answer).map(Some).map_err(kube::Error::SerdeError)
}

async fn delete(api: &Api<DynamicObject>, name: &str, preconditions: Option<Preconditions>) -> kube::Result<()> {
    match api.delete(name, &DeleteParams { preconditions, ..DeleteParams::default() }).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

/// What people put into Namespaces, of which one is enough to leave a Namespace alone.
const LIVED_IN: [(&str, &str, &str); 9] = [
    ("", "v1", "Pod"),
    ("", "v1", "Service"),
    ("", "v1", "PersistentVolumeClaim"),
    ("", "v1", "ConfigMap"),
    ("apps", "v1", "Deployment"),
    ("apps", "v1", "StatefulSet"),
    ("apps", "v1", "DaemonSet"),
    ("batch", "v1", "Job"),
    ("batch", "v1", "CronJob"),
];

/// Whether somebody has put something into a Namespace. Only names are asked for.
async fn is_in_use(client: &Client, namespace: &str) -> kube::Result<bool> {
    for (group, version, kind) in LIVED_IN {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        let list = api.list_metadata(&ListParams::default().limit(3)).await;
        let list = match list {
            Ok(list) => list,
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            // Without a right to look, nothing is deleted.
            Err(kube::Error::Api(status)) if status.code == 403 => return Ok(true),
            Err(error) => return Err(error),
        };
        let names = list.items.iter().filter_map(|object| object.metadata.name.as_deref());
        // Every Namespace has this one.
        if names.filter(|name| *name != "kube-root-ca.crt").count() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn explain(step: &Step, error: &kube::Error) -> String {
    let code = match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    };
    let next = match code {
        403 => "; let the controller's account do that: see deploy/",
        409 => "; it is looked at again",
        _ => "; it is tried again",
    };
    format!("{} {} cannot be written: {}{next}", step.kind.name(), step.key, words(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_holds_what_differs_and_takes_away_what_is_gone() {
        let old = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"ports": [1, 2], "type": "ClusterIP"}});
        let new = json!({"metadata": {"labels": {"a": "1", "c": "3"}}, "spec": {"ports": [1], "type": "ClusterIP"}});
        let patch = json!({"metadata": {"labels": {"b": null, "c": "3"}}, "spec": {"ports": [1]}});
        assert_eq!(difference(&old, &new), Some(patch));
        assert_eq!(difference(&new, &new), None);
    }
}
