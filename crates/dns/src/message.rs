//! DNS messages, as far as a server needs them (RFC 1035 section 4, RFC 6891).
//!
//! ```text
//!      0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15
//!    +--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
//!  0 |                      ID                       |
//!  2 |QR|   Opcode  |AA|TC|RD|RA| Z|AD|CD|   RCODE   |
//!  4 |                    QDCOUNT                    |
//!  6 |                    ANCOUNT                    |
//!  8 |                    NSCOUNT                    |
//! 10 |                    ARCOUNT                    |
//! 12 |  question: name, type, class; records …       |
//! ```

use crate::name::{MAX_NAME, Name};

/// The largest datagram we send, and the size that we announce: it is never fragmented
/// (the value of the DNS flag day 2020).
pub(crate) const MAX_UDP: usize = 1232;
const MIN_UDP: usize = 512;
pub(crate) const HEADER: usize = 12;
const OPT_LEN: usize = 11;

const FLAG_RESPONSE: u16 = 0x8000;
pub(crate) const FLAG_TRUNCATED: u16 = 0x0200;
const FLAG_RECURSION_DESIRED: u16 = 0x0100;
const FLAG_RECURSION_AVAILABLE: u16 = 0x0080;
const FLAG_AUTHENTIC_DATA: u16 = 0x0020;
const FLAG_CHECKING_DISABLED: u16 = 0x0010;
pub(crate) const OPCODE: u16 = 0x7800;
const RCODE: u16 = 0x000f;

/// A type of record (`TYPE`, `QTYPE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordType(pub u16);

#[allow(missing_docs)] // the names are the standard's
impl RecordType {
    pub const A: Self = Self(1);
    pub const CNAME: Self = Self(5);
    pub const SOA: Self = Self(6);
    pub const PTR: Self = Self(12);
    pub const TXT: Self = Self(16);
    pub const AAAA: Self = Self(28);
    pub const SRV: Self = Self(33);
    pub const OPT: Self = Self(41);
    pub const IXFR: Self = Self(251);
    pub const AXFR: Self = Self(252);
    pub const ANY: Self = Self(255);
}

/// The class of the Internet.
pub(crate) const CLASS_IN: u16 = 1;

/// A response code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rcode {
    /// There is an answer, if only that the name has no such records.
    NoError,
    /// The query can't be read.
    FormErr,
    /// The server can't answer now.
    ServFail,
    /// The name does not exist.
    NxDomain,
    /// Not a kind of request that is served.
    NotImp,
    /// Not a question for this server.
    Refused,
    /// An EDNS version other than 0.
    BadVers,
}

impl Rcode {
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::FormErr => 1,
            Self::ServFail => 2,
            Self::NxDomain => 3,
            Self::NotImp => 4,
            Self::Refused => 5,
            Self::BadVers => 16,
        }
    }
}

/// What the client said of itself by EDNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// The largest datagram that it takes, in bytes.
    pub udp_size: u16,
    /// The version; there is only 0.
    pub version: u8,
    /// It wants DNSSEC records.
    pub dnssec_ok: bool,
}

/// A query with its one question.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    /// The number that ties the response to it.
    pub id: u16,
    /// The header's flags.
    pub flags: u16,
    /// The question as sent: name, type, class.
    pub question: &'a [u8],
    /// The question's name in lower case.
    lower: [u8; MAX_NAME],
    lower_len: usize,
    /// What is asked for.
    pub record_type: RecordType,
    /// The class, which should be 1.
    pub class: u16,
    /// EDNS, where the client speaks it.
    pub edns: Option<Edns>,
}

/// Why a message is not a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// It is no request at all: nothing is to be said.
    Silent,
    /// The client is told so.
    Told {
        /// The request's number.
        id: u16,
        /// The request's flags.
        flags: u16,
        /// Its fault.
        rcode: Rcode,
    },
}

impl<'a> Query<'a> {
    /// Reads a query. Records in it are skipped but for OPT.
    ///
    /// # Errors
    /// A message that is no query, is cut off or has not exactly one question.
    pub fn parse(packet: &'a [u8]) -> Result<Self, Malformed> {
        let (Some(id), Some(flags)) = (u16_at(packet, 0), u16_at(packet, 2)) else {
            return Err(Malformed::Silent);
        };
        if packet.len() < HEADER || flags & FLAG_RESPONSE != 0 {
            return Err(Malformed::Silent);
        }
        let told = |rcode| Malformed::Told { id, flags, rcode };
        if flags & OPCODE != 0 {
            return Err(told(Rcode::NotImp));
        }
        if u16_at(packet, 4) != Some(1) {
            return Err(told(Rcode::FormErr));
        }
        Self::parse_body(packet, id, flags).ok_or(told(Rcode::FormErr))
    }

    fn parse_body(packet: &'a [u8], id: u16, flags: u16) -> Option<Self> {
        let mut lower = [0; MAX_NAME];
        let lower_len = lower_name(packet, HEADER, &mut lower)?;
        let end = HEADER + lower_len + 4;
        let question = packet.get(HEADER..end)?;
        Some(Self {
            id,
            flags,
            question,
            lower,
            lower_len,
            record_type: RecordType(u16_at(packet, end - 4)?),
            class: u16_at(packet, end - 2)?,
            edns: edns(packet, end)?,
        })
    }

    /// The question's name in wire format and lower case.
    pub fn name(&self) -> &[u8] {
        &self.lower[..self.lower_len]
    }

    /// Whether the client wants us to ask others.
    pub fn recursion_desired(&self) -> bool {
        self.flags & FLAG_RECURSION_DESIRED != 0
    }

    /// What the client said of DNSSEC, which changes the answers of others: the flags AD and CD where
    /// they stand in the header, and DO as the highest bit.
    pub(crate) fn dnssec_flags(&self) -> u16 {
        let dnssec_ok = self.edns.is_some_and(|edns| edns.dnssec_ok);
        self.flags & (FLAG_AUTHENTIC_DATA | FLAG_CHECKING_DISABLED) | u16::from(dnssec_ok) << 15
    }

    /// How long the OPT record of the response is.
    pub(crate) fn opt_len(&self) -> usize {
        if self.edns.is_some() { OPT_LEN } else { 0 }
    }

    /// The same question about another name, with EDNS as here.
    pub(crate) fn about(&self, name: &Name) -> Vec<u8> {
        let mut packet = Vec::with_capacity(HEADER + name.as_bytes().len() + 4 + OPT_LEN);
        packet.extend_from_slice(&self.id.to_be_bytes());
        packet.extend_from_slice(&self.flags.to_be_bytes());
        packet.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())]);
        packet.extend_from_slice(name.as_bytes());
        packet.extend_from_slice(&self.record_type.0.to_be_bytes());
        packet.extend_from_slice(&self.class.to_be_bytes());
        push_opt(self, 0, &mut packet);
        packet
    }

    /// The longest response that the client takes in a datagram.
    pub fn udp_limit(&self) -> usize {
        match self.edns {
            None => MIN_UDP,
            Some(edns) => usize::from(edns.udp_size).clamp(MIN_UDP, MAX_UDP),
        }
    }
}

/// Ends a message with the OPT record that goes with `query`, if it had one.
pub(crate) fn push_opt(query: &Query<'_>, extended_rcode: u8, out: &mut Vec<u8>) {
    let Some(edns) = query.edns else {
        return;
    };
    out.extend_from_slice(&opt(extended_rcode, edns.dnssec_ok));
}

/// An OPT record of ours (RFC 6891 section 6.1.2).
fn opt(extended_rcode: u8, dnssec_ok: bool) -> [u8; OPT_LEN] {
    let [high, low] = (MAX_UDP as u16).to_be_bytes();
    [0, 0, RecordType::OPT.0 as u8, high, low, extended_rcode, 0, u8::from(dnssec_ok) << 7, 0, 0, 0]
}

/// The query that another server gets in place of a client's: nothing of it but the question and
/// what the client said of DNSSEC.
pub(crate) fn upstream_query(query: &Query<'_>, id: u16, has_edns: bool) -> Vec<u8> {
    let mut packet = Vec::with_capacity(HEADER + query.question.len() + OPT_LEN);
    let kept = query.flags & (FLAG_AUTHENTIC_DATA | FLAG_CHECKING_DISABLED);
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&(FLAG_RECURSION_DESIRED | kept).to_be_bytes());
    packet.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(has_edns)]);
    packet.extend_from_slice(query.question);
    if has_edns {
        packet.extend_from_slice(&opt(0, query.edns.is_some_and(|edns| edns.dnssec_ok)));
    }
    packet
}

/// Whether a message is a response with the number of `sent`.
pub(crate) fn is_response(message: &[u8], sent: &[u8]) -> bool {
    message.len() >= HEADER
        && message[..2] == sent[..2]
        && u16_at(message, 2).is_some_and(|flags| flags & (FLAG_RESPONSE | OPCODE) == FLAG_RESPONSE)
}

/// The flags of a response to a client's query that others answered.
pub(crate) fn forwarded_flags(query: u16, response: u16) -> u16 {
    reply_flags(query, true) | response & (FLAG_AUTHENTIC_DATA | RCODE)
}

/// A record of a message from elsewhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawRecord {
    pub(crate) owner: usize,
    pub(crate) record_type: RecordType,
    pub(crate) ttl_at: usize,
    pub(crate) ttl: u32,
    pub(crate) data: usize,
    pub(crate) end: usize,
}

/// The records of a message, in the order of its sections; none if it can't be read.
pub(crate) fn records(packet: &[u8]) -> Option<Vec<RawRecord>> {
    let questions = u16_at(packet, 4)?;
    let counts = [u16_at(packet, 6)?, u16_at(packet, 8)?, u16_at(packet, 10)?];
    let mut at = HEADER;
    for _ in 0..questions {
        at = skip_name(packet, at)? + 4;
    }
    let count: usize = counts.into_iter().map(usize::from).sum();
    let mut records = Vec::new();
    for _ in 0..count {
        let record = record_at(packet, at)?;
        at = record.end;
        records.push(record);
    }
    Some(records)
}

/// The name at `at` with its pointers followed, in lower case.
pub(crate) fn expand_name(packet: &[u8], mut at: usize) -> Option<Name> {
    let mut wire = Vec::with_capacity(64);
    // Each pointer must lead backwards, so that there is an end.
    let mut before = at + 1;
    loop {
        let len = *packet.get(at)?;
        match len {
            0 => break,
            1..=63 => {
                let label = packet.get(at..=at + usize::from(len))?;
                wire.push(len);
                wire.extend(label[1..].iter().map(u8::to_ascii_lowercase));
                at += usize::from(len) + 1;
            }
            0xc0.. => {
                let target = usize::from(u16_at(packet, at)? & 0x3fff);
                if target >= before {
                    return None;
                }
                before = target;
                at = target;
            }
            _ => return None,
        }
        if wire.len() >= MAX_NAME {
            return None;
        }
    }
    wire.push(0);
    Some(Name::from_wire(&wire))
}

pub(crate) fn u16_at(packet: &[u8], at: usize) -> Option<u16> {
    let bytes = packet.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// The flags of any response.
pub(crate) fn reply_flags(query: u16, recursion_available: bool) -> u16 {
    let kept = query & (FLAG_RECURSION_DESIRED | FLAG_CHECKING_DISABLED);
    let available = if recursion_available { FLAG_RECURSION_AVAILABLE } else { 0 };
    FLAG_RESPONSE | kept | available
}

/// Copies the uncompressed name at `at` in lower case; its length.
fn lower_name(packet: &[u8], at: usize, lower: &mut [u8; MAX_NAME]) -> Option<usize> {
    let mut len = 0;
    loop {
        let label = usize::from(*packet.get(at + len)?);
        if label > 63 {
            return None;
        }
        let source = packet.get(at + len..=at + len + label)?;
        let target = lower.get_mut(len..=len + label)?;
        target.copy_from_slice(source);
        target[1..].make_ascii_lowercase();
        len += label + 1;
        if label == 0 {
            return Some(len);
        }
    }
}

/// The OPT record among those that follow the question, if any; none at all if they can't be read.
fn edns(packet: &[u8], mut at: usize) -> Option<Option<Edns>> {
    let before = usize::from(u16_at(packet, 6)?) + usize::from(u16_at(packet, 8)?);
    let additional = usize::from(u16_at(packet, 10)?);
    let mut edns = None;
    for i in 0..before + additional {
        let record = record_at(packet, at)?;
        if record.record_type == RecordType::OPT {
            // Only one, at the root, and only there (RFC 6891 section 6.1.1).
            if edns.is_some() || i < before || packet[at] != 0 {
                return None;
            }
            edns = Some(Edns {
                udp_size: u16_at(packet, record.ttl_at - 2)?,
                version: (record.ttl >> 16) as u8,
                dnssec_ok: record.ttl & 0x8000 != 0,
            });
        }
        at = record.end;
    }
    Some(edns)
}

fn record_at(packet: &[u8], at: usize) -> Option<RawRecord> {
    let fixed = skip_name(packet, at)?;
    let data = fixed + 10;
    let end = data + usize::from(u16_at(packet, fixed + 8)?);
    if end > packet.len() {
        return None;
    }
    let high = u32::from(u16_at(packet, fixed + 4)?);
    let low = u32::from(u16_at(packet, fixed + 6)?);
    Some(RawRecord {
        owner: at,
        record_type: RecordType(u16_at(packet, fixed)?),
        ttl_at: fixed + 4,
        ttl: high << 16 | low,
        data,
        end,
    })
}

fn skip_name(packet: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *packet.get(at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += usize::from(len) + 1,
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}
