//! Routes into UPDATE messages: the attributes once, and as many prefixes as fit.

use std::net::IpAddr;

use super::view::Statement;
use super::{Context, View};
use crate::Family;
use crate::config::{Origin, Role, Set};
use crate::prefix::{self, Prefix};
use crate::rib::{AttributeId, Attributes, SourceId};
use crate::update::as_path;
use crate::update::attributes::{NextHop, flag, kind, put};

/// Bytes before an UPDATE's attributes: the header, and two lengths.
const FIXED: usize = 19 + 4;
/// Bytes of `MP_REACH_NLRI` before its next hop, and of its reserved byte.
const REACH: usize = 4 + 4 + 1;
/// Bytes of `MP_UNREACH_NLRI` before its prefixes.
const UNREACH: usize = 4 + 3;

/// Who of a group gets a part of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// All.
    All,
    /// All but the member that is this source.
    AllBut(SourceId),
    /// Only that one.
    Only(SourceId),
}

impl Audience {
    /// Whether the member that is this source is in it.
    #[inline]
    pub fn includes(self, member: SourceId) -> bool {
        match self {
            Self::All => true,
            Self::AllBut(source) => source != member,
            Self::Only(source) => source == member,
        }
    }
}

/// Messages for a group.
#[derive(Debug, Default)]
pub struct Burst {
    /// Whole messages.
    pub bytes: Vec<u8>,
    /// Which are for whom, each from the end of the one before.
    pub segments: Vec<Segment>,
    /// UPDATE messages since the last segment.
    updates: u64,
    tail: Vec<u8>,
    scratch: Vec<u8>,
}

/// Messages that are for the same members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where they end.
    pub end: usize,
    /// Whom they are for.
    pub audience: Audience,
    /// How many there are.
    pub updates: u64,
}

/// What routes have in common that go into one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    /// Their attributes.
    pub attributes: AttributeId,
    /// Their source.
    pub source: SourceId,
    /// What of the export policy changes them.
    pub statement: Statement,
}

impl Burst {
    /// Puts routes with the same attributes into messages.
    pub fn announce<P: Prefix>(
        &mut self,
        view: &View,
        context: Context<'_>,
        bucket: Bucket,
        routes: &[(P, Option<u32>)],
        audience: Audience,
    ) {
        let attributes = context.store.get(bucket.attributes);
        let source = &context.sources[bucket.source as usize];
        let Some(hop) = view.hop::<P>(source, attributes) else { return };
        let mut tail = std::mem::take(&mut self.tail);
        tail.clear();
        let mut writer = Writer { out: &mut tail, scratch: &mut self.scratch, view };
        let reflector = (source.origin == Origin::Internal && !view.external)
            .then_some((attributes.originator.unwrap_or(source.router_id), context.cluster_id));
        writer.write::<P>(attributes, source.origin, view.set(bucket.statement), hop, reflector);
        let before = match P::FAMILY {
            Family::Ipv4 => FIXED + tail.len(),
            Family::Ipv6 => FIXED + tail.len() + REACH + hop_length(hop),
        };
        let add_path = view.add_path > 0;
        let fits = |size: usize| before + size <= view.max_message;
        if !fits(prefix::size(P::of(P::BITS, &[]), add_path)) {
            // Attributes that fill a message: RFC 8654, section 4, has such routes withdrawn.
            tracing::warn!(
                attributes = tail.len(),
                limit = view.max_message,
                "routes with attributes that fit no message are not told"
            );
            self.tail = tail;
            return self.withdraw(view, routes, audience);
        }
        let mut rest = routes;
        while !rest.is_empty() {
            let mut size = 0;
            let count = rest.iter().take_while(|(p, _)| {
                size += prefix::size(*p, add_path);
                fits(size)
            });
            let (now, later) = rest.split_at(count.count());
            self.message(|out| match P::FAMILY {
                Family::Ipv4 => {
                    out.extend_from_slice(&[0, 0]);
                    length(out, |out| out.extend_from_slice(&tail));
                    now.iter().for_each(|(prefix, id)| prefix::write(out, *id, *prefix));
                }
                Family::Ipv6 => {
                    out.extend_from_slice(&[0, 0]);
                    length(out, |out| {
                        // The first of the attributes: RFC 7606, section 5.1.
                        out.extend_from_slice(&[flag::OPTIONAL | flag::EXTENDED_LENGTH, kind::MP_REACH_NLRI]);
                        length(out, |out| {
                            out.extend_from_slice(&P::FAMILY.afi().to_be_bytes());
                            out.push(1);
                            write_hop(out, hop);
                            out.push(0);
                            now.iter().for_each(|(prefix, id)| prefix::write(out, *id, *prefix));
                        });
                        out.extend_from_slice(&tail);
                    });
                }
            });
            rest = later;
        }
        self.tail = tail;
        self.segment(audience);
    }

    /// Puts withdrawals into messages.
    pub fn withdraw<P: Prefix>(&mut self, view: &View, routes: &[(P, Option<u32>)], audience: Audience) {
        let before = match P::FAMILY {
            Family::Ipv4 => FIXED,
            Family::Ipv6 => FIXED + UNREACH,
        };
        let mut rest = routes;
        while !rest.is_empty() {
            let mut size = before;
            let count = rest.iter().take_while(|(p, _)| {
                size += prefix::size(*p, view.add_path > 0);
                size <= view.max_message
            });
            let (now, later) = rest.split_at(count.count());
            let write = |out: &mut Vec<u8>| now.iter().for_each(|(prefix, id)| prefix::write(out, *id, *prefix));
            self.message(|out| match P::FAMILY {
                Family::Ipv4 => {
                    length(out, write);
                    out.extend_from_slice(&[0, 0]);
                }
                Family::Ipv6 => {
                    out.extend_from_slice(&[0, 0]);
                    length(out, |out| {
                        out.extend_from_slice(&[flag::OPTIONAL | flag::EXTENDED_LENGTH, kind::MP_UNREACH_NLRI]);
                        length(out, |out| {
                            out.extend_from_slice(&P::FAMILY.afi().to_be_bytes());
                            out.push(1);
                            write(out);
                        });
                    });
                }
            });
            rest = later;
        }
        self.segment(audience);
    }

    /// The End-of-RIB marker of a family (RFC 4724, section 2).
    pub fn end_of_rib(family: Family) -> Vec<u8> {
        let mut burst = Self::default();
        burst.message(|out| match family {
            Family::Ipv4 => out.extend_from_slice(&[0; 4]),
            Family::Ipv6 => {
                out.extend_from_slice(&[0, 0, 0, 6, flag::OPTIONAL, kind::MP_UNREACH_NLRI, 3, 0, 2, 1]);
            }
        });
        burst.bytes
    }

    fn message(&mut self, body: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0xff; 16]);
        self.bytes.extend_from_slice(&[0, 0, 2]);
        body(&mut self.bytes);
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes[start + 16..start + 18].copy_from_slice(&length.to_be_bytes());
        self.updates += 1;
    }

    fn segment(&mut self, audience: Audience) {
        let (end, updates) = (self.bytes.len(), std::mem::take(&mut self.updates));
        match self.segments.last_mut() {
            Some(last) if last.audience == audience => {
                last.end = end;
                last.updates += updates;
            }
            _ => self.segments.push(Segment { end, audience, updates }),
        }
    }
}

/// Writes a length of two octets before what `body` writes.
fn length(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0, 0]);
    body(out);
    let length = u16::try_from(out.len() - at - 2).unwrap_or(u16::MAX);
    out[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

fn hop_length(hop: NextHop) -> usize {
    match hop {
        NextHop::V6(_, Some(_)) => 32,
        _ => 16,
    }
}

pub(crate) fn write_hop(out: &mut Vec<u8>, hop: NextHop) {
    out.push(u8::try_from(hop_length(hop)).unwrap_or(16));
    match hop {
        NextHop::V6(address, local) => {
            out.extend_from_slice(&address.octets());
            local.iter().for_each(|local| out.extend_from_slice(&local.octets()));
        }
        // A next hop of the other family, as an IPv4-mapped address.
        NextHop::V4(address) => out.extend_from_slice(&address.to_ipv6_mapped().octets()),
        NextHop::Own => out.extend_from_slice(&[0; 16]),
    }
}

/// Attributes as a neighbour is told them.
struct Writer<'a> {
    out: &'a mut Vec<u8>,
    scratch: &'a mut Vec<u8>,
    view: &'a View,
}

/// The attributes that are not just copied, in ascending order.
const REWRITTEN: [u8; 12] = [
    kind::AS_PATH,
    kind::NEXT_HOP,
    kind::MULTI_EXIT_DISC,
    kind::LOCAL_PREF,
    kind::AGGREGATOR,
    kind::COMMUNITIES,
    kind::ORIGINATOR_ID,
    kind::CLUSTER_LIST,
    kind::AS4_PATH,
    kind::AS4_AGGREGATOR,
    kind::LARGE_COMMUNITIES,
    kind::ONLY_TO_CUSTOMER,
];

type Reflector = (std::net::Ipv4Addr, std::net::Ipv4Addr);

impl Writer<'_> {
    fn write<P: Prefix>(
        &mut self,
        attributes: &Attributes,
        origin: Origin,
        set: Option<&Set>,
        hop: NextHop,
        reflector: Option<Reflector>,
    ) {
        let mut stored = crate::update::attributes::iter(&attributes.bytes).peekable();
        for rewritten in REWRITTEN {
            while let Some((flags, kind, value)) = stored.next_if(|(_, kind, _)| *kind < rewritten) {
                put(self.out, flags, kind, value);
            }
            let present = stored.next_if(|(_, kind, _)| *kind == rewritten).map(|(flags, _, value)| (flags, value));
            let value = present.map(|(_, value)| value);
            match rewritten {
                kind::AS_PATH => self.as_path(value.unwrap_or_default(), set),
                kind::NEXT_HOP => {
                    if let (Family::Ipv4, NextHop::V4(hop)) = (P::FAMILY, hop) {
                        put(self.out, flag::TRANSITIVE, kind::NEXT_HOP, &hop.octets());
                    }
                }
                kind::MULTI_EXIT_DISC => self.med(value, origin, set),
                kind::LOCAL_PREF => self.local_pref(value, set),
                kind::AGGREGATOR => self.aggregator(present),
                kind::COMMUNITIES => self.communities(present, set),
                kind::ORIGINATOR_ID | kind::CLUSTER_LIST => self.reflect(rewritten, value, reflector),
                kind::AS4_PATH if !self.view.four_octet => self.as4_path(attributes, set),
                kind::AS4_AGGREGATOR if !self.view.four_octet => self.as4_aggregator(attributes),
                kind::LARGE_COMMUNITIES => self.large_communities(present, set),
                kind::ONLY_TO_CUSTOMER => self.only_to_customer(present),
                _ => {}
            }
        }
        for (flags, kind, value) in stored {
            put(self.out, flags, kind, value);
        }
    }

    /// Puts what is to go before the path before it.
    fn lengthen(&mut self, path: &[u8], set: Option<&Set>) {
        self.scratch.clear();
        let prepended = set.and_then(|set| set.prepend);
        if !self.view.external {
            let (asn, times) = prepended.unwrap_or((0, 0));
            as_path::prepend(path, asn, times, self.scratch);
            return;
        }
        let Some((asn, times)) = prepended else {
            as_path::prepend(path, self.view.local_asn, 1, self.scratch);
            return;
        };
        let mut longer = Vec::new();
        as_path::prepend(path, asn, times, &mut longer);
        as_path::prepend(&longer, self.view.local_asn, 1, self.scratch);
    }

    fn as_path(&mut self, path: &[u8], set: Option<&Set>) {
        if !self.view.external && set.is_none() && self.view.four_octet {
            return put(self.out, flag::TRANSITIVE, kind::AS_PATH, path);
        }
        self.lengthen(path, set);
        if self.view.four_octet {
            put(self.out, flag::TRANSITIVE, kind::AS_PATH, self.scratch);
        } else {
            let mut narrow = Vec::new();
            as_path::narrow(self.scratch, &mut narrow);
            put(self.out, flag::TRANSITIVE, kind::AS_PATH, &narrow);
        }
    }

    fn as4_path(&mut self, attributes: &Attributes, set: Option<&Set>) {
        self.lengthen(attributes.as_path(), set);
        let mut narrow = Vec::new();
        if as_path::narrow(self.scratch, &mut narrow) {
            put(self.out, flag::OPTIONAL | flag::TRANSITIVE, kind::AS4_PATH, self.scratch);
        }
    }

    /// Told within the AS; to another one only what is set for it, or own (RFC 4271, section 5.1.4).
    fn med(&mut self, value: Option<&[u8]>, origin: Origin, set: Option<&Set>) {
        let kept = value.filter(|_| !self.view.external || origin == Origin::Local);
        if let Some(med) = set.and_then(|set| set.med) {
            put(self.out, flag::OPTIONAL, kind::MULTI_EXIT_DISC, &med.to_be_bytes());
        } else if let Some(value) = kept {
            put(self.out, flag::OPTIONAL, kind::MULTI_EXIT_DISC, value);
        }
    }

    fn local_pref(&mut self, value: Option<&[u8]>, set: Option<&Set>) {
        if self.view.external {
            return;
        }
        match (set.and_then(|set| set.local_pref), value) {
            (Some(value), _) => put(self.out, flag::TRANSITIVE, kind::LOCAL_PREF, &value.to_be_bytes()),
            (None, Some(value)) => put(self.out, flag::TRANSITIVE, kind::LOCAL_PREF, value),
            (None, None) => put(self.out, flag::TRANSITIVE, kind::LOCAL_PREF, &100_u32.to_be_bytes()),
        }
    }

    fn aggregator(&mut self, present: Option<(u8, &[u8])>) {
        let Some((flags, value)) = present else { return };
        match (self.view.four_octet, value) {
            (false, [0, 0, rest @ ..]) => put(self.out, flags, kind::AGGREGATOR, rest),
            (false, [_, _, _, _, id @ ..]) => {
                let mut narrow = vec![0x5b, 0xa0];
                narrow.extend_from_slice(id);
                put(self.out, flags, kind::AGGREGATOR, &narrow);
            }
            _ => put(self.out, flags, kind::AGGREGATOR, value),
        }
    }

    fn as4_aggregator(&mut self, attributes: &Attributes) {
        if let Some(value) = attributes.get(kind::AGGREGATOR).filter(|value| !value.starts_with(&[0, 0])) {
            put(self.out, flag::OPTIONAL | flag::TRANSITIVE, kind::AS4_AGGREGATOR, value);
        }
    }

    fn communities(&mut self, present: Option<(u8, &[u8])>, set: Option<&Set>) {
        let added = set.map_or(&[][..], |set| &set.communities);
        let added = added.iter().map(|c| c.0.to_be_bytes());
        self.list(kind::COMMUNITIES, present, added);
    }

    fn large_communities(&mut self, present: Option<(u8, &[u8])>, set: Option<&Set>) {
        let added = set.map_or(&[][..], |set| &set.large_communities).iter().map(|c| {
            let mut bytes = [0; 12];
            let numbers = [c.global, c.local.0, c.local.1];
            bytes.chunks_exact_mut(4).zip(numbers).for_each(|(b, n)| b.copy_from_slice(&n.to_be_bytes()));
            bytes
        });
        self.list(kind::LARGE_COMMUNITIES, present, added);
    }

    /// A list of communities, and those added that are not on it.
    fn list<const N: usize>(
        &mut self,
        kind: u8,
        present: Option<(u8, &[u8])>,
        added: impl ExactSizeIterator<Item = [u8; N]>,
    ) {
        let (flags, value) = present.unwrap_or((flag::OPTIONAL | flag::TRANSITIVE, &[]));
        if added.len() == 0 {
            if present.is_some() {
                put(self.out, flags, kind, value);
            }
            return;
        }
        let mut list = value.to_vec();
        for one in added {
            if !list.as_chunks::<N>().0.contains(&one) {
                list.extend_from_slice(&one);
            }
        }
        put(self.out, flags, kind, &list);
    }

    /// RFC 4456, section 8.
    fn reflect(&mut self, which: u8, value: Option<&[u8]>, reflector: Option<Reflector>) {
        if self.view.external {
            return;
        }
        match (reflector, which) {
            (Some((originator, _)), kind::ORIGINATOR_ID) => {
                put(self.out, flag::OPTIONAL, which, &originator.octets());
            }
            (Some((_, cluster)), _) => {
                self.scratch.clear();
                self.scratch.extend_from_slice(&cluster.octets());
                self.scratch.extend_from_slice(value.unwrap_or_default());
                put(self.out, flag::OPTIONAL, which, self.scratch);
            }
            (None, _) => {
                if let Some(value) = value {
                    put(self.out, flag::OPTIONAL, which, value);
                }
            }
        }
    }

    /// RFC 9234, section 5: what goes to a customer, a peer or a client is marked.
    fn only_to_customer(&mut self, present: Option<(u8, &[u8])>) {
        let marks = matches!(self.view.role, Some(Role::Provider | Role::Peer | Role::RouteServer));
        if let Some((flags, value)) = present {
            put(self.out, flags, kind::ONLY_TO_CUSTOMER, value);
        } else if marks && self.view.external {
            let own = self.view.local_asn.to_be_bytes();
            put(self.out, flag::OPTIONAL | flag::TRANSITIVE, kind::ONLY_TO_CUSTOMER, &own);
        }
    }
}

/// Attributes with what a statement of an import policy changes on them.
pub fn changed(attributes: &Attributes, set: &Set) -> Vec<u8> {
    // As an internal neighbour would be told, who takes everything as it is.
    let view = View {
        external: false,
        client: false,
        local_asn: 0,
        four_octet: true,
        max_message: usize::MAX,
        add_path: 0,
        next_hop: crate::config::NextHop::Unchanged,
        own_address: None,
        policy: crate::config::Policy::default(),
        role: None,
        silent: false,
        long_lived: true,
    };
    let (mut out, mut scratch) = (Vec::new(), Vec::new());
    let mut writer = Writer { out: &mut out, scratch: &mut scratch, view: &view };
    // An IPv6 next hop is written beside the attributes, not among them.
    writer.write::<crate::prefix::V6>(attributes, Origin::Internal, Some(set), NextHop::Own, None);
    out
}

/// The address that packets go to: the global one, for a link-local one says nothing without its link.
pub fn address(hop: NextHop) -> Option<IpAddr> {
    match hop {
        NextHop::Own => None,
        NextHop::V4(address) => Some(address.into()),
        NextHop::V6(address, _) => Some(address.into()),
    }
}
