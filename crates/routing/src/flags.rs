//! kube-router's flags that concern BGP, and our own beside them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use tombolo_bgp::config::{Bfd, PORT, Password, Ttl};

use crate::parse::{self, Problem};
use crate::peer::{self, BFD_PORT, Lists, Names, Peer};

/// The autonomous system of a cluster that says nothing else.
const CLUSTER_ASN: u32 = 64512;

/// Whether BGP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Enable {
    /// If [`Flags::peer_router_ips`] has a peer, or any node of the cluster, this one or another, carries one of the
    /// annotations `kube-router.io/peers`, `peer.ips`, `peer.asns`, `peer.ports`, `peer.passwords`, `peer.localips`,
    /// `rr.server` or `rr.client` that is not empty. Whether it can be used does not matter, so that all nodes agree.
    #[default]
    Auto,
    /// Yes. In the cluster alone, where no peer is named.
    On,
    /// No, whatever else is said.
    Off,
}

/// The flags. [`Flags::default`] is what holds without any: kube-router's own defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    /// Ours: whether BGP is spoken.
    pub enable: Enable,
    /// `--cluster-asn`; 0 is 64512.
    pub cluster_asn: u32,
    /// `--advertise-cluster-ip`.
    pub advertise_cluster_ip: bool,
    /// `--advertise-external-ip`.
    pub advertise_external_ip: bool,
    /// `--advertise-loadbalancer-ip`.
    pub advertise_loadbalancer_ip: bool,
    /// `--advertise-pod-cidr`: to external peers. Nodes of the cluster get it always.
    pub advertise_pod_cidr: bool,
    /// Ours: whether nodes of the cluster get service addresses, too. kube-router announces them to external peers
    /// alone.
    pub advertise_services_to_nodes: bool,
    /// `--nodes-full-mesh`.
    pub nodes_full_mesh: bool,
    /// `--enable-ibgp`.
    pub enable_ibgp: bool,
    /// `--peer-router-ips`.
    pub peer_router_ips: Vec<IpAddr>,
    /// `--peer-router-asns`.
    pub peer_router_asns: Vec<u32>,
    /// `--peer-router-passwords`, each in base64; an empty one is none.
    pub peer_router_passwords: Vec<Password>,
    /// What the file of `--peer-router-passwords-file` holds: passwords in base64, separated by commas. Not used where
    /// [`Flags::peer_router_passwords`] are given.
    pub peer_router_passwords_file: Option<Password>,
    /// `--peer-router-ports`.
    pub peer_router_ports: Vec<u16>,
    /// `--peer-router-multihop-ttl`; below 2 it has no effect. For peers of another autonomous system.
    pub peer_router_multihop_ttl: u8,
    /// Ours: external peers may be so many hops away, and the kernel drops what comes from further (RFC 5082).
    pub peer_router_ttl_security_hops: Option<u8>,
    /// `--bgp-port`: to listen at, and of the nodes of the cluster.
    pub bgp_port: u16,
    /// `--bgp-holdtime`: from 3 s to 18h12m16s.
    pub bgp_holdtime: Duration,
    /// `--bgp-graceful-restart`.
    pub bgp_graceful_restart: bool,
    /// `--bgp-graceful-restart-time`: up to 4095 s.
    pub bgp_graceful_restart_time: Duration,
    /// `--bgp-graceful-restart-deferral-time`: up to 18 h.
    pub bgp_graceful_restart_deferral_time: Duration,
    /// Ours: how long routes are kept as a last resort after that (RFC 9494); up to 16777215 s.
    pub bgp_long_lived_graceful_restart_time: Option<Duration>,
    /// `--override-nexthop`.
    pub override_nexthop: bool,
    /// `--router-id`: an IPv4 address, `generate`, or empty for the node's first IPv4 address.
    pub router_id: String,
    /// `--enable-bfd`: with external peers.
    pub enable_bfd: bool,
    /// Ours: BFD with the nodes of the cluster, too.
    pub enable_bfd_nodes: bool,
    /// `--bfd-port`; only 3784 will do.
    pub bfd_port: u32,
    /// `--bfd-desired-min-tx-interval`, in milliseconds.
    pub bfd_desired_min_tx_interval: u32,
    /// `--bfd-required-min-rx-interval`, in milliseconds.
    pub bfd_required_min_rx_interval: u32,
    /// `--bfd-detection-multiplier`.
    pub bfd_detection_multiplier: u32,
    /// Ours: take several paths a prefix from every neighbour that sends them (RFC 7911).
    pub add_path_receive: bool,
    /// Ours: send up to so many paths a prefix to neighbours that take them.
    pub add_path_send: u16,
    /// Ours: how many prefixes an external peer may announce.
    pub max_prefixes: Option<u32>,
    /// Ours: after how long a session that was ended for too many may come again; `None` is after a person looked.
    pub max_prefixes_restart: Option<Duration>,
    /// Ours: up to how many equal paths a route has.
    pub multipath: usize,
    /// Ours: take a default route.
    pub accept_default_route: bool,
    /// Ours: what is in these is taken from outside though it is a martian or belongs to this cluster.
    pub accept_cidrs: Vec<IpNet>,
    /// `--service-external-ip-range`.
    pub service_external_ip_range: Vec<IpNet>,
    /// `--loadbalancer-ip-range`.
    pub loadbalancer_ip_range: Vec<IpNet>,
    /// `--strict-external-ip-validation`: announce external and load balancer IPs only out of the ranges above; none
    /// where there are none. Not given, it holds for the kinds that have a range.
    pub strict_external_ip_validation: Option<bool>,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            enable: Enable::Auto,
            cluster_asn: CLUSTER_ASN,
            advertise_cluster_ip: false,
            advertise_external_ip: false,
            advertise_loadbalancer_ip: false,
            advertise_pod_cidr: true,
            advertise_services_to_nodes: true,
            nodes_full_mesh: true,
            enable_ibgp: true,
            peer_router_ips: Vec::new(),
            peer_router_asns: Vec::new(),
            peer_router_passwords: Vec::new(),
            peer_router_passwords_file: None,
            peer_router_ports: Vec::new(),
            peer_router_multihop_ttl: 0,
            peer_router_ttl_security_hops: None,
            bgp_port: PORT,
            bgp_holdtime: Duration::from_secs(90),
            bgp_graceful_restart: false,
            bgp_graceful_restart_time: Duration::from_secs(90),
            bgp_graceful_restart_deferral_time: Duration::from_secs(360),
            bgp_long_lived_graceful_restart_time: None,
            override_nexthop: false,
            router_id: String::new(),
            enable_bfd: false,
            enable_bfd_nodes: false,
            bfd_port: BFD_PORT,
            bfd_desired_min_tx_interval: 1000,
            bfd_required_min_rx_interval: 1000,
            bfd_detection_multiplier: 3,
            add_path_receive: false,
            add_path_send: 1,
            max_prefixes: None,
            max_prefixes_restart: None,
            multipath: 1,
            accept_default_route: false,
            accept_cidrs: Vec::new(),
            service_external_ip_range: Vec::new(),
            loadbalancer_ip_range: Vec::new(),
            strict_external_ip_validation: None,
        }
    }
}

/// A flag that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagError {
    /// The flag; with the place in square brackets where it is a list.
    pub flag: String,
    /// What it was given; passwords are not repeated.
    pub value: String,
    /// What is wrong with it and what to write instead.
    pub reason: String,
}

/// All flags that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct FlagErrors(pub Vec<FlagError>);

impl fmt::Display for FlagErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, FlagError { flag, value, reason }) in self.0.iter().enumerate() {
            let line = if i == 0 { "" } else { "\n" };
            write!(f, "{line}{flag} {value:?}: {reason}")?;
        }
        Ok(())
    }
}

/// Where the BGP identifier comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RouterId {
    /// The node's first IPv4 address, or a hash where it has none.
    Node,
    /// A hash of the node's first address.
    Generate,
    Fixed(Ipv4Addr),
}

/// Flags that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub(crate) flags: Flags,
    pub(crate) peers: Vec<Peer>,
    pub(crate) router_id: RouterId,
    pub(crate) bfd: Option<Bfd>,
    pub(crate) ttl: Ttl,
}

impl Settings {
    /// # Errors
    /// Each flag that can't be used, with what to write instead.
    pub fn new(mut flags: Flags) -> Result<Self, FlagErrors> {
        let mut problems = Vec::new();
        if flags.cluster_asn == 0 {
            flags.cluster_asn = CLUSTER_ASN;
        }
        if let Err(reason) = parse::check_asn(flags.cluster_asn) {
            problems.push(Problem::new("--cluster-asn", flags.cluster_asn.to_string(), reason));
        }
        check_times(&mut flags, &mut problems);
        check_numbers(&flags, &mut problems);
        let peers = peers(&flags, &mut problems);
        let router_id = router_id(&flags.router_id, &mut problems);
        let bfd = bfd(&flags, &mut problems);
        for net in flags.accept_cidrs.iter().filter(|net| net.prefix_len() == 0) {
            let reason = "it has everything in it; name the networks, or say --accept-default-route";
            problems.push(Problem::new("--accept-cidrs", net.to_string(), reason));
        }
        let ttl = match (flags.peer_router_ttl_security_hops, flags.peer_router_multihop_ttl) {
            (Some(hops), _) => Ttl::Security { hops },
            (None, ttl @ 2..) => Ttl::Multihop(ttl),
            (None, _) => Ttl::Default,
        };
        if problems.is_empty() {
            return Ok(Self { flags, peers, router_id, bfd, ttl });
        }
        let errors =
            problems.into_iter().map(|Problem { field, value, reason }| FlagError { flag: field, value, reason });
        Err(FlagErrors(errors.collect()))
    }

    /// The flags that these are made of.
    pub fn flags(&self) -> &Flags {
        &self.flags
    }
}

fn check_times(flags: &mut Flags, problems: &mut Vec<Problem>) {
    let mut check = |flag: &str, time: Duration, least: u64, most: u64, words: &str| {
        if time < Duration::from_secs(least) || time > Duration::from_secs(most) {
            problems.push(Problem::new(flag, format!("{time:?}"), format!("it is out of range; write {words}")));
        }
    };
    check("--bgp-holdtime", flags.bgp_holdtime, 3, 65_536, "3s to 18h12m16s");
    // The field has 16 bits; kube-router lets the next second pass.
    flags.bgp_holdtime = flags.bgp_holdtime.min(Duration::from_secs(65_535));
    check("--bgp-graceful-restart-time", flags.bgp_graceful_restart_time, 1, 4095, "1s to 4095s (RFC 4724)");
    check("--bgp-graceful-restart-deferral-time", flags.bgp_graceful_restart_deferral_time, 0, 64_800, "at most 18h");
    if let Some(time) = flags.bgp_long_lived_graceful_restart_time {
        let words = "1s to 16777215s (RFC 9494)";
        check("--bgp-long-lived-graceful-restart-time", time, 1, 16_777_215, words);
        if !flags.bgp_graceful_restart {
            let reason = "it follows on graceful restart, which is off; say --bgp-graceful-restart, too";
            problems.push(Problem::new("--bgp-long-lived-graceful-restart-time", format!("{time:?}"), reason));
        }
    }
}

fn check_numbers(flags: &Flags, problems: &mut Vec<Problem>) {
    if flags.bgp_port == 0 {
        problems.push(Problem::new("--bgp-port", "0", "it is no port; write a number from 1 to 65535"));
    }
    if flags.multipath == 0 {
        problems.push(Problem::new("--multipath", "0", "a route has one path at least; write 1 or more"));
    }
    if flags.max_prefixes == Some(0) {
        problems.push(Problem::new("--max-prefixes", "0", "it lets nothing in; write 1 or more, or leave it out"));
    }
    match flags.peer_router_ttl_security_hops {
        Some(0) => problems.push(Problem::new(
            "--peer-router-ttl-security-hops",
            "0",
            "the own link is one hop; write a number from 1 to 254",
        )),
        Some(hops) if hops == u8::MAX || flags.peer_router_multihop_ttl > 1 => problems.push(Problem::new(
            "--peer-router-ttl-security-hops",
            hops.to_string(),
            "it is 254 at most and excludes --peer-router-multihop-ttl; write one of the two",
        )),
        _ => {}
    }
}

fn peers(flags: &Flags, problems: &mut Vec<Problem>) -> Vec<Peer> {
    let names = Names {
        ips: "--peer-router-ips",
        asns: "--peer-router-asns",
        ports: "--peer-router-ports",
        passwords: if flags.peer_router_passwords.is_empty() {
            "--peer-router-passwords-file"
        } else {
            "--peer-router-passwords"
        },
        local_ips: "",
    };
    let passwords: Vec<String> = match &flags.peer_router_passwords_file {
        Some(contents) if flags.peer_router_passwords.is_empty() => parse::places(&contents.0),
        _ => flags.peer_router_passwords.iter().map(|password| password.0.trim().to_owned()).collect(),
    };
    let lists = Lists {
        ips: flags.peer_router_ips.iter().map(IpAddr::to_string).collect(),
        asns: flags.peer_router_asns.iter().map(u32::to_string).collect(),
        ports: flags.peer_router_ports.iter().map(u16::to_string).collect(),
        // One empty text is how a command line says none.
        passwords: if passwords == [""] && flags.peer_router_ips.len() != 1 { Vec::new() } else { passwords },
        local_ips: Vec::new(),
    };
    peer::from_lists(&lists, &names, problems).unwrap_or_default()
}

fn router_id(text: &str, problems: &mut Vec<Problem>) -> RouterId {
    match (text.trim(), text.trim().parse::<Ipv4Addr>()) {
        ("", _) => RouterId::Node,
        ("generate", _) => RouterId::Generate,
        (_, Ok(id)) if !id.is_unspecified() => RouterId::Fixed(id),
        _ => {
            let reason =
                "it is no BGP identifier; write an IPv4 address that each node has for itself, or the word generate";
            problems.push(Problem::new("--router-id", text, reason));
            RouterId::Node
        }
    }
}

fn bfd(flags: &Flags, problems: &mut Vec<Problem>) -> Option<Bfd> {
    if flags.bfd_port != BFD_PORT {
        let reason = format!("BFD over one hop has the port {BFD_PORT} (RFC 5881); leave the flag out");
        problems.push(Problem::new("--bfd-port", flags.bfd_port.to_string(), reason));
    }
    let timers = peer::bfd(
        flags.bfd_desired_min_tx_interval.into(),
        flags.bfd_required_min_rx_interval.into(),
        flags.bfd_detection_multiplier.into(),
    );
    match timers {
        Ok(timers) => Some(timers),
        Err((key, value, reason)) => {
            problems.push(Problem::new(format!("--bfd-{}", key.replace('_', "-")), value.to_string(), reason));
            None
        }
    }
}
