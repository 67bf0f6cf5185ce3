//! A feed for monitoring stations: BMP (RFC 7854).
//!
//! A station is connected to ([`Station`]) and told who this speaker is, its sessions, what their neighbours announced
//! as it came (the Adj-RIB-In before policy), and then everything that comes. A thread for each writes; one that reads
//! too slowly is left, and begins anew.

pub mod encode;
pub(crate) mod station;

use std::time::Duration;

/// A station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Station {
    /// Where it is: `ADDR:PORT` or `NAME:PORT`. BMP has no port of its own.
    pub address: String,
    /// How often it is told how many routes there are; `None` is never.
    pub statistics: Option<Duration>,
    /// What this speaker calls itself: the `sysName` of SNMP.
    pub name: String,
    /// What it is: the `sysDescr` of SNMP.
    pub description: String,
}
