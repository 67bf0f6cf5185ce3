//! Which addresses and node ports Services have.
//!
//! Claims are made under one lock and are returned unless the write that they are for succeeds. Addresses come back
//! when their Service is gone, which the store's events say.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use rand::Rng;
use serde_json::{Value, json};

use crate::object;
use crate::status::Cause;

/// The ports of nodes that are given out.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

/// The addresses and node ports of an API server's Services.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    cidrs: Arc<[IpNet]>,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    addresses: HashMap<IpAddr, Owner>,
    ports: HashMap<(u16, String), Owner>,
}

/// A Service by namespace and name.
type Owner = (String, String);

/// What a Service was given; returned when it is dropped before [`Claim::keep`].
pub(crate) struct Claim {
    services: Services,
    addresses: Vec<IpAddr>,
    ports: Vec<(u16, String)>,
    /// What the Service had and has no more.
    given_up: (Vec<IpAddr>, Vec<(u16, String)>),
}

impl Services {
    /// Gives out addresses of these networks, the first one being the default family.
    pub(crate) fn new(cidrs: &[IpNet]) -> Self {
        Services { cidrs: cidrs.into(), taken: Arc::default() }
    }

    /// Takes note of what a stored Service has.
    pub(crate) fn note(&self, service: &Value) {
        let owner = owner_of(service);
        let mut taken = self.lock();
        for address in addresses_of(service) {
            taken.addresses.insert(address, owner.clone());
        }
        for port in ports_of(service) {
            taken.ports.insert(port, owner.clone());
        }
    }

    /// Takes back what a Service had that is gone.
    pub(crate) fn release(&self, service: &Value) {
        let owner = owner_of(service);
        let mut taken = self.lock();
        for address in addresses_of(service) {
            if taken.addresses.get(&address) == Some(&owner) {
                taken.addresses.remove(&address);
            }
        }
        for port in ports_of(service) {
            if taken.ports.get(&port) == Some(&owner) {
                taken.ports.remove(&port);
            }
        }
    }

    /// The first address of the first network: that of `default/kubernetes`.
    pub(crate) fn first_address(&self) -> Option<IpAddr> {
        self.cidrs.first().and_then(|cidr| nth(cidr, 1))
    }

    /// Gives a Service its addresses and node ports, or checks those that it asks for.
    pub(crate) fn claim(&self, old: Option<&Value>, service: &mut Value) -> Result<Claim, Vec<Cause>> {
        let mut claim = Claim {
            services: self.clone(),
            addresses: Vec::new(),
            ports: Vec::new(),
            given_up: (Vec::new(), Vec::new()),
        };
        let owner = owner_of(service);
        let mut taken = self.lock();
        let addresses = self.claim_addresses(&mut taken, old, service, &owner, &mut claim);
        let ports = match addresses {
            Ok(()) => claim_ports(&mut taken, service, &owner, &mut claim),
            Err(causes) => Err(causes),
        };
        drop(taken);
        ports?;
        if let Some(old) = old {
            let (addresses, ports) = (addresses_of(service), ports_of(service));
            claim.given_up.0 = addresses_of(old).into_iter().filter(|a| !addresses.contains(a)).collect();
            claim.given_up.1 = ports_of(old).into_iter().filter(|p| !ports.contains(p)).collect();
        }
        Ok(claim)
    }

    fn claim_addresses(
        &self,
        taken: &mut Taken,
        old: Option<&Value>,
        service: &mut Value,
        owner: &Owner,
        claim: &mut Claim,
    ) -> Result<(), Vec<Cause>> {
        let spec = &service["spec"];
        if spec["type"] == "ExternalName" {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
                if let Some(spec) = object::field_mut(service, "spec") {
                    spec.shift_remove(field);
                }
            }
            return Ok(());
        }
        let wanted = wanted_addresses(spec)?;
        check_unchanged(old, &wanted)?;
        let families = self.families(spec, &wanted)?;
        if wanted.first().is_some_and(|ip| ip == "None") {
            set_spec(service, &["None".to_owned()], &families);
            return Ok(());
        }
        let mut addresses = Vec::new();
        for (i, family) in families.iter().enumerate() {
            let Some(cidr) = self.cidrs.iter().find(|cidr| family_of(cidr.addr()) == *family) else { continue };
            let address = match wanted.get(i).filter(|w| !w.is_empty()) {
                Some(text) => explicit(taken, cidr, text, owner, i)?,
                None => free(taken, cidr).ok_or_else(|| {
                    let detail = format!("failed to allocate IP {i}: range is full");
                    vec![Cause::new("InternalError", "spec.clusterIPs", detail)]
                })?,
            };
            if taken.addresses.insert(address, owner.clone()).is_none() {
                claim.addresses.push(address);
            }
            addresses.push(address.to_string());
        }
        set_spec(service, &addresses, &families);
        Ok(())
    }

    /// The families of a Service, in order, by what it asks for and what the networks have.
    fn families(&self, spec: &Value, wanted: &[String]) -> Result<Vec<&'static str>, Vec<Cause>> {
        let served: Vec<&'static str> = self.cidrs.iter().map(|cidr| family_of(cidr.addr())).collect();
        let policy = spec["ipFamilyPolicy"].as_str();
        if !matches!(policy, None | Some("SingleStack" | "PreferDualStack" | "RequireDualStack")) {
            let supported = ["PreferDualStack", "RequireDualStack", "SingleStack"];
            return Err(vec![Cause::not_supported("spec.ipFamilyPolicy", &spec["ipFamilyPolicy"], &supported)]);
        }
        let mut families = Vec::new();
        for (i, family) in spec["ipFamilies"].as_array().into_iter().flatten().enumerate() {
            let Some(known) = ["IPv4", "IPv6"].into_iter().find(|f| family == f) else {
                return Err(vec![Cause::not_supported(format!("spec.ipFamilies[{i}]"), family, &["IPv4", "IPv6"])]);
            };
            if !served.contains(&known) {
                let detail = "not configured on this cluster";
                return Err(vec![Cause::invalid(format!("spec.ipFamilies[{i}]"), family, detail)]);
            }
            if families.contains(&known) {
                return Err(vec![Cause::duplicate(format!("spec.ipFamilies[{i}]"), family)]);
            }
            families.push(known);
        }
        for (i, address) in wanted.iter().enumerate() {
            let Ok(ip) = address.parse::<IpAddr>() else { continue };
            let family = family_of(ip);
            match families.get(i) {
                Some(known) if *known != family => {
                    let detail = format!("expected an {known} value as indicated by `spec.ipFamilies[{i}]`");
                    return Err(vec![Cause::invalid(
                        format!("spec.clusterIPs[{i}]"),
                        &address.as_str().into(),
                        detail,
                    )]);
                }
                Some(_) => {}
                None if served.contains(&family) => families.push(family),
                None => {
                    let detail = "not configured on this cluster";
                    let field = format!("spec.clusterIPs[{i}]");
                    return Err(vec![Cause::invalid(field, &address.as_str().into(), detail)]);
                }
            }
        }
        let dual = served.contains(&"IPv4") && served.contains(&"IPv6");
        if policy == Some("RequireDualStack") && !dual {
            let detail = "this cluster is not configured for dual-stack services";
            return Err(vec![Cause::invalid("spec.ipFamilyPolicy", &spec["ipFamilyPolicy"], detail)]);
        }
        if families.is_empty() {
            families.extend(served.first().copied());
        }
        let wants_two = matches!(policy, Some("PreferDualStack" | "RequireDualStack"));
        if wants_two && dual && families.len() == 1 {
            families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" });
        }
        if policy == Some("SingleStack") && families.len() > 1 {
            let detail = "may only hold up to 1 value when `ipFamilyPolicy` is SingleStack";
            return Err(vec![Cause::invalid("spec.ipFamilies", &json!(families), detail)]);
        }
        Ok(families)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// The write succeeded: what was given stays, what was given up is free again.
    pub(crate) fn keep(mut self) {
        self.addresses.clear();
        self.ports.clear();
        let (addresses, ports) = std::mem::take(&mut self.given_up);
        let mut taken = self.services.lock();
        for address in addresses {
            taken.addresses.remove(&address);
        }
        for port in ports {
            taken.ports.remove(&port);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.addresses.is_empty() && self.ports.is_empty() {
            return;
        }
        let mut taken = self.services.lock();
        for address in &self.addresses {
            taken.addresses.remove(address);
        }
        for port in &self.ports {
            taken.ports.remove(port);
        }
    }
}

/// `clusterIPs` as asked for, with `clusterIP` as its first.
fn wanted_addresses(spec: &Value) -> Result<Vec<String>, Vec<Cause>> {
    let list = spec["clusterIPs"].as_array().into_iter().flatten();
    let mut wanted: Vec<String> = list.map(|ip| ip.as_str().unwrap_or("").to_owned()).collect();
    let first = spec["clusterIP"].as_str().unwrap_or("");
    match wanted.first() {
        None if !first.is_empty() => wanted.push(first.to_owned()),
        Some(listed) if !first.is_empty() && listed != first => {
            let detail = "first value must match `clusterIP`";
            return Err(vec![Cause::invalid("spec.clusterIPs", &spec["clusterIPs"], detail)]);
        }
        _ => {}
    }
    for (i, text) in wanted.iter().enumerate() {
        if text == "None" && wanted.len() > 1 {
            let detail = "'None' must be the first and only value";
            return Err(vec![Cause::invalid(format!("spec.clusterIPs[{i}]"), &text.as_str().into(), detail)]);
        }
        if text != "None" && !text.is_empty() && text.parse::<IpAddr>().is_err() {
            let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            return Err(vec![Cause::invalid(format!("spec.clusterIPs[{i}]"), &text.as_str().into(), detail)]);
        }
    }
    Ok(wanted)
}

/// A Service's first address does not change.
fn check_unchanged(old: Option<&Value>, wanted: &[String]) -> Result<(), Vec<Cause>> {
    let Some(old) = old.filter(|old| old["spec"]["type"] != "ExternalName") else { return Ok(()) };
    let before = old["spec"]["clusterIP"].as_str().unwrap_or("");
    match wanted.first() {
        Some(after) if !before.is_empty() && after != before => {
            let value = json!(wanted);
            Err(vec![Cause::invalid("spec.clusterIPs[0]", &value, "may not change once set")])
        }
        _ => Ok(()),
    }
}

fn explicit(taken: &Taken, cidr: &IpNet, text: &str, owner: &Owner, index: usize) -> Result<IpAddr, Vec<Cause>> {
    let refuse = |detail: String| {
        let value = json!([text]);
        vec![Cause::invalid("spec.clusterIPs", &value, format!("failed to allocate IP {text}: {detail}"))]
    };
    let Ok(address) = text.parse::<IpAddr>() else {
        let detail = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        return Err(vec![Cause::invalid(format!("spec.clusterIPs[{index}]"), &text.into(), detail)]);
    };
    if !cidr.contains(&address) || Some(address) == nth(cidr, 0) || Some(address) == last(cidr) {
        return Err(refuse(format!("the provided network does not match the current range {cidr}")));
    }
    match taken.addresses.get(&address) {
        Some(other) if other != owner => Err(refuse("provided IP is already allocated".to_owned())),
        _ => Ok(address),
    }
}

/// A free address: a random one, so that one that was just given back is not soon another Service's.
fn free(taken: &Taken, cidr: &IpNet) -> Option<IpAddr> {
    let size = usable(cidr);
    // The first address is that of the API server itself.
    let first = if size > 2 { 2 } else { 1 };
    let mut rng = rand::rng();
    for _ in 0..16 {
        let address = nth(cidr, rng.random_range(first..=size.max(first)))?;
        if !taken.addresses.contains_key(&address) {
            return Some(address);
        }
    }
    (first..=size).filter_map(|n| nth(cidr, n)).find(|address| !taken.addresses.contains_key(address))
}

fn claim_ports(taken: &mut Taken, service: &mut Value, owner: &Owner, claim: &mut Claim) -> Result<(), Vec<Cause>> {
    let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP").to_owned();
    let allocate =
        kind == "NodePort" || kind == "LoadBalancer" && service["spec"]["allocateLoadBalancerNodePorts"] != false;
    if !matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
            if let Some(port) = port.as_object_mut() {
                port.shift_remove("nodePort");
            }
        }
        return Ok(());
    }
    let mut given: HashMap<i64, (u16, String)> = HashMap::new();
    for (i, port) in service["spec"]["ports"].as_array_mut().into_iter().flatten().enumerate() {
        let protocol = port["protocol"].as_str().unwrap_or("TCP").to_owned();
        let wanted = port["nodePort"].as_u64().unwrap_or(0);
        let number = port["port"].as_i64().unwrap_or(0);
        let node_port = if wanted != 0 {
            let node_port = u16::try_from(wanted).unwrap_or(0);
            if !NODE_PORTS.contains(&node_port) {
                let detail = "provided port is not in the valid range. The range of valid ports is 30000-32767";
                return Err(vec![Cause::invalid(format!("spec.ports[{i}].nodePort"), &port["nodePort"], detail)]);
            }
            if taken.ports.get(&(node_port, protocol.clone())).is_some_and(|other| other != owner) {
                let detail = "provided port is already allocated";
                return Err(vec![Cause::invalid(format!("spec.ports[{i}].nodePort"), &port["nodePort"], detail)]);
            }
            node_port
        } else if allocate {
            // The same port in two protocols has the same node port.
            let twin =
                given.get(&number).map(|(p, _)| *p).filter(|p| !taken.ports.contains_key(&(*p, protocol.clone())));
            let Some(node_port) = twin.or_else(|| free_port(taken)) else {
                let cause = Cause::new("InternalError", format!("spec.ports[{i}].nodePort"), "range is full");
                return Err(vec![cause]);
            };
            node_port
        } else {
            continue;
        };
        let key = (node_port, protocol);
        if taken.ports.insert(key.clone(), owner.clone()).is_none() {
            claim.ports.push(key.clone());
        }
        given.insert(number, key);
        port["nodePort"] = json!(node_port);
    }
    Ok(())
}

/// A node port that is free in every protocol.
fn free_port(taken: &Taken) -> Option<u16> {
    let is_free =
        |port: &u16| ["TCP", "UDP", "SCTP"].iter().all(|p| !taken.ports.contains_key(&(*port, (*p).to_owned())));
    let mut rng = rand::rng();
    let random = (0..16).map(|_| rng.random_range(NODE_PORTS)).find(|port| is_free(port));
    random.or_else(|| NODE_PORTS.into_iter().find(is_free))
}

fn set_spec(service: &mut Value, addresses: &[String], families: &[&str]) {
    let Some(spec) = object::field_mut(service, "spec") else { return };
    spec.insert("clusterIP".into(), json!(addresses.first()));
    spec.insert("clusterIPs".into(), json!(addresses));
    spec.insert("ipFamilies".into(), json!(families));
    if spec.get("ipFamilyPolicy").is_none_or(Value::is_null) {
        let policy = if families.len() > 1 { "RequireDualStack" } else { "SingleStack" };
        spec.insert("ipFamilyPolicy".into(), policy.into());
    }
    if spec.get("internalTrafficPolicy").is_none_or(Value::is_null) {
        spec.insert("internalTrafficPolicy".into(), "Cluster".into());
    }
}

fn addresses_of(service: &Value) -> Vec<IpAddr> {
    let spec = &service["spec"];
    let list = spec["clusterIPs"].as_array().into_iter().flatten().chain([&spec["clusterIP"]]);
    list.filter_map(|ip| ip.as_str()?.parse().ok()).collect()
}

fn ports_of(service: &Value) -> Vec<(u16, String)> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let port = |port: &Value| {
        let number = u16::try_from(port["nodePort"].as_u64()?).ok()?;
        Some((number, port["protocol"].as_str().unwrap_or("TCP").to_owned()))
    };
    ports.filter_map(port).collect()
}

fn owner_of(service: &Value) -> Owner {
    (object::namespace(service).to_owned(), object::name(service).to_owned())
}

fn family_of(ip: IpAddr) -> &'static str {
    if ip.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// How many addresses there are to give out; the network's own is not, nor is IPv4's broadcast address.
fn usable(cidr: &IpNet) -> u128 {
    let bits = u32::from(cidr.max_prefix_len() - cidr.prefix_len()).min(64);
    let all = 1u128 << bits;
    all.saturating_sub(if cidr.addr().is_ipv4() { 2 } else { 1 })
}

fn nth(cidr: &IpNet, n: u128) -> Option<IpAddr> {
    match cidr.network() {
        IpAddr::V4(base) => Some(IpAddr::V4(u32::from(base).checked_add(u32::try_from(n).ok()?)?.into())),
        IpAddr::V6(base) => Some(IpAddr::V6(u128::from(base).checked_add(n)?.into())),
    }
}

fn last(cidr: &IpNet) -> Option<IpAddr> {
    cidr.addr().is_ipv4().then(|| cidr.broadcast())
}

#[cfg(test)]
mod tests;
