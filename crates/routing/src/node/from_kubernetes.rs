//! Node objects to [`Node`]s.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;
use tombolo_api::kube_router;
use tombolo_bgp::{Community, LargeCommunity};

use super::{Node, Reflection};
use crate::Refusal;
use crate::parse::{self, AnyCommunity, Problem};
use crate::peer::{self, Lists, Names, Peer};

/// The annotations that ask for BGP.
const ASKING: [&str; 8] = [
    kube_router::PEERS,
    kube_router::PEER_IPS,
    kube_router::PEER_ASNS,
    kube_router::PEER_PORTS,
    kube_router::PEER_PASSWORDS,
    kube_router::PEER_LOCAL_IPS,
    kube_router::RR_SERVER,
    kube_router::RR_CLIENT,
];

/// Reads what the annotations, the spec and the status of a Node object say of BGP.
///
/// What can't be used counts as not given, and is returned as a refusal. Empty annotations are not given.
pub fn from_kubernetes(object: &core::Node) -> (Node, Vec<Refusal>) {
    let empty = BTreeMap::new();
    let mut reader =
        Reader { annotations: object.metadata.annotations.as_ref().unwrap_or(&empty), problems: Vec::new() };
    let (communities, large_communities) = reader.communities();
    let node = Node {
        name: object.metadata.name.clone().unwrap_or_default(),
        addresses: reader.addresses(object),
        pod_cidrs: reader.pod_cidrs(object),
        asks_for_bgp: ASKING.iter().any(|name| reader.text(name).is_some()),
        asn: reader.one(kube_router::NODE_ASN, parse::asn),
        reflection: reader.reflection(),
        peers: reader.peers(),
        prepend: reader.prepend(),
        communities,
        large_communities,
        import_reject: reader.many(kube_router::NODE_CUSTOM_IMPORT_REJECT, parse::cidr),
        listen: reader.many(kube_router::BGP_LOCAL_ADDRESSES, parse::host),
    };
    let refusals =
        reader.problems.into_iter().map(|p| Refusal::node(&node.name, &p.field, p.value, p.reason)).collect();
    (node, refusals)
}

struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.annotations.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    fn one<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(name)?;
        self.accept(name, text, parse(text))
    }

    /// Each once, in the order given.
    fn many<T: Copy + Eq + Hash>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let (mut values, mut seen) = (Vec::new(), HashSet::new());
        for part in self.text(name).into_iter().flat_map(parse::list) {
            if let Some(value) = self.accept(name, part, parse(part))
                && seen.insert(value)
            {
                values.push(value);
            }
        }
        values
    }

    fn accept<T>(&mut self, field: &str, value: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|reason| self.refuse(field, value, reason)).ok()
    }

    fn refuse(&mut self, field: &str, value: &str, reason: impl Into<String>) {
        self.problems.push(Problem::new(field, value, reason));
    }

    fn addresses(&mut self, object: &core::Node) -> Vec<IpAddr> {
        let given = object.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        let mut addresses = Vec::new();
        for kind in ["InternalIP", "ExternalIP"] {
            for address in given.iter().filter(|address| address.type_ == kind) {
                let parsed = parse::host(&address.address);
                if let Some(address) = self.accept("status.addresses", &address.address, parsed)
                    && !addresses.contains(&address)
                {
                    addresses.push(address);
                }
            }
        }
        addresses
    }

    fn pod_cidrs(&mut self, object: &core::Node) -> Vec<IpNet> {
        for name in [kube_router::POD_CIDRS, kube_router::POD_CIDR] {
            let cidrs = self.many(name, parse::cidr);
            if !cidrs.is_empty() {
                return cidrs;
            }
        }
        let Some(spec) = &object.spec else { return Vec::new() };
        let texts: Vec<&String> = match spec.pod_cidrs.as_deref().unwrap_or_default() {
            [] => spec.pod_cidr.iter().collect(),
            all => all.iter().collect(),
        };
        let mut cidrs = Vec::new();
        for text in texts.into_iter().filter(|text| !text.is_empty()) {
            if let Some(cidr) = self.accept("spec.podCIDRs", text, parse::cidr(text))
                && !cidrs.contains(&cidr)
            {
                cidrs.push(cidr);
            }
        }
        cidrs
    }

    fn reflection(&mut self) -> Reflection {
        let server = self.one(kube_router::RR_SERVER, parse::cluster_id);
        let client = self.one(kube_router::RR_CLIENT, parse::cluster_id);
        match (server, client) {
            (Some(server), None) => Reflection::Server(server),
            (Some(server), Some(client)) => {
                let reason =
                    format!("the node is a reflector, and that goes before; remove {}", kube_router::RR_SERVER);
                self.refuse(kube_router::RR_CLIENT, &client.to_string(), reason);
                Reflection::Server(server)
            }
            (None, Some(client)) => Reflection::Client(client),
            (None, None) => Reflection::None,
        }
    }

    fn peers(&mut self) -> Option<Vec<Peer>> {
        if let Some(text) = self.text(kube_router::PEERS) {
            let peers = peer::from_yaml(text, kube_router::PEERS, &mut self.problems);
            if peers.is_some() {
                return peers;
            }
        }
        let names = Names {
            ips: kube_router::PEER_IPS,
            asns: kube_router::PEER_ASNS,
            ports: kube_router::PEER_PORTS,
            passwords: kube_router::PEER_PASSWORDS,
            local_ips: kube_router::PEER_LOCAL_IPS,
        };
        let places = |name| self.text(name).map(parse::places).unwrap_or_default();
        let lists = Lists {
            ips: places(names.ips),
            asns: places(names.asns),
            ports: places(names.ports),
            passwords: places(names.passwords),
            local_ips: places(names.local_ips),
        };
        peer::from_lists(&lists, &names, &mut self.problems)
    }

    fn prepend(&mut self) -> Option<(u32, u8)> {
        let (asn, times) = (kube_router::PATH_PREPEND_AS, kube_router::PATH_PREPEND_REPEAT_N);
        let lone = match (self.text(asn), self.text(times)) {
            (None, None) => return None,
            (Some(text), None) => Some((asn, text, times)),
            (None, Some(text)) => Some((times, text, asn)),
            (Some(_), Some(_)) => None,
        };
        if let Some((field, text, missing)) = lone {
            self.refuse(field, text, format!("it has no effect by itself; write {missing}, too"));
            return None;
        }
        let asn = self.one(asn, parse::asn);
        let times = self.one(times, |text| {
            parse::number(text)
                .and_then(|n| u8::try_from(n).ok())
                .ok_or_else(|| "it is no count; write how often, a number up to 255".to_owned())
        });
        Some((asn?, times?)).filter(|(_, times)| *times > 0)
    }

    fn communities(&mut self) -> (Vec<Community>, Vec<LargeCommunity>) {
        let (mut standard, mut large) = (Vec::new(), Vec::new());
        for community in self.many(kube_router::NODE_COMMUNITIES, parse::community) {
            match community {
                AnyCommunity::Standard(community) => standard.push(community),
                AnyCommunity::Large(community) => large.push(community),
            }
        }
        (standard, large)
    }
}
