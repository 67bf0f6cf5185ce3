//! Custom resources: columns by `additionalPrinterColumns`
//! (<https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#additional-printer-columns>).

use std::sync::Arc;

use serde_json::Value;
use time::OffsetDateTime;

use super::{AGE, Column, JsonPath, NAME, age, age_of, columns as define, name};
use crate::object::str_at;

/// Where a column's cells come from.
#[derive(Debug, Clone)]
pub(super) struct CustomColumn {
    kind: String,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    /// Time since creation, where the definition names no columns.
    Age,
    Path(JsonPath),
    /// A path that cannot be read.
    Nothing,
}

pub(super) fn columns(additional: Option<&Value>) -> (Vec<Column>, Arc<[CustomColumn]>) {
    let additional = additional.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if additional.is_empty() {
        let (mut columns, sources) =
            (define(&[NAME, AGE]), [CustomColumn { kind: "date".into(), source: Source::Age }]);
        columns[1].kind = "date".into();
        return (columns, Arc::new(sources));
    }
    let mut columns = define(&[NAME]);
    let mut sources = Vec::new();
    for definition in additional {
        let text = |field| str_at(definition, &[field]).to_owned();
        columns.push(Column {
            name: text("name"),
            kind: text("type"),
            format: text("format"),
            description: text("description"),
            priority: definition.get("priority").and_then(Value::as_i64).unwrap_or(0),
        });
        let source = match JsonPath::parse(&text("jsonPath")) {
            Ok(path) => Source::Path(path),
            Err(_) => Source::Nothing,
        };
        sources.push(CustomColumn { kind: text("type"), source });
    }
    (columns, sources.into())
}

pub(super) fn cells(object: &Value, columns: &[CustomColumn], now: OffsetDateTime) -> Vec<Value> {
    let mut cells = vec![name(object)];
    cells.extend(columns.iter().map(|column| match &column.source {
        Source::Age => age_of(object, now),
        Source::Nothing => Value::Null,
        // Only the first result counts: a column shows one value.
        Source::Path(path) => match path.find(object).first() {
            Some(value) => cell(&column.kind, value, now),
            None => Value::Null,
        },
    }));
    cells
}

/// A value as a cell of a column's type; null where the two do not fit.
fn cell(kind: &str, value: &Value, now: OffsetDateTime) -> Value {
    match (kind, value) {
        ("string", Value::String(_)) | ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) => value.clone(),
        ("string", Value::Null) => Value::Null,
        ("string", other) => other.to_string().into(),
        ("integer", Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => number.into(),
            // Whole part, as a conversion in Go gives it.
            (None, Some(number)) => (number as i64).into(),
            _ => Value::Null,
        },
        ("date", Value::String(text)) => match crate::clock::parse(text) {
            Some(_) => age::since(text, now).into(),
            None => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}
