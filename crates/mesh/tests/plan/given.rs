//! Clusters to plan for, and plans as lines to compare.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use tombolo_mesh::claims::Liveness;
use tombolo_mesh::plan::{self, Encapsulate, Inputs, Plan, PlanError, Settings, Underlay};
use tombolo_mesh::routes::{LOCATION_TABLE, TUNNEL_TABLE};
use tombolo_mesh::{Granularity, Node, Peer};
use tombolo_net::network::{Route, Rule};
use tombolo_net::wireguard::{Key, Peer as DevicePeer};

pub const NOW: i64 = 1_780_000_000;

/// The families of a cluster's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
    Dual,
}

impl Family {
    /// Of an IPv4 and an IPv6 value those of the family.
    pub fn of<T>(self, v4: T, v6: T) -> Vec<T> {
        match self {
            Self::V4 => vec![v4],
            Self::V6 => vec![v6],
            Self::Dual => vec![v4, v6],
        }
    }

    fn nets(self, v4: &str, v6: &str) -> Vec<IpNet> {
        self.of(net(v4), net(v6))
    }
}

pub fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A ready node with one address, which is its endpoint too. The name's letter is its location and its underlay, the
/// digit its number there: `b2` is 192.168.2.2 and fd02::2, its pods are 10.41.22.0/24 and fd41:22::/64.
pub fn node(name: &str, family: Family) -> Node {
    let (location, n) = (&name[..1], &name[1..]);
    let site = location.as_bytes()[0] - b'a' + 1;
    let internal_ips = family.nets(&format!("192.168.{site}.{n}/24"), &format!("fd0{site}::{n}/64"));
    Node {
        name: name.to_owned(),
        endpoint: Some(std::net::SocketAddr::new(internal_ips[0].addr(), 51820).into()),
        key: Some(key(name)),
        internal_ips,
        last_seen: NOW,
        location: location.to_owned(),
        subnets: family.nets(&format!("10.41.{site}{n}.0/24"), &format!("fd41:{site}{n}::/64")),
        ..Node::default()
    }
}

/// A Peer without an endpoint.
pub fn peer(name: &str, nets: &[&str]) -> Peer {
    Peer {
        name: name.to_owned(),
        public_key: key(name),
        preshared_key: None,
        persistent_keepalive: None,
        endpoint: None,
        allowed_ips: nets.iter().map(|n| net(n)).collect(),
    }
}

/// A key that is the name's own.
pub fn key(name: &str) -> Key {
    let mut bytes = [0; 32];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Key(bytes)
}

/// A cluster and its surroundings.
#[derive(Debug, Clone)]
pub struct Cluster {
    pub settings: Settings,
    pub nodes: BTreeMap<String, Node>,
    pub peers: BTreeMap<String, Peer>,
    pub resolved: BTreeMap<String, IpAddr>,
    pub liveness: BTreeMap<String, Liveness>,
    pub carriers: BTreeMap<IpNet, String>,
    pub underlay: Underlay,
}

impl Cluster {
    /// Nodes as [`node`] makes them, with Kilo's defaults.
    pub fn new(family: Family, names: &[&str]) -> Self {
        Self {
            settings: Settings {
                hostname: String::new(),
                granularity: Granularity::Location,
                subnets: family.nets("10.4.0.0/16", "fd04::/64"),
                service_cidrs: family.nets("10.43.0.0/16", "fd43::/112"),
                interface: "kilo0".to_owned(),
                firewall_table: "tombolo".to_owned(),
                encapsulate: Encapsulate::CrossSubnet,
                compatibility: None,
                local: true,
                cni: true,
            },
            nodes: names.iter().map(|name| ((*name).to_owned(), node(name, family))).collect(),
            peers: BTreeMap::new(),
            resolved: BTreeMap::new(),
            liveness: BTreeMap::new(),
            carriers: BTreeMap::new(),
            underlay: Underlay { link: Some("eth0".to_owned()), mtu: 1500 },
        }
    }

    /// Two locations of two nodes.
    pub fn two_locations(family: Family) -> Self {
        Self::new(family, &["a1", "a2", "b1", "b2"])
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn full(self) -> Self {
        self.with(|c| c.settings.granularity = Granularity::Full)
    }

    pub fn peer(self, peer: Peer) -> Self {
        self.with(|c| {
            c.peers.insert(peer.name.clone(), peer);
        })
    }

    pub fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).unwrap()
    }

    pub fn try_plan(&self, hostname: &str) -> Result<Plan, PlanError> {
        plan::plan(&Inputs {
            settings: &Settings { hostname: hostname.to_owned(), ..self.settings.clone() },
            private_key: key("private"),
            nodes: &self.nodes,
            peers: &self.peers,
            resolved: &self.resolved,
            liveness: &self.liveness,
            carriers: &self.carriers,
            underlay: &self.underlay,
            now: NOW,
        })
    }

    pub fn plan(&self, hostname: &str) -> Plan {
        self.try_plan(hostname).unwrap()
    }

    /// What `hostname` is told is wrong.
    pub fn error(&self, hostname: &str) -> String {
        self.try_plan(hostname).unwrap_err().to_string()
    }
}

/// The routes as lines: `TABLE DESTINATION via GATEWAY dev LINK`, in the order of table and destination.
pub fn routes(plan: &Plan) -> Vec<String> {
    plan.network.routes.iter().map(route).collect()
}

/// Those of them that go into one table.
pub fn routes_in(plan: &Plan, table: &str) -> Vec<String> {
    routes(plan).iter().filter_map(|r| r.strip_prefix(table)).map(|r| r.trim_start().to_owned()).collect()
}

fn route(route: &Route) -> String {
    format!("{} {} {}", table(route.table), route.destination, route.target)
}

/// The rules as lines like those of ip-rule(8), IPv4 first.
pub fn rules(plan: &Plan) -> Vec<String> {
    plan.network.rules.iter().map(rule).collect()
}

fn rule(rule: &Rule) -> String {
    let mut words = vec![format!("{}:", rule.priority)];
    if rule.invert {
        words.push("not".to_owned());
    }
    words.push(if rule.ipv6 { "v6" } else { "v4" }.to_owned());
    words.extend(rule.from.map(|n| format!("from {n}")));
    words.extend(rule.to.map(|n| format!("to {n}")));
    words.extend(rule.input.as_ref().map(|link| format!("iif {link}")));
    words.extend(rule.fwmark.map(|(mark, mask)| format!("fwmark {mark:#x}/{mask:#x}")));
    words.push(table(rule.table).to_owned());
    words.join(" ")
}

fn table(number: u32) -> &'static str {
    match number {
        254 => "main",
        TUNNEL_TABLE => "tunnel",
        LOCATION_TABLE => "location",
        other => panic!("table {other}"),
    }
}

/// The device's peer with the key of `name`.
pub fn device_peer<'a>(plan: &'a Plan, name: &str) -> &'a DevicePeer {
    let device = plan.device.as_ref().unwrap();
    device.peers.iter().find(|p| p.public_key == key(name)).unwrap_or_else(|| panic!("no peer {name}"))
}

/// The device's peers as lines: `NAME ENDPOINT: ALLOWED…`.
pub fn device(plan: &Plan) -> Vec<String> {
    let line = |peer: &DevicePeer| {
        let name = str::from_utf8(&peer.public_key.0).unwrap().trim_end_matches('\0');
        let endpoint = peer.endpoint.map_or("-".to_owned(), |e| e.to_string());
        let allowed: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
        format!("{name} {endpoint}: {}", allowed.join(" "))
    };
    plan.device.iter().flat_map(|d| d.peers.iter().map(line)).collect()
}

/// The refusals as lines: `OBJECT FIELD VALUE`.
pub fn refusals(plan: &Plan) -> Vec<String> {
    plan.refusals.iter().map(|r| format!("{} {} {}", r.object, r.field, r.value)).collect()
}

/// All that a plan asks of the node, to be compared whole.
pub fn asked(plan: &Plan) -> String {
    let device = plan.device.as_ref().map(|d| {
        let peers: BTreeMap<Key, (Option<_>, Option<u16>, BTreeSet<IpNet>)> = d
            .peers
            .iter()
            .map(|p| (p.public_key, (p.endpoint, p.persistent_keepalive, p.allowed_ips.iter().copied().collect())))
            .collect();
        (d.listen_port, d.fwmark, peers)
    });
    let refusals: BTreeSet<String> = refusals(plan).into_iter().collect();
    format!(
        "{device:#?}\n{:#?}\n{}\n{:?}\n{:?}\n{refusals:?}",
        plan.network,
        plan.firewall.script(),
        plan.carriers,
        plan.probes
    )
}
