//! The functions: those of the language and those that Kubernetes adds, except on strings.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::net::IpAddr;

use ipnet::IpNet;
use regex::Regex;

use super::eval::no_overload;
use super::strings;
use super::value::Val;
use crate::schema::formats;

type Outcome<'a> = Result<Val<'a>, String>;

/// Functions by name and number of arguments.
const FUNCTIONS: &[(&str, usize)] = &[
    ("size", 1),
    ("int", 1),
    ("uint", 1),
    ("double", 1),
    ("string", 1),
    ("bool", 1),
    ("bytes", 1),
    ("dyn", 1),
    ("matches", 2),
    ("isIP", 1),
    ("ip", 1),
    ("isCIDR", 1),
    ("cidr", 1),
    ("isURL", 1),
    ("url", 1),
    ("isQuantity", 1),
];

/// Methods by name and number of arguments.
const METHODS: &[(&str, usize)] = &[
    ("size", 0),
    ("matches", 1),
    ("find", 1),
    ("findAll", 1),
    ("findAll", 2),
    ("isSorted", 0),
    ("sum", 0),
    ("min", 0),
    ("max", 0),
    ("family", 0),
    ("isUnspecified", 0),
    ("isLoopback", 0),
    ("isLinkLocalMulticast", 0),
    ("isLinkLocalUnicast", 0),
    ("isGlobalUnicast", 0),
    ("containsIP", 1),
    ("containsCIDR", 1),
    ("ip", 0),
    ("masked", 0),
    ("prefixLength", 0),
    ("getScheme", 0),
    ("getHost", 0),
    ("getHostname", 0),
    ("getPort", 0),
    ("getEscapedPath", 0),
    ("hasValue", 0),
    ("value", 0),
    ("orValue", 1),
];

/// Whether there is such a function.
pub(super) fn has_function(name: &str, args: usize) -> bool {
    FUNCTIONS.contains(&(name, args))
}

/// Whether there is such a method.
pub(super) fn has_method(name: &str, args: usize) -> bool {
    METHODS.contains(&(name, args)) || strings::METHODS.contains(&(name, args))
}

/// Calls a function, or a method of `target`.
pub(super) fn call<'a>(name: &str, target: Option<Val<'a>>, args: &[Val<'a>]) -> Outcome<'a> {
    match (target, args) {
        (None, [arg]) => function(name, arg),
        (None, [Val::Str(text), Val::Str(pattern)]) if name == "matches" => matches(text, pattern),
        (Some(Val::Optional(inner)), args) => optional(name, inner, args),
        (Some(Val::Ip(address)), []) => ip_method(name, address),
        (Some(Val::Cidr(network)), args) => cidr_method(name, network, args),
        (Some(Val::Url(url)), []) => url_method(name, &url),
        (Some(Val::List(items)), args) => list_method(name, &items, args),
        (Some(target @ (Val::Map(_) | Val::Object(_) | Val::Bytes(_))), []) if name == "size" => size(&target),
        (Some(Val::Str(text)), args) => match (name, args) {
            ("size", []) => size(&Val::Str(text)),
            ("matches", [Val::Str(pattern)]) => matches(&text, pattern),
            ("find", [Val::Str(pattern)]) => {
                let regex = regex(pattern)?;
                Ok(Val::Str(Cow::Owned(regex.find(&text).map_or("", |found| found.as_str()).to_owned())))
            }
            ("findAll", [Val::Str(pattern)]) => find_all(&text, pattern, usize::MAX),
            ("findAll", [Val::Str(pattern), Val::Int(most)]) => {
                find_all(&text, pattern, usize::try_from(*most).unwrap_or(usize::MAX))
            }
            _ => strings::method(name, &text, args),
        },
        _ => Err(no_overload()),
    }
}

fn function<'a>(name: &str, arg: &Val<'a>) -> Outcome<'a> {
    match (name, arg) {
        ("size", arg) => size(arg),
        ("dyn", arg) => Ok(arg.clone()),
        ("int" | "uint" | "double" | "string" | "bool" | "bytes", arg) => convert(name, arg),
        ("isIP", Val::Str(text)) => Ok(Val::Bool(ip(text).is_some())),
        ("ip", Val::Str(text)) => ip(text)
            .map(Val::Ip)
            .ok_or_else(|| format!("IP Address {text:?} parse error during conversion from string")),
        ("isCIDR", Val::Str(text)) => Ok(Val::Bool(cidr(text).is_some())),
        ("cidr", Val::Str(text)) => {
            let error = || format!("network address parse error during conversion from string: {text:?}");
            cidr(text).map(Val::Cidr).ok_or_else(error)
        }
        ("isURL", Val::Str(text)) => Ok(Val::Bool(url(text).is_some())),
        ("url", Val::Str(text)) => {
            url(text).map(Val::Url).ok_or_else(|| format!("URL parse error during conversion from string: {text:?}"))
        }
        ("isQuantity", Val::Str(text)) => Ok(Val::Bool(formats::is_quantity(text))),
        _ => Err(no_overload()),
    }
}

fn size<'a>(value: &Val<'a>) -> Outcome<'a> {
    let size = match value {
        Val::Str(text) => text.chars().count(),
        Val::Bytes(bytes) => bytes.len(),
        Val::List(items) => items.len(),
        Val::Map(entries) => entries.len(),
        Val::Object(map) => map.len(),
        _ => return Err(no_overload()),
    };
    Ok(Val::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn convert<'a>(to: &str, value: &Val<'a>) -> Outcome<'a> {
    let failed = || format!("type conversion error from '{}' to '{to}'", value.type_name());
    let converted = match (to, value) {
        ("int", Val::Int(n)) => Some(Val::Int(*n)),
        ("int", Val::Uint(n)) => i64::try_from(*n).ok().map(Val::Int),
        ("int", Val::Double(n)) => (n.abs() < 9.2e18).then_some(Val::Int(*n as i64)),
        ("int", Val::Str(text)) => text.parse().ok().map(Val::Int),
        ("uint", Val::Uint(n)) => Some(Val::Uint(*n)),
        ("uint", Val::Int(n)) => u64::try_from(*n).ok().map(Val::Uint),
        ("uint", Val::Double(n)) => (*n >= 0.0 && *n < 1.8e19).then_some(Val::Uint(*n as u64)),
        ("uint", Val::Str(text)) => text.parse().ok().map(Val::Uint),
        ("double", Val::Double(n)) => Some(Val::Double(*n)),
        ("double", Val::Int(n)) => Some(Val::Double(*n as f64)),
        ("double", Val::Uint(n)) => Some(Val::Double(*n as f64)),
        ("double", Val::Str(text)) => text.parse().ok().map(Val::Double),
        ("bool", Val::Bool(b)) => Some(Val::Bool(*b)),
        ("bool", Val::Str(text)) => text.parse().ok().map(Val::Bool),
        ("bytes", Val::Bytes(bytes)) => Some(Val::Bytes(bytes.clone())),
        ("bytes", Val::Str(text)) => Some(Val::Bytes(text.as_bytes().to_vec())),
        ("string", value) => text(value).map(|text| Val::Str(Cow::Owned(text))),
        _ => None,
    };
    converted.ok_or_else(failed)
}

fn text(value: &Val<'_>) -> Option<String> {
    match value {
        Val::Str(text) => Some(text.clone().into_owned()),
        Val::Bool(b) => Some(b.to_string()),
        Val::Int(n) => Some(n.to_string()),
        Val::Uint(n) => Some(n.to_string()),
        Val::Double(n) => Some(n.to_string()),
        Val::Bytes(bytes) => String::from_utf8(bytes.clone()).ok(),
        Val::Ip(address) => Some(address.to_string()),
        Val::Cidr(network) => Some(network.to_string()),
        Val::Url(url) => Some(url.to_string()),
        _ => None,
    }
}

fn optional<'a>(name: &str, inner: Option<Box<Val<'a>>>, args: &[Val<'a>]) -> Outcome<'a> {
    match (name, inner, args) {
        ("hasValue", inner, []) => Ok(Val::Bool(inner.is_some())),
        ("value", Some(inner), []) => Ok(*inner),
        ("value", None, []) => Err("optional.none() dereference".to_owned()),
        ("orValue", Some(inner), [_]) => Ok(*inner),
        ("orValue", None, [other]) => Ok(other.clone()),
        _ => Err(no_overload()),
    }
}

fn list_method<'a>(name: &str, items: &[Val<'a>], args: &[Val<'a>]) -> Outcome<'a> {
    let place = |found: Option<usize>| Val::Int(found.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1));
    match (name, args) {
        ("size", []) => Ok(Val::Int(i64::try_from(items.len()).unwrap_or(i64::MAX))),
        ("indexOf", [wanted]) => Ok(place(items.iter().position(|item| item == wanted))),
        ("lastIndexOf", [wanted]) => Ok(place(items.iter().rposition(|item| item == wanted))),
        ("isSorted", []) => {
            let ordered =
                |pair: &[Val<'a>]| matches!(pair[0].compare(&pair[1]), Some(Ordering::Less | Ordering::Equal));
            Ok(Val::Bool(items.windows(2).all(ordered)))
        }
        ("min" | "max", []) => {
            let wanted = if name == "min" { Ordering::Less } else { Ordering::Greater };
            let first = items.first().ok_or_else(|| format!("{name} called on empty list"))?;
            let better = |best: Val<'a>, item: &Val<'a>| {
                if item.compare(&best) == Some(wanted) { item.clone() } else { best }
            };
            Ok(items.iter().fold(first.clone(), better))
        }
        ("sum", []) => items.iter().try_fold(Val::Int(0), |sum, item| match (sum, item) {
            (Val::Int(sum), Val::Int(n)) => {
                sum.checked_add(*n).map(Val::Int).ok_or_else(|| "integer overflow".to_owned())
            }
            (Val::Int(0), Val::Double(n)) => Ok(Val::Double(*n)),
            (Val::Double(sum), Val::Double(n)) => Ok(Val::Double(sum + n)),
            _ => Err(no_overload()),
        }),
        ("join", []) => strings::join(items, ""),
        ("join", [Val::Str(separator)]) => strings::join(items, separator),
        _ => Err(no_overload()),
    }
}

fn ip_method<'a>(name: &str, address: IpAddr) -> Outcome<'a> {
    let (link_local, link_local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] & 0xff0f == 0xff02),
    };
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    Ok(match name {
        "family" => Val::Int(if address.is_ipv4() { 4 } else { 6 }),
        "isUnspecified" => Val::Bool(address.is_unspecified()),
        "isLoopback" => Val::Bool(address.is_loopback()),
        "isLinkLocalUnicast" => Val::Bool(link_local),
        "isLinkLocalMulticast" => Val::Bool(link_local_multicast),
        "isGlobalUnicast" => {
            let other = address.is_unspecified() || address.is_loopback() || address.is_multicast();
            Val::Bool(!(other || link_local || broadcast))
        }
        _ => return Err(no_overload()),
    })
}

fn cidr_method<'a>(name: &str, network: IpNet, args: &[Val<'a>]) -> Outcome<'a> {
    let bad = |text: &str| format!("network address parse error during conversion from string: {text:?}");
    Ok(match (name, args) {
        ("containsIP", [Val::Ip(address)]) => Val::Bool(network.contains(address)),
        ("containsIP", [Val::Str(text)]) => Val::Bool(network.contains(&ip(text).ok_or_else(|| bad(text))?)),
        ("containsCIDR", [Val::Cidr(other)]) => Val::Bool(network.contains(other)),
        ("containsCIDR", [Val::Str(text)]) => Val::Bool(network.contains(&cidr(text).ok_or_else(|| bad(text))?)),
        ("ip", []) => Val::Ip(network.addr()),
        ("masked", []) => Val::Cidr(network.trunc()),
        ("prefixLength", []) => Val::Int(i64::from(network.prefix_len())),
        _ => return Err(no_overload()),
    })
}

fn url_method<'a>(name: &str, url: &http::Uri) -> Outcome<'a> {
    let host = url.host().unwrap_or("");
    let port = url.port().map(|port| port.to_string());
    let part = match name {
        "getScheme" => url.scheme_str().unwrap_or("").to_owned(),
        "getHost" => port.map_or(host.to_owned(), |port| format!("{host}:{port}")),
        "getHostname" => host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        "getPort" => port.unwrap_or_default(),
        "getEscapedPath" => url.path().to_owned(),
        _ => return Err(no_overload()),
    };
    Ok(Val::Str(Cow::Owned(part)))
}

/// An address as Kubernetes takes it: no zones, no IPv4 in IPv6.
fn ip(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.parse().ok()?;
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    (!mapped).then_some(address)
}

fn cidr(text: &str) -> Option<IpNet> {
    if !formats::is_cidr(text) {
        return None;
    }
    let (address, length) = text.split_once('/')?;
    IpNet::new(ip(address)?, length.parse().ok()?).ok()
}

/// An absolute URI or an absolute path.
fn url(text: &str) -> Option<http::Uri> {
    let url: http::Uri = text.parse().ok()?;
    (url.scheme().is_some() || text.starts_with('/')).then_some(url)
}

fn regex(pattern: &str) -> Result<Regex, String> {
    Regex::new(pattern).map_err(|error| format!("Illegal regex: {error}"))
}

fn matches<'a>(text: &str, pattern: &str) -> Outcome<'a> {
    Ok(Val::Bool(regex(pattern)?.is_match(text)))
}

fn find_all<'a>(text: &str, pattern: &str, most: usize) -> Outcome<'a> {
    let regex = regex(pattern)?;
    let found = regex.find_iter(text).take(most);
    Ok(Val::List(found.map(|found| Val::Str(Cow::Owned(found.as_str().to_owned()))).collect()))
}
