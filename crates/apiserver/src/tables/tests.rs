#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;

use super::*;

const NOW: OffsetDateTime = datetime!(2026-11-21 12:00:00 UTC);
const AN_HOUR_AGO: &str = "2026-11-21T11:00:00Z";

/// The cells as text, as kubectl shows them.
fn shown(printer: &Printer, object: &Value) -> Vec<String> {
    let cells = printer.cells(object, NOW);
    assert_eq!(cells.len(), printer.columns().len());
    cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect()
}

fn titles(printer: &Printer) -> String {
    printer.columns().iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(" | ")
}

fn with_metadata(mut object: Value) -> Value {
    let metadata = object.as_object_mut().unwrap().entry("metadata").or_insert_with(|| json!({}));
    metadata["name"] = json!("x");
    metadata["creationTimestamp"] = json!(AN_HOUR_AGO);
    object
}

#[test]
fn ages_have_at_most_two_units() {
    let (minute, hour, day) = (60, 3600, 86400);
    let table = [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (5, "5s"),
        (119, "119s"),
        (120, "2m"),
        (3 * minute + 12, "3m12s"),
        (10 * minute + 12, "10m"),
        (179 * minute, "179m"),
        (3 * hour, "3h"),
        (5 * hour + 7 * minute, "5h7m"),
        (8 * hour + 7 * minute, "8h"),
        (47 * hour, "47h"),
        (2 * day, "2d"),
        (2 * day + 4 * hour, "2d4h"),
        (8 * day + 4 * hour, "8d"),
        (500 * day, "500d"),
        (2 * 365 * day, "2y"),
        (3 * 365 * day + 120 * day, "3y120d"),
        (9 * 365 * day + 120 * day, "9y"),
    ];
    for (seconds, expected) in table {
        assert_eq!(human_duration(seconds), expected, "{seconds}");
    }
}

#[test]
fn every_kind_shows_its_columns() {
    let table = [
        (
            ("", "Node"),
            "Name | Status | Roles | Age | Version | Internal-IP | External-IP | OS-Image | Kernel-Version | Container-Runtime",
            json!({
                "metadata": {"labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}},
                "spec": {"unschedulable": true},
                "status": {
                    "conditions": [{"type": "Ready", "status": "True"}],
                    "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                    "nodeInfo": {"kubeletVersion": "v1.33.0", "osImage": "Debian"},
                },
            }),
            "x | Ready,SchedulingDisabled | control-plane,worker | 60m | v1.33.0 | 10.0.0.1 | <none> | Debian | <unknown> | <unknown>",
        ),
        (
            ("", "Service"),
            "Name | Type | Cluster-IP | External-IP | Port(s) | Age | Selector",
            json!({"spec": {
                "type": "NodePort",
                "clusterIP": "10.96.0.1",
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
                "selector": {"b": "2", "a": "1"},
            }}),
            "x | NodePort | 10.96.0.1 | <none> | 80:30080/TCP,53/UDP | 60m | a=1,b=2",
        ),
        (
            ("", "Service"),
            "Name | Type | Cluster-IP | External-IP | Port(s) | Age | Selector",
            json!({"spec": {"type": "LoadBalancer", "clusterIP": "None"}}),
            "x | LoadBalancer | None | <pending> | <none> | 60m | <none>",
        ),
        (
            ("", "Endpoints"),
            "Name | Endpoints | Age",
            json!({"subsets": [{
                "addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
                "ports": [{"port": 80}, {"port": 81}],
            }]}),
            "x | 10.0.0.1:80,[fd00::1]:80,10.0.0.1:81 + 1 more... | 60m",
        ),
        (("", "Endpoints"), "Name | Endpoints | Age", json!({}), "x | <none> | 60m"),
        (
            ("discovery.k8s.io", "EndpointSlice"),
            "Name | AddressType | Ports | Endpoints | Age",
            json!({"addressType": "IPv4", "ports": [{"port": 80}, {}], "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]}),
            "x | IPv4 | 80,* | 10.0.0.1,10.0.0.2 | 60m",
        ),
        (
            ("discovery.k8s.io", "EndpointSlice"),
            "Name | AddressType | Ports | Endpoints | Age",
            json!({"addressType": "IPv6"}),
            "x | IPv6 | <unset> | <unset> | 60m",
        ),
        (("", "Namespace"), "Name | Status | Age", json!({"status": {"phase": "Active"}}), "x | Active | 60m"),
        (("", "ConfigMap"), "Name | Data | Age", json!({"data": {"a": "1"}, "binaryData": {"b": ""}}), "x | 2 | 60m"),
        (
            ("", "Secret"),
            "Name | Type | Data | Age",
            json!({"type": "Opaque", "data": {"a": ""}}),
            "x | Opaque | 1 | 60m",
        ),
        (("", "ServiceAccount"), "Name | Secrets | Age", json!({}), "x | 0 | 60m"),
        (
            ("coordination.k8s.io", "Lease"),
            "Name | Holder | Age",
            json!({"spec": {"holderIdentity": "me"}}),
            "x | me | 60m",
        ),
        (
            ("", "Event"),
            "Last Seen | Type | Reason | Object | Subobject | Source | Message | First Seen | Count | Name",
            json!({
                "type": "Warning", "reason": "Failed", "message": "no\n", "count": 3,
                "involvedObject": {"kind": "Pod", "name": "a", "fieldPath": "spec.containers{b}"},
                "source": {"component": "kubelet", "host": "n1"},
                "firstTimestamp": AN_HOUR_AGO, "lastTimestamp": "2026-11-21T11:59:50Z",
            }),
            "10s | Warning | Failed | pod/a | spec.containers{b} | kubelet, n1 | no | 60m | 3 | x",
        ),
        (
            ("events.k8s.io", "Event"),
            "Last Seen | Type | Reason | Object | Subobject | Source | Message | First Seen | Count | Name",
            json!({
                "type": "Normal", "reason": "Seen", "note": "yes", "eventTime": "2026-11-21T11:58:00.000000Z",
                "regarding": {"kind": "Peer", "name": "a"}, "reportingController": "tombolo", "reportingInstance": "n1",
            }),
            "2m | Normal | Seen | peer/a |  | tombolo, n1 | yes | 2m | 1 | x",
        ),
        (
            ("apps", "Deployment"),
            "Name | Ready | Up-to-date | Available | Age | Containers | Images | Selector",
            json!({
                "spec": {
                    "replicas": 3,
                    "selector": {"matchLabels": {"app": "web"}},
                    "template": {"spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]}},
                },
                "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1},
            }),
            "x | 2/3 | 3 | 1 | 60m | a,b | i,j | app=web",
        ),
        (
            ("apps", "ReplicaSet"),
            "Name | Desired | Current | Ready | Age | Containers | Images | Selector",
            json!({"spec": {"replicas": 2}, "status": {"replicas": 2}}),
            "x | 2 | 2 | 0 | 60m |  |  | <none>",
        ),
        (
            ("apps", "DaemonSet"),
            "Name | Desired | Current | Ready | Up-to-date | Available | Node Selector | Age | Containers | Images | Selector",
            json!({"status": {"desiredNumberScheduled": 2, "currentNumberScheduled": 2, "numberReady": 1}}),
            "x | 2 | 2 | 1 | 0 | 0 | <none> | 60m |  |  | <none>",
        ),
        (
            ("apiextensions.k8s.io", "CustomResourceDefinition"),
            "Name | Created At",
            json!({}),
            "x | 2026-11-21T11:00:00Z",
        ),
        (("rbac.authorization.k8s.io", "Role"), "Name | Age", json!({}), "x | 60m"),
    ];
    for ((group, kind), columns, object, expected) in table {
        let printer = Printer::builtin(group, kind);
        assert_eq!(titles(&printer), columns, "{kind}");
        assert_eq!(shown(&printer, &with_metadata(object)).join(" | "), expected, "{kind}");
    }
}

#[test]
fn pods_show_what_their_containers_do() {
    let two = json!([{"name": "a"}, {"name": "b"}]);
    let running = |name: &str| json!({"name": name, "ready": true, "state": {"running": {}}});
    let table = [
        (json!({"spec": {"containers": two}, "status": {"phase": "Pending"}}), "x | 0/2 | Pending | 0"),
        (
            json!({"spec": {"containers": two}, "status": {"phase": "Running", "containerStatuses": [running("a"), running("b")]}}),
            "x | 2/2 | Running | 0",
        ),
        (
            json!({"spec": {"containers": two}, "status": {"phase": "Running", "containerStatuses": [
                running("a"),
                {"name": "b", "restartCount": 4, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"finishedAt": "2026-11-21T11:59:00Z"}}},
            ]}}),
            "x | 1/2 | CrashLoopBackOff | 4 (60s ago)",
        ),
        (
            json!({"spec": {"containers": two}, "status": {"phase": "Succeeded", "containerStatuses": [
                {"name": "a", "state": {"terminated": {"reason": "Completed"}}},
            ]}}),
            "x | 0/2 | Completed | 0",
        ),
        (
            json!({"spec": {"containers": two}, "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [
                {"name": "a", "state": {"terminated": {"reason": "Completed"}}}, running("b"),
            ]}}),
            "x | 1/2 | Running | 0",
        ),
        (
            json!({"spec": {"containers": two}, "status": {"phase": "Failed", "containerStatuses": [{"name": "a", "state": {"terminated": {"exitCode": 3}}}]}}),
            "x | 0/2 | ExitCode:3 | 0",
        ),
        (
            json!({"metadata": {"deletionTimestamp": AN_HOUR_AGO}, "spec": {"containers": two}, "status": {"phase": "Running"}}),
            "x | 0/2 | Terminating | 0",
        ),
        (
            json!({"spec": {"containers": two, "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]}, "status": {"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"running": {}}},
            ]}}),
            "x | 0/3 | Init:0/2 | 0",
        ),
        (
            json!({"spec": {"containers": two, "initContainers": [{"name": "i"}]}, "status": {"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "state": {"terminated": {"exitCode": 1}}},
            ]}}),
            "x | 0/2 | Init:ExitCode:1 | 0",
        ),
        (
            json!({"spec": {"containers": two}, "status": {"phase": "Failed", "reason": "Evicted"}}),
            "x | 0/2 | Evicted | 0",
        ),
    ];
    for (pod, expected) in table {
        let cells = shown(&Printer::builtin("", "Pod"), &with_metadata(pod));
        assert_eq!(cells[..4].join(" | "), expected);
    }

    let wide = json!({
        "spec": {"nodeName": "n1", "readinessGates": [{"conditionType": "g"}]},
        "status": {"podIPs": [{"ip": "10.0.0.9"}], "conditions": [{"type": "g", "status": "True"}]},
    });
    let cells = shown(&Printer::builtin("", "Pod"), &with_metadata(wide));
    assert_eq!(cells[4..].join(" | "), "60m | 10.0.0.9 | n1 | <none> | 1/1");
}

#[test]
fn custom_resources_show_their_own_columns() {
    let columns = json!([
        {"name": "IPs", "type": "string", "jsonPath": ".spec.allowedIPs"},
        {"name": "First", "type": "string", "jsonPath": ".spec.allowedIPs[0]"},
        {"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
        {"name": "Port", "type": "integer", "jsonPath": ".spec.endpoint.port"},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp", "priority": 1},
        {"name": "Missing", "type": "string", "jsonPath": ".spec.missing"},
        {"name": "Broken", "type": "string", "jsonPath": ".spec["},
    ]);
    let object = with_metadata(json!({
        "spec": {"allowedIPs": ["10.4.0.1/32", "fd00::/64"], "endpoint": {"port": 51820}},
        "status": {"conditions": [{"type": "Other", "status": "False"}, {"type": "Ready", "status": "True"}]},
    }));
    let printer = Printer::custom(Some(&columns));
    assert_eq!(titles(&printer), "Name | IPs | First | Ready | Port | Age | Missing | Broken");
    let expected = json!(["x", "[\"10.4.0.1/32\",\"fd00::/64\"]", "10.4.0.1/32", "True", 51820, "60m", null, null]);
    assert_eq!(json!(printer.cells(&object, NOW)), expected);
    assert_eq!(printer.columns()[5].priority, 1);

    let plain = Printer::custom(None);
    assert_eq!(shown(&plain, &object).join(" | "), "x | 60m");
}

#[test]
fn json_paths_find_values() {
    let object = json!({"a": {"b": [1, 2, 3], "c.d": "x"}, "l": [{"n": "p", "v": 1}, {"n": "q", "v": 5}]});
    let table = [
        (".a.b[0]", json!([1])),
        ("{.a.b[-1]}", json!([3])),
        ("$.a.b[1:]", json!([2, 3])),
        (".a.b[*]", json!([1, 2, 3])),
        (".a.b[::2]", json!([1, 3])),
        (".a['c.d']", json!(["x"])),
        (".a.c\\.d", json!(["x"])),
        (".l[?(@.n==\"q\")].v", json!([5])),
        (".l[?(@.n == 'p')].v", json!([1])),
        (".l[?(@.v > 2)].n", json!(["q"])),
        (".l[?(@.v)].n", json!(["p", "q"])),
        ("..v", json!([1, 5])),
        (".nothing[0].here", json!([])),
        (".", json!([object])),
    ];
    for (path, expected) in table {
        assert_eq!(json!(JsonPath::parse(path).unwrap().find(&object)), expected, "{path}");
    }
    for path in [".a[", ".a]", ".a[?(@.b]", ".a['b", ".a b", ".a[?(@.b==x)]"] {
        assert!(JsonPath::parse(path).is_err(), "{path}");
    }
}

#[test]
fn a_table_carries_what_was_asked_for() {
    let object = Arc::new(with_metadata(json!({"kind": "Pod", "apiVersion": "v1", "status": {"phase": "Succeeded"}})));
    let table = |include_object, headers| {
        let options = TableOptions { include_object, headers, now: NOW, ..TableOptions::default() };
        render(&Printer::builtin("", "Pod"), std::slice::from_ref(&object), json!({"resourceVersion": "7"}), &options)
    };
    let metadata = table(IncludeObject::Metadata, true);
    assert_eq!(metadata["kind"], "Table");
    assert_eq!(metadata["apiVersion"], "meta.k8s.io/v1");
    assert_eq!(metadata["metadata"]["resourceVersion"], "7");
    let column = &metadata["columnDefinitions"][0];
    assert_eq!(
        (&column["name"], &column["type"], &column["format"]),
        (&json!("Name"), &json!("string"), &json!("name"))
    );
    assert_eq!(metadata["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(metadata["rows"][0]["object"]["metadata"]["name"], "x");
    assert_eq!(metadata["rows"][0]["conditions"][0]["type"], "Completed");
    assert_eq!(table(IncludeObject::Object, true)["rows"][0]["object"], *object);
    let bare = table(IncludeObject::None, false);
    assert_eq!(bare["rows"][0].get("object"), None);
    assert_eq!(bare["columnDefinitions"], json!([]));
    assert!(IncludeObject::parse("Everything").is_err());
}

proptest! {
    #[test]
    fn any_json_path_is_read_or_refused(path in "[a.\\[\\]?()@='0-9:*$\\\\-]{0,20}|\\PC{0,12}") {
        let object = json!({"a": [{"a": 1}, [2, 3]], "0": {"a": "x"}});
        let _ = JsonPath::parse(&path).map(|path| path.find(&object).len());
    }
}
