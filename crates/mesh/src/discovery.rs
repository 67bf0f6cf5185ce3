//! Which of a node's addresses are its internal ones and which the others reach it at, as Kilo chooses them:
//! the addresses that the node goes by first, then of the default route's link, then of all links; private before public for
//! the inside, public before private for the outside.

use std::net::IpAddr;

use ipnet::IpNet;

/// An address of this node as the host tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAddress {
    /// The link's name.
    pub link: String,
    /// Address and prefix length.
    pub net: IpNet,
}

/// What is known of the node's addresses.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// All addresses on all links.
    pub addresses: Vec<LocalAddress>,
    /// What the node goes by: its kubelet's internal addresses (Kilo looks up the node's name).
    pub hostname_ips: Vec<IpAddr>,
    /// The links of the default routes.
    pub default_links: Vec<String>,
    /// Links that are ours or the pods': not looked at.
    pub ignored_links: Vec<String>,
    /// If not empty, internal addresses come from these only (`--internal-cidr`).
    pub internal_cidrs: Vec<IpNet>,
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chosen {
    /// Internal addresses, at most one a family, IPv4 first.
    pub internal: Vec<IpNet>,
    /// The address that other locations send encrypted packets to.
    pub external: Option<IpAddr>,
}

/// Chooses. With `prefer_private` the internal address is also the external one.
pub fn choose(facts: &Facts, prefer_private: bool) -> Chosen {
    let ordered = candidates(facts);
    let within = |net: &IpNet| facts.internal_cidrs.is_empty() || facts.internal_cidrs.iter().any(|c| c.contains(net));
    let private: Vec<IpNet> = ordered.iter().filter(|net| !is_public(net.addr()) && within(net)).copied().collect();
    let internal: Vec<IpNet> = [false, true]
        .into_iter()
        .filter_map(|v6| private.iter().find(|net| net.addr().is_ipv6() == v6).copied())
        .collect();
    let inside = internal.first().map(IpNet::addr);
    let public = ordered.iter().map(IpNet::addr).find(|ip| is_public(*ip));
    let external = if prefer_private { inside.or(public) } else { public.or(inside) };
    Chosen { internal, external }
}

fn candidates(facts: &Facts) -> Vec<IpNet> {
    let usable: Vec<&LocalAddress> =
        facts.addresses.iter().filter(|a| !facts.ignored_links.contains(&a.link) && !is_local(a.net.addr())).collect();
    let of_name = usable.iter().filter(|a| facts.hostname_ips.contains(&a.net.addr()));
    let of_default = usable.iter().filter(|a| facts.default_links.contains(&a.link));
    let group = |nets: Vec<IpNet>| {
        let mut nets = nets;
        nets.sort_by_key(|net| (net.addr().is_ipv6(), net.addr().to_string()));
        nets
    };
    let mut ordered = group(of_name.map(|a| a.net).collect());
    ordered.extend(group(of_default.map(|a| a.net).collect()));
    ordered.extend(group(usable.iter().map(|a| a.net).collect()));
    ordered
}

fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_multicast(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_multicast(),
    }
}

/// Neither RFC 1918 nor RFC 4193.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_private(),
        IpAddr::V6(ip) => !ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn facts(addresses: &[(&str, &str)]) -> Facts {
        let addresses = addresses
            .iter()
            .map(|(link, net)| LocalAddress { link: (*link).into(), net: net.parse().unwrap() })
            .collect();
        Facts { addresses, default_links: vec!["eth0".into()], ignored_links: vec!["kilo0".into()], ..Facts::default() }
    }

    fn chosen(addresses: &[(&str, &str)]) -> (String, String) {
        let chosen = choose(&facts(addresses), false);
        let internal: Vec<String> = chosen.internal.iter().map(ToString::to_string).collect();
        (internal.join(" "), chosen.external.map(|ip| ip.to_string()).unwrap_or_default())
    }

    #[test]
    fn the_addresses_of_usual_nodes() {
        for (addresses, internal, external) in [
            (&[("eth0", "10.0.0.5/24")][..], "10.0.0.5/24", "10.0.0.5"),
            (&[("eth0", "203.0.113.5/24"), ("eth1", "10.0.0.5/24")], "10.0.0.5/24", "203.0.113.5"),
            (&[("eth0", "203.0.113.5/24")], "", "203.0.113.5"),
            (&[("eth0", "10.0.0.5/24"), ("eth0", "fd12::5/64")], "10.0.0.5/24 fd12::5/64", "10.0.0.5"),
            (&[("eth0", "fd12::5/64"), ("eth0", "fe80::1/64")], "fd12::5/64", "fd12::5"),
            (&[("kilo0", "10.4.0.1/16"), ("lo", "127.0.0.1/8"), ("eth1", "10.0.0.9/24")], "10.0.0.9/24", "10.0.0.9"),
        ] {
            assert_eq!(chosen(addresses), (internal.to_owned(), external.to_owned()), "{addresses:?}");
        }
    }

    #[test]
    fn the_host_names_address_comes_first_and_the_default_routes_next() {
        let mut facts = facts(&[("eth1", "10.0.0.1/24"), ("eth0", "10.9.0.1/24"), ("eth2", "10.8.0.1/24")]);
        assert_eq!(choose(&facts, false).internal, ["10.9.0.1/24".parse().unwrap()]);
        facts.hostname_ips = vec!["10.8.0.1".parse().unwrap()];
        assert_eq!(choose(&facts, false).internal, ["10.8.0.1/24".parse().unwrap()]);
        facts.internal_cidrs = vec!["10.0.0.0/24".parse().unwrap()];
        assert_eq!(choose(&facts, false).internal, ["10.0.0.1/24".parse().unwrap()]);
    }

    #[test]
    fn a_private_endpoint_can_be_preferred() {
        let facts = facts(&[("eth0", "203.0.113.5/24"), ("eth1", "10.0.0.5/24")]);
        assert_eq!(choose(&facts, true).external, Some("10.0.0.5".parse().unwrap()));
    }
}
