//! What can be emitted.

use k8s_openapi::api::core::v1::{Endpoints, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::Value;
use tombolo_api::about::ClusterProperty;
use tombolo_api::mcs::{v1alpha1, v1beta1};
use tombolo_apiserver::Gvr;

use crate::trim;

/// An object that is offered to others. It may be whole as the cluster has it: it is [trimmed](crate::trim) before it
/// leaves.
#[derive(Debug, Clone, PartialEq)]
pub enum Emitted {
    /// A Service.
    Service(Box<Service>),
    /// One of its EndpointSlices.
    EndpointSlice(Box<EndpointSlice>),
    /// Its Endpoints, for those who still read them.
    Endpoints(Box<Endpoints>),
    /// Its ServiceExport; served in v1alpha1 and v1beta1.
    ServiceExport(Box<v1beta1::ServiceExport>),
    /// A property of the cluster, such as its id; served in v1alpha1 and v1beta1.
    ClusterProperty(Box<ClusterProperty>),
    /// A Namespace that something emitted is in.
    Namespace(Box<Namespace>),
}

/// The kinds of what can be emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EmittedKind {
    /// `services`
    Service,
    /// `endpointslices.discovery.k8s.io`
    EndpointSlice,
    /// `endpoints`
    Endpoints,
    /// `serviceexports.multicluster.x-k8s.io`
    ServiceExport,
    /// `clusterproperties.about.k8s.io`
    ClusterProperty,
    /// `namespaces`
    Namespace,
}

impl EmittedKind {
    /// All of them.
    pub const ALL: [EmittedKind; 6] = [
        EmittedKind::Service,
        EmittedKind::EndpointSlice,
        EmittedKind::Endpoints,
        EmittedKind::ServiceExport,
        EmittedKind::ClusterProperty,
        EmittedKind::Namespace,
    ];

    /// The API group and the plural name.
    pub(crate) fn resource(self) -> (&'static str, &'static str) {
        match self {
            EmittedKind::Service => ("", "services"),
            EmittedKind::EndpointSlice => ("discovery.k8s.io", "endpointslices"),
            EmittedKind::Endpoints => ("", "endpoints"),
            EmittedKind::ServiceExport => (tombolo_api::mcs::GROUP, "serviceexports"),
            EmittedKind::ClusterProperty => (tombolo_api::about::GROUP, "clusterproperties"),
            EmittedKind::Namespace => ("", "namespaces"),
        }
    }

    /// The version that is stored.
    fn version(self) -> &'static str {
        match self {
            EmittedKind::ServiceExport | EmittedKind::ClusterProperty => "v1beta1",
            _ => "v1",
        }
    }

    pub(crate) fn gvr(self) -> Gvr {
        let (group, resource) = self.resource();
        Gvr::new(group, self.version(), resource)
    }
}

impl Emitted {
    /// Its kind.
    pub fn kind(&self) -> EmittedKind {
        match self {
            Emitted::Service(_) => EmittedKind::Service,
            Emitted::EndpointSlice(_) => EmittedKind::EndpointSlice,
            Emitted::Endpoints(_) => EmittedKind::Endpoints,
            Emitted::ServiceExport(_) => EmittedKind::ServiceExport,
            Emitted::ClusterProperty(_) => EmittedKind::ClusterProperty,
            Emitted::Namespace(_) => EmittedKind::Namespace,
        }
    }

    /// What leaves the cluster, as the JSON that is stored.
    pub(crate) fn into_value(self) -> Value {
        let kind = self.kind();
        let value = match self {
            Emitted::Service(object) => serde_json::to_value(trim::service(*object)),
            Emitted::EndpointSlice(object) => serde_json::to_value(trim::endpoint_slice(*object)),
            Emitted::Endpoints(object) => serde_json::to_value(trim::endpoints(*object)),
            Emitted::ServiceExport(object) => serde_json::to_value(trim::service_export(*object)),
            Emitted::ClusterProperty(object) => serde_json::to_value(trim::cluster_property(*object)),
            Emitted::Namespace(object) => serde_json::to_value(trim::namespace(*object)),
        };
        // Typed objects are always JSON.
        let mut value = value.unwrap_or_default();
        value["apiVersion"] = kind.gvr().api_version().into();
        value
    }
}

impl From<Service> for Emitted {
    fn from(object: Service) -> Self {
        Emitted::Service(Box::new(object))
    }
}

impl From<EndpointSlice> for Emitted {
    fn from(object: EndpointSlice) -> Self {
        Emitted::EndpointSlice(Box::new(object))
    }
}

impl From<Endpoints> for Emitted {
    fn from(object: Endpoints) -> Self {
        Emitted::Endpoints(Box::new(object))
    }
}

impl From<v1beta1::ServiceExport> for Emitted {
    fn from(object: v1beta1::ServiceExport) -> Self {
        Emitted::ServiceExport(Box::new(object))
    }
}

impl From<v1alpha1::ServiceExport> for Emitted {
    fn from(object: v1alpha1::ServiceExport) -> Self {
        Emitted::ServiceExport(Box::new(object.into()))
    }
}

impl From<ClusterProperty> for Emitted {
    fn from(object: ClusterProperty) -> Self {
        Emitted::ClusterProperty(Box::new(object))
    }
}

impl From<Namespace> for Emitted {
    fn from(object: Namespace) -> Self {
        Emitted::Namespace(Box::new(object))
    }
}
