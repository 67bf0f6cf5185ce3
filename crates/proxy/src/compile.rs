//! Services and endpoints to the contents of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::model::{Endpoint, Family, Node, Protocol, Refused, Service, ServiceKey, ServicePort, TrafficPolicy};
use crate::ruleset::{
    CLUSTER_IPS, DROP, EXTERNAL_IPS, HAIRPINS, LOCAL_ENDPOINTS, NODE_PORT_NUMBERS, NODE_PORTS, PINGS, REFUSED_IPS,
    REFUSED_NODE_PORTS, REJECT, SERVICE_IPS, from_inside, named, skeleton,
};
use crate::table::{Chain, Set, Tables};
use crate::udp::UdpFrontend;

/// The table, and what could not be part of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Compiled {
    /// What the table should hold.
    pub tables: Tables,
    /// What was left out; everything else is in.
    pub refused: Vec<Refused>,
}

/// What the table of `node` should hold for `services` and their `endpoints`.
///
/// When two services claim the same address and port, the first by key has it and the other's
/// claim is refused.
pub fn tables(
    services: &BTreeMap<ServiceKey, Service>,
    endpoints: &BTreeMap<ServiceKey, Vec<Endpoint>>,
    node: &Node,
) -> Compiled {
    let mut compiler = Compiler { node, tables: skeleton(node), refused: Vec::new() };
    for (key, service) in services {
        let own = endpoints.get(key).map(Vec::as_slice).unwrap_or_default();
        compiler.service(key, service, own);
    }
    Compiled { tables: compiler.tables, refused: compiler.refused }
}

struct Compiler<'a> {
    node: &'a Node,
    tables: Tables,
    refused: Vec<Refused>,
}

/// One port of one service in one family, with the endpoints that may serve it.
struct Port<'a> {
    key: &'a ServiceKey,
    service: &'a Service,
    family: Family,
    port: &'a ServicePort,
    /// Under policy `Cluster`.
    anywhere: BTreeSet<SocketAddr>,
    /// Under policy `Local`.
    here: BTreeSet<SocketAddr>,
}

/// What happens to a packet for one of a port's frontends.
struct Fate {
    /// The chain that translates it, if any.
    chain: Option<String>,
    /// What becomes of a packet that no chain translated.
    otherwise: Option<&'static str>,
    /// The endpoints that it may reach.
    endpoints: BTreeSet<SocketAddr>,
}

impl Compiler<'_> {
    fn service(&mut self, key: &ServiceKey, service: &Service, endpoints: &[Endpoint]) {
        if service.cluster_ips.is_empty() {
            return;
        }
        if ![&key.namespace, &key.name].into_iter().all(|s| is_label(s)) {
            self.refuse(key, "metadata.name", "is not a DNS label".to_owned());
            return;
        }
        for family in Family::ALL {
            self.addresses(service, family);
            let ports: Vec<Port<'_>> =
                service.ports.iter().map(|port| self.candidates(key, service, family, port, endpoints)).collect();
            for port in &ports {
                self.local_endpoints(port);
                self.internal(port);
                self.external(port);
            }
            self.ping(key, service, family, &ports);
        }
    }

    /// The sets that tell a service's addresses from all others.
    fn addresses(&mut self, service: &Service, family: Family) {
        let sets = [
            (CLUSTER_IPS, service.cluster_ips.as_slice()),
            (EXTERNAL_IPS, service.external_ips.as_slice()),
            (EXTERNAL_IPS, service.load_balancer_ips.as_slice()),
        ];
        for (set, addresses) in sets {
            for address in of_family(addresses, family) {
                self.insert(set, family, address.to_string());
            }
        }
    }

    fn candidates<'a>(
        &self,
        key: &'a ServiceKey,
        service: &'a Service,
        family: Family,
        port: &'a ServicePort,
        endpoints: &[Endpoint],
    ) -> Port<'a> {
        let behind: Vec<&Endpoint> = endpoints
            .iter()
            .filter(|endpoint| {
                Family::of(endpoint.address) == family
                    && endpoint.port_name == port.name
                    && endpoint.protocol == port.protocol
            })
            .collect();
        let here: Vec<&Endpoint> = behind.iter().copied().filter(|endpoint| self.is_here(endpoint)).collect();
        Port { key, service, family, port, anywhere: usable(&behind), here: usable(&here) }
    }

    fn is_here(&self, endpoint: &Endpoint) -> bool {
        match &endpoint.node_name {
            Some(name) => *name == self.node.name,
            None => self.node.pod_cidrs.iter().any(|cidr| cidr.contains(&endpoint.address)),
        }
    }

    fn local_endpoints(&mut self, port: &Port<'_>) {
        for endpoint in &port.here {
            let address = endpoint.ip();
            self.insert(LOCAL_ENDPOINTS, port.family, address.to_string());
            self.insert(HAIRPINS, port.family, format!("{address} . {address}"));
        }
    }

    fn internal(&mut self, port: &Port<'_>) {
        let fate = match port.service.internal_traffic_policy {
            TrafficPolicy::Cluster => self.anywhere(port),
            TrafficPolicy::Local => self.only_here(port),
        };
        for address in of_family(&port.service.cluster_ips, port.family) {
            self.frontend(port, address, "spec.clusterIPs", &fate);
        }
    }

    fn external(&mut self, port: &Port<'_>) {
        let service = port.service;
        let addresses = service.external_ips.iter().chain(&service.load_balancer_ips);
        let addresses: BTreeSet<IpAddr> =
            addresses.copied().filter(|address| Family::of(*address) == port.family).collect();
        let has_cluster_ip = of_family(&service.cluster_ips, port.family).next().is_some();
        let node_port = port.port.node_port.filter(|_| has_cluster_ip);
        if addresses.is_empty() && node_port.is_none() {
            return;
        }
        let fate = match service.external_traffic_policy {
            TrafficPolicy::Cluster => self.anywhere(port),
            TrafficPolicy::Local => self.first_here(port),
        };
        for address in addresses {
            self.frontend(port, address, "spec.externalIPs or status.loadBalancer", &fate);
        }
        if let Some(node_port) = node_port {
            self.node_port(port, node_port, &fate);
        }
    }

    /// A ping of a ClusterIP goes to any endpoint of any port.
    fn ping(&mut self, key: &ServiceKey, service: &Service, family: Family, ports: &[Port<'_>]) {
        let addresses: BTreeSet<IpAddr> = ports
            .iter()
            .flat_map(|port| match service.internal_traffic_policy {
                TrafficPolicy::Cluster => &port.anywhere,
                TrafficPolicy::Local => &port.here,
            })
            .map(SocketAddr::ip)
            .collect();
        if addresses.is_empty() {
            return;
        }
        let chain = format!("ping{}/{}/{}", family.digit(), key.namespace, key.name);
        let targets: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        let rule = match targets.as_slice() {
            [one] => format!("dnat {} to {one}", family.ip()),
            many => format!("dnat {} to {}", family.ip(), at_random("map", many)),
        };
        self.chain(chain.clone(), vec![rule]);
        for address in of_family(&service.cluster_ips, family) {
            let value = format!("goto {chain}");
            let map = named(PINGS, family);
            // A second service at the same address is refused with its ports.
            let _ = self.claim(&map, address.to_string(), value);
        }
    }

    /// Policy `Cluster`.
    fn anywhere(&mut self, port: &Port<'_>) -> Fate {
        if port.anywhere.is_empty() {
            return Fate::refused(REJECT);
        }
        Fate {
            chain: Some(self.endpoints_chain("svc", port, &port.anywhere)),
            otherwise: None,
            endpoints: port.anywhere.clone(),
        }
    }

    /// Policy `Local` for traffic inside the cluster.
    fn only_here(&mut self, port: &Port<'_>) -> Fate {
        if port.anywhere.is_empty() {
            return Fate::refused(REJECT);
        }
        if port.here.is_empty() {
            return Fate::refused(DROP);
        }
        Fate {
            chain: Some(self.endpoints_chain("loc", port, &port.here)),
            otherwise: None,
            endpoints: port.here.clone(),
        }
    }

    /// Policy `Local` for traffic from outside; what comes from inside may go anywhere.
    fn first_here(&mut self, port: &Port<'_>) -> Fate {
        let inside = self.anywhere(port);
        let Some(anywhere) = inside.chain else {
            return inside;
        };
        let mut rules: Vec<String> =
            from_inside(port.family).into_iter().map(|source| format!("{source} goto {anywhere}")).collect();
        if !port.here.is_empty() {
            let here = self.endpoints_chain("loc", port, &port.here);
            rules.push(format!("goto {here}"));
        }
        let chain = port.chain("ext");
        self.chain(chain.clone(), rules);
        Fate { chain: Some(chain), otherwise: port.here.is_empty().then_some(DROP), endpoints: inside.endpoints }
    }

    /// The chain that chooses one of `endpoints`.
    fn endpoints_chain(&mut self, kind: &str, port: &Port<'_>, endpoints: &BTreeSet<SocketAddr>) -> String {
        let name = port.chain(kind);
        if self.tables.chains.contains_key(&name) {
            return name;
        }
        let rules = match port.service.session_affinity {
            Some(timeout) => self.affine(port, endpoints, timeout),
            None => vec![port.translation(endpoints)],
        };
        self.chain(name.clone(), rules);
        name
    }

    /// A set an endpoint remembers the clients that it served. The timeout is part of the set's
    /// name, since a set's declaration can't be changed.
    fn affine(&mut self, port: &Port<'_>, endpoints: &BTreeSet<SocketAddr>, timeout: u32) -> Vec<String> {
        let ip = port.family.ip();
        let mut rules = Vec::new();
        let mut verdicts = Vec::new();
        for endpoint in endpoints {
            let address = endpoint.ip().to_string().replace(':', ".");
            let tail = format!("{address}/{}", endpoint.port());
            let chain = format!("{}/{timeout}/{tail}", port.chain("ep"));
            let set = format!("{}/{timeout}/{tail}", port.chain("aff"));
            rules.push(format!("{ip} saddr @{set} goto {chain}"));
            verdicts.push(format!("goto {chain}"));
            let one = BTreeSet::from([*endpoint]);
            let remember = format!("update @{set} {{ {ip} saddr }}");
            self.chain(chain, vec![remember, port.translation(&one)]);
            self.tables.sets.insert(
                set,
                Set::plain(format!("type {}; flags dynamic,timeout; timeout {timeout}s;", port.family.address_type())),
            );
        }
        rules.push(match verdicts.as_slice() {
            [one] => one.clone(),
            many => at_random("vmap", many),
        });
        rules
    }

    fn frontend(&mut self, port: &Port<'_>, address: IpAddr, field: &str, fate: &Fate) {
        let number = port.port.port;
        let key = format!("{} . {address} . {number}", port.port.protocol);
        let maps = [(SERVICE_IPS, fate.translated()), (REFUSED_IPS, fate.otherwise.map(ToOwned::to_owned))];
        if self.frontend_elements(port, maps, &key, field) && port.port.protocol == Protocol::Udp {
            let frontend = UdpFrontend::Address(SocketAddr::new(address, number));
            self.tables.udp.insert(frontend, fate.endpoints.clone());
        }
    }

    fn node_port(&mut self, port: &Port<'_>, number: u16, fate: &Fate) {
        let key = format!("{} . {number}", port.port.protocol);
        let maps = [(NODE_PORTS, fate.translated()), (REFUSED_NODE_PORTS, fate.otherwise.map(ToOwned::to_owned))];
        if !self.frontend_elements(port, maps, &key, "spec.ports.nodePort") {
            return;
        }
        self.insert(NODE_PORT_NUMBERS, port.family, number.to_string());
        if port.port.protocol == Protocol::Udp {
            let frontend = UdpFrontend::NodePort(port.family, number);
            self.tables.udp.insert(frontend, fate.endpoints.clone());
        }
    }

    /// Whether the frontend is this service's.
    fn frontend_elements(
        &mut self,
        port: &Port<'_>,
        maps: [(&str, Option<String>); 2],
        key: &str,
        field: &str,
    ) -> bool {
        let names = maps.each_ref().map(|(map, _)| named(map, port.family));
        let taken = names.iter().any(|map| self.tables.sets[map].elements.contains_key(key));
        if taken {
            let reason = format!("{key} is already served for another Service");
            self.refuse(port.key, field, reason);
            return false;
        }
        for (name, (_, value)) in names.iter().zip(maps) {
            if let Some(value) = value {
                let _ = self.claim(name, key.to_owned(), value);
            }
        }
        true
    }
}

impl Compiler<'_> {
    fn refuse(&mut self, key: &ServiceKey, field: &str, reason: String) {
        self.refused.push(Refused { object: format!("Service {key}"), field: field.to_owned(), reason });
    }

    fn chain(&mut self, name: String, rules: Vec<String>) {
        self.tables.chains.insert(name, Chain::regular(rules));
    }

    fn insert(&mut self, set: &str, family: Family, key: String) {
        if let Some(set) = self.tables.sets.get_mut(&named(set, family)) {
            set.elements.insert(key, None);
        }
    }

    /// Adds an element to a map unless the key is taken.
    fn claim(&mut self, map: &str, key: String, value: String) -> bool {
        let Some(map) = self.tables.sets.get_mut(map) else {
            return false;
        };
        if map.elements.contains_key(&key) {
            return false;
        }
        map.elements.insert(key, Some(value));
        true
    }
}

impl Port<'_> {
    /// The name of this port's chain (or set) of one kind.
    fn chain(&self, kind: &str) -> String {
        format!(
            "{kind}{}/{}/{}/{}/{}",
            self.family.digit(),
            self.key.namespace,
            self.key.name,
            self.port.protocol,
            self.port.port
        )
    }

    /// The rule that translates the destination to one of `endpoints`.
    fn translation(&self, endpoints: &BTreeSet<SocketAddr>) -> String {
        let ip = self.family.ip();
        let protocol = self.port.protocol;
        let targets: Vec<SocketAddr> = endpoints.iter().copied().collect();
        match targets.as_slice() {
            [one] => format!("meta l4proto {protocol} dnat {ip} to {one}"),
            many => {
                let many: Vec<String> =
                    many.iter().map(|endpoint| format!("{} . {}", endpoint.ip(), endpoint.port())).collect();
                format!("meta l4proto {protocol} dnat {ip} to {}", at_random("map", &many))
            }
        }
    }
}

impl Fate {
    fn refused(verdict: &'static str) -> Self {
        Self { chain: None, otherwise: Some(verdict), endpoints: BTreeSet::new() }
    }

    fn translated(&self) -> Option<String> {
        self.chain.as_ref().map(|chain| format!("goto {chain}"))
    }
}

/// The ready ones; while there are none, those that still serve although they are going away.
fn usable(endpoints: &[&Endpoint]) -> BTreeSet<SocketAddr> {
    let those = |choice: fn(&Endpoint) -> bool| -> BTreeSet<SocketAddr> {
        endpoints
            .iter()
            .filter(|endpoint| choice(endpoint))
            .map(|endpoint| SocketAddr::new(endpoint.address, endpoint.port))
            .collect()
    };
    let ready = those(|endpoint| endpoint.ready);
    if !ready.is_empty() {
        return ready;
    }
    those(|endpoint| endpoint.serving && endpoint.terminating)
}

fn at_random(kind: &str, choices: &[String]) -> String {
    let choices: Vec<String> = choices.iter().enumerate().map(|(i, choice)| format!("{i} : {choice}")).collect();
    format!("numgen random mod {} {kind} {{ {} }}", choices.len(), choices.join(", "))
}

fn of_family(addresses: &[IpAddr], family: Family) -> impl Iterator<Item = IpAddr> {
    addresses.iter().copied().filter(move |address| Family::of(*address) == family)
}

/// RFC 1123: what may stand in the name of a chain without escaping anything.
fn is_label(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
