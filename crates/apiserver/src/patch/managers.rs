//! `metadata.managedFields`: who set which field, when and how.

use serde_json::{Map, Value, json};

use super::fields::FieldSet;

/// The Update entries that an object keeps; older ones become one (kube-apiserver's `DefaultMaxUpdateManagers`).
const MAX_UPDATERS: usize = 10;
/// The manager that entries beyond that number become.
const ANCIENT: &str = "ancient-changes";

/// How a manager set its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// One entry of `managedFields`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Manager {
    pub(super) name: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: Option<String>,
    pub(super) fields: FieldSet,
}

/// All entries of `managedFields`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Managers(pub(super) Vec<Manager>);

impl Managers {
    /// Reads them from an object. Entries that make no sense are left out.
    pub(super) fn of(object: &Value) -> Self {
        let entries = object.get("metadata").and_then(|m| m.get("managedFields")).and_then(Value::as_array);
        Managers(entries.into_iter().flatten().filter_map(Manager::read).collect())
    }

    /// Writes them to an object.
    pub(super) fn write(mut self, object: &mut Value) {
        self.0.retain(|manager| !manager.fields.is_empty());
        self.0.sort_by(|a, b| {
            (a.operation, &a.time, &a.name, &a.api_version, &a.subresource).cmp(&(
                b.operation,
                &b.time,
                &b.name,
                &b.api_version,
                &b.subresource,
            ))
        });
        let entries: Vec<Value> = self.0.iter().map(Manager::to_value).collect();
        let Some(metadata) = metadata_mut(object) else { return };
        if entries.is_empty() {
            metadata.shift_remove("managedFields");
        } else {
            metadata.insert("managedFields".to_owned(), Value::Array(entries));
        }
    }

    /// The place of the entry with the same identity as `manager`.
    pub(super) fn position(&self, manager: &Manager) -> Option<usize> {
        self.0.iter().position(|other| other.is_same(manager))
    }

    /// Whether nobody has set anything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes the oldest Update entries one where there are too many.
    pub(super) fn cap(&mut self) {
        let updaters = self.0.iter().filter(|m| m.operation == Operation::Update).count();
        if updaters <= MAX_UPDATERS {
            return;
        }
        let (mut updaters, kept): (Vec<Manager>, Vec<Manager>) =
            std::mem::take(&mut self.0).into_iter().partition(|m| m.operation == Operation::Update);
        self.0 = kept;
        updaters.sort_by(|a, b| (&a.time, &a.name).cmp(&(&b.time, &b.name)));

        let surplus = updaters.len() - MAX_UPDATERS;
        let mut newer = updaters.split_off(surplus + 1);
        let mut ancient: Vec<Manager> = Vec::new();
        for manager in updaters {
            match ancient.iter_mut().find(|other| other.api_version == manager.api_version) {
                Some(other) => {
                    other.fields = other.fields.union(&manager.fields);
                    other.time = manager.time;
                }
                None => ancient.push(Manager { name: ANCIENT.to_owned(), subresource: String::new(), ..manager }),
            }
        }
        self.0.append(&mut ancient);
        self.0.append(&mut newer);
    }
}

impl Manager {
    fn read(entry: &Value) -> Option<Self> {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        let operation = match text("operation").as_str() {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        Some(Manager {
            name: text("manager"),
            operation,
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
            fields: FieldSet::from_fields_v1(entry.get("fieldsV1")?),
        })
    }

    fn to_value(&self) -> Value {
        let operation = match self.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        let mut entry = json!({
            "apiVersion": self.api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": self.fields.to_fields_v1(),
            "manager": self.name,
            "operation": operation,
        });
        if !self.subresource.is_empty() {
            entry["subresource"] = json!(self.subresource);
        }
        if let Some(time) = &self.time {
            entry["time"] = json!(time);
        }
        entry
    }

    /// Whether both are one manager: an applier whatever version it applied, an updater by version too.
    pub(super) fn is_same(&self, other: &Manager) -> bool {
        self.operation == other.operation
            && self.name == other.name
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }
}

/// Takes `managedFields` out of an object.
pub(super) fn take(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.shift_remove("managedFields")
}

/// Whether a client asks to forget all managers: one empty entry.
pub(super) fn is_reset(object: &Value) -> bool {
    let entries = object.get("metadata").and_then(|m| m.get("managedFields")).and_then(Value::as_array);
    entries.is_some_and(|entries| entries.len() == 1 && entries[0].as_object().is_some_and(Map::is_empty))
}

/// The fields of every object that belong to the server or to nobody.
pub(super) fn strip(fields: FieldSet) -> FieldSet {
    const METADATA: [&str; 8] =
        ["name", "namespace", "creationTimestamp", "selfLink", "uid", "generation", "managedFields", "resourceVersion"];
    let fields = fields.without(&["apiVersion"]).without(&["kind"]);
    let fields = METADATA.iter().fold(fields, |fields, name| fields.without(&["metadata", name]));
    fields.without_member(&["metadata"])
}

fn metadata_mut(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = object.as_object_mut()?.entry("metadata").or_insert_with(|| json!({}));
    metadata.as_object_mut()
}
