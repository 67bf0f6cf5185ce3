//! The `format`s of strings and numbers that kube-apiserver checks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Whether a text has a format; formats that are not known fit everything.
pub(crate) fn text_fits(format: &str, text: &str) -> bool {
    match format {
        "date-time" | "datetime" => OffsetDateTime::parse(text, &Rfc3339).is_ok(),
        "date" => is_date(text),
        "duration" => is_duration(text),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "byte" => STANDARD.decode(text).is_ok(),
        "uuid" => is_uuid(text, None),
        "uuid3" => is_uuid(text, Some('3')),
        "uuid4" => is_uuid(text, Some('4')),
        "uuid5" => is_uuid(text, Some('5')),
        "hostname" => is_hostname(text),
        "email" => text.split_once('@').is_some_and(|(user, host)| !user.is_empty() && is_hostname(host)),
        "uri" => is_uri(text),
        _ => true,
    }
}

/// Whether a whole number has a format.
pub(crate) fn integer_fits(format: &str, number: i128) -> bool {
    match format {
        "int32" => i32::try_from(number).is_ok(),
        "uint32" => u32::try_from(number).is_ok(),
        "int64" => i64::try_from(number).is_ok(),
        "uint64" => u64::try_from(number).is_ok(),
        _ => true,
    }
}

/// Whether a text is a quantity, such as `100m` or `1.5Gi`.
pub(crate) fn is_quantity(text: &str) -> bool {
    static QUANTITY: OnceLock<Option<Regex>> = OnceLock::new();
    let pattern = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?$";
    matches(&QUANTITY, pattern, text)
}

/// Whether a text is an address and a prefix length.
pub(crate) fn is_cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let digits = !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit());
    digits && length.parse::<u16>().is_ok_and(|length| length <= most)
}

fn is_date(text: &str) -> bool {
    let format = time::macros::format_description!("[year]-[month]-[day]");
    time::Date::parse(text, format).is_ok()
}

fn is_duration(text: &str) -> bool {
    static DURATION: OnceLock<Option<Regex>> = OnceLock::new();
    let pattern =
        r"^[+-]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h))*$";
    matches(&DURATION, pattern, text)
}

fn is_mac(text: &str) -> bool {
    let parts: Vec<&str> = text.split([':', '-']).collect();
    matches!(parts.len(), 6 | 8 | 20) && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_uuid(text: &str, version: Option<char>) -> bool {
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    let right = hex.len() == 32 && hex.bytes().all(|b| b.is_ascii_hexdigit());
    right && version.is_none_or(|version| hex.chars().nth(12) == Some(version))
}

fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

fn is_uri(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok()
}

fn matches(regex: &OnceLock<Option<Regex>>, pattern: &str, text: &str) -> bool {
    regex.get_or_init(|| Regex::new(pattern).ok()).as_ref().is_some_and(|regex| regex.is_match(text))
}
