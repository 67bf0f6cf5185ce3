//! Reading of the small texts in annotations and specs.

use std::net::IpAddr;

use ipnet::IpNet;
use tombolo_net::wireguard::Key;

/// A CIDR, with the host bits that it was given with.
pub(crate) fn cidr(text: &str) -> Result<IpNet, String> {
    let Ok(net) = text.trim().parse::<IpNet>() else {
        return Err("it is no CIDR; write ADDRESS/LENGTH, like 10.0.0.1/24 or fd00::1/64".to_owned());
    };
    match net {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => {
            Err("it is IPv4 written as IPv6; write the IPv4 address itself".to_owned())
        }
        net => Ok(net),
    }
}

/// A CIDR, or an address, which stands for itself alone.
pub(crate) fn cidr_or_address(text: &str) -> Result<IpNet, String> {
    match text.trim().parse::<IpAddr>() {
        Ok(address) => Ok(address.to_canonical().into()),
        Err(_) => cidr(text),
    }
}

/// A key that is not all zeros.
pub(crate) fn key(text: &str) -> Result<Key, String> {
    let key: Key = text.trim().parse().map_err(|error: tombolo_net::wireguard::KeyError| match error {
        // The text is already beside the reason.
        tombolo_net::wireguard::KeyError::NotBase64(_) => {
            "it is no WireGuard key; write the 44 characters of Base64 that `wg pubkey` prints".to_owned()
        }
        other => other.to_string(),
    })?;
    if key.is_zero() {
        return Err("a key of zeros means none; write the one that `wg pubkey` prints".to_owned());
    }
    Ok(key)
}

/// The parts of a comma-separated list that are not empty.
pub(crate) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}
