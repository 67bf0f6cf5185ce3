//! One Service's (or ServiceImport's) part of the table.

mod chains;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::choice::{self, Choices};
use crate::model::{Endpoint, Family, Node, Owner, Protocol, Refused, Service, ServicePort, TrafficPolicy};
use crate::ruleset::{
    CLUSTER_IPS, ENDPOINTS, EXTERNAL_IPS, FIREWALL, HAIRPINS, HERE, LOCAL_ENDPOINTS, NODE_PORT_ENDPOINTS,
    NODE_PORT_NUMBERS, NODE_PORTS, PINGS, REFUSE, REFUSED_IPS, REFUSED_NODE_PORTS, SERVICE_IPS, Split, named,
};
use crate::table::{Element, Key, Value};
use crate::udp::{UdpFrontend, UdpState};

/// What nft takes as a comment, in bytes.
const COMMENT: usize = 127;

/// A frontend, of which each is one owner's only.
pub(crate) type Front = (Family, Key);

/// What one owner adds to the table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Fragment {
    /// What it has for each frontend that it claims.
    pub claims: BTreeMap<Front, Claim>,
    /// Elements that others may add, too: they are counted.
    pub shared: BTreeSet<(&'static str, Key)>,
    /// Chains that others may need, too: they are counted.
    pub splits: BTreeSet<Split>,
    /// Chains of its own.
    pub chains: BTreeMap<String, Vec<String>>,
    /// Sets of its own, with their declarations.
    pub sets: BTreeMap<String, String>,
    /// What was left out.
    pub refused: Vec<Refused>,
    /// What a load balancer is told.
    pub health: Option<HealthCheck>,
}

/// What a load balancer is told that asks for a Service at this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HealthCheck {
    /// The port at which it asks.
    pub port: u16,
    /// Ready endpoints on this node.
    pub local_endpoints: usize,
}

/// What an owner has for a frontend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Claim {
    /// Elements, which are in the table as long as the frontend is this owner's.
    pub elements: Vec<(&'static str, Key, Element)>,
    /// For UDP, where its flows go.
    pub udp: Option<(UdpFrontend, UdpState)>,
    /// The field that the claim is from; none is not worth a word.
    pub field: Option<&'static str>,
}

/// The part of `service` in the table of `node`, with these `endpoints`.
pub(crate) fn compile(owner: &Owner, service: &Service, endpoints: &[&Endpoint], node: &Node) -> Fragment {
    let key = owner.key();
    let mut compiler = Compiler { owner, service, node, fragment: Fragment::default() };
    if service.cluster_ips.is_empty() {
        return compiler.fragment;
    }
    if ![&key.namespace, &key.name].into_iter().all(|s| is_label(s)) {
        compiler.refuse("metadata.name", "is not a DNS label".to_owned());
        return compiler.fragment;
    }
    for family in Family::ALL {
        compiler.family(family, endpoints);
    }
    compiler.health(endpoints);
    compiler.fragment
}

struct Compiler<'a> {
    owner: &'a Owner,
    service: &'a Service,
    node: &'a Node,
    fragment: Fragment,
}

/// One port of the service in one family, with the endpoints that may serve it.
struct Port<'a> {
    family: Family,
    port: &'a ServicePort,
    /// Under policy `Cluster`.
    anywhere: Choices,
    /// Under policy `Local`.
    here: Choices,
    /// All that answer, used or not.
    serving: BTreeSet<IpAddr>,
}

/// What happens to a packet for one of a port's frontends.
#[derive(Clone, PartialEq, Eq)]
struct Fate {
    /// The chain that translates it, if any.
    chain: Option<Arc<str>>,
    /// What the chain chooses from, where it looks that up: everywhere, and on this node.
    slots: (Vec<SocketAddr>, Vec<SocketAddr>),
    /// What becomes of a packet that no chain translated.
    otherwise: Option<Value>,
}

impl Compiler<'_> {
    fn family(&mut self, family: Family, endpoints: &[&Endpoint]) {
        let service = self.service;
        self.addresses(family);
        let ports: Vec<Port<'_>> = service.ports.iter().map(|port| self.candidates(family, port, endpoints)).collect();
        for port in &ports {
            self.local_endpoints(port);
            self.internal(port);
            self.external(port);
        }
        self.ping(family, &ports);
    }

    /// The sets that tell a service's addresses from all others.
    fn addresses(&mut self, family: Family) {
        let sets = [
            (CLUSTER_IPS, &self.service.cluster_ips),
            (EXTERNAL_IPS, &self.service.external_ips),
            (EXTERNAL_IPS, &self.service.load_balancer_ips),
        ];
        for (set, addresses) in sets {
            let elements = of_family(addresses, family).map(|address| (named(set, family), Key::Address(address)));
            self.fragment.shared.extend(elements);
        }
    }

    fn candidates<'p>(&self, family: Family, port: &'p ServicePort, endpoints: &[&Endpoint]) -> Port<'p> {
        let behind: Vec<&Endpoint> = endpoints
            .iter()
            .copied()
            .filter(|endpoint| {
                Family::of(endpoint.address) == family
                    && endpoint.port_name == port.name
                    && endpoint.protocol == port.protocol
            })
            .collect();
        let here: Vec<&Endpoint> = behind.iter().copied().filter(|endpoint| self.is_here(endpoint)).collect();
        let serving = behind.iter().copied().filter(|endpoint| endpoint.serving || endpoint.ready).collect();
        Port {
            family,
            port,
            anywhere: choice::anywhere(&behind, self.node, self.service.clusters.as_ref()),
            here: choice::here(&here),
            serving: choice::answering(serving, self.node).iter().map(|endpoint| endpoint.address).collect(),
        }
    }

    /// A node of another cluster may have the name of this one.
    fn is_here(&self, endpoint: &Endpoint) -> bool {
        !endpoint.is_elsewhere(self.node)
            && match &endpoint.node_name {
                Some(name) => *name == self.node.name,
                None => self.node.pod_cidrs.iter().any(|cidr| cidr.contains(&endpoint.address)),
            }
    }

    fn local_endpoints(&mut self, port: &Port<'_>) {
        for endpoint in port.here.keys() {
            let address = endpoint.ip();
            self.fragment.shared.insert((named(LOCAL_ENDPOINTS, port.family), Key::Address(address)));
            self.fragment.shared.insert((named(HAIRPINS, port.family), Key::Pair(address)));
        }
    }

    fn internal(&mut self, port: &Port<'_>) {
        let service = self.service;
        let mut addresses = of_family(&service.cluster_ips, port.family).peekable();
        if addresses.peek().is_none() {
            return;
        }
        let fate = match service.internal_traffic_policy {
            TrafficPolicy::Cluster => self.anywhere(port),
            TrafficPolicy::Local => self.only_here(port),
        };
        let field = match self.owner {
            Owner::Service(_) => "spec.clusterIPs",
            Owner::Import(_) => "spec.ips",
        };
        for address in addresses {
            self.frontend(port, address, field, &fate, None);
        }
    }

    fn external(&mut self, port: &Port<'_>) {
        let service = self.service;
        let has_cluster_ip = of_family(&service.cluster_ips, port.family).next().is_some();
        let node_port = port.port.node_port.filter(|_| has_cluster_ip);
        let (external, balanced) = (&service.external_ips, &service.load_balancer_ips);
        let is_idle = [external, balanced].into_iter().all(|ips| of_family(ips, port.family).next().is_none());
        if is_idle && node_port.is_none() {
            return;
        }
        let fate = match service.external_traffic_policy {
            TrafficPolicy::Cluster => self.anywhere(port),
            TrafficPolicy::Local => self.first_here(port),
        };
        // The load balancer's first: its ranges hold where the same address is an external IP, too.
        let firewall = self.firewall(port.family);
        for address in of_family(balanced, port.family) {
            self.frontend(port, address, "status.loadBalancer.ingress", &fate, firewall.as_ref());
        }
        for address in of_family(external, port.family) {
            self.frontend(port, address, "spec.externalIPs", &fate, None);
        }
        if let Some(node_port) = node_port {
            self.node_port(port, node_port, &fate);
        }
    }

    /// A ping goes to one of the endpoints, to one of this node where there is one.
    fn ping(&mut self, family: Family, ports: &[Port<'_>]) {
        let is_local = self.service.internal_traffic_policy == TrafficPolicy::Local;
        let here = ports.iter().flat_map(|port| port.here.keys());
        let anywhere = ports.iter().filter(|_| !is_local).flat_map(|port| port.anywhere.keys());
        let used: BTreeSet<&SocketAddr> = anywhere.clone().collect();
        let Some(target) = here.filter(|e| is_local || used.contains(e)).min().or_else(|| anywhere.min()) else {
            return;
        };
        for address in of_family(&self.service.cluster_ips, family) {
            let key = Key::Address(address);
            let element = (named(PINGS, family), key, Element::value(Value::Address(target.ip())));
            // A second service at the same address is refused with its ports.
            self.fragment.claims.insert((family, key), Claim { elements: vec![element], ..Claim::default() });
        }
    }

    fn frontend(
        &mut self,
        port: &Port<'_>,
        address: IpAddr,
        field: &'static str,
        fate: &Fate,
        firewall: Option<&Arc<str>>,
    ) {
        let (family, protocol, number) = (port.family, port.port.protocol, port.port.port);
        let key = Key::Frontend(protocol, address, number);
        let mut elements = self.verdicts([named(SERVICE_IPS, family), named(REFUSED_IPS, family)], key, fate);
        if let Some(chain) = firewall {
            elements.push((named(FIREWALL, family), key, Element::value(Value::Goto(chain.clone()))));
        }
        elements.extend(fate.numbered().map(|(slot, endpoint)| {
            let key = Key::Slot(protocol, address, number, slot);
            (named(ENDPOINTS, family), key, Element::value(Value::Endpoint(endpoint)))
        }));
        let udp = (protocol == Protocol::Udp).then(|| {
            let frontend = UdpFrontend::Address(SocketAddr::new(address, number));
            (frontend, port.udp_state())
        });
        self.claim((family, key), Claim { elements, udp, field: Some(field) });
    }

    fn node_port(&mut self, port: &Port<'_>, number: u16, fate: &Fate) {
        let (family, protocol) = (port.family, port.port.protocol);
        let key = Key::NodePort(protocol, number);
        let mut elements = self.verdicts([named(NODE_PORTS, family), named(REFUSED_NODE_PORTS, family)], key, fate);
        elements.extend(fate.numbered().map(|(slot, endpoint)| {
            let key = Key::NodePortSlot(protocol, number, slot);
            (named(NODE_PORT_ENDPOINTS, family), key, Element::value(Value::Endpoint(endpoint)))
        }));
        self.fragment.shared.insert((named(NODE_PORT_NUMBERS, family), Key::Port(number)));
        let udp = (protocol == Protocol::Udp).then(|| (UdpFrontend::NodePort(family, number), port.udp_state()));
        self.claim((family, key), Claim { elements, udp, field: Some("spec.ports.nodePort") });
    }

    fn verdicts(&self, maps: [&'static str; 2], key: Key, fate: &Fate) -> Vec<(&'static str, Key, Element)> {
        let translated = fate.chain.clone().map(Value::Goto);
        let values = [translated, fate.otherwise.clone()];
        let both = maps.into_iter().zip(values);
        both.filter_map(|(map, value)| {
            let element = Element { value: Some(value?), comment: Some(self.comment()) };
            Some((map, key, element))
        })
        .collect()
    }

    /// An address that stands twice in a Service is one; of two ports with the same number and protocol the first has it.
    fn claim(&mut self, front: Front, claim: Claim) {
        match self.fragment.claims.get(&front) {
            None => drop(self.fragment.claims.insert(front, claim)),
            Some(known) if known.field == claim.field && *known != claim => {
                self.refuse("spec.ports", format!("{} stands twice; the first is used", front.1));
            }
            Some(_) => {}
        }
    }

    /// Ready endpoints on this node, each counted once however many ports it has.
    fn health(&mut self, endpoints: &[&Endpoint]) {
        let Some(port) = self.service.health_check_node_port else { return };
        let ready = endpoints.iter().filter(|endpoint| endpoint.ready && self.is_here(endpoint));
        let local: BTreeSet<IpAddr> = ready.map(|endpoint| endpoint.address).collect();
        self.fragment.health = Some(HealthCheck { port, local_endpoints: local.len() });
    }

    fn comment(&self) -> Arc<str> {
        let mut comment = match self.owner {
            Owner::Service(key) => key.to_string(),
            Owner::Import(_) => self.owner.to_string(),
        };
        // Names are ASCII.
        comment.truncate(COMMENT);
        comment.into()
    }

    fn refuse(&mut self, field: &str, reason: String) {
        self.fragment.refused.push(Refused { object: self.owner.to_string(), field: field.to_owned(), reason });
    }
}

impl Port<'_> {
    fn udp_state(&self) -> UdpState {
        UdpState { serving: self.serving.clone() }
    }
}

impl Fate {
    fn refused(verdict: Value) -> Self {
        Self { chain: None, slots: (Vec::new(), Vec::new()), otherwise: Some(verdict) }
    }

    /// The endpoints under their numbers.
    fn numbered(&self) -> impl Iterator<Item = (u32, SocketAddr)> {
        let (anywhere, here) = &self.slots;
        (0..).zip(anywhere.iter().copied()).chain((HERE..).zip(here.iter().copied()))
    }
}

fn reject() -> Value {
    Value::Goto(REFUSE.into())
}

fn of_family(addresses: &[IpAddr], family: Family) -> impl Iterator<Item = IpAddr> {
    addresses.iter().copied().filter(move |address| Family::of(*address) == family)
}

/// RFC 1123: what may stand in the name of a chain without escaping anything.
fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
