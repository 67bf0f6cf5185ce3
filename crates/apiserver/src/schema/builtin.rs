//! The schemas of the built-in kinds, compiled once.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value, json};

use super::compiled::KindSchema;
use super::definitions;
use super::kinds::{self, ServedKind};
use super::node::Compiler;

/// The fields that are structs in Kubernetes' own types and so are there before anybody sets anything: ownership of
/// the struct itself is never recorded, only of what is in it.
const STRUCTS: &[(&str, &[(&str, &str)])] = &[
    ("PodTemplateSpec", &[("spec", "PodSpec")]),
    ("Pod", &[("spec", "PodSpec"), ("status", "")]),
    ("Service", &[("spec", ""), ("status", "ServiceStatus")]),
    ("ServiceStatus", &[("loadBalancer", "")]),
    ("Node", &[("spec", ""), ("status", "NodeStatus")]),
    ("NodeStatus", &[("daemonEndpoints", "NodeDaemonEndpoints"), ("nodeInfo", "")]),
    ("NodeDaemonEndpoints", &[("kubeletEndpoint", "")]),
    ("Namespace", &[("spec", ""), ("status", "")]),
    ("Event", &[("involvedObject", ""), ("source", ""), ("regarding", ""), ("deprecatedSource", "")]),
    ("Lease", &[("spec", "")]),
    ("Deployment", &[("spec", "DeploymentSpec"), ("status", "")]),
    ("DeploymentSpec", &[("template", "PodTemplateSpec"), ("strategy", "")]),
    ("DaemonSet", &[("spec", "DaemonSetSpec"), ("status", "")]),
    ("DaemonSetSpec", &[("template", "PodTemplateSpec"), ("updateStrategy", "")]),
    ("ReplicaSet", &[("spec", "ReplicaSetSpec"), ("status", "")]),
    ("ReplicaSetSpec", &[("template", "PodTemplateSpec")]),
    ("RoleBinding", &[("roleRef", "")]),
    ("ClusterRoleBinding", &[("roleRef", "")]),
    (
        "CustomResourceDefinition",
        &[("spec", "CustomResourceDefinitionSpec"), ("status", "CustomResourceDefinitionStatus")],
    ),
    ("CustomResourceDefinitionSpec", &[("names", "")]),
    ("CustomResourceDefinitionStatus", &[("acceptedNames", "")]),
];

/// A kind by group, version and name.
pub(super) type Key = (String, String, String);

/// The built-in kinds with their schemas.
pub(super) struct Builtin {
    pub(super) kinds: Vec<ServedKind>,
    pub(super) schemas: HashMap<Key, Arc<KindSchema>>,
}

/// The built-in kinds with their schemas.
pub(super) fn builtin() -> &'static Builtin {
    static BUILTIN: OnceLock<Builtin> = OnceLock::new();
    BUILTIN.get_or_init(|| {
        let kinds = kinds::builtin();
        let mut compiler = Compiler::new(definitions::builtin());
        let roots: Vec<_> = kinds.iter().map(|kind| compiler.definition(&kind.definition)).collect();
        let (arena, _) = compiler.finish();
        let arena = Arc::new(arena);
        let schemas = kinds.iter().zip(roots).map(|(kind, root)| {
            let schema = KindSchema {
                arena: arena.clone(),
                root,
                has_status: kind.status,
                empty: empty(&kind.kind),
                builtin: true,
            };
            ((kind.group.clone(), kind.version.clone(), kind.kind.clone()), Arc::new(schema))
        });
        Builtin { schemas: schemas.collect(), kinds: kinds.clone() }
    })
}

fn empty(kind: &str) -> Value {
    let mut object = structs(kind);
    object.insert("metadata".to_owned(), json!({}));
    Value::Object(object)
}

fn structs(name: &str) -> Map<String, Value> {
    let mut object = Map::new();
    match name {
        "PodTemplateSpec" => drop(object.insert("metadata".to_owned(), json!({}))),
        // A list that is always written, be it as null.
        "PodSpec" => drop(object.insert("containers".to_owned(), Value::Null)),
        _ => {}
    }
    let fields = STRUCTS.iter().find(|(of, _)| *of == name).map_or(&[][..], |(_, fields)| fields);
    for (field, of) in fields {
        object.insert((*field).to_owned(), Value::Object(structs(of)));
    }
    object
}
