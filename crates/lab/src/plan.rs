//! What a lab consists of: names, addresses and CIDRs of its clusters and nodes, derived from its [`Plan`] alone.
//!
//! ```text
//!                      IPv4                     IPv6
//! underlay, cluster k  172.18.k.0/24            fd12:k::/64       (flat: 172.18.0.0/16, fd12::/16)
//!   gateway            .1                       ::1
//!   API server         .2                       ::2
//!   node i             .(10+i)                  ::(10+i)
//! pods                 10.(40+k).0.0/16         fd40:k::/48       (node i: 10.(40+k).i.0/24, fd40:k:0:i::/64)
//! services             10.(100+k).0.0/16        fd64:k::/112      (DNS: .0.10, ::a)
//! WireGuard            10.(160+k).0.0/16        fda0:k::/64
//! internet (nat)       192.0.2.k                2001:db8::k
//! reflector (bgp)      172.18.0.2, 1.0.0.2      fd12::2, fd01::2
//! ServiceImports       10.255.0.0/16            fdff::/112        (the same in every cluster: known to its nodes alone)
//! ```
//!
//! Numbers are written into IPv6 addresses so that they read as in IPv4: node 1 is `::11`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// The most clusters that the address plan has room for.
pub const MAX_CLUSTERS: u8 = 50;
/// The most nodes of a cluster that the address plan has room for.
pub const MAX_NODES: u8 = 200;
/// The UDP port of WireGuard where every node has an address of its own in the underlay.
pub const WIREGUARD_PORT: u16 = 51820;

/// How the nodes' networks hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Underlay {
    /// A network for each cluster, and a router between them.
    Routed,
    /// One network for all.
    Flat,
    /// A private network for each cluster, behind a router that translates addresses.
    Nat,
}

/// Which address families the nodes, pods and services have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4 alone.
    Ipv4,
    /// IPv6 alone: nodes have no IPv4 address at all.
    Ipv6,
    /// Both, IPv4 first.
    Dual,
}

/// How the clusters learn of each other's pods and services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interconnect {
    /// By Kilo's peers, once somebody has made them.
    Wireguard,
    /// By BGP, through a route reflector beside them on one network.
    Bgp(Reflector),
}

/// Which program is the route reflector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reflector {
    /// `tombolo route-reflector`.
    Tombolo,
    /// FRR: zebra and bgpd.
    Frr,
    /// BIRD 2.
    Bird,
    /// GoBGP.
    Gobgp,
}

impl Reflector {
    /// Its name, as it is chosen by `--reflector`.
    pub fn name(self) -> &'static str {
        match self {
            Reflector::Tombolo => "tombolo",
            Reflector::Frr => "frr",
            Reflector::Bird => "bird",
            Reflector::Gobgp => "gobgp",
        }
    }
}

/// The autonomous system of the reflector and of all clusters.
pub const REFLECTOR_ASN: u32 = 64512;

/// What [`up`](crate::up) makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The lab's name: lower-case letters and digits, 16 at most.
    pub name: String,
    /// How many clusters.
    pub clusters: u8,
    /// How many nodes each cluster starts with.
    pub nodes: u8,
    /// How many locations (values of the label `topology.kubernetes.io/region`) the nodes of a cluster are spread over.
    pub locations: u8,
    /// How the nodes' networks hang together.
    pub underlay: Underlay,
    /// Address families.
    pub family: Family,
    /// How the clusters learn of each other's pods and services.
    pub interconnect: Interconnect,
    /// The agents' `--mesh-granularity`.
    pub mesh_granularity: String,
    /// More arguments for every agent.
    pub agent_args: Vec<String>,
    /// Whether each cluster gets DNS, and is ready only when it answers.
    pub dns: bool,
    /// Whether each cluster gets a controller that mirrors and imports Services of the others.
    pub services: bool,
    /// Whether ServiceImports have addresses of [`clusterset_cidrs`](Self::clusterset_cidrs), instead of those of
    /// derived Services.
    pub clusterset_cidr: bool,
}

/// Why a [`Plan`] cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The name would not fit into names of namespaces.
    #[error("a lab's name is 1 to 16 lower-case letters and digits, and {0:?} is not: choose another with --name")]
    Name(String),
    /// A number is out of the address plan.
    #[error("{what} must be 1 to {most}, not {got}")]
    Count {
        /// The argument.
        what: &'static str,
        /// The largest value.
        most: u8,
        /// What was asked for.
        got: u8,
    },
    /// Nodes and reflector are not on one network.
    #[error("--interconnect bgp takes nodes that are on one network: add --underlay flat")]
    Bgp,
}

impl Plan {
    /// Checks the name and the numbers.
    ///
    /// # Errors
    /// What is wrong and what is possible.
    pub fn validate(&self) -> Result<(), PlanError> {
        validate_name(&self.name)?;
        for (what, got, most) in [
            ("--clusters", self.clusters, MAX_CLUSTERS),
            ("--nodes", self.nodes, MAX_NODES),
            ("--locations", self.locations, MAX_NODES),
        ] {
            if got == 0 || got > most {
                return Err(PlanError::Count { what, most, got });
            }
        }
        if self.interconnect != Interconnect::Wireguard && self.underlay != Underlay::Flat {
            return Err(PlanError::Bgp);
        }
        Ok(())
    }

    /// The start of the name of every network namespace of this lab.
    pub fn prefix(&self) -> String {
        prefix(&self.name)
    }

    /// The namespace of the router between the clusters (the internet in the NAT underlay).
    pub fn router_namespace(&self) -> String {
        format!("{}router", self.prefix())
    }

    /// The namespace of the route reflector.
    pub fn reflector_namespace(&self) -> String {
        format!("{}reflector", self.prefix())
    }

    /// The route reflector's addresses on the clusters' network, with its prefix length.
    pub fn reflector_addresses(&self) -> Vec<IpNet> {
        self.pick(v4(172, 18, 0, 2, 16), v6([0xfd12, 0, 0, 0, 0, 0, 0, 2], 16))
    }

    /// What the route reflector announces itself: addresses of its own, so that they can be pinged.
    pub fn reflector_networks(&self) -> Vec<IpNet> {
        self.pick(v4(1, 0, 0, 2, 32), v6([0xfd01, 0, 0, 0, 0, 0, 0, 2], 128))
    }

    /// Where ServiceImports have their addresses from, if not those of derived Services.
    pub fn clusterset_cidrs(&self) -> Vec<IpNet> {
        self.pick(v4(10, 255, 0, 0, 16), v6([0xfdff, 0, 0, 0, 0, 0, 0, 0], 112))
    }

    /// Cluster `number`, counted from 1.
    pub fn cluster(&self, number: u8) -> ClusterPlan<'_> {
        ClusterPlan { plan: self, number }
    }

    /// The clusters.
    pub fn all_clusters(&self) -> impl Iterator<Item = ClusterPlan<'_>> {
        (1..=self.clusters).map(|n| self.cluster(n))
    }

    /// `v4` and `v6` as far as the lab has the families; IPv4 first.
    fn pick<T>(&self, v4: T, v6: T) -> Vec<T> {
        match self.family {
            Family::Ipv4 => vec![v4],
            Family::Ipv6 => vec![v6],
            Family::Dual => vec![v4, v6],
        }
    }
}

/// Checks a lab's name.
///
/// # Errors
/// [`PlanError::Name`].
pub fn validate_name(name: &str) -> Result<(), PlanError> {
    let fits = (1..=16).contains(&name.len());
    if fits && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
        return Ok(());
    }
    Err(PlanError::Name(name.to_owned()))
}

/// The start of the name of every network namespace of the lab `name`. No other lab's namespaces start so, because a
/// name has no dash.
pub fn prefix(name: &str) -> String {
    format!("tl-{name}-")
}

/// One cluster of a [`Plan`].
#[derive(Debug, Clone, Copy)]
pub struct ClusterPlan<'a> {
    plan: &'a Plan,
    /// Counted from 1.
    pub number: u8,
}

impl<'a> ClusterPlan<'a> {
    /// `cluster1`.
    pub fn name(&self) -> String {
        format!("cluster{}", self.number)
    }

    /// `c1`: the start of its nodes' names, and its bridge's name.
    pub fn short(&self) -> String {
        format!("c{}", self.number)
    }

    /// The namespace that holds this cluster's bridge and its API server's address.
    pub fn network_namespace(&self) -> String {
        match self.plan.underlay {
            Underlay::Routed | Underlay::Flat => self.plan.router_namespace(),
            Underlay::Nat => format!("{}{}-router", self.plan.prefix(), self.short()),
        }
    }

    /// The bridge that its nodes are plugged into.
    pub fn bridge(&self) -> String {
        match self.plan.underlay {
            Underlay::Flat => "flat".to_owned(),
            Underlay::Routed | Underlay::Nat => self.short(),
        }
    }

    /// The gateway's addresses, with the network's prefix length.
    pub fn gateways(&self) -> Vec<IpNet> {
        match self.plan.underlay {
            Underlay::Flat => self.plan.pick(v4(172, 18, 0, 1, 16), v6([0xfd12, 0, 0, 0, 0, 0, 0, 1], 16)),
            Underlay::Routed | Underlay::Nat => self.hosts(1),
        }
    }

    /// The API server's addresses, with the network's prefix length.
    pub fn api_servers(&self) -> Vec<IpNet> {
        self.hosts(2)
    }

    /// The API server's addresses where other clusters reach it: the router's own behind NAT.
    pub fn public_api_servers(&self) -> Vec<IpNet> {
        match self.plan.underlay {
            Underlay::Nat => self.public_addresses(),
            Underlay::Routed | Underlay::Flat => self.api_servers(),
        }
    }

    /// The pods' CIDRs.
    pub fn pod_cidrs(&self) -> Vec<IpNet> {
        let k = self.number;
        self.plan.pick(v4(10, 40 + k, 0, 0, 16), v6([0xfd40, decimal(k), 0, 0, 0, 0, 0, 0], 48))
    }

    /// The services' CIDRs.
    pub fn service_cidrs(&self) -> Vec<IpNet> {
        let k = self.number;
        self.plan.pick(v4(10, 100 + k, 0, 0, 16), v6([0xfd64, decimal(k), 0, 0, 0, 0, 0, 0], 112))
    }

    /// The addresses of the cluster's DNS: the tenth of each service CIDR.
    pub fn dns_addresses(&self) -> Vec<IpAddr> {
        self.service_cidrs().iter().map(|cidr| nth(cidr, 10)).collect()
    }

    /// The addresses of the Service `kubernetes`: the first of each service CIDR.
    pub fn kubernetes_addresses(&self) -> Vec<IpAddr> {
        self.service_cidrs().iter().map(|cidr| nth(cidr, 1)).collect()
    }

    /// The agents' `--subnet`: where WireGuard interfaces get their addresses from.
    pub fn wireguard_cidrs(&self) -> Vec<IpNet> {
        let k = self.number;
        self.plan.pick(v4(10, 160 + k, 0, 0, 16), v6([0xfda0, decimal(k), 0, 0, 0, 0, 0, 0], 64))
    }

    /// The addresses of this cluster's router on the internet between them, with the prefix length (NAT underlay).
    pub fn public_addresses(&self) -> Vec<IpNet> {
        let k = self.number;
        self.plan.pick(v4(192, 0, 2, k, 24), v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, decimal(k)], 64))
    }

    /// Node `number` of this cluster, counted from 1.
    pub fn node(&self, number: u8) -> NodePlan<'a> {
        NodePlan { cluster: *self, number }
    }

    /// The nodes that the cluster starts with.
    pub fn all_nodes(&self) -> impl Iterator<Item = NodePlan<'a>> + use<'a> {
        let cluster = *self;
        (1..=self.plan.nodes).map(move |n| cluster.node(n))
    }

    fn hosts(&self, host: u8) -> Vec<IpNet> {
        let k = self.number;
        let (short, long) = if self.plan.underlay == Underlay::Flat { (16, 16) } else { (24, 64) };
        let six = v6([0xfd12, decimal(k), 0, 0, 0, 0, 0, decimal(host)], long);
        self.plan.pick(v4(172, 18, k, host, short), six)
    }
}

/// One node of a [`ClusterPlan`].
#[derive(Debug, Clone, Copy)]
pub struct NodePlan<'a> {
    /// Its cluster.
    pub cluster: ClusterPlan<'a>,
    /// Counted from 1.
    pub number: u8,
}

impl NodePlan<'_> {
    /// `c1-n1`: the name of the Node object and the host name.
    pub fn name(&self) -> String {
        format!("{}-n{}", self.cluster.short(), self.number)
    }

    /// Its network namespace.
    pub fn namespace(&self) -> String {
        format!("{}{}", self.cluster.plan.prefix(), self.name())
    }

    /// Its addresses, with the underlay's prefix length.
    pub fn addresses(&self) -> Vec<IpNet> {
        self.cluster.hosts(10 + self.number)
    }

    /// Its pods' CIDRs.
    pub fn pod_cidrs(&self) -> Vec<IpNet> {
        let (k, i) = (self.cluster.number, self.number);
        let six = v6([0xfd40, decimal(k), 0, decimal(i), 0, 0, 0, 0], 64);
        self.cluster.plan.pick(v4(10, 40 + k, i, 0, 24), six)
    }

    /// The value of its label `topology.kubernetes.io/region`.
    pub fn location(&self) -> String {
        let plan = self.cluster.plan;
        match plan.locations {
            0 | 1 => self.cluster.name(),
            many => format!("{}-{}", self.cluster.name(), (self.number - 1) % many + 1),
        }
    }

    /// The UDP port of this node's WireGuard. Nodes behind NAT have one each, which their router passes on to them:
    /// a node listens on the port that its `force-endpoint` annotation names.
    pub fn wireguard_port(&self) -> u16 {
        match self.cluster.plan.underlay {
            Underlay::Nat => WIREGUARD_PORT + u16::from(self.number),
            Underlay::Routed | Underlay::Flat => WIREGUARD_PORT,
        }
    }
}

/// Address number `n` of a network.
fn nth(net: &IpNet, n: u8) -> IpAddr {
    match net {
        IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from_bits(net.network().to_bits() + u32::from(n))),
        IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from_bits(net.network().to_bits() + u128::from(n))),
    }
}

fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

fn v6(groups: [u16; 8], length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::from(groups), length))
}

/// The group of an IPv6 address that is written with the decimal digits of `n`: 12 becomes 0x12.
fn decimal(n: u8) -> u16 {
    let n = u16::from(n);
    ((n / 100) << 8) | ((n / 10 % 10) << 4) | (n % 10)
}

#[cfg(test)]
pub(crate) mod tests;
