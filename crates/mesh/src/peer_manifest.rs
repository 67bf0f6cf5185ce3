//! A Peer resource as the YAML or JSON that kgctl prints, to be applied in another cluster.

use serde::Serialize;
use tombolo_net::wireguard::{Host, Key};

use crate::kiloconf::PeerSection;

/// A Peer object with nothing but a name and a spec.
///
/// kgctl's two forms differ in the order of `kind` and `apiVersion`, and its keepalive is in nanoseconds where that of
/// the resource is in seconds. Both are kept; readers of ours take such a large number for what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerManifest {
    name: String,
    spec: Spec,
}

/// In the order in which kgctl prints the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "allowedIPs")]
    allowed_ips: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    persistent_keepalive: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preshared_key: Option<String>,
    public_key: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Endpoint {
    #[serde(rename = "dnsOrIP")]
    dns_or_ip: DnsOrIp,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum DnsOrIp {
    Dns(String),
    Ip(String),
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct YamlOrder<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    spec: &'a Spec,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonOrder<'a> {
    kind: &'static str,
    api_version: &'static str,
    metadata: Metadata<'a>,
    spec: &'a Spec,
}

const API_VERSION: &str = "kilo.squat.ai/v1alpha1";
const KIND: &str = "Peer";

impl PeerManifest {
    /// The Peer `name` that stands for `section`.
    pub fn new(name: &str, section: &PeerSection) -> Self {
        let keepalive = section.persistent_keepalive.filter(|seconds| *seconds > 0);
        let endpoint = section.endpoint.as_ref().map(|endpoint| Endpoint {
            dns_or_ip: match &endpoint.host {
                Host::Ip(ip) => DnsOrIp::Ip(ip.to_string()),
                Host::Dns(name) => DnsOrIp::Dns(name.clone()),
            },
            port: endpoint.port,
        });
        let spec = Spec {
            allowed_ips: section.allowed_ips.iter().map(ToString::to_string).collect(),
            endpoint,
            persistent_keepalive: keepalive.map(|seconds| u64::from(seconds) * 1_000_000_000),
            preshared_key: section.preshared_key.as_ref().map(Key::to_string),
            public_key: section.public_key.to_string(),
        };
        Self { name: name.to_owned(), spec }
    }

    /// As YAML.
    ///
    /// # Errors
    /// Where it cannot be written as YAML.
    pub fn yaml(&self) -> Result<String, serde_yaml_ng::Error> {
        let metadata = Metadata { name: &self.name };
        let order = YamlOrder { api_version: API_VERSION, kind: KIND, metadata, spec: &self.spec };
        // An enum would be written as a YAML tag; as a JSON value it is a mapping.
        serde_yaml_ng::to_string(
            &serde_json::to_value(order).map_err(<serde_yaml_ng::Error as serde::ser::Error>::custom)?,
        )
    }

    /// As JSON, without a line break at the end.
    ///
    /// # Errors
    /// Where it cannot be written as JSON.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        let metadata = Metadata { name: &self.name };
        let order = JsonOrder { kind: KIND, api_version: API_VERSION, metadata, spec: &self.spec };
        serde_json::to_string_pretty(&order)
    }
}
