//! What is in a message that both readers take.

use std::net::{IpAddr, Ipv4Addr};

use netgauze_bgp_pkt::BgpMessage;
use netgauze_bgp_pkt::path_attribute::{Aggregator, AsPath, MpReach, MpUnreach, PathAttributeValue};
use netgauze_bgp_pkt::wire::deserializer::BgpParsingContext;
use netgauze_iana::address_family::AddressType;
use netgauze_parse_utils::WritablePdu as _;
use netgauze_parse_utils::reader::SliceReader;
use netgauze_parse_utils::traits::ParseFromWithOneInput as _;
use tombolo_bgp::config::{self, Origin, Policy};
use tombolo_bgp::export::encode::Bucket;
use tombolo_bgp::export::view::BY_DEFAULT;
use tombolo_bgp::export::{Audience, Burst, Context as Export, View};
use tombolo_bgp::prefix::{self, Prefix, V4, V6};
use tombolo_bgp::rib::{Source, Store};
use tombolo_bgp::update::attributes::{Attributes, Context, NextHop, Reader, attribute, flag, iter, kind};
use tombolo_bgp::update::{Update, as_path};
use tombolo_bgp::{Family, wire};

use crate::{Item, Routes, Session, nobodys, routes, v4, v6};

type Segments = Vec<(u8, Vec<u32>)>;

/// The segments of a path that they read.
pub fn numbers(path: &AsPath) -> Segments {
    match path {
        AsPath::As2PathSegments(all) => all
            .iter()
            .map(|s| (s.segment_type() as u8, s.as_numbers().iter().map(|asn| u32::from(*asn)).collect()))
            .collect(),
        AsPath::As4PathSegments(all) => all.iter().map(|s| (s.segment_type() as u8, s.as_numbers().to_vec())).collect(),
    }
}

pub fn same_multiprotocol(found: &Attributes<'_>, items: &[Item<'_>], session: Session) {
    for item in items.iter().filter(|item| !item.again) {
        match item.theirs.as_ref().map(|a| a.value()) {
            Ok(PathAttributeValue::MpReach(MpReach::Ipv4Unicast { next_hop, nlri, .. })) => {
                let (ours, hop) = found.reach.expect("MP_REACH_NLRI");
                assert_eq!(routes::<V4>(ours.nlri, session), Some(nlri.iter().map(v4).collect()));
                let IpAddr::V4(next_hop) = next_hop else { panic!("{next_hop} for IPv4") };
                assert_eq!(hop, Some(NextHop::V4(*next_hop)));
            }
            Ok(PathAttributeValue::MpReach(MpReach::Ipv6Unicast { next_hop_global, next_hop_local, nlri })) => {
                let (ours, hop) = found.reach.expect("MP_REACH_NLRI");
                assert_eq!(routes::<V6>(ours.nlri, session), Some(nlri.iter().map(v6).collect()));
                // RFC 2545, section 3: the second address is a link-local one; anything else there is none.
                let local = next_hop_local.filter(|a| a.is_unicast_link_local());
                assert_eq!(hop, Some(NextHop::V6(*next_hop_global, local)));
            }
            Ok(PathAttributeValue::MpReach(_)) => {
                assert_eq!(found.reach.expect("MP_REACH_NLRI").0.family, None);
            }
            Ok(PathAttributeValue::MpUnreach(MpUnreach::Ipv4Unicast { nlri })) => {
                let ours = found.unreach.expect("MP_UNREACH_NLRI");
                assert_eq!(routes::<V4>(ours.nlri, session), Some(nlri.iter().map(v4).collect()));
            }
            Ok(PathAttributeValue::MpUnreach(MpUnreach::Ipv6Unicast { nlri })) => {
                let ours = found.unreach.expect("MP_UNREACH_NLRI");
                assert_eq!(routes::<V6>(ours.nlri, session), Some(nlri.iter().map(v6).collect()));
            }
            Ok(PathAttributeValue::MpUnreach(_)) => {
                assert_eq!(found.unreach.expect("MP_UNREACH_NLRI").family, None);
            }
            _ => {}
        }
    }
}

/// The one form of the attributes has what they read, and nothing else.
pub fn same_attributes(canonical: &[u8], found: &Attributes<'_>, items: &[Item<'_>], session: Session) {
    let first = |kind: u8| items.iter().find(|item| item.kind == kind && !item.again);
    let ours: Vec<_> = iter(canonical).collect();
    assert!(ours.is_sorted_by(|a, b| a.1 < b.1), "{ours:?}");
    for (_, kind, _) in &ours {
        assert!(first(*kind).is_some(), "{kind} is not in the message");
    }
    for item in items.iter().filter(|item| !item.again) {
        let Ok(theirs) = &item.theirs else { continue };
        let here = ours.iter().find(|(_, kind, _)| *kind == item.kind).map(|(flags, _, value)| (*flags, *value));
        let optional = item.flags & flag::OPTIONAL != 0;
        match theirs.value() {
            PathAttributeValue::NextHop(hop) => {
                assert_eq!((here, found.next_hop), (None, Some(NextHop::V4(hop.next_hop()))));
            }
            PathAttributeValue::AsPath(path) => {
                let path = merged(numbers(path), items, session);
                assert_eq!(as_path::text(here.expect("AS_PATH").1), path);
            }
            PathAttributeValue::Aggregator(Aggregator::As2Aggregator(narrow)) => {
                let as4 = first(kind::AS4_AGGREGATOR).filter(|i| i.flags & 0xc0 == 0xc0 && i.value.len() == 8);
                let expected = match as4 {
                    Some(as4) if *narrow.asn() == 23456 => as4.value.to_vec(),
                    _ => [&[0, 0], item.value].concat(),
                };
                assert_eq!(here.expect("AGGREGATOR").1, expected);
            }
            PathAttributeValue::MpReach(_)
            | PathAttributeValue::MpUnreach(_)
            | PathAttributeValue::As4Path(_)
            | PathAttributeValue::Aigp(_) => assert_eq!(here, None),
            PathAttributeValue::LocalPreference(_)
            | PathAttributeValue::Originator(_)
            | PathAttributeValue::ClusterList(_)
                if session.external =>
            {
                assert_eq!(here, None);
            }
            PathAttributeValue::UnknownAttribute(_) if item.kind == kind::AS4_AGGREGATOR => assert_eq!(here, None),
            // Type 0 is nobody's (IANA has it reserved), and we do not pass it on.
            _ if item.kind == 0 => assert_eq!(here, None),
            // An unknown one that is not transitive goes no further (RFC 4271, section 5).
            _ if optional && item.flags & flag::TRANSITIVE == 0 && is_unknown(item.kind) => assert_eq!(here, None),
            _ => {
                let mut written = Vec::new();
                theirs.write(&mut written).expect("it is written");
                let (flags, value) = here.unwrap_or_else(|| panic!("attribute {} is not kept", item.kind));
                // Their own writing of what they read; attributes that they do not look into are the value itself.
                let theirs = iter(&written).next().expect("an attribute").2;
                if theirs == item.value {
                    assert_eq!(value, theirs, "attribute {}", item.kind);
                }
                assert_eq!(value, item.value, "attribute {}", item.kind);
                let partial = if is_unknown(item.kind) { flag::PARTIAL } else { 0 };
                assert_eq!(flags & 0xe0, (item.flags & 0xe0) | partial);
            }
        }
    }
}

fn is_unknown(kind: u8) -> bool {
    !matches!(kind, 1..=10 | 14..=18 | 26 | 32 | 35)
}

/// RFC 6793, section 4.2.3, as a list of steps.
fn merged(path: Segments, items: &[Item<'_>], session: Session) -> String {
    let first = |kind: u8| items.iter().find(|item| item.kind == kind && !item.again).map(|i| i.theirs.as_ref());
    if session.four_octet {
        return text(&path);
    }
    if let Some(Ok(aggregator)) = first(kind::AGGREGATOR)
        && let PathAttributeValue::Aggregator(Aggregator::As2Aggregator(aggregator)) = aggregator.value()
        && *aggregator.asn() != 23456
    {
        return text(&path);
    }
    let Some(Ok(as4)) = first(kind::AS4_PATH) else { return text(&path) };
    let PathAttributeValue::As4Path(as4) = as4.value() else { panic!("another than AS4_PATH") };
    let as4: Segments = as4.segments().iter().map(|s| (s.segment_type() as u8, s.as_numbers().to_vec())).collect();
    if as4.iter().any(|(kind, all)| *kind > 2 || all.contains(&0)) {
        // Malformed, and left out (RFC 6793, section 6; RFC 7607).
        return text(&path);
    }
    let length = |path: &Segments| -> usize { path.iter().map(|(k, all)| if *k == 1 { 1 } else { all.len() }).sum() };
    let Some(mut more) = length(&path).checked_sub(length(&as4)) else { return text(&path) };
    let mut whole = Segments::new();
    for (kind, all) in path {
        if more == 0 {
            break;
        }
        let take = if kind == 1 { 1 } else { more.min(all.len()) };
        whole.push((kind, if kind == 1 { all } else { all[..take].to_vec() }));
        more -= take;
    }
    whole.extend(as4);
    text(&whole)
}

fn text(path: &Segments) -> String {
    let words = path.iter().map(|(kind, all)| {
        let numbers: Vec<String> = all.iter().map(ToString::to_string).collect();
        if *kind == 1 { format!("{{{}}}", numbers.join(",")) } else { numbers.join(" ") }
    });
    words.collect::<Vec<_>>().join(" ")
}

// ---- Written by us, and read again by both ----

const OWN_AS: u32 = 0x0001_0002;
const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const CLUSTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const THEM: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 3);

pub fn round_trip(canonical: &[u8], found: &Attributes<'_>, nlri: &[u8], session: Session) {
    if !nlri.is_empty() {
        write::<V4>(canonical, found.next_hop.expect("a next hop"), nlri, session);
    }
    if let Some((reach, Some(hop))) = found.reach.filter(|(mp, _)| mp.family == Some(Family::Ipv6)) {
        write::<V6>(canonical, hop, reach.nlri, session);
    }
}

fn write<P: Prefix>(canonical: &[u8], hop: NextHop, nlri: &[u8], session: Session) {
    let taken: Vec<P> =
        prefix::read::<P>(nlri, session.add_path[usize::from(P::FAMILY == Family::Ipv6)]).map(|(_, p)| p).collect();
    let mut store = Store::default();
    let id = store.intern(canonical, hop, 0);
    let origin = if session.external { Origin::External } else { Origin::Internal };
    let source = Source { origin, client: true, router_id: THEM, address: THEM.into() };
    let context = Export { store: &store, sources: &[source], cluster_id: CLUSTER };
    for bits in 0..8_u8 {
        let [external, narrow, add_path] = [0, 1, 2].map(|n| bits & 1 << n != 0);
        let view = View {
            external,
            client: true,
            local_asn: OWN_AS,
            four_octet: !narrow,
            max_message: if add_path { 65535 } else { 4096 },
            add_path: u16::from(add_path) * 2,
            next_hop: config::NextHop::Unchanged,
            own_address: Some(OWN.into()),
            policy: Policy::default(),
            role: None,
            silent: false,
            long_lived: true,
        };
        let routes: Vec<(P, Option<u32>)> =
            taken.iter().enumerate().map(|(i, p)| (*p, add_path.then_some(i as u32 + 1))).collect();
        let mut burst = Burst::default();
        let bucket = Bucket { attributes: id, source: 0, statement: BY_DEFAULT };
        burst.announce(&view, context, bucket, &routes, Audience::All);
        let told: Routes = routes.iter().map(|(p, id)| (id.unwrap_or(0), p.net())).collect();
        read_again::<P>(&burst, &view, canonical, hop, &told, session);
    }
}

fn read_again<P: Prefix>(burst: &Burst, view: &View, canonical: &[u8], hop: NextHop, told: &Routes, session: Session) {
    let (mut bytes, mut all, mut theirs_all) = (&burst.bytes[..], Routes::new(), Routes::new());
    let mut reader = Reader::default();
    let context = Context { four_octet: view.four_octet, external: view.external, first_as: None };
    let written = Session { four_octet: view.four_octet, add_path: [view.add_path > 0; 2], ..session };
    let (mut withdrawn, mut refused) = (false, false);
    while !bytes.is_empty() {
        let message = wire::next(bytes, view.max_message > 4096).expect("a header").expect("a whole message");
        let update = Update::split(message.body).expect("an UPDATE");
        // Attributes that fit no message of this size are withdrawn instead.
        withdrawn |= update.attributes.is_empty() || P::FAMILY == Family::Ipv6 && update.attributes[1] == 15;
        if withdrawn {
            return assert!(canonical.len() > 3500, "routes that are not told");
        }
        let found = reader.read(update.attributes, !update.nlri.is_empty(), context).expect("attributes");
        assert_eq!((found.flaw, found.discarded), (None, None));
        let (nlri, next_hop) = match P::FAMILY {
            Family::Ipv4 => (update.nlri, found.next_hop),
            Family::Ipv6 => found.reach.map(|(mp, hop)| (mp.nlri, hop)).expect("MP_REACH_NLRI"),
        };
        // The link-local half is not told on (RFC 2545, section 3).
        let hop = if let NextHop::V6(address, _) = hop { NextHop::V6(address, None) } else { hop };
        assert_eq!(next_hop, Some(hop));
        all.extend(routes::<P>(nlri, written).expect("prefixes"));
        same_again(canonical, &reader.canonical, view, session);

        let types = [AddressType::Ipv4Unicast, AddressType::Ipv6Unicast];
        let add_path = types.into_iter().map(|t| (t, view.add_path > 0)).collect();
        let mut parsing = BgpParsingContext::new(view.four_octet, Default::default(), add_path, true, true, true, true);
        match BgpMessage::parse(&mut SliceReader::new(&bytes[..message.len]), &mut parsing) {
            Ok(BgpMessage::Update(theirs)) => {
                theirs_all.extend(theirs.nlri().iter().map(v4));
                for attribute in theirs.path_attributes() {
                    match attribute.value() {
                        PathAttributeValue::MpReach(MpReach::Ipv6Unicast { nlri, next_hop_global, .. }) => {
                            assert!(matches!(hop, NextHop::V6(ours, _) if ours == *next_hop_global));
                            theirs_all.extend(nlri.iter().map(v6));
                        }
                        PathAttributeValue::NextHop(theirs) => assert_eq!(hop, NextHop::V4(theirs.next_hop())),
                        _ => {}
                    }
                }
            }
            Ok(other) => panic!("an UPDATE of ours is {other:?}"),
            // What we pass on and they refuse, they refused before: see `laxer`.
            Err(error) => {
                let passed_on = iter(canonical).any(|(flags, kind, _)| {
                    matches!(kind, 25 | 29 | 40) || flags & flag::PARTIAL != 0 && !matches!(kind, 7 | 8 | 16 | 32)
                });
                let nobodys = told.iter().any(|(_, net)| nobodys(net.addr(), net.broadcast()));
                assert!(passed_on || nobodys, "an UPDATE of ours is refused: {error}");
                refused = true;
            }
        }
        bytes = &bytes[message.len..];
    }
    assert_eq!(all, *told);
    if !refused {
        assert_eq!(theirs_all, *told);
    }
}

/// What a neighbour makes of our message is what we have, but for what its kind of session changes.
fn same_again(before: &[u8], after: &[u8], view: &View, session: Session) {
    let reflected = !view.external && !session.external;
    for (flags, kind, value) in iter(before) {
        let after = attribute(after, kind);
        match kind {
            kind::AS_PATH => {
                let path = as_path::text(value);
                let longer = format!("{OWN_AS}{}{path}", if path.is_empty() { "" } else { " " });
                // An AGGREGATOR of two octets beside makes readers of two octets forget AS4_PATH (RFC 6793, 4.2.3).
                let forgotten =
                    !view.four_octet && attribute(before, kind::AGGREGATOR).is_some_and(|v| v.starts_with(&[0, 0]));
                if !forgotten {
                    assert_eq!(as_path::text(after.unwrap()), if view.external { longer } else { path });
                }
            }
            kind::LOCAL_PREF if view.external => assert_eq!(after, None),
            // To another AS it is not told (RFC 4271, section 5.1.4).
            kind::MULTI_EXIT_DISC if view.external => assert_eq!(after, None),
            kind::ORIGINATOR_ID | kind::CLUSTER_LIST if view.external => assert_eq!(after, None),
            kind::CLUSTER_LIST if reflected => assert_eq!(after.unwrap(), [&CLUSTER.octets(), value].concat()),
            // The AS that stands for others stands for itself where nothing is beside it.
            kind::AGGREGATOR => assert_eq!(after, Some(value)),
            _ => assert_eq!(after, Some(value), "attribute {kind} with flags {flags:x}"),
        }
    }
    for (_, kind, value) in iter(after) {
        match kind {
            kind::LOCAL_PREF if attribute(before, kind).is_none() => assert_eq!(value, 100_u32.to_be_bytes()),
            kind::ORIGINATOR_ID if reflected => {
                assert_eq!(value, attribute(before, kind).unwrap_or(&THEM.octets()));
            }
            kind::CLUSTER_LIST if reflected => assert!(value.starts_with(&CLUSTER.octets())),
            _ => assert!(attribute(before, kind).is_some(), "attribute {kind} is new"),
        }
    }
}
