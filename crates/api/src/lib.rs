//! The Kubernetes types and annotation names that Tombolo reads and writes.
//!
//! [`kilo`] is Kilo's API, kept as it is so that nodes of both programs form one mesh; [`kube_router`] are the
//! annotations of kube-router that concern BGP; [`mcs`] is the Multi-Cluster Services API and [`about`] the id of a
//! cluster in it; [`tombolo`] is what we add.

#![forbid(unsafe_code)]

pub mod about;
pub mod kilo;
pub mod kube_router;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod manifests;
pub mod mcs;
pub mod tombolo;
