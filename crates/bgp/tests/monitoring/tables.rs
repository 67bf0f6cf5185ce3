//! The tables of a router, in parts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Instant, SystemTime};

use ipnet::IpNet;
use proptest::prelude::*;
use tombolo_bgp::config::{Neighbor, Origination, Set, Statement, Verdict};
use tombolo_bgp::router::dump::Cursor;
use tombolo_bgp::router::tap::What;
use tombolo_bgp::session::ConnId;
use tombolo_bgp::{Action, Community, Config, Router, mrt};

use crate::read::{self, Mrt};
use crate::{Place, neighbor};

/// Two routers with a session.
struct Pair {
    routers: [Router; 2],
    conns: [ConnId; 2],
    now: Instant,
}

impl Pair {
    /// The first is watched; the second has the routes.
    fn new(place: &Place, change: impl Fn(&mut Neighbor), routes: BTreeMap<IpNet, Origination>) -> Self {
        let now = Instant::now();
        let mut configs = [place.watched(), place.neighbor(&[])];
        for neighbor in configs[0].neighbors.values_mut() {
            change(neighbor);
        }
        for neighbor in configs[1].neighbors.values_mut() {
            neighbor.add_path.send = 2;
        }
        configs[1].routes = routes;
        let new = |config: &Config| Router::new(config.clone(), false, 1, now);
        let [mut a, mut b] = [new(&configs[0]), new(&configs[1])];
        a.watch();
        a.listen(true);
        let connect = b.take_actions().into_iter().find_map(|action| match action {
            Action::Connect(connect) => Some(connect.peer),
            _ => None,
        });
        let there = a.accept(now, SocketAddr::new(place.neighbor, 5), place.watched).unwrap();
        let here = b.connected(now, connect.unwrap(), place.watched, place.neighbor).unwrap();
        let mut pair = Self { routers: [a, b], conns: [there, here], now };
        pair.settle();
        pair
    }

    /// Carries bytes until there are none.
    fn settle(&mut self) {
        let mut idle = false;
        while !std::mem::replace(&mut idle, true) {
            for (from, to) in [(0, 1), (1, 0)] {
                let router = &mut self.routers[from];
                router.flush();
                router.refill(self.conns[from]);
                let queue = router.queue(self.conns[from]).unwrap();
                let mut bytes = Vec::new();
                while !queue.is_empty() {
                    let (slices, count) = queue.slices::<8>();
                    let before = bytes.len();
                    slices[..count].iter().for_each(|slice| bytes.extend_from_slice(slice));
                    queue.advance(bytes.len() - before);
                }
                idle &= bytes.is_empty();
                assert_eq!(self.routers[to].receive(self.now, self.conns[to], &bytes), bytes.len());
            }
        }
    }

    /// What a station would have: prefixes, next hop, metric and communities.
    fn replayed(&self, slots: usize, add_path: bool) -> BTreeSet<Row> {
        let mut rows = BTreeSet::new();
        let mut cursor = Some(Cursor::default());
        while let Some(at) = cursor {
            cursor = self.routers[0].replay(at, slots, |_, body| {
                let update = read::update(&message(body), add_path);
                for (_, prefix) in &update.announced {
                    let hop = update.get(3).or(update.get(14).map(|value| &value[4..20])).unwrap();
                    assert!(rows.insert(row(*prefix, hop, &update.attributes)), "{prefix} twice");
                }
            });
        }
        rows
    }

    fn dumped(&self, slots: usize) -> BTreeSet<Row> {
        let (router, at) = (&self.routers[0], SystemTime::now());
        let index = router.index(at);
        let mut out = Vec::new();
        mrt::encode::peer_index_table(&mut out, 1, router.config().router_id, &index.peers);
        let (mut cursor, mut sequence) = (Some(Cursor::default()), 0);
        while let Some(at) = cursor {
            cursor = router.dump(at, slots, &index, 1, &mut sequence, &mut out);
        }
        let records = read::mrt(&out);
        let Some(((_, Mrt::Index { peers, .. }), ribs)) = records.split_first() else { panic!("no index") };
        let mut rows = BTreeSet::new();
        for (number, (_, rib)) in (0..).zip(ribs) {
            let Mrt::Rib { sequence, prefix, entries } = rib else { panic!("{rib:?}") };
            assert_eq!(*sequence, number);
            for entry in entries {
                assert_eq!(peers[usize::from(entry.peer)].0, Ipv4Addr::new(10, 0, 0, 2));
                let attributes = read::attributes(&entry.attributes);
                let hop = |kind| attributes.iter().find(|(k, _)| *k == kind).map(|(_, value)| &**value);
                let hop = hop(3).or(hop(14).map(|value| &value[1..])).unwrap();
                assert!(rows.insert(row(*prefix, hop, &attributes)), "{prefix} twice");
            }
        }
        rows
    }
}

type Row = (IpNet, Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);

fn row(prefix: IpNet, hop: &[u8], attributes: &[(u8, Vec<u8>)]) -> Row {
    let get = |kind| attributes.iter().find(|(k, _)| *k == kind).map(|(_, value)| value.clone());
    (prefix, hop.to_vec(), get(4), get(8))
}

fn message(body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).unwrap().to_be_bytes();
    [&[0xff; 16][..], &length, &[2], body].concat()
}

fn expected(routes: &BTreeMap<IpNet, Origination>) -> BTreeSet<Row> {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let rows = routes.iter().map(|(prefix, route)| {
        let communities = route.communities.iter().flat_map(|c| c.0.to_be_bytes()).collect::<Vec<u8>>();
        let communities = Some(communities).filter(|c| !c.is_empty());
        (*prefix, octets(route.next_hop.unwrap()), route.med.map(|med| med.to_be_bytes().to_vec()), communities)
    });
    rows.collect()
}

fn routes() -> impl Strategy<Value = BTreeMap<IpNet, Origination>> {
    let net = (any::<bool>(), any::<u128>(), 0_u8..=128).prop_map(|(v6, bits, length)| {
        let net = if v6 {
            IpNet::new(Ipv6Addr::from_bits(bits).into(), length)
        } else {
            IpNet::new(Ipv4Addr::from_bits(bits as u32).into(), length % 33)
        };
        net.unwrap().trunc()
    });
    let rest = (0_u8..4, prop::option::of(0_u32..3), prop::collection::vec(0_u32..2, 0..2));
    prop::collection::btree_map(net, rest, 0..1500).prop_map(|routes| {
        let route = |(net, (hop, med, communities)): (IpNet, (u8, Option<u32>, Vec<u32>))| {
            let next_hop = match net {
                IpNet::V4(_) => IpAddr::from([10, 9, 9, hop]),
                IpNet::V6(_) => IpAddr::from([0xfd09, 0, 0, 0, 0, 0, 0, 1 + u16::from(hop)]),
            };
            let communities = communities.into_iter().map(Community).collect();
            (net, Origination { next_hop: Some(next_hop), med, communities, ..Origination::default() })
        };
        routes.into_iter().map(route).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_table_in_parts_is_the_whole_table(routes in routes(), slots in 1_usize..900, add_path: bool) {
        let place = Place::new();
        let pair = Pair::new(&place, |neighbor| neighbor.add_path.receive = add_path, routes.clone());
        prop_assert_eq!(pair.replayed(slots, add_path), expected(&routes));
        prop_assert_eq!(pair.dumped(slots), expected(&routes));
    }
}

#[test]
fn what_a_policy_changed_is_asked_for_as_it_came() {
    let place = Place::new();
    let mut marks = Statement::new("marks", Verdict::Accept);
    marks.set = Set { med: Some(77), ..Set::default() };
    let change = |neighbor: &mut Neighbor| neighbor.import.statements = vec![marks.clone()];
    let routes = BTreeMap::from([crate::origination("10.1.0.0/16")]);
    let mut pair = Pair::new(&place, change, routes);
    let med = |rows: BTreeSet<Row>| rows.into_iter().map(|row| row.2.unwrap()[3]).collect::<Vec<_>>();
    assert_eq!(med(pair.replayed(100, false)), [77]);
    assert_eq!(med(pair.dumped(100)), [77]);
    pair.routers[0].take_heard();
    pair.routers[0].ask_for_originals();
    pair.settle();
    let batch = pair.routers[0].take_heard();
    let bodies = batch.heard.iter().filter_map(|heard| match &heard.what {
        What::Update(place) => Some(read::update(&message(&batch.bytes[place.clone()]), false)),
        _ => None,
    });
    let announced = bodies.filter(|update| !update.announced.is_empty());
    assert_eq!(announced.map(|update| update.get(4).unwrap()[3]).collect::<Vec<_>>(), [30]);
}

#[test]
fn nothing_is_noted_while_nobody_listens_but_sessions_are_known() {
    let place = Place::new();
    let mut pair = Pair::new(&place, |_| {}, BTreeMap::from([crate::origination("10.1.0.0/16")]));
    let heard = pair.routers[0].take_heard();
    assert!(heard.heard.iter().any(|heard| matches!(heard.what, What::Update(_))));
    pair.routers[0].listen(false);
    let again = pair.routers[1].config().clone();
    pair.routers[1].configure(pair.now, Config { routes: BTreeMap::new(), ..again });
    pair.settle();
    assert!(pair.routers[0].take_heard().heard.is_empty());
    let [session] = &pair.routers[0].established()[..] else { panic!("one session") };
    assert_eq!((session.address, session.asn), (place.neighbor, neighbor().remote_asn.unwrap()));
    assert_eq!((session.sent_open[18], session.received_open[18]), (1, 1));
    assert_eq!(session.received_open[24..28], [10, 0, 0, 2]);
    assert_eq!(session.sent_open[24..28], [10, 0, 0, 1]);
}

#[test]
fn what_a_neighbour_leaves_out_when_it_tells_all_again_is_told_as_withdrawn() {
    let place = Place::new();
    let routes = ["10.1.0.0/16", "10.2.0.0/16", "fd01::/64"].map(crate::origination);
    let mut pair = Pair::new(&place, |_| {}, BTreeMap::from(routes));
    pair.routers[0].take_heard();
    for (afi, left) in [(1, 1), (2, 0)] {
        // Begin and end of a refresh (RFC 7313), and nothing between.
        for subtype in [1, 2] {
            let marker = [&[0xff; 16][..], &[0, 23, 5, 0, afi, subtype, 1]].concat();
            assert_eq!(pair.routers[0].receive(pair.now, pair.conns[0], &marker), marker.len());
        }
        assert_eq!(pair.replayed(100, false).len(), left);
    }
    let batch = pair.routers[0].take_heard();
    let withdrawn = batch.heard.iter().map(|heard| match &heard.what {
        What::Update(place) => read::update(&message(&batch.bytes[place.clone()]), false).withdrawn,
        other => panic!("{other:?}"),
    });
    let mut withdrawn: Vec<String> = withdrawn.flatten().map(|(_, prefix)| prefix.to_string()).collect();
    withdrawn.sort();
    assert_eq!(withdrawn, ["10.1.0.0/16", "10.2.0.0/16", "fd01::/64"]);
}
