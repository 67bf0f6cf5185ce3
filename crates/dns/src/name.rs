//! Domain names in wire format, lower case (RFC 1035 section 3.1, RFC 4343).

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;

/// The longest name in wire format.
pub(crate) const MAX_NAME: usize = 255;
const MAX_LABEL: usize = 63;

/// A whole domain name: length-prefixed labels in lower case, and the root's empty label.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// Why a text is not a domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A label is empty or has more than 63 bytes.
    #[error("{0:?} is not a label of a domain name: it must have 1 to 63 characters")]
    Label(String),
    /// The whole is too long.
    #[error("the domain name of {0:?} would be longer than 255 bytes")]
    TooLong(String),
}

impl Name {
    /// Reads a name in dotted notation; the trailing dot may be left out. There are no escapes.
    ///
    /// # Errors
    /// An empty or overlong label, or a name of more than 255 bytes.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let dotted = text.strip_suffix('.').unwrap_or(text);
        let mut wire = Vec::with_capacity(dotted.len() + 2);
        if !dotted.is_empty() {
            for label in dotted.split('.') {
                push_label(&mut wire, label)?;
            }
        }
        Self::finish(wire, text)
    }

    /// The name `label.self`.
    ///
    /// # Errors
    /// An empty or overlong label, or a name of more than 255 bytes.
    pub fn child(&self, label: &str) -> Result<Self, NameError> {
        let mut wire = Vec::with_capacity(self.0.len() + label.len() + 1);
        push_label(&mut wire, label)?;
        wire.extend_from_slice(&self.0[..self.0.len() - 1]);
        Self::finish(wire, label)
    }

    /// The name under `in-addr.arpa` or `ip6.arpa` that stands for an address
    /// (RFC 1035 section 3.5, RFC 3596 section 2.5).
    pub fn reverse(address: IpAddr) -> Self {
        let mut wire = Vec::with_capacity(74);
        match address {
            IpAddr::V4(v4) => {
                for octet in v4.octets().into_iter().rev() {
                    let label = octet.to_string();
                    wire.push(label.len() as u8);
                    wire.extend_from_slice(label.as_bytes());
                }
                wire.extend_from_slice(b"\x07in-addr\x04arpa\0");
            }
            IpAddr::V6(v6) => {
                for octet in v6.octets().into_iter().rev() {
                    for nibble in [octet & 0xf, octet >> 4] {
                        wire.push(1);
                        wire.push(b"0123456789abcdef"[usize::from(nibble)]);
                    }
                }
                wire.extend_from_slice(b"\x03ip6\x04arpa\0");
            }
        }
        Self(wire.into_boxed_slice())
    }

    /// The name in wire format.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A name from bytes that are known to be one in lower case.
    pub(crate) fn from_wire(wire: &[u8]) -> Self {
        Self(wire.into())
    }

    fn finish(mut wire: Vec<u8>, text: &str) -> Result<Self, NameError> {
        wire.push(0);
        if wire.len() > MAX_NAME {
            return Err(NameError::TooLong(text.to_owned()));
        }
        Ok(Self(wire.into_boxed_slice()))
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.len() == 1 {
            return f.write_str(".");
        }
        for label in labels(&self.0) {
            write!(f, "{}.", label.escape_ascii())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The labels of a name in wire format, without the root's.
pub(crate) fn labels(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = wire;
    std::iter::from_fn(move || {
        let (&len, tail) = rest.split_first()?;
        if len == 0 || tail.len() < usize::from(len) {
            return None;
        }
        let (label, tail) = tail.split_at(usize::from(len));
        rest = tail;
        Some(label)
    })
}

/// The name without its first label; none for the root.
pub(crate) fn parent(wire: &[u8]) -> Option<&[u8]> {
    match wire.first() {
        None | Some(0) => None,
        Some(&len) => wire.get(usize::from(len) + 1..),
    }
}

fn push_label(wire: &mut Vec<u8>, label: &str) -> Result<(), NameError> {
    if label.is_empty() || label.len() > MAX_LABEL {
        return Err(NameError::Label(label.to_owned()));
    }
    wire.push(label.len() as u8);
    wire.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
    Ok(())
}
