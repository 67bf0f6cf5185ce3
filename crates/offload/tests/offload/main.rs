//! The crate from outside, against references that are written for clarity: what goes in comes out.

#![allow(clippy::unwrap_used)]

mod checksum;
mod coalesce;
mod ecn;
mod icmp;
mod naive;
mod robust;
mod roundtrip;
mod same;
mod segment;
