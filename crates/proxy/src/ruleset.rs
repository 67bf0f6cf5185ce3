//! The part of the table that is the same whatever the services are.

use ipnet::IpNet;

use crate::model::{Family, Node};
use crate::table::{Chain, Element, Key, Set, Tables};

/// A set's name in IPv4 and in IPv6.
pub(crate) type Names = [&'static str; 2];

/// protocol . address . port → the chain that chooses an endpoint.
pub(crate) const SERVICE_IPS: Names = ["service-ips4", "service-ips6"];
/// protocol . port → the chain that chooses an endpoint, at this node's addresses.
pub(crate) const NODE_PORTS: Names = ["node-ports4", "node-ports6"];
/// protocol . address . port . number → endpoint.
pub(crate) const ENDPOINTS: Names = ["endpoints4", "endpoints6"];
/// protocol . port . number → endpoint, at this node's addresses.
pub(crate) const NODE_PORT_ENDPOINTS: Names = ["node-port-endpoints4", "node-port-endpoints6"];
/// address → the endpoint that answers its pings.
pub(crate) const PINGS: Names = ["pings4", "pings6"];
/// protocol . address . port → the chain that lets some sources pass.
pub(crate) const FIREWALL: Names = ["firewall4", "firewall6"];
/// protocol . address . port → how to refuse it, for want of endpoints.
pub(crate) const REFUSED_IPS: Names = ["refused-ips4", "refused-ips6"];
/// protocol . port → how to refuse it, for want of endpoints.
pub(crate) const REFUSED_NODE_PORTS: Names = ["refused-node-ports4", "refused-node-ports6"];
/// All ClusterIPs.
pub(crate) const CLUSTER_IPS: Names = ["cluster-ips4", "cluster-ips6"];
/// All external and load balancer IPs.
pub(crate) const EXTERNAL_IPS: Names = ["external-ips4", "external-ips6"];
/// All node ports, of whichever protocol.
pub(crate) const NODE_PORT_NUMBERS: Names = ["node-port-numbers4", "node-port-numbers6"];
/// Endpoints on this node.
pub(crate) const LOCAL_ENDPOINTS: Names = ["local-endpoints4", "local-endpoints6"];
/// Endpoints on this node, twice: the source and destination of a hairpin connection.
pub(crate) const HAIRPINS: Names = ["hairpins4", "hairpins6"];

const POD_CIDRS: Names = ["pod-cidrs4", "pod-cidrs6"];
const LOCAL_POD_CIDRS: Names = ["local-pod-cidrs4", "local-pod-cidrs6"];
const SERVICE_CIDRS: Names = ["service-cidrs4", "service-cidrs6"];
const NODE_PORT_ADDRESSES: Names = ["node-port-addresses4", "node-port-addresses6"];

/// The number of a frontend's first endpoint on this node, where those are told from all others.
pub(crate) const HERE: u32 = 65_536;

/// The chain that refuses with an answer.
pub(crate) const REFUSE: &str = "refuse";

/// So many endpoints a frontend can have in the maps; one with more has a chain of its own.
///
/// The chains that look into the maps are made with the table: nft (1.0.6) does not add rules to maps that it finds
/// there, when their keys are declared by what they are made of.
pub(crate) const MOST: u32 = 32;

/// The chain that chooses one of so many endpoints.
pub(crate) fn pick_name(family: Family, count: u32) -> String {
    format!("pick{}/{count}", family.digit())
}

fn here_name(family: Family, count: u32) -> String {
    format!("here{}/{count}", family.digit())
}

/// A chain that keeps what comes from outside on this node, for all frontends that have as many endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Split {
    pub family: Family,
    /// Endpoints for what comes from inside the cluster.
    pub anywhere: u32,
    /// Endpoints on this node.
    pub here: u32,
}

impl Split {
    /// The chain's name.
    pub(crate) fn name(self) -> String {
        format!("local{}/{}/{}", self.family.digit(), self.anywhere, self.here)
    }

    /// The chain.
    pub(crate) fn chain(self) -> Chain {
        let all = pick_name(self.family, self.anywhere);
        let inside = from_inside(self.family).into_iter().map(|source| format!("{source} goto {all}"));
        let outside = (self.here > 0).then(|| format!("goto {}", here_name(self.family, self.here)));
        Chain::regular(inside.chain(outside).collect())
    }
}

fn add_choosers(tables: &mut Tables, family: Family) {
    for count in 1..=MOST {
        let chain = Chain::regular(pick(family, &format!("mod {count}")));
        tables.chains.insert(pick_name(family, count), chain);
        let chain = Chain::regular(pick(family, &format!("mod {count} offset {HERE}")));
        tables.chains.insert(here_name(family, count), chain);
    }
}

/// Frontends at addresses, and those at node ports: a packet is for one of them.
fn pick(family: Family, range: &str) -> Vec<String> {
    let (ip, protocols) = (family.ip(), "meta l4proto { tcp, udp, sctp }");
    vec![
        format!(
            "{protocols} dnat {ip} to meta l4proto . {ip} daddr . th dport . numgen random {range} map @{}",
            named(ENDPOINTS, family)
        ),
        format!(
            "{protocols} dnat {ip} to meta l4proto . th dport . numgen random {range} map @{}",
            named(NODE_PORT_ENDPOINTS, family)
        ),
    ]
}

/// The name of a set for one family.
pub(crate) fn named(set: Names, family: Family) -> &'static str {
    set[family.index()]
}

/// The matches that lead traffic from inside the cluster past a `Local` external policy.
pub(crate) fn from_inside(family: Family) -> [String; 2] {
    let ip = family.ip();
    [format!("{ip} saddr @{}", named(POD_CIDRS, family)), "fib saddr type local".to_owned()]
}

/// The sets that hold what is known of the node.
pub(crate) fn given_sets() -> impl Iterator<Item = &'static str> {
    [POD_CIDRS, LOCAL_POD_CIDRS, SERVICE_CIDRS, NODE_PORT_ADDRESSES].into_iter().flatten()
}

/// The table without any service.
pub(crate) fn skeleton(node: &Node) -> Tables {
    let mut tables = Tables { name: node.table.clone(), ..Tables::default() };
    for family in Family::ALL {
        add_sets(&mut tables, node, family);
        add_choosers(&mut tables, family);
    }
    add_chains(&mut tables);
    tables
}

fn add_sets(tables: &mut Tables, node: &Node, family: Family) {
    let (address, ip) = (family.address_type(), family.ip());
    let port_map = format!("type inet_proto . {address} . inet_service : verdict;");
    let node_port_map = "type inet_proto . inet_service : verdict;";
    let cluster: Vec<IpNet> = node.cluster_pod_cidrs.iter().chain(&node.pod_cidrs).copied().collect();
    let addresses: Vec<IpNet> = node.node_port_addresses.iter().copied().map(IpNet::from).collect();
    let sets = [
        (SERVICE_IPS, Set::map(port_map.as_str())),
        (REFUSED_IPS, Set::map(port_map.as_str())),
        (NODE_PORTS, Set::map(node_port_map)),
        (REFUSED_NODE_PORTS, Set::map(node_port_map)),
        // A number can be part of a key only where the key is declared by what it is made of.
        (
            ENDPOINTS,
            Set::map(format!(
                "typeof meta l4proto . {ip} daddr . th dport . numgen random mod 2 : {ip} daddr . th dport;"
            )),
        ),
        (
            NODE_PORT_ENDPOINTS,
            Set::map(format!("typeof meta l4proto . th dport . numgen random mod 2 : {ip} daddr . th dport;")),
        ),
        (FIREWALL, Set::map(port_map.as_str())),
        (PINGS, Set::map(format!("type {address} : {address};"))),
        (CLUSTER_IPS, Set::plain(format!("type {address};"))),
        (EXTERNAL_IPS, Set::plain(format!("type {address};"))),
        (NODE_PORT_NUMBERS, Set::plain("type inet_service;")),
        (LOCAL_ENDPOINTS, Set::plain(format!("type {address};"))),
        (HAIRPINS, Set::plain(format!("type {address} . {address};"))),
        (POD_CIDRS, cidrs(family, &cluster)),
        (LOCAL_POD_CIDRS, cidrs(family, &node.pod_cidrs)),
        (SERVICE_CIDRS, cidrs(family, &node.service_cidrs)),
        (NODE_PORT_ADDRESSES, cidrs(family, &addresses)),
    ];
    for (name, set) in sets {
        tables.sets.insert(named(name, family).to_owned(), set);
    }
}

/// Overlapping prefixes are joined: the kernel takes no interval twice.
fn cidrs(family: Family, cidrs: &[IpNet]) -> Set {
    let own: Vec<IpNet> = cidrs.iter().filter(|cidr| Family::of(cidr.addr()) == family).map(IpNet::trunc).collect();
    let mut set = Set::plain(format!("type {}; flags interval;", family.address_type()));
    set.elements = IpNet::aggregate(&own).into_iter().map(|cidr| (Key::Net(cidr), Element::default())).collect();
    set
}

fn add_chains(tables: &mut Tables) {
    let chains = [
        (
            "prerouting",
            Chain::base("type nat hook prerouting priority -100; policy accept;", vec!["jump services".to_owned()]),
        ),
        ("output", Chain::base("type nat hook output priority -100; policy accept;", vec!["jump services".to_owned()])),
        (
            "postrouting",
            Chain::base(
                "type nat hook postrouting priority 100; policy accept;",
                vec!["ct status dnat jump masquerading".to_owned()],
            ),
        ),
        // Before the translation: what is asked is where the packet was sent to.
        (
            "filter-prerouting",
            Chain::base(
                "type filter hook prerouting priority -110; policy accept;",
                vec!["ct state new jump firewall".to_owned()],
            ),
        ),
        (
            "filter-sent",
            Chain::base(
                "type filter hook output priority -110; policy accept;",
                vec!["ct state new jump firewall".to_owned()],
            ),
        ),
        (
            "filter-input",
            Chain::base(
                "type filter hook input priority -110; policy accept;",
                vec!["ct state new jump refusals".to_owned()],
            ),
        ),
        (
            "filter-forward",
            Chain::base(
                "type filter hook forward priority -110; policy accept;",
                vec!["ct state new jump refusals".to_owned()],
            ),
        ),
        // After the translation in the same hook: what still has a service's address has no port there.
        (
            "filter-output",
            Chain::base(
                "type filter hook output priority -90; policy accept;",
                vec!["ct state new jump refusals".to_owned()],
            ),
        ),
        ("services", Chain::regular(both(services))),
        ("firewall", Chain::regular(both(firewall))),
        ("masquerading", Chain::regular(both(masquerading))),
        ("refusals", Chain::regular(both(refusals))),
        (
            REFUSE,
            Chain::regular(vec![
                "meta l4proto tcp reject with tcp reset".to_owned(),
                "reject with icmpx port-unreachable".to_owned(),
            ]),
        ),
    ];
    for (name, chain) in chains {
        tables.chains.insert(name.to_owned(), chain);
    }
}

fn both(rules: fn(Family) -> Vec<String>) -> Vec<String> {
    Family::ALL.into_iter().flat_map(rules).collect()
}

fn services(family: Family) -> Vec<String> {
    let ip = family.ip();
    vec![
        format!("meta l4proto . {ip} daddr . th dport vmap @{}", named(SERVICE_IPS, family)),
        format!(
            "{ip} daddr @{} meta l4proto . th dport vmap @{}",
            named(NODE_PORT_ADDRESSES, family),
            named(NODE_PORTS, family)
        ),
        format!("{} dnat {ip} to {ip} daddr map @{}", family.echo_request(), named(PINGS, family)),
    ]
}

/// For the first packets of connections.
fn firewall(family: Family) -> Vec<String> {
    vec![format!("meta l4proto . {} daddr . th dport vmap @{}", family.ip(), named(FIREWALL, family))]
}

/// For connections with a translated destination: these rules see only the first packet of each.
fn masquerading(family: Family) -> Vec<String> {
    let ip = family.ip();
    vec![
        format!("{ip} saddr . {ip} daddr @{} masquerade fully-random", named(HAIRPINS, family)),
        format!("{ip} daddr @{} return", named(LOCAL_ENDPOINTS, family)),
        format!(
            "ct original {ip} daddr @{} {ip} saddr != @{} masquerade fully-random",
            named(CLUSTER_IPS, family),
            named(POD_CIDRS, family)
        ),
        format!(
            "ct original {ip} daddr @{} {ip} saddr != @{} masquerade fully-random",
            named(EXTERNAL_IPS, family),
            named(LOCAL_POD_CIDRS, family)
        ),
        format!(
            "ct original {ip} daddr @{} meta l4proto {{ tcp, udp, sctp }} ct original proto-dst @{} \
             {ip} saddr != @{} masquerade fully-random",
            named(NODE_PORT_ADDRESSES, family),
            named(NODE_PORT_NUMBERS, family),
            named(LOCAL_POD_CIDRS, family)
        ),
    ]
}

/// For the first packets of connections whose destination no service took.
fn refusals(family: Family) -> Vec<String> {
    let ip = family.ip();
    vec![
        format!("meta l4proto . {ip} daddr . th dport vmap @{}", named(REFUSED_IPS, family)),
        format!(
            "{ip} daddr @{} meta l4proto . th dport vmap @{}",
            named(NODE_PORT_ADDRESSES, family),
            named(REFUSED_NODE_PORTS, family)
        ),
        format!("{ip} daddr @{} goto {REFUSE}", named(CLUSTER_IPS, family)),
        format!("{ip} daddr @{} drop", named(SERVICE_CIDRS, family)),
    ]
}
