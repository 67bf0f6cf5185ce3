//! The vocabulary: Services and their endpoints wherever they are, and what stands for them here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tombolo_proxy::{Family, Protocol, TrafficPolicy};

use crate::clusters::ClusterId;

/// Seconds since 1970 in UTC: what Kubernetes keeps of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// How long ago `earlier` was; nothing, where the clock was set back.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This much later.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)))
    }
}

/// How a Service is reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Kind {
    /// By an address of its own. NodePort and LoadBalancer count as this.
    #[default]
    ClusterIp,
    /// By the addresses of its pods.
    Headless,
    /// By another name.
    ExternalName(String),
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    /// How it is reached.
    pub kind: Kind,
    /// Its addresses as its cluster gave them; for what is desired here there are none to say.
    pub cluster_ips: Vec<IpAddr>,
    /// Its address families, the first one first.
    pub families: Vec<Family>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Seconds for which a client keeps its endpoint; none without session affinity.
    pub session_affinity: Option<u32>,
    /// `internalTrafficPolicy`.
    pub internal_traffic_policy: TrafficPolicy,
    /// `trafficDistribution`.
    pub traffic_distribution: Option<String>,
    /// `publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// About what a text takes beside its bytes, and an entry in a map.
const ENTRY: usize = 64;

fn texts(texts: &BTreeMap<String, String>) -> usize {
    texts.iter().map(|(name, value)| name.len() + value.len() + ENTRY).sum()
}

impl Service {
    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        let ports = self.ports.len() * (size_of::<ServicePort>() + ENTRY);
        size_of::<Self>() + ENTRY + ports + texts(&self.labels) + texts(&self.annotations)
    }
}

impl Slice {
    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let of = |endpoint: &Endpoint| {
            let zones: usize = endpoint.for_zones.iter().map(|zone| zone.len() + ENTRY).sum();
            let texts = text(&endpoint.hostname) + text(&endpoint.node_name) + text(&endpoint.zone);
            size_of::<Endpoint>() + texts + zones
        };
        let ports = self.ports.len() * (size_of::<SlicePort>() + ENTRY);
        size_of::<Self>() + 2 * ENTRY + ports + self.endpoints.iter().map(of).sum::<usize>()
    }
}

impl Export {
    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Self>() + ENTRY + texts(&self.labels) + texts(&self.annotations)
    }
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ServicePort {
    /// Its name; may be empty where there is one port.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The number.
    pub port: u16,
    /// The protocol on top.
    pub app_protocol: Option<String>,
}

/// The endpoints of one EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The family of its addresses.
    pub family: Family,
    /// Its ports, the same for each endpoint.
    pub ports: Vec<SlicePort>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// A port of an EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SlicePort {
    /// The name of the Service's port.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The number at the endpoint; none stands for all.
    pub port: Option<u16>,
    /// The protocol on top.
    pub app_protocol: Option<String>,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// It takes new connections.
    pub ready: bool,
    /// It answers, be it while it terminates.
    pub serving: bool,
    /// It terminates.
    pub terminating: bool,
    /// The pod's hostname, a DNS label (RFC 1123).
    pub hostname: Option<String>,
    /// Its node; said in the node's own cluster only.
    pub node_name: Option<String>,
    /// Its zone.
    pub zone: Option<String>,
    /// The zones that are to use it; none where there is no such hint.
    pub for_zones: Vec<String>,
}

impl Endpoint {
    /// An endpoint that is ready, of which nothing more is known.
    pub fn ready(address: IpAddr) -> Self {
        Self {
            address,
            ready: true,
            serving: true,
            terminating: false,
            hostname: None,
            node_name: None,
            zone: None,
            for_zones: Vec::new(),
        }
    }
}

/// An EndpointSlice that we keep here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnSlice {
    /// Its labels, with those that say what it belongs to.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its content.
    pub slice: Slice,
}

/// An Endpoints object that we keep here, for those who do not read EndpointSlices.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LegacyEndpoints {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its content.
    pub subsets: Vec<Subset>,
}

/// A part of [`LegacyEndpoints`]: addresses with the same ports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Subset {
    /// The ports.
    pub ports: Vec<SlicePort>,
    /// The addresses that are ready, with their hostnames.
    pub ready: Vec<(IpAddr, Option<String>)>,
    /// The others.
    pub not_ready: Vec<(IpAddr, Option<String>)>,
}

/// A ServiceExport.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Export {
    /// `creationTimestamp`: the oldest has the last word.
    pub created: Timestamp,
    /// `spec.exportedLabels`.
    pub labels: BTreeMap<String, String>,
    /// `spec.exportedAnnotations`.
    pub annotations: BTreeMap<String, String>,
}

/// A ServiceImport, with its status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Import {
    /// Without an address of its own.
    pub headless: bool,
    /// The ports.
    pub ports: Vec<ServicePort>,
    /// Its addresses here, in the order of [`Self::families`].
    pub ips: Vec<IpAddr>,
    /// Its families here.
    pub families: Vec<Family>,
    /// Seconds for which a client keeps its endpoint.
    pub session_affinity: Option<u32>,
    /// `internalTrafficPolicy`.
    pub internal_traffic_policy: TrafficPolicy,
    /// `trafficDistribution`.
    pub traffic_distribution: Option<String>,
    /// Its labels: what the oldest export says.
    pub labels: BTreeMap<String, String>,
    /// Its annotations: what the oldest export says, and the name of the derived Service.
    pub annotations: BTreeMap<String, String>,
    /// The clusters that export it.
    pub clusters: BTreeSet<ClusterId>,
    /// `Ready`.
    pub conditions: Vec<Condition>,
}

/// A condition, but for the time of its last transition, which is known to who writes it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// Its type, of [`tombolo_api::mcs::condition`].
    pub kind: String,
    /// Its status.
    pub status: Status,
    /// One of [`tombolo_api::mcs::reason`], or several, separated by commas.
    pub reason: String,
    /// The rest, for people.
    pub message: String,
}

/// The status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Nobody knows yet.
    Unknown,
}
