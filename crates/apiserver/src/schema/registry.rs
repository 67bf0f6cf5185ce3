//! All kinds that are served, with their schemas.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::builtin::{self, Key};
use super::compiled::KindSchema;
use super::crd::{self, CustomKind};
use super::error::FieldError;
use super::kinds::ServedKind;
use super::merge::{MergeSchema, Schemaless};
use super::openapi::Documents;
use super::{decode, defaults, prune, required, rules, validate};

/// The kinds that are served: the built-in ones and those of CustomResourceDefinitions.
#[derive(Default)]
pub struct Registry {
    custom: HashMap<Key, CustomKind>,
    documents: OnceLock<Documents>,
}

/// A kind: group, version, kind.
type Gvk<'a> = (&'a str, &'a str, &'a str);

impl Registry {
    /// The built-in kinds only. Their schemas are compiled at the first use in the process.
    pub fn builtin() -> Self {
        Self::default()
    }

    /// How a built-in kind merges, without a registry.
    pub fn builtin_schema(gvk: (&str, &str, &str)) -> Option<Arc<dyn MergeSchema>> {
        builtin::builtin().schemas.get(&key(gvk)).map(|schema| schema.clone() as Arc<dyn MergeSchema>)
    }

    /// The kinds that are served, the built-in ones first.
    pub fn kinds(&self) -> Vec<ServedKind> {
        let mut custom: Vec<&ServedKind> = self.custom.values().map(|kind| &kind.served).collect();
        custom.sort_by_key(|kind| (&kind.group, &kind.version, &kind.plural));
        builtin::builtin().kinds.iter().chain(custom).cloned().collect()
    }

    /// Takes the served versions of a CustomResourceDefinition, in place of what it had before.
    ///
    /// Fails with what is wrong with its schemas; what was there before then stays.
    pub fn add_crd(&mut self, crd: &Value) -> Result<(), Vec<FieldError>> {
        let kinds = crd::kinds(crd)?;
        self.remove_crd(crd);
        for kind in kinds {
            let served = &kind.served;
            self.custom.insert((served.group.clone(), served.version.clone(), served.kind.clone()), kind);
        }
        self.documents = OnceLock::new();
        Ok(())
    }

    /// Forgets a CustomResourceDefinition.
    pub fn remove_crd(&mut self, crd: &Value) {
        let name = crate::object::name(crd);
        let count = self.custom.len();
        self.custom.retain(|_, kind| kind.definition_name != name);
        if self.custom.len() != count {
            self.documents = OnceLock::new();
        }
    }

    /// Everything that is wrong with a new object, beyond what [`Registry::decode_error`] says.
    pub fn validate(&self, gvk: (&str, &str, &str), obj: &Value) -> Vec<FieldError> {
        self.validate_update(gvk, obj, None)
    }

    /// Everything that is wrong with an object; with `old`, the object before an update, also what rules on changes
    /// say against it.
    pub fn validate_update(&self, gvk: (&str, &str, &str), obj: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let Some(schema) = self.schema(gvk) else { return Vec::new() };
        if schema.builtin {
            return required::missing(gvk, obj);
        }
        let mut errors = validate::validate(&schema, obj);
        if !errors.iter().any(FieldError::blocks_rules) {
            errors.extend(rules::broken(&schema, obj, old));
        } else if schema.arena.has_rules() {
            errors.push(FieldError::rules_skipped());
        }
        errors
    }

    /// Why an object cannot be decoded, as kube-apiserver says it (400): the first value of a wrong type in an object
    /// of a built-in kind or in the metadata of a custom resource. What else is wrong with a custom resource,
    /// [`Registry::validate`] says.
    pub fn decode_error(&self, gvk: (&str, &str, &str), obj: &Value) -> Option<String> {
        let schema = self.schema(gvk)?;
        let (_, version, kind) = gvk;
        let why = decode::error(&schema, obj)?;
        Some(format!("{kind} in version {version:?} cannot be handled as a {kind}: {why}"))
    }

    /// Sets defaults, removes unknown fields and returns a line for each of those: `unknown field "spec.foo"`.
    pub fn default_and_prune(&self, gvk: (&str, &str, &str), obj: &mut Value) -> Vec<String> {
        let Some(schema) = self.schema(gvk) else { return Vec::new() };
        let unknown = prune::prune(&schema, obj);
        prune::drop_nulls(&schema, obj);
        if schema.builtin {
            defaults::set(gvk, obj);
        } else {
            prune::set_defaults(&schema, obj);
        }
        unknown.into_iter().map(|path| format!("unknown field {path:?}")).collect()
    }

    /// How objects of a kind merge; kinds that are not known merge without a schema.
    pub fn merge_schema(&self, gvk: (&str, &str, &str)) -> Arc<dyn MergeSchema> {
        match self.schema(gvk) {
            Some(schema) => schema,
            None => Arc::new(Schemaless),
        }
    }

    /// The OpenAPI v2 document.
    pub fn openapi_v2(&self) -> Arc<Value> {
        self.documents().v2()
    }

    /// The OpenAPI v2 document as a gnostic `openapi.v2.Document`
    /// (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).
    pub fn openapi_v2_protobuf(&self) -> Arc<[u8]> {
        self.documents().v2_protobuf()
    }

    /// The index of the OpenAPI v3 documents, one a group and version.
    pub fn openapi_v3_index(&self) -> Arc<Value> {
        self.documents().v3_index()
    }

    /// The OpenAPI v3 document of a path of the index, such as `apis/apps/v1`.
    pub fn openapi_v3(&self, path: &str) -> Option<Arc<Value>> {
        self.documents().v3(path)
    }

    fn documents(&self) -> &Documents {
        self.documents.get_or_init(|| Documents::new(self.kinds(), self.custom_definitions()))
    }

    /// The definitions of the custom resources.
    fn custom_definitions(&self) -> Vec<(String, Value)> {
        let mut definitions: Vec<(String, Value)> =
            self.custom.values().map(|kind| (kind.served.definition.clone(), kind.openapi.clone())).collect();
        definitions.sort_by(|a, b| a.0.cmp(&b.0));
        definitions
    }

    fn schema(&self, gvk: Gvk<'_>) -> Option<Arc<KindSchema>> {
        let key = key(gvk);
        let custom = self.custom.get(&key).map(|kind| &kind.schema);
        custom.or_else(|| builtin::builtin().schemas.get(&key)).cloned()
    }
}

fn key((group, version, kind): Gvk<'_>) -> Key {
    (group.to_owned(), version.to_owned(), kind.to_owned())
}
