//! What clients get of others' responses, and for how long these are kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::cache::{self, Cache};
use crate::foreign::Foreign;
use crate::message::upstream_query;

/// What another server says to `packet`, which has records about `example.org`.
fn response(packet: &[u8]) -> Vec<u8> {
    let mut zones = Zones::default();
    let name = Name::parse("example.org").unwrap();
    zones.add(crate::Zone::new(name.clone(), 1).unwrap());
    let www = name.child("www").unwrap();
    let addresses = (0..40).map(|i| Record { owner: www.clone(), data: Data::A([192, 0, 2, i].into()) });
    let many = addresses.collect();
    zones.apply(crate::Diff { added: many, ..Default::default() });
    zones.loaded();
    ask(&zones, packet, Transport::Tcp).1
}

fn foreign(packet: &[u8]) -> Arc<Foreign> {
    let query = Query::parse(packet).unwrap();
    let sent = upstream_query(&query, 7, true);
    Arc::new(Foreign::parse(response(&sent), query.question).unwrap())
}

fn key_of(packet: &[u8]) -> cache::Key {
    let mut key = Vec::new();
    cache::key(&Query::parse(packet).unwrap(), &mut key);
    key.into()
}

#[test]
fn a_kept_answer_grows_old_and_fits_its_query() {
    let packet = query("www.example.org", A);
    let (now, ttl) = (Instant::now(), Duration::from_secs(crate::TTL.into()));
    let mut cache = Cache::new(1 << 20);
    cache.put(key_of(&packet), foreign(&packet), now);

    let mut other = query("WWW.example.org", A);
    other[0] = 1;
    let (known, age) = cache.get(&key_of(&other), now + Duration::from_secs(2)).unwrap();
    assert_eq!(age, 2);
    let mut out = Vec::new();
    known.write(&Query::parse(&other).unwrap(), age, 2000, &mut out);
    assert_eq!(out[..2], [1, 0xcd]);
    assert_eq!(&out[13..16], b"WWW");
    let message = read(&out);
    assert_eq!((message.answers.len(), message.answers[0].ttl), (40, crate::TTL - 2));
    assert!(message.metadata.recursion_available && !message.metadata.authoritative);
    assert!(message.edns.is_none());
    assert!(cache.get(&key_of(&other), now + ttl).is_none());
    assert!(cache.get(&key_of(&query("www.example.org", AAAA)), now).is_none());
    // Whether the client checks by itself changes the answer.
    let mut checking = packet.clone();
    checking[3] |= 0x10;
    assert!(cache.get(&key_of(&checking), now).is_none());
}

#[test]
fn what_others_say_is_cut_to_what_the_client_takes() {
    let name = "www.example.org";
    for (packet, limit, is_cut) in [
        (query(name, A), 512, true),
        (with_edns(query(name, A), 512, 0), 512, true),
        (with_edns(query(name, A), 65_535, 0), MAX_UDP, false),
    ] {
        let query = Query::parse(&packet).unwrap();
        let mut out = vec![1];
        foreign(&packet).write(&query, 0, query.udp_limit(), &mut out);
        assert!(out.len() <= limit, "{} of {limit}", out.len());
        let message = read(&out);
        assert_eq!((message.metadata.truncation, message.answers.is_empty()), (is_cut, is_cut));
        assert_eq!(message.edns.is_some(), packet[11] == 1);
    }
}

#[test]
fn the_cache_stays_within_its_memory_and_keeps_what_is_used() {
    let names: Vec<Vec<u8>> = (0..64).map(|i| query(&format!("{i}.www.example.org"), A)).collect();
    let response = foreign(&query("www.example.org", A));
    let now = Instant::now();
    let mut cache = Cache::new(1 << 14);
    for packet in &names {
        cache.put(key_of(packet), Arc::clone(&response), now);
        assert!(cache.get(&key_of(&names[0]), now).is_some());
        let (count, size) = cache.size();
        assert!(size <= 1 << 14 && count <= 16, "{count} {size}");
    }
    // Again and again the same name takes no more.
    for _ in 0..64 {
        cache.put(key_of(&names[63]), Arc::clone(&response), now);
    }
    assert!(cache.size().1 <= 1 << 14);
    assert!(cache.get(&key_of(&names[1]), now).is_none());
    assert!(cache.get(&key_of(&names[63]), now).is_some());
}

#[test]
fn what_is_no_answer_is_not_kept() {
    let packet = query("www.example.org", A);
    let question = Query::parse(&packet).unwrap();
    let good = response(&packet);
    for (at, byte) in [(2, good[2] | 2), (3, 2), (3, 5)] {
        let mut changed = good.clone();
        changed[at] = byte;
        assert_eq!(Foreign::parse(changed, question.question).unwrap().lifetime(), None, "{at} {byte}");
    }
    assert_eq!(Foreign::parse(good.clone(), question.question).unwrap().lifetime(), Some(crate::TTL));
    let other = query("xww.example.org", A);
    assert_eq!(Foreign::parse(good, Query::parse(&other).unwrap().question), None);
}

proptest! {
    /// Whatever another server sends, it is refused or passed on as a message that can be told
    /// apart, within what the client takes.
    #[test]
    fn no_response_is_too_strange(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let packet = with_edns(query("www.example.org", A), 1232, 0);
        let question = Query::parse(&packet).unwrap();
        let mut bytes = response(&packet);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let Some(foreign) = Foreign::parse(bytes, question.question) else { return Ok(()) };
        let mut out = Vec::new();
        foreign.write(&question, 1, 1232, &mut out);
        prop_assert!(out.len() <= 1232);
        prop_assert_eq!(&out[..2], &packet[..2]);
        let (_, mut own) = ask(&cluster(), &with_edns(query("out.ns.svc.cluster.local", A), 1232, 0), Transport::Udp);
        foreign.append(1, 1232, &mut own);
        prop_assert!(own.len() <= 1232);
    }
}
