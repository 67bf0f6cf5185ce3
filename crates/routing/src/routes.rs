//! The routes that a node originates: its pods, and the addresses of Services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use tombolo_api::kube_router;
use tombolo_bgp::Family;
use tombolo_bgp::config::Origination;
use tombolo_proxy::{ServiceKey, TrafficPolicy};

use crate::slice::Place;
use crate::{Flags, Inputs, Node, Refusal, Service};

/// What kind an own route is ([`Origination::tag`]).
pub mod tag {
    /// A pod CIDR.
    pub const POD: u32 = 1;
    /// A cluster IP.
    pub const CLUSTER_IP: u32 = 2;
    /// An external IP.
    pub const EXTERNAL_IP: u32 = 3;
    /// A load balancer IP.
    pub const LOAD_BALANCER_IP: u32 = 4;
}

/// Of an address that is several things, the kind with the lowest tag counts.
pub(crate) fn originate(inputs: &Inputs, me: &Node, refusals: &mut Vec<Refusal>) -> BTreeMap<IpNet, Origination> {
    let mut routes = BTreeMap::new();
    let mut add = |net: IpNet, tag: u32| {
        // A route needs a next hop of its family.
        let Some(next_hop) = me.address(Family::of(net.addr())) else { return false };
        let route = Origination { next_hop: Some(next_hop), tag, ..Origination::default() };
        let kept = routes.entry(net).or_insert_with(|| route.clone());
        if tag < kept.tag {
            *kept = route;
        }
        true
    };
    for net in &me.pod_cidrs {
        if !add(*net, tag::POD) {
            let family = if net.addr().is_ipv4() { "IPv4" } else { "IPv6" };
            let reason = format!("the node has no {family} address that routes could lead to; give it one");
            refusals.push(Refusal::node(&me.name, "spec.podCIDRs", net.to_string(), reason));
        }
    }
    let ready = ready(inputs, me);
    let taken = Taken::new(inputs);
    for (key, service) in inputs.services {
        let Some(ready) = ready.get(key) else { continue };
        for kind in kinds(service, inputs.settings.flags()) {
            let here = kind.policy == TrafficPolicy::Cluster || ready.here;
            if !kind.asked || !here {
                continue;
            }
            for address in kind.addresses {
                match taken.check(*address, &kind, inputs) {
                    Ok(()) => {
                        add(IpNet::from(*address), kind.tag);
                    }
                    Err(reason) => refusals.push(Refusal {
                        object: format!("Service/{key}"),
                        field: kind.field.to_owned(),
                        value: address.to_string(),
                        reason,
                    }),
                }
            }
        }
    }
    routes
}

/// That a Service has ready endpoints, and whether on this node.
struct Ready {
    here: bool,
}

fn ready<'a>(inputs: &'a Inputs, me: &Node) -> BTreeMap<&'a ServiceKey, Ready> {
    let mut services: BTreeMap<&ServiceKey, Ready> = BTreeMap::new();
    for slice in inputs.slices.values().filter(|slice| !slice.ready.is_empty()) {
        let ready = services.entry(&slice.service).or_insert(Ready { here: false });
        ready.here |= slice.ready.iter().any(|place| match place {
            Place::Node(node) => *node == me.name,
            Place::Addresses(addresses) => addresses.iter().any(|address| me.addresses.contains(address)),
        });
    }
    services
}

/// The addresses of one kind that a Service has.
struct Kind<'a> {
    tag: u32,
    field: &'static str,
    /// How a Service keeps them to itself.
    annotation: &'static str,
    addresses: &'a [IpAddr],
    asked: bool,
    policy: TrafficPolicy,
    ranges: Option<(&'static str, &'a [IpNet])>,
}

fn kinds<'a>(service: &'a Service, flags: &'a Flags) -> [Kind<'a>; 3] {
    [
        Kind {
            tag: tag::CLUSTER_IP,
            field: "spec.clusterIPs",
            annotation: kube_router::SERVICE_ADVERTISE_CLUSTER_IP,
            addresses: &service.cluster_ips,
            asked: service.advertise_cluster_ips.unwrap_or(flags.advertise_cluster_ip),
            policy: service.internal_traffic_policy,
            ranges: None,
        },
        Kind {
            tag: tag::EXTERNAL_IP,
            field: "spec.externalIPs",
            annotation: kube_router::SERVICE_ADVERTISE_EXTERNAL_IP,
            addresses: &service.external_ips,
            asked: service.advertise_external_ips.unwrap_or(flags.advertise_external_ip),
            policy: service.external_traffic_policy,
            ranges: Some(("--service-external-ip-range", &flags.service_external_ip_range)),
        },
        Kind {
            tag: tag::LOAD_BALANCER_IP,
            field: "status.loadBalancer.ingress",
            annotation: kube_router::SERVICE_ADVERTISE_LOAD_BALANCER_IP,
            addresses: &service.load_balancer_ips,
            asked: service.advertise_load_balancer_ips.unwrap_or(flags.advertise_loadbalancer_ip),
            policy: service.external_traffic_policy,
            ranges: Some(("--loadbalancer-ip-range", &flags.loadbalancer_ip_range)),
        },
    ]
}

/// What no Service may be announced at.
struct Taken<'a> {
    nodes: BTreeMap<IpAddr, &'a str>,
    pods: BTreeSet<IpNet>,
    /// The lengths of those networks: few, so that a lookup is a few searches however many nodes there are.
    lengths: BTreeSet<u8>,
}

impl<'a> Taken<'a> {
    fn new(inputs: &'a Inputs) -> Self {
        let nodes = inputs.nodes.values();
        let pods: BTreeSet<IpNet> =
            nodes.clone().flat_map(|node| &node.pod_cidrs).chain(inputs.pod_cidrs).map(IpNet::trunc).collect();
        Self {
            nodes: nodes.flat_map(|node| node.addresses.iter().map(|a| (*a, node.name.as_str()))).collect(),
            lengths: pods.iter().map(IpNet::prefix_len).collect(),
            pods,
        }
    }

    fn check(&self, address: IpAddr, kind: &Kind, inputs: &Inputs) -> Result<(), String> {
        let next = format!("write another address, or {}: \"false\"", kind.annotation);
        if let Some(node) = self.nodes.get(&address) {
            return Err(format!("it is node {node}'s own address, whose traffic would go astray; {next}"));
        }
        let in_pods = self
            .lengths
            .iter()
            .filter_map(|length| IpNet::new(address, *length).ok())
            .any(|net| self.pods.contains(&net.trunc()));
        if in_pods {
            return Err(format!("it is in a pod CIDR of this cluster; {next}"));
        }
        let Some((flag, ranges)) = kind.ranges else { return Ok(()) };
        if inputs.service_cidrs.iter().any(|net| net.contains(&address)) {
            return Err(format!("it is in a service CIDR of this cluster, where it may become a cluster IP; {next}"));
        }
        let strict = inputs.settings.flags().strict_external_ip_validation.unwrap_or(!ranges.is_empty());
        if strict && !ranges.iter().any(|net| net.contains(&address)) {
            return Err(format!("it is in none of the networks of {flag}; write an address out of them"));
        }
        Ok(())
    }
}
