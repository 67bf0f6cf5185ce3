//! UDP flows that outlive their endpoint.
//!
//! Connection tracking translates a UDP flow as its first packet was, for as long as packets keep
//! coming. A client that goes on from the same port would stay with an endpoint that is gone, or
//! without any if it began before there was one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::model::Family;

/// Where clients send to: an address of a service, or a port of this node's own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UdpFrontend {
    /// An address and port of a service.
    Address(SocketAddr),
    /// A port at any of the node's addresses.
    NodePort(Family, u16),
}

impl UdpFrontend {
    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::NodePort(_, port) => *port,
        }
    }
}

/// Where the flows of a frontend may go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct UdpState {
    /// All endpoints that answer: a flow stays with one that is only not chosen any more.
    pub serving: BTreeSet<IpAddr>,
}

/// UDP flows to forget: those to `frontend` whose replies come from anything but `endpoints`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StaleFlows {
    /// Where they were sent to.
    pub frontend: UdpFrontend,
    /// Where they may go.
    pub endpoints: BTreeSet<IpAddr>,
}

impl StaleFlows {
    /// Whether a flow that was sent to `destination`, and is answered by `replier`, is one of them. `is_own` tells the
    /// node's addresses at which node ports are served.
    pub fn contains(&self, destination: SocketAddr, replier: IpAddr, is_own: impl Fn(IpAddr) -> bool) -> bool {
        let is_meant = match self.frontend {
            UdpFrontend::Address(address) => address == destination,
            UdpFrontend::NodePort(family, port) => {
                family == Family::of(destination.ip()) && port == destination.port() && is_own(destination.ip())
            }
        };
        is_meant && !self.endpoints.contains(&replier)
    }
}

/// The flows that must go where `now` follows on `before`: those to an endpoint that does not answer any more, and
/// those that began while there was none.
pub(crate) fn stale(
    before: &BTreeMap<UdpFrontend, UdpState>,
    now: &BTreeMap<UdpFrontend, UdpState>,
    frontends: impl IntoIterator<Item = UdpFrontend>,
) -> Vec<StaleFlows> {
    let none = UdpState::default();
    let frontends = frontends.into_iter().filter_map(|frontend| {
        let (old, new) = (before.get(&frontend).unwrap_or(&none), now.get(&frontend).unwrap_or(&none));
        let is_stale =
            if old.serving.is_empty() { !new.serving.is_empty() } else { !old.serving.is_subset(&new.serving) };
        is_stale.then(|| StaleFlows { frontend, endpoints: new.serving.clone() })
    });
    frontends.collect()
}

impl fmt::Display for StaleFlows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.frontend {
            UdpFrontend::Address(address) => write!(f, "udp to {address}")?,
            UdpFrontend::NodePort(family, port) => write!(f, "udp to node port {port} ({family:?})")?,
        }
        let endpoints: Vec<String> = self.endpoints.iter().map(ToString::to_string).collect();
        write!(f, " but at [{}]", endpoints.join(" "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn state(serving: &[&str]) -> UdpState {
        UdpState { serving: serving.iter().map(|ip| ip.parse().unwrap()).collect() }
    }

    #[test]
    fn flows_to_a_lost_endpoint_and_to_a_service_that_had_none_are_stale() {
        let dns = UdpFrontend::Address("10.96.0.10:53".parse().unwrap());
        let cases: &[(&[&str], &[&str], &[&str])] = &[
            (&["10.0.0.1"], &["10.0.0.1"], &[]),
            (&["10.0.0.1"], &["10.0.0.1", "10.0.0.2"], &[]),
            (&["10.0.0.1", "10.0.0.2"], &["10.0.0.1"], &["udp to 10.96.0.10:53 but at [10.0.0.1]"]),
            (&[], &["10.0.0.1"], &["udp to 10.96.0.10:53 but at [10.0.0.1]"]),
            (&["10.0.0.1"], &[], &["udp to 10.96.0.10:53 but at []"]),
        ];
        for (old, new, expected) in cases {
            let found = stale(&[(dns, state(old))].into(), &[(dns, state(new))].into(), [dns]);
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, *expected, "{old:?} to {new:?}");
        }
    }

    #[test]
    fn a_flow_is_stale_by_where_it_was_sent_and_who_answers() {
        let flows = |frontend| StaleFlows { frontend, endpoints: ["10.0.0.1".parse().unwrap()].into() };
        let is_own = |ip: IpAddr| ip == "192.0.2.1".parse::<IpAddr>().unwrap();
        let address = flows(UdpFrontend::Address("10.96.0.10:53".parse().unwrap()));
        let node_port = flows(UdpFrontend::NodePort(Family::V4, 30053));
        let cases = [
            (&address, "10.96.0.10:53", "10.0.0.2", true),
            (&address, "10.96.0.10:53", "10.0.0.1", false),
            (&address, "10.96.0.10:54", "10.0.0.2", false),
            (&node_port, "192.0.2.1:30053", "10.0.0.2", true),
            (&node_port, "192.0.2.1:30053", "10.0.0.1", false),
            // Another host's port, on its way through this node.
            (&node_port, "192.0.2.9:30053", "192.0.2.9", false),
        ];
        for (flows, destination, replier, expected) in cases {
            let found = flows.contains(destination.parse().unwrap(), replier.parse().unwrap(), is_own);
            assert_eq!(found, expected, "{flows}: {destination} {replier}");
        }
    }
}
