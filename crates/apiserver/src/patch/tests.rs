#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::schema::{MergeSchema, Registry, Schemaless};

const T1: &str = "2024-01-01T00:00:00Z";
const T2: &str = "2024-01-02T00:00:00Z";

fn deployment() -> Arc<dyn MergeSchema> {
    Registry::builtin_schema(("apps", "v1", "Deployment")).unwrap()
}

fn service() -> Arc<dyn MergeSchema> {
    Registry::builtin_schema(("", "v1", "Service")).unwrap()
}

fn with_containers(containers: Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": containers}}}})
}

fn containers(object: &Value) -> &Value {
    &object["spec"]["template"]["spec"]["containers"]
}

#[test]
fn a_merge_patch_does_what_rfc_7386_shows() {
    let cases = [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ];
    for (doc, patch, wanted) in cases {
        assert_eq!(merge(&doc, &patch).unwrap(), wanted);
    }
    assert_eq!(merge(&json!({}), &json!([])).unwrap_err().code, 400);
}

#[test]
fn a_json_patch_that_does_not_fit_is_unprocessable() {
    let doc = json!({"a": [1]});
    let patch = json!([{"op": "test", "path": "/a/0", "value": 1}, {"op": "add", "path": "/a/-", "value": 2}]);
    assert_eq!(json(&doc, &patch).unwrap(), json!({"a": [1, 2]}));
    assert_eq!(json(&doc, &json!([{"op": "remove", "path": "/b"}])).unwrap_err().code, 422);
    assert_eq!(json(&doc, &json!({"op": "remove"})).unwrap_err().code, 400);
    assert_eq!(json(&doc, &json!([{"op": "replace", "path": "", "value": 1}])).unwrap_err().code, 422);
}

#[test]
fn a_json_patch_cannot_blow_an_object_up() {
    let double = json!({"op": "copy", "from": "/a", "path": "/a/-"});
    let patch = Value::Array(vec![double; 60]);
    assert_eq!(json(&json!({"a": ["x"]}), &patch).unwrap_err().code, 413);
    let nest = json!({"op": "copy", "from": "/a", "path": "/a/0/0"});
    let error = json(&json!({"a": [[[]]]}), &Value::Array(vec![nest; 5000])).unwrap_err();
    assert!(matches!(error.code, 413 | 422));
}

#[test]
fn a_strategic_merge_patch_merges_lists_by_key() {
    let schema = deployment();
    let doc =
        with_containers(json!([{"name": "a", "image": "a:1", "env": [{"name": "X", "value": "1"}]}, {"name": "b"}]));
    let cases = [
        (
            json!([{"name": "a", "image": "a:2", "env": [{"name": "Y", "value": "2"}]}]),
            json!([{"name": "a", "image": "a:2", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}, {"name": "b"}]),
        ),
        (json!([{"name": "a", "$patch": "delete"}]), json!([{"name": "b"}])),
        (json!([{"name": "c", "x": null}, {"$patch": "replace"}]), json!([{"name": "c"}])),
        (json!([{"name": "a", "$patch": "replace"}]), json!([])),
        (json!([{"name": "a", "env": null}]), json!([{"name": "a", "image": "a:1"}, {"name": "b"}])),
    ];
    for (patch, wanted) in cases {
        let patched = strategic(&doc, &with_containers(patch.clone()), &*schema).unwrap();
        assert_eq!(containers(&patched), &wanted, "{patch}");
    }
    let error = strategic(&doc, &with_containers(json!([{"image": "x"}])), &*schema).unwrap_err();
    assert_eq!(error.message, "map: {\"image\":\"x\"} does not contain declared merge key: name");
}

#[test]
fn a_strategic_merge_patch_orders_and_deletes() {
    let schema = deployment();
    let doc = with_containers(json!([{"name": "a"}, {"name": "b"}, {"name": "s"}]));
    let patch = json!({"spec": {"template": {"spec": {
        "$setElementOrder/containers": [{"name": "b"}, {"name": "c"}, {"name": "a"}],
        "containers": [{"name": "c"}],
    }}}});
    let patched = strategic(&doc, &patch, &*schema).unwrap();
    assert_eq!(containers(&patched), &json!([{"name": "b"}, {"name": "c"}, {"name": "a"}, {"name": "s"}]));

    let doc = json!({"metadata": {"finalizers": ["a", "b"]}});
    let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"], "finalizers": ["b", "c"]}});
    assert_eq!(strategic(&doc, &patch, &*schema).unwrap(), json!({"metadata": {"finalizers": ["b", "c"]}}));

    let doc = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
    let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    assert_eq!(strategic(&doc, &patch, &*schema).unwrap(), json!({"spec": {"strategy": {"type": "Recreate"}}}));
    let patch = json!({"spec": {"strategy": {"$patch": "replace", "type": "Recreate"}}});
    assert_eq!(strategic(&doc, &patch, &*schema).unwrap(), json!({"spec": {"strategy": {"type": "Recreate"}}}));
}

#[test]
fn lists_that_do_not_merge_are_replaced() {
    let schema = deployment();
    let doc = with_containers(json!([{"name": "a", "args": ["x"]}]));
    let patched = strategic(&doc, &with_containers(json!([{"name": "a", "args": ["y"]}])), &*schema).unwrap();
    assert_eq!(containers(&patched), &json!([{"name": "a", "args": ["y"]}]));
}

struct Applier {
    schema: Arc<dyn MergeSchema>,
    api_version: &'static str,
    kind: &'static str,
}

impl Applier {
    fn deployments() -> Self {
        Applier { schema: deployment(), api_version: "apps/v1", kind: "Deployment" }
    }

    fn apply(
        &self,
        live: Option<&Value>,
        spec: Value,
        manager: &str,
        force: bool,
        time: &str,
    ) -> Result<Value, Status> {
        let applied =
            json!({"apiVersion": self.api_version, "kind": self.kind, "metadata": {"name": "x"}, "spec": spec});
        let opts = ApplyOptions {
            manager: manager.to_owned(),
            force,
            subresource: None,
            time: time.to_owned(),
            api_version: self.api_version.to_owned(),
        };
        server_side_apply(live, &applied, &*self.schema, &opts)
    }
}

fn managers(object: &Value) -> Vec<(String, Value)> {
    let entries = object["metadata"]["managedFields"].as_array();
    let entry = |entry: &Value| (entry["manager"].as_str().unwrap().to_owned(), entry["fieldsV1"].clone());
    entries.into_iter().flatten().map(entry).collect()
}

#[test]
fn what_one_applies_one_owns() {
    let object = Applier::deployments().apply(None, json!({"replicas": 1}), "a", false, T1).unwrap();
    assert_eq!(
        object,
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "x", "managedFields": [{
                "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}},
                "manager": "a", "operation": "Apply", "time": T1,
            }]},
            "spec": {"replicas": 1},
        })
    );
}

#[test]
fn applying_the_same_again_changes_nothing() {
    let applier = Applier::deployments();
    let spec = json!({"replicas": 1, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}});
    let once = applier.apply(None, spec.clone(), "a", false, T1).unwrap();
    assert_eq!(applier.apply(Some(&once), spec, "a", false, T2).unwrap(), once);
}

#[test]
fn a_change_of_anothers_field_is_a_conflict_and_force_takes_it() {
    let applier = Applier::deployments();
    let live = applier.apply(None, json!({"replicas": 1}), "a", false, T1).unwrap();
    let error = applier.apply(Some(&live), json!({"replicas": 2}), "b", false, T2).unwrap_err();
    assert_eq!(error.code, 409);
    assert_eq!(error.message, "Apply failed with 1 conflict: conflict with \"a\": .spec.replicas");
    let causes = &error.details.unwrap().causes;
    assert_eq!(causes[0].reason, "FieldManagerConflict");
    assert_eq!(causes[0].message, "conflict with \"a\"");
    assert_eq!(causes[0].field, ".spec.replicas");

    let forced = applier.apply(Some(&live), json!({"replicas": 2}), "b", true, T2).unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(managers(&forced), [("b".to_owned(), json!({"f:spec": {"f:replicas": {}}}))]);
}

#[test]
fn a_conflict_with_an_updater_names_its_version_and_time() {
    let applier = Applier::deployments();
    let mut live = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replicas": 1, "paused": true}});
    track_update(None, &mut live, "edit", None, &*applier.schema, T1, "apps/v1");
    let error = applier.apply(Some(&live), json!({"replicas": 2, "paused": false}), "b", false, T2).unwrap_err();
    assert_eq!(
        error.message,
        format!(
            "Apply failed with 2 conflicts: conflicts with \"edit\" using apps/v1 at {T1}:\n- .spec.paused\n- .spec.replicas"
        )
    );
}

#[test]
fn the_same_value_is_shared() {
    let applier = Applier::deployments();
    let live = applier.apply(None, json!({"replicas": 1}), "a", false, T1).unwrap();
    let shared = applier.apply(Some(&live), json!({"replicas": 1}), "b", false, T2).unwrap();
    let fields = json!({"f:spec": {"f:replicas": {}}});
    assert_eq!(managers(&shared), [("a".to_owned(), fields.clone()), ("b".to_owned(), fields)]);
    let kept = applier.apply(Some(&shared), json!({"paused": true}), "a", false, T2).unwrap();
    assert_eq!(kept["spec"], json!({"replicas": 1, "paused": true}), "b still owns replicas");
}

#[test]
fn what_is_applied_no_more_goes() {
    let applier = Applier::deployments();
    let both = json!({"replicas": 1, "template": {"spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]}}});
    let live = applier.apply(None, both, "a", false, T1).unwrap();
    let one = json!({"template": {"spec": {"containers": [{"name": "d", "image": "i"}]}}});
    let less = applier.apply(Some(&live), one.clone(), "a", false, T2).unwrap();
    assert_eq!(less["spec"], one);
}

#[test]
fn a_list_item_with_anothers_field_stays() {
    let applier = Applier::deployments();
    let c = |fields: Value| json!({"template": {"spec": {"containers": [fields]}}});
    let live = applier.apply(None, c(json!({"name": "c", "image": "i"})), "a", false, T1).unwrap();
    let live = applier.apply(Some(&live), c(json!({"name": "c", "tty": true})), "b", false, T1).unwrap();
    let left = applier.apply(Some(&live), json!({"replicas": 1}), "a", false, T2).unwrap();
    assert_eq!(
        left["spec"],
        json!({"template": {"spec": {"containers": [{"name": "c", "tty": true}]}}, "replicas": 1})
    );
}

#[test]
fn ports_are_told_apart_by_protocol_with_its_default() {
    let applier = Applier { schema: service(), api_version: "v1", kind: "Service" };
    let live =
        applier.apply(None, json!({"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53}]}), "a", false, T1).unwrap();
    let fields = &live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:ports"];
    assert_eq!(fields["k:{\"port\":53,\"protocol\":\"TCP\"}"], json!({".": {}, "f:port": {}}));
    assert_eq!(fields["k:{\"port\":53,\"protocol\":\"UDP\"}"], json!({".": {}, "f:port": {}, "f:protocol": {}}));
}

#[test]
fn what_does_not_fit_the_schema_cannot_be_applied() {
    let error = Applier::deployments().apply(None, json!({"foo": 1}), "a", false, T1).unwrap_err();
    assert_eq!(error.code, 500);
    assert_eq!(
        error.message,
        "failed to create typed patch object (/x; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema"
    );
    let twice = json!({"template": {"spec": {"containers": [{"name": "c"}, {"name": "c"}]}}});
    assert!(
        Applier::deployments().apply(None, twice, "a", false, T1).unwrap_err().message.contains("duplicate entries")
    );
}

#[test]
fn an_update_owns_what_it_changes() {
    let schema = deployment();
    let mut live = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "labels": {"a": "b"}},
        "spec": {"replicas": 1, "strategy": {"rollingUpdate": {"maxSurge": 1}}, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}},
    });
    track_update(None, &mut live, "create", None, &*schema, T1, "apps/v1");
    assert_eq!(
        managers(&live)[0].1,
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {
                "f:replicas": {},
                "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}},
                "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}}}}},
            },
        })
    );

    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(2);
    track_update(Some(&live), &mut scaled, "scale", None, &*schema, T2, "apps/v1");
    assert_eq!(managers(&scaled)[1], ("scale".to_owned(), json!({"f:spec": {"f:replicas": {}}})));
    assert!(managers(&scaled)[0].1["f:spec"].get("f:replicas").is_none());

    let mut same = scaled.clone();
    track_update(Some(&scaled), &mut same, "other", None, &*schema, T2, "apps/v1");
    assert_eq!(same, scaled, "an update that changes nothing leaves no trace");
}

#[test]
fn the_status_has_managers_of_its_own() {
    let schema = deployment();
    let mut live =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replicas": 1}});
    track_update(None, &mut live, "m", None, &*schema, T1, "apps/v1");
    let mut new = live.clone();
    new["status"] = json!({"replicas": 1});
    track_update(Some(&live), &mut new, "m", Some("status"), &*schema, T2, "apps/v1");
    let entries = new["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1]["subresource"], "status");
    assert_eq!(entries[1]["fieldsV1"], json!({"f:status": {"f:replicas": {}}}));
}

#[test]
fn old_updaters_become_one() {
    let mut live = json!({"metadata": {"name": "x"}});
    track_update(None, &mut live, "m0", None, &Schemaless, T1, "v1");
    live["data"] = json!({});
    for n in 0..15 {
        let mut new = live.clone();
        new["data"][format!("k{n}")] = json!(n);
        let base = if n == 0 { None } else { Some(&live) };
        track_update(base, &mut new, &format!("m{n}"), None, &Schemaless, &format!("2024-01-01T00:00:{n:02}Z"), "v1");
        live = new;
    }
    let managers = managers(&live);
    assert_eq!(managers.len(), 10);
    assert!(managers.iter().any(|(name, _)| name == "ancient-changes"));
}

#[test]
fn kubectl_goes_over_from_client_side_to_server_side_apply() {
    let applier = Applier::deployments();
    let last =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replicas": 1}});
    let mut live = last.clone();
    live["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": last.to_string()});
    track_update(None, &mut live, "kubectl-client-side-apply", None, &*applier.schema, T1, "apps/v1");
    let object = applier.apply(Some(&live), json!({"replicas": 2}), "kubectl", false, T2).unwrap();
    assert_eq!(object["spec"]["replicas"], 2);
    let annotation = &object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    assert!(annotation.as_str().unwrap().contains("\"replicas\":2"));
    assert_eq!(applier.apply(Some(&live), json!({"replicas": 2}), "other", false, T2).unwrap_err().code, 409);
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(str::to_owned)
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0..3i64).prop_map(Value::from),
        "[xy]{0,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn any_object() -> impl Strategy<Value = Value> {
    prop::collection::vec((name(), any_json()), 0..4).prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

/// Deployment specs that share names, so that they overlap.
fn any_spec() -> impl Strategy<Value = Value> {
    let container = (name(), prop::option::of("[xy]"), prop::option::of(prop::collection::vec((name(), "[xy]"), 0..3)));
    let containers = prop::collection::vec(container, 0..4);
    (prop::option::of(0..3i64), containers, prop::collection::vec((name(), "[xy]"), 0..3)).prop_map(
        |(replicas, containers, labels)| {
            let mut seen = std::collections::BTreeSet::new();
            let containers: Vec<Value> = containers
                .into_iter()
                .filter(|(name, ..)| seen.insert(name.clone()))
                .map(|(name, image, env)| {
                    let mut container = json!({"name": name});
                    if let Some(image) = image {
                        container["image"] = json!(image);
                    }
                    if let Some(env) = env {
                        let mut seen = std::collections::BTreeSet::new();
                        let env = env.into_iter().filter(|(name, _)| seen.insert(name.clone()));
                        container["env"] = env.map(|(name, value)| json!({"name": name, "value": value})).collect();
                    }
                    container
                })
                .collect();
            let labels: Map<String, Value> = labels.into_iter().map(|(name, value)| (name, json!(value))).collect();
            let mut spec = json!({"template": {"metadata": {"labels": labels}, "spec": {"containers": containers}}});
            if let Some(replicas) = replicas {
                spec["replicas"] = json!(replicas);
            }
            spec
        },
    )
}

proptest! {
    #[test]
    fn a_merge_patch_is_idempotent(doc in any_object(), patch in any_object()) {
        let once = merge(&doc, &patch).unwrap();
        prop_assert_eq!(merge(&once, &patch).unwrap(), once);
        prop_assert_eq!(merge(&doc, &json!({})).unwrap(), doc);
    }

    #[test]
    fn fields_v1_goes_around(object in any_object()) {
        let mut new = object.clone();
        track_update(None, &mut new, "m", None, &Schemaless, T1, "v1");
        for entry in new["metadata"]["managedFields"].as_array().into_iter().flatten() {
            let set = FieldSet::from_fields_v1(&entry["fieldsV1"]);
            prop_assert_eq!(&set.to_fields_v1(), &entry["fieldsV1"]);
            prop_assert!(set.difference(&set).is_empty());
            prop_assert_eq!(&set.intersection(&set), &set);
            prop_assert_eq!(&set.union(&set), &set);
        }
    }

    #[test]
    fn applying_nothing_after_something_leaves_nothing(first in any_spec(), second in any_spec()) {
        let applier = Applier::deployments();
        let live = applier.apply(None, first, "a", false, T1).unwrap();
        let live = applier.apply(Some(&live), second, "a", false, T1).unwrap();
        let applied = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}});
        let opts = ApplyOptions { manager: "a".into(), time: T2.into(), api_version: "apps/v1".into(), ..Default::default() };
        let none = server_side_apply(Some(&live), &applied, &*applier.schema, &opts).unwrap();
        prop_assert_eq!(none, applied);
    }

    #[test]
    fn what_is_applied_is_there_and_again_changes_nothing(first in any_spec(), second in any_spec()) {
        let applier = Applier::deployments();
        let live = applier.apply(None, first, "a", false, T1).unwrap();
        let forced = applier.apply(Some(&live), second.clone(), "b", true, T1).unwrap();
        prop_assert_eq!(applier.apply(Some(&forced), second.clone(), "b", false, T2).unwrap(), forced.clone());
        let alone = applier.apply(None, second.clone(), "b", false, T1).unwrap();
        let schema = deployment();
        prop_assert_eq!(
            typed::field_set(&*schema, schema.root(), &alone["spec"]).difference(&typed::field_set(&*schema, schema.root(), &forced["spec"])),
            FieldSet::new()
        );
    }

    #[test]
    fn no_patch_makes_the_server_panic(doc in any_json(), patch in any_json()) {
        fuzz(format!("{doc}{patch}").as_bytes());
    }
}
