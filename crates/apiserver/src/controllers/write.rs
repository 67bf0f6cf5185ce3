//! What a controller wants done.

use serde_json::{Value, json};

use crate::object;
use crate::resources::Gvr;
use crate::status::Status;
use crate::store::{DeleteOptions, Store};

/// One write to the store.
#[derive(Debug, Clone)]
pub(super) enum Write {
    /// Stores a new object; left out where its namespace is being removed.
    Create(Gvr, Value),
    /// Replaces an object that is still as it was read.
    Update(Gvr, Value),
    /// Deletes an object, if it is still the one that was read.
    Delete(Gvr, Value, DeleteOptions),
}

impl Write {
    pub(super) fn delete(gvr: Gvr, object: &Value) -> Self {
        Write::Delete(gvr, object.clone(), DeleteOptions::default())
    }
}

/// Makes the writes, in order.
///
/// # Errors
/// The first write that fails, where a new look may mend it. That something is gone already is no failure.
pub(super) fn apply(store: &Store, writes: Vec<Write>) -> Result<(), Status> {
    for write in writes {
        match write {
            Write::Create(gvr, object) => {
                if is_namespace_open(store, object::namespace(&object)) {
                    store.create(&gvr, object)?;
                }
            }
            Write::Update(gvr, object) => gone_is_fine(store.update(&gvr, object).map(drop))?,
            Write::Delete(gvr, object, options) => {
                let options = DeleteOptions { uid: Some(object::uid(&object).to_owned()), ..options };
                let (namespace, name) = (object::namespace(&object), object::name(&object));
                gone_is_fine(store.delete(&gvr, namespace, name, &options).map(drop))?;
            }
        }
    }
    Ok(())
}

/// Whether new objects may come into the namespace; `""` is the cluster itself.
fn is_namespace_open(store: &Store, namespace: &str) -> bool {
    let namespaces = Gvr::new("", "v1", "namespaces");
    namespace.is_empty()
        || store.get(&namespaces, "", namespace).is_some_and(|namespace| !object::is_terminating(&namespace))
}

fn gone_is_fine(result: Result<(), Status>) -> Result<(), Status> {
    match result {
        Err(status) if status.reason == "NotFound" => Ok(()),
        result => result,
    }
}

/// A reference to the controller that an object belongs to.
pub(super) fn controller_reference(api_version: &str, kind: &str, owner: &Value) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": kind,
        "name": object::name(owner),
        "uid": object::uid(owner),
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// The reference to the controller that the object belongs to.
pub(super) fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object).iter().find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

/// `metadata.ownerReferences`.
pub(super) fn owner_references(object: &Value) -> &[Value] {
    list(object, &["metadata", "ownerReferences"])
}

/// The elements of a list at a path; none if it is not there.
pub(super) fn list<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    object::at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The number at a path.
pub(super) fn int(object: &Value, path: &[&str]) -> Option<i64> {
    object::at(object, path).and_then(Value::as_i64)
}

/// `prefix` with five random letters and digits, as `generateName` makes names.
pub(super) fn random_name(prefix: &str) -> String {
    let longest = 63 - 5;
    let cut = prefix.char_indices().nth(longest).map_or(prefix.len(), |(index, _)| index);
    let mut name = prefix[..cut].to_owned();
    for _ in 0..5 {
        name.push(char::from(ALPHABET[rand::random_range(0..ALPHABET.len())]));
    }
    name
}

/// Letters and digits that make no words and are not mistaken for one another, as in Kubernetes' generated names.
pub(super) const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A short text that is the same for the same value, whatever the order of its fields.
pub(super) fn hash(value: &Value) -> String {
    use sha2::{Digest, Sha256};

    let digest = Sha256::digest(sorted(value).to_string());
    digest.iter().take(10).map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<(&String, &Value)> = map.iter().collect();
            fields.sort_by_key(|(key, _)| key.as_str());
            Value::Object(fields.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        Value::Array(list) => list.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
