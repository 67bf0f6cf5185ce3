//! The DNS specification as a table, answers as another implementation reads them, and properties.
#![allow(clippy::unwrap_used)]

mod clusterset;
mod forwarding;
mod options;

use std::collections::BTreeMap;

use hickory_proto::op::{Message, ResponseCode};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::message::{MAX_UDP, Query, RecordType};
use crate::name::Name;
use crate::record::{Data, Record};
use crate::zone::Zones;
use crate::{Catalog, ObjectKey, Reply, Transport, answer};

const A: u16 = 1;
const SOA: u16 = 6;
const CNAME: u16 = 5;
const PTR: u16 = 12;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const ANY: u16 = 255;

fn service(name: &str, spec: Value) -> core::Service {
    serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": name}, "spec": spec})).unwrap()
}

fn slice(name: &str, service: &str, ports: Value, endpoints: Value) -> discovery::EndpointSlice {
    serde_json::from_value(json!({
        "metadata": {"namespace": "ns", "name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
    }))
    .unwrap()
}

/// A cluster with a service of each kind.
fn cluster() -> Zones {
    let mut zones = Zones::cluster("cluster.local", 7).unwrap();
    let mut catalog = Catalog::new("cluster.local").unwrap();
    let ports = json!([{"name": "https", "port": 443}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"port": 1}]);
    let services = [
        service("web", json!({"clusterIPs": ["10.96.0.1", "fd00:96::1"], "ports": ports})),
        service("v4", json!({"clusterIP": "10.96.0.2"})),
        service("db", json!({"clusterIP": "None"})),
        service("idle", json!({"clusterIP": "None"})),
        service("out", json!({"type": "ExternalName", "externalName": "www.example.org"})),
        service("in", json!({"type": "ExternalName", "externalName": "v4.ns.svc.cluster.local."})),
        service("loop", json!({"type": "ExternalName", "externalName": "loop.ns.svc.cluster.local"})),
        service("dead", json!({"type": "ExternalName", "externalName": "no.ns.svc.cluster.local"})),
    ];
    let slices = [
        slice(
            "db-1",
            "db",
            json!([{"name": "sql", "port": 5432}]),
            json!([
                {"addresses": ["10.0.0.1"], "hostname": "db-0"},
                {"addresses": ["10.0.0.2"]},
                {"addresses": ["10.0.0.3"], "hostname": "db-2", "conditions": {"ready": false}},
            ]),
        ),
        slice("db-2", "db", json!([{"name": "sql", "port": 5432}]), json!([{"addresses": ["fd00::1"]}])),
        slice("idle-1", "idle", json!([]), json!([{"addresses": ["10.0.0.9"], "conditions": {"ready": false}}])),
        slice("web-1", "web", json!([{"name": "https", "port": 8443}]), json!([{"addresses": ["10.0.0.4"]}])),
    ];
    for service in &services {
        zones.apply(catalog.apply_service(service));
    }
    for slice in &slices {
        zones.apply(catalog.apply_slice(slice));
    }
    zones.loaded();
    zones
}

/// A query without EDNS.
fn query(name: &str, record_type: u16) -> Vec<u8> {
    let mut packet = vec![0xab, 0xcd, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.push(0);
    packet.extend_from_slice(&record_type.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet
}

fn with_edns(mut packet: Vec<u8>, size: u16, version: u8) -> Vec<u8> {
    packet[11] = 1;
    packet.extend_from_slice(&[0, 0, 41]);
    packet.extend_from_slice(&size.to_be_bytes());
    packet.extend_from_slice(&[0, version, 0, 0, 0, 0]);
    packet
}

fn ask(zones: &Zones, packet: &[u8], transport: Transport) -> (Reply, Vec<u8>) {
    let mut out = vec![1, 2, 3];
    let reply = answer(packet, zones, transport, true, &mut out);
    (reply, out)
}

fn read(bytes: &[u8]) -> Message {
    Message::from_vec(bytes).unwrap()
}

fn told(zones: &Zones, name: &str, record_type: u16) -> Message {
    read(&ask(zones, &query(name, record_type), Transport::Tcp).1)
}

/// The data of the answers, in order.
fn answers(message: &Message) -> Vec<String> {
    let mut answers: Vec<String> = message.answers.iter().map(|record| record.data.to_string()).collect();
    answers.sort();
    answers
}

#[test]
fn names_are_those_of_the_specification() {
    let zones = cluster();
    let cases: &[(&str, u16, &[&str])] = &[
        ("dns-version.cluster.local", TXT, &["1.1.0"]),
        ("web.ns.svc.cluster.local", A, &["10.96.0.1"]),
        ("WEB.ns.SVC.Cluster.Local", A, &["10.96.0.1"]),
        ("web.ns.svc.cluster.local", AAAA, &["fd00:96::1"]),
        ("_https._tcp.web.ns.svc.cluster.local", SRV, &["0 100 443 web.ns.svc.cluster.local."]),
        ("_dns._udp.web.ns.svc.cluster.local", SRV, &["0 100 53 web.ns.svc.cluster.local."]),
        ("1.0.96.10.in-addr.arpa", PTR, &["web.ns.svc.cluster.local."]),
        (
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa",
            PTR,
            &["web.ns.svc.cluster.local."],
        ),
        ("db.ns.svc.cluster.local", A, &["10.0.0.1", "10.0.0.2"]),
        ("db.ns.svc.cluster.local", AAAA, &["fd00::1"]),
        ("db-0.db.ns.svc.cluster.local", A, &["10.0.0.1"]),
        ("10-0-0-2.db.ns.svc.cluster.local", A, &["10.0.0.2"]),
        ("fd00--1.db.ns.svc.cluster.local", AAAA, &["fd00::1"]),
        (
            "_sql._tcp.db.ns.svc.cluster.local",
            SRV,
            &[
                "0 100 5432 10-0-0-2.db.ns.svc.cluster.local.",
                "0 100 5432 db-0.db.ns.svc.cluster.local.",
                "0 100 5432 fd00--1.db.ns.svc.cluster.local.",
            ],
        ),
        ("1.0.0.10.in-addr.arpa", PTR, &["db-0.db.ns.svc.cluster.local."]),
        ("2.0.0.10.in-addr.arpa", PTR, &["10-0-0-2.db.ns.svc.cluster.local."]),
        ("out.ns.svc.cluster.local", CNAME, &["www.example.org."]),
        ("in.ns.svc.cluster.local", A, &["10.96.0.2", "v4.ns.svc.cluster.local."]),
        ("10-1-2-3.any.pod.cluster.local", A, &["10.1.2.3"]),
        ("fd00--7.any.pod.cluster.local", AAAA, &["fd00::7"]),
        ("web.ns.svc.cluster.local", ANY, &["10.96.0.1"]),
    ];
    for (name, record_type, expected) in cases {
        let message = told(&zones, name, *record_type);
        let seen = (message.metadata.response_code, message.metadata.authoritative);
        assert_eq!(seen, (ResponseCode::NoError, true), "{name} {record_type}");
        assert_eq!(answers(&message), *expected, "{name} {record_type}");
        assert!(message.authorities.is_empty(), "{name} {record_type}");
    }
}

#[test]
fn what_is_not_there_is_told_from_what_has_no_such_record() {
    let zones = cluster();
    let (none, nothing) = (ResponseCode::NXDomain, ResponseCode::NoError);
    let cases = [
        ("no.ns.svc.cluster.local", A, none),
        ("no.svc.cluster.local", A, none),
        ("cluster.cluster.local", A, none),
        // No ready endpoint.
        ("idle.ns.svc.cluster.local", A, none),
        ("db-2.db.ns.svc.cluster.local", A, none),
        // Ports without a name, and endpoints of services that are not headless, have none.
        ("_._tcp.web.ns.svc.cluster.local", SRV, none),
        ("10-0-0-4.web.ns.svc.cluster.local", A, none),
        ("nonsense.any.pod.cluster.local", A, none),
        ("a.10-1-2-3.any.pod.cluster.local", A, none),
        ("v4.ns.svc.cluster.local", AAAA, nothing),
        ("web.ns.svc.cluster.local", TXT, nothing),
        ("10-1-2-3.any.pod.cluster.local", AAAA, nothing),
        // Names that exist for those below them.
        ("ns.svc.cluster.local", A, nothing),
        ("svc.cluster.local", A, nothing),
        ("any.pod.cluster.local", A, nothing),
        ("pod.cluster.local", A, nothing),
        ("_tcp.web.ns.svc.cluster.local", A, nothing),
        ("cluster.local", A, nothing),
    ];
    for (name, record_type, code) in cases {
        let message = told(&zones, name, record_type);
        assert_eq!(message.metadata.response_code, code, "{name} {record_type}");
        assert_eq!(answers(&message), [""; 0], "{name} {record_type}");
        let [soa] = message.authorities.as_slice() else {
            panic!("{name} {record_type}: {:?}", message.authorities);
        };
        assert_eq!(soa.name.to_string(), "cluster.local.");
        assert!(soa.data.to_string().starts_with("ns.dns.cluster.local. hostmaster.cluster.local. "));
    }
    let apex = told(&zones, "cluster.local", SOA);
    assert_eq!(apex.answers.len(), 1);
}

#[test]
fn other_names_are_for_others() {
    let zones = cluster();
    let follow = Reply::Follow(Name::parse("www.example.org").unwrap());
    for (name, record_type, reply, code) in [
        ("www.example.org", A, Reply::Forward, ResponseCode::Refused),
        ("xcluster.local", A, Reply::Forward, ResponseCode::Refused),
        (".", A, Reply::Forward, ResponseCode::Refused),
        ("9.9.9.9.in-addr.arpa", PTR, Reply::Forward, ResponseCode::NXDomain),
        ("out.ns.svc.cluster.local", A, follow, ResponseCode::NoError),
        ("loop.ns.svc.cluster.local", A, Reply::Send, ResponseCode::ServFail),
        ("dead.ns.svc.cluster.local", A, Reply::Send, ResponseCode::NXDomain),
    ] {
        let (seen, out) = ask(&zones, &query(name, record_type), Transport::Udp);
        assert_eq!((seen, read(&out).metadata.response_code), (reply, code), "{name}");
    }
}

#[test]
fn a_zone_that_is_loading_knows_nothing_for_sure() {
    let zones = Zones::cluster("cluster.local", 7).unwrap();
    for name in ["web.ns.svc.cluster.local", "cluster.local", "1.0.96.10.in-addr.arpa"] {
        assert_eq!(told(&zones, name, A).metadata.response_code, ResponseCode::ServFail, "{name}");
    }
}

#[test]
fn faults_are_told_by_their_code() {
    let zones = cluster();
    let good = query("web.ns.svc.cluster.local", A);
    let changed = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        packet
    };
    let class_at = good.len() - 1;
    let cases = [
        (changed(2, 0x28), ResponseCode::NotImp),
        (changed(5, 0), ResponseCode::FormErr),
        (changed(5, 2), ResponseCode::FormErr),
        (changed(7, 1), ResponseCode::FormErr),
        (changed(12, 0xc0), ResponseCode::FormErr),
        (good[..20].to_vec(), ResponseCode::FormErr),
        (changed(class_at, 3), ResponseCode::Refused),
        (query("cluster.local", 252), ResponseCode::Refused),
        // BADVERS: the number 16 has two names.
        (with_edns(good.clone(), 1232, 1), ResponseCode::BADSIG),
    ];
    for (packet, code) in cases {
        let (reply, out) = ask(&zones, &packet, Transport::Udp);
        assert_eq!((reply, read(&out).metadata.response_code), (Reply::Send, code), "{packet:?}");
    }
    for packet in [&[][..], &good[..11], &changed(2, 0x80)] {
        assert_eq!(ask(&zones, packet, Transport::Udp).0, Reply::Silence, "{packet:?}");
    }
}

#[test]
fn an_answer_that_does_not_fit_is_cut_and_says_so() {
    let mut zones = Zones::cluster("cluster.local", 7).unwrap();
    let mut catalog = Catalog::new("cluster.local").unwrap();
    zones.apply(catalog.apply_service(&service("db", json!({"clusterIP": "None"}))));
    let endpoints: Vec<Value> = (0..200).map(|i| json!({"addresses": [format!("10.0.0.{i}")]})).collect();
    zones.apply(catalog.apply_slice(&slice("db-1", "db", json!([]), json!(endpoints))));
    zones.loaded();
    let plain = query("db.ns.svc.cluster.local", A);
    let cases = [
        (plain.clone(), Transport::Udp, 512),
        (with_edns(plain.clone(), 100, 0), Transport::Udp, 512),
        (with_edns(plain.clone(), 700, 0), Transport::Udp, 700),
        (with_edns(plain.clone(), 65_535, 0), Transport::Udp, MAX_UDP),
        (plain, Transport::Tcp, 65_535),
    ];
    for (packet, transport, limit) in cases {
        let (_, out) = ask(&zones, &packet, transport);
        let message = read(&out);
        let is_cut = transport == Transport::Udp;
        assert_eq!(message.metadata.truncation, is_cut, "{limit}");
        assert!(out.len() <= limit && (!is_cut || out.len() + 16 > limit), "{} of {limit}", out.len());
        assert_eq!(message.edns.is_some(), packet[11] == 1);
    }
}

#[test]
fn the_first_of_several_answers_changes() {
    let zones = cluster();
    let mut packet = query("db.ns.svc.cluster.local", A);
    let mut first = |id| {
        packet[1] = id;
        read(&ask(&zones, &packet, Transport::Udp).1).answers[0].data.to_string()
    };
    assert_ne!(first(0), first(1));
}

#[test]
fn name_servers_are_read_from_a_resolver_configuration() {
    let text = "# nameserver 192.0.2.9\nsearch a.b\nnameserver 192.0.2.1\n nameserver\tfd00::1 \nnameserver fe80::1%eth0\nnameserver\n";
    let seen: Vec<String> = crate::forward::nameservers(text).iter().map(ToString::to_string).collect();
    assert_eq!(seen, ["192.0.2.1:53", "[fd00::1]:53"]);
}

#[test]
fn a_domain_that_is_none_is_refused() {
    let long = ["a"; 130].join(".");
    for domain in ["a..b", ".", &"a".repeat(64), &long] {
        let catalog = Catalog::new(domain);
        assert!(domain == "." || catalog.is_err(), "{domain}");
        assert!(domain == "." || Zones::cluster(domain, 1).is_err(), "{domain}");
    }
    let sentence = Catalog::new("a..b").unwrap_err().to_string();
    assert_eq!(sentence, "\"\" is not a label of a domain name: it must have 1 to 63 characters");
}

#[test]
fn a_service_without_a_possible_name_is_refused_for_itself() {
    let mut catalog = Catalog::new("cluster.local").unwrap();
    let diff = catalog.apply_service(&service("out", json!({"type": "ExternalName", "externalName": "a..b"})));
    assert!(diff.is_empty());
    assert!(diff.refused[0].starts_with("Service ns/out: no name can be made for part of it: "), "{:?}", diff.refused);
}

#[derive(Debug, Clone)]
enum Change {
    Service(&'static str, Value),
    NoService(&'static str),
    Slice(&'static str, &'static str, Vec<(&'static str, bool)>),
    NoSlice(&'static str),
    Relist,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let name = || prop::sample::select(vec!["a", "b"]);
    let spec = prop::sample::select(vec![
        json!({"clusterIP": "None"}),
        json!({"clusterIP": "10.96.0.1", "ports": [{"name": "http", "port": 80}]}),
        json!({"clusterIP": "10.96.0.2"}),
        json!({"type": "ExternalName", "externalName": "a.ns.svc.cluster.local"}),
        json!({}),
    ]);
    let slice_name = || prop::sample::select(vec!["x", "y", "z"]);
    let hosts = prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let endpoints = prop::collection::vec((hosts, any::<bool>()), 0..3);
    let change = prop_oneof![
        (name(), spec).prop_map(|(name, spec)| Change::Service(name, spec)),
        name().prop_map(Change::NoService),
        (slice_name(), name(), endpoints).prop_map(|(slice, name, endpoints)| Change::Slice(slice, name, endpoints)),
        slice_name().prop_map(Change::NoSlice),
        Just(Change::Relist),
    ];
    prop::collection::vec(change, 0..24)
}

/// What the changes leave of Services and EndpointSlices.
#[derive(Default)]
struct Objects {
    services: BTreeMap<&'static str, core::Service>,
    slices: BTreeMap<&'static str, discovery::EndpointSlice>,
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "ns".into(), name: name.into() }
}

impl Objects {
    /// Does the change here and in the catalog.
    fn change(&mut self, change: Change, catalog: &mut Catalog) -> crate::Diff {
        match change {
            Change::Service(name, spec) => {
                let object = service(name, spec);
                let diff = catalog.apply_service(&object);
                self.services.insert(name, object);
                diff
            }
            Change::NoService(name) => {
                self.services.remove(name);
                catalog.delete_service(&key(name))
            }
            Change::Slice(name, of, endpoints) => {
                let endpoints: Vec<Value> = endpoints
                    .iter()
                    .map(|(address, is_ready)| json!({"addresses": [address], "conditions": {"ready": is_ready}}))
                    .collect();
                let object = slice(name, of, json!([{"name": "http", "port": 8080}]), json!(endpoints));
                let diff = catalog.apply_slice(&object);
                self.slices.insert(name, object);
                diff
            }
            Change::NoSlice(name) => {
                self.slices.remove(name);
                catalog.delete_slice(&key(name))
            }
            // A list that lacks what was deleted unseen.
            Change::Relist => {
                self.services.pop_first();
                self.slices.pop_last();
                let mut diff = catalog.retain_services(&self.services.keys().map(|name| key(name)).collect());
                let rest = catalog.retain_slices(&self.slices.keys().map(|name| key(name)).collect());
                diff.removed.extend(rest.removed);
                diff.added.extend(rest.added);
                diff
            }
        }
    }

    fn zones(&self) -> Zones {
        let mut zones = Zones::cluster("cluster.local", 7).unwrap();
        let mut catalog = Catalog::new("cluster.local").unwrap();
        for slice in self.slices.values() {
            zones.apply(catalog.apply_slice(slice));
        }
        for service in self.services.values() {
            zones.apply(catalog.apply_service(service));
        }
        zones
    }
}

proptest! {
    #[test]
    fn whatever_the_order_of_events_the_zones_are_those_of_the_objects(changes in changes()) {
        let mut zones = Zones::cluster("cluster.local", 7).unwrap();
        let mut catalog = Catalog::new("cluster.local").unwrap();
        let mut objects = Objects::default();
        for change in changes {
            zones.apply(objects.change(change, &mut catalog));
            prop_assert_eq!(zones.contents(), objects.zones().contents());
        }
    }

    #[test]
    fn no_bytes_are_too_strange(packet in prop::collection::vec(any::<u8>(), 0..300)) {
        ask(&cluster(), &packet, Transport::Udp);
    }

    /// A good query with some bytes changed is answered with a message that others can read, to
    /// the one who asked, within the size that it takes.
    #[test]
    fn responses_can_be_read(
        name in prop::sample::select(vec![
            "web.ns.svc.cluster.local", "db.ns.svc.cluster.local", "out.ns.svc.cluster.local",
            "in.ns.svc.cluster.local", "10-0-0-1.ns.pod.cluster.local", "1.0.96.10.in-addr.arpa", "example.org",
        ]),
        record_type in prop::sample::select(vec![A, AAAA, SRV, PTR, SOA, CNAME, TXT, ANY]),
        size in any::<u16>(),
        edits in prop::collection::vec((2usize..64, any::<u8>()), 0..4),
    ) {
        let mut packet = with_edns(query(name, record_type), size, 0);
        for (at, byte) in edits {
            let at = at % packet.len();
            packet[at.max(2)] = byte;
        }
        let (reply, out) = ask(&cluster(), &packet, Transport::Udp);
        if reply != Reply::Silence {
            prop_assert!(out.len() <= MAX_UDP);
            prop_assert_eq!(read(&out).metadata.id, 0xabcd);
        }
    }

    #[test]
    fn names_stay_what_they_are(name in "[a-z0-9-]{1,20}(\\.[a-z0-9-]{1,20}){0,5}") {
        let parsed = Name::parse(&name).unwrap();
        prop_assert_eq!(parsed.to_string(), format!("{name}."));
        let packet = query(&name, RecordType::A.0);
        let query = Query::parse(&packet).unwrap();
        prop_assert_eq!(query.name(), parsed.as_bytes());
    }
}
