//! The routing tables: attributes stored once and shared, for each prefix the paths to it, and the choice among them.
//!
//! There is one table a family. What a neighbour announced (its Adj-RIB-In, RFC 4271 section 3.2) is the table's paths
//! with that neighbour as their source; the Loc-RIB is the best path of each prefix.

pub mod attributes;
pub mod decision;
pub(crate) mod huge_pages;
pub mod path;
pub mod table;
#[cfg(test)]
mod tests;

pub use attributes::{AttributeId, Attributes, Store};
pub use path::{Path, Paths};
pub use table::{Slot, Table};

use std::net::{IpAddr, Ipv4Addr};

/// Who a path is from: an index into the speaker's neighbours, or [`LOCAL`].
pub type SourceId = u32;

/// The speaker itself.
pub const LOCAL: SourceId = 0;

/// What the choice of paths and their export have to know of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// Where its paths are from.
    pub origin: crate::config::Origin,
    /// Whether it is a client of this reflector.
    pub client: bool,
    /// Its BGP identifier.
    pub router_id: Ipv4Addr,
    /// Its address.
    pub address: IpAddr,
}
