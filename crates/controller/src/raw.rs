//! Objects as they come: of any kind, and read as far as all kinds have the same.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::api::ApiResource;
use kube::core::DynamicResourceScope;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// An object whose kind is known by where it was asked for.
///
/// A [`DynamicObject`](kube::api::DynamicObject) keeps every field twice before it is read (serde's `flatten`).
#[derive(Debug, Clone)]
pub(crate) struct Raw {
    pub metadata: ObjectMeta,
    /// Without the metadata.
    fields: Map<String, Value>,
}

impl Raw {
    /// The object as one of its kind.
    pub(crate) fn typed<K: DeserializeOwned + Resource>(self) -> Result<Box<K>, serde_json::Error> {
        let mut fields = self.fields;
        fields.insert("metadata".to_owned(), Map::new().into());
        let mut object: Box<K> = serde_json::from_value(fields.into())?;
        *object.meta_mut() = self.metadata;
        Ok(object)
    }
}

impl Resource for Raw {
    type DynamicType = ApiResource;
    type Scope = DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.kind)
    }

    fn group(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.group)
    }

    fn version(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.version)
    }

    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        Cow::Borrowed(&resource.plural)
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut raw = Raw { metadata: ObjectMeta::default(), fields: Map::new() };
        while let Some(name) = map.next_key::<String>()? {
            if name == "metadata" {
                raw.metadata = map.next_value::<Option<ObjectMeta>>()?.unwrap_or_default();
            } else {
                raw.fields.insert(name, map.next_value()?);
            }
        }
        Ok(raw)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use k8s_openapi::api::core::v1::Service;
    use kube::core::WatchEvent;
    use serde_json::json;
    use tombolo_api::mcs::v1beta1::ServiceImport;

    use super::*;

    fn object() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "annotations": {"a": "1"}, "creationTimestamp": "2026-01-02T03:04:05Z", "generation": 7,
                "labels": {"l": "2"}, "name": "web", "namespace": "shop", "resourceVersion": "9", "uid": "u",
                "aFieldOfTomorrow": {}, "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {"f:ports": {}}}}],
            },
            "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]},
        })
    }

    #[test]
    fn an_object_is_what_it_is_read_directly() {
        let expected: Service = serde_json::from_value(object()).unwrap();
        let text = object().to_string();
        assert_eq!(*serde_json::from_str::<Raw>(&text).unwrap().typed::<Service>().unwrap(), expected);
        // As a watch has it, in both orders: one of them is read out of memory.
        for event in [
            format!(r#"{{"type": "MODIFIED", "object": {text}}}"#),
            format!(r#"{{"object": {text}, "type": "MODIFIED"}}"#),
        ] {
            let event: WatchEvent<Raw> = serde_json::from_str(&event).unwrap();
            let WatchEvent::Modified(raw) = event else { panic!("{event:?}") };
            assert_eq!(*raw.typed::<Service>().unwrap(), expected);
        }
    }

    #[test]
    fn our_own_kinds_are_read_too_and_one_of_another_form_is_refused_for_itself() {
        let import = json!({"metadata": {"name": "web"}, "spec": {"type": "ClusterSetIP", "ports": []}});
        let read = |import: &Value| serde_json::from_value::<Raw>(import.clone()).unwrap().typed::<ServiceImport>();
        let direct: ServiceImport = serde_json::from_value(import.clone()).unwrap();
        assert_eq!(serde_json::to_value(read(&import).unwrap()).unwrap(), serde_json::to_value(direct).unwrap());
        assert!(read(&json!({"metadata": null, "spec": {"ports": "none"}})).is_err());
    }
}
