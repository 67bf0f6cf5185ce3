//! The resources, once for each version.

/// One version: the same structs under another `apiVersion`.
macro_rules! version {
    ($version:ident, $name:tt, $doc:tt) => {
        #[doc = $doc]
        // The derive of the schema repeats each struct, with its `pub`, inside a function.
        #[allow(unreachable_pub)]
        pub mod $version {
            use std::collections::BTreeMap;

            use k8s_openapi::api::core::v1::SessionAffinityConfig;
            use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
            use kube::{CustomResource, KubeSchema, Resource};
            use serde::{Deserialize, Serialize, Serializer};

            pub use crate::mcs::{
                ClusterStatus, EndpointSliceObjects, ServiceExportStatus, ServiceImportStatus, ServiceImportType,
                ServicePort,
            };

            /// What goes with an exported Service.
            #[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
            #[kube(
                group = "multicluster.x-k8s.io",
                version = $name,
                kind = "ServiceExport",
                root = "ServiceExportDefinition",
                namespaced,
                plural = "serviceexports",
                singular = "serviceexport",
                shortname = "svcex",
                shortname = "svcexport",
                status = "ServiceExportStatus",
                derive = "PartialEq",
                derive = "Default",
                doc = "Offers the Service of the same namespace and name to the other clusters.",
                printcolumn = r#"{"name":"Valid","type":"string","jsonPath":".status.conditions[?(@.type==\"Valid\")].status","description":"Whether the Service can be exported."}"#,
                printcolumn = r#"{"name":"Conflict","type":"string","jsonPath":".status.conditions[?(@.type==\"Conflict\")].status","description":"Whether the exports of several clusters disagree."}"#,
                printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
            )]
            #[serde(rename_all = "camelCase")]
            pub struct ServiceExportSpec {
                /// Labels for the ServiceImports.
                #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
                pub exported_labels: BTreeMap<String, String>,

                /// Annotations for the ServiceImports.
                #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
                pub exported_annotations: BTreeMap<String, String>,
            }

            /// Offers the Service of the same namespace and name to the other clusters.
            ///
            /// It mostly comes without a `spec`, which the struct that is made for its definition does not take.
            #[derive(Resource, Deserialize, Clone, Debug, Default, PartialEq)]
            #[resource(inherit = ServiceExportDefinition)]
            pub struct ServiceExport {
                /// Its name, and when it was made.
                #[serde(default)]
                pub metadata: ObjectMeta,
                /// What goes with the Service.
                #[serde(default)]
                pub spec: ServiceExportSpec,
                /// What has become of it.
                #[serde(default)]
                pub status: Option<ServiceExportStatus>,
            }

            impl Serialize for ServiceExport {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    let whole = ServiceExportDefinition {
                        metadata: self.metadata.clone(),
                        spec: self.spec.clone(),
                        status: self.status.clone(),
                    };
                    whole.serialize(serializer)
                }
            }

            /// A service, merged from the exports of all clusters.
            #[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
            #[kube(
                group = "multicluster.x-k8s.io",
                version = $name,
                kind = "ServiceImport",
                namespaced,
                plural = "serviceimports",
                singular = "serviceimport",
                shortname = "svcim",
                shortname = "svcimport",
                status = "ServiceImportStatus",
                derive = "PartialEq",
                derive = "Default",
                doc = "A service of one or more clusters, as it is used here.",
                printcolumn = r#"{"name":"Type","type":"string","jsonPath":".spec.type","description":"ClusterSetIP or Headless."}"#,
                printcolumn = r#"{"name":"IP","type":"string","jsonPath":".spec.ips","description":"The addresses of the service in this cluster."}"#,
                printcolumn = r#"{"name":"Clusters","type":"string","jsonPath":".status.clusters[*].cluster","priority":1,"description":"The clusters that export it."}"#,
                printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
            )]
            #[serde(rename_all = "camelCase")]
            pub struct ServiceImportSpec {
                /// The ports of all exports.
                #[x_kube(merge_strategy = ListMerge::Atomic)]
                pub ports: Vec<ServicePort>,

                /// The addresses of the service in this cluster, in the order of `ipFamilies`; none where it is headless.
                #[serde(default, skip_serializing_if = "Vec::is_empty")]
                #[schemars(length(max = 2))]
                pub ips: Vec<String>,

                /// ClusterSetIP or Headless.
                #[serde(rename = "type")]
                pub type_: ServiceImportType,

                /// ClientIP or None; without it, None.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub session_affinity: Option<String>,

                /// How long ClientIP holds.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub session_affinity_config: Option<SessionAffinityConfig>,

                /// IPv4, IPv6 or both.
                #[serde(default, skip_serializing_if = "Vec::is_empty")]
                #[schemars(length(max = 2))]
                pub ip_families: Vec<String>,

                /// Cluster or Local, as of a Service.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub internal_traffic_policy: Option<String>,

                /// PreferSameZone, PreferSameNode or PreferClose, as of a Service.
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub traffic_distribution: Option<String>,
            }
        }
    };
}

version!(v1alpha1, "v1alpha1", "Version v1alpha1.");
version!(v1beta1, "v1beta1", "Version v1beta1.");

/// The two ways between the versions of a resource, which have the same fields.
macro_rules! convert {
    ($kind:ident, $spec:ident { $($field:ident),* }, $from:ident, $to:ident) => {
        impl From<$from::$kind> for $to::$kind {
            fn from(object: $from::$kind) -> Self {
                let $from::$spec { $($field),* } = object.spec;
                Self { metadata: object.metadata, spec: $to::$spec { $($field),* }, status: object.status }
            }
        }
    };
}

convert!(ServiceExport, ServiceExportSpec { exported_labels, exported_annotations }, v1alpha1, v1beta1);
convert!(ServiceExport, ServiceExportSpec { exported_labels, exported_annotations }, v1beta1, v1alpha1);
convert!(
    ServiceImport,
    ServiceImportSpec {
        ports,
        ips,
        type_,
        session_affinity,
        session_affinity_config,
        ip_families,
        internal_traffic_policy,
        traffic_distribution
    },
    v1alpha1,
    v1beta1
);
convert!(
    ServiceImport,
    ServiceImportSpec {
        ports,
        ips,
        type_,
        session_affinity,
        session_affinity_config,
        ip_families,
        internal_traffic_policy,
        traffic_distribution
    },
    v1beta1,
    v1alpha1
);
