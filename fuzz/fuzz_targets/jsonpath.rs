//! The paths of a custom resource's printer columns: a path, a line end, and an object to look it up in.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tombolo_apiserver::tables::Printer;

fuzz_target!(|text: &str| {
    let (path, object) = text.split_once('\n').unwrap_or((text, ""));
    let object: Value = serde_json::from_str(object).unwrap_or_else(
        |_| json!({"metadata": {"name": "web", "labels": {"a.b/c": "d"}}, "spec": {"list": [{"x": 1}, {"x": [2, 3]}]}}),
    );
    let column = |kind| json!({"name": "Column", "type": kind, "jsonPath": path});
    let columns: Vec<Value> = ["string", "integer", "number", "boolean", "date"].into_iter().map(column).collect();
    let printer = Printer::custom(Some(&Value::Array(columns)));
    let cells = printer.cells(&object, time::OffsetDateTime::UNIX_EPOCH);
    assert_eq!(cells.len(), printer.columns().len(), "a cell for each column");
});
