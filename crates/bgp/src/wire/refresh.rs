//! ROUTE-REFRESH (RFC 2918, RFC 7313): asks for all routes of a family again, and marks where they begin and end.
//!
//! ```text
//! 2 octets  AFI
//! 1 octet   subtype (reserved in RFC 2918)
//! 1 octet   SAFI
//! ```

use super::Notification;
use super::header::{Kind, write};
use super::notification::{message, route_refresh};

/// A ROUTE-REFRESH message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteRefresh {
    /// The address family identifier.
    pub afi: u16,
    /// The subsequent one.
    pub safi: u8,
    /// What it says.
    pub subtype: Subtype,
}

/// What a ROUTE-REFRESH says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Subtype {
    /// Send all routes again.
    Normal = 0,
    /// They begin (BoRR).
    Begin = 1,
    /// They ended (EoRR): what was not sent again is gone.
    End = 2,
}

impl RouteRefresh {
    /// Reads the body of a message. `None` is a subtype that is not known, to be ignored (RFC 7313, section 5).
    /// A filter list (RFC 5291) behind a normal one is not read: it is only sent where it was agreed on.
    ///
    /// # Errors
    /// Invalid Message Length, with the whole message as data (RFC 7313, section 5).
    pub fn parse(body: &[u8]) -> Result<Option<Self>, Notification> {
        let (&[a, b, subtype, safi], rest) = body.split_first_chunk().ok_or_else(|| bad_length(body))?;
        let subtype = match subtype {
            0 => Subtype::Normal,
            1 | 2 if !rest.is_empty() => return Err(bad_length(body)),
            1 => Subtype::Begin,
            2 => Subtype::End,
            _ => return Ok(None),
        };
        Ok(Some(Self { afi: u16::from_be_bytes([a, b]), safi, subtype }))
    }

    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let [a, b] = self.afi.to_be_bytes();
        write(out, Kind::RouteRefresh, |out| out.extend_from_slice(&[a, b, self.subtype as u8, self.safi]));
    }
}

#[cold]
fn bad_length(body: &[u8]) -> Notification {
    let mut whole = Vec::new();
    write(&mut whole, Kind::RouteRefresh, |out| out.extend_from_slice(body));
    Notification::new(message::ROUTE_REFRESH, route_refresh::LENGTH, whole)
}
