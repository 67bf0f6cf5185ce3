//! Who has which ClusterSet IP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use tombolo_proxy::ServiceKey;
use tombolo_services::ips;

/// The addresses of `--clusterset-cidr`.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    networks: Vec<IpNet>,
    held: BTreeMap<ServiceKey, Vec<IpAddr>>,
    taken: BTreeSet<IpAddr>,
}

impl Pool {
    pub(crate) fn new(networks: &[IpNet]) -> Self {
        Self { networks: networks.to_vec(), ..Self::default() }
    }

    /// Whether ServiceImports have addresses of their own.
    pub(crate) fn is_used(&self) -> bool {
        !self.networks.is_empty()
    }

    /// The addresses of a service, one a network: those that it has, or else `present` ones that nobody has, or new
    /// ones. Where a network is full there is none of it.
    pub(crate) fn of(&mut self, key: &ServiceKey, present: &[IpAddr]) -> Vec<IpAddr> {
        if let Some(held) = self.held.get(key) {
            return held.clone();
        }
        let mut addresses = Vec::new();
        for network in self.networks.clone() {
            let kept = present.iter().find(|address| network.contains(*address) && !self.taken.contains(*address));
            let address = kept.copied().or_else(|| ips::allocate(network, key, &self.taken));
            self.taken.extend(address);
            addresses.extend(address);
        }
        self.held.insert(key.clone(), addresses.clone());
        addresses
    }

    /// Gives back what a service has.
    pub(crate) fn release(&mut self, key: &ServiceKey) {
        for address in self.held.remove(key).into_iter().flatten() {
            self.taken.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_service_keeps_what_stands_and_no_other_gets_it() {
        let mut pool = Pool::new(&["10.9.0.0/29".parse().unwrap()]);
        let (web, shop) = (ServiceKey::new("a", "web"), ServiceKey::new("a", "shop"));
        let five: IpAddr = "10.9.0.5".parse().unwrap();
        assert_eq!(pool.of(&web, &["192.0.2.1".parse().unwrap(), five]), [five]);
        assert_ne!(pool.of(&shop, &[five]), [five]);
        assert_eq!(pool.of(&web, &[]), [five]);
        pool.release(&web);
        pool.release(&shop);
        assert_eq!(pool.of(&shop, &[five]), [five]);
    }
}
