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

/// Reads a Peer object as it came from the API server, which may be older than the resource's validation.
///
/// # Errors
/// The refusal of the whole Peer, where it is not of the resource's form or one of its keys is none.
pub fn from_json(object: serde_json::Value) -> Result<(Peer, Vec<Refusal>), Refusal> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    match serde_json::from_value(object) {
        Ok(object) => from_kubernetes(&object),
        Err(error) => {
            let reason = format!("it is not of the form of a Peer: {error}; see `kubectl explain peer.spec`");
            Err(Refusal::peer(&name, "spec", "", reason))
        }
    }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const KEY: &str = "9V/xb2b0M2Ama5Xbb4/sAddgMQVDBq5KSzgFmPbP0RQ=";

    fn read(spec: serde_json::Value) -> Result<(Peer, Vec<Refusal>), Refusal> {
        from_json(json!({
            "apiVersion": "kilo.squat.ai/v1alpha1", "kind": "Peer", "metadata": {"name": "p"}, "spec": spec,
        }))
    }

    #[test]
    fn all_fields_are_read() {
        let (peer, refusals) = read(json!({
            "allowedIPs": ["10.5.0.1/32", "fd05::/64", "10.5.0.9", "10.5.0.1/32"],
            "endpoint": {"dnsOrIP": {"ip": "2001:db8::9"}, "port": 51820},
            "persistentKeepalive": 10, "presharedKey": KEY, "publicKey": KEY,
        }))
        .unwrap();
        assert_eq!(refusals, []);
        assert_eq!(peer.name, "p");
        assert_eq!(peer.public_key.to_string(), KEY);
        assert_eq!(peer.preshared_key, Some(peer.public_key));
        assert_eq!(peer.persistent_keepalive, Some(10));
        assert_eq!(peer.endpoint.unwrap().to_string(), "[2001:db8::9]:51820");
        let ips: Vec<String> = peer.allowed_ips.iter().map(ToString::to_string).collect();
        assert_eq!(ips, ["10.5.0.1/32", "fd05::/64", "10.5.0.9/32"]);
    }

    #[test]
    fn keepalives_in_nanoseconds_are_understood() {
        for (given, read_as) in [
            (0, Some(0)),
            (25, Some(25)),
            (65_535, Some(65_535)),
            (65_536, None),
            (-1, None),
            (999_999_999, None),
            (1_000_000_000, Some(1)),
            (10_000_000_000, Some(10)),
            (25_000_000_000, Some(25)),
            (i64::MAX, None),
        ] {
            let spec = json!({"allowedIPs": ["10.5.0.1/32"], "publicKey": KEY, "persistentKeepalive": given});
            let (peer, refusals) = read(spec).unwrap();
            assert_eq!(peer.persistent_keepalive, read_as, "{given}");
            assert_eq!(refusals.is_empty(), read_as.is_some(), "{given}: {refusals:?}");
        }
    }

    #[test]
    fn a_peer_with_a_wrong_key_is_refused_and_the_key_is_not_told() {
        for (field, public, preshared) in [
            ("spec.publicKey", "AAAA", None),
            ("spec.publicKey", "", None),
            ("spec.publicKey", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", None),
            ("spec.presharedKey", KEY, Some("guess me")),
        ] {
            let refusal = read(json!({"allowedIPs": [], "publicKey": public, "presharedKey": preshared})).unwrap_err();
            assert_eq!((refusal.object.as_str(), refusal.field.as_str()), ("Peer/p", field));
            assert!(!refusal.to_string().contains("guess me"), "{refusal}");
        }
        assert!(read(json!({"allowedIPs": [], "publicKey": KEY, "presharedKey": ""})).is_ok());
    }

    #[test]
    fn endpoints_that_are_none_are_refused_for_themselves() {
        for (endpoint, field) in [
            (json!({"dnsOrIP": {"ip": "<nil>"}, "port": 51820}), "spec.endpoint.dnsOrIP.ip"),
            (json!({"dnsOrIP": {"dns": "not a name"}, "port": 51820}), "spec.endpoint.dnsOrIP.dns"),
            (json!({"dnsOrIP": {}, "port": 51820}), "spec.endpoint.dnsOrIP"),
            (json!({"dnsOrIP": {"ip": "", "dns": ""}, "port": 51820}), "spec.endpoint.dnsOrIP"),
            (json!({"dnsOrIP": {"ip": "192.0.2.1"}, "port": 0}), "spec.endpoint.port"),
            (json!({"dnsOrIP": {"ip": "192.0.2.1"}, "port": 65536}), "spec.endpoint.port"),
        ] {
            let (peer, refusals) =
                read(json!({"allowedIPs": ["10.5.0.1/32"], "publicKey": KEY, "endpoint": endpoint})).unwrap();
            assert_eq!(peer.endpoint, None, "{endpoint}");
            assert_eq!(refusals.iter().map(|r| r.field.as_str()).collect::<Vec<_>>(), [field]);
            assert!(peer.ready());
        }
    }

    #[test]
    fn a_name_goes_before_an_address() {
        let endpoint = json!({"dnsOrIP": {"ip": "192.0.2.1", "dns": "vpn.example.com"}, "port": 1});
        let (peer, _) = read(json!({"allowedIPs": [], "publicKey": KEY, "endpoint": endpoint})).unwrap();
        assert_eq!(peer.endpoint.unwrap().to_string(), "vpn.example.com:1");
    }

    #[test]
    fn a_wrong_cidr_is_refused_for_itself() {
        let (peer, refusals) =
            read(json!({"allowedIPs": ["10.5.0.0/33", "10.6.0.0/24", "::ffff:10.0.0.0/104"], "publicKey": KEY}))
                .unwrap();
        assert_eq!(peer.allowed_ips, ["10.6.0.0/24".parse().unwrap()]);
        let fields: Vec<&str> = refusals.iter().map(|r| r.field.as_str()).collect();
        assert_eq!(fields, ["spec.allowedIPs[0]", "spec.allowedIPs[2]"]);
    }

    #[test]
    fn an_object_of_another_form_is_refused_by_name() {
        let refusal = read(json!({"allowedIPs": "10.5.0.1/32", "publicKey": KEY})).unwrap_err();
        assert_eq!(refusal.object, "Peer/p");
        assert_eq!(read(json!(null)).unwrap_err().object, "Peer/p");
        assert_eq!(from_json(json!(7)).unwrap_err().object, "Peer/");
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(
            ips in prop::collection::vec(".{0,40}|[0-9a-f:./]{0,20}", 0..4),
            key in prop::option::of(".{0,50}"),
            host in prop::option::of(".{0,20}|[0-9a-z.:-]{0,20}"),
            dns: bool,
            port: i32,
            keepalive: i64,
        ) {
            let host = if dns { json!({"dns": host}) } else { json!({"ip": host}) };
            let spec = json!({
                "allowedIPs": ips, "endpoint": {"dnsOrIP": host, "port": port}, "persistentKeepalive": keepalive,
                "publicKey": key.as_deref().unwrap_or(KEY), "presharedKey": key,
            });
            let _ = read(spec);
        }
    }
}
