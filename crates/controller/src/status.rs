//! The ConfigMap `tombolo-sources`: how each source is, for people, and which id it has, for the next start.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;
use kube::api::{ObjectMeta, Patch, PatchParams};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tombolo_api::tombolo::{CONFIRM_DELETION, MANAGED_BY_LABEL, MANAGER};
use tombolo_services::clusters::ClusterId;

use crate::watch::words;

/// The name of the ConfigMap.
pub(crate) const NAME: &str = "tombolo-sources";

/// What is said of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    /// Live, Waiting, Stale, Held or Gone.
    pub standing: String,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// How many Services there are that could be mirrored.
    pub services: usize,
    /// How many ServiceExports there are.
    pub exports: usize,
    /// What is wrong, and what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// Which id each source had, by the ConfigMap.
pub(crate) fn known(map: &core::ConfigMap) -> BTreeMap<ClusterId, String> {
    let rows = map.data.iter().flatten().filter_map(|(name, text)| {
        let row: Row = serde_json::from_str(text).ok()?;
        Some((ClusterId::parse(&row.cluster?).ok()?, name.clone()))
    });
    rows.collect()
}

/// The sources whose deletions a person has confirmed.
pub(crate) fn confirmed(map: &core::ConfigMap) -> Vec<String> {
    let annotation = map.metadata.annotations.as_ref().and_then(|annotations| annotations.get(CONFIRM_DELETION));
    let names = annotation.iter().flat_map(|text| text.split(',')).map(|name| name.trim().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

/// Writes the rows, and takes away what was confirmed and is done.
pub(crate) async fn write(client: Client, namespace: String, rows: BTreeMap<String, Row>, is_done: bool) -> bool {
    let api: Api<core::ConfigMap> = Api::namespaced(client, &namespace);
    let data = rows.iter().filter_map(|(name, row)| Some((name.clone(), serde_json::to_string_pretty(row).ok()?)));
    let map = core::ConfigMap {
        metadata: ObjectMeta {
            name: Some(NAME.to_owned()),
            labels: Some(BTreeMap::from([(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(data.collect()),
        ..core::ConfigMap::default()
    };
    let mut result = api.patch(NAME, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&map)).await.map(drop);
    if is_done && result.is_ok() {
        let patch = json!({ "metadata": { "annotations": { CONFIRM_DELETION: null } } });
        result = api.patch(NAME, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop);
    }
    if let Err(error) = &result {
        let next = "create the namespace, or let this account get, create and patch ConfigMaps in it: see deploy/";
        tracing::warn!(error = words(error), config_map = %format!("{namespace}/{NAME}"), next, "cannot write how the sources are");
    }
    result.is_ok()
}
