//! The OpenAPI documents that clients read: `kubectl` for `explain`, client-side validation and to learn what a server
//! can do (server-side validation and dry-run are looked up as parameters of PATCH operations).

mod paths;
mod proto;
mod v2;
mod v3;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::definitions;
use super::kinds::ServedKind;

/// The documents of one set of kinds, each made when it is first asked for.
pub(super) struct Documents {
    kinds: Vec<ServedKind>,
    custom: Vec<(String, Value)>,
    v2: OnceLock<Arc<Value>>,
    v2_protobuf: OnceLock<Arc<[u8]>>,
    v3: OnceLock<V3>,
}

/// The documents of OpenAPI v3.
struct V3 {
    index: Arc<Value>,
    by_path: BTreeMap<String, Arc<Value>>,
}

impl Documents {
    /// The documents of these kinds; `custom` are the definitions of those that are not built in.
    pub(super) fn new(kinds: Vec<ServedKind>, custom: Vec<(String, Value)>) -> Self {
        Documents { kinds, custom, v2: OnceLock::new(), v2_protobuf: OnceLock::new(), v3: OnceLock::new() }
    }

    pub(super) fn v2(&self) -> Arc<Value> {
        self.v2.get_or_init(|| Arc::new(v2::document(&self.kinds, &self.definitions()))).clone()
    }

    pub(super) fn v2_protobuf(&self) -> Arc<[u8]> {
        self.v2_protobuf.get_or_init(|| proto::encode(&self.v2()).into()).clone()
    }

    pub(super) fn v3_index(&self) -> Arc<Value> {
        self.v3_documents().index.clone()
    }

    pub(super) fn v3(&self, path: &str) -> Option<Arc<Value>> {
        self.v3_documents().by_path.get(path).cloned()
    }

    fn v3_documents(&self) -> &V3 {
        self.v3.get_or_init(|| {
            let documents = v3::documents(&self.kinds, &self.definitions());
            let paths = documents.iter().map(|(path, document)| {
                let hash = Sha256::digest(document.to_string().as_bytes());
                let hash: String = hash.iter().map(|byte| format!("{byte:02X}")).collect();
                (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}))
            });
            let index = json!({"paths": paths.collect::<Map<String, Value>>()});
            let by_path = documents.into_iter().map(|(path, document)| (path, Arc::new(document))).collect();
            V3 { index: Arc::new(index), by_path }
        })
    }

    fn definitions(&self) -> Map<String, Value> {
        let mut all = definitions::builtin().clone();
        for (name, schema) in &self.custom {
            all.insert(name.clone(), schema.clone());
        }
        for kind in self.kinds.iter().filter(|kind| kind.stored) {
            let list = || definitions::list_of(&kind.kind, &kind.definition, &kind.group, &kind.version);
            all.entry(kind.list_definition()).or_insert_with(list);
        }
        all
    }
}
