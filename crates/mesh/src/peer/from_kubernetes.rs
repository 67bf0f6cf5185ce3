//! Peer objects to [`Peer`]s.

use ipnet::IpNet;
use tombolo_api::kilo;
use tombolo_net::wireguard::{Endpoint, Host, Key};

use super::Peer;
use crate::{Refusal, parse};

/// From here a keepalive is taken for nanoseconds: Kilo's kgctl writes them so by mistake, and 31 years are not meant.
const NANOSECONDS_FROM: i64 = 1_000_000_000;

/// Reads the spec of a Peer object; what is refused of it is returned beside the rest.
///
/// # Errors
/// The refusal of the whole Peer, where one of its keys is none.
pub fn from_kubernetes(object: &kilo::Peer) -> Result<(Peer, Vec<Refusal>), Refusal> {
    let name = object.metadata.name.clone().unwrap_or_default();
    let spec = &object.spec;
    let public_key = parse::key(&spec.public_key)
        .map_err(|reason| Refusal::peer(&name, "spec.publicKey", &spec.public_key, reason))?;
    let preshared_key = preshared_key(spec.preshared_key.as_deref())
        .map_err(|reason| Refusal::peer(&name, "spec.presharedKey", "(secret)", reason))?;
    let mut refusals = Vec::new();
    let persistent_keepalive = spec.persistent_keepalive.and_then(|value| match keepalive(value) {
        Ok(seconds) => Some(seconds),
        Err(reason) => {
            refusals.push(Refusal::peer(&name, "spec.persistentKeepalive", value.to_string(), reason));
            None
        }
    });
    let endpoint = spec.endpoint.as_ref().and_then(|given| match endpoint(given) {
        Ok(endpoint) => Some(endpoint),
        Err((field, value, reason)) => {
            refusals.push(Refusal::peer(&name, field, value, reason));
            None
        }
    });
    let allowed_ips = allowed_ips(&name, &spec.allowed_ips, &mut refusals);
    Ok((Peer { name, public_key, preshared_key, persistent_keepalive, endpoint, allowed_ips }, refusals))
}

fn preshared_key(text: Option<&str>) -> Result<Option<Key>, String> {
    match text.map(str::trim) {
        None | Some("") => Ok(None),
        Some(text) => match parse::key(text) {
            Ok(key) => Ok(Some(key)),
            Err(_) => {
                Err("it is no WireGuard key; write the 44 characters of Base64 that `wg genpsk` prints".to_owned())
            }
        },
    }
}

fn keepalive(value: i64) -> Result<u16, String> {
    let seconds = if value >= NANOSECONDS_FROM { value / NANOSECONDS_FROM } else { value };
    seconds.try_into().map_err(|_| "it is no number of seconds from 0 to 65535".to_owned())
}

/// Kilo lets the name go before the address where both are given.
fn endpoint(given: &kilo::PeerEndpoint) -> Result<Endpoint, (&'static str, String, String)> {
    let port = u16::try_from(given.port).ok().filter(|port| *port != 0).ok_or_else(|| {
        ("spec.endpoint.port", given.port.to_string(), "it is no UDP port from 1 to 65535".to_owned())
    })?;
    let text = |field: &Option<String>| field.as_deref().map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned);
    match (text(&given.dns_or_ip.dns), text(&given.dns_or_ip.ip)) {
        (Some(dns), _) => match format!("{dns}:{port}").parse::<Endpoint>() {
            Ok(endpoint) => Ok(endpoint),
            Err(error) => Err(("spec.endpoint.dnsOrIP.dns", dns, error.to_string())),
        },
        (None, Some(ip)) => match ip.parse::<std::net::IpAddr>() {
            Ok(ip) => Ok(Endpoint { host: Host::Ip(ip.to_canonical()), port }),
            Err(_) => Err(("spec.endpoint.dnsOrIP.ip", ip, "it is no IPv4 or IPv6 address".to_owned())),
        },
        (None, None) => {
            Err(("spec.endpoint.dnsOrIP", String::new(), "it has neither dns nor ip; give one of them".to_owned()))
        }
    }
}

fn allowed_ips(name: &str, texts: &[String], refusals: &mut Vec<Refusal>) -> Vec<IpNet> {
    let mut ips = Vec::new();
    for (i, text) in texts.iter().enumerate() {
        match parse::cidr_or_address(text) {
            Ok(ip) if ips.contains(&ip) => {}
            Ok(ip) => ips.push(ip),
            Err(reason) => refusals.push(Refusal::peer(name, &format!("spec.allowedIPs[{i}]"), text, reason)),
        }
    }
    ips
}
