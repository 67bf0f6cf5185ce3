//! A Service, as far as its addresses are announced.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use tombolo_api::kube_router;
use tombolo_proxy::TrafficPolicy;
use tombolo_proxy::convert::service_key;

use crate::{Refusal, parse};

/// A Service with addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Service {
    /// Its cluster IPs, one a family.
    pub cluster_ips: Vec<IpAddr>,
    /// Its `externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// The addresses of the load balancer in front of it, but for those with `ipMode: Proxy`, which it keeps to itself.
    pub load_balancer_ips: Vec<IpAddr>,
    /// For the cluster IPs.
    pub internal_traffic_policy: TrafficPolicy,
    /// For the others; `service.local` makes it `Local`.
    pub external_traffic_policy: TrafficPolicy,
    /// `service.advertise.clusterip`; `None` is as the flags say.
    pub advertise_cluster_ips: Option<bool>,
    /// `service.advertise.externalip`.
    pub advertise_external_ips: Option<bool>,
    /// `service.advertise.loadbalancerip`, and `service.skiplbips`, which forbids it.
    pub advertise_load_balancer_ips: Option<bool>,
}

/// Reads a Service; `None` where it has no address of its own: headless, or an ExternalName.
///
/// What can't be used is left out, and returned as a refusal.
pub fn from_kubernetes(object: &core::Service) -> (Option<Service>, Vec<Refusal>) {
    let mut reader = Reader { object, refusals: Vec::new() };
    let service = reader.service();
    (service, reader.refusals)
}

struct Reader<'a> {
    object: &'a core::Service,
    refusals: Vec<Refusal>,
}

impl Reader<'_> {
    fn service(&mut self) -> Option<Service> {
        let spec = self.object.spec.as_ref()?;
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        if !matches!(kind, "ClusterIP" | "NodePort" | "LoadBalancer") {
            return None;
        }
        let mut cluster_ips = spec.cluster_ips.clone().unwrap_or_default();
        cluster_ips.extend(spec.cluster_ip.clone().filter(|ip| !cluster_ips.contains(ip)));
        cluster_ips.retain(|ip| !ip.is_empty() && ip != "None");
        if cluster_ips.is_empty() {
            return None;
        }
        let ingress = if kind == "LoadBalancer" { self.ingress() } else { Vec::new() };
        let empty = BTreeMap::new();
        let annotations = self.object.metadata.annotations.as_ref().unwrap_or(&empty);
        let local = annotations.get(kube_router::SERVICE_LOCAL).is_some_and(|text| text == "true");
        let skipped = annotations.contains_key(kube_router::SERVICE_SKIP_LB_IPS);
        let load_balancer = self.advertise(annotations, kube_router::SERVICE_ADVERTISE_LOAD_BALANCER_IP);
        Some(Service {
            cluster_ips: self.addresses("spec.clusterIPs", &cluster_ips),
            external_ips: self.addresses("spec.externalIPs", spec.external_ips.as_deref().unwrap_or_default()),
            load_balancer_ips: self.addresses("status.loadBalancer.ingress", &ingress),
            internal_traffic_policy: policy(spec.internal_traffic_policy.as_deref()),
            external_traffic_policy: if local {
                TrafficPolicy::Local
            } else {
                policy(spec.external_traffic_policy.as_deref())
            },
            advertise_cluster_ips: self.advertise(annotations, kube_router::SERVICE_ADVERTISE_CLUSTER_IP),
            advertise_external_ips: self.advertise(annotations, kube_router::SERVICE_ADVERTISE_EXTERNAL_IP),
            advertise_load_balancer_ips: if skipped { Some(false) } else { load_balancer },
        })
    }

    fn ingress(&self) -> Vec<String> {
        let status = self.object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let ingress = status.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
        ingress.filter(|i| i.ip_mode.as_deref() != Some("Proxy")).filter_map(|i| i.ip.clone()).collect()
    }

    /// Each once, in the order given.
    fn addresses(&mut self, field: &str, texts: &[String]) -> Vec<IpAddr> {
        let (mut addresses, mut seen) = (Vec::new(), HashSet::new());
        for text in texts.iter().filter(|text| !text.is_empty()) {
            match parse::host(text).and_then(beyond_a_host) {
                Ok(address) if seen.insert(address) => addresses.push(address),
                Ok(_) => {}
                Err(reason) => self.refuse(field, text, reason),
            }
        }
        addresses
    }

    /// What is neither true nor false is false, as in kube-router: whoever wrote it did not want the flag's word.
    fn advertise(&mut self, annotations: &BTreeMap<String, String>, name: &str) -> Option<bool> {
        let text = annotations.get(name)?;
        let value = parse::boolean(text.trim());
        if value.is_none() {
            let reason = "it is neither true nor false, and the addresses are not announced; write one of them";
            self.refuse(name, text, reason);
        }
        Some(value.unwrap_or(false))
    }

    fn refuse(&mut self, field: &str, value: &str, reason: impl Into<String>) {
        self.refusals.push(Refusal {
            object: format!("Service/{}", service_key(self.object)),
            field: field.to_owned(),
            value: value.to_owned(),
            reason: reason.into(),
        });
    }
}

/// What Services may not have as an address: packets to it never leave a host or a link.
fn beyond_a_host(address: IpAddr) -> Result<IpAddr, String> {
    let local = match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback(),
    };
    if local {
        return Err("it means another host to each, and nobody is told of it; write a routable address".to_owned());
    }
    Ok(address)
}

/// What is not known is refused by the API server, and by the proxy in words.
fn policy(text: Option<&str>) -> TrafficPolicy {
    if text == Some("Local") { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}
