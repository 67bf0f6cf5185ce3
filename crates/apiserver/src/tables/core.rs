//! Namespaces, configuration, accounts, leases, events, definitions, and whatever has no columns of its own.

use serde_json::Value;
use time::OffsetDateTime;

use super::{AGE, Cells, Column, NAME, age, age_of, columns, length_at, name, or};
use crate::clock;
use crate::object::{self, str_at};

pub(super) fn fallback() -> (Vec<Column>, Cells) {
    (columns(&[NAME, AGE]), |object, now| vec![name(object), age_of(object, now)])
}

pub(super) fn namespace() -> (Vec<Column>, Cells) {
    let columns = columns(&[NAME, ("Status", "string", 0, "Whether the namespace is in use or being removed."), AGE]);
    (columns, |object, now| vec![name(object), str_at(object, &["status", "phase"]).into(), age_of(object, now)])
}

pub(super) fn config_map() -> (Vec<Column>, Cells) {
    let columns = columns(&[NAME, ("Data", "string", 0, "Number of keys, textual and binary."), AGE]);
    (columns, |object, now| {
        let keys = length_at(object, &["data"]) + length_at(object, &["binaryData"]);
        vec![name(object), keys.into(), age_of(object, now)]
    })
}

pub(super) fn secret() -> (Vec<Column>, Cells) {
    let columns = columns(&[
        NAME,
        ("Type", "string", 0, "What the secret is for."),
        ("Data", "string", 0, "Number of keys."),
        AGE,
    ]);
    (columns, |object, now| {
        vec![name(object), str_at(object, &["type"]).into(), length_at(object, &["data"]).into(), age_of(object, now)]
    })
}

pub(super) fn service_account() -> (Vec<Column>, Cells) {
    let columns =
        columns(&[NAME, ("Secrets", "string", 0, "Number of secrets that pods of this account may use."), AGE]);
    (columns, |object, now| vec![name(object), length_at(object, &["secrets"]).into(), age_of(object, now)])
}

pub(super) fn lease() -> (Vec<Column>, Cells) {
    let columns = columns(&[NAME, ("Holder", "string", 0, "Who holds the lease."), AGE]);
    (columns, |object, now| vec![name(object), str_at(object, &["spec", "holderIdentity"]).into(), age_of(object, now)])
}

pub(super) fn custom_resource_definition() -> (Vec<Column>, Cells) {
    let columns = columns(&[NAME, ("Created At", "date", 0, "When the definition was created.")]);
    (columns, |object, _now| {
        let created = clock::parse(object::meta_str(object, "creationTimestamp"));
        vec![name(object), created.map(clock::format_seconds).unwrap_or_default().into()]
    })
}

pub(super) fn event() -> (Vec<Column>, Cells) {
    let columns = columns(&[
        ("Last Seen", "string", 0, "Time since it was seen last."),
        ("Type", "string", 0, "Normal or Warning."),
        ("Reason", "string", 0, "One word for programs."),
        ("Object", "string", 0, "What it is about."),
        ("Subobject", "string", 1, "Which part of the object it is about."),
        ("Source", "string", 1, "Who reported it."),
        ("Message", "string", 0, "A sentence for people."),
        ("First Seen", "string", 1, "Time since it was seen first."),
        ("Count", "integer", 1, "How often it was seen."),
        ("Name", "string", 1, "Name of the event."),
    ]);
    let columns = columns.into_iter().map(|mut column| {
        if column.name == "Name" {
            column.format = "name".into();
        }
        column
    });
    (columns.collect(), event_cells)
}

/// An Event is stored as it was written, in the form of the core group or of `events.k8s.io`.
fn event_cells(event: &Value, now: OffsetDateTime) -> Vec<Value> {
    let either = |core: &[&str], new: &[&str]| match str_at(event, core) {
        "" => str_at(event, new).to_owned(),
        text => text.to_owned(),
    };
    let event_time = str_at(event, &["eventTime"]);
    let age =
        |timestamp: &str, otherwise: &str| age::since(if timestamp.is_empty() { otherwise } else { timestamp }, now);
    let first = either(&["firstTimestamp"], &["deprecatedFirstTimestamp"]);
    let mut last = either(&["lastTimestamp"], &["deprecatedLastTimestamp"]);
    let count = |path: &[&str]| object::at(event, path).and_then(Value::as_i64).filter(|count| *count != 0);
    let mut times = count(&["count"]).or_else(|| count(&["deprecatedCount"])).unwrap_or(1);
    if let Some(series) = event.get("series").filter(|series| series.is_object()) {
        last = str_at(series, &["lastObservedTime"]).to_owned();
        times = series.get("count").and_then(Value::as_i64).unwrap_or(times);
    }
    let first_seen = age(&first, event_time);
    let last_seen = match clock::parse(&last) {
        Some(_) => age(&last, ""),
        None => first_seen.clone(),
    };

    let about = if event.get("regarding").is_some() { "regarding" } else { "involvedObject" };
    let kind = str_at(event, &[about, "kind"]).to_lowercase();
    let target = match str_at(event, &[about, "name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let component = either(&["source", "component"], &["deprecatedSource", "component"]);
    let host = either(&["source", "host"], &["deprecatedSource", "host"]);
    let (component, host) = match component.as_str() {
        "" => {
            let reporter = either(&["reportingComponent"], &["reportingController"]);
            (reporter, str_at(event, &["reportingInstance"]).to_owned())
        }
        _ => (component, host),
    };
    let source = if host.is_empty() { component } else { format!("{component}, {host}") };
    vec![
        last_seen.into(),
        str_at(event, &["type"]).into(),
        str_at(event, &["reason"]).into(),
        target.into(),
        str_at(event, &[about, "fieldPath"]).into(),
        source.into(),
        either(&["message"], &["note"]).trim().into(),
        first_seen.into(),
        times.into(),
        or(object::name(event), ""),
    ]
}
