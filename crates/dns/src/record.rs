//! Records, and how they are kept: in wire format, ready to be sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::TTL;
use crate::message::{CLASS_IN, HEADER, RecordType};
use crate::name::Name;

/// The data of one record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// Where a service is: port and host (RFC 2782). Priority is 0, weight 100.
    Srv {
        /// The port.
        port: u16,
        /// The host's name.
        target: Name,
    },
    /// The name of an address.
    Ptr(Name),
    /// The name that this one stands for.
    Cname(Name),
    /// Text of at most 255 bytes.
    Txt(Box<str>),
    /// No record at all: the name exists, whatever else it has.
    Empty,
}

/// A record of one of the zones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Record {
    /// The name.
    pub owner: Name,
    /// The data.
    pub data: Data,
}

/// The records of one type that a name has, each in wire format with the question's name as its
/// owner (a pointer to byte 12), so that they are copied into a response as they are.
///
/// ```text
/// c0 0c | type | class | time to live (4) | length | data …
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordSet {
    record_type: RecordType,
    count: u16,
    wire: Vec<u8>,
}

/// What precedes the data of a record: pointer, type, class, time to live, length.
const FIXED: usize = 12;

impl Data {
    /// The type of the record; none where there is no record.
    pub fn record_type(&self) -> Option<RecordType> {
        Some(match self {
            Self::A(_) => RecordType::A,
            Self::Aaaa(_) => RecordType::AAAA,
            Self::Srv { .. } => RecordType::SRV,
            Self::Ptr(_) => RecordType::PTR,
            Self::Cname(_) => RecordType::CNAME,
            Self::Txt(_) => RecordType::TXT,
            Self::Empty => return None,
        })
    }

    /// The record of an address.
    pub fn address(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::A(v4),
            IpAddr::V6(v6) => Self::Aaaa(v6),
        }
    }

    /// Appends the data in wire format.
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::A(address) => out.extend_from_slice(&address.octets()),
            Self::Aaaa(address) => out.extend_from_slice(&address.octets()),
            Self::Srv { port, target } => {
                out.extend_from_slice(&[0, 0, 0, 100]);
                out.extend_from_slice(&port.to_be_bytes());
                out.extend_from_slice(target.as_bytes());
            }
            Self::Ptr(name) | Self::Cname(name) => out.extend_from_slice(name.as_bytes()),
            Self::Txt(text) => {
                let text = &text.as_bytes()[..text.len().min(255)];
                out.push(text.len() as u8);
                out.extend_from_slice(text);
            }
            Self::Empty => {}
        }
    }
}

impl RecordSet {
    /// The set of one record; none where there is no record.
    pub(crate) fn new(data: &Data) -> Option<Self> {
        let record_type = data.record_type()?;
        Some(Self { record_type, count: 1, wire: compile(record_type, data) })
    }

    pub(crate) fn record_type(&self) -> RecordType {
        self.record_type
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// All records, beginning with the one that stands at `first`: the two parts of the whole, in
    /// the order in which they are to be sent.
    pub(crate) fn from(&self, first: u16) -> (&[u8], &[u8]) {
        let at: usize = self.records().take(usize::from(first)).map(<[u8]>::len).sum();
        let (before, after) = self.wire.split_at(at);
        (after, before)
    }

    /// Each record in wire format.
    pub(crate) fn records(&self) -> impl Iterator<Item = &[u8]> {
        split(&self.wire)
    }

    /// The name that an alias, or the first record of a set of names, is for.
    pub(crate) fn target(&self) -> Option<&[u8]> {
        self.wire.get(FIXED..)
    }

    /// Adds a record; false if it is there.
    pub(crate) fn insert(&mut self, data: &Data) -> bool {
        let record = compile(self.record_type, data);
        if self.count == u16::MAX || self.records().any(|known| known == record) {
            return false;
        }
        self.wire.reserve_exact(record.len());
        self.wire.extend_from_slice(&record);
        self.count += 1;
        true
    }

    /// Takes a record out; false if it is not there.
    pub(crate) fn remove(&mut self, data: &Data) -> bool {
        let record = compile(self.record_type, data);
        let Some(index) = self.records().position(|known| known == record) else {
            return false;
        };
        let at: usize = self.records().take(index).map(<[u8]>::len).sum();
        self.wire.drain(at..at + record.len());
        self.wire.shrink_to_fit();
        self.count -= 1;
        true
    }
}

/// The records of a piece of [`RecordSet::wire`].
pub(crate) fn split(mut wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = wire.get(FIXED - 2..FIXED)?;
        let length = FIXED + usize::from(u16::from_be_bytes([length[0], length[1]]));
        let (record, rest) = wire.split_at_checked(length)?;
        wire = rest;
        Some(record)
    })
}

fn compile(record_type: RecordType, data: &Data) -> Vec<u8> {
    let mut wire = vec![0xc0, HEADER as u8];
    wire.extend_from_slice(&record_type.0.to_be_bytes());
    wire.extend_from_slice(&CLASS_IN.to_be_bytes());
    wire.extend_from_slice(&TTL.to_be_bytes());
    wire.extend_from_slice(&[0, 0]);
    data.write(&mut wire);
    let length = (wire.len() - FIXED) as u16;
    wire[FIXED - 2..FIXED].copy_from_slice(&length.to_be_bytes());
    wire.shrink_to_fit();
    wire
}
