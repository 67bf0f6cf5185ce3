//! The definitions of ServiceExport and ServiceImport for the API server.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use kube::core::crd::{MergeError, merge_crds};

use super::{v1alpha1, v1beta1};

/// The CustomResourceDefinition `serviceexports.multicluster.x-k8s.io`; v1beta1 is stored.
///
/// # Errors
/// Where the versions are not of one resource.
pub fn service_exports_crd() -> Result<CustomResourceDefinition, MergeError> {
    let versions = vec![v1alpha1::ServiceExportDefinition::crd(), v1beta1::ServiceExportDefinition::crd()];
    let mut crd = merge_crds(versions, "v1beta1")?;
    for version in &mut crd.spec.versions {
        // An export is whole by its name.
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            schema.required = None;
        }
    }
    Ok(crd)
}

/// The CustomResourceDefinition `serviceimports.multicluster.x-k8s.io`; v1beta1 is stored.
///
/// # Errors
/// Where the versions are not of one resource.
pub fn service_imports_crd() -> Result<CustomResourceDefinition, MergeError> {
    merge_crds(vec![v1alpha1::ServiceImport::crd(), v1beta1::ServiceImport::crd()], "v1beta1")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;
    use crate::manifests;

    fn versions(crd: &CustomResourceDefinition) -> Vec<Value> {
        serde_json::to_value(crd).unwrap()["spec"]["versions"].as_array().unwrap().clone()
    }

    fn fields(schema: &Value) -> Vec<String> {
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn the_manifests_are_the_definitions() {
        manifests::check(&service_exports_crd().unwrap());
        manifests::check(&service_imports_crd().unwrap());
    }

    #[test]
    fn both_versions_have_the_fields_of_the_api() {
        let (exports, imports) = (service_exports_crd().unwrap(), service_imports_crd().unwrap());
        for version in versions(&exports) {
            let schema = &version["schema"]["openAPIV3Schema"]["properties"];
            assert_eq!(fields(&schema["spec"]), ["exportedAnnotations", "exportedLabels"]);
            assert_eq!(fields(&schema["status"]), ["conditions"]);
            let conditions = &schema["status"]["properties"]["conditions"];
            assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
            assert_eq!(version["subresources"], json!({"status": {}}));
            assert_eq!(version["schema"]["openAPIV3Schema"].get("required"), None);
        }
        for version in versions(&imports) {
            let schema = &version["schema"]["openAPIV3Schema"]["properties"];
            let spec = &schema["spec"];
            assert_eq!(spec["required"], json!(["ports", "type"]));
            assert_eq!(
                fields(spec),
                [
                    "internalTrafficPolicy",
                    "ipFamilies",
                    "ips",
                    "ports",
                    "sessionAffinity",
                    "sessionAffinityConfig",
                    "trafficDistribution",
                    "type",
                ]
            );
            assert_eq!(fields(&spec["properties"]["ports"]["items"]), ["appProtocol", "name", "port", "protocol"]);
            assert_eq!(spec["properties"]["type"]["enum"], json!(["ClusterSetIP", "Headless"]));
            assert_eq!(spec["properties"]["ports"]["x-kubernetes-list-type"], "atomic");
            assert_eq!(fields(&schema["status"]), ["clusters", "conditions", "endpointSliceObjects"]);
        }
        for crd in [exports, imports] {
            let stored: Vec<_> = crd.spec.versions.iter().map(|v| (v.name.as_str(), v.served, v.storage)).collect();
            assert_eq!(stored, [("v1beta1", true, true), ("v1alpha1", true, false)]);
            assert_eq!(crd.spec.scope, "Namespaced");
        }
    }

    #[test]
    fn objects_are_read_and_written_back_in_both_versions() {
        let export = json!({
            "apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ServiceExport",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"exportedLabels": {"a": "b"}, "exportedAnnotations": {"c": "d"}},
        });
        let alpha: v1alpha1::ServiceExport = serde_json::from_value(export.clone()).unwrap();
        assert_eq!(serde_json::to_value(&alpha).unwrap(), export);
        let beta = v1beta1::ServiceExport::from(alpha.clone());
        assert_eq!(serde_json::to_value(&beta).unwrap()["apiVersion"], "multicluster.x-k8s.io/v1beta1");
        assert_eq!(v1alpha1::ServiceExport::from(beta), alpha);

        let import = json!({
            "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceImport",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "ports": [{"name": "http", "protocol": "TCP", "appProtocol": "http", "port": 80}],
                "ips": ["10.96.0.9"], "type": "ClusterSetIP", "sessionAffinity": "ClientIP",
                "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10}}, "ipFamilies": ["IPv4"],
                "internalTrafficPolicy": "Cluster", "trafficDistribution": "PreferClose",
            },
            "status": {"endpointSliceObjects": "Present", "clusters": [{"cluster": "a"}]},
        });
        let beta: v1beta1::ServiceImport = serde_json::from_value(import.clone()).unwrap();
        assert_eq!(serde_json::to_value(&beta).unwrap(), import);
        assert_eq!(v1beta1::ServiceImport::from(v1alpha1::ServiceImport::from(beta.clone())), beta);
    }

    #[test]
    fn an_export_without_a_spec_is_read() {
        let bare = json!({
            "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": {"name": "web"},
        });
        let export: v1beta1::ServiceExport = serde_json::from_value(bare).unwrap();
        assert_eq!(export.spec, v1beta1::ServiceExportSpec::default());
    }
}
