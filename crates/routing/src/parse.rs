//! Reading of the small texts in flags and annotations.

use std::net::{IpAddr, Ipv4Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ipnet::IpNet;
use tombolo_bgp::config::Password;
use tombolo_bgp::{Community, LargeCommunity};

/// The longest key of TCP MD5 signatures that Linux takes (`TCP_MD5SIG_MAXKEYLEN`).
const LONGEST_PASSWORD: usize = 80;

/// Communities with names that [`Community`] itself does not know (IANA's registry of well-known communities), by the
/// names that kube-router takes.
const NAMED_COMMUNITIES: [(&str, u32); 11] = [
    ("internet", 0),
    ("planned-shut", 0xffff_0000),
    ("accept-own", 0xffff_0001),
    ("route-filter-translated-v4", 0xffff_0002),
    ("route-filter-v4", 0xffff_0003),
    ("route-filter-translated-v6", 0xffff_0004),
    ("route-filter-v6", 0xffff_0005),
    ("accept-own-nexthop", 0xffff_0008),
    ("standby-pe", 0xffff_0009),
    ("blackhole", 0xffff_029a),
    ("no-peer", 0xffff_ff04),
];

/// A value that can't be used, before it is known whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub field: String,
    pub value: String,
    pub reason: String,
}

impl Problem {
    pub(crate) fn new(field: impl Into<String>, value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.into(), reason: reason.into() }
    }
}

/// A number as kube-router reads it: decimal, `0x` hexadecimal, `0b` binary, `0o` or a leading `0` octal.
pub(crate) fn number(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match lower.as_bytes() {
        [b'0', b'x', ..] => (&lower[2..], 16),
        [b'0', b'b', ..] => (&lower[2..], 2),
        [b'0', b'o', ..] => (&lower[2..], 8),
        [b'0', _, ..] => (&lower[1..], 8),
        _ => (&lower[..], 10),
    };
    // The standard library takes a sign, too.
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

/// The number of an autonomous system that can be somebody's: not 0 (RFC 7607), 23456 (RFC 6793) or the last one (RFC
/// 7300). 65535 is reserved as well, but clusters of kube-router may have it.
pub(crate) fn check_asn(asn: u32) -> Result<u32, String> {
    match asn {
        0 | 23456 | u32::MAX => Err(format!(
            "{asn} is reserved and nobody's AS number; write another from 1 to 4294967294 (private ones are 64512 to \
             65534 and 4200000000 to 4294967294)"
        )),
        asn => Ok(asn),
    }
}

pub(crate) fn asn(text: &str) -> Result<u32, String> {
    let Some(asn) = number(text).and_then(|n| u32::try_from(n).ok()) else {
        return Err("it is no AS number; write one from 1 to 4294967294, like 64512".to_owned());
    };
    check_asn(asn)
}

/// A reflector's cluster ID, written as a number or as an IPv4 address.
pub(crate) fn cluster_id(text: &str) -> Result<Ipv4Addr, String> {
    if let Some(number) = number(text).and_then(|n| u32::try_from(n).ok()) {
        return Ok(Ipv4Addr::from(number));
    }
    text.parse().map_err(|_| {
        "it is no cluster ID; write a number up to 4294967295 or an IPv4 address, like 42 or 192.0.2.1".to_owned()
    })
}

pub(crate) fn port(text: &str) -> Result<u16, String> {
    number(text)
        .and_then(|n| u16::try_from(n).ok())
        .filter(|port| *port != 0)
        .ok_or_else(|| "it is no port; write a number from 1 to 65535".to_owned())
}

/// An address that one host has and that a session can be with.
pub(crate) fn host(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr =
        text.parse().map_err(|_| "it is no IP address; write one, like 192.0.2.1 or 2001:db8::1".to_owned())?;
    check_host(address.to_canonical())
}

pub(crate) fn check_host(address: IpAddr) -> Result<IpAddr, String> {
    let (nobodys, link_local) = match address {
        IpAddr::V4(v4) => (v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast(), false),
        IpAddr::V6(v6) => (v6.is_unspecified() || v6.is_multicast(), v6.is_unicast_link_local()),
    };
    if nobodys {
        return Err("it is not the address of one host; write the host's own address".to_owned());
    }
    if link_local {
        return Err("it means another host on each link; write a global or a unique local address".to_owned());
    }
    Ok(address)
}

/// A network, without host bits.
pub(crate) fn cidr(text: &str) -> Result<IpNet, String> {
    match text.parse::<IpNet>() {
        Ok(IpNet::V6(v6)) if v6.addr().to_ipv4_mapped().is_some() => {
            Err("it is IPv4 written as IPv6; write the IPv4 network itself".to_owned())
        }
        Ok(net) => Ok(net.trunc()),
        Err(_) => Err("it is no CIDR; write ADDRESS/LENGTH, like 10.0.0.0/16 or fd00::/64".to_owned()),
    }
}

/// A password in base64.
pub(crate) fn password(text: &str) -> Result<Password, String> {
    let next = "write what `printf PASSWORD | base64` prints";
    let bytes = STANDARD.decode(text).map_err(|_| format!("it is not base64; {next}"))?;
    if bytes.len() > LONGEST_PASSWORD {
        return Err(format!("it has {} bytes and may have {LONGEST_PASSWORD} (TCP MD5); {next}", bytes.len()));
    }
    if bytes.contains(&0) {
        return Err(format!("there is a zero byte in it; {next}"));
    }
    String::from_utf8(bytes).map(Password).map_err(|_| format!("it is not text in UTF-8; {next}"))
}

/// A community of either kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum AnyCommunity {
    Standard(Community),
    Large(LargeCommunity),
}

pub(crate) fn community(text: &str) -> Result<AnyCommunity, String> {
    if let Ok(community) = text.parse() {
        return Ok(AnyCommunity::Standard(community));
    }
    if let Some((_, value)) = NAMED_COMMUNITIES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        return Ok(AnyCommunity::Standard(Community(*value)));
    }
    text.parse().map(AnyCommunity::Large).map_err(|_| {
        "it is no community; write NUMBER:NUMBER of 16 bits each (64512:100), one number, a well-known name \
         (no-export), or a large community (64512:1:2)"
            .to_owned()
    })
}

/// A truth value in the words that Go's `strconv.ParseBool` takes.
pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// The parts of a comma-separated list that are not empty.
pub(crate) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// The parts of a comma-separated list whose places count, empty ones included; none where the text is empty.
pub(crate) fn places(text: &str) -> Vec<String> {
    if text.trim().is_empty() {
        return Vec::new();
    }
    text.split(',').map(|part| part.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("64512", Some(64512)),
            ("0", Some(0)),
            ("0xFC00", Some(64512)),
            ("0b11", Some(3)),
            ("0o17", Some(15)),
            ("017", Some(15)),
            ("08", None),
            ("+5", None),
            ("0x+5", None),
            ("-1", None),
            ("", None),
            ("0x", None),
            ("five", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }

    #[test]
    fn reserved_as_numbers_are_nobodys() {
        for text in ["0", "23456", "4294967295", "4294967296", "AS1", "1.1"] {
            assert!(asn(text).is_err(), "{text}");
        }
        for text in ["1", "64496", "65535", "4294967294"] {
            assert!(asn(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_cluster_id_is_a_number_or_an_address() {
        assert_eq!(cluster_id("42"), cluster_id("0.0.0.42"));
        assert!(cluster_id("2001:db8::1").is_err());
        assert!(cluster_id("4294967296").is_err());
    }

    #[test]
    fn communities_are_taken_in_all_their_forms() {
        for text in ["4294967041", "65535:65281", "no-export", "No-Export"] {
            assert_eq!(community(text), Ok(AnyCommunity::Standard(Community::NO_EXPORT)), "{text}");
        }
        assert_eq!(community("blackhole"), Ok(AnyCommunity::Standard("65535:666".parse().unwrap())));
        assert_eq!(community("64512:1:2"), Ok(AnyCommunity::Large("64512:1:2".parse().unwrap())));
        for text in ["", "65536:1", "1:2:3:4", "export", "4294967296"] {
            assert!(community(text).is_err(), "{text}");
        }
    }

    #[test]
    fn passwords_are_base64_and_short_enough() {
        assert_eq!(password("U2VjdXJlUGFzc3dvcmQ="), Ok(Password("SecurePassword".to_owned())));
        assert!(password(&STANDARD.encode([b'x'; 80])).is_ok());
        assert!(password(&STANDARD.encode([b'x'; 81])).unwrap_err().contains("81 bytes"));
        for text in ["not base64", "AA==", "/w=="] {
            assert!(password(text).is_err(), "{text}");
        }
    }
}
