//! The messages on the wire (RFC 4271, section 4, and what it grew).
//!
//! Parsing borrows from the bytes received and never panics; what is wrong comes back as the [`Notification`] that the
//! neighbour is due. Nothing here knows a session: what was negotiated comes in as arguments.

pub mod capability;
pub mod header;
pub mod notification;
pub mod open;
pub mod refresh;
#[cfg(test)]
mod tests;

pub use capability::Capability;
pub use header::{HEADER, Kind, MAX, MAX_EXTENDED, Message, keepalive, next, write};
pub use notification::Notification;
pub use open::Open;
pub use refresh::{RouteRefresh, Subtype};

/// Takes bytes off the front of a slice.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(|[b]| b)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }
}
