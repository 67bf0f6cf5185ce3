#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const POD: (&str, &str, &str) = ("", "v1", "Pod");
const DEPLOYMENT: (&str, &str, &str) = ("apps", "v1", "Deployment");
const PEER: (&str, &str, &str) = ("kilo.squat.ai", "v1alpha1", "Peer");

fn peer_crd() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "peers.kilo.squat.ai"},
        "spec": {
            "group": "kilo.squat.ai",
            "names": {"kind": "Peer", "listKind": "PeerList", "plural": "peers", "singular": "peer"},
            "scope": "Cluster",
            "versions": [{
                "name": "v1alpha1",
                "served": true,
                "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "required": ["spec"],
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                        "spec": {
                            "type": "object",
                            "required": ["allowedIPs", "publicKey"],
                            "properties": {
                                "allowedIPs": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {"type": "string", "maxLength": 43},
                                    "x-kubernetes-list-type": "set",
                                },
                                "publicKey": {"type": "string", "pattern": "^[A-Za-z0-9+/]{43}=$"},
                                "endpoint": {
                                    "type": "object",
                                    "required": ["port"],
                                    "properties": {
                                        "port": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 65535},
                                        "dns": {"type": "string"},
                                        "proto": {"type": "string", "enum": ["UDP", "TCP"], "default": "UDP"},
                                    },
                                    "oneOf": [{"required": ["dns"]}, {"required": ["ip"]}],
                                },
                                "persistentKeepalive": {"type": "integer", "default": 0},
                                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                            },
                        },
                        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    },
                }},
            }],
        },
    })
}

fn registry() -> Registry {
    let mut registry = Registry::builtin();
    registry.add_crd(&peer_crd()).unwrap();
    registry
}

fn peer(spec: Value) -> Value {
    json!({"apiVersion": "kilo.squat.ai/v1alpha1", "kind": "Peer", "metadata": {"name": "p"}, "spec": spec})
}

fn errors(spec: Value) -> Vec<String> {
    registry().validate(PEER, &peer(spec)).iter().map(ToString::to_string).collect()
}

const KEY: &str = "GY5aT1N9dTR/nJnT1N2f4ClZWVj0jOAld0r8ysWLyjg=";

#[test]
fn a_custom_resource_is_validated_in_the_real_servers_words() {
    let none: Vec<String> = Vec::new();
    assert_eq!(errors(json!({"allowedIPs": ["10.0.0.0/8"], "publicKey": KEY})), none);
    assert_eq!(errors(json!({"publicKey": KEY})), ["spec.allowedIPs: Required value"]);
    assert_eq!(
        errors(json!({"allowedIPs": [7], "publicKey": KEY})),
        [
            "spec.allowedIPs[0]: Invalid value: \"integer\": spec.allowedIPs[0] in body must be of type string: \"integer\""
        ]
    );
    assert_eq!(
        errors(json!({"allowedIPs": [], "publicKey": "x"})),
        [
            "spec.allowedIPs: Invalid value: []: spec.allowedIPs in body should have at least 1 items",
            "spec.publicKey: Invalid value: \"x\": spec.publicKey in body should match '^[A-Za-z0-9+/]{43}=$'",
        ]
    );
    assert_eq!(
        errors(json!({"allowedIPs": ["a", "a"], "publicKey": KEY})),
        ["spec.allowedIPs[1]: Duplicate value: \"a\""]
    );
    assert_eq!(
        errors(
            json!({"allowedIPs": ["a"], "publicKey": KEY, "endpoint": {"port": 70000, "proto": "SCTP", "dns": "x"}})
        ),
        [
            "spec.endpoint.port: Invalid value: 70000: spec.endpoint.port in body should be less than or equal to 65535",
            "spec.endpoint.proto: Unsupported value: \"SCTP\": supported values: \"UDP\", \"TCP\"",
        ]
    );
    assert_eq!(
        errors(json!({"allowedIPs": ["a"], "publicKey": KEY, "endpoint": {"port": 7}})),
        [
            "spec.endpoint: Invalid value: \"object\": spec.endpoint in body must validate one and only one schema (oneOf). Found none valid"
        ]
    );
}

#[test]
fn a_custom_resource_gets_its_defaults_and_loses_what_is_unknown() {
    let mut object = peer(
        json!({"allowedIPs": ["::/0"], "publicKey": KEY, "endpoint": {"port": 1, "dns": "d", "dsn": "x"}, "foo": 1}),
    );
    object["status"] = json!({"anything": {"goes": true}});
    object["metadata"]["creationTimestamp"] = Value::Null;
    let unknown = registry().default_and_prune(PEER, &mut object);
    assert_eq!(unknown, ["unknown field \"spec.endpoint.dsn\"", "unknown field \"spec.foo\""]);
    assert_eq!(object["spec"]["persistentKeepalive"], json!(0));
    assert_eq!(object["spec"]["endpoint"], json!({"port": 1, "dns": "d", "proto": "UDP"}));
    assert_eq!(object["status"], json!({"anything": {"goes": true}}));
    assert_eq!(registry().validate(PEER, &object), []);
}

#[test]
fn built_in_kinds_get_their_defaults() {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "creationTimestamp": null},
        "spec": {"containers": [{"name": "c", "image": "x/nginx:1", "ports": [{"containerPort": 80}], "foo": 1}]},
    });
    let unknown = Registry::builtin().default_and_prune(POD, &mut pod);
    assert_eq!(unknown, ["unknown field \"spec.containers[0].foo\""]);
    assert_eq!(pod["spec"]["restartPolicy"], "Always");
    assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
    assert_eq!(pod["spec"]["containers"][0]["ports"][0]["protocol"], "TCP");
    assert_eq!(pod["metadata"].get("creationTimestamp"), None);

    let mut service = json!({"spec": {"ports": [{"port": 80}]}});
    Registry::builtin().default_and_prune(("", "v1", "Service"), &mut service);
    assert_eq!(
        service,
        json!({"spec": {
            "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
            "sessionAffinity": "None", "type": "ClusterIP", "internalTrafficPolicy": "Cluster",
        }})
    );
}

#[test]
fn defaults_are_set_once() {
    let registry = Registry::builtin();
    let spec =
        json!({"selector": {}, "template": {"metadata": {}, "spec": {"containers": [{"name": "c", "image": "i"}]}}});
    for kind in ["Deployment", "DaemonSet", "ReplicaSet"] {
        let mut once = json!({"spec": spec});
        registry.default_and_prune(("apps", "v1", kind), &mut once);
        let mut twice = once.clone();
        assert!(registry.default_and_prune(("apps", "v1", kind), &mut twice).is_empty());
        assert_eq!(once, twice);
    }
}

#[test]
fn a_wrong_type_in_a_built_in_kind_is_the_decoders_error() {
    let registry = Registry::builtin();
    let error = |spec: Value| registry.decode_error(DEPLOYMENT, &json!({"spec": spec}));
    let cannot = "Deployment in version \"v1\" cannot be handled as a Deployment: ";
    assert_eq!(
        error(json!({"replicas": "3"})).unwrap(),
        format!(
            "{cannot}json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
        )
    );
    assert_eq!(
        error(json!({"template": {"spec": {"containers": [{"image": 1}]}}})).unwrap(),
        format!(
            "{cannot}json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.image of type string"
        )
    );
    assert_eq!(
        error(json!({"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "x"}}}]}}})).unwrap(),
        format!("{cannot}quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")
    );
    let labels = json!({"metadata": {"labels": {"a": 1}}});
    assert_eq!(
        self::registry().decode_error(PEER, &labels).unwrap(),
        "Peer in version \"v1alpha1\" cannot be handled as a Peer: json: cannot unmarshal number into Go struct field \
         ObjectMeta.metadata.labels.a of type string"
    );
    let fine = json!({"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": 1.5}}, "ports": null}]}}});
    assert_eq!(error(fine), None);
}

#[test]
fn what_a_built_in_kind_must_have() {
    let errors = Registry::builtin().validate(POD, &json!({"spec": {"containers": [{"image": "x"}]}}));
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(errors, ["spec.containers[0].name: Required value"]);
}

#[test]
fn a_crd_that_is_no_structural_schema_is_refused() {
    let mut crd = peer_crd();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["publicKey"] =
        json!({"pattern": "("});
    let errors = Registry::builtin().add_crd(&crd).unwrap_err();
    let at = "spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[publicKey]";
    assert_eq!(errors[0].path, format!("{at}.type"));
    assert_eq!(errors[1].path, format!("{at}.pattern"));
}

#[test]
fn a_crd_can_be_replaced_and_removed() {
    let mut registry = registry();
    registry.add_crd(&peer_crd()).unwrap();
    assert_eq!(registry.kinds().iter().filter(|kind| kind.kind == "Peer").count(), 1);
    assert!(registry.openapi_v3("apis/kilo.squat.ai/v1alpha1").is_some());
    registry.remove_crd(&peer_crd());
    assert!(registry.openapi_v3("apis/kilo.squat.ai/v1alpha1").is_none());
    assert!(!registry.kinds().iter().any(|kind| kind.kind == "Peer"));
}

#[test]
fn openapi_says_that_patches_can_be_dry_and_validated() {
    let document = registry().openapi_v2();
    for path in ["/api/v1/namespaces/{namespace}/pods/{name}", "/apis/kilo.squat.ai/v1alpha1/peers/{name}"] {
        let parameters = document["paths"][path]["patch"]["parameters"].as_array().unwrap();
        for name in ["dryRun", "fieldManager", "fieldValidation", "force"] {
            assert!(parameters.iter().any(|parameter| parameter["name"] == name), "{path} {name}");
        }
    }
    let spec = &document["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(spec["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(spec["x-kubernetes-list-type"], "map");
    let peer = &document["definitions"]["ai.squat.kilo.v1alpha1.Peer"];
    assert_eq!(peer["x-kubernetes-group-version-kind"][0]["kind"], "Peer");
}

#[test]
fn every_reference_of_the_documents_leads_somewhere() {
    fn check(root: &Value, value: &Value) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    assert!(root.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
                }
                map.values().for_each(|value| check(root, value));
            }
            Value::Array(list) => list.iter().for_each(|value| check(root, value)),
            _ => {}
        }
    }
    let registry = registry();
    let document = registry.openapi_v2();
    check(&document, &document);
    let index = registry.openapi_v3_index();
    for (path, entry) in index["paths"].as_object().unwrap() {
        let document = registry.openapi_v3(path).unwrap();
        check(&document, &document);
        assert!(entry["serverRelativeURL"].as_str().unwrap().starts_with(&format!("/openapi/v3/{path}?hash=")));
    }
}

#[test]
fn rules_are_checked_with_the_schema() {
    let mut crd = peer_crd();
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    crd.pointer_mut(spec).unwrap()["x-kubernetes-validations"] = json!([
        {"rule": "self.allowedIPs.all(c, isCIDR(c))", "message": "allowedIPs must be CIDRs", "fieldPath": ".allowedIPs"},
        {"rule": "self.publicKey == oldSelf.publicKey", "message": "a peer is its key"},
    ]);
    let mut registry = Registry::builtin();
    registry.add_crd(&crd).unwrap();
    let errors = |new: Value, old: Option<Value>| -> Vec<String> {
        registry.validate_update(PEER, &peer(new), old.map(peer).as_ref()).iter().map(ToString::to_string).collect()
    };
    let good = json!({"allowedIPs": ["10.0.0.0/8"], "publicKey": KEY});
    assert!(errors(good.clone(), Some(good.clone())).is_empty());
    assert_eq!(
        errors(json!({"allowedIPs": ["10.0.0.0"], "publicKey": KEY}), None),
        ["spec.allowedIPs: Invalid value: \"object\": allowedIPs must be CIDRs"]
    );
    let mut other = good.clone();
    other["publicKey"] = json!(KEY.replace('G', "H"));
    assert_eq!(errors(other, Some(good)), ["spec: Invalid value: \"object\": a peer is its key"]);
    assert_eq!(errors(json!({}), None).len(), 3);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9./:]{0,8}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        "[a-z]{1,3}",
        prop::sample::select(vec![
            "metadata",
            "spec",
            "status",
            "containers",
            "ports",
            "template",
            "allowedIPs",
            "endpoint",
            "labels",
            "name",
            "env",
            "resources",
            "limits"
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone(), inner), 0..5)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_makes_validation_panic(object in any_json()) {
        let registry = registry();
        for kind in registry.kinds() {
            let gvk = (kind.group.as_str(), kind.version.as_str(), kind.kind.as_str());
            let _ = registry.validate(gvk, &object);
            let _ = registry.decode_error(gvk, &object);
            let mut once = object.clone();
            registry.default_and_prune(gvk, &mut once);
            let mut twice = once.clone();
            prop_assert!(registry.default_and_prune(gvk, &mut twice).is_empty());
            prop_assert_eq!(once, twice);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(schema in any_json(), object in any_json()) {
        fuzz(format!("{schema}{object}").as_bytes());
    }

    #[test]
    fn no_crd_makes_the_registry_panic(schema in any_json()) {
        let mut crd = peer_crd();
        *crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap() = schema;
        let mut registry = Registry::builtin();
        if registry.add_crd(&crd).is_ok() {
            let _ = registry.openapi_v2_protobuf();
        }
    }
}
