//! kube-router's flags of BGP, as the agent takes them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use ipnet::IpNet;
use tombolo_bgp::config::Password;
use tombolo_bgp::speaker::control;
use tombolo_routing::{Enable, Flags, Settings};

use crate::agent::{Bool, duration};

/// The part of `tombolo agent`'s arguments that is about BGP.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "BGP")]
pub(crate) struct BgpArgs {
    /// Speak BGP: true, false, or auto for where a peer or a kube-router annotation asks for it
    #[arg(long, default_value = "auto", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = enable)]
    bgp: Enable,

    /// Autonomous system of the cluster's nodes
    #[arg(long, value_name = "ASN", default_value_t = 64512)]
    cluster_asn: u32,

    /// Announce ClusterIPs, each as a /32 or /128
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    advertise_cluster_ip: Bool,

    /// Announce external IPs of Services
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    advertise_external_ip: Bool,

    /// Announce the addresses of load balancers
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    advertise_loadbalancer_ip: Bool,

    /// Announce the node's pod CIDRs to peers outside the cluster
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    advertise_pod_cidr: Bool,

    /// Announce the addresses of Services to the cluster's own nodes, too
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    advertise_services_to_nodes: Bool,

    /// Every node peers with every other
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    nodes_full_mesh: Bool,

    /// Nodes of the cluster peer with each other at all
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    enable_ibgp: Bool,

    /// Addresses of the peers outside the cluster that all nodes have
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    peer_router_ips: Vec<IpAddr>,

    /// Their autonomous systems, in the same order
    #[arg(long, value_name = "ASN", value_delimiter = ',')]
    peer_router_asns: Vec<u32>,

    /// Their TCP MD5 passwords, each in base64
    #[arg(long, value_name = "BASE64", value_delimiter = ',', hide_env_values = true)]
    peer_router_passwords: Vec<String>,

    /// A file with those passwords
    #[arg(long, value_name = "FILE")]
    peer_router_passwords_file: Option<PathBuf>,

    /// Their ports [default: 179]
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    peer_router_ports: Vec<u16>,

    /// TTL of packets to peers of another autonomous system that are further away than one hop
    #[arg(long, value_name = "HOPS", default_value_t = 0)]
    peer_router_multihop_ttl: u8,

    /// Peers of another autonomous system are at most so many hops away, and what comes from further is dropped (RFC 5082)
    #[arg(long, value_name = "HOPS")]
    peer_router_ttl_security_hops: Option<u8>,

    /// Port of BGP on this cluster's nodes
    #[arg(long, value_name = "PORT", default_value_t = 179)]
    bgp_port: u16,

    /// Hold time to propose
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = duration)]
    bgp_holdtime: Duration,

    /// Peers keep the routes while the agent restarts (RFC 4724)
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    bgp_graceful_restart: Bool,

    /// For how long
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = duration)]
    bgp_graceful_restart_time: Duration,

    /// How long to wait after a restart for the peers' routes
    #[arg(long, value_name = "DURATION", default_value = "360s", value_parser = duration)]
    bgp_graceful_restart_deferral_time: Duration,

    /// For how long peers keep the routes as a last resort after that (RFC 9494)
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    bgp_long_lived_graceful_restart_time: Option<Duration>,

    /// Tell peers this node as the next hop of all routes
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    override_nexthop: Bool,

    /// BGP identifier: an IPv4 address, or "generate" out of the node's address [default: the node's IPv4 address]
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    router_id: String,

    /// Watch the paths to peers outside the cluster by BFD (RFC 5880)
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    enable_bfd: Bool,

    /// Watch the paths to the cluster's own nodes by BFD, too
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    enable_bfd_nodes: Bool,

    /// UDP port of BFD
    #[arg(long, value_name = "PORT", default_value_t = 3784)]
    bfd_port: u32,

    /// How often BFD sends at most, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    bfd_desired_min_tx_interval: u32,

    /// How often BFD is sent to at most, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    bfd_required_min_rx_interval: u32,

    /// After how many missing packets a path is down
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    bfd_detection_multiplier: u32,

    /// Take several paths to a prefix from peers that send them (RFC 7911)
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    add_path_receive: Bool,

    /// Up to how many paths to a prefix are sent to peers that take several
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    add_path_send: u16,

    /// How many prefixes a peer outside the cluster may announce [default: any number]
    #[arg(long, value_name = "COUNT")]
    max_prefixes: Option<u32>,

    /// After how long a peer that announced too many may come again [default: after `tombolo bgp reset`]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    max_prefixes_restart: Option<Duration>,

    /// Over how many equal paths packets to a prefix are spread
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    multipath: usize,

    /// Take a default route from peers
    #[arg(long, default_value_t = false, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    accept_default_route: Bool,

    /// Networks that are taken from peers outside although they are this cluster's, or nobody's
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    accept_cidrs: Vec<IpNet>,

    /// Where external IPs of Services may be [default: anywhere]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    service_external_ip_range: Vec<IpNet>,

    /// Where addresses of load balancers may be [default: anywhere]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    loadbalancer_ip_range: Vec<IpNet>,

    /// Announce external and load balancer addresses only out of those ranges
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    strict_external_ip_validation: Option<Bool>,

    /// Where `tombolo bgp` asks
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_PATH, env = "TOMBOLO_BGP_SOCKET")]
    bgp_socket: PathBuf,
}

impl BgpArgs {
    /// What they come to, and where `tombolo bgp` asks.
    ///
    /// # Errors
    /// All flags that cannot be used, with what to write instead.
    pub(crate) fn settings(self) -> Result<(Settings, PathBuf)> {
        let passwords_file = match &self.peer_router_passwords_file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read --peer-router-passwords-file {}", path.display()))?;
                Some(Password(text))
            }
        };
        let flags = Flags {
            enable: self.bgp,
            cluster_asn: self.cluster_asn,
            advertise_cluster_ip: self.advertise_cluster_ip,
            advertise_external_ip: self.advertise_external_ip,
            advertise_loadbalancer_ip: self.advertise_loadbalancer_ip,
            advertise_pod_cidr: self.advertise_pod_cidr,
            advertise_services_to_nodes: self.advertise_services_to_nodes,
            nodes_full_mesh: self.nodes_full_mesh,
            enable_ibgp: self.enable_ibgp,
            peer_router_ips: self.peer_router_ips,
            peer_router_asns: self.peer_router_asns,
            peer_router_passwords: self.peer_router_passwords.into_iter().map(Password).collect(),
            peer_router_passwords_file: passwords_file,
            peer_router_ports: self.peer_router_ports,
            peer_router_multihop_ttl: self.peer_router_multihop_ttl,
            peer_router_ttl_security_hops: self.peer_router_ttl_security_hops,
            bgp_port: self.bgp_port,
            bgp_holdtime: self.bgp_holdtime,
            bgp_graceful_restart: self.bgp_graceful_restart,
            bgp_graceful_restart_time: self.bgp_graceful_restart_time,
            bgp_graceful_restart_deferral_time: self.bgp_graceful_restart_deferral_time,
            bgp_long_lived_graceful_restart_time: self.bgp_long_lived_graceful_restart_time,
            override_nexthop: self.override_nexthop,
            router_id: self.router_id,
            enable_bfd: self.enable_bfd,
            enable_bfd_nodes: self.enable_bfd_nodes,
            bfd_port: self.bfd_port,
            bfd_desired_min_tx_interval: self.bfd_desired_min_tx_interval,
            bfd_required_min_rx_interval: self.bfd_required_min_rx_interval,
            bfd_detection_multiplier: self.bfd_detection_multiplier,
            add_path_receive: self.add_path_receive,
            add_path_send: self.add_path_send,
            max_prefixes: self.max_prefixes,
            max_prefixes_restart: self.max_prefixes_restart,
            multipath: self.multipath,
            accept_default_route: self.accept_default_route,
            accept_cidrs: self.accept_cidrs,
            service_external_ip_range: self.service_external_ip_range,
            loadbalancer_ip_range: self.loadbalancer_ip_range,
            strict_external_ip_validation: self.strict_external_ip_validation,
        };
        let settings = Settings::new(flags).map_err(|errors| anyhow!("{errors}"))?;
        Ok((settings, self.bgp_socket))
    }
}

fn enable(text: &str) -> Result<Enable, String> {
    match text {
        "auto" => Ok(Enable::Auto),
        "true" => Ok(Enable::On),
        "false" => Ok(Enable::Off),
        _ => Err("write true, false or auto".to_owned()),
    }
}
