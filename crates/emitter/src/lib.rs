//! The emitter: a read-only Kubernetes-style API of just the exported services of a cluster.
//!
//! Another cluster reads it instead of this one's kube-apiserver, and so needs no credentials there. What reads a
//! kube-apiserver reads it: `kubectl get svc -A -w`, client-go and kube-rs informers, Service-Reflector.
//!
//! ```text
//! controller ──► Emitter::set, remove, replace ──trim──► store ──► list, watch ──► the other cluster's controller
//!                                                                      ▲
//! tombolo invite ──► invitation ──► tombolo accept ──► /tombolo/v1/join ┘ a client certificate of the emitter's own CA
//! ```
//!
//! - [`Emitter`] serves. Until [`Emitter::set_ready`] every list is answered by 503: who reads an empty list takes it
//!   for "all gone".
//! - [`Authority`] is the certificate authority: of the server, and of the clusters that are admitted.
//! - [`Admissions`] says who is admitted; [`secrets`] keeps that in Secrets of the serving cluster, and
//!   [`admissions::InMemory`] nowhere.
//! - [`Invitation`] is the token that `tombolo invite` prints, and [`client`] what `tombolo accept` does with it.
//!
//! Who is not admitted learns nothing: without a certificate of the authority every request gets 401, with one that is
//! not admitted (any more) 403, and neither says what there is.

#![forbid(unsafe_code)]

pub mod admissions;
mod authority;
pub mod client;
mod emitted;
mod invitation;
mod metrics;
pub mod secrets;
mod server;
pub mod trim;

pub use admissions::{Admissions, Admitted, Certificate, ClaimError};
pub use authority::{Authority, SERVER_NAME};
pub use emitted::{Emitted, EmittedKind};
pub use invitation::{Invitation, is_cluster_name};
pub use metrics::Metrics;
pub use server::{Emitter, Identity};

/// Why the emitter, or a client of one, can't do what it is asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key can't be made or read.
    #[error("{what}: {error}; {next}")]
    Certificate {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        error: String,
        /// What to do.
        next: &'static str,
    },
    /// The listener, or the server behind it.
    #[error("the emitter can't serve: {0}")]
    Serve(String),
    /// The serving or the importing cluster's own API refuses something.
    #[error("{what}: {error}; {next}")]
    Kube {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: Box<kube::Error>,
        /// What to do.
        next: &'static str,
    },
    /// Something in the cluster is not as it must be.
    #[error("{0}")]
    State(String),
    /// A token can't be read.
    #[error("this is no invitation: {0}; copy the whole line that `tombolo invite` printed")]
    Token(&'static str),
    /// The emitter of another cluster doesn't answer as it must.
    #[error("{0}")]
    Remote(String),
}
