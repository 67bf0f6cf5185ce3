//! The Kubernetes types and annotation names that Tombolo reads and writes.
//!
//! [`kilo`] is Kilo's API, kept as it is so that nodes of both programs form one mesh; [`kube_router`] are the
//! annotations of kube-router that concern BGP; [`tombolo`] is what we add.

#![forbid(unsafe_code)]

pub mod kilo;
pub mod kube_router;
pub mod tombolo;
