//! Which addresses a name under `in-addr.arpa` or `ip6.arpa` is about.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::name::labels;

/// The addresses whose names are `name` (in wire format and lower case) or below it: one for a
/// whole name, a network for a shorter one. None for other names.
pub(crate) fn network(name: &[u8]) -> Option<IpNet> {
    let all: Vec<&[u8]> = labels(name).collect();
    let (numbers, zone) = all.split_at(all.len().checked_sub(2)?);
    match zone {
        [b"in-addr", b"arpa"] => v4(numbers).map(IpNet::V4),
        [b"ip6", b"arpa"] => v6(numbers).map(IpNet::V6),
        _ => None,
    }
}

fn v4(numbers: &[&[u8]]) -> Option<Ipv4Net> {
    let mut octets = [0u8; 4];
    for (at, label) in numbers.iter().rev().enumerate() {
        *octets.get_mut(at)? = std::str::from_utf8(label).ok()?.parse().ok()?;
    }
    Ipv4Net::new(Ipv4Addr::from(octets), 8 * numbers.len() as u8).ok()
}

fn v6(nibbles: &[&[u8]]) -> Option<Ipv6Net> {
    let mut octets = [0u8; 16];
    for (at, label) in nibbles.iter().rev().enumerate() {
        let &[digit] = *label else { return None };
        let nibble = char::from(digit).to_digit(16)? as u8;
        *octets.get_mut(at / 2)? |= if at % 2 == 0 { nibble << 4 } else { nibble };
    }
    Ipv6Net::new(Ipv6Addr::from(octets), 4 * nibbles.len() as u8).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::name::Name;

    #[test]
    fn names_of_addresses_are_read_back() {
        for (name, expected) in [
            ("4.3.2.1.in-addr.arpa", Some("1.2.3.4/32")),
            ("2.1.in-addr.arpa", Some("1.2.0.0/16")),
            ("in-addr.arpa", Some("0.0.0.0/0")),
            ("5.4.3.2.1.in-addr.arpa", None),
            ("256.in-addr.arpa", None),
            ("x.in-addr.arpa", None),
            ("0.d.f.ip6.arpa", Some("fd00::/12")),
            ("ip6.arpa", Some("::/0")),
            ("10.ip6.arpa", None),
            ("g.ip6.arpa", None),
            ("arpa", None),
            ("example.org", None),
        ] {
            let network = network(Name::parse(name).unwrap().as_bytes());
            assert_eq!(network.map(|network| network.to_string()).as_deref(), expected, "{name}");
        }
        for address in ["10.96.0.1", "fd00:96::1"] {
            let address = address.parse().unwrap();
            assert_eq!(network(Name::reverse(address).as_bytes()), Some(IpNet::from(address)));
        }
    }
}
