//! The Kubernetes types and annotation names that Tombolo reads and writes.
//!
//! [`kilo`] is Kilo's API, kept as it is so that nodes of both programs form one mesh; [`tombolo`] is what we add.

#![forbid(unsafe_code)]

pub mod kilo;
pub mod tombolo;
