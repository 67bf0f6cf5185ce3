//! What an nftables table holds, as values that can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::udp::UdpFrontend;

/// The contents of one table of family `inet`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tables {
    /// The table's name.
    pub name: String,
    /// Sets and maps by name.
    pub sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
    /// The endpoints of every UDP service port: what [`crate::stale_udp`] compares.
    pub(crate) udp: BTreeMap<UdpFrontend, BTreeSet<SocketAddr>>,
}

/// A set, or a map when its elements have values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// `set` or `map`.
    pub kind: &'static str,
    /// What stands between the braces of its declaration: type, flags, timeout.
    pub declaration: String,
    /// The elements in nftables notation: key, and value in a map.
    pub elements: BTreeMap<String, Option<String>>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// For a base chain its type, hook, priority and policy.
    pub hook: Option<String>,
    /// The rules in order, in nftables notation.
    pub rules: Vec<String>,
}

impl Set {
    /// An empty set.
    pub(crate) fn plain(declaration: impl Into<String>) -> Self {
        Self { kind: "set", declaration: declaration.into(), elements: BTreeMap::new() }
    }

    /// An empty map.
    pub(crate) fn map(declaration: impl Into<String>) -> Self {
        Self { kind: "map", declaration: declaration.into(), elements: BTreeMap::new() }
    }
}

impl Chain {
    /// A chain that others lead to.
    pub(crate) fn regular(rules: Vec<String>) -> Self {
        Self { hook: None, rules }
    }

    /// A chain that the kernel enters.
    pub(crate) fn base(hook: impl Into<String>, rules: Vec<String>) -> Self {
        Self { hook: Some(hook.into()), rules }
    }
}
