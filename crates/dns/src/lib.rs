//! Zones out of Services, and the server that answers for them.
//!
//! ```text
//! Service, EndpointSlice ──Catalog──► Diff ──► Zones ◄── answer() ◄── packets
//!      (watch)             (pure)              (pure)     (pure)      (server)
//! ```
//!
//! - [`Catalog`] keeps what the names depend on and says, for each change of an object, which
//!   records go and which come: the Kubernetes DNS specification 1.1 lives there.
//! - [`Zones`] holds the records, a [`Zone`] an origin, and is changed by a [`Diff`] in place.
//! - [`answer`] turns the bytes of a query into the bytes of a response, or says that the question
//!   is for a forwarder.
//! - [`server`] and [`forward`] are the ends towards the network, [`watch`] the one towards the
//!   Kubernetes API, [`ready`] tells whether the zones are complete.
//!
//! Until the Kubernetes objects are all read, names in the cluster's zones get SERVFAIL: a client
//! asks again, where NXDOMAIN would be believed.
#![deny(unsafe_code)]

mod answer;
mod cache;
mod catalog;
mod foreign;
pub mod forward;
mod message;
mod metrics;
mod mmsg;
mod name;
pub mod ready;
mod record;
mod reverse;
pub mod server;
#[cfg(test)]
mod tests;
mod udp;
pub mod watch;
mod writer;
mod zone;

pub use answer::{Reply, Transport, answer};
pub use catalog::{Catalog, Diff, ObjectKey};
pub use message::{Edns, Malformed, Query, Rcode, RecordType};
pub use name::{Name, NameError};
pub use record::{Data, Record};
pub use zone::{Zone, Zones};

/// The time to live of our records, in seconds: short, since Services come and go.
pub const TTL: u32 = 5;
