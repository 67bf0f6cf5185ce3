//! The About API (KEP-2149): what a cluster says of itself, group `about.k8s.io`.

// The derive of the schema repeats each struct, with its `pub`, inside a function.
#![allow(unreachable_pub)]

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, CustomResourceDefinitionVersion,
};
use kube::{CustomResource, CustomResourceExt as _, KubeSchema};
use serde::{Deserialize, Serialize};

/// The group of ClusterProperty.
pub const GROUP: &str = "about.k8s.io";

/// The name of the ClusterProperty that holds the cluster's id in its ClusterSet.
pub const CLUSTER_ID: &str = "cluster.clusterset.k8s.io";

/// The name of the ClusterProperty that holds the id of the ClusterSet.
pub const CLUSTER_SET_ID: &str = "clusterset.k8s.io";

/// By whom groups under `k8s.io` were approved: an API server takes no definition of them without it.
const API_APPROVED: (&str, &str) =
    ("api-approved.kubernetes.io", "https://github.com/kubernetes/enhancements/pull/3084");

/// A property of a cluster.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[kube(
    group = "about.k8s.io",
    version = "v1alpha1",
    kind = "ClusterProperty",
    plural = "clusterproperties",
    singular = "clusterproperty",
    category = "multicluster",
    status = "ClusterPropertyStatus",
    derive = "PartialEq",
    doc = "A property of this cluster: its name is what is known, its value what it is.",
    printcolumn = r#"{"name":"value","type":"string","jsonPath":".spec.value"}"#,
    printcolumn = r#"{"name":"age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
pub struct ClusterPropertySpec {
    /// The value.
    #[schemars(length(min = 1, max = 128000))]
    pub value: String,
}

/// Nothing yet.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterPropertyStatus {}

/// The CustomResourceDefinition `clusterproperties.about.k8s.io`.
///
/// v1beta1 has the same fields and is stored, as in the definition of SIG Multicluster.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = ClusterProperty::crd();
    let later: Vec<_> = crd.spec.versions.iter().cloned().map(|v| with_name(v, "v1beta1")).collect();
    crd.spec.versions.iter_mut().for_each(|version| version.storage = false);
    crd.spec.versions.extend(later);
    let (name, value) = API_APPROVED;
    crd.metadata.annotations.get_or_insert_default().insert(name.to_owned(), value.to_owned());
    crd
}

fn with_name(version: CustomResourceDefinitionVersion, name: &str) -> CustomResourceDefinitionVersion {
    CustomResourceDefinitionVersion { name: name.to_owned(), ..version }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::manifests;

    #[test]
    fn the_manifest_is_the_definition() {
        manifests::check(&crd());
    }

    #[test]
    fn the_definition_is_one_that_an_api_server_takes() {
        let crd = crd();
        assert_eq!(crd.metadata.name.as_deref(), Some("clusterproperties.about.k8s.io"));
        assert_eq!(crd.spec.scope, "Cluster");
        let versions: Vec<_> = crd.spec.versions.iter().map(|v| (v.name.as_str(), v.served, v.storage)).collect();
        assert_eq!(versions, [("v1alpha1", true, false), ("v1beta1", true, true)]);
        assert!(crd.metadata.annotations.unwrap().contains_key("api-approved.kubernetes.io"));
    }

    #[test]
    fn a_cluster_s_id_is_read() {
        let property: ClusterProperty = serde_json::from_value(serde_json::json!({
            "apiVersion": "about.k8s.io/v1alpha1", "kind": "ClusterProperty",
            "metadata": {"name": CLUSTER_ID}, "spec": {"value": "cluster-1"},
        }))
        .unwrap();
        assert_eq!(property.spec.value, "cluster-1");
    }
}
