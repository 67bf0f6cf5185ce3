//! UDP flows that outlive their endpoint.
//!
//! Connection tracking translates a UDP flow as its first packet was, for as long as packets keep
//! coming. A client that goes on from the same port would stay with an endpoint that is gone, or
//! without any if it began before there was one.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::model::Family;
use crate::table::Tables;

/// Where clients send to: an address of a service, or a port of this node's own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum UdpFrontend {
    Address(SocketAddr),
    NodePort(Family, u16),
}

/// Tracked UDP flows to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UdpFlow {
    /// The address family.
    pub family: Family,
    /// Their original destination; none means any address, for a node port.
    pub destination: Option<IpAddr>,
    /// Their original destination port.
    pub port: u16,
    /// The endpoint that they were translated to; none means all of them, translated or not.
    pub endpoint: Option<IpAddr>,
}

/// The flows that must go when `desired` follows on `applied`: those to an endpoint that is no
/// longer one, and those to a service that had no endpoint until now. To be deleted after the
/// ruleset is applied.
pub fn stale_udp(desired: &Tables, applied: &Tables) -> BTreeSet<UdpFlow> {
    let none = BTreeSet::new();
    let frontends: BTreeSet<&UdpFrontend> = desired.udp.keys().chain(applied.udp.keys()).collect();
    frontends
        .into_iter()
        .flat_map(|frontend| {
            let new = desired.udp.get(frontend).unwrap_or(&none);
            let old = applied.udp.get(frontend).unwrap_or(&none);
            stale_of(*frontend, new, old)
        })
        .collect()
}

impl UdpFlow {
    /// The arguments with which the program `conntrack` deletes these flows. It exits with 1 when
    /// there were none.
    pub fn conntrack_arguments(&self) -> Vec<String> {
        let family = match self.family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        let mut arguments: Vec<String> = ["-D", "-f", family, "-p", "udp"].map(Into::into).into();
        if let Some(destination) = self.destination {
            arguments.extend(["--orig-dst".to_owned(), destination.to_string()]);
        }
        arguments.extend(["--orig-port-dst".to_owned(), self.port.to_string()]);
        if let Some(endpoint) = self.endpoint {
            arguments.extend(["--reply-src".to_owned(), endpoint.to_string()]);
        }
        arguments
    }
}

impl fmt::Display for UdpFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.destination {
            Some(destination) => write!(f, "udp to {}", SocketAddr::new(destination, self.port))?,
            None => write!(f, "udp to node port {}", self.port)?,
        }
        match self.endpoint {
            Some(endpoint) => write!(f, " at {endpoint}"),
            None => Ok(()),
        }
    }
}

fn stale_of(frontend: UdpFrontend, new: &BTreeSet<SocketAddr>, old: &BTreeSet<SocketAddr>) -> Vec<UdpFlow> {
    let flow = |endpoint| match frontend {
        UdpFrontend::Address(address) => UdpFlow {
            family: Family::of(address.ip()),
            destination: Some(address.ip()),
            port: address.port(),
            endpoint,
        },
        UdpFrontend::NodePort(family, port) => UdpFlow { family, destination: None, port, endpoint },
    };
    if old.is_empty() && !new.is_empty() {
        return vec![flow(None)];
    }
    old.difference(new).map(|endpoint| flow(Some(endpoint.ip()))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn table(entries: &[(UdpFrontend, &[&str])]) -> Tables {
        let mut tables = Tables::default();
        for (frontend, endpoints) in entries {
            let endpoints = endpoints.iter().map(|e| e.parse().unwrap()).collect();
            tables.udp.insert(*frontend, endpoints);
        }
        tables
    }

    #[test]
    fn flows_to_a_lost_endpoint_and_to_a_service_that_had_none_are_stale() {
        let dns = UdpFrontend::Address("10.96.0.10:53".parse().unwrap());
        let dns6 = UdpFrontend::Address("[fd00::a]:53".parse().unwrap());
        let node_port = UdpFrontend::NodePort(Family::V4, 30053);
        let cases: &[(&[&str], &[&str], &[&str])] = &[
            (&["10.0.0.1:53"], &["10.0.0.1:53"], &[]),
            (&["10.0.0.1:53"], &["10.0.0.1:53", "10.0.0.2:53"], &[]),
            (&["10.0.0.1:53", "10.0.0.2:53"], &["10.0.0.1:53"], &["udp to 10.96.0.10:53 at 10.0.0.2"]),
            (&[], &["10.0.0.1:53"], &["udp to 10.96.0.10:53"]),
            (&["10.0.0.1:53"], &[], &["udp to 10.96.0.10:53 at 10.0.0.1"]),
        ];
        for (old, new, expected) in cases {
            let stale = stale_udp(&table(&[(dns, new)]), &table(&[(dns, old)]));
            let stale: Vec<String> = stale.iter().map(ToString::to_string).collect();
            assert_eq!(stale, *expected, "{old:?} to {new:?}");
        }
        let gone = stale_udp(&Tables::default(), &table(&[(dns6, &["[fd01::1]:5353"]), (node_port, &["10.0.0.1:53"])]));
        let gone: Vec<String> = gone.iter().map(|f| f.conntrack_arguments().join(" ")).collect();
        assert_eq!(
            gone,
            [
                "-D -f ipv4 -p udp --orig-port-dst 30053 --reply-src 10.0.0.1",
                "-D -f ipv6 -p udp --orig-dst fd00::a --orig-port-dst 53 --reply-src fd01::1",
            ]
        );
    }
}
