//! The addresses of the names in endpoints, looked up beside the loop: a resolver that hangs must not hold up the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use tokio::task::{JoinHandle, JoinSet};

/// What names resolve to.
#[derive(Debug, Default)]
pub(crate) struct Names {
    resolved: BTreeMap<String, IpAddr>,
    /// Those that were looked up, or are being looked up, with or without success.
    asked: BTreeSet<String>,
    running: Option<JoinHandle<BTreeMap<String, IpAddr>>>,
}

impl Names {
    /// What is known by now. A name that no longer resolves keeps its address of before: a resolver that is down for a
    /// minute must not take the tunnel with it.
    pub(crate) fn resolved(&self) -> &BTreeMap<String, IpAddr> {
        &self.resolved
    }

    /// Begins to look up names that nobody asked for yet; with `again`, all of them.
    pub(crate) fn ask(&mut self, names: &BTreeSet<&str>, again: bool) {
        let news = names.iter().any(|name| !self.asked.contains(*name));
        if self.running.is_some() || !(news || again && !names.is_empty()) {
            return;
        }
        self.asked = names.iter().map(|name| (*name).to_owned()).collect();
        self.running = Some(tokio::spawn(look_up(self.asked.clone())));
    }

    /// Waits for the lookups that run, for ever where none does. Says whether an address changed.
    pub(crate) async fn answered(&mut self) -> bool {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let found = running.await.unwrap_or_default();
        self.running = None;
        let mut resolved = self.resolved.clone();
        resolved.retain(|name, _| self.asked.contains(name));
        resolved.extend(found);
        let changed = resolved != self.resolved;
        self.resolved = resolved;
        changed
    }
}

async fn look_up(names: BTreeSet<String>) -> BTreeMap<String, IpAddr> {
    let mut lookups = JoinSet::new();
    for name in names {
        lookups.spawn(async move {
            let address = tokio::net::lookup_host((name.as_str(), 0)).await.ok().and_then(prefer_ipv4);
            (name, address)
        });
    }
    let answers = lookups.join_all().await;
    answers.into_iter().filter_map(|(name, address)| Some((name, address?))).collect()
}

/// The same answer in whatever order the resolver gives them.
fn prefer_ipv4(addresses: impl Iterator<Item = SocketAddr>) -> Option<IpAddr> {
    addresses.map(|a| a.ip()).min_by_key(|ip| (ip.is_ipv6(), *ip))
}
