//! Objects as the API server has them, and what becomes of them.
#![allow(clippy::unwrap_used)]
use tombolo_api::mcs::v1alpha1;

use super::*;
use crate::model::{Import, Owner, Service, ServiceKey, ServicePort};

fn read<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
    serde_json::from_value(json).unwrap()
}

fn reasons(refused: &[Refused]) -> Vec<String> {
    refused.iter().map(ToString::to_string).collect()
}

#[test]
fn a_service_is_read_and_what_is_bad_in_it_is_refused_for_itself() {
    let converted = service(&read(serde_json::json!({
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {
            "clusterIP": "10.96.0.1",
            "clusterIPs": ["10.96.0.1", "fd00:96::1"],
            "externalIPs": ["198.51.100.1", "127.0.0.1", "nonsense"],
            "sessionAffinity": "ClientIP",
            "externalTrafficPolicy": "Local",
            "type": "LoadBalancer",
            "healthCheckNodePort": 32000,
            "loadBalancerSourceRanges": ["10.0.0.0/8", "everybody"],
            "ports": [
                {"name": "http", "port": 80, "nodePort": 30080},
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "bad", "port": 70000},
                {"name": "odd", "port": 1, "protocol": "DCCP"},
            ],
        },
        "status": {"loadBalancer": {"ingress": [
            {"ip": "203.0.113.1"}, {"ip": "203.0.113.2", "ipMode": "Proxy"}, {"hostname": "lb"},
        ]}},
    })));
    let expected = Service {
        cluster_ips: ["10.96.0.1", "fd00:96::1"].map(|ip| ip.parse().unwrap()).into(),
        external_ips: vec!["198.51.100.1".parse().unwrap()],
        load_balancer_ips: vec!["203.0.113.1".parse().unwrap()],
        ports: vec![
            ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: Some(30080) },
            ServicePort { name: "dns".into(), protocol: Protocol::Udp, port: 53, node_port: None },
        ],
        session_affinity: Some(AFFINITY_TIMEOUT),
        internal_traffic_policy: TrafficPolicy::Cluster,
        external_traffic_policy: TrafficPolicy::Local,
        source_ranges: Some(vec!["10.0.0.0/8".parse().unwrap()]),
        health_check_node_port: Some(32000),
        clusters: None,
    };
    assert_eq!(converted.value, Some(expected));
    assert_eq!(
        reasons(&converted.refused),
        [
            "Service shop/web: spec.externalIPs: 127.0.0.1 is not an address of one host elsewhere",
            "Service shop/web: spec.externalIPs: \"nonsense\" is not an IP address",
            "Service shop/web: spec.ports.port: 70000 is not between 1 and 65535",
            "Service shop/web: spec.ports.protocol: \"DCCP\" is none of TCP, UDP, SCTP",
            "Service shop/web: spec.loadBalancerSourceRanges: \"everybody\" is no CIDR; nobody is let in for it",
        ]
    );
}

#[test]
fn services_that_are_not_for_a_proxy_are_left_alone() {
    for (labels, spec) in [
        (serde_json::json!({}), serde_json::json!({"clusterIP": "None"})),
        (serde_json::json!({}), serde_json::json!({"type": "ExternalName", "externalName": "a.b"})),
        (serde_json::json!({}), serde_json::json!({})),
        (serde_json::json!({PROXY_NAME_LABEL: "other"}), serde_json::json!({"clusterIP": "10.96.0.1"})),
    ] {
        let object = serde_json::json!({"metadata": {"name": "web", "labels": labels}, "spec": spec});
        let converted = service(&read(object.clone()));
        assert_eq!((converted.value, converted.refused), (None, vec![]), "{object}");
    }
}

#[test]
fn a_slice_gives_an_endpoint_for_each_address_and_port() {
    let converted = endpoint_slice(&read(serde_json::json!({
        "metadata": {"namespace": "shop", "name": "web-1", "labels": {SERVICE_NAME_LABEL: "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}, {"name": "all"}],
        "endpoints": [
            {"addresses": ["10.0.0.1"], "nodeName": "n1"},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false}},
            {"addresses": ["fd00::1"]},
            {"addresses": ["169.254.0.1"]},
            {"addresses": []},
        ],
    })));
    let slice = converted.value.unwrap();
    assert_eq!(slice.owners, [Owner::Service(ServiceKey::new("shop", "web"))]);
    let seen: Vec<_> =
        slice.endpoints.iter().map(|e| (e.address.to_string(), e.port, e.ready, e.serving, e.terminating)).collect();
    assert_eq!(
        seen,
        [
            ("10.0.0.1".to_owned(), 8080, true, true, false),
            ("10.0.0.2".to_owned(), 8080, false, true, true),
            ("10.0.0.3".to_owned(), 8080, false, false, false),
        ]
    );
    assert_eq!(
        reasons(&converted.refused),
        [
            "EndpointSlice shop/web-1: endpoints.addresses: fd00::1 is not of type IPv4",
            "EndpointSlice shop/web-1: endpoints.addresses: 169.254.0.1 is not an address of one host elsewhere",
        ]
    );
}

#[test]
fn a_slice_of_names_is_refused() {
    let converted = endpoint_slice(&read(serde_json::json!({
        "metadata": {"name": "web-1", "labels": {SERVICE_NAME_LABEL: "web"}},
        "addressType": "FQDN",
        "endpoints": [{"addresses": ["example.org"]}],
    })));
    assert_eq!(converted.value, None);
    assert_eq!(converted.refused.len(), 1);
}

#[test]
fn a_slice_of_an_import_says_its_cluster_and_hints_are_read() {
    let converted = endpoint_slice(&read(serde_json::json!({
        "metadata": {"namespace": "shop", "name": "web-west", "labels": {
            SERVICE_NAME_LABEL: "derived-1",
            "multicluster.kubernetes.io/service-name": "web",
            "multicluster.kubernetes.io/source-cluster": "west",
        }},
        "addressType": "IPv4",
        "ports": [{"port": 80}],
        "endpoints": [{
            "addresses": ["10.9.0.1"],
            "hints": {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]},
        }],
    })));
    let slice = converted.value.unwrap();
    let owners = [Owner::Service(ServiceKey::new("shop", "derived-1")), Owner::Import(ServiceKey::new("shop", "web"))];
    assert_eq!(slice.owners, owners);
    let endpoint = &slice.endpoints[0];
    assert_eq!(endpoint.cluster.as_deref(), Some("west"));
    assert_eq!((endpoint.for_zones.join(","), endpoint.for_nodes.join(",")), ("z1".to_owned(), "n1".to_owned()));
}

#[test]
fn a_health_check_port_is_for_load_balancers_with_policy_local() {
    for (kind, policy, expected) in
        [("LoadBalancer", "Local", Some(32000)), ("LoadBalancer", "Cluster", None), ("NodePort", "Local", None)]
    {
        let converted = service(&read(serde_json::json!({
            "metadata": {"name": "web"},
            "spec": {
                "clusterIP": "10.96.0.1", "type": kind, "externalTrafficPolicy": policy, "healthCheckNodePort": 32000,
            },
        })));
        assert_eq!(converted.value.unwrap().health_check_node_port, expected, "{kind} {policy}");
    }
}

fn import(annotations: serde_json::Value, ips: &[&str], kind: &str) -> Converted<Import> {
    let object: v1alpha1::ServiceImport = read(serde_json::json!({
        "apiVersion": "multicluster.x-k8s.io/v1alpha1",
        "kind": "ServiceImport",
        "metadata": {"namespace": "shop", "name": "web", "annotations": annotations},
        "spec": {
            "type": kind,
            "ips": ips,
            "ports": [{"name": "http", "port": 80}, {"name": "bad", "port": 0}],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            "internalTrafficPolicy": "Local",
        },
    }));
    service_import(&object)
}

#[test]
fn an_import_is_a_service_with_a_choice_of_clusters() {
    let annotations = serde_json::json!({
        CLUSTER_PREFERENCE: "local",
        CLUSTER_WEIGHTS: " west=3, east=0 ",
        "multicluster.kubernetes.io/derived-service": "derived-1",
    });
    let converted = import(annotations, &["10.97.0.1"], "ClusterSetIP");
    let value = converted.value.unwrap();
    assert_eq!(value.derived.as_deref(), Some("derived-1"));
    assert_eq!(value.service.session_affinity, Some(60));
    assert_eq!(value.service.internal_traffic_policy, TrafficPolicy::Local);
    assert_eq!(value.service.ports.len(), 1);
    let clusters = value.service.clusters.unwrap();
    assert!(clusters.prefers_local);
    assert_eq!(clusters.weights, BTreeMap::from([("west".to_owned(), 3), ("east".to_owned(), 0)]));
    assert_eq!(reasons(&converted.refused), ["ServiceImport shop/web: spec.ports.port: 0 is not between 1 and 65535"]);
    for (ips, kind) in [(&["10.97.0.1"][..], "Headless"), (&[], "ClusterSetIP")] {
        assert_eq!(import(serde_json::json!({}), ips, kind).value, None, "{kind}");
    }
}

#[test]
fn a_choice_that_can_not_be_read_is_refused_and_the_default_used() {
    let cases = [
        (CLUSTER_PREFERENCE, "nearest", "\"nearest\" is neither any nor local; any is used"),
        (CLUSTER_WEIGHTS, "west", "\"west\" has no \"=\""),
        (CLUSTER_WEIGHTS, "west=-1", "the weight in \"west=-1\" is no number from 0 to 1000"),
        (CLUSTER_WEIGHTS, "west=+1", "the weight in \"west=+1\" is no number"),
        (CLUSTER_WEIGHTS, "west=1001", "no number from 0 to 1000"),
        (CLUSTER_WEIGHTS, "west=1,west=2", "the cluster in \"west=2\" is missing or stands twice"),
        (CLUSTER_WEIGHTS, "=1", "is missing or stands twice"),
    ];
    for (name, text, words) in cases {
        let converted = import(serde_json::json!({name: text}), &["10.97.0.1"], "ClusterSetIP");
        assert_eq!(converted.value.unwrap().service.clusters, None, "{text}");
        let refused = &converted.refused[0];
        assert_eq!(refused.field, format!("metadata.annotations[{name}]"));
        assert!(refused.reason.contains(words), "{text}: {}", refused.reason);
    }
}
