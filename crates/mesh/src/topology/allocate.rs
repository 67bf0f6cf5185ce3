//! WireGuard addresses of the segments: the first of a subnet for the first segment, and so on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::TopologyError;

/// For each of `segments` segments one address of each subnet.
pub(super) fn addresses(subnets: &[IpNet], segments: usize) -> Result<Vec<Vec<IpAddr>>, TopologyError> {
    let nth = |subnet: &IpNet, n: usize| {
        nth(subnet, n).ok_or(TopologyError::AddressesExhausted { subnet: *subnet, segments })
    };
    (1..=segments).map(|n| subnets.iter().map(|subnet| nth(subnet, n)).collect()).collect()
}

fn nth(subnet: &IpNet, n: usize) -> Option<IpAddr> {
    let address = match subnet.network() {
        IpAddr::V4(base) => IpAddr::V4(Ipv4Addr::from_bits(base.to_bits().checked_add(n.try_into().ok()?)?)),
        IpAddr::V6(base) => IpAddr::V6(Ipv6Addr::from_bits(base.to_bits().checked_add(n.try_into().ok()?)?)),
    };
    subnet.contains(&address).then_some(address)
}
