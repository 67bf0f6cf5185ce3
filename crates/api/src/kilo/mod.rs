//! Kilo's API: its node annotations and its Peer resource.
//!
//! Sources: <https://kilo.squat.ai/docs/annotations> for what a person sets; the rest is what Kilo's agent (`kg`)
//! publishes about its node for the other agents and for `kgctl`.

mod crd;
mod peer;

pub use crd::{crd, crd_yaml};
pub use peer::{DnsOrIp, Peer, PeerEndpoint, PeerSpec, PeerStatus};

/// The group of the Peer resource.
pub const GROUP: &str = "kilo.squat.ai";

/// The node label that names a node's location where [`LOCATION`] does not: the well-known label of the region.
pub const REGION_LABEL: &str = "topology.kubernetes.io/region";

/// Set by a person: the endpoint (`host:port`, an address or a DNS name) instead of the one that the agent found.
pub const FORCE_ENDPOINT: &str = "kilo.squat.ai/force-endpoint";

/// Set by a person: the internal address (a CIDR) instead of the one that the agent found.
///
/// Empty or `-`: the node has none and is a location of its own.
pub const FORCE_INTERNAL_IP: &str = "kilo.squat.ai/force-internal-ip";

/// Set by a person, with any value: the node wants to lead its location.
pub const LEADER: &str = "kilo.squat.ai/leader";

/// Set by a person: the name of the node's location; it goes before the topology label.
pub const LOCATION: &str = "kilo.squat.ai/location";

/// Set by a person: seconds between the keepalives that the node sends to all its peers; for nodes behind NAT.
pub const PERSISTENT_KEEPALIVE: &str = "kilo.squat.ai/persistent-keepalive";

/// Set by a person: CIDRs separated by commas, reachable from the node's location and to be reached from the others.
pub const ALLOWED_LOCATION_IPS: &str = "kilo.squat.ai/allowed-location-ips";

/// Written by the agent: the endpoint (`host:port`) that others send the node's encrypted packets to.
pub const ENDPOINT: &str = "kilo.squat.ai/endpoint";

/// Written by the agent: the node's internal address with its prefix length (`10.0.0.1/24`); empty where it has none.
pub const INTERNAL_IP: &str = "kilo.squat.ai/internal-ip";

/// Written by the agent: the WireGuard public key, 44 characters of Base64.
pub const KEY: &str = "kilo.squat.ai/key";

/// Written by the agent: the Unix time in seconds at which it last said that it lives.
pub const LAST_SEEN: &str = "kilo.squat.ai/last-seen";

/// Written by the agent: a leader's WireGuard address with the mesh's prefix length (`10.4.0.1/16`); empty on others.
pub const WIREGUARD_IP: &str = "kilo.squat.ai/wireguard-ip";

/// Written by the agent: the addresses from which peers behind NAT were heard.
///
/// A JSON object from public key to `{"IP": string, "Port": number, "Zone": string}`.
pub const DISCOVERED_ENDPOINTS: &str = "kilo.squat.ai/discovered-endpoints";

/// Written by the agent: `location` or `full`, the granularity that it runs with.
pub const GRANULARITY: &str = "kilo.squat.ai/granularity";

/// Written by the agent in compatibility mode: the address (a CIDR) of the other CNI's interface on the node.
pub const CNI_COMPATIBILITY_IP: &str = "kilo.squat.ai/cni-compatibility-ip";
