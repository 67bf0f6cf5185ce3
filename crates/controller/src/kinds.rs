//! The resources that are watched, and how each is read.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::api::networking::v1 as networking;
use kube::Resource;
use kube::api::{ApiResource, GroupVersionKind};
use serde::de::DeserializeOwned;
use tombolo_api::mcs::v1beta1::{ServiceExport, ServiceImport};
use tombolo_api::{about, mcs};

use crate::raw::Raw;

/// What an object is read from.
trait Form {
    fn typed<K: DeserializeOwned + Resource>(self) -> Result<Box<K>, serde_json::Error>;
}

struct Text<'a>(&'a str);

impl Form for Raw {
    fn typed<K: DeserializeOwned + Resource>(self) -> Result<Box<K>, serde_json::Error> {
        Self::typed(self)
    }
}

impl Form for Text<'_> {
    fn typed<K: DeserializeOwned + Resource>(self) -> Result<Box<K>, serde_json::Error> {
        serde_json::from_str(self.0)
    }
}

/// A kind of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Namespace,
    Node,
    ServiceCidr,
    Service,
    Slice,
    Endpoints,
    Export,
    Import,
    Property,
    Secret,
    ConfigMap,
}

/// An object of one of the kinds.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    Namespace(Box<core::Namespace>),
    Node(Box<core::Node>),
    ServiceCidr(Box<networking::ServiceCIDR>),
    Service(Box<core::Service>),
    Slice(Box<discovery::EndpointSlice>),
    Endpoints(Box<core::Endpoints>),
    Export(Box<ServiceExport>),
    Import(Box<ServiceImport>),
    Property(Box<about::ClusterProperty>),
    Secret(Box<core::Secret>),
    ConfigMap(Box<core::ConfigMap>),
}

impl Item {
    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Namespace(_) => Kind::Namespace,
            Self::Node(_) => Kind::Node,
            Self::ServiceCidr(_) => Kind::ServiceCidr,
            Self::Service(_) => Kind::Service,
            Self::Slice(_) => Kind::Slice,
            Self::Endpoints(_) => Kind::Endpoints,
            Self::Export(_) => Kind::Export,
            Self::Import(_) => Kind::Import,
            Self::Property(_) => Kind::Property,
            Self::Secret(_) => Kind::Secret,
            Self::ConfigMap(_) => Kind::ConfigMap,
        }
    }
}

impl Kind {
    /// Its name as in `kubectl get`.
    pub(crate) fn name(self) -> &'static str {
        self.row().2
    }

    /// The versions that it can be served in, the one to be preferred first.
    pub(crate) fn resources(self) -> Vec<ApiResource> {
        let (group, versions, plural, kind) = self.row();
        let resource =
            |version: &&str| ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        versions.iter().map(resource).collect()
    }

    /// Whether a cluster without this resource is as good as one with none of its objects.
    pub(crate) fn may_be_absent(self) -> bool {
        matches!(self, Self::Export | Self::Import | Self::Property | Self::ServiceCidr)
    }

    /// Reads an object.
    pub(crate) fn read(self, object: Raw) -> Result<Item, serde_json::Error> {
        self.item(object)
    }

    /// Reads the JSON text of an object.
    pub(crate) fn parse(self, text: &str) -> Result<Item, serde_json::Error> {
        self.item(Text(text))
    }

    fn item(self, form: impl Form) -> Result<Item, serde_json::Error> {
        Ok(match self {
            Self::Namespace => Item::Namespace(form.typed()?),
            Self::Node => Item::Node(form.typed()?),
            Self::ServiceCidr => Item::ServiceCidr(form.typed()?),
            Self::Service => Item::Service(form.typed()?),
            Self::Slice => Item::Slice(form.typed()?),
            Self::Endpoints => Item::Endpoints(form.typed()?),
            Self::Export => Item::Export(form.typed()?),
            Self::Import => Item::Import(form.typed()?),
            Self::Property => Item::Property(form.typed()?),
            Self::Secret => Item::Secret(form.typed()?),
            Self::ConfigMap => Item::ConfigMap(form.typed()?),
        })
    }

    fn row(self) -> (&'static str, &'static [&'static str], &'static str, &'static str) {
        const MCS: &[&str] = &["v1beta1", "v1alpha1"];
        match self {
            Self::Namespace => ("", &["v1"], "namespaces", "Namespace"),
            Self::Node => ("", &["v1"], "nodes", "Node"),
            Self::ServiceCidr => ("networking.k8s.io", &["v1"], "servicecidrs", "ServiceCIDR"),
            Self::Service => ("", &["v1"], "services", "Service"),
            Self::Slice => ("discovery.k8s.io", &["v1"], "endpointslices", "EndpointSlice"),
            Self::Endpoints => ("", &["v1"], "endpoints", "Endpoints"),
            Self::Export => (mcs::GROUP, MCS, "serviceexports", "ServiceExport"),
            Self::Import => (mcs::GROUP, MCS, "serviceimports", "ServiceImport"),
            Self::Property => (about::GROUP, MCS, "clusterproperties", "ClusterProperty"),
            Self::Secret => ("", &["v1"], "secrets", "Secret"),
            Self::ConfigMap => ("", &["v1"], "configmaps", "ConfigMap"),
        }
    }
}
