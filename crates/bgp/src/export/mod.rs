//! What neighbours are told.
//!
//! Neighbours that are to be told the same (the same kind of session, the same policy: the same [`View`]) are a
//! [`Group`]. What changed in the table is compared, and put into messages, once a group; each member gets the bytes,
//! shared, without what it announced itself. A member that reads too slowly is taken off that stream: then it costs a
//! bit a prefix, and when it reads again it is told what is different by then.

pub mod encode;
pub mod group;
pub mod queue;
pub mod view;

pub use encode::{Audience, Burst, Segment};
pub use group::Group;
pub use queue::Queue;
pub use view::View;

use std::net::Ipv4Addr;

use crate::rib::{Source, Store};

/// What export needs of the speaker.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The attributes.
    pub store: &'a Store,
    /// The sources.
    pub sources: &'a [Source],
    /// The reflector's cluster (RFC 4456).
    pub cluster_id: Ipv4Addr,
}
