//! What the controller is told.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use tombolo_services::EndpointMode;
use tombolo_services::clusters::ClusterId;
use tombolo_services::mirrors::Choice;
use tombolo_services::staleness::Limits;

use crate::emit::EmitOptions;

/// Where another cluster is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A kubeconfig file.
    File(PathBuf),
    /// The text of a kubeconfig, out of a Secret.
    Text(String),
    /// An API server that asks for no credentials, as `kubectl proxy` is one.
    Url(String),
}

/// A cluster that Services are mirrored and imported from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceOptions {
    /// Its name here.
    pub name: String,
    /// Where it is.
    pub location: Location,
}

/// See `tombolo controller --help`.
#[derive(Debug, Clone)]
pub struct Options {
    /// The clusters; more can be named by Secrets (`tombolo accept`).
    pub sources: Vec<SourceOptions>,
    /// Which Services are mirrored.
    pub choice: Choice,
    /// Whether any are.
    pub mirror: bool,
    /// Which Services of this cluster the emitter offers, beside those with a ServiceExport.
    pub export_choice: Choice,
    /// Where the emitter is; none for no emitter.
    pub emit: Option<EmitOptions>,
    /// What stands for the endpoints of a mirror, where its Service does not say.
    pub mode: EndpointMode,
    /// Whether mirrors have Endpoints, too.
    pub legacy_endpoints: bool,
    /// How long, and how much.
    pub limits: Limits,
    /// Whether ServiceExports and ServiceImports are looked after.
    pub mcs: bool,
    /// This cluster's id, where no ClusterProperty says it.
    pub cluster_id: Option<ClusterId>,
    /// Where ServiceImports get their addresses from; none for derived Services.
    pub clusterset_cidrs: Vec<IpNet>,
    /// CIDRs of this cluster's pods, Services and nodes, beside those that its API server knows.
    pub cluster_cidrs: Vec<IpNet>,
    /// The namespace that the controller keeps its own objects in.
    pub own_namespace: String,
    /// Who we are among the controllers of this cluster; none: there is no other.
    pub identity: Option<String>,
    /// Where `/healthz`, `/readyz` and `/metrics` are.
    pub listen: Option<SocketAddr>,
}
