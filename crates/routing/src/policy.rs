//! What is taken from whom, and who is told what.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tombolo_bgp::config::{Origin, Policy, PrefixMatch, Set, Statement, Verdict};

use crate::routes::tag;
use crate::{Node, Settings};

/// Blocks that mean nothing beyond a host or a link (RFC 6890 and its registries): a route to them would take what is
/// the node's own. The blocks for documentation (192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24, 2001:db8::/32) and for
/// benchmarks (198.18.0.0/15) are not among them, as laboratories route them; nor is 64:ff9b::/96, which
/// NAT64 announces.
/// Private blocks and 100.64.0.0/10 are what clusters are made of.
pub const MARTIANS: [(IpNet, &str); 13] = [
    (v4([0, 0, 0, 0], 8), "this network"),
    (v4([127, 0, 0, 0], 8), "loopback"),
    (v4([169, 254, 0, 0], 16), "link-local"),
    (v4([192, 0, 0, 0], 24), "protocol assignments"),
    (v4([224, 0, 0, 0], 4), "multicast"),
    (v4([240, 0, 0, 0], 4), "reserved, and broadcast"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "unspecified, loopback and IPv4-compatible"),
    (v6([0, 0, 0, 0, 0, 0xffff, 0, 0], 96), "IPv4-mapped"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "discard-only"),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), "segment routing identifiers"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "site-local, which is no more"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
];

const fn v4(octets: [u8; 4], length: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, c, d), length))
}

const fn v6(segments: [u16; 8], length: u8) -> IpNet {
    let [a, b, c, d, e, f, g, h] = segments;
    IpNet::V6(Ipv6Net::new_assert(std::net::Ipv6Addr::new(a, b, c, d, e, f, g, h), length))
}

/// Whose addresses are whose.
pub(crate) struct Scope<'a> {
    pub settings: &'a Settings,
    pub me: &'a Node,
    /// Whether this node reflects routes.
    pub reflects: bool,
    /// The pods of nodes whose routes come by sessions in the cluster.
    pub reached_pods: Vec<IpNet>,
    /// The pods of the other nodes.
    pub unreached_pods: Vec<IpNet>,
    /// What else belongs to the cluster's pods.
    pub pod_cidrs: &'a [IpNet],
    pub service_cidrs: &'a [IpNet],
    /// The addresses of all nodes, this one among them.
    pub node_addresses: BTreeSet<IpAddr>,
}

impl Scope<'_> {
    /// From external peers.
    pub(crate) fn import_outside(&self) -> Policy {
        let mut statements = self.unwanted_and_wanted();
        let mut all_pods = self.reached_pods.clone();
        all_pods.extend(&self.unreached_pods);
        all_pods.extend(self.pod_cidrs);
        let own = "it is in this node's own pod CIDR, and comes from outside the cluster";
        reject_within(&mut statements, own, &self.me.pod_cidrs);
        if !self.unreached_pods.is_empty() {
            let why = "it leads to the pods of a node that no session in the cluster reaches";
            let exactly = self.unreached_pods.iter().map(|net| PrefixMatch::exactly(*net)).collect();
            statements.push(Statement { prefixes: Some(exactly), ..Statement::new(why, Verdict::Accept) });
        }
        let why = "it is in a pod CIDR of this cluster, and comes from outside; --accept-cidrs asks for it";
        reject_within(&mut statements, why, &all_pods);
        let why = "it is in a service CIDR of this cluster, and comes from outside; --accept-cidrs asks for it";
        reject_within(&mut statements, why, self.service_cidrs);
        let nodes: Vec<IpNet> = self.node_addresses.iter().copied().map(IpNet::from).collect();
        let why = "it is the address of a node of this cluster, and comes from outside; --accept-cidrs asks for it";
        reject_within(&mut statements, why, &nodes);
        reject_martians(&mut statements);
        Policy { statements, default: Verdict::Accept }
    }

    /// From nodes of the cluster.
    pub(crate) fn import_inside(&self) -> Policy {
        let mut statements = self.unwanted_and_wanted();
        reject_within(&mut statements, "it is in this node's own pod CIDR", &self.me.pod_cidrs);
        let own: Vec<IpNet> = self.me.addresses.iter().copied().map(IpNet::from).collect();
        reject_within(&mut statements, "it is this node's own address", &own);
        reject_martians(&mut statements);
        Policy { statements, default: Verdict::Accept }
    }

    /// To nodes of the cluster.
    pub(crate) fn export_inside(&self) -> Policy {
        if self.reflects {
            // Whom a reflector tells what is in RFC 4456.
            return Policy::default();
        }
        let mut statements = vec![own("the pods of this node", tag::POD, Set::default())];
        if self.settings.flags.advertise_services_to_nodes {
            statements.extend(services(&Set::default()));
        }
        Policy { statements, default: Verdict::Reject }
    }

    /// To external peers.
    pub(crate) fn export_outside(&self) -> Policy {
        let flags = &self.settings.flags;
        let set = Set {
            communities: self.me.communities.clone(),
            large_communities: self.me.large_communities.clone(),
            prepend: self.me.prepend,
            ..Set::default()
        };
        let mut statements = Vec::new();
        if flags.advertise_pod_cidr {
            statements.push(own("the pods of this node", tag::POD, set.clone()));
        }
        statements.extend(services(&set));
        if self.reflects {
            let mut reflect = |reason: &str, prefixes: Vec<PrefixMatch>| {
                if !prefixes.is_empty() {
                    statements.push(Statement {
                        prefixes: Some(prefixes),
                        origin: Some(Origin::Internal),
                        set: set.clone(),
                        ..Statement::new(reason, Verdict::Accept)
                    });
                }
            };
            if flags.advertise_pod_cidr {
                let pods = self.reached_pods.iter().map(|net| PrefixMatch::exactly(*net)).collect();
                reflect("the pods of a node that this one reflects", pods);
            }
            let ranges = [self.service_cidrs, &flags.service_external_ip_range, &flags.loadbalancer_ip_range];
            let hosts = ranges
                .into_iter()
                .flatten()
                .map(|net| PrefixMatch { min: net.max_prefix_len(), ..PrefixMatch::within(*net) });
            reflect("an address of a service that a node announces which this one reflects", hosts.collect());
        }
        Policy { statements, default: Verdict::Reject }
    }

    /// What a person forbade, what a person asked for, and the default route.
    fn unwanted_and_wanted(&self) -> Vec<Statement> {
        let flags = &self.settings.flags;
        let mut statements = Vec::new();
        let why = "the annotation kube-router.io/node.bgp.customimportreject refuses it";
        reject_within(&mut statements, why, &self.me.import_reject);
        if !flags.accept_cidrs.is_empty() {
            statements.push(Statement {
                prefixes: Some(flags.accept_cidrs.iter().map(|net| PrefixMatch::within(*net)).collect()),
                ..Statement::new("--accept-cidrs asks for it", Verdict::Accept)
            });
        }
        if !flags.accept_default_route {
            let everything = [v4([0; 4], 0), v6([0; 8], 0)].map(PrefixMatch::exactly).to_vec();
            let why = "the default route is not taken from neighbours; --accept-default-route asks for it";
            statements.push(Statement { prefixes: Some(everything), ..Statement::new(why, Verdict::Reject) });
        }
        statements
    }
}

fn own(reason: &str, tag: u32, set: Set) -> Statement {
    Statement { origin: Some(Origin::Local), tag: Some(tag), set, ..Statement::new(reason, Verdict::Accept) }
}

fn services(set: &Set) -> [Statement; 3] {
    [
        own("a cluster IP", tag::CLUSTER_IP, set.clone()),
        own("an external IP", tag::EXTERNAL_IP, set.clone()),
        own("a load balancer IP", tag::LOAD_BALANCER_IP, set.clone()),
    ]
}

/// A statement without prefixes would match all: without networks there is none.
fn reject_within(statements: &mut Vec<Statement>, reason: &str, nets: &[IpNet]) {
    if nets.is_empty() {
        return;
    }
    let mut prefixes: Vec<PrefixMatch> = nets.iter().map(|net| PrefixMatch::within(*net)).collect();
    prefixes.sort_by_key(|prefix| prefix.net);
    prefixes.dedup();
    statements.push(Statement { prefixes: Some(prefixes), ..Statement::new(reason, Verdict::Reject) });
}

fn reject_martians(statements: &mut Vec<Statement>) {
    for (net, name) in MARTIANS {
        let reason = format!("{net} is {name}, and no route to it has a meaning; --accept-cidrs asks for it");
        reject_within(statements, &reason, &[net]);
    }
}
