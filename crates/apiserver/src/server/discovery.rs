//! Discovery: which groups, versions and resources there are, one document each or all in one
//! (`apidiscovery.k8s.io`, KEP-3352).

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::Shared;
use crate::Resource;
use crate::http::lists;
use crate::resources::{Gvk, version_rank};
use crate::rest::json_response;
use crate::status::Status;

use std::sync::Arc;

/// `/`
pub(super) fn root(shared: &Shared) -> Value {
    let mut paths = vec!["/api".to_owned(), "/api/v1".to_owned(), "/apis".to_owned()];
    for (group, versions) in grouped(shared).into_iter().filter(|(group, _)| !group.is_empty()) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions.into_iter().map(|version| format!("/apis/{group}/{version}")));
    }
    let others = ["/healthz", "/livez", "/openapi/v2", "/openapi/v3", "/readyz", "/version"];
    paths.extend(others.map(str::to_owned));
    json!({"paths": paths})
}

/// `/api`
pub(super) fn core_versions(shared: &Shared, headers: &HeaderMap) -> Response {
    let plain = || json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []});
    aggregated(shared, headers, true).unwrap_or_else(|| json_response(200, &plain()))
}

/// `/apis`
pub(super) fn groups(shared: &Shared, headers: &HeaderMap) -> Response {
    let plain = || {
        let named = grouped(shared).into_iter().filter(|(group, _)| !group.is_empty());
        let groups: Vec<Value> = named.map(|(group, versions)| group_value(&group, &versions)).collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    };
    aggregated(shared, headers, false).unwrap_or_else(|| json_response(200, &plain()))
}

/// `/apis/GROUP`
pub(super) fn group(shared: &Shared, name: &str) -> Result<Response, Status> {
    let found = grouped(shared).into_iter().find(|(group, _)| group == name && !group.is_empty());
    let Some((group, versions)) = found else { return Err(Status::no_such_path()) };
    let mut value = group_value(&group, &versions);
    if let Some(map) = value.as_object_mut() {
        map.insert("kind".into(), "APIGroup".into());
        map.insert("apiVersion".into(), "v1".into());
    }
    Ok(json_response(200, &value))
}

/// `/api/v1` and `/apis/GROUP/VERSION`
pub(super) fn resources(shared: &Shared, group: &str, version: &str) -> Result<Response, Status> {
    let of = |r: &Arc<Resource>| &*r.gvr.group == group && &*r.gvr.version == version;
    let found: Vec<Arc<Resource>> = shared.resources.all().into_iter().filter(of).collect();
    let Some(first) = found.first() else { return Err(Status::no_such_path()) };
    let list: Vec<Value> = found.iter().flat_map(|r| resource_values(r)).collect();
    let value = json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": first.gvr.api_version(), "resources": list,
    });
    Ok(json_response(200, &value))
}

/// The groups in the order of their first resource, each with its versions, the preferred one first.
fn grouped(shared: &Shared) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for resource in shared.resources.all() {
        let (group, version) = (&*resource.gvr.group, &*resource.gvr.version);
        match groups.iter_mut().find(|(known, _)| known == group) {
            Some((_, versions)) if versions.iter().any(|v| v == version) => {}
            Some((_, versions)) => versions.push(version.to_owned()),
            None => groups.push((group.to_owned(), vec![version.to_owned()])),
        }
    }
    for (_, versions) in &mut groups {
        versions.sort_by_key(|version| std::cmp::Reverse(version_rank(version)));
    }
    groups
}

fn group_value(group: &str, versions: &[String]) -> Value {
    let version = |v: &String| json!({"groupVersion": format!("{group}/{v}"), "version": v});
    let all: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": group, "versions": all, "preferredVersion": all.first()})
}

fn resource_values(resource: &Resource) -> Vec<Value> {
    let mut own = json!({
        "name": &*resource.gvr.resource,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": &*resource.kind,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        own["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        own["categories"] = json!(resource.categories);
    }
    if resource.is_stored() {
        let digest = Sha256::digest(format!("{}/{}", resource.storage, resource.storage.version));
        use base64::Engine;
        own["storageVersionHash"] = base64::engine::general_purpose::STANDARD.encode(&digest[..8]).into();
    }
    let below = resource.subresources.iter().map(|sub| {
        let mut value = json!({
            "name": format!("{}/{}", resource.gvr.resource, sub.name),
            "singularName": "",
            "namespaced": resource.namespaced,
        });
        if sub.kind != resource.gvk() {
            value["group"] = (&*sub.kind.group).into();
            value["version"] = (&*sub.kind.version).into();
        }
        value["kind"] = (&*sub.kind.kind).into();
        value["verbs"] = json!(sub.verbs);
        value
    });
    std::iter::once(own).chain(below).collect()
}

/// Everything in one document, for a client that asks for that.
fn aggregated(shared: &Shared, headers: &HeaderMap, core: bool) -> Option<Response> {
    let asks = |version: &str| {
        let parameters = [("g", "apidiscovery.k8s.io"), ("v", version), ("as", "APIGroupDiscoveryList")];
        lists(headers, "application/json", &parameters)
    };
    let version = ["v2", "v2beta1"].into_iter().find(|version| asks(version))?;
    let all = shared.resources.all();
    let groups = grouped(shared).into_iter().filter(|(group, _)| group.is_empty() == core);
    let items: Vec<Value> = groups.map(|(group, versions)| discovered_group(&all, &group, &versions)).collect();
    let value = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {}, "items": items,
    });
    let bytes = value.to_string();
    let digest = Sha256::digest(&bytes);
    let tag: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    let tag = format!("\"{tag}\"");
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = Response::new(if known { Body::empty() } else { Body::from(bytes) });
    if known {
        *response.status_mut() = http::StatusCode::NOT_MODIFIED;
    }
    let content_type = match version {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Some(response)
}

fn discovered_group(all: &[Arc<Resource>], group: &str, versions: &[String]) -> Value {
    let version = |version: &String| {
        let of = |r: &&Arc<Resource>| &*r.gvr.group == group && *r.gvr.version == **version;
        let resources: Vec<Value> = all.iter().filter(of).map(|r| discovered_resource(r)).collect();
        json!({"version": version, "resources": resources, "freshness": "Current"})
    };
    let versions: Vec<Value> = versions.iter().map(version).collect();
    let mut metadata = json!({"creationTimestamp": null});
    if !group.is_empty() {
        metadata["name"] = group.into();
    }
    json!({"metadata": metadata, "versions": versions})
}

fn discovered_resource(resource: &Resource) -> Value {
    let kind = |gvk: &Gvk| json!({"group": &*gvk.group, "version": &*gvk.version, "kind": &*gvk.kind});
    let below = resource.subresources.iter();
    let below: Vec<Value> = below
        .map(|sub| json!({"subresource": sub.name, "responseKind": kind(&sub.kind), "verbs": sub.verbs}))
        .collect();
    let mut value = json!({
        "resource": &*resource.gvr.resource,
        "responseKind": kind(&resource.gvk()),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    if !resource.short_names.is_empty() {
        value["shortNames"] = json!(resource.short_names);
    }
    if !resource.categories.is_empty() {
        value["categories"] = json!(resource.categories);
    }
    if !below.is_empty() {
        value["subresources"] = below.into();
    }
    value
}
