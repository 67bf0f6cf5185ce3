//! Watches: one JSON document a line, for as long as the client listens.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::call::Call;
use super::present::partial;
use crate::convert::to_served;
use crate::http::{ListOptions, Shape};
use crate::object;
use crate::status::Status;
use crate::store::{Event, EventKind, Watch};
use crate::tables::{self, Printer};

/// How often a watch that wants them gets a bookmark.
const BOOKMARK: Duration = Duration::from_secs(60);
/// How long a watch lives that doesn't say: this to twice this.
const LIFE: Duration = Duration::from_secs(1800);
/// The annotation of the bookmark after the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Watches one object by its name in the path.
pub(super) fn watch(call: &Call) -> Result<Response, Status> {
    let options = call.list_options()?;
    stream(call, options)
}

/// Watches what the options select.
pub(super) fn stream(call: &Call, options: ListOptions) -> Result<Response, Status> {
    call.table_options(true)?;
    let store = &call.server.store;
    let storage = &call.resource.storage;
    let asked = options.resource_version.unwrap_or(0);
    let initial = options.initial_events.unwrap_or(asked == 0);
    let (pending, from) = match (initial, asked) {
        (true, _) => {
            let list = store.list(storage, call.path.namespace.as_deref());
            (list.items.into(), list.revision)
        }
        (false, 0) => (VecDeque::new(), store.revision()),
        (false, asked) => (VecDeque::new(), asked),
    };
    // As the real one does: what goes wrong after the request was understood is an event, not an answer.
    let feed = match store.watch(storage, from) {
        Ok(feed) => feed,
        Err(status) => {
            return Ok(response(futures::stream::once(async move {
                let mut bytes = Vec::new();
                line(&mut bytes, "ERROR", status.to_value().to_string().as_bytes());
                Ok::<Bytes, Infallible>(bytes.into())
            })));
        }
    };
    let life = options.timeout.unwrap_or_else(|| LIFE.mul_f64(1.0 + rand::rng().random::<f64>()));
    let mut bookmarks = tokio::time::interval_at(Instant::now() + BOOKMARK, BOOKMARK);
    bookmarks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let writer = Writer { printer: call.printer(), call: call.clone(), options, headers: true };
    let streamer = Streamer {
        initial_end: (writer.options.initial_events == Some(true) && writer.options.bookmarks).then_some(from),
        writer,
        feed,
        pending,
        bookmarks,
        deadline: Instant::now() + life,
        ended: false,
    };
    let chunks = futures::stream::unfold(streamer, |mut streamer| async move {
        let chunk = streamer.chunk().await?;
        Some((Ok::<Bytes, Infallible>(chunk), streamer))
    });
    Ok(response(chunks))
}

fn response(chunks: impl futures::Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    let mut response = Response::new(Body::from_stream(chunks));
    let content_type = HeaderValue::from_static("application/json;stream=watch");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// What is left to send.
struct Streamer {
    writer: Writer,
    feed: Watch,
    /// Objects that were there at the start.
    pending: VecDeque<Arc<Value>>,
    /// The resource version of the bookmark that is owed after them.
    initial_end: Option<u64>,
    bookmarks: Interval,
    deadline: Instant,
    ended: bool,
}

/// How the client wants to see it.
struct Writer {
    call: Call,
    options: ListOptions,
    printer: Printer,
    /// Whether a table is still owed its columns.
    headers: bool,
}

impl Streamer {
    /// The next bytes to send; `None` at the end.
    async fn chunk(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut bytes = Vec::new();
        for object in self.pending.drain(..) {
            self.writer.initial(&mut bytes, &object);
        }
        if let Some(revision) = self.initial_end.take() {
            self.writer.bookmark(&mut bytes, revision, true);
        }
        let shutdown = self.writer.call.server.shutdown.clone();
        while bytes.is_empty() {
            let result = tokio::select! {
                biased;
                () = shutdown.cancelled() => return None,
                result = self.feed.next() => result,
                () = tokio::time::sleep_until(self.deadline) => return None,
                _ = self.bookmarks.tick(), if self.writer.options.bookmarks => {
                    self.feed.ready().map(|(events, revision)| {
                        for event in &events {
                            self.writer.event(&mut bytes, event);
                        }
                        self.writer.bookmark(&mut bytes, revision, false);
                        Vec::new()
                    })
                }
            };
            match result {
                Ok(events) => events.iter().for_each(|event| self.writer.event(&mut bytes, event)),
                Err(status) => {
                    line(&mut bytes, "ERROR", status.to_value().to_string().as_bytes());
                    self.ended = true;
                }
            }
        }
        Some(bytes.into())
    }
}

impl Writer {
    fn initial(&mut self, bytes: &mut Vec<u8>, object: &Arc<Value>) {
        if self.selects(object) {
            self.write(bytes, "ADDED", object, None);
        }
    }

    /// Writes an event as it is for someone who sees only what the options select.
    fn event(&mut self, bytes: &mut Vec<u8>, event: &Event) {
        let now = event.kind != EventKind::Deleted && self.selects(&event.object);
        let before = event.previous.as_ref().is_some_and(|previous| self.selects(previous));
        match (before, now) {
            (false, true) => self.write(bytes, "ADDED", &event.object, Some(event)),
            (true, true) => self.write(bytes, "MODIFIED", &event.object, Some(event)),
            (true, false) if event.kind == EventKind::Deleted => {
                self.write(bytes, "DELETED", &event.object, Some(event));
            }
            (true, false) => {
                // It left the selection: the client sees it go as it knew it.
                let Some(previous) = &event.previous else { return };
                let mut last = Value::clone(previous);
                object::set_meta(&mut last, "resourceVersion", event.revision.to_string().into());
                self.write(bytes, "DELETED", &Arc::new(last), None);
            }
            (false, false) => {}
        }
    }

    fn bookmark(&mut self, bytes: &mut Vec<u8>, revision: u64, initial_end: bool) {
        let mut meta = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_end {
            meta["annotations"] = json!({INITIAL_EVENTS_END: "true"});
        }
        let resource = &self.call.resource;
        let mark = json!({"kind": &*resource.kind, "apiVersion": resource.gvr.api_version(), "metadata": meta});
        let mark = match self.call.media.shape {
            Shape::Whole => mark,
            Shape::Metadata(version) => partial(&mark, version),
            Shape::Table(version) => json!({
                "kind": "Table", "apiVersion": version, "metadata": {"resourceVersion": revision.to_string()},
                "columnDefinitions": null, "rows": [{"cells": [], "object": partial(&mark, version)}],
            }),
        };
        line(bytes, "BOOKMARK", mark.to_string().as_bytes());
    }

    fn selects(&self, stored: &Arc<Value>) -> bool {
        let call = &self.call;
        let namespace = call.path.namespace.as_deref();
        let name = call.path.name.as_deref();
        namespace.is_none_or(|n| n == object::namespace(stored))
            && name.is_none_or(|n| n == object::name(stored))
            && self.options.matches(call, stored)
    }

    /// Writes one line; `event` gives the stored object's JSON where there is one.
    fn write(&mut self, bytes: &mut Vec<u8>, kind: &str, stored: &Arc<Value>, event: Option<&Event>) {
        let object = to_served(&self.call.resource, stored);
        match (self.call.media.shape, event) {
            (Shape::Whole, Some(event)) if Arc::ptr_eq(&object, &event.object) => line(bytes, kind, &event.json()),
            (Shape::Whole, _) => line(bytes, kind, &serde_json::to_vec(&*object).unwrap_or_default()),
            (Shape::Metadata(version), _) => line(bytes, kind, partial(&object, version).to_string().as_bytes()),
            (Shape::Table(_), _) => {
                let headers = std::mem::take(&mut self.headers);
                let Ok(options) = self.call.table_options(headers) else { return };
                let meta = json!({"resourceVersion": object::resource_version(&object)});
                let table = tables::render(&self.printer, &[object], meta, &options);
                line(bytes, kind, table.to_string().as_bytes());
            }
        }
    }
}

fn line(bytes: &mut Vec<u8>, kind: &str, object: &[u8]) {
    bytes.extend_from_slice(b"{\"type\":\"");
    bytes.extend_from_slice(kind.as_bytes());
    bytes.extend_from_slice(b"\",\"object\":");
    bytes.extend_from_slice(object);
    bytes.extend_from_slice(b"}\n");
}
