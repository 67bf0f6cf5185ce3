#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

mod generate;
mod schemas;

/// An envelope with an object in it.
fn body(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
    let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), field(1, &meta), field(2, object), field(3, b""), field(4, b"")].concat()
}

/// A field of bytes.
fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// A field of a number.
fn number(number: u64, value: i64) -> Vec<u8> {
    [varint(number << 3), varint(value.cast_unsigned())].concat()
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7f {
        bytes.push((value as u8) | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), without_nulls(v))).collect()
        }
        Value::Array(list) => list.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

fn read(api_version: &str, kind: &str, object: &[u8]) -> Result<Value, String> {
    decode(&body(api_version, kind, object)).map_err(|error| error.to_string())
}

#[test]
fn what_kubectl_sends_is_what_it_means() {
    let lines: Vec<&str> = include_str!("kubectl.txt").lines().filter(|line| !line.starts_with('#')).collect();
    assert!(lines.len() > 40 && lines.len().is_multiple_of(3));
    for lines in lines.chunks(3) {
        let object = decode(&hex(lines[1])).unwrap_or_else(|error| panic!("{}: {error}", lines[0]));
        let meant: Value = serde_json::from_str(lines[2]).unwrap();
        assert_eq!(without_nulls(&object), meant, "{}", lines[0]);
    }
}

#[test]
fn zeros_are_kept_where_a_pointer_leads_to_them() {
    // replicas and revisionHistoryLimit are pointers, minReadySeconds and paused are not.
    let spec = [number(1, 0), number(5, 0), number(6, 0), number(7, 0)].concat();
    let deployment = read("apps/v1", "Deployment", &field(2, &spec)).unwrap();
    assert_eq!(deployment["spec"], json!({"replicas": 0, "revisionHistoryLimit": 0}));
    let account = read("v1", "ServiceAccount", &number(4, 0)).unwrap();
    assert_eq!(account["automountServiceAccountToken"], false);
    let lease = read("coordination.k8s.io/v1", "Lease", &field(2, &field(1, b""))).unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "");
    let slice = read("discovery.k8s.io/v1", "EndpointSlice", &field(4, b"")).unwrap();
    assert_eq!(slice["addressType"], "", "a required field is never left out");
}

#[test]
fn special_types_are_what_they_are_in_json() {
    let fields_v1 = field(1, br#"{"f:data":{}}"#);
    let managed = [field(1, b"kubectl"), field(4, &number(1, 1_700_000_000)), field(7, &fields_v1)].concat();
    let metadata = [field(8, b""), field(9, &[number(1, 0), number(2, 5)].concat()), field(17, &managed)].concat();
    let object = read("v1", "ConfigMap", &[field(1, &metadata), field(3, &field(1, b"k"))].concat()).unwrap();
    let managed = json!([{"manager": "kubectl", "time": "2023-11-14T22:13:20Z", "fieldsV1": {"f:data": {}}}]);
    assert_eq!(object["metadata"], json!({"deletionTimestamp": "1970-01-01T00:00:00Z", "managedFields": managed}));
    assert_eq!(object["binaryData"], json!({"k": ""}), "an entry without a value has an empty one");

    let renewed = [number(1, 1_700_000_000), number(2, 123_456_789)].concat();
    let lease = read("coordination.k8s.io/v1", "Lease", &field(2, &field(4, &renewed))).unwrap();
    assert_eq!(lease["spec"]["renewTime"], "2023-11-14T22:13:20.123456Z");

    let port = |target: &[u8]| field(2, &field(1, &field(4, target)));
    let service = |target: &[u8]| read("v1", "Service", &port(target)).map(|s| s["spec"]["ports"][0].clone());
    assert_eq!(service(&[number(1, 0), number(2, 8080), field(3, b"")].concat()), Ok(json!({"targetPort": 8080})));
    assert_eq!(service(&[number(1, 1), number(2, 0), field(3, b"http")].concat()), Ok(json!({"targetPort": "http"})));
    assert!(service(&number(1, 2)).unwrap_err().contains("spec.ports[0].targetPort: it says neither"));

    let capacity = [field(1, b"cpu"), field(2, &field(1, b"250m"))].concat();
    let node = read("v1", "Node", &field(3, &field(1, &capacity))).unwrap();
    assert_eq!(node["status"]["capacity"], json!({"cpu": "250m"}));

    let extra = [field(1, b"scopes"), field(2, &[field(1, b"a"), field(1, b"b")].concat())].concat();
    let review = read("authorization.k8s.io/v1", "SubjectAccessReview", &field(2, &field(5, &extra))).unwrap();
    assert_eq!(review["spec"]["extra"], json!({"scopes": ["a", "b"]}));
}

#[test]
fn schemas_of_custom_resources_are_read() {
    let text = field(1, &field(5, b"string"));
    let properties = [
        [field(1, b"any"), field(2, &field(30, &number(1, 1)))].concat(),
        [field(1, b"closed"), field(2, &field(30, &number(1, 0)))].concat(),
        [field(1, b"map"), field(2, &field(30, &[number(1, 1), field(2, &field(5, b"string"))].concat()))].concat(),
        [field(1, b"list"), field(2, &field(24, &text))].concat(),
        [field(1, b"tuple"), field(2, &field(24, &field(2, &field(5, b"string"))))].concat(),
        [field(1, b"size"), field(2, &[vec![11 << 3 | 1], 1.5f64.to_le_bytes().to_vec()].concat())].concat(),
        [field(1, b"color"), field(2, &[field(8, &field(1, b"\"red\"")), field(20, &field(1, b"1"))].concat())]
            .concat(),
        [field(1, b"needs"), field(2, &field(32, &[field(1, b"a"), field(2, &field(2, b"b"))].concat()))].concat(),
    ];
    let schema: Vec<u8> = properties.iter().flat_map(|property| field(29, property)).collect();
    let version = field(7, &field(4, &field(1, &schema)));
    let definition = read("apiextensions.k8s.io/v1", "CustomResourceDefinition", &field(2, &version)).unwrap();
    assert_eq!(
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"],
        json!({
            "any": {"additionalProperties": true},
            "closed": {"additionalProperties": false},
            "map": {"additionalProperties": {"type": "string"}},
            "list": {"items": {"type": "string"}},
            "tuple": {"items": [{"type": "string"}]},
            "size": {"minimum": 1.5},
            "color": {"default": "red", "enum": [1]},
            "needs": {"dependencies": {"a": ["b"]}},
        })
    );
}

#[test]
fn options_of_a_deletion_are_of_every_group() {
    let options = [number(1, 0), field(2, &field(1, b"uid")), field(4, b"Foreground"), field(5, b"All")].concat();
    for version in ["v1", "apps/v1", "meta.k8s.io/v1", "policy/v1beta1", "example.com/v7"] {
        let object = read(version, "DeleteOptions", &options).unwrap();
        assert_eq!(object["gracePeriodSeconds"], 0);
        assert_eq!(object["preconditions"], json!({"uid": "uid"}));
        assert_eq!((&object["propagationPolicy"], &object["dryRun"]), (&json!("Foreground"), &json!(["All"])));
    }
}

#[test]
fn what_comes_twice_is_merged_and_the_unknown_is_skipped() {
    let names = [field(1, &field(1, b"a")), field(1, &field(3, b"ns")), field(1, &field(1, b"b"))].concat();
    let unknown = [number(900, 1), field(901, b"x"), vec![0x9b, 0x38, 0x08, 0x01, 0x9c, 0x38]].concat();
    let object = read("v1", "ConfigMap", &[unknown, names].concat()).unwrap();
    assert_eq!(object["metadata"], json!({"name": "b", "namespace": "ns"}));
    let last = [field(1, b"a"), field(1, b"")].concat();
    assert_eq!(read("v1", "ConfigMap", &field(1, &last)).unwrap()["metadata"], json!({}));

    let groups = |groups: &[u8]| read("v1", "Pod", &field(2, &field(14, groups))).unwrap();
    let packed = groups(&field(4, &[varint(1), varint(300)].concat()));
    let single = groups(&[number(4, 1), number(4, 300)].concat());
    assert_eq!(packed["spec"]["securityContext"]["supplementalGroups"], json!([1, 300]));
    assert_eq!(packed, single);
}

#[test]
fn numbers_have_their_bits() {
    let priority = |value| read("v1", "Pod", &field(2, &number(25, value))).unwrap()["spec"]["priority"].clone();
    assert_eq!(priority(-1), -1);
    assert_eq!(priority(i64::from(i32::MIN)), i32::MIN);
    assert_eq!(priority((1 << 32) + 7), 7, "bits that an int32 does not have are cut off");
    let generation = field(1, &number(7, i64::MIN));
    assert_eq!(read("v1", "Pod", &generation).unwrap()["metadata"]["generation"], i64::MIN);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let container = |content: &[u8]| field(2, &[field(2, &field(1, b"ok")), field(2, content)].concat());
    let label = field(1, &field(11, &[field(1, b"app"), field(2, b"\xff")].concat()));
    let table: [(Vec<u8>, &str); 7] = [
        (container(b"\x0a\x05ab"), "Pod: spec.containers[1]: it ends in the middle of a field"),
        (container(b"\x0a\x01\xff"), "Pod: spec.containers[1].name: the text is not UTF-8"),
        (container(&number(1, 1)), "Pod: spec.containers[1].name: it is of another wire type than that field"),
        (label, r#"Pod: metadata.labels["app"]: the text is not UTF-8"#),
        (b"\x0c".to_vec(), "Pod: it has a group that does not end as it began"),
        (field(1, &field(8, &number(1, i64::MAX))), "Pod: metadata.creationTimestamp: the time is outside"),
        (field(1, &field(17, &field(7, &field(1, b"{")))), "metadata.managedFields[0].fieldsV1: the JSON in it"),
    ];
    for (object, wanted) in table {
        let error = read("v1", "Pod", &object).unwrap_err();
        assert!(error.contains(wanted), "{error} should say {wanted}");
    }
}

#[test]
fn other_kinds_and_formats_are_told_apart() {
    let kind = |api_version, kind| decode(&body(api_version, kind, b"")).unwrap_err();
    assert!(matches!(kind("example.com/v1", "Thing"), Error::NotBuiltin { .. }));
    assert!(matches!(kind("kilo.squat.ai/v1alpha1", "Peer"), Error::NotBuiltin { .. }));
    assert!(matches!(kind("v1", "Nothing"), Error::UnknownKind { .. }));
    assert!(matches!(kind("apps/v1beta1", "Deployment"), Error::UnknownKind { .. }));
    assert_eq!(kind("v1", ""), Error::NoKind);
    assert_eq!(decode(b"{}"), Err(Error::Prefix));
    assert_eq!(decode(b"k8s\0"), Err(Error::NoKind));
    assert_eq!(
        decode(b"k8s\0\x0a\x05ab").unwrap_err().to_string().split(": ").last(),
        Some("it ends in the middle of a field")
    );
    let packed = [body("v1", "Pod", b""), field(3, b"gzip")].concat();
    assert!(decode(&packed).unwrap_err().to_string().contains("gzip"));
}

#[test]
fn depth_is_bounded() {
    let mut schema = field(5, b"string");
    for _ in 0..5_000 {
        schema = field(28, &schema);
    }
    let version = field(2, &field(7, &field(4, &field(1, &schema))));
    let error = read("apiextensions.k8s.io/v1", "CustomResourceDefinition", &version).unwrap_err();
    assert!(error.ends_with("it is nested deeper than 120 levels"), "{}", &error[error.len() - 80..]);

    let json = format!("{}1{}", "[".repeat(118), "]".repeat(118));
    let managed = field(1, &field(17, &field(7, &field(1, json.as_bytes()))));
    assert!(read("v1", "Pod", &managed).unwrap_err().contains("nested deeper"));
}

proptest! {
    #[test]
    fn an_object_comes_back_as_it_was((api_version, kind) in prop::sample::select(schemas::KINDS), seed in any::<u64>()) {
        let (bytes, object) = generate::object(api_version, kind, seed);
        prop_assert_eq!(decode(&body(api_version, kind, &bytes)), Ok(object));
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz(&bytes);
    }

    #[test]
    fn no_damage_is_too_strange(
        (api_version, kind) in prop::sample::select(schemas::KINDS),
        seed in any::<u64>(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut body = body(api_version, kind, &generate::object(api_version, kind, seed).0);
        let place = place.index(body.len());
        body[place] = byte;
        let _ = decode(&body);
        let _ = decode(&body[..place]);
    }
}

#[test]
fn every_resource_that_is_served_can_be_written() {
    let known: BTreeSet<(String, String)> =
        schemas::KINDS.iter().map(|(version, kind)| ((*version).to_owned(), (*kind).to_owned())).collect();
    for resource in crate::Resources::builtin().all() {
        let below = resource.subresources.iter().filter(|sub| !sub.kind.kind.ends_with("Options"));
        let kinds = below.map(|sub| sub.kind.clone()).chain([resource.gvk()]);
        for gvk in kinds {
            let kind = (gvk.api_version(), gvk.kind.to_string());
            assert!(known.contains(&kind), "{kind:?} is served");
            assert!(message_of(&kind.0, &kind.1).is_ok(), "{kind:?} can be read");
        }
    }
}
