//! Answers of others, kept for a while.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::message::{HEADER, Query, RecordType, records, u16_at};

/// How long an answer is kept at most, whatever its time to live.
const MAX_AGE: Duration = Duration::from_secs(30);
const MAX_ENTRIES: usize = 4096;
/// Longer answers are rare, and would let a few names fill the memory.
const MAX_RESPONSE: usize = 4096;

const FLAG_TRUNCATED: u16 = 0x0200;
/// Recursion desired and checking disabled change the answer.
const KEY_FLAGS: u16 = 0x0110;

/// Answers by question.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<Box<[u8]>, Entry>,
}

#[derive(Debug)]
struct Entry {
    response: Box<[u8]>,
    /// Where in the response the times to live are.
    ttls: Box<[u16]>,
    stored: Instant,
    expires: Instant,
}

impl Cache {
    /// The response to `query`, if it is known, with what is left of its time to live.
    pub(crate) fn get(&self, query: &Query<'_>, limit: usize, now: Instant) -> Option<Vec<u8>> {
        let entry = self.entries.get(key(query).as_slice())?;
        if entry.expires <= now || entry.response.len() > limit {
            return None;
        }
        let age = now.saturating_duration_since(entry.stored).as_secs() as u32;
        let mut response = entry.response.to_vec();
        response[..2].copy_from_slice(&query.id.to_be_bytes());
        response[HEADER..HEADER + query.question.len()].copy_from_slice(query.question);
        for &at in &entry.ttls {
            let field = &mut response[usize::from(at)..usize::from(at) + 4];
            let ttl = field.iter().fold(0u32, |ttl, b| ttl << 8 | u32::from(*b));
            field.copy_from_slice(&ttl.saturating_sub(age).to_be_bytes());
        }
        Some(response)
    }

    /// Keeps a response as long as its records allow.
    pub(crate) fn put(&mut self, query: &Query<'_>, response: &[u8], now: Instant) {
        let Some((ttls, lifetime)) = lifetime(query, response) else {
            return;
        };
        if self.entries.len() >= MAX_ENTRIES {
            self.make_room(now);
        }
        let entry = Entry { response: response.into(), ttls, stored: now, expires: now + lifetime };
        self.entries.insert(key(query).into_boxed_slice(), entry);
    }

    fn make_room(&mut self, now: Instant) {
        self.entries.retain(|_, entry| entry.expires > now);
        while self.entries.len() >= MAX_ENTRIES {
            let Some(any) = self.entries.keys().next().cloned() else {
                return;
            };
            self.entries.remove(&any);
        }
    }
}

/// The question in lower case, and what else the answer depends on.
fn key(query: &Query<'_>) -> Vec<u8> {
    let mut key = query.name().to_vec();
    key.extend_from_slice(&query.record_type.0.to_be_bytes());
    key.extend_from_slice(&query.class.to_be_bytes());
    key.extend_from_slice(&(query.flags & KEY_FLAGS).to_be_bytes());
    key.push(match query.edns {
        None => 0,
        Some(edns) => 1 + u8::from(edns.dnssec_ok),
    });
    key
}

/// Where the times to live are and how long the response may be kept; none if it may not.
fn lifetime(query: &Query<'_>, response: &[u8]) -> Option<(Box<[u16]>, Duration)> {
    let flags = u16_at(response, 2)?;
    let is_final = matches!(flags & 0xf, 0 | 3) && flags & FLAG_TRUNCATED == 0;
    let fits = response.len() <= MAX_RESPONSE;
    let question = response.get(HEADER..HEADER + query.question.len())?;
    if !is_final || !fits || !question.eq_ignore_ascii_case(query.question) {
        return None;
    }
    let records = records(response)?;
    let is_negative = u16_at(response, 6)? == 0;
    let mut ttls = Vec::new();
    let mut least = None;
    for record in records.iter().filter(|r| r.record_type != RecordType::OPT) {
        ttls.push(u16::try_from(record.ttl_at).ok()?);
        let mut ttl = record.ttl;
        if is_negative && record.record_type == RecordType::SOA {
            // RFC 2308 section 5: the SOA's last field bounds what is not there.
            let minimum = response.get(record.data..record.end)?.last_chunk::<4>()?;
            ttl = ttl.min(u32::from_be_bytes(*minimum));
        }
        least = Some(least.unwrap_or(ttl).min(ttl));
    }
    let lifetime = Duration::from_secs(least?.into()).min(MAX_AGE);
    (!lifetime.is_zero()).then(|| (ttls.into_boxed_slice(), lifetime))
}
