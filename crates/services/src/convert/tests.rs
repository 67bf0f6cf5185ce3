#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use serde_json::json;
use tombolo_api::tombolo::{MANAGED_BY_LABEL, MANAGER, MIRRORED_FROM, SLICE_MANAGED_BY_LABEL};
use tombolo_proxy::TrafficPolicy;

use super::*;
use crate::clusters::ClusterId;
use crate::model::{
    Condition, Endpoint, Import, Kind, LegacyEndpoints, OwnSlice, Service, ServicePort, Slice, SlicePort, Status,
    Subset,
};

fn read<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).unwrap()
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_service_is_read_and_what_is_bad_in_it_is_refused_for_itself() {
    let (service, refused) = service(&read(json!({
        "metadata": {"namespace": "shop", "name": "web", "labels": {"a": "b"}},
        "spec": {
            "type": "NodePort", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "127.0.0.1"],
            "ipFamilies": ["IPv4"], "sessionAffinity": "ClientIP", "internalTrafficPolicy": "Local",
            "trafficDistribution": "PreferClose",
            "ports": [
                {"name": "http", "port": 80, "nodePort": 30080, "appProtocol": "http"},
                {"name": "bad", "port": 70000},
                {"name": "odd", "port": 1, "protocol": "DCCP"},
            ],
        },
    })));
    let expected = Service {
        cluster_ips: vec!["10.96.0.1".parse().unwrap()],
        families: vec![Family::V4],
        ports: vec![ServicePort {
            name: "http".to_owned(),
            port: 80,
            app_protocol: Some("http".to_owned()),
            ..ServicePort::default()
        }],
        session_affinity: Some(10_800),
        internal_traffic_policy: TrafficPolicy::Local,
        traffic_distribution: Some("PreferClose".to_owned()),
        labels: texts(&[("a", "b")]),
        ..Service::default()
    };
    assert_eq!(service, expected);
    let reasons: Vec<String> = refused.iter().map(ToString::to_string).collect();
    assert_eq!(
        reasons,
        [
            "Service shop/web: spec.clusterIPs: 127.0.0.1 is not an address of one host elsewhere",
            "Service shop/web: spec.ports.port: 70000 is not between 1 and 65535",
            "Service shop/web: spec.ports.protocol: \"DCCP\" is none of TCP, UDP, SCTP",
        ]
    );
}

#[test]
fn the_kinds_of_services_are_told_apart() {
    for (spec, expected) in [
        (json!({"clusterIP": "None"}), Kind::Headless),
        (json!({"clusterIP": "10.96.0.1"}), Kind::ClusterIp),
        (json!({}), Kind::ClusterIp),
        (json!({"type": "ExternalName", "externalName": "a.b"}), Kind::ExternalName("a.b".to_owned())),
    ] {
        assert_eq!(service(&read(json!({"metadata": {}, "spec": spec}))).0.kind, expected);
    }
}

#[test]
fn a_slice_of_nonsense_gives_what_can_be_used_of_it() {
    let many: Vec<_> = (0..1100).map(|n| json!({"addresses": [format!("10.1.{}.{}", n / 250, n % 250 + 1)]})).collect();
    let base = json!({
        "metadata": {"namespace": "shop", "name": "s", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "a", "port": 0}, {"name": "b"}, {"name": "c", "port": 1}],
        "endpoints": [
            {"addresses": ["10.1.0.1"], "hostname": "Not A Label"}, {"addresses": ["fd00::1"]}, {"addresses": []},
            {"addresses": ["169.254.169.254"]}, {"addresses": ["x"]},
        ],
    });
    let (found, refused) = slice(&read(base.clone()));
    let (key, content) = found.unwrap();
    assert_eq!(key, ServiceKey::new("shop", "web"));
    assert_eq!(content.endpoints, [Endpoint::ready("10.1.0.1".parse().unwrap())]);
    assert_eq!(content.ports.iter().map(|port| port.port).collect::<Vec<_>>(), [None, Some(1)]);
    assert_eq!(refused.len(), 5);

    for (field, value, endpoints, refusals) in [
        ("addressType", json!("FQDN"), None, 1),
        ("metadata", json!({"name": "s"}), None, 0),
        ("endpoints", json!(many), Some(MAX_ENDPOINTS), 2),
    ] {
        let mut object = base.clone();
        object[field] = value;
        let (found, refused) = slice(&read(object));
        assert_eq!((found.map(|(_, s)| s.endpoints.len()), refused.len()), (endpoints, refusals), "{field}");
    }
}

#[test]
fn what_others_put_on_our_objects_does_not_count() {
    let mut object = to::service(
        &ServiceKey::new("shop", "web"),
        &Service {
            labels: texts(&[(MANAGED_BY_LABEL, MANAGER)]),
            annotations: texts(&[(MIRRORED_FROM, "east")]),
            ..Service::default()
        },
    );
    let ours = own::service(&object).unwrap();
    object.metadata.labels.as_mut().unwrap().insert("added".to_owned(), "by another".to_owned());
    object.metadata.annotations.as_mut().unwrap().insert("added".to_owned(), "by another".to_owned());
    object.metadata.managed_fields = Some(read(json!([
        {"manager": MANAGER, "operation": "Apply", "fieldsType": "FieldsV1",
         "fieldsV1": {"f:metadata": {"f:labels": {(format!("f:{MANAGED_BY_LABEL}")): {}},
                                     "f:annotations": {(format!("f:{MIRRORED_FROM}")): {}}}}},
        {"manager": "kubectl", "operation": "Update", "fieldsType": "FieldsV1",
         "fieldsV1": {"f:metadata": {"f:labels": {"f:added": {}}, "f:annotations": {"f:added": {}}}}},
    ])));
    assert_eq!(own::service(&object), Some(ours));
    // Neither the label nor the annotation alone makes it ours.
    let annotations = object.metadata.annotations.take();
    assert_eq!(own::service(&object), None);
    object.metadata = ObjectMeta { labels: None, annotations, ..object.metadata };
    assert_eq!(own::service(&object), None);
}

#[test]
fn a_condition_keeps_its_time_while_its_status_stays() {
    let time = |seconds| Time(k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap());
    let wanted = |status, message: &str| Condition {
        kind: "Ready".to_owned(),
        status,
        reason: "Ready".to_owned(),
        message: message.to_owned(),
    };
    let first = to::conditions(&[wanted(Status::True, "a")], &[], &time(1), Some(4));
    assert_eq!((&first[0].last_transition_time, first[0].observed_generation), (&time(1), Some(4)));
    let second = to::conditions(&[wanted(Status::True, "b")], &first, &time(2), Some(4));
    assert_eq!((&second[0].last_transition_time, second[0].message.as_str()), (&time(1), "b"));
    let third = to::conditions(&[wanted(Status::False, "b")], &second, &time(3), Some(4));
    assert_eq!((&third[0].last_transition_time, third[0].status.as_str()), (&time(3), "False"));
}

fn any_families() -> impl Strategy<Value = Vec<Family>> {
    prop::sample::select(vec![
        vec![Family::V4],
        vec![Family::V6],
        vec![Family::V4, Family::V6],
        vec![Family::V6, Family::V4],
    ])
}

fn any_protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp])
}

fn any_name() -> impl Strategy<Value = Option<String>> {
    prop::option::of("[a-z]{1,5}")
}

prop_compose! {
    fn any_port()(name in any_name(), protocol in any_protocol(), port in 1_u16.., app_protocol in any_name()) -> ServicePort {
        ServicePort { name: name.unwrap_or_default(), protocol, port, app_protocol }
    }
}

prop_compose! {
    fn any_slice_port()(port in any_port(), has_number: bool) -> SlicePort {
        let number = has_number.then_some(port.port);
        SlicePort { name: port.name, protocol: port.protocol, port: number, app_protocol: port.app_protocol }
    }
}

prop_compose! {
    fn any_service()(
        kind in prop::sample::select(vec![Kind::ClusterIp, Kind::Headless]),
        families in any_families(),
        ports in prop::collection::vec(any_port(), 0..3),
        session_affinity in prop::option::of(1_u32..86_400),
        is_local: bool, publish_not_ready: bool,
        traffic_distribution in any_name(),
        annotations in prop::collection::btree_map("[a-z]{1,3}", "[a-z]{0,3}", 0..3),
    ) -> Service {
        Service {
            kind, cluster_ips: Vec::new(), families, ports, session_affinity, traffic_distribution, publish_not_ready,
            internal_traffic_policy: if is_local { TrafficPolicy::Local } else { TrafficPolicy::Cluster },
            labels: texts(&[(MANAGED_BY_LABEL, MANAGER)]), annotations,
        }
    }
}

prop_compose! {
    fn any_endpoint()(
        last in 1_u8..200, ready: bool, serving: bool, terminating: bool,
        hostname in any_name(), node_name in any_name(), zone in any_name(),
        for_zones in prop::collection::vec("[a-z]{1,3}", 0..2),
    ) -> Endpoint {
        Endpoint { address: [10, 1, 0, last].into(), ready, serving, terminating, hostname, node_name, zone, for_zones }
    }
}

proptest! {
    /// What we write and read again is the same, so that nothing is written twice.
    #[test]
    fn what_is_written_is_read_again(
        service in any_service(),
        ports in prop::collection::vec(any_slice_port(), 0..3),
        endpoints in prop::collection::vec(any_endpoint(), 0..4),
        headless: bool,
    ) {
        let key = ServiceKey::new("shop", "web");
        let mut mirror = service.clone();
        mirror.annotations.insert(MIRRORED_FROM.to_owned(), "east".to_owned());
        prop_assert_eq!(own::service(&to::service(&key, &mirror)), Some(mirror));

        let own_slice = OwnSlice {
            labels: texts(&[(SLICE_MANAGED_BY_LABEL, MANAGER)]),
            annotations: service.annotations.clone(),
            slice: Slice { family: Family::V4, ports: ports.clone(), endpoints: endpoints.clone() },
        };
        prop_assert_eq!(own::slice(&to::slice(&key, &own_slice)), Some(own_slice));

        let numbered: Vec<SlicePort> = ports.into_iter().filter(|port| port.port.is_some()).collect();
        let addresses = |ready| endpoints.iter().filter(move |e| e.ready == ready).map(|e| (e.address, e.hostname.clone()));
        let legacy = LegacyEndpoints {
            labels: texts(&[(MANAGED_BY_LABEL, MANAGER)]),
            annotations: service.annotations.clone(),
            subsets: vec![Subset { ports: numbered, ready: addresses(true).collect(), not_ready: addresses(false).collect() }],
        };
        prop_assert_eq!(own::endpoints(&to::endpoints(&key, &legacy)), Some(legacy));

        let import = Import {
            headless,
            ports: service.ports,
            ips: if headless { vec![] } else { vec!["10.96.0.1".parse().unwrap()] },
            families: service.families,
            session_affinity: service.session_affinity,
            internal_traffic_policy: service.internal_traffic_policy,
            traffic_distribution: service.traffic_distribution,
            labels: service.annotations.clone(),
            annotations: service.annotations,
            clusters: BTreeSet::from([ClusterId::parse("a").unwrap()]),
            conditions: vec![Condition {
                kind: "Ready".to_owned(), status: Status::Unknown, reason: "Pending".to_owned(), message: String::new(),
            }],
        };
        let now = Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH);
        let mut object = to::import(&key, &import);
        object.status = Some(to::import_status(&import, &[], &now, true));
        prop_assert_eq!(own::import(&object), import);
    }
}
