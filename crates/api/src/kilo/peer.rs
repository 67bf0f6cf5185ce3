//! The Peer resource, field by field as Kilo's.

// The derive of the schema repeats each struct, with its `pub`, inside a function.
#![allow(unreachable_pub)]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// What is wanted of a peer: a WireGuard device outside the cluster that shall reach it, or be reached by it.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "kilo.squat.ai",
    version = "v1alpha1",
    kind = "Peer",
    plural = "peers",
    singular = "peer",
    status = "PeerStatus",
    derive = "PartialEq",
    doc = "A WireGuard device outside the cluster: another cluster's node, a server, a laptop.",
    printcolumn = r#"{"name":"Endpoint","type":"string","jsonPath":".spec.endpoint.dnsOrIP.ip","description":"The address that packets are sent to; none where the peer speaks first."}"#,
    printcolumn = r#"{"name":"DNS","type":"string","jsonPath":".spec.endpoint.dnsOrIP.dns","description":"The name that the address is looked up by."}"#,
    printcolumn = r#"{"name":"Port","type":"integer","jsonPath":".spec.endpoint.port","priority":1,"description":"The UDP port of the endpoint."}"#,
    printcolumn = r#"{"name":"Allowed IPs","type":"string","jsonPath":".spec.allowedIPs","description":"What is reached through the peer."}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status","description":"Whether the agents use the peer as it is written; the condition says why not."}"#,
    printcolumn = r#"{"name":"Public key","type":"string","jsonPath":".spec.publicKey","priority":1,"description":"The WireGuard public key."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PeerSpec {
    /// What is reached through the peer and accepted from it: CIDRs, or single addresses.
    #[serde(rename = "allowedIPs")]
    #[schemars(
        length(min = 1, max = 4096),
        inner(length(max = 64), regex(pattern = r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"))
    )]
    #[x_kube(validation = ("self.all(c, isCIDR(c) || isIP(c))", "each must be a CIDR like 10.0.0.0/24 or fd00::/64, or an address"))]
    pub allowed_ips: Vec<String>,

    /// Where to send the peer's packets; without it the peer must speak first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<PeerEndpoint>,

    /// Seconds between keepalives, 0 for none. Values from 1000000000 are taken for nanoseconds, as kgctl writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub persistent_keepalive: Option<i64>,

    /// A symmetric key that both sides mix into the handshake: 32 bytes in Base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=)?$"))]
    pub preshared_key: Option<String>,

    /// The WireGuard public key of the peer: 32 bytes in Base64, as `wg pubkey` prints it.
    #[schemars(regex(pattern = r"^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$"))]
    pub public_key: String,
}

/// A host and a UDP port.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PeerEndpoint {
    /// The host.
    #[serde(rename = "dnsOrIP")]
    pub dns_or_ip: DnsOrIp,

    /// The UDP port.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// A host by name or by address.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[x_kube(validation = ("(has(self.dns) && self.dns != '') != (has(self.ip) && self.ip != '')", "give exactly one of dns and ip"))]
pub struct DnsOrIp {
    /// A DNS name (RFC 1123 subdomain), looked up again and again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 253),
        regex(pattern = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$")
    )]
    pub dns: Option<String>,

    /// An IPv4 or IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = ("self == '' || isIP(self)", "must be an IPv4 or IPv6 address"))]
    pub ip: Option<String>,
}

/// What became of a peer.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
pub struct PeerStatus {
    /// `Ready`: whether the agents use the peer as it is written; its message names each field that is refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}
