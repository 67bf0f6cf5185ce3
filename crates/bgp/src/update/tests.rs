#![allow(clippy::unwrap_used)]

use super::attributes::{Attributes, Context, Flaw, NextHop, Reader, attribute, flag, iter, kind, put};
use super::*;
use crate::Family;

const INTERNAL: Context = Context { four_octet: true, external: false, first_as: None };
const EXTERNAL: Context = Context { external: true, ..INTERNAL };
const NARROW: Context = Context { four_octet: false, ..INTERNAL };
const AS_PATH: &[u8] = &[2, 1, 0, 0, 0xfd, 0xe9];
const UNREACH: &[u8] = &[0, 2, 1];

/// What reading attributes comes to.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    Kept,
    Discarded,
    Withdrawn(Flaw),
    /// The session ends with this subcode of UPDATE Message Error.
    Reset(u8),
}

fn good() -> Vec<(u8, u8, Vec<u8>)> {
    vec![
        (0x40, kind::ORIGIN, vec![0]),
        (0x40, kind::AS_PATH, AS_PATH.to_vec()),
        (0x40, kind::NEXT_HOP, vec![10, 0, 0, 1]),
        (0x40, kind::LOCAL_PREF, vec![0, 0, 0, 100]),
    ]
}

fn field(attributes: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    attributes.iter().for_each(|(flags, kind, value)| put(&mut out, *flags, *kind, value));
    out
}

/// The good attributes, with this one in place of its like.
fn with(flags: u8, kind: u8, value: &[u8]) -> Vec<u8> {
    let mut all = good();
    all.retain(|(_, k, _)| *k != kind);
    all.push((flags, kind, value.to_vec()));
    field(&all)
}

fn read(field: &[u8], nlri: bool, context: Context) -> Read {
    let mut reader = Reader::default();
    match reader.read(field, nlri, context) {
        Err(notification) => Read::Reset(notification.subcode),
        Ok(Attributes { flaw: Some(flaw), .. }) => Read::Withdrawn(flaw),
        Ok(Attributes { discarded: Some(_), .. }) => Read::Discarded,
        Ok(_) => Read::Kept,
    }
}

/// The one form of a field that is good.
fn canonical(field: &[u8], context: Context) -> Vec<u8> {
    let mut reader = Reader::default();
    assert_eq!(reader.read(field, true, context).unwrap().flaw, None);
    reader.canonical
}

fn reach(hop: &[u8]) -> Vec<u8> {
    [&[0, 2, 1, u8::try_from(hop.len()).unwrap()], hop, &[0, 64, 0xfd, 0, 0, 0, 0, 0, 0, 0]].concat()
}

#[test]
#[rustfmt::skip]
fn what_is_malformed_costs_what_rfc_7606_says() {
    use Read::{Discarded, Kept, Reset, Withdrawn};
    use kind::*;
    let path = <[u8]>::to_vec;
    let global = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let cases: Vec<(u8, u8, Vec<u8>, Read, Read)> = vec![
        // Flags, type, value; from an internal and from an external neighbour.
        (0x40, ORIGIN, vec![2], Kept, Kept),
        (0x60, ORIGIN, vec![2], Kept, Kept), // the partial bit is nobody's business
        (0xc0, ORIGIN, vec![0], Withdrawn(Flaw::Flags(1)), Withdrawn(Flaw::Flags(1))),
        (0x40, ORIGIN, vec![3], Withdrawn(Flaw::Value(1)), Withdrawn(Flaw::Value(1))),
        (0x40, ORIGIN, vec![], Withdrawn(Flaw::Length(1)), Withdrawn(Flaw::Length(1))),
        (0x40, ORIGIN, vec![0, 0], Withdrawn(Flaw::Length(1)), Withdrawn(Flaw::Length(1))),
        (0x40, AS_PATH, path(&[]), Kept, Kept),
        (0x40, AS_PATH, path(&[2, 0]), Withdrawn(Flaw::Value(2)), Withdrawn(Flaw::Value(2))),
        (0x40, AS_PATH, path(&[2, 2, 0, 0, 0, 1]), Withdrawn(Flaw::Value(2)), Withdrawn(Flaw::Value(2))),
        (0x40, AS_PATH, path(&[5, 1, 0, 0, 0, 1]), Withdrawn(Flaw::Value(2)), Withdrawn(Flaw::Value(2))),
        (0x40, AS_PATH, path(&[3, 1, 0, 0, 0, 1]), Withdrawn(Flaw::Value(2)), Withdrawn(Flaw::Value(2))),
        (0x40, AS_PATH, path(&[2, 1, 0, 0, 0, 0]), Withdrawn(Flaw::Value(2)), Withdrawn(Flaw::Value(2))),
        (0x40, AS_PATH, path(&[2, 1, 0, 0, 0, 1, 2]), Withdrawn(Flaw::Value(2)), Withdrawn(Flaw::Value(2))),
        (0x40, NEXT_HOP, vec![10, 0, 0], Withdrawn(Flaw::Length(3)), Withdrawn(Flaw::Length(3))),
        (0x40, NEXT_HOP, vec![0; 4], Withdrawn(Flaw::NextHop), Withdrawn(Flaw::NextHop)),
        (0x40, NEXT_HOP, vec![224, 0, 0, 1], Withdrawn(Flaw::NextHop), Withdrawn(Flaw::NextHop)),
        (0x40, NEXT_HOP, vec![127, 0, 0, 1], Withdrawn(Flaw::NextHop), Withdrawn(Flaw::NextHop)),
        (0x80, NEXT_HOP, vec![10, 0, 0, 1], Withdrawn(Flaw::Flags(3)), Withdrawn(Flaw::Flags(3))),
        (0x80, MULTI_EXIT_DISC, vec![0; 4], Kept, Kept),
        (0x80, MULTI_EXIT_DISC, vec![0; 3], Withdrawn(Flaw::Length(4)), Withdrawn(Flaw::Length(4))),
        (0xc0, MULTI_EXIT_DISC, vec![0; 4], Withdrawn(Flaw::Flags(4)), Withdrawn(Flaw::Flags(4))),
        (0x40, LOCAL_PREF, vec![0; 4], Kept, Discarded),
        (0x40, LOCAL_PREF, vec![0; 5], Withdrawn(Flaw::Length(5)), Discarded),
        (0xc0, LOCAL_PREF, vec![0; 4], Withdrawn(Flaw::Flags(5)), Discarded),
        (0x40, ATOMIC_AGGREGATE, vec![], Kept, Kept),
        (0x40, ATOMIC_AGGREGATE, vec![1], Discarded, Discarded),
        (0xc0, ATOMIC_AGGREGATE, vec![], Discarded, Discarded),
        (0xc0, AGGREGATOR, vec![0; 8], Kept, Kept),
        (0xc0, AGGREGATOR, vec![0; 6], Discarded, Discarded),
        (0x80, AGGREGATOR, vec![0; 8], Discarded, Discarded),
        (0xc0, COMMUNITIES, vec![0; 8], Kept, Kept),
        (0xc0, COMMUNITIES, vec![0; 7], Withdrawn(Flaw::Length(8)), Withdrawn(Flaw::Length(8))),
        (0xc0, COMMUNITIES, vec![], Withdrawn(Flaw::Length(8)), Withdrawn(Flaw::Length(8))),
        (0x40, COMMUNITIES, vec![0; 8], Withdrawn(Flaw::Flags(8)), Withdrawn(Flaw::Flags(8))),
        (0x80, ORIGINATOR_ID, vec![1; 4], Kept, Discarded),
        (0x80, ORIGINATOR_ID, vec![1; 5], Withdrawn(Flaw::Length(9)), Discarded),
        (0x80, CLUSTER_LIST, vec![1; 8], Kept, Discarded),
        (0x80, CLUSTER_LIST, vec![1; 6], Withdrawn(Flaw::Length(10)), Discarded),
        (0x80, CLUSTER_LIST, vec![], Withdrawn(Flaw::Length(10)), Discarded),
        (0xc0, EXTENDED_COMMUNITIES, vec![0; 16], Kept, Kept),
        (0xc0, EXTENDED_COMMUNITIES, vec![0; 12], Withdrawn(Flaw::Length(16)), Withdrawn(Flaw::Length(16))),
        (0xc0, AS4_PATH, AS_PATH_OF_FOUR.to_vec(), Discarded, Discarded),
        (0xc0, AS4_AGGREGATOR, vec![0; 8], Discarded, Discarded),
        (0x80, AIGP, vec![1, 0, 11, 0, 0, 0, 0, 0, 0, 0, 1], Kept, Kept),
        (0xc0, AIGP, vec![1], Discarded, Discarded),
        (0xc0, LARGE_COMMUNITIES, vec![0; 24], Kept, Kept),
        (0xc0, LARGE_COMMUNITIES, vec![0; 23], Withdrawn(Flaw::Length(32)), Withdrawn(Flaw::Length(32))),
        (0xc0, ONLY_TO_CUSTOMER, vec![0; 4], Kept, Kept),
        (0xc0, ONLY_TO_CUSTOMER, vec![0; 3], Withdrawn(Flaw::Length(35)), Withdrawn(Flaw::Length(35))),
        (0x80, MP_REACH_NLRI, reach(&global), Kept, Kept),
        (0x80, MP_REACH_NLRI, reach(&[0; 16]), Withdrawn(Flaw::NextHop), Withdrawn(Flaw::NextHop)),
        (0xc0, MP_REACH_NLRI, reach(&global), Withdrawn(Flaw::Flags(14)), Withdrawn(Flaw::Flags(14))),
        (0x80, MP_REACH_NLRI, reach(&global[..15]), Reset(9), Reset(9)),
        (0x80, MP_REACH_NLRI, vec![0, 2, 1, 16, 0], Reset(1), Reset(1)),
        (0x80, MP_REACH_NLRI, vec![0, 2, 1], Reset(1), Reset(1)),
        (0x80, MP_REACH_NLRI, vec![0, 1, 128, 3, 0, 0, 0, 0], Kept, Kept), // another family's
        (0x80, MP_UNREACH_NLRI, UNREACH.to_vec(), Kept, Kept),
        (0x40, MP_UNREACH_NLRI, UNREACH.to_vec(), Withdrawn(Flaw::Flags(15)), Withdrawn(Flaw::Flags(15))),
        (0x80, MP_UNREACH_NLRI, vec![0, 2], Reset(1), Reset(1)),
        (0xc0, 99, vec![1, 2, 3], Kept, Kept),
        (0x80, 99, vec![1, 2, 3], Kept, Kept),
        (0x40, 99, vec![1, 2, 3], Reset(2), Reset(2)),
    ];
    for (flags, kind, value, internal, external) in cases {
        let mut field = with(flags, kind, &value);
        assert_eq!(read(&field, true, INTERNAL), internal, "{flags:x} {kind} {value:?}");
        // An external neighbour's LOCAL_PREF is discarded as well: it has none but the one that is looked at.
        if kind != LOCAL_PREF {
            let mut all = good();
            all.retain(|(_, k, _)| *k != LOCAL_PREF && *k != kind);
            all.push((flags, kind, value.clone()));
            field = super::tests::field(&all);
        }
        assert_eq!(read(&field, true, EXTERNAL), external, "{flags:x} {kind} {value:?} from outside");
    }
}

const AS_PATH_OF_FOUR: [u8; 6] = [2, 1, 0, 1, 0, 1];

#[test]
fn what_is_mandatory_has_to_be_there() {
    for (left_out, internal, external) in [
        (kind::ORIGIN, true, true),
        (kind::AS_PATH, true, true),
        (kind::NEXT_HOP, true, true),
        (kind::LOCAL_PREF, true, false),
    ] {
        let mut all = good();
        all.retain(|(_, kind, _)| *kind != left_out);
        for (context, needed) in [(INTERNAL, internal), (EXTERNAL, external)] {
            let missing = read(&field(&all), true, context) == Read::Withdrawn(Flaw::Missing(left_out));
            assert_eq!(missing, needed, "{left_out}");
        }
    }
}

#[test]
fn of_several_of_a_type_the_first_counts_but_there_are_no_two_lists_of_routes() {
    let twice = [with(0x80, kind::MULTI_EXIT_DISC, &[0, 0, 0, 1]), field(&[(0x80, kind::MULTI_EXIT_DISC, vec![9])])];
    let read_once = canonical(&twice.concat(), INTERNAL);
    assert_eq!(attribute(&read_once, kind::MULTI_EXIT_DISC), Some(&[0, 0, 0, 1][..]));
    let unreach = (0x80, kind::MP_UNREACH_NLRI, UNREACH.to_vec());
    assert_eq!(read(&field(&[unreach.clone(), unreach]), false, INTERNAL), Read::Reset(1));
}

#[test]
fn attributes_that_end_within_one_withdraw_the_routes_that_are_there_and_else_end_the_session() {
    let mut all = field(&good());
    for cut in [1, 2, 5, 6] {
        let cut = all.len() - cut;
        assert_eq!(read(&all[..cut], true, INTERNAL), Read::Withdrawn(Flaw::Overrun));
        // RFC 7606, section 5.2: the routes may be in what could not be read.
        assert_eq!(read(&all[..cut], false, INTERNAL), Read::Reset(1));
    }
    all.push(0x80);
    assert_eq!(read(&all, true, INTERNAL), Read::Withdrawn(Flaw::Overrun));
    // Nothing but withdrawals, all of them read: its flags cannot have hidden anything.
    let unreach = field(&[(0xc0, kind::MP_UNREACH_NLRI, UNREACH.to_vec())]);
    assert_eq!(read(&unreach, false, INTERNAL), Read::Withdrawn(Flaw::Flags(15)));
    let other = field(&[(0x40, kind::ORIGIN, vec![9]), (0x80, kind::MP_UNREACH_NLRI, UNREACH.to_vec())]);
    assert_eq!(read(&other, false, INTERNAL), Read::Reset(1));
}

#[test]
fn routes_with_a_flaw_in_their_flags_can_still_be_withdrawn() {
    let hop = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let field = with(0xc0, kind::MP_REACH_NLRI, &reach(&hop));
    let mut reader = Reader::default();
    let found = reader.read(&field, true, INTERNAL).unwrap();
    assert_eq!(found.flaw, Some(Flaw::Flags(kind::MP_REACH_NLRI)));
    let (routes, _) = found.reach.unwrap();
    assert_eq!((routes.family, routes.nlri.len()), (Some(Family::Ipv6), 9));
}

#[test]
fn the_second_next_hop_is_a_link_local_address_or_none() {
    let global = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut local = global;
    for (first, is_one) in [([0xfe, 0x80], true), ([0, 0], false), ([0xfd, 0], false)] {
        local[..2].copy_from_slice(&first);
        let field = with(0x80, kind::MP_REACH_NLRI, &reach(&[global, local].concat()));
        let mut reader = Reader::default();
        let hop = reader.read(&field, true, INTERNAL).unwrap().reach.unwrap().1.unwrap();
        assert_eq!(hop, NextHop::V6(global.into(), is_one.then_some(local.into())));
    }
}

#[test]
fn the_one_form_is_sorted_and_marks_what_nobody_knew() {
    let mut all = good();
    all.push((0xc0, 99, vec![7]));
    all.push((0x80, 98, vec![7]));
    all.reverse();
    let form = canonical(&field(&all), INTERNAL);
    let kinds: Vec<(u8, u8)> = iter(&form).map(|(flags, kind, _)| (flags, kind)).collect();
    assert_eq!(kinds, [(0x40, 1), (0x40, 2), (0x40, 5), (0xc0 | flag::PARTIAL, 99)]);
    let extended = [field(&good()), vec![0xd0, 99, 0, 1, 7]].concat();
    assert_eq!(canonical(&extended, INTERNAL), form, "however the length was written");
}

#[test]
fn the_first_as_has_to_be_the_neighbours_where_that_is_asked() {
    let context = |asn| Context { first_as: Some(asn), ..EXTERNAL };
    assert_eq!(read(&field(&good()), true, context(65001)), Read::Discarded);
    assert_eq!(read(&field(&good()), true, context(65002)), Read::Withdrawn(Flaw::FirstAs));
    let set = with(0x40, kind::AS_PATH, &[1, 1, 0, 0, 0xfd, 0xe9]);
    assert_eq!(read(&set, true, context(65001)), Read::Withdrawn(Flaw::FirstAs));
    assert_eq!(read(&with(0x40, kind::AS_PATH, &[]), true, context(65001)), Read::Withdrawn(Flaw::FirstAs));
}

fn sequence(numbers: &[u32]) -> Vec<u8> {
    let mut out = vec![2, u8::try_from(numbers.len()).unwrap()];
    numbers.iter().for_each(|asn| out.extend_from_slice(&asn.to_be_bytes()));
    out
}

fn narrow_sequence(numbers: &[u16]) -> Vec<u8> {
    let mut out = vec![2, u8::try_from(numbers.len()).unwrap()];
    numbers.iter().for_each(|asn| out.extend_from_slice(&asn.to_be_bytes()));
    out
}

#[test]
fn a_narrow_path_and_the_wide_one_beside_it_become_one() {
    let set = [1, 2, 0, 1, 0, 2].to_vec();
    for (narrow, wide, expected) in [
        (narrow_sequence(&[1, 2, 23456]), None, "1 2 23456"),
        (narrow_sequence(&[1, 2, 23456]), Some(sequence(&[2, 70000])), "1 2 70000"),
        (narrow_sequence(&[1, 23456]), Some(sequence(&[1, 70000])), "1 70000"),
        // Longer than the path: nothing can be made of it.
        (narrow_sequence(&[1]), Some(sequence(&[1, 70000])), "1"),
        (
            [narrow_sequence(&[9]), set.clone(), narrow_sequence(&[23456])].concat(),
            Some(sequence(&[70000])),
            "9 {1,2} 70000",
        ),
        ([set, narrow_sequence(&[23456])].concat(), Some(sequence(&[70000])), "{1,2} 70000"),
    ] {
        let mut out = Vec::new();
        as_path::widen(&narrow, wide.as_deref(), &mut out);
        assert!(as_path::valid(&out, 4));
        assert_eq!(as_path::text(&out), expected);
    }
}

#[test]
fn an_aggregator_of_two_octets_tells_that_the_wide_ones_are_old() {
    let path = (0x40, kind::AS_PATH, narrow_sequence(&[1, 23456]));
    let as4 = (0xc0, kind::AS4_PATH, sequence(&[1, 70000]));
    let as4_aggregator = (0xc0, kind::AS4_AGGREGATOR, vec![0, 1, 0x11, 0x70, 9, 9, 9, 9]);
    for (asn, expected_path, aggregator) in
        [([0x5b, 0xa0], "1 70000", [0, 1, 0x11, 0x70, 9, 9, 9, 9]), ([0, 7], "1 23456", [0, 0, 0, 7, 1, 1, 1, 1])]
    {
        let narrow = (0xc0, kind::AGGREGATOR, [&asn[..], &[1, 1, 1, 1]].concat());
        let mut all = good();
        all[1] = path.clone();
        all.extend([narrow, as4.clone(), as4_aggregator.clone()]);
        let form = canonical(&field(&all), NARROW);
        assert_eq!(as_path::text(attribute(&form, kind::AS_PATH).unwrap()), expected_path);
        assert_eq!(attribute(&form, kind::AGGREGATOR).unwrap(), aggregator);
        assert_eq!((attribute(&form, kind::AS4_PATH), attribute(&form, kind::AS4_AGGREGATOR)), (None, None));
    }
    // One that is malformed is as good as none (RFC 7606, section 7.7).
    let mut all = good();
    all[1] = path;
    all.extend([(0xc0, kind::AGGREGATOR, vec![0, 7, 1]), as4]);
    let form = canonical(&field(&all), NARROW);
    assert_eq!(as_path::text(attribute(&form, kind::AS_PATH).unwrap()), "1 70000");
}

#[test]
fn paths_are_lengthened_narrowed_and_measured() {
    let prepended = |path: &[u8], times| {
        let mut out = Vec::new();
        as_path::prepend(path, 7, times, &mut out);
        assert!(as_path::valid(&out, 4));
        out
    };
    assert_eq!(as_path::text(&prepended(&sequence(&[1]), 2)), "7 7 1");
    assert_eq!(as_path::text(&prepended(&[], 1)), "7");
    assert_eq!(prepended(&sequence(&[1]), 0), sequence(&[1]));
    // A segment has 255 at most: what is too many for it begins another.
    let full = sequence(&[1; 254]);
    assert_eq!(prepended(&full, 1)[..2], [2, 255]);
    let longer = prepended(&full, 2);
    assert_eq!((longer[..2].to_vec(), as_path::length(&longer)), (vec![2, 2], 256));
    let set = [1, 2, 0, 0, 0, 5, 0, 0, 0, 6];
    assert_eq!(as_path::text(&prepended(&set, 1)), "7 {5,6}");
    assert_eq!((as_path::length(&set), as_path::first(&set)), (1, None));
    assert_eq!(as_path::first(&prepended(&set, 1)), Some(7));
    assert!(as_path::contains(&set, 6) && !as_path::contains(&set, 7));
    let mut narrow = Vec::new();
    assert!(!as_path::narrow(&set, &mut narrow));
    assert_eq!(narrow, [1, 2, 0, 5, 0, 6]);
    narrow.clear();
    assert!(as_path::narrow(&sequence(&[70000, 3]), &mut narrow));
    assert_eq!(narrow, [2, 2, 0x5b, 0xa0, 0, 3]);
}

#[test]
fn an_update_whose_lengths_do_not_fit_is_refused() {
    fn split(body: &[u8]) -> Result<Update<'_>, u8> {
        Update::split(body).map_err(|notification| notification.subcode)
    }
    assert_eq!(split(&[0, 0, 0, 0]), Ok(Update { withdrawn: &[], attributes: &[], nlri: &[] }));
    assert_eq!(split(&[0, 1, 0, 0, 1, 9, 0]), Ok(Update { withdrawn: &[0], attributes: &[9], nlri: &[0] }));
    for body in [&[][..], &[0], &[0, 1], &[0, 1, 0], &[0, 0, 0], &[0, 0, 0, 1], &[0, 2, 0, 0]] {
        assert_eq!(split(body), Err(1), "{body:?}");
    }
}
