//! The cross-platform userspace protocol, as `wg` and every userspace device speak it
//! (<https://www.wireguard.com/xplatform/#configuration-protocol>): lines of `key=value`, ended by an empty one.
//!
//! A request is `get=1` or `set=1` with the lines of a [`Set`]; the answer ends with `errno=N`. Keys are hexadecimal.
//! No I/O here: [`crate::userspace`] and [`crate::embedded`] are the two ends.

mod set;
mod status;

use std::fmt;

use tombolo_net::wireguard::Key;

pub use set::{AllowedIp, Set, SetPeer};
pub use status::{parse_status, render_status};

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Say what you are.
    Get,
    /// Become this.
    Set(Set),
}

/// Why a request or an answer is not understood; devices answer `EINVAL` to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line:?}: {reason}")]
pub struct UapiError {
    /// The line, with the value of a secret left out.
    pub line: String,
    /// What is wrong with it.
    pub reason: String,
}

impl UapiError {
    fn new(line: &str, reason: impl Into<String>) -> Self {
        let secret = line.starts_with("private_key=") || line.starts_with("preshared_key=");
        let line = match line.split_once('=') {
            Some((key, _)) if secret => format!("{key}=…"),
            _ => line.chars().take(200).collect(),
        };
        Self { line, reason: reason.into() }
    }
}

impl Request {
    /// Reads the lines of one request, without or with the empty one that ends it.
    pub fn parse(text: &str) -> Result<Self, UapiError> {
        let (operation, rest) = text.split_once('\n').unwrap_or((text, ""));
        match operation {
            "get=1" if rest.trim_end_matches('\n').is_empty() => Ok(Self::Get),
            "get=1" => Err(UapiError::new(rest.lines().next().unwrap_or_default(), "nothing follows get=1")),
            "set=1" => Ok(Self::Set(Set::parse(rest)?)),
            other => Err(UapiError::new(other, "a request begins with get=1 or set=1")),
        }
    }
}

impl fmt::Display for Request {
    /// The request with the empty line that ends it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get => f.write_str("get=1\n\n"),
            Self::Set(set) => write!(f, "set=1\n{set}\n"),
        }
    }
}

/// The last lines of an answer. Errors are negative on the wire, as wireguard-go sends them.
pub fn render_errno(errno: i32) -> String {
    format!("errno={}\n\n", -errno.abs())
}

/// Splits the answer into its lines and the error number in them, whatever its sign; 0 is success.
pub fn split_answer(text: &str) -> Result<(&str, i32), UapiError> {
    let body = text.trim_end_matches('\n');
    let start = body.rfind('\n').map_or(0, |at| at + 1);
    let last = &body[start..];
    let errno = last.strip_prefix("errno=").ok_or_else(|| UapiError::new(last, "an answer ends with errno=N"))?;
    let errno: i32 = errno.parse().map_err(|_| UapiError::new(last, "the error number is not a number"))?;
    Ok((&body[..start], errno.saturating_abs()))
}

/// The lines of a text as key and value.
fn pairs(text: &str) -> impl Iterator<Item = Result<(&str, &str, &str), UapiError>> {
    text.lines().filter(|line| !line.is_empty()).map(|line| {
        let (key, value) = line.split_once('=').ok_or_else(|| UapiError::new(line, "a line is key=value"))?;
        Ok((line, key, value))
    })
}

fn number<T: std::str::FromStr>(line: &str, value: &str) -> Result<T, UapiError> {
    value.parse().map_err(|_| UapiError::new(line, "not a number, or out of range"))
}

fn flag(line: &str, value: &str) -> Result<(), UapiError> {
    if value == "true" { Ok(()) } else { Err(UapiError::new(line, "the only value is true")) }
}

fn key(line: &str, value: &str) -> Result<Key, UapiError> {
    let error = || UapiError::new(line, "a key is 64 hexadecimal digits");
    let digits = value.as_bytes();
    if digits.len() != 64 {
        return Err(error());
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or_else(error);
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(Key(bytes))
}

/// A key as the protocol writes it.
struct Hex<'a>(&'a Key);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn requests_that_are_none_say_why() {
        let key = "ab".repeat(32);
        for (text, reason) in [
            ("", "begins with get=1"),
            ("put=1", "begins with get=1"),
            ("get=1\nlisten_port=1", "nothing follows"),
            ("set=1\nlisten_port", "key=value"),
            ("set=1\nlisten_port=65536", "out of range"),
            ("set=1\nlisten_port=-1", "out of range"),
            ("set=1\nfwmark=4294967296", "out of range"),
            ("set=1\nprivate_key=abc", "64 hexadecimal"),
            (&format!("set=1\nprivate_key={}", "zz".repeat(32)), "64 hexadecimal"),
            (&format!("set=1\nprivate_key={}", "é".repeat(32)), "64 hexadecimal"),
            ("set=1\nreplace_peers=false", "only value is true"),
            ("set=1\nallowed_ip=10.0.0.0/8", "before the first public_key"),
            ("set=1\ncolour=red", "unknown"),
            (&format!("set=1\npublic_key={key}\nendpoint=10.0.0.1"), "ADDRESS:PORT"),
            (&format!("set=1\npublic_key={key}\nallowed_ip=10.0.0.0/33"), "ADDRESS/LENGTH"),
            (&format!("set=1\npublic_key={key}\nprotocol_version=2"), "version 1"),
            (&format!("set=1\npublic_key={key}\nlisten_port=1"), "unknown"),
        ] {
            let error = Request::parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn an_error_does_not_show_a_secret() {
        let error = Request::parse("set=1\nprivate_key=secret").unwrap_err();
        assert_eq!(error.line, "private_key=…");
    }

    #[test]
    fn the_error_number_is_read_with_either_sign() {
        assert_eq!(split_answer("errno=0\n\n"), Ok(("", 0)));
        assert_eq!(split_answer("a=b\nerrno=-22\n\n"), Ok(("a=b\n", 22)));
        assert_eq!(split_answer("errno=22\n\n"), Ok(("", 22)));
        assert!(split_answer("a=b\n\n").is_err());
        assert!(split_answer("").is_err());
        assert_eq!(render_errno(22), "errno=-22\n\n");
        assert_eq!(render_errno(0), "errno=0\n\n");
    }

    #[test]
    fn get_round_trips() {
        assert_eq!(Request::parse(&Request::Get.to_string()), Ok(Request::Get));
    }
}
