//! UPDATE messages, read by us and by an independent reader (netgauze-bgp-pkt): who takes what, and what is in it.
//!
//! Both read the same message. Each attribute is also given to the other reader alone, so that it is known which of them
//! it refuses. Where the two differ, [`stricter`] or [`laxer`] has to say why, by the standard's clause; everything else panics. What
//! is taken by us is then written by our encoder, for several kinds of sessions, and has to be read as the same by both.

#![no_main]

#[path = "bgp_diff/content.rs"]
mod content;

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use content::{numbers, round_trip, same_attributes, same_multiprotocol};
use libfuzzer_sys::fuzz_target;
use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::nlri::{Ipv4UnicastAddress, Ipv6UnicastAddress};
use netgauze_bgp_pkt::path_attribute::{InvalidPathAttribute, PathAttribute, PathAttributeValue};
use netgauze_bgp_pkt::wire::deserializer::path_attribute::PathAttributeParsingError as TheirError;
use netgauze_bgp_pkt::wire::deserializer::path_attribute::{MpReachParsingError, MpUnreachParsingError};
use netgauze_bgp_pkt::wire::deserializer::update::BgpUpdateMessageParsingError;
use netgauze_bgp_pkt::wire::deserializer::{BgpMessageParsingError, BgpParsingContext};
use netgauze_iana::address_family::AddressType;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput as _;
use tombolo_bgp::prefix::{self, Prefix, V4, V6};
use tombolo_bgp::update::Update;
use tombolo_bgp::update::attributes::{Attributes, Context, Flaw, Reader, flag, kind};
use tombolo_bgp::{Family, wire};

fuzz_target!(|input: &[u8]| {
    let mut input = Input(input);
    let session = Session::of(input.u8());
    let message = if session.raw { frame(input.0) } else { compose(&mut input, session) };
    compare(&message, session);
});

/// What the two sides of a session agreed on.
#[derive(Clone, Copy, Debug)]
struct Session {
    four_octet: bool,
    external: bool,
    add_path: [bool; 2],
    raw: bool,
}

impl Session {
    fn of(bits: u8) -> Self {
        let bit = |n: u8| bits & 1 << n != 0;
        Self { four_octet: !bit(0), external: bit(1), add_path: [bit(2), bit(3)], raw: bits >> 5 == 7 }
    }

    fn context(self) -> Context {
        Context { four_octet: self.four_octet, external: self.external, first_as: None }
    }

    fn theirs(self) -> BgpParsingContext {
        let types = [AddressType::Ipv4Unicast, AddressType::Ipv6Unicast];
        let add_path: HashMap<_, _> = types.into_iter().zip(self.add_path).collect();
        BgpParsingContext::new(self.four_octet, HashMap::new(), add_path, true, true, true, true)
    }
}

// ---- Messages out of the fuzzer's bytes ----

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Types with the flags and a length that they should have; 0 is any.
const USUAL: [(u8, u8, usize); 22] = [
    (kind::ORIGIN, 0x40, 1),
    (kind::AS_PATH, 0x40, 0),
    (kind::NEXT_HOP, 0x40, 4),
    (kind::MULTI_EXIT_DISC, 0x80, 4),
    (kind::LOCAL_PREF, 0x40, 4),
    (kind::ATOMIC_AGGREGATE, 0x40, 0),
    (kind::AGGREGATOR, 0xc0, 8),
    (kind::COMMUNITIES, 0xc0, 8),
    (kind::ORIGINATOR_ID, 0x80, 4),
    (kind::CLUSTER_LIST, 0x80, 8),
    (kind::MP_REACH_NLRI, 0x80, 0),
    (kind::MP_UNREACH_NLRI, 0x80, 0),
    (kind::EXTENDED_COMMUNITIES, 0xc0, 16),
    (kind::AS4_PATH, 0xc0, 0),
    (kind::AS4_AGGREGATOR, 0xc0, 8),
    (kind::LARGE_COMMUNITIES, 0xc0, 24),
    (kind::ONLY_TO_CUSTOMER, 0xc0, 4),
    (kind::AIGP, 0x80, 11),
    (25, 0xc0, 20),
    (40, 0xc0, 10),
    (99, 0xe0, 3),
    (100, 0x80, 3),
];

fn compose(input: &mut Input<'_>, session: Session) -> Vec<u8> {
    let mut withdrawn = Vec::new();
    prefixes(input, 32, session.add_path[0], &mut withdrawn);
    let mut attributes = Vec::new();
    let shape = input.u8();
    if shape & 1 != 0 {
        // Without these nothing is told.
        attributes.extend_from_slice(&[0x40, 1, 1, input.u8() % 4]);
        attribute(&mut attributes, 0x40, kind::AS_PATH, &path(input, if session.four_octet { 4 } else { 2 }));
        attribute(&mut attributes, 0x40, kind::NEXT_HOP, &[10, 0, 0, input.u8()]);
        attribute(&mut attributes, 0x40, kind::LOCAL_PREF, &[0, 0, 0, input.u8()]);
    }
    for _ in 0..shape >> 4 {
        let (kind, flags, length) = USUAL[usize::from(input.u8()) % USUAL.len()];
        let oddity = input.u8();
        let width = if session.four_octet || kind == kind::AS4_PATH { 4 } else { 2 };
        let mut value = match kind {
            kind::AS_PATH | kind::AS4_PATH => path(input, width),
            kind::MP_REACH_NLRI | kind::MP_UNREACH_NLRI => multiprotocol(input, kind, session),
            kind::AGGREGATOR => input.take(width + 4).to_vec(),
            _ => input.take(length).to_vec(),
        };
        if oddity & 0x0f == 1 {
            value.extend_from_slice(input.take(2));
        } else if oddity & 0x0f == 2 {
            value.pop();
        }
        let flags = if oddity & 0xf0 == 0x10 { input.u8() } else { flags | oddity & 0x80 >> 3 };
        attribute(&mut attributes, flags, kind, &value);
    }
    if shape & 0x0e == 0x0e {
        attributes.extend_from_slice(input.take(5));
    }
    let mut nlri = Vec::new();
    prefixes(input, 32, session.add_path[0], &mut nlri);
    let mut body = Vec::new();
    for field in [&withdrawn, &attributes] {
        body.extend_from_slice(&u16::try_from(field.len()).unwrap().to_be_bytes());
        body.extend_from_slice(field);
    }
    body.extend_from_slice(&nlri);
    frame(&body)
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    wire::write(&mut out, wire::Kind::Update, |out| {
        out.extend_from_slice(&body[..body.len().min(60000)]);
        // The shortest that there is.
        out.resize(out.len().max(wire::HEADER + 4), 0);
    });
    out
}

fn attribute(out: &mut Vec<u8>, flags: u8, kind: u8, value: &[u8]) {
    if value.len() > 255 || flags & flag::EXTENDED_LENGTH != 0 {
        out.extend_from_slice(&[flags | flag::EXTENDED_LENGTH, kind]);
        out.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
    } else {
        out.extend_from_slice(&[flags, kind, u8::try_from(value.len()).unwrap()]);
    }
    out.extend_from_slice(value);
}

fn prefixes(input: &mut Input<'_>, bits: u8, add_path: bool, out: &mut Vec<u8>) {
    for _ in 0..input.u8() % 5 {
        let length = input.u8() % (bits + 2);
        if add_path {
            out.extend_from_slice(&[0, 0, 0, input.u8()]);
        }
        out.push(length);
        out.extend_from_slice(input.take(usize::from(length.div_ceil(8))));
    }
}

fn path(input: &mut Input<'_>, width: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..input.u8() % 4 {
        let (kind, count) = (input.u8(), input.u8() % 5);
        out.extend_from_slice(&[if kind < 0xf0 { kind % 2 + 1 } else { kind % 6 }, count]);
        for _ in 0..count {
            // Numbers that stand for others, that are nobody's, and small ones.
            let number: [u8; 4] = match input.u8() {
                n @ 0..=7 => [0, 0, 0, n],
                8 => [0, 0, 0x5b, 0xa0],
                n => [n & 1, 0, n, n],
            };
            out.extend_from_slice(&number[4 - width..]);
        }
    }
    out
}

fn multiprotocol(input: &mut Input<'_>, kind: u8, session: Session) -> Vec<u8> {
    let family = input.u8();
    let (afi, safi, index) = match family & 7 {
        0..=4 => (2, 1, 1),
        5 => (1, 1, 0),
        6 => (2, 128, 1),
        _ => (family >> 5, family >> 3 & 3, 1),
    };
    let mut out = vec![0, afi, safi];
    if kind == kind::MP_REACH_NLRI {
        let length = match family >> 3 {
            0..=3 => input.u8() & 0x3f,
            4..=9 => 32,
            _ if afi == 1 => 4,
            _ => 16,
        };
        out.push(length);
        out.extend_from_slice(input.take(usize::from(length)));
        out.push(0);
    }
    prefixes(input, if index == 0 { 32 } else { 128 }, session.add_path[index], &mut out);
    out
}

// ---- The comparison ----

/// Prefixes with their path identifiers; host bits are cleared, as RFC 4271, section 4.3, has it ("irrelevant").
type Routes = BTreeSet<(u32, ipnet::IpNet)>;

#[derive(Debug)]
enum Ours<'a> {
    Reset(wire::Notification),
    Read(Attributes<'a>, Vec<u8>),
}

/// An attribute as it lies in the message, and what the other reader says of it alone.
struct Item<'a> {
    kind: u8,
    flags: u8,
    value: &'a [u8],
    again: bool,
    theirs: Result<PathAttribute, TheirError>,
}

fn compare(message: &[u8], session: Session) {
    let theirs = BgpMessage::parse(&mut SliceReader::new(message), &mut session.theirs());
    let body = wire::next(message, true).expect("a whole header").expect("a whole message").body;
    let update = match Update::split(body) {
        Ok(update) => update,
        Err(_) => return assert!(theirs.is_err(), "lengths that do not fit are taken by them: {theirs:?}"),
    };
    let mut reader = Reader::default();
    let ours = match reader.read(update.attributes, !update.nlri.is_empty(), session.context()) {
        Ok(found) => Ours::Read(found, reader.canonical.clone()),
        Err(notification) => Ours::Reset(notification),
    };
    let (items, whole) = itemize(update.attributes, session);

    // Prefixes: both read all of them, or neither does.
    let fields = [update.withdrawn, update.nlri].map(|field| routes::<V4>(field, session));
    for field in &fields {
        if field.is_none() {
            assert!(theirs.is_err(), "prefixes that we cannot read are taken by them: {theirs:?}");
        }
    }
    verdicts(&ours, &items, whole, session);
    let Ours::Read(found, canonical) = ours else { return };
    let readable = |mp: &tombolo_bgp::update::attributes::Multiprotocol<'_>| match mp.family {
        Some(Family::Ipv4) => routes::<V4>(mp.nlri, session).is_some(),
        Some(Family::Ipv6) => routes::<V6>(mp.nlri, session).is_some(),
        None => true,
    };
    let [Some(withdrawn), Some(nlri)] = fields else { return };
    if !found.unreach.iter().chain(found.reach.iter().map(|(mp, _)| mp)).all(readable) {
        assert!(theirs.is_err(), "prefixes that we cannot read are taken by them: {theirs:?}");
        return;
    }
    match theirs {
        Ok(BgpMessage::Update(theirs)) => {
            assert_eq!(withdrawn, theirs.withdraw_routes().iter().map(v4).collect::<Routes>(), "withdrawn");
            assert_eq!(nlri, theirs.nlri().iter().map(v4).collect::<Routes>(), "announced");
            if found.flaw.is_none() {
                same_multiprotocol(&found, &items, session);
            }
        }
        Ok(other) => panic!("an UPDATE is read as {other:?}"),
        Err(BgpMessageParsingError::BgpUpdateMessageParsingError(error)) => match error {
            // They refuse the whole message for prefixes that are nobody's, where RFC 4271, section 6.3, has the prefix
            // ignored, and where we leave it to policy.
            BgpUpdateMessageParsingError::InvalidIpv4UnicastNetwork { network, .. } => {
                assert!(nobodys(network.addr().into(), network.broadcast().into()), "{network} is refused by them");
            }
            // Explained attribute by attribute above; overruns are in `whole`.
            BgpUpdateMessageParsingError::PathAttributeError(_) => {
                assert!(!whole || items.iter().any(|item| item.theirs.is_err()), "refused by them only as a whole");
            }
            BgpUpdateMessageParsingError::Parse(_) => {
                assert!(!whole || items.iter().any(|item| item.theirs.is_err()), "refused by them only as a whole");
            }
            other @ BgpUpdateMessageParsingError::Ipv4PrefixError(_) => panic!("prefixes are refused by them: {other}"),
        },
        Err(error) => panic!("refused by them: {error}"),
    }
    let reaches = !nlri.is_empty() || found.reach.is_some_and(|(mp, _)| !mp.nlri.is_empty());
    if found.flaw.is_none() && reaches {
        same_attributes(&canonical, &found, &items, session);
        round_trip(&canonical, &found, update.nlri, session);
    }
}

/// The attributes of a field, read a third time, and whether it ends with one.
fn itemize(mut field: &[u8], session: Session) -> (Vec<Item<'_>>, bool) {
    let mut items: Vec<Item<'_>> = Vec::new();
    while let [flags, kind, rest @ ..] = field {
        let (header, length) = match rest {
            [high, low, ..] if flags & flag::EXTENDED_LENGTH != 0 => (4, usize::from(*high) << 8 | usize::from(*low)),
            [length, ..] if flags & flag::EXTENDED_LENGTH == 0 => (3, usize::from(*length)),
            _ => return (items, false),
        };
        let Some(one) = field.get(..header + length) else { return (items, false) };
        let theirs = PathAttribute::parse(&mut SliceReader::new(one), &mut session.theirs());
        let again = items.iter().any(|item| item.kind == *kind);
        items.push(Item { kind: *kind, flags: *flags, value: &one[header..], again, theirs });
        field = &field[header + length..];
    }
    (items, field.is_empty())
}

/// Who refuses which attribute, and why not the other.
fn verdicts(ours: &Ours<'_>, items: &[Item<'_>], whole: bool, session: Session) {
    let counted = |wanted: u8| items.iter().find(|item| item.kind == wanted && !item.again);
    match ours {
        Ours::Reset(notification) => {
            let unknown = |item: &Item<'_>| item.flags & flag::OPTIONAL == 0 && matches!(item.kind, 0 | 11..=13 | 19..);
            let mp = |item: &Item<'_>| matches!(item.kind, kind::MP_REACH_NLRI | kind::MP_UNREACH_NLRI);
            let explained = match notification.subcode {
                // RFC 7606, section 3 g: both at most once. Section 5.2: a flaw, and no routes that it is about.
                1 => {
                    items.iter().any(|item| mp(item) && (item.again || item.theirs.is_err()))
                        || items.iter().any(|item| mp(item) && short(item))
                        || !whole
                        || items.iter().any(|item| !item.again && (item.theirs.is_err() || stricter(item, session)))
                }
                // RFC 4271, section 6.3: an unknown well-known attribute.
                2 => items.iter().any(unknown),
                // RFC 7606, section 7.11: a next hop of another length; they take any as one of 16 octets, and an
                // IPv6 next hop for IPv4 (RFC 8950), which we do not offer.
                9 => items.iter().any(|item| item.kind == kind::MP_REACH_NLRI && hop_length(item.value).is_some()),
                _ => false,
            };
            assert!(explained, "{notification:?} ends the session for nothing");
        }
        Ours::Read(found, _) => {
            match found.flaw {
                None => {}
                Some(Flaw::Overrun) => assert!(!whole, "an overrun that is none"),
                // They do not look at the whole: RFC 4271, section 6.3.
                Some(Flaw::Missing(kind)) => {
                    assert!(counted(kind).is_none(), "{kind} is there");
                }
                // RFC 4271, section 6.3, and RFC 2545.
                Some(Flaw::NextHop) => assert!(items.iter().any(bad_hop), "all next hops are good"),
                Some(Flaw::FirstAs) => panic!("nobody asked for the first AS"),
                Some(Flaw::Flags(kind) | Flaw::Length(kind) | Flaw::Value(kind)) => {
                    let item = counted(kind).expect("it is there");
                    assert!(
                        item.theirs.is_err() || stricter(item, session),
                        "{:?}: {:x} {:?} is taken by them: {:?}",
                        found.flaw,
                        item.flags,
                        item.value,
                        item.theirs
                    );
                    return;
                }
            }
            if found.flaw.is_some() {
                return;
            }
            for item in items.iter().filter(|item| !item.again) {
                if let Err(error) = &item.theirs {
                    assert!(laxer(item, error, session), "{:?} ({error}) is taken by us", (item.flags, item.kind));
                }
            }
        }
    }
}

/// Why we refuse an attribute that they take.
fn stricter(item: &Item<'_>, session: Session) -> bool {
    let Ok(theirs) = &item.theirs else { return true };
    match theirs.value() {
        // AS 0 (RFC 7607), and segments of confederations, of which we are in none (RFC 5065, section 5.1).
        PathAttributeValue::AsPath(path) => numbers(path).iter().any(|(kind, all)| *kind > 2 || all.contains(&0)),
        // RFC 7606, sections 7.8, 7.10, 7.14 and RFC 8092, section 5: none at all is malformed.
        PathAttributeValue::Communities(list) => list.communities().is_empty(),
        PathAttributeValue::ExtendedCommunities(list) => list.communities().is_empty(),
        PathAttributeValue::LargeCommunities(list) => list.communities().is_empty(),
        PathAttributeValue::ClusterList(list) => list.cluster_list().is_empty() && !session.external,
        // They do not see what follows the number (RFC 7606, section 7.9; RFC 9234, section 5).
        PathAttributeValue::Originator(_) | PathAttributeValue::OnlyToCustomer(_) => item.value.len() > 4,
        _ => false,
    }
}

/// Why we take, or pass over, an attribute that they refuse.
fn laxer(item: &Item<'_>, error: &TheirError, session: Session) -> bool {
    // The partial bit of what is not optional transitive is ignored (RFC 7606, section 3 c, is about the other two).
    let partial = matches!(
        error,
        TheirError::InvalidPathAttribute { invalid_attribute: InvalidPathAttribute::InvalidPartialFlagValue(_), .. }
    );
    match item.kind {
        _ if partial => true,
        // Left out, says RFC 7606, sections 7.6 and 7.7, and RFC 6793, section 6.
        kind::ATOMIC_AGGREGATE | kind::AGGREGATOR | kind::AS4_PATH | kind::AS4_AGGREGATOR => true,
        // Of an external neighbour they are left out unseen (RFC 7606, sections 7.5, 7.9 and 7.10).
        kind::LOCAL_PREF | kind::ORIGINATOR_ID | kind::CLUSTER_LIST => session.external,
        // Not read by us, but passed on or left out.
        kind::AIGP | 25 | 29 | 40 => true,
        // Other families' prefixes are not read by us, nor are prefixes judged (RFC 4271, section 6.3).
        kind::MP_REACH_NLRI | kind::MP_UNREACH_NLRI => match error {
            TheirError::MpReachErrorError(MpReachParsingError::Ipv6UnicastAddressError(e)) => {
                e.to_string().contains("unicast network") || unreadable(item, session)
            }
            TheirError::MpReachErrorError(MpReachParsingError::Ipv4UnicastAddressError(e)) => {
                e.to_string().contains("unicast network") || unreadable(item, session)
            }
            TheirError::MpUnreachErrorError(MpUnreachParsingError::Ipv6UnicastAddressError(e)) => {
                e.to_string().contains("unicast network") || unreadable(item, session)
            }
            TheirError::MpUnreachErrorError(MpUnreachParsingError::Ipv4UnicastAddressError(e)) => {
                e.to_string().contains("unicast network") || unreadable(item, session)
            }
            _ => family(item.value).is_none() || unreadable(item, session),
        },
        _ => false,
    }
}

fn family(value: &[u8]) -> Option<Family> {
    Family::from_wire(u16::from_be_bytes([*value.first()?, *value.get(1)?]), *value.get(2)?)
}

/// Whether the prefixes of an attribute end the session when they are read, later.
fn unreadable(item: &Item<'_>, session: Session) -> bool {
    let start = if item.kind == kind::MP_UNREACH_NLRI { 3 } else { 5 + usize::from(item.value[3]) };
    match family(item.value) {
        Some(Family::Ipv4) => routes::<V4>(&item.value[start..], session).is_none(),
        Some(Family::Ipv6) => routes::<V6>(&item.value[start..], session).is_none(),
        None => false,
    }
}

/// Whether an attribute ends before its prefixes do begin; of families that they do not know they do not look.
fn short(item: &Item<'_>) -> bool {
    let hop = if item.kind == kind::MP_REACH_NLRI {
        item.value.get(3).map_or(2, |length| 2 + usize::from(*length))
    } else {
        0
    };
    item.value.len() < 3 + hop
}

/// The length of a next hop, where it is not what its family has.
fn hop_length(value: &[u8]) -> Option<u8> {
    let length = *value.get(3)?;
    let good = match family(value)? {
        Family::Ipv4 => length == 4,
        Family::Ipv6 => length == 16 || length == 32,
    };
    (!good).then_some(length)
}

fn bad_hop(item: &Item<'_>) -> bool {
    let first = |range| item.value.get(range);
    let hop: Option<IpAddr> = match (item.kind, family(item.value)) {
        (kind::NEXT_HOP, _) => <[u8; 4]>::try_from(item.value).ok().map(IpAddr::from),
        (kind::MP_REACH_NLRI, Some(Family::Ipv4)) => {
            first(4..8).and_then(|hop| <[u8; 4]>::try_from(hop).ok()).map(IpAddr::from)
        }
        (kind::MP_REACH_NLRI, Some(Family::Ipv6)) => {
            first(4..20).and_then(|hop| <[u8; 16]>::try_from(hop).ok()).map(IpAddr::from)
        }
        _ => None,
    };
    // One of another length is none, and refused for that.
    let Some(hop) = hop else { return false };
    let broadcast = hop == IpAddr::V4(Ipv4Addr::BROADCAST);
    hop.is_unspecified() || hop.is_multicast() || hop.is_loopback() || broadcast
}

fn nobodys(first: IpAddr, last: IpAddr) -> bool {
    let is = |a: IpAddr| a.is_multicast() || a == IpAddr::V4(Ipv4Addr::BROADCAST);
    // They look at the last host, which in a /31 or /32 is the last address, else the one before.
    let before = match last {
        IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits().saturating_sub(1))),
        IpAddr::V6(a) => IpAddr::V6(a),
    };
    is(first) || is(last) || is(before)
}

fn routes<P: Prefix>(field: &[u8], session: Session) -> Option<Routes> {
    let add_path = session.add_path[usize::from(P::FAMILY == Family::Ipv6)];
    let count = prefix::check::<P>(field, add_path).ok()?;
    let read: Vec<_> = prefix::read::<P>(field, add_path).map(|(id, prefix)| (id, prefix.net())).collect();
    assert_eq!(read.len(), count);
    Some(read.into_iter().collect())
}

fn v4(route: &Ipv4UnicastAddress) -> (u32, ipnet::IpNet) {
    (route.path_id().unwrap_or(0), ipnet::IpNet::from(route.network().address()).trunc())
}

fn v6(route: &Ipv6UnicastAddress) -> (u32, ipnet::IpNet) {
    (route.path_id().unwrap_or(0), ipnet::IpNet::from(route.network().address()).trunc())
}
