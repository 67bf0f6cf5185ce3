#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::path::{Refusal, State};
use super::table::{Bits, Inserted};
use super::*;
use crate::Community;
use crate::config::Origin;
use crate::prefix::{Prefix, V4};
use crate::update::attributes::{NextHop, kind, put};

/// A path as the choice sees it.
#[derive(Debug, Clone)]
struct Given {
    origin: Origin,
    id: u8,
    local_pref: u32,
    path: Vec<u32>,
    code: u8,
    med: Option<u32>,
    community: Option<Community>,
    originator: Option<u8>,
    clusters: usize,
    hop: u8,
    received_id: u32,
    refused: bool,
}

fn given() -> Given {
    Given {
        origin: Origin::External,
        id: 1,
        local_pref: 100,
        path: vec![65001],
        code: 0,
        med: None,
        community: None,
        originator: None,
        clusters: 0,
        hop: 1,
        received_id: 0,
        refused: false,
    }
}

fn attributes(given: &Given) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, 0x40, kind::ORIGIN, &[given.code]);
    let mut path = Vec::new();
    if !given.path.is_empty() {
        path.extend_from_slice(&[2, u8::try_from(given.path.len()).unwrap()]);
        path.extend(given.path.iter().flat_map(|asn| asn.to_be_bytes()));
    }
    put(&mut out, 0x40, kind::AS_PATH, &path);
    given.med.inspect(|med| put(&mut out, 0x80, kind::MULTI_EXIT_DISC, &med.to_be_bytes()));
    put(&mut out, 0x40, kind::LOCAL_PREF, &given.local_pref.to_be_bytes());
    given.community.inspect(|c| put(&mut out, 0xc0, kind::COMMUNITIES, &c.0.to_be_bytes()));
    given.originator.inspect(|id| put(&mut out, 0x80, kind::ORIGINATOR_ID, &[10, 0, 0, *id]));
    if given.clusters > 0 {
        put(&mut out, 0x80, kind::CLUSTER_LIST, &[9, 9, 9, 9].repeat(given.clusters));
    }
    out
}

fn prepare(all: &[Given]) -> (Vec<Path>, Vec<Source>, Store) {
    let (mut paths, mut sources, mut store) = (Vec::new(), Vec::new(), Store::default());
    for (number, given) in (0..).zip(all) {
        let attributes = store.intern(&attributes(given), NextHop::V4(Ipv4Addr::new(10, 1, 0, given.hop)), 0);
        let state = State::new(given.refused.then_some(Refusal::AS_LOOP));
        let received_id = given.received_id;
        paths.push(Path { source: number, attributes, received_id, sent_id: 1, state });
        let address = Ipv4Addr::new(10, 0, 1, u8::try_from(number).unwrap()).into();
        let router_id = Ipv4Addr::new(10, 0, 0, given.id);
        sources.push(Source { origin: given.origin, client: false, router_id, address });
    }
    (paths, sources, store)
}

fn order(all: &[Given]) -> Vec<usize> {
    let (paths, sources, store) = prepare(all);
    let order = decision::order(&paths, &sources, &store);
    assert_eq!(decision::best(&paths, &sources, &store), order.first().copied());
    order
}

#[test]
fn each_step_decides_where_all_before_it_tie() {
    // Each is better than the one after it, which is better in all later steps.
    let base = given();
    let local = Given { origin: Origin::Local, path: vec![1, 2, 3], code: 2, id: 9, ..base.clone() };
    let internal = Given { origin: Origin::Internal, ..base.clone() };
    let long_path = Given { path: vec![65001, 1], ..base.clone() };
    let stale = Some(Community::LLGR_STALE);
    let steps: Vec<(&str, Given, Given)> = vec![
        (
            "stale is last",
            Given { local_pref: 1, ..base.clone() },
            Given { community: stale, local_pref: 900, ..base.clone() },
        ),
        (
            "graceful shutdown",
            Given { local_pref: 1, ..base.clone() },
            Given { community: Some(Community::GRACEFUL_SHUTDOWN), local_pref: 900, ..base.clone() },
        ),
        ("LOCAL_PREF", Given { local_pref: 101, ..long_path.clone() }, base.clone()),
        ("own", local, base.clone()),
        ("AS_PATH", Given { code: 2, ..base.clone() }, long_path),
        ("ORIGIN", Given { med: Some(9), ..base.clone() }, Given { code: 1, ..base.clone() }),
        ("MULTI_EXIT_DISC", Given { origin: Origin::Internal, ..base.clone() }, Given { med: Some(1), ..base.clone() }),
        ("external", Given { id: 9, ..base.clone() }, Given { id: 1, ..internal.clone() }),
        ("identifier", Given { id: 1, ..base.clone() }, Given { id: 2, ..base.clone() }),
        (
            "originator",
            Given { id: 9, originator: Some(1), clusters: 3, ..internal.clone() },
            Given { id: 2, ..internal.clone() },
        ),
        ("CLUSTER_LIST", Given { clusters: 1, ..internal.clone() }, Given { clusters: 2, ..internal.clone() }),
        ("path identifier", Given { received_id: 1, ..base.clone() }, Given { received_id: 2, ..base.clone() }),
    ];
    for (step, better, worse) in steps {
        let (mut paths, sources, store) = prepare(&[better, worse]);
        if step == "path identifier" {
            paths[1].source = 0;
        }
        assert_eq!(decision::order(&paths, &sources, &store), [0, 1], "{step}");
        paths.reverse();
        assert_eq!(decision::order(&paths, &sources, &store), [1, 0], "{step}, the other way round");
    }
    // Last of all the address.
    assert_eq!(order(&[base.clone(), base]), [0, 1]);
}

#[test]
fn metrics_are_only_compared_within_an_as() {
    let of = |asn, med, id| Given { path: vec![asn], med: Some(med), id, ..given() };
    assert_eq!(order(&[of(1, 10, 2), of(2, 99, 1)]), [1, 0]);
    // RFC 4271, section 9.1.2.2 c: the second is out because of the third, and the first wins although the second is
    // better than it.
    assert_eq!(order(&[of(2, 0, 2), of(1, 10, 1), of(1, 5, 3)])[0], 0);
    assert_eq!(order(&[Given { med: None, ..of(1, 0, 9) }, of(1, 1, 1)])[0], 0, "none is 0");
}

#[test]
fn what_is_refused_takes_no_part() {
    let refused = Given { refused: true, local_pref: 900, ..given() };
    assert_eq!(order(&[refused.clone(), given()]), [1]);
    assert_eq!(order(&[refused]), [] as [usize; 0]);
}

#[test]
fn paths_that_only_differ_in_who_announced_them_share_the_traffic() {
    let hop = |hop, id| Given { hop, id, ..given() };
    let all = [
        hop(1, 3),
        hop(2, 1),
        hop(3, 2),
        Given { path: vec![65002, 1], ..hop(4, 4) },
        Given { med: Some(3), ..hop(5, 5) },
    ];
    let (paths, sources, store) = prepare(&all);
    for (limit, expected) in [(0, &[1][..]), (1, &[1]), (2, &[1, 2]), (9, &[1, 2, 0])] {
        assert_eq!(decision::multipath(&paths, &sources, &store, limit), expected, "{limit}");
    }
}

fn any_given() -> impl Strategy<Value = Given> {
    let origin = prop_oneof![Just(Origin::Local), Just(Origin::Internal), Just(Origin::External)];
    let community = prop_oneof![
        6 => Just(None),
        1 => Just(Some(Community::LLGR_STALE)),
        1 => Just(Some(Community::GRACEFUL_SHUTDOWN))
    ];
    let first = (origin, 0..4_u8, 0..2_u32, prop::collection::vec(1..3_u32, 0..3), 0..2_u8);
    let second = (prop::option::of(0..3_u32), community, prop::option::of(0..3_u8), 0..3_usize, any::<bool>());
    (first, second).prop_map(
        |((origin, id, local_pref, path, code), (med, community, originator, clusters, refused))| Given {
            origin,
            id,
            local_pref,
            path,
            code,
            med,
            community,
            originator,
            clusters,
            refused,
            ..given()
        },
    )
}

proptest! {
    #[test]
    fn the_order_in_which_paths_came_makes_no_difference(
        all in prop::collection::vec(any_given(), 0..8),
        seed in any::<u64>(),
    ) {
        let (paths, sources, store) = prepare(&all);
        let mut shuffled: Vec<usize> = (0..all.len()).collect();
        let mut dice = seed;
        for i in (1..shuffled.len()).rev() {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            shuffled.swap(i, (dice >> 33) as usize % (i + 1));
        }
        let other: Vec<Path> = shuffled.iter().map(|i| paths[*i]).collect();
        let here: Vec<SourceId> =
            decision::order(&paths, &sources, &store).into_iter().map(|i| paths[i].source).collect();
        let there: Vec<SourceId> =
            decision::order(&other, &sources, &store).into_iter().map(|i| other[i].source).collect();
        prop_assert_eq!(&here, &there);
        prop_assert_eq!(here.len(), all.iter().filter(|given| !given.refused).count());
    }
}

#[test]
fn a_set_is_stored_once_and_its_number_is_free_only_after_a_collection() {
    let mut store = Store::default();
    let hop = NextHop::Own;
    let bytes = |n: u8| attributes(&Given { code: n, ..given() });
    let one = store.intern(&bytes(0), hop, 0);
    assert_eq!(store.intern(&bytes(0), hop, 0), one);
    assert_ne!(store.intern(&bytes(0), hop, 1), one, "another tag");
    assert_ne!(store.intern(&bytes(0), NextHop::V4(Ipv4Addr::LOCALHOST), 0), one, "another next hop");
    store.acquire(one);
    store.acquire(one);
    store.release(one);
    store.collect();
    assert_eq!(store.get(one).bytes[..], bytes(0)[..]);
    store.release(one);
    // Until then whoever was told it may look it up, and who has it again keeps it.
    let other = store.intern(&bytes(2), hop, 0);
    assert_ne!(other, one);
    assert_eq!(store.intern(&bytes(0), hop, 0), one);
    store.unused(one);
    store.unused(one);
    store.acquire(other);
    store.collect();
    // Two others that nobody gave back are there, and the one that is used.
    assert_eq!(store.len(), 3);
    assert_eq!(store.intern(&bytes(1), hop, 0), one, "its number is used again");
    assert_eq!(store.get(one).origin, 1);
}

#[test]
fn bits_are_a_set_of_slots() {
    let mut bits = Bits::default();
    assert!(bits.is_empty() && bits.set(3) && !bits.set(3) && bits.set(64) && bits.set(700));
    bits.clear(64);
    bits.clear(9999);
    let mut more = Bits::default();
    more.set(1000);
    bits.merge(&more);
    let (first, next) = bits.take(0, 1);
    assert_eq!((first, next), (vec![3], Some(1)));
    let (rest, next) = bits.take(next.unwrap(), 9);
    assert_eq!((rest, next), (vec![700, 1000], None));
    assert!(bits.is_empty());
}

#[derive(Debug, Clone)]
enum Event {
    Insert { net: u8, source: u32, id: u32, code: u8, refused: bool },
    Withdraw { net: u8, source: u32, id: u32 },
    Purge(u32),
    Stale(u32),
    Unconfirmed(u32),
    Flush,
}

fn event() -> impl Strategy<Value = Event> {
    let path = || (0..8_u8, 0..3_u32, 0..2_u32);
    prop_oneof![
        8 => (path(), 0..3_u8, any::<bool>()).prop_map(|((net, source, id), code, refused)| {
            Event::Insert { net, source, id, code, refused }
        }),
        4 => path().prop_map(|(net, source, id)| Event::Withdraw { net, source, id }),
        1 => (0..3_u32).prop_map(Event::Purge),
        1 => (0..3_u32).prop_map(Event::Stale),
        1 => (0..3_u32).prop_map(Event::Unconfirmed),
        2 => Just(Event::Flush),
    ]
}

/// By prefix, source and identifier: attributes, refused, stale.
type Model = BTreeMap<(V4, u32, u32), (u8, bool, bool)>;

proptest! {
    #[test]
    fn a_table_has_what_was_put_into_it(events in prop::collection::vec(event(), 0..120)) {
        let (mut table, mut store, mut model) = (Table::<V4>::default(), Store::default(), Model::new());
        let net = |n: u8| V4::of(24, &[10, 0, n]);
        let mut changed: std::collections::BTreeSet<V4> = std::collections::BTreeSet::new();
        for event in events {
            let before = model.clone();
            match event {
                Event::Insert { net: n, source, id, code, refused } => {
                    let attributes = store.intern(&attributes(&Given { code, ..given() }), NextHop::Own, 0);
                    let state = State::new(refused.then_some(Refusal::LEAK));
                    let inserted = table.insert(net(n), source, id, attributes, state, &mut store);
                    store.unused(attributes);
                    let old = model.insert((net(n), source, id), (code, refused, false));
                    prop_assert_eq!(inserted, match old {
                        None => Inserted::New,
                        Some(old) if old == (code, refused, false) => Inserted::Same,
                        Some((_, was, _)) => Inserted::Replaced { was_eligible: !was },
                    });
                }
                Event::Withdraw { net: n, source, id } => {
                    let was = table.withdraw(net(n), source, id, &mut store);
                    prop_assert_eq!(was, model.remove(&(net(n), source, id)).map(|(_, refused, _)| !refused));
                }
                Event::Purge(source) => {
                    let counts = table.purge(&mut store, |path| path.source == source);
                    let gone: Vec<_> = model.extract_if(.., |(_, s, _), _| *s == source).collect();
                    let eligible = gone.iter().filter(|(_, (_, refused, _))| !refused).count();
                    prop_assert_eq!((counts.0 as usize, counts.1 as usize), (gone.len(), eligible));
                }
                Event::Stale(source) => {
                    table.make_stale(source);
                    model.iter_mut().filter(|((_, s, _), _)| *s == source).for_each(|(_, path)| path.2 = true);
                }
                Event::Unconfirmed(source) => {
                    table.purge(&mut store, |path| path.source == source && path.state.stale());
                    model.retain(|(_, s, _), (_, _, stale)| *s != source || !*stale);
                }
                Event::Flush => {
                    let slots = table.take_changed();
                    let told: std::collections::BTreeSet<V4> = slots.iter().map(|slot| table.prefix(*slot)).collect();
                    prop_assert!(changed.is_subset(&told), "{changed:?} but {told:?}");
                    changed.clear();
                    slots.iter().for_each(|slot| table.free(*slot));
                    table.recycle(slots);
                    store.collect();
                    let prefixes: std::collections::BTreeSet<V4> = model.keys().map(|(net, ..)| *net).collect();
                    prop_assert_eq!(table.len(), prefixes.len());
                    let sets: std::collections::BTreeSet<u8> = model.values().map(|(code, ..)| *code).collect();
                    prop_assert_eq!(store.len(), sets.len());
                }
            }
            // What is only stale now is no change that anybody has to be told.
            let strip = |model: &Model| -> BTreeMap<_, _> { model.iter().map(|(k, v)| (*k, (v.0, v.1))).collect() };
            let (old, new) = (strip(&before), strip(&model));
            changed.extend(old.iter().filter(|(k, v)| new.get(k) != Some(v)).map(|((net, ..), _)| *net));
            changed.extend(new.iter().filter(|(k, v)| old.get(k) != Some(v)).map(|((net, ..), _)| *net));
            let mut here = Model::new();
            for (slot, prefix, paths) in table.iter() {
                prop_assert_eq!(table.find(prefix), Some(slot));
                let ids: std::collections::BTreeSet<u16> = paths.iter().map(|path| path.sent_id).collect();
                prop_assert_eq!(ids.len(), paths.len(), "identifiers are unique");
                prop_assert!(ids.iter().all(|id| (1..=table.greatest_sent_id()).contains(id)));
                here.extend(paths.iter().map(|path| {
                    let code = store.get(path.attributes).origin;
                    ((prefix, path.source, path.received_id), (code, !path.state.eligible(), path.state.stale()))
                }));
            }
            prop_assert_eq!(&here, &model);
            prop_assert_eq!(table.path_count(), model.len());
        }
    }
}
