//! The cluster's loop: Services of other clusters are mirrored and imported, as `tombolo-services` plans it.
//!
//! ```text
//! source ──► watch ──► Remote ─┐                                   ┌──► writer ──► this cluster's API server
//!              watch ──► Own ──┴─► plan (pure, service by service) ─┴──► events, metrics, status
//! ```
//!
//! [`run`] holds everything that is known in one task. An event says which services it concerns; these are planned
//! anew, and the difference to what stands is written, several services at a time, each by one writer. So a change
//! costs what it changes, whatever the number of clusters. The same events feed the emitter (`tombolo-emitter`), which
//! offers this cluster's Services to others.

#![forbid(unsafe_code)]

mod emit;
mod engine;
mod events;
mod health;
mod kinds;
mod leader;
mod limit;
mod metrics;
mod options;
mod own;
mod plan;
mod pool;
mod raw;
mod remote;
mod source;
mod status;
mod watch;
mod words;
mod writer;

pub use emit::EmitOptions;
pub use engine::run;
pub use options::{Location, Options, SourceOptions};
