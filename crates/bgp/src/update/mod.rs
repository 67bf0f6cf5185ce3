//! UPDATE messages (RFC 4271, section 4.3): taken apart, checked as RFC 7606 says, and brought into the one form in
//! which attributes are stored.
//!
//! ```text
//!  Withdrawn Routes Length (2)   Withdrawn Routes   Total Path Attribute Length (2)   Path Attributes   NLRI
//! ```

pub mod as_path;
pub mod attributes;
#[cfg(test)]
mod tests;

use crate::wire::Notification;

/// Code 3, UPDATE Message Error, of a NOTIFICATION, and its subcodes.
mod error {
    pub(super) const CODE: u8 = 3;
    pub(super) const MALFORMED_ATTRIBUTE_LIST: u8 = 1;
    pub(super) const UNRECOGNIZED_WELL_KNOWN: u8 = 2;
    pub(super) const OPTIONAL_ATTRIBUTE: u8 = 9;
    pub(super) const INVALID_NETWORK_FIELD: u8 = 10;
}

/// The three fields of an UPDATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update<'a> {
    /// IPv4 prefixes that are no longer reached.
    pub withdrawn: &'a [u8],
    /// The path attributes.
    pub attributes: &'a [u8],
    /// IPv4 prefixes that are reached with the attributes.
    pub nlri: &'a [u8],
}

impl<'a> Update<'a> {
    /// Takes the body of an UPDATE apart.
    ///
    /// # Errors
    /// Lengths that do not fit: nothing of the message can be trusted then (RFC 7606, section 3 b).
    #[inline]
    pub fn split(body: &'a [u8]) -> Result<Self, Notification> {
        let malformed = || notification(error::MALFORMED_ATTRIBUTE_LIST, Vec::new());
        let (length, rest) = body.split_first_chunk::<2>().ok_or_else(malformed)?;
        let (withdrawn, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or_else(malformed)?;
        let (length, rest) = rest.split_first_chunk::<2>().ok_or_else(malformed)?;
        let (attributes, nlri) = rest.split_at_checked(u16::from_be_bytes(*length).into()).ok_or_else(malformed)?;
        Ok(Self { withdrawn, attributes, nlri })
    }
}

/// A field of prefixes that cannot be read ends the session, for nobody knows which routes it was about (RFC 7606,
/// section 5.3).
pub fn invalid_network_field() -> Notification {
    notification(error::INVALID_NETWORK_FIELD, Vec::new())
}

fn notification(subcode: u8, data: Vec<u8>) -> Notification {
    Notification { code: error::CODE, subcode, data }
}
