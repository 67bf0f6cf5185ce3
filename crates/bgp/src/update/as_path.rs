//! `AS_PATH` (RFC 4271, section 5.1.2) and its four-octet form (RFC 6793).

use std::fmt::Write as _;

/// Stands for an AS number that does not fit into two octets (RFC 6793, section 9).
pub const AS_TRANS: u32 = 23456;

const SET: u8 = 1;
const SEQUENCE: u8 = 2;

/// Whether a path can be read: sets and sequences of `width` octets an AS, none of them empty, and no AS 0 (RFC 7607).
/// Segments of confederations have no place here, for we are in none (RFC 5065, section 5.1).
pub fn valid(mut path: &[u8], width: usize) -> bool {
    while let [kind, count, rest @ ..] = path {
        let Some((numbers, rest)) = rest.split_at_checked(usize::from(*count) * width) else { return false };
        let zero = numbers.chunks_exact(width).any(|asn| asn.iter().all(|b| *b == 0));
        if !matches!(*kind, SET | SEQUENCE) || *count == 0 || zero {
            return false;
        }
        path = rest;
    }
    path.is_empty()
}

/// A segment of a four-octet path.
pub struct Segment<'a> {
    set: bool,
    numbers: &'a [u8],
}

impl Segment<'_> {
    /// The AS numbers.
    pub fn numbers(&self) -> impl Iterator<Item = u32> {
        self.numbers.as_chunks::<4>().0.iter().map(|asn| u32::from_be_bytes(*asn))
    }

    /// What it counts in a comparison of lengths: a set is one.
    fn length(&self) -> usize {
        if self.set { 1 } else { self.numbers.len() / 4 }
    }
}

/// The segments of a valid four-octet path.
pub fn segments(mut path: &[u8]) -> impl Iterator<Item = Segment<'_>> {
    std::iter::from_fn(move || {
        let [kind, count, rest @ ..] = path else { return None };
        let (numbers, rest) = rest.split_at_checked(usize::from(*count) * 4)?;
        path = rest;
        Some(Segment { set: *kind == SET, numbers })
    })
}

/// The length as the decision process counts it (RFC 4271, section 9.1.2.2 a).
pub fn length(path: &[u8]) -> usize {
    segments(path).map(|s| s.length()).sum()
}

/// The neighbouring AS: the first of the first sequence (RFC 4271, section 9.1.2.2 c).
pub fn first(path: &[u8]) -> Option<u32> {
    segments(path).next().filter(|s| !s.set).and_then(|s| s.numbers().next())
}

/// Whether an AS is on the path.
pub fn contains(path: &[u8], asn: u32) -> bool {
    segments(path).any(|s| s.numbers().any(|n| n == asn))
}

/// Puts an AS before a path, so many times.
pub fn prepend(path: &[u8], asn: u32, times: u8, out: &mut Vec<u8>) {
    if times == 0 {
        out.extend_from_slice(path);
        return;
    }
    let rest = match path {
        [SEQUENCE, count, rest @ ..] if usize::from(*count) + usize::from(times) <= 255 => {
            out.extend_from_slice(&[SEQUENCE, *count + times]);
            rest
        }
        _ => {
            out.extend_from_slice(&[SEQUENCE, times]);
            path
        }
    };
    for _ in 0..times {
        out.extend_from_slice(&asn.to_be_bytes());
    }
    out.extend_from_slice(rest);
}

/// Writes a four-octet path in two octets. Returns whether an AS had to become [`AS_TRANS`].
pub fn narrow(path: &[u8], out: &mut Vec<u8>) -> bool {
    let mut lost = false;
    for segment in segments(path) {
        out.extend_from_slice(&[if segment.set { SET } else { SEQUENCE }, count(segment.numbers.len() / 4)]);
        for asn in segment.numbers() {
            let narrow = u16::try_from(asn);
            lost |= narrow.is_err();
            out.extend_from_slice(&narrow.unwrap_or(23456).to_be_bytes());
        }
    }
    lost
}

/// The four-octet path out of a two-octet one and the `AS4_PATH` beside it (RFC 6793, section 4.2.3).
pub fn widen(path: &[u8], as4: Option<&[u8]>, out: &mut Vec<u8>) {
    let mut wide = Vec::with_capacity(path.len() * 2);
    let mut rest = path;
    while let [kind, count, after @ ..] = rest {
        let Some((numbers, after)) = after.split_at_checked(usize::from(*count) * 2) else { break };
        wide.extend_from_slice(&[*kind, *count]);
        for asn in numbers.as_chunks::<2>().0 {
            wide.extend_from_slice(&[0, 0, asn[0], asn[1]]);
        }
        rest = after;
    }
    let Some(as4) = as4 else {
        out.extend_from_slice(&wide);
        return;
    };
    // Routers that know two octets only may have put themselves before what `AS4_PATH` remembers.
    let Some(mut more) = length(&wide).checked_sub(length(as4)) else {
        out.extend_from_slice(&wide);
        return;
    };
    let mut leading: Vec<u8> = Vec::new();
    for segment in segments(&wide) {
        if more == 0 {
            break;
        }
        if segment.set {
            leading.extend_from_slice(&[SET, count(segment.numbers.len() / 4)]);
            leading.extend_from_slice(segment.numbers);
            more -= 1;
        } else {
            let take = more.min(segment.length());
            leading.extend_from_slice(&[SEQUENCE, count(take)]);
            leading.extend_from_slice(&segment.numbers[..take * 4]);
            more -= take;
        }
    }
    out.extend_from_slice(&leading);
    out.extend_from_slice(as4);
}

/// A count that came out of a field of one octet.
fn count(n: usize) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

/// As people write it: `64512 65001 {65002,65003}`.
pub fn text(path: &[u8]) -> String {
    let mut text = String::new();
    for segment in segments(path) {
        let numbers: Vec<String> = segment.numbers().map(|n| n.to_string()).collect();
        let space = if text.is_empty() { "" } else { " " };
        let _ = if segment.set {
            write!(text, "{space}{{{}}}", numbers.join(","))
        } else {
            write!(text, "{space}{}", numbers.join(" "))
        };
    }
    text
}
