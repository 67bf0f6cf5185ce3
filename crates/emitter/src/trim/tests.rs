#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

/// Metadata as a kube-apiserver has it.
fn full() -> Value {
    json!({
        "name": "web", "namespace": "shop", "uid": "u1", "resourceVersion": "77", "generation": 3,
        "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"app": "web"}, "finalizers": ["example.com/wait"],
        "deletionTimestamp": "2026-01-02T00:00:00Z", "selfLink": "/x", "generateName": "web-",
        "annotations": {"note": "hello", LAST_APPLIED: "{}"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "owner", "uid": "u2"}],
        "managedFields": [{"manager": "kubectl", "operation": "Apply", "apiVersion": "v1"}],
    })
}

/// What is left of it.
fn kept() -> Value {
    json!({
        "name": "web", "namespace": "shop", "uid": "u1", "creationTimestamp": "2026-01-01T00:00:00Z",
        "labels": {"app": "web"}, "annotations": {"note": "hello"},
    })
}

fn value(object: impl serde::Serialize) -> Value {
    serde_json::to_value(object).unwrap()
}

#[test]
fn of_a_service_there_is_left_how_it_is_reached() {
    let reached = json!({
        "clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00::10"], "ipFamilies": ["IPv4", "IPv6"],
        "ipFamilyPolicy": "PreferDualStack", "internalTrafficPolicy": "Cluster", "trafficDistribution": "PreferClose",
        "publishNotReadyAddresses": true, "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}, "type": "LoadBalancer",
        "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP", "appProtocol": "http"}],
    });
    let mut spec = reached.clone();
    spec["ports"][0]["nodePort"] = json!(30080);
    for (field, internal) in [
        ("selector", json!({"app": "web"})),
        ("externalIPs", json!(["192.0.2.1"])),
        ("loadBalancerIP", json!("192.0.2.2")),
        ("loadBalancerClass", json!("x")),
        ("loadBalancerSourceRanges", json!(["192.0.2.0/24"])),
        ("healthCheckNodePort", json!(30081)),
        ("externalTrafficPolicy", json!("Local")),
        ("allocateLoadBalancerNodePorts", json!(true)),
    ] {
        spec[field] = internal;
    }
    let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}]}});
    let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": full(), "spec": spec, "status": status});
    let trimmed = value(service(serde_json::from_value(object).unwrap()));
    assert_eq!(trimmed, json!({"apiVersion": "v1", "kind": "Service", "metadata": kept(), "spec": reached}));
}

#[test]
fn of_an_external_name_the_name_is_left() {
    let spec = json!({"type": "ExternalName", "externalName": "db.example.com"});
    let object = json!({"metadata": {"name": "db", "annotations": {LAST_APPLIED: "{}"}}, "spec": spec});
    let trimmed = value(service(serde_json::from_value(object).unwrap()));
    assert_eq!(trimmed["spec"], spec);
    assert_eq!(trimmed["metadata"], json!({"name": "db"}));
}

#[test]
fn of_endpoints_zones_and_hostnames_are_left_but_no_nodes_and_pods() {
    let conditions = json!({"ready": true, "serving": true, "terminating": false});
    let object = json!({
        "metadata": full(), "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{
            "addresses": ["10.0.0.1"], "conditions": conditions, "hostname": "web-0", "zone": "a", "nodeName": "n1",
            "targetRef": {"kind": "Pod", "name": "web-0"}, "hints": {"forZones": [{"name": "a"}]},
            "deprecatedTopology": {"kubernetes.io/hostname": "n1"},
        }],
    });
    let trimmed = value(endpoint_slice(serde_json::from_value(object).unwrap()));
    let left = json!([{"addresses": ["10.0.0.1"], "conditions": conditions, "hostname": "web-0", "zone": "a"}]);
    assert_eq!((&trimmed["endpoints"], &trimmed["metadata"]), (&left, &kept()));
    assert_eq!(trimmed["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP"}]));

    let address = |ip: &str| json!({"ip": ip, "hostname": "web-0", "nodeName": "n1", "targetRef": {"kind": "Pod"}});
    let object = json!({
        "metadata": full(),
        "subsets": [{
            "addresses": [address("10.0.0.1")], "notReadyAddresses": [address("10.0.0.2")], "ports": [{"port": 80}],
        }],
    });
    let trimmed = value(endpoints(serde_json::from_value(object).unwrap()));
    let left = json!([{
        "addresses": [{"ip": "10.0.0.1", "hostname": "web-0"}], "ports": [{"port": 80}],
        "notReadyAddresses": [{"ip": "10.0.0.2", "hostname": "web-0"}],
    }]);
    assert_eq!((&trimmed["subsets"], &trimmed["metadata"]), (&left, &kept()));
}

#[test]
fn exports_properties_and_namespaces_keep_what_they_say_and_lose_their_status() {
    let condition = json!({
        "type": "Valid", "status": "True", "reason": "Valid", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let object = json!({
        "metadata": full(), "spec": {"exportedLabels": {"a": "b"}}, "status": {"conditions": [condition]},
    });
    let trimmed = value(service_export(serde_json::from_value(object).unwrap()));
    assert_eq!(trimmed["spec"]["exportedLabels"], json!({"a": "b"}));
    assert!(trimmed.get("status").is_none(), "{trimmed}");
    let object = json!({"metadata": {"name": "cluster.clusterset.k8s.io"}, "spec": {"value": "tokyo"}, "status": {}});
    let trimmed = value(cluster_property(serde_json::from_value(object).unwrap()));
    assert_eq!(trimmed["spec"], json!({"value": "tokyo"}));
    let object = json!({"metadata": {"name": "shop"}, "spec": {"finalizers": ["kubernetes"]}, "status": {}});
    let trimmed = value(namespace(serde_json::from_value(object).unwrap()));
    assert_eq!(trimmed, json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}));
}
