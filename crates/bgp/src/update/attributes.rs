//! Path attributes (RFC 4271, section 4.3 and 5), checked attribute by attribute (RFC 7606).
//!
//! ```text
//!  Flags (1)   Type (1)   Length (1, or 2 with the extended-length flag)   Value
//! ```
//!
//! [`Reader::read`] brings a message's attributes into one form: sorted by type, `AS_PATH` in four octets, without the
//! next hop and without the prefixes of other families, which it hands over beside. Two routes have the same attributes
//! if those bytes and their next hops are the same.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{as_path, error, notification};
use crate::Family;
use crate::wire::Notification;

/// Types of attributes.
#[allow(missing_docs)]
pub mod kind {
    pub const ORIGIN: u8 = 1;
    pub const AS_PATH: u8 = 2;
    pub const NEXT_HOP: u8 = 3;
    pub const MULTI_EXIT_DISC: u8 = 4;
    pub const LOCAL_PREF: u8 = 5;
    pub const ATOMIC_AGGREGATE: u8 = 6;
    pub const AGGREGATOR: u8 = 7;
    pub const COMMUNITIES: u8 = 8;
    pub const ORIGINATOR_ID: u8 = 9;
    pub const CLUSTER_LIST: u8 = 10;
    pub const MP_REACH_NLRI: u8 = 14;
    pub const MP_UNREACH_NLRI: u8 = 15;
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    pub const AS4_PATH: u8 = 17;
    pub const AS4_AGGREGATOR: u8 = 18;
    pub const AIGP: u8 = 26;
    pub const LARGE_COMMUNITIES: u8 = 32;
    pub const ONLY_TO_CUSTOMER: u8 = 35;
}

/// Attribute flags.
pub mod flag {
    /// Not every speaker knows it.
    pub const OPTIONAL: u8 = 0x80;
    /// It goes on to neighbours.
    pub const TRANSITIVE: u8 = 0x40;
    /// A speaker on the way did not know it.
    pub const PARTIAL: u8 = 0x20;
    /// The length has two octets.
    pub const EXTENDED_LENGTH: u8 = 0x10;
}

/// Where packets go that take a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NextHop {
    /// To the speaker itself: an own route.
    Own,
    /// To an IPv4 address.
    V4(Ipv4Addr),
    /// To an IPv6 address, which may have a link-local one beside it (RFC 2545).
    V6(Ipv6Addr, Option<Ipv6Addr>),
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("self"),
            Self::V4(address) => address.fmt(f),
            Self::V6(address, None) => address.fmt(f),
            Self::V6(address, Some(local)) => write!(f, "{address} ({local})"),
        }
    }
}

/// What the session says of its attributes.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Whether AS numbers have four octets in its messages.
    pub four_octet: bool,
    /// Whether the neighbour is in another AS.
    pub external: bool,
    /// The AS that has to be the first on the path, if one has to.
    pub first_as: Option<u32>,
}

/// What is wrong with an attribute, so that the message's routes are taken as withdrawn (RFC 7606, section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// A well-known attribute with optional's flags, or the other way round.
    #[error("attribute {0} has the wrong flags")]
    Flags(u8),
    /// A length that the attribute cannot have.
    #[error("attribute {0} has the wrong length")]
    Length(u8),
    /// A value that the attribute cannot have.
    #[error("attribute {0} has a value that it cannot have")]
    Value(u8),
    /// The attributes end within one.
    #[error("the attributes end within one of them")]
    Overrun,
    /// A mandatory attribute is missing.
    #[error("attribute {0} is missing")]
    Missing(u8),
    /// The first AS on the path is not the neighbour's.
    #[error("the first AS on the path is not the neighbour's")]
    FirstAs,
    /// A next hop that no packet can be sent to.
    #[error("the next hop is no address of a host")]
    NextHop,
}

/// Prefixes of a family with their next hop (`MP_REACH_NLRI`, RFC 4760 section 3), or withdrawn (`MP_UNREACH_NLRI`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Multiprotocol<'a> {
    /// Which family; `None` is one that we do not know.
    pub family: Option<Family>,
    /// The prefixes.
    pub nlri: &'a [u8],
}

/// What [`Reader::read`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// The next hop of the prefixes at the message's end.
    pub next_hop: Option<NextHop>,
    /// `MP_REACH_NLRI`, and its next hop.
    pub reach: Option<(Multiprotocol<'a>, Option<NextHop>)>,
    /// `MP_UNREACH_NLRI`.
    pub unreach: Option<Multiprotocol<'a>>,
    /// Why the routes are to be taken as withdrawn.
    pub flaw: Option<Flaw>,
    /// The type of an attribute that was left out for a flaw that does not matter.
    pub discarded: Option<u8>,
}

/// Reads attributes; keeps its memory from message to message.
#[derive(Debug, Default)]
pub struct Reader {
    /// The attributes in the one form.
    pub canonical: Vec<u8>,
    items: Vec<(u8, u8, usize, usize)>,
    path: Vec<u8>,
}

impl Reader {
    /// Reads a message's attributes. `nlri` says whether IPv4 prefixes follow them.
    ///
    /// # Errors
    /// What ends the session (RFC 7606, sections 3, 5.2 and 7.11): prefixes that cannot be told, or may be what cannot be
    /// read; an unknown well-known attribute.
    pub fn read<'a>(&mut self, field: &'a [u8], nlri: bool, context: Context) -> Result<Attributes<'a>, Notification> {
        let mut found = Attributes { next_hop: None, reach: None, unreach: None, flaw: None, discarded: None };
        self.canonical.clear();
        found.flaw = self.itemize(field)?;
        let (mut sorted, mut last, mut seen) = (true, 0, 0_u64);
        let mut first_as = None;
        let mut beside = Beside::default();
        // What is left when the attributes end within one of them may have been anything.
        let mut only_withdraws = found.flaw.is_none();
        for index in 0..self.items.len() {
            let (kind, flags, start, end) = self.items[index];
            let value = &field[start..end];
            sorted &= last < kind;
            last = kind;
            only_withdraws &= kind == kind::MP_UNREACH_NLRI;
            match self.check(kind, flags, value, context) {
                Check::Keep => {
                    if kind == kind::AGGREGATOR {
                        beside.aggregator = Some(value);
                    }
                }
                Check::Drop => {
                    found.discarded = Some(kind);
                    self.items[index].0 = 0;
                }
                Check::Aside => {
                    beside.put(kind, flags, value, &mut found)?;
                    self.items[index].0 = 0;
                }
                Check::Unknown => {
                    return Err(notification(error::UNRECOGNIZED_WELL_KNOWN, one(kind, flags, value)));
                }
                Check::Flawed(flaw) => {
                    found.flaw = found.flaw.or(Some(flaw));
                    if matches!(kind, kind::MP_REACH_NLRI | kind::MP_UNREACH_NLRI) {
                        // Whatever is wrong with its flags, these are the routes to be withdrawn.
                        beside.put(kind, flags, value, &mut found)?;
                    }
                }
            }
            if kind < 64 {
                seen |= 1 << kind;
            }
            if kind == kind::AS_PATH {
                first_as = Some((start, end));
            }
        }
        let reaches = nlri || found.reach.is_some_and(|(mp, _)| !mp.nlri.is_empty());
        if found.flaw.is_some() && !reaches && !only_withdraws {
            // Its routes may be what could not be read (RFC 7606, section 5.2).
            return Err(notification(error::MALFORMED_ATTRIBUTE_LIST, Vec::new()));
        }
        if reaches && found.flaw.is_none() {
            found.flaw = missing(seen, nlri, context).or_else(|| hopless(&found, nlri));
        }
        if found.flaw.is_some() || !reaches {
            return Ok(found);
        }
        if beside.aggregator.is_some_and(|value| !value.starts_with(&[0x5b, 0xa0])) {
            // Somebody who knows two octets only aggregated after the others were written (RFC 6793, section 4.2.3).
            (beside.as4_path, beside.as4_aggregator) = (None, None);
        }
        if !sorted {
            self.items.sort_by_key(|item| item.0);
        }
        self.path.clear();
        if let Some((start, end)) = first_as {
            let path = &field[start..end];
            if context.four_octet {
                self.path.extend_from_slice(path);
            } else {
                as_path::widen(path, beside.as4_path, &mut self.path);
            }
        }
        if context.first_as.is_some_and(|asn| as_path::first(&self.path) != Some(asn)) {
            found.flaw = Some(Flaw::FirstAs);
            return Ok(found);
        }
        self.assemble(field, context, beside.as4_aggregator);
        Ok(found)
    }

    /// Finds the attributes in the field. Of several of one type the first counts (RFC 7606, section 3 g).
    fn itemize(&mut self, field: &[u8]) -> Result<Option<Flaw>, Notification> {
        self.items.clear();
        let mut at = 0;
        let mut seen = [0_u64; 4];
        while at < field.len() {
            let (Some(&flags), Some(&kind)) = (field.get(at), field.get(at + 1)) else {
                return Ok(Some(Flaw::Overrun));
            };
            let (length, start) = if flags & flag::EXTENDED_LENGTH != 0 {
                let Some([high, low]) = field.get(at + 2..at + 4) else { return Ok(Some(Flaw::Overrun)) };
                (usize::from(u16::from_be_bytes([*high, *low])), at + 4)
            } else {
                let Some(&length) = field.get(at + 2) else { return Ok(Some(Flaw::Overrun)) };
                (usize::from(length), at + 3)
            };
            if field.len() < start + length {
                return Ok(Some(Flaw::Overrun));
            }
            at = start + length;
            let (word, bit) = (&mut seen[usize::from(kind >> 6)], 1 << (kind & 63));
            if *word & bit != 0 {
                if matches!(kind, kind::MP_REACH_NLRI | kind::MP_UNREACH_NLRI) {
                    return Err(notification(error::MALFORMED_ATTRIBUTE_LIST, Vec::new()));
                }
                continue;
            }
            *word |= bit;
            self.items.push((kind, flags, start, at));
        }
        Ok(None)
    }

    #[inline]
    fn check(&self, kind: u8, flags: u8, value: &[u8], context: Context) -> Check {
        const WELL_KNOWN: u8 = flag::TRANSITIVE;
        const LOCAL: u8 = flag::OPTIONAL;
        const PASSED_ON: u8 = flag::OPTIONAL | flag::TRANSITIVE;
        let class = flags & (flag::OPTIONAL | flag::TRANSITIVE);
        let expected = match kind {
            kind::ORIGIN | kind::AS_PATH | kind::NEXT_HOP | kind::LOCAL_PREF | kind::ATOMIC_AGGREGATE => WELL_KNOWN,
            kind::MULTI_EXIT_DISC
            | kind::ORIGINATOR_ID
            | kind::CLUSTER_LIST
            | kind::MP_REACH_NLRI
            | kind::MP_UNREACH_NLRI
            | kind::AIGP => LOCAL,
            kind::AGGREGATOR
            | kind::COMMUNITIES
            | kind::EXTENDED_COMMUNITIES
            | kind::AS4_PATH
            | kind::AS4_AGGREGATOR
            | kind::LARGE_COMMUNITIES
            | kind::ONLY_TO_CUSTOMER => PASSED_ON,
            _ if class == PASSED_ON => return Check::Keep,
            _ if class & flag::OPTIONAL != 0 => return Check::Aside,
            _ => return Check::Unknown,
        };
        let lengths = |ok: bool| if ok { Check::Keep } else { Check::Flawed(Flaw::Length(kind)) };
        if class != expected {
            return match kind {
                // Of these RFC 7606 says more than "treat as withdrawn" (sections 7.6, 7.7; RFC 6793, section 6).
                kind::ATOMIC_AGGREGATE | kind::AGGREGATOR | kind::AS4_PATH | kind::AS4_AGGREGATOR | kind::AIGP => {
                    Check::Drop
                }
                kind::LOCAL_PREF | kind::ORIGINATOR_ID | kind::CLUSTER_LIST if context.external => Check::Drop,
                _ => Check::Flawed(Flaw::Flags(kind)),
            };
        }
        match kind {
            kind::ORIGIN if value.len() != 1 => lengths(false),
            kind::ORIGIN if value[0] > 2 => Check::Flawed(Flaw::Value(kind)),
            kind::AS_PATH if !as_path::valid(value, if context.four_octet { 4 } else { 2 }) => {
                Check::Flawed(Flaw::Value(kind))
            }
            kind::NEXT_HOP if value.len() != 4 => lengths(false),
            kind::NEXT_HOP | kind::MP_REACH_NLRI | kind::MP_UNREACH_NLRI => Check::Aside,
            kind::LOCAL_PREF | kind::ORIGINATOR_ID | kind::CLUSTER_LIST if context.external => Check::Drop,
            kind::MULTI_EXIT_DISC | kind::LOCAL_PREF | kind::ORIGINATOR_ID | kind::ONLY_TO_CUSTOMER => {
                lengths(value.len() == 4)
            }
            kind::CLUSTER_LIST | kind::COMMUNITIES => lengths(!value.is_empty() && value.len().is_multiple_of(4)),
            kind::EXTENDED_COMMUNITIES => lengths(!value.is_empty() && value.len().is_multiple_of(8)),
            kind::LARGE_COMMUNITIES => lengths(!value.is_empty() && value.len().is_multiple_of(12)),
            kind::ATOMIC_AGGREGATE if !value.is_empty() => Check::Drop,
            kind::AGGREGATOR if value.len() != if context.four_octet { 8 } else { 6 } => Check::Drop,
            // From those who write four octets anyway they mean nothing (RFC 6793, section 4.1).
            kind::AS4_PATH | kind::AS4_AGGREGATOR if context.four_octet => Check::Drop,
            kind::AS4_PATH if !as_path::valid(value, 4) => Check::Drop,
            kind::AS4_AGGREGATOR if value.len() != 8 => Check::Drop,
            kind::AS4_PATH | kind::AS4_AGGREGATOR => Check::Aside,
            // Accumulated metrics are for those who agreed on them (RFC 7311, section 3.4).
            kind::AIGP => Check::Aside,
            _ => Check::Keep,
        }
    }

    fn assemble(&mut self, field: &[u8], context: Context, as4_aggregator: Option<&[u8]>) {
        for &(kind, flags, start, end) in &self.items {
            match kind {
                0 => {}
                kind::AS_PATH => put(&mut self.canonical, flag::TRANSITIVE, kind, &self.path),
                kind::AGGREGATOR if !context.four_octet => {
                    let aggregator = wide_aggregator(&field[start..end], as4_aggregator);
                    put(&mut self.canonical, flags, kind, &aggregator);
                }
                _ if !is_known(kind) => put(&mut self.canonical, flags | flag::PARTIAL, kind, &field[start..end]),
                _ => put(&mut self.canonical, flags, kind, &field[start..end]),
            }
        }
    }
}

/// `AGGREGATOR` in four octets, out of the one in two and the `AS4_AGGREGATOR` beside it.
fn wide_aggregator(narrow: &[u8], as4: Option<&[u8]>) -> [u8; 8] {
    if let Some(as4) = as4.and_then(|value| value.first_chunk::<8>()) {
        return *as4;
    }
    let mut wide = [0; 8];
    wide[2..].copy_from_slice(narrow);
    wide
}

/// What is read, but not stored with the others.
#[derive(Default)]
struct Beside<'a> {
    aggregator: Option<&'a [u8]>,
    as4_path: Option<&'a [u8]>,
    as4_aggregator: Option<&'a [u8]>,
}

impl<'a> Beside<'a> {
    fn put(&mut self, kind: u8, flags: u8, value: &'a [u8], found: &mut Attributes<'a>) -> Result<(), Notification> {
        match kind {
            kind::NEXT_HOP => found.next_hop = next_hop(value),
            kind::MP_REACH_NLRI => found.reach = Some(reach(flags, value)?),
            kind::MP_UNREACH_NLRI => found.unreach = Some(unreach(value)?),
            kind::AS4_PATH => self.as4_path = Some(value),
            kind::AS4_AGGREGATOR => self.as4_aggregator = Some(value),
            _ => {}
        }
        Ok(())
    }
}

enum Check {
    Keep,
    /// It has a flaw that does not matter.
    Drop,
    /// It is not stored with the others.
    Aside,
    Unknown,
    Flawed(Flaw),
}

fn is_known(kind: u8) -> bool {
    matches!(
        kind,
        kind::ORIGIN
            ..=kind::CLUSTER_LIST | kind::EXTENDED_COMMUNITIES | kind::LARGE_COMMUNITIES | kind::ONLY_TO_CUSTOMER
    )
}

fn missing(seen: u64, nlri: bool, context: Context) -> Option<Flaw> {
    let needed = |kind: u8| (seen & 1 << kind == 0).then_some(Flaw::Missing(kind));
    needed(kind::ORIGIN)
        .or_else(|| needed(kind::AS_PATH))
        .or_else(|| if nlri { needed(kind::NEXT_HOP) } else { None })
        .or_else(|| if context.external { None } else { needed(kind::LOCAL_PREF) })
}

/// Whether a next hop is missing that is needed, or cannot be one (RFC 4271, section 6.3).
fn hopless(found: &Attributes<'_>, nlri: bool) -> Option<Flaw> {
    let reach = found.reach.filter(|(mp, _)| mp.family.is_some()).map(|(_, hop)| hop);
    let hops = [nlri.then_some(found.next_hop), reach];
    let good = |hop: Option<NextHop>| match hop {
        Some(NextHop::V4(a)) => !(a.is_unspecified() || a.is_multicast() || a.is_broadcast() || a.is_loopback()),
        Some(NextHop::V6(a, _)) => !(a.is_unspecified() || a.is_multicast() || a.is_loopback()),
        Some(NextHop::Own) | None => false,
    };
    hops.into_iter().flatten().any(|hop| !good(hop)).then_some(Flaw::NextHop)
}

fn next_hop(value: &[u8]) -> Option<NextHop> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(NextHop::V4(octets.into()));
    }
    let (global, rest) = value.split_first_chunk::<16>()?;
    let local = rest.first_chunk::<16>().copied().map(Ipv6Addr::from);
    // Some write zeroes for "no link-local address", some their link-local address alone.
    Some(NextHop::V6((*global).into(), local.filter(Ipv6Addr::is_unicast_link_local)))
}

type Reach<'a> = (Multiprotocol<'a>, Option<NextHop>);

/// ```text
///  AFI (2)   SAFI (1)   Next Hop Length (1)   Next Hop   Reserved (1)   NLRI
/// ```
fn reach(flags: u8, value: &[u8]) -> Result<Reach<'_>, Notification> {
    let malformed = || notification(error::MALFORMED_ATTRIBUTE_LIST, Vec::new());
    let [a, b, safi, length, rest @ ..] = value else { return Err(malformed()) };
    let (hop, rest) = rest.split_at_checked(usize::from(*length)).ok_or_else(malformed)?;
    let (_, nlri) = rest.split_first().ok_or_else(malformed)?;
    let family = Family::from_wire(u16::from_be_bytes([*a, *b]), *safi);
    let fits = match family {
        Some(Family::Ipv4) => hop.len() == 4,
        Some(Family::Ipv6) => matches!(hop.len(), 16 | 32),
        None => true,
    };
    if !fits {
        // Where its prefixes begin is not certain then (RFC 7606, section 7.11).
        return Err(notification(error::OPTIONAL_ATTRIBUTE, one(kind::MP_REACH_NLRI, flags, value)));
    }
    Ok((Multiprotocol { family, nlri }, next_hop(hop)))
}

/// ```text
///  AFI (2)   SAFI (1)   Withdrawn Routes
/// ```
fn unreach(value: &[u8]) -> Result<Multiprotocol<'_>, Notification> {
    let [a, b, safi, nlri @ ..] = value else {
        return Err(notification(error::MALFORMED_ATTRIBUTE_LIST, Vec::new()));
    };
    Ok(Multiprotocol { family: Family::from_wire(u16::from_be_bytes([*a, *b]), *safi), nlri })
}

/// Appends an attribute.
#[inline]
pub fn put(out: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) {
    let flags = flags & !flag::EXTENDED_LENGTH;
    match u8::try_from(value.len()) {
        Ok(length) => out.extend_from_slice(&[flags, kind, length]),
        Err(_) => {
            out.extend_from_slice(&[flags | flag::EXTENDED_LENGTH, kind]);
            out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(value);
}

/// An attribute as it came, for a NOTIFICATION's data.
fn one(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, flags, kind, value);
    out
}

/// The attributes of a valid field: flags, type and value.
#[inline]
pub fn iter(field: &[u8]) -> impl Iterator<Item = (u8, u8, &[u8])> {
    let mut rest = field;
    std::iter::from_fn(move || {
        let (flags, kind, length, after) = match rest {
            [flags, kind, high, low, after @ ..] if flags & flag::EXTENDED_LENGTH != 0 => {
                (*flags, *kind, usize::from(u16::from_be_bytes([*high, *low])), after)
            }
            [flags, kind, length, after @ ..] => (*flags, *kind, usize::from(*length), after),
            _ => return None,
        };
        let (value, after) = after.split_at_checked(length)?;
        rest = after;
        Some((flags, kind, value))
    })
}

/// The value of an attribute in a valid field.
pub fn attribute(field: &[u8], kind: u8) -> Option<&[u8]> {
    iter(field).find(|(_, k, _)| *k == kind).map(|(_, _, value)| value)
}
