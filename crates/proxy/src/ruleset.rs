//! The part of the table that is the same whatever the services are.

use ipnet::IpNet;

use crate::model::{Family, Node};
use crate::table::{Chain, Set, Tables};

/// protocol . address . port → the chain of the service port.
pub(crate) const SERVICE_IPS: &str = "service-ips";
/// protocol . port → the chain of the service port, at this node's addresses.
pub(crate) const NODE_PORTS: &str = "node-ports";
/// address → the chain that answers its pings.
pub(crate) const PINGS: &str = "pings";
/// protocol . address . port → how to refuse it, for want of endpoints.
pub(crate) const REFUSED_IPS: &str = "refused-ips";
/// protocol . port → how to refuse it, for want of endpoints.
pub(crate) const REFUSED_NODE_PORTS: &str = "refused-node-ports";
/// All ClusterIPs.
pub(crate) const CLUSTER_IPS: &str = "cluster-ips";
/// All external and load balancer IPs.
pub(crate) const EXTERNAL_IPS: &str = "external-ips";
/// All node ports, of whichever protocol.
pub(crate) const NODE_PORT_NUMBERS: &str = "node-port-numbers";
/// Endpoints on this node.
pub(crate) const LOCAL_ENDPOINTS: &str = "local-endpoints";
/// Endpoints on this node, twice: the source and destination of a hairpin connection.
pub(crate) const HAIRPINS: &str = "hairpins";

const POD_CIDRS: &str = "pod-cidrs";
const LOCAL_POD_CIDRS: &str = "local-pod-cidrs";
const SERVICE_CIDRS: &str = "service-cidrs";
const NODE_PORT_ADDRESSES: &str = "node-port-addresses";

/// The verdict that refuses with an answer.
pub(crate) const REJECT: &str = "goto refuse";
/// The verdict that says nothing.
pub(crate) const DROP: &str = "drop";

/// The name of `set` for one family.
pub(crate) fn named(set: &str, family: Family) -> String {
    format!("{set}{}", family.digit())
}

/// The matches that lead traffic from inside the cluster past a `Local` external policy.
pub(crate) fn from_inside(family: Family) -> [String; 2] {
    let ip = family.ip();
    [format!("{ip} saddr @{}", named(POD_CIDRS, family)), "fib saddr type local".to_owned()]
}

/// The table without any service.
pub(crate) fn skeleton(node: &Node) -> Tables {
    let mut tables = Tables { name: node.table.clone(), ..Tables::default() };
    for family in Family::ALL {
        add_sets(&mut tables, node, family);
    }
    add_chains(&mut tables);
    tables
}

fn add_sets(tables: &mut Tables, node: &Node, family: Family) {
    let address = family.address_type();
    let port_map = format!("type inet_proto . {address} . inet_service : verdict;");
    let node_port_map = "type inet_proto . inet_service : verdict;";
    let cluster: Vec<IpNet> = node.cluster_pod_cidrs.iter().chain(&node.pod_cidrs).copied().collect();
    let addresses: Vec<IpNet> = node.node_port_addresses.iter().copied().map(IpNet::from).collect();
    let sets = [
        (SERVICE_IPS, Set::map(port_map.as_str())),
        (REFUSED_IPS, Set::map(port_map.as_str())),
        (NODE_PORTS, Set::map(node_port_map)),
        (REFUSED_NODE_PORTS, Set::map(node_port_map)),
        (PINGS, Set::map(format!("type {address} : verdict;"))),
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
        tables.sets.insert(named(name, family), set);
    }
}

/// Overlapping prefixes are joined: the kernel takes no interval twice.
fn cidrs(family: Family, cidrs: &[IpNet]) -> Set {
    let own: Vec<IpNet> = cidrs.iter().filter(|cidr| Family::of(cidr.addr()) == family).map(IpNet::trunc).collect();
    let mut set = Set::plain(format!("type {}; flags interval;", family.address_type()));
    set.elements = IpNet::aggregate(&own).into_iter().map(|cidr| (cidr.to_string(), None)).collect();
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
        ("masquerading", Chain::regular(both(masquerading))),
        ("refusals", Chain::regular(both(refusals))),
        (
            "refuse",
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
        format!("{} {ip} daddr vmap @{}", family.echo_request(), named(PINGS, family)),
    ]
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
        format!("{ip} daddr @{} {REJECT}", named(CLUSTER_IPS, family)),
        format!("{ip} daddr @{} drop", named(SERVICE_CIDRS, family)),
    ]
}
