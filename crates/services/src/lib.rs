//! Services of many clusters to what stands for them in this one: pure.
//!
//! ```text
//! k8s objects of the clusters ──convert──► Service, Slice, Export ─┬─mirrors::mirror──► Mirror ─┐
//!                                                                  └─imports::merge───► Merged ─┴─► Objects
//! k8s objects of this cluster ──convert──► Objects ──changes(current, desired)──► Vec<Change> ──convert──► k8s objects
//! ```
//!
//! [`mirrors`] makes Services of other clusters stand here under their own names, as Service-Reflector does.
//! [`imports`] merges what clusters export into ServiceImports (the Multi-Cluster Services API, KEP-1645). Both work on
//! one service at a time, so that a change of one costs no look at the others. [`staleness`] says what a source that
//! cannot be reached, or that has suddenly lost nearly all, still counts for. [`changes`] finds what is to be written.
//!
//! [`source::Source`] holds what is known of one cluster, and says for each service what that amounts to.
//!
//! What cannot be used is refused for itself ([`Refused`]) and everything else goes on.

#![forbid(unsafe_code)]

mod changes;
pub mod clusters;
pub mod convert;
mod endpoints;
pub mod imports;
pub mod ips;
pub mod mirrors;
mod model;
pub mod selector;
pub mod source;
pub mod staleness;

pub use changes::{Change, Object, Objects, changes};
pub use endpoints::{EndpointMode, Here};
pub use model::{
    Condition, Endpoint, Export, Import, Kind, LegacyEndpoints, OwnSlice, Service, ServicePort, Slice, SlicePort,
    Status, Subset, Timestamp,
};
pub use source::{Source, Word};
pub use tombolo_proxy::{Family, Protocol, Refused, ServiceKey, TrafficPolicy};
