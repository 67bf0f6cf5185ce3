//! The cluster's loop: Services of other clusters are mirrored and imported, as `tombolo-services` plans it.
//!
//! ```text
//! source ──► watch ──► Remote ─┐                                   ┌──► writer ──► this cluster's API server
//!              watch ──► Own ──┴─► plan (pure, service by service) ─┴──► events, metrics, status
//! ```
//!
//! [`run`] holds everything that is known in one task. An event says which services it concerns; these are planned
//! anew, and the difference to what stands is written, several services at a time, each by one writer. So a change
//! costs what it changes, whatever the number of clusters.

#![forbid(unsafe_code)]

mod engine;
mod events;
mod health;
mod kinds;
mod leader;
mod metrics;
mod options;
mod own;
mod plan;
mod pool;
mod remote;
mod source;
mod status;
mod watch;
mod words;
mod writer;

pub use engine::run;
pub use options::{Location, Options, SourceOptions};

/// On a Secret that holds the kubeconfig of another cluster, under the key `kubeconfig`: the name of the source.
pub const SOURCE_LABEL: &str = "tombolo.io/source";

/// The name of the Secret of a source.
pub fn secret_name(source: &str) -> String {
    format!("tombolo-source-{source}")
}
