//! ClusterSet IPs out of a range of our own (`--clusterset-cidr`).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};
use tombolo_proxy::ServiceKey;

/// A free address for a service: the one that follows from its name, or the next one that is free.
///
/// So a cluster that starts anew comes to nearly the same addresses. The network's first address is not given, nor is
/// the last one of an IPv4 network. None where the network is full.
pub fn allocate(network: IpNet, key: &ServiceKey, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    let bits = u32::from(network.max_prefix_len() - network.prefix_len());
    let size = 1_u128.checked_shl(bits).unwrap_or(u128::MAX);
    let reserved_at_the_end = u128::from(matches!(network, IpNet::V4(_)));
    let usable = size.saturating_sub(1 + reserved_at_the_end);
    if usable == 0 {
        return None;
    }
    let digest = Sha256::digest(key.to_string());
    let start = digest.iter().take(16).fold(0_u128, |sum, byte| (sum << 8) | u128::from(*byte)) % usable;
    // There is a free one among this many, if there is one at all.
    let tries = usable.min(taken.len() as u128 + 1);
    (0..tries).map(|step| nth(network, 1 + (start + step) % usable)).find(|address| !taken.contains(address))
}

fn nth(network: IpNet, n: u128) -> IpAddr {
    match network.network() {
        // The network has room for n, so that no bit of it is lost.
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits().wrapping_add(n as u32)).into(),
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits().wrapping_add(n)).into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_address_is_given_once_and_then_none() {
        for (network, usable) in [("10.9.0.0/28", 14), ("fd00::/124", 15), ("10.9.0.0/31", 0), ("10.9.0.1/32", 0)] {
            let network: IpNet = network.parse().unwrap();
            let mut taken = BTreeSet::new();
            for n in 0..usable {
                let address = allocate(network, &ServiceKey::new("ns", format!("s{n}")), &taken).unwrap();
                assert!(network.contains(&address) && taken.insert(address), "{address}");
            }
            assert_eq!(allocate(network, &ServiceKey::new("ns", "more"), &taken), None, "{network}");
        }
    }

    #[test]
    fn a_service_finds_its_address_again() {
        for network in ["10.9.0.0/16", "fd00::/64", "::/0"] {
            let network: IpNet = network.parse().unwrap();
            let key = ServiceKey::new("shop", "web");
            let first = allocate(network, &key, &BTreeSet::new()).unwrap();
            assert_eq!(allocate(network, &key, &BTreeSet::new()), Some(first));
            assert_ne!(allocate(network, &key, &BTreeSet::from([first])), Some(first));
        }
    }
}
