//! `meta.k8s.io/v1` Tables: the columns that `kubectl get` shows, computed on the server as kube-apiserver does.
//!
//! A [`Printer`] knows the columns of one resource and turns an object into cells; [`render`] puts the rows of a list
//! (or the one row of an object or a watch event) together. Columns of priority 0 are always shown, those of priority
//! 1 by `kubectl get -o wide`.

mod age;
mod apps;
mod core;
mod custom;
mod jsonpath;
mod network;
mod nodes;
mod pods;

use std::sync::Arc;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

pub use age::human_duration;
pub use jsonpath::{JsonPath, JsonPathError};

use crate::object;

/// What a row carries beside its cells (`includeObject` of the request).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// The object's metadata, as a `PartialObjectMetadata`: what the API answers if nothing is asked for.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; an empty text is the default.
    ///
    /// # Errors
    /// The text, where it is none of the three.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(format!("unrecognized includeObject value: {other:?}")),
        }
    }
}

/// How a Table is to be written.
#[derive(Debug, Clone, Copy)]
pub struct TableOptions<'a> {
    /// What each row carries beside its cells.
    pub include_object: IncludeObject,
    /// Whether to name the columns; the events of a watch after the first leave them out.
    pub headers: bool,
    /// `meta.k8s.io/v1`, or `meta.k8s.io/v1beta1` for clients that ask for that.
    pub api_version: &'a str,
    /// The time from which ages are counted.
    pub now: OffsetDateTime,
}

impl Default for TableOptions<'_> {
    fn default() -> Self {
        Self {
            include_object: IncludeObject::default(),
            headers: true,
            api_version: "meta.k8s.io/v1",
            now: OffsetDateTime::now_utc(),
        }
    }
}

/// One column of a Table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its title.
    pub name: String,
    /// Its OpenAPI type: `string`, `integer`, `number`, `boolean` or `date`.
    pub kind: String,
    /// Its OpenAPI format; `name` marks the column that names the object.
    pub format: String,
    /// What it says, for people.
    pub description: String,
    /// 0 for always shown, 1 and above for `-o wide`.
    pub priority: i64,
}

impl Column {
    fn to_value(&self) -> Value {
        json!({
            "name": self.name,
            "type": self.kind,
            "format": self.format,
            "description": self.description,
            "priority": self.priority,
        })
    }
}

/// Computes an object's cells at a time.
type Cells = fn(&Value, OffsetDateTime) -> Vec<Value>;

/// The columns of one resource, and how an object fills them.
#[derive(Debug, Clone)]
pub struct Printer {
    columns: Vec<Column>,
    cells: CellSource,
}

#[derive(Debug, Clone)]
enum CellSource {
    Builtin(Cells),
    Custom(Arc<[custom::CustomColumn]>),
}

impl Printer {
    /// The printer of a built-in resource; name and age for one that has no columns of its own.
    pub fn builtin(group: &str, kind: &str) -> Self {
        let (columns, cells) = builtin(group, kind);
        Self { columns, cells: CellSource::Builtin(cells) }
    }

    /// The printer of a custom resource, from its version's `additionalPrinterColumns`; name and age if there are none.
    /// A column whose JSONPath cannot be read stays empty.
    pub fn custom(additional_printer_columns: Option<&Value>) -> Self {
        let (columns, cells) = custom::columns(additional_printer_columns);
        Self { columns, cells: CellSource::Custom(cells) }
    }

    /// The columns, in the order of the cells.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// One object's cells, one a column.
    pub fn cells(&self, object: &Value, now: OffsetDateTime) -> Vec<Value> {
        match &self.cells {
            CellSource::Builtin(cells) => cells(object, now),
            CellSource::Custom(columns) => custom::cells(object, columns, now),
        }
    }
}

/// A Table with a row an item. `list_metadata` is the `ListMeta` of the list (`resourceVersion`, `continue`,
/// `remainingItemCount`), or for a single object one with its resource version.
pub fn render(printer: &Printer, items: &[Arc<Value>], list_metadata: Value, options: &TableOptions<'_>) -> Value {
    let columns: Vec<Value> =
        if options.headers { printer.columns.iter().map(Column::to_value).collect() } else { Vec::new() };
    let rows: Vec<Value> = items.iter().map(|item| row(printer, item, options)).collect();
    let mut table = Map::new();
    table.insert("kind".into(), "Table".into());
    table.insert("apiVersion".into(), options.api_version.into());
    table.insert("metadata".into(), list_metadata);
    table.insert("columnDefinitions".into(), columns.into());
    table.insert("rows".into(), rows.into());
    Value::Object(table)
}

fn row(printer: &Printer, item: &Value, options: &TableOptions<'_>) -> Value {
    let mut row = Map::new();
    row.insert("cells".into(), printer.cells(item, options.now).into());
    if let Some(conditions) = pods::row_conditions(item) {
        row.insert("conditions".into(), conditions);
    }
    match options.include_object {
        IncludeObject::None => {}
        IncludeObject::Metadata => {
            let metadata = item.get("metadata").cloned().unwrap_or_else(|| json!({}));
            let partial =
                json!({"kind": "PartialObjectMetadata", "apiVersion": options.api_version, "metadata": metadata});
            row.insert("object".into(), partial);
        }
        IncludeObject::Object => {
            row.insert("object".into(), item.clone());
        }
    }
    Value::Object(row)
}

fn builtin(group: &str, kind: &str) -> (Vec<Column>, Cells) {
    match (group, kind) {
        ("", "Pod") => pods::printer(),
        ("", "Node") => nodes::printer(),
        ("", "Service") => network::service(),
        ("", "Endpoints") => network::endpoints(),
        ("discovery.k8s.io", "EndpointSlice") => network::endpoint_slice(),
        ("", "Namespace") => core::namespace(),
        ("", "ConfigMap") => core::config_map(),
        ("", "Secret") => core::secret(),
        ("", "ServiceAccount") => core::service_account(),
        ("", "Event") | ("events.k8s.io", "Event") => core::event(),
        ("coordination.k8s.io", "Lease") => core::lease(),
        ("apps", "Deployment") => apps::deployment(),
        ("apps", "ReplicaSet") => apps::replica_set(),
        ("apps", "DaemonSet") => apps::daemon_set(),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => core::custom_resource_definition(),
        _ => core::fallback(),
    }
}

/// Columns out of (name, type, priority, description); the first, which names the object, has the format `name`.
fn columns(definitions: &[(&str, &str, i64, &str)]) -> Vec<Column> {
    let column = |(index, (name, kind, priority, description)): (usize, &(&str, &str, i64, &str))| Column {
        name: (*name).to_owned(),
        kind: (*kind).to_owned(),
        format: if index == 0 && *name == "Name" { "name".to_owned() } else { String::new() },
        description: (*description).to_owned(),
        priority: *priority,
    };
    definitions.iter().enumerate().map(column).collect()
}

const NAME: (&str, &str, i64, &str) = ("Name", "string", 0, "Name of the object, unique within its namespace.");
const AGE: (&str, &str, i64, &str) = ("Age", "string", 0, "Time since the object was created.");

fn name(object: &Value) -> Value {
    object::name(object).into()
}

/// Time since the object's creation.
fn age_of(object: &Value, now: OffsetDateTime) -> Value {
    age::since(object::meta_str(object, "creationTimestamp"), now).into()
}

fn or_none(text: &str) -> Value {
    or(text, "<none>")
}

fn or(text: &str, otherwise: &str) -> Value {
    if text.is_empty() { otherwise.into() } else { text.into() }
}

fn int_at(object: &Value, path: &[&str]) -> i64 {
    object::at(object, path).and_then(Value::as_i64).unwrap_or(0)
}

/// The elements of a list at a path; none if it is not there.
fn list_at<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    object::at(object, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The number of entries of a map or list at a path.
fn length_at(object: &Value, path: &[&str]) -> usize {
    match object::at(object, path) {
        Some(Value::Object(map)) => map.len(),
        Some(Value::Array(list)) => list.len(),
        _ => 0,
    }
}

/// `a=1,b=2` in the order of the keys, or `<none>`.
fn labels_text(labels: Option<&Value>) -> Value {
    let labels = labels.and_then(Value::as_object).into_iter().flatten();
    let mut pairs: Vec<String> =
        labels.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    pairs.sort();
    or_none(&pairs.join(","))
}

#[cfg(test)]
mod tests;
