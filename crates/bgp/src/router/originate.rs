//! The own routes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Router;
use crate::config::Origination;
use crate::prefix::{Prefix as _, V4, V6};
use crate::rib::LOCAL;
use crate::rib::path::State;
use crate::update::attributes::{NextHop, flag, kind, put};

impl Router {
    /// Brings the own routes into the tables.
    pub(super) fn originate(&mut self, before: &BTreeMap<IpNet, Origination>) {
        let routes = std::mem::take(&mut self.config.routes);
        for net in before.keys().filter(|net| !routes.contains_key(net)) {
            let (v4, v6) = (V4::of_net(*net), V6::of_net(*net));
            v4.map(|prefix| self.v4.table.withdraw(prefix, LOCAL, 0, &mut self.store));
            v6.map(|prefix| self.v6.table.withdraw(prefix, LOCAL, 0, &mut self.store));
        }
        for (net, route) in routes.iter().filter(|(net, route)| before.get(net) != Some(route)) {
            let next_hop = match route.next_hop {
                None => NextHop::Own,
                Some(IpAddr::V4(address)) => NextHop::V4(address),
                Some(IpAddr::V6(address)) => NextHop::V6(address, None),
            };
            let id = self.store.intern(&own_attributes(route), next_hop, route.tag);
            let (state, store) = (State::default(), &mut self.store);
            V4::of_net(*net).map(|prefix| self.v4.table.insert(prefix, LOCAL, 0, id, state, store));
            V6::of_net(*net).map(|prefix| self.v6.table.insert(prefix, LOCAL, 0, id, state, store));
            self.store.unused(id);
        }
        self.config.routes = routes;
    }
}

fn own_attributes(route: &Origination) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, flag::TRANSITIVE, kind::ORIGIN, &[0]);
    put(&mut out, flag::TRANSITIVE, kind::AS_PATH, &[]);
    if let Some(med) = route.med {
        put(&mut out, flag::OPTIONAL, kind::MULTI_EXIT_DISC, &med.to_be_bytes());
    }
    put(&mut out, flag::TRANSITIVE, kind::LOCAL_PREF, &route.local_pref.unwrap_or(100).to_be_bytes());
    if !route.communities.is_empty() {
        let list: Vec<u8> = route.communities.iter().flat_map(|c| c.0.to_be_bytes()).collect();
        put(&mut out, flag::OPTIONAL | flag::TRANSITIVE, kind::COMMUNITIES, &list);
    }
    if !route.large_communities.is_empty() {
        let numbers = route.large_communities.iter().flat_map(|c| [c.global, c.local.0, c.local.1]);
        let list: Vec<u8> = numbers.flat_map(u32::to_be_bytes).collect();
        put(&mut out, flag::OPTIONAL | flag::TRANSITIVE, kind::LARGE_COMMUNITIES, &list);
    }
    out
}
