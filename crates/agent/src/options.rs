//! What the agent is told on its command line, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use tombolo_mesh::Granularity;
use tombolo_mesh::plan::{Compatibility, Encapsulate};
use tombolo_wireguard::device::Prefer;

/// Whether the agent carries Services, which is kube-proxy's work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceProxy {
    /// Unless kube-proxy, or another that answers in its place, is at work on the node.
    Auto,
    /// In any case.
    On,
    /// In no case.
    Off,
}

/// The agent's settings. The names are those of `kg`'s flags where Kilo has them.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the API server is; `None` looks at `$KUBECONFIG`, then into the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// The address of the API server, over the one in the kubeconfig.
    pub master: Option<String>,
    /// The name of this node's Node object.
    pub hostname: String,
    /// Which nodes have a tunnel of their own.
    pub granularity: Granularity,
    /// The node label that tells a node's location.
    pub topology_label: String,
    /// Where the WireGuard addresses are taken from, one a family.
    pub subnets: Vec<IpNet>,
    /// The UDP port of WireGuard.
    pub port: u16,
    /// The MTU of the WireGuard interface; `None` is the underlay's less WireGuard's overhead.
    pub mtu: Option<u32>,
    /// The WireGuard interface.
    pub interface: String,
    /// The service CIDRs of this cluster.
    pub service_cidrs: Vec<IpNet>,
    /// Where internal addresses are looked for; empty is everywhere.
    pub internal_cidrs: Vec<IpNet>,
    /// Whether the endpoint is a private address even where there is a public one.
    pub prioritise_private_addresses: bool,
    /// Whether to write the CNI configuration.
    pub cni: bool,
    /// Where to.
    pub cni_path: PathBuf,
    /// Where `host-local` keeps its leases; `None` is its default.
    pub cni_data_dir: Option<PathBuf>,
    /// Whether to manage routes inside the location.
    pub local: bool,
    /// Which packets inside a location are encapsulated.
    pub encapsulate: Encapsulate,
    /// Whose overlay carries the packets inside a location, if not ours.
    pub compatibility: Option<Compatibility>,
    /// Whether to make the WireGuard interface if it is not there.
    pub create_interface: bool,
    /// Whether to undo on exit what was changed.
    pub clean_up: bool,
    /// Whether undoing removes the WireGuard interface, too.
    pub clean_up_interface: bool,
    /// How often everything is compared although nothing was heard of.
    pub resync_period: Duration,
    /// Where `/healthz`, `/readyz`, `/metrics` and `/graph` are served.
    pub listen: SocketAddr,
    /// Where the private key and the record of changed settings are kept.
    pub state_dir: PathBuf,
    /// Where the control sockets of userspace WireGuard devices are.
    pub wireguard_socket_dir: PathBuf,
    /// Which WireGuard to use.
    pub wireguard: Prefer,
    /// The program that runs an embedded WireGuard device as `PROGRAM wireguard IFACE`.
    pub program: PathBuf,
    /// Whether to carry Services.
    pub service_proxy: ServiceProxy,
    /// This cluster's id in the ClusterSet; `None` asks the ClusterProperty.
    pub cluster_id: Option<String>,
    /// kube-router's flags of BGP, checked.
    pub bgp: tombolo_routing::Settings,
    /// Who records BGP.
    pub bgp_monitoring: tombolo_bgp::speaker::Monitoring,
    /// Where `tombolo bgp` asks.
    pub bgp_socket: PathBuf,
}
