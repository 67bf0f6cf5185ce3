//! The addresses of the names in endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use tokio::task::JoinSet;

/// Resolves all names at once. A name that does not resolve keeps its address of before: a resolver that is down for a
/// minute must not take the tunnel with it.
pub(crate) async fn resolve(names: BTreeSet<String>, before: BTreeMap<String, IpAddr>) -> BTreeMap<String, IpAddr> {
    let mut lookups = JoinSet::new();
    for name in names {
        lookups.spawn(async move {
            let address = tokio::net::lookup_host((name.as_str(), 0)).await.ok().and_then(prefer_ipv4);
            (name, address)
        });
    }
    let mut resolved = BTreeMap::new();
    while let Some(done) = lookups.join_next().await {
        let Ok((name, address)) = done else { continue };
        if let Some(address) = address.or_else(|| before.get(&name).copied()) {
            resolved.insert(name, address);
        }
    }
    resolved
}

/// The same answer in whatever order the resolver gives them.
fn prefer_ipv4(addresses: impl Iterator<Item = std::net::SocketAddr>) -> Option<IpAddr> {
    addresses.map(|a| a.ip()).min_by_key(|ip| (ip.is_ipv6(), *ip))
}
