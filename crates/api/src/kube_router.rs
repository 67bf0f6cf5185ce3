//! kube-router's annotations on Nodes and Services, as far as they concern BGP, by its own names.

/// On a Node: its autonomous system, where the nodes do not form one full mesh.
pub const NODE_ASN: &str = "kube-router.io/node.asn";

/// On a Node: communities for the routes that external peers get, separated by commas.
pub const NODE_COMMUNITIES: &str = "kube-router.io/node.bgp.communities";

/// On a Node: CIDRs that are taken from no neighbour, separated by commas.
pub const NODE_CUSTOM_IMPORT_REJECT: &str = "kube-router.io/node.bgp.customimportreject";

/// On a Node: the autonomous system to put before the paths that external peers get.
pub const PATH_PREPEND_AS: &str = "kube-router.io/path-prepend.as";

/// On a Node: how often [`PATH_PREPEND_AS`] is put there.
pub const PATH_PREPEND_REPEAT_N: &str = "kube-router.io/path-prepend.repeat-n";

/// On a Node: its external peers, a YAML list of objects with `remoteip`, `remoteasn`, `localip`, `password`, `port`
/// and `bfd`.
pub const PEERS: &str = "kube-router.io/peers";

/// On a Node: addresses of external peers, separated by commas.
pub const PEER_IPS: &str = "kube-router.io/peer.ips";

/// On a Node: an autonomous system for each of [`PEER_IPS`].
pub const PEER_ASNS: &str = "kube-router.io/peer.asns";

/// On a Node: a port for each of [`PEER_IPS`].
pub const PEER_PORTS: &str = "kube-router.io/peer.ports";

/// On a Node: a password in base64 for each of [`PEER_IPS`].
pub const PEER_PASSWORDS: &str = "kube-router.io/peer.passwords";

/// On a Node: the own address towards each of [`PEER_IPS`].
pub const PEER_LOCAL_IPS: &str = "kube-router.io/peer.localips";

/// On a Node: it reflects routes; the value is the cluster ID.
pub const RR_SERVER: &str = "kube-router.io/rr.server";

/// On a Node: it is a client of the reflectors with this cluster ID.
pub const RR_CLIENT: &str = "kube-router.io/rr.client";

/// On a Node: where it takes connections, addresses separated by commas.
pub const BGP_LOCAL_ADDRESSES: &str = "kube-router.io/bgp-local-addresses";

/// On a Node: the CIDR of its pods, in place of those in its `spec`.
pub const POD_CIDR: &str = "kube-router.io/pod-cidr";

/// On a Node: the CIDRs of its pods, separated by commas, in place of those in its `spec`.
pub const POD_CIDRS: &str = "kube-router.io/pod-cidrs";

/// On a Service: whether its cluster IPs are announced.
pub const SERVICE_ADVERTISE_CLUSTER_IP: &str = "kube-router.io/service.advertise.clusterip";

/// On a Service: whether its external IPs are announced.
pub const SERVICE_ADVERTISE_EXTERNAL_IP: &str = "kube-router.io/service.advertise.externalip";

/// On a Service: whether its load balancer IPs are announced.
pub const SERVICE_ADVERTISE_LOAD_BALANCER_IP: &str = "kube-router.io/service.advertise.loadbalancerip";

/// On a Service: with the value `true`, external and load balancer IPs as under `externalTrafficPolicy: Local`.
pub const SERVICE_LOCAL: &str = "kube-router.io/service.local";

/// On a Service: with any value, its load balancer IPs are not announced.
pub const SERVICE_SKIP_LB_IPS: &str = "kube-router.io/service.skiplbips";
