#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use tombolo_api::tombolo::MIRROR_ENDPOINTS;
use tombolo_proxy::Family;

use super::*;
use crate::changes::{Change, Object, changes};
use crate::model::{Endpoint, ServicePort, SlicePort};

fn key() -> ServiceKey {
    ServiceKey::new("shop", "web")
}

fn here() -> Here {
    Here { families: vec![Family::V4, Family::V6], cidrs: vec!["10.0.0.0/16".parse().unwrap()] }
}

fn service() -> Service {
    Service {
        cluster_ips: vec!["10.97.0.1".parse().unwrap()],
        families: vec![Family::V4],
        ports: vec![ServicePort { name: "http".to_owned(), port: 80, ..ServicePort::default() }],
        internal_traffic_policy: TrafficPolicy::Local,
        labels: [("app", "web"), ("app.kubernetes.io/name", "web"), ("service.kubernetes.io/x", "y")].map(owned).into(),
        annotations: [("owner", "shop"), ("kube-router.io/service.advertise.clusterip", "true")].map(owned).into(),
        ..Service::default()
    }
}

fn slices(addresses: &[&str]) -> BTreeMap<String, Slice> {
    let ports = vec![SlicePort { name: "http".to_owned(), port: Some(8080), ..SlicePort::default() }];
    let endpoints = addresses.iter().map(|address| Endpoint::ready(address.parse().unwrap())).collect();
    BTreeMap::from([("web-1".to_owned(), Slice { family: Family::V4, ports, endpoints })])
}

fn offer<'a>(
    source: &'a str,
    standing: Standing,
    service: Option<(&'a Service, &'a BTreeMap<String, Slice>)>,
) -> Offer<'a> {
    Offer { source, standing, mode: EndpointMode::Pods, service }
}

fn first(service: &Service, slices: &BTreeMap<String, Slice>) -> Mirror {
    let offers = [offer("east", Standing::Live, Some((service, slices)))];
    mirror(&key(), &offers, Existing::None, &here(), true).mirror.unwrap()
}

#[test]
fn without_a_selector_all_but_the_system_s_services_are_taken() {
    let all = Choice::default();
    let labelled = Choice { selector: Selector::parse("app=web").unwrap(), ..Choice::default() };
    let one = Choice { namespaces: BTreeSet::from(["shop".to_owned()]), ..Choice::default() };
    for (namespace, name, expected) in [
        ("shop", "web", [true, true, true]),
        ("default", "web", [true, true, false]),
        ("default", "kubernetes", [false, true, false]),
        ("kube-system", "kube-dns", [false, true, false]),
    ] {
        let key = ServiceKey::new(namespace, name);
        assert_eq!([&all, &labelled, &one].map(|choice| choice.takes(&key, &service())), expected, "{key}");
    }
    assert!(!labelled.takes(&key(), &Service::default()));
}

#[test]
fn a_mirror_is_not_mirrored_further() {
    for annotation in [MIRRORED_FROM, REFLECTED] {
        let mut service = service();
        service.annotations.extend([owned((annotation, "true"))]);
        assert!(!Choice::default().takes(&key(), &service), "{annotation}");
        assert!(Choice::default().chooses(&key(), &service.labels));
    }
    let derived = Service { labels: [owned((mcs::LABEL_SERVICE_NAME, "web"))].into(), ..service() };
    assert!(!Choice::default().takes(&ServiceKey::new("shop", "derived-0123456789"), &derived));
}

#[test]
fn a_service_stands_here_with_its_pods() {
    let mirror = first(&service(), &slices(&["10.1.0.1", "10.1.0.2"]));
    let expected = Service {
        cluster_ips: Vec::new(),
        internal_traffic_policy: TrafficPolicy::Cluster,
        labels: [("app", "web"), ("app.kubernetes.io/name", "web"), (MANAGED_BY_LABEL, MANAGER)].map(owned).into(),
        annotations: [("owner", "shop"), (MIRRORED_FROM, "east")].map(owned).into(),
        ..service()
    };
    assert_eq!(mirror.service, expected);
    let (name, slice) = mirror.slices.first_key_value().unwrap();
    assert!(name.starts_with("web-east-"), "{name}");
    assert_eq!(slice.labels, [(SERVICE_NAME_LABEL, "web"), (SLICE_MANAGED_BY_LABEL, MANAGER)].map(owned).into());
    assert_eq!(slice.slice, slices(&["10.1.0.1", "10.1.0.2"])["web-1"]);
    let endpoints = mirror.endpoints.unwrap();
    assert_eq!(endpoints.labels[SKIP_MIRROR_LABEL], "true");
    let ready: Vec<String> = endpoints.subsets[0].ready.iter().map(|(ip, _)| ip.to_string()).collect();
    assert_eq!(ready, ["10.1.0.1", "10.1.0.2"]);
}

#[test]
fn the_cluster_ip_stands_for_the_pods_where_that_is_asked_for() {
    let mut not_ready = slices(&["10.1.0.1"]);
    not_ready.get_mut("web-1").unwrap().endpoints[0].ready = false;
    for (mode, annotation, expected) in [
        (EndpointMode::ClusterIp, None, "10.97.0.1:80"),
        (EndpointMode::Pods, Some("cluster-ip"), "10.97.0.1:80"),
        (EndpointMode::ClusterIp, Some("pods"), "10.1.0.1:8080"),
        (EndpointMode::Pods, Some("nonsense"), "10.1.0.1:8080"),
    ] {
        let mut service = service();
        service.annotations.extend(annotation.map(|text| owned((MIRROR_ENDPOINTS, text))));
        for (slices, ready) in [(slices(&["10.1.0.1"]), true), (not_ready.clone(), false)] {
            let offers = [Offer { mode, ..offer("east", Standing::Live, Some((&service, &slices))) }];
            let outcome = mirror(&key(), &offers, Existing::None, &here(), false);
            let mirror = outcome.mirror.unwrap();
            let slice = &mirror.slices.values().next().unwrap().slice;
            let endpoint = format!("{}:{}", slice.endpoints[0].address, slice.ports[0].port.unwrap());
            assert_eq!((endpoint.as_str(), slice.endpoints[0].ready), (expected, ready), "{mode:?} {annotation:?}");
            assert_eq!(outcome.refused.len(), usize::from(annotation == Some("nonsense")));
        }
    }
}

#[test]
fn headless_services_and_names_are_mirrored_too() {
    let mut pods = slices(&["10.1.0.1"]);
    pods.get_mut("web-1").unwrap().endpoints[0].hostname = Some("web-0".to_owned());
    let headless = Service { kind: Kind::Headless, cluster_ips: Vec::new(), ..service() };
    let offers = [Offer { mode: EndpointMode::ClusterIp, ..offer("east", Standing::Live, Some((&headless, &pods))) }];
    let mirrored = mirror(&key(), &offers, Existing::None, &here(), false).mirror.unwrap();
    assert_eq!(mirrored.service.kind, Kind::Headless);
    let slice = mirrored.slices.values().next().unwrap();
    assert_eq!(slice.slice.endpoints[0].hostname.as_deref(), Some("web-0"));

    let name = Service { kind: Kind::ExternalName("db.example.com".to_owned()), ..Service::default() };
    let mirrored = first(&name, &BTreeMap::new());
    assert_eq!((mirrored.service.kind, mirrored.slices.len(), mirrored.endpoints), (name.kind, 0, None));
}

#[test]
fn what_does_not_fit_here_is_left_out_and_said() {
    let (service, overlapping) = (service(), slices(&["10.0.3.4", "10.1.0.1"]));
    let offers = [offer("east", Standing::Live, Some((&service, &overlapping)))];
    let outcome = mirror(&key(), &offers, Existing::None, &here(), false);
    assert_eq!(outcome.mirror.unwrap().slices.values().next().unwrap().slice.endpoints.len(), 1);
    assert!(outcome.refused[0].to_string().contains("Service shop/web of east"), "{:?}", outcome.refused);

    let v6 = Here { families: vec![Family::V6], cidrs: Vec::new() };
    let outcome = mirror(&key(), &offers, Existing::None, &v6, false);
    assert_eq!((outcome.mirror, outcome.refused.len()), (None, 1));

    let without_ports = Service { ports: Vec::new(), ..service.clone() };
    let offers = [offer("east", Standing::Live, Some((&without_ports, &overlapping)))];
    let outcome = mirror(&key(), &offers, Existing::None, &here(), false);
    assert_eq!((outcome.mirror, outcome.refused[0].field.as_str()), (None, "spec.ports"));
}

#[test]
fn families_that_are_not_said_are_those_of_the_endpoints() {
    let silent = Service { families: Vec::new(), ..service() };
    let mut pods = slices(&["fd01::1"]);
    pods.get_mut("web-1").unwrap().family = Family::V6;
    assert_eq!(first(&silent, &pods).service.families, [Family::V6]);
    assert_eq!(first(&silent, &BTreeMap::new()).service.families, [Family::V4]);
}

#[test]
fn a_name_that_is_taken_is_a_conflict_and_nothing_is_touched() {
    let (service, slices) = (service(), slices(&["10.1.0.1"]));
    let offers = ["east", "west"].map(|source| offer(source, Standing::Live, Some((&service, &slices))));
    let foreign = mirror(&key(), &offers, Existing::Foreign, &here(), false);
    assert_eq!(foreign.mirror, None);
    let holders: Vec<_> = foreign.conflicts.iter().map(|c| (c.source_name.as_str(), &c.holder)).collect();
    assert_eq!(holders, [("east", &Holder::Foreign), ("west", &Holder::Foreign)]);

    // The first has it; the second keeps it, if it had it before.
    let new = mirror(&key(), &offers, Existing::None, &here(), false);
    assert_eq!(new.mirror.as_ref().unwrap().source(), "east");
    assert_eq!(
        new.conflicts[0].to_string(),
        "Service shop/web of west is not mirrored: it is mirrored from east already; leave it out there or here by a selector"
    );
    let wests = mirror(&key(), &offers[1..], Existing::None, &here(), false).mirror.unwrap();
    let kept = mirror(&key(), &offers, Existing::Mirror(&wests), &here(), false);
    assert_eq!((kept.mirror.as_ref(), kept.conflicts[0].source_name.as_str()), (Some(&wests), "east"));

    // When the one that had it gives it up, the other takes it; a source that is no more has nothing.
    let given_up = [offers[0], offer("west", Standing::Live, None)];
    assert_eq!(mirror(&key(), &given_up, Existing::Mirror(&wests), &here(), false).mirror.unwrap().source(), "east");
    let dropped = mirror(&key(), &offers[..1], Existing::Mirror(&wests), &here(), false);
    assert_eq!((dropped.mirror.unwrap().source(), dropped.conflicts.len()), ("east", 0));
}

#[test]
fn a_source_s_standing_decides_what_stays() {
    let (service, slices) = (service(), slices(&["10.1.0.1"]));
    let old = first(&service, &slices);
    let since = Timestamp(7);
    let mark = |mirror: &Mirror| {
        let annotations = &mirror.service.annotations;
        [STALE_SINCE, HELD_SINCE].map(|name| annotations.get(name).cloned())
    };
    let seven = Some("7".to_owned());
    for (standing, heard, expected) in [
        (Standing::Live, true, Some([None, None])),
        (Standing::Live, false, None),
        (Standing::Waiting, true, Some([None, None])),
        (Standing::Waiting, false, Some([None, None])),
        (Standing::Stale { since }, true, Some([seven.clone(), None])),
        (Standing::Stale { since }, false, Some([seven.clone(), None])),
        (Standing::Held { since }, true, Some([None, None])),
        (Standing::Held { since }, false, Some([None, seven.clone()])),
        (Standing::Gone, true, None),
        (Standing::Gone, false, None),
    ] {
        let offers = [offer("east", standing, heard.then_some((&service, &slices)))];
        let outcome = mirror(&key(), &offers, Existing::Mirror(&old), &here(), true);
        assert_eq!(outcome.mirror.as_ref().map(mark), expected, "{standing:?}, heard {heard}");
        if let Some(mirror) = outcome.mirror {
            assert_eq!((mirror.slices, mirror.endpoints), (old.slices.clone(), old.endpoints.clone()));
        }
    }
    // Back in contact, only the mark is written.
    let stale = marked(old.clone(), STALE_SINCE, since);
    let back = mirror(
        &key(),
        &[offer("east", Standing::Live, Some((&service, &slices)))],
        Existing::Mirror(&stale),
        &here(),
        true,
    );
    let (mut current, mut desired) = (Objects::default(), Objects::default());
    stale.put(&key(), &mut current);
    back.mirror.unwrap().put(&key(), &mut desired);
    assert!(matches!(changes(&current, &desired)[..], [Change::Apply(Object::Service(..))]));
}

#[test]
fn a_namespace_is_made_for_its_first_mirror_and_goes_with_its_last() {
    let mirror = first(&service(), &slices(&["10.1.0.1"]));
    let with_mirror = || {
        let mut objects = Objects::default();
        mirror.clone().put(&key(), &mut objects);
        objects
    };
    let state = |made_for_mirrors, terminating, in_use| {
        BTreeMap::from([("shop".to_owned(), NamespaceState { made_for_mirrors, terminating, in_use })])
    };
    for (existing, has_mirror, kept, stays) in [
        (BTreeMap::new(), true, true, true),
        (state(false, false, false), true, false, true),
        (state(true, false, false), true, true, true),
        (state(true, false, false), false, false, true),
        (state(true, false, true), false, true, true),
        // What is being deleted is let go, and what would be in it waits.
        (state(true, true, false), true, true, false),
        (state(false, true, false), true, false, false),
    ] {
        let mut desired = if has_mirror { with_mirror() } else { Objects::default() };
        namespaces(&mut desired, &existing);
        assert_eq!(desired.namespaces.contains("shop"), kept, "{existing:?}");
        let has_any = !desired.services.is_empty() && !desired.slices.is_empty() && !desired.endpoints.is_empty();
        assert_eq!(has_any, has_mirror && stays, "{existing:?}");
    }
}

fn any_standing() -> impl Strategy<Value = Standing> {
    let since = Timestamp(7);
    prop::sample::select(vec![
        Standing::Waiting,
        Standing::Live,
        Standing::Held { since },
        Standing::Stale { since },
        Standing::Gone,
    ])
}

proptest! {
    /// Whatever is offered: a second look finds nothing to do, and a mirror is of a source that is there.
    #[test]
    fn a_second_look_changes_nothing(
        sources in prop::collection::vec((any_standing(), any::<bool>()), 0..4),
        had in prop::option::of(0_usize..5),
        is_foreign: bool,
    ) {
        let (service, slices) = (service(), slices(&["10.1.0.1"]));
        let names = ["s0", "s1", "s2", "s3", "s4"];
        let whole = |name| offer(name, Standing::Live, Some((&service, &slices)));
        let old = had.and_then(|n| mirror(&key(), &[whole(names[n])], Existing::None, &here(), false).mirror);
        let existing = match &old {
            _ if is_foreign => Existing::Foreign,
            Some(old) => Existing::Mirror(old),
            None => Existing::None,
        };
        let offers: Vec<Offer<'_>> = sources.iter().zip(names)
            .map(|((standing, heard), name)| offer(name, *standing, heard.then_some((&service, &slices))))
            .collect();
        let outcome = mirror(&key(), &offers, existing, &here(), false);
        if is_foreign {
            prop_assert_eq!(&outcome.mirror, &None);
        } else {
            let second = outcome.mirror.as_ref().map_or(Existing::None, Existing::Mirror);
            let again = mirror(&key(), &offers, second, &here(), false);
            prop_assert_eq!(&again.mirror, &outcome.mirror);
            prop_assert_eq!(&again.conflicts, &outcome.conflicts);
        }
        if let Some(mirror) = &outcome.mirror {
            let owner = offers.iter().find(|offer| offer.source == mirror.source()).unwrap();
            prop_assert_ne!(owner.standing, Standing::Gone);
            prop_assert!(outcome.conflicts.iter().all(|conflict| conflict.source_name != mirror.source()));
        }
    }
}
