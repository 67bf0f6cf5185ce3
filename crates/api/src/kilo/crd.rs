//! The definition of the Peer resource for the API server.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use super::Peer;

/// The CustomResourceDefinition `peers.kilo.squat.ai`.
///
/// Its schema accepts every Peer that Kilo's agent accepts, and refuses at the door what Kilo's agent would refuse
/// without a word later.
pub fn crd() -> CustomResourceDefinition {
    Peer::crd()
}

/// [`crd`] as the YAML manifest in `deploy/crds/`.
///
/// # Errors
/// Where the definition cannot be written as YAML.
pub fn crd_yaml() -> Result<String, serde_yaml_ng::Error> {
    serde_yaml_ng::to_string(&crd())
}
