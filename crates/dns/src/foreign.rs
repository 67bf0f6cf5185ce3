//! Responses of other servers, and what our clients get of them.

use crate::message::{
    CLASS_IN, FLAG_TRUNCATED, HEADER, Query, RawRecord, RecordType, expand_name, forwarded_flags, push_opt, records,
    u16_at,
};
use crate::name::Name;

/// The response of another server, without its OPT record, which is between it and us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Foreign {
    bytes: Box<[u8]>,
    /// Where in the response the times to live are.
    ttls: Box<[u16]>,
    /// For how long it may be kept, in seconds, if at all.
    lifetime: Option<u32>,
}

impl Foreign {
    /// Reads the response to a query; none if it can't be read, or is to another question.
    pub(crate) fn parse(mut bytes: Vec<u8>, question: &[u8]) -> Option<Self> {
        let asked = bytes.get(HEADER..HEADER + question.len())?;
        if u16_at(&bytes, 4)? != 1 || !asked.eq_ignore_ascii_case(question) {
            return None;
        }
        let mut records = records(&bytes)?;
        let before = usize::from(u16_at(&bytes, 6)?) + usize::from(u16_at(&bytes, 8)?);
        // What stands behind the OPT record may have names that point into what stands there, too:
        // it all goes. Nobody needs the additional records.
        if let Some(opt) = records.iter().position(|record| record.record_type == RecordType::OPT) {
            if opt < before {
                return None;
            }
            records.truncate(opt);
        }
        let end = records.last().map_or(HEADER + question.len(), |record| record.end);
        bytes.truncate(end);
        let additional = (records.len() - before) as u16;
        bytes[10..12].copy_from_slice(&additional.to_be_bytes());
        let ttls: Option<Box<[u16]>> = records.iter().map(|record| u16::try_from(record.ttl_at).ok()).collect();
        let lifetime = lifetime(&bytes, &records);
        Some(Self { bytes: bytes.into_boxed_slice(), ttls: ttls?, lifetime })
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// For how many seconds it may be kept, if at all.
    pub(crate) fn lifetime(&self) -> Option<u32> {
        self.lifetime
    }

    /// Writes what a client gets: its own number and question, times to live less by `age`, at most
    /// `limit` bytes.
    pub(crate) fn write(&self, query: &Query<'_>, age: u32, limit: usize, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.bytes);
        for &at in &self.ttls {
            let field = &mut out[usize::from(at)..usize::from(at) + 4];
            let ttl = field.iter().fold(0u32, |ttl, b| ttl << 8 | u32::from(*b));
            field.copy_from_slice(&ttl.saturating_sub(age).to_be_bytes());
        }
        let mut flags = forwarded_flags(query.flags, self.flags());
        let question_end = HEADER + query.question.len();
        if out.len() + query.opt_len() > limit {
            out.truncate(question_end);
            out[6..12].fill(0);
            flags |= FLAG_TRUNCATED;
        }
        out[..2].copy_from_slice(&query.id.to_be_bytes());
        out[2..4].copy_from_slice(&flags.to_be_bytes());
        out[HEADER..question_end].copy_from_slice(query.question);
        if query.edns.is_some() {
            let additional = u16::from_be_bytes([out[10], out[11]]) + 1;
            out[10..12].copy_from_slice(&additional.to_be_bytes());
            push_opt(query, 0, out);
        }
    }

    /// Appends its answers to those of `response`, a response of ours that ends with an alias, and
    /// takes over its code. None where one of both can't be read.
    pub(crate) fn append(&self, age: u32, limit: usize, response: &mut Vec<u8>) -> Option<()> {
        let found = &self.bytes;
        let count = usize::from(u16_at(found, 6)?);
        let mut answers = u16_at(response, 6)?;
        // The OPT record comes last, and has to stay there.
        let own = records(response)?;
        let opt = own.iter().find(|record| record.record_type == RecordType::OPT);
        let tail = opt.map_or(Vec::new(), |opt| response.split_off(opt.owner));
        for record in records(found)?.into_iter().take(count) {
            let Some(data) = data(found, &record)? else {
                continue;
            };
            let owner = expand_name(found, record.owner)?;
            if response.len() + owner.as_bytes().len() + 10 + data.len() + tail.len() > limit {
                response[2] |= (FLAG_TRUNCATED >> 8) as u8;
                break;
            }
            response.extend_from_slice(owner.as_bytes());
            response.extend_from_slice(&record.record_type.0.to_be_bytes());
            response.extend_from_slice(&CLASS_IN.to_be_bytes());
            response.extend_from_slice(&record.ttl.saturating_sub(age).to_be_bytes());
            response.extend_from_slice(&(data.len() as u16).to_be_bytes());
            response.extend_from_slice(&data);
            answers += 1;
        }
        response[6..8].copy_from_slice(&answers.to_be_bytes());
        response[3] = response[3] & 0xf0 | (self.flags() & 0xf) as u8;
        response.extend_from_slice(&tail);
        Some(())
    }

    /// Whether there is more than was sent.
    pub(crate) fn is_truncated(&self) -> bool {
        self.flags() & FLAG_TRUNCATED != 0
    }

    /// The header's flags, with the code.
    fn flags(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    /// The response code.
    pub(crate) fn code(&self) -> u16 {
        self.flags() & 0xf
    }
}

/// For how many seconds a response may be kept, if at all.
fn lifetime(bytes: &[u8], records: &[RawRecord]) -> Option<u32> {
    let flags = u16_at(bytes, 2)?;
    if !matches!(flags & 0xf, 0 | 3) || flags & FLAG_TRUNCATED != 0 {
        return None;
    }
    let is_negative = u16_at(bytes, 6)? == 0;
    let mut least = None;
    for record in records {
        let mut ttl = record.ttl;
        if is_negative && record.record_type == RecordType::SOA {
            // RFC 2308 section 5: the SOA's last field bounds what is not there.
            let minimum = bytes.get(record.data..record.end)?.last_chunk::<4>()?;
            ttl = ttl.min(u32::from_be_bytes(*minimum));
        }
        least = Some(least.unwrap_or(ttl).min(ttl));
    }
    least
}

/// The data of a record with the names in it written out. Some(None) for a type whose names we do
/// not know the place of.
fn data(packet: &[u8], record: &RawRecord) -> Option<Option<Vec<u8>>> {
    // The types whose names may be compressed are those of RFC 1035 and a few (RFC 3597 section 4).
    let fixed = match record.record_type.0 {
        // NS, CNAME, PTR, DNAME
        2 | 5 | 12 | 39 => 0,
        // MX
        15 => 2,
        // SRV
        33 => 6,
        3 | 4 | 6..=9 | 14 | 17 | 18 | 21 | 24 | 26 | 30 | 35 | 36 | 38 | 41 => return Some(None),
        _ => return Some(Some(packet.get(record.data..record.end)?.to_vec())),
    };
    let mut data = packet.get(record.data..record.data + fixed)?.to_vec();
    let name: Name = expand_name(packet, record.data + fixed)?;
    data.extend_from_slice(name.as_bytes());
    Some(Some(data))
}
