#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use tombolo_api::mcs::condition;
use tombolo_proxy::{Protocol, TrafficPolicy};

use super::*;
use crate::model::{Endpoint, ServicePort, SlicePort};

/// A cluster that exports the service `shop/web`.
#[derive(Debug, Clone)]
struct Cluster {
    id: ClusterId,
    export: Export,
    service: Option<Service>,
    slices: BTreeMap<String, Slice>,
    stale_since: Option<Timestamp>,
}

fn id(name: &str) -> ClusterId {
    ClusterId::parse(name).unwrap()
}

fn key() -> ServiceKey {
    ServiceKey::new("shop", "web")
}

fn port(name: &str, number: u16) -> ServicePort {
    ServicePort { name: name.to_owned(), port: number, ..ServicePort::default() }
}

/// The service in cluster `name`, with one pod that answers at port 8080 to all of the service's ports.
fn cluster(name: &str, created: i64, address: &str, ports: &[ServicePort]) -> Cluster {
    let slice_port = |p: &ServicePort| SlicePort {
        name: p.name.clone(),
        protocol: p.protocol,
        port: Some(8080),
        app_protocol: None,
    };
    let pod = Endpoint {
        node_name: Some("n1".to_owned()),
        zone: Some("z1".to_owned()),
        ..Endpoint::ready(address.parse().unwrap())
    };
    let family = Family::of(pod.address);
    let slice = Slice { family, ports: ports.iter().map(slice_port).collect(), endpoints: vec![pod] };
    Cluster {
        id: id(name),
        export: Export { created: Timestamp(created), ..Export::default() },
        service: Some(Service { ports: ports.to_vec(), families: vec![Family::V4], ..Service::default() }),
        slices: BTreeMap::from([("web-x".to_owned(), slice)]),
        stale_since: None,
    }
}

fn here() -> Here {
    Here { families: vec![Family::V4], cidrs: Vec::new() }
}

struct At<'a> {
    cluster: &'a str,
    here: Here,
    unknown: BTreeSet<ClusterId>,
    current: Option<(&'a Import, &'a BTreeMap<String, OwnSlice>)>,
}

fn at(cluster: &str) -> At<'_> {
    At { cluster, here: here(), unknown: BTreeSet::new(), current: None }
}

fn merged_at(clusters: &[Cluster], at: &At<'_>) -> Merged {
    let exporters: Vec<Exporter<'_>> = clusters
        .iter()
        .map(|cluster| Exporter {
            cluster: &cluster.id,
            export: &cluster.export,
            service: cluster.service.as_ref(),
            slices: &cluster.slices,
            mode: EndpointMode::Pods,
            stale_since: cluster.stale_since,
        })
        .collect();
    let own = id(at.cluster);
    let place = Place {
        cluster: &own,
        here: &at.here,
        has_namespace: true,
        derives: true,
        ips: &["10.96.0.7".parse().unwrap()],
        current: at.current,
        unknown: &at.unknown,
    };
    merge(&key(), &exporters, &place)
}

fn merged(clusters: &[Cluster]) -> Merged {
    merged_at(clusters, &at("here"))
}

fn conflict_reasons(merged: &Merged) -> Vec<(String, Status, String)> {
    let of = |(cluster, conditions): (&ClusterId, &Vec<Condition>)| {
        let conflict = conditions.iter().find(|c| c.kind == condition::CONFLICT)?;
        Some((cluster.to_string(), conflict.status, conflict.reason.clone()))
    };
    merged.conditions.iter().filter_map(of).collect()
}

fn addresses(merged: &Merged) -> Vec<String> {
    let endpoints = merged.slices.values().flat_map(|slice| &slice.slice.endpoints);
    let mut addresses: Vec<String> = endpoints.map(|endpoint| endpoint.address.to_string()).collect();
    addresses.sort();
    addresses
}

#[test]
fn one_export_is_imported_as_it_is() {
    let mut a = cluster("a", 1, "10.1.0.1", &[port("http", 80)]);
    a.export.labels.extend([owned(("team", "shop")), owned(("multicluster.kubernetes.io/service-name", "x"))]);
    let service = a.service.as_mut().unwrap();
    service.session_affinity = Some(10);
    service.traffic_distribution = Some("PreferClose".to_owned());
    service.labels.extend([owned(("not", "exported"))]);
    let merged = merged(&[a]);

    let import = merged.import.clone().unwrap();
    assert_eq!((import.headless, import.session_affinity), (false, Some(10)));
    assert_eq!((import.ports, import.ips), (vec![port("http", 80)], vec!["10.96.0.7".parse().unwrap()]));
    assert_eq!(import.labels, BTreeMap::from([owned(("team", "shop"))]));
    assert_eq!(import.clusters, BTreeSet::from([id("a")]));
    assert_eq!((import.conditions[0].status, import.conditions[0].reason.as_str()), (Status::True, "Ready"));

    let (name, derived) = merged.derived.clone().unwrap();
    assert_eq!(import.annotations[mcs::DERIVED_SERVICE], name);
    assert_eq!((derived.ports, derived.session_affinity), (vec![port("http", 80)], Some(10)));

    let (_, slice) = merged.slices.first_key_value().unwrap();
    assert_eq!(slice.labels[mcs::LABEL_SERVICE_NAME], "web");
    assert_eq!(slice.labels[mcs::LABEL_SOURCE_CLUSTER], "a");
    assert_eq!(slice.labels[SERVICE_NAME_LABEL], name);
    assert_eq!(slice.labels[SLICE_MANAGED_BY_LABEL], MANAGER);
    let endpoint = &slice.slice.endpoints[0];
    // The node n1 of another cluster is not ours; the zone is one everywhere.
    assert_eq!((&endpoint.node_name, endpoint.for_zones.as_slice()), (&None, &["z1".to_owned()][..]));
    assert_eq!(conflict_reasons(&merged), [("a".to_owned(), Status::False, "NoConflicts".to_owned())]);
}

#[test]
fn an_export_without_a_service_that_can_be_exported_is_not_valid() {
    let mut without = cluster("a", 1, "10.1.0.1", &[]);
    without.service = None;
    let mut external = cluster("b", 2, "10.1.0.1", &[]);
    external.service.as_mut().unwrap().kind = Kind::ExternalName("x.example".to_owned());
    let merged_of_these = merged(&[without.clone(), external.clone()]);
    assert_eq!(merged_of_these.import, None);
    let reasons: Vec<Vec<&str>> =
        merged_of_these.conditions.values().map(|c| c.iter().map(|c| c.reason.as_str()).collect()).collect();
    assert_eq!(reasons, [["NoService", "Pending"], ["InvalidServiceType", "Failed"]]);

    // They stand in nobody's way.
    let with_good = merged(&[without, external, cluster("c", 3, "10.3.0.1", &[port("http", 80)])]);
    assert_eq!(with_good.import.unwrap().clusters, BTreeSet::from([id("c")]));
}

#[test]
fn the_oldest_export_has_the_last_word_and_ties_go_by_id() {
    for (ages, winner) in [((1, 2), 80), ((2, 1), 81), ((1, 1), 80)] {
        let clusters = [
            cluster("a", ages.0, "10.1.0.1", &[port("http", 80)]),
            cluster("b", ages.1, "10.2.0.1", &[port("http", 81)]),
        ];
        let merged = merged(&clusters);
        assert_eq!(merged.import.as_ref().unwrap().ports, [port("http", winner)], "{ages:?}");
        let expected = ["a", "b"].map(|c| (c.to_owned(), Status::True, "PortConflict".to_owned()));
        assert_eq!(conflict_reasons(&merged), expected);
        // Only the endpoints that have the port are behind it.
        let expected = if winner == 80 { "10.1.0.1" } else { "10.2.0.1" };
        assert_eq!(addresses(&merged), [expected]);
    }
}

#[test]
fn ports_are_the_union_and_endpoints_serve_what_they_have() {
    let a = cluster("a", 1, "10.1.0.1", &[port("", 80)]);
    let b = cluster("b", 2, "10.2.0.1", &[port("web", 80), port("metrics", 9090)]);
    let merged = merged(&[a, b]);
    assert_eq!(merged.import.as_ref().unwrap().ports, [port("tcp-80", 80), port("metrics", 9090)]);
    let names: BTreeMap<&str, Vec<&str>> = merged
        .slices
        .values()
        .map(|s| {
            (s.labels[mcs::LABEL_SOURCE_CLUSTER].as_str(), s.slice.ports.iter().map(|p| p.name.as_str()).collect())
        })
        .collect();
    assert_eq!(names, BTreeMap::from([("a", vec!["tcp-80"]), ("b", vec!["tcp-80", "metrics"])]));
}

#[test]
fn each_conflict_has_its_reason_and_the_oldest_wins() {
    type Edit = fn(&mut Cluster);
    let cases: [(&str, Edit); 8] = [
        ("TypeConflict", |c| c.service.as_mut().unwrap().kind = Kind::Headless),
        ("SessionAffinityConflict", |c| c.service.as_mut().unwrap().session_affinity = None),
        ("SessionAffinityConfigConflict", |c| c.service.as_mut().unwrap().session_affinity = Some(5)),
        ("InternalTrafficPolicyConflict", |c| {
            c.service.as_mut().unwrap().internal_traffic_policy = TrafficPolicy::Local;
        }),
        ("TrafficDistributionConflict", |c| {
            c.service.as_mut().unwrap().traffic_distribution = Some("PreferClose".to_owned());
        }),
        ("LabelsConflict", |c| c.export.labels.extend([owned(("a", "b"))])),
        ("AnnotationsConflict", |c| c.export.annotations.extend([owned(("a", "b"))])),
        ("IPFamilyConflict", |c| c.service.as_mut().unwrap().families = vec![Family::V6]),
    ];
    let with = |name: &str, created| {
        let mut cluster = cluster(name, created, "10.1.0.1", &[port("http", 80)]);
        cluster.service.as_mut().unwrap().session_affinity = Some(10);
        cluster
    };
    let alone = merged(&[with("a", 1)]).import.unwrap();
    for (reason, edit) in cases {
        let mut newer = with("b", 2);
        edit(&mut newer);
        let merged = merged(&[newer, with("a", 1)]);
        let expected = ["a", "b"].map(|c| (c.to_owned(), Status::True, reason.to_owned()));
        assert_eq!(conflict_reasons(&merged), expected);
        let import = Import { clusters: alone.clusters.clone(), ..merged.import.unwrap() };
        assert_eq!(import, alone, "{reason}");
    }
    // Families that only the newer one has are nobody's loss; several reasons stand side by side.
    let mut newer = with("b", 2);
    newer.service.as_mut().unwrap().families = vec![Family::V6, Family::V4];
    assert_eq!(conflict_reasons(&merged(&[with("a", 1), newer.clone()]))[0].1, Status::False);
    newer.service.as_mut().unwrap().kind = Kind::Headless;
    newer.service.as_mut().unwrap().ports.clear();
    assert_eq!(conflict_reasons(&merged(&[with("a", 1), newer]))[0].2, "PortConflict,TypeConflict");
}

#[test]
fn a_headless_service_has_no_address_and_its_pods_have_names() {
    let mut a = cluster("a", 1, "10.1.0.1", &[]);
    let mut b = cluster("b", 2, "10.2.0.1", &[]);
    for (cluster, hostname) in [(&mut a, Some("web-0")), (&mut b, None)] {
        cluster.service.as_mut().unwrap().kind = Kind::Headless;
        let slice = cluster.slices.get_mut("web-x").unwrap();
        slice.endpoints[0].hostname = hostname.map(str::to_owned);
    }
    let merged = merged(&[a, b]);
    let import = merged.import.as_ref().unwrap();
    assert!(import.headless && import.ips.is_empty() && merged.derived.is_none());
    assert_eq!(import.conditions[0].reason, "Ready");
    assert_eq!(addresses(&merged), ["10.1.0.1", "10.2.0.1"]);
    let names = host_names(merged.slices.values());
    assert_eq!(names, BTreeMap::from([("web-0.a".to_owned(), BTreeSet::from(["10.1.0.1".parse().unwrap()]))]));
}

#[test]
fn what_this_cluster_cannot_reach_is_left_out_and_said() {
    let a = cluster("a", 1, "10.1.0.1", &[port("http", 80)]);
    let mut place = at("here");
    place.here.families = vec![Family::V6];
    let not_supported = merged_at(std::slice::from_ref(&a), &place);
    assert_eq!(not_supported.import.unwrap().conditions[0].reason, "IPFamilyNotSupported");
    assert_eq!(not_supported.derived, None);

    place.here = Here { cidrs: vec!["10.1.0.0/16".parse().unwrap()], ..here() };
    let overlapping = merged_at(std::slice::from_ref(&a), &place);
    assert_eq!(addresses(&overlapping), Vec::<String>::new());
    assert!(overlapping.refused[0].to_string().contains("10.1.0.1 is an address of this cluster too (10.1.0.0/16)"));
    // Its own pods are where they are.
    place.cluster = "a";
    let own = merged_at(&[a], &place);
    assert_eq!((addresses(&own).len(), own.refused.len()), (1, 0));
    assert_eq!(own.slices.values().next().unwrap().slice.endpoints[0].node_name.as_deref(), Some("n1"));
}

#[test]
fn a_cluster_of_which_nothing_is_known_keeps_its_part() {
    let (a, b) = (cluster("a", 1, "10.1.0.1", &[port("http", 80)]), cluster("b", 2, "10.2.0.1", &[port("http", 81)]));
    let whole = merged(&[a.clone(), b.clone()]);
    let (import, slices) = (whole.import.unwrap(), whole.slices);
    let mut place = at("here");
    place.current = Some((&import, &slices));
    // The oldest is not heard of: were it forgotten, the ports would change under those who use them.
    place.unknown = BTreeSet::from([id("a")]);
    let kept = merged_at(std::slice::from_ref(&b), &place);
    assert_eq!((kept.import.as_ref(), &kept.slices), (Some(&import), &slices));
    let all_unknown = At { unknown: BTreeSet::from([id("a"), id("b")]), ..place };
    assert_eq!(merged_at(&[], &all_unknown).import.as_ref(), Some(&import));

    let known = At { unknown: BTreeSet::new(), ..all_unknown };
    let gone = merged_at(&[b], &known);
    assert_eq!(
        (gone.import.unwrap().ports, addresses_of(&gone.slices)),
        (vec![port("http", 81)], vec!["10.2.0.1".to_owned()])
    );
    assert_eq!(merged_at(&[], &known).import, None);
}

fn addresses_of(slices: &BTreeMap<String, OwnSlice>) -> Vec<String> {
    slices.values().flat_map(|s| &s.slice.endpoints).map(|e| e.address.to_string()).collect()
}

#[test]
fn families_that_are_not_said_are_no_conflict() {
    let (mut a, mut b) =
        (cluster("a", 1, "10.1.0.1", &[port("http", 80)]), cluster("b", 2, "10.2.0.1", &[port("http", 80)]));
    b.service.as_mut().unwrap().families.clear();
    assert_eq!(conflict_reasons(&merged(&[a.clone(), b.clone()]))[0].2, "NoConflicts");
    a.service.as_mut().unwrap().families.clear();
    assert_eq!(merged(&[a, b]).import.unwrap().families, [Family::V4]);
}

#[test]
fn a_stale_cluster_is_marked() {
    let mut a = cluster("a", 1, "10.1.0.1", &[port("http", 80)]);
    a.stale_since = Some(Timestamp(77));
    let merged = merged(&[a]);
    assert_eq!(merged.slices.values().next().unwrap().annotations, BTreeMap::from([owned((STALE_SINCE, "77"))]));
}

prop_compose! {
    fn any_cluster(name: String)(
        created in 0_i64..3,
        has_service in prop::bool::weighted(0.9),
        kind in prop_oneof![4 => Just(Kind::ClusterIp), 2 => Just(Kind::Headless), 1 => Just(Kind::ExternalName("x".to_owned()))],
        ports in subsequence(vec![
            port("", 80), port("http", 80), port("http", 81), port("web", 80), port("tcp-80", 90),
            ServicePort { protocol: Protocol::Udp, ..port("dns", 80) },
        ], 0..=6),
        families in subsequence(vec![Family::V4, Family::V6], 0..=2),
        affinity in prop::option::of(1_u32..3),
        label in prop::option::of(0_u8..2),
        address in 1_u8..9,
    ) -> Cluster {
        let mut cluster = cluster(&name, created, &format!("10.1.0.{address}"), &ports);
        let service = cluster.service.as_mut().unwrap();
        (service.kind, service.families, service.session_affinity) = (kind, families, affinity);
        cluster.service = cluster.service.filter(|_| has_service);
        cluster.export.labels.extend(label.map(|n| ("l".to_owned(), n.to_string())));
        cluster
    }
}

fn any_clusters() -> impl Strategy<Value = Vec<Cluster>> {
    ["a", "b", "c", "d"].map(|name| any_cluster(name.to_owned())).prop_map(Vec::from)
}

proptest! {
    /// In whatever order the clusters are heard of, and wherever it is asked, the answer is one.
    #[test]
    fn all_clusters_come_to_the_same(clusters in any_clusters(), shuffled in any::<[Index; 4]>()) {
        let mut other = clusters.clone();
        for (n, index) in shuffled.iter().enumerate() {
            other.swap(n, index.index(4));
        }
        prop_assert_eq!(merged_at(&clusters, &at("a")), merged_at(&other, &at("a")));
        let (a, b) = (merged_at(&clusters, &at("a")), merged_at(&other, &at("b")));
        prop_assert_eq!(a.import, b.import);
        prop_assert_eq!(a.conditions, b.conditions);
        prop_assert_eq!(a.derived, b.derived);
        prop_assert_eq!(a.slices.keys().collect::<Vec<_>>(), b.slices.keys().collect::<Vec<_>>());
    }

    /// Events in any order: what was before the last word of each cluster leaves no trace.
    #[test]
    fn history_leaves_no_trace(before in any_clusters(), after in any_clusters(), order in any::<[Index; 4]>()) {
        let mut world = before;
        let mut last: Option<Merged> = None;
        for (n, index) in order.iter().map(|index| index.index(4)).chain(0..4).enumerate() {
            world[index] = after[index].clone();
            let current = last.as_ref().and_then(|m| Some((m.import.as_ref()?, &m.slices)));
            let step = merged_at(&world, &At { current, ..at("here") });
            prop_assert!(n < 8);
            last = Some(step);
        }
        prop_assert_eq!(last, Some(merged(&after)));
    }

    /// What the API asks of the ports: no two of a name, no two of a protocol and number, and names where there are many.
    #[test]
    fn ports_are_such_that_a_service_can_have_them(clusters in any_clusters()) {
        let merged = merged(&clusters);
        let ports = merged.import.map(|import| import.ports).unwrap_or_default();
        let names: BTreeSet<&str> = ports.iter().map(|p| p.name.as_str()).collect();
        let numbers: BTreeSet<_> = ports.iter().map(|p| (p.protocol, p.port)).collect();
        prop_assert_eq!((names.len(), numbers.len()), (ports.len(), ports.len()));
        prop_assert!(ports.len() < 2 || !names.contains(""));
        // Every number that a merged Service has is there, unless its name was taken.
        for slice in merged.slices.values() {
            prop_assert!(slice.slice.ports.iter().all(|port| names.contains(port.name.as_str())));
        }
    }
}
