//! The table of the built-in resources.

use super::{Gvk, Gvr, Resource, Subresource, VERBS};

/// Group, version, plural, kind, short names, categories, scope, verbs, subresources.
type Row = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
    Scope,
    &'static [&'static str],
    &'static [Below],
);

/// Name, kind with group and version (empty for the resource's own) and verbs.
type Below = (&'static str, (&'static str, &'static str, &'static str), &'static [&'static str]);

#[derive(Clone, Copy, PartialEq)]
enum Scope {
    Cluster,
    Namespaced,
}
use Scope::{Cluster, Namespaced};

const ALL: &[&str] = &VERBS;
/// Services and namespaces have no `deletecollection` of their own: services do since 1.21.
const NO_COLLECTION: &[&str] = &["create", "delete", "get", "list", "patch", "update", "watch"];
const POST: &[&str] = &["create"];
const EDIT: &[&str] = &["get", "patch", "update"];
const CONNECT: &[&str] = &["create", "get"];
const OWN: (&str, &str, &str) = ("", "", "");
const STATUS: Below = ("status", OWN, EDIT);
const SCALE: Below = ("scale", ("autoscaling", "v1", "Scale"), EDIT);
const RBAC: &str = "rbac.authorization.k8s.io";

const ROWS: &[Row] = &[
    ("", "v1", "bindings", "Binding", &[], &[], Namespaced, POST, &[]),
    ("", "v1", "configmaps", "ConfigMap", &["cm"], &[], Namespaced, ALL, &[]),
    ("", "v1", "endpoints", "Endpoints", &["ep"], &[], Namespaced, ALL, &[]),
    ("", "v1", "events", "Event", &["ev"], &[], Namespaced, ALL, &[]),
    (
        "",
        "v1",
        "namespaces",
        "Namespace",
        &["ns"],
        &[],
        Cluster,
        NO_COLLECTION,
        &[("finalize", OWN, &["update"]), STATUS],
    ),
    ("", "v1", "nodes", "Node", &["no"], &[], Cluster, ALL, &[STATUS]),
    (
        "",
        "v1",
        "pods",
        "Pod",
        &["po"],
        &["all"],
        Namespaced,
        ALL,
        &[
            ("attach", ("", "v1", "PodAttachOptions"), CONNECT),
            ("binding", ("", "v1", "Binding"), POST),
            ("eviction", ("policy", "v1", "Eviction"), POST),
            ("exec", ("", "v1", "PodExecOptions"), CONNECT),
            ("log", OWN, &["get"]),
            STATUS,
        ],
    ),
    ("", "v1", "secrets", "Secret", &[], &[], Namespaced, ALL, &[]),
    (
        "",
        "v1",
        "serviceaccounts",
        "ServiceAccount",
        &["sa"],
        &[],
        Namespaced,
        ALL,
        &[("token", ("authentication.k8s.io", "v1", "TokenRequest"), POST)],
    ),
    ("", "v1", "services", "Service", &["svc"], &["all"], Namespaced, ALL, &[STATUS]),
    (
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        &["crd", "crds"],
        &["api-extensions"],
        Cluster,
        ALL,
        &[STATUS],
    ),
    ("apps", "v1", "daemonsets", "DaemonSet", &["ds"], &["all"], Namespaced, ALL, &[STATUS]),
    ("apps", "v1", "deployments", "Deployment", &["deploy"], &["all"], Namespaced, ALL, &[SCALE, STATUS]),
    ("apps", "v1", "replicasets", "ReplicaSet", &["rs"], &["all"], Namespaced, ALL, &[SCALE, STATUS]),
    ("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", &[], &[], Cluster, POST, &[]),
    ("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", &[], &[], Cluster, POST, &[]),
    (
        "authorization.k8s.io",
        "v1",
        "localsubjectaccessreviews",
        "LocalSubjectAccessReview",
        &[],
        &[],
        Namespaced,
        POST,
        &[],
    ),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", &[], &[], Cluster, POST, &[]),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", &[], &[], Cluster, POST, &[]),
    ("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", &[], &[], Cluster, POST, &[]),
    ("coordination.k8s.io", "v1", "leases", "Lease", &[], &[], Namespaced, ALL, &[]),
    ("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", &[], &[], Namespaced, ALL, &[]),
    ("events.k8s.io", "v1", "events", "Event", &["ev"], &[], Namespaced, ALL, &[]),
    (RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", &[], &[], Cluster, ALL, &[]),
    (RBAC, "v1", "clusterroles", "ClusterRole", &[], &[], Cluster, ALL, &[]),
    (RBAC, "v1", "rolebindings", "RoleBinding", &[], &[], Namespaced, ALL, &[]),
    (RBAC, "v1", "roles", "Role", &[], &[], Namespaced, ALL, &[]),
];

/// The built-in resources, those of a group and version together.
pub(super) fn resources() -> impl Iterator<Item = Resource> {
    ROWS.iter().map(resource)
}

fn resource(row: &Row) -> Resource {
    let (group, version, plural, kind, short_names, categories, scope, verbs, below) = *row;
    let gvr = Gvr::new(group, version, plural);
    let subresource = |(name, (group_of, version_of, kind_of), verbs): &Below| Subresource {
        name: (*name).to_owned(),
        kind: if kind_of.is_empty() { Gvk::new(group, version, kind) } else { Gvk::new(group_of, version_of, kind_of) },
        verbs: verbs.to_vec(),
    };
    // An event is the same object in both of its groups.
    let storage =
        if (group, plural) == ("events.k8s.io", "events") { Gvr::new("", "v1", "events") } else { gvr.clone() };
    Resource {
        gvr,
        kind: kind.into(),
        list_kind: format!("{kind}List").into(),
        singular: kind.to_lowercase(),
        short_names: short_names.iter().map(|s| (*s).to_owned()).collect(),
        categories: categories.iter().map(|s| (*s).to_owned()).collect(),
        namespaced: scope == Namespaced,
        verbs: verbs.to_vec(),
        subresources: below.iter().map(subresource).collect(),
        storage,
        custom: None,
    }
}
