//! The Multi-Cluster Services API (KEP-1645), group `multicluster.x-k8s.io`, with the fields, labels, conditions and
//! reasons of SIG Multicluster's `mcs-api` v0.5.0, and of the KEP where that is ahead of it.
//!
//! [`v1beta1`] is the version that is stored; [`v1alpha1`] has the same fields, and each turns into the other.

mod crd;
mod types;
mod versions;

pub use crd::{service_exports_crd, service_imports_crd};
pub use types::{
    ClusterStatus, EndpointSliceObjects, ServiceExportStatus, ServiceImportStatus, ServiceImportType, ServicePort,
};
pub use versions::{v1alpha1, v1beta1};

/// The group of ServiceExport and ServiceImport.
pub const GROUP: &str = "multicluster.x-k8s.io";

/// On an EndpointSlice: the name of the ServiceImport that it belongs to.
pub const LABEL_SERVICE_NAME: &str = "multicluster.kubernetes.io/service-name";

/// On an EndpointSlice: the id of the cluster that its endpoints are in.
pub const LABEL_SOURCE_CLUSTER: &str = "multicluster.kubernetes.io/source-cluster";

/// On a ServiceImport: the name of the Service that stands for it in front of a service proxy.
pub const DERIVED_SERVICE: &str = "multicluster.kubernetes.io/derived-service";

/// Types of conditions of ServiceExports and ServiceImports.
pub mod condition {
    /// On a ServiceExport: it can be exported.
    pub const VALID: &str = "Valid";
    /// On a ServiceExport: it is exported, or there to be fetched. On a ServiceImport: it can be used.
    pub const READY: &str = "Ready";
    /// On a ServiceExport: exports of the same name do not agree.
    pub const CONFLICT: &str = "Conflict";
}

/// Reasons of conditions of ServiceExports and ServiceImports.
pub mod reason {
    /// Of `Valid`, true.
    pub const VALID: &str = "Valid";
    /// Of `Valid`, false: there is no Service of that name.
    pub const NO_SERVICE: &str = "NoService";
    /// Of `Valid`, false: the Service is of a type that is not exported.
    pub const INVALID_SERVICE_TYPE: &str = "InvalidServiceType";

    /// Of `Ready`, true, where exports are sent to others.
    pub const EXPORTED: &str = "Exported";
    /// Of `Ready`, true, where others fetch exports; of a ServiceImport that can be used.
    pub const READY: &str = "Ready";
    /// Of `Ready`, false or unknown: not yet.
    pub const PENDING: &str = "Pending";
    /// Of `Ready`, false: it failed, and the message says why.
    pub const FAILED: &str = "Failed";
    /// Of a ServiceImport's `Ready`, false: this cluster has none of the service's address families.
    pub const IP_FAMILY_NOT_SUPPORTED: &str = "IPFamilyNotSupported";

    /// Of `Conflict`, true: the ports differ.
    pub const PORT_CONFLICT: &str = "PortConflict";
    /// Of `Conflict`, true: some are headless, some are not.
    pub const TYPE_CONFLICT: &str = "TypeConflict";
    /// Of `Conflict`, true: `sessionAffinity` differs.
    pub const SESSION_AFFINITY_CONFLICT: &str = "SessionAffinityConflict";
    /// Of `Conflict`, true: `sessionAffinityConfig` differs.
    pub const SESSION_AFFINITY_CONFIG_CONFLICT: &str = "SessionAffinityConfigConflict";
    /// Of `Conflict`, true: `exportedLabels` differ.
    pub const LABELS_CONFLICT: &str = "LabelsConflict";
    /// Of `Conflict`, true: `exportedAnnotations` differ.
    pub const ANNOTATIONS_CONFLICT: &str = "AnnotationsConflict";
    /// Of `Conflict`, true: `internalTrafficPolicy` differs.
    pub const INTERNAL_TRAFFIC_POLICY_CONFLICT: &str = "InternalTrafficPolicyConflict";
    /// Of `Conflict`, true: `trafficDistribution` differs.
    pub const TRAFFIC_DISTRIBUTION_CONFLICT: &str = "TrafficDistributionConflict";
    /// Of `Conflict`, true: an address family leads to a part of the endpoints only.
    pub const IP_FAMILY_CONFLICT: &str = "IPFamilyConflict";
    /// Of `Conflict`, false.
    pub const NO_CONFLICTS: &str = "NoConflicts";
}
