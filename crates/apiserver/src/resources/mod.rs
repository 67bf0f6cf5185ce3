//! Which resources are served: the built-in ones, and those that CustomResourceDefinitions add at run time.

mod builtin;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use crate::object;

/// A resource: `deployments` of `apps/v1`. The core group is `""`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvr {
    /// The API group.
    pub group: Arc<str>,
    /// The version.
    pub version: Arc<str>,
    /// The plural name in lower case.
    pub resource: Arc<str>,
}

/// A kind: `Deployment` of `apps/v1`. The core group is `""`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Gvk {
    /// The API group.
    pub group: Arc<str>,
    /// The version.
    pub version: Arc<str>,
    /// The kind.
    pub kind: Arc<str>,
}

/// One resource in one version, as it is served.
#[derive(Debug, Clone)]
pub struct Resource {
    /// Its name.
    pub gvr: Gvr,
    /// The kind of its objects.
    pub kind: Arc<str>,
    /// The kind of a list of them.
    pub list_kind: Arc<str>,
    /// Its name in the singular.
    pub singular: String,
    /// What `kubectl` may call it.
    pub short_names: Vec<String>,
    /// Such as `all`.
    pub categories: Vec<String>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What can be done with it.
    pub verbs: Vec<&'static str>,
    /// What is below an object: `status`, `scale`, …
    pub subresources: Vec<Subresource>,
    /// Where its objects are stored; several versions or groups may share a storage.
    pub storage: Gvr,
    /// What it is defined by, if it is not built in.
    pub custom: Option<Arc<Custom>>,
}

/// A subresource, as discovery shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subresource {
    /// Such as `status`.
    pub name: String,
    /// The kind that it speaks, where it isn't the resource's own.
    pub kind: Gvk,
    /// What can be done with it.
    pub verbs: Vec<&'static str>,
}

/// One version of a custom resource.
#[derive(Debug, Clone)]
pub struct Custom {
    /// The CustomResourceDefinition's name.
    pub crd: String,
    /// The entry of `spec.versions`.
    pub version: Value,
    /// `additionalPrinterColumns` of it.
    pub columns: Vec<Value>,
    /// Whether it has a status subresource.
    pub status: bool,
    /// The scale subresource's paths, if it has one.
    pub scale: Option<Value>,
}

/// All resources. Clones share them.
#[derive(Debug, Clone)]
pub struct Resources {
    served: Arc<RwLock<Arc<Served>>>,
}

#[derive(Debug, Default, Clone)]
struct Served {
    order: Vec<Arc<Resource>>,
    index: HashMap<Gvr, Arc<Resource>>,
}

/// The verbs of a resource that is stored.
pub(crate) const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

impl Gvr {
    /// A resource by its parts.
    pub fn new(group: &str, version: &str, resource: &str) -> Self {
        Gvr { group: group.into(), version: version.into(), resource: resource.into() }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }

    /// Whether it is this resource, in whichever version.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        &*self.group == group && &*self.resource == resource
    }

    pub(crate) fn table(&self) -> (Arc<str>, Arc<str>) {
        (self.group.clone(), self.resource.clone())
    }
}

impl fmt::Display for Gvr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() { f.write_str(&self.resource) } else { write!(f, "{}.{}", self.resource, self.group) }
    }
}

impl Gvk {
    /// A kind by its parts.
    pub fn new(group: &str, version: &str, kind: &str) -> Self {
        Gvk { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// A kind by an object's `apiVersion` and `kind`.
    pub fn of(object: &Value) -> Self {
        Gvk::parse(object::api_version(object), object::kind(object))
    }

    /// A kind by `apiVersion` and `kind`.
    pub fn parse(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Gvk::new(group, version, kind)
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        api_version(&self.group, &self.version)
    }
}

impl Resource {
    /// The kind with its group and version.
    pub fn gvk(&self) -> Gvk {
        Gvk { group: self.gvr.group.clone(), version: self.gvr.version.clone(), kind: self.kind.clone() }
    }

    /// Whether it can be read and written like any object (not only posted to, as a SelfSubjectAccessReview).
    pub fn is_stored(&self) -> bool {
        self.verbs.contains(&"list")
    }

    /// A subresource by its name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}

impl Default for Resources {
    fn default() -> Self {
        Resources::builtin()
    }
}

impl Resources {
    /// The built-in resources.
    pub fn builtin() -> Self {
        let mut served = Served::default();
        for resource in builtin::resources() {
            served.add(resource);
        }
        Resources { served: Arc::new(RwLock::new(Arc::new(served))) }
    }

    /// All of them, those of a group and version together.
    pub fn all(&self) -> Vec<Arc<Resource>> {
        self.snapshot().order.clone()
    }

    /// A resource by its name.
    pub fn get(&self, gvr: &Gvr) -> Option<Arc<Resource>> {
        self.snapshot().index.get(gvr).cloned()
    }

    /// A resource by the kind of its objects, as `apiVersion` and `kind` give it.
    pub fn by_kind(&self, gvk: &Gvk) -> Option<Arc<Resource>> {
        let served = self.snapshot();
        let found = served
            .order
            .iter()
            .find(|r| r.kind == gvk.kind && r.gvr.group == gvk.group && r.gvr.version == gvk.version && r.is_stored());
        found.cloned()
    }

    /// One resource a storage, for those who must see every object once.
    pub fn stored(&self) -> Vec<Arc<Resource>> {
        self.snapshot().order.iter().filter(|r| r.is_stored() && r.gvr == r.storage).cloned().collect()
    }

    /// Whether something is served in the group (and version, if it is given).
    pub fn has(&self, group: &str, version: Option<&str>) -> bool {
        let served = self.snapshot();
        served.order.iter().any(|r| &*r.gvr.group == group && version.is_none_or(|v| &*r.gvr.version == v))
    }

    /// Serves what a CustomResourceDefinition defines, in place of what one of this name defined before.
    pub fn add_crd(&self, crd: &Value) {
        let name = object::name(crd).to_owned();
        self.edit(|served| {
            served.remove_crd(&name);
            for resource in custom_resources(crd) {
                served.add(resource);
            }
        });
    }

    /// No longer serves what the CustomResourceDefinition of this name defined.
    pub fn remove_crd(&self, name: &str) {
        self.edit(|served| served.remove_crd(name));
    }

    /// Leaves of the built-in resources those whose group and name are in `builtin`, and of what they and the defined
    /// ones can do get, list and watch.
    pub(crate) fn read_only(&self, builtin: &[(String, String)]) {
        let named = |r: &Resource| builtin.iter().any(|(group, resource)| r.gvr.is(group, resource));
        self.edit(|served| {
            let kept: Vec<Arc<Resource>> = std::mem::take(&mut served.order);
            served.index.clear();
            for resource in kept.iter().filter(|r| r.custom.is_some() || named(r)) {
                let verbs = resource.verbs.iter().copied().filter(|v| matches!(*v, "get" | "list" | "watch")).collect();
                served.add(Resource { verbs, subresources: Vec::new(), ..Resource::clone(resource) });
            }
        });
    }

    fn snapshot(&self) -> Arc<Served> {
        self.served.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn edit(&self, change: impl FnOnce(&mut Served)) {
        let mut guard = self.served.write().unwrap_or_else(PoisonError::into_inner);
        let mut served = Served::clone(&guard);
        change(&mut served);
        *guard = Arc::new(served);
    }
}

impl Served {
    fn add(&mut self, resource: Resource) {
        let resource = Arc::new(resource);
        self.index.insert(resource.gvr.clone(), resource.clone());
        self.order.push(resource);
    }

    fn remove_crd(&mut self, name: &str) {
        let is_of = |r: &Resource| r.custom.as_ref().is_some_and(|c| c.crd == name);
        self.order.retain(|r| !is_of(r));
        self.index.retain(|_, r| !is_of(r));
    }
}

/// `v1` or `apps/v1`.
pub fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

fn custom_resources(crd: &Value) -> Vec<Resource> {
    let spec = &crd["spec"];
    let names = &spec["names"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| -> Vec<String> { value.as_array().into_iter().flatten().map(text).collect() };
    let (group, plural, kind) = (text(&spec["group"]), text(&names["plural"]), text(&names["kind"]));
    let versions = spec["versions"].as_array().cloned().unwrap_or_default();
    let storage = versions.iter().find(|v| v["storage"] == true).map(|v| text(&v["name"])).unwrap_or_default();
    let storage = Gvr::new(&group, &storage, &plural);
    let mut served: Vec<Value> = versions.into_iter().filter(|v| v["served"] == true).collect();
    served.sort_by_key(|v| std::cmp::Reverse(version_rank(v["name"].as_str().unwrap_or_default())));
    let resource = |version: Value| {
        let gvr = Gvr::new(&group, version["name"].as_str().unwrap_or_default(), &plural);
        let gvk = Gvk { group: gvr.group.clone(), version: gvr.version.clone(), kind: kind.as_str().into() };
        let status = version["subresources"]["status"].is_object();
        let scale = Some(version["subresources"]["scale"].clone()).filter(Value::is_object);
        let below =
            |name: &str, kind: Gvk| Subresource { name: name.into(), kind, verbs: vec!["get", "patch", "update"] };
        let mut subresources = Vec::new();
        subresources.extend(status.then(|| below("status", gvk)));
        subresources.extend(scale.is_some().then(|| below("scale", Gvk::new("autoscaling", "v1", "Scale"))));
        let columns = version["additionalPrinterColumns"].as_array().cloned().unwrap_or_default();
        Resource {
            gvr,
            kind: kind.as_str().into(),
            list_kind: names["listKind"].as_str().map_or_else(|| format!("{kind}List").into(), Into::into),
            singular: names["singular"].as_str().map_or_else(|| kind.to_lowercase(), str::to_owned),
            short_names: texts(&names["shortNames"]),
            categories: texts(&names["categories"]),
            namespaced: spec["scope"] == "Namespaced",
            verbs: VERBS.to_vec(),
            subresources,
            storage: storage.clone(),
            custom: Some(Arc::new(Custom { crd: object::name(crd).to_owned(), columns, status, scale, version })),
        }
    };
    served.into_iter().map(resource).collect()
}

/// Orders versions as apimachinery's `version.CompareKubeAwareVersionStrings` does: `v2`, `v1`, `v1beta2`, `v1alpha1`,
/// and what isn't such a version after them.
pub fn version_rank(version: &str) -> (u8, u64, u64) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major: u64 = rest[..digits].parse().ok()?;
        let rest = &rest[digits..];
        if rest.is_empty() {
            return Some((3, major, 0));
        }
        let (rank, minor) = match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
            (Some(minor), _) => (2, minor),
            (_, Some(minor)) => (1, minor),
            _ => return None,
        };
        Some((rank, major, minor.parse().ok()?))
    };
    parse().unwrap_or((0, 0, 0))
}
