//! The node's nftables table of the mesh: which packets get the node's address on their way out (what Kilo's KILO-NAT
//! chain does), and the mark on encrypted packets that come in.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use ipnet::IpNet;

/// What the table shall say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Firewall {
    /// The table's name, in the family `inet`.
    pub table: String,
    /// The WireGuard interface.
    pub interface: String,
    /// The UDP port that encrypted packets come in at.
    pub port: u16,
    /// Their mark, the same that the device puts on those that go out, so that the reverse-path filter looks up the
    /// underlay and not the tunnel for them.
    pub mark: u32,
    /// Sources whose packets are masqueraded unless they go to `known`: this node's pods, and Peers.
    pub masqueraded: BTreeSet<IpNet>,
    /// Destinations that know the way back.
    pub known: BTreeSet<IpNet>,
    /// Destinations of this location that do not (`allowed-location-ips`): all packets to them are masqueraded.
    pub foreign: BTreeSet<IpNet>,
    /// The overlay inside the location, where this node takes part in it.
    pub overlay: Option<Overlay>,
}

/// Who may send into the overlay. VXLAN itself asks nobody who they are: without this, whoever reaches the node could
/// put packets among its pods'.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overlay {
    /// The overlay's UDP port.
    pub port: u16,
    /// The addresses of the location's other nodes.
    pub members: BTreeSet<IpNet>,
}

impl Firewall {
    /// The `nft -f` script that puts the table in place of the one that is there, in one transaction.
    pub fn script(&self) -> String {
        let mut text = remove_script(&self.table);
        let mut line = |l: String| {
            text.push_str(&l);
            text.push('\n');
        };
        line(format!("table inet {} {{", self.table));
        let mut sets = vec![("masqueraded", &self.masqueraded), ("known", &self.known), ("foreign", &self.foreign)];
        sets.extend(self.overlay.as_ref().map(|overlay| ("overlay", &overlay.members)));
        for (name, nets) in sets {
            for v6 in [false, true] {
                line(set(name, v6, nets));
            }
        }
        line("\tchain prerouting {".into());
        line("\t\ttype filter hook prerouting priority raw; policy accept;".into());
        line(format!("\t\tudp dport {} fib daddr type local meta mark set {:#x}", self.port, self.mark));
        line("\t}".into());
        if let Some(Overlay { port, .. }) = self.overlay {
            line("\tchain input {".into());
            line("\t\ttype filter hook input priority filter; policy accept;".into());
            line(format!("\t\tudp dport {port} ip saddr != @overlay4 drop"));
            line(format!("\t\tudp dport {port} ip6 saddr != @overlay6 drop"));
            line("\t}".into());
        }
        line("\tchain forward {".into());
        line("\t\ttype filter hook forward priority mangle; policy accept;".into());
        line(format!("\t\toifname \"{}\" tcp flags syn tcp option maxseg size set rt mtu", self.interface));
        line("\t}".into());
        line("\tchain postrouting {".into());
        line("\t\ttype nat hook postrouting priority srcnat; policy accept;".into());
        for (family, suffix) in [("ip", "4"), ("ip6", "6")] {
            line(format!("\t\t{family} daddr @foreign{suffix} masquerade"));
            line(format!("\t\t{family} saddr @masqueraded{suffix} {family} daddr != @known{suffix} masquerade"));
        }
        line("\t}".into());
        line("}".into());
        text
    }
}

/// The script that removes the table, whether it is there or not.
pub fn remove_script(table: &str) -> String {
    format!("add table inet {table}\ndelete table inet {table}\n")
}

fn set(name: &str, v6: bool, nets: &BTreeSet<IpNet>) -> String {
    let (suffix, kind) = if v6 { ("6", "ipv6_addr") } else { ("4", "ipv4_addr") };
    let mut text = format!("\tset {name}{suffix} {{ type {kind}; flags interval; auto-merge;");
    let elements: Vec<String> =
        nets.iter().filter(|n| n.addr().is_ipv6() == v6).map(|n| n.trunc().to_string()).collect();
    if !elements.is_empty() {
        let _ = write!(text, " elements = {{ {} }};", elements.join(", "));
    }
    text.push_str(" }");
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_table_is_replaced_in_one_transaction() {
        let nets = |nets: &[&str]| nets.iter().map(|n| n.parse().unwrap()).collect();
        let firewall = Firewall {
            table: "tombolo".into(),
            interface: "kilo0".into(),
            port: 51820,
            mark: 0x544d,
            masqueraded: nets(&["10.41.0.0/24", "fd41::/64"]),
            known: nets(&["10.41.0.0/16", "10.42.0.1/32"]),
            foreign: BTreeSet::new(),
            overlay: Some(Overlay { port: 51807, members: nets(&["172.18.1.12/32"]) }),
        };
        let script = firewall.script();
        assert!(script.starts_with("add table inet tombolo\ndelete table inet tombolo\ntable inet tombolo {\n"));
        for line in [
            "set masqueraded4 { type ipv4_addr; flags interval; auto-merge; elements = { 10.41.0.0/24 }; }",
            "set masqueraded6 { type ipv6_addr; flags interval; auto-merge; elements = { fd41::/64 }; }",
            "set known4 { type ipv4_addr; flags interval; auto-merge; elements = { 10.41.0.0/16, 10.42.0.1/32 }; }",
            "set foreign6 { type ipv6_addr; flags interval; auto-merge; }",
            "set overlay4 { type ipv4_addr; flags interval; auto-merge; elements = { 172.18.1.12/32 }; }",
            "udp dport 51807 ip saddr != @overlay4 drop",
            "udp dport 51807 ip6 saddr != @overlay6 drop",
            "udp dport 51820 fib daddr type local meta mark set 0x544d",
        ] {
            assert!(script.contains(line), "{line}\n{script}");
        }
    }
}
