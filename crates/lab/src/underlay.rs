//! The networks under the clusters: what to set up in which namespace, as plain steps, and doing it.

use std::fmt::Write as _;
use std::io;
use std::process::Command;

use ipnet::IpNet;

use crate::plan::{ClusterPlan, Interconnect, NodePlan, Plan, Underlay};
use crate::{netns, run};

/// The link of a cluster's router to the internet, in the NAT underlay.
const WAN: &str = "wan";

/// One step, in one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the namespaces.
    Namespaces(Vec<String>),
    /// Write sysctls.
    Sysctl(String, &'static [(&'static str, &'static str)]),
    /// Run `ip -batch` on these lines.
    Ip(String, String),
    /// Run `nft -f` on this.
    Nft(String, String),
}

/// A router forwards, and what it only bridges is none of its firewall's business.
const ROUTER_SYSCTLS: &[(&str, &str)] = &[
    ("net.ipv4.ip_forward", "1"),
    ("net.ipv6.conf.all.forwarding", "1"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.bridge.bridge-nf-call-iptables", "0"),
    ("net.bridge.bridge-nf-call-ip6tables", "0"),
];

/// Addresses are known to be free, so nobody waits for duplicate address detection (a second for each address).
pub const HOST_SYSCTLS: &[(&str, &str)] = &[
    ("net.ipv6.conf.all.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.all.accept_ra", "0"),
    ("net.ipv6.conf.default.accept_ra", "0"),
];

/// Everything between the nodes.
pub fn between(plan: &Plan) -> Vec<Step> {
    let mut namespaces = vec![plan.router_namespace()];
    if plan.underlay == Underlay::Nat {
        namespaces.extend(plan.all_clusters().map(|c| c.network_namespace()));
    }
    let routers = namespaces.clone();
    let mut steps = vec![Step::Namespaces(namespaces)];
    steps.extend(routers.into_iter().map(|namespace| Step::Sysctl(namespace, ROUTER_SYSCTLS)));
    if plan.underlay == Underlay::Flat {
        let cluster = plan.cluster(1);
        let mut batch = bridge(&cluster.bridge(), 0);
        add_addresses(&mut batch, &cluster.bridge(), &cluster.gateways());
        steps.push(Step::Ip(plan.router_namespace(), batch));
    }
    if plan.underlay == Underlay::Nat {
        steps.push(Step::Ip(plan.router_namespace(), bridge("internet", 0)));
    }
    steps.extend(plan.all_clusters().flat_map(|cluster| cluster_network(plan, cluster)));
    if plan.interconnect != Interconnect::Wireguard {
        steps.extend(reflector(plan));
    }
    steps
}

/// The route reflector, plugged into the clusters' network.
fn reflector(plan: &Plan) -> Vec<Step> {
    let namespace = plan.reflector_namespace();
    let cluster = plan.cluster(1);
    let plug = format!(
        "link add reflector type veth peer name eth0 netns {namespace}\nlink set reflector master {} up\n",
        cluster.bridge()
    );
    let mut inside = "link set eth0 up\n".to_owned();
    add_addresses(&mut inside, "eth0", &plan.reflector_addresses());
    add_addresses(&mut inside, "lo", &plan.reflector_networks());
    vec![
        Step::Namespaces(vec![namespace.clone()]),
        Step::Sysctl(namespace.clone(), HOST_SYSCTLS),
        Step::Ip(plan.router_namespace(), plug),
        Step::Ip(namespace, inside),
    ]
}

fn cluster_network(plan: &Plan, cluster: ClusterPlan<'_>) -> Vec<Step> {
    let (namespace, link) = (cluster.network_namespace(), cluster.bridge());
    let mut batch = String::new();
    if plan.underlay != Underlay::Flat {
        batch += &bridge(&link, cluster.number);
        add_addresses(&mut batch, &link, &cluster.gateways());
    }
    add_addresses(&mut batch, &link, &cluster.api_servers());
    let mut steps = vec![Step::Ip(namespace.clone(), batch)];
    if plan.underlay == Underlay::Nat {
        let internet = plan.router_namespace();
        let port = cluster.short();
        let plug = format!(
            "link add {port} type veth peer name {WAN} netns {namespace}\nlink set {port} master internet up\n"
        );
        let mut wan = format!("link set {WAN} up\n");
        add_addresses(&mut wan, WAN, &cluster.public_addresses());
        let ruleset = format!(
            "table inet lab {{\n\
             \tchain in {{\n\t\ttype nat hook prerouting priority -100;\n\t}}\n\
             \tchain out {{\n\t\ttype nat hook postrouting priority 100;\n\t\toifname \"{WAN}\" masquerade\n\t}}\n\
             }}\n"
        );
        steps.extend([Step::Ip(internet, plug), Step::Ip(namespace.clone(), wan), Step::Nft(namespace, ruleset)]);
    }
    steps
}

/// One node, plugged into its cluster's network.
pub fn node(plan: &Plan, node: NodePlan<'_>) -> Vec<Step> {
    let cluster = node.cluster;
    let (namespace, network, port) = (node.namespace(), cluster.network_namespace(), node.name());
    let plug = format!(
        "link add {port} type veth peer name eth0 netns {namespace}\nlink set {port} master {} up\n",
        cluster.bridge()
    );
    let mut inside = "link set eth0 up\n".to_owned();
    add_addresses(&mut inside, "eth0", &node.addresses());
    for gateway in cluster.gateways() {
        let everything = if gateway.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" };
        let _ = writeln!(inside, "route add {everything} via {} dev eth0", gateway.addr());
    }
    let mut steps = vec![
        Step::Namespaces(vec![namespace.clone()]),
        Step::Sysctl(namespace.clone(), HOST_SYSCTLS),
        Step::Ip(network.clone(), plug),
        Step::Ip(namespace, inside),
    ];
    if plan.underlay == Underlay::Nat {
        steps.push(Step::Nft(network, port_forwarding(node)));
    }
    steps
}

/// Does the steps, in order.
///
/// # Errors
/// The first that fails, and why.
pub fn apply(steps: &[Step]) -> io::Result<()> {
    for step in steps {
        match step {
            Step::Namespaces(names) => netns::create(names)?,
            Step::Sysctl(namespace, settings) => netns::sysctl(namespace, settings)?,
            Step::Ip(namespace, batch) => ip(namespace, batch)?,
            Step::Nft(namespace, ruleset) => netns::nft(namespace, ruleset)?,
        }
    }
    Ok(())
}

/// Cuts the node's cable, or mends it: the router's end of it goes down or up.
///
/// # Errors
/// What `ip` said.
pub fn set_link(node: NodePlan<'_>, up: bool) -> io::Result<()> {
    let state = if up { "up" } else { "down" };
    ip(&node.cluster.network_namespace(), &format!("link set {} {state}\n", node.name()))
}

fn ip(namespace: &str, batch: &str) -> io::Result<()> {
    run::with_input(Command::new("ip").args(["-n", namespace, "-batch", "-"]), batch)
}

/// A bridge with a hardware address of its own: one that took its ports' would change it when ports come and go, and
/// everyone would have to learn it anew.
fn bridge(name: &str, number: u8) -> String {
    format!(
        "link add {name} address 02:00:00:00:12:{number:02x} type bridge stp_state 0 forward_delay 0\n\
         link set {name} up\n"
    )
}

fn add_addresses(batch: &mut String, link: &str, addresses: &[IpNet]) {
    for net in addresses {
        let _ = match net {
            IpNet::V4(net) => writeln!(batch, "address add {net} dev {link}"),
            IpNet::V6(net) => writeln!(batch, "address add {net} dev {link} nodad"),
        };
    }
}

fn port_forwarding(node: NodePlan<'_>) -> String {
    let mut rules = String::new();
    let port = node.wireguard_port();
    for net in node.addresses() {
        let (version, target) = match net.addr() {
            std::net::IpAddr::V4(addr) => ("ipv4", format!("ip to {addr}:{port}")),
            std::net::IpAddr::V6(addr) => ("ipv6", format!("ip6 to [{addr}]:{port}")),
        };
        let _ = writeln!(
            rules,
            "add rule inet lab in iifname \"{WAN}\" meta nfproto {version} udp dport {port} dnat {target}"
        );
    }
    rules
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::plan::Family;
    use crate::plan::tests::plan;

    fn batches(steps: &[Step]) -> String {
        let lines = steps.iter().map(|step| match step {
            Step::Namespaces(names) => format!("+ {}\n", names.join(" ")),
            Step::Sysctl(..) => String::new(),
            Step::Ip(namespace, batch) => format!("# {namespace}\n{batch}"),
            Step::Nft(namespace, rules) => format!("$ {namespace}\n{rules}"),
        });
        lines.collect()
    }

    #[test]
    fn a_node_of_one_family_has_no_address_of_the_other() {
        let plan = plan(Underlay::Routed, Family::Ipv6);
        assert_eq!(
            batches(&node(&plan, plan.cluster(2).node(1))),
            "+ tl-lab-c2-n1\n\
             # tl-lab-router\n\
             link add c2-n1 type veth peer name eth0 netns tl-lab-c2-n1\n\
             link set c2-n1 master c2 up\n\
             # tl-lab-c2-n1\n\
             link set eth0 up\n\
             address add fd12:2::11/64 dev eth0 nodad\n\
             route add ::/0 via fd12:2::1 dev eth0\n"
        );
    }

    #[test]
    fn behind_nat_a_port_leads_to_each_node() {
        let plan = plan(Underlay::Nat, Family::Ipv4);
        let text = batches(&node(&plan, plan.cluster(1).node(2)));
        assert!(text.ends_with(
            "$ tl-lab-c1-router\nadd rule inet lab in iifname \"wan\" meta nfproto ipv4 udp dport 51822 dnat ip to \
             172.18.1.12:51822\n"
        ));
    }

    #[test]
    fn a_flat_network_has_one_bridge_and_every_api_server_on_it() {
        let plan = plan(Underlay::Flat, Family::Dual);
        let text = batches(&between(&plan));
        assert_eq!(text.matches("type bridge").count(), 1);
        assert!(text.contains("address add 172.18.0.1/16 dev flat\n"));
        assert!(text.contains("address add 172.18.2.2/16 dev flat\n"));
        assert!(text.contains("address add fd12:2::2/16 dev flat nodad\n"));
        assert!(!text.contains("reflector"));
    }

    #[test]
    fn a_reflector_is_on_the_network_and_has_what_it_announces() {
        let mut plan = plan(Underlay::Flat, Family::Dual);
        plan.interconnect = Interconnect::Bgp(crate::plan::Reflector::Frr);
        let text = batches(&between(&plan));
        assert!(
            text.ends_with(
                "+ tl-lab-reflector\n\
                 # tl-lab-router\n\
                 link add reflector type veth peer name eth0 netns tl-lab-reflector\n\
                 link set reflector master flat up\n\
                 # tl-lab-reflector\n\
                 link set eth0 up\n\
                 address add 172.18.0.2/16 dev eth0\n\
                 address add fd12::2/16 dev eth0 nodad\n\
                 address add 1.0.0.2/32 dev lo\n\
                 address add fd01::2/128 dev lo nodad\n"
            ),
            "{text}"
        );
    }
}
