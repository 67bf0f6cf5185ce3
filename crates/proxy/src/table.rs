//! What an nftables table holds, as values that can be compared.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use tombolo_net::nft::Data;

use crate::model::Protocol;
use crate::udp::{UdpFrontend, UdpState};

/// The contents of one table of family `inet`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tables {
    /// The table's name.
    pub name: String,
    /// Sets and maps by name.
    pub sets: BTreeMap<String, Set>,
    /// Chains by name.
    pub chains: BTreeMap<String, Chain>,
    /// The endpoints of every UDP frontend.
    pub(crate) udp: BTreeMap<UdpFrontend, UdpState>,
}

/// A set, or a map when its elements have values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// `set` or `map`.
    pub kind: &'static str,
    /// What stands between the braces of its declaration: type, flags, timeout.
    pub declaration: String,
    /// The elements.
    pub elements: BTreeMap<Key, Element>,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chain {
    /// For a base chain its type, hook, priority and policy.
    pub hook: Option<String>,
    /// The rules in order, in nftables notation.
    pub rules: Vec<String>,
}

/// The key of an element. `Display` is nftables notation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Protocol, address and port of a service port.
    Frontend(Protocol, IpAddr, u16),
    /// One of the endpoints of a frontend, by its number.
    Slot(Protocol, IpAddr, u16, u32),
    /// Protocol and port at the node's addresses.
    NodePort(Protocol, u16),
    /// One of the endpoints of a node port, by its number.
    NodePortSlot(Protocol, u16, u32),
    /// An address.
    Address(IpAddr),
    /// An address, twice: source and destination.
    Pair(IpAddr),
    /// A port.
    Port(u16),
    /// A network.
    Net(IpNet),
}

/// What a map has for a key. `Display` is nftables notation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Go on in this chain.
    Goto(Arc<str>),
    /// Drop the packet.
    Drop,
    /// An address and a port.
    Endpoint(SocketAddr),
    /// An address.
    Address(IpAddr),
}

/// What belongs to a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Element {
    /// In a map, the value.
    pub value: Option<Value>,
    /// For whoever lists the table.
    pub comment: Option<Arc<str>>,
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

impl Element {
    pub(crate) fn value(value: Value) -> Self {
        Self { value: Some(value), comment: None }
    }
}

impl Key {
    /// The key as the kernel takes it; none for a network, which is an interval.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        let mut fields = Fields::default();
        match *self {
            Self::Frontend(protocol, address, port) => fields.frontend(protocol, address, port),
            Self::Slot(protocol, address, port, number) => {
                fields.frontend(protocol, address, port);
                fields.number(number);
            }
            Self::NodePort(protocol, port) => fields.node_port(protocol, port),
            Self::NodePortSlot(protocol, port, number) => {
                fields.node_port(protocol, port);
                fields.number(number);
            }
            Self::Address(address) => fields.address(address),
            Self::Pair(address) => {
                fields.address(address);
                fields.address(address);
            }
            // Alone, a field is not padded.
            Self::Port(port) => return Some(port.to_be_bytes().into()),
            Self::Net(_) => return None,
        }
        Some(fields.0)
    }
}

impl Value {
    /// The value as the kernel takes it.
    pub(crate) fn data(&self) -> Data<'_> {
        let mut fields = Fields::default();
        match self {
            Self::Goto(chain) => return Data::Goto(chain),
            Self::Drop => return Data::Drop,
            Self::Endpoint(endpoint) => {
                fields.address(endpoint.ip());
                fields.port(endpoint.port());
            }
            Self::Address(address) => fields.address(*address),
        }
        Data::Value(fields.0)
    }
}

/// A concatenation: each field is padded to four bytes.
#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn frontend(&mut self, protocol: Protocol, address: IpAddr, port: u16) {
        self.0.extend([protocol.number(), 0, 0, 0]);
        self.address(address);
        self.port(port);
    }

    fn node_port(&mut self, protocol: Protocol, port: u16) {
        self.0.extend([protocol.number(), 0, 0, 0]);
        self.port(port);
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.0.extend(v4.octets()),
            IpAddr::V6(v6) => self.0.extend(v6.octets()),
        }
    }

    fn port(&mut self, port: u16) {
        self.0.extend(port.to_be_bytes());
        self.0.extend([0, 0]);
    }

    /// What `numgen` gives is in the byte order of the machine.
    fn number(&mut self, number: u32) {
        self.0.extend(number.to_ne_bytes());
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frontend(protocol, address, port) => write!(f, "{protocol} . {address} . {port}"),
            Self::Slot(protocol, address, port, number) => write!(f, "{protocol} . {address} . {port} . {number}"),
            Self::NodePort(protocol, port) => write!(f, "{protocol} . {port}"),
            Self::NodePortSlot(protocol, port, number) => write!(f, "{protocol} . {port} . {number}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Pair(address) => write!(f, "{address} . {address}"),
            Self::Port(port) => write!(f, "{port}"),
            Self::Net(net) => write!(f, "{net}"),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Drop => f.write_str("drop"),
            Self::Endpoint(endpoint) => write!(f, "{} . {}", endpoint.ip(), endpoint.port()),
            Self::Address(address) => write!(f, "{address}"),
        }
    }
}
