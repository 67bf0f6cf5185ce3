//! The kinds that are built in: what schema and OpenAPI need to know of each.

/// A kind that the registry knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedKind {
    /// The API group, empty for core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The resource's name in paths.
    pub plural: String,
    /// The kind.
    pub kind: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Whether there is a status subresource.
    pub status: bool,
    /// Whether objects are stored, or only answered (reviews).
    pub stored: bool,
    /// The name of the schema in OpenAPI.
    pub definition: String,
}

impl ServedKind {
    /// Group and version as in `apiVersion`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// The path of the group and version, such as `api/v1` or `apis/apps/v1`.
    pub fn group_path(&self) -> String {
        match self.group.as_str() {
            "" => format!("api/{}", self.version),
            group => format!("apis/{group}/{}", self.version),
        }
    }

    /// The name of the list's schema in OpenAPI.
    pub fn list_definition(&self) -> String {
        format!("{}List", self.definition)
    }
}

/// Group and version as in `apiVersion`.
pub(crate) fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

const NAMESPACED: bool = true;
const CLUSTER: bool = false;

/// Where an object's status is written.
#[derive(Clone, Copy, PartialEq)]
enum Has {
    /// Through a subresource.
    Status,
    /// With everything else, or nowhere.
    NoStatus,
    /// The object is never stored: it is answered.
    Review,
}
use Has::{NoStatus, Review, Status};

const CORE: &str = "io.k8s.api.core.v1";
const APPS: &str = "io.k8s.api.apps.v1";
const AUTHN: &str = "io.k8s.api.authentication.v1";
const AUTHZ: &str = "io.k8s.api.authorization.v1";
const RBAC: &str = "io.k8s.api.rbac.v1";
const CRD: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

#[rustfmt::skip]
const BUILTIN: &[(&str, &str, &str, &str, bool, Has)] = &[
    ("", "namespaces", "Namespace", CORE, CLUSTER, Status),
    ("", "nodes", "Node", CORE, CLUSTER, Status),
    ("", "pods", "Pod", CORE, NAMESPACED, Status),
    ("", "services", "Service", CORE, NAMESPACED, Status),
    ("", "endpoints", "Endpoints", CORE, NAMESPACED, NoStatus),
    ("", "configmaps", "ConfigMap", CORE, NAMESPACED, NoStatus),
    ("", "secrets", "Secret", CORE, NAMESPACED, NoStatus),
    ("", "serviceaccounts", "ServiceAccount", CORE, NAMESPACED, NoStatus),
    ("", "events", "Event", CORE, NAMESPACED, NoStatus),
    ("discovery.k8s.io", "endpointslices", "EndpointSlice", "io.k8s.api.discovery.v1", NAMESPACED, NoStatus),
    ("coordination.k8s.io", "leases", "Lease", "io.k8s.api.coordination.v1", NAMESPACED, NoStatus),
    ("events.k8s.io", "events", "Event", "io.k8s.api.events.v1", NAMESPACED, NoStatus),
    ("apps", "deployments", "Deployment", APPS, NAMESPACED, Status),
    ("apps", "daemonsets", "DaemonSet", APPS, NAMESPACED, Status),
    ("apps", "replicasets", "ReplicaSet", APPS, NAMESPACED, Status),
    ("rbac.authorization.k8s.io", "roles", "Role", RBAC, NAMESPACED, NoStatus),
    ("rbac.authorization.k8s.io", "rolebindings", "RoleBinding", RBAC, NAMESPACED, NoStatus),
    ("rbac.authorization.k8s.io", "clusterroles", "ClusterRole", RBAC, CLUSTER, NoStatus),
    ("rbac.authorization.k8s.io", "clusterrolebindings", "ClusterRoleBinding", RBAC, CLUSTER, NoStatus),
    ("apiextensions.k8s.io", "customresourcedefinitions", "CustomResourceDefinition", CRD, CLUSTER, Status),
    ("authentication.k8s.io", "tokenreviews", "TokenReview", AUTHN, CLUSTER, Review),
    ("authentication.k8s.io", "selfsubjectreviews", "SelfSubjectReview", AUTHN, CLUSTER, Review),
    ("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview", AUTHZ, CLUSTER, Review),
    ("authorization.k8s.io", "selfsubjectaccessreviews", "SelfSubjectAccessReview", AUTHZ, CLUSTER, Review),
    ("authorization.k8s.io", "selfsubjectrulesreviews", "SelfSubjectRulesReview", AUTHZ, CLUSTER, Review),
    ("authorization.k8s.io", "localsubjectaccessreviews", "LocalSubjectAccessReview", AUTHZ, NAMESPACED, Review),
];

/// The built-in kinds.
pub(crate) fn builtin() -> Vec<ServedKind> {
    let kind = |&(group, plural, kind, package, namespaced, has): &(&str, &str, &str, &str, bool, Has)| ServedKind {
        group: group.to_owned(),
        version: "v1".to_owned(),
        plural: plural.to_owned(),
        kind: kind.to_owned(),
        namespaced,
        status: has == Status,
        stored: has != Review,
        definition: format!("{package}.{kind}"),
    };
    BUILTIN.iter().map(kind).collect()
}
