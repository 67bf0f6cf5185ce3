//! What those who watch a speaker get: files that are read with a reader of the tests' own and with `bgpdump`, and
//! messages at a station.
#![allow(clippy::unwrap_used)]

mod encoders;
mod files;
mod read;
mod station;
mod tables;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tombolo_bgp::Config;
use tombolo_bgp::Family;
use tombolo_bgp::config::{Neighbor, Origination};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The two addresses of a test of its own, and the port.
struct Place {
    watched: IpAddr,
    neighbor: IpAddr,
    port: u16,
}

impl Place {
    fn new() -> Self {
        let random = u32::from_ne_bytes(
            *tempfile::NamedTempFile::new().unwrap().path().as_os_str().as_encoded_bytes().last_chunk().unwrap(),
        );
        let base = 0x7f01_0000 | random & 0x003f_fffc;
        let address = |n: u32| IpAddr::from(Ipv4Addr::from_bits(base + n));
        let (watched, neighbor) = (address(1), address(2));
        let port = TcpListener::bind((watched, 0)).unwrap().local_addr().unwrap().port();
        Self { watched, neighbor, port }
    }

    /// The configuration of the one that is watched.
    fn watched(&self) -> Config {
        let neighbor = Neighbor { port: self.port, passive: true, ..neighbor() };
        config([10, 0, 0, 1], self.watched, self.neighbor, neighbor, self.port)
    }

    /// The configuration of its neighbour, with these routes.
    fn neighbor(&self, routes: &[&str]) -> Config {
        let to = Neighbor { port: self.port, local_address: Some(self.neighbor), ..neighbor() };
        let mut config = config([10, 0, 0, 2], self.neighbor, self.watched, to, self.port);
        config.routes = routes.iter().map(|route| origination(route)).collect();
        config
    }
}

fn origination(net: &str) -> (IpNet, Origination) {
    let net: IpNet = net.parse().unwrap();
    let next_hop: IpAddr = if net.addr().is_ipv4() { "10.9.9.9" } else { "fd09::9" }.parse().unwrap();
    (net, Origination { next_hop: Some(next_hop), local_pref: Some(170), med: Some(30), ..Origination::default() })
}

fn neighbor() -> Neighbor {
    Neighbor {
        remote_asn: Some(4_200_000_001),
        families: Family::ALL.to_vec(),
        connect_retry: Duration::from_secs(1),
        ..Neighbor::default()
    }
}

fn config(id: [u8; 4], own: IpAddr, other: IpAddr, neighbor: Neighbor, port: u16) -> Config {
    Config {
        asn: 4_200_000_001,
        router_id: id.into(),
        cluster_id: None,
        addresses: vec![own],
        listen: vec![SocketAddr::new(own, port)],
        neighbors: BTreeMap::from([(other, neighbor)]),
        ranges: Vec::new(),
        routes: BTreeMap::new(),
        multipath: 1,
        graceful_restart: None,
    }
}

/// Waits until `found` finds something.
fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
