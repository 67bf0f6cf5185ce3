//! From Kubernetes' objects to the vocabulary of this crate, and back.
//!
//! What is read of a source is judged part by part: what cannot be used is left out and returned as a [`Refused`].
//! What is read of our own objects ([`own`]) is what [`to`] would have written: labels and annotations that others put
//! on them do not count, by the object's `managedFields`, so that writing and reading again gives the same.

mod from;
pub mod own;
pub mod to;

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tombolo_proxy::{Family, Protocol, Refused, ServiceKey};

pub use from::{MAX_ENDPOINTS, export, namespace, service, slice};

/// The key of an object, from its name and namespace.
pub fn key(metadata: &ObjectMeta) -> ServiceKey {
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    ServiceKey::new(namespace, metadata.name.as_deref().unwrap_or_default())
}

/// What is left out of one object.
struct Refusals {
    object: String,
    refused: Vec<Refused>,
}

impl Refusals {
    fn new(kind: &str, metadata: &ObjectMeta) -> Self {
        Self { object: format!("{kind} {}", key(metadata)), refused: Vec::new() }
    }

    fn add(&mut self, field: &str, reason: impl Into<String>) {
        self.refused.push(Refused { object: self.object.clone(), field: field.to_owned(), reason: reason.into() });
    }

    fn take<T>(&mut self, field: &str, value: Result<T, String>) -> Option<T> {
        value.map_err(|reason| self.add(field, reason)).ok()
    }
}

fn family(text: &str) -> Option<Family> {
    match text {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    }
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

fn protocol(text: Option<&str>) -> Result<Protocol, String> {
    match text {
        None | Some("TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        Some(other) => Err(format!("{:?} is none of TCP, UDP, SCTP", short(other))),
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
        Protocol::Sctp => "SCTP",
    }
}

fn port_number(number: i32) -> Result<u16, String> {
    u16::try_from(number).ok().filter(|port| *port != 0).ok_or_else(|| format!("{number} is not between 1 and 65535"))
}

fn address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| format!("{:?} is not an IP address", short(text)))?;
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || is_link_local {
        return Err(format!("{address} is not an address of one host elsewhere"));
    }
    Ok(address)
}

/// What is repeated of somebody else's text.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
