//! What both versions of the API share.

// The derive of the schema repeats each struct, with its `pub`, inside a function.
#![allow(unreachable_pub)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What has become of an export.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct ServiceExportStatus {
    /// `Valid`, `Ready` and `Conflict`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// How an imported service is reached.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceImportType {
    /// By an address of its own.
    #[default]
    ClusterSetIP,
    /// By the addresses of its pods.
    Headless,
}

/// A port of an imported service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// A DNS label, unlike those of the other ports; may be missing where there is one port.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,

    /// TCP, UDP or SCTP; without it, TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,

    /// The protocol that is spoken on top: an IANA service name, or a name with a prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_protocol: Option<String>,

    /// The number.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// What has become of an import.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ServiceImportStatus {
    /// Whether EndpointSlices of the service are there to be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_slice_objects: Option<EndpointSliceObjects>,

    /// The clusters that export the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["cluster".to_owned()]))]
    pub clusters: Vec<ClusterStatus>,

    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

/// Whether there are EndpointSlices of an import. In the KEP; not in the definitions of `mcs-api` v0.5.0.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointSliceObjects {
    /// There are.
    Present,
    /// There are none.
    Absent,
}

/// A cluster that exports the service.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Its id, a DNS label (RFC 1123).
    pub cluster: String,
}
