//! Responses, record by record.

use crate::TTL;
use crate::message::{CLASS_IN, FLAG_TRUNCATED, HEADER, OPCODE, Query, Rcode, RecordType, push_opt, reply_flags};
use crate::name::Name;
use crate::record::{RecordSet, split};

const FLAG_AUTHORITATIVE: u16 = 0x0400;
/// The length of a compressed owner.
const POINTER: usize = 2;

/// Which zone an SOA record is of.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SoaOwner<'a> {
    /// The one whose origin begins at this byte of the question's name.
    Question(usize),
    /// Another.
    Name(&'a Name),
}

/// Writes a response record by record, up to a limit.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
    flags: u16,
    rcode: Rcode,
    answers: u16,
    authorities: u16,
    query: &'a Query<'a>,
}

impl<'a> Writer<'a> {
    /// Begins the response to `query` in `out`, of at most `limit` bytes.
    pub(crate) fn new(query: &'a Query<'a>, recursion_available: bool, limit: usize, out: &'a mut Vec<u8>) -> Self {
        out.clear();
        out.extend_from_slice(&query.id.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        out.extend_from_slice(query.question);
        Self {
            out,
            limit: limit - query.opt_len(),
            flags: reply_flags(query.flags, recursion_available),
            rcode: Rcode::NoError,
            answers: 0,
            authorities: 0,
            query,
        }
    }

    pub(crate) fn authoritative(&mut self) {
        self.flags |= FLAG_AUTHORITATIVE;
    }

    pub(crate) fn rcode(&mut self, rcode: Rcode) {
        self.rcode = rcode;
    }

    /// Adds the answers of a set, beginning with the one at `first`; without an owner it is the
    /// question's name. Those that do not fit are left out.
    pub(crate) fn answers(&mut self, owner: Option<&[u8]>, set: &RecordSet, first: u16) {
        let (begin, end) = set.from(first);
        match owner {
            None if self.out.len() + begin.len() + end.len() <= self.limit => {
                self.out.extend_from_slice(begin);
                self.out.extend_from_slice(end);
                self.answers += set.count();
            }
            owner => {
                for record in split(begin).chain(split(end)) {
                    let owner = owner.unwrap_or(&record[..POINTER]);
                    let data = &record[POINTER..];
                    if self.out.len() + owner.len() + data.len() > self.limit {
                        self.flags |= FLAG_TRUNCATED;
                        return;
                    }
                    self.out.extend_from_slice(owner);
                    self.out.extend_from_slice(data);
                    self.answers += 1;
                }
            }
        }
    }

    /// Adds the SOA record of a zone to the answers or (for a negative answer, RFC 2308) to the
    /// authorities.
    pub(crate) fn soa(&mut self, owner: SoaOwner<'_>, soa: &[u8], is_answer: bool) {
        let start = self.out.len();
        match owner {
            SoaOwner::Question(suffix) => {
                let pointer = 0xc000 | (HEADER + suffix) as u16;
                self.out.extend_from_slice(&pointer.to_be_bytes());
            }
            SoaOwner::Name(name) => self.out.extend_from_slice(name.as_bytes()),
        }
        self.out.extend_from_slice(&RecordType::SOA.0.to_be_bytes());
        self.out.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.out.extend_from_slice(&TTL.to_be_bytes());
        self.out.extend_from_slice(&(soa.len() as u16).to_be_bytes());
        self.out.extend_from_slice(soa);
        if self.out.len() > self.limit {
            self.out.truncate(start);
            self.flags |= FLAG_TRUNCATED;
        } else if is_answer {
            self.answers += 1;
        } else {
            self.authorities += 1;
        }
    }

    /// Adds what can't be left out, and the counts.
    pub(crate) fn finish(self) {
        push_opt(self.query, (self.rcode.number() >> 4) as u8, self.out);
        let additional = u16::from(self.query.edns.is_some());
        let flags = self.flags | (self.rcode.number() & 0xf);
        self.out[2..4].copy_from_slice(&flags.to_be_bytes());
        self.out[6..8].copy_from_slice(&self.answers.to_be_bytes());
        self.out[8..10].copy_from_slice(&self.authorities.to_be_bytes());
        self.out[10..12].copy_from_slice(&additional.to_be_bytes());
    }
}

/// A response without a question, to what could not be read.
pub(crate) fn bare_error(id: u16, flags: u16, rcode: Rcode, out: &mut Vec<u8>) {
    out.clear();
    let flags = reply_flags(flags, false) | (flags & OPCODE) | rcode.number();
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(&flags.to_be_bytes());
    out.extend_from_slice(&[0; 8]);
}
