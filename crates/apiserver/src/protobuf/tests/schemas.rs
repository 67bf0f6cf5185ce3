//! The table against the schemas of `k8s-openapi`.

use std::collections::BTreeMap;

use k8s_openapi::api::{
    apps, authentication, authorization, autoscaling, coordination, core, discovery, events, policy, rbac,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::protobuf::table::{self, Field, Kind, Shape};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const APIEXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

macro_rules! kinds {
    ($($version:literal $kind:literal $ty:ty),* $(,)?) => {
        /// What can be in an envelope.
        pub(super) const KINDS: &[(&str, &str)] = &[$(($version, $kind)),*];

        fn definitions() -> Map<String, Value> {
            let mut generator = SchemaSettings::draft2020_12().into_generator();
            $( generator.subschema_for::<$ty>(); )*
            generator.take_definitions(false)
        }
    };
}

kinds! {
    "v1" "Binding" core::v1::Binding,
    "v1" "ConfigMap" core::v1::ConfigMap,
    "v1" "Endpoints" core::v1::Endpoints,
    "v1" "Event" core::v1::Event,
    "v1" "Namespace" core::v1::Namespace,
    "v1" "Node" core::v1::Node,
    "v1" "Pod" core::v1::Pod,
    "v1" "Secret" core::v1::Secret,
    "v1" "Service" core::v1::Service,
    "v1" "ServiceAccount" core::v1::ServiceAccount,
    "v1" "DeleteOptions" meta::v1::DeleteOptions,
    "apiextensions.k8s.io/v1" "CustomResourceDefinition" apiextensions::v1::CustomResourceDefinition,
    "apps/v1" "DaemonSet" apps::v1::DaemonSet,
    "apps/v1" "Deployment" apps::v1::Deployment,
    "apps/v1" "ReplicaSet" apps::v1::ReplicaSet,
    "authentication.k8s.io/v1" "SelfSubjectReview" authentication::v1::SelfSubjectReview,
    "authentication.k8s.io/v1" "TokenRequest" authentication::v1::TokenRequest,
    "authentication.k8s.io/v1" "TokenReview" authentication::v1::TokenReview,
    "authorization.k8s.io/v1" "LocalSubjectAccessReview" authorization::v1::LocalSubjectAccessReview,
    "authorization.k8s.io/v1" "SelfSubjectAccessReview" authorization::v1::SelfSubjectAccessReview,
    "authorization.k8s.io/v1" "SelfSubjectRulesReview" authorization::v1::SelfSubjectRulesReview,
    "authorization.k8s.io/v1" "SubjectAccessReview" authorization::v1::SubjectAccessReview,
    "autoscaling/v1" "Scale" autoscaling::v1::Scale,
    "coordination.k8s.io/v1" "Lease" coordination::v1::Lease,
    "discovery.k8s.io/v1" "EndpointSlice" discovery::v1::EndpointSlice,
    "events.k8s.io/v1" "Event" events::v1::Event,
    "policy/v1" "Eviction" policy::v1::Eviction,
    "rbac.authorization.k8s.io/v1" "ClusterRole" rbac::v1::ClusterRole,
    "rbac.authorization.k8s.io/v1" "ClusterRoleBinding" rbac::v1::ClusterRoleBinding,
    "rbac.authorization.k8s.io/v1" "Role" rbac::v1::Role,
    "rbac.authorization.k8s.io/v1" "RoleBinding" rbac::v1::RoleBinding,
}

#[test]
fn the_table_has_the_fields_of_the_schemas() {
    let definitions = definitions();
    let mut wrong = Vec::new();
    for name in table::names() {
        // Messages that stand only inside of others have no schema of their own.
        let Some(schema) = definitions.get(&definition(name)) else { continue };
        let mut fields = BTreeMap::new();
        flatten(name, &mut fields);
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        for (field, of) in &fields {
            let property = properties.get(*field);
            if !property.is_some_and(|property| fits(of, property)) {
                wrong.push(format!("{name}.{field} is {of:?}, its schema is {property:?}"));
            }
        }
        for property in properties.keys() {
            let of_json = ["apiVersion", "kind"].contains(&property.as_str()) && is_kind(name);
            if !fields.contains_key(property.as_str()) && !of_json {
                wrong.push(format!("{name}.{property} is not in the table"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_kind_is_in_the_table_with_all_that_it_has() {
    let definitions = definitions();
    for (version, kind) in KINDS {
        assert!(crate::protobuf::message_of(version, kind).is_ok(), "{version} {kind}");
    }
    let alone = table::names().filter(|name| !definitions.contains_key(&definition(name)));
    let inlined = ["core.EphemeralContainerCommon", "core.ProbeHandler", "core.VolumeSource"];
    assert_eq!(alone.collect::<Vec<_>>(), inlined);
}

fn is_kind(message: &str) -> bool {
    KINDS.iter().any(|(_, kind)| message.ends_with(&format!(".{kind}")))
}

/// The name of a message's schema.
fn definition(message: &str) -> String {
    let (package, name) = message.split_once('.').unwrap();
    match package {
        "meta" => format!("{META}.{name}"),
        "apiextensions" => format!("{APIEXTENSIONS}.{name}"),
        package => format!("io.k8s.api.{package}.v1.{name}"),
    }
}

/// The fields of a message, with those of the messages that stand in it as in JSON.
fn flatten(message: &str, fields: &mut BTreeMap<&'static str, Field>) {
    for field in table::message(message).unwrap().values() {
        match field.kind {
            Kind::Message(inner) if field.name.is_empty() => flatten(inner, fields),
            _ => drop(fields.insert(field.name, *field)),
        }
    }
}

fn fits(field: &Field, schema: &Value) -> bool {
    match field.shape {
        Shape::One => of_kind(field.kind, schema),
        Shape::List => schema["type"] == "array" && of_kind(field.kind, &schema["items"]),
        Shape::Map => schema["type"] == "object" && of_kind(field.kind, &schema["additionalProperties"]),
    }
}

fn of_kind(kind: Kind, schema: &Value) -> bool {
    let is = |ty: &str, format: Value| schema["type"] == ty && schema["format"] == format;
    let refers = |name: &str| {
        let own = schema["$ref"].as_str().or(schema["allOf"][0]["$ref"].as_str());
        own.is_some_and(|own| own.rsplit('/').next() == Some(name))
    };
    match kind {
        Kind::String => is("string", Value::Null),
        Kind::Bool => is("boolean", Value::Null),
        Kind::Int32 => is("integer", "int32".into()),
        Kind::Int64 => is("integer", "int64".into()),
        Kind::Double => is("number", "double".into()),
        Kind::Bytes => is("string", "byte".into()),
        Kind::Message(message) => refers(&definition(message)),
        Kind::Time => refers(&format!("{META}.Time")),
        Kind::MicroTime => refers(&format!("{META}.MicroTime")),
        Kind::FieldsV1 => refers(&format!("{META}.FieldsV1")),
        Kind::Quantity => refers("io.k8s.apimachinery.pkg.api.resource.Quantity"),
        Kind::IntOrString => refers("io.k8s.apimachinery.pkg.util.intstr.IntOrString"),
        Kind::Strings => schema["type"] == "array" && of_kind(Kind::String, &schema["items"]),
        Kind::Json => refers(&format!("{APIEXTENSIONS}.JSON")),
        Kind::SchemaOrArray => refers(&format!("{APIEXTENSIONS}.JSONSchemaPropsOrArray")),
        Kind::SchemaOrBool => refers(&format!("{APIEXTENSIONS}.JSONSchemaPropsOrBool")),
        Kind::SchemaOrStrings => refers(&format!("{APIEXTENSIONS}.JSONSchemaPropsOrStringArray")),
    }
}
